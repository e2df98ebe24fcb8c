//! `/api/v1/namespaces/{ns}/activations`: what ran, and what came of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::error::{Error, Result};
use super::extract::{Place, Query, authenticate, segment};
use super::paging::{Asked, asked};
use super::{Front, events, wire};
use crate::model::{
    Activation, ActivationId, Annotations, EntityName, Json, Namespace, Status, Timestamp, Version,
};
use crate::store::ActivationFilter;
use crate::store::watched::Seen;

/// Longest wait for a record, seconds.
pub(super) const WAIT_S_MAX: u64 = 60;

/// An activation as `GET`, blocking calls and `docs=true` answer it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Whole<'a> {
    namespace: &'a Namespace,
    name: &'a EntityName,
    version: Version,
    subject: &'a Namespace,
    activation_id: ActivationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<ActivationId>,
    start: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
    publish: bool,
    response: Outcome<'a>,
    logs: &'a [String],
    annotations: &'a Annotations,
}

/// What came of it: `response` of a record, and all of `…/result`.
#[derive(Serialize)]
struct Outcome<'a> {
    status: Status,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    result: &'a Json,
}

impl<'a> Outcome<'a> {
    fn of(activation: &'a Activation) -> Self {
        let response = &activation.response;
        Self {
            status: response.status,
            success: response.status == Status::Success,
            size: response.size,
            result: &response.result,
        }
    }
}

impl<'a> Whole<'a> {
    /// As it is read.
    pub(super) fn of(activation: &'a Activation) -> Self {
        Self {
            logs: &activation.logs,
            ..Self::without_logs(activation)
        }
    }

    /// As blocking calls answer it.
    pub(super) fn without_logs(activation: &'a Activation) -> Self {
        Self {
            namespace: &activation.namespace,
            name: &activation.name,
            version: activation.version,
            subject: &activation.subject,
            activation_id: activation.id,
            cause: activation.cause,
            start: activation.start,
            end: activation.end,
            duration: activation.duration,
            publish: false,
            response: Outcome::of(activation),
            logs: &[],
            annotations: &activation.annotations,
        }
    }
}

/// An activation as lists show it; what is known at its end alone is absent where there is none.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    namespace: &'a Namespace,
    name: &'a EntityName,
    version: Version,
    publish: bool,
    annotations: &'a Annotations,
    activation_id: ActivationId,
    start: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<ActivationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u8>,
}

impl<'a> Row<'a> {
    fn of(activation: &'a Activation) -> Self {
        Self {
            namespace: &activation.namespace,
            name: &activation.name,
            version: activation.version,
            publish: false,
            annotations: &activation.annotations,
            activation_id: activation.id,
            start: activation.start,
            end: activation.end,
            duration: activation.duration,
            cause: activation.cause,
            status_code: activation.end.map(|_| activation.response.status.code()),
        }
    }
}

/// Newest first; `docs=true` for whole records.
pub(super) async fn list(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let namespace = Place::of(request.uri(), &identity)?.namespace;
    let asked = asked(request.uri(), "activations")?;
    let docs = Query::of(request.uri()).flag("docs")?;
    let filter = filter(request.uri())?;
    let are_accepted = events::are_accepted(request.headers());
    if Query::of(request.uri()).flag_or("events", are_accepted)? {
        let lines = Query::of(request.uri()).flag("logs")?;
        return events::stream(&front, request.headers(), &namespace, (filter, lines)).await;
    }
    let activations = &front.state.store.activations;
    match asked {
        Asked::Count { .. } if docs => Err(Error::bad_request(
            "The parameter 'docs' is not permitted with 'count'.",
        )),
        Asked::Count { skip } => {
            let count = activations.count(&namespace, &filter).await?;
            wire::ok(&json!({ "activations": count.saturating_sub(skip) }))
        }
        Asked::Rows(page) => {
            let found = activations.list(&namespace, &filter, page).await?;
            if docs {
                let rows: Vec<Whole<'_>> = found.iter().map(|one| Whole::of(one)).collect();
                wire::ok(&rows)
            } else {
                let rows: Vec<Row<'_>> = found.iter().map(|one| Row::of(one)).collect();
                wire::ok(&rows)
            }
        }
    }
}

fn filter(uri: &Uri) -> Result<ActivationFilter> {
    let query = Query::of(uri);
    let (package, name) = match query.get("name")? {
        None => (None, None),
        Some(text) => name_of(text)?,
    };
    Ok(ActivationFilter {
        since: instant(query, "since")?,
        upto: instant(query, "upto")?,
        name,
        package,
    })
}

