//! `/api/v1/namespaces/{ns}/packages`: packages, and bindings to those of others.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::entities::{
    digested, expect, json_body, openable, replaced, stored, to_the_end, version, within_sizes,
};
use super::error::{Error, Result};
use super::extract::{Place, Query, authenticate, payload};
use super::paging::{Asked, asked};
use super::{Front, actions, revisions, wire};
use crate::auth::entitlement;
use crate::model::{
    Action, Annotations, EntityName, Fqn, Json, Namespace, Package, PackagePut, Parameters,
    Timestamp, Version,
};
use crate::store::Page;
use crate::store::catalog::Found;

/// No package may have the name that paths of web actions use for "in no package".
const RESERVED: &str = "default";

/// Entities read in one go where all of them are looked through.
const BATCH: usize = 200;

/// Most entities of one namespace that are looked through for one answer.
const LOOKED_THROUGH_MAX: usize = 20_000;

/// Names a package that a binding stands for.
#[derive(Serialize)]
struct Provider<'a> {
    namespace: &'a Namespace,
    name: &'a EntityName,
}

impl<'a> Provider<'a> {
    fn of(package: &'a Package) -> Option<Self> {
        let Fqn {
            namespace, name, ..
        } = package.binding.as_ref()?;
        Some(Self { namespace, name })
    }
}

/// A binding, or what stands in its place: `{}` in entities, `false` in lists.
#[derive(Serialize)]
#[serde(untagged)]
enum Binding<'a> {
    To(Provider<'a>),
    Empty {},
    False(bool),
}

/// What everything that is shown of a package has.
#[derive(Serialize)]
struct Head<'a> {
    namespace: &'a Namespace,
    name: &'a EntityName,
    version: Version,
    publish: bool,
    updated: Timestamp,
    annotations: &'a Annotations,
    binding: Binding<'a>,
}

impl<'a> Head<'a> {
    fn of(package: &'a Package, unbound: Binding<'a>) -> Self {
        Self {
            namespace: &package.fqn.namespace,
            name: &package.fqn.name,
            version: package.version,
            publish: package.publish,
            updated: package.updated,
            annotations: &package.annotations,
            binding: Provider::of(package).map_or(unbound, Binding::To),
        }
    }
}

/// A package as `PUT` and `DELETE` answer it.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    parameters: &'a Parameters,
}

impl<'a> Whole<'a> {
    fn of(package: &'a Package) -> Self {
        Self {
            head: Head::of(package, Binding::Empty {}),
            parameters: &package.parameters,
        }
    }
}

/// A package as `GET` answers it: with what is in it.
#[derive(Serialize)]
struct WithContents<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    parameters: &'a Parameters,
    actions: Vec<Content>,
    feeds: Vec<Content>,
}

/// An action, as its package lists it.
#[derive(Serialize)]
struct Content {
    name: EntityName,
    version: Version,
    annotations: Annotations,
}

/// The packages of a namespace; of somebody else's only those that are shared.
pub(super) async fn list(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let namespace = Place::anywhere(request.uri(), &identity)?.namespace;
    let is_own = namespace == identity.namespace;
    let catalog = &front.state.catalog;
    match asked(request.uri(), "packages")? {
        Asked::Count { skip } => {
            let count = if is_own {
                catalog.count::<Package>(&namespace, None).await?
            } else {
                shared(&front, &namespace, usize::MAX).await?.len()
            };
            wire::ok(&json!({ "packages": count.saturating_sub(skip) }))
        }
        Asked::Rows(page) => {
            let packages = if is_own {
                catalog.list::<Package>(&namespace, None, page).await?
            } else {
                let end = page.skip.saturating_add(page.limit);
                let mut packages = shared(&front, &namespace, end).await?;
                packages.drain(..page.skip.min(packages.len()));
                packages
            };
            let rows = packages
                .iter()
                .map(|package| Head::of(package, Binding::False(false)));
            wire::ok(&rows.collect::<Vec<_>>())
        }
    }
}

