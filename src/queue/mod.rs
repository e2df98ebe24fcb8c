//! Carries work from the front to the workers, and outcomes back.
//!
//! There is one queue per (invoking namespace, action): a slow action delays nobody else. Order holds within a queue,
//! not across queues; which queue is next is decided by the CPU time its namespace has used, then by age.
//!
//! Invariants:
//! - work that was promised (`durable`) is on disk before [`Queue::enqueue`] returns, and stays there until it is acked;
//! - a backlog goes first: work is handed over directly only when nothing waits that could run;
//! - every queue, and all of them together, are bounded; beyond the bounds the caller is told when to come back;
//! - what waits too long is dropped and its caller told, unless it was promised.

mod cancel;
pub(crate) mod cluster;
mod memory;
pub(crate) mod message;
#[cfg(test)]
mod suite;

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::time::Instant;

pub(crate) use cancel::{Cancels, Ran};
pub(crate) use memory::MemoryQueue;
use message::{Outcome, Refusal, Work};

use crate::model::{ActivationId, Fqn, Namespace};
use crate::scheduler::fairness::Runtime;
use crate::scheduler::placement::Warmth;

/// Bounds of the queues.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Most work waiting in one queue; beyond it callers get 429.
    pub(crate) depth_max: usize,
    /// Most bytes of parameters waiting in all queues; beyond it callers get 503.
    pub(crate) bytes_max: usize,
    /// Longest wait of a blocking call before a run begins, seconds; also the age of a queue's oldest work from which on
    /// new calls are refused.
    pub(crate) wait_max_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            depth_max: 10_000,
            bytes_max: 256 << 20,
            wait_max_s: 60,
        }
    }
}

/// Which queue: who invokes what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: Namespace,
    pub(crate) action: Fqn,
}

impl Key {
    /// The queue this work belongs in.
    pub(crate) fn of(work: &Work) -> Self {
        Self {
            namespace: work.namespace.clone(),
            action: work.action.address().clone(),
        }
    }
}

/// Why work was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnqueueError {
    /// Too much waits.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was to be durable, and could not be made so.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}

/// Whoever can run work at once: a worker on this node.
pub(crate) trait Hands: Send + Sync + 'static {
    /// Takes the work if an instance, or room for one, is at hand; gives it back otherwise. Never waits.
    fn offer(&self, delivery: Delivery) -> Result<(), Box<Delivery>>;
    /// Something waits: look at the queues.
    fn nudge(&self);
    /// Records and answers work that will not be run, because of `text`: an application error.
    fn give_up(&self, delivery: Delivery, text: &str);

    /// How many runs more could begin now.
    fn room(&self) -> usize {
        0
    }

    /// How many of them could be of this namespace: none has all of a node.
    fn room_of(&self, _namespace: &Namespace) -> usize {
        usize::MAX
    }

    /// How much CPU the namespace has used here.
    fn used(&self, _namespace: &Namespace) -> Runtime {
        Runtime::default()
    }

    /// What there is of that action here.
    fn warmth(&self, _key: &Key) -> Warmth {
        Warmth::Cold
    }

    /// Its runs here.
    fn running(&self, _key: &Key) -> u64 {
        0
    }
}

/// Whoever waits for outcomes: the front on this node.
pub(crate) trait Replies: Send + Sync + 'static {
    fn complete(&self, id: ActivationId, outcome: Outcome);

    /// Whether somebody waits for its outcome.
    fn waits_for(&self, _id: ActivationId) -> bool {
        true
    }

    /// It has ended, and nobody waits for more than that.
    fn over(&self, _id: ActivationId) {}
}

/// How much waits, for metrics and for the drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    pub(crate) oldest_age: Duration,
}

