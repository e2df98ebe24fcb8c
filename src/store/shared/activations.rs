//! Activation records: put, found by id, listed and counted.
//!
//! A record is found on its node from the moment it was put, and on others once it is in Redis, some milliseconds later.
//! Whoever reads on its node waits until it is there, which is at most one round trip more: so the same record is seen
//! everywhere, although two nodes may have put one under its id. While Redis does not take records, one that waits is read
//! as it is, and lists tell of what Redis has.

use std::sync::Arc;

use async_trait::async_trait;

use crate::link::{Script, cmd};
use crate::model::{Activation, ActivationId, Namespace, Timestamp};
use crate::store::{ActivationFilter, Activations, Page, Result};

use super::Redis;
use super::answer::Parts;
use super::record;

/// Records read by one script.
const LIST_COUNT: usize = 200;

/// KEYS a set of ids by start, records; ARGV since, upto, behind which to go on, how many to skip, how many to read. Where to
/// go on, or nothing at the end; and records, as id and value.
static LIST: Script = Script::new(
    "local since, limit, first = tonumber(ARGV[1]), tonumber(ARGV[5]), 0 \
     if ARGV[3] ~= '' then \
       local rank = redis.call('ZREVRANK', KEYS[1], ARGV[3]) \
       if not rank then return {''} end \
       first = rank + 1 \
     else \
       first = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[2], '+inf') + ARGV[4] \
     end \
     local some = redis.call('ZRANGE', KEYS[1], first, first + limit - 1, 'REV', 'WITHSCORES') \
     local found, last = {''}, '' \
     for i = 1, #some, 2 do \
       if tonumber(some[i + 1]) < since then return found end \
       last = some[i] \
       local id = string.sub(last, 1, 16) \
       found[#found + 1] = id \
       found[#found + 1] = redis.call('HGET', KEYS[2], id) \
     end \
     if #some == 2 * limit then found[1] = last end \
     return found",
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
        let mut get = cmd("HGET");
        get.arg(&key).arg(&id.0.to_be_bytes());
        let value: Option<Vec<u8>> = self.query(&get, &key).await?;
        let record = value.map(|value| record::unpacked(&value, &key));
        Ok(record.transpose()?.map(Arc::new))
    }

    async fn list(
        &self,
        namespace: &Namespace,
        filter: &ActivationFilter,
        page: Page,
    ) -> Result<Vec<Arc<Activation>>> {
        self.settle_down().await;
        let (set, key) = (self.set(namespace, filter), self.keys.records(namespace));
        let (since, upto) = ends(filter);
        let (mut found, mut behind) = (Vec::new(), Vec::new());
        while found.len() < page.limit {
            let mut list = LIST.call(&[&set, &key]);
            list.arg(since)
                .arg(upto)
                .arg(&behind)
                .arg(page.skip)
                .arg(LIST_COUNT.min(page.limit - found.len()));
            let mut parts = Parts::of(self.call(&LIST, &list, &set).await?, &set)?;
            behind = parts.bytes()?;
            while !parts.is_empty() {
                let (id, value) = (parts.bytes()?, parts.maybe());
                let record = value.map(|value| record::unpacked(&value, &key));
                match record {
                    Some(Ok(record)) => found.push(Arc::new(record)),
                    Some(Err(error)) => {
                        tracing::error!(%namespace, id = ?record::id_of(&id), %error, "a record is left out of a list");
                    }
                    // Deleted by hand.
                    None => {}
                }
            }
            if behind.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    async fn count(&self, namespace: &Namespace, filter: &ActivationFilter) -> Result<usize> {
        self.settle_down().await;
        let set = self.set(namespace, filter);
        let (since, upto) = ends(filter);
        let mut count = cmd("ZCOUNT");
        count.arg(&set).arg(since).arg(upto);
        self.query(&count, &set).await
    }

    async fn flush(&self) -> Result<()> {
        self.writer.flush().await
    }

    async fn expire(&self, now: Timestamp) -> Result<usize> {
        self.expire_records(now).await
    }
}

impl Redis {
    /// Ids of the records that are asked for, by start.
    fn set(&self, namespace: &Namespace, filter: &ActivationFilter) -> String {
        match record::set_of(filter) {
            Some(hash) => format!("{}{hash}", self.keys.sets(namespace)),
            None => self.keys.starts(namespace),
        }
    }

    /// Waits until this node's records are in Redis, if it takes them.
    async fn settle_down(&self) {
        drop(self.writer.flush().await);
    }
}

fn ends(filter: &ActivationFilter) -> (u64, u64) {
    let since = filter.since.map_or(0, |since| since.0);
    (since, filter.upto.map_or(u64::MAX, |upto| upto.0))
}