/// The first `count` packages of `namespace` that everybody may see, without what a list does not show.
async fn shared(front: &Front, namespace: &Namespace, count: usize) -> Result<Vec<Arc<Package>>> {
    let mut found = Vec::new();
    for skip in (0..LOOKED_THROUGH_MAX).step_by(BATCH) {
        let page = Page { skip, limit: BATCH };
        let catalog = &front.state.catalog;
        let batch = catalog.list::<Package>(namespace, None, page).await?;
        let is_last = batch.len() < BATCH;
        let shared = batch
            .into_iter()
            .filter(|package| package.publish && package.binding.is_none());
        found.extend(shared.take(count - found.len()));
        if is_last || found.len() == count {
            break;
        }
    }
    Ok(found)
}

/// One package with what is in it, or a binding with what it leads to.
pub(super) async fn get(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let name = Place::anywhere(request.uri(), &identity)?.entity(request.uri())?;
    let resolver = &front.state.resolver;
    let reached = resolver.package(&identity.namespace, &name).await?;
    let is_foreign = reached.provider().fqn.namespace != identity.namespace;
    if is_foreign && front.config.shared_packages_execute_only {
        let text = match name.namespace == identity.namespace {
            true => format!(
                "GET not permitted since {} is a binding of a shared package",
                name.name
            ),
            false => format!("GET not permitted for '{name}' since it's a shared package"),
        };
        return Err(Error::new(StatusCode::FORBIDDEN, text));
    }
    let mut parameters = reached.parameters();
    if is_foreign {
        // Those of a binding itself are the caller's own.
        let mut own = reached.package.parameters.clone();
        if name.namespace == identity.namespace {
            digested(request.uri(), &mut own)?;
        }
        parameters = parameters.overlaid(&own);
    } else {
        digested(request.uri(), &mut parameters)?;
    }
    let contents = contents(&front, &reached.provider().fqn).await?;
    let (feeds, actions) = contents
        .into_iter()
        .partition(|one| one.annotations.get("feed").is_some());
    wire::ok(&WithContents {
        head: Head::of(&reached.package, Binding::Empty {}),
        parameters: &parameters,
        actions,
        feeds,
    })
}

async fn contents(front: &Front, package: &Fqn) -> Result<Vec<Content>> {
    let mut found = Vec::new();
    for skip in (0..LOOKED_THROUGH_MAX).step_by(BATCH) {
        let page = Page { skip, limit: BATCH };
        let catalog = &front.state.catalog;
        let batch = catalog.list::<Action>(&package.namespace, Some(&package.name), page);
        let batch = batch.await?;
        let is_last = batch.len() < BATCH;
        found.extend(batch.iter().map(|action| Content {
            name: action.fqn.name.clone(),
            version: action.version,
            annotations: action.annotations.clone(),
        }));
        if is_last {
            break;
        }
    }
    Ok(found)
}

/// Creates a package or a binding, or, with `overwrite=true`, updates it.
pub(super) async fn put(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let identity = authenticate(&front, &parts.headers).await?;
    let name = Place::of(&parts.uri, &identity)?.entity(&parts.uri)?;
    if name.name.as_str() == RESERVED {
        let text = format!("Package name '{RESERVED}' is reserved.");
        return Err(Error::bad_request(text));
    }
    let overwrite = Query::of(&parts.uri).flag("overwrite")?;
    let body = payload(&front, &parts.headers, body, front.config.body_bytes_max).await?;
    let body = json_body(&parts.headers, &body)?;
    let put = PackagePut::parse(body, &identity.namespace).map_err(Error::malformed)?;
    within_sizes(&front, &identity.limits, &put.common)?;
    openable(&front, &name.namespace, put.common.parameters.as_ref())?;
    let provider = match &put.binding {
        Some(target) => Some(provider(&front, &identity.namespace, target).await?),
        None => None,
    };
    let stored = replaced::<Package>(&front, &name, overwrite).await?;
    let old = stored.as_ref().map(|(package, _)| &**package);
    if put.binding.is_some() && old.is_some_and(|old| old.binding.is_none()) {
        let text = "Resource is a package and cannot be converted into a binding.";
        return Err(Error::new(StatusCode::CONFLICT, text));
    }
    if provider.is_some_and(|provider| provider.binding.is_some()) {
        return Err(Error::bad_request(
            "Cannot bind to another package binding.",
        ));
    }
    let package = written(name, put, old);
    let expect = expect(stored.as_ref());
    let package = front.state.catalog.put(package, None, expect).await?;
    wire::ok(&Whole::of(&package))
}

