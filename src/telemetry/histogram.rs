//! Histograms of times, counted where things happen and printed when they are asked for.
//!
//! The exporter's own keep every sample, with the time of its coming, until somebody sums them up: that is 2 % of a warm
//! call's CPU for its three samples, and memory that grows with the load. The buckets are fixed here, so a sample is
//! two additions.

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Upper bounds in nanoseconds with their names in seconds: from 10 µs (a warm call) to 5 min (the longest timeout).
const BOUNDS: [(u64, &str); 22] = [
    (10_000, "0.00001"),
    (25_000, "0.000025"),
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
    (30_000_000_000, "30"),
    (60_000_000_000, "60"),
    (300_000_000_000, "300"),
];

/// Threads count in stripes of their own, as far as these reach: a line that two cores write to costs more than the count.
pub(super) const STRIPES: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Histogram([Stripe; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    nanos: AtomicU64,
    /// Samples within each bound and above the one before; the last is above all.
    counts: [AtomicU64; BOUNDS.len() + 1],
}

/// The stripe of the calling thread.
pub(super) fn stripe() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES);
    }
    MINE.get()
}

impl Histogram {
    /// Counts one sample.
    pub(crate) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(bound, _)| *bound < nanos);
        let stripe = &self.0[stripe()];
        stripe.counts[bucket].fetch_add(1, Ordering::Relaxed);
        stripe.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Appends the series of `name`, whose labels are `labels` (`a="b"`, or nothing), as Prometheus reads them.
    pub(crate) fn print(&self, text: &mut String, name: &str, labels: &str) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let comma = if labels.is_empty() { "" } else { "," };
        let names = BOUNDS.iter().map(|(_, name)| *name).chain(["+Inf"]);
        let mut count = 0_u64;
        for (bucket, bound) in names.enumerate() {
            count += self.0.iter().map(|s| load(&s.counts[bucket])).sum::<u64>();
            put(
                text,
                format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"),
            );
        }
        let nanos = self.0.iter().map(|stripe| load(&stripe.nanos)).sum();
        let sum = Duration::from_nanos(nanos).as_secs_f64();
        let braced = match labels {
            "" => String::new(),
            _ => format!("{{{labels}}}"),
        };
        put(text, format_args!("{name}_sum{braced} {sum}"));
        put(text, format_args!("{name}_count{braced} {count}"));
    }
}

/// Appends the two lines that stand before the series of `name`.
pub(crate) fn print_head(text: &mut String, name: &str, help: &str) {
    put(text, format_args!("# HELP {name} {help}"));
    put(text, format_args!("# TYPE {name} histogram"));
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_in_its_bucket_and_all_above() {
        let histogram = Histogram::default();
        for micros in [10, 11, 1_000_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let (mut bare, mut labelled) = (String::new(), String::new());
        histogram.print(&mut bare, "t", "");
        histogram.print(&mut labelled, "t", "a=\"b\"");
        let lines: Vec<&str> = bare.lines().collect();
        assert_eq!(lines[0], "t_bucket{le=\"0.00001\"} 1");
        assert_eq!(lines[1], "t_bucket{le=\"0.000025\"} 2");
        assert_eq!(lines[21], "t_bucket{le=\"300\"} 2");
        assert_eq!(
            lines[22..],
            ["t_bucket{le=\"+Inf\"} 3", "t_sum 1000.000021", "t_count 3"]
        );
        assert!(labelled.contains("t_bucket{a=\"b\",le=\"+Inf\"} 3\nt_sum{a=\"b\"} 1000.000021\n"));
    }

    #[test]
    fn names_of_bounds_are_their_values() {
        for (nanos, name) in BOUNDS {
            let seconds: f64 = name.parse().expect("a number");
            assert_eq!(
                Duration::from_secs_f64(seconds),
                Duration::from_nanos(nanos)
            );
        }
    }
}
