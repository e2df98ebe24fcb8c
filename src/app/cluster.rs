//! This process as a node of a cluster: joined at the start, kept alive by beats, fenced when it is not, left at the end.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::artefacts::InRedis;
use super::engine::{Engine, unseal};
use super::replies::FollowUp;
use super::salvage::Salvager;
use super::standing::{Standing, Watch};
use crate::api;
use crate::auth::throttle::{self, Throttle, Window};
use crate::cluster::{Member, Node};
use crate::config::Config;
use crate::invoke::Invoker;
use crate::link::{Batch, Heard, Link};
use crate::model::{Action, ActivationId, Namespace};
use crate::pool::Slots;
use crate::queue::Queue;
use crate::queue::cluster::{Afterwards, ClusterQueue, Envelope, Parts, Salvage};
use crate::sandbox;
use crate::store::seal::Seal;
use crate::store::shared::{self, Change, Homes, Shared, Writer};
use crate::store::{self, Activations, Store};
use crate::telemetry::cluster::{self as telemetry, Event};

/// How often it is looked whether the lease has ended: runs that wait are told within this.
const WATCH: Duration = Duration::from_millis(50);
/// Longest time at the end to tell Redis what is over.
const FAREWELL_MAX: Duration = Duration::from_secs(5);
/// How often homes without an owner are looked for, beats.
const HOMES_EVERY: u32 = 10;

/// See the module.
pub(super) struct Joined {
    link: Link,
    node: Arc<Node>,
    prefix: String,
    shared: Shared,
    opened: Mutex<Option<(Store, shared::Keeper)>>,
    queue: OnceLock<Arc<ClusterQueue>>,
    slots: OnceLock<Arc<dyn Slots>>,
    watch: OnceLock<Arc<Watch>>,
    throttle: OnceLock<Arc<Throttle>>,
    /// The queue knows it weakly.
    salvager: OnceLock<Arc<dyn Salvage>>,
}

impl std::fmt::Debug for Joined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Joined({:?}, {:?})", self.node, self.link)
    }
}

/// The store's writer, as the queue needs it.
struct Records(Writer);

impl Afterwards for Records {
    fn after_records(&self, what: Box<dyn FnOnce() + Send>) {
        self.0.call_then(what);
    }
}

/// The encryption, as the queue needs it.
struct Sealing(Arc<Seal>);

impl Envelope for Sealing {
    fn close(&self, clear: Bytes) -> store::Result<Bytes> {
        self.0.close_entry(ActivationId(0), clear)
    }

    fn open(&self, kept: Bytes) -> Bytes {
        self.0.open_entry(ActivationId(0), kept)
    }

    fn unseal(&self, namespace: &Namespace, action: &mut Action) {
        unseal(&self.0, namespace, action);
    }
}

/// The slots that this node holds, as the pool needs them.
struct Held(Arc<ClusterQueue>);

impl Slots for Held {
    fn runs_max(&self, namespace: &Namespace, action: &Action) -> u64 {
        self.0.runs_max(namespace, action)
    }
}

/// The server that a node is, apart from the cluster.
pub(super) struct Around<'a> {
    pub(super) config: &'a Config,
    /// Where it listens.
    pub(super) address: SocketAddr,
    pub(super) engine: &'a Engine,
    pub(super) invoker: &'a Invoker,
    pub(super) state: &'a api::State,
}

impl Joined {
    /// Connects, and opens the store that all nodes share.
    pub(super) async fn join(config: &Config, seal: &Arc<Seal>) -> anyhow::Result<Self> {
        // Compiled programs are kept on the node's own disk.
        tokio::fs::create_dir_all(&config.server.data)
            .await
            .with_context(|| format!("cannot make {}", config.server.data.display()))?;
        let link = Link::open(&config.redis).await?;
        let prefix = config.redis.prefix.clone();
        let node = Node::new(config.cluster.clone(), &prefix);
        node.ask_time(&link).await?;
        let (by, limits) = ((node.id(), Arc::clone(seal)), &config.store);
        let (store, shared, keeper) = shared::open(link.clone(), &prefix, limits, by);
        let joined = Self {
            link,
            node,
            prefix,
            shared,
            opened: Mutex::new(Some((store, keeper))),
            queue: OnceLock::new(),
            slots: OnceLock::new(),
            watch: OnceLock::new(),
            throttle: OnceLock::new(),
            salvager: OnceLock::new(),
        };
        Ok(joined)
    }

