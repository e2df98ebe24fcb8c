//! When the clock is to look at which schedule.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{EntityName, Namespace, Timestamp};

/// How much later a node looks at what others fired last, at least and at most.
const PATIENCE_MS: (u64, u64) = (100, 300);

pub(super) type Key = (Namespace, EntityName);

/// When each schedule is due next. What holds is in the store; this says only when to look there.
#[derive(Debug, Default)]
pub(super) struct Clock {
    due: Mutex<Dues>,
    pub(super) earlier: Notify,
    is_shared: AtomicBool,
}

#[derive(Debug, Default)]
struct Dues {
    by_time: BTreeSet<(Timestamp, Key)>,
    by_key: HashMap<Key, Timestamp>,
    /// Schedules that this node fired last, where there are others.
    own: HashSet<Key>,
}

impl Clock {
    /// From now on other nodes have clocks, too.
    pub(super) fn share(&self) {
        self.is_shared.store(true, Ordering::Relaxed);
    }

    /// Whether they have.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Relaxed)
    }

    /// This node is to be the first to look at the schedule.
    pub(super) fn own(&self, namespace: &Namespace, trigger: &EntityName) {
        if self.is_shared() {
            let key = (namespace.clone(), trigger.clone());
            self.due.lock().own.insert(key);
        }
    }

    /// Another node was quicker, or the schedule is no more.
    pub(super) fn disown(&self, namespace: &Namespace, trigger: &EntityName) {
        if self.is_shared() {
            let key = (namespace.clone(), trigger.clone());
            self.due.lock().own.remove(&key);
        }
    }

    /// How long after a due time this node looks, milliseconds.
    pub(super) fn patience_ms(&self, namespace: &Namespace, trigger: &EntityName) -> u64 {
        if !self.is_shared() {
            return 0;
        }
        let key = (namespace.clone(), trigger.clone());
        if self.due.lock().own.contains(&key) {
            return 0;
        }
        fastrand::u64(PATIENCE_MS.0..=PATIENCE_MS.1)
    }

    /// Looks at the schedule of `trigger` at `time`, or never.
    pub(super) fn set(&self, namespace: &Namespace, trigger: &EntityName, time: Option<Timestamp>) {
        let key = (namespace.clone(), trigger.clone());
        let mut dues = self.due.lock();
        if let Some(old) = dues.by_key.remove(&key) {
            dues.by_time.remove(&(old, key.clone()));
        }
        if let Some(time) = time {
            dues.by_key.insert(key.clone(), time);
            dues.by_time.insert((time, key));
            drop(dues);
            self.earlier.notify_one();
        }
    }

    /// Takes out the earliest that is due at `now`, or tells how long there is none.
    pub(super) fn take(&self, now: Timestamp) -> Result<Key, Option<Duration>> {
        let mut dues = self.due.lock();
        let first = dues.by_time.first().map(|(time, _)| *time).ok_or(None)?;
        if first > now {
            return Err(Some(Duration::from_millis(first.millis_since(now))));
        }
        let (_, key) = dues.by_time.pop_first().ok_or(None)?;
        dues.by_key.remove(&key);
        Ok(key)
    }
}
