//! Who may read an answer from within a browser: everybody, unless the action says so itself.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS,
};
use axum::http::{HeaderMap, HeaderValue};

const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent",
);
/// What web paths take.
pub(super) const METHODS: HeaderValue =
    HeaderValue::from_static("OPTIONS, GET, DELETE, POST, PUT, HEAD, PATCH");

/// What a request asks to be allowed.
#[derive(Debug, Clone)]
pub(in crate::api) struct Asked(Option<HeaderValue>);

impl Asked {
    /// By these headers.
    pub(in crate::api) fn of(headers: &HeaderMap) -> Self {
        Self(headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned())
    }

    /// Allows it. Added to what the action says, as OpenWhisk does, not put in its place.
    pub(in crate::api) fn allow(self, headers: &mut HeaderMap) {
        headers.append(ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN);
        headers.append(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.append(ACCESS_CONTROL_ALLOW_HEADERS, self.0.unwrap_or(HEADERS));
    }
}
