//! Activation records: put, found by id, listed and counted.
//!
//! Whoever reads takes what waits for the writer *first* and looks into the database *next*: a record that is written
//! in between is then seen twice, which is noticed, and never missed.

use std::cell::OnceCell;
use std::collections::{BinaryHeap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use crate::model::{Activation, ActivationId, Namespace, Timestamp};
use crate::store::chunk::{self, Chunk, Entry};
use crate::store::reseal::Records;
use crate::store::seal::Seal;
use crate::store::{ActivationFilter, Activations, Error, Page, Result};

use super::{Embedded, from_int, to_int};

/// Chunks removed in one commit.
pub(super) const DELETE_COUNT: usize = 64;

#[async_trait]
impl Activations for Embedded {
    fn put(&self, record: Arc<Activation>) -> Result<()> {
        self.inbox.put(record)
    }

    fn has_room(&self) -> bool {
        self.inbox.has_room()
    }

    async fn get(
        &self,
        namespace: &Namespace,
        id: ActivationId,
    ) -> Result<Option<Arc<Activation>>> {
        if let Some(record) = self.inbox.find(id) {
            return Ok(Some(record).filter(|record| record.namespace == *namespace));
        }
        let (namespace, seal) = (namespace.clone(), Arc::clone(&self.seal));
        self.readers
            .read(move |connection| get(connection, &seal, &namespace, id))
            .await
    }

    async fn list(
        &self,
        namespace: &Namespace,
        filter: &ActivationFilter,
        page: Page,
    ) -> Result<Vec<Arc<Activation>>> {
        let pending = self.inbox.records_of(namespace);
        let (namespace, filter) = (namespace.clone(), filter.clone());
        let seal = Arc::clone(&self.seal);
        self.readers
            .read(move |connection| {
                let opens = (&*seal, &namespace);
                Listing::new(connection, opens, &filter).list(&namespace, pending, page)
            })
            .await
    }

    async fn count(&self, namespace: &Namespace, filter: &ActivationFilter) -> Result<usize> {
        let pending = self.inbox.records_of(namespace);
        let (namespace, filter) = (namespace.clone(), filter.clone());
        let seal = Arc::clone(&self.seal);
        self.readers
            .read(move |connection| {
                let opens = (&*seal, &namespace);
                Listing::new(connection, opens, &filter).count(&namespace, &pending)
            })
            .await
    }

    async fn flush(&self) -> Result<()> {
        self.inbox.flush().await
    }

    async fn expire(&self, now: Timestamp) -> Result<usize> {
        self.expire_records(now).await
    }

    async fn reseal(&self, namespace: &Namespace) -> Result<Records> {
        self.reseal_records(namespace).await
    }
}

/// Writes a chunk, encrypted as `seal` says; bytes it added.
pub(super) fn insert(connection: &Connection, seal: &Seal, chunk: Option<Chunk>) -> Result<usize> {
    let Some(chunk) = chunk else { return Ok(0) };
    let chunk = chunk.sealed(seal)?;
    connection
        .prepare_cached(
            "INSERT INTO chunks (namespace, start_min, start_max, id_min, id_max, count,
                 raw_bytes, stored_bytes, entries, body, key)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            chunk.namespace.as_str(),
            to_int(chunk.start_min.0),
            to_int(chunk.start_max.0),
            chunk.id_min.0.to_be_bytes(),
            chunk.id_max.0.to_be_bytes(),
            to_int(chunk.count as u64),
            to_int(chunk.raw_bytes as u64),
            to_int(chunk.stored_bytes() as u64),
            chunk.entries,
            chunk.body,
            chunk.key,
        ])?;
    Ok(chunk.stored_bytes())
}

/// Removes some chunks of a namespace; how many.
pub(super) fn delete_some(connection: &Connection, namespace: &Namespace) -> Result<usize> {
    let count = connection
        .prepare_cached(
            "DELETE FROM chunks WHERE seq IN
                 (SELECT seq FROM chunks INDEXED BY chunks_by_start WHERE namespace = ? LIMIT ?)",
        )?
        .execute(params![namespace.as_str(), to_int(DELETE_COUNT as u64)])?;
    Ok(count)
}

/// The two blobs of a chunk; `None` when it is not there.
pub(super) fn blobs(connection: &Connection, seq: i64) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    Ok(connection
        .prepare_cached("SELECT entries, body FROM chunks WHERE seq = ?")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// Ids carry the time at which they were made, so only chunks whose range covers the id are looked into, and the
/// likeliest, which ends soonest after it, is the first.
fn get(
    connection: &Connection,
    seal: &Seal,
    namespace: &Namespace,
    id: ActivationId,
) -> Result<Option<Arc<Activation>>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq FROM chunks INDEXED BY chunks_by_id
         WHERE namespace = ?1 AND id_max >= ?2 AND id_min <= ?2 ORDER BY id_max",
    )?;
    let mut rows = statement.query(params![namespace.as_str(), id.0.to_be_bytes()])?;
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        let entries = entries(connection, seq)?;
        let index = chunk::entries_of(&entries).position(|entry| entry.id == id);
        if let Some(index) = index {
            let raw = unpacked(seal, namespace, &entries, body(connection, seq)?)?;
            return Ok(Some(Arc::new(chunk::record(&entries, &raw, index)?)));
        }
    }
    Ok(None)
}

