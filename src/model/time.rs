//! Wall-clock stamps, as the wire has them: whole milliseconds since 1970.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
///
/// For records and for the wire only. Deadlines and ages are measured with `tokio::time::Instant`, so a step of the
/// wall clock never ends or prolongs a run.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Now, by the clock that this process goes by ([`follow`]); a clock before 1970 reads as 0.
    #[must_use]
    pub fn now() -> Self {
        Self::from_nanos(nanos_now())
    }

    /// Drops what is finer than a millisecond.
    #[must_use]
    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos / 1_000_000)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn millis(self) -> u64 {
        self.0
    }

    /// Milliseconds from `earlier` to `self`; 0 when the clock was set back in between.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// How far the clock that this process goes by is ahead of the machine's, nanoseconds.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// Clocks that are no further apart than this are one clock: as far as it takes to ask another machine for the time.
const APART_MAX_NANOS: i64 = 250_000_000;

/// Goes by a clock that says `told` now, where the machine's says something else. Says how far that one is ahead of the
/// machine's, milliseconds, if that is news.
///
/// Nodes of a cluster go by Redis's clock: whatever is compared between them (when a schedule is due, when a record is
/// too old, which one is younger) is of one clock then.
pub(crate) fn follow(told: Timestamp) -> Option<i64> {
    let before = AHEAD.load(Ordering::Relaxed);
    let ahead = ahead(before, machine_nanos(), told)?;
    AHEAD.store(ahead, Ordering::Relaxed);
    Some(ahead / 1_000_000)
}

/// How far to be ahead of the machine's clock where that says `machine`, and the one that is followed says `told`; `None`: as
/// before.
fn ahead(before: i64, machine: u64, told: Timestamp) -> Option<i64> {
    let signed = |nanos: u64| i64::try_from(nanos).unwrap_or(i64::MAX);
    let needed = signed(told.0.saturating_mul(1_000_000)) - signed(machine);
    if (needed - before).abs() <= APART_MAX_NANOS {
        return None;
    }
    Some(if needed.abs() <= APART_MAX_NANOS {
        0
    } else {
        needed
    })
}

/// Nanoseconds since 1970, by the clock that this process goes by.
#[must_use]
pub fn nanos_now() -> u64 {
    machine_nanos().saturating_add_signed(AHEAD.load(Ordering::Relaxed))
}

/// Nanoseconds since 1970, by the machine's clock.
fn machine_nanos() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// `2018-03-13T21:06:34.652259951Z`, as log lines carry it.
#[must_use]
pub fn iso8601(nanos: u64) -> String {
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second % 3600 / 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Days since 1970 to year, month and day; Howard Hinnant's `civil_from_days`, for dates after 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_clock_is_followed_where_it_is_further_apart_than_asking_takes() {
        const HOUR: i64 = 3_600_000_000_000;
        let machine = 1_700_000_000_000_000_000;
        let told = |ahead_ms: i64| Timestamp(1_700_000_000_000_u64.saturating_add_signed(ahead_ms));
        assert_eq!(ahead(0, machine, told(200)), None);
        assert_eq!(ahead(0, machine, told(-3_600_000)), Some(-HOUR));
        assert_eq!(ahead(-HOUR, machine, told(-3_600_100)), None);
        assert_eq!(ahead(-HOUR, machine, told(3_600_000)), Some(HOUR));
        // The machine's was put right.
        assert_eq!(ahead(HOUR, machine, told(30)), Some(0));
        assert!(ahead(0, u64::MAX, told(0)).is_some());
    }

    #[test]
    fn stamps_print_as_iso_8601_with_nanoseconds() {
        assert_eq!(iso8601(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(
            iso8601(1_520_975_194_652_259_951),
            "2018-03-13T21:06:34.652259951Z"
        );
        assert_eq!(
            iso8601(1_709_164_800_000_000_001),
            "2024-02-29T00:00:00.000000001Z"
        );
    }

    #[test]
    fn a_clock_set_back_gives_zero_not_a_huge_duration() {
        assert_eq!(Timestamp(5).millis_since(Timestamp(9)), 0);
    }
}
