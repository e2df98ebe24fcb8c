//! The queues of a cluster: one stream in Redis per (invoking namespace, action), from which any node may take.
//!
//! ```text
//!   enqueue ─ hand-off ─→ worker here (an instance is at hand, nothing waits in the stream)
//!      └──→ lane.out ─ push ─→ stream ─ pull (slots claimed, entries read) ─→ local queue ─→ worker
//!                 └──────── one batch per round trip, by `flush` ────────┘        └→ record → ack (XACK, XDEL)
//! ```
//!
//! What was pulled waits and is scheduled in the queue of one machine ([`MemoryQueue`]); this module decides what gets there.
//! All commands of a node go in batches: one is under way at a time, and what comes meanwhile is in the next, so a node sends
//! at once when it has little to say and packs when it has much.
//!
//! Invariants:
//! - what was pushed is in the stream until the records of all its works are in Redis; whoever dies in between leaves it to
//!   others, who find it by the due list as soon as the lease of the dead has ended;
//! - a node that lost its lease forgets what it had pulled, and its runs end without a trace: see [`Fence`];
//! - what Redis takes for ours and we never heard of (an answer was lost, or came too late) comes with the next read of its lane;
//! - calls are handed over past the stream only when nothing waits there that came before.

mod clock;
mod due;
mod entry;
mod face;
mod flush;
mod lane;
mod news;
mod orphans;
mod overdue;
mod packet;
mod pulled;
mod scripts;
mod standing;
mod told;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use dashmap::DashMap;
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(super) use entry::Entry;
pub(crate) use orphans::Place;
pub(crate) use packet::Envelope;
pub(crate) use standing::Sample;

use self::lane::{Hungry, Lane, Outgoing};
use self::news::{Ended, News};
use super::message::{Outcome, Refusal, Work};
use super::{Config, Delivery, EnqueueError, Hands, Key, MemoryQueue, Queue, Replies};
use crate::cluster::{Fence, Node};
use crate::link::{Ears, Heard, Link};
use crate::model::activation::IdHasher;
use crate::model::{Action, ActivationId, Namespace};
use crate::scheduler::placement::{self, Warmth};
use crate::store::Accepted;

/// How long what was given up for a namespace is given up where it turns up later.
const DOOM: Duration = Duration::from_secs(60);
/// Longest wait for another node to say that it has an activation in flight.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// Lanes that are looked at when there is room again; the next run that ends looks at more.
const REFILL_MAX: usize = 16;
/// How long a lane is held after its last work.
const KEEP: Duration = Duration::from_secs(1);

/// What the queue needs of the store: something that happens when all records put before are in Redis.
pub(crate) trait Afterwards: Send + Sync + 'static {
    /// Calls `what` then. Never blocks.
    fn after_records(&self, what: Box<dyn FnOnce() + Send>);
}

/// Who takes up work that another node had, and may have run.
#[async_trait]
pub(crate) trait Salvage: Send + Sync + 'static {
    /// Runs it again, or ends it: as recorded already, as given up. `begun` runs of it were lost.
    async fn salvage(&self, delivery: Delivery, begun: u32);

    /// Ends an activation for good, if it is in flight here.
    async fn stop(&self, namespace: &Namespace, id: ActivationId) -> bool;

    /// Places for `count` works of `namespace` that are here and were `front`'s, which is gone; whether Redis was told.
    async fn take_over(
        &self,
        namespace: &Namespace,
        front: &str,
        count: usize,
    ) -> (Vec<Place>, bool);

    /// A place for work that was `front`'s and has not begun, however long it takes.
    async fn await_place(&self, namespace: &Namespace, front: &str) -> Place;
}

/// Where an outcome goes that is not waited for here.
struct Origin {
    front: Arc<str>,
    lane: Key,
    /// Whether somebody waits for the record there.
    waits: bool,
    seat: orphans::Seat,
}

