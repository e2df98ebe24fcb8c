//! `Idempotency-Key`, on invoke and fire: the header, and the answer that says it is an old one.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;

use super::Front;
use super::error::{Error, Result};
use crate::auth::Identity;
use crate::invoke::idempotency::Claim;
use crate::model::Json;

/// Names a call, so that it is done once however often it is sent.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says that an answer is that of an earlier call.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key.
pub(super) const KEY_BYTES_MAX: usize = 255;

/// Uses the request's key for a call of `what`.
pub(super) async fn claim(
    front: &Front,
    headers: &HeaderMap,
    identity: &Identity,
    what: &str,
    payload: &Json,
) -> Result<Claim> {
    let key = key(headers)?;
    let (namespace, invoker) = (&identity.namespace, &front.state.invoker);
    let keys = &front.state.idempotency;
    let is_in_flight = |id| invoker.is_in_flight(namespace, id);
    let claim = keys.claim(namespace, (what, key), payload, is_in_flight);
    Ok(claim.await?)
}

fn key(headers: &HeaderMap) -> Result<&str> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let key = match (given.next(), given.next()) {
        (Some(key), None) => key.to_str().ok(),
        _ => None,
    };
    let is_legal = |key: &&str| {
        (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    key.filter(is_legal).ok_or_else(|| {
        Error::bad_request(format!(
            "The header 'Idempotency-Key' must be given once, with 1 to {KEY_BYTES_MAX} visible ASCII characters."
        ))
    })
}

/// The answer, marked as that of an earlier call.
pub(super) fn replayed(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    answer
}