/// The records' JSON in a body as it is kept.
pub(super) fn unpacked(
    seal: &Seal,
    namespace: &Namespace,
    entries: &[u8],
    body: Vec<u8>,
) -> Result<Vec<u8>> {
    chunk::unpack(&chunk::opened(seal, namespace, entries, body)?, b"")
}

fn entries(connection: &Connection, seq: i64) -> Result<Vec<u8>> {
    Ok(connection
        .prepare_cached("SELECT entries FROM chunks WHERE seq = ?")?
        .query_row([seq], |row| row.get(0))?)
}

fn body(connection: &Connection, seq: i64) -> Result<Vec<u8>> {
    Ok(connection
        .prepare_cached("SELECT body FROM chunks WHERE seq = ?")?
        .query_row([seq], |row| row.get(0))?)
}

/// A chunk being read; its body is unpacked when the first of its records is wanted.
struct Loaded {
    seq: i64,
    entries: Vec<u8>,
    /// `None` when it cannot be read.
    raw: OnceCell<Option<Vec<u8>>>,
}

impl Loaded {
    /// `None` in a chunk that cannot be read: it must not take the rest of a list with it.
    fn record(
        &self,
        connection: &Connection,
        (seal, namespace): (&Seal, &Namespace),
        index: usize,
    ) -> Result<Option<Activation>> {
        let raw = match self.raw.get() {
            Some(raw) => raw,
            None => {
                let body = body(connection, self.seq)?;
                let raw = match unpacked(seal, namespace, &self.entries, body) {
                    Err(Error::Corrupt(why)) => {
                        tracing::error!(%namespace, why, "records are left out of a list");
                        None
                    }
                    raw => Some(raw?),
                };
                self.raw.get_or_init(|| raw)
            }
        };
        let raw = raw.as_ref();
        raw.map(|raw| chunk::record(&self.entries, raw, index))
            .transpose()
    }
}

enum Source {
    Pending(Arc<Activation>),
    Stored(Rc<Loaded>, usize),
}

/// A record that may be the next of a list: the heap gives the newest first, ties by id.
struct Candidate {
    start: Timestamp,
    id: ActivationId,
    source: Source,
}

impl Candidate {
    fn order(&self) -> (Timestamp, ActivationId) {
        (self.start, self.id)
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

/// One list or count under way.
struct Listing<'a> {
    connection: &'a Connection,
    /// What opens chunks, and whose they are.
    opens: (&'a Seal, &'a Namespace),
    filter: &'a ActivationFilter,
    name_hash: Option<u32>,
}

impl<'a> Listing<'a> {
    fn new(
        connection: &'a Connection,
        opens: (&'a Seal, &'a Namespace),
        filter: &'a ActivationFilter,
    ) -> Self {
        Self {
            connection,
            opens,
            filter,
            name_hash: filter
                .name
                .as_ref()
                .map(|name| chunk::name_hash(name.as_str())),
        }
    }

    fn is_in_time(&self, start: Timestamp) -> bool {
        self.filter.since.is_none_or(|since| since <= start)
            && self.filter.upto.is_none_or(|upto| start <= upto)
    }

    /// Whether an entry may match; a name is only certain once the record was read.
    fn may_match(&self, entry: Entry) -> bool {
        self.is_in_time(entry.start) && self.name_hash.is_none_or(|hash| hash == entry.name_hash)
    }

    fn matches(&self, record: &Activation) -> bool {
        self.is_in_time(record.start) && self.filter.names(record)
    }

    /// Merges what waits and the chunks, newest first. Chunks come in the order of their newest record; a candidate is
    /// final once no chunk to come can hold a newer one.
    fn list(
        &self,
        namespace: &Namespace,
        pending: Vec<Arc<Activation>>,
        page: Page,
    ) -> Result<Vec<Arc<Activation>>> {
        let pending = pending.into_iter().filter(|record| self.matches(record));
        let mut heap: BinaryHeap<Candidate> = pending
            .map(|record| Candidate {
                start: record.start,
                id: record.id,
                source: Source::Pending(record),
            })
            .collect();
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, start_max FROM chunks INDEXED BY chunks_by_start
             WHERE namespace = ? AND start_max >= ? AND start_min <= ?
             ORDER BY start_max DESC",
        )?;
        let (since, upto) = self.range();
        let mut rows = statement.query(params![namespace.as_str(), since, upto])?;
        let (mut found, mut skip, mut last) = (Vec::new(), page.skip, None);
        loop {
            let next = match rows.next()? {
                Some(row) => Some((row.get(0)?, Timestamp(from_int(row.get(1)?)))),
                None => None,
            };
            let is_final = |candidate: &Candidate| match next {
                Some((_, newest)) => candidate.start > newest,
                None => true,
            };
            while heap.peek().is_some_and(is_final) {
                let Some(candidate) = heap.pop() else { break };
                let id = candidate.id;
                if last == Some(id) {
                    continue; // It was written between our two looks.
                }
                let Some(record) = self.admit(candidate, &mut skip)? else {
                    continue;
                };
                last = Some(id);
                found.extend(record);
                if found.len() >= page.limit {
                    return Ok(found);
                }
            }
            match next {
                Some((seq, _)) => self.push(&mut heap, seq)?,
                None => return Ok(found),
            }
        }
    }

