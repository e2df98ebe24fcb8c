//! Arguments of the benchmark.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{LANGUAGES, REDIS, SCENARIOS};

pub(crate) const HELP: &str = "\
cargo bench --bench load -- [--languages] [--redis] [--only NAME]… [--seconds S] [--rounds N] [--quick]

  --only NAME    one scenario (repeatable): bare core handler command spread first-call first-instance
                 neighbour density accept sequence fire web web-cached;
                 of languages greetings javascript python wasi-http workerd;
                 of Redis redis-stream redis-hand-off redis-accept redis-spread redis-takeover
  --languages    those of languages instead of the others; `wasi-http` stands beside `wasmtime serve`, `workerd` beside
                 workerd, and each is left out where neither PATH nor WISP_BENCH_WASMTIME or WISP_BENCH_WORKERD has it
  --redis        those of many machines on Redis instead of the others; needs redis-server
  --seconds S    length of one measurement, default 4
  --rounds N     rounds of bare server and Wisp in turns, default 5
  --quick        shorter and fewer: to see that it works, not to quote";

/// What the command line asks for.
pub(crate) enum Asked {
    Bench(Args),
    /// Hidden: be the bare server that answers this.
    Bare(String),
    Help,
    /// Cargo tests all targets; there is nothing to test here.
    Nothing,
}

/// How to measure.
pub(crate) struct Args {
    /// Scenarios to run.
    pub(crate) only: Vec<String>,
    /// Length of one measurement.
    pub(crate) measure: Duration,
    /// Pairs of measurements, bare server and Wisp in turns.
    pub(crate) rounds: usize,
    /// Smaller populations.
    pub(crate) quick: bool,
}

impl Args {
    /// `full`, or a small share of it when it should be quick.
    pub(crate) fn count(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

fn of_languages() -> impl Iterator<Item = &'static str> {
    let last = SCENARIOS.len() - REDIS;
    SCENARIOS[last - LANGUAGES..last].iter().copied()
}

fn of_redis() -> impl Iterator<Item = &'static str> {
    SCENARIOS[SCENARIOS.len() - REDIS..].iter().copied()
}

pub(crate) fn parse(mut given: impl Iterator<Item = String>) -> Result<Asked> {
    let mut args = Args {
        only: Vec::new(),
        measure: Duration::ZERO,
        rounds: 0,
        quick: false,
    };
    let mut bench = false;
    while let Some(arg) = given.next() {
        let mut value = || given.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--bench" => bench = true, // `cargo bench` says so
            "--bare-axum" => return Ok(Asked::Bare(value()?)),
            "--help" | "-h" => return Ok(Asked::Help),
            "--only" => {
                let name = value()?;
                if !SCENARIOS.contains(&name.as_str()) {
                    bail!(
                        "there is no scenario {name}; there are {}",
                        SCENARIOS.join(", ")
                    );
                }
                args.only.push(name);
            }
            "--seconds" => {
                let seconds: f64 = value()?.parse().context("--seconds needs a number")?;
                args.measure = Duration::try_from_secs_f64(seconds).context("--seconds")?;
            }
            "--rounds" => args.rounds = value()?.parse().context("--rounds needs a number")?,
            "--languages" => args.only.extend(of_languages().map(str::to_owned)),
            "--redis" => args.only.extend(of_redis().map(str::to_owned)),
            "--quick" => args.quick = true,
            other => bail!("{other} is unknown\n\n{HELP}"),
        }
    }
    if !bench {
        return Ok(Asked::Nothing);
    }
    if args.only.is_empty() {
        let others = SCENARIOS.len() - LANGUAGES - REDIS;
        args.only = SCENARIOS[..others]
            .iter()
            .map(ToString::to_string)
            .collect();
    }
    if args.measure.is_zero() {
        args.measure = Duration::from_secs(if args.quick { 1 } else { 4 });
    }
    if args.rounds == 0 {
        args.rounds = if args.quick { 2 } else { 5 };
    }
    Ok(Asked::Bench(args))
}
