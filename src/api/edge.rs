//! Around every request, whatever it asks for: its transaction id, what is refused before any route is looked for,
//! CORS, the body of errors, and the one place where it is observed.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use tokio::time::Instant;
use tower::Service as _;

use super::error::Error;
use super::{Config, Front, State, apis, docs, events, invocations, router, web};
use crate::telemetry::metrics;

/// Says which request this was; `code` in errors.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken from a client.
const REQUEST_ID_BYTES_MAX: usize = 256;

const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");
const CORS_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent",
);
const REST_METHODS: HeaderValue = HeaderValue::from_static("GET, DELETE, POST, PUT, HEAD");
const SERVER_METHODS: HeaderValue = HeaderValue::from_static("OPTIONS, GET, POST");

/// Answers requests.
#[derive(Clone)]
pub(crate) struct Edge {
    front: Arc<Front>,
    router: Router,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Edge")
    }
}

impl Edge {
    /// An edge before `state`.
    pub(crate) fn new(state: State, config: Config) -> Self {
        let front = Front::new(state, config);
        let router = router(Arc::clone(&front));
        Self { front, router }
    }

    pub(super) fn config(&self) -> &Config {
        &self.front.config
    }

    /// Answers one request.
    pub(crate) async fn respond(&self, mut request: Request) -> Response {
        let started = Instant::now();
        let method = request.method().clone();
        let face = Face::of(request.uri().path());
        let noun = noun(face, request.uri().path());
        let transaction = transaction(request.headers_mut(), face);
        let mut response = if method == Method::OPTIONS && !face.is_of_tenants() {
            Response::new(Body::empty())
        } else if let Some(error) = self.refuse(&request, face) {
            let mut response = Response::new(Body::empty());
            error.fill(&mut response, &transaction);
            response
        } else if face == Face::Web {
            match apis::Operation::of(request.uri().path()) {
                Some(asked) => apis::manage(&self.front, asked, request, &transaction).await,
                None => web::answer(&self.front, request, &transaction).await,
            }
        } else if face == Face::Gateway {
            Box::pin(apis::answer(&self.front, request, &transaction)).await
        } else if method == Method::POST && invocations::is_address(request.uri().path()) {
            // What a route would lead to: looking for one costs a twentieth of a warm call.
            let front = axum::extract::State(Arc::clone(&self.front));
            match invocations::invoke(front, request).await {
                Ok(response) => response,
                Err(error) => {
                    let mut response = Response::new(Body::empty());
                    error.fill(&mut response, &transaction);
                    response
                }
            }
        } else {
            let mut router = self.router.clone();
            let mut response = match router.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if let Some(error) = response.extensions_mut().remove::<Error>() {
                error.fill(&mut response, &transaction);
            }
            response
        };
        let headers = response.headers_mut();
        match face {
            Face::Rest => allow_rest(headers),
            Face::Server => allow(headers, SERVER_METHODS),
            Face::Web | Face::Gateway => {}
        }
        headers.insert(X_REQUEST_ID, transaction);
        observe(&Seen {
            method,
            noun,
            status: response.status(),
            took: started.elapsed(),
        });
        response
    }

    /// What no route would take.
    fn refuse(&self, request: &Request, face: Face) -> Option<Error> {
        let uri = request.uri();
        let length = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
        let max = self.front.config.uri_bytes_max;
        if length > max {
            let text = format!("URI longer than allowed: {length} > {max} bytes.");
            return Some(Error::new(StatusCode::URI_TOO_LONG, text));
        }
        let is_json = !asks_for_events(request) && !docs::PAGE.contains(&uri.path());
        if face == Face::Rest && is_json && !accepts_json(request.headers()) {
            let text =
                "Resource representation is only available with these types:\napplication/json";
            return Some(Error::new(StatusCode::NOT_ACCEPTABLE, text));
        }
        None
    }
}

/// Whether it is for the one answer of the API that is not JSON, and accepts that.
fn asks_for_events(request: &Request) -> bool {
    let path = request.uri().path().trim_end_matches('/');
    path.ends_with("/activations") && events::are_accepted(request.headers())
}

/// One request, when it has been answered.
struct Seen {
    method: Method,
    noun: &'static str,
    status: StatusCode,
    took: Duration,
}

