//! What is printed: first what was assumed, then what came out.

use std::io::Write as _;
use std::time::Duration;

use crate::cluster::{self, NO_LIMIT, Setup};
use crate::costs::{DELIVERY_US, Kind, ONE_WAY_US, ROUND_US, start};
use crate::meter::{Meter, SHARDS};
use crate::node::Start;
use crate::stats::Stats;
use crate::workload::{Shape, Workload};

/// Share of a core that a Redis is planned for: beyond, what waits for it grows quickly.
const PLANNED: f64 = 0.6;

/// Prints a line.
pub(crate) fn say(line: &str) {
    // Nobody may be listening any more.
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// What the results rest on.
pub(crate) fn assumed(setup: &Setup, shape: &Shape, load: &Workload) {
    let [a, b, c, d] = load.check().map(|share| share * 100.0);
    say(&format!(
        "assumed\n\
         - {} nodes with {} permits and {} GiB for instances each; calls come in at {} of them\n\
         - {} actions in {} namespaces, {:.0} calls/s, in the shape of Azure Functions 2019: the most called 0.01, 0.1, 1, 10 %\n\
         \x20 make {a:.0}, {b:.0}, {c:.0}, {d:.1} % of the calls (published: 31, 64, 93, 99.3); bursty by the published variation\n\
         - run times as published (lognormal, mu 0.00, sigma 2.28, of seconds) divided by {}; {:.0} runs at a time expected\n\
         - instances of {} MiB kept for {} s; a start takes {} ms from code on the node, {} ms where it is fetched; none compiles\n\
         - {} runs of an action at most; lease {} s; {:.2} ms one way to Redis; seed {}\n\
         - Redis spends {ROUND_US} us on a batch of commands, {DELIVERY_US} us on a message delivered, and on commands what costs.rs says\n\
         - {} s of warm-up are not counted; what is not simulated: CPU shares on a node, a Redis that is busy, refusals",
        setup.nodes,
        setup.permits,
        setup.memory_bytes >> 30,
        setup.fronts,
        load.actions.len(),
        load.namespaces,
        load.rate,
        shape.runs_divided_by,
        load.runs(),
        start::BYTES >> 20,
        setup.keep_alive.as_secs(),
        start::CODE_US as f64 / 1e3,
        start::COLD_US as f64 / 1e3,
        match setup.limit {
            NO_LIMIT => "any number of".to_owned(),
            limit => limit.to_string(),
        },
        setup.lease.as_secs(),
        ONE_WAY_US as f64 / 1e3,
        setup.seed,
        setup.warm_up.as_secs(),
    ));
}

/// Runs one simulation and says what came of it.
pub(crate) fn simulated(name: &str, setup: &Setup, load: &Workload) {
    let begun = minstant();
    let (stats, meter) = cluster::simulate(setup, load);
    let took = begun();
    let length = setup.length.as_secs_f64();
    say(&format!(
        "\n== {name}: {length} s simulated in {:.1} s",
        took.as_secs_f64()
    ));
    calls(&stats, length);
    redis(&stats, &meter, length);
    shards(&stats, &meter, length);
}

/// The time since it was made.
#[expect(
    clippy::disallowed_types,
    reason = "there is no runtime here whose clock could be stopped"
)]
fn minstant() -> impl Fn() -> Duration {
    let begun = std::time::Instant::now();
    move || begun.elapsed()
}