/// The lanes that this node knows.
#[derive(Default)]
struct Lanes {
    all: HashMap<Key, Lane, RandomState>,
    /// Those that have something to send, each once.
    errands: Vec<Key>,
    /// Those that have something in their stream which nobody has read, as far as known.
    behind: HashSet<Key, RandomState>,
}

impl Lanes {
    /// Calls `what` with the lane, made if need be, and notes what came of it.
    fn with<T>(&mut self, prefix: &str, key: &Key, what: impl FnOnce(&mut Lane) -> T) -> T {
        if !self.all.contains_key(key) {
            self.all.insert(key.clone(), Lane::new(prefix, key.clone()));
        }
        let Self {
            all,
            errands,
            behind,
        } = self;
        let lane = all.get_mut(key).expect("it was put there if it was not");
        let done = what(lane);
        if !lane.has_errand_noted && lane.has_errand() {
            lane.has_errand_noted = true;
            errands.push(key.clone());
        }
        if lane.waiting == 0 {
            if !behind.is_empty() {
                behind.remove(key);
            }
        } else if !behind.contains(key) {
            behind.insert(key.clone());
        }
        done
    }
}

struct Shared {
    config: Config,
    link: Link,
    prefix: String,
    node: Arc<Node>,
    /// Counts lapses: entries of former epochs are others'.
    epoch: AtomicU64,
    local: Arc<MemoryQueue>,
    lanes: Mutex<Lanes>,
    /// Lanes that have something in their stream which nobody has read, as far as known. Zero lets calls pass without a look.
    behind: AtomicUsize,
    /// Slots by lane, for actions with a limit: what the pool may run.
    slots: DashMap<Key, Arc<AtomicU64>>,
    origins: DashMap<ActivationId, Origin, std::hash::BuildHasherDefault<IdHasher>>,
    news: Mutex<HashMap<Arc<str>, News>>,
    doomed: Mutex<Vec<(Namespace, String, Instant)>>,
    /// Who waits to hear whether an activation was stopped elsewhere.
    stopping: Mutex<Vec<(ActivationId, oneshot::Sender<()>)>>,
    /// Calls in their streams, the oldest first, where they may wait too long there.
    calls: Mutex<VecDeque<overdue::Calls>>,
    /// There is something to send.
    work: Notify,
    /// How often something came to be sent.
    errands: AtomicU64,
    /// Entries taken so far.
    taken: AtomicUsize,
    /// Works that were taken and wait for a place among those of their namespace.
    awaiting: AtomicUsize,
    /// A batch is under way.
    sending: AtomicBool,
    /// Batches so far, empty ones too.
    rounds: watch::Sender<u64>,
    ends: OnceLock<(Weak<dyn Hands>, Weak<dyn Replies>)>,
    router: OnceLock<Arc<dyn Replies>>,
    salvage: OnceLock<Weak<dyn Salvage>>,
    afterwards: Arc<dyn Afterwards>,
    envelope: Arc<dyn Envelope>,
    /// No more is pulled: the node leaves.
    is_leaving: AtomicBool,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct ClusterQueue(Arc<Shared>);

impl std::fmt::Debug for ClusterQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterQueue")
            .field("node", &self.0.node)
            .finish_non_exhaustive()
    }
}

/// Routes outcomes that the local queue gives: to whoever waits here, or to the front that does.
struct Router(Weak<Shared>);

impl Replies for Router {
    fn complete(&self, id: ActivationId, outcome: Outcome) {
        if let Some(shared) = self.0.upgrade() {
            shared.route(id, outcome);
        }
    }

    fn over(&self, id: ActivationId) {
        if let Some(replies) = self.0.upgrade().and_then(|shared| shared.replies()) {
            replies.over(id);
        }
    }
}

/// What a cluster's queue is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) link: Link,
    pub(crate) prefix: String,
    pub(crate) node: Arc<Node>,
    pub(crate) accepted: Arc<dyn Accepted>,
    pub(crate) afterwards: Arc<dyn Afterwards>,
    pub(crate) envelope: Arc<dyn Envelope>,
}

