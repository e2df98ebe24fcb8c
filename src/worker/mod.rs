//! The hands: takes work when there is capacity for it, runs it, records it, answers.
//!
//! Capacity comes first, work second: a run permit, then a place in the pool (an instance, or memory for one), then the
//! work. All three are returned on drop, and whatever returns one looks at the queues again.
//!
//! ```text
//!   enqueue ─ offer ─→ permit ─→ claim ─→ run (inline for its first slice, then behind the gate)
//!                │ no                        │
//!                └→ queue ←── pump ──────────┴→ put record → reply → ack → give back → pump
//! ```
//!
//! Decided here, and why:
//! - **Record before reply, neither waits for the disk.** The record can be read from the moment it was put, so a caller
//!   that asks for it right after the answer finds it; it is on disk some milliseconds later.
//! - **Ack after the record.** Promised work is forgotten only once its record is stored, so a crash in between repeats
//!   nothing that is recorded and loses nothing that is not.
//! - **At least once for what was promised, unless it says otherwise.** A lost run is repeated at most twice;
//!   an action annotated `at-most-once: true` is not repeated but recorded as failed.
//! - **More runs than cores.** Guests yield, so a run permit is cheap; permits bound stacks and memory, not CPU. One
//!   namespace gets at most three quarters of them, so that the others always find one.

mod clock;
mod cpu;
mod logs;
mod record;
mod run;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use dashmap::DashMap;
use foldhash::quality::RandomState;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use cpu::{Cpu, Gated, Share};

use crate::model::Namespace;
use crate::pool::{Busy, Claim, Pool};
use crate::queue::message::Work;
use crate::queue::{Delivery, Hands, Key, Queue};
use crate::scheduler::fairness::Runtime;
use crate::scheduler::placement::Warmth;
use crate::store::Store;

/// Slices a run may have where its call came in. The second is for runs whose thread lost its core in the first: ticks pass
/// then, too, and a run of some microseconds should not have to change threads for it.
const INLINE_SLICES: usize = 2;

/// How much runs at one time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Runs in progress per core. Guests that wait or yield do not occupy a core, so this is a multiple.
    pub(crate) runs_per_core: usize,
    /// Threads that compute what is not over within its first slice; 0 takes one per core.
    pub(crate) guest_threads: usize,
    /// How much those threads stand back behind those that serve connections, 0 to 19.
    pub(crate) guest_niceness: i32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            runs_per_core: 256,
            guest_threads: 0,
            guest_niceness: 5,
        }
    }
}

/// See the module.
pub(crate) struct Worker {
    queue: Arc<dyn Queue>,
    pool: Pool,
    store: Store,
    cpu: Arc<Cpu>,
    /// Where runs go on that outlast their first slice.
    guests: Handle,
    shares: DashMap<Namespace, Arc<Share>, RandomState>,
    runs: AtomicUsize,
    runs_max: usize,
    ended: Notify,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("runs", &self.runs())
            .finish_non_exhaustive()
    }
}

/// The right to one run, returned on drop.
struct Permit {
    worker: Arc<Worker>,
    share: Arc<Share>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.share.runs.fetch_sub(1, Ordering::AcqRel);
        self.worker.runs.fetch_sub(1, Ordering::AcqRel);
        self.worker.ended.notify_waiters();
    }
}

/// Whether `count` may grow by one within `max`; grown if so.
fn take_one(count: &AtomicUsize, max: usize) -> bool {
    let fits = |now: usize| (now < max).then_some(now + 1);
    count
        .fetch_update(Ordering::AcqRel, Ordering::Relaxed, fits)
        .is_ok()
}

