//! Entities, typed and cached in front of [`Entities`].
//!
//! A warm call asks [`Catalog::cached`] and nothing else. The cache is right because every write goes through here, or, where
//! other nodes write too ([`Catalog::share`]), is heard of soon after ([`Catalog::forget`]):
//!
//! - *A fill never overwrites a newer write.* Each key belongs to a stripe with a counter. A reader notes the counter
//!   before it reads and fills only if it still stands; a writer raises it after its commit, while it holds the
//!   entry's shard, and then sets or removes the entry. So a fill either comes first and is replaced, or is refused.
//! - *Writes of a key reach the cache in the order of their commits*: they hold the stripe's lock from before the
//!   commit until the cache is right.
//! - *A write is never left half done by a caller that goes away*: it runs in a task of its own.
//! - *What others wrote since is not covered*: where they may have, a write of this node's leaves nothing in the cache, since
//!   word of a later one may have come before its own answer; and [`Catalog::forget`] raises the counter as a write does.
//!
//! Bounded by entries; what was not asked for since the hand last passed goes first (second chance).

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::quality::RandomState;
use parking_lot::Mutex;

use super::entity::{Entity, Kind, key_of};
use super::seal::Seal;
use super::{Change, Collection, Entities, EntityFilter, Error, Expect, Page, Result, Revision};
use crate::model::{Digest, EntityName, Fqn, Namespace, Rule, Trigger};

/// More than there are writers at one time, or readers that miss; a shared stripe costs a wait or a missed fill.
const STRIPES: usize = 64;

/// What is stored under a name.
#[derive(Debug, Clone)]
pub(crate) enum Found<T> {
    /// What was looked for, and what to expect when writing it.
    Is(Arc<T>, Revision),
    /// Another kind of entity.
    Other,
    Nothing,
}

/// One of several writes that are made together.
#[derive(Debug)]
pub(crate) enum Write {
    /// From [`Catalog::putting`].
    Put(Entity, Expect),
    Delete(Fqn, Revision),
    /// Nothing is written; it must be what it was.
    Keep(Fqn, Revision),
}

impl Write {
    fn fqn(&self) -> &Fqn {
        match self {
            Self::Put(entity, _) => entity.fqn(),
            Self::Delete(fqn, _) | Self::Keep(fqn, _) => fqn,
        }
    }

    fn change(&self) -> Result<Change> {
        Ok(match self {
            Self::Put(entity, expect) => Change::Put(entity.document()?, *expect),
            Self::Delete(fqn, expect) => Change::Delete(key_of(fqn), *expect),
            Self::Keep(fqn, expect) => Change::Keep(key_of(fqn), *expect),
        })
    }
}

/// See the module. Shared by reference counting; cheap to ask.
pub(crate) struct Catalog(Arc<Inner>);

struct Inner {
    entities: Arc<dyn Entities>,
    cached: DashMap<Fqn, Cached, RandomState>,
    stripes: [Stripe; STRIPES],
    /// Keys in the order the hand meets them; at most one per cached entry and one per entry removed since.
    hand: Mutex<VecDeque<Fqn>>,
    entries_max: usize,
    seal: Arc<Seal>,
    /// Others write, too.
    is_shared: AtomicBool,
}

#[derive(Default)]
struct Stripe {
    writes: AtomicU64,
    /// Held from before a commit until the cache shows it.
    writing: tokio::sync::Mutex<()>,
}

struct Cached {
    entity: Entity,
    revision: Revision,
    /// Asked for since the hand last passed.
    is_used: AtomicBool,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog")
            .field("cached", &self.0.cached.len())
            .finish_non_exhaustive()
    }
}

impl Catalog {
    /// A catalog that keeps at most `entries_max` entities in memory, and encrypts nothing.
    #[cfg(test)]
    pub(crate) fn new(entities: Arc<dyn Entities>, entries_max: usize) -> Self {
        Self::sealing(entities, entries_max, Arc::default())
    }

