//! The log of accepted work: a *home* per node, which the living take over from the dead.
//!
//! A home is a hash of work by id, one of how often runs of it began, and its owner. A node makes one when it accepts the
//! first time, and another when it finds that its own was taken from it, because it was thought dead. Every script on a
//! home names who calls it and does nothing where another is the owner: so what a node that was thought dead still has to
//! say about work that others run now is not heard.
//!
//! [`Homes::adopt`] changes the owner with a compare-and-set, home by home: of all who try, one gets each. When that one
//! dies, its homes, adopted ones among them, are adopted in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::answer::{corrupt, failed};
use super::keys::{All, Keys};
use super::pipeline::BEGIN;
use super::writer::Writer;
use crate::link::{self, FromRedisValue, Link, Script, Value, cmd};
use crate::model::{ActivationId, Namespace};
use crate::store::seal::Seal;
use crate::store::{Accepted, Error, Pending, Result};

/// Pieces of work in one call of the script.
const ACCEPT_COUNT: usize = 128;
/// Entries read in one step.
const SCAN_COUNT: usize = 200;
/// How often a home is made anew because others took the last one.
const TRIES_MAX: usize = 3;

/// KEYS owner; ARGV node. A home of its own.
static MAKE: Script = Script::new(
    "if redis.call('SET', KEYS[1], ARGV[1], 'NX') then return 1 end \
     if redis.call('GET', KEYS[1]) == ARGV[1] then return 1 end \
     return 0",
);

/// KEYS accepted, owner; ARGV node, then ids and entries.
static ACCEPT: Script = Script::new(
    "if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end \
     for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end \
     return 1",
);

/// KEYS accepted, begun, owner; ARGV the dead, who adopts. An empty home is taken down.
static ADOPT: Script = Script::new(
    "#!lua flags=allow-oom\n\
     if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 'not' end \
     if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2], KEYS[3]) return 'empty' end \
     redis.call('SET', KEYS[3], ARGV[2]) return 'adopted'",
);

/// Names and values of a hash.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A home, and who answers for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) name: String,
    /// The node's id.
    pub(crate) owner: String,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Homes(Arc<Inner>);

struct Inner {
    link: Link,
    keys: Keys,
    node: String,
    writer: Writer,
    /// Where new work goes; and its number.
    current: Mutex<Option<Arc<str>>>,
    /// Whether a home of this node was left to whoever adopts it.
    has_left: AtomicBool,
    making: tokio::sync::Mutex<()>,
    serial: AtomicU64,
    /// Orders work within a home.
    order: AtomicU64,
    /// Where work is that was accepted here or adopted.
    places: DashMap<ActivationId, Place>,
    waiting: Mutex<Vec<Waiting>>,
    wake: Notify,
}

/// The home of a piece of work; and another, where it was accepted here and adopted, too, as a time is that the clocks of two
/// nodes found due.
#[derive(Debug, Clone)]
struct Place(Arc<str>, Option<Arc<str>>);

impl Place {
    fn homes(self) -> impl Iterator<Item = Arc<str>> {
        std::iter::once(self.0).chain(self.1)
    }
}

/// A piece of work whose caller waits.
struct Waiting {
    id: ActivationId,
    entry: Vec<u8>,
    reply: oneshot::Sender<Result<()>>,
}

impl std::fmt::Debug for Homes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Homes({} places)", self.0.places.len())
    }
}

impl Homes {
    /// Those of `node`, and of whom it adopts.
    pub(super) fn new(link: Link, keys: Keys, node: &str, writer: Writer) -> Self {
        let homes = Self(Arc::new(Inner {
            link,
            keys,
            node: node.to_owned(),
            writer,
            current: Mutex::default(),
            has_left: AtomicBool::new(false),
            making: tokio::sync::Mutex::default(),
            serial: AtomicU64::new(0),
            order: AtomicU64::new(0),
            places: DashMap::new(),
            waiting: Mutex::default(),
            wake: Notify::new(),
        }));
        tokio::spawn(accept_for(Arc::downgrade(&homes.0)));
        homes
    }

    /// Leaves the home of this node: what is accepted from now on goes to a new one, and what is in the old one belongs to
    /// whoever adopts it, which may be this node.
    pub(crate) fn leave(&self) {
        self.0.current.lock().take();
        self.0.has_left.store(true, Ordering::Release);
    }

