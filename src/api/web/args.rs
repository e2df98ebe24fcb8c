//! What an action is given of a request: the `__ow_*` fields, and, unless it wants the request raw, the parameters of
//! query and body beside them.
//!
//! Written out once, as the text that goes to the guest; nothing is built into a tree.

use std::borrow::Cow;
use std::collections::HashSet;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::percent_decode_str;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::media::{self, Media, Nature};
use crate::api::error::{Error, Result};
use crate::api::invocations::X_OW_EXTRA_LOGGING;
use crate::invoke;
use crate::model::Json;
use crate::model::json::Fields;

const METHOD: &str = "__ow_method";
const HEADERS: &str = "__ow_headers";
const PATH: &str = "__ow_path";
const USER: &str = "__ow_user";
const QUERY: &str = "__ow_query";
const BODY: &str = "__ow_body";

/// What no parameter may be called.
const RESERVED: [&str; 6] = [METHOD, HEADERS, PATH, USER, QUERY, BODY];

/// A request, as far as an action gets to see it.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    /// Whether the credentials of the request are the platform's own and somebody else's than the action's owner, whom
    /// they do not concern.
    pub(super) hides_credentials: bool,
    /// What follows the action in the path.
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// Who sent it, when that is known.
    pub(super) user: Option<&'a str>,
    pub(super) body: &'a [u8],
    /// Whether the action takes query and body as they are.
    pub(super) raw: bool,
}

pub(in crate::api) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// A body, as it is passed on.
enum Body {
    /// There is none.
    None,
    /// A JSON object: its fields are parameters.
    Object(Json),
    /// Any other JSON value.
    Value(Json),
    /// A form: its fields are parameters.
    Form(String),
    /// Text, or base64 of what is no text.
    Text(String),
}

impl Asked<'_> {
    /// The payload for the action.
    ///
    /// # Errors
    /// When the body is not what its type says, and when a parameter has a reserved name.
    pub(super) fn payload(&self) -> Result<Json> {
        let body = self.body()?;
        let query = if self.raw {
            Vec::new()
        } else {
            pairs(self.query)
        };
        let (fields, form) = match &body {
            Body::Object(json) => (Fields::of(json), Vec::new()),
            Body::Form(text) => (None, pairs(text)),
            Body::None | Body::Value(_) | Body::Text(_) => (None, Vec::new()),
        };
        // The body beats the query, and what comes later beats what came before.
        let mut named: HashSet<&str> = HashSet::new();
        let fields_named = fields.iter().flat_map(|fields| &fields.0);
        named.extend(fields_named.map(|(name, _)| &**name));
        let latest = form.iter().rev().chain(query.iter().rev());
        let parameters: Vec<_> = latest.filter(|(name, _)| named.insert(name)).collect();
        if RESERVED.iter().any(|name| named.contains(name)) {
            return Err(invoke::Error::ReservedParameters.into());
        }
        let payload = Json::from_serialize(&Payload {
            asked: self,
            parameters: &parameters,
            fields: fields.as_ref(),
            body: &body,
        });
        match body {
            // It stands one level deeper now.
            Body::Value(_) => {
                Json::parse_object(payload.get().as_bytes()).map_err(Error::malformed)
            }
            _ => Ok(payload),
        }
    }

    fn body(&self) -> Result<Body> {
        if self.body.is_empty() {
            return Ok(if self.raw {
                Body::Text(String::new())
            } else {
                Body::None
            });
        }
        let given = self.headers.get(CONTENT_TYPE);
        let given = given.and_then(|value| value.to_str().ok());
        let nature = Media::parse(given.unwrap_or(media::OCTETS)).map(|media| media.nature);
        let text = || String::from_utf8_lossy(self.body).into_owned();
        Ok(match (nature.unwrap_or(Nature::Binary), self.raw) {
            (Nature::Json | Nature::JsonLike, false) => {
                let json = Json::parse(self.body).map_err(Error::malformed)?;
                if json.is_object() {
                    Body::Object(json)
                } else {
                    Body::Value(json)
                }
            }
            (Nature::Form, false) => Body::Form(text()),
            (Nature::Text | Nature::Form | Nature::JsonLike, _) => Body::Text(text()),
            (Nature::Json | Nature::Drawing | Nature::Binary, _) => {
                Body::Text(media::encoded(self.body))
            }
        })
    }
}

/// The names and values of a query or a form.
pub(in crate::api) fn pairs(text: &str) -> Vec<Pair<'_>> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescaped(name), unescaped(value))
        })
        .collect()
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned());
    }
    percent_decode_str(text).decode_utf8_lossy()
}

/// The payload, as it is written.
struct Payload<'a> {
    asked: &'a Asked<'a>,
    /// Of query and form, those that hold.
    parameters: &'a [&'a Pair<'a>],
    fields: Option<&'a Fields<'a>>,
    body: &'a Body,
}

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let asked = self.asked;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(METHOD, &asked.method.as_str().to_ascii_lowercase())?;
        map.serialize_entry(HEADERS, &Headers(asked))?;
        map.serialize_entry(PATH, asked.path)?;
        if let Some(user) = asked.user {
            map.serialize_entry(USER, user)?;
        }
        if asked.raw {
            map.serialize_entry(QUERY, asked.query)?;
        }
        for (name, value) in self.parameters {
            map.serialize_entry(name, value)?;
        }
        for (name, value) in self.fields.iter().flat_map(|fields| &fields.0) {
            map.serialize_entry(name, value)?;
        }
        match self.body {
            Body::Value(json) => map.serialize_entry(BODY, json)?,
            Body::Text(text) => map.serialize_entry(BODY, text)?,
            Body::None | Body::Object(_) | Body::Form(_) => {}
        }
        map.end()
    }
}

/// The headers of a request: of those that repeat, the last.
struct Headers<'a>(&'a Asked<'a>);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Asked {
            headers,
            hides_credentials,
            ..
        } = self.0;
        let is_shown = |name: &&HeaderName| {
            **name != X_OW_EXTRA_LOGGING && !(*hides_credentials && **name == AUTHORIZATION)
        };
        let last = |name| {
            let value: &HeaderValue = headers.get_all(name).iter().next_back()?;
            Some((
                HeaderName::as_str(name),
                String::from_utf8_lossy(value.as_bytes()),
            ))
        };
        serializer.collect_map(headers.keys().filter(is_shown).filter_map(last))
    }
}
