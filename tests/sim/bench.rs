//! The simulation of a large cluster: `cargo bench --bench sim`, or with other numbers `cargo bench --bench sim -- --help`.
//!
//! Drives the decisions of `src/scheduler` with a workload in the shape of a real one, counts what Redis is asked, and prints
//! what one Redis and what Redis Clusters carry. Nothing is measured here but counts: what a command costs stands in
//! `costs.rs`, with how it was measured.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "statistics: counts are far below 2^53, and what is rounded is random"
)]

mod cluster;
mod costs;
mod meter;
mod node;
mod redis;
mod report;
#[expect(dead_code, reason = "the simulator drives a part of it")]
#[path = "../../src/scheduler/mod.rs"]
mod scheduler;
mod stats;
mod workload;

use std::process::ExitCode;
use std::time::Duration;

use cluster::{HandOff, Hints, NO_LIMIT, Setup};
use workload::{Shape, Workload};

const HELP: &str = "\
cargo bench --bench sim -- [--nodes 1000] [--fronts 50] [--actions 100000] [--rate 20000] [--permits 512] [--seconds 120]
    [--warm-up 120] [--runs-divided-by 100] [--deaths 10] [--limit N] [--seed 1] [--only NAME]
--rate 0 takes the published rate; without --limit the runs of an action are not limited. Times are simulated.
NAME: warm-first, hand-off-warm, hand-off-never, hand-off-room, anybody, everybody.";

/// Value of `--name`, or the default.
fn option(args: &[String], name: &str, default: f64) -> Result<f64, String> {
    let Some(at) = args.iter().position(|arg| arg == name) else {
        return Ok(default);
    };
    let value = args
        .get(at + 1)
        .ok_or_else(|| format!("{name} needs a value"))?;
    value
        .parse()
        .map_err(|_| format!("{name} {value}: not a number"))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help") {
        report::say(HELP);
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(&format!("{error}\n{HELP}"));
            ExitCode::FAILURE
        }
    }
}

/// What is compared: its name, who learns of work, and what runs where it came in.
const RUNS: [(&str, Hints, HandOff); 5] = [
    ("warm-first", Hints::WarmFirst, HandOff::Worth),
    ("hand-off-warm", Hints::WarmFirst, HandOff::Warm),
    ("hand-off-never", Hints::WarmFirst, HandOff::Never),
    ("hand-off-room", Hints::WarmFirst, HandOff::Room),
    ("anybody", Hints::Anybody, HandOff::Warm),
];

/// Nodes of the comparison with a cluster where everybody hears of everything: more than that is too slow to simulate.
const SMALL: f64 = 50.0;

fn run(args: &[String]) -> Result<(), String> {
    let number = |name: &str, default: f64| option(args, name, default);
    let rate = number("--rate", 20_000.0)?;
    let seconds = number("--seconds", 120.0)?;
    let deaths = number("--deaths", 10.0)? as usize;
    let only = args.iter().position(|arg| arg == "--only");
    let only = only.and_then(|at| args.get(at + 1));
    let shape = Shape {
        actions: number("--actions", 100_000.0)? as usize,
        rate: (rate > 0.0).then_some(rate),
        runs_divided_by: number("--runs-divided-by", 100.0)?,
        seed: number("--seed", 1.0)? as u64,
    };
    let setup = Setup {
        nodes: number("--nodes", 1_000.0)? as usize,
        fronts: number("--fronts", 50.0)? as usize,
        permits: number("--permits", 512.0)? as u32,
        memory_bytes: 12 << 30,
        hints: Hints::WarmFirst,
        hand_off: HandOff::Worth,
        limit: number("--limit", f64::from(NO_LIMIT))? as u32,
        keep_alive: Duration::from_secs(60),
        lease: Duration::from_secs(5),
        warm_up: Duration::from_secs_f64(number("--warm-up", 120.0)?),
        length: Duration::from_secs_f64(seconds),
        deaths: (deaths > 0).then_some((deaths, Duration::from_secs_f64(seconds / 2.0))),
        seed: shape.seed,
    };
    if setup.fronts == 0 || setup.fronts > setup.nodes {
        return Err(format!("{} fronts of {} nodes", setup.fronts, setup.nodes));
    }
    let load = Workload::new(&shape);
    report::assumed(&setup, &shape, &load);
    for (name, hints, hand_off) in RUNS {
        if only.is_none_or(|only| only == name) {
            let setup = Setup {
                hints,
                hand_off,
                ..setup.clone()
            };
            report::simulated(name, &setup, &load);
        }
    }
    if only.is_none_or(|only| only == "everybody") {
        everybody(&setup, &shape, &load);
    }
    Ok(())
}

/// What it costs when everybody is told and claims at once, on a part of the cluster.
fn everybody(setup: &Setup, shape: &Shape, load: &Workload) {
    let part = SMALL / setup.nodes as f64;
    let load = Workload::new(&Shape {
        actions: (shape.actions as f64 * part) as usize,
        rate: Some(load.rate * part),
        ..shape.clone()
    });
    for (name, hints) in [
        ("warm-first, 50 nodes", Hints::WarmFirst),
        ("everybody, 50 nodes", Hints::Everybody),
    ] {
        let setup = Setup {
            nodes: SMALL as usize,
            fronts: SMALL as usize,
            hints,
            deaths: None,
            ..setup.clone()
        };
        report::simulated(name, &setup, &load);
    }
}