fn calls(stats: &Stats, length: f64) {
    let percent = |start| stats.share(start) * 100.0;
    let wait = |quantile| stats.waits.value_at_quantile(quantile) as f64 / 1e3;
    let claims = stats.claims.max(1) as f64;
    let fair = stats.fairness();
    say(&format!(
        "calls      {:.0}/s begun, {:.2} % handed over without Redis, {} left in streams\n\
         starts     {:.2} % warm, {:.2} % from code on the node, {:.2} % cold\n\
         wait, ms   {:.2} median, {:.2} p99, {:.2} p99.9, {:.1} most\n\
         claims     {:.0}/s, {:.3} % found nothing (somebody was first), {:.3} % found the limit reached; {} runs of one action at a time at most\n\
         fairness   Jain's index {:.4} of the mean slowdowns of {} namespaces (with 20 calls or more): mean {:.2}, worst {:.2}",
        stats.calls as f64 / length,
        stats.hand_offs as f64 * 100.0 / stats.calls.max(1) as f64,
        stats.unread,
        percent(Start::Warm),
        percent(Start::Code),
        percent(Start::Cold),
        wait(0.5),
        wait(0.99),
        wait(0.999),
        stats.waits.max() as f64 / 1e3,
        stats.claims as f64 / length,
        stats.conflicts as f64 * 100.0 / claims,
        stats.limited as f64 * 100.0 / claims,
        stats.runs_most,
        fair.jain,
        fair.namespaces,
        fair.mean,
        fair.worst,
    ));
    if stats.died_at.is_some() {
        say(&format!(
            "deaths     {} runs begun again elsewhere, the last {:.2} s after; {} callers cut off with their node",
            stats.redelivered,
            stats.gap as f64 / 1e6,
            stats.cut_off,
        ));
    }
}

fn redis(stats: &Stats, meter: &Meter, length: f64) {
    say("redis      commands/s    a call   batches/s   in MB/s  out MB/s   CPU %");
    let calls = stats.calls.max(1) as f64;
    let line = |name: &str, commands: u64, rounds: u64, bytes: (u64, u64), cpu_us: f64| {
        say(&format!(
            "{name:<10} {:>10.0} {:>9.2} {:>11.0} {:>9.2} {:>9.2} {:>7.1}",
            commands as f64 / length,
            commands as f64 / calls,
            rounds as f64 / length,
            bytes.0 as f64 / length / 1e6,
            bytes.1 as f64 / length / 1e6,
            cpu_us / length / 1e4,
        ));
    };
    let mut all = (0, 0, 0, 0);
    for kind in Kind::ALL {
        let tally = &meter.tallies[kind as usize];
        let cpu_us = tally.exec_us + tally.rounds as f64 * ROUND_US;
        let name = format!("{kind:?}").to_lowercase();
        let bytes = (tally.bytes_in, tally.bytes_out);
        line(&name, tally.commands, tally.rounds, bytes, cpu_us);
        all.0 += tally.commands;
        all.1 += tally.rounds;
        all.2 += tally.bytes_in;
        all.3 += tally.bytes_out;
    }
    line("all", all.0, all.1, (all.2, all.3), meter.cpu_us(0));
}

fn shards(stats: &Stats, meter: &Meter, length: f64) {
    let calls = stats.calls.max(1) as f64;
    let rate = calls / length;
    // Among many shards these commands hardly ever travel together.
    let shared_us = meter.shared as f64 * (Kind::Due.cost().us + ROUND_US) / calls;
    say(
        "shards     CPU us a call   busiest, % of a core   calls/s at 60 % of the busiest, by proportion",
    );
    for (at, shards) in SHARDS.iter().enumerate() {
        let cpu_us = meter.cpu_us(at) / calls;
        // One has the list of namespaces, all have their part of the rest.
        let busiest_us = match shards {
            1 => cpu_us,
            _ => (cpu_us - shared_us) / *shards as f64 + shared_us,
        };
        say(&format!(
            "{shards:<10} {cpu_us:>13.1} {:>22.1} {:>19.0}",
            busiest_us * rate / 1e4,
            PLANNED * 1e6 / busiest_us,
        ));
    }
    say(&format!(
        "one key    the list of namespaces with lanes that are due: {:.2} commands a call, {:.0} calls/s at 60 % of a shard for it alone",
        meter.shared as f64 / calls,
        PLANNED * 1e6 / shared_us,
    ));
}
