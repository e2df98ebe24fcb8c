//! `POST /api/v1/namespaces/{ns}/triggers/{name}`: fires a trigger. Answered as soon as the fire is on disk; its rules run
//! afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::Front;
use super::edge::X_REQUEST_ID;
use super::error::{Error, Result};
use super::extract::{Place, authenticate, payload, segment};
use super::idempotency::{self, IDEMPOTENCY_KEY};
use super::invocations::{accepted, parameters, wants_record};
use crate::auth::{Credential, Identity};
use crate::invoke::idempotency::{Claim, Ticket};
use crate::invoke::{Caller, Fire, new_id};
use crate::model::{EntityName, Fqn, Trigger};
use crate::store::catalog::Found;
use crate::telemetry::metrics;

/// Fires a trigger. The order of the checks is that of an invocation.
pub(super) async fn fire(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let identity = authenticate(&front, &parts.headers).await?;
    let bytes_max = identity.limits.payload_size_max;
    let body = payload(&front, &parts.headers, body, bytes_max).await?;
    let throttle = &front.state.throttle;
    let admitted = throttle.fire(&identity.namespace, &identity.limits);
    admitted.await.inspect_err(|exceeded| {
        metrics::refused(exceeded.reason());
        metrics::fired(metrics::Source::Request, metrics::Fire::Refused);
    })?;
    let name = Fqn {
        namespace: Place::of(&parts.uri, &identity)?.namespace,
        package: None,
        name: EntityName::parse(&segment(&parts.uri, 5)?)?,
    };
    let payload = parameters(&parts.headers, &body.bytes)?;
    drop(body);
    let trigger = trigger(&front, &name).await?;
    let mut ticket = None;
    if parts.headers.contains_key(IDEMPOTENCY_KEY) {
        let what = format!("triggers {name}");
        let claim = idempotency::claim(&front, &parts.headers, &identity, &what, &payload);
        match Box::pin(claim).await? {
            Claim::Run(claimed) => ticket = Some(claimed),
            Claim::Replay(id) => return accepted(id).map(idempotency::replayed),
        }
    }
    let fire = Fire {
        id: ticket.as_ref().map_or_else(new_id, Ticket::id),
        trigger,
        payload,
        headers: forwarded(&parts.headers),
        transaction: transaction(&parts),
    };
    let fired = front
        .state
        .invoker
        .fire(caller(&parts, &identity), fire)
        .await;
    let fired = fired.inspect_err(|error| metrics::refused(error.reason()));
    match (ticket, &fired) {
        (None, _) => {}
        (Some(ticket), Ok(Some(_))) => ticket.done().await,
        (Some(ticket), Ok(None) | Err(_)) => ticket.forget().await,
    }
    match fired? {
        Some(id) => accepted(id),
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

async fn trigger(front: &Front, name: &Fqn) -> Result<Arc<Trigger>> {
    let catalog = &front.state.catalog;
    if let Some(trigger) = catalog.cached::<Trigger>(name) {
        return Ok(trigger);
    }
    match catalog.get::<Trigger>(name).await? {
        Found::Is(trigger, _) => Ok(trigger),
        Found::Other => Err(Error::conformance()),
        Found::Nothing => Err(Error::not_found()),
    }
}

/// Who calls, for what runs without waiting for an answer.
pub(super) fn caller(parts: &Parts, identity: &Identity) -> Caller {
    let credential = parts.headers.get(AUTHORIZATION);
    let credential = credential.and_then(|header| Credential::from_header(header.as_bytes()));
    Caller {
        namespace: identity.namespace.clone(),
        subject: identity.namespace.clone(),
        api_key: credential.map(|credential| credential.to_string().into()),
        limits: Arc::clone(&identity.limits),
        record: (identity.limits).keep(false, wants_record(&parts.headers)),
    }
}

/// `X-Request-ID`, which the edge has seen to.
pub(super) fn transaction(parts: &Parts) -> Arc<str> {
    let id = parts.headers.get(X_REQUEST_ID);
    id.and_then(|id| id.to_str().ok())
        .unwrap_or_default()
        .into()
}

/// The headers, names in lower case; values of one name joined as they would be in one line.
fn forwarded(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut all: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let joined = all.entry(name.as_str()).or_default();
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(&value);
    }
    let owned = |(name, value): (&str, String)| (name.to_owned(), value);
    all.into_iter().map(owned).collect()
}
