//! Who keeps a stack between runs.
//!
//! A store that has called its guest keeps the stack it ran on until it is dropped: the next call saves the way to the
//! pool. A hundred thousand idle instances cannot each keep one (two mappings and some touched pages each), so only
//! so many may; the rest give theirs back at the end of every run.
//!
//! wasmtime has no function for that. What it does have is that a stack whose function panicked goes back to the pool
//! and not to its store; so giving back is a call to a host function that unwinds, caught here. It allocates nothing
//! in the guest and costs a few microseconds, paid only by instances beyond the number that may keep theirs.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use wasmtime::{Func, Store, TypedFunc};

use super::host::Host;

/// A page of the host, which stacks begin at the end of.
const STACK_PAGE_BYTES: usize = 4096;

/// The stacks of a class that may be kept.
pub(super) struct Stacks {
    kept: AtomicU32,
    kept_max: u32,
}

impl Stacks {
    /// At most `kept_max` instances keep a stack.
    pub(super) fn new(kept_max: u32) -> Arc<Self> {
        Arc::new(Self {
            kept: AtomicU32::new(0),
            kept_max,
        })
    }
}

/// An instance's claim to its stack.
pub(super) struct Keep {
    stacks: Arc<Stacks>,
    keeps: bool,
    give_back: Option<TypedFunc<(), ()>>,
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
            used: (0, 0),
        }
    }

    /// First address and length of what a call uses of the kept stack, about; 0 and 0 when none is kept.
    pub(super) fn used(&self) -> (usize, usize) {
        self.used
    }

    /// Settles the stack after a run: it is kept if that is possible, or given back.
    pub(super) async fn settle(&mut self, store: &mut Store<Host>) {
        if self.keeps {
            return;
        }
        if self.claim() {
            self.used = used(store).await;
            return;
        }
        let function = self.give_back.get_or_insert_with(|| {
            let function = Func::wrap(&mut *store, || -> () { resume_unwind(Box::new(Rest)) });
            function
                .typed(&*store)
                .expect("a function without parameters and results")
        });
        let mut call = pin!(function.call_async(&mut *store, ()));
        poll_fn(|cx| {
            match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
                Err(payload) if !payload.is::<Rest>() => resume_unwind(payload),
                // It never waits, and an error means that there was no stack to begin with.
                Err(_) | Ok(_) => Poll::Ready(()),
            }
        })
        .await;
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
