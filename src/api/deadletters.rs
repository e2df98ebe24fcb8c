//! `/api/v1/namespaces/{ns}/deadletters`: work that was promised and given up; to be looked at, run again, or thrown away.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde_json::json;

use super::actions_put::permit_kind;
use super::error::{Error, Result};
use super::extract::{Place, authenticate, segment};
use super::fire::{caller, transaction};
use super::invocations::accepted;
use super::paging::{Asked, asked};
use super::{Front, wire};
use crate::auth::Identity;
use crate::model::dead_letter::DeadLetter;
use crate::model::{ActivationId, Fqn};
use crate::store::{self, Item, Shelf};
use crate::telemetry::metrics;

/// Newest first.
pub(super) async fn list(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let namespace = Place::of(request.uri(), &identity)?.namespace;
    let items = &front.state.store.items;
    match asked(request.uri(), "deadletters")? {
        Asked::Count { skip } => {
            let count = items.count(&namespace, Shelf::DeadLetters, "").await?;
            wire::ok(&json!({ "deadletters": count.saturating_sub(skip) }))
        }
        Asked::Rows(page) => {
            let found = items.list(&namespace, Shelf::DeadLetters, "", page).await?;
            let rows: Result<Vec<DeadLetter>> = found.iter().map(read).collect();
            wire::ok(&rows?)
        }
    }
}

/// One.
pub(super) async fn get(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let (letter, _) = find(&front, request.headers(), request.uri()).await?;
    wire::ok(&letter)
}

/// Runs what it is about once more, and removes it; what fails is kept again.
pub(super) async fn replay(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let (parts, _) = request.into_parts();
    let (letter, identity) = find(&front, &parts.headers, &parts.uri).await?;
    let throttle = &front.state.throttle;
    let admission = throttle.enter(&identity.namespace, &identity.limits);
    let admission = admission
        .await
        .inspect_err(|exceeded| metrics::refused(exceeded.reason()))?;
    let name = Fqn::parse(&letter.action, &identity.namespace)?;
    let resolver = &front.state.resolver;
    let action = resolver.action(&identity.namespace, &name).await?;
    permit_kind(action.exec.kind(), &identity)?;
    let (caller, transaction) = (caller(&parts, &identity), transaction(&parts));
    let invoker = &front.state.invoker;
    let replayed = invoker.replay(caller, letter, action, transaction, admission);
    accepted(replayed.await?)
}

/// Throws one away, and answers it.
pub(super) async fn delete(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let (letter, identity) = find(&front, request.headers(), request.uri()).await?;
    let (items, name) = (&front.state.store.items, letter.id.to_string());
    let removed = items
        .delete(&identity.namespace, Shelf::DeadLetters, &name)
        .await?;
    if removed {
        wire::ok(&letter)
    } else {
        Err(Error::not_found())
    }
}

/// Throws all away.
pub(super) async fn purge(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let namespace = Place::of(request.uri(), &identity)?.namespace;
    let items = &front.state.store.items;
    let count = items.purge(&namespace, Shelf::DeadLetters, "").await?;
    wire::ok(&json!({ "purged": count }))
}

async fn find(
    front: &Front,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<(DeadLetter, Arc<Identity>)> {
    let identity = authenticate(front, headers).await?;
    let namespace = Place::of(uri, &identity)?.namespace;
    let id: ActivationId = segment(uri, 5)?.parse()?;
    let (items, name) = (&front.state.store.items, id.to_string());
    let found = items.get(&namespace, Shelf::DeadLetters, &name).await?;
    let (item, _) = found.ok_or_else(Error::not_found)?;
    Ok((read(&item)?, identity))
}

fn read(item: &Item) -> Result<DeadLetter> {
    let letter = serde_json::from_str(&item.body);
    Ok(letter.map_err(|error| store::Error::Corrupt(format!("a dead letter: {error}")))?)
}
