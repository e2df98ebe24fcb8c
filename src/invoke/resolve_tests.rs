use super::*;
use crate::model::params::Parameter;
use crate::model::{ActionLimits, Annotations, Code, Digest, Exec, Json, Timestamp, Version};
use crate::store::Expect;
use crate::store::fake::Fake;

struct Site {
    catalog: Arc<Catalog>,
    resolver: Resolver,
}

fn ns(text: &str) -> Namespace {
    Namespace::parse(text).expect("legal")
}

fn fqn(text: &str) -> Fqn {
    Fqn::parse(text, &ns("nobody")).expect("legal")
}

fn parameters(pairs: &[(&str, u64)]) -> Parameters {
    let one = |(key, value): &(&str, u64)| Parameter {
        key: (*key).to_owned(),
        value: Json::from(*value),
        init: false,
        encryption: None,
        opened: None,
        digest: None,
    };
    Parameters(pairs.iter().map(one).collect())
}

fn package(name: &str, publish: bool, binding: Option<&str>, bound: &[(&str, u64)]) -> Package {
    Package {
        fqn: fqn(name),
        version: Version::FIRST,
        publish,
        updated: Timestamp(5),
        parameters: parameters(bound),
        annotations: Annotations::default(),
        binding: binding.map(fqn),
    }
}

fn action(name: &str, bound: &[(&str, u64)]) -> Action {
    Action {
        fqn: fqn(name),
        version: Version::FIRST,
        publish: false,
        updated: Timestamp(1),
        exec: Exec::Code(Code {
            http: false,
            kind: "wasm:1".to_owned(),
            main: None,
            binary: true,
            code: Digest::of(b"code"),
            code_size: 4,
            program: Digest::of(b"program"),
        }),
        parameters: parameters(bound),
        limits: ActionLimits::default(),
        annotations: Annotations::default(),
        revision: 0,
        reached: None,
    }
}

impl Site {
    fn new() -> Self {
        let (store, _) = Fake::store();
        let catalog = Arc::new(Catalog::new(store.entities, 100));
        let resolver = Resolver::new(Arc::clone(&catalog));
        Self { catalog, resolver }
    }

    async fn package(&self, package: Package) {
        let put = self.catalog.put(package, None, Expect::Absent).await;
        put.expect("room");
    }

    async fn action(&self, action: Action) {
        let put = self
            .catalog
            .put(action, Some("code".into()), Expect::Absent);
        put.await.expect("room");
    }

    async fn ask(&self, caller: &str, name: &str) -> Result<Arc<Action>, String> {
        let resolved = self.resolver.action(&ns(caller), &fqn(name)).await;
        resolved.map_err(|why| why.to_string())
    }
}

#[tokio::test]
async fn parameters_lie_over_each_other_from_provider_to_action() {
    let site = Site::new();
    let shared = package("/owner/p", true, None, &[("a", 1), ("b", 1), ("c", 1)]);
    site.package(shared).await;
    let bound = package(
        "/guest/mine",
        false,
        Some("/owner/p"),
        &[("b", 2), ("c", 2)],
    );
    site.package(bound).await;
    site.action(action("/owner/p/x", &[("c", 3)])).await;
    let resolved = site.ask("guest", "/guest/mine/x").await.expect("shared");
    let object = resolved.parameters.run_object().to_value();
    assert_eq!(object, serde_json::json!({"a": 1, "b": 2, "c": 3}));
    assert_eq!(resolved.fqn, fqn("/owner/p/x"));
    assert_eq!(resolved.binding().as_deref(), Some("guest/mine"));
    assert_eq!(*resolved.address(), fqn("/guest/mine/x"));
    // The same object while nothing changes: instances and queues hang on it.
    let again = site.ask("guest", "/guest/mine/x").await.expect("shared");
    assert!(Arc::ptr_eq(&resolved, &again));
}

#[tokio::test]
async fn a_change_of_a_package_is_seen_at_once() {
    let site = Site::new();
    site.package(package("/guest/p", false, None, &[("a", 1)]))
        .await;
    site.action(action("/guest/p/x", &[])).await;
    assert!(site.ask("guest", "/guest/p/x").await.is_ok());
    let Ok(Found::Is(_, revision)) = site.catalog.get::<Package>(&fqn("/guest/p")).await else {
        panic!("it is there");
    };
    let changed = package("/guest/p", false, None, &[("a", 2)]);
    let put = site
        .catalog
        .put(changed, None, Expect::Revision(revision))
        .await;
    put.expect("it is what was seen");
    let resolved = site.ask("guest", "/guest/p/x").await.expect("own");
    assert_eq!(resolved.parameters, parameters(&[("a", 2)]));
}

#[tokio::test]
async fn nobody_learns_what_others_keep_private() {
    let site = Site::new();
    site.package(package("/owner/private", false, None, &[]))
        .await;
    site.package(package("/owner/shared", true, None, &[]))
        .await;
    site.action(action("/owner/private/x", &[])).await;
    site.action(action("/owner/shared/x", &[])).await;
    site.action(action("/owner/top", &[])).await;
    assert!(site.ask("guest", "/owner/shared/x").await.is_ok());
    for (name, there) in [
        ("owner/private/x", "owner/none/x"),
        ("owner/top", "owner/none"),
    ] {
        for name in [name, there] {
            let told = site
                .ask("guest", &format!("/{name}"))
                .await
                .expect_err("not shared");
            let text = format!("The supplied authentication is not authorized to access '{name}'.");
            assert_eq!(told, text);
        }
    }
    let told = site
        .ask("guest", "/owner/shared/none")
        .await
        .expect_err("nothing");
    assert_eq!(told, "The requested resource does not exist.");
    let told = site
        .ask("guest", "/guest/none/x")
        .await
        .expect_err("nothing");
    assert_eq!(told, "The requested resource 'guest/none' does not exist.");
}

#[tokio::test]
async fn a_binding_opens_nothing_that_is_not_shared_any_more() {
    let site = Site::new();
    site.package(package("/owner/p", false, None, &[])).await;
    site.package(package("/guest/mine", true, Some("/owner/p"), &[]))
        .await;
    site.action(action("/owner/p/x", &[])).await;
    assert!(site.ask("guest", "/guest/mine/x").await.is_err());
    assert!(site.ask("owner", "/guest/mine/x").await.is_ok());
}

#[tokio::test]
async fn bindings_that_dangle_or_go_in_circles_end() {
    let site = Site::new();
    site.package(package("/guest/dangling", false, Some("/guest/none"), &[]))
        .await;
    site.package(package("/guest/one", false, Some("/guest/two"), &[]))
        .await;
    site.package(package("/guest/two", false, Some("/guest/one"), &[]))
        .await;
    let told = site
        .ask("guest", "/guest/dangling/x")
        .await
        .expect_err("nothing");
    assert_eq!(told, "The requested resource does not exist.");
    let told = site
        .ask("guest", "/guest/one/x")
        .await
        .expect_err("a circle");
    assert_eq!(
        told,
        "Package binding 'guest/one' contains a circular reference."
    );
}
