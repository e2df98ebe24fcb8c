//! Lists and counts of activation records.
//!
//! Chunks are walked from the newest on, some at a time, and merged: a record is on the list once no chunk to come can have
//! a newer one. What is read of a chunk is its member; its entries when the member does not say enough; its body when a
//! record of it is wanted.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use super::Redis;
use super::answer::Parts;
use super::chunks::{self, SPAN};
use crate::link::{Script, cmd};
use crate::model::{Activation, ActivationId, Namespace, Timestamp};
use crate::store::chunk::{self, Entry};
use crate::store::{ActivationFilter, Page, Result};

/// Chunks that one script looks at: few first, since most lists are short.
const STEP_MIN: usize = 8;
const STEP_MAX: usize = 128;
/// Bodies asked for at once.
const BODY_COUNT: usize = 16;
/// Records of a list that are made at once.
const BATCH_COUNT: usize = 256;

/// KEYS chunks, entries; ARGV since, upto, upto and a span, start and member behind which to go on (or nothing), hash of the name
/// (or nothing), 1 to leave out the entries of chunks that lie between since and upto, how many. Whether there may be more, start
/// and member of the last that was looked at, then member and entries of each that may have what is asked for.
///
/// Where the last one has gone meanwhile, it goes on with all that are as new: the caller knows which it has had.
static STEP: Script = Script::new(
    "local since, upto, count, first = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[8]) \
     if ARGV[5] ~= '' then \
       first = redis.call('ZREVRANK', KEYS[1], ARGV[5]) \
       first = first and first + 1 or redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[4], '+inf') \
     else \
       first = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[3], '+inf') \
     end \
     local some = redis.call('ZRANGE', KEYS[1], first, first + count - 1, 'REV', 'WITHSCORES') \
     local found = {#some == 2 * count and 1 or 0, some[#some] or 0, some[#some - 1] or ''} \
     for i = 1, #some, 2 do \
       local member, newest = some[i], tonumber(some[i + 1]) \
       if newest < since then found[1] = 0 break end \
       local oldest = #member >= 28 and struct.unpack('>I8', member, 17) or 0 \
       local has = oldest <= upto \
       if has and ARGV[6] ~= '' and #member > 28 then \
         has = false \
         for at = 29, #member, 4 do has = has or string.sub(member, at, at + 3) == ARGV[6] end \
       end \
       if has then \
         local is_within = ARGV[7] == '1' and since <= oldest and newest <= upto \
         found[#found + 1] = member \
         found[#found + 1] = is_within and '' or redis.call('HGET', KEYS[2], string.sub(member, 1, 16)) or '' \
       end \
     end \
     return found",
);

/// A chunk on the way; without entries when the member says enough.
struct Found {
    member: Vec<u8>,
    entries: Vec<u8>,
}

/// Walks the chunks that may have what a filter asks for.
struct Walk<'a> {
    store: &'a Redis,
    filter: &'a ActivationFilter,
    keys: [String; 2],
    /// Where to go on.
    behind: Option<(u64, Vec<u8>)>,
    seen: HashSet<Vec<u8>>,
    is_over: bool,
    wants_entries: bool,
    /// Chunks of the next step.
    count: usize,
}

impl<'a> Walk<'a> {
    fn new(store: &'a Redis, namespace: &Namespace, filter: &'a ActivationFilter) -> Self {
        let keys = &store.keys;
        Self {
            store,
            filter,
            keys: [keys.chunks(namespace), keys.entries(namespace)],
            behind: None,
            seen: HashSet::new(),
            is_over: false,
            wants_entries: true,
            count: STEP_MIN,
        }
    }

    /// No chunk to come has a newer record than this; nothing when none is to come, or the first.
    fn newest(&self) -> Option<Timestamp> {
        match &self.behind {
            _ if self.is_over => None,
            Some((start, _)) => Some(Timestamp(*start)),
            None => Some(Timestamp(u64::MAX)),
        }
    }

