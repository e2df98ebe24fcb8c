//! Web actions that speak HTTP themselves: the request goes to the action as it came, and the action's answer to the client
//! while it is being made.
//!
//! Nothing is collected here, so the limits of payloads and results do not apply, nor does the cache. What stands around
//! web actions does: who may ask, how often, and what is said to browsers, unless the action says it itself.
//!
//! Invariants:
//! - the action sees the path behind its own name, the query, the method and the headers as the client sent them, but
//!   not the platform's credentials of somebody else;
//! - an answer says nothing of the connection, and no length but its own;
//! - a connection is busy as long as the action may run, not longer: a client that does not read is cut some time after.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CONTENT_LENGTH, HeaderName};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

use super::{Refused, Served, Visit, answer, unauthorized, visitor};
use crate::api::actions_put::permit_kind;
use crate::api::error::Error;
use crate::api::invocations::named;
use crate::api::serve::Lasting;
use crate::auth::Identity;
use crate::invoke::{self, Answer, Call, new_id};
use crate::model::exchange::{self, Exchange};
use crate::model::{Activation, ActivationId, Json, Status};
use crate::telemetry::metrics;

/// How long work may wait for its run, at most: what is added to the action's own timeout.
const WAIT: Duration = Duration::from_secs(60);

/// How long the end of an answer waits for the end of its action.
const PATIENCE: Duration = Duration::from_millis(100);

type Answered = http::Response<exchange::Body>;
/// The run behind an answer; dropped, it goes on by itself.
type Run = Pin<Box<dyn Future<Output = Result<Answer, invoke::Error>> + Send>>;

impl Visit<'_> {
    /// Hands the request to the action and answers with what it says.
    pub(super) async fn stream(&self, body: Body) -> Result<Served, Refused> {
        let Self {
            front,
            found,
            parts,
            ..
        } = self;
        let visitor = visitor(front, &parts.headers).await?;
        let visitor = visitor.as_deref();
        let is_permitted = parts.method == Method::OPTIONS
            || super::permits(&found.action, &parts.headers, visitor.is_some());
        let owner = &found.owner;
        let admission = front.state.throttle.enter(&owner.namespace, &owner.limits);
        let admission = admission
            .await
            .inspect_err(|exceeded| metrics::refused(exceeded.reason()))
            .map_err(Error::from)?;
        if !is_permitted {
            return Err(unauthorized().into());
        }
        permit_kind(found.action.exec.kind(), owner)?;
        if !front.state.store.activations.has_room() {
            metrics::refused("storage");
            return Err(Error::unavailable(1, "too many records wait for the disk").into());
        }
        let id = new_id();
        let lasts = Duration::from_millis(found.action.limits.timeout) + WAIT;
        let call = Call {
            id,
            action: Arc::clone(&found.action),
            payload: Json::empty_object(),
            wait: Some(lasts),
            transaction: self.transaction.to_str().unwrap_or_default().into(),
            admission: Box::new(admission),
        };
        let (respond, mut head) = oneshot::channel();
        let respond = Box::new(move |response: Answered| {
            // Fails when the client has left.
            drop(respond.send(response));
        });
        let exchange = Exchange::new(self.request(body, visitor), respond);
        let (invoker, caller) = (Arc::clone(&front.state.invoker), self.caller(visitor));
        let mut run: Run = Box::pin(async move { invoker.exchange(caller, call, exchange).await });
        let ends = Instant::now() + lasts;
        let answer = tokio::select! {
            // First: most answers are whole by then, and their run over.
            answer = &mut run => answer,
            Ok(response) = &mut head => {
                let response = response.map(|body| Body::new(Streamed::new(body, run)));
                let mut response = self.respond(response, id);
                response.extensions_mut().insert(Lasting(ends));
                return Ok(Served::Streamed(response));
            }
        };
        let answer = answer
            .inspect_err(|error| metrics::refused(error.reason()))
            .map_err(Error::from)?;
        if let Ok(response) = head.try_recv() {
            return Ok(Served::Streamed(self.respond(response.map(Body::new), id)));
        }
        let error = match answer {
            Answer::Finished(activation) => failure(&activation),
            Answer::Accepted(_) => late(),
        };
        Err(Refused {
            error,
            activation: Some(id),
        })
    }

    /// The request as the action sees it.
    fn request(&self, body: Body, visitor: Option<&Identity>) -> http::Request<exchange::Body> {
        let parts = self.parts;
        let mut request = Request::new(Body::empty());
        *request.method_mut() = parts.method.clone();
        *request.version_mut() = parts.version;
        *request.uri_mut() = self.target();
        let headers = request.headers_mut();
        headers.clone_from(&parts.headers);
        let owner = &self.found.owner.namespace;
        if visitor.is_some_and(|visitor| visitor.namespace != *owner) {
            // They concern the platform, not whoever wrote the action.
            headers.remove(AUTHORIZATION);
        }
        let (parts, _) = request.into_parts();
        let body = body.map_err(exchange::BodyError::from).boxed_unsync();
        http::Request::from_parts(parts, body)
    }

    /// What follows the action in the path, and the query.
    fn target(&self) -> Uri {
        let path = match self.found.rest {
            "" => "/",
            rest => rest,
        };
        let target = match self.parts.uri.query() {
            Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
            None => PathAndQuery::try_from(path),
        };
        // Part of a path is one, so this cannot fail.
        target.map_or_else(|_| Uri::from_static("/"), Uri::from)
    }

    /// The action's answer as it is sent.
    fn respond(&self, response: Response, id: ActivationId) -> Response {
        let (mut parts, body) = response.into_parts();
        if !(200..600).contains(&parts.status.as_u16()) {
            // What is informational announces an answer and is none.
            parts.status = StatusCode::BAD_GATEWAY;
        }
        let is_head = self.parts.method == Method::HEAD;
        tidy(
            &mut parts.headers,
            !is_head && body.size_hint().exact().is_some(),
        );
        named(Response::from_parts(parts, body), id)
    }
}