    /// Whether it left one and has not tried to adopt it.
    pub(crate) fn has_left(&self) -> bool {
        self.0.has_left.load(Ordering::Acquire)
    }

    /// It has tried.
    pub(crate) fn has_come_back(&self) {
        self.0.has_left.store(false, Ordering::Release);
    }

    /// Every home and its owner: those whose owner is dead are to be adopted.
    ///
    /// # Errors
    /// When Redis does not tell.
    pub(crate) async fn homes(&self) -> Result<Vec<Home>> {
        let all = self.0.keys.all(All::Homes);
        let mut members = cmd("SMEMBERS");
        members.arg(&all);
        let names: Vec<String> = self.0.query(&members, &all).await?;
        let mut homes = Vec::with_capacity(names.len());
        for name in names {
            let key = self.0.keys.owner(&name);
            let mut get = cmd("GET");
            get.arg(&key);
            match self.0.query::<Option<String>>(&get, &key).await? {
                Some(owner) => homes.push(Home { name, owner }),
                None => self.0.strike(&name).await?,
            }
        }
        Ok(homes)
    }

    /// Takes over what `dead` answered for: of all who try at one time one gets each of its homes. From then on ends and
    /// beginnings of this work are noted there. Work of namespaces that were deleted is not handed out.
    ///
    /// # Errors
    /// When Redis does not answer: what was taken over until then is this node's, and is found by adopting its own id.
    pub(crate) async fn adopt(&self, dead: &str, seal: &Seal) -> Result<Vec<Pending>> {
        let mut found = Vec::new();
        for home in self.homes().await? {
            if home.owner != dead {
                continue;
            }
            if dead == self.0.node {
                let is_current = self.0.current.lock().as_deref() == Some(&*home.name);
                if is_current {
                    continue;
                }
            }
            let keys = &self.0.keys;
            let key = keys.accepted(&home.name);
            let mut adopt = ADOPT.call(&[&key, &keys.begun(&home.name), &keys.owner(&home.name)]);
            adopt.arg(dead).arg(&self.0.node);
            let verdict: String = self.0.call(&ADOPT, &adopt, &key).await?;
            match verdict.as_str() {
                "adopted" => found.extend(self.0.load(&home.name.into(), true).await?),
                "empty" => self.0.strike(&home.name).await?,
                _ => {}
            }
        }
        found.sort_by_key(|(order, _)| *order);
        let open = |(_, mut pending): (u64, Pending)| {
            let kept = std::mem::take(&mut pending.work);
            pending.work = seal.open_entry(pending.id, kept);
            pending
        };
        Ok(found.into_iter().map(open).collect())
    }

    /// Forgets the accepted work of a deleted namespace, wherever it is.
    pub(super) async fn forget(&self, namespace: &Namespace) -> Result<()> {
        for home in self.homes().await? {
            let name: Arc<str> = home.name.into();
            for (id, entry) in self.0.entries(&name).await? {
                if entry.namespace == *namespace {
                    self.0.remove(&name, id).await?;
                }
            }
        }
        Ok(())
    }

    fn place(&self, id: ActivationId) -> impl Iterator<Item = Arc<str>> {
        let place = self.0.places.get(&id).map(|place| place.clone());
        place.into_iter().flat_map(Place::homes)
    }
}

/// What stands under an id.
struct Entry {
    order: u64,
    namespace: Namespace,
    work: Bytes,
}

fn entry(order: u64, namespace: &Namespace, work: &[u8]) -> Vec<u8> {
    let name = namespace.as_str().as_bytes();
    let mut entry = Vec::with_capacity(10 + name.len() + work.len());
    entry.extend(order.to_be_bytes());
    entry.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    entry.extend(name);
    entry.extend(work);
    entry
}

fn read_entry(bytes: &[u8]) -> Option<Entry> {
    let (order, rest) = bytes.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (name, work) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some(Entry {
        order: u64::from_be_bytes(*order),
        namespace: Namespace::parse(str::from_utf8(name).ok()?).ok()?,
        work: Bytes::copy_from_slice(work),
    })
}

fn id_of(bytes: &[u8]) -> Option<ActivationId> {
    let id: [u8; 16] = bytes.try_into().ok()?;
    Some(ActivationId(u128::from_be_bytes(id)))
}

impl Inner {
    async fn query<T: FromRedisValue>(&self, command: &link::Cmd, key: &str) -> Result<T> {
        let answer = self.link.query(command).await;
        answer.map_err(|error| failed(error, key))
    }

