//! An entry of a stream that this node took, and how it is known to be over.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use super::Shared;
use super::lane::Keys;
use crate::model::ActivationId;
use crate::queue::Key;
use crate::store;

/// One entry of a stream, taken by this node.
pub(in crate::queue) struct Entry {
    pub(super) lane: Key,
    pub(super) id: String,
    pub(super) payload: Option<String>,
    /// Works in it that have not ended.
    pub(super) left: AtomicUsize,
    /// Under which name it was taken.
    pub(super) epoch: u64,
    pub(super) queue: Weak<Shared>,
}

impl Entry {
    /// Its id in the stream.
    pub(in crate::queue) fn id(&self) -> &str {
        &self.id
    }

    /// Works in it that have not ended.
    pub(in crate::queue) fn left(&self) -> usize {
        self.left.load(Ordering::Acquire)
    }

    /// One of its works has ended and its record was put.
    pub(in crate::queue) fn settle(self: &Arc<Self>) {
        if self.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let Some(queue) = self.queue.upgrade() else {
            return;
        };
        let (entry, weak) = (Arc::clone(self), Weak::clone(&self.queue));
        let ack = move || {
            if let Some(queue) = weak.upgrade() {
                queue.ack(&entry);
            }
        };
        queue.afterwards.after_records(Box::new(ack));
    }

    /// Notes that a run of `id` begins, so that should this node die the deliveries are counted.
    pub(in crate::queue) async fn begin(&self, id: ActivationId) -> store::Result<()> {
        let Some(queue) = self.queue.upgrade() else {
            return Err(store::Error::Unavailable("the queue has ended".to_owned()));
        };
        let key = Keys::of(&queue.prefix, &self.lane).begun;
        let mut note = crate::link::cmd("HINCRBY");
        note.arg(key).arg(id.to_string()).arg(1);
        let noted = queue.link.query::<i64>(&note).await;
        noted
            .map(drop)
            .map_err(|error| store::Error::Unavailable(error.to_string()))
    }
}