/// A body that ends when its action has, so that whoever has read it all finds the record of it. An action that goes on
/// behind its answer is not waited for long.
struct Streamed {
    body: exchange::Body,
    run: Option<Run>,
    patience: Option<Pin<Box<Sleep>>>,
    is_over: bool,
}

impl Streamed {
    fn new(body: exchange::Body, run: Run) -> Self {
        Self {
            body,
            run: Some(run),
            patience: None,
            is_over: false,
        }
    }

    /// Whether the run has ended, or was waited for long enough.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(run) = &mut self.run
            && run.as_mut().poll(cx).is_pending()
        {
            let patience = &mut self.patience;
            let patience = patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
            ready!(patience.as_mut().poll(cx));
        }
        self.run = None;
        Poll::Ready(())
    }
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = exchange::BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, exchange::BodyError>>> {
        let this = &mut *self;
        if !this.is_over {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
            if let Some(frame) = frame {
                return Poll::Ready(Some(frame));
            }
            this.is_over = true;
        }
        this.poll_ended(cx).map(|()| None)
    }
}

/// Leaves out what is the connection's, and a length where the body has one of its own.
fn tidy(headers: &mut HeaderMap, has_length: bool) {
    let is_ours = |name: &HeaderName| match *name {
        CONTENT_LENGTH => has_length,
        _ => answer::of_connection(name),
    };
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_ours(name))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Whether an answer says itself who may read it.
pub(super) fn speaks_of_origins(headers: &HeaderMap) -> bool {
    headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN)
}

/// What a client is told of an action that ended without an answer.
fn failure(activation: &Activation) -> Error {
    let is_late = activation.annotations.is_true("timeout");
    match activation.response.status {
        Status::InternalError => Error::unavailable(1, "the action could not be started"),
        _ if is_late => late(),
        _ => Error::new(
            StatusCode::BAD_GATEWAY,
            "There was an error processing your request.",
        ),
    }
}

fn late() -> Error {
    let text = "The action did not answer in time.";
    Error::new(StatusCode::GATEWAY_TIMEOUT, text)
}
