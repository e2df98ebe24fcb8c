//! Work whose front is gone.
//!
//! The front that accepted a call holds its place among those that its namespace may have in flight, until it hears that the
//! call has ended. When the front dies, the place moves to whoever has the work, so that nobody else is let in for it.
//!
//! Invariants:
//! - with every renewal of its lease a node asks which of the fronts live whose work it has, and takes over the places of those
//!   that do not. What a dead front held stays counted for longer than a lease ([`crate::auth::leased::KEPT`]), so it has not been given
//!   to anybody else by then; and a node that cannot ask loses its own lease, and ends the work;
//! - work that is taken from a stream after its front died waits for a place before it begins.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use super::Shared;
use crate::model::{ActivationId, Namespace};
use crate::queue::Delivery;

/// A place among those that a namespace may have in flight, given back when it is dropped.
pub(crate) type Place = Box<dyn Send + Sync>;

/// Who holds the place of work that is here.
#[derive(Default)]
pub(super) enum Seat {
    /// Its front, for as long as it lives.
    #[default]
    Front,
    /// Nobody yet: the work has not begun.
    Awaited,
    /// This node.
    Own {
        /// Given back with the rest of what is known of the work.
        _place: Place,
    },
}

/// Counts work that waits for a place, as long as it does.
struct Awaiting<'a>(&'a AtomicUsize);

impl<'a> Awaiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// Whether this front holds the places of its work, as far as is known here.
    pub(super) fn is_front_known(&self, front: &str) -> bool {
        *front == *self.node.id() || self.node.members.is_known_to_live(&self.node, front)
    }

    /// Takes over the places of work here whose front is gone; whether it is known who is, and Redis was told.
    pub(super) async fn mind_orphans(&self) -> bool {
        let mut works: HashMap<Arc<str>, HashMap<Namespace, Vec<ActivationId>>> = HashMap::new();
        for origin in &self.origins {
            if matches!(origin.seat, Seat::Front) && *origin.front != *self.node.id() {
                let of_front = works.entry(Arc::clone(&origin.front)).or_default();
                let namespace = origin.lane.namespace.clone();
                of_front.entry(namespace).or_default().push(*origin.key());
            }
        }
        if works.is_empty() {
            return true;
        }
        let fronts = works.keys().cloned().collect();
        let gone = self.node.members.gone(&self.link, &self.node, fronts).await;
        let gone = match gone {
            Ok(gone) => gone,
            Err(error) => {
                tracing::warn!(%error, "it could not be asked which fronts live");
                return false;
            }
        };
        let Some(salvage) = self.salvage.get().and_then(Weak::upgrade) else {
            return true;
        };
        let mut all_told = true;
        for front in gone {
            for (namespace, ids) in works.remove(&front).unwrap_or_default() {
                tracing::info!(%namespace, count = ids.len(), front = &*front, "the places of a front that is gone are held here");
                let (places, told) = salvage.take_over(&namespace, &front, ids.len()).await;
                all_told &= told;
                for (id, place) in ids.iter().zip(places) {
                    self.seat(*id, place);
                }
            }
        }
        all_told
    }

    /// Gives work its place; one that has ended in the meantime needs none.
    fn seat(&self, id: ActivationId, place: Place) {
        if let Some(mut origin) = self.origins.get_mut(&id) {
            origin.seat = Seat::Own { _place: place };
        }
    }

    /// Waits until work has a place: at once where its front lives. `false` when it is no longer this node's by then.
    pub(super) async fn await_seat(
        &self,
        delivery: &Delivery,
        front: &Arc<str>,
        epoch: u64,
    ) -> bool {
        let is_ours = || self.epoch.load(Ordering::Acquire) == epoch;
        if self.is_front_known(front) {
            return is_ours();
        }
        let work = &delivery.work;
        // Nobody takes it over as begun while it waits here.
        if let Some(mut origin) = self.origins.get_mut(&work.id) {
            origin.seat = Seat::Awaited;
        }
        let _awaiting = Awaiting::new(&self.awaiting);
        let asked = vec![Arc::clone(front)];
        let gone = loop {
            match self
                .node
                .members
                .gone(&self.link, &self.node, asked.clone())
                .await
            {
                Ok(gone) => break !gone.is_empty(),
                Err(_) if is_ours() => tokio::time::sleep(super::flush::PAUSE).await,
                Err(_) => return false,
            }
        };
        if !gone {
            if let Some(mut origin) = self.origins.get_mut(&work.id) {
                origin.seat = Seat::Front;
            }
            return is_ours();
        }
        let Some(salvage) = self.salvage.get().and_then(Weak::upgrade) else {
            return false;
        };
        let place = salvage.await_place(&work.namespace, front).await;
        self.seat(work.id, place);
        is_ours()
    }
}