    /// The next chunks, newest first.
    async fn step(&mut self) -> Result<Vec<Found>> {
        let (since, upto) = ends(self.filter);
        let span = u64::try_from(SPAN.as_millis()).unwrap_or(u64::MAX);
        let (start, member) = self.behind.clone().unwrap_or_default();
        let name = self.filter.name.as_ref();
        let hash = name.map(|name| chunk::name_hash(name.as_str()).to_be_bytes());
        let mut step = STEP.call(&self.keys);
        step.arg(since)
            .arg(upto)
            .arg(upto.saturating_add(span))
            .arg(start)
            .arg(member)
            .arg(hash.as_ref().map_or(&b""[..], |hash| hash))
            .arg(u8::from(!self.wants_entries && hash.is_none()))
            .arg(self.count);
        self.count = STEP_MAX.min(4 * self.count);
        let [key, _] = &self.keys;
        let answer = self.store.call(&STEP, &step, key).await?;
        let mut parts = Parts::of(answer, key)?;
        self.is_over = parts.number()? == 0;
        let start = parts.number()?;
        self.behind = Some((start, parts.bytes()?));
        let mut found = Vec::new();
        while !parts.is_empty() {
            let (member, entries) = (parts.bytes()?, parts.bytes()?);
            if self.seen.insert(chunks::name_of(&member).to_vec()) {
                found.push(Found { member, entries });
            }
        }
        Ok(found)
    }
}

/// A record that may be the next of a list: the newest first, ties by id. Which chunk has it, and where.
type Candidate = (Timestamp, ActivationId, Reverse<usize>, usize);

/// A chunk with candidates.
struct Loaded {
    member: Vec<u8>,
    entries: Vec<u8>,
    /// Candidates that were not taken yet.
    left: usize,
    /// Its records, once they were asked for; nothing where they are gone.
    raw: Option<Vec<u8>>,
}

/// A list under way.
struct Listing<'a> {
    walk: Walk<'a>,
    bodies: String,
    namespace: Namespace,
    chunks: HashMap<usize, Loaded>,
    heap: BinaryHeap<Candidate>,
    loaded_count: usize,
}

impl Redis {
    /// See [`crate::store::Activations::list`].
    pub(super) async fn listed(
        &self,
        namespace: &Namespace,
        filter: &ActivationFilter,
        page: Page,
    ) -> Result<Vec<Arc<Activation>>> {
        let mut listing = Listing::new(self, namespace, filter);
        let (mut found, mut skip) = (Vec::new(), page.skip);
        // Without a name the entries say it all, and what is skipped need not be read.
        while skip > 0 && filter.name.is_none() {
            let skipped = listing.next(skip.min(BATCH_COUNT)).await?;
            if skipped.is_empty() {
                return Ok(found);
            }
            skip -= skipped.len();
            listing.drop(&skipped);
        }
        while found.len() < page.limit {
            let want = skip.saturating_add(page.limit - found.len());
            let records = listing.records(want.min(BATCH_COUNT)).await?;
            let Some(records) = records else { break };
            let skipped = skip.min(records.len());
            skip -= skipped;
            found.extend(records.into_iter().skip(skipped).map(Arc::new));
        }
        found.truncate(page.limit);
        Ok(found)
    }

    /// See [`crate::store::Activations::count`].
    pub(super) async fn counted(
        &self,
        namespace: &Namespace,
        filter: &ActivationFilter,
    ) -> Result<usize> {
        let mut count = 0;
        if filter.name.is_some() {
            // Two names may have one hash, and only a record says what package it is of.
            let mut listing = Listing::new(self, namespace, filter);
            while let Some(records) = listing.records(BATCH_COUNT).await? {
                count += records.len();
            }
            return Ok(count);
        }
        let mut walk = Walk::new(self, namespace, filter);
        walk.wants_entries = false;
        walk.count = STEP_MAX;
        while !walk.is_over {
            for found in walk.step().await? {
                count += match found.entries.is_empty() {
                    true => chunks::count_of(&found.member),
                    false => matching(&found.entries, filter).count(),
                };
            }
        }
        Ok(count)
    }
}

impl<'a> Listing<'a> {
    fn new(store: &'a Redis, namespace: &Namespace, filter: &'a ActivationFilter) -> Self {
        Self {
            walk: Walk::new(store, namespace, filter),
            bodies: store.keys.bodies(namespace),
            namespace: namespace.clone(),
            chunks: HashMap::new(),
            heap: BinaryHeap::new(),
            loaded_count: 0,
        }
    }

    /// The next entries that may be on the list; none at its end.
    async fn next(&mut self, count: usize) -> Result<Vec<Candidate>> {
        let mut next = Vec::new();
        while next.len() < count {
            // No chunk to come has anything newer than this.
            let newest = self.walk.newest();
            let is_next = |(start, ..): &Candidate| newest.is_none_or(|newest| *start > newest);
            if self.heap.peek().is_some_and(is_next) {
                next.extend(self.heap.pop());
            } else if self.walk.is_over {
                break;
            } else {
                self.step().await?;
            }
        }
        Ok(next)
    }