    /// `None` when it is not on the list; `Some(None)` when it is and was skipped.
    fn admit(
        &self,
        candidate: Candidate,
        skip: &mut usize,
    ) -> Result<Option<Option<Arc<Activation>>>> {
        // Without a name the entry said it all, and a skipped record need not be read.
        if *skip > 0 && self.filter.name.is_none() {
            *skip -= 1;
            return Ok(Some(None));
        }
        let record = match candidate.source {
            Source::Pending(record) => record,
            Source::Stored(chunk, index) => {
                let record = chunk.record(self.connection, self.opens, index)?;
                let Some(record) = record.filter(|record| self.filter.names(record)) else {
                    return Ok(None);
                };
                Arc::new(record)
            }
        };
        if *skip > 0 {
            *skip -= 1;
            return Ok(Some(None));
        }
        Ok(Some(Some(record)))
    }

    fn push(&self, heap: &mut BinaryHeap<Candidate>, seq: i64) -> Result<()> {
        let chunk = Rc::new(self.load(seq)?);
        for (index, entry) in chunk::entries_of(&chunk.entries).enumerate() {
            if self.may_match(entry) {
                heap.push(Candidate {
                    start: entry.start,
                    id: entry.id,
                    source: Source::Stored(Rc::clone(&chunk), index),
                });
            }
        }
        Ok(())
    }

    fn load(&self, seq: i64) -> Result<Loaded> {
        Ok(Loaded {
            seq,
            entries: entries(self.connection, seq)?,
            raw: OnceCell::new(),
        })
    }

    /// A chunk that lies within the filter is counted by its row alone.
    fn count(&self, namespace: &Namespace, pending: &[Arc<Activation>]) -> Result<usize> {
        let waiting: HashSet<ActivationId> = pending.iter().map(|record| record.id).collect();
        let ids = waiting.iter().min().zip(waiting.iter().max());
        let mut count = pending.iter().filter(|record| self.matches(record)).count();
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, start_min, start_max, count FROM chunks INDEXED BY chunks_by_start
             WHERE namespace = ? AND start_max >= ? AND start_min <= ?",
        )?;
        let (since, upto) = self.range();
        let mut rows = statement.query(params![namespace.as_str(), since, upto])?;
        while let Some(row) = rows.next()? {
            let seq = row.get(0)?;
            let oldest = Timestamp(from_int(row.get(1)?));
            let newest = Timestamp(from_int(row.get(2)?));
            let is_within =
                self.name_hash.is_none() && self.is_in_time(oldest) && self.is_in_time(newest);
            let may_hold_waiting = match ids {
                Some((first, last)) => self.overlaps(seq, *first, *last)?,
                None => false,
            };
            if is_within && !may_hold_waiting {
                count += usize::try_from(row.get::<_, i64>(3)?).unwrap_or_default();
                continue;
            }
            count += self.count_chunk(&self.load(seq)?, &waiting)?;
        }
        Ok(count)
    }

    fn overlaps(&self, seq: i64, first: ActivationId, last: ActivationId) -> Result<bool> {
        Ok(self
            .connection
            .prepare_cached("SELECT 1 FROM chunks WHERE seq = ? AND id_min <= ? AND id_max >= ?")?
            .exists(params![seq, last.0.to_be_bytes(), first.0.to_be_bytes()])?)
    }

    fn count_chunk(&self, chunk: &Loaded, waiting: &HashSet<ActivationId>) -> Result<usize> {
        let mut count = 0;
        for (index, entry) in chunk::entries_of(&chunk.entries).enumerate() {
            if !self.may_match(entry) || waiting.contains(&entry.id) {
                continue;
            }
            let is_meant = match self.filter.name {
                None => true,
                Some(_) => chunk
                    .record(self.connection, self.opens, index)?
                    .is_some_and(|record| self.filter.names(&record)),
            };
            if is_meant {
                count += 1;
            }
        }
        Ok(count)
    }

    /// Both ends of the filter, as the database has them.
    fn range(&self) -> (i64, i64) {
        (
            self.filter.since.map_or(0, |since| to_int(since.0)),
            self.filter.upto.map_or(i64::MAX, |upto| to_int(upto.0)),
        )
    }
}
