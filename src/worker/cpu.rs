//! Who computes: guests share the cores by namespace, one slice at a time.
//!
//! A guest runs in slices: it yields at every epoch tick, about a millisecond of CPU. Two places run slices:
//!
//! - **inline**, on the thread that brought the call, for the first slice of a call whose namespace has not used more
//!   than its share. Most calls end within it, and never see a second thread, a wake-up or a queue;
//! - **behind the gate**, on the guest threads, for everything else. The gate hands out as many tokens as there are
//!   guest threads, each for one slice, to the waiting run whose namespace has used the least CPU time. Guest threads
//!   run at a lower priority than those that serve connections.
//!
//! So a guest that spins costs its neighbours a share and at most about one slice of latency.
//!
//! Invariants: tokens out plus tokens in hand are constant (debug-checked on drop); a run that is dropped while it
//! waits or computes gives its place or token back; CPU time is charged after every poll, wherever it ran.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::clock;
use crate::scheduler::fairness::Runtime;

/// What one namespace has used.
#[derive(Debug, Default)]
pub(crate) struct Share {
    runtime_ns: AtomicU64,
    /// Runs it has in progress.
    pub(super) runs: AtomicUsize,
}

impl Share {
    fn runtime(&self) -> Runtime {
        Runtime(self.runtime_ns.load(Ordering::Relaxed))
    }
}

/// The gate. One per node.
#[derive(Debug)]
pub(crate) struct Cpu {
    state: Mutex<State>,
    /// Runtime of whoever was served last; see [`Runtime::lifted`].
    floor_ns: AtomicU64,
    /// Runs that compute behind the gate or want to; read without the lock to decide about inline runs.
    contended: AtomicUsize,
}

#[derive(Debug)]
struct State {
    /// Tokens in hand.
    free: usize,
    tokens: usize,
    waiting: BTreeMap<Turn, Arc<Place>>,
    tickets: u64,
}

/// Whose turn it is: least CPU time used, then longest in line.
type Turn = (Runtime, u64);

/// Where one run stands.
///
/// Its waker is what the guest's future is polled with: a guest that yields, or whose wait is over, does not wake its
/// executor but joins the line; the executor is woken once the run has a token.
#[derive(Debug)]
struct Place {
    cpu: Arc<Cpu>,
    share: Arc<Share>,
    /// Only locked by who holds the gate's lock.
    standing: Mutex<Standing>,
}

#[derive(Debug)]
struct Standing {
    stage: Stage,
    executor: Waker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for something else than CPU, or has ended.
    Outside,
    /// In line.
    Waiting(Turn),
    /// Has a token and will be polled.
    Granted,
    /// Computes; whether it wants to go on at once.
    Running { woken: bool },
}

impl State {
    /// Gives a token to whose turn it is, if one is free; returns the executor to wake.
    fn dispatch(&mut self, floor_ns: &AtomicU64) -> Option<Waker> {
        if self.free == 0 {
            return None;
        }
        let ((runtime, _), place) = self.waiting.pop_first()?;
        self.free -= 1;
        floor_ns.fetch_max(runtime.0, Ordering::Relaxed);
        let mut standing = place.standing.lock();
        standing.stage = Stage::Granted;
        Some(standing.executor.clone())
    }
}

impl Cpu {
    /// A gate with `tokens` tokens: one per guest thread.
    pub(crate) fn new(tokens: usize) -> Arc<Self> {
        let state = State {
            free: tokens,
            tokens,
            waiting: BTreeMap::new(),
            tickets: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            floor_ns: AtomicU64::new(0),
            contended: AtomicUsize::new(0),
        })
    }

    fn floor(&self) -> Runtime {
        Runtime(self.floor_ns.load(Ordering::Relaxed))
    }

    /// What the namespace has used, as far as it counts now.
    pub(crate) fn runtime(&self, share: &Share) -> Runtime {
        share.runtime().lifted(self.floor())
    }

    /// Whether the namespace may compute where it is: nobody is behind the gate, or it has used less than they have.
    pub(crate) fn may_run_inline(&self, share: &Share) -> bool {
        self.contended.load(Ordering::Relaxed) == 0 || share.runtime() < self.floor()
    }

    /// Adds `used` to what the namespace has used.
    fn charge(&self, share: &Share, used: Duration) {
        let floor = self.floor();
        let charged = |now| Some(Runtime(now).charged(used, floor).0);
        // Always `Some`, so this cannot fail.
        let _before = share
            .runtime_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged);
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        debug_assert_eq!(state.free, state.tokens, "a token was lost");
    }
}