    /// A catalog that keeps at most `entries_max` entities in memory, where their parameters are in clear text, and has
    /// them stored as `seal` says.
    pub(crate) fn sealing(
        entities: Arc<dyn Entities>,
        entries_max: usize,
        seal: Arc<Seal>,
    ) -> Self {
        Self(Arc::new(Inner {
            entities,
            cached: DashMap::default(),
            stripes: std::array::from_fn(|_| Stripe::default()),
            hand: Mutex::default(),
            entries_max: entries_max.max(1),
            seal,
            is_shared: AtomicBool::new(false),
        }))
    }

    /// From now on other nodes write, too, and whatever they change will be forgotten.
    pub(crate) fn share(&self) {
        self.0.is_shared.store(true, Ordering::SeqCst);
    }

    /// The entity, when it is in memory and of this kind; never waits.
    pub(crate) fn cached<T: Kind>(&self, fqn: &Fqn) -> Option<Arc<T>> {
        self.0.cached(fqn).and_then(|(entity, _)| T::of(entity))
    }

    /// What is stored under `fqn`, from memory when it can be.
    pub(crate) async fn get<T: Kind>(&self, fqn: &Fqn) -> Result<Found<T>> {
        let Some((entity, revision)) = self.entity(fqn).await? else {
            return Ok(Found::Nothing);
        };
        Ok(match T::of(entity) {
            Some(entity) => Found::Is(entity, revision),
            None => Found::Other,
        })
    }

    /// The rule `name` that listens to `trigger`. What it runs is what it says itself: the copy that its trigger keeps follows
    /// with the next write, and not at all where a crash came in between.
    pub(crate) async fn listener(
        &self,
        trigger: &Trigger,
        name: &EntityName,
    ) -> Result<Option<Arc<Rule>>> {
        let fqn = Fqn {
            namespace: trigger.fqn.namespace.clone(),
            package: None,
            name: name.clone(),
        };
        let rule = match self.cached::<Rule>(&fqn) {
            Some(rule) => rule,
            None => match self.get::<Rule>(&fqn).await? {
                Found::Is(rule, _) => rule,
                Found::Other | Found::Nothing => return Ok(None),
            },
        };
        Ok(Some(rule).filter(|rule| rule.trigger == trigger.fqn))
    }

    /// As [`Catalog::get`], of whatever kind it is.
    pub(crate) async fn entity(&self, fqn: &Fqn) -> Result<Option<(Entity, Revision)>> {
        if let Some(found) = self.0.cached(fqn) {
            return Ok(Some(found));
        }
        let writes_seen = self.0.stripe(fqn).writes.load(Ordering::Acquire);
        let Some((document, revision)) = self.0.entities.get(&key_of(fqn)).await? else {
            return Ok(None);
        };
        let entity = Entity::parse(&document, &self.0.seal)?;
        self.0.fill(fqn, &entity, revision, writes_seen);
        Ok(Some((entity, revision)))
    }

    /// Writes the entity and, when given, its code; durable when it returns.
    ///
    /// # Errors
    /// [`Error::Conflict`] when what is stored is not what was expected; nothing changes then.
    pub(crate) async fn put<T: Kind>(
        &self,
        mut entity: T,
        code: Option<Arc<str>>,
        expect: Expect,
    ) -> Result<Arc<T>> {
        if let Some((namespace, parameters)) = entity.secrets() {
            self.0.seal.close(namespace, parameters)?;
        }
        let (inner, written) = (Arc::clone(&self.0), Arc::new(entity));
        let entity = T::entity(Arc::clone(&written));
        finish(tokio::spawn(async move {
            let (document, fqn) = (entity.document()?, entity.fqn());
            let _writing = inner.stripe(fqn).writing.lock().await;
            let result = inner.entities.put(document, code, expect).await;
            let is_shared = inner.is_shared.load(Ordering::SeqCst);
            let stored = result.as_ref().ok().filter(|_| !is_shared);
            inner.written(fqn, stored.map(|revision| (&entity, *revision)));
            result.map(drop)
        }))
        .await?;
        Ok(written)
    }

