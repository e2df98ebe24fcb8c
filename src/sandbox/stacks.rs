//! Who keeps a stack between runs.
//!
//! A store that has called its guest keeps the stack it ran on until it is dropped: the next call saves the way to the
//! pool. A hundred thousand idle instances cannot each keep one (two mappings and some touched pages each), so only
//! so many may. Beyond half of those, an instance that was not called for a while gives its own up ([`Keep::rest`]), so that
//! they go to those that are called; who finds none left gives its own back at the end of every run.
//!
//! wasmtime has no function for that. What it does have is that a stack whose function panicked goes back to the pool
//! and not to its store; so giving back is a call to a host function that unwinds, caught here. It allocates nothing
//! in the guest and costs a few microseconds.
//!
//! A recursion may touch megabytes of a large class's stack. What was touched stays until the stack goes back to the pool,
//! which gives most of it to the system; so a stack that was used deeply is not kept.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::{Func, Store, TypedFunc};

use super::host::Host;
use super::language::Pagemap;

/// A page of the host, which stacks begin at the end of.
const STACK_PAGE_BYTES: usize = 4096;

/// Where a look is taken for whether a stack was used deeply, from its beginning, and how far.
const DEEP_BYTES: usize = 128 << 10;
const LOOK_BYTES: usize = 64 << 10;
/// Runs that take less can have touched some hundred KiB for the first time. A look takes 1.2 µs.
const LONG: Duration = Duration::from_micros(50);

/// The stacks of a class that may be kept.
pub(super) struct Stacks {
    /// What tells which were used deeply, where they are large.
    pagemap: Option<Pagemap>,
    kept: AtomicU32,
    kept_max: u32,
}

impl Stacks {
    /// At most `kept_max` instances keep a stack.
    pub(super) fn new(kept_max: u32) -> Arc<Self> {
        Arc::new(Self {
            pagemap: None,
            kept: AtomicU32::new(0),
            kept_max,
        })
    }

    /// As [`Stacks::new`], but that those that were used deeply are given back.
    pub(super) fn of_large(kept_max: u32) -> Arc<Self> {
        Arc::new(Self {
            pagemap: Some(Pagemap::open()),
            kept: AtomicU32::new(0),
            kept_max,
        })
    }
}

impl Stacks {
    /// What tells which pages were written to, for classes where that is worth asking.
    pub(super) fn pagemap(&self) -> Option<&Pagemap> {
        self.pagemap.as_ref()
    }
}

#[cfg(test)]
impl Stacks {
    /// How many are kept.
    pub(super) fn kept(&self) -> u32 {
        self.kept.load(Ordering::Relaxed)
    }
}

/// An instance's claim to its stack.
pub(super) struct Keep {
    stacks: Arc<Stacks>,
    keeps: bool,
    give_back: Option<TypedFunc<(), ()>>,
    /// When the run that goes on began.
    began: Option<Instant>,
    /// Whether it was ever looked at.
    looked: bool,
    /// First address and length of what a call uses of the kept stack, about.
    used: (usize, usize),
}

/// What the function that gives back unwinds with.
struct Rest;

impl Keep {
    /// For a new instance, which has none yet.
    pub(super) fn new(stacks: &Arc<Stacks>) -> Self {
        Self {
            stacks: Arc::clone(stacks),
            keeps: false,
            give_back: None,
            began: None,
            looked: false,
            used: (0, 0),
        }
    }

    /// First address and length of what a call uses of the kept stack, about; 0 and 0 when none is kept.
    pub(super) fn used(&self) -> (usize, usize) {
        self.used
    }

    /// Begins a run.
    pub(super) fn begin(&mut self) {
        // A small one costs nothing to keep.
        if self.stacks.pagemap.is_some() {
            self.began = Some(Instant::now());
        }
    }

    /// Settles the stack after a run: it is kept if that is possible, or given back.
    pub(super) async fn settle(&mut self, store: &mut Store<Host>) {
        if self.keeps {
            if !self.is_deep() {
                return;
            }
            self.keeps = false;
            self.used = (0, 0);
            self.stacks.kept.fetch_sub(1, Ordering::Relaxed);
        } else if self.claim() {
            self.used = used(store).await;
            return;
        }
        self.give_back(store);
    }

    /// Gives the stack up if others want it: more than half of what may be kept is. Whether there is none left to give up.
    pub(super) fn rest(&mut self, store: &mut Store<Host>) -> bool {
        let kept = self.stacks.kept.load(Ordering::Relaxed);
        if self.keeps && kept > self.stacks.kept_max / 2 {
            self.keeps = false;
            self.used = (0, 0);
            self.stacks.kept.fetch_sub(1, Ordering::Relaxed);
            self.give_back(store);
        }
        !self.keeps
    }

    fn give_back(&mut self, store: &mut Store<Host>) {
        let function = self.give_back.get_or_insert_with(|| {
            let function = Func::wrap(&mut *store, || -> () { resume_unwind(Box::new(Rest)) });
            function
                .typed(&*store)
                .expect("a function without parameters and results")
        });
        let mut call = pin!(function.call_async(&mut *store, ()));
        let mut context = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut context))) {
            Err(payload) if !payload.is::<Rest>() => resume_unwind(payload),
            // An error means that there was no stack to begin with.
            Ok(ended) => debug_assert!(ended.is_ready(), "nothing is waited for"),
            Err(_) => {}
        }
    }

    /// Whether the kept stack was used deeply, as far as that is looked at: after the first run and after long ones.
    fn is_deep(&mut self) -> bool {
        let is_first = !std::mem::replace(&mut self.looked, true);
        let is_long = self.began.is_some_and(|began| began.elapsed() >= LONG);
        if !is_first && !is_long {
            return false;
        }
        let (address, _) = self.used;
        let pagemap = self.stacks.pagemap.as_ref().filter(|_| address > 0);
        pagemap.is_some_and(|pagemap| {
            let below = address.saturating_sub(DEEP_BYTES);
            pagemap.is_written_below(below, LOOK_BYTES)
        })
    }

    fn claim(&mut self) -> bool {
        let most = self.stacks.kept_max;
        let claimed = self
            .stacks
            .kept
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| {
                (kept < most).then_some(kept + 1)
            });
        self.keeps = claimed.is_ok();
        self.keeps
    }
}

/// Where the store's stack is: a function is called on it that tells where it stands.
async fn used(store: &mut Store<Host>) -> (usize, usize) {
    let here = Func::wrap(&mut *store, || -> u64 {
        let local = 0_u8;
        std::ptr::from_ref(std::hint::black_box(&local)).addr() as u64
    });
    let Ok(here) = here.typed::<(), u64>(&*store) else {
        return (0, 0);
    };
    let Ok(address) = here.call_async(&mut *store, ()).await else {
        return (0, 0);
    };
    let address = usize::try_from(address).unwrap_or(0);
    // Stacks begin at a page's end, and a call that does little uses less than that page.
    (address, STACK_PAGE_BYTES - address % STACK_PAGE_BYTES)
}

impl Drop for Keep {
    fn drop(&mut self) {
        if self.keeps {
            self.stacks.kept.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
