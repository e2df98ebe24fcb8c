//! A store in memory, for tests of what stands before it. Fails on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    Accepted, ActivationFilter, Activations, Change, Document, Entities, EntityFilter, EntityKey,
    Error, Expect, Item, Items, Page, Pending, Result, Revision, Shelf, Store, Tenants,
};
use crate::model::{
    Activation, ActivationId, Digest, EntityName, Namespace, NamespaceLimits, Tenant, Timestamp,
};

/// All five seams at once. Of the locks on entities, items and code, the first is taken first.
#[derive(Default)]
pub(crate) struct Fake {
    entities: Mutex<Vec<(Document, Revision)>>,
    items: Mutex<Vec<(Namespace, Shelf, Item, Revision)>>,
    codes: Mutex<BTreeMap<Digest, Arc<str>>>,
    /// Namespaces deleted and not made again.
    buried: Mutex<BTreeSet<Namespace>>,
    tenants: Mutex<BTreeMap<Namespace, Tenant>>,
    records: Mutex<BTreeMap<ActivationId, Arc<Activation>>>,
    revision: AtomicU64,
    /// How often a tenant was looked up by its uuid.
    pub(crate) key_reads: AtomicU64,
    /// While set, everything that can fail fails with it.
    pub(crate) failure: Mutex<Option<Error>>,
    /// While set, no record is taken.
    pub(crate) no_room: AtomicBool,
}

impl Fake {
    /// A store, and the handle that makes it fail.
    pub(crate) fn store() -> (Store, Arc<Self>) {
        let fake = Arc::new(Self::default());
        let store = Store {
            entities: Arc::clone(&fake) as Arc<dyn Entities>,
            items: Arc::clone(&fake) as Arc<dyn Items>,
            tenants: Arc::clone(&fake) as Arc<dyn Tenants>,
            activations: Arc::clone(&fake) as Arc<dyn Activations>,
            accepted: Arc::clone(&fake) as Arc<dyn Accepted>,
        };
        (store, fake)
    }

    fn check(&self) -> Result<()> {
        self.failure.lock().clone().map_or(Ok(()), Err)
    }

