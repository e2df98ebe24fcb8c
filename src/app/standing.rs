//! How the cluster stands, put together from those who know a part of it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::api;
use crate::cluster::Node;
use crate::link::{self, Link};
use crate::model::cluster::{ClusterStatus, DeadNode};
use crate::queue::cluster::ClusterQueue;
use crate::store::{self, shared::Shared};

/// See the module.
pub(super) struct Standing {
    pub(super) name: String,
    pub(super) link: Link,
    pub(super) node: Arc<Node>,
    pub(super) queue: Arc<ClusterQueue>,
    pub(super) shared: Shared,
    /// One look at a time: it is for people, and costs Redis some thousand commands.
    pub(super) turn: tokio::sync::Mutex<()>,
}

#[async_trait]
impl api::Cluster for Standing {
    async fn status(&self) -> store::Result<ClusterStatus> {
        let _turn = self.turn.lock().await;
        let members = &self.node.members;
        let (nodes, mut dead) = members
            .standing(&self.link, &self.node)
            .await
            .map_err(failed)?;
        let queues = self.queue.standing().await.map_err(failed)?;
        let homes = self.shared.homes_standing().await?;
        let dead_letters = self.shared.dead_letters().await?;
        for home in &homes {
            let is_known = nodes.iter().map(|node| &node.id);
            let mut known = is_known.chain(dead.iter().map(|dead| &dead.id));
            if !known.any(|id| *id == home.node) {
                dead.push(DeadNode {
                    id: home.node.clone(),
                    ..DeadNode::default()
                });
            }
        }
        Ok(ClusterStatus {
            name: self.name.clone(),
            nodes,
            dead,
            queues: queues.shown,
            queues_more: queues.more,
            waiting: queues.waiting,
            partial: queues.is_partial,
            dead_letters,
            homes,
        })
    }
}

fn failed(error: link::Error) -> store::Error {
    match error {
        link::Error::Unexpected(text) => store::Error::Corrupt(text),
        other => store::Error::Unavailable(other.to_string()),
    }
}
