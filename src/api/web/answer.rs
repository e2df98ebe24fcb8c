//! From what an action answers to what a client gets.
//!
//! An action's answer is not believed: header names and values are checked one by one, so that none of them can end the
//! head early; what belongs to the connection is left out; status, sizes and encodings are checked. What does not pass
//! is the action's fault and 400.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::address::Extension;
use super::media::{self, Media, Nature};
use super::print;
use crate::api::error::{Error, JSON, Result};
use crate::api::wire;
use crate::model::json::Fields;
use crate::model::{Activation, Json, Status};

/// Most headers an action may answer with; browsers and proxies take about as many.
const HEADERS_MAX: usize = 256;

/// Most bytes of names and values of these headers: proxies take 64 KiB at best.
const HEADERS_BYTES_MAX: usize = 64 * 1024;

/// Room for the headers of most answers, ours included.
const HEADERS_USUAL: usize = 12;

/// Bodies from here on are shared with the action's result, smaller ones copied out of it.
const SHARED_BYTES_MIN: usize = 4096;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=UTF-8");
const SVG: HeaderValue = HeaderValue::from_static("image/svg+xml");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");

/// An answer, whole: what can be kept and given again.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Made {
    fn ok(kind: HeaderValue, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::with_capacity(HEADERS_USUAL);
        headers.insert(CONTENT_TYPE, kind);
        Self {
            status: StatusCode::OK,
            headers,
            body: body.into(),
        }
    }

    /// As it is sent.
    pub(super) fn respond(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// What `activation`'s end is for a client that asked for `extension`.
pub(super) fn made(activation: &Activation, extension: Extension) -> Result<Made> {
    let response = &activation.response;
    let unwrapped;
    let result = match response.status {
        Status::Success => &response.result,
        Status::ApplicationError => {
            let error = response.result.field("error");
            unwrapped = error.ok_or_else(no_property)?;
            &unwrapped
        }
        Status::DeveloperError | Status::InternalError => {
            let text = "There was an error processing your request.";
            return Err(Error::bad_request(text));
        }
    };
    match extension {
        Extension::Http => http(result),
        Extension::Json => json(result),
        Extension::Html => string(result, "html", HTML).ok_or_else(|| invalid("text/html")),
        Extension::Svg => string(result, "svg", SVG).ok_or_else(|| invalid("image/svg+xml")),
        Extension::Text => text(result),
    }
}

fn invalid(kind: &str) -> Error {
    Error::bad_request(format!("Response is not valid '{kind}'."))
}

fn no_property() -> Error {
    let text = "Response does not include requested property.";
    Error::new(StatusCode::NOT_FOUND, text)
}

fn mismatched() -> Error {
    Error::bad_request("Response type in header did not match generated content type.")
}

/// The whole result, when it is an object or an array.
fn json(result: &Json) -> Result<Made> {
    if !result.is_object() && !result.is_array() {
        return Err(invalid("application/json"));
    }
    Ok(Made::ok(JSON, within(result, result.get())))
}

/// The compact form of `text`, which is JSON and part of `whole`.
fn within(whole: &Json, text: &str) -> Bytes {
    match print::compact(text) {
        Some(compact) => compact.into(),
        None => part(whole, text),
    }
}

/// `text`, which is part of `whole`, copied when that is cheaper than to share it.
fn part(whole: &Json, text: &str) -> Bytes {
    if text.len() < SHARED_BYTES_MIN {
        return Bytes::copy_from_slice(text.as_bytes());
    }
    let start = text
        .as_ptr()
        .addr()
        .checked_sub(whole.get().as_ptr().addr());
    let shared = wire::shared(whole.clone());
    match start.and_then(|start| Some((start, start.checked_add(text.len())?))) {
        Some((start, end)) if end <= shared.len() => shared.slice(start..end),
        _ => Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// `body`, or else the property `other`; or what is no object, itself. It must be a string.
fn string(result: &Json, other: &str, kind: HeaderValue) -> Option<Made> {
    let text = match Fields::of(result) {
        Some(fields) => unquoted(fields.last("body").or_else(|| fields.last(other))?.get()),
        None => unquoted(result.get()),
    };
    Some(Made::ok(kind, text?.into_owned()))
}

fn text(result: &Json) -> Result<Made> {
    let fields = Fields::of(result);
    let value = match &fields {
        Some(fields) => {
            let value = fields.last("body").or_else(|| fields.last("text"));
            value.ok_or_else(no_property)?.get()
        }
        None => result.get(),
    };
    let printed = match unquoted(value) {
        Some(text) => text.into_owned(),
        None => print::pretty(value),
    };
    Ok(Made::ok(TEXT, printed))
}

/// The text of a JSON string.
fn unquoted(json: &str) -> Option<Cow<'_, str>> {
    if !json.starts_with('"') {
        return None;
    }
    // Most strings escape nothing: these are taken as they stand.
    if let Ok(text) = serde_json::from_str::<&str>(json) {
        return Some(Cow::Borrowed(text));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}

/// `{"statusCode", "headers", "body"}`.
fn http(result: &Json) -> Result<Made> {
    let wrong = || invalid("message/http");
    let fields = Fields::of(result).ok_or_else(wrong)?;
    let status = fields.last("statusCode");
    let status = status.map(|raw| status_code(raw.get()).ok_or_else(wrong));
    let status = status.transpose()?;
    let headers = match fields.last("headers") {
        Some(raw) => headers(raw).ok_or_else(wrong)?,
        None => HeaderMap::with_capacity(HEADERS_USUAL),
    };
    let body = fields.last("body").map_or("null", RawValue::get);
    if matches!(body, "null" | "\"\"") {
        return Ok(empty(status.unwrap_or(StatusCode::NO_CONTENT), headers));
    }
    let status = status.unwrap_or(StatusCode::OK);
    if forbids_body(status) {
        return Ok(empty(status, headers));
    }
    let made = Made {
        status,
        headers,
        body: Bytes::new(),
    };
    match unquoted(body) {
        Some(text) => with_string(made, result, text),
        None => with_json(made, within(result, body), body),
    }
}

fn empty(status: StatusCode, mut headers: HeaderMap) -> Made {
    headers.remove(CONTENT_TYPE);
    Made {
        status,
        headers,
        body: Bytes::new(),
    }
}

/// Whether HTTP has no room for a body behind this status.
fn forbids_body(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    )
}

/// What the header says of the body, if there is such a header.
fn declared(headers: &HeaderMap) -> Result<Option<Media>> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(None);
    };
    let media = value.to_str().ok().and_then(Media::parse);
    let unknown = || Error::bad_request("Response did not specify a known content-type.");
    media.map(Some).ok_or_else(unknown)
}

