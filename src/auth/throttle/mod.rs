//! How much a namespace may ask for: a rate per wall-clock minute, and a number of invocations in flight.
//!
//! The rate is counted per minute of the epoch and starts anew with each; rejected calls count too, so hammering does
//! not help. Where the operator prefers it, the last 60 seconds are looked at instead ([`Window::Sliding`]). A minute is told
//! apart from another by inequality, not by order: a step of the wall clock, either way, starts a new count and locks nobody
//! out. A place in flight is given back by [`Admission`]'s drop, when the activation has completed, however long its caller has
//! been gone.
//!
//! Both are exact: on one machine by counters in memory ([`local`]), and over all nodes of a cluster by what they hold of
//! counts in Redis ([`wide`]), where most calls find what they need in their own node's memory too.

mod counts;
mod flight;
mod local;
mod pot;
mod rate;
mod tend;
#[cfg(test)]
mod tests;
mod wide;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::link::Link;
use crate::model::limits::EffectiveLimits;
use crate::model::{Namespace, Timestamp};
use local::Local;
use wide::Wide;

/// Seconds after which a place may have become free, or Redis be back.
const SOON_S: u32 = 1;

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
    /// Whether it exceeds anything is not known: this node has nothing left of what it held, and Redis does not answer.
    #[error("the limits of the namespace cannot be looked up: Redis does not answer")]
    Unknown,
}

impl Exceeded {
    /// One word for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Rate { .. } => "rate",
            Self::Concurrency { .. } => "concurrency",
            Self::Unknown => "redis",
        }
    }

    /// When to come back.
    pub(crate) fn retry_after_s(&self) -> u32 {
        match self {
            Self::Rate { retry_after_s, .. } => *retry_after_s,
            Self::Concurrency { .. } | Self::Unknown => SOON_S,
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

/// A place among the invocations in flight, given back when dropped.
pub(crate) struct Admission(Place);

enum Place {
    Local(Arc<local::Meter>),
    Wide(Arc<wide::Meter>),
}

impl Drop for Admission {
    fn drop(&mut self) {
        match &self.0 {
            Place::Local(meter) => meter.leave(),
            Place::Wide(meter) => meter.leave(),
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admission")
    }
}

impl Admission {
    fn local(meter: Arc<local::Meter>) -> Self {
        Self(Place::Local(meter))
    }

    fn wide(meter: Arc<wide::Meter>) -> Self {
        Self(Place::Wide(meter))
    }
}

/// Who this node is to the other nodes.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Its id, which no other node has or had.
    pub(crate) id: String,
    /// For how long what it holds is kept for it.
    pub(crate) lease: Duration,
}

/// Holds every namespace to its limits.
pub(crate) struct Throttle(Form);

enum Form {
    Local(Local),
    Wide(Arc<Wide>),
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new(Window::default())
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = match &self.0 {
            Form::Local(local) => local.len(),
            Form::Wide(wide) => wide.len(),
        };
        write!(f, "Throttle({count} namespaces)")
    }
}

impl Throttle {
    /// A throttle for one machine that counts rates over `window`.
    pub(crate) fn new(window: Window) -> Self {
        Self(Form::Local(Local::new(window)))
    }

    /// A throttle for all nodes that share Redis and `prefix`. Called within a runtime; whoever has it calls
    /// [`Throttle::upkeep`] five times within a lease.
    pub(crate) fn wide(window: Window, link: Link, prefix: &str, node: Node) -> Self {
        Self(Form::Wide(Wide::new(window, link, prefix, node)))
    }

    /// Counts one invocation of `namespace` and claims a place for it.
    pub(crate) async fn enter(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
    ) -> Result<Admission, Exceeded> {
        match &self.0 {
            Form::Local(local) => {
                let entered = local.admit_at(namespace, limits, Timestamp::now());
                entered.map(Admission::local)
            }
            Form::Wide(wide) => match wide.try_enter(namespace, limits) {
                Ok(answer) => answer,
                // In a box of its own: callers that are answered at once carry nothing of it.
                Err(asking) => Box::pin(asking.enter(limits)).await,
            },
        }
    }

    /// Claims a place for an invocation of `namespace` that was counted before.
    pub(crate) async fn place(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
    ) -> Result<Admission, Exceeded> {
        match &self.0 {
            Form::Local(local) => local.claim(namespace, limits).map(Admission::local),
            Form::Wide(wide) => Box::pin(wide.place(namespace, limits)).await,
        }
    }

    /// Counts one fire of a trigger of `namespace`.
    pub(crate) async fn fire(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
    ) -> Result<(), Exceeded> {
        match &self.0 {
            Form::Local(local) => local.fire(namespace, limits),
            Form::Wide(wide) => Box::pin(wide.fire(namespace, limits)).await,
        }
    }

    /// Renews what this node holds, and tells Redis what it has no use for. Whether everything was renewed: a node of
    /// which this is false for as long as its lease lasts calls [`Throttle::lapse`].
    pub(crate) async fn upkeep(&self) -> bool {
        match &self.0 {
            Form::Local(_) => true,
            Form::Wide(wide) => wide.upkeep().await,
        }
    }

    /// Gives up what this node holds and nobody uses: its lease is over. Nothing is admitted until Redis has renewed the rest.
    pub(crate) fn lapse(&self) {
        if let Form::Wide(wide) = &self.0 {
            wide.lapse();
        }
    }

    /// Places for `count` invocations of `namespace` that run here, or soon will, and that `front` admitted, which is gone.
    /// Whether Redis was told; if not, it is with the next upkeep.
    pub(crate) async fn take_over(
        &self,
        namespace: &Namespace,
        front: &str,
        count: usize,
    ) -> (Vec<Admission>, bool) {
        match &self.0 {
            Form::Local(_) => (Vec::new(), true),
            Form::Wide(wide) => {
                let count = u64::try_from(count).unwrap_or(u64::MAX);
                wide.take_over(namespace, front, count, true).await
            }
        }
    }

    /// A place that `front`, which is gone, had for an invocation of `namespace` that has not begun; `None` where it has none
    /// any more.
    pub(crate) async fn inherit(&self, namespace: &Namespace, front: &str) -> Option<Admission> {
        match &self.0 {
            Form::Local(_) => None,
            Form::Wide(wide) => wide.take_over(namespace, front, 1, false).await.0.pop(),
        }
    }

    /// Gives back what nobody uses here, and from now on everything that is not in use.
    pub(crate) async fn drain(&self) {
        if let Form::Wide(wide) = &self.0 {
            wide.drain().await;
        }
    }

    /// As [`Throttle::enter`], on one machine and at a given time.
    #[cfg(test)]
    pub(super) fn admit_at(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
        now: Timestamp,
    ) -> Result<Admission, Exceeded> {
        let Form::Local(local) = &self.0 else {
            panic!("only one machine is told the time");
        };
        local.admit_at(namespace, limits, now).map(Admission::local)
    }

    /// As [`Throttle::enter`], on one machine.
    #[cfg(test)]
    pub(crate) fn admit(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
    ) -> Result<Admission, Exceeded> {
        self.admit_at(namespace, limits, Timestamp::now())
    }

    /// Invocations of `namespace` in flight at this node.
    #[cfg(test)]
    pub(crate) fn in_flight(&self, namespace: &Namespace) -> u64 {
        match &self.0 {
            Form::Local(local) => local.in_flight(namespace),
            Form::Wide(wide) => wide.in_flight(namespace),
        }
    }
}
