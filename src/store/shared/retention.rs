//! What is let go: records past their age or their namespace's share, items that have expired, and what crashes left.
//!
//! Records go by whole chunks: one may outlive its age by as much as its chunk spans, which is a minute at most. Bytes are
//! seen to where records are put, a few of the oldest chunks for each that comes, so a namespace is never far above its share. Age is seen to by the sweep, as are bytes after the share was made smaller. One node of the cluster sweeps: the
//! one that did so last, as long as it comes back in time. It works in small scripts, one after the other, each on one
//! namespace; nothing is scanned but the lists of namespaces.

use std::time::Duration;

use crate::link::Script;
use crate::model::{Namespace, Timestamp};
use crate::store::Result;

use super::Redis;
use super::chunks;
use super::keys::{All, SHELVES};
use super::pipeline::forget;

/// Chunks and records removed by one script, about.
const STEP_COUNT: usize = 250;
/// How long a node that swept is waited for.
const SWEEPER_MAX: Duration = Duration::from_secs(150);

/// KEYS sweeper; ARGV node, how long. Whether the node is to sweep.
static SWEEP: Script = Script::new(
    "local has = redis.call('GET', KEYS[1]) \
     if has and has ~= ARGV[1] then return 0 end \
     redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1",
);

/// KEYS records, chunks, bytes, namespace, entries, bodies; ARGV oldest, most bytes, what a chunk and a record count beside
/// its values, how many chunks. How many chunks went, and records.
static EXPIRE: Script = Script::new(concat!(
    "#!lua flags=allow-oom\n",
    forget!(),
    "local sum = tonumber(redis.call('GET', KEYS[3]) or 0) \
     local over, gone, chunks, records = sum - tonumber(ARGV[2]), 0, 0, 0 \
     local some = redis.call('ZRANGE', KEYS[2], 0, ARGV[5] - 1, 'WITHSCORES') \
     for i = 1, #some, 2 do \
       if records >= tonumber(ARGV[5]) or tonumber(some[i + 1]) >= tonumber(ARGV[1]) and gone >= over then break end \
       local bytes, count = forget(some[i]) \
       gone = gone + bytes + tonumber(ARGV[3]) + count * tonumber(ARGV[4]) \
       chunks = chunks + 1 \
       records = records + count \
     end \
     if chunks > 0 then redis.call('SET', KEYS[3], string.format('%.0f', math.max(sum - gone, 0))) end \
     return {chunks, records}",
));

impl Redis {
    /// Whether this is the node that tidies up.
    async fn is_sweeper(&self) -> Result<bool> {
        let key = self.keys.sweeper();
        let mut sweep = SWEEP.call(&[&key]);
        sweep
            .arg(&self.node)
            .arg(u64::try_from(SWEEPER_MAX.as_millis()).unwrap_or(u64::MAX));
        self.call(&SWEEP, &sweep, &key).await
    }

    /// Deletes records past their retention; how many went.
    pub(super) async fn expire_records(&self, now: Timestamp) -> Result<usize> {
        self.writer.flush().await?;
        if !self.is_sweeper().await? {
            return Ok(0);
        }
        let age_ms = self.config.retention_age_s.saturating_mul(1000);
        let oldest = now.0.saturating_sub(age_ms);
        let mut sum = 0;
        for namespace in self.all(All::Records).await? {
            sum += self.expire_records_of(&namespace, oldest).await?;
        }
        Ok(sum)
    }

    async fn expire_records_of(&self, namespace: &Namespace, oldest: u64) -> Result<usize> {
        let key = self.keys.records(namespace);
        let mut sum = 0;
        loop {
            let mut expire = EXPIRE.call(&self.keys.places(namespace));
            expire
                .arg(oldest)
                .arg(self.config.retention_bytes_max)
                .arg(chunks::CHUNK_BYTES)
                .arg(chunks::RECORD_BYTES)
                .arg(STEP_COUNT);
            let (chunks, records): (usize, usize) = self.call(&EXPIRE, &expire, &key).await?;
            sum += records;
            if chunks == 0 {
                return Ok(sum);
            }
        }
    }

    /// Removes items that have expired, code that nobody refers to, and what is left of deleted namespaces.
    pub(super) async fn expire_shelves(&self, now: Timestamp) -> Result<usize> {
        if !self.is_sweeper().await? {
            return Ok(0);
        }
        let mut sum = 0;
        for shelf in SHELVES {
            for namespace in self.all(All::Shelf(shelf)).await? {
                sum += self.expire_shelf(&namespace, shelf, now).await?;
            }
        }
        for namespace in self.all(All::Gone).await? {
            self.empty(&namespace).await?;
        }
        for namespace in self.all(All::Holds).await? {
            self.sweep_holds(&namespace).await?;
        }
        Ok(sum)
    }
}
