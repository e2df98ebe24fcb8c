//! Warm instances, and the memory they may take.
//!
//! ```text
//!   claim ─→ Warm(Lease) ─────────────┐
//!      └──→ Cold(Ticket) ─start─→ Lease ─→ run ─→ give_back ─→ idle ─→ (next claim | keep-alive over | evicted)
//!                                        └→ drop: destroyed
//! ```
//!
//! Invariants:
//! - a run is counted against its action's limit before anything is started for it, and until its lease is gone;
//! - memory is taken before a guest gets it; the sum of all instances never passes the node's budget;
//! - idle instances are given up, lowest rank first, as soon as live work wants their memory or their slot;
//! - an instance serves one version of one action in one namespace, and is dropped when any of them changes.

mod budget;
mod lane;
mod lease;
mod memory;
mod shortcuts;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use dashmap::DashMap;
use serde::Deserialize;
use tokio::time::Instant;

pub(crate) use budget::detect as detect_budget;
pub(crate) use lane::Facts;
use lane::{Lane, Place, Texts};
use lease::Counted;
pub(crate) use lease::{Lease, Start, StartFailure, Ticket};
use memory::{Held, Memory};
use shortcuts::Shortcuts;

use crate::model::{Action, Digest, Fqn, Namespace};
use crate::sandbox::Sandbox;
use crate::scheduler::idle::{self, Policy};

/// Warmth and memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// How long an instance is kept after its last run, seconds.
    pub(crate) keep_alive_s: u64,
    /// How the keep-alive adapts: `fixed`, `histogram` or `greedy-dual`.
    keep_alive_policy: idle::Kind,
    /// Memory of all instances together, MiB; 0 takes three quarters of what the machine or its cgroup has.
    pub(crate) memory_mib: u64,
    /// Where guests find the API: `__OW_API_HOST`. Known once the server listens, so it is no knob of this section.
    #[serde(skip)]
    pub(crate) api_host: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keep_alive_s: 60,
            keep_alive_policy: idle::Kind::Fixed,
            memory_mib: 0,
            api_host: String::new(),
        }
    }
}

/// Says how many runs of a limited action this node may have, where other nodes have some of them.
pub(crate) trait Slots: Send + Sync + 'static {
    /// Of `action`, invoked by `namespace`. Never waits.
    fn runs_max(&self, namespace: &Namespace, action: &Action) -> u64;
}

/// Why there is no place for a run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    /// The action is at its own limit; its next release changes that.
    Action,
    /// The node's memory is in use; any release may change that.
    Memory,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("occupancy", &self.occupancy())
            .finish_non_exhaustive()
    }
}

struct Shared {
    sandbox: Arc<dyn Sandbox>,
    memory: Memory,
    policy: Box<dyn Policy>,
    lanes: DashMap<(Namespace, Fqn), Arc<Lane>>,
    /// The same lanes by the address of the action they were last asked for with: no names are read on the way.
    shortcuts: Shortcuts,
    texts: Texts,
    /// `__OW_API_HOST`.
    api_host: String,
    evictions: AtomicU64,
    /// Where other nodes run the same actions.
    slots: OnceLock<Weak<dyn Slots>>,
}

/// How full the pool is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Occupancy {
    pub(crate) idle: usize,
    pub(crate) running: u64,
    pub(crate) lanes: usize,
    pub(crate) memory_used_bytes: usize,
    pub(crate) memory_budget_bytes: usize,
    pub(crate) evictions: u64,
}

/// See [`Pool::give_up`].
pub(crate) struct GiveUp(Weak<Shared>);

impl GiveUp {
    /// Gives up at least one idle instance; `false` when there is none.
    pub(crate) fn one(&self) -> bool {
        self.0.upgrade().is_some_and(|shared| shared.evict(0, 1))
    }
}

/// A place for one run.
pub(crate) enum Claim {
    /// With a warm instance.
    Warm(Lease),
    /// With memory for a new one.
    Cold(Ticket),
}

