//! Activation records in Redis: many to a chunk, whose form `store::chunk` has.
//!
//! ```text
//! name     the id (16 bytes) of the first of its records
//! member   name (16) · oldest start (8) · records (4) · hash of each name in it (4 each; none when they are many), big endian;
//!          of the sorted set by the newest start
//! ```
//!
//! A record alone costs Redis three entries of hash tables and sorted sets and their names, 7 µs and 520 bytes; in a chunk
//! of 64, one entry and a share, 2 µs and 210 bytes. What lists and counts select by stands in members and entries, so
//! bodies are read only where a record of theirs is wanted.
//!
//! A chunk's records began within [`SPAN`] of each other: whoever looks for what began before some time need not look at
//! chunks that are newer than that by more.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Activation, ActivationId, Namespace};
use crate::store::Result;
use crate::store::chunk::{self, Chunk, Packer};
use crate::store::seal::Seal;

use super::record::DICTIONARY;

/// Records in a chunk; one call of the script takes one, so it also bounds how long others wait for that.
const COUNT_MAX: usize = 256;
/// JSON in a chunk, if it has more than one record: what is unpacked to find one.
const RAW_BYTES: usize = 64 << 10;
/// How far apart records of a chunk may have begun.
pub(super) const SPAN: Duration = Duration::from_secs(60);
/// Names whose hashes a member has; beyond that it may have any.
const NAMES_MAX: usize = 8;

/// What a chunk costs Redis beside its two values, about: an entry of a sorted set and two of hash tables.
pub(super) const CHUNK_BYTES: usize = 350;
/// What a record costs beside its share of a chunk, about: an entry of the hash table that finds it by id.
pub(super) const RECORD_BYTES: usize = 90;

/// A chunk that is about to be written.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) name: [u8; 16],
    pub(super) member: Vec<u8>,
    pub(super) chunk: Chunk,
}

impl Made {
    /// What it counts towards the retention of its namespace.
    pub(super) fn bytes(&self) -> usize {
        self.chunk.stored_bytes() + CHUNK_BYTES + self.chunk.count * RECORD_BYTES
    }
}

/// How many of `records`, from the first, go into one chunk: at least one. They are in the order in which they began, each
/// with its size.
pub(super) fn first_of(records: &[(Arc<Activation>, usize)]) -> usize {
    let Some((first, size)) = records.first() else {
        return 0;
    };
    let span = u64::try_from(SPAN.as_millis()).unwrap_or(u64::MAX);
    let mut bytes = *size;
    let more = records[1..].iter().take(COUNT_MAX - 1);
    let more = more.take_while(|(record, size)| {
        bytes += size;
        bytes <= RAW_BYTES && record.start.0.saturating_sub(first.start.0) <= span
    });
    1 + more.count()
}

/// Packs records of a namespace into a chunk; one that has no JSON is left out, and said. `None` when nothing is left.
pub(super) fn pack(
    namespace: &Namespace,
    records: &[Arc<Activation>],
    seal: &Seal,
) -> Option<Made> {
    let mut packer = Packer::default();
    for record in records {
        if let Err(error) = packer.add(record) {
            tracing::error!(%namespace, %error, "a record cannot be written");
        }
    }
    let chunk = match packer.finish(namespace, DICTIONARY)?.sealed(seal) {
        Ok(chunk) => chunk,
        Err(error) => {
            tracing::error!(%namespace, %error, "records cannot be encrypted");
            return None;
        }
    };
    let name = chunk::entries_of(&chunk.entries).next()?.id.0.to_be_bytes();
    let mut names: Vec<u32> = chunk::entries_of(&chunk.entries)
        .map(|entry| entry.name_hash)
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut member = name.to_vec();
    member.extend(chunk.start_min.0.to_be_bytes());
    member.extend(u32::try_from(chunk.count).unwrap_or(u32::MAX).to_be_bytes());
    if names.len() <= NAMES_MAX {
        member.extend(names.into_iter().flat_map(u32::to_be_bytes));
    }
    Some(Made {
        name,
        member,
        chunk,
    })
}

