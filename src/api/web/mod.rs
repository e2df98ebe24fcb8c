//! Web actions: `/api/v1/web/{ns}/{package or "default"}/{action}[.ext][/more/path]`, actions that are called as if they
//! were web pages, by anybody.
//!
//! `address` (which action) → who asks → what is kept (`cache`) → how much (`throttle`, of the action's owner) → `args`
//! (what the action is given) → the run → `answer` (what the client gets).
//!
//! Invariants:
//! - whatever is wrong with a name (no such namespace, package or action, blocked, not exported) is the same 404;
//! - an action runs as its owner: the owner's limits, the owner's records, and never with anybody's key;
//! - what is kept is given only while the action it came from is still there, exported and unchanged;
//! - no answer of an action can add a header, or a second answer, that it did not name as a header of its own.

mod address;
mod answer;
mod args;
mod cache;
mod cors;
mod freshness;
mod media;
mod print;
mod stream;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, AUTHORIZATION, CONTENT_LENGTH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use http_body::Body as _;
use tokio::sync::OwnedMutexGuard;

use super::actions_put::permit_kind;
use super::error::{Error, Result};
use super::extract::payload;
use super::invocations::{named, wants_record};
use super::{Front, edge};
use crate::auth::{Denied, Identity};
use crate::invoke::{Answer, Call, Caller, new_id};
use crate::model::{Action, ActivationId, Json};
use crate::telemetry::metrics;
use address::{Address, Extension, Misaddressed};
use answer::Made;
use cache::{Looked, Wanted};
use freshness::Wishes;

pub(super) use address::{PREFIX, is_address};
pub(super) use answer::of_connection as is_of_connection;
pub(super) use args::pairs;
pub(super) use cache::Cache;
pub(super) use cors::Asked as CorsAsked;

/// What an action that requires a secret requires it in.
const X_REQUIRE_WHISK_AUTH: HeaderName = HeaderName::from_static("x-require-whisk-auth");

/// How long a client waits for an action.
const WAIT: Duration = Duration::from_secs(60);

/// The verbs that web paths know.
const VERBS: [Method; 7] = [
    Method::GET,
    Method::DELETE,
    Method::POST,
    Method::PUT,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
];

/// A web action, and who it runs as.
struct Found<'a> {
    owner: Arc<Identity>,
    action: Arc<Action>,
    extension: Extension,
    /// What follows it in the path.
    rest: &'a str,
}

/// Answers a request for a path that starts with [`PREFIX`].
pub(super) async fn answer(front: &Front, request: Request, transaction: &HeaderValue) -> Response {
    let (parts, body) = request.into_parts();
    let is_head = parts.method == Method::HEAD;
    let response = respond(front, parts, body, transaction).await;
    if is_head {
        headless(response)
    } else {
        response
    }
}

async fn respond(front: &Front, parts: Parts, body: Body, transaction: &HeaderValue) -> Response {
    let is_preflight = parts.method == Method::OPTIONS;
    let found = match find(front, &parts).await {
        Ok(found) => found,
        Err(_) if is_preflight => {
            // Whether or not there is such an action is not for a preflight to say.
            let mut response = Response::new(Body::empty());
            edge::allow_rest(response.headers_mut());
            return response;
        }
        Err(error) => return Refused::from(error).respond(transaction),
    };
    let asked = CorsAsked::of(&parts.headers);
    let speaks_for_itself = found.action.annotations.is_true("web-custom-options");
    if is_preflight && !speaks_for_itself {
        let mut response = Response::new(Body::empty());
        asked.allow(response.headers_mut());
        return response;
    }
    let visit = Visit {
        front,
        found,
        parts: &parts,
        transaction,
        speaks_for_itself,
    };
    let mut response = match visit.serve(body).await {
        Ok(Served::Kept(made)) => return made.respond(),
        Ok(Served::Ran(response)) => response,
        Ok(Served::Streamed(response)) if stream::speaks_of_origins(response.headers()) => {
            return response;
        }
        Ok(Served::Streamed(response)) => response,
        Err(refused) if refused.is_of_server() => return refused.respond(transaction),
        Err(refused) => refused.respond(transaction),
    };
    if !speaks_for_itself {
        asked.allow(response.headers_mut());
    }
    response
}

