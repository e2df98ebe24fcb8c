//! What a node has in hand and nobody uses.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A number of things, taken one by one, that remembers how few it once was.
#[derive(Default)]
pub(super) struct Pot {
    left: AtomicU64,
    /// The fewest since it was last looked at: those nobody needed.
    low: AtomicU64,
    /// Whether somebody will look.
    is_watched: AtomicBool,
}

impl Pot {
    /// How many there are.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes one, if there is one.
    pub(super) fn take(&self) -> bool {
        self.take_upto(1) == 1
    }

    /// Takes `count`, or as many as there are.
    pub(super) fn take_upto(&self, count: u64) -> u64 {
        let fewer = |left: u64| (left > 0).then(|| left.saturating_sub(count));
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        let Ok(left) = taken else { return 0 };
        let now = left.saturating_sub(count);
        if now < self.low.load(Ordering::Relaxed) {
            self.low.fetch_min(now, Ordering::Relaxed);
        }
        left - now
    }

    /// Takes all.
    pub(super) fn empty(&self) -> u64 {
        self.take_upto(u64::MAX)
    }

    /// Puts `count` in. Whether somebody has to be told to look after it.
    pub(super) fn put(&self, count: u64) -> bool {
        self.left.fetch_add(count, Ordering::Relaxed);
        if count == 0
            || self.is_watched.load(Ordering::Relaxed)
            || self.is_watched.swap(true, Ordering::AcqRel)
        {
            return false;
        }
        self.low.store(self.left(), Ordering::Relaxed);
        true
    }

    /// Takes those that nobody needed since the last look.
    pub(super) fn take_idle(&self) -> u64 {
        let idle = self.take_upto(self.low.load(Ordering::Relaxed));
        self.low.store(self.left(), Ordering::Relaxed);
        idle
    }

    /// Whether it is to be looked at again.
    pub(super) fn stays_watched(&self) -> bool {
        if self.left() > 0 {
            return true;
        }
        self.is_watched.store(false, Ordering::Release);
        // What was put in just now found it watched.
        self.left() > 0 && !self.is_watched.swap(true, Ordering::AcqRel)
    }
}