impl Worker {
    /// A worker that runs on `guests` what is not over at once, with one CPU token per guest thread.
    pub(crate) fn new(
        config: &Config,
        cores: usize,
        queue: Arc<dyn Queue>,
        pool: Pool,
        store: Store,
        guests: Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            queue,
            pool,
            store,
            cpu: Cpu::new(guests.metrics().num_workers()),
            guests,
            shares: DashMap::default(),
            runs: AtomicUsize::new(0),
            runs_max: (config.runs_per_core * cores).max(4),
            ended: Notify::new(),
        })
    }

    /// Runs in progress.
    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::Acquire)
    }

    /// Most runs at one time.
    pub(crate) fn runs_max(&self) -> usize {
        self.runs_max
    }

    fn share(&self, namespace: &Namespace) -> Arc<Share> {
        if let Some(share) = self.shares.get(namespace) {
            return Arc::clone(&share);
        }
        Arc::clone(&self.shares.entry(namespace.clone()).or_default())
    }

    fn permit(self: &Arc<Self>, namespace: &Namespace) -> Option<Permit> {
        let share = self.share(namespace);
        if !take_one(&share.runs, self.runs_max_each()) {
            return None;
        }
        if !take_one(&self.runs, self.runs_max) {
            share.runs.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Permit {
            worker: Arc::clone(self),
            share,
        })
    }

    /// Starts a run that came from its caller's thread: computed there at first, if fairness allows.
    fn start_inline(self: &Arc<Self>, delivery: Delivery, permit: Permit, claim: Claim) {
        let share = Arc::clone(&permit.share);
        let inline = self.cpu.may_run_inline(&share);
        let mut run = Box::pin(run::run(Arc::clone(self), delivery, permit, claim));
        // No waker is needed: should it not end, it is polled anew behind the gate.
        let mut context = Context::from_waker(Waker::noop());
        if inline {
            for _ in 0..INLINE_SLICES {
                if run.as_mut().poll(&mut context).is_ready() {
                    return;
                }
            }
        }
        self.guests
            .spawn(Gated::new(run, Arc::clone(&self.cpu), share));
    }

    /// Starts a run that waited.
    fn start_gated(self: &Arc<Self>, delivery: Delivery, permit: Permit, claim: Claim) {
        let share = Arc::clone(&permit.share);
        let run = Box::pin(run::run(Arc::clone(self), delivery, permit, claim));
        self.guests
            .spawn(Gated::new(run, Arc::clone(&self.cpu), share));
    }

    /// Starts what waits, whose turn it is, as long as there is capacity.
    fn pump(self: &Arc<Self>) {
        let rank = |namespace: &Namespace| self.cpu.runtime(&self.share(namespace));
        while let Some(key) = self.queue.next(&rank) {
            let Some(permit) = self.permit(&key.namespace) else {
                // Its own share of the permits, or all of them: whichever run ends next looks again.
                if self.runs() >= self.runs_max {
                    return;
                }
                self.pass_over(&key);
                continue;
            };
            let Some(delivery) = self.queue.pull(&key) else {
                continue;
            };
            match self
                .pool
                .claim(&delivery.work.namespace, &delivery.work.action)
            {
                Ok(claim) => self.start_gated(delivery, permit, claim),
                Err(busy) => {
                    let action = Arc::clone(&delivery.work.action);
                    self.queue.put_back(delivery);
                    drop(permit);
                    if busy == Busy::Memory {
                        return;
                    }
                    self.queue.park(&key);
                    // Its last run may have ended before it was parked: then nobody else would unpark it.
                    if self.pool.has_room(&key.namespace, &action) {
                        self.queue.unpark(&key);
                    }
                }
            }
        }
    }

    /// Parks a queue whose namespace holds all the permits it may; its next release unparks it.
    fn pass_over(&self, key: &Key) {
        self.queue.park(key);
        let share = self.share(&key.namespace);
        if share.runs.load(Ordering::Acquire) < self.runs_max_each() {
            self.queue.unpark(key);
        }
    }

    /// What has to happen now and then: waiting callers that waited too long, queues nobody looked at.
    pub(crate) fn tick(self: &Arc<Self>) {
        if !self.queue.is_empty() {
            self.queue.expire();
            self.queue.unpark_all(None);
            self.pump();
        }
    }

    /// Ends idle instances whose time has come, and forgets namespaces that do nothing.
    pub(crate) fn reap(&self) {
        self.pool.reap();
        self.shares.retain(|_, share| {
            Arc::strong_count(share) > 1 || share.runs.load(Ordering::Acquire) > 0
        });
    }

    /// Resolves when nothing runs.
    pub(crate) async fn idle(&self) {
        loop {
            let ended = self.ended.notified();
            if self.runs() == 0 {
                return;
            }
            ended.await;
        }
    }

    /// A run has given everything back: its queue, and others, may go on. `capped` tells that its namespace held as many
    /// permits as it may.
    fn released(self: &Arc<Self>, key: &Key, capped: bool) {
        if capped {
            self.queue.unpark_all(Some(&key.namespace));
        } else {
            self.queue.unpark(key);
        }
        self.pump();
    }

    /// Most runs of one namespace at one time.
    fn runs_max_each(&self) -> usize {
        self.runs_max * 3 / 4
    }

    /// Whether work is recorded as failed when this many runs of it were lost.
    pub(crate) fn gives_up(begun: u32) -> bool {
        begun >= run::DELIVERIES_MAX
    }

    /// Takes up work that another node had, of which `begun` runs were lost.
    pub(crate) fn salvage(self: &Arc<Self>, delivery: Delivery, begun: u32) {
        run::salvage(self, delivery, begun);
    }

    /// Takes up what a former process accepted and did not finish. Returns how much was queued again.
    pub(crate) fn recover(self: &Arc<Self>, pending: Vec<(Work, u32)>) -> usize {
        run::recover(self, pending)
    }
}

impl Hands for WorkerHands {
    fn offer(&self, delivery: Delivery) -> Result<(), Box<Delivery>> {
        let worker = &self.0;
        let Some(permit) = worker.permit(&delivery.work.namespace) else {
            return Err(Box::new(delivery));
        };
        match worker
            .pool
            .claim(&delivery.work.namespace, &delivery.work.action)
        {
            Ok(claim) => {
                worker.start_inline(delivery, permit, claim);
                Ok(())
            }
            Err(_) => Err(Box::new(delivery)),
        }
    }

    fn nudge(&self) {
        self.0.pump();
    }

    fn give_up(&self, delivery: Delivery, text: &str) {
        run::give_up(&self.0, delivery, text);
    }

    fn room(&self) -> usize {
        self.0.runs_max.saturating_sub(self.0.runs())
    }

    fn room_of(&self, namespace: &Namespace) -> usize {
        let share = self.0.share(namespace);
        let runs = share.runs.load(Ordering::Acquire);
        self.0.runs_max_each().saturating_sub(runs)
    }

    fn used(&self, namespace: &Namespace) -> Runtime {
        self.0.cpu.runtime(&self.0.share(namespace))
    }

    fn warmth(&self, key: &Key) -> Warmth {
        match self.0.pool.counts(&key.namespace, &key.action) {
            Some((1.., _)) => Warmth::Warm,
            // Called within the keep-alive: its code is linked.
            Some(_) => Warmth::Code,
            None => Warmth::Cold,
        }
    }

    fn running(&self, key: &Key) -> u64 {
        let counts = self.0.pool.counts(&key.namespace, &key.action);
        counts.map_or(0, |(_, running)| running)
    }
}

/// The worker as the queue knows it.
#[derive(Debug)]
pub(crate) struct WorkerHands(pub(crate) Arc<Worker>);
