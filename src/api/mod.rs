//! The HTTP edge. Nothing else knows HTTP.
//!
//! `serve` (connections) → `edge` (around every request: transaction, CORS, errors, one place to observe) → the router
//! below → a handler: authenticate, check, act, answer.
//!
//! Invariants:
//! - every answer carries `X-Request-ID`; every error is `{"error", "code"}` with that id as its code;
//! - checks happen in the order the handlers list them: who, how large, how often, what, whether;
//! - every wait and every buffer has a bound: heads, bodies, idle connections, and how many of each there are.

mod actions;
mod actions_put;
mod activations;
mod admin;
mod apis;
mod cluster;
mod deadletters;
mod docs;
mod edge;
mod entities;
mod error;
mod events;
mod extract;
mod fire;
mod idempotency;
mod info;
mod invocations;
mod namespaces;
mod ops;
mod packages;
mod paging;
mod revisions;
mod rules;
mod sequences;
mod serve;
mod triggers;
mod web;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post, put};
use serde::Deserialize;
use tokio::sync::Semaphore;

pub(crate) use cluster::Cluster;
pub(crate) use edge::Edge;
pub(crate) use serve::serve;

pub(crate) use apis::Gates;

use crate::auth::{Keys, Throttle};
use crate::invoke::idempotency::Idempotency;
use crate::invoke::resolve::Resolver;
use crate::invoke::{Invoke, Upload};
use crate::model::limits::EffectiveLimits;
use crate::store::Store;
use crate::store::catalog::Catalog;
use crate::store::reseal::Resealer;
use crate::store::watched::Hub;

/// What the edge needs of the rest of the front.
pub(crate) struct State {
    /// Entities by name.
    pub(crate) catalog: Arc<Catalog>,
    /// What a name means to a caller.
    pub(crate) resolver: Arc<Resolver>,
    /// Tenants and activations.
    pub(crate) store: Store,
    /// Encrypts what is stored anew.
    pub(crate) resealer: Arc<Resealer>,
    /// Who calls.
    pub(crate) keys: Arc<Keys>,
    /// How much they may.
    pub(crate) throttle: Arc<Throttle>,
    /// Records as they are put.
    pub(crate) hub: Arc<Hub>,
    /// Runs actions.
    pub(crate) invoker: Arc<dyn Invoke>,
    /// APIs of tenants, ready to be looked up.
    pub(crate) gates: Arc<Gates>,
    /// Calls that are done once, however often they are sent.
    pub(crate) idempotency: Arc<Idempotency>,
    /// Checks and compiles code.
    pub(crate) uploads: Arc<dyn Upload>,
    /// Whether this node can serve, or why not.
    pub(crate) ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// The metrics, as Prometheus reads them.
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Activations accepted and not ended.
    pub(crate) in_flight: Arc<dyn Fn() -> usize + Send + Sync>,
    /// Begins the end of this server, and returns.
    pub(crate) disable: Arc<dyn Fn() + Send + Sync>,
    /// The cluster that this server is a node of, if it is.
    pub(crate) cluster: Option<Arc<dyn Cluster>>,
    /// Limits of a namespace that sets none.
    pub(crate) defaults: EffectiveLimits,
    /// What `GET /api/v1` says of this build.
    pub(crate) build: Build,
}

