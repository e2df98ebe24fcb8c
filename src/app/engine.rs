//! The back, joined: queue, pool, worker and what they share, and what has to happen to them now and then.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::cluster::Joined;
use super::{cores, memory_budget};
use crate::config::Config;
use crate::invoke::{Events, Invoker, Running, Waits};
use crate::model::{Action, Namespace, Timestamp};
use crate::pool::Pool;
use crate::queue::message::Work;
use crate::queue::{Hands, MemoryQueue, Queue, Replies};
use crate::sandbox::{Sandbox, Wasmtime};
use crate::store::seal::Seal;
use crate::store::watched::Hub;
use crate::store::{Pending, Store};
use crate::telemetry::metrics::Gauges;
use crate::worker::{Worker, WorkerHands};

/// How often queues are looked at for callers that waited too long.
const TICK: Duration = Duration::from_millis(50);
/// How often idle instances are looked at; a keep-alive is exact to this.
const REAP: Duration = Duration::from_secs(1);
/// How often records past their retention are looked for.
const EXPIRE: Duration = Duration::from_secs(60);

/// The back, joined.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) pool: Pool,
    pub(super) worker: Arc<Worker>,
    /// The queue knows the worker weakly; this keeps it.
    _hands: Arc<WorkerHands>,
    pub(super) waits: Arc<Waits>,
    /// What is made of several actions and runs.
    pub(super) running: Arc<Running>,
    /// Who watches records as they are put.
    pub(super) hub: Arc<Hub>,
    /// What goes on behind answers.
    pub(super) events: Arc<Events>,
    pub(super) store: Store,
    /// What encrypts what is stored.
    pub(super) seal: Arc<Seal>,
    /// The store below encryption.
    pub(super) raw: Store,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Everything built and joined.
    pub(super) fn new(
        config: &Config,
        sandbox: &Arc<Wasmtime>,
        store: &Store,
        guests: Handle,
        (hub, seal, raw): (Arc<Hub>, Arc<Seal>, Store),
        cluster: Option<&Joined>,
    ) -> Self {
        let queue: Arc<dyn Queue> = match cluster {
            None => MemoryQueue::new(config.queue.clone(), Arc::clone(&store.accepted)),
            Some(joined) => joined.queue(config, store, &seal),
        };
        let pool = Pool::new(
            &config.pool,
            Arc::clone(sandbox) as _,
            memory_budget(config),
        );
        let worker = Worker::new(
            &config.worker,
            cores(),
            Arc::clone(&queue),
            pool.clone(),
            store.clone(),
            guests,
        );
        if let Some(joined) = cluster {
            pool.limit_by(joined.slots());
        }
        let idle = pool.give_up();
        sandbox.when_full(move || idle.one());
        let hands = Arc::new(WorkerHands(Arc::clone(&worker)));
        let waits = Arc::new(Waits::default());
        let (weak_hands, weak_waits) = (Arc::downgrade(&hands), Arc::downgrade(&waits));
        queue.attach(
            weak_hands as Weak<dyn Hands>,
            weak_waits as Weak<dyn Replies>,
        );
        Self {
            queue,
            pool,
            worker,
            _hands: hands,
            waits,
            running: Arc::default(),
            hub,
            events: Arc::new(Events::new(config.invoke.clone())),
            store: store.clone(),
            seal,
            raw,
        }
    }

    /// Queues again what a former process accepted and did not finish; returns how much.
    pub(super) async fn recover(&self, invoker: &Invoker) -> anyhow::Result<usize> {
        let pending = self.store.accepted.pending().await?;
        self.take_up(invoker, pending).await
    }

    /// Queues what was accepted elsewhere, or by a former process, and not finished; returns how much.
    pub(super) async fn take_up(
        &self,
        invoker: &Invoker,
        all: Vec<Pending>,
    ) -> anyhow::Result<usize> {
        let mut unfinished = Vec::new();
        let mut composed = 0;
        let cancelled = invoker.former_cancels().await?;
        for pending in all {
            invoker.stop_again(&cancelled, pending.id, &pending.work);
            if invoker.recover_event(&pending).await? {
                composed += 1;
                continue;
            }
            match serde_json::from_slice::<Work>(&pending.work) {
                Ok(mut work) if work.version == Work::VERSION => {
                    self.unseal(&mut work);
                    let recorded = self.store.activations.get(&work.namespace, work.id).await?;
                    match recorded {
                        // It had ended; only its settlement was lost.
                        Some(_) => {
                            self.store.accepted.settle(work.id);
                            self.queue.cancels().forget(work.id);
                        }
                        None => {
                            if Worker::gives_up(pending.begun)
                                && let Err(error) = invoker.bury_work(&work, pending.begun).await
                            {
                                tracing::error!(activation = %work.id, %error, "a dead letter could not be kept");
                            }
                            if Invoker::composes(&work) {
                                invoker.recover(work, pending.begun).await?;
                                composed += 1;
                            } else {
                                unfinished.push((work, pending.begun));
                            }
                        }
                    }
                }
                Ok(work) => {
                    tracing::error!(activation = %pending.id, version = work.version, "accepted work of another release is left alone");
                }
                Err(error) => {
                    tracing::error!(activation = %pending.id, %error, "accepted work cannot be read and is left alone");
                }
            }
        }
        Ok(composed + self.worker.recover(unfinished))
    }

    /// Decrypts the parameters that came with the work's action: of its own namespace, and of packages it was reached through.
    fn unseal(&self, work: &mut Work) {
        let mut action = Action::clone(&work.action);
        unseal(&self.seal, &work.namespace, &mut action);
        work.action = Arc::new(action);
    }

    /// What happens now and then, until the set is shut down.
    pub(super) fn upkeep(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let worker = Arc::clone(&self.worker);
        tasks.spawn(every(TICK, move || {
            worker.tick();
            std::future::ready(())
        }));
        let worker = Arc::clone(&self.worker);
        tasks.spawn(every(REAP, move || {
            // Dropping many instances takes a while: not on a thread that serves.
            let worker = Arc::clone(&worker);
            let reaped = tokio::task::spawn_blocking(move || worker.reap());
            async move { drop(reaped.await) }
        }));
        let store = self.store.clone();
        tasks.spawn(every(EXPIRE, move || {
            let Store {
                activations, items, ..
            } = store.clone();
            async move {
                // First, since it is the records' expiry that gives free pages back to the disk.
                if let Err(error) = items.expire_items(Timestamp::now()).await {
                    tracing::warn!(%error, "expired items could not be removed");
                }
                match activations.expire(Timestamp::now()).await {
                    Ok(0) => {}
                    Ok(count) => {
                        tracing::info!(count, "activation records are past their retention");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "old activation records could not be removed");
                    }
                }
            }
        }));
        tasks
    }

    /// Whether it can serve, or why not.
    pub(super) fn ready(&self) -> Result<(), String> {
        if self.store.activations.has_room() {
            Ok(())
        } else {
            Err(
                "the store cannot keep up or has no room on its disk: activation records wait"
                    .to_owned(),
            )
        }
    }

    /// What metrics show of it.
    pub(super) fn gauges(&self, sandbox: &dyn Sandbox) -> Gauges {
        let (backlog, pool, programs) = (
            self.queue.backlog(),
            self.pool.occupancy(),
            sandbox.occupancy(),
        );
        let (fires_pending, retries_waiting) = self.events.waiting();
        Gauges {
            queue_depth: backlog.count,
            queue_bytes: backlog.bytes,
            queue_oldest_age: backlog.oldest_age,
            runs: self.worker.runs(),
            runs_max: self.worker.runs_max(),
            idle: pool.idle,
            running: pool.running,
            programs: programs.programs,
            program_bytes: programs.program_bytes,
            slots_used: programs.slots_used,
            slots: programs.slots,
            evictions: pool.evictions,
            memory_used_bytes: pool.memory_used_bytes,
            memory_budget_bytes: pool.memory_budget_bytes,
            inflight: self.waits.count(),
            fires_pending,
            retries_waiting,
        }
    }
}

/// Decrypts the parameters that came with an action that `namespace` invokes.
pub(super) fn unseal(seal: &Seal, namespace: &Namespace, action: &mut Action) {
    let reached = action.address().namespace.clone();
    let own = action.fqn.namespace.clone();
    seal.open(&[&own, &reached, namespace], &mut action.parameters);
}

/// Calls `what` every `period`; one that takes longer delays the next.
async fn every<F: Future<Output = ()>>(period: Duration, mut what: impl FnMut() -> F) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        what().await;
    }
}
