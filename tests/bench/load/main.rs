//! The load benchmark: `cargo bench --bench load`.
//!
//! Drives the real binary over loopback, one server and one empty data folder per scenario, as a tenant would: every
//! call authenticated, throttle accounting on, every activation stored. Goals are ratios to a bare axum server, a
//! process of its own that answers the same JSON from memory to the same requests, measured right before and after, in
//! turns; what is printed is the median of the ratios. Latency is taken in an open loop, from the moment a request was
//! *meant* to leave, so that a stall is seen by all who would have waited (no coordinated omission).
//!
//! The generator is hyper's own HTTP/1.1 client without a pool, on one thread, the same for both sides; it shares the
//! machine with the server, so absolute rates say less than ratios. Use an idle machine.
//!
//! A figure that could not be measured is a failure, never a guess. The exit status is 0 only when every goal is met.

mod accept;
mod api;
mod args;
mod bare;
mod client;
mod cold;
mod density;
mod drive;
mod fire;
mod greetings;
mod guests;
mod languages;
mod machine;
mod neighbour;
mod other;
mod pacer;
mod redis;
mod report;
mod sequence;
mod server;
mod spread;
mod throughput;
mod wasi_http;
mod web;
mod workerd;

use std::process::ExitCode;

use anyhow::Result;

use args::{Args, Asked};
use report::{Report, Row, say};

/// Every scenario, in the order they run; the last ones ([`LANGUAGES`], then [`REDIS`]) only when they are asked for.
const SCENARIOS: [&str; 24] = [
    "bare",
    "core",
    "handler",
    "command",
    "spread",
    "first-call",
    "first-instance",
    "neighbour",
    "density",
    "accept",
    "sequence",
    "fire",
    "web",
    "web-cached",
    "greetings",
    "javascript",
    "python",
    "wasi-http",
    "workerd",
    "redis-stream",
    "redis-hand-off",
    "redis-accept",
    "redis-spread",
    "redis-takeover",
];

/// How many of them `--redis` means.
const REDIS: usize = 5;

/// How many of them `--languages` means.
const LANGUAGES: usize = 5;

fn main() -> ExitCode {
    match args::parse(std::env::args().skip(1)) {
        Ok(Asked::Bare(answer)) => exit(bare::serve(answer)),
        Ok(Asked::Bench(args)) => bench(&args),
        Ok(Asked::Help) => {
            say(args::HELP);
            ExitCode::SUCCESS
        }
        Ok(Asked::Nothing) => {
            say("measures nothing: run it with `cargo bench --bench load`");
            ExitCode::SUCCESS
        }
        Err(error) => exit(Err(error)),
    }
}

fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&error);
            ExitCode::from(2)
        }
    }
}

fn bench(args: &Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return exit(Err(error.into())),
    };
    let mut report = Report::new(machine::describe(), args);
    for scenario in SCENARIOS {
        if !args.only.iter().any(|only| only == scenario) {
            continue;
        }
        say(&format!("\n== {scenario}"));
        let rows = runtime.block_on(run(scenario, args));
        report.add(rows.unwrap_or_else(|error| vec![Row::failed(scenario, &error)]));
    }
    report.print();
    if let Err(error) = report.save() {
        report::complain(&error);
        return ExitCode::FAILURE;
    }
    if report.all_met() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn run(scenario: &str, args: &Args) -> Result<Vec<Row>> {
    match scenario {
        "bare" => throughput::ceiling(args).await,
        "core" => throughput::core(args).await,
        "handler" => throughput::handler(args).await,
        "command" => throughput::command(args).await,
        "spread" => spread::spread(args).await,
        "first-call" => cold::first_call(args).await,
        "first-instance" => cold::first_instance(args).await,
        "neighbour" => neighbour::neighbour(args).await,
        "density" => density::density(args).await,
        "accept" => accept::accept(args).await,
        "sequence" => sequence::sequence(args).await,
        "fire" => fire::fire(args).await,
        "web" => web::run(args).await,
        "web-cached" => web::cached(args).await,
        "greetings" => greetings::run(args).await,
        "javascript" => languages::javascript(args).await,
        "python" => languages::python(args).await,
        "wasi-http" => wasi_http::run(args).await,
        "workerd" => workerd::run(args).await,
        "redis-stream" => redis::stream(args).await,
        "redis-hand-off" => redis::hand_off(args).await,
        "redis-accept" => redis::accept(args).await,
        "redis-spread" => redis::spread(args).await,
        "redis-takeover" => redis::takeover(args).await,
        other => anyhow::bail!("there is no scenario {other}"),
    }
}
