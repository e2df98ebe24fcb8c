//! `POST /api/v1/namespaces/{ns}/actions/{name}`: runs an action. The one handler whose speed decides.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use super::actions_put::permit_kind;
use super::edge::X_REQUEST_ID;
use super::error::{Error, Result};
use super::extract::{Place, Query, authenticate, expect_json, payload};
use super::idempotency::{self, IDEMPOTENCY_KEY};
use super::{Front, actions, activations, revisions, wire};
use crate::auth::{Admission, Credential, Identity};
use crate::invoke::idempotency::{Claim, Ticket};
use crate::invoke::{self, Answer, Call, Caller, new_id};
use crate::model::{Action, Activation, ActivationId, Fqn, Json, Namespace, Status};
use crate::telemetry::metrics;

/// Names the activation in the answer, whatever its body is.
const X_OPENWHISK_ACTIVATION_ID: HeaderName = HeaderName::from_static("x-openwhisk-activation-id");

/// `on` keeps the record even where the namespace keeps none.
pub(super) const X_OW_EXTRA_LOGGING: HeaderName = HeaderName::from_static("x-ow-extra-logging");

/// Longest wait for a blocking call, and the one when nobody says otherwise; milliseconds.
pub(super) const WAIT_MS_MAX: u64 = 60_000;

/// First and longest pause before it is asked again whether a call has ended that another began.
const REPLAY_PAUSE_MIN: Duration = Duration::from_millis(5);
const REPLAY_PAUSE_MAX: Duration = Duration::from_millis(200);

static NO_PAYLOAD: LazyLock<Json> = LazyLock::new(Json::empty_object);

/// What the query asks for.
struct Options {
    wait: Option<Duration>,
    result_only: bool,
}

/// Whether the path is that of an action: `/api/v1/namespaces/{ns}/actions/{name}`, or `…/{package}/{name}`.
pub(super) fn is_address(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/api/v1/namespaces/") else {
        return false;
    };
    let Some((namespace, name)) = rest.split_once("/actions/") else {
        return false;
    };
    let (package, name) = name.split_once('/').unwrap_or(("-", name));
    let is_segment = |text: &str| !text.is_empty() && !text.contains('/');
    is_segment(namespace) && is_segment(package) && is_segment(name)
}

/// Runs an action. The order of the checks is the contract's: who, how large, how often, and only then whether it exists.
pub(super) async fn invoke(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let identity = authenticate(&front, &parts.headers).await?;
    let bytes_max = identity.limits.payload_size_max;
    let body = payload(&front, &parts.headers, body, bytes_max).await?;
    let throttle = &front.state.throttle;
    let admission = throttle.enter(&identity.namespace, &identity.limits);
    let admission = admission
        .await
        .inspect_err(|exceeded| metrics::refused(exceeded.reason()))?;
    let name = Place::anywhere(&parts.uri, &identity)?.action(&parts.uri)?;
    let options = options(&parts.uri)?;
    let payload = parameters(&parts.headers, &body.bytes)?;
    drop(body);
    let action = match revisions::asked(Query::of(&parts.uri))? {
        None => resolve(&front, &identity.namespace, &name).await?,
        Some(number) => Box::pin(actions::at_revision(&front, &identity, &name, number)).await?,
    };
    permit_kind(action.exec.kind(), &identity)?;
    if !front.state.store.activations.has_room() {
        metrics::refused("storage");
        return Err(Error::unavailable(1, "too many records wait for the disk"));
    }
    let caller = caller(&parts, &identity, &action, options.wait.is_some());
    let mut call = call(&parts, action, payload, options.wait, admission);
    if parts.headers.contains_key(IDEMPOTENCY_KEY) {
        let what = format!("actions {name}");
        let claim = idempotency::claim(&front, &parts.headers, &identity, &what, &call.payload);
        match Box::pin(claim).await? {
            Claim::Run(ticket) => {
                call.id = ticket.id();
                return Box::pin(once(&front, caller, call, options, ticket)).await;
            }
            Claim::Replay(id) => {
                let replayed = replay(&front, &identity.namespace, id, &options);
                return Box::pin(replayed).await.map(idempotency::replayed);
            }
        }
    }
    let answer = front.state.invoker.invoke(caller, call).await;
    match answer.inspect_err(|error| metrics::refused(error.reason()))? {
        Answer::Accepted(id) => accepted(id),
        Answer::Finished(activation) => finished(&activation, options.result_only),
    }
}

/// As a call without a key, and remembers what came of it.
async fn once(
    front: &Front,
    caller: Caller,
    call: Call,
    options: Options,
    ticket: Ticket,
) -> Result<Response> {
    let answer = front.state.invoker.invoke(caller, call).await;
    match answer.inspect_err(|error| metrics::refused(error.reason())) {
        Ok(Answer::Accepted(id)) => {
            // A blocking call that goes on is no promise: a crash would end it, and the next of its kind begins it anew.
            if options.wait.is_none() {
                ticket.done().await;
            }
            accepted(id)
        }
        Ok(Answer::Finished(activation)) => {
            ticket.done().await;
            finished(&activation, options.result_only)
        }
        Err(error) => {
            if !matches!(error, invoke::Error::Unavailable(_)) {
                ticket.forget().await;
            }
            Err(error.into())
        }
    }
}

