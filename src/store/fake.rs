//! A store in memory, for tests of what stands before it. Fails on demand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    Accepted, ActivationFilter, Activations, Document, Entities, EntityFilter, EntityKey, Error,
    Expect, Page, Pending, Result, Revision, Store, Tenants,
};
use crate::model::{
    Activation, ActivationId, Digest, EntityName, Namespace, NamespaceLimits, Tenant, Timestamp,
};

/// All four seams at once.
#[derive(Default)]
pub(crate) struct Fake {
    entities: Mutex<Vec<(Document, Revision)>>,
    codes: Mutex<BTreeMap<Digest, Arc<str>>>,
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
            tenants: Arc::clone(&fake) as Arc<dyn Tenants>,
            activations: Arc::clone(&fake) as Arc<dyn Activations>,
            accepted: Arc::clone(&fake) as Arc<dyn Accepted>,
        };
        (store, fake)
    }

    fn check(&self) -> Result<()> {
        self.failure.lock().clone().map_or(Ok(()), Err)
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
        let revision = Revision(self.revision.fetch_add(1, Ordering::SeqCst) + 1);
        entities.push((document, revision));
        Ok(revision)
    }

    async fn delete(&self, key: &EntityKey, expect: Revision) -> Result<()> {
        self.check()?;
        let mut entities = self.entities.lock();
        match Self::position(&entities, key) {
            Some(at) if entities[at].1 == expect => {
                entities.remove(at);
                Ok(())
            }
            _ => Err(Error::Conflict),
        }
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
        self.entities
            .lock()
            .retain(|(document, _)| document.key.namespace != *namespace);
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
