//! A clock that wakes in time: the runtime's own timer rounds up to a millisecond, which is more than most figures here.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::thread::{nanosleep, set_current_timer_slack};
use rustix::time::Timespec;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

/// Delivers the moments `start`, `start + 1 / rate`, … before `start + length`, each when it has come: from a thread that
/// sleeps, so some tens of microseconds late on an idle machine. Late or not, the moment is the one that was meant.
pub(crate) fn ticks(start: Instant, rate: f64, length: Duration) -> UnboundedReceiver<Instant> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || tick(start, rate, length, &sender));
    receiver
}

fn tick(start: Instant, rate: f64, length: Duration, sender: &UnboundedSender<Instant>) {
    // Sleeps are 50 µs longer without it. A kernel that refuses makes ticks late, not wrong.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    for count in 0u32.. {
        let after = Duration::from_secs_f64(f64::from(count) / rate);
        sleep_until(start + after);
        if after >= length || sender.send(start + after).is_err() {
            return;
        }
    }
}

fn sleep_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let tv_sec = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let tv_nsec = left.subsec_nanos().into();
        let _ = nanosleep(&Timespec { tv_sec, tv_nsec }); // interrupted or not, the clock decides
    }
}