impl Place {
    /// Joins the line, or notes that it wants to as soon as its slice is over.
    fn want(self: &Arc<Self>) {
        let woken = {
            let mut state = self.cpu.state.lock();
            let mut standing = self.standing.lock();
            match standing.stage {
                Stage::Outside => self.join(&mut state, &mut standing),
                Stage::Running { .. } => standing.stage = Stage::Running { woken: true },
                Stage::Waiting(_) | Stage::Granted => {}
            }
            drop(standing);
            state.dispatch(&self.cpu.floor_ns)
        };
        woken.into_iter().for_each(Waker::wake);
    }

    fn join(self: &Arc<Self>, state: &mut State, standing: &mut Standing) {
        self.cpu.contended.fetch_add(1, Ordering::Relaxed);
        state.tickets += 1;
        let turn = (self.cpu.runtime(&self.share), state.tickets);
        standing.stage = Stage::Waiting(turn);
        state.waiting.insert(turn, Arc::clone(self));
    }

    /// Whether it has a token; from here on it computes.
    fn begin(&self, executor: &Waker) -> bool {
        let _state = self.cpu.state.lock();
        let mut standing = self.standing.lock();
        standing.executor.clone_from(executor);
        let granted = standing.stage == Stage::Granted;
        if granted {
            standing.stage = Stage::Running { woken: false };
        }
        granted
    }

    /// Gives its token, or its turn, back; a run that yielded and has not ended joins the line again.
    fn end(self: &Arc<Self>, ended: bool) {
        let woken = {
            let mut state = self.cpu.state.lock();
            let mut standing = self.standing.lock();
            let stage = std::mem::replace(&mut standing.stage, Stage::Outside);
            match stage {
                Stage::Outside => return,
                Stage::Waiting(turn) => drop(state.waiting.remove(&turn)),
                Stage::Granted | Stage::Running { .. } => state.free += 1,
            }
            self.cpu.contended.fetch_sub(1, Ordering::Relaxed);
            if !ended && stage == (Stage::Running { woken: true }) {
                self.join(&mut state, &mut standing);
            }
            drop(standing);
            state.dispatch(&self.cpu.floor_ns)
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.want();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.want();
    }
}

/// A run behind the gate: polled only with a token, one slice per token.
pub(crate) struct Gated<F: ?Sized> {
    run: Pin<Box<F>>,
    place: Arc<Place>,
    begun: bool,
}

impl<F: Future + ?Sized> Gated<F> {
    /// Puts `run`, which may have been polled before, behind the gate.
    pub(crate) fn new(run: Pin<Box<F>>, cpu: Arc<Cpu>, share: Arc<Share>) -> Self {
        let standing = Standing {
            stage: Stage::Outside,
            executor: Waker::noop().clone(),
        };
        let place = Arc::new(Place {
            cpu,
            share,
            standing: Mutex::new(standing),
        });
        Self {
            run,
            place,
            begun: false,
        }
    }
}

impl<F: Future + ?Sized> Future for Gated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let mut granted = this.place.begin(cx.waker());
        if !this.begun {
            this.begun = true;
            this.place.want();
            granted = this.place.begin(cx.waker());
        }
        if !granted {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&this.place));
        let polled = this.run.as_mut().poll(&mut Context::from_waker(&waker));
        this.place.end(polled.is_ready());
        polled
    }
}

impl<F: ?Sized> Drop for Gated<F> {
    fn drop(&mut self) {
        self.place.end(true);
    }
}

