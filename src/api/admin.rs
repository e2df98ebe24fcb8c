//! `/admin/v1`: namespaces, their keys and limits. For the holder of the system key alone.
//!
//! A key is shown once, in the answer that makes it. Every write tells [`crate::auth::Keys`] before it is answered, so that
//! it holds from the next request on.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::error::{Error, Result};
use super::extract::{
    administered, administered_tenant, authenticate_system, expect_json, payload,
};
use super::{Front, wire};
use crate::auth::Credential;
use crate::model::limits::Range;
use crate::model::{Namespace, NamespaceLimits, Tenant, Timestamp};
use crate::store;

/// Largest limit: clients count with signed numbers.
pub(super) const LIMIT_MAX: u64 = u64::MAX >> 1;

/// Bytes of a body here: limits have few fields.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// A namespace, without its key.
#[derive(Serialize)]
struct Shape<'a> {
    namespace: &'a Namespace,
    uuid: Uuid,
    blocked: bool,
    limits: &'a NamespaceLimits,
    created: Timestamp,
}

impl<'a> Shape<'a> {
    fn of(tenant: &'a Tenant) -> Self {
        Self {
            namespace: &tenant.namespace,
            uuid: tenant.uuid,
            blocked: tenant.blocked,
            limits: &tenant.limits,
            created: tenant.created,
        }
    }
}

/// A namespace and its key, the only time it is seen.
#[derive(Serialize)]
struct WithKey<'a> {
    namespace: &'a Namespace,
    uuid: Uuid,
    key: String,
}

/// All namespaces, by name.
pub(super) async fn list(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    authenticate_system(&front, request.headers()).await?;
    let tenants = front.state.store.tenants.list().await?;
    let shapes: Vec<Shape<'_>> = tenants.iter().map(Shape::of).collect();
    wire::ok(&shapes)
}

/// Makes a namespace; one that exists is a 409, because its key cannot be shown again.
pub(super) async fn create(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    authenticate_system(&front, request.headers()).await?;
    let namespace = administered(request.uri())?;
    let credential = Credential::generate().map_err(Error::internal)?;
    let tenant = Tenant {
        namespace: namespace.clone(),
        uuid: credential.uuid,
        key_digest: credential.digest(),
        sealed_key: front.state.keys.sealed(&namespace, &credential)?,
        blocked: false,
        limits: NamespaceLimits::default(),
        created: Timestamp::now(),
    };
    match front.state.store.tenants.put(tenant, true).await {
        Ok(()) => with_key(&namespace, &credential),
        Err(store::Error::Conflict) => Err(Error::new(
            StatusCode::CONFLICT,
            format!(
                "The namespace '{namespace}' exists already. POST …/{namespace}/key gives it a new key."
            ),
        )),
        Err(error) => Err(error.into()),
    }
}

/// One namespace.
pub(super) async fn get(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    authenticate_system(&front, request.headers()).await?;
    let tenant = find(&front, &administered(request.uri())?).await?;
    wire::ok(&Shape::of(&tenant))
}

/// Removes a namespace with everything it has.
pub(super) async fn delete(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    authenticate_system(&front, request.headers()).await?;
    let namespace = administered_tenant(request.uri())?;
    // Its key ends first, so that nothing new comes in while everything goes.
    let tenant = set_blocked(&front, &namespace, true).await?;
    front.state.store.tenants.delete(&namespace).await?;
    front.state.keys.forget(&namespace);
    front.state.catalog.forget_namespace(&namespace);
    wire::ok(&Shape::of(&tenant))
}

/// Gives a namespace a new key; the old one ends at once.
pub(super) async fn rotate_key(
    State(front): State<Arc<Front>>,
    request: Request,
) -> Result<Response> {
    authenticate_system(&front, request.headers()).await?;
    let tenant = find(&front, &administered(request.uri())?).await?;
    let credential = Credential::generate_for(tenant.uuid).map_err(Error::internal)?;
    let sealed_key = front.state.keys.sealed(&tenant.namespace, &credential)?;
    let tenant = Tenant {
        key_digest: credential.digest(),
        sealed_key,
        ..tenant
    };
    write(&front, tenant.clone()).await?;
    with_key(&tenant.namespace, &credential)
}

/// What the namespace sets itself; everything else follows the platform.
pub(super) async fn get_limits(
    State(front): State<Arc<Front>>,
    request: Request,
) -> Result<Response> {
    authenticate_system(&front, request.headers()).await?;
    let tenant = find(&front, &administered(request.uri())?).await?;
    wire::ok(&tenant.limits)
}

