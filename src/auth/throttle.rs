//! How much a namespace may ask for: a rate per wall-clock minute, and a number of invocations in flight.
//!
//! The rate is counted per minute of the epoch and starts anew with each; rejected calls count too, so hammering does
//! not help. A minute is told apart from another by inequality, not by order: a step of the wall clock, either way,
//! starts a new count and locks nobody out. Concurrency is exact: a place is claimed by compare-and-swap and given back by
//! [`Admission`]'s drop, when the activation has completed, however long its caller has been gone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use crate::model::limits::EffectiveLimits;
use crate::model::{Namespace, Timestamp};

/// Namespaces metered before idle ones are looked for and dropped.
const METERS_BEFORE_SWEEP: usize = 4096;

/// Seconds after which a place may have become free.
const CONCURRENCY_RETRY_AFTER_S: u32 = 1;

/// Why a call is not admitted; the texts are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exceeded {
    /// More calls in this minute than allowed, this one counted.
    #[error("Too many requests in the last minute (count: {count}, allowed: {allowed}).")]
    Rate {
        count: u64,
        allowed: u64,
        retry_after_s: u32,
    },
    /// As many in flight as allowed.
    #[error("Too many concurrent requests in flight (count: {count}, allowed: {allowed}).")]
    Concurrency { count: u64, allowed: u64 },
}

impl Exceeded {
    /// One word for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Rate { .. } => "rate",
            Self::Concurrency { .. } => "concurrency",
        }
    }

    /// When to come back.
    pub(crate) fn retry_after_s(&self) -> u32 {
        match self {
            Self::Rate { retry_after_s, .. } => *retry_after_s,
            Self::Concurrency { .. } => CONCURRENCY_RETRY_AFTER_S,
        }
    }
}

/// What one namespace has used.
#[derive(Default)]
struct Meter {
    /// The minute that is counted (upper half) and the calls in it (lower half), changed together.
    minute_and_count: AtomicU64,
    in_flight: AtomicU64,
}

impl Meter {
    /// Counts a call in `minute`; how many there were, this one included.
    fn count(&self, minute: u32) -> u64 {
        let next = |packed: u64| {
            let (counted, count) = unpack(packed);
            let count = if counted == minute { count } else { 0 };
            pack(minute, count.saturating_add(1))
        };
        let mut seen = self.minute_and_count.load(Ordering::Relaxed);
        loop {
            let new = next(seen);
            match self.minute_and_count.compare_exchange_weak(
                seen,
                new,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return u64::from(unpack(new).1),
                Err(now) => seen = now,
            }
        }
    }

    /// Claims a place; how many there are when all are taken.
    fn claim(&self, allowed: u64) -> Result<(), u64> {
        let one_more = |count: u64| (count < allowed).then(|| count + 1);
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map(|_| ())
    }

    fn is_idle(&self, minute: u32) -> bool {
        let counted = unpack(self.minute_and_count.load(Ordering::Relaxed)).0;
        counted != minute && self.in_flight.load(Ordering::Relaxed) == 0
    }
}

fn pack(minute: u32, count: u32) -> u64 {
    u64::from(minute) << 32 | u64::from(count)
}

fn unpack(packed: u64) -> (u32, u32) {
    let low = u32::try_from(packed & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (u32::try_from(packed >> 32).unwrap_or(u32::MAX), low)
}

/// A place among the invocations in flight, given back when dropped.
pub(crate) struct Admission(Arc<Meter>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admission")
    }
}

/// Holds every namespace to its limits.
#[derive(Default)]
pub(crate) struct Throttle {
    meters: DashMap<Namespace, Arc<Meter>>,
    /// Fires of triggers, which are counted apart from invocations.
    fires: DashMap<Namespace, Arc<Meter>>,
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Throttle({} namespaces)", self.meters.len())
    }
}

impl Throttle {
    /// Counts one invocation of `namespace` and claims a place for it.
    pub(crate) fn admit(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
    ) -> Result<Admission, Exceeded> {
        self.admit_at(namespace, limits, Timestamp::now())
    }

    /// As [`Throttle::admit`], at a given time.
    pub(super) fn admit_at(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
        now: Timestamp,
    ) -> Result<Admission, Exceeded> {
        let (minute, retry_after_s) = minute(now);
        let meter = meter(&self.meters, namespace, minute);
        let (count, allowed) = (meter.count(minute), limits.invocations_per_minute);
        if count > allowed {
            return Err(Exceeded::Rate {
                count,
                allowed,
                retry_after_s,
            });
        }
        let allowed = limits.concurrent_invocations;
        match meter.claim(allowed) {
            Ok(()) => Ok(Admission(meter)),
            Err(count) => Err(Exceeded::Concurrency { count, allowed }),
        }
    }

    /// Claims a place for an invocation of `namespace` that was counted before.
    pub(crate) fn claim(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
    ) -> Result<Admission, Exceeded> {
        let (minute, _) = minute(Timestamp::now());
        let meter = meter(&self.meters, namespace, minute);
        let allowed = limits.concurrent_invocations;
        match meter.claim(allowed) {
            Ok(()) => Ok(Admission(meter)),
            Err(count) => Err(Exceeded::Concurrency { count, allowed }),
        }
    }

    /// Counts one fire of a trigger of `namespace`.
    pub(crate) fn admit_fire(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
    ) -> Result<(), Exceeded> {
        let (minute, retry_after_s) = minute(Timestamp::now());
        let count = meter(&self.fires, namespace, minute).count(minute);
        let allowed = limits.fires_per_minute;
        if count > allowed {
            return Err(Exceeded::Rate {
                count,
                allowed,
                retry_after_s,
            });
        }
        Ok(())
    }

    /// Invocations of `namespace` in flight.
    #[cfg(test)]
    pub(crate) fn in_flight(&self, namespace: &Namespace) -> u64 {
        self.meters
            .get(namespace)
            .map_or(0, |meter| meter.in_flight.load(Ordering::Relaxed))
    }
}

/// The minute of the epoch, and the seconds that are left of it.
fn minute(now: Timestamp) -> (u32, u32) {
    let seconds = now.millis() / 1000;
    let minute = u32::try_from(seconds / 60).unwrap_or(u32::MAX);
    (minute, u32::try_from(60 - seconds % 60).unwrap_or(60))
}

fn meter(
    meters: &DashMap<Namespace, Arc<Meter>>,
    namespace: &Namespace,
    minute: u32,
) -> Arc<Meter> {
    if let Some(meter) = meters.get(namespace) {
        return Arc::clone(&meter);
    }
    if meters.len() >= METERS_BEFORE_SWEEP {
        // Whoever is about to use a meter holds a clone of it, taken under the lock that `retain` takes.
        meters.retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_idle(minute));
    }
    Arc::clone(&meters.entry(namespace.clone()).or_default())
}
