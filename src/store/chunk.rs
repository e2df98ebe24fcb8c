//! Activation records, many to a value: what a store keeps of them.
//!
//! ```text
//! entries   count × 32 bytes: start ms (8) · id (16) · offset into the body (4) · hash of the name (4), big endian
//! body      LZ4 block (length first) of the records' JSON, end to end, in the order of the entries; where keys are
//!           configured it is encrypted then, and bound to the entries ([`Chunk::sealed`], [`opened`])
//! ```
//!
//! A row of its own per record costs a database several times what making the record costs; a chunk spreads that
//! over hundreds. Entries are fixed in size and not compressed, so a list or a count is answered without the bodies.
//! Within a chunk records are in the order they were put; between chunks, ranges of `start` and of ids may overlap.

use crate::model::{Activation, ActivationId, Namespace, Timestamp};
use crate::store::seal::{KeyName, Place, Seal};
use crate::store::{Error, Result};

/// Longest body that is unpacked: the length is not believed.
const UNPACKED_BYTES_MAX: usize = 1 << 30;

/// Bytes of JSON after which a chunk is closed: small enough that finding one record unpacks little, large enough
/// that the row is cheap and compresses well.
pub(super) const RAW_BYTES: usize = 256 << 10;

fn corrupt(cause: impl std::fmt::Display) -> Error {
    Error::Corrupt(format!("records: {cause}"))
}

const ENTRY_BYTES: usize = 32;

/// One row of `chunks`.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) namespace: Namespace,
    pub(super) start_min: Timestamp,
    pub(super) start_max: Timestamp,
    pub(super) id_min: ActivationId,
    pub(super) id_max: ActivationId,
    pub(super) count: usize,
    pub(super) raw_bytes: usize,
    pub(super) entries: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// Which key encrypts the body.
    pub(super) key: Option<KeyName>,
}

impl Chunk {
    /// With its body encrypted as `seal` says: what is kept of it.
    pub(super) fn sealed(mut self, seal: &Seal) -> Result<Self> {
        let place = place(&self.namespace, &self.entries);
        self.body = seal.close_bytes(place, std::mem::take(&mut self.body))?;
        self.key = seal.key_name();
        Ok(self)
    }

    /// What it counts towards the retention of its namespace: bytes of the row's two blobs.
    pub(super) fn stored_bytes(&self) -> usize {
        self.entries.len() + self.body.len()
    }
}

/// Where one record is, and what lists select by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) start: Timestamp,
    pub(super) id: ActivationId,
    pub(super) name_hash: u32,
    offset: u32,
}

/// Fills chunks; its buffers are used again.
#[derive(Debug, Default)]
pub(super) struct Packer {
    raw: Vec<u8>,
    entries: Vec<Entry>,
}

