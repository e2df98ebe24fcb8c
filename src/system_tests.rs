use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::store::fake::Fake;

/// Takes everything, and counts.
#[derive(Default)]
struct Counting(AtomicUsize);

#[async_trait]
impl Upload for Counting {
    async fn prepare(
        &self,
        _namespace: &Namespace,
        _kind: &str,
        _main: Option<&str>,
        code: Arc<str>,
    ) -> Result<Digest, UploadError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Digest::of(code.as_bytes()))
    }
}

fn catalog() -> Catalog {
    let (store, _) = Fake::store();
    Catalog::new(store.entities, 1000)
}

fn in_package(package: &str, name: &str) -> Fqn {
    Fqn {
        package: Some(EntityName::parse(package).expect("legal")),
        ..alone(name)
    }
}

fn alone(name: &str) -> Fqn {
    Fqn {
        namespace: Namespace::parse(SYSTEM_NAMESPACE).expect("legal"),
        package: None,
        name: EntityName::parse(name).expect("legal"),
    }
}

async fn action(catalog: &Catalog, package: &str, name: &str) -> (Action, Revision) {
    let found = catalog.get::<Action>(&in_package(package, name)).await;
    match found.expect("a store") {
        Found::Is(action, revision) => ((*action).clone(), revision),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_catalog_and_the_modules_belong_together() {
    let named: BTreeSet<String> = contents()
        .expect("it reads")
        .iter()
        .flat_map(|bundle| bundle.actions.iter().filter_map(|entry| entry.code.clone()))
        .collect();
    let held: BTreeSet<String> = MODULES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(named, held);
}

#[tokio::test]
async fn everything_is_put_in_once() {
    let (catalog, uploads) = (catalog(), Counting::default());
    install(&catalog, &uploads).await;
    let count = uploads.0.load(Ordering::SeqCst);
    assert_eq!(count, MODULES.len());
    let (echo, _) = action(&catalog, "utils", "echo").await;
    assert_eq!(echo.exec.kind(), "wasm:1");
    assert!(echo.annotations.get("sampleInput").is_some());
    let (alarm, _) = action(&catalog, "alarms", "alarm").await;
    assert_eq!(alarm.exec.kind(), "builtin");
    assert!(alarm.annotations.is_true("feed"));
    let alarms = catalog.get::<Package>(&alone("alarms")).await;
    assert!(matches!(alarms, Ok(Found::Is(package, _)) if package.publish));
    install(&catalog, &uploads).await;
    assert_eq!(
        uploads.0.load(Ordering::SeqCst),
        count,
        "nothing is compiled again"
    );
    assert_eq!(
        action(&catalog, "utils", "echo").await.0.version,
        Version::FIRST
    );
}

#[tokio::test]
async fn what_is_old_is_renewed_and_what_was_changed_is_left_alone() {
    let (catalog, uploads) = (catalog(), Counting::default());
    install(&catalog, &uploads).await;
    // As a former release put it in.
    let (mut old, revision) = action(&catalog, "utils", "echo").await;
    old.annotations
        .set("description", Json::from_serialize("formerly"));
    let was = digest(
        &old.exec.code().expect("code").code.to_string(),
        &old.parameters,
        &old.annotations,
    );
    old.annotations = installed(old.annotations, &was);
    let put = catalog.put(old, Some("code".into()), Expect::Revision(revision));
    put.await.expect("a store");
    // As the operator wants it.
    let (mut own, revision) = action(&catalog, "utils", "cat").await;
    own.annotations
        .set("description", Json::from_serialize("mine"));
    let put = catalog.put(own, Some("code".into()), Expect::Revision(revision));
    put.await.expect("a store");

    install(&catalog, &uploads).await;
    let (renewed, _) = action(&catalog, "utils", "echo").await;
    assert_eq!(renewed.version, Version(0, 0, 2));
    assert_ne!(
        renewed.annotations.get("description").map(Json::get),
        Some("\"formerly\"")
    );
    let (kept, _) = action(&catalog, "utils", "cat").await;
    assert_eq!(
        kept.annotations.get("description").map(Json::get),
        Some("\"mine\"")
    );
}
