//! From an action at hand to its lane without reading a name.
//!
//! A lane is known by two names, and with many actions those are four lines of memory that nothing else needs. The
//! action itself is at hand already, so its address finds the lane, which is asked whether it is still the one. Nothing
//! depends on what is here: a shortcut that is missing or wrong is a look by name.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use super::lane::Lane;
use crate::ahead::fetch_value;
use crate::model::{Action, Namespace};

/// Most shortcuts; they are cleared at every reaping, so this bounds what is called in between.
const SHORTCUTS_MAX: usize = 1 << 16;

/// Addresses differ in their middle bits; the map wants both ends of a hash to differ.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        // The golden ratio, as Fibonacci hashing has it.
        let mixed = (self.0 ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Shortcuts {
    /// By the addresses of the action and of the namespace's text.
    lanes: DashMap<(usize, usize), Arc<Lane>, BuildHasherDefault<AddressHasher>>,
    count: AtomicUsize,
}

fn key(namespace: &Namespace, action: &Arc<Action>) -> (usize, usize) {
    (
        Arc::as_ptr(action).addr(),
        namespace.as_str().as_ptr().addr(),
    )
}

impl Shortcuts {
    /// The lane of `action` invoked by `namespace`, if its shortcut is here.
    pub(super) fn find(&self, namespace: &Namespace, action: &Arc<Action>) -> Option<Arc<Lane>> {
        let lane = self.lanes.get(&key(namespace, action))?;
        fetch_value(&**lane);
        lane.is_of(namespace, action).then(|| Arc::clone(&lane))
    }

    /// Remembers the lane, which was found by name for these two.
    pub(super) fn note(&self, namespace: &Namespace, action: &Arc<Action>, lane: &Arc<Lane>) {
        if self.count.fetch_add(1, Ordering::Relaxed) < SHORTCUTS_MAX {
            self.lanes.insert(key(namespace, action), Arc::clone(lane));
        }
    }

    /// Forgets all of them.
    pub(super) fn clear(&self) {
        self.lanes.clear();
        self.count.store(0, Ordering::Relaxed);
    }
}
