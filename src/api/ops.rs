//! For whoever watches over the machine. Only ending it takes a key.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::json;

use super::error::Result;
use super::extract::authenticate_system;
use super::{Front, wire};

const TEXT: &str = "text/plain; charset=UTF-8";

/// `GET /ping`: this process lives.
pub(super) async fn ping() -> Response {
    plain(Body::from("pong"), TEXT)
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

/// `GET /invokers`: what OpenWhisk's operators ask of a machine for runs; here it is this node.
pub(super) async fn invokers(State(front): State<Arc<Front>>) -> Result<Response> {
    let status = match (front.state.ready)() {
        Ok(()) => "up",
        Err(_) => "unhealthy",
    };
    wire::ok(&json!({ "invoker0": status }))
}

/// `GET /invokers/healthy/count`
pub(super) async fn healthy_count(State(front): State<Arc<Front>>) -> Result<Response> {
    wire::ok(&u8::from((front.state.ready)().is_ok()))
}

/// `GET /invokers/ready`: 500 when there is none.
pub(super) async fn any_ready(State(front): State<Arc<Front>>) -> Result<Response> {
    match (front.state.ready)() {
        Ok(()) => wire::ok(&json!({ "healthy": "1/1" })),
        Err(_) => wire::json(
            StatusCode::INTERNAL_SERVER_ERROR,
            &json!({ "unhealthy": "1/1" }),
        ),
    }
}

/// `GET /activation/count`: activations accepted and not ended.
pub(super) async fn in_flight(State(front): State<Arc<Front>>) -> Result<Response> {
    wire::ok(&(front.state.in_flight)())
}

/// `POST /disable`, with the system's key: ends this server as SIGTERM does, what runs and what is asked first.
pub(super) async fn disable(
    State(front): State<Arc<Front>>,
    headers: HeaderMap,
) -> Result<Response> {
    match authenticate_system(&front, &headers).await {
        Ok(()) => {
            tracing::info!("this server was told to end");
            (front.state.disable)();
            Ok(plain(Body::from("controller is disabled"), TEXT))
        }
        Err(error) if error.status().is_server_error() => Err(error),
        Err(_) => {
            let mut refusal = plain(Body::from("username or password are wrong."), TEXT);
            *refusal.status_mut() = StatusCode::UNAUTHORIZED;
            Ok(refusal)
        }
    }
}

fn plain(body: Body, kind: &'static str) -> Response {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