/// Replaces what the namespace sets itself.
pub(super) async fn put_limits(
    State(front): State<Arc<Front>>,
    request: Request,
) -> Result<Response> {
    let (parts, body) = request.into_parts();
    authenticate_system(&front, &parts.headers).await?;
    let namespace = administered(&parts.uri)?;
    let body = payload(&front, &parts.headers, body, BODY_BYTES_MAX).await?;
    if body.bytes.is_empty() {
        return Err(Error::no_body());
    }
    expect_json(&parts.headers)?;
    if body.bytes.trim_ascii_start().first() != Some(&b'{') {
        // Structs would be read from arrays, too.
        return Err(Error::malformed("expected a JSON object"));
    }
    let limits: NamespaceLimits = serde_json::from_slice(&body.bytes).map_err(Error::malformed)?;
    let parsed: BTreeMap<String, &RawValue> =
        serde_json::from_slice(&body.bytes).map_err(Error::malformed)?;
    let too_large = |raw: &RawValue| raw.get().parse::<u64>().is_ok_and(|n| n > LIMIT_MAX);
    if let Some((name, _)) = parsed.iter().find(|(_, raw)| too_large(raw)) {
        let detail = format!("{name} must not exceed {LIMIT_MAX}");
        return Err(Error::malformed(detail));
    }
    if let Err((what, Range { min, max })) = front.state.defaults.with(&limits).possible() {
        let (first, rest) = what.split_at(1);
        let what = format!("Action{}{rest}", first.to_uppercase());
        return Err(Error::malformed(format!(
            "min{what} ({min}) must not exceed max{what} ({max}); what is not set follows the platform"
        )));
    }
    set_limits(&front, &namespace, limits).await
}

/// Takes back everything the namespace sets itself.
pub(super) async fn delete_limits(
    State(front): State<Arc<Front>>,
    request: Request,
) -> Result<Response> {
    authenticate_system(&front, request.headers()).await?;
    let namespace = administered(request.uri())?;
    set_limits(&front, &namespace, NamespaceLimits::default()).await
}

/// Makes the namespace's key count as unknown.
pub(super) async fn block(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    authenticate_system(&front, request.headers()).await?;
    let namespace = administered_tenant(request.uri())?;
    wire::ok(&Shape::of(&set_blocked(&front, &namespace, true).await?))
}

/// Makes the namespace's key count again.
pub(super) async fn unblock(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    authenticate_system(&front, request.headers()).await?;
    let namespace = administered(request.uri())?;
    wire::ok(&Shape::of(&set_blocked(&front, &namespace, false).await?))
}

/// Encrypts some of what the namespace has anew, with the first of the configured keys.
pub(super) async fn reencrypt(
    State(front): State<Arc<Front>>,
    request: Request,
) -> Result<Response> {
    authenticate_system(&front, request.headers()).await?;
    let tenant = find(&front, &administered(request.uri())?).await?;
    let resealer = &front.state.resealer;
    if !resealer.has_keys() {
        let text = "There is no key to encrypt with: the server's [encryption] section has none.";
        return Err(Error::new(StatusCode::CONFLICT, text));
    }
    // A step is not left half done by a caller that goes away, but each of its writes is whole: it need not go on.
    let step = resealer.step(&tenant.namespace).await?;
    front.state.keys.forget(&tenant.namespace);
    wire::ok(&step)
}

async fn find(front: &Front, namespace: &Namespace) -> Result<Tenant> {
    let found = front.state.store.tenants.get(namespace).await?;
    found.ok_or_else(Error::not_found)
}

async fn set_blocked(front: &Front, namespace: &Namespace, blocked: bool) -> Result<Tenant> {
    let tenant = Tenant {
        blocked,
        ..find(front, namespace).await?
    };
    write(front, tenant.clone()).await?;
    if blocked {
        front.state.invoker.blocked(namespace);
    }
    Ok(tenant)
}

async fn set_limits(
    front: &Front,
    namespace: &Namespace,
    limits: NamespaceLimits,
) -> Result<Response> {
    find(front, namespace).await?;
    let answer = wire::ok(&limits)?;
    let tenants = &front.state.store.tenants;
    let written = tenants.put_limits(namespace, limits).await;
    front.state.keys.forget(namespace);
    written?;
    Ok(answer)
}

/// Writes the tenant. What was known of it is forgotten even when that fails: it may have failed half-way.
async fn write(front: &Front, tenant: Tenant) -> Result<()> {
    let namespace = tenant.namespace.clone();
    let written = front.state.store.tenants.put(tenant, false).await;
    front.state.keys.forget(&namespace);
    Ok(written?)
}

fn with_key(namespace: &Namespace, credential: &Credential) -> Result<Response> {
    wire::ok(&WithKey {
        namespace,
        uuid: credential.uuid,
        key: credential.to_string(),
    })
}