async fn find<'a>(front: &Front, parts: &'a Parts) -> Result<Found<'a>> {
    if !VERBS.contains(&parts.method) {
        return Err(Error::wrong_method());
    }
    let is_required = front.config.web_extension_required;
    let address = Address::of(parts.uri.path(), is_required)?;
    let namespace = &address.action.namespace;
    let nothing = |cause: &dyn std::fmt::Display| {
        tracing::debug!(action = %address.action, %cause, "no such web action");
        Error::not_found()
    };
    let owner = front.state.keys.owner(namespace).await;
    let owner = owner.map_err(|error| nothing(&error))?;
    let owner = owner.ok_or_else(|| nothing(&"no such namespace"))?;
    let resolver = &front.state.resolver;
    let action = match resolver.at_hand(namespace, &address.action) {
        Some(action) => action,
        None => Box::pin(resolver.action(namespace, &address.action))
            .await
            .map_err(|unresolved| nothing(&unresolved))?,
    };
    if !action.annotations.is_true("web-export") {
        return Err(nothing(&"it is not exported"));
    }
    Ok(Found {
        owner,
        action,
        extension: address.extension,
        rest: address.rest,
    })
}

impl From<Misaddressed> for Error {
    fn from(misaddressed: Misaddressed) -> Self {
        let status = match misaddressed {
            Misaddressed::NoRoute | Misaddressed::Nothing => StatusCode::NOT_FOUND,
            Misaddressed::NoExtension => StatusCode::NOT_ACCEPTABLE,
        };
        Self::new(status, misaddressed.to_string())
    }
}

/// A refusal, or a failure of an activation.
struct Refused {
    error: Error,
    /// The activation, where there was one.
    activation: Option<ActivationId>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            error,
            activation: None,
        }
    }
}

impl Refused {
    /// Whether the server refuses the request before it is the action's, so that nothing of the action's is said.
    fn is_of_server(&self) -> bool {
        let status = self.error.status();
        matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE
        )
    }

    fn respond(self, transaction: &HeaderValue) -> Response {
        let mut response = Response::new(Body::empty());
        if self.error.status() == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, cors::METHODS);
        }
        self.error.fill_pretty(&mut response, transaction);
        match self.activation {
            Some(id) => named(response, id),
            None => response,
        }
    }
}

/// A request to a web action.
struct Visit<'a> {
    front: &'a Front,
    found: Found<'a>,
    parts: &'a Parts,
    transaction: &'a HeaderValue,
    /// Whether the action sees to CORS.
    speaks_for_itself: bool,
}

/// How a request was answered.
enum Served {
    /// From memory; nothing is to be added.
    Kept(Made),
    /// By a run.
    Ran(Response),
    /// By a run that may go on.
    Streamed(Response),
}

