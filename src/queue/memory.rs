//! The queues of one machine: in memory, with the store's log of accepted work behind what was promised.
//!
//! One lock guards all queues. It is held for some hundred nanoseconds and only taken when something waits or has to:
//! as long as everything is handed over directly, callers read one counter and pass.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::message::{CANCELLED, Outcome, Refusal, Work};
use super::{Backlog, Cancels, Config, Delivery, EnqueueError, Hands, Key, Queue, Replies, Settle};
use crate::model::{ActivationId, Namespace};
use crate::scheduler::fairness::{self, Candidate, Runtime};
use crate::store::Accepted;

/// What a piece of work takes besides its parameters, about.
const WORK_BYTES: usize = 1024;

/// See the module.
pub(crate) struct MemoryQueue {
    config: Config,
    accepted: Arc<dyn Accepted>,
    state: Mutex<State>,
    /// Work waiting in queues that are not parked. Read without the lock: a stale value costs one look.
    ready: AtomicUsize,
    /// Work waiting.
    waiting: AtomicUsize,
    ends: OnceLock<(Weak<dyn Hands>, Weak<dyn Replies>)>,
    cancels: Cancels,
}

#[derive(Default)]
struct State {
    lanes: HashMap<Key, Lane>,
    /// Queues that are not parked, by namespace, oldest head first.
    ready: HashMap<Namespace, BTreeSet<(u64, Key)>>,
    /// Order of arrival.
    arrivals: u64,
    bytes: usize,
}

#[derive(Default)]
struct Lane {
    items: VecDeque<Delivery>,
    parked: bool,
}

fn bytes(delivery: &Delivery) -> usize {
    delivery.work.params.get().len() + WORK_BYTES
}

impl std::fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryQueue")
            .field("backlog", &self.backlog())
            .finish_non_exhaustive()
    }
}

impl State {
    /// Puts the queue where its head says it belongs among the ready.
    fn link(&mut self, key: &Key) {
        if let Some(lane) = self.lanes.get(key)
            && !lane.parked
            && let Some(head) = lane.items.front()
        {
            let ready = self.ready.entry(key.namespace.clone()).or_default();
            ready.insert((head.arrival, key.clone()));
        }
    }

    /// Takes the queue out of the ready.
    fn unlink(&mut self, key: &Key) {
        let Some(head) = self.lanes.get(key).and_then(|lane| lane.items.front()) else {
            return;
        };
        if let Some(ready) = self.ready.get_mut(&key.namespace) {
            ready.remove(&(head.arrival, key.clone()));
            if ready.is_empty() {
                self.ready.remove(&key.namespace);
            }
        }
    }

    fn pop(&mut self, key: &Key) -> Option<Delivery> {
        self.unlink(key);
        let lane = self.lanes.get_mut(key)?;
        let item = lane.items.pop_front();
        if lane.items.is_empty() {
            self.lanes.remove(key);
        }
        self.link(key);
        self.bytes -= item.as_ref().map_or(0, bytes);
        item
    }
}

impl MemoryQueue {
    /// Empty queues; promises are kept in `accepted`.
    pub(crate) fn new(config: Config, accepted: Arc<dyn Accepted>) -> Arc<Self> {
        Arc::new(Self {
            config,
            accepted,
            state: Mutex::default(),
            ready: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            ends: OnceLock::new(),
            cancels: Cancels::default(),
        })
    }

    fn hands(&self) -> Option<Arc<dyn Hands>> {
        self.ends.get().and_then(|(hands, _)| hands.upgrade())
    }

    fn wait_max(&self) -> Duration {
        Duration::from_secs(self.config.wait_max_s)
    }

    fn deliver(&self, work: Work) -> Delivery {
        let settle = work
            .durable
            .then(|| Settle::Log(Arc::clone(&self.accepted)));
        Delivery {
            work,
            settle,
            recovered: false,
            arrival: 0,
            since: Instant::now(),
        }
    }

    /// Whether the work's queue, and all together, may grow by it.
    fn admit(&self, work: &Work) -> Result<(), Refusal> {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let (key, bytes) = (&Key::of(work), work.params.get().len() + WORK_BYTES);
        let state = self.state.lock();
        if state.bytes + bytes > self.config.bytes_max {
            return Err(Refusal::Overload { retry_after_s: 1 });
        }
        let Some(lane) = state.lanes.get(key) else {
            return Ok(());
        };
        let age = lane
            .items
            .front()
            .map_or(Duration::ZERO, |head| head.since.elapsed());
        if lane.items.len() >= self.config.depth_max || age >= self.wait_max() {
            let retry_after_s = u32::try_from(age.as_secs() + 1).unwrap_or(60).min(60);
            return Err(Refusal::Backlog { retry_after_s });
        }
        Ok(())
    }