    /// Which cluster this is a node of, in one line.
    pub(super) fn summary(&self, config: &Config) -> String {
        let (name, role) = (&config.redis.cluster, self.node.config.role.name());
        format!(
            "cluster: {role} {} of {name:?} at Redis {}, prefix {}, lease {} s",
            self.node.id(),
            self.link.target(),
            self.prefix,
            self.node.config.lease_s
        )
    }

    /// The store. Once.
    pub(super) fn store(&self) -> (Store, shared::Keeper) {
        let opened = self.opened.lock().take();
        opened.expect("the store is taken once, at the start")
    }

    /// The queue, made when first asked for.
    pub(super) fn queue(&self, config: &Config, store: &Store, seal: &Arc<Seal>) -> Arc<dyn Queue> {
        let queue = self.queue.get_or_init(|| {
            ClusterQueue::new(Parts {
                config: config.queue.clone(),
                link: self.link.clone(),
                prefix: self.prefix.clone(),
                node: Arc::clone(&self.node),
                accepted: Arc::clone(&store.accepted),
                afterwards: Arc::new(Records(self.shared.writer.clone())),
                envelope: Arc::new(Sealing(Arc::clone(seal))),
            })
        });
        drop(self.slots.set(Arc::new(Held(Arc::clone(queue)))));
        Arc::clone(queue) as _
    }

    /// Who says how many runs of limited actions there may be here.
    pub(super) fn slots(&self) -> Weak<dyn Slots> {
        let slots = self.slots.get().expect("the queue was made before");
        Arc::downgrade(slots)
    }

    /// Holds every namespace to its limits on all nodes together.
    pub(super) fn limits(&self, window: Window) -> Throttle {
        let node = throttle::Node {
            id: self.node.id().to_owned(),
            lease: self.node.config.lease(),
        };
        Throttle::wide(window, self.link.clone(), &self.prefix, node)
    }

    /// The configured keys, if they are those of the cluster.
    pub(super) async fn check_keys(&self, seal: &Seal) -> Result<(), String> {
        self.shared.check_keys(seal).await
    }

    /// Compiled code that nodes share, where they have a secret.
    pub(super) fn compiled(&self, config: &Config) -> anyhow::Result<Option<sandbox::Shared>> {
        let secret = config.cluster.secret().map_err(anyhow::Error::msg)?;
        Ok(secret.map(|secret| {
            let place = InRedis {
                link: self.link.clone(),
                prefix: self.prefix.clone(),
            };
            sandbox::Shared::new(Arc::new(place), secret.as_bytes())
        }))
    }

    /// Who tells what metrics show of it.
    pub(super) fn watch(&self) -> Arc<Watch> {
        Arc::clone(
            self.watch.get_or_init(|| {
                Arc::new(Watch::new(Arc::clone(&self.node), Arc::clone(self.made())))
            }),
        )
    }