    /// Removes the entity, and its code when nobody else needs it.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is not at `expect`.
    pub(crate) async fn delete(&self, fqn: &Fqn, expect: Revision) -> Result<()> {
        let (inner, fqn) = (Arc::clone(&self.0), fqn.clone());
        finish(tokio::spawn(async move {
            let _writing = inner.stripe(&fqn).writing.lock().await;
            let result = inner.entities.delete(&key_of(&fqn), expect).await;
            inner.written(&fqn, None);
            result
        }))
        .await
    }

    /// `entity` as one of several writes, and as it will be then.
    pub(crate) fn putting<T: Kind>(
        &self,
        mut entity: T,
        expect: Expect,
    ) -> Result<(Arc<T>, Write)> {
        if let Some((namespace, parameters)) = entity.secrets() {
            self.0.seal.close(namespace, parameters)?;
        }
        let entity = Arc::new(entity);
        Ok((Arc::clone(&entity), Write::Put(T::entity(entity), expect)))
    }

    /// Makes all of `writes`, which lie in one namespace and have no code, or none of them; durable when it returns.
    ///
    /// # Errors
    /// [`Error::Conflict`] when anything stored is not what was expected; nothing changes then.
    pub(crate) async fn write(&self, writes: Vec<Write>) -> Result<()> {
        let inner = Arc::clone(&self.0);
        finish(tokio::spawn(async move {
            let changes: Result<Vec<_>> = writes.iter().map(Write::change).collect();
            let changes = changes?;
            let _writing = inner.lock(&writes).await;
            let result = inner.entities.write(changes).await;
            let is_shared = inner.is_shared.load(Ordering::SeqCst);
            let mut revisions = result.as_ref().ok().into_iter().flatten();
            for write in &writes {
                let revision = revisions.next().copied().flatten();
                match write {
                    Write::Keep(..) => {}
                    Write::Delete(fqn, _) => inner.written(fqn, None),
                    Write::Put(entity, _) => {
                        let stored = revision.filter(|_| !is_shared);
                        inner.written(entity.fqn(), stored.map(|revision| (entity, revision)));
                    }
                }
            }
            result.map(drop)
        }))
        .await
    }

    /// Newest first; of all packages and none, or of one.
    pub(crate) async fn list<T: Kind>(
        &self,
        namespace: &Namespace,
        package: Option<&EntityName>,
        page: Page,
    ) -> Result<Vec<Arc<T>>> {
        let filter = filter(T::COLLECTION, package);
        let documents = self.0.entities.list(namespace, &filter, page).await?;
        let entities = documents
            .iter()
            .map(|document| Entity::parse(document, &self.0.seal));
        entities
            .filter_map(|entity| entity.map(T::of).transpose())
            .collect()
    }

    /// How many [`Catalog::list`] would list.
    pub(crate) async fn count<T: Kind>(
        &self,
        namespace: &Namespace,
        package: Option<&EntityName>,
    ) -> Result<usize> {
        let filter = filter(T::COLLECTION, package);
        self.0.entities.count(namespace, &filter).await
    }

    /// The code string exactly as it was uploaded.
    pub(crate) async fn code(&self, digest: &Digest) -> Result<Option<Arc<str>>> {
        self.0.entities.code(digest).await
    }

    /// What encrypts what is stored.
    pub(crate) fn seal(&self) -> &Seal {
        &self.0.seal
    }

    /// Somebody else changed it: what is kept is forgotten, and what is being read now is not kept.
    pub(crate) fn forget(&self, fqn: &Fqn) {
        self.0.written(fqn, None);
    }

    /// Anything may have changed.
    pub(crate) fn forget_all(&self) {
        for stripe in &self.0.stripes {
            stripe.writes.fetch_add(1, Ordering::AcqRel);
        }
        self.0.cached.clear();
    }

    /// Forgets what it keeps of a namespace that was deleted.
    pub(crate) fn forget_namespace(&self, namespace: &Namespace) {
        // First the counters: whoever read before the delete and fills after this finds them raised.
        for stripe in &self.0.stripes {
            stripe.writes.fetch_add(1, Ordering::AcqRel);
        }
        self.0.cached.retain(|fqn, _| fqn.namespace != *namespace);
    }
}

