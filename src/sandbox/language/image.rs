//! How much of an engine's memory an instance has made its own.
//!
//! An instance begins with the engine's memory as it was snapshotted: tens of thousands of bytes of it are used, tens of
//! millions may be there, and all of it is mapped copy-on-write from one file. What an instance costs the node is what it
//! has written to, and only the kernel knows that: `/proc/self/pagemap` says for each page whether it is the file's or ours.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Bytes of the map for each page.
const ENTRY_BYTES: usize = 8;
/// Entries read at a time.
const ENTRIES: usize = 2048;
/// As many, where few are asked for: a buffer that is soon zeroed.
const FEW_ENTRIES: usize = 64;
/// Bits of a word of what tells which pages were written to.
pub(in super::super) const PAGES_PER_WORD: usize = 64;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// A file's page, or one shared with another process.
const SHARED: u64 = 1 << 61;

/// The kernel's map of this process's pages.
pub(in super::super) struct Pagemap {
    file: Option<File>,
    page_bytes: usize,
}

impl Pagemap {
    /// Opens it; where there is none, everything counts as written to.
    pub(in super::super) fn open() -> Self {
        Self {
            file: File::open("/proc/self/pagemap").ok(),
            page_bytes: rustix::param::page_size(),
        }
    }

    /// Whether one of a few pages below `address` was written to; not, where there is no map.
    pub(in super::super) fn is_written_below(&self, address: usize, bytes: usize) -> bool {
        let from = address.saturating_sub(bytes);
        self.count(from, bytes).is_some_and(|pages| pages > 0)
    }

    /// Bytes of the whole pages from `address` on that were written to since they were mapped.
    pub(in super::super) fn own_bytes(&self, address: usize, bytes: usize) -> usize {
        self.count(address, bytes)
            .map_or(bytes, |pages| pages * self.page_bytes)
    }

    /// Which of the whole pages from `address` on were written to since they were mapped: a bit each, the first lowest.
    /// Nothing where there is no map.
    pub(in super::super) fn own_pages(&self, address: usize, bytes: usize) -> Option<Vec<u64>> {
        let words = bytes.div_ceil(self.page_bytes).div_ceil(PAGES_PER_WORD);
        let mut pages = vec![0; words];
        self.each_own(address, bytes, |page| {
            if let Some(word) = pages.get_mut(page / PAGES_PER_WORD) {
                *word |= 1 << (page % PAGES_PER_WORD);
            }
        })?;
        Some(pages)
    }

    /// Bytes of a page.
    pub(in super::super) fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    fn count(&self, address: usize, bytes: usize) -> Option<usize> {
        let mut own = 0;
        self.each_own(address, bytes, |_| own += 1)?;
        Some(own)
    }

    /// Tells of each page that was written to, by its number from `address` on.
    fn each_own(&self, address: usize, bytes: usize, mut tell: impl FnMut(usize)) -> Option<()> {
        let file = self.file.as_ref()?;
        let pages = bytes.div_ceil(self.page_bytes);
        let mut at = (address / self.page_bytes * ENTRY_BYTES) as u64;
        let mut left = pages;
        let (mut few, mut many);
        let buffer: &mut [u8] = match pages > FEW_ENTRIES {
            true => {
                many = [0; ENTRIES * ENTRY_BYTES];
                &mut many
            }
            false => {
                few = [0; FEW_ENTRIES * ENTRY_BYTES];
                &mut few
            }
        };
        while left > 0 {
            let count = left.min(buffer.len() / ENTRY_BYTES);
            let piece = buffer.get_mut(..count * ENTRY_BYTES)?;
            file.read_exact_at(piece, at).ok()?;
            for (index, entry) in piece.as_chunks::<ENTRY_BYTES>().0.iter().enumerate() {
                let entry = u64::from_ne_bytes(*entry);
                if entry & SWAPPED != 0 || entry & (PRESENT | SHARED) == PRESENT {
                    tell(pages - left + index);
                }
            }
            at += piece.len() as u64;
            left -= count;
        }
        Some(())
    }
}
