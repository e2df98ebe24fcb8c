//! Activation records: put, found by id, listed and counted.
//!
//! A record is found on its node from the moment it was put, and on others once it is in Redis, some milliseconds later.
//! Whoever reads on its node waits until it is there, which is at most one round trip more: so the same record is seen
//! everywhere, although two nodes may have put one under its id. While Redis does not take records, one that waits is read
//! as it is, and lists tell of what Redis has.

use std::sync::Arc;

use async_trait::async_trait;

use crate::link::Script;
use crate::model::{Activation, ActivationId, Namespace, Timestamp};
use crate::store::reseal::Records;
use crate::store::{ActivationFilter, Activations, Page, Result};

use super::Redis;
use super::answer::{Parts, corrupt};
use super::chunks;

/// KEYS records, entries, bodies; ARGV id. The entries and the body of the chunk that has it.
static GET: Script = Script::new(
    "local name = redis.call('HGET', KEYS[1], ARGV[1]) \
     if not name then return {} end \
     return {redis.call('HGET', KEYS[2], name), redis.call('HGET', KEYS[3], name)}",
);

#[async_trait]
impl Activations for Redis {
    fn put(&self, record: Arc<Activation>) -> Result<()> {
        self.writer.put(record)
    }

    fn has_room(&self) -> bool {
        self.writer.has_room()
    }

    async fn get(
        &self,
        namespace: &Namespace,
        id: ActivationId,
    ) -> Result<Option<Arc<Activation>>> {
        if let Some(record) = self.writer.find(id) {
            // Another node's record of it may have been the first: Redis knows, when it takes this one.
            if self.writer.flush().await.is_err() {
                return Ok(Some(record).filter(|record| record.namespace == *namespace));
            }
        }
        let key = self.keys.records(namespace);
        let (entries, bodies) = (self.keys.entries(namespace), self.keys.bodies(namespace));
        let mut get = GET.call(&[&key, &entries, &bodies]);
        get.arg(&id.0.to_be_bytes());
        let mut parts = Parts::of(self.call(&GET, &get, &key).await?, &key)?;
        let (Some(entries), Some(body)) = (parts.maybe(), parts.maybe()) else {
            return Ok(None);
        };
        let record = chunks::find((&self.seal, namespace), &entries, body, id);
        let record = record.map_err(|error| corrupt(&bodies, &error.to_string()))?;
        Ok(record.map(Arc::new))
    }

    async fn list(
        &self,
        namespace: &Namespace,
        filter: &ActivationFilter,
        page: Page,
    ) -> Result<Vec<Arc<Activation>>> {
        self.settle_down().await;
        self.listed(namespace, filter, page).await
    }

    async fn count(&self, namespace: &Namespace, filter: &ActivationFilter) -> Result<usize> {
        self.settle_down().await;
        self.counted(namespace, filter).await
    }

    async fn reseal(&self, namespace: &Namespace) -> Result<Records> {
        self.reseal_records(namespace).await
    }

    async fn flush(&self) -> Result<()> {
        self.writer.flush().await
    }

    async fn expire(&self, now: Timestamp) -> Result<usize> {
        self.expire_records(now).await
    }
}

impl Redis {
    /// Waits until this node's records are in Redis, if it takes them.
    async fn settle_down(&self) {
        drop(self.writer.flush().await);
    }
}
