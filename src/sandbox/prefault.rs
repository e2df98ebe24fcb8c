//! Pages that every instance of a program writes to, made its own in one go.
//!
//! An instance begins with memory that is mapped and not there: the first touch of a page is a fault, and where a page of
//! the artefact is read first and written to then it is two, the second of which waits for the other processors to forget
//! what they know of the page. Which pages those are is nearly the same for all instances of a program. So the first few are
//! looked at when their first run has ended; the pages that all of them wrote to are asked of the kernel when another is
//! started, with a call for each stretch of them. An instance in a slot that was used before tells nothing: the pages of the
//! one before it are still there, zeroed.
//!
//! It is a hint and nothing else: what a page holds is the same before and after, and a kernel that refuses (before Linux
//! 5.14, or out of memory) leaves everything to the faults.

use std::ops::Range;
use std::sync::OnceLock;

use parking_lot::Mutex;
use rustix::mm::{Advice, madvise};
use wasmtime::{Memory, Store};

use super::host::Host;
use super::language::{PAGES_PER_WORD, Pagemap};

/// Instances that are looked at. They are not helped themselves, or they would have all pages that were asked for.
const LOOKS: u32 = 3;
/// Instances that might be looked at: when that many are in slots that were used before, faults are rare anyway.
const TRIES_MAX: u32 = 64;
/// Bytes of a memory that are looked at, from its beginning.
const LOOK_BYTES_MAX: usize = 64 << 20;
/// Stretches that are asked for, the longest; each costs a call.
const STRETCHES_MAX: usize = 48;
/// Pages of all of them; a program that writes to more has other worries than faults.
const PAGES_MAX: usize = 1024;

/// What is known of a program's instances; see the module.
#[derive(Default)]
pub(super) struct Prefault {
    looks: Mutex<Looks>,
    /// Stretches of bytes of memory, once known.
    stretches: OnceLock<Box<[Range<usize>]>>,
}

#[derive(Default)]
struct Looks {
    tried: u32,
    taken: u32,
    /// Pages that all had written to: a bit each.
    written: Vec<u64>,
}

impl Prefault {
    /// Makes pages of `memory`, which is new, its own as far as it is known which. Whether it is to be looked at instead.
    pub(super) fn apply(&self, memory: Memory, store: &Store<Host>, pagemap: &Pagemap) -> bool {
        let (base, bytes) = (memory.data_ptr(store), memory.data_size(store));
        let Some(stretches) = self.stretches.get() else {
            return self.is_telling(base.addr(), bytes, pagemap);
        };
        for stretch in stretches.iter().filter(|stretch| stretch.end <= bytes) {
            let begin = base.wrapping_add(stretch.start).cast();
            #[expect(
                unsafe_code,
                reason = "the kernel is asked about memory that is mapped already"
            )]
            // SAFETY: the stretch lies inside the instance's memory, and populating it changes no byte of it.
            let asked = unsafe { madvise(begin, stretch.len(), Advice::LinuxPopulateWrite) };
            if asked.is_err() {
                break;
            }
        }
        false
    }

    /// Whether an instance in this memory can tell what it writes to.
    fn is_telling(&self, address: usize, bytes: usize, pagemap: &Pagemap) -> bool {
        let mut looks = self.looks.lock();
        looks.tried += 1;
        if looks.tried > TRIES_MAX {
            drop(looks);
            self.stretches.get_or_init(Box::default);
            return false;
        }
        drop(looks);
        let own = pagemap.own_bytes(address, bytes.min(LOOK_BYTES_MAX));
        own == 0
    }

    /// Looks at an instance whose first run has ended.
    pub(super) fn look(&self, memory: Memory, store: &Store<Host>, pagemap: &Pagemap) {
        let bytes = memory.data_size(store).min(LOOK_BYTES_MAX);
        let Some(written) = pagemap.own_pages(memory.data_ptr(store).addr(), bytes) else {
            return;
        };
        let mut looks = self.looks.lock();
        looks.add(written);
        if looks.taken >= LOOKS {
            let written = std::mem::take(&mut looks.written);
            self.stretches
                .get_or_init(|| stretches(&written, pagemap.page_bytes()));
        }
    }
}

#[cfg(test)]
impl Prefault {
    /// What is asked for, once that is known.
    pub(super) fn stretches(&self) -> Option<&[Range<usize>]> {
        self.stretches.get().map(|stretches| &**stretches)
    }
}

impl Looks {
    fn add(&mut self, written: Vec<u64>) {
        if self.taken == 0 {
            self.written = written;
        } else {
            self.written.truncate(written.len());
            for (all, one) in self.written.iter_mut().zip(written) {
                *all &= one;
            }
        }
        self.taken += 1;
    }
}

/// The longest stretches of set bits, in the order of memory, in bytes.
fn stretches(written: &[u64], page_bytes: usize) -> Box<[Range<usize>]> {
    let is_set = |page: usize| {
        let word = written.get(page / PAGES_PER_WORD).copied().unwrap_or(0);
        word >> (page % PAGES_PER_WORD) & 1 == 1
    };
    let mut found: Vec<Range<usize>> = Vec::new();
    for page in (0..written.len() * PAGES_PER_WORD).filter(|page| is_set(*page)) {
        match found.last_mut() {
            Some(last) if last.end == page => last.end = page + 1,
            _ => found.push(page..page + 1),
        }
    }
    found.sort_by_key(|stretch| std::cmp::Reverse(stretch.len()));
    found.truncate(STRETCHES_MAX);
    let mut pages = 0;
    found.retain(|stretch| {
        pages += stretch.len();
        pages <= PAGES_MAX
    });
    found.sort_by_key(|stretch| stretch.start);
    let bytes = |stretch: Range<usize>| stretch.start * page_bytes..stretch.end * page_bytes;
    found.into_iter().map(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_stretch_across_words() {
        let written = [1 << 63 | 0b1011, 0b1];
        let found = stretches(&written, 4096);
        assert_eq!(*found, [0..8192, 12288..16384, 63 * 4096..65 * 4096]);
    }

    #[test]
    fn the_longest_stretches_are_kept() {
        // Every second page, and at the end two side by side.
        let mut written = vec![0x5555_5555_5555_5555; 4];
        written.push(0b11);
        let found = stretches(&written, 1);
        assert_eq!(found.len(), STRETCHES_MAX);
        assert_eq!(found.last(), Some(&(256..258)));
    }

    #[test]
    fn a_program_that_writes_everywhere_is_left_to_its_faults() {
        assert!(stretches(&[u64::MAX; 17], 4096).is_empty());
    }

    #[test]
    fn only_what_all_wrote_to_is_kept() {
        let mut looks = Looks::default();
        looks.add(vec![0b111, 1]);
        looks.add(vec![0b110]);
        looks.add(vec![0b011, 1]);
        assert_eq!((looks.taken, looks.written), (3, vec![0b010]));
    }
}
