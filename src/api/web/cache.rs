//! Answers of web actions, kept in memory for as long as they say.
//!
//! An answer is kept for a namespace (its action's owner), under the path and query it was asked by, for the host it was
//! asked at and the request headers it varies with. It belongs to one state of one action: whoever looks something up
//! has resolved the action first, and what another state of it answered is not found. So no write has to reach the
//! cache to make it forget.
//!
//! Bounds: bytes per namespace and in all. What was not asked for since the hand last passed goes first (second chance);
//! when it is all namespaces together that keep too much, the one that keeps most gives way.
//!
//! What is kept and no longer fresh is asked for anew by one of those who want it while the others wait for the outcome.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::http::header::{AGE, ETAG, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use dashmap::DashMap;
use foldhash::quality::RandomState;
use parking_lot::RwLock;
use tokio::time::Instant;

use super::answer::Made;
use super::freshness::{self, Keeping};
use crate::model::{Action, Namespace};
use crate::telemetry::metrics;

/// Answers kept for one path and query that differ in the headers they depend on.
const VARIANTS_MAX: usize = 16;

/// What an answer costs beside its bytes: the structures around it.
const OVERHEAD_BYTES: usize = 1024;

/// How often room is looked for in all namespaces together after one answer was put.
const SHRINKS_MAX: usize = 8;

/// Whom and what an answer is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) namespace: &'a Namespace,
    /// Path and query.
    pub(super) target: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) action: &'a Arc<Action>,
    /// Whether the request says who sent it.
    pub(super) is_personal: bool,
}

/// What is kept of what is wanted.
pub(super) enum Looked {
    /// The answer.
    Fresh(Made),
    /// It was kept for too long; whoever holds this may ask for it anew.
    Stale(Arc<tokio::sync::Mutex<()>>),
    Nothing,
}

/// See the module.
pub(in crate::api) struct Cache {
    spaces: DashMap<Namespace, Arc<Space>, RandomState>,
    bytes: AtomicUsize,
    bytes_max: usize,
    namespace_bytes_max: usize,
}

/// What one namespace keeps.
#[derive(Default)]
struct Space {
    /// Read by every look-up, written when something is put: look-ups do not wait for one another.
    held: RwLock<Held>,
}

#[derive(Default)]
struct Held {
    targets: HashMap<Arc<str>, Vec<Arc<Stored>>>,
    /// In the order the hand meets them; those that were replaced meanwhile are gone.
    ring: VecDeque<Weak<Stored>>,
    count: usize,
    bytes: usize,
}

struct Stored {
    target: Arc<str>,
    action: Arc<Action>,
    /// The headers it depends on, and the values they had.
    vary: Vec<(HeaderName, Vec<HeaderValue>)>,
    public: bool,
    made: Made,
    since: Instant,
    fresh: Duration,
    bytes: usize,
    /// Asked for since the hand last passed.
    is_used: AtomicBool,
    renewing: Arc<tokio::sync::Mutex<()>>,
}

impl Stored {
    fn is_for(&self, wanted: &Wanted<'_>) -> bool {
        let same_values = |(name, values): &(HeaderName, Vec<HeaderValue>)| {
            wanted.headers.get_all(name).iter().eq(values)
        };
        (self.public || !wanted.is_personal)
            && is_same(&self.action, wanted.action)
            && self.vary.iter().all(same_values)
    }

    fn age(&self) -> Duration {
        self.since.elapsed()
    }
}

/// Whether this is the same state of the same action.
fn is_same(one: &Arc<Action>, other: &Arc<Action>) -> bool {
    let same_state = || {
        one.fqn == other.fqn
            && one.reached == other.reached
            && one.version == other.version
            && one.updated == other.updated
            && one.exec == other.exec
    };
    Arc::ptr_eq(one, other) || same_state()
}

