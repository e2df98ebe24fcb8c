//! `/api/v1/namespaces` and `…/{ns}/limits`: whose key this is, and how much it may.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Serialize;

use super::error::{Error, Result};
use super::extract::{Place, authenticate};
use super::{Front, wire};
use crate::model::limits::EffectiveLimits;
use crate::model::{NamespaceLimits, StoreLevel};

/// The one namespace of the key.
pub(super) async fn list(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    wire::ok(&[&identity.namespace])
}

/// What holds for the caller's namespace.
pub(super) async fn limits(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let namespace = Place::of(request.uri(), &identity)?.namespace;
    let tenant = front.state.store.tenants.get(&namespace).await?;
    let own = tenant.map(|tenant| tenant.limits).unwrap_or_default();
    wire::ok(&Shape::of(&identity.limits, &own))
}

/// There is nothing below.
pub(super) async fn inner_limits(
    State(front): State<Arc<Front>>,
    request: Request,
) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    Place::of(request.uri(), &identity)?;
    Err(Error::bad_request(
        "Inner entity level routes for limits are not yet implemented.",
    ))
}

/// Effective limits, as the wire has them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    invocations_per_minute: u64,
    concurrent_invocations: u64,
    fires_per_minute: u64,
    min_action_memory: u64,
    max_action_memory: u64,
    min_action_logs: u64,
    max_action_logs: u64,
    min_action_timeout: u64,
    max_action_timeout: u64,
    min_action_concurrency: u64,
    max_action_concurrency: u64,
    max_action_instances: u64,
    max_parameter_size: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_payload_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncation_size: Option<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    allowed_kinds: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    store_activations: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store_blocking_result_level: Option<StoreLevel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store_non_blocking_result_level: Option<StoreLevel>,
}

impl<'a> Shape<'a> {
    /// What holds, and of what is usually not set only what `own` sets.
    fn of(limits: &'a EffectiveLimits, own: &NamespaceLimits) -> Self {
        let bytes = |count: u64| format!("{count} B");
        Self {
            invocations_per_minute: limits.invocations_per_minute,
            concurrent_invocations: limits.concurrent_invocations,
            fires_per_minute: limits.fires_per_minute,
            min_action_memory: limits.memory.min,
            max_action_memory: limits.memory.max,
            min_action_logs: limits.logs.min,
            max_action_logs: limits.logs.max,
            min_action_timeout: limits.timeout.min,
            max_action_timeout: limits.timeout.max,
            min_action_concurrency: limits.concurrency.min,
            max_action_concurrency: limits.concurrency.max,
            max_action_instances: limits.instances_max,
            max_parameter_size: bytes(limits.parameter_size_max),
            max_payload_size: own.max_payload_size.map(bytes),
            truncation_size: own.truncation_size.map(bytes),
            allowed_kinds: &limits.allowed_kinds,
            store_activations: own.store_activations,
            store_blocking_result_level: own.store_blocking_result_level,
            store_non_blocking_result_level: own.store_non_blocking_result_level,
        }
    }
}
