//! The wire, without guests: requests in, answers out, through the whole edge, before a store in memory and an invoker
//! that does what it is told.

mod actions;
mod activations;
mod admin;
mod apis;
mod apis_served;
mod deadletters;
mod docs;
mod docs_samples;
mod edge;
mod fire;
mod idempotency;
mod invocations;
mod packages;
mod revisions;
mod rules;
mod schema;
mod sequences;
mod serve;
mod triggers;
mod web;
mod web_answers;
mod web_cache;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Build, Config, Edge, State};
use crate::auth::setup::{WELL_KNOWN_GUEST, WELL_KNOWN_SYSTEM};
use crate::auth::{Admission, Config as AuthConfig, Keys, Throttle, ensure_defaults};
use crate::invoke::idempotency::Idempotency;
use crate::invoke::resolve::Resolver;
use crate::invoke::{self, Answer, Call, Caller, Fire, Invoke, Upload, UploadError};
use crate::model::dead_letter::DeadLetter;
use crate::model::exchange::Exchange;
use crate::model::limits::EffectiveLimits;
use crate::model::{
    Action, Activation, ActivationId, Annotations, Digest, EntityName, Json, Namespace, Response,
    Status, Timestamp, Version,
};
use crate::store::Activations;
use crate::store::catalog::Catalog;
use crate::store::fake::Fake;
use crate::store::reseal::Resealer;
use crate::store::seal::Seal;
use crate::store::watched::{Hub, Watched};

/// Answers what the test says, and remembers what it was asked.
#[derive(Default)]
struct Scripted {
    answer: Mutex<Option<Result<Answer, invoke::Error>>>,
    asked: Mutex<Vec<(Caller, Call)>>,
    /// How long an answer takes.
    takes: Mutex<Duration>,
    in_flight: Mutex<Vec<ActivationId>>,
    fired: Mutex<Vec<(Caller, Fire)>>,
    replayed: Mutex<Vec<DeadLetter>>,
    exchanged: Mutex<Vec<Exchange>>,
}

#[async_trait]
impl Invoke for Scripted {
    async fn invoke(&self, caller: Caller, call: Call) -> Result<Answer, invoke::Error> {
        self.asked.lock().push((caller, call));
        let (answer, takes) = (self.answer.lock().take(), *self.takes.lock());
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        answer.unwrap_or(Ok(Answer::Accepted(ActivationId(0xabc))))
    }

    async fn cancel(&self, _: &Namespace, id: ActivationId) -> Result<bool, invoke::Error> {
        Ok(self.in_flight.lock().contains(&id))
    }

    async fn exchange(
        &self,
        caller: Caller,
        call: Call,
        exchange: Exchange,
    ) -> Result<Answer, invoke::Error> {
        self.exchanged.lock().push(exchange);
        self.invoke(caller, call).await
    }

    fn blocked(&self, _: &Namespace) {}

    fn is_in_flight(&self, _: &Namespace, id: ActivationId) -> bool {
        self.in_flight.lock().contains(&id)
    }

    async fn fire(
        &self,
        caller: Caller,
        fire: Fire,
    ) -> Result<Option<ActivationId>, invoke::Error> {
        let refusal = self.answer.lock().take().and_then(Result::err);
        let is_heard = fire.trigger.rules.values().any(|link| link.active);
        self.fired.lock().push((caller, fire));
        match refusal {
            Some(refusal) => Err(refusal),
            None => Ok(is_heard.then_some(ActivationId(0xf))),
        }
    }

    async fn replay(
        &self,
        _caller: Caller,
        letter: DeadLetter,
        _action: Arc<Action>,
        _transaction: Arc<str>,
        _admission: Admission,
    ) -> Result<ActivationId, invoke::Error> {
        self.replayed.lock().push(letter);
        Ok(ActivationId(0xabc))
    }
}

/// Takes every code but `bad` and `slow`.
struct Compiler;

#[async_trait]
impl Upload for Compiler {
    async fn prepare(
        &self,
        _namespace: &Namespace,
        _kind: &str,
        _main: Option<&str>,
        code: Arc<str>,
    ) -> Result<Digest, UploadError> {
        match &*code {
            "bad" => Err(UploadError::Invalid("it is no module".to_owned())),
            "slow" => Err(UploadError::TooCostly("it takes too long".to_owned())),
            "later" => Err(UploadError::Unavailable("compilers are busy".to_owned())),
            _ => Ok(Digest::of(code.as_bytes())),
        }
    }
}

/// A whole front in memory.
struct Site {
    edge: Edge,
    /// As the server puts them: whoever watches is told.
    activations: Arc<dyn Activations>,
    store: Arc<Fake>,
    catalog: Arc<Catalog>,
    invoker: Arc<Scripted>,
    throttle: Arc<Throttle>,
    ready: Arc<Mutex<Result<(), String>>>,
}

/// What came back.
#[derive(Debug)]
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    fn error(&self) -> String {
        let json = self.json();
        let code = json["code"].as_str().expect("every error has a code");
        assert_eq!(Some(code), self.header("x-request-id"));
        assert_eq!(self.header("content-type"), Some("application/json"));
        json["error"]
            .as_str()
            .expect("every error has a text")
            .to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[track_caller]
    fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    #[track_caller]
    fn refuses(&self, status: u16, error: &str) {
        self.is(status);
        assert_eq!(self.error(), error);
    }
}

impl Site {
    async fn new() -> Self {
        Self::with(EffectiveLimits::default(), Config::default()).await
    }