impl Inner {
    fn stripe(&self, fqn: &Fqn) -> &Stripe {
        &self.stripes[self.index(fqn)]
    }

    /// The locks of all stripes that `writes` are in, taken in one order, so that nobody waits for whoever waits for it.
    async fn lock(&self, writes: &[Write]) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        let indices: BTreeSet<_> = writes.iter().map(|one| self.index(one.fqn())).collect();
        let mut locks = Vec::with_capacity(indices.len());
        for index in indices {
            locks.push(self.stripes[index].writing.lock().await);
        }
        locks
    }

    fn index(&self, fqn: &Fqn) -> usize {
        let hash = self.cached.hasher().hash_one(fqn);
        // The map takes its shards from the upper bits.
        usize::try_from(hash & 0xffff).unwrap_or_default() % STRIPES
    }

    fn cached(&self, fqn: &Fqn) -> Option<(Entity, Revision)> {
        let cached = self.cached.get(fqn)?;
        cached.entity.fetch();
        if !cached.is_used.load(Ordering::Relaxed) {
            cached.is_used.store(true, Ordering::Relaxed);
        }
        Some((cached.entity.clone(), cached.revision))
    }

    /// Keeps what was read, unless it was written since.
    fn fill(&self, fqn: &Fqn, entity: &Entity, revision: Revision, writes_seen: u64) {
        {
            let entry = self.cached.entry(fqn.clone());
            if self.stripe(fqn).writes.load(Ordering::Acquire) != writes_seen {
                return;
            }
            match entry {
                Entry::Occupied(_) => return,
                Entry::Vacant(vacant) => drop(vacant.insert(Cached::new(entity, revision))),
            }
        }
        self.admit(fqn);
    }

    /// Shows a write that may have been committed: sets what is stored now, or drops what is not known for sure.
    fn written(&self, fqn: &Fqn, stored: Option<(&Entity, Revision)>) {
        let entry = self.cached.entry(fqn.clone());
        self.stripe(fqn).writes.fetch_add(1, Ordering::AcqRel);
        let is_new = match (entry, stored) {
            (Entry::Occupied(mut occupied), Some((entity, revision))) => {
                occupied.insert(Cached::new(entity, revision));
                false
            }
            (Entry::Vacant(vacant), Some((entity, revision))) => {
                drop(vacant.insert(Cached::new(entity, revision)));
                true
            }
            (Entry::Occupied(occupied), None) => {
                occupied.remove();
                false
            }
            (Entry::Vacant(_), None) => false,
        };
        if is_new {
            self.admit(fqn);
        }
    }

    /// Gives a new entry its place before the hand, and makes room for it.
    fn admit(&self, fqn: &Fqn) {
        let mut hand = self.hand.lock();
        hand.push_back(fqn.clone());
        while hand.len() > self.entries_max {
            let Some(oldest) = hand.pop_front() else {
                return;
            };
            let gone = self
                .cached
                .remove_if(&oldest, |_, cached| !cached.is_used.load(Ordering::Relaxed));
            if gone.is_some() {
                continue;
            }
            // Used: it gets another round. Removed meanwhile: its place is free.
            if let Some(cached) = self.cached.get(&oldest) {
                cached.is_used.store(false, Ordering::Relaxed);
                drop(cached);
                hand.push_back(oldest);
            }
        }
    }
}

impl Cached {
    fn new(entity: &Entity, revision: Revision) -> Self {
        Self {
            entity: entity.clone(),
            revision,
            is_used: AtomicBool::new(false),
        }
    }
}

/// The outcome of a write that goes on when its caller does not.
async fn finish<T>(task: tokio::task::JoinHandle<Result<T>>) -> Result<T> {
    match task.await {
        Ok(result) => result,
        Err(error) => Err(Error::Unavailable(format!("a write was lost: {error}"))),
    }
}

fn filter(collection: Collection, package: Option<&EntityName>) -> EntityFilter {
    EntityFilter {
        collection,
        package: package.cloned(),
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
