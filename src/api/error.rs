//! What went wrong, as a client sees it: a status and `{"error", "code"}`, in OpenWhisk's words.
//!
//! A handler answers `Err(Error)`; the edge gives it its body, because only the edge knows the transaction. Causes that are
//! ours are logged there, once, and never sent.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::auth::Denied;
use crate::auth::throttle::Exceeded;
use crate::invoke::idempotency::KeyError;
use crate::invoke::resolve::Unresolved;
use crate::invoke::{self, Refusal, UploadError};
use crate::model::activation::BadActivationId;
use crate::model::name::BadName;
use crate::store;

pub(super) type Result<T> = std::result::Result<T, Error>;

/// `application/json`, on every JSON body.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What OpenWhisk says when there is no capacity.
pub(super) const UNAVAILABLE: &str =
    "The server is currently unavailable (because it is overloaded or down for maintenance).";

/// Seconds after which a store that was full or away may be tried again.
const STORE_RETRY_AFTER_S: u32 = 5;

const CHALLENGE: HeaderValue =
    HeaderValue::from_static("Basic realm=\"OpenWhisk secure realm\", charset=UTF-8");

/// A refusal or a failure. One pointer wide, so that a `Result` of it costs the good path nothing.
#[derive(Debug, Clone)]
pub(super) struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    text: Cow<'static, str>,
    retry_after_s: Option<u32>,
    /// For the log alone.
    cause: Option<Arc<str>>,
}

impl Error {
    /// `status` with `text`.
    pub(super) fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            status,
            text: text.into(),
            retry_after_s: None,
            cause: None,
        }))
    }

    /// 400 with `text` as it is.
    pub(super) fn bad_request(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 400 for a body.
    pub(super) fn malformed(detail: impl fmt::Display) -> Self {
        Self::bad_request(format!("The request content was malformed:\n{detail}"))
    }

    /// 400 for the query parameter `name`.
    pub(super) fn query(name: &str, detail: impl fmt::Display) -> Self {
        Self::bad_request(format!(
            "The query parameter '{name}' was malformed:\n{detail}"
        ))
    }

    /// 400 for a body that is missing.
    pub(super) fn no_body() -> Self {
        Self::bad_request("Request entity expected but not supplied")
    }

    /// 403 for `resource`, `namespace[/name]`.
    pub(super) fn forbidden(resource: impl fmt::Display) -> Self {
        let text = format!("The supplied authentication is not authorized to access '{resource}'.");
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 403 for all of `resources`, if there are any.
    pub(super) fn forbidden_all<R: fmt::Display>(
        resources: impl IntoIterator<Item = R>,
    ) -> Result<()> {
        let mut names: Vec<String> = resources.into_iter().map(|one| one.to_string()).collect();
        if names.is_empty() {
            return Ok(());
        }
        names.sort_unstable();
        names.dedup();
        Err(Self::forbidden(names.join(", ")))
    }

    /// 403 for anybody but the system.
    pub(super) fn not_system() -> Self {
        let text = "The supplied authentication is not authorized to access this resource.";
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 404 for an entity.
    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "The requested resource does not exist.",
        )
    }

    /// 404 for what the caller's rights hang on.
    pub(super) fn missing(resource: impl fmt::Display) -> Self {
        let text = format!("The requested resource '{resource}' does not exist.");
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 404 for a path nobody serves.
    pub(super) fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "The requested resource could not be found.",
        )
    }

    /// 405; the router adds `Allow`.
    pub(super) fn wrong_method() -> Self {
        let text = "The requested method is not supported by this resource.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, text)
    }

    /// 409 for a name that is taken by another kind of entity.
    pub(super) fn conformance() -> Self {
        let text = "Resource by this name exists but is not in this collection.";
        Self::new(StatusCode::CONFLICT, text)
    }

    /// 409 for a PUT without `overwrite`.
    pub(super) fn exists() -> Self {
        Self::new(StatusCode::CONFLICT, "resource already exists")
    }

    /// 413 for `field`.
    pub(super) fn too_large(field: &str, is: u64, max: u64) -> Self {
        let text = format!("{field} larger than allowed: {is} > {max} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    /// 503 with the reason logged.
    pub(super) fn unavailable(retry_after_s: u32, cause: impl fmt::Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE)
            .after(retry_after_s)
            .because(cause)
    }

    /// 500 with the reason logged.
    pub(super) fn internal(cause: impl fmt::Display) -> Self {
        let text = "There was an internal server error.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text).because(cause)
    }

    fn after(mut self, seconds: u32) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    fn because(mut self, cause: impl fmt::Display) -> Self {
        self.0.cause = Some(cause.to_string().into());
        self
    }

    /// The status it is answered with.
    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What it says.
    pub(super) fn text(&self) -> &str {
        &self.0.text
    }

    /// Fills `response` (whose own headers stay: the router's `Allow`) and logs the cause.
    pub(super) fn fill(self, response: &mut Response, transaction: &HeaderValue) {
        self.fill_printed(response, transaction, false);
    }

    /// As [`Error::fill`], for people: in several lines.
    pub(super) fn fill_pretty(self, response: &mut Response, transaction: &HeaderValue) {
        self.fill_printed(response, transaction, true);
    }

    fn fill_printed(self, response: &mut Response, transaction: &HeaderValue, pretty: bool) {
        #[derive(Serialize)]
        struct Shape<'a> {
            error: &'a str,
            code: &'a str,
        }
        let code = transaction.to_str().unwrap_or_default();
        let Inner {
            status,
            text,
            retry_after_s,
            cause,
        } = *self.0;
        if let Some(cause) = cause {
            if status == StatusCode::INTERNAL_SERVER_ERROR {
                tracing::error!(transaction = code, %cause, "a request failed");
            } else {
                tracing::warn!(transaction = code, %cause, "a request could not be served now");
            }
        }
        let shape = Shape { error: &text, code };
        let printed = if pretty {
            serde_json::to_vec_pretty(&shape)
        } else {
            serde_json::to_vec(&shape)
        };
        *response.body_mut() = Body::from(printed.unwrap_or_default());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        // The router counted the body it saw, an empty one.
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, JSON);
        if let Some(seconds) = retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, CHALLENGE);
        }
    }
}

