//! Records and lines of guests as they come, told to those who watch them on other nodes.
//!
//! A node whose clients watch a namespace listens to that namespace's channel, says so in a sorted set (by when that ends,
//! for [`WATCH`] at a time), and the others, who hear that the set has changed, publish what they put for it. Nothing is
//! published that nobody watches.
//!
//! Nothing falls in between: a node says that it watches once it has heard itself on the channel; and who learns of it sends,
//! to that node alone, what it put for the namespace in the last [`RECENT`], which is longer than learning takes. A record is
//! published when it is in Redis. What is sent, and what waits to be sent, is bounded; what is lost by that is counted and
//! told.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::keys::Keys;
use super::message::{self, Heard, Part, Told};
use super::pipeline::weight;
use super::writer::Writer;
use crate::link::{Batch, Ears, Link, Script, cmd};
use crate::model::live::Line;
use crate::model::{Activation, Namespace};
use crate::store::watched::{Far, Hub};

/// How long a node's word that it watches counts, and how often it is given again.
const WATCH: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_secs(3);
/// How long records are kept for those who begin to watch.
const RECENT: Duration = Duration::from_secs(1);
/// Bytes of them, and records.
const RECENT_BYTES_MAX: usize = 4 << 20;
const RECENT_COUNT_MAX: usize = 4096;
/// Pause between probes of a channel.
const PROBE: Duration = Duration::from_millis(25);
/// Least time between two looks at who watches.
const LOOK: Duration = Duration::from_millis(10);
/// Bytes that wait to be published; what passes them is lost, and told to be.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// Pause when Redis does not take what is published or noted.
const RETRY: Duration = Duration::from_millis(250);

/// KEYS watched; ARGV how long, members.
static NOTE: Script = Script::new(
    "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) \
     redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now) \
     redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 2 * ARGV[1], '+inf') \
     for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i]) end",
);

/// KEYS watched. Members, and for how long.
static LOOK_AT: Script = Script::new(
    "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) \
     local found = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf', 'WITHSCORES') \
     for i = 2, #found, 2 do found[i] = string.format('%.0f', found[i] - now) end \
     return found",
);

/// Who watches what elsewhere: what, namespace, node.
type Watch = (What, Namespace, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Records,
    Lines,
}

/// What is watched here.
#[derive(Debug, Clone, Copy)]
struct Near {
    lines: bool,
    /// This node heard itself on the channel.
    is_heard: bool,
    /// Since when nobody watches.
    idle: Option<Instant>,
}

/// What was put a moment ago.
#[derive(Default)]
struct Recent {
    records: VecDeque<(Instant, Arc<Activation>, usize)>,
    bytes: usize,
}

/// What waits to be published.
#[derive(Default)]
struct Waiting {
    /// By namespace and to whom.
    parts: BTreeMap<(Namespace, String), Vec<Part>>,
    bytes: usize,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Live(Arc<Inner>);

struct Inner {
    link: Link,
    keys: Keys,
    node: String,
    writer: Writer,
    hub: Mutex<Weak<Hub>>,
    ears: Mutex<Option<Ears>>,
    near: Mutex<HashMap<Namespace, Near>>,
    far: Mutex<BTreeMap<Watch, Instant>>,
    /// How many watch records, and lines: read before anything is looked up.
    far_records: AtomicUsize,
    far_lines: AtomicUsize,
    recent: Mutex<Recent>,
    waiting: Mutex<Waiting>,
    to_register: Notify,
    to_read: Notify,
    to_send: Notify,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Live({} near)", self.0.near.lock().len())
    }
}

impl Live {
    pub(super) fn new(link: Link, keys: Keys, node: &str, writer: Writer) -> Self {
        Self(Arc::new(Inner {
            link,
            keys,
            node: node.to_owned(),
            writer,
            hub: Mutex::default(),
            ears: Mutex::default(),
            near: Mutex::default(),
            far: Mutex::default(),
            far_records: AtomicUsize::new(0),
            far_lines: AtomicUsize::new(0),
            recent: Mutex::default(),
            waiting: Mutex::default(),
            to_register: Notify::new(),
            to_read: Notify::new(),
            to_send: Notify::new(),
        }))
    }