    async fn step(&mut self) -> Result<()> {
        for Found { member, entries } in self.walk.step().await? {
            let number = self.loaded_count;
            self.loaded_count += 1;
            let before = self.heap.len();
            for (index, entry) in matching(&entries, self.walk.filter) {
                self.heap
                    .push((entry.start, entry.id, Reverse(number), index));
            }
            let loaded = Loaded {
                member,
                entries,
                left: self.heap.len() - before,
                raw: None,
            };
            if loaded.left > 0 {
                self.chunks.insert(number, loaded);
            }
        }
        Ok(())
    }

    /// Forgets chunks whose last candidate was taken.
    fn drop(&mut self, taken: &[Candidate]) {
        for (_, _, Reverse(number), _) in taken {
            if let Some(chunk) = self.chunks.get_mut(number) {
                chunk.left -= 1;
                if chunk.left == 0 {
                    self.chunks.remove(number);
                }
            }
        }
    }

    /// The next records on the list, at most so many and perhaps none of them; nothing at its end.
    async fn records(&mut self, count: usize) -> Result<Option<Vec<Activation>>> {
        let next = self.next(count).await?;
        if next.is_empty() {
            return Ok(None);
        }
        let numbers: BTreeSet<usize> = next.iter().map(|(_, _, Reverse(n), _)| *n).collect();
        let numbers = numbers.into_iter().filter(|number| {
            let chunk = self.chunks.get(number);
            chunk.is_some_and(|chunk| chunk.raw.is_none())
        });
        let numbers: Vec<usize> = numbers.collect();
        for numbers in numbers.chunks(BODY_COUNT) {
            self.load(numbers).await?;
        }
        let records = next.iter().filter_map(|candidate| self.record(candidate));
        let records = records.collect();
        self.drop(&next);
        Ok(Some(records))
    }

    /// Reads the bodies of chunks.
    async fn load(&mut self, numbers: &[usize]) -> Result<()> {
        let mut get = cmd("HMGET");
        get.arg(&self.bodies);
        for number in numbers {
            let name = self
                .chunks
                .get(number)
                .map(|chunk| chunks::name_of(&chunk.member));
            get.arg(name.unwrap_or_default());
        }
        let bodies: Vec<Option<Vec<u8>>> = self.walk.store.query(&get, &self.bodies).await?;
        for (number, body) in numbers.iter().zip(bodies) {
            let Some(chunk) = self.chunks.get_mut(number) else {
                continue;
            };
            // Deleted meanwhile, or by hand.
            let Some(body) = body else { continue };
            let seal = &self.walk.store.seal;
            match chunks::unpack(seal, &self.namespace, &chunk.entries, body) {
                Ok(raw) => chunk.raw = Some(raw),
                Err(error) => {
                    tracing::error!(key = self.bodies, %error, records = chunk.left, "records are left out of a list");
                }
            }
        }
        Ok(())
    }

    fn record(&self, (_, id, Reverse(number), index): &Candidate) -> Option<Activation> {
        let chunk = self.chunks.get(number)?;
        match chunk::record(&chunk.entries, chunk.raw.as_ref()?, *index) {
            Ok(record) => Some(record).filter(|record| self.walk.filter.names(record)),
            Err(error) => {
                tracing::error!(key = self.bodies, %id, %error, "a record is left out of a list");
                None
            }
        }
    }
}

/// The entries that may be asked for; a name is only certain once the record was read.
fn matching(entries: &[u8], filter: &ActivationFilter) -> impl Iterator<Item = (usize, Entry)> {
    let (since, upto) = ends(filter);
    let name = filter.name.as_ref();
    let hash = name.map(|name| chunk::name_hash(name.as_str()));
    chunk::entries_of(entries)
        .enumerate()
        .filter(move |(_, entry)| {
            (since..=upto).contains(&entry.start.0)
                && hash.is_none_or(|hash| hash == entry.name_hash)
        })
}

/// Both ends of a filter, in milliseconds.
fn ends(filter: &ActivationFilter) -> (u64, u64) {
    let since = filter.since.map_or(0, |since| since.0);
    (since, filter.upto.map_or(u64::MAX, |upto| upto.0))
}
