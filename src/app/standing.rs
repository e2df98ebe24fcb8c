//! How the cluster stands, put together from those who know a part of it: for operators, and for metrics.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::api;
use crate::cluster::Node;
use crate::link::{self, Link};
use crate::model::cluster::{ClusterStatus, DeadNode};
use crate::queue::cluster::{ClusterQueue, Sample};
use crate::store::{self, shared::Shared};
use crate::telemetry::cluster::Gauges;

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

/// How often it is read how much waits in the whole cluster.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// What metrics show of the cluster.
pub(super) struct Watch {
    node: Arc<Node>,
    queue: Arc<ClusterQueue>,
    sample: Mutex<Sample>,
}

impl Watch {
    pub(super) fn new(node: Arc<Node>, queue: Arc<ClusterQueue>) -> Self {
        Self {
            node,
            queue,
            sample: Mutex::default(),
        }
    }

    /// As of now, as far as this node knows.
    pub(super) fn gauges(&self) -> Gauges {
        let (view, sample) = (self.node.members.view(), *self.sample.lock());
        Gauges {
            lanes_held: self.queue.lanes_held(),
            nodes_alive: view.living.len(),
            nodes_dead: view.dead.len(),
            is_held: self.node.fence.is_held(),
            depth: sample.depth,
            oldest_age: sample.oldest_age,
        }
    }

    /// Looks now and then how much waits, until it is dropped.
    pub(super) async fn go_on(self: Arc<Self>) {
        loop {
            match self.queue.sample().await {
                Ok(sample) => *self.sample.lock() = sample,
                // What was seen last stays: a zero would scale a cluster down that cannot tell.
                Err(error) => tracing::debug!(%error, "it could not be read how much waits"),
            }
            tokio::time::sleep(SAMPLE_EVERY).await;
        }
    }
}

fn failed(error: link::Error) -> store::Error {
    match error {
        link::Error::Unexpected(text) => store::Error::Corrupt(text),
        other => store::Error::Unavailable(other.to_string()),
    }
}