    /// Listens for `hub`, with `ears`.
    pub(super) fn begin(&self, hub: &Arc<Hub>, ears: Ears) {
        *self.0.hub.lock() = Arc::downgrade(hub);
        for namespace in self.0.near.lock().keys() {
            ears.subscribe(&self.0.keys.channel(namespace));
        }
        *self.0.ears.lock() = Some(ears);
        hub.reach(Arc::new(self.clone()));
        self.look();
    }

    /// Who watches has changed.
    pub(super) fn look(&self) {
        self.0.to_read.notify_one();
    }

    /// Nothing is heard any more.
    pub(super) fn lost(&self) {
        for near in self.0.near.lock().values_mut() {
            near.is_heard = false;
        }
    }

    /// Everything is heard again; how much was not nobody knows.
    pub(super) fn back(&self) {
        let hub = self.0.hub.lock().upgrade();
        let near: Vec<Namespace> = {
            let near = self.0.near.lock();
            near.iter()
                .filter(|(_, near)| !near.is_heard)
                .map(|(namespace, _)| namespace.clone())
                .collect()
        };
        if let Some(hub) = hub {
            for namespace in &near {
                hub.lose(namespace, 1);
            }
        }
        self.0.to_register.notify_one();
        self.look();
    }

    /// Takes a message apart. What is none of ours is passed over.
    pub(super) fn hear(&self, channel: &str, payload: &[u8]) {
        let Some(namespace) = self.0.keys.channel_of(channel) else {
            return;
        };
        let Some(hub) = self.0.hub.lock().upgrade() else {
            return;
        };
        // What is none of ours is passed over.
        let heard = message::read(payload, &self.0.node);
        for part in heard.into_iter().flatten() {
            match part {
                Heard::Own => self.probed(&namespace),
                Heard::Record(record) if record.namespace == namespace => {
                    hub.announce(&record);
                }
                Heard::Record(_) => {}
                Heard::Line(line) => hub.tell(&namespace, line),
                Heard::Lost(count) => hub.lose(&namespace, count),
            }
        }
    }

    /// The channel is listened to: what comes from now on is heard.
    fn probed(&self, namespace: &Namespace) {
        if let Some(near) = self.0.near.lock().get_mut(namespace)
            && !near.is_heard
        {
            near.is_heard = true;
            self.0.to_register.notify_one();
        }
    }

    /// Says what is watched here, again and again.
    pub(super) async fn register(&self) {
        let mut failed = false;
        loop {
            let (is_unheard, is_empty) = self.let_go();
            let pause = match (failed, is_unheard, is_empty) {
                (true, ..) => Some(RETRY),
                (_, true, _) => Some(PROBE),
                (_, _, false) => Some(RENEW),
                _ => None,
            };
            let woken = self.0.to_register.notified();
            match pause {
                Some(pause) => drop(tokio::time::timeout(pause, woken).await),
                None => woken.await,
            }
            failed = self.say().await.is_err();
        }
    }

    /// Unsubscribes from what nobody has watched for a while; whether some is not heard yet, and whether there is none.
    fn let_go(&self) -> (bool, bool) {
        let hub = self.0.hub.lock().upgrade();
        let mut near = self.0.near.lock();
        near.retain(|namespace, near| {
            let is_watched = hub.as_ref().is_some_and(|hub| hub.watches(namespace));
            if is_watched {
                near.idle = None;
                return true;
            }
            let since = *near.idle.get_or_insert_with(Instant::now);
            let stays = since.elapsed() < WATCH;
            if !stays && let Some(ears) = &*self.0.ears.lock() {
                ears.unsubscribe(&self.0.keys.channel(namespace));
            }
            stays
        });
        (near.values().any(|near| !near.is_heard), near.is_empty())
    }

