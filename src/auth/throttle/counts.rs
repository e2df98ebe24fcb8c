//! Calls per minute, and over the last 60 seconds.

use super::Window;
use crate::model::Timestamp;

/// A moment, as rates see it.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    /// Minutes of the epoch; they wrap after six weeks, which nobody notices.
    pub(super) minute: u16,
    /// Seconds of the minute that have passed.
    pub(super) second: u64,
}

impl Moment {
    pub(super) fn of(now: Timestamp) -> Self {
        let seconds = now.millis() / 1000;
        Self {
            minute: u16::try_from(seconds / 60 % (1 << 16)).unwrap_or_default(),
            second: seconds % 60,
        }
    }

    /// Seconds that are left of the minute.
    pub(super) fn left(self) -> u64 {
        60 - self.second
    }
}

/// The calls of a minute and of the one before it.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    pub(super) minute: u16,
    pub(super) before: u64,
    pub(super) now: u64,
}

/// Counts end here; a limit beyond it is none.
pub(super) const COUNT_MAX: u64 = (1 << 24) - 1;

impl Counts {
    pub(super) fn unpack(packed: u64) -> Self {
        Self {
            minute: u16::try_from(packed >> 48).unwrap_or_default(),
            before: packed >> 24 & COUNT_MAX,
            now: packed & COUNT_MAX,
        }
    }

    pub(super) fn pack(self) -> u64 {
        u64::from(self.minute) << 48 | self.before << 24 | self.now
    }

    /// As they are in `minute`.
    pub(super) fn in_minute(self, minute: u16) -> Self {
        let (before, now) = match minute.wrapping_sub(self.minute) {
            0 => return self,
            1 => (self.now, 0),
            // Long ago, or the clock stepped back.
            _ => (0, 0),
        };
        Self {
            minute,
            before,
            now,
        }
    }

    /// The calls that count against a limit, one more included.
    pub(super) fn with_one_more(self, window: Window, moment: Moment) -> u64 {
        match window {
            Window::Minute => self.now + 1,
            Window::Sliding => self.now + 1 + self.before * moment.left() / 60,
        }
    }

    /// Seconds after which one more may be allowed.
    pub(super) fn retry_after_s(self, window: Window, moment: Moment, allowed: u64) -> u32 {
        let left = moment.left();
        let seconds = match window {
            Window::Minute => left,
            // This minute's calls must become those of the minute before, and fade.
            Window::Sliding if self.now >= allowed => left + 1,
            // Those of the minute before must fade.
            Window::Sliding => {
                left.saturating_sub((allowed - self.now - 1) * 60 / self.before.max(1))
            }
        };
        u32::try_from(seconds.clamp(1, 60)).unwrap_or(60)
    }
}
