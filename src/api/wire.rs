//! Answers: JSON, once made, as a response.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;

use super::error::{Error, JSON, Result};
use crate::model::Json;

/// Headers of a response, the edge's included: room for all of them at once.
const HEADERS: usize = 8;

/// 200 with the JSON of `value`.
pub(super) fn ok<T: Serialize + ?Sized>(value: &T) -> Result<Response> {
    json(StatusCode::OK, value)
}

/// `status` with the JSON of `value`.
pub(super) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Result<Response> {
    let bytes = serde_json::to_vec(value).map_err(Error::internal)?;
    Ok(respond(status, bytes.into()))
}

/// `status` with JSON text that is shared with others, not copied.
pub(super) fn text(status: StatusCode, json: Json) -> Response {
    respond(status, shared(json))
}

/// JSON text as bytes, shared.
pub(super) fn shared(json: Json) -> Bytes {
    struct Text(Json);
    impl AsRef<[u8]> for Text {
        fn as_ref(&self) -> &[u8] {
            self.0.get().as_bytes()
        }
    }
    Bytes::from_owner(Text(json))
}

fn respond(status: StatusCode, json: Bytes) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(CONTENT_TYPE, JSON);
    *response.headers_mut() = headers;
    response
}
