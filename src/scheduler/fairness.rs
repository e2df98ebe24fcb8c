//! Whose turn it is: the namespace that has used the least CPU time, then the work that has waited longest.
//!
//! Each namespace has a virtual runtime that grows with the CPU time of its guests. A namespace that was away does not
//! save up: when it returns it is lifted to the floor (the runtime of whoever was served last) less a credit. The
//! credit is what a namespace that runs seldom and briefly may use at once, ahead of those that run all the time.

use std::time::Duration;

/// How far behind the floor a returning namespace may be. It balances a light caller's burst (served without queueing
/// behind spinners) against the time a namespace could hog by sleeping first; 20 slices of 1 ms.
const CREDIT_NS: u64 = 20_000_000;

/// CPU time a namespace has used, comparable between namespaces. Nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Runtime(pub(crate) u64);

impl Runtime {
    /// After using `cpu` more, when the namespace served last stood at `floor`.
    pub(crate) fn charged(self, cpu: Duration, floor: Self) -> Self {
        let used = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        Self(self.lifted(floor).0.saturating_add(used))
    }

    /// Where it stands now: at least the floor less the credit.
    pub(crate) fn lifted(self, floor: Self) -> Self {
        Self(self.0.max(floor.0.saturating_sub(CREDIT_NS)))
    }
}

/// One namespace with work waiting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<T> {
    pub(crate) runtime: Runtime,
    /// Order of acceptance of its oldest work.
    pub(crate) oldest: u64,
    pub(crate) what: T,
}

/// The candidate whose turn it is.
pub(crate) fn next<T>(candidates: impl IntoIterator<Item = Candidate<T>>) -> Option<T> {
    let first = candidates.into_iter().min_by_key(|c| (c.runtime, c.oldest));
    first.map(|candidate| candidate.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_least_served_goes_first_and_age_breaks_ties() {
        let candidate = |runtime, oldest, what| Candidate {
            runtime: Runtime(runtime),
            oldest,
            what,
        };
        assert_eq!(
            next([candidate(5, 1, "heavy"), candidate(2, 9, "light")]),
            Some("light")
        );
        assert_eq!(
            next([candidate(2, 9, "young"), candidate(2, 1, "old")]),
            Some("old")
        );
        assert_eq!(next(Vec::<Candidate<()>>::new()), None);
    }

    #[test]
    fn being_away_does_not_save_up_time() {
        let floor = Runtime(1_000_000_000_000);
        let back = Runtime(0).charged(ms(1), floor);
        assert_eq!(back, Runtime(floor.0 - CREDIT_NS + 1_000_000));
    }

    #[test]
    fn two_namespaces_that_always_want_to_run_get_equal_shares() {
        let (mut a, mut b) = (Runtime(0), Runtime(0));
        let (mut ran_a, mut ran_b) = (0u32, 0u32);
        for turn in 0..1_000 {
            let pick = next([
                Candidate {
                    runtime: a,
                    oldest: turn,
                    what: 'a',
                },
                Candidate {
                    runtime: b,
                    oldest: turn,
                    what: 'b',
                },
            ]);
            if pick == Some('a') {
                a = a.charged(ms(1), a);
                ran_a += 1;
            } else {
                b = b.charged(ms(3), b);
                ran_b += 1;
            }
        }
        let (cpu_a, cpu_b) = (ran_a, ran_b * 3);
        assert!(cpu_a.abs_diff(cpu_b) <= 6, "{cpu_a} ms against {cpu_b} ms");
    }
}