impl ClusterQueue {
    /// Queues on `link`.
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            config,
            link,
            prefix,
            node,
            accepted,
            afterwards,
            envelope,
        } = parts;
        let local = MemoryQueue::new(config.clone(), accepted);
        local.cancels().fence(Arc::clone(&node.fence));
        Arc::new(Self(Arc::new(Shared {
            config,
            link,
            prefix,
            node,
            epoch: AtomicU64::new(0),
            local,
            lanes: Mutex::default(),
            behind: AtomicUsize::new(0),
            slots: DashMap::default(),
            origins: DashMap::default(),
            news: Mutex::default(),
            doomed: Mutex::default(),
            stopping: Mutex::default(),
            calls: Mutex::default(),
            work: Notify::new(),
            errands: AtomicU64::new(0),
            taken: AtomicUsize::new(0),
            awaiting: AtomicUsize::new(0),
            sending: AtomicBool::new(false),
            rounds: watch::Sender::default(),
            ends: OnceLock::new(),
            router: OnceLock::new(),
            salvage: OnceLock::new(),
            afterwards,
            envelope,
            is_leaving: AtomicBool::new(false),
        })))
    }

    /// Who takes up what other nodes had. Once, before [`ClusterQueue::start`].
    pub(crate) fn salvage_with(&self, salvage: Weak<dyn Salvage>) {
        drop(self.0.salvage.set(salvage));
    }

    /// Channels this node listens to.
    pub(crate) fn subscribe(&self, ears: &Ears) {
        ears.subscribe(&self.0.channel(self.0.node.id()));
        ears.subscribe(&self.0.channel(ALL));
    }

    /// Takes note of what was heard.
    pub(crate) fn heard(&self, heard: &Heard) {
        if let Heard::Message { channel, payload } = heard
            && (*channel == self.0.channel(self.0.node.id()) || *channel == self.0.channel(ALL))
        {
            self.0.told(payload);
        }
    }

    /// Sends and pulls, until the set is shut down.
    pub(crate) fn start(&self, tasks: &mut JoinSet<()>) {
        tasks.spawn(flush::go_on(Arc::clone(&self.0)));
        tasks.spawn(due::go_on(Arc::clone(&self.0)));
        if self.0.watches() {
            tasks.spawn(overdue::go_on(Arc::clone(&self.0)));
        }
    }

    /// Most runs of the action here, by the slots this node holds.
    pub(crate) fn runs_max(&self, namespace: &Namespace, action: &Action) -> u64 {
        let key = Key {
            namespace: namespace.clone(),
            action: action.address().clone(),
        };
        self.0
            .slots
            .get(&key)
            .map_or(0, |slots| slots.load(Ordering::SeqCst))
    }

    /// Renews what is held, and gives up what is not used; whether everything that is held was renewed.
    pub(crate) async fn renew(&self) -> bool {
        self.0.renew().await
    }

    /// Takes over the places of work here whose front is gone; whether it is known who is.
    pub(crate) async fn mind_orphans(&self) -> bool {
        self.0.mind_orphans().await
    }

    /// The lease was lost: what was pulled is others', and runs of it end.
    pub(crate) fn lapse(&self) {
        self.0.lapse();
    }

    /// Takes nothing more, and hands back what was pulled and has not begun.
    pub(crate) async fn leave(&self) {
        self.0.leave().await;
    }

    /// Resolves when everything that is over was said to be, for as long as Redis is there.
    pub(crate) async fn quiet(&self) {
        self.0.quiet().await;
    }

    /// Whether nothing more is taken.
    pub(crate) fn is_leaving(&self) -> bool {
        self.0.is_leaving()
    }

    /// Lanes held here.
    pub(crate) fn lanes_held(&self) -> usize {
        self.0
            .lanes
            .lock()
            .all
            .values()
            .filter(|lane| lane.is_held)
            .count()
    }
}

/// The channel that all nodes listen to.
const ALL: &str = "all";

impl Shared {
    fn channel(&self, node: &str) -> String {
        format!("{}:n:c:{node}", self.prefix)
    }