    async fn call<T: FromRedisValue>(
        &self,
        script: &'static Script,
        command: &link::Cmd,
        key: &str,
    ) -> Result<T> {
        let answer = self.link.call(script, command).await;
        answer.map_err(|error| failed(error, key))
    }

    fn settle(&self, id: ActivationId) {
        let place = self.places.remove(&id);
        for home in place.into_iter().flat_map(|(_, place)| place.homes()) {
            self.writer.settle(home, id);
        }
    }

    /// Notes that work is in this home.
    fn settle_in(&self, id: ActivationId, home: &Arc<str>) {
        let mut place = self
            .places
            .entry(id)
            .or_insert_with(|| Place(Arc::clone(home), None));
        if place.0 != *home {
            place.1 = Some(Arc::clone(home));
        }
    }

    /// Where this node's new work goes.
    async fn current(&self) -> Result<Arc<str>> {
        if let Some(home) = &*self.current.lock() {
            return Ok(Arc::clone(home));
        }
        let _making = self.making.lock().await;
        if let Some(home) = &*self.current.lock() {
            return Ok(Arc::clone(home));
        }
        loop {
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            let name: Arc<str> = format!("{}.{serial}", self.node).into();
            let all = self.keys.all(All::Homes);
            let mut known = cmd("SADD");
            known.arg(&all).arg(&*name);
            self.query::<Value>(&known, &all).await?;
            let key = self.keys.owner(&name);
            let mut make = MAKE.call(&[&key]);
            make.arg(&self.node);
            if self.call::<bool>(&MAKE, &make, &key).await? {
                *self.current.lock() = Some(Arc::clone(&name));
                return Ok(name);
            }
        }
    }

    /// Takes a home that has no owner any more off the list.
    async fn strike(&self, name: &str) -> Result<()> {
        let all = self.keys.all(All::Homes);
        let mut strike = cmd("SREM");
        strike.arg(&all).arg(name);
        self.query::<Value>(&strike, &all).await.map(drop)
    }

    async fn remove(&self, home: &str, id: ActivationId) -> Result<()> {
        for key in [self.keys.accepted(home), self.keys.begun(home)] {
            let mut remove = cmd("HDEL");
            remove.arg(&key).arg(&id.0.to_be_bytes());
            self.query::<Value>(&remove, &key).await?;
        }
        self.places.remove(&id);
        Ok(())
    }

    /// What is in a home; what cannot be read is logged and left there.
    async fn entries(&self, home: &Arc<str>) -> Result<Vec<(ActivationId, Entry)>> {
        let key = self.keys.accepted(home);
        let mut found = Vec::new();
        for (id, value) in self.scan(&key).await? {
            match (id_of(&id), read_entry(&value)) {
                (Some(id), Some(entry)) => found.push((id, entry)),
                _ => {
                    let error = corrupt(&key, "it has an entry that is no accepted work");
                    tracing::error!(%error, "accepted work cannot be read");
                }
            }
        }
        Ok(found)
    }

    async fn scan(&self, key: &str) -> Result<Fields> {
        let (mut cursor, mut found) = (0_u64, std::collections::BTreeMap::new());
        loop {
            let mut scan = cmd("HSCAN");
            scan.arg(key).arg(cursor).arg("COUNT").arg(SCAN_COUNT);
            let (next, some): (u64, Fields) = self.query(&scan, key).await?;
            // It may tell of one more than once.
            found.extend(some);
            cursor = next;
            if cursor == 0 {
                return Ok(found.into_iter().collect());
            }
        }
    }

    /// The work in a home that is this node's now.
    async fn load(&self, home: &Arc<str>, is_adopted: bool) -> Result<Vec<(u64, Pending)>> {
        let key = self.keys.begun(home);
        let mut begun = std::collections::HashMap::new();
        for (id, count) in self.scan(&key).await? {
            let count = str::from_utf8(&count)
                .ok()
                .and_then(|text| text.parse().ok());
            begun.insert(id, count.unwrap_or(u32::MAX));
        }
        let mut found = Vec::new();
        for (id, entry) in self.entries(home).await? {
            let gone_key = self.keys.namespace(&entry.namespace);
            let mut gone = cmd("HEXISTS");
            gone.arg(&gone_key).arg("gone");
            if self.query::<bool>(&gone, &gone_key).await? {
                self.remove(home, id).await?;
                continue;
            }
            if is_adopted {
                self.settle_in(id, home);
            }
            let pending = Pending {
                id,
                work: entry.work,
                begun: begun.get(&id.0.to_be_bytes()[..]).copied().unwrap_or(0),
            };
            found.push((entry.order, pending));
        }
        Ok(found)
    }

