//! What happens to an idle instance: how long it is kept, and which goes first when live work wants the memory.
//!
//! A policy sees one action's history and one instance's facts, and answers with a duration or a rank. All three are
//! cheap enough to be asked on every release.

use std::time::Duration;

use serde::Deserialize;

/// Which policy, by its name in the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Everybody the same time; the least recently used goes first.
    #[default]
    Fixed,
    /// As long as 99 % of this action's gaps between calls were, at most four times the fixed time.
    Histogram,
    /// The fixed time; the cheapest to bring back per byte and call goes first.
    GreedyDual,
}

/// What is known of one action in one namespace.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Gaps between calls, in buckets that double: under 1 s, 2 s, 4 s, …
    gaps: [u32; Self::BUCKETS],
    /// Calls so far.
    pub(crate) calls: u64,
    /// What the last start cost, microseconds.
    pub(crate) start_us: u64,
}

impl History {
    const BUCKETS: usize = 16;

    /// Notes a call that came `gap` after the one before.
    pub(crate) fn note(&mut self, gap: Option<Duration>) {
        self.calls = self.calls.saturating_add(1);
        let Some(gap) = gap else { return };
        let bucket = usize::try_from(64 - gap.as_secs().leading_zeros()).unwrap_or(usize::MAX);
        let count = &mut self.gaps[bucket.min(Self::BUCKETS - 1)];
        *count = count.saturating_add(1);
    }

    /// A gap that 99 % of those seen do not exceed; `None` until ten were seen.
    fn gap_p99(&self) -> Option<Duration> {
        let seen: u64 = self.gaps.iter().map(|count| u64::from(*count)).sum();
        if seen < 10 {
            return None;
        }
        let mut below = 0u64;
        let bucket = self.gaps.iter().position(|count| {
            below += u64::from(*count);
            below * 100 >= seen * 99
        })?;
        Some(Duration::from_secs(1 << bucket))
    }
}

/// One idle instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) idle_for: Duration,
    pub(crate) bytes: usize,
}

/// Decides about idle instances.
pub(crate) trait Policy: Send + Sync + 'static {
    /// How long an instance of this action is kept after its last call.
    fn keep(&self, history: &History) -> Duration;

    /// The lower, the sooner it is given up to make room.
    fn rank(&self, _history: &History, idle: &Idle) -> u64 {
        u64::MAX - u64::try_from(idle.idle_for.as_micros()).unwrap_or(u64::MAX)
    }
}

struct Fixed(Duration);
struct Histogram(Duration);
struct GreedyDual(Duration);

impl Policy for Fixed {
    fn keep(&self, _: &History) -> Duration {
        self.0
    }
}

impl Policy for Histogram {
    fn keep(&self, history: &History) -> Duration {
        history.gap_p99().map_or(self.0, |gap| gap.min(self.0 * 4))
    }
}

impl Policy for GreedyDual {
    fn keep(&self, _: &History) -> Duration {
        self.0
    }

    /// Calls × cost of a start ÷ size, halved for every keep-alive it has been idle: the ageing that greedy-dual's
    /// clock gives, without a clock that all instances share.
    fn rank(&self, history: &History, idle: &Idle) -> u64 {
        let value = history
            .calls
            .saturating_mul(history.start_us.max(1))
            .saturating_mul(1 << 20);
        let ages = idle.idle_for.as_nanos() * 8 / self.0.as_nanos().max(1);
        let age = u32::try_from(ages).unwrap_or(63).min(63);
        (value / u64::try_from(idle.bytes.max(1)).unwrap_or(u64::MAX)) >> age
    }
}

/// The policy of that name, around a fixed keep-alive of `keep`.
pub(crate) fn policy(kind: Kind, keep: Duration) -> Box<dyn Policy> {
    match kind {
        Kind::Fixed => Box::new(Fixed(keep)),
        Kind::Histogram => Box::new(Histogram(keep)),
        Kind::GreedyDual => Box::new(GreedyDual(keep)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn called_every(gap: Duration, times: usize) -> History {
        let mut history = History::default();
        (0..times).for_each(|_| history.note(Some(gap)));
        history
    }

    #[test]
    fn the_fixed_policy_keeps_everybody_equally_and_gives_up_the_longest_idle() {
        let policy = policy(Kind::Fixed, seconds(60));
        assert_eq!(policy.keep(&called_every(seconds(1), 100)), seconds(60));
        let history = History::default();
        let old = policy.rank(
            &history,
            &Idle {
                idle_for: seconds(9),
                bytes: 1,
            },
        );
        let new = policy.rank(
            &history,
            &Idle {
                idle_for: seconds(1),
                bytes: 1,
            },
        );
        assert!(old < new);
    }

    #[test]
    fn the_histogram_keeps_as_long_as_the_gaps_are_within_bounds() {
        let policy = policy(Kind::Histogram, seconds(60));
        assert_eq!(
            policy.keep(&called_every(seconds(5), 5)),
            seconds(60),
            "too little is known"
        );
        assert_eq!(policy.keep(&called_every(seconds(5), 50)), seconds(8));
        assert_eq!(policy.keep(&called_every(seconds(5_000), 50)), seconds(240));
    }

    #[test]
    fn greedy_dual_gives_up_large_cheap_and_seldom_used_instances_first() {
        let policy = policy(Kind::GreedyDual, seconds(60));
        let mut dear = called_every(seconds(1), 100);
        dear.start_us = 1_000;
        let mut cheap = called_every(seconds(1), 100);
        cheap.start_us = 10;
        let small = Idle {
            idle_for: seconds(1),
            bytes: 1 << 16,
        };
        let large = Idle {
            idle_for: seconds(1),
            bytes: 1 << 24,
        };
        let stale = Idle {
            idle_for: seconds(50),
            bytes: 1 << 16,
        };
        assert!(policy.rank(&cheap, &small) < policy.rank(&dear, &small));
        assert!(policy.rank(&dear, &large) < policy.rank(&dear, &small));
        assert!(policy.rank(&dear, &stale) < policy.rank(&dear, &small));
    }
}