/// Which build this is.
#[derive(Debug, Clone)]
pub(crate) struct Build {
    /// When it was built, or its version.
    pub(crate) date: String,
    /// Its number.
    pub(crate) number: String,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

/// Bounds of the edge.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Connections at one time; those beyond are told 503 and closed.
    pub(crate) connections_max: u32,
    /// Seconds a new connection has for the head of its first request.
    pub(crate) head_timeout_s: u64,
    /// Seconds a connection may idle between requests; twice that to take an answer.
    pub(crate) idle_timeout_s: u64,
    /// Seconds a body has to arrive.
    pub(crate) body_timeout_s: u64,
    /// Bytes of a request's path and query.
    pub(crate) uri_bytes_max: usize,
    /// Bytes of a request's body where nothing smaller holds.
    pub(crate) body_bytes_max: u64,
    /// Bytes of all bodies over 64 KiB that are held at one time; what does not fit is told 503.
    pub(crate) body_memory_bytes_max: u64,
    /// Bytes of an action's code as sent, base64 or not.
    pub(crate) code_bytes_max: u64,
    /// Bytes of an entity's annotations.
    pub(crate) annotation_bytes_max: u64,
    /// Whether a web action's path must say `.http`, `.json`, …
    pub(crate) web_extension_required: bool,
    /// Whether packages of others can be used and bound but not read, their actions' code included.
    pub(crate) shared_packages_execute_only: bool,
    /// Bytes of web actions' answers kept in memory, as long as they say they may be.
    pub(crate) web_cache_bytes_max: u64,
    /// Of these, bytes for one namespace.
    pub(crate) web_cache_namespace_bytes_max: u64,
    /// Former revisions kept of each action; 0 keeps none.
    pub(crate) revisions_max: u32,
    /// APIs of one namespace.
    pub(crate) apis_max: u64,
    /// Bytes of an API's document.
    pub(crate) api_bytes_max: u64,
    /// Seconds requests in flight have to end once the server drains.
    pub(crate) drain_timeout_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            head_timeout_s: 15,
            idle_timeout_s: 70,
            body_timeout_s: 60,
            uri_bytes_max: 8 << 10,
            body_bytes_max: 50 << 20,
            body_memory_bytes_max: 256 << 20,
            code_bytes_max: 48 << 20,
            annotation_bytes_max: 1 << 20,
            web_extension_required: false,
            shared_packages_execute_only: false,
            web_cache_bytes_max: 256 << 20,
            web_cache_namespace_bytes_max: 16 << 20,
            revisions_max: 10,
            apis_max: 100,
            api_bytes_max: 256 << 10,
            drain_timeout_s: 65,
        }
    }
}

impl Config {
    fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_s)
    }
}

/// What handlers work with.
struct Front {
    state: State,
    config: Config,
    /// Room for large bodies, in units of [`extract::BODY_ROOM_UNIT_BYTES`].
    body_room: Semaphore,
    /// Answers of web actions.
    cache: web::Cache,
    turns: entities::Turns,
    /// What describes all this.
    document: docs::Document,
}

impl Front {
    fn new(state: State, config: Config) -> Arc<Self> {
        let units = config.body_memory_bytes_max / extract::BODY_ROOM_UNIT_BYTES;
        let units = usize::try_from(units).unwrap_or(usize::MAX);
        Arc::new(Self {
            body_room: Semaphore::new(units.min(Semaphore::MAX_PERMITS)),
            cache: web::Cache::new(
                config.web_cache_bytes_max,
                config.web_cache_namespace_bytes_max,
            ),
            turns: entities::Turns::new(),
            document: docs::Document::default(),
            state,
            config,
        })
    }
}

/// Every route, grouped by who calls it; but for what tenants show to the world, which [`edge`] tells by its prefix:
/// - `/api/v1/web/{ns}/{package}/{action}…`, any method: [`web`];
/// - `/api/v1/web/whisk.system/apimgmt/{createApi, getApi, deleteApi}`: [`apis`], which manages
/// - `/api/{tenant}/{base}/…`, any method.
fn router(front: Arc<Front>) -> Router {
    Router::new()
        // Anyone
        .route("/", get(info::server))
        .route("/api/v1", get(info::api))
        .route("/api/v1/", get(info::api))
        .route("/api-docs", get(docs::document))
        .route("/api/v1/api-docs", get(docs::document))
        .route("/docs", get(docs::page))
        .route("/api/v1/docs", get(docs::page))
        .merge(watched())
        // Tenants
        .route("/api/v1/namespaces", get(namespaces::list))
        .route("/api/v1/namespaces/", get(namespaces::list))
        .route("/api/v1/namespaces/{ns}/limits", get(namespaces::limits))
        .route(
            "/api/v1/namespaces/{ns}/limits/{x}",
            get(namespaces::inner_limits),
        )
        .route("/api/v1/namespaces/{ns}/actions", actions_of_namespace())
        .route("/api/v1/namespaces/{ns}/actions/", actions_of_namespace())
        .route("/api/v1/namespaces/{ns}/actions/{name}", action())
        .route(
            "/api/v1/namespaces/{ns}/actions/{package}/",
            get(actions::list_package),
        )
        .route("/api/v1/namespaces/{ns}/actions/{package}/{name}", action())
        .route("/api/v1/namespaces/{ns}/packages", packages_of_namespace())
        .route("/api/v1/namespaces/{ns}/packages/", packages_of_namespace())
        .route("/api/v1/namespaces/{ns}/packages/{name}", package())
        .route("/api/v1/namespaces/{ns}/triggers", triggers_of_namespace())
        .route("/api/v1/namespaces/{ns}/triggers/", triggers_of_namespace())
        .route("/api/v1/namespaces/{ns}/triggers/{name}", trigger())
        .route("/api/v1/namespaces/{ns}/rules", rules_of_namespace())
        .route("/api/v1/namespaces/{ns}/rules/", rules_of_namespace())
        .route("/api/v1/namespaces/{ns}/rules/{name}", rule())
        .route("/api/v1/namespaces/{ns}/deadletters", dead_letters())
        .route("/api/v1/namespaces/{ns}/deadletters/", dead_letters())
        .route("/api/v1/namespaces/{ns}/deadletters/{id}", dead_letter())
        .route("/api/v1/namespaces/{ns}/activations", get(activations::list))
        .route("/api/v1/namespaces/{ns}/activations/", get(activations::list))
        .route(
            "/api/v1/namespaces/{ns}/activations/{id}",
            get(activations::get).delete(activations::cancel),
        )
        .route(
            "/api/v1/namespaces/{ns}/activations/{id}/logs",
            get(activations::logs),
        )
        .route(
            "/api/v1/namespaces/{ns}/activations/{id}/result",
            get(activations::result),
        )
        .merge(operated())
        .fallback(async || error::Error::no_route())
        .method_not_allowed_fallback(async || error::Error::wrong_method())
        .with_state(front)
}