impl Visit<'_> {
    async fn serve(&self, body: Body) -> std::result::Result<Served, Refused> {
        let Self {
            front,
            found,
            parts,
            ..
        } = self;
        if found.action.exec.code().is_some_and(|code| code.http) {
            return Box::pin(self.stream(body)).await;
        }
        let bytes_max = found.owner.limits.payload_size_max;
        if body.size_hint().lower() > bytes_max {
            let refused = payload(front, &parts.headers, body, bytes_max).await;
            return Err(refused.err().unwrap_or_else(Error::no_body).into());
        }
        let visitor = visitor(front, &parts.headers).await?;
        let visitor = visitor.as_deref();
        // A preflight cannot carry credentials.
        let is_permitted = parts.method == Method::OPTIONS
            || permits(&found.action, &parts.headers, visitor.is_some());
        let wishes = self.wishes(&body).filter(|_| is_permitted);
        let mut turn = None;
        if wishes.is_some_and(|wishes| wishes.takes_kept)
            && let Some(made) = self.kept(&mut turn).await
        {
            return Ok(Served::Kept(self.conditional(made)));
        }
        let keeps = wishes.is_some_and(|wishes| wishes.keeps);
        let run = self.run(body, visitor, is_permitted, keeps);
        let served = Box::pin(run).await;
        drop(turn);
        served.map(Served::Ran)
    }

    /// What the client wishes of the cache; `None` for what has nothing to do with it. A body is no part of what answers
    /// are kept under, nor is what a preflight asks for, so a request with either is none of its business.
    fn wishes(&self, body: &Body) -> Option<Wishes> {
        let Parts {
            method, headers, ..
        } = self.parts;
        let is_cached = matches!(*method, Method::GET | Method::HEAD)
            && self.found.extension == Extension::Http
            && body.is_end_stream()
            && !headers.contains_key(ACCESS_CONTROL_REQUEST_HEADERS);
        is_cached.then(|| Wishes::of(headers))
    }

    /// Adds to what is kept what every answer has, be it only to make room for it.
    fn finish(&self, headers: &mut HeaderMap) {
        headers.insert(edge::X_REQUEST_ID, self.transaction.clone());
        if !self.speaks_for_itself {
            CorsAsked::of(&self.parts.headers).allow(headers);
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        let target = self.parts.uri.path_and_query();
        Wanted {
            namespace: &self.found.owner.namespace,
            target: target.map_or("", |target| target.as_str()),
            headers: &self.parts.headers,
            action: &self.found.action,
            is_personal: self.parts.headers.contains_key(AUTHORIZATION),
        }
    }

    /// The answer that is kept, if there is one; else, where there was one, the turn to ask for it anew.
    async fn kept(&self, turn: &mut Option<OwnedMutexGuard<()>>) -> Option<Made> {
        let cache = &self.front.cache;
        let stale = match cache.get(&self.wanted()) {
            Looked::Fresh(made) => {
                metrics::web_cache(metrics::WebCache::Hit);
                return Some(made);
            }
            Looked::Stale(renewing) => renewing,
            Looked::Nothing => return None,
        };
        // Whoever had the turn before asked no longer than a client waits; what it got may be kept by now.
        let guard = stale.lock_owned().await;
        if let Looked::Fresh(made) = cache.get(&self.wanted()) {
            metrics::web_cache(metrics::WebCache::Shared);
            return Some(made);
        }
        *turn = Some(guard);
        None
    }

    /// `made`, or that the client has it.
    fn conditional(&self, made: Made) -> Made {
        let reads = matches!(self.parts.method, Method::GET | Method::HEAD);
        if reads && freshness::is_known(&self.parts.headers, &made) {
            return freshness::not_modified(made);
        }
        made
    }

    async fn run(
        &self,
        body: Body,
        visitor: Option<&Identity>,
        is_permitted: bool,
        keeps: bool,
    ) -> std::result::Result<Response, Refused> {
        let (front, owner) = (self.front, &self.found.owner);
        let throttle = &front.state.throttle;
        let admission = throttle.enter(&owner.namespace, &owner.limits);
        let admission = admission
            .await
            .inspect_err(|exceeded| metrics::refused(exceeded.reason()))
            .map_err(Error::from)?;
        if !is_permitted {
            return Err(unauthorized().into());
        }
        permit_kind(self.found.action.exec.kind(), owner)?;
        let payload = self.payload(body, visitor).await?;
        if !front.state.store.activations.has_room() {
            metrics::refused("storage");
            return Err(Error::unavailable(1, "too many records wait for the disk").into());
        }
        let call = Call {
            id: new_id(),
            action: Arc::clone(&self.found.action),
            payload,
            wait: Some(WAIT),
            transaction: self.transaction.to_str().unwrap_or_default().into(),
            admission: Box::new(admission),
        };
        let answer = front.state.invoker.invoke(self.caller(visitor), call).await;
        let answer = answer
            .inspect_err(|error| metrics::refused(error.reason()))
            .map_err(Error::from)?;
        let activation = match answer {
            Answer::Finished(activation) => activation,
            Answer::Accepted(id) => {
                return Err(Refused {
                    error: Error::new(StatusCode::ACCEPTED, "Response not yet ready."),
                    activation: Some(id),
                });
            }
        };
        let made = answer::made(&activation, self.found.extension);
        let mut made = made.map_err(|error| Refused {
            error,
            activation: Some(activation.id),
        })?;
        if keeps && self.parts.method == Method::GET {
            let finish = |headers: &mut HeaderMap| self.finish(headers);
            front.cache.put(&self.wanted(), &mut made, finish);
        }
        Ok(named(self.conditional(made).respond(), activation.id))
    }

    async fn payload(&self, body: Body, visitor: Option<&Identity>) -> Result<Json> {
        let (parts, owner) = (self.parts, &self.found.owner);
        let bytes_max = owner.limits.payload_size_max;
        let body = payload(self.front, &parts.headers, body, bytes_max).await?;
        let asked = args::Asked {
            method: &parts.method,
            headers: &parts.headers,
            hides_credentials: visitor.is_some_and(|it| it.namespace != owner.namespace),
            path: self.found.rest,
            query: parts.uri.query().unwrap_or_default(),
            user: visitor.map(|identity| identity.namespace.as_str()),
            body: &body.bytes,
            raw: self.found.action.annotations.is_true("raw-http"),
        };
        asked.payload()
    }

    fn caller(&self, visitor: Option<&Identity>) -> Caller {
        let owner = &self.found.owner;
        // Only who owns the records may ask for more of them.
        let is_owner = visitor.is_some_and(|identity| identity.namespace == owner.namespace);
        let forced = is_owner && wants_record(&self.parts.headers);
        Caller {
            namespace: owner.namespace.clone(),
            subject: owner.namespace.clone(),
            // The owner's, where it is kept so that it can be had again.
            api_key: match self.found.action.wants_key() {
                true => self.front.state.keys.api_key(owner),
                false => None,
            },
            limits: Arc::clone(&owner.limits),
            record: owner.limits.keep(true, forced),
        }
    }
}