    /// Who tells how the cluster stands.
    pub(super) fn standing(&self, name: &str) -> Arc<dyn api::Cluster> {
        Arc::new(Standing {
            name: name.to_owned(),
            link: self.link.clone(),
            node: Arc::clone(&self.node),
            queue: Arc::clone(self.made()),
            shared: self.shared.clone(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    fn made(&self) -> &Arc<ClusterQueue> {
        self.queue.get().expect("the queue was made before")
    }

    /// Becomes a node: takes the lease, listens, pulls.
    pub(super) async fn start(
        &self,
        around: Around<'_>,
        tasks: &mut JoinSet<()>,
    ) -> anyhow::Result<()> {
        let Around {
            config,
            address,
            engine,
            invoker,
            state,
        } = around;
        self.follow(engine, invoker, state, tasks);
        let queue = Arc::clone(self.made());
        let salvager: Arc<dyn Salvage> = Arc::new(Salvager {
            engine: engine.clone(),
            invoker: invoker.clone(),
            node: Arc::clone(&self.node),
            throttle: Arc::clone(&state.throttle),
        });
        // What was told to stop before this process began is told again, whoever has it in the meantime.
        for id in invoker.former_cancels().await? {
            queue.cancels().ask(id);
        }
        queue.salvage_with(Arc::downgrade(&salvager));
        drop(self.salvager.set(salvager));
        drop(self.throttle.set(Arc::clone(&state.throttle)));
        let (ears, mut heard) = self.link.listen(Vec::new());
        queue.subscribe(&ears);
        let listening = Arc::clone(&queue);
        let back = Arc::new(Notify::new());
        let waits = Arc::clone(&engine.waits);
        let follow = FollowUp::new(waits, Arc::clone(&engine.store.activations));
        tasks.spawn(follow.go_on(Arc::clone(&back)));
        tasks.spawn(self.watch().go_on());
        tasks.spawn(async move {
            // It ends when it is dropped.
            let _ears = ears;
            while let Some(heard) = heard.recv().await {
                match heard {
                    Heard::Message { .. } => listening.heard(&heard),
                    Heard::Back => back.notify_one(),
                    Heard::Changed(_) | Heard::Lost => {}
                }
            }
        });
        let named = config.cluster.address.clone();
        let beating = Beating {
            link: self.link.clone(),
            node: Arc::clone(&self.node),
            queue: Arc::clone(&queue),
            engine: engine.clone(),
            invoker: invoker.clone(),
            shared: self.shared.clone(),
            throttle: Arc::clone(&state.throttle),
            address: named.unwrap_or_else(|| address.to_string()),
            looked: Mutex::new((Instant::now(), 0)),
        };
        beating.beat().await.context("cannot join the cluster")?;
        let held = beating.held();
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(WATCH);
            loop {
                ticks.tick().await;
                if held.node.fence.has_ended() {
                    held.lapse();
                }
            }
        });
        tasks.spawn(beating.go_on());
        queue.start(tasks);
        Ok(())
    }

    /// Forgets what other nodes change, and tells what they put.
    fn follow(
        &self,
        engine: &Engine,
        invoker: &Invoker,
        state: &api::State,
        tasks: &mut JoinSet<()>,
    ) {
        state.catalog.share();
        state.idempotency.share();
        invoker.share_clock();
        let (shared, hub, invoker) = (
            self.shared.clone(),
            Arc::clone(&engine.hub),
            invoker.clone(),
        );
        let (catalog, keys, gates) = (
            Arc::clone(&state.catalog),
            Arc::clone(&state.keys),
            Arc::clone(&state.gates),
        );
        let all = (Arc::clone(&catalog), Arc::clone(&keys), Arc::clone(&gates));
        let forget_all = move || {
            all.0.forget_all();
            all.1.forget_all();
            all.2.forget_all();
        };
        let tell = move |change| match change {
            Change::Entity(fqn) => catalog.forget(&fqn),
            Change::Tenant(namespace) => keys.forget(&namespace),
            Change::Apis(namespace) => gates.forget_namespace(&namespace),
            Change::Schedule(namespace, trigger) => invoker.schedule_changed(&namespace, &trigger),
            Change::Doubt => forget_all(),
            Change::Everything => {
                forget_all();
                invoker.schedules_changed();
            }
        };
        tasks.spawn(async move { shared.follow(hub, tell).await });
    }

    /// Takes nothing more, and hands back what has not begun.
    pub(super) async fn leave(&self) {
        if let Some(queue) = self.queue.get() {
            queue.leave().await;
        }
    }

    /// Is a node no longer.
    pub(super) async fn farewell(&self, records: &dyn Activations) {
        let told = async {
            if records.flush().await.is_ok()
                && let Some(queue) = self.queue.get()
            {
                queue.quiet().await;
            }
            if let Some(throttle) = self.throttle.get() {
                throttle.drain().await;
            }
        };
        if tokio::time::timeout(FAREWELL_MAX, told).await.is_err() {
            tracing::warn!(
                "Redis was not told of everything that is over; others find the records"
            );
        }
        if let Err(error) = self.node.members.remove(&self.link, self.node.id()).await {
            tracing::warn!(%error, "the cluster could not be told that this node left; it finds out when the lease ends");
        }
    }
}

/// Everything that is held under the lease.
#[derive(Clone)]
struct HeldAll {
    node: Arc<Node>,
    queue: Arc<ClusterQueue>,
    homes: Homes,
    throttle: Arc<Throttle>,
}

impl HeldAll {
    /// The lease was lost: nothing of it is this node's any more.
    fn lapse(&self) {
        tracing::error!(
            "the lease was lost: Redis was not reached in time. What runs is ended here, others take it over"
        );
        telemetry::count(Event::Lapsed, 1);
        self.node.lapse();
        self.queue.lapse();
        self.homes.leave();
        self.throttle.lapse();
    }
}

/// Renews the lease and all that is held under it.
struct Beating {
    link: Link,
    node: Arc<Node>,
    queue: Arc<ClusterQueue>,
    engine: Engine,
    invoker: Invoker,
    shared: Shared,
    throttle: Arc<Throttle>,
    address: String,
    /// When it was last looked who lives, and how many beats ago homes were looked at.
    looked: Mutex<(Instant, u32)>,
}

impl Beating {
    async fn go_on(self) {
        let mut ticks = tokio::time::interval(self.node.config.lease() / 5);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failed = 0_u32;
        loop {
            ticks.tick().await;
            if let Err(error) = self.beat().await {
                failed += 1;
                tracing::warn!(%error, "the lease could not be renewed");
                continue;
            }
            if std::mem::take(&mut failed) > 0 {
                tracing::info!("the lease is renewed again");
            }
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "it could not be looked who else lives");
            }
        }
    }

