//! Limits of one machine: counters in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use foldhash::quality::RandomState;

use super::counts::{COUNT_MAX, Counts, Moment};
use super::{Exceeded, Window};
use crate::model::limits::EffectiveLimits;
use crate::model::{Namespace, Timestamp};

/// Namespaces metered before idle ones are looked for and dropped.
const METERS_BEFORE_SWEEP: usize = 4096;

/// What one namespace has used.
#[derive(Default)]
pub(super) struct Meter {
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

    /// Gives a place back.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Every namespace of the machine.
#[derive(Default)]
pub(super) struct Local {
    window: Window,
    meters: DashMap<Namespace, Arc<Meter>, RandomState>,
    /// Fires of triggers, which are counted apart from invocations.
    fires: DashMap<Namespace, Arc<Meter>, RandomState>,
}

impl Local {
    pub(super) fn new(window: Window) -> Self {
        Self {
            window,
            ..Self::default()
        }
    }

    /// How many namespaces are metered.
    pub(super) fn len(&self) -> usize {
        self.meters.len()
    }

    /// Counts an invocation, and claims a place: the meter is to be left.
    pub(super) fn admit_at(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
        now: Timestamp,
    ) -> Result<Arc<Meter>, Exceeded> {
        let moment = Moment::of(now);
        let meter = meter(&self.meters, namespace, moment);
        meter.count(self.window, moment, limits.invocations_per_minute)?;
        let allowed = limits.concurrent_invocations;
        match meter.claim(allowed) {
            Ok(()) => Ok(meter),
            Err(count) => Err(Exceeded::Concurrency { count, allowed }),
        }
    }

    /// Claims a place: the meter is to be left.
    pub(super) fn claim(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
    ) -> Result<Arc<Meter>, Exceeded> {
        let meter = meter(&self.meters, namespace, Moment::of(Timestamp::now()));
        let allowed = limits.concurrent_invocations;
        match meter.claim(allowed) {
            Ok(()) => Ok(meter),
            Err(count) => Err(Exceeded::Concurrency { count, allowed }),
        }
    }

    /// Counts a fire.
    pub(super) fn fire(
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
    pub(super) fn in_flight(&self, namespace: &Namespace) -> u64 {
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