/// See the module.
#[async_trait]
pub(crate) trait Queue: Send + Sync + 'static {
    /// Says who runs work and who waits for outcomes. Once, before anything else.
    fn attach(&self, hands: Weak<dyn Hands>, replies: Weak<dyn Replies>);

    /// Hands the work over or appends it to its queue; durable work is on disk when this returns. What is not may still be
    /// refused then: whoever waits for its outcome is told.
    async fn enqueue(&self, work: Work) -> Result<(), EnqueueError>;

    /// Appends work that a former process accepted and did not finish; bounds do not apply to what was promised.
    fn restore(&self, work: Work);

    /// The queue whose turn it is among those not parked; `rank` tells how much CPU a namespace has used.
    fn next(&self, rank: &dyn Fn(&Namespace) -> Runtime) -> Option<Key>;

    /// Takes the oldest work of that queue.
    fn pull(&self, key: &Key) -> Option<Delivery>;

    /// Leaves that queue out of [`Queue::next`] until it is unparked: its action is at its limit.
    fn park(&self, key: &Key);

    /// Lets it take part again; whether it was parked.
    fn unpark(&self, key: &Key) -> bool;

    /// Lets every queue of the namespace take part again, or every queue there is.
    fn unpark_all(&self, namespace: Option<&Namespace>);

    /// Resolves when work that was enqueued and not promised is where it is to be: until then it may still be dropped.
    async fn settled(&self, _id: ActivationId) {}

    /// Puts work that was pulled back where it was: the oldest of its queue.
    fn put_back(&self, delivery: Delivery);

    /// A delivery of work that is not queued, to be answered and acked without a run.
    fn delivery(&self, work: Work) -> Delivery;

    /// Drops what waited too long and was not promised, telling its callers; returns how many.
    fn expire(&self) -> usize;

    /// Sends an outcome to whoever waits for it; ignored when nobody does.
    fn reply(&self, id: ActivationId, outcome: Outcome);

    /// Ends an activation that is known to be of `namespace`: what waits is taken out and recorded, what runs is told to stop.
    fn cancel(&self, namespace: &Namespace, id: ActivationId);

    /// Asks the other nodes to end an activation that is not in flight here; whether it was in flight on one of them.
    async fn stop_elsewhere(&self, _namespace: &Namespace, _id: ActivationId) -> bool {
        false
    }

    /// Gives up all that waits of `namespace`, because of `text`.
    fn give_up_all(&self, namespace: &Namespace, text: &str);

    /// Who was told to stop.
    fn cancels(&self) -> &Cancels;

    fn backlog(&self) -> Backlog;

    /// Whether anything waits at all; cheap.
    fn is_empty(&self) -> bool;
}

/// Work on its way to be run, once. Consumed by [`Delivery::ack`] or [`Queue::put_back`], so neither
/// happens twice.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) work: Work,
    settle: Option<Settle>,
    /// Whether a former process had accepted it: a run of it may have been lost already.
    recovered: bool,
    /// Order of arrival, once it has waited.
    arrival: u64,
    since: Instant,
}

/// Where it is kept until it is acked.
enum Settle {
    /// In the log of accepted work.
    Log(Arc<dyn crate::store::Accepted>),
    /// In an entry of a stream.
    Entry(Arc<cluster::Entry>),
}

impl std::fmt::Debug for Settle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Settle")
    }
}

impl Delivery {
    /// A delivery of work that came in an entry of a stream.
    fn of_entry(work: Work, entry: Arc<cluster::Entry>) -> Self {
        Self {
            work,
            settle: Some(Settle::Entry(entry)),
            recovered: false,
            arrival: 0,
            since: Instant::now(),
        }
    }

    /// The same, of which a run may have been lost: `begun` so far.
    pub(crate) fn again(mut self, begun: u32) -> Self {
        self.recovered = true;
        self.work.redelivered = begun;
        self
    }

    /// Whether another node takes it up if this one lets go of it.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.settle, Some(Settle::Entry(_)))
    }

    /// The work has ended and its record was put: it will not be delivered again.
    pub(crate) fn ack(self) {
        match self.settle {
            None => {}
            Some(Settle::Log(accepted)) => accepted.settle(self.work.id),
            Some(Settle::Entry(entry)) => entry.settle(),
        }
    }

    /// Notes that a run begins, so that a crash from here on counts as a delivery.
    ///
    /// Waits for the note when the action must run at most once, and when a former process had the work: should it be the
    /// work that brings servers down, the deliveries are counted whatever is lost with the next one.
    pub(crate) async fn begin(&self, at_most_once: bool) -> Result<(), crate::store::Error> {
        let waits = at_most_once || self.recovered;
        match &self.settle {
            None => Ok(()),
            Some(Settle::Log(accepted)) if waits => accepted.begin_durably(self.work.id).await,
            Some(Settle::Log(accepted)) => {
                accepted.begin(self.work.id);
                Ok(())
            }
            Some(Settle::Entry(entry)) if waits => entry.begin(self.work.id).await,
            // Its first delivery, which counts as a run whether one began or not.
            Some(Settle::Entry(_)) => Ok(()),
        }
    }
}