    /// Appends new work, or puts work that waited before back in front.
    fn push(&self, mut delivery: Delivery) {
        let key = Key::of(&delivery.work);
        let mut state = self.state.lock();
        state.bytes += bytes(&delivery);
        let back = delivery.arrival > 0;
        if !back {
            state.arrivals += 1;
            delivery.arrival = state.arrivals;
            delivery.since = Instant::now();
        }
        state.unlink(&key);
        let lane = state.lanes.entry(key.clone()).or_default();
        let parked = lane.parked;
        if back {
            lane.items.push_front(delivery);
        } else {
            lane.items.push_back(delivery);
        }
        state.link(&key);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        if !parked {
            self.ready.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// How much waits.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Hands the work over if nothing waits that came before and somebody has a hand free; gives it back otherwise.
    pub(super) fn hand_over(&self, work: Work) -> Result<(), Box<Work>> {
        if self.ready.load(Ordering::SeqCst) > 0 || self.waits_for(&work) {
            return Err(Box::new(work));
        }
        let Some(hands) = self.hands() else {
            return Err(Box::new(work));
        };
        let offered = hands.offer(self.deliver(work));
        offered.map_err(|back| Box::new(back.work))
    }

    /// Drops all that came from streams and waits: others have it now.
    pub(super) fn forget_pulled(&self) {
        for (key, id) in self.waiting_where(Delivery::is_shared) {
            drop(self.take_out(&key.namespace, id));
        }
    }

    /// Takes out the entries of streams of which nothing runs: their lanes and ids.
    pub(super) fn take_pulled(&self) -> Vec<(Key, Vec<String>)> {
        let mut entries: HashMap<(Key, String), (usize, Vec<ActivationId>, usize)> = HashMap::new();
        for (key, lane) in &self.state.lock().lanes {
            for item in &lane.items {
                if let Some(Settle::Entry(entry)) = &item.settle {
                    let of_it = (key.clone(), entry.id().to_owned());
                    let (waiting, ids, left) = entries.entry(of_it).or_default();
                    *waiting += 1;
                    *left = entry.left();
                    ids.push(item.work.id);
                }
            }
        }
        let mut taken: HashMap<Key, Vec<String>> = HashMap::new();
        for ((key, entry), (waiting, ids, left)) in entries {
            if waiting < left {
                // Some of its works run here: the others will, too.
                continue;
            }
            for id in ids {
                drop(self.take_out(&key.namespace, id));
            }
            taken.entry(key).or_default().push(entry);
        }
        taken.into_iter().collect()
    }

    fn waiting_where(&self, holds: impl Fn(&Delivery) -> bool) -> Vec<(Key, ActivationId)> {
        let state = self.state.lock();
        let all = state
            .lanes
            .iter()
            .flat_map(|(key, lane)| lane.items.iter().map(move |item| (key, item)));
        all.filter(|(_, item)| holds(item))
            .map(|(key, item)| (key.clone(), item.work.id))
            .collect()
    }

    /// Hands the work over, or appends it and says so.
    pub(super) fn place(&self, delivery: Delivery) {
        let hands = self.hands();
        let mut delivery = delivery;
        if self.ready.load(Ordering::SeqCst) == 0
            && !self.waits_for(&delivery.work)
            && let Some(hands) = &hands
        {
            match hands.offer(delivery) {
                Ok(()) => return,
                Err(back) => delivery = *back,
            }
        }
        self.push(delivery);
        // Whoever could have run it may have looked just before it was appended: look again.
        if let Some(hands) = &hands {
            hands.nudge();
        }
    }

    /// Takes the work out of the queue it waits in.
    fn take_out(&self, namespace: &Namespace, id: ActivationId) -> Option<Delivery> {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut state = self.state.lock();
        let mut own = state
            .lanes
            .iter()
            .filter(|(key, _)| key.namespace == *namespace);
        let place = |(key, lane): (&Key, &Lane)| {
            let index = lane.items.iter().position(|item| item.work.id == id)?;
            Some((key.clone(), index, lane.parked))
        };
        let (key, index, parked) = own.find_map(place)?;
        state.unlink(&key);
        let lane = state.lanes.get_mut(&key)?;
        let item = lane.items.remove(index);
        if lane.items.is_empty() {
            state.lanes.remove(&key);
        }
        state.link(&key);
        state.bytes -= item.as_ref().map_or(0, bytes);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        if !parked {
            self.ready.fetch_sub(1, Ordering::SeqCst);
        }
        item
    }

    /// Whether something waits in the queue that the work belongs in.
    fn waits_for(&self, work: &Work) -> bool {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return false;
        }
        self.state.lock().lanes.contains_key(&Key::of(work))
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    fn attach(&self, hands: Weak<dyn Hands>, replies: Weak<dyn Replies>) {
        drop(self.ends.set((hands, replies)));
    }

    async fn enqueue(&self, work: Work) -> Result<(), EnqueueError> {
        self.admit(&work)?;
        if work.durable {
            let bytes = serde_json::to_vec(&work)
                .map_err(|e| crate::store::Error::Corrupt(e.to_string()))?;
            self.accepted
                .accept(&work.namespace, work.id, Bytes::from(bytes))
                .await?;
        }
        self.place(self.deliver(work));
        Ok(())
    }

    fn restore(&self, work: Work) {
        self.place(Delivery {
            recovered: true,
            ..self.deliver(work)
        });
    }

    fn next(&self, rank: &dyn Fn(&Namespace) -> Runtime) -> Option<Key> {
        if self.ready.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let state = self.state.lock();
        let heads = state.ready.iter().filter_map(|(namespace, lanes)| {
            let (oldest, key) = lanes.first()?;
            Some(Candidate {
                runtime: rank(namespace),
                oldest: *oldest,
                what: key,
            })
        });
        fairness::next(heads).cloned()
    }

    fn pull(&self, key: &Key) -> Option<Delivery> {
        let mut state = self.state.lock();
        let parked = state.lanes.get(key)?.parked;
        let item = state.pop(key)?;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        if !parked {
            self.ready.fetch_sub(1, Ordering::SeqCst);
        }
        Some(item)
    }

    fn park(&self, key: &Key) {
        let mut state = self.state.lock();
        state.unlink(key);
        if let Some(lane) = state.lanes.get_mut(key)
            && !lane.parked
        {
            lane.parked = true;
            self.ready.fetch_sub(lane.items.len(), Ordering::SeqCst);
        }
    }

    fn unpark(&self, key: &Key) -> bool {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let mut state = self.state.lock();
        let Some(lane) = state.lanes.get_mut(key) else {
            return false;
        };
        if !lane.parked {
            return false;
        }
        lane.parked = false;
        self.ready.fetch_add(lane.items.len(), Ordering::SeqCst);
        state.link(key);
        true
    }

    fn unpark_all(&self, namespace: Option<&Namespace>) {
        let mut state = self.state.lock();
        let all = state.lanes.iter().filter(|(key, lane)| {
            lane.parked && namespace.is_none_or(|namespace| *namespace == key.namespace)
        });
        let keys: Vec<Key> = all.map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(lane) = state.lanes.get_mut(&key) {
                lane.parked = false;
                self.ready.fetch_add(lane.items.len(), Ordering::SeqCst);
            }
            state.link(&key);
        }
    }

    fn put_back(&self, delivery: Delivery) {
        self.push(delivery);
    }

    fn delivery(&self, work: Work) -> Delivery {
        self.deliver(work)
    }

    fn expire(&self) -> usize {
        let mut dropped = Vec::new();
        {
            let mut state = self.state.lock();
            let late =
                |item: &Delivery| !item.work.durable && item.since.elapsed() >= self.wait_max();
            let keys: Vec<Key> = state
                .lanes
                .iter()
                .filter(|(_, lane)| lane.items.front().is_some_and(late))
                .map(|(key, _)| key.clone())
                .collect();
            for key in keys {
                let parked = state.lanes.get(&key).is_some_and(|lane| lane.parked);
                while state
                    .lanes
                    .get(&key)
                    .and_then(|l| l.items.front())
                    .is_some_and(late)
                {
                    let Some(item) = state.pop(&key) else { break };
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                    if !parked {
                        self.ready.fetch_sub(1, Ordering::SeqCst);
                    }
                    dropped.push((item, parked));
                }
            }
        }
        let count = dropped.len();
        for (item, parked) in dropped {
            // Parked: the action's own limit kept it waiting. Otherwise the node had no room.
            let refusal = if parked {
                Refusal::Backlog { retry_after_s: 1 }
            } else {
                Refusal::Overload { retry_after_s: 1 }
            };
            self.reply(item.work.id, Outcome::Dropped(refusal));
            item.ack();
        }
        count
    }

    fn reply(&self, id: ActivationId, outcome: Outcome) {
        if let Some(replies) = self.ends.get().and_then(|(_, replies)| replies.upgrade()) {
            replies.complete(id, outcome);
        }
    }

    fn cancel(&self, namespace: &Namespace, id: ActivationId) {
        // First told, then looked for: pulled in between, its run finds out by itself.
        self.cancels.ask(id);
        if let Some(delivery) = self.take_out(namespace, id)
            && let Some(hands) = self.hands()
        {
            hands.give_up(delivery, CANCELLED);
            self.cancels.forget(id);
        }
    }

    fn give_up_all(&self, namespace: &Namespace, text: &str) {
        let ids: Vec<ActivationId> = {
            let state = self.state.lock();
            let own = state
                .lanes
                .iter()
                .filter(|(key, _)| key.namespace == *namespace);
            let items = own.flat_map(|(_, lane)| &lane.items);
            items.map(|item| item.work.id).collect()
        };
        let Some(hands) = self.hands() else { return };
        for id in ids {
            if let Some(delivery) = self.take_out(namespace, id) {
                hands.give_up(delivery, text);
            }
        }
    }

    fn cancels(&self) -> &Cancels {
        &self.cancels
    }

    fn backlog(&self) -> Backlog {
        let state = self.state.lock();
        let heads = state.lanes.values().filter_map(|lane| lane.items.front());
        Backlog {
            count: self.waiting.load(Ordering::SeqCst),
            bytes: state.bytes,
            oldest_age: heads
                .map(|head| head.since.elapsed())
                .max()
                .unwrap_or_default(),
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }
}