/// The one place that sees every request with what came of it.
fn observe(seen: &Seen) {
    let Seen {
        method,
        noun,
        status,
        took,
    } = seen;
    tracing::debug!(%method, noun, status = status.as_u16(), ?took, "answered");
    metrics::request(noun, verb(method), status.as_u16(), *took);
}

/// The method as a label: those that routes know, and one word for all others.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// What the path is about: few words, whatever clients send, so that they may label metrics.
fn noun(face: Face, path: &str) -> &'static str {
    match face {
        Face::Web => return "web",
        Face::Gateway => return "apis",
        Face::Rest | Face::Server => {}
    }
    let mut segments = path.split('/').skip(1);
    match segments.next() {
        Some("api") => match segments.nth(3) {
            Some("actions") => "actions",
            Some("activations") => "activations",
            Some("limits") => "limits",
            Some("packages") => "packages",
            Some("rules") => "rules",
            Some("triggers") => "triggers",
            Some(_) => "other",
            None => "info",
        },
        Some("admin") => "admin",
        Some("") => "info",
        Some("ping") => "ping",
        Some("health") => "health",
        Some("metrics") => "metrics",
        _ => "other",
    }
}

/// Whose path it is. What tenants show to the world goes past the router: its paths are read by hand, its methods are
/// the actions' to choose from, and so are the headers of CORS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Face {
    /// The API.
    Rest,
    /// Web actions.
    Web,
    /// The APIs of tenants.
    Gateway,
    /// Everything else.
    Server,
}

impl Face {
    fn of(path: &str) -> Self {
        if path.starts_with(web::PREFIX) {
            return Self::Web;
        }
        let rest = path.strip_prefix("/api/v1");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            Self::Rest
        } else if apis::tenant(path).is_some() {
            Self::Gateway
        } else {
            Self::Server
        }
    }

    fn is_of_tenants(self) -> bool {
        matches!(self, Self::Web | Self::Gateway)
    }
}

/// Says that the API may be used from within any web page.
pub(super) fn allow_rest(headers: &mut HeaderMap) {
    allow(headers, REST_METHODS);
}

fn allow(headers: &mut HeaderMap, methods: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, CORS_HEADERS);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
}

/// The client's id, if it may choose one, else a fresh one; either is in `headers` afterwards, for handlers. Except where
/// actions get to see the headers: theirs are the client's alone.
fn transaction(headers: &mut HeaderMap, face: Face) -> HeaderValue {
    if let Some(given) = headers.get(X_REQUEST_ID) {
        let bytes = given.as_bytes();
        let is_text = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
        if (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len())
            && is_text
            && !bytes.starts_with(b"sid_")
        {
            return given.clone();
        }
    }
    let fresh = HeaderValue::from_maybe_shared(bytes::Bytes::copy_from_slice(&fresh_id()))
        .unwrap_or(HeaderValue::from_static("none"));
    if !face.is_of_tenants() {
        headers.insert(X_REQUEST_ID, fresh.clone());
    }
    fresh
}

/// 32 characters that no other request has: not secret, hence a generator of a few nanoseconds (`SplitMix64`), seeded from
/// the system once per thread.
fn fresh_id() -> [u8; 32] {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    thread_local! {
        static STATE: Cell<u64> = Cell::new(uuid::Uuid::new_v4().as_u64_pair().0);
    }
    let mut id = [0; 32];
    STATE.with(|state| {
        let mut seed = state.get();
        for chunk in id.chunks_exact_mut(8) {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            for (slot, byte) in chunk.iter_mut().zip((z ^ (z >> 31)).to_le_bytes()) {
                *slot = ALPHABET[(usize::from(byte) * ALPHABET.len()) >> 8];
            }
        }
        state.set(seed);
    });
    id
}

/// Whether JSON is among what the client takes; no `Accept` takes everything.
fn accepts_json(headers: &HeaderMap) -> bool {
    let mut given = headers.get_all(ACCEPT).iter().peekable();
    if given.peek().is_none() {
        return true;
    }
    given.any(|value| {
        let ranges = value.to_str().unwrap_or_default().split(',');
        ranges.map(str::trim).any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let is_json = ["*/*", "application/*", "application/json"]
                .iter()
                .any(|json| kind.eq_ignore_ascii_case(json));
            let refused = parts.any(|part| {
                let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
                weight.and_then(|q| q.parse::<f32>().ok()) == Some(0.0)
            });
            is_json && !refused
        })
    })
}