/// Answers as the call did that led to activation `id`, or will.
async fn replay(
    front: &Front,
    namespace: &Namespace,
    id: ActivationId,
    options: &Options,
) -> Result<Response> {
    let Some(wait) = options.wait else {
        return accepted(id);
    };
    let (deadline, mut pause) = (Instant::now() + wait, REPLAY_PAUSE_MIN);
    let (activations, invoker) = (&front.state.store.activations, &front.state.invoker);
    loop {
        // Asked before the record is looked for: what ends in between is found.
        let goes_on = invoker.is_in_flight(namespace, id);
        if let Some(activation) = activations.get(namespace, id).await? {
            return finished(&activation, options.result_only);
        }
        if !goes_on || Instant::now() + pause > deadline {
            return accepted(id);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(REPLAY_PAUSE_MAX);
    }
}

async fn resolve(front: &Front, caller: &Namespace, name: &Fqn) -> Result<Arc<Action>> {
    let resolver = &front.state.resolver;
    if let Some(action) = resolver.at_hand(caller, name) {
        return Ok(action);
    }
    Ok(Box::pin(resolver.action(caller, name)).await?)
}

fn options(uri: &Uri) -> Result<Options> {
    let query = Query::of(uri);
    let blocking = query.flag("blocking")?;
    let result_only = query.flag("result")?;
    let wait_ms = match query.get("timeout")? {
        None => WAIT_MS_MAX,
        Some(text) => match text.parse() {
            Ok(ms @ 1..=WAIT_MS_MAX) => ms,
            _ => {
                let detail = format!("Timeout must be number of milliseconds up to {WAIT_MS_MAX}.");
                return Err(Error::query("timeout", detail));
            }
        },
    };
    Ok(Options {
        wait: blocking.then(|| Duration::from_millis(wait_ms)),
        result_only,
    })
}

pub(super) fn parameters(headers: &HeaderMap, body: &Bytes) -> Result<Json> {
    if body.is_empty() {
        return Ok(NO_PAYLOAD.clone());
    }
    expect_json(headers)?;
    Json::parse_object(body).map_err(Error::malformed)
}

fn caller(parts: &Parts, identity: &Identity, action: &Action, waited_for: bool) -> Caller {
    let api_key = || {
        let credential = Credential::from_header(parts.headers.get(AUTHORIZATION)?.as_bytes())?;
        Some(credential.to_string().into())
    };
    Caller {
        namespace: identity.namespace.clone(),
        subject: identity.namespace.clone(),
        api_key: action.wants_key().then(api_key).flatten(),
        limits: Arc::clone(&identity.limits),
        record: (identity.limits).keep(waited_for, wants_record(&parts.headers)),
    }
}

/// Whether a record is asked for even where none is kept.
pub(super) fn wants_record(headers: &HeaderMap) -> bool {
    let asked = headers.get(X_OW_EXTRA_LOGGING);
    asked.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"on"))
}

fn call(
    parts: &Parts,
    action: Arc<Action>,
    payload: Json,
    wait: Option<Duration>,
    admission: Admission,
) -> Call {
    let transaction = parts.headers.get(X_REQUEST_ID);
    let transaction = transaction.and_then(|id| id.to_str().ok());
    Call {
        id: new_id(),
        action,
        payload,
        wait,
        transaction: transaction.unwrap_or_default().into(),
        admission: Box::new(admission),
    }
}

/// 202: it runs, or will.
pub(super) fn accepted(id: ActivationId) -> Result<Response> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Accepted {
        activation_id: ActivationId,
    }
    let body = Accepted { activation_id: id };
    Ok(named(wire::json(StatusCode::ACCEPTED, &body)?, id))
}

/// It ran: 200, 502 for a failure of the action, 500 for one of ours.
fn finished(activation: &Activation, result_only: bool) -> Result<Response> {
    let response = &activation.response;
    let status = match response.status {
        Status::Success => StatusCode::OK,
        Status::ApplicationError | Status::DeveloperError => StatusCode::BAD_GATEWAY,
        Status::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
    };
    // An array is answered bare, whatever was asked for.
    let is_array = response.status == Status::Success && response.result.is_array();
    let answer = if result_only || is_array {
        wire::text(status, response.result.clone())
    } else if activation.annotations.get("topmost").is_some() {
        // The logs of what is made of several are the ids of its steps.
        wire::json(status, &activations::Whole::of(activation))?
    } else {
        wire::json(status, &activations::Whole::without_logs(activation))?
    };
    Ok(named(answer, activation.id))
}

/// `response` with the id of the activation that it tells of.
pub(super) fn named(mut response: Response, id: ActivationId) -> Response {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(id.0.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    if let Ok(value) = HeaderValue::from_bytes(&hex) {
        let headers = response.headers_mut();
        headers.insert(X_OPENWHISK_ACTIVATION_ID, value);
    }
    response
}