/// For the operator, with the system key.
fn operated() -> Router<Arc<Front>> {
    Router::new()
        .route("/admin/v1/namespaces", get(admin::list))
        .route(
            "/admin/v1/namespaces/{ns}",
            put(admin::create).get(admin::get).delete(admin::delete),
        )
        .route("/admin/v1/namespaces/{ns}/key", post(admin::rotate_key))
        .route(
            "/admin/v1/namespaces/{ns}/limits",
            put(admin::put_limits)
                .get(admin::get_limits)
                .delete(admin::delete_limits),
        )
        .route("/admin/v1/namespaces/{ns}/block", post(admin::block))
        .route("/admin/v1/namespaces/{ns}/unblock", post(admin::unblock))
        .route(
            "/admin/v1/namespaces/{ns}/reencrypt",
            post(admin::reencrypt),
        )
        .route("/admin/v1/cluster", get(cluster::status))
}

/// For whoever watches over the machine.
fn watched() -> Router<Arc<Front>> {
    Router::new()
        .route("/ping", get(ops::ping))
        .route("/health", get(ops::health))
        .route("/metrics", get(ops::metrics))
        // As OpenWhisk's controllers have them
        .route("/invokers", get(ops::invokers))
        .route("/invokers/healthy/count", get(ops::healthy_count))
        .route("/invokers/ready", get(ops::any_ready))
        .route("/activation", get(ops::in_flight))
        .route("/activation/count", get(ops::in_flight))
        .route("/disable", post(ops::disable))
}

type Methods = axum::routing::MethodRouter<Arc<Front>>;

fn dead_letters() -> Methods {
    get(deadletters::list).delete(deadletters::purge)
}

fn dead_letter() -> Methods {
    get(deadletters::get)
        .post(deadletters::replay)
        .delete(deadletters::delete)
}

fn action() -> Methods {
    get(actions::get)
        .put(actions::put)
        .delete(actions::delete)
        .post(invocations::invoke)
}

fn package() -> Methods {
    get(packages::get)
        .put(packages::put)
        .delete(packages::delete)
}

fn trigger() -> Methods {
    get(triggers::get)
        .put(triggers::put)
        .delete(triggers::delete)
        .post(fire::fire)
}

fn rule() -> Methods {
    get(rules::get)
        .put(rules::put)
        .delete(rules::delete)
        .post(rules::post)
}

fn actions_of_namespace() -> Methods {
    collection(get(actions::list))
}

fn packages_of_namespace() -> Methods {
    collection(get(packages::list))
}

fn triggers_of_namespace() -> Methods {
    collection(get(triggers::list))
}

fn rules_of_namespace() -> Methods {
    collection(get(rules::list))
}

/// A PUT or DELETE here lacks the name of the entity: the wire says 404, not 405.
fn collection(list: Methods) -> Methods {
    list.put(async || error::Error::no_route())
        .delete(async || error::Error::no_route())
}

#[cfg(test)]
mod tests;
