//! Who waits for which activation.
//!
//! A wait is registered before the work is enqueued, so no answer is lost; it holds the caller's place in the throttle
//! until the activation has ended, however long after the caller left.

use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;
use tokio::sync::oneshot;

use crate::model::activation::IdHasher;
use crate::model::{ActivationId, Namespace};
use crate::queue::Replies;
use crate::queue::message::Outcome;

/// A guard of the throttle, dropped when the activation has ended.
pub(crate) type Admission = Box<dyn Send + Sync>;

struct Waiter {
    namespace: Namespace,
    caller: Option<oneshot::Sender<Outcome>>,
    admission: Admission,
    /// In which round it was registered.
    round: u32,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Waits {
    waiters: DashMap<ActivationId, Waiter, BuildHasherDefault<IdHasher>>,
    /// Counts how often it was looked for answers that were not heard.
    round: AtomicU32,
}

impl std::fmt::Debug for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waits")
            .field("count", &self.waiters.len())
            .finish()
    }
}

impl Waits {
    /// Registers a caller that waits for the outcome.
    pub(crate) fn register(
        &self,
        namespace: &Namespace,
        id: ActivationId,
        admission: Admission,
    ) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        self.waiters.insert(
            id,
            Waiter {
                namespace: namespace.clone(),
                caller: Some(sender),
                admission,
                round: self.round.load(Ordering::Relaxed),
            },
        );
        receiver
    }

    /// Registers work nobody waits for: only its admission is kept.
    pub(super) fn hold(&self, namespace: &Namespace, id: ActivationId, admission: Admission) {
        self.waiters.insert(
            id,
            Waiter {
                namespace: namespace.clone(),
                caller: None,
                admission,
                round: self.round.load(Ordering::Relaxed),
            },
        );
    }

    /// Forgets a wait whose work was not taken.
    pub(super) fn forget(&self, id: ActivationId) {
        self.waiters.remove(&id);
    }

    /// Whether it is in flight, for that namespace.
    pub(super) fn holds(&self, namespace: &Namespace, id: ActivationId) -> bool {
        let waiter = self.waiters.get(&id);
        waiter.is_some_and(|waiter| waiter.namespace == *namespace)
    }

    /// Begins a round: its number.
    pub(crate) fn next_round(&self) -> u32 {
        self.round.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Those that were registered before that round, and when.
    pub(crate) fn before(&self, round: u32) -> Vec<(ActivationId, Namespace, u32)> {
        let waiters = self.waiters.iter();
        let old = waiters.filter(|waiter| waiter.round < round);
        old.map(|waiter| (*waiter.key(), waiter.namespace.clone(), waiter.round))
            .collect()
    }

    /// Activations in flight.
    pub(crate) fn count(&self) -> usize {
        self.waiters.len()
    }
}

impl Replies for Waits {
    fn complete(&self, id: ActivationId, outcome: Outcome) {
        let Some((_, waiter)) = self.waiters.remove(&id) else {
            return;
        };
        let Waiter {
            caller, admission, ..
        } = waiter;
        // First the place in the throttle, then the answer: a caller that calls again at once is not refused.
        drop(admission);
        if let Some(caller) = caller {
            // Fails when the caller has gone; the record is kept all the same.
            drop(caller.send(outcome));
        }
    }

    fn waits_for(&self, id: ActivationId) -> bool {
        let waiter = self.waiters.get(&id);
        waiter.is_some_and(|waiter| waiter.caller.is_some())
    }

    fn over(&self, id: ActivationId) {
        // Gives back its place in the throttle.
        drop(self.waiters.remove(&id));
    }
}