    fn hands(&self) -> Option<Arc<dyn Hands>> {
        self.ends.get().and_then(|(hands, _)| hands.upgrade())
    }

    fn replies(&self) -> Option<Arc<dyn Replies>> {
        self.ends.get().and_then(|(_, replies)| replies.upgrade())
    }

    fn fence(&self) -> &Fence {
        &self.node.fence
    }

    fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// How many runs could begin here now.
    fn room(&self) -> usize {
        if !self.node.config.role.runs() || self.is_leaving() || !self.fence().is_held() {
            return 0;
        }
        let free = self.hands().map_or(0, |hands| hands.room());
        // What was pulled and waits will want it first.
        free.saturating_sub(self.local.waiting() + self.awaiting.load(Ordering::Relaxed))
    }

    /// How many runs of a namespace could begin here now, where there is room for `room`.
    fn room_of(&self, namespace: &Namespace, room: usize) -> usize {
        if room == 0 {
            return 0;
        }
        let own = self.hands().map_or(0, |hands| hands.room_of(namespace));
        room.min(own)
    }

    /// Calls `what` with the lane, made if need be.
    fn lane<T>(&self, key: &Key, what: impl FnOnce(&mut Lane) -> T) -> T {
        let mut lanes = self.lanes.lock();
        let done = lanes.with(&self.prefix, key, what);
        self.behind.store(lanes.behind.len(), Ordering::SeqCst);
        done
    }

    fn set_slots(&self, lane: &mut Lane, slots: u64) {
        if lane.limit > 0 || lane.slots != slots {
            let held = self.slots.entry(lane.key.clone()).or_default();
            held.store(slots, Ordering::SeqCst);
        }
        lane.slots = slots;
    }

    /// Whether this node may run the work without a claim: its action has no limit, or there are slots of it here.
    fn may_run(&self, work: &Work) -> bool {
        let is_ours = self.node.config.role.runs() && self.fence().is_held();
        if limit(&work.action) == 0 {
            return is_ours;
        }
        let slots = self.slots.get(&Key::of(work));
        is_ours && slots.is_some_and(|slots| slots.load(Ordering::SeqCst) > 0)
    }

    /// Whether a call may run here at once, past the stream.
    fn may_hand_off(&self, work: &Work) -> bool {
        if work.durable || !self.node.config.hand_off || !self.node.config.role.runs() {
            return false;
        }
        if self.is_leaving() || !self.fence().is_held() {
            return false;
        }
        let key = || Key::of(work);
        if limit(&work.action) > 0 {
            self.lane(&key(), |lane| lane.used = Instant::now());
        }
        // Where there are others, who may be warm for it.
        if self.node.members.view().nodes.len() > 1 {
            let warmth = self
                .hands()
                .map_or(Warmth::Cold, |hands| hands.warmth(&key()));
            if !placement::is_worth_starting(warmth, None, Duration::ZERO) {
                return false;
            }
        }
        if self.behind.load(Ordering::SeqCst) == 0 {
            return true;
        }
        let lanes = self.lanes.lock();
        lanes
            .all
            .get(&Key::of(work))
            .is_none_or(|lane| lane.waiting == 0 && lane.out.is_empty())
    }

    /// Puts the work into the stream. What was promised is answered for when it is there; what was not is answered for at once,
    /// and dropped should it not get there: whoever waits for its outcome is told then, and is not woken in between.
    fn push(
        &self,
        work: Work,
    ) -> Result<Option<oneshot::Receiver<Result<(), EnqueueError>>>, EnqueueError> {
        if !self.fence().is_held() {
            return Err(Refusal::Overload { retry_after_s: 1 }.into());
        }
        let (answer, answered) = match work.durable {
            true => Some(oneshot::channel()).unzip(),
            false => (None, None),
        };
        let key = Key::of(&work);
        self.lane(&key, |lane| {
            lane.limit = limit(&work.action);
            lane.used = Instant::now();
            lane.out.push(Outgoing { work, answer });
        });
        self.errands.fetch_add(1, Ordering::Relaxed);
        self.work.notify_one();
        Ok(answered)
    }

