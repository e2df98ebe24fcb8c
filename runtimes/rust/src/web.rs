//! Web actions: what a request was, and answers with a status, headers and a body of any type.
//!
//! An action that is created with `--web yes` is served at `/api/v1/web/NAMESPACE/PACKAGE/ACTION.http`.
//!
//! ```
//! # mod action {
//! use wisp_action::web::{Request, Response};
//!
//! #[wisp_action::main]
//! fn main(request: Request) -> wisp_action::Result<Response> {
//!     let name = request.param("name").unwrap_or("stranger");
//!     Ok(Response::text(format!("Hello, {name}!")).header("cache-control", "max-age=60"))
//! }
//! # }
//! # fn main() {}
//! ```

use std::collections::BTreeMap;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use crate::{Error, Params, Result, Value};

/// A request. Everything is empty when the action is invoked and not asked over the web.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The method, in lower case: `get`, `post`, …
    #[serde(rename = "__ow_method")]
    pub method: String,
    /// The headers, by name in lower case.
    #[serde(rename = "__ow_headers")]
    pub headers: BTreeMap<String, String>,
    /// What follows the action's name in the path, with its slash.
    #[serde(rename = "__ow_path")]
    pub path: String,
    /// The namespace of the caller, when the request carried a key.
    #[serde(rename = "__ow_user")]
    pub user: Option<String>,
    /// The query as it came; of raw web actions only. Others find what was in it among the parameters.
    #[serde(rename = "__ow_query")]
    pub query: Option<String>,
    /// The body as it came; see [`Request::body`].
    #[serde(rename = "__ow_body")]
    pub raw_body: Option<Value>,
    /// The parameters: those bound to the action, the query's, and the fields of a body that is a form or a JSON object.
    #[serde(flatten)]
    pub params: Params,
}

impl Request {
    /// A parameter that is text.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.get(name)?.as_str()
    }

    /// A header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The media type of the body, without its parameters, in lower case.
    #[must_use]
    pub fn media_type(&self) -> String {
        let whole = self.header("content-type").unwrap_or_default();
        let media_type = whole.split(';').next().unwrap_or_default();
        media_type.trim().to_ascii_lowercase()
    }

    fn is_text(&self) -> bool {
        let content_type = self.header("content-type").unwrap_or_default();
        is_text(content_type, self.query.is_some())
    }

    /// The bytes of the body.
    ///
    /// Text is handed to actions as text, everything else as base64, and so is JSON to raw actions: this tells them apart by
    /// the content type. Fields of a form and of a JSON object are parameters of actions that are not raw, and no body.
    ///
    /// # Errors
    /// When the body is said to be binary and is no base64.
    pub fn body(&self) -> Result<Vec<u8>> {
        match &self.raw_body {
            None => Ok(Vec::new()),
            Some(Value::String(text)) if self.is_text() => {
                Ok(text.clone().into_bytes())
            }
            Some(Value::String(text)) => BASE64_STANDARD
                .decode(text)
                .map_err(|error| Error::new(format!("the body is no base64: {error}"))),
            // A JSON value that is no object.
            Some(other) => Ok(other.to_string().into_bytes()),
        }
    }
}

