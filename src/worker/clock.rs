//! CPU time of one poll, without a system call for most of them.
//!
//! The thread's own clock costs a tenth of a warm call to read. So a poll that is over within [`BRIEF`] counts as long as it
//! took by the wall's clock, which costs nothing like it: should its thread have lost the core meanwhile, that errs by less
//! than [`BRIEF`]. For longer ones the thread's clock decides, against a reading from before the poll that is at most
//! [`STALE`] older than it.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Polls shorter than this are taken at their wall time.
const BRIEF: Duration = Duration::from_micros(100);

/// Oldest reading of the thread's clock that a poll may begin with.
const STALE: Duration = Duration::from_micros(200);

thread_local! {
    /// The thread's clock when it was last read, and when that was.
    static READ: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// A poll begins, at `now`, on this thread.
pub(super) fn begin(now: Instant) {
    let is_fresh = |(at, _)| now.saturating_duration_since(at) < STALE;
    if !READ.get().is_some_and(is_fresh) {
        READ.set(Some((now, thread_cpu())));
    }
}

/// CPU time of the poll that began at `began` on this thread, and ended at `ended`.
pub(super) fn used(began: Instant, ended: Instant) -> Duration {
    let took = ended.saturating_duration_since(began);
    if took < BRIEF {
        return took;
    }
    let now = thread_cpu();
    let Some((at, before)) = READ.replace(Some((ended, now))) else {
        return took;
    };
    // Readings are not older than a poll's beginning by more than this thread was busy for.
    let earlier = began.saturating_duration_since(at);
    now.saturating_sub(before).saturating_sub(earlier).min(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin(time: Duration) {
        let began = thread_cpu();
        while thread_cpu() - began < time {}
    }

    fn measured(poll: impl FnOnce()) -> (Duration, Duration) {
        let began = Instant::now();
        begin(began);
        poll();
        let ended = Instant::now();
        (used(began, ended), ended - began)
    }

    #[test]
    fn a_brief_poll_counts_as_long_as_it_took() {
        let began = Instant::now();
        begin(began);
        // Its thread computes for longer than the poll is said to have taken: the thread's clock is not asked.
        spin(2 * BRIEF);
        let took = BRIEF / 2;
        assert_eq!(used(began, began + took), took);
    }

    #[test]
    fn a_long_poll_counts_what_it_computed_and_not_what_it_slept() {
        let slept = Duration::from_millis(30);
        let (used, took) = measured(|| {
            spin(Duration::from_millis(5));
            // Waits on the thread, which computes nothing meanwhile.
            let (_keep, nobody) = std::sync::mpsc::channel::<()>();
            assert!(nobody.recv_timeout(slept).is_err());
        });
        assert!(took >= slept);
        assert!(used >= Duration::from_millis(4), "{used:?}");
        assert!(used <= took - slept + STALE, "{used:?} of {took:?}");
    }

    #[test]
    fn polls_that_follow_each_other_are_not_counted_twice() {
        let before = thread_cpu();
        let mut sum = Duration::ZERO;
        for _ in 0..50 {
            sum += measured(|| spin(Duration::from_micros(150))).0;
        }
        let all = thread_cpu() - before;
        assert!(sum <= all + 50 * BRIEF / 10, "{sum:?} of {all:?}");
        assert!(sum >= all / 2, "{sum:?} of {all:?}");
    }
}