/// The name of the chunk that a member is of.
pub(super) fn name_of(member: &[u8]) -> &[u8] {
    member.get(..16).unwrap_or(member)
}

/// How many records it has.
pub(super) fn count_of(member: &[u8]) -> usize {
    let bytes = member.get(24..28).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_be_bytes) as usize
}

/// The records of a chunk: its body as it is kept beside `entries`.
pub(super) fn unpack(
    seal: &Seal,
    namespace: &Namespace,
    entries: &[u8],
    body: Vec<u8>,
) -> Result<Vec<u8>> {
    chunk::unpack(&chunk::opened(seal, namespace, entries, body)?, DICTIONARY)
}

/// The record with this id in a chunk, if it has one.
pub(super) fn find(
    (seal, namespace): (&Seal, &Namespace),
    entries: &[u8],
    body: Vec<u8>,
    id: ActivationId,
) -> Result<Option<Activation>> {
    let index = chunk::entries_of(entries).position(|entry| entry.id == id);
    let Some(index) = index else { return Ok(None) };
    chunk::record(entries, &unpack(seal, namespace, entries, body)?, index).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::suite;

    fn records(starts: &[u64]) -> Vec<Arc<Activation>> {
        let each = starts.iter().zip(1..);
        each.map(|(start, number)| Arc::new(suite::record("a", *start, number)))
            .collect()
    }

    #[test]
    fn a_chunk_ends_where_it_would_be_too_long_too_large_or_too_many() {
        let span = u64::try_from(SPAN.as_millis()).unwrap();
        let first = |starts: &[u64], size: usize| {
            let records = records(starts).into_iter().map(|record| (record, size));
            first_of(&records.collect::<Vec<_>>())
        };
        assert_eq!(first(&[5, 5 + span, 6 + span], 1), 2);
        assert_eq!(first(&[1; 300], 1), COUNT_MAX);
        assert_eq!(first(&[1; 5], RAW_BYTES / 2), 2);
        assert_eq!(first(&[1; 5], RAW_BYTES * 2), 1);
        assert_eq!(first(&[], 1), 0);
    }

    #[test]
    fn a_member_says_what_its_chunk_has_and_a_record_is_found_in_it() {
        let records = records(&[10, 30, 20]);
        let made = pack(&suite::namespace("guest"), &records, &Seal::default()).unwrap();
        assert_eq!(name_of(&made.member), records[0].id.0.to_be_bytes());
        assert_eq!(made.member[16..24], 10_u64.to_be_bytes());
        assert_eq!(count_of(&made.member), 3);
        assert_eq!(made.member[28..], chunk::name_hash("a").to_be_bytes());
        let (seal, guest) = (Seal::default(), suite::namespace("guest"));
        let find = |body: &[u8], id| find((&seal, &guest), &made.chunk.entries, body.to_vec(), id);
        let found = find(&made.chunk.body, records[1].id);
        assert_eq!(found.unwrap().as_ref(), Some(&*records[1]));
        let absent = find(&made.chunk.body, ActivationId(5));
        assert!(absent.unwrap().is_none());
        assert!(find(b"rubbish", records[1].id).is_err());
    }

    #[test]
    fn many_alike_take_a_fraction_of_what_each_would_alone() {
        let records = records(&[10; 64]);
        let made = pack(&suite::namespace("guest"), &records, &Seal::default()).unwrap();
        assert!(
            made.chunk.stored_bytes() < 64 * 90,
            "{}",
            made.chunk.stored_bytes()
        );
        let alone = pack(&suite::namespace("guest"), &records[..1], &Seal::default()).unwrap();
        assert!(
            alone.chunk.stored_bytes() < 300,
            "{}",
            alone.chunk.stored_bytes()
        );
    }
}