impl Packer {
    /// Adds a record.
    pub(super) fn add(&mut self, record: &Activation) -> Result<()> {
        let entry = self.entry(record.start, record.id, name_hash(record.name.as_str()))?;
        let before = self.raw.len();
        if let Err(error) = serde_json::to_writer(&mut self.raw, record) {
            self.raw.truncate(before);
            return Err(Error::Unavailable(format!("record {}: {error}", record.id)));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Adds every record of another chunk.
    pub(super) fn add_chunk(&mut self, entries: &[u8], raw: &[u8]) -> Result<()> {
        for (index, found) in entries_of(entries).enumerate() {
            let json = slice(entries, raw, index)?;
            let entry = self.entry(found.start, found.id, found.name_hash)?;
            self.raw.extend_from_slice(json);
            self.entries.push(entry);
        }
        Ok(())
    }

    fn entry(&self, start: Timestamp, id: ActivationId, name_hash: u32) -> Result<Entry> {
        let offset = u32::try_from(self.raw.len())
            .map_err(|_| Error::Unavailable("a chunk of records passes 4 GiB".to_owned()))?;
        Ok(Entry {
            start,
            id,
            name_hash,
            offset,
        })
    }

    /// Whether the chunk should be closed.
    pub(super) fn is_full(&self) -> bool {
        self.raw.len() >= RAW_BYTES
    }

    /// Closes the chunk; `None` when nothing was added. It is unpacked against the same `dictionary`, which helps a small
    /// chunk much and a large one little; it may be empty.
    pub(super) fn finish(&mut self, namespace: &Namespace, dictionary: &[u8]) -> Option<Chunk> {
        let first = *self.entries.first()?;
        let mut chunk = Chunk {
            namespace: namespace.clone(),
            start_min: first.start,
            start_max: first.start,
            id_min: first.id,
            id_max: first.id,
            count: self.entries.len(),
            raw_bytes: self.raw.len(),
            entries: Vec::with_capacity(self.entries.len() * ENTRY_BYTES),
            key: None,
            body: if dictionary.is_empty() {
                lz4_flex::block::compress_prepend_size(&self.raw)
            } else {
                lz4_flex::block::compress_prepend_size_with_dict(&self.raw, dictionary)
            },
        };
        for entry in self.entries.drain(..) {
            chunk.start_min = chunk.start_min.min(entry.start);
            chunk.start_max = chunk.start_max.max(entry.start);
            chunk.id_min = chunk.id_min.min(entry.id);
            chunk.id_max = chunk.id_max.max(entry.id);
            chunk.entries.extend(entry.start.0.to_be_bytes());
            chunk.entries.extend(entry.id.0.to_be_bytes());
            chunk.entries.extend(entry.offset.to_be_bytes());
            chunk.entries.extend(entry.name_hash.to_be_bytes());
        }
        self.raw.clear();
        // One huge record must not hold its memory for ever.
        self.raw.shrink_to(4 * RAW_BYTES);
        Some(chunk)
    }
}

/// The entries of a chunk, in order.
pub(super) fn entries_of(entries: &[u8]) -> impl Iterator<Item = Entry> {
    let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
    entries.iter().map(decode)
}

fn decode(bytes: &[u8; ENTRY_BYTES]) -> Entry {
    let number = |from: usize, to: usize| {
        bytes[from..to]
            .iter()
            .fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let short = |from: usize| u32::try_from(number(from, from + 4)).unwrap_or(u32::MAX);
    Entry {
        start: Timestamp(number(0, 8)),
        id: ActivationId(u128::from(number(8, 16)) << 64 | u128::from(number(16, 24))),
        offset: short(24),
        name_hash: short(28),
    }
}

/// Where a body is kept.
pub(super) fn place<'a>(namespace: &'a Namespace, entries: &'a [u8]) -> Place<'a> {
    Place {
        namespace,
        what: "activation records",
        name: entries,
    }
}

/// A body as it is kept, decrypted if it is encrypted, to be unpacked.
pub(super) fn opened(
    seal: &Seal,
    namespace: &Namespace,
    entries: &[u8],
    body: Vec<u8>,
) -> Result<Vec<u8>> {
    seal.open_bytes(place(namespace, entries), body)
}

/// Unpacks a body.
pub(super) fn unpack(body: &[u8], dictionary: &[u8]) -> Result<Vec<u8>> {
    let (length, block) = lz4_flex::block::uncompressed_size(body).map_err(corrupt)?;
    if length > UNPACKED_BYTES_MAX {
        return Err(corrupt("they say that they are huge"));
    }
    if dictionary.is_empty() {
        return lz4_flex::block::decompress(block, length).map_err(corrupt);
    }
    lz4_flex::block::decompress_with_dict(block, length, dictionary).map_err(corrupt)
}

/// The JSON of record `index`.
fn slice<'a>(entries: &[u8], raw: &'a [u8], index: usize) -> Result<&'a [u8]> {
    let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
    let offset = |index: usize| {
        entries
            .get(index)
            .map(|bytes| decode(bytes).offset as usize)
    };
    let end = offset(index + 1).unwrap_or(raw.len());
    offset(index)
        .and_then(|start| raw.get(start..end))
        .ok_or_else(|| corrupt("an entry points outside its chunk"))
}

/// Reads record `index`.
pub(super) fn record(entries: &[u8], raw: &[u8], index: usize) -> Result<Activation> {
    serde_json::from_slice(slice(entries, raw, index)?).map_err(corrupt)
}

/// FNV-1a: lets a list by name pass over most other records without reading them.
pub(super) fn name_hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::suite;

    fn packed() -> Chunk {
        let mut packer = Packer::default();
        for (number, start) in [(1, 50), (2, 10), (3, 90)] {
            packer.add(&suite::record("a", start, number)).unwrap();
        }
        packer.finish(&suite::namespace("guest"), b"").unwrap()
    }

    #[test]
    fn what_was_packed_is_read_back_and_its_ranges_are_known() {
        let chunk = packed();
        let raw = unpack(&chunk.body, b"").unwrap();
        let second = record(&chunk.entries, &raw, 1).unwrap();
        assert_eq!(second, suite::record("a", 10, 2));
        assert_eq!((chunk.start_min.0, chunk.start_max.0), (10, 90));
        assert_eq!((chunk.count, raw.len()), (3, chunk.raw_bytes));
        assert_eq!(entries_of(&chunk.entries).count(), 3);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let chunk = packed();
        let raw = unpack(&chunk.body, b"").unwrap();
        for length in 0..chunk.body.len() {
            drop(unpack(&chunk.body[..length], b""));
        }
        assert!(matches!(unpack(&[], b""), Err(Error::Corrupt(_))));
        assert!(matches!(
            record(&chunk.entries, &raw, 3),
            Err(Error::Corrupt(_))
        ));
        assert!(matches!(
            record(&chunk.entries, &raw[..9], 2),
            Err(Error::Corrupt(_))
        ));
        assert!(matches!(record(&[], &raw, 0), Err(Error::Corrupt(_))));
    }
}