fn with_string(mut made: Made, result: &Json, text: Cow<'_, str>) -> Result<Made> {
    let bytes = || match &text {
        Cow::Borrowed(text) => part(result, text),
        Cow::Owned(text) => Bytes::copy_from_slice(text.as_bytes()),
    };
    let Some(media) = declared(&made.headers)? else {
        made.headers.insert(CONTENT_TYPE, HTML);
        made.body = bytes();
        return Ok(made);
    };
    made.body = match media.nature {
        // Kept from the time when all JSON came encoded.
        Nature::Json | Nature::JsonLike if media::looks_encoded(&text) => {
            media::decoded(&text).ok_or_else(mismatched)?.into()
        }
        Nature::Drawing => media::decoded(&text).map_or_else(bytes, Bytes::from),
        Nature::Binary => media::decoded(&text).ok_or_else(mismatched)?.into(),
        Nature::Json | Nature::JsonLike | Nature::Form | Nature::Text => bytes(),
    };
    if matches!(media.nature, Nature::Text | Nature::Form) && !media.has_charset {
        let with_charset = made.headers.get(CONTENT_TYPE).and_then(|value| {
            let value = value.to_str().ok()?;
            HeaderValue::try_from(format!("{value}; charset=UTF-8")).ok()
        });
        if let Some(value) = with_charset {
            made.headers.insert(CONTENT_TYPE, value);
        }
    }
    Ok(made)
}

fn with_json(mut made: Made, compact: Bytes, body: &str) -> Result<Made> {
    match declared(&made.headers)?.map(|media| media.nature) {
        None => {
            made.headers.insert(CONTENT_TYPE, JSON);
            made.body = compact;
        }
        Some(Nature::Json) => made.body = compact,
        Some(Nature::JsonLike) => made.body = print::pretty(body).into(),
        Some(_) => return Err(mismatched()),
    }
    Ok(made)
}

/// An integer, or a string that is one. What HTTP calls informational announces an answer and is none.
fn status_code(json: &str) -> Option<StatusCode> {
    let code: u16 = match unquoted(json) {
        Some(text) => text.parse().ok()?,
        None => {
            let number: f64 = json.parse().ok()?;
            if number.fract() != 0.0 || !(0.0..1000.0).contains(&number) {
                return None;
            }
            json.parse().or_else(|_| format!("{number}").parse()).ok()?
        }
    };
    let is_final = (200..600).contains(&code);
    is_final.then(|| StatusCode::from_u16(code).ok()).flatten()
}

/// The headers that `raw` names, without those that belong to the connection; `None` when one of them is impossible.
fn headers(raw: &RawValue) -> Option<HeaderMap> {
    let fields: Fields<'_> = serde_json::from_str(raw.get()).ok()?;
    let mut headers = HeaderMap::with_capacity(HEADERS_USUAL);
    let mut bytes = 0;
    for (name, value) in &fields.0 {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let kept = !of_connection(&name);
        each(value.get(), &mut |value| {
            let value = HeaderValue::from_bytes(value.trim().as_bytes()).ok()?;
            bytes += name.as_str().len() + value.len();
            if bytes > HEADERS_BYTES_MAX || headers.len() >= HEADERS_MAX {
                return None;
            }
            if name == CONTENT_TYPE && headers.contains_key(CONTENT_TYPE) {
                return Some(());
            }
            if kept {
                headers.append(name.clone(), value);
            }
            Some(())
        })?;
    }
    Some(headers)
}

/// Hands over the text of `json`, or of every value it lists; `None` when it is, or lists, anything but text, numbers and
/// booleans.
fn each(json: &str, take: &mut impl FnMut(&str) -> Option<()>) -> Option<()> {
    #[derive(Deserialize)]
    struct Values<'a>(#[serde(borrow)] Vec<&'a RawValue>);
    if json.starts_with('[') {
        let values: Values<'_> = serde_json::from_str(json).ok()?;
        let mut values = values.0.iter();
        return values.try_for_each(|value| take(&printed(value.get())?));
    }
    take(&printed(json)?)
}

/// What is neither null, list nor object, as text.
fn printed(json: &str) -> Option<Cow<'_, str>> {
    match json.as_bytes().first()? {
        b'"' => unquoted(json),
        b'[' | b'{' | b'n' => None,
        _ => Some(Cow::Borrowed(json)),
    }
}

/// Whether a header says something of the connection or of how the body is sent, which are not the action's.
pub(in crate::api) fn of_connection(name: &HeaderName) -> bool {
    const OURS: [HeaderName; 7] = [
        CONNECTION,
        CONTENT_LENGTH,
        PROXY_AUTHENTICATE,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    const OTHERS: [&str; 2] = ["keep-alive", "proxy-connection"];
    OURS.contains(name) || OTHERS.contains(&name.as_str())
}