impl Cache {
    /// A cache of at most `bytes_max` in all, `namespace_bytes_max` for each namespace; with 0 it keeps nothing.
    pub(in crate::api) fn new(bytes_max: u64, namespace_bytes_max: u64) -> Self {
        let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            spaces: DashMap::default(),
            bytes: AtomicUsize::new(0),
            bytes_max: size(bytes_max),
            namespace_bytes_max: size(namespace_bytes_max.min(bytes_max)),
        }
    }

    /// What is kept for `wanted`.
    pub(super) fn get(&self, wanted: &Wanted<'_>) -> Looked {
        let Some(space) = self.spaces.get(wanted.namespace) else {
            return Looked::Nothing;
        };
        let held = space.held.read();
        let stored = held.targets.get(wanted.target);
        let stored = stored.and_then(|all| all.iter().find(|one| one.is_for(wanted)));
        let Some(stored) = stored else {
            return Looked::Nothing;
        };
        let age = stored.age();
        if age >= stored.fresh {
            return Looked::Stale(Arc::clone(&stored.renewing));
        }
        if !stored.is_used.load(Ordering::Relaxed) {
            stored.is_used.store(true, Ordering::Relaxed);
        }
        let mut made = stored.made.clone();
        drop(held);
        made.headers.insert(AGE, HeaderValue::from(age.as_secs()));
        Looked::Fresh(made)
    }

    /// Keeps `made` as it says, and gives it a validator if it has none. `finish` adds what every answer gets beside what
    /// it is: done once here, not once for each who asks.
    pub(super) fn put(
        &self,
        wanted: &Wanted<'_>,
        made: &mut Made,
        finish: impl FnOnce(&mut HeaderMap),
    ) {
        let Some(keeping) = Keeping::of(made) else {
            return;
        };
        if wanted.is_personal && !keeping.public {
            return;
        }
        if !made.headers.contains_key(ETAG) {
            made.headers.insert(ETAG, freshness::etag(&made.body));
        }
        let mut kept = Made {
            // What is shared with an action's result keeps all of the result.
            body: Bytes::copy_from_slice(&made.body),
            ..made.clone()
        };
        // Its value changes with every answer, its place does not.
        kept.headers.insert(AGE, HeaderValue::from_static("0"));
        finish(&mut kept.headers);
        let Some(stored) = self.stored(wanted, keeping, kept) else {
            return;
        };
        // In one expression: the map's own lock must not be held any longer.
        let space = Arc::clone(&self.spaces.entry(wanted.namespace.clone()).or_default());
        let (before, after) = {
            let mut held = space.held.write();
            let before = held.bytes;
            held.put(stored);
            held.shrink(self.namespace_bytes_max);
            (before, held.bytes)
        };
        self.account(before, after);
        self.make_room();
        metrics::web_cache(metrics::WebCache::Kept);
    }

    fn stored(&self, wanted: &Wanted<'_>, keeping: Keeping, made: Made) -> Option<Arc<Stored>> {
        let sizes = made.headers.iter();
        let sizes = sizes.map(|(name, value)| name.as_str().len() + value.len());
        let headers: usize = sizes.sum();
        let mut vary = keeping.vary;
        // An action may build addresses out of it.
        vary.push(HOST);
        let values = |name: HeaderName| {
            let values: Vec<_> = wanted.headers.get_all(&name).iter().cloned().collect();
            (name, values)
        };
        let vary: Vec<_> = vary.into_iter().map(values).collect();
        let varied = vary
            .iter()
            .flat_map(|(_, values)| values)
            .map(HeaderValue::len);
        let bytes = OVERHEAD_BYTES
            + made.body.len()
            + headers
            + 2 * wanted.target.len()
            + varied.sum::<usize>();
        if bytes > self.namespace_bytes_max {
            return None;
        }
        Some(Arc::new(Stored {
            target: wanted.target.into(),
            action: Arc::clone(wanted.action),
            vary,
            public: keeping.public,
            made,
            since: Instant::now(),
            fresh: keeping.fresh,
            bytes,
            is_used: AtomicBool::new(false),
            renewing: Arc::default(),
        }))
    }

    fn account(&self, before: usize, after: usize) {
        if after >= before {
            self.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Takes from those that keep most until all together keep what they may.
    fn make_room(&self) {
        for _ in 0..SHRINKS_MAX {
            let excess = self.bytes().saturating_sub(self.bytes_max);
            if excess == 0 {
                return;
            }
            let largest = self
                .spaces
                .iter()
                .max_by_key(|space| space.held.read().bytes);
            let Some(space) = largest.map(|space| Arc::clone(&space)) else {
                return;
            };
            let (before, after) = {
                let mut held = space.held.write();
                let before = held.bytes;
                held.shrink(before.saturating_sub(excess));
                (before, held.bytes)
            };
            self.account(before, after);
        }
    }

    /// What is kept, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Held {
    /// Puts `new` in the place of what is of no use beside it.
    fn put(&mut self, new: Arc<Stored>) {
        let variants = self.targets.entry(Arc::clone(&new.target)).or_default();
        let (mut count, mut bytes) = (0, 0);
        let mut forget = |old: &Stored| {
            count += 1;
            bytes += old.bytes;
        };
        variants.retain(|old| {
            let is_useful =
                is_same(&old.action, &new.action) && old.age() < old.fresh && old.vary != new.vary;
            if !is_useful {
                forget(old);
            }
            is_useful
        });
        if variants.len() >= VARIANTS_MAX {
            forget(&variants.remove(0));
        }
        self.count = self.count + 1 - count;
        self.bytes = self.bytes + new.bytes - bytes;
        self.ring.push_back(Arc::downgrade(&new));
        variants.push(new);
        if self.ring.len() > 2 * self.count + VARIANTS_MAX {
            self.ring.retain(|stored| stored.strong_count() > 0);
        }
    }

    /// Lets go of what was not asked for until no more than `bytes_max` is kept.
    fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(next) = self.ring.pop_front() else {
                return;
            };
            let Some(stored) = next.upgrade() else {
                continue;
            };
            if stored.is_used.swap(false, Ordering::Relaxed) && stored.age() < stored.fresh {
                self.ring.push_back(next);
                continue;
            }
            self.remove(&stored);
        }
    }

    fn remove(&mut self, stored: &Arc<Stored>) {
        let Some(variants) = self.targets.get_mut(&stored.target) else {
            return;
        };
        let before = variants.len();
        variants.retain(|one| !Arc::ptr_eq(one, stored));
        if variants.len() < before {
            self.count -= 1;
            self.bytes -= stored.bytes;
        }
        if variants.is_empty() {
            self.targets.remove(&stored.target);
        }
    }
}
