//! What a warm call is about to touch, asked of memory before it is needed.
//!
//! An instance that has not run for a while has left the caches, and most of what a call needs of it is found by
//! following pointers: one miss after the other, each with a walk of the page tables. Here the addresses are noted when
//! the instance is given back, and asked for all at once when it is claimed, some hundred nanoseconds before they are
//! needed. With 1,000 actions called in turn that is worth a tenth of the rate; with one it costs some nanoseconds.
//!
//! It is a hint and nothing else: an address that is wrong, or long gone, costs a little time and changes nothing. So
//! addresses are kept as numbers, and may be guesses where wasmtime does not tell its layout.

use std::sync::Arc;

/// Bytes that come from memory together.
const LINE_BYTES: usize = 64;
/// Spans kept: as many as fit one line.
const SPANS: usize = 8;
/// Most lines of one span; the length shares a word with the address.
const LINES_MAX: usize = LINE_BYTES - 1;

/// Spans of memory; see the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// Address of the first line, with the number of lines in the bits below it; 0 is none.
    spans: [usize; SPANS],
}

impl Ahead {
    /// Adds the memory of a value; nothing when all spans are taken.
    pub(crate) fn add<T: ?Sized>(&mut self, value: &T) {
        self.add_at(std::ptr::from_ref(value).addr(), size_of_val(value));
    }

    /// Adds a shared value with its counts, which lie before it.
    pub(crate) fn add_shared<T: ?Sized>(&mut self, value: &T) {
        let counts = 2 * size_of::<usize>();
        let address = std::ptr::from_ref(value).addr();
        self.add_at(address - counts, counts + size_of_val(value));
    }

    /// Adds `bytes` from `address` on; nothing when all spans are taken.
    pub(crate) fn add_at(&mut self, address: usize, bytes: usize) {
        if bytes > 0
            && let Some(free) = self.spans.iter_mut().find(|span| **span == 0)
        {
            *free = span(address, bytes);
        }
    }

    /// Adds all of `others` that has room.
    pub(crate) fn add_all(&mut self, others: &Self) {
        let free = self.spans.iter_mut().filter(|span| **span == 0);
        let others = others.spans.iter().filter(|span| **span != 0);
        for (free, other) in free.zip(others) {
            *free = *other;
        }
    }

    /// Asks for all of it, in the order it was added. Waits for nothing.
    #[inline]
    pub(crate) fn fetch(&self) {
        for span in self.spans {
            let first = span & !LINES_MAX;
            for line in 0..span & LINES_MAX {
                fetch(first.wrapping_add(line * LINE_BYTES));
            }
        }
    }
}

/// Asks for the memory of a value. Waits for nothing.
#[inline]
pub(crate) fn fetch_value<T>(value: &T) {
    fetch_at(std::ptr::from_ref(value).addr(), size_of::<T>());
}

/// Asks for the memory of a shared value, and for its counts, which lie before it. Waits for nothing.
#[inline]
pub(crate) fn fetch_shared<T>(value: &Arc<T>) {
    let counts = 2 * size_of::<usize>();
    fetch_at(Arc::as_ptr(value).addr() - counts, counts + size_of::<T>());
}

#[inline]
fn fetch_at(address: usize, bytes: usize) {
    let first = address & !LINES_MAX;
    for line in 0..(address - first + bytes).div_ceil(LINE_BYTES) {
        fetch(first.wrapping_add(line * LINE_BYTES));
    }
}

fn span(address: usize, bytes: usize) -> usize {
    let first = address & !LINES_MAX;
    let lines = (address - first + bytes).div_ceil(LINE_BYTES);
    first | lines.min(LINES_MAX)
}

#[inline]
#[cfg(target_arch = "x86_64")]
fn fetch(address: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    #[expect(unsafe_code, reason = "the standard library has no safe prefetch yet")]
    // SAFETY: needs SSE, which is part of x86-64. A prefetch accesses nothing and cannot fault, whatever the address.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address));
    }
}

#[inline]
#[cfg(not(target_arch = "x86_64"))]
fn fetch(_address: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_whole_lines() {
        assert_eq!(span(0x1000, 64), 0x1000 | 1);
        assert_eq!(span(0x103f, 2), 0x1000 | 2);
        assert_eq!(span(0x1000, 1 << 20), 0x1000 | LINES_MAX);
    }

    #[test]
    fn any_address_may_be_asked_for() {
        let mut ahead = Ahead::default();
        for address in [1, 0xdead_0000, usize::MAX - 200] {
            ahead.add_at(address, 100);
        }
        ahead.fetch();
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut ahead = Ahead::default();
        for address in 1..20 {
            ahead.add_at(address << 12, 1);
        }
        assert_eq!(ahead.spans[SPANS - 1], (8 << 12) | 1);
    }
}