/// Rides in the response's extensions until the edge fills it in.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Store(error) => error.into(),
            Denied::Missing | Denied::Invalid => {
                Self::new(StatusCode::UNAUTHORIZED, denied.to_string())
            }
        }
    }
}

impl From<Exceeded> for Error {
    fn from(exceeded: Exceeded) -> Self {
        if exceeded == Exceeded::Unknown {
            return Self::unavailable(exceeded.retry_after_s(), exceeded);
        }
        Self::new(StatusCode::TOO_MANY_REQUESTS, exceeded.to_string())
            .after(exceeded.retry_after_s())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Conflict => Self::new(
                StatusCode::CONFLICT,
                "Concurrent modification to resource detected.",
            ),
            store::Error::Corrupt(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Resource is corrupted and cannot be read.",
            )
            .because(error),
            store::Error::Full | store::Error::Unavailable(_) => {
                Self::unavailable(STORE_RETRY_AFTER_S, error)
            }
        }
    }
}

impl From<invoke::Error> for Error {
    fn from(error: invoke::Error) -> Self {
        match error {
            invoke::Error::ReservedParameters => Self::bad_request(error.to_string()),
            invoke::Error::Cancelled => Self::new(StatusCode::CONFLICT, error.to_string()),
            invoke::Error::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, error.to_string()),
            invoke::Error::Refused(refusal) => refusal.into(),
            invoke::Error::Store(error) => error.into(),
            invoke::Error::Locked { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
            invoke::Error::Unavailable(cause) => Self::unavailable(1, cause),
        }
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        let text = error.to_string();
        match error {
            KeyError::OtherPayload => Self::new(StatusCode::UNPROCESSABLE_ENTITY, text),
            KeyError::Busy => Self::new(StatusCode::CONFLICT, text).after(1),
            KeyError::TooMany(_) => Self::new(StatusCode::TOO_MANY_REQUESTS, text).after(60),
            KeyError::Store(error) => error.into(),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let (status, seconds) = match refusal {
            Refusal::Backlog { retry_after_s } => (StatusCode::TOO_MANY_REQUESTS, retry_after_s),
            Refusal::Overload { retry_after_s } => (StatusCode::SERVICE_UNAVAILABLE, retry_after_s),
        };
        Self::new(status, refusal.to_string()).after(seconds)
    }
}

impl From<Unresolved> for Error {
    fn from(unresolved: Unresolved) -> Self {
        let status = match unresolved {
            Unresolved::Nothing | Unresolved::NoPackage(_) => StatusCode::NOT_FOUND,
            Unresolved::Forbidden(_) => StatusCode::FORBIDDEN,
            Unresolved::OtherKind => StatusCode::CONFLICT,
            Unresolved::Circular(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Unresolved::Store(error) => return error.into(),
        };
        Self::new(status, unresolved.to_string())
    }
}

impl From<UploadError> for Error {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Invalid(text) | UploadError::TooCostly(text) => Self::bad_request(text),
            UploadError::Unavailable(text) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, text.clone())
                    .after(STORE_RETRY_AFTER_S)
                    .because(text)
            }
        }
    }
}

impl From<BadName> for Error {
    fn from(error: BadName) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<BadActivationId> for Error {
    fn from(error: BadActivationId) -> Self {
        Self::bad_request(error.to_string())
    }
}
