//! The bytes of one file, in chunks: growing copies little, what was never written takes nothing.
//!
//! The first chunk grows with the file, so that a small one is cheap; the others are whole from the start, so that there
//! are never so many of them that letting a file go takes long.

use std::collections::BTreeMap;

use super::super::limits::Account;
use super::{FileError, SIZE_BYTES_MAX};

/// Bytes of a whole chunk: large enough that freeing the largest file stays quick, small enough to be cleared at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Smallest room made in the first chunk.
const CHUNK_BYTES_MIN: usize = 64;
/// What a chunk costs besides its bytes.
const CHUNK_SHARE_BYTES: usize = 64;

/// A part of a file; what lies beyond its bytes is zeros.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Room the account has given for it.
    room: usize,
}

impl Chunk {
    /// Puts `bytes` at `within`, zeros before them if it is shorter. There must be room.
    fn put(&mut self, within: usize, bytes: &[u8]) {
        if self.bytes.len() < within {
            self.bytes.resize(within, 0);
        }
        let over = (self.bytes.len() - within).min(bytes.len());
        let (over, beyond) = bytes.split_at(over);
        self.bytes[within..within + over.len()].copy_from_slice(over);
        self.bytes.extend_from_slice(beyond);
    }
}

/// The bytes of a file.
#[derive(Default)]
pub(crate) struct Data {
    size: u64,
    /// By their place; a missing one is zeros.
    chunks: BTreeMap<u64, Chunk>,
    /// What the chunks took of the account.
    taken: usize,
}

/// Room for `len` bytes in the chunk at `place`.
fn room_for(place: u64, len: usize) -> usize {
    if place > 0 {
        return CHUNK_BYTES;
    }
    // Twice as much as before, so that a file written byte by byte is not copied each time.
    len.next_power_of_two().clamp(CHUNK_BYTES_MIN, CHUNK_BYTES)
}

/// Which chunk an offset is in, and where in it.
fn locate(offset: u64) -> (u64, usize) {
    let within = usize::try_from(offset % CHUNK_BYTES as u64);
    (
        offset / CHUNK_BYTES as u64,
        within.expect("less than a chunk"),
    )
}

impl Data {
    /// Bytes, holes included.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes it took of the account.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Reads from `offset` on; how many bytes there were.
    pub(crate) fn read_at(&self, offset: u64, target: &mut [u8]) -> usize {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = left.min(target.len());
        let mut done = 0;
        while done < wanted {
            let (place, within) = locate(offset + done as u64);
            let count = (CHUNK_BYTES - within).min(wanted - done);
            let part = &mut target[done..done + count];
            let stored = self.chunks.get(&place).map(|chunk| &*chunk.bytes);
            let stored = stored
                .and_then(|bytes| bytes.get(within..))
                .unwrap_or_default();
            let known = stored.len().min(count);
            part[..known].copy_from_slice(&stored[..known]);
            part[known..].fill(0);
            done += count;
        }
        done
    }

    /// Writes at `offset`; how many bytes there was room for.
    ///
    /// # Errors
    /// When there was room for none of them.
    pub(crate) fn write_at(
        &mut self,
        offset: u64,
        bytes: &[u8],
        account: &mut Account,
    ) -> Result<usize, FileError> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > SIZE_BYTES_MAX) {
            return Err(FileError::TooLarge);
        }
        let mut done = 0;
        while done < bytes.len() {
            let (place, within) = locate(offset + done as u64);
            let count = (CHUNK_BYTES - within).min(bytes.len() - done);
            if !self.make_room(place, within + count, account) {
                break;
            }
            let chunk = self.chunks.entry(place).or_default();
            chunk.put(within, &bytes[done..done + count]);
            done += count;
            self.size = self.size.max(offset + done as u64);
        }
        if done == 0 && !bytes.is_empty() {
            return Err(FileError::NoSpace);
        }
        Ok(done)
    }

    /// Makes room for `len` bytes in the chunk at `place`, if the account gives what that takes.
    fn make_room(&mut self, place: u64, len: usize, account: &mut Account) -> bool {
        let known = self.chunks.get(&place);
        let (room, share) = known.map_or((0, CHUNK_SHARE_BYTES), |chunk| (chunk.room, 0));
        let target = room_for(place, len);
        let more = target.saturating_sub(room);
        if !account.try_take(more + share) {
            return false;
        }
        self.taken += more + share;
        let mut chunk = self.chunks.remove(&place).unwrap_or_default();
        let reserve = target.saturating_sub(chunk.bytes.len());
        let allocated = chunk.bytes.try_reserve_exact(reserve).is_ok();
        if allocated {
            chunk.room += more;
        } else {
            account.give_back(more + share);
            self.taken -= more + share;
        }
        if allocated || share == 0 {
            self.chunks.insert(place, chunk);
        }
        allocated
    }

    /// Makes it `size` bytes long: cuts it, or adds zeros that take nothing until they are written over.
    ///
    /// # Errors
    /// When that is longer than a file may be.
    pub(crate) fn set_size(&mut self, size: u64, account: &mut Account) -> Result<(), FileError> {
        if size > SIZE_BYTES_MAX {
            return Err(FileError::TooLarge);
        }
        if size < self.size {
            self.cut(size, account);
        }
        self.size = size;
        Ok(())
    }

    fn cut(&mut self, size: u64, account: &mut Account) {
        let (place, within) = locate(size);
        let mut gone = self.chunks.split_off(&place);
        let mut freed = 0;
        if within > 0
            && let Some(mut chunk) = gone.remove(&place)
        {
            chunk.bytes.truncate(within);
            let room = room_for(place, within).min(chunk.room);
            chunk.bytes.shrink_to(room);
            freed += chunk.room - room;
            chunk.room = room;
            self.chunks.insert(place, chunk);
        }
        let rooms = gone.values().map(|chunk| chunk.room + CHUNK_SHARE_BYTES);
        freed += rooms.sum::<usize>();
        self.taken -= freed;
        account.give_back(freed);
    }
}
