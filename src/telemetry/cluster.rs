//! What a node of a cluster counts, and how Prometheus reads it: printed behind everything else, and only by nodes.
//!
//! The queue depth and the age are of the whole cluster, the same at every node: `max` of them is what to scale by.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::{self, Histogram, STRIPES, stripe};

/// What happens in a cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// A command was sent to Redis.
    Sent,
    /// A command failed, or what became of it is not known.
    Failed,
    /// A call ran here, past the streams.
    HandedOver,
    /// A call went into a stream.
    Pushed,
    /// An entry was taken from a stream.
    Pulled,
    /// An entry of a dead node was taken over.
    TakenOver,
    /// An entry that a node handed back was taken.
    Resumed,
    /// An invocation was delivered again that a dead node had.
    Redelivered,
    /// An entry was handed back because this node leaves.
    HandedBack,
    /// An entry could not be read and was set aside.
    SetAside,
    /// The lease was lost.
    Lapsed,
    /// An answer was not heard and was found in its record.
    Found,
    /// Compiled code was had from the other nodes.
    Fetched,
    /// What was to be compiled code in Redis did not verify.
    Forged,
}

/// Series, in the order of [`Event`]: name, help, label.
const SERIES: [(&str, &str, &str); 14] = [
    (
        "wisp_redis_commands_total",
        "Commands sent to Redis, those within scripts not counted.",
        "",
    ),
    (
        "wisp_redis_failures_total",
        "Commands that Redis did not answer, or answered with an error.",
        "",
    ),
    (
        "wisp_cluster_calls_total",
        "Invocations by their way: handed_over (run where they came in, past the streams), pushed (through a stream).",
        "way=\"handed_over\"",
    ),
    ("wisp_cluster_calls_total", "", "way=\"pushed\""),
    (
        "wisp_cluster_entries_total",
        "Entries of streams: pulled, taken_over (of dead nodes), resumed (handed back by others), handed_back (by this node, \
         which leaves), set_aside (cannot be read).",
        "event=\"pulled\"",
    ),
    ("wisp_cluster_entries_total", "", "event=\"taken_over\""),
    ("wisp_cluster_entries_total", "", "event=\"resumed\""),
    (
        "wisp_cluster_redelivered_total",
        "Invocations that a dead node had and this one got.",
        "",
    ),
    ("wisp_cluster_entries_total", "", "event=\"handed_back\""),
    ("wisp_cluster_entries_total", "", "event=\"set_aside\""),
    (
        "wisp_cluster_lapses_total",
        "Times that this node lost its lease.",
        "",
    ),
    (
        "wisp_cluster_replies_found_total",
        "Answers that were not heard and were found in their records.",
        "",
    ),
    (
        "wisp_cluster_artefacts_total",
        "Compiled code from other nodes: fetched, forged (it did not verify, and was compiled here).",
        "outcome=\"fetched\"",
    ),
    ("wisp_cluster_artefacts_total", "", "outcome=\"forged\""),
];

#[derive(Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; SERIES.len()]);

static COUNTS: LazyLock<[Stripe; STRIPES]> = LazyLock::new(Default::default);
static TRIPS: LazyLock<Histogram> = LazyLock::new(Histogram::default);

/// So many of them happened.
pub(crate) fn count(event: Event, many: usize) {
    let many = u64::try_from(many).unwrap_or(u64::MAX);
    COUNTS[stripe()].0[event as usize].fetch_add(many, Ordering::Relaxed);
}

/// A batch of commands was answered, or failed, after so long.
pub(crate) fn round_trip(took: Duration) {
    TRIPS.record(took);
}

/// What is known when `/metrics` is asked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gauges {
    /// Lanes that this node holds.
    pub(crate) lanes_held: usize,
    pub(crate) nodes_alive: usize,
    pub(crate) nodes_dead: usize,
    /// Whether the lease holds.
    pub(crate) is_held: bool,
    /// Invocations in all streams that nobody has taken.
    pub(crate) depth: u64,
    /// How long the oldest of them has waited.
    pub(crate) oldest_age: Duration,
}

/// Appends all of it.
pub(crate) fn print(text: &mut String, gauges: &Gauges) {
    let mut named = "";
    let mut order: Vec<usize> = (0..SERIES.len()).collect();
    order.sort_by_key(|index| SERIES[*index].0);
    for index in order {
        let (name, _, label) = SERIES[index];
        if name != named {
            let help = SERIES.iter().find(|(one, ..)| *one == name);
            head(text, name, help.map_or("", |(_, help, _)| *help), "counter");
            named = name;
        }
        let stripes = COUNTS.iter();
        let total: u64 = stripes
            .map(|stripe| stripe.0[index].load(Ordering::Relaxed))
            .sum();
        let labels = match label {
            "" => String::new(),
            label => format!("{{{label}}}"),
        };
        put(text, format_args!("{name}{labels} {total}"));
    }
    let name = "wisp_redis_batch_seconds";
    histogram::print_head(
        text,
        name,
        "Time of one batch of commands to Redis and back.",
    );
    TRIPS.print(text, name, "");
    let name = "wisp_cluster_nodes";
    head(
        text,
        name,
        "Nodes as this one sees them: alive, dead (what they held is not taken over yet).",
        "gauge",
    );
    for (state, count) in [("alive", gauges.nodes_alive), ("dead", gauges.nodes_dead)] {
        put(text, format_args!("{name}{{state=\"{state}\"}} {count}"));
    }
    let held = usize::from(gauges.is_held).to_string();
    let (lanes, depth) = (gauges.lanes_held.to_string(), gauges.depth.to_string());
    let age = gauges.oldest_age.as_secs_f64().to_string();
    for (name, help, value) in [
        (
            "wisp_cluster_lanes_held",
            "Queues that this node holds.",
            lanes,
        ),
        (
            "wisp_cluster_lease_held",
            "Whether this node's lease holds.",
            held,
        ),
        (
            "wisp_cluster_queue_depth",
            "Invocations that no node has taken, in the whole cluster.",
            depth,
        ),
        (
            "wisp_cluster_queue_oldest_age_seconds",
            "How long the oldest entry of the deepest queues has waited, in the whole cluster.",
            age,
        ),
    ] {
        head(text, name, help, "gauge");
        put(text, format_args!("{name} {value}"));
    }
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    put(text, format_args!("# HELP {name} {help}"));
    put(text, format_args!("# TYPE {name} {kind}"));
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_announced_once_and_events_have_their_series() {
        count(Event::Forged, 2);
        count(Event::Resumed, 3);
        let mut text = String::new();
        print(&mut text, &Gauges::default());
        let value = |series: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(series));
            line.expect(series).trim().parse::<u64>().expect("a number")
        };
        assert!(value("wisp_cluster_artefacts_total{outcome=\"forged\"}") >= 2);
        assert!(value("wisp_cluster_entries_total{event=\"resumed\"}") >= 3);
        let mut names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