    async fn say(&self) -> crate::link::Result<()> {
        let key = self.0.keys.watched();
        let mut note = NOTE.call(&[&key]);
        note.arg(u64::try_from(WATCH.as_millis()).unwrap_or(u64::MAX));
        let mut batch = Batch::default();
        let mut count = 0;
        for (namespace, near) in &*self.0.near.lock() {
            if !near.is_heard {
                let message = message::write(&self.0.node, "", &[Part::Probe]);
                let mut probe = cmd("PUBLISH");
                probe.arg(self.0.keys.channel(namespace)).arg(message);
                batch.push(probe);
                continue;
            }
            if near.idle.is_some() {
                continue;
            }
            count += 1;
            note.arg(format!("r:{}:{namespace}", self.0.node));
            if near.lines {
                note.arg(format!("l:{}:{namespace}", self.0.node));
            }
        }
        if count > 0 {
            batch.call(&NOTE, note);
        }
        for answer in self.0.link.run(&batch).await? {
            answer?;
        }
        Ok(())
    }

    /// Reads who watches elsewhere, when that has changed.
    pub(super) async fn read(&self) {
        loop {
            self.0.to_read.notified().await;
            let key = self.0.keys.watched();
            let look = LOOK_AT.call(&[&key]);
            match self.0.link.call::<Vec<String>>(&LOOK_AT, &look).await {
                Ok(found) => self.note(&found),
                Err(error) => {
                    tracing::debug!(%error, "it is not known who watches records on other nodes");
                    tokio::time::sleep(RETRY).await;
                    self.look();
                }
            }
            // Renewals of many nodes come together.
            tokio::time::sleep(LOOK).await;
        }
    }

    fn note(&self, found: &[String]) {
        let now = Instant::now();
        let mut watches = BTreeMap::new();
        for pair in found.chunks_exact(2) {
            let [member, left] = pair else { continue };
            let Some(watch) = watch(member) else { continue };
            if watch.2 != self.0.node {
                let left = left.parse().unwrap_or(0);
                watches.insert(watch, now + Duration::from_millis(left));
            }
        }
        let count = |what| watches.keys().filter(|watch| watch.0 == what).count();
        let (records, lines) = (count(What::Records), count(What::Lines));
        let before = std::mem::replace(&mut *self.0.far.lock(), watches.clone());
        self.0.far_records.store(records, Ordering::SeqCst);
        self.0.far_lines.store(lines, Ordering::SeqCst);
        let news = watches.into_keys().filter(|watch| {
            let known = before.get(watch);
            watch.0 == What::Records && known.is_none_or(|until| *until < now)
        });
        for (_, namespace, node) in news {
            self.catch_up(&namespace, &node);
        }
    }

    /// Sends a node that begins to watch what was put a moment ago.
    fn catch_up(&self, namespace: &Namespace, node: &str) {
        let now = Instant::now();
        let recent: Vec<Arc<Activation>> = {
            let recent = self.0.recent.lock();
            let of_it = recent.records.iter().filter(|(since, record, _)| {
                record.namespace == *namespace && now.duration_since(*since) < RECENT
            });
            of_it.map(|(_, record, _)| Arc::clone(record)).collect()
        };
        for record in recent {
            self.publish(record, node.to_owned());
        }
    }

    fn publish(&self, record: Arc<Activation>, to: String) {
        let this = self.clone();
        let send = move || {
            let namespace = record.namespace.clone();
            let bytes = weight(&record);
            this.wait(namespace, to, Part::Record(record), bytes);
        };
        self.0.writer.call_then(Box::new(send));
    }

    fn wait(&self, namespace: Namespace, to: String, part: Part, bytes: usize) {
        let mut waiting = self.0.waiting.lock();
        let is_full = waiting.bytes + bytes > WAITING_BYTES_MAX;
        if !is_full {
            waiting.bytes += bytes;
        }
        let parts = waiting.parts.entry((namespace, to)).or_default();
        match (is_full, part, parts.last_mut()) {
            (false, part, _) => parts.push(part),
            (true, Part::Record(_), Some(Part::Lost(count))) => *count += 1,
            (true, Part::Record(_), _) => parts.push(Part::Lost(1)),
            // Lines are in their record.
            (true, ..) => {}
        }
        drop(waiting);
        self.0.to_send.notify_one();
    }