/// What a binding of `caller`'s is to stand for. Whether somebody else's private package exists is not told.
async fn provider(front: &Front, caller: &Namespace, target: &Fqn) -> Result<Arc<Package>> {
    let is_own = target.namespace == *caller;
    match front.state.catalog.get::<Package>(target).await? {
        Found::Is(package, _) if entitlement::may_use(caller, &package) => Ok(package),
        _ if !is_own => Err(Error::forbidden(target)),
        Found::Other => Err(Error::new(
            StatusCode::CONFLICT,
            "Cannot bind to a resource that is not a package.",
        )),
        Found::Is(..) | Found::Nothing => Err(Error::bad_request(
            "Binding references a package that does not exist.",
        )),
    }
}

/// The package that `put` makes of `old`.
fn written(fqn: Fqn, put: PackagePut, old: Option<&Package>) -> Package {
    let common = put.common;
    let binding = put
        .binding
        .or_else(|| old.and_then(|old| old.binding.clone()));
    let kept = || old.map(|old| old.annotations.clone()).unwrap_or_default();
    let mut annotations = common.annotations.unwrap_or_else(kept);
    if let Some(Fqn {
        namespace, name, ..
    }) = &binding
    {
        let value = json!({ "name": name, "namespace": namespace });
        annotations.set("binding", Json::from_serialize(&value));
    }
    let kept = || old.map(|old| old.parameters.clone()).unwrap_or_default();
    Package {
        fqn,
        version: version(common.version, old.map(|old| old.version)),
        publish: common
            .publish
            .unwrap_or_else(|| old.is_some_and(|old| old.publish)),
        updated: Timestamp::now(),
        parameters: common.parameters.unwrap_or_else(kept),
        annotations,
        binding,
    }
}

/// Deletes a package that is empty, or, with `force=true`, with everything in it; or a binding.
pub(super) async fn delete(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let name = Place::of(request.uri(), &identity)?.entity(request.uri())?;
    let force = Query::of(request.uri()).flag("force")?;
    let package = to_the_end(async move { remove(&front, &name, force).await }).await?;
    wire::ok(&Whole::of(&package))
}

async fn remove(front: &Front, name: &Fqn, force: bool) -> Result<Arc<Package>> {
    let _turn = front.turns.take(name).await;
    let catalog = &front.state.catalog;
    let stored = stored::<Package>(front, name).await?;
    let (package, revision) = stored.ok_or_else(Error::not_found)?;
    if package.binding.is_none() {
        let inside = Some(&name.name);
        let count = catalog.count::<Action>(&name.namespace, inside).await?;
        if count > 0 && !force {
            let entities = if count == 1 { "entity" } else { "entities" };
            let text = format!(
                "Package not empty (contains {count} {entities}). Set force param or delete package contents."
            );
            return Err(Error::new(StatusCode::CONFLICT, text));
        }
        if count > 0 {
            empty(front, name).await?;
        }
    }
    catalog.delete(name, revision).await?;
    Ok(package)
}

/// Deletes what is in the package. Whoever holds its turn knows that nothing is added meanwhile.
async fn empty(front: &Front, package: &Fqn) -> Result<()> {
    let catalog = &front.state.catalog;
    let page = Page {
        skip: 0,
        limit: BATCH,
    };
    loop {
        let inside = catalog.list::<Action>(&package.namespace, Some(&package.name), page);
        let inside = inside.await?;
        for action in &inside {
            actions::remove(front, &action.fqn).await?;
        }
        if inside.len() < BATCH {
            return revisions::forget_package(front, package).await;
        }
    }
}
