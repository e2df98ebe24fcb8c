//! `GET /admin/v1/cluster`: how the cluster stands that this server is a node of. For the holder of the system key alone.

use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::error::{Error, Result};
use super::extract::authenticate_system;
use super::{Front, wire};
use crate::model::cluster::ClusterStatus;
use crate::store;

/// Who knows how the cluster stands.
#[async_trait]
pub(crate) trait Cluster: Send + Sync + 'static {
    /// As of now.
    async fn status(&self) -> store::Result<ClusterStatus>;
}

/// Nodes, queues, and what waits to be looked after.
pub(super) async fn status(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    authenticate_system(&front, request.headers()).await?;
    let Some(cluster) = &front.state.cluster else {
        return Err(alone());
    };
    wire::ok(&cluster.status().await?)
}

/// There is no cluster.
pub(super) fn alone() -> Error {
    Error::new(
        StatusCode::NOT_FOUND,
        "This server is alone: it is no node of a cluster. One that is started with --redis URL is.",
    )
}
