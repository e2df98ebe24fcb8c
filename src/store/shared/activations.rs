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

/// Records read by one script, and members of the index it looks at.
const LIST_COUNT: usize = 200;
const LOOK_COUNT: usize = 2000;
/// Members of the index that one script counts.
const COUNT_COUNT: usize = 10_000;

/// Goes through the index, newest first, from behind a member or from the newest that is asked for: `each(member)` for
/// those with the hashes that are wanted, until it returns true. ARGV since, upto, wanted, behind, how many to look at.
/// The last member looked at, or nothing at the end.
macro_rules! walk {
    () => {
        "local function walk(starts, each) \
           local wanted, length, first = ARGV[3], #ARGV[3], nil \
           if ARGV[4] ~= '' then \
             local rank = redis.call('ZREVRANK', starts, ARGV[4]) \
             if not rank then return '' end \
             first = rank + 1 \
           else first = redis.call('ZCOUNT', starts, '(' .. ARGV[2], '+inf') end \
           local since, last = tonumber(ARGV[1]), '' \
           local some = redis.call('ZRANGE', starts, first, first + ARGV[5] - 1, 'REV', 'WITHSCORES') \
           for i = 1, #some, 2 do \
             if tonumber(some[i + 1]) < since then return '' end \
             last = some[i] \
             if length == 0 or string.sub(last, 17, 16 + length) == wanted then \
               if each(last) then return last end \
             end \
           end \
           if #some < 2 * ARGV[5] then return '' end \
           return last \
         end "
    };
}

/// KEYS starts, records; ARGV as above, then how many to skip and to read. Where to go on, how many more to skip, and
/// records, as id and value.
static LIST: Script = Script::new(concat!(
    walk!(),
    "local skip, limit, found = tonumber(ARGV[6]), tonumber(ARGV[7]), {} \
     if skip > 0 and ARGV[3] == '' and ARGV[4] == '' then \
       local newer = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[2], '+inf') \
       local last = redis.call('ZRANGE', KEYS[1], newer + skip - 1, newer + skip - 1, 'REV')[1] \
       if not last then return {'', 0} end \
       ARGV[4] = last skip = 0 \
     end \
     local last = walk(KEYS[1], function(member) \
       if skip > 0 then skip = skip - 1 return false end \
       local id = string.sub(member, 1, 16) \
       found[#found + 1] = id \
       found[#found + 1] = redis.call('HGET', KEYS[2], id) \
       return #found >= 2 * limit \
     end) \
     return {last, skip, unpack(found)}",
));

/// KEYS starts; ARGV as above. Where to go on, and how many there were.
static COUNT: Script = Script::new(concat!(
    walk!(),
    "local count = 0 \
     local last = walk(KEYS[1], function() count = count + 1 return false end) \
     return {last, count}",
));

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
        let (starts, key) = (self.keys.starts(namespace), self.keys.records(namespace));
        let (mut found, mut behind, mut skip) = (Vec::new(), Vec::new(), page.skip);
        while found.len() < page.limit {
            let mut list = LIST.call(&[&starts, &key]);
            range(&mut list, filter, &behind, LOOK_COUNT);
            list.arg(skip).arg(LIST_COUNT.min(page.limit - found.len()));
            let mut parts = Parts::of(self.call(&LIST, &list, &starts).await?, &starts)?;
            behind = parts.bytes()?;
            skip = usize::try_from(parts.number()?).unwrap_or(usize::MAX);
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
        let starts = self.keys.starts(namespace);
        if filter.name.is_none() {
            let mut count = cmd("ZCOUNT");
            let (since, upto) = ends(filter);
            count.arg(&starts).arg(since).arg(upto);
            return self.query(&count, &starts).await;
        }
        let (mut sum, mut behind) = (0, Vec::new());
        loop {
            let mut count = COUNT.call(&[&starts]);
            range(&mut count, filter, &behind, COUNT_COUNT);
            let mut parts = Parts::of(self.call(&COUNT, &count, &starts).await?, &starts)?;
            behind = parts.bytes()?;
            sum += usize::try_from(parts.number()?).unwrap_or_default();
            if behind.is_empty() {
                return Ok(sum);
            }
        }
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

fn ends(filter: &ActivationFilter) -> (u64, u64) {
    let since = filter.since.map_or(0, |since| since.0);
    (since, filter.upto.map_or(u64::MAX, |upto| upto.0))
}

fn range(command: &mut crate::link::Cmd, filter: &ActivationFilter, behind: &[u8], count: usize) {
    let (since, upto) = ends(filter);
    command
        .arg(since)
        .arg(upto)
        .arg(record::wanted(filter))
        .arg(behind)
        .arg(count);
}