    async fn beat(&self) -> anyhow::Result<()> {
        if self.node.fence.has_ended() {
            self.held().lapse();
        }
        let asked = Instant::now();
        let renewed = tokio::join!(
            self.queue.renew(),
            self.throttle.upkeep(),
            self.queue.mind_orphans()
        );
        if renewed != (true, true, true) {
            anyhow::bail!("not everything that is held was renewed");
        }
        if asked.elapsed() >= self.node.config.lease() {
            anyhow::bail!("it took longer than a lease to renew everything that is held");
        }
        // Last: whoever sees that the node lives knows that what it holds was renewed no longer than a lease before.
        let mut batch = Batch::default();
        self.node
            .members
            .beat(&self.node, &self.facts(), &mut batch);
        let beat = Instant::now();
        for answer in self.link.run(&batch).await? {
            if let Ok(crate::link::Value::Int(now)) = answer.as_ref() {
                self.node
                    .follow_time(u64::try_from(*now).unwrap_or(0), beat);
            }
            answer?;
        }
        if !self.node.fence.extend(asked, self.node.config.lease()) {
            self.held().lapse();
        }
        Ok(())
    }

    fn held(&self) -> HeldAll {
        HeldAll {
            node: Arc::clone(&self.node),
            queue: Arc::clone(&self.queue),
            homes: self.shared.homes.clone(),
            throttle: Arc::clone(&self.throttle),
        }
    }

    fn facts(&self) -> Member {
        let (pool, backlog) = (self.engine.pool.occupancy(), self.engine.queue.backlog());
        let role = self.node.config.role;
        // What runs nothing has no room that anybody could count on.
        let most = |most: usize| if role.runs() { most } else { 0 };
        Member {
            role,
            leaves: self.queue.is_leaving(),
            address: self.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            runs: self.engine.worker.runs(),
            runs_max: most(self.engine.worker.runs_max()),
            memory_used: pool.memory_used_bytes,
            memory_max: most(pool.memory_budget_bytes),
            idle: pool.idle,
            waiting: backlog.count,
            lanes: self.queue.lanes_held(),
            lease_ends_ms: 0,
        }
    }

    /// Looks who lives, and takes over what the dead had accepted.
    async fn look(&self) -> anyhow::Result<()> {
        let homes = {
            let mut looked = self.looked.lock();
            let is_new = self.node.members.view().living.is_empty();
            if !is_new && looked.0.elapsed() < self.node.members.look_every() {
                return Ok(());
            }
            looked.0 = Instant::now();
            looked.1 = (looked.1 + 1) % HOMES_EVERY;
            looked.1 == 1
        };
        let view = self.node.members.look(&self.link, &self.node).await?;
        if !self.node.takes_over() {
            return Ok(());
        }
        let mut dead = view.dead.clone();
        let homes = homes || self.shared.homes.has_left();
        if homes {
            let homes = self.shared.homes.homes().await?;
            let orphans = homes.into_iter().map(|home| home.owner);
            // Also those that this node left when it lost its lease, unless others were faster.
            dead.extend(
                orphans.filter(|owner| view.get(owner).is_none() || *owner == self.node.id()),
            );
            dead.sort_unstable();
            dead.dedup();
        }
        for one in dead {
            let pending = self.shared.homes.adopt(&one, &self.engine.seal).await?;
            if !pending.is_empty() {
                tracing::info!(
                    node = one,
                    count = pending.len(),
                    "a node died; what it had accepted is taken over"
                );
                self.engine.take_up(&self.invoker, pending).await?;
            }
            if one != self.node.id() {
                self.node.members.remove(&self.link, &one).await?;
            }
        }
        if homes {
            self.shared.homes.has_come_back();
        }
        Ok(())
    }
}
