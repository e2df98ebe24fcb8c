//! The node's memory budget: taken before it is used, given back on drop. The sum never passes the budget.

use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Shared;
use crate::sandbox::Grant;

/// How long a guest that grows waits for others to give up memory before the run fails. Long enough for a few short
/// runs to end, short enough that guests that wait for each other do not hold the node.
const GROW_WAIT: Duration = Duration::from_secs(1);

/// Bytes given out, of a budget.
#[derive(Debug)]
pub(super) struct Memory {
    budget: usize,
    used: AtomicUsize,
    freed: Notify,
}

impl Memory {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            budget,
            used: AtomicUsize::new(0),
            freed: Notify::new(),
        }
    }

    /// Takes `bytes` if they are there.
    pub(super) fn try_take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.budget);
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, fits)
            .is_ok()
    }

    pub(super) fn give(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(before >= bytes, "gave back more than was taken");
        self.freed.notify_waiters();
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    pub(super) fn budget(&self) -> usize {
        self.budget
    }
}

/// What one instance holds of the budget.
pub(super) struct Held {
    pool: Weak<Shared>,
    bytes: AtomicUsize,
}

impl Held {
    /// Takes over `bytes` that were taken from the budget.
    pub(super) fn new(pool: Weak<Shared>, bytes: usize) -> Self {
        Self {
            pool,
            bytes: AtomicUsize::new(bytes),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Gives back what exceeds `bytes`.
    pub(super) fn shrink_to(&self, bytes: usize) {
        if self.bytes() <= bytes {
            return;
        }
        let before = self.bytes.fetch_min(bytes, Ordering::AcqRel);
        if before > bytes
            && let Some(pool) = self.pool.upgrade()
        {
            pool.memory.give(before - bytes);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[async_trait]
impl Grant for Held {
    fn try_grow(&self, bytes: usize) -> bool {
        let granted = self.pool.upgrade().is_some_and(|pool| pool.take(bytes));
        if granted {
            self.bytes.fetch_add(bytes, Ordering::AcqRel);
        }
        granted
    }

    async fn grow(&self, bytes: usize) -> bool {
        let deadline = Instant::now() + GROW_WAIT;
        loop {
            let Some(pool) = self.pool.upgrade() else {
                return false;
            };
            // Armed before the look: what is freed in between is not missed.
            let freed = pool.memory.freed.notified();
            if self.try_grow(bytes) {
                return true;
            }
            if tokio::time::timeout_at(deadline, freed).await.is_err() {
                return self.try_grow(bytes);
            }
        }
    }
}
