//! The API described: an `OpenAPI` 3.1 document, and a page that shows it to people.
//!
//! `operation` (what can be said of one) ← the tables of them, a file per noun, with their `parameters`, `faults` and
//! `refusals` (errors), `schemas`, `action_schemas` and `records` → `print`. Nothing is written down that the code can
//! say itself: bounds, kinds, names and the words of errors are taken from it.
//!
//! Invariants, each a test: what the router serves is described, and nothing else; every reference leads somewhere; what
//! is answered fits its schema; an error's words stand in the code.
//!
//! The page is one file without anything from elsewhere; it may run no script and show no style but its own.

mod action_schemas;
mod actions;
mod apis;
mod cluster;
mod entities;
mod faults;
mod operation;
mod parameters;
mod platform;
mod print;
mod records;
mod refusals;
mod rest;
mod schemas;

use std::sync::{Arc, LazyLock, OnceLock};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::error::JSON;
use super::{Config, Front};
use crate::model::limits::EffectiveLimits;
use operation::Operation;
use parameters::REQUEST_ID;
use print::{KEY, Responses, SYSTEM_KEY};

/// Where the document is: for anyone, and as a part of the API.
pub(super) const DOCUMENT: [&str; 2] = ["/api-docs", "/api/v1/api-docs"];

/// Where the page is. The document is beside it.
pub(super) const PAGE: [&str; 2] = ["/docs", "/api/v1/docs"];

const ABOUT: &str = include_str!("about.md");

/// What the document tells of this server.
struct Facts<'a> {
    /// What namespaces may have unless the operator says otherwise.
    defaults: &'a EffectiveLimits,
    config: &'a Config,
}

/// The document, made when it is first asked for.
#[derive(Default)]
pub(super) struct Document(OnceLock<Bytes>);

/// `GET /api-docs`
pub(super) async fn document(State(front): State<Arc<Front>>) -> Response {
    let facts = Facts {
        defaults: &front.state.defaults,
        config: &front.config,
    };
    let made = front
        .document
        .0
        .get_or_init(|| made(&facts).to_string().into());
    let mut response = Response::new(Body::from(made.clone()));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// `GET /docs`
pub(super) async fn page() -> Response {
    let mut response = Response::new(Body::from(WHOLE_PAGE.html.as_str()));
    *response.headers_mut() = WHOLE_PAGE.headers.clone();
    response
}

/// Every operation there is.
fn operations() -> Vec<Operation> {
    let mut all = platform::operations();
    all.extend(actions::operations());
    all.extend(entities::operations());
    all.extend(rest::operations());
    all.extend(apis::operations());
    all.extend(cluster::operations());
    all
}

fn made(facts: &Facts<'_>) -> Value {
    let operations = operations();
    let mut responses = Responses::default();
    let mut paths: Map<String, Value> = Map::new();
    for one in &operations {
        let path = paths.entry(one.path).or_insert_with(of_every_path);
        path[one.method.to_ascii_lowercase()] = one.print(&mut responses);
    }
    let parameters = operations.iter().flat_map(|one| &one.parameters);
    let parameters = parameters.chain([&&REQUEST_ID]);
    let parameters = parameters.map(|one| (one.id.to_owned(), one.print()));
    let faults = operations.iter().flat_map(|one| &one.faults);
    let examples = faults.map(|fault| (fault.id.to_owned(), fault.example()));
    let schemas = schemas::schemas(facts)
        .into_iter()
        .chain(records::schemas())
        .chain(cluster::schemas());
    let schemas = schemas.map(|(name, schema)| (name.to_owned(), schema));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Wisp",
            "summary": "Functions in WebAssembly sandboxes, by the Apache OpenWhisk API",
            "description": ABOUT,
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache 2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags(&operations),
        "paths": paths,
        "components": {
            "securitySchemes": {
                KEY: { "type": "http", "scheme": "basic", "description":
                    "The key of a namespace: user and password of `uuid:secret`." },
                SYSTEM_KEY: { "type": "http", "scheme": "basic", "description":
                    "The key of the system's namespace." },
            },
            "schemas": schemas.collect::<Map<_, _>>(),
            "parameters": parameters.collect::<Map<_, _>>(),
            "headers": headers(),
            "examples": examples.collect::<Map<_, _>>(),
            "responses": responses.print(),
        },
    })
}

/// What a path has whatever is done with it.
fn of_every_path() -> Value {
    json!({ "parameters": [REQUEST_ID.reference()] })
}

/// Those of `operations`, in their order.
fn tags(operations: &[Operation]) -> Value {
    let mut tags: Vec<&str> = operations.iter().map(|one| one.tag).collect();
    tags.dedup();
    tags.into_iter().map(|tag| json!({ "name": tag })).collect()
}

fn headers() -> Value {
    let text = || json!({ "type": "string" });
    let header = |says: &str, schema: Value| json!({ "description": says, "schema": schema });
    let mut request = header("Which request this was.", text());
    request["required"] = true.into();
    json!({
        "X-Request-ID": request,
        "WWW-Authenticate": header("How to authenticate.", text()),
        "Allow": header("The methods the path has.", text()),
        "Retry-After": header(
            "Seconds after which it is worth another try.",
            json!({ "type": "integer", "minimum": 0 }),
        ),
        "X-OpenWhisk-Activation-Id": header("The activation.", operation::schema("ActivationId")),
        "Idempotency-Replayed": header(
            "There when the answer is that of an earlier call.",
            json!({ "const": "true" }),
        ),
        "X-Wisp-Revision": header(
            "The revision of the action that is shown.",
            json!({ "type": "integer", "minimum": 1 }),
        ),
    })
}

/// The page and its headers.
struct WholePage {
    html: String,
    headers: HeaderMap,
}

static WHOLE_PAGE: LazyLock<WholePage> = LazyLock::new(|| {
    let (style, script) = (include_str!("page.css"), include_str!("page.js"));
    let html = include_str!("page.html")
        .replace("/*style*/", style)
        .replace("/*script*/", script);
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(script),
        hash(style),
    );
    let policy =
        HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    let fixed = |text| HeaderValue::from_static(text);
    let headers: [(HeaderName, HeaderValue); 5] = [
        (CONTENT_TYPE, fixed("text/html; charset=UTF-8")),
        (CONTENT_SECURITY_POLICY, policy),
        (CACHE_CONTROL, fixed("no-cache")),
        (X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (REFERRER_POLICY, fixed("no-referrer")),
    ];
    WholePage {
        html,
        headers: headers.into_iter().collect(),
    }
});