/// Whether a body of this type is handed over as text, as the server decides it.
fn is_text(content_type: &str, raw: bool) -> bool {
    const TEXT: [&str; 15] = [
        "base64",
        "ecmascript",
        "graphql",
        "javascript",
        "jsonl",
        "n-triples",
        "ndjson",
        "sql",
        "toml",
        "x-javascript",
        "x-ndjson",
        "x-yaml",
        "xml",
        "xml-dtd",
        "yaml",
    ];
    let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let essence = essence.trim().to_ascii_lowercase();
    let Some((main, sub)) = essence.split_once('/') else {
        return true;
    };
    match (main, sub) {
        ("application", "json") => !raw,
        ("application", "x-www-form-urlencoded") | ("text", _) => true,
        ("multipart", _) => false,
        (_, sub) => {
            sub.ends_with("+json")
                || sub.ends_with("+xml")
                || TEXT.contains(&sub)
                || parameters.to_ascii_lowercase().contains("charset=")
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    status_code: u16,
    headers: BTreeMap<String, Value>,
    body: Value,
}

impl Response {
    /// Nothing but a status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status_code: status,
            headers: BTreeMap::new(),
            body: Value::Null,
        }
    }

    fn with(content_type: &str, body: Value) -> Self {
        Self {
            body,
            ..Self::status(200)
        }
        .header("content-type", content_type)
    }

    /// Plain text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::with("text/plain; charset=utf-8", Value::String(text.into()))
    }

    /// A page.
    #[must_use]
    pub fn html(page: impl Into<String>) -> Self {
        Self::with("text/html; charset=utf-8", Value::String(page.into()))
    }

    /// Text of any type: `image/svg+xml`, `text/css`, …
    #[must_use]
    pub fn of(content_type: &str, text: impl Into<String>) -> Self {
        Self::with(content_type, Value::String(text.into()))
    }

    /// JSON.
    #[must_use]
    pub fn json(value: impl Into<Value>) -> Self {
        Self::with("application/json", value.into())
    }

    /// Bytes of any type that is not text: `image/png`, …
    #[must_use]
    pub fn bytes(content_type: &str, bytes: &[u8]) -> Self {
        Self::with(content_type, Value::String(BASE64_STANDARD.encode(bytes)))
    }

    /// A redirection to another address, with 302.
    #[must_use]
    pub fn redirect(address: &str) -> Self {
        Self::status(302).header("location", address)
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status_code = status;
        self
    }

    /// The same with a header more; one that is there already is sent twice.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let value = Value::from(value);
        match self.headers.get_mut(name) {
            None => drop(self.headers.insert(name.to_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{Request, Response};
    use crate::json;

    fn request(value: crate::Value) -> Request {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_request_has_its_parts_and_the_rest_are_parameters() {
        let request = request(json!({
            "__ow_method": "post", "__ow_path": "/a", "__ow_headers": {"content-type": "Text/Plain; charset=utf-8"},
            "__ow_body": "hi", "name": "Ada", "n": 1,
        }));
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("post", "/a")
        );
        assert_eq!(request.param("name"), Some("Ada"));
        assert_eq!((request.param("n"), request.params.len()), (None, 2));
        assert_eq!(request.body().unwrap(), b"hi");
    }

    #[test]
    fn bodies_are_bytes_whatever_they_were_handed_over_as() {
        let table = [
            ("image/png", false, json!("aGk="), Some("hi")),
            ("image/png", false, json!("not base64!"), None),
            ("application/json", true, json!("aGk="), Some("hi")),
            ("application/json", false, json!([1]), Some("[1]")),
            ("application/json", false, json!("aGk="), Some("aGk=")),
            ("text/plain", true, json!("aGk="), Some("aGk=")),
            ("image/svg+xml", false, json!("<svg/>"), Some("<svg/>")),
            ("application/x; charset=utf-8", true, json!("aGk="), Some("aGk=")),
        ];
        for (media_type, raw, body, bytes) in table {
            let mut value = json!({ "__ow_headers": {"content-type": media_type}, "__ow_body": body });
            if raw {
                value["__ow_query"] = json!("");
            }
            let found = request(value).body().ok();
            assert_eq!(found.as_deref(), bytes.map(str::as_bytes), "{media_type} {body}");
        }
        assert!(request(json!({})).body().unwrap().is_empty());
    }

    #[test]
    fn an_answer_is_what_the_server_reads() {
        let answer = Response::bytes("image/png", b"hi")
            .with_status(201)
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .header("set-cookie", "c=3");
        assert_eq!(
            json!(answer),
            json!({
                "statusCode": 201, "body": "aGk=",
                "headers": {"content-type": "image/png", "set-cookie": ["a=1", "b=2", "c=3"]},
            })
        );
        let moved = json!(Response::redirect("/there"));
        assert_eq!(moved["statusCode"], 302);
        assert_eq!(moved["headers"]["location"], "/there");
    }
}