impl Shared {
    /// Takes memory, giving up idle instances if need be.
    fn take(&self, bytes: usize) -> bool {
        if self.memory.try_take(bytes) {
            return true;
        }
        self.evict(bytes, 1) && self.memory.try_take(bytes)
    }

    /// Gives up idle instances, lowest rank first, until `bytes` and `count` are free; whether anything was given up.
    ///
    /// Looks at all lanes, so it frees more than was asked for (a 64th of the budget) and is not called again soon.
    fn evict(&self, bytes: usize, count: usize) -> bool {
        let wanted = bytes.max(self.memory.budget() / 64);
        let now = Instant::now();
        let mut ranked: Vec<(u64, usize, Arc<Lane>)> = Vec::new();
        for lane in &self.lanes {
            let ranks = lane.ranks(&*self.policy, now);
            ranked.extend(
                ranks
                    .into_iter()
                    .map(|(rank, size)| (rank, size, Arc::clone(&lane))),
            );
        }
        ranked.sort_unstable_by_key(|(rank, ..)| *rank);
        let (mut freed, mut gone) = (0, 0);
        for (_, size, lane) in ranked {
            if freed >= wanted && gone >= count {
                break;
            }
            let evicted = lane.evict(1);
            gone += evicted.len();
            freed += if evicted.is_empty() { 0 } else { size };
            drop(evicted);
        }
        self.evictions
            .fetch_add(u64::try_from(gone).unwrap_or(0), Ordering::Relaxed);
        gone > 0
    }
}

impl Pool {
    /// A pool of instances of `sandbox` that together hold at most `budget_bytes`.
    pub(crate) fn new(config: &Config, sandbox: Arc<dyn Sandbox>, budget_bytes: usize) -> Self {
        let keep = Duration::from_secs(config.keep_alive_s);
        Self {
            shared: Arc::new(Shared {
                sandbox,
                memory: Memory::new(budget_bytes),
                policy: idle::policy(config.keep_alive_policy, keep),
                lanes: DashMap::new(),
                shortcuts: Shortcuts::default(),
                texts: Texts::default(),
                api_host: config.api_host.clone(),
                evictions: AtomicU64::new(0),
                slots: OnceLock::new(),
            }),
        }
    }

    /// Lets `slots` say how many runs of limited actions there may be here. Once, before anything is claimed.
    pub(crate) fn limit_by(&self, slots: Weak<dyn Slots>) {
        drop(self.shared.slots.set(slots));
    }

    /// Most runs of `action` here at one time.
    fn runs_max(&self, namespace: &Namespace, action: &Action) -> u64 {
        let limit = action.limits.runs_max();
        if limit == u64::MAX {
            return limit;
        }
        let slots = self.shared.slots.get();
        slots.map_or(limit, |slots| {
            slots
                .upgrade()
                .map_or(0, |slots| slots.runs_max(namespace, action).min(limit))
        })
    }

    fn lane(&self, namespace: &Namespace, action: &Arc<Action>) -> Arc<Lane> {
        let shared = &self.shared;
        if let Some(lane) = shared.shortcuts.find(namespace, action) {
            return lane;
        }
        let key = (namespace.clone(), action.address().clone());
        let found = shared.lanes.get(&key).map(|lane| Arc::clone(&lane));
        let lane = found.unwrap_or_else(|| {
            let made = || Arc::new(Lane::new(namespace, action, self.facts(namespace, action)));
            Arc::clone(&shared.lanes.entry(key).or_insert_with(made))
        });
        shared.shortcuts.note(namespace, action, &lane);
        lane
    }

    /// What records of `action` say when `namespace` invokes it.
    pub(crate) fn facts(&self, namespace: &Namespace, action: &Action) -> Facts {
        let shared = &self.shared;
        Facts::of(namespace, action, &shared.texts, &shared.api_host)
    }

