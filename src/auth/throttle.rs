//! How much a namespace may ask for: a rate per wall-clock minute, and a number of invocations in flight.
//!
//! The rate is counted per minute of the epoch and starts anew with each; rejected calls count too, so hammering does
//! not help. Where the operator prefers it, the last 60 seconds are looked at instead ([`Window::Sliding`]). A minute is told apart from another by inequality, not by order: a step of the wall clock, either way,
//! starts a new count and locks nobody out. Concurrency is exact: a place is claimed by compare-and-swap and given back by
//! [`Admission`]'s drop, when the activation has completed, however long its caller has been gone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use foldhash::quality::RandomState;
use serde::Deserialize;

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

/// Over which time a rate is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Window {
    /// The minute of the wall clock, as OpenWhisk counts: twice the rate passes around the turn of a minute, and whoever
    /// has used it up waits for the next.
    #[default]
    Minute,
    /// The last 60 seconds, taken as what this minute has had and the share of the minute before that still lies in
    /// them. Refused calls do not count.
    Sliding,
}

/// A moment, as rates see it.
#[derive(Clone, Copy)]
struct Moment {
    /// Minutes of the epoch; they wrap after six weeks, which nobody notices.
    minute: u16,
    /// Seconds of the minute that have passed.
    second: u64,
}

impl Moment {
    fn of(now: Timestamp) -> Self {
        let seconds = now.millis() / 1000;
        Self {
            minute: u16::try_from(seconds / 60 % (1 << 16)).unwrap_or_default(),
            second: seconds % 60,
        }
    }

    /// Seconds that are left of the minute.
    fn left(self) -> u64 {
        60 - self.second
    }
}

/// The calls of a minute and of the one before it.
#[derive(Clone, Copy)]
struct Counts {
    minute: u16,
    before: u64,
    now: u64,
}

/// Counts end here; a limit beyond it is none.
const COUNT_MAX: u64 = (1 << 24) - 1;

impl Counts {
    fn unpack(packed: u64) -> Self {
        Self {
            minute: u16::try_from(packed >> 48).unwrap_or_default(),
            before: packed >> 24 & COUNT_MAX,
            now: packed & COUNT_MAX,
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.minute) << 48 | self.before << 24 | self.now
    }

    /// As they are in `minute`.
    fn in_minute(self, minute: u16) -> Self {
        let (before, now) = match minute.wrapping_sub(self.minute) {
            0 => return self,
            1 => (self.now, 0),
            // Long ago, or the clock stepped back.
            _ => (0, 0),
        };
        Self {
            minute,
            before,
            now,
        }
    }

    /// The calls that count against a limit, one more included.
    fn with_one_more(self, window: Window, moment: Moment) -> u64 {
        match window {
            Window::Minute => self.now + 1,
            Window::Sliding => self.now + 1 + self.before * moment.left() / 60,
        }
    }

    /// Seconds after which one more may be allowed.
    fn retry_after_s(self, window: Window, moment: Moment, allowed: u64) -> u32 {
        let left = moment.left();
        let seconds = match window {
            Window::Minute => left,
            // This minute's calls must become those of the minute before, and fade.
            Window::Sliding if self.now >= allowed => left + 1,
            // Those of the minute before must fade.
            Window::Sliding => {
                left.saturating_sub((allowed - self.now - 1) * 60 / self.before.max(1))
            }
        };
        u32::try_from(seconds.clamp(1, 60)).unwrap_or(60)
    }
}

/// What one namespace has used.
#[derive(Default)]
struct Meter {
    /// [`Counts`], changed together.
    counts: AtomicU64,
    in_flight: AtomicU64,
}

impl Meter {
    /// Counts a call, if its window leaves room for it.
    fn count(&self, window: Window, moment: Moment, allowed: u64) -> Result<(), Exceeded> {
        let mut seen = self.counts.load(Ordering::Relaxed);
        loop {
            let counts = Counts::unpack(seen).in_minute(moment.minute);
            let count = counts.with_one_more(window, moment);
            let passes = count <= allowed || allowed >= COUNT_MAX;
            let refused = Exceeded::Rate {
                count,
                allowed,
                retry_after_s: counts.retry_after_s(window, moment, allowed),
            };
            if !passes && window == Window::Sliding {
                return Err(refused);
            }
            let new = Counts {
                now: (counts.now + 1).min(COUNT_MAX),
                ..counts
            };
            match self.counts.compare_exchange_weak(
                seen,
                new.pack(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) if passes => return Ok(()),
                Ok(_) => return Err(refused),
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

    fn is_idle(&self, minute: u16) -> bool {
        let counts = Counts::unpack(self.counts.load(Ordering::Relaxed)).in_minute(minute);
        counts.now == 0 && counts.before == 0 && self.in_flight.load(Ordering::Relaxed) == 0
    }
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
    window: Window,
    meters: DashMap<Namespace, Arc<Meter>, RandomState>,
    /// Fires of triggers, which are counted apart from invocations.
    fires: DashMap<Namespace, Arc<Meter>, RandomState>,
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Throttle({} namespaces)", self.meters.len())
    }
}

impl Throttle {
    /// A throttle that counts rates over `window`.
    pub(crate) fn new(window: Window) -> Self {
        Self {
            window,
            ..Self::default()
        }
    }

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
        let moment = Moment::of(now);
        let meter = meter(&self.meters, namespace, moment);
        meter.count(self.window, moment, limits.invocations_per_minute)?;
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
        let meter = meter(&self.meters, namespace, Moment::of(Timestamp::now()));
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
        let moment = Moment::of(Timestamp::now());
        let meter = meter(&self.fires, namespace, moment);
        meter.count(self.window, moment, limits.fires_per_minute)
    }

    /// Invocations of `namespace` in flight.
    #[cfg(test)]
    pub(crate) fn in_flight(&self, namespace: &Namespace) -> u64 {
        self.meters
            .get(namespace)
            .map_or(0, |meter| meter.in_flight.load(Ordering::Relaxed))
    }
}

fn meter(
    meters: &DashMap<Namespace, Arc<Meter>, RandomState>,
    namespace: &Namespace,
    moment: Moment,
) -> Arc<Meter> {
    if let Some(meter) = meters.get(namespace) {
        return Arc::clone(&meter);
    }
    if meters.len() >= METERS_BEFORE_SWEEP {
        // Whoever is about to use a meter holds a clone of it, taken under the lock that `retain` takes.
        meters.retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_idle(moment.minute));
    }
    Arc::clone(&meters.entry(namespace.clone()).or_default())
}