    /// Puts what waits into the current home, in one script; a home that was taken away is left for a new one.
    async fn accept(&self, waiting: &[Waiting]) -> Result<()> {
        for _ in 0..TRIES_MAX {
            let home = self.current().await?;
            let key = self.keys.accepted(&home);
            let mut accept = ACCEPT.call(&[&key, &self.keys.owner(&home)]);
            accept.arg(&self.node);
            for one in waiting {
                // Before it is sent: whether it was executed may never be known, and it is settled then.
                self.settle_in(one.id, &home);
                accept.arg(&one.id.0.to_be_bytes()).arg(&one.entry);
            }
            if self.call::<bool>(&ACCEPT, &accept, &key).await? {
                return Ok(());
            }
            tracing::warn!(%home, "another node answers for this node's accepted work; new work goes elsewhere");
            let mut current = self.current.lock();
            if current.as_ref() == Some(&home) {
                *current = None;
            }
        }
        Err(Error::Unavailable(
            "other nodes take this node's homes away".to_owned(),
        ))
    }
}

/// Accepts for all who wait, until the last handle is gone.
async fn accept_for(homes: std::sync::Weak<Inner>) {
    loop {
        let Some(inner) = homes.upgrade() else { return };
        let mut waiting = {
            let mut waiting = inner.waiting.lock();
            let count = waiting.len().min(ACCEPT_COUNT);
            waiting.drain(..count).collect::<Vec<_>>()
        };
        if waiting.is_empty() {
            // Looked at again now and then, so that it ends when nobody is left to wake it.
            drop(
                tokio::time::timeout(std::time::Duration::from_secs(1), inner.wake.notified())
                    .await,
            );
            continue;
        }
        waiting.retain(|one| !one.reply.is_closed());
        let result = inner.accept(&waiting).await;
        for one in waiting {
            if result.is_err() {
                // It may be there all the same, and its caller is told that it is not.
                inner.settle(one.id);
            }
            drop(one.reply.send(result.clone()));
        }
    }
}

/// A caller that left before it heard that its work was accepted was promised nothing, and nobody will run the work.
struct Unclaimed<'a> {
    homes: &'a Homes,
    id: Option<ActivationId>,
}

impl Drop for Unclaimed<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.homes.settle(id);
        }
    }
}

#[async_trait]
impl Accepted for Homes {
    async fn accept(&self, namespace: &Namespace, id: ActivationId, work: Bytes) -> Result<()> {
        let order = self.0.order.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let mut unclaimed = Unclaimed {
            homes: self,
            id: Some(id),
        };
        self.0.waiting.lock().push(Waiting {
            id,
            entry: entry(order, namespace, &work),
            reply,
        });
        self.0.wake.notify_one();
        let closed = |_| Err(Error::Unavailable("it is closed".to_owned()));
        let result = answer.await.unwrap_or_else(closed);
        unclaimed.id = None;
        result
    }

    fn begin(&self, id: ActivationId) {
        for home in self.place(id) {
            self.0.writer.begin(home, id);
        }
    }

    async fn begin_durably(&self, id: ActivationId) -> Result<()> {
        for home in self.place(id) {
            let keys = &self.0.keys;
            let key = keys.accepted(&home);
            let mut begin = BEGIN.call(&[&keys.begun(&home), &key, &keys.owner(&home)]);
            begin.arg(&self.0.node).arg(&id.0.to_be_bytes());
            if self.0.call::<u32>(&BEGIN, &begin, &key).await? == 0 {
                return Err(Error::Unavailable(
                    "another node answers for this work".to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn settle(&self, id: ActivationId) {
        self.0.settle(id);
    }

    /// This node's own and what it adopted; of the whole cluster the others know the rest.
    async fn pending(&self) -> Result<Vec<Pending>> {
        self.0.writer.flush_all().await?;
        let mut found = Vec::new();
        for home in self.homes().await? {
            if home.owner == self.0.node {
                found.extend(self.0.load(&home.name.into(), false).await?);
            }
        }
        found.sort_by_key(|(order, _)| *order);
        Ok(found.into_iter().map(|(_, pending)| pending).collect())
    }
}