    /// A place for a run of `action`, invoked by `namespace`. Never waits; reuses first, then starts.
    pub(crate) fn claim(&self, namespace: &Namespace, action: &Arc<Action>) -> Result<Claim, Busy> {
        let lane = self.lane(namespace, action);
        let runs_max = self.runs_max(namespace, action);
        let (place, stale) = lane.claim(action, runs_max, || self.facts(namespace, action));
        drop(stale);
        // Slots may have been taken from this node between the two: whoever takes them looks at the runs afterwards.
        if runs_max < u64::MAX
            && !matches!(place, Place::Full)
            && lane.counts().1 > self.runs_max(namespace, action)
        {
            drop(place);
            lane.release();
            return Err(Busy::Action);
        }
        match place {
            Place::Full => Err(Busy::Action),
            Place::Warm(idle, facts) => Ok(Claim::Warm(Lease::of(idle, facts, Counted::new(lane)))),
            Place::Room(bytes, facts) => {
                let run = Counted::new(lane);
                if !self.shared.take(bytes) {
                    return Err(Busy::Memory);
                }
                let held = Arc::new(Held::new(Arc::downgrade(&self.shared), bytes));
                Ok(Claim::Cold(Ticket {
                    pool: self.clone(),
                    // Nothing but code is queued; anything else would be found to have none when it is started.
                    program: action
                        .exec
                        .code()
                        .map_or_else(|| Digest::of(b""), |code| code.program),
                    held,
                    facts,
                    run,
                }))
            }
        }
    }

    /// Whether the action's limit leaves room; looked at again after its queue was parked.
    pub(crate) fn has_room(&self, namespace: &Namespace, action: &Arc<Action>) -> bool {
        let runs_max = self.runs_max(namespace, action);
        self.lane(namespace, action).has_room(runs_max)
    }

    /// Idle and running instances of it; `None` when nobody called it for as long as one is kept.
    pub(crate) fn counts(&self, namespace: &Namespace, address: &Fqn) -> Option<(usize, u64)> {
        let key = (namespace.clone(), address.clone());
        let lane = self.shared.lanes.get(&key);
        lane.map(|lane| lane.counts())
    }

    /// Ends what was idle for too long, lets what was idle for a while rest, and forgets actions nobody calls; returns how many
    /// instances ended.
    pub(crate) fn reap(&self) -> usize {
        let (shared, now) = (&self.shared, Instant::now());
        // Those in use are found again; the others must not keep their lanes.
        shared.shortcuts.clear();
        let lanes: Vec<Arc<Lane>> = shared.lanes.iter().map(|lane| Arc::clone(&lane)).collect();
        let mut ended = 0;
        for lane in &lanes {
            let expired = lane.expired(&*shared.policy, now);
            ended += expired.len();
            drop(expired);
            lane.rest(now);
        }
        drop(lanes);
        // A lane that somebody holds is about to be used.
        shared.lanes.retain(|_, lane| {
            Arc::strong_count(lane) > 1 || !lane.is_forgotten(&*shared.policy, now)
        });
        ended
    }

    /// For others who need an instance slot: gives up idle instances for as long as the pool is there.
    pub(crate) fn give_up(&self) -> GiveUp {
        GiveUp(Arc::downgrade(&self.shared))
    }

    /// How full it is.
    pub(crate) fn occupancy(&self) -> Occupancy {
        let shared = &self.shared;
        let counts = shared.lanes.iter().map(|lane| lane.counts());
        let (idle, running) = counts.fold((0, 0), |sum, lane| (sum.0 + lane.0, sum.1 + lane.1));
        Occupancy {
            idle,
            running,
            lanes: shared.lanes.len(),
            memory_used_bytes: shared.memory.used(),
            memory_budget_bytes: shared.memory.budget(),
            evictions: shared.evictions.load(Ordering::Relaxed),
        }
    }
}
