//! What a plain invocation makes of an HTTP answer.
//!
//! A body that is a JSON object or array is the result. Anything else becomes what web actions of OpenWhisk answer,
//! `{"statusCode", "headers", "body"}`, with a body that is no text in base64. A status from 400 on is an application
//! error with that as its `error`, unless the body says `error` itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::Outcome;
use super::outbox::Read;
use crate::model::Json;

/// The outcome of an answer that was read to its end.
pub(super) fn result(
    status: StatusCode,
    headers: &HeaderMap,
    read: Read,
    result_bytes_max: usize,
) -> Outcome {
    let Read { bytes, size, .. } = read;
    let bytes = bytes.freeze();
    if size > result_bytes_max {
        return Outcome::TooLarge {
            size,
            prefix: bytes.slice(..result_bytes_max.min(bytes.len())),
        };
    }
    let is_error = status.is_client_error() || status.is_server_error();
    let parsed = Json::parse(&bytes).ok();
    let is_result = |json: &Json| json.is_object() || json.is_array();
    let answer = match parsed.filter(is_result) {
        Some(_) => bytes,
        None => described(status, headers, &bytes),
    };
    if answer.len() > result_bytes_max {
        return Outcome::TooLarge {
            size: answer.len(),
            prefix: answer.slice(..result_bytes_max),
        };
    }
    if is_error {
        Outcome::Failed {
            answer,
            exit: false,
        }
    } else {
        Outcome::Answered(answer)
    }
}

fn described(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Bytes {
    let mut named = Map::new();
    for (name, value) in headers {
        let text = Value::from(String::from_utf8_lossy(value.as_bytes()));
        match named.get_mut(name.as_str()) {
            None => drop(named.insert(name.as_str().to_owned(), text)),
            Some(Value::Array(all)) => all.push(text),
            Some(one) => *one = json!([one.take(), text]),
        }
    }
    let body = match str::from_utf8(body) {
        Ok(text) => text.to_owned(),
        Err(_) => STANDARD.encode(body),
    };
    let mut answer = Map::new();
    answer.insert("statusCode".to_owned(), status.as_u16().into());
    if !named.is_empty() {
        answer.insert("headers".to_owned(), named.into());
    }
    if !body.is_empty() {
        answer.insert("body".to_owned(), body.into());
    }
    Value::Object(answer).to_string().into()
}