    /// Whether work is not in a batch yet.
    fn is_outgoing(&self, id: ActivationId) -> bool {
        let lanes = self.lanes.lock();
        let mut out = lanes.all.values().flat_map(|lane| &lane.out);
        out.any(|one| one.work.id == id)
    }

    /// An entry is over: its records are in Redis.
    fn ack(&self, entry: &Entry) {
        let is_ours = entry.epoch == self.epoch.load(Ordering::Acquire);
        self.lane(&entry.lane, |lane| {
            lane.acks.push(entry.id.clone());
            lane.payloads.extend(entry.payload.clone());
            if is_ours {
                lane.entries.remove(&entry.id);
                lane.used = Instant::now();
            }
        });
        self.errands.fetch_add(1, Ordering::Relaxed);
        self.work.notify_one();
    }

    /// Gives an outcome to whoever waits for it, here or elsewhere.
    fn route(self: &Arc<Self>, id: ActivationId, outcome: Outcome) {
        let Some((_, origin)) = self.origins.remove(&id) else {
            if let Some(replies) = self.replies() {
                replies.complete(id, outcome);
            }
            return;
        };
        if let Outcome::Done(record) = &outcome
            && self.lane(&origin.lane, |lane| {
                lane.note_length(record.duration.unwrap_or(0))
            })
        {
            self.work.notify_one();
        }
        if *origin.front == *self.node.id() {
            if let Some(replies) = self.replies() {
                replies.complete(id, outcome);
            }
            return;
        }
        let ended = Ended::of(id, outcome, origin.waits);
        let (shared, front) = (Arc::downgrade(self), origin.front);
        // Whoever is answered there may ask for the record there at once: it is in Redis before.
        self.afterwards.after_records(Box::new(move || {
            if let Some(shared) = shared.upgrade() {
                shared.tell(&front, |news| news.ended.push(ended));
            }
        }));
    }

    /// A lane has work that this node may take.
    fn hunger(&self, key: &Key, hungry: Hungry) {
        if self.room() == 0 {
            return;
        }
        self.lane(key, |lane| {
            if lane.shunned.is_some_and(|until| Instant::now() < until) {
                return;
            }
            let told = hungry.told || lane.hungry.is_some_and(|before| before.told);
            let since_ms = lane.hungry.map_or(hungry.since_ms, |before| {
                before.since_ms.min(hungry.since_ms)
            });
            lane.hungry = Some(Hungry { since_ms, told });
            // Who sends us here has said so in the due list.
            lane.is_due = true;
        });
        self.work.notify_one();
    }

    /// There is room again: lanes of which something waits in the stream are pulled.
    fn refill(&self) {
        if self.behind.load(Ordering::SeqCst) == 0 || self.room() == 0 {
            return;
        }
        let since_ms = self.node.redis_now_ms();
        let mut lanes = self.lanes.lock();
        let behind: Vec<Key> = lanes.behind.iter().take(REFILL_MAX).cloned().collect();
        for key in behind {
            lanes.with(&self.prefix, &key, |lane| {
                if lane.hungry.is_none() && !lane.is_full() {
                    let told = true;
                    lane.hungry = Some(Hungry { since_ms, told });
                }
            });
        }
        if !lanes.errands.is_empty() {
            self.work.notify_one();
        }
    }

    fn lapse(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.origins.clear();
        let mut lanes = self.lanes.lock();
        for lane in lanes.all.values_mut() {
            lane.is_held = false;
            lane.entries.clear();
            lane.hungry = None;
            lane.waiting = 0;
            self.set_slots(lane, 0);
        }
        lanes.behind.clear();
        self.behind.store(0, Ordering::SeqCst);
        drop(lanes);
        self.local.forget_pulled();
        self.local.cancels().wake();
    }
}

/// Most runs of the action in the cluster; 0 is no limit.
fn limit(action: &Action) -> u64 {
    match action.limits.runs_max() {
        u64::MAX => 0,
        max => max.max(1),
    }
}
