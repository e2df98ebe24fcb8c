//! Records under the key in use, in the place of those that are under another or none.
//!
//! Chunks are walked from the oldest on. One that was deleted since it was read is left alone; new ones are under the key in
//! use. What is passed over because older chunks went meanwhile is found by the next step, which begins anew.

use super::Redis;
use super::answer::Parts;
use crate::link::Script;
use crate::model::Namespace;
use crate::store::chunk;
use crate::store::reseal::Records;
use crate::store::{Error, Result};

/// Chunks that one script looks at.
const LOOK_COUNT: usize = 64;
/// Chunks encrypted anew in one step: some megabytes.
const STEP_COUNT: usize = 64;

/// KEYS chunks, entries, bodies; ARGV how many to pass over, how many to look at, what is under the key in use begins with. How
/// many there were; and name, entries and body of those that are not.
static STALE: Script = Script::new(
    "local some = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1) \
     local found = {#some} \
     for _, member in ipairs(some) do \
       local name = string.sub(member, 1, 16) \
       local body = redis.call('HGET', KEYS[3], name) \
       if body and string.sub(body, 1, #ARGV[3]) ~= ARGV[3] then \
         found[#found + 1] = name \
         found[#found + 1] = redis.call('HGET', KEYS[2], name) or '' \
         found[#found + 1] = body \
       end \
     end \
     return found",
);

/// KEYS bodies, bytes; ARGV name, what is there, what is to be there. Whether it was.
static REPLACE: Script = Script::new(
    "if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end \
     redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) \
     redis.call('INCRBY', KEYS[2], #ARGV[3] - #ARGV[2]) \
     return 1",
);

impl Redis {
    /// Encrypts some chunks anew.
    pub(super) async fn reseal_records(&self, namespace: &Namespace) -> Result<Records> {
        let mut records = Records::default();
        let Some(mark) = self.seal.mark() else {
            return Ok(records);
        };
        self.writer.flush().await?;
        let [_, chunks, _, _, entries, bodies] = self.keys.places(namespace);
        let (mut first, mut steps) = (0, 0);
        while steps < STEP_COUNT {
            let mut stale = STALE.call(&[&chunks, &entries, &bodies]);
            stale.arg(first).arg(LOOK_COUNT).arg(&mark);
            let mut parts = Parts::of(self.call(&STALE, &stale, &chunks).await?, &chunks)?;
            if parts.number()? == 0 {
                return Ok(records);
            }
            first += LOOK_COUNT;
            while !parts.is_empty() {
                let (name, entries, body) = (parts.bytes()?, parts.bytes()?, parts.bytes()?);
                let is_done = self.reseal_chunk(namespace, (&name, &entries, body), &mut records);
                steps += usize::from(is_done.await?);
            }
        }
        records.left = true;
        Ok(records)
    }

    /// Whether it could be encrypted anew.
    async fn reseal_chunk(
        &self,
        namespace: &Namespace,
        (name, entries, before): (&[u8], &[u8], Vec<u8>),
        records: &mut Records,
    ) -> Result<bool> {
        let place = chunk::place(namespace, entries);
        let plain = self.seal.open_bytes(place, before.clone());
        let body = match plain.and_then(|plain| self.seal.close_bytes(place, plain)) {
            Err(Error::Corrupt(why)) => {
                tracing::warn!(why, "what no key opens is left as it is");
                records.unreadable += 1;
                return Ok(false);
            }
            body => body?,
        };
        let [_, _, bytes, _, _, bodies] = self.keys.places(namespace);
        let mut replace = REPLACE.call(&[&bodies, &bytes]);
        replace.arg(name).arg(before).arg(body);
        if self.call(&REPLACE, &replace, &bodies).await? {
            records.count += chunk::entries_of(entries).count();
        }
        Ok(true)
    }
}