    /// Publishes what waits, one round trip after the other.
    pub(super) async fn send(&self) {
        loop {
            let waiting = std::mem::take(&mut *self.0.waiting.lock());
            if waiting.parts.is_empty() {
                self.0.to_send.notified().await;
                continue;
            }
            let mut batch = Batch::default();
            for ((namespace, to), parts) in &waiting.parts {
                let channel = self.0.keys.channel(namespace);
                for parts in message::split(parts) {
                    let mut publish = cmd("PUBLISH");
                    publish
                        .arg(&channel)
                        .arg(message::write(&self.0.node, to, parts));
                    batch.push(publish);
                }
            }
            if let Err(error) = self.0.link.run(&batch).await {
                // They are in Redis or will be; who watches is told by `back`.
                tracing::debug!(%error, "records could not be told to those who watch on other nodes");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// The nodes that watch this now.
    fn watched_by(&self, what: What, namespace: &Namespace) -> bool {
        let far = self.0.far.lock();
        let first = (what, namespace.clone(), String::new());
        let mut of_it = far.range(first..);
        let is_it = |watch: &Watch| watch.0 == what && watch.1 == *namespace;
        of_it.next().is_some_and(|(watch, _)| is_it(watch))
    }
}

impl Far for Live {
    fn watch(&self, namespace: &Namespace, lines: bool) {
        let mut near = self.0.near.lock();
        let is_new = !near.contains_key(namespace);
        let entry = near.entry(namespace.clone()).or_insert(Near {
            lines,
            is_heard: false,
            idle: None,
        });
        let is_more = lines && !entry.lines;
        let was_idle = entry.idle.take().is_some();
        entry.lines |= lines;
        drop(near);
        if is_new && let Some(ears) = &*self.0.ears.lock() {
            ears.subscribe(&self.0.keys.channel(namespace));
        }
        if is_new || is_more || was_idle {
            self.0.to_register.notify_one();
        }
    }

    fn record(&self, record: &Arc<Activation>) {
        self.remember(record);
        if self.0.far_records.load(Ordering::SeqCst) > 0
            && self.watched_by(What::Records, &record.namespace)
        {
            self.publish(Arc::clone(record), String::new());
        }
    }

    fn wants_lines(&self) -> bool {
        self.0.far_lines.load(Ordering::Relaxed) > 0
    }

    fn line(&self, namespace: &Namespace, line: &Line) {
        if !self.wants_lines() || !self.watched_by(What::Lines, namespace) {
            return;
        }
        let told = Told {
            id: line.id,
            fqn: line.action.fqn.clone(),
            reached: line.action.reached.clone(),
            text: line.text.clone(),
        };
        let bytes = 256 + told.text.len();
        self.wait(
            namespace.clone(),
            String::new(),
            Part::Line(Box::new(told)),
            bytes,
        );
    }
}

impl Live {
    fn remember(&self, record: &Arc<Activation>) {
        let (now, bytes) = (Instant::now(), weight(record));
        let mut gone = Vec::new();
        {
            let mut recent = self.0.recent.lock();
            let Recent {
                records,
                bytes: sum,
            } = &mut *recent;
            records.push_back((now, Arc::clone(record), bytes));
            *sum += bytes;
            while let Some((since, _, oldest)) = records.front() {
                let is_old = now.duration_since(*since) >= RECENT;
                if !is_old && *sum <= RECENT_BYTES_MAX && records.len() <= RECENT_COUNT_MAX {
                    break;
                }
                *sum -= oldest;
                gone.extend(records.pop_front());
            }
        }
        // Freed outside the lock.
        drop(gone);
    }
}

/// What a member of the set says.
fn watch(member: &str) -> Option<Watch> {
    let mut parts = member.splitn(3, ':');
    let what = match parts.next()? {
        "r" => What::Records,
        "l" => What::Lines,
        _ => return None,
    };
    let node = parts.next()?.to_owned();
    Some((what, Namespace::parse(parts.next()?).ok()?, node))
}