/// 401, in the words of web actions.
pub(super) fn unauthorized() -> Error {
    let text = "Authentication is possible but has failed or not yet been provided.";
    Error::new(StatusCode::UNAUTHORIZED, text)
}

/// Who sent the request, if its credentials are the platform's; all others are an action's own business.
async fn visitor(front: &Front, headers: &HeaderMap) -> Result<Option<Arc<Identity>>> {
    let Some(given) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    match front.state.keys.verify(Some(given.as_bytes())).await {
        Ok(identity) => Ok(Some(identity)),
        Err(Denied::Store(error)) => Err(error.into()),
        Err(Denied::Missing | Denied::Invalid) => Ok(None),
    }
}

/// Whether a request shows what `action` requires of it.
fn permits(action: &Action, headers: &HeaderMap, is_known: bool) -> bool {
    let Some(required) = action.annotations.get("require-whisk-auth") else {
        return true;
    };
    let secret: Cow<'_, str> = match required.get().as_bytes().first() {
        Some(b't') => return is_known,
        Some(b'f') => return true,
        Some(b'"') => match serde_json::from_str::<String>(required.get()) {
            Ok(text) => text.into(),
            Err(_) => return false,
        },
        Some(b'-' | b'0'..=b'9') => required.get().into(),
        _ => return false,
    };
    let given = headers.get(X_REQUIRE_WHISK_AUTH);
    // Digests are compared in a time that tells nothing.
    given.is_some_and(|given| blake3::hash(given.as_bytes()) == blake3::hash(secret.as_bytes()))
}

/// `response` without its body, and with the length the body had.
fn headless(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let length = body.size_hint().exact().filter(|length| *length > 0);
    if let Some(length) = length {
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}