/// Counts the CPU time of polling `run`, for its record and against its namespace; resolves to what `run` does, and when
/// it did.
pub(crate) struct Metered<'a, F: ?Sized> {
    pub(crate) run: Pin<&'a mut F>,
    pub(crate) cpu: &'a Cpu,
    pub(crate) share: &'a Share,
    pub(crate) used: &'a mut Duration,
    /// Now, as of the first poll.
    pub(crate) began: Option<Instant>,
}

impl<F: Future + ?Sized> Future for Metered<'_, F> {
    type Output = (F::Output, Instant);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let began = this.began.take().unwrap_or_else(Instant::now);
        clock::begin(began);
        let polled = this.run.as_mut().poll(cx);
        let ended = Instant::now();
        let used = clock::used(began, ended);
        *this.used += used;
        this.cpu.charge(this.share, used);
        polled.map(|output| (output, ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Burns `slices` slices of a millisecond each, yielding after each.
    async fn burn(
        cpu: &Cpu,
        share: &Share,
        slices: u32,
        order: &Mutex<Vec<&'static str>>,
        name: &'static str,
    ) {
        for _ in 0..slices {
            order.lock().push(name);
            cpu.charge(share, Duration::from_millis(1));
            // As a guest yields at an epoch tick: woken at once, not when the runtime is idle.
            let mut yielded = false;
            std::future::poll_fn(|cx| {
                cx.waker().wake_by_ref();
                if std::mem::replace(&mut yielded, true) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
    }

    #[tokio::test]
    async fn namespaces_that_spin_take_turns_however_many_runs_they_have() {
        let cpu = Cpu::new(1);
        let (many, one) = (Arc::new(Share::default()), Arc::new(Share::default()));
        let order = Arc::new(Mutex::new(Vec::new()));
        let spawn = |share: &Arc<Share>, name| {
            let (gate, share, order) = (Arc::clone(&cpu), Arc::clone(share), Arc::clone(&order));
            let inner = (Arc::clone(&gate), Arc::clone(&share));
            let run = async move { burn(&inner.0, &inner.1, 50, &order, name).await };
            tokio::spawn(Gated::new(Box::pin(run), gate, share))
        };
        let mut runs: Vec<_> = (0..10).map(|_| spawn(&many, "many")).collect();
        runs.push(spawn(&one, "one"));
        for run in runs {
            run.await.expect("the run ends");
        }
        let order = order.lock();
        let last = order
            .iter()
            .rposition(|name| *name == "one")
            .expect("it ran");
        assert!(
            last < 130,
            "50 slices of one namespace took {last} turns beside ten runs of another"
        );
    }

    #[tokio::test]
    async fn a_run_dropped_at_the_gate_gives_its_token_back() {
        let cpu = Cpu::new(1);
        let share = Arc::new(Share::default());
        let gated = |run| Gated::new(Box::pin(run), Arc::clone(&cpu), Arc::clone(&share));
        let stuck = tokio::spawn(gated(
            Box::pin(std::future::pending()) as Pin<Box<dyn Future<Output = ()> + Send>>
        ));
        tokio::task::yield_now().await;
        stuck.abort();
        assert!(stuck.await.is_err());
        gated(Box::pin(async {}) as Pin<Box<dyn Future<Output = ()> + Send>>).await;
        assert_eq!(cpu.state.lock().free, 1);
    }

    #[test]
    fn only_namespaces_below_their_share_run_inline_beside_spinners() {
        let cpu = Cpu::new(1);
        let (heavy, light) = (Share::default(), Share::default());
        assert!(cpu.may_run_inline(&heavy), "nobody else computes");
        cpu.contended.store(1, Ordering::Relaxed);
        cpu.charge(&heavy, Duration::from_secs(1));
        cpu.floor_ns.store(900_000_000, Ordering::Relaxed);
        assert!(!cpu.may_run_inline(&heavy));
        assert!(cpu.may_run_inline(&light));
    }
}