    async fn with(defaults: EffectiveLimits, config: Config) -> Self {
        let (state, parts) = Self::state(defaults).await;
        let (store, invoker, ready) = parts;
        let activations = Arc::clone(&state.store.activations);
        let (throttle, catalog) = (Arc::clone(&state.throttle), Arc::clone(&state.catalog));
        let edge = Edge::new(state, config);
        Self {
            edge,
            activations,
            store,
            catalog,
            invoker,
            throttle,
            ready,
        }
    }

    async fn state(
        defaults: EffectiveLimits,
    ) -> (
        State,
        (Arc<Fake>, Arc<Scripted>, Arc<Mutex<Result<(), String>>>),
    ) {
        let (store, fake) = Fake::store();
        ensure_defaults(&*store.tenants, &AuthConfig::default(), &Seal::default())
            .await
            .expect("keys");
        let keys = Keys::new(Arc::clone(&store.tenants), defaults.clone()).expect("randomness");
        let invoker = Arc::new(Scripted::default());
        let ready = Arc::new(Mutex::new(Ok(())));
        let is_ready = Arc::clone(&ready);
        let is_disabled = Arc::clone(&ready);
        let catalog = Arc::new(Catalog::new(Arc::clone(&store.entities), 1000));
        let hub = Arc::new(Hub::default());
        let mut store = store;
        store.activations = Arc::new(Watched::new(store.activations, Arc::clone(&hub)));
        let resealer = Resealer::new(store.clone(), Arc::default(), Arc::clone(&catalog));
        let state = State {
            resealer: Arc::new(resealer),
            resolver: Arc::new(Resolver::new(Arc::clone(&catalog))),
            catalog,
            idempotency: Idempotency::new(store.clone(), &invoke::Config::default()),
            store,
            keys: Arc::new(keys),
            throttle: Arc::new(Throttle::default()),
            hub,
            gates: Arc::default(),
            invoker: Arc::clone(&invoker) as Arc<dyn Invoke>,
            uploads: Arc::new(Compiler),
            ready: Arc::new(move || is_ready.lock().clone()),
            metrics: Arc::new(|| "up 1\n".to_owned()),
            in_flight: Arc::new(|| 3),
            disable: Arc::new(move || *is_disabled.lock() = Err("disabled".to_owned())),
            cluster: None,
            defaults,
            build: Build {
                date: "today".to_owned(),
                number: "7".to_owned(),
            },
        };
        (state, (fake, invoker, ready))
    }

    async fn send(&self, request: Request<Body>) -> Got {
        let is_head = request.method() == Method::HEAD;
        let (parts, body) = self.edge.respond(request).await.into_parts();
        let bytes = body
            .collect()
            .await
            .expect("bodies here do not break")
            .to_bytes();
        if let Some(length) = parts.headers.get("content-length")
            && !is_head
        {
            assert_eq!(length.to_str().expect("a number"), bytes.len().to_string());
        }
        let text = String::from_utf8(bytes.to_vec()).expect("bodies here are text");
        Got {
            status: parts.status,
            headers: parts.headers,
            text,
        }
    }

    /// As the holder of `key`.
    async fn call(&self, key: &str, method: &str, path: &str, body: impl Into<Body>) -> Got {
        let method: Method = method.parse().expect("a method");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", basic(key))
            .header("content-type", "application/json")
            .body(body.into())
            .expect("a request");
        self.send(request).await
    }

    /// As `guest`.
    async fn guest(&self, method: &str, path: &str, body: impl Into<Body>) -> Got {
        self.call(WELL_KNOWN_GUEST, method, &api(path), body).await
    }

    async fn get(&self, path: &str) -> Got {
        self.guest("GET", path, "").await
    }

    async fn put(&self, path: &str, body: Value) -> Got {
        self.guest("PUT", path, body.to_string()).await
    }

    /// As `whisk.system`.
    async fn system(&self, method: &str, path: &str, body: impl Into<Body>) -> Got {
        self.call(WELL_KNOWN_SYSTEM, method, path, body).await
    }

    /// An action `name` in `guest`.
    async fn with_action(self, name: &str) -> Self {
        let exec = json!({"exec": {"kind": "wasm:1", "code": "(module)"}});
        self.put(&format!("_/actions/{name}"), exec).await.is(200);
        self
    }

    fn will(&self, answer: Result<Answer, invoke::Error>) {
        *self.invoker.answer.lock() = Some(answer);
    }
}

/// Paths of tests start behind `/api/v1/namespaces/`, unless they start with a slash.
fn api(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/api/v1/namespaces/{path}")
    }
}

fn basic(key: &str) -> String {
    format!("Basic {}", STANDARD.encode(key))
}

fn bare(method: &str, path: &str) -> Request<Body> {
    let method: Method = method.parse().expect("a method");
    let request = Request::builder().method(method).uri(path);
    request.body(Body::empty()).expect("a request")
}

/// A record of `guest`'s.
fn record(id: u128, name: &str, start: u64, status: Status, result: &Value) -> Activation {
    let guest = Namespace::parse("guest").expect("legal");
    let mut annotations = Annotations::default();
    annotations.set("path", Json::from_serialize(&format!("guest/{name}")));
    let own = name.split('/').next_back().expect("a name");
    Activation {
        namespace: guest.clone(),
        name: EntityName::parse(own).expect("legal"),
        version: Version::FIRST,
        subject: guest,
        id: ActivationId(id),
        start: Timestamp(start),
        end: Some(Timestamp(start + 12)),
        duration: Some(12),
        cause: None,
        response: Response {
            status,
            size: Some(20),
            result: Json::from_serialize(result),
        },
        logs: vec!["2024-01-01T00:00:00.000000000Z stdout: hi".to_owned()].into(),
        annotations,
    }
}