fn name_of(text: Cow<'_, str>) -> Result<(Option<EntityName>, Option<EntityName>)> {
    let parse = |part: &str| EntityName::parse(part).map_err(|error| Error::query("name", error));
    let mut parts = text.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => Ok((None, Some(parse(name)?))),
        (Some(package), Some(name), None) => Ok((Some(parse(package)?), Some(parse(name)?))),
        _ => {
            let detail =
                format!("Parameter may be a 'simple' name or 'package-name/simple' name: {text}");
            Err(Error::query("name", detail))
        }
    }
}

fn instant(query: Query<'_>, name: &str) -> Result<Option<Timestamp>> {
    let Some(text) = query.get(name)? else {
        return Ok(None);
    };
    let millis = text.parse().map_err(|_| {
        let detail = format!("Parameter is not a valid value for epoch seconds: {text}");
        Error::query(name, detail)
    })?;
    Ok(Some(Timestamp(millis)))
}

/// One record.
pub(super) async fn get(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    wire::ok(&Whole::of(
        &*find(&front, request.headers(), request.uri()).await?,
    ))
}

/// Its log lines.
pub(super) async fn logs(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let activation = find(&front, request.headers(), request.uri()).await?;
    wire::ok(&json!({ "logs": &*activation.logs }))
}

/// What it answered.
pub(super) async fn result(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    wire::ok(&Outcome::of(
        &*find(&front, request.headers(), request.uri()).await?,
    ))
}

/// Ends one that waits or runs; its record says so.
pub(super) async fn cancel(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let namespace = Place::of(request.uri(), &identity)?.namespace;
    let id: ActivationId = segment(request.uri(), 5)?.parse()?;
    let is_kept = async || {
        let found = front.state.store.activations.get(&namespace, id).await?;
        Ok::<bool, Error>(found.is_some())
    };
    // Its record can be there a moment before whoever runs it has said that it is over.
    let has_ended = is_kept().await?;
    if !has_ended && front.state.invoker.cancel(&namespace, id).await? {
        return wire::json(StatusCode::ACCEPTED, &json!({ "activationId": id }));
    }
    if has_ended || is_kept().await? {
        return Err(Error::new(
            StatusCode::CONFLICT,
            "The activation has ended already.",
        ));
    }
    Err(Error::not_found())
}

/// The record, waited for when the caller asks for that with `wait=SECONDS`.
async fn find(front: &Front, headers: &HeaderMap, uri: &Uri) -> Result<Arc<Activation>> {
    let identity = authenticate(front, headers).await?;
    let namespace = Place::of(uri, &identity)?.namespace;
    let id: ActivationId = segment(uri, 5)?.parse()?;
    let wait = wait(uri)?;
    let activations = &front.state.store.activations;
    if let Some(found) = activations.get(&namespace, id).await? {
        return Ok(found);
    }
    let Some(wait) = wait else {
        return Err(Error::not_found());
    };
    if !front.state.invoker.is_in_flight(&namespace, id) {
        // It may have ended since it was looked for.
        let found = activations.get(&namespace, id).await?;
        return found.ok_or_else(Error::not_found);
    }
    // Watched first, then read: it may end in between.
    let subscription = front.state.hub.subscribe(&namespace, false);
    let mut subscription =
        subscription.ok_or_else(|| Error::unavailable(5, "too many wait for activations"))?;
    let ended = async {
        loop {
            if let Some(found) = activations.get(&namespace, id).await? {
                return Ok(Some(found));
            }
            loop {
                match subscription.next().await {
                    Seen::Record(record) if record.id == id => return Ok(Some(record)),
                    Seen::Record(_) | Seen::Line(_) | Seen::LinesMissed(_) => {}
                    Seen::Missed(_) => break,
                    Seen::Closed => return Ok(None),
                }
            }
        }
    };
    let found: Result<Option<Arc<Activation>>> = match tokio::time::timeout(wait, ended).await {
        Ok(found) => found,
        Err(_) => Ok(None),
    };
    found?.ok_or_else(Error::not_found)
}

fn wait(uri: &Uri) -> Result<Option<Duration>> {
    let Some(text) = Query::of(uri).get("wait")? else {
        return Ok(None);
    };
    match text.parse() {
        Ok(seconds @ 0..=WAIT_S_MAX) => Ok(Some(Duration::from_secs(seconds))),
        _ => {
            let detail = format!("wait must be a number of seconds up to {WAIT_S_MAX}.");
            Err(Error::query("wait", detail))
        }
    }
}