    fn next_revision(&self) -> Revision {
        Revision(self.revision.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Forgets code that nobody refers to any more.
    fn collect_code(&self) {
        let (entities, items) = (self.entities.lock(), self.items.lock());
        let needed: BTreeSet<Digest> = entities
            .iter()
            .filter_map(|(document, _)| document.code)
            .chain(items.iter().filter_map(|(_, _, item, _)| item.code))
            .collect();
        self.codes
            .lock()
            .retain(|digest, _| needed.contains(digest));
    }

    /// Removes the items that `is_meant`; how many of them had not expired at `now`.
    fn remove_items(
        &self,
        now: Timestamp,
        is_meant: impl Fn(&Namespace, Shelf, &Item) -> bool,
    ) -> usize {
        let mut visible = 0;
        self.items.lock().retain(|(namespace, shelf, item, _)| {
            let goes = is_meant(namespace, *shelf, item);
            visible += usize::from(goes && is_visible(item, now));
            !goes
        });
        self.collect_code();
        visible
    }

    fn position(entities: &[(Document, Revision)], key: &EntityKey) -> Option<usize> {
        entities
            .iter()
            .position(|(document, _)| document.key == *key)
    }
}

#[async_trait]
impl Entities for Fake {
    async fn get(&self, key: &EntityKey) -> Result<Option<(Document, Revision)>> {
        self.check()?;
        let entities = self.entities.lock();
        Ok(Self::position(&entities, key).map(|at| entities[at].clone()))
    }

    async fn put(
        &self,
        document: Document,
        code: Option<Arc<str>>,
        expect: Expect,
    ) -> Result<Revision> {
        self.check()?;
        let mut entities = self.entities.lock();
        let found = Self::position(&entities, &document.key);
        match (expect, found) {
            (Expect::Absent, None) => {}
            (Expect::Revision(seen), Some(at)) if entities[at].1 == seen => {
                entities.remove(at);
            }
            _ => return Err(Error::Conflict),
        }
        if let (Some(digest), Some(code)) = (document.code, code) {
            self.codes.lock().insert(digest, code);
        }
        let revision = self.next_revision();
        entities.push((document, revision));
        drop(entities);
        self.collect_code();
        Ok(revision)
    }

    async fn delete(&self, key: &EntityKey, expect: Revision) -> Result<()> {
        self.check()?;
        let mut entities = self.entities.lock();
        match Self::position(&entities, key) {
            Some(at) if entities[at].1 == expect => {
                entities.remove(at);
                drop(entities);
                self.collect_code();
                Ok(())
            }
            _ => Err(Error::Conflict),
        }
    }

    async fn reseal(&self, key: &EntityKey, expect: Revision, body: Arc<str>) -> Result<bool> {
        let mut entities = self.entities.lock();
        let at = Self::position(&entities, key).filter(|at| entities[*at].1 == expect);
        Ok(at.map(|at| entities[at].0.body = body).is_some())
    }

    async fn write(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>> {
        self.check()?;
        let mut entities = self.entities.lock();
        for change in &changes {
            let found = Self::position(&entities, change.key()).map(|at| entities[at].1);
            let is_expected = match change {
                Change::Put(_, Expect::Absent) => found.is_none(),
                Change::Put(_, Expect::Revision(seen))
                | Change::Delete(_, seen)
                | Change::Keep(_, seen) => found == Some(*seen),
            };
            if !is_expected {
                return Err(Error::Conflict);
            }
        }
        let make = |change| match change {
            Change::Keep(..) => None,
            Change::Delete(key, _) => {
                entities.retain(|(document, _)| document.key != key);
                None
            }
            Change::Put(document, _) => {
                let revision = self.next_revision();
                entities.retain(|(one, _)| one.key != document.key);
                entities.push((document, revision));
                Some(revision)
            }
        };
        Ok(changes.into_iter().map(make).collect())
    }

    async fn list(
        &self,
        namespace: &Namespace,
        filter: &EntityFilter,
        page: Page,
    ) -> Result<Vec<Document>> {
        self.check()?;
        let entities = self.entities.lock();
        let all = entities.iter().map(|(document, _)| document);
        let mut found: Vec<&Document> = all.filter(|d| matches(d, namespace, filter)).collect();
        found.sort_by(|a, b| b.updated.cmp(&a.updated).then(a.key.name.cmp(&b.key.name)));
        Ok(found
            .into_iter()
            .skip(page.skip)
            .take(page.limit)
            .cloned()
            .collect())
    }

    async fn count(&self, namespace: &Namespace, filter: &EntityFilter) -> Result<usize> {
        self.check()?;
        let entities = self.entities.lock();
        let all = entities.iter().map(|(document, _)| document);
        Ok(all.filter(|d| matches(d, namespace, filter)).count())
    }

    async fn code(&self, digest: &Digest) -> Result<Option<Arc<str>>> {
        self.check()?;
        Ok(self.codes.lock().get(digest).cloned())
    }
}

fn is_visible(item: &Item, now: Timestamp) -> bool {
    item.expires.is_none_or(|expires| expires > now)
}

#[async_trait]
impl Items for Fake {
    async fn get(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        name: &str,
    ) -> Result<Option<(Item, Revision)>> {
        self.check()?;
        let (items, now) = (self.items.lock(), Timestamp::now());
        let found = items
            .iter()
            .find(|(n, s, item, _)| n == namespace && *s == shelf && item.name == name)
            .filter(|(_, _, item, _)| is_visible(item, now));
        Ok(found.map(|(_, _, item, revision)| (item.clone(), *revision)))
    }

    async fn put(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        item: Item,
        expect: Option<Expect>,
    ) -> Result<Revision> {
        self.check()?;
        let (mut items, now) = (self.items.lock(), Timestamp::now());
        let place = items.iter().position(|(n, s, stored, _)| {
            n == namespace && *s == shelf && stored.name == item.name
        });
        let visible = place.filter(|at| is_visible(&items[*at].2, now));
        let is_expected = match expect {
            None => true,
            Some(Expect::Absent) => visible.is_none(),
            Some(Expect::Revision(seen)) => visible.is_some_and(|at| items[at].3 == seen),
        };
        let has_code = item
            .code
            .is_none_or(|digest| self.codes.lock().contains_key(&digest));
        if !is_expected || !has_code || self.buried.lock().contains(namespace) {
            return Err(Error::Conflict);
        }
        let revision = self.next_revision();
        if let Some(at) = place {
            items.remove(at);
        }
        items.push((namespace.clone(), shelf, item, revision));
        drop(items);
        self.collect_code();
        Ok(revision)
    }

    async fn reseal(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        item: Item,
        expect: Revision,
    ) -> Result<bool> {
        let mut items = self.items.lock();
        let mut found = items.iter_mut().filter(|(of, on, one, revision)| {
            of == namespace && *on == shelf && one.name == item.name && *revision == expect
        });
        Ok(found.next().map(|found| found.2.body = item.body).is_some())
    }

    async fn delete(&self, namespace: &Namespace, shelf: Shelf, name: &str) -> Result<bool> {
        self.check()?;
        let removed = self.remove_items(Timestamp::now(), |n, s, item| {
            n == namespace && s == shelf && item.name == name
        });
        Ok(removed > 0)
    }

    async fn list(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        prefix: &str,
        page: Page,
    ) -> Result<Vec<Item>> {
        self.check()?;
        let all = Items::everywhere(self, shelf).await?.into_iter();
        let mut found: Vec<Item> = all
            .filter(|(n, item)| n == namespace && item.name.starts_with(prefix))
            .map(|(_, item)| item)
            .collect();
        found.sort_by(|a, b| b.name.cmp(&a.name));
        Ok(found.into_iter().skip(page.skip).take(page.limit).collect())
    }

    async fn count(&self, namespace: &Namespace, shelf: Shelf, prefix: &str) -> Result<usize> {
        let all = Page {
            skip: 0,
            limit: usize::MAX,
        };
        Ok(Items::list(self, namespace, shelf, prefix, all)
            .await?
            .len())
    }

    async fn purge(&self, namespace: &Namespace, shelf: Shelf, prefix: &str) -> Result<usize> {
        self.check()?;
        Ok(self.remove_items(Timestamp::now(), |n, s, item| {
            n == namespace && s == shelf && item.name.starts_with(prefix)
        }))
    }

    async fn everywhere(&self, shelf: Shelf) -> Result<Vec<(Namespace, Item)>> {
        self.check()?;
        let (items, now) = (self.items.lock(), Timestamp::now());
        Ok(items
            .iter()
            .filter(|(_, s, item, _)| *s == shelf && is_visible(item, now))
            .map(|(namespace, _, item, _)| (namespace.clone(), item.clone()))
            .collect())
    }

    async fn expire_items(&self, now: Timestamp) -> Result<usize> {
        self.check()?;
        // What is removed had expired at `now`; as of the beginning of time, all of it is counted.
        Ok(self.remove_items(Timestamp(0), |_, _, item| !is_visible(item, now)))
    }
}

fn matches(document: &Document, namespace: &Namespace, filter: &EntityFilter) -> bool {
    document.key.namespace == *namespace
        && document.collection == filter.collection
        && (filter.package.is_none() || document.key.package == filter.package)
}

#[async_trait]
impl Tenants for Fake {
    async fn get(&self, namespace: &Namespace) -> Result<Option<Tenant>> {
        self.check()?;
        Ok(self.tenants.lock().get(namespace).cloned())
    }

    async fn by_uuid(&self, uuid: uuid::Uuid) -> Result<Option<Tenant>> {
        self.key_reads.fetch_add(1, Ordering::SeqCst);
        self.check()?;
        let tenants = self.tenants.lock();
        Ok(tenants.values().find(|tenant| tenant.uuid == uuid).cloned())
    }

    async fn list(&self) -> Result<Vec<Tenant>> {
        self.check()?;
        Ok(self.tenants.lock().values().cloned().collect())
    }

    async fn put(&self, tenant: Tenant, must_be_new: bool) -> Result<()> {
        self.check()?;
        let mut tenants = self.tenants.lock();
        if must_be_new && tenants.contains_key(&tenant.namespace) {
            return Err(Error::Conflict);
        }
        self.buried.lock().remove(&tenant.namespace);
        tenants.insert(tenant.namespace.clone(), tenant);
        Ok(())
    }

    async fn put_limits(&self, namespace: &Namespace, limits: NamespaceLimits) -> Result<()> {
        self.check()?;
        if let Some(tenant) = self.tenants.lock().get_mut(namespace) {
            tenant.limits = limits;
        }
        Ok(())
    }

    async fn delete(&self, namespace: &Namespace) -> Result<bool> {
        self.check()?;
        self.buried.lock().insert(namespace.clone());
        self.entities
            .lock()
            .retain(|(document, _)| document.key.namespace != *namespace);
        self.remove_items(Timestamp(0), |n, _, _| n == namespace);
        self.records
            .lock()
            .retain(|_, record| record.namespace != *namespace);
        Ok(self.tenants.lock().remove(namespace).is_some())
    }
}

#[async_trait]
impl Activations for Fake {
    fn put(&self, record: Arc<Activation>) -> Result<()> {
        self.check()?;
        self.records.lock().entry(record.id).or_insert(record);
        Ok(())
    }

    fn has_room(&self) -> bool {
        !self.no_room.load(Ordering::SeqCst)
    }

    async fn get(
        &self,
        namespace: &Namespace,
        id: ActivationId,
    ) -> Result<Option<Arc<Activation>>> {
        self.check()?;
        let records = self.records.lock();
        Ok(records
            .get(&id)
            .filter(|record| record.namespace == *namespace)
            .cloned())
    }

    async fn list(
        &self,
        namespace: &Namespace,
        filter: &ActivationFilter,
        page: Page,
    ) -> Result<Vec<Arc<Activation>>> {
        self.check()?;
        let records = self.records.lock();
        let mut found: Vec<&Arc<Activation>> = records
            .values()
            .filter(|record| is_asked_for(record, namespace, filter))
            .collect();
        found.sort_by_key(|record| std::cmp::Reverse(record.start));
        Ok(found
            .into_iter()
            .skip(page.skip)
            .take(page.limit)
            .cloned()
            .collect())
    }

    async fn count(&self, namespace: &Namespace, filter: &ActivationFilter) -> Result<usize> {
        self.check()?;
        let records = self.records.lock();
        Ok(records
            .values()
            .filter(|record| is_asked_for(record, namespace, filter))
            .count())
    }

    async fn flush(&self) -> Result<()> {
        self.check()
    }

    async fn expire(&self, _now: Timestamp) -> Result<usize> {
        self.check().map(|()| 0)
    }
}

fn is_asked_for(record: &Activation, namespace: &Namespace, filter: &ActivationFilter) -> bool {
    let path = record.annotations.get("path").map(|path| path.to_value());
    let package = path
        .as_ref()
        .and_then(|path| path.as_str()?.split('/').nth_back(1))
        .and_then(|package| EntityName::parse(package).ok());
    record.namespace == *namespace
        && filter.since.is_none_or(|since| record.start >= since)
        && filter.upto.is_none_or(|upto| record.start <= upto)
        && filter.name.as_ref().is_none_or(|name| record.name == *name)
        && (filter.package.is_none() || filter.package == package)
}

#[async_trait]
impl Accepted for Fake {
    async fn accept(&self, _: &Namespace, _: ActivationId, _: Bytes) -> Result<()> {
        self.check()
    }

    fn begin(&self, _: ActivationId) {}

    async fn begin_durably(&self, _: ActivationId) -> Result<()> {
        self.check()
    }

    fn settle(&self, _: ActivationId) {}

    async fn pending(&self) -> Result<Vec<Pending>> {
        self.check().map(|()| Vec::new())
    }
}

#[tokio::test]
async fn the_fake_keeps_items_as_every_backend_does() {
    super::items_suite::all(async || Fake::store().0).await;
}
