//! For whoever watches over the machine; no key needed.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use serde_json::json;

use super::error::Result;
use super::{Front, wire};

/// `GET /ping`: this process lives.
pub(super) async fn ping() -> Response {
    plain(Body::from("pong"), "text/plain; charset=UTF-8")
}

/// `GET /health`: this node can serve, or why not.
pub(super) async fn health(State(front): State<Arc<Front>>) -> Result<Response> {
    match (front.state.ready)() {
        Ok(()) => wire::ok(&json!({ "ready": true })),
        Err(reason) => wire::json(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "ready": false, "reason": reason }),
        ),
    }
}

/// `GET /metrics`: what Prometheus reads.
pub(super) async fn metrics(State(front): State<Arc<Front>>) -> Response {
    let text = (front.state.metrics)();
    plain(Body::from(text), "text/plain; version=0.0.4; charset=utf-8")
}

fn plain(body: Body, kind: &'static str) -> Response {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
