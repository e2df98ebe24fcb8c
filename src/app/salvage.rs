//! Takes up the work of the dead: runs it again, or ends it where it was recorded or is given up.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::engine::Engine;
use crate::auth::throttle::Throttle;
use crate::cluster::Node;
use crate::invoke::Invoker;
use crate::model::{ActivationId, Namespace};
use crate::queue::Delivery;
use crate::queue::cluster::{Place, Salvage};
use crate::queue::message::Outcome;
use crate::worker::Worker;

/// Pause before the store is asked again whether work of a dead node was recorded.
const STORE_RETRY: Duration = Duration::from_millis(250);

/// See the module.
pub(super) struct Salvager {
    pub(super) engine: Engine,
    pub(super) invoker: Invoker,
    pub(super) node: Arc<Node>,
    pub(super) throttle: Arc<Throttle>,
}

#[async_trait]
impl Salvage for Salvager {
    async fn salvage(&self, delivery: Delivery, begun: u32) {
        let (epoch, work) = (self.node.fence.epoch(), &delivery.work);
        let recorded = loop {
            match self
                .engine
                .store
                .activations
                .get(&work.namespace, work.id)
                .await
            {
                Ok(recorded) => break recorded,
                Err(error) => {
                    tracing::warn!(activation = %work.id, %error, "work of a dead node waits for the store");
                    tokio::time::sleep(STORE_RETRY).await;
                    if !self.node.fence.holds(epoch) {
                        return;
                    }
                }
            }
        };
        if let Some(record) = recorded {
            // It had ended; only its settlement was lost, and perhaps the answer.
            self.engine.queue.reply(work.id, Outcome::Done(record));
            delivery.ack();
            return;
        }
        if Worker::gives_up(begun)
            && let Err(error) = self.invoker.bury_work(work, begun).await
        {
            tracing::error!(activation = %work.id, %error, "a dead letter could not be kept");
        }
        self.engine.worker.salvage(delivery, begun);
    }

    async fn stop(&self, namespace: &Namespace, id: ActivationId) -> bool {
        self.invoker.is_in_flight(namespace, id)
            && matches!(self.invoker.stop_for_good(namespace, id).await, Ok(true))
    }

    async fn take_over(
        &self,
        namespace: &Namespace,
        front: &str,
        count: usize,
    ) -> (Vec<Place>, bool) {
        let (places, told) = self.throttle.take_over(namespace, front, count).await;
        let places = places.into_iter().map(|place| Box::new(place) as Place);
        (places.collect(), told)
    }

    async fn await_place(&self, namespace: &Namespace, front: &str) -> Place {
        match self.throttle.inherit(namespace, front).await {
            Some(place) => Box::new(place),
            None => Box::new(self.invoker.await_place_of(namespace).await),
        }
    }
}
