//! What is printed while it runs, the table at the end, and the same as JSON.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Error, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::args::Args;

/// A line on stdout.
pub(crate) fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// An error with its causes on stderr.
pub(crate) fn complain(error: &Error) {
    drop(writeln!(std::io::stderr(), "load: {error:#}"));
}

/// How far something long is.
pub(crate) struct Progress {
    what: String,
    total: usize,
    done: AtomicUsize,
    start: Instant,
    shown: Mutex<Instant>,
}

impl Progress {
    pub(crate) fn new(what: &str, total: usize) -> Self {
        let now = Instant::now();
        Self {
            what: what.to_owned(),
            total,
            done: AtomicUsize::new(0),
            start: now,
            shown: Mutex::new(now),
        }
    }

    /// One more is done. Shows a line at most once in two seconds, and at the end.
    pub(crate) fn step(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let mut shown = self.shown.lock();
        if done == self.total || shown.elapsed() > Duration::from_secs(2) {
            *shown = Instant::now();
            let seconds = self.start.elapsed().as_secs_f64();
            say(&format!(
                "  {}: {done}/{} after {seconds:.1} s",
                self.what, self.total
            ));
        }
    }
}

/// How a figure stands to its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Met,
    Missed,
    /// There is no goal; printed for the curve.
    Shown,
    /// It could not be measured.
    Failed,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Met => "ok",
            Self::Missed => "MISSED",
            Self::Shown => "",
            Self::Failed => "FAILED",
        }
    }
}

/// One figure.
pub(crate) struct Row {
    scenario: String,
    figure: String,
    goal: String,
    ratio: Option<f64>,
    verdict: Verdict,
    data: Value,
}

impl Row {
    /// A figure without a goal.
    pub(crate) fn shown(scenario: &str, figure: String, data: Value) -> Self {
        Self {
            scenario: scenario.into(),
            figure,
            goal: String::new(),
            ratio: None,
            verdict: Verdict::Shown,
            data,
        }
    }

    /// What there is nothing to measure with: said, and no failure.
    pub(crate) fn left_out(scenario: &str, why: &str) -> Self {
        say(&format!("  left out: {why}"));
        Self::shown(
            scenario,
            format!("left out: {why}"),
            json!({ "leftOut": why }),
        )
    }

    /// A figure with a goal that is `met` or not.
    pub(crate) fn judged(
        scenario: &str,
        figure: String,
        goal: &str,
        met: bool,
        data: Value,
    ) -> Self {
        let verdict = if met { Verdict::Met } else { Verdict::Missed };
        Self {
            scenario: scenario.into(),
            figure,
            goal: goal.into(),
            ratio: None,
            verdict,
            data,
        }
    }

    /// A figure that is a share of another, at least `goal`.
    pub(crate) fn at_least(
        scenario: &str,
        figure: String,
        ratio: f64,
        goal: f64,
        data: Value,
    ) -> Self {
        let wanted = format!(">= {:.0} %", goal * 100.0);
        Self {
            ratio: Some(ratio),
            ..Self::judged(scenario, figure, &wanted, ratio >= goal, data)
        }
    }

    /// There is no figure.
    pub(crate) fn failed(scenario: &str, error: &Error) -> Self {
        let why = format!("{error:#}");
        say(&format!("  failed: {why}"));
        let data = json!({ "error": why });
        Self {
            scenario: scenario.into(),
            figure: "not measured, see above".into(),
            goal: String::new(),
            ratio: None,
            verdict: Verdict::Failed,
            data,
        }
    }
}

/// All rows, and what they were measured with.
pub(crate) struct Report {
    machine: Value,
    settings: Value,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(machine: Value, args: &Args) -> Self {
        say(&format!("machine: {machine}"));
        if machine["loadBefore"]
            .as_f64()
            .is_some_and(|load| load > 0.5)
        {
            say("the machine is busy: the figures will be worse than they need be");
        }
        let settings = json!({
            "seconds": args.measure.as_secs_f64(), "rounds": args.rounds, "quick": args.quick,
        });
        Self {
            machine,
            settings,
            rows: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, rows: Vec<Row>) {
        for row in &rows {
            say(&format!(
                "  {}: {} {}",
                row.scenario,
                row.figure,
                row.verdict.word()
            ));
        }
        self.rows.extend(rows);
    }

    pub(crate) fn all_met(&self) -> bool {
        !self.rows.is_empty()
            && self
                .rows
                .iter()
                .all(|row| matches!(row.verdict, Verdict::Met | Verdict::Shown))
    }

    /// The table.
    pub(crate) fn print(&self) {
        let mut lines = vec![["scenario", "figure", "goal", "ratio", ""].map(str::to_owned)];
        lines.extend(self.rows.iter().map(|row| {
            let ratio = row
                .ratio
                .map_or_else(String::new, |ratio| format!("{:.1} %", ratio * 100.0));
            [
                row.scenario.clone(),
                row.figure.clone(),
                row.goal.clone(),
                ratio,
                row.verdict.word().to_owned(),
            ]
        }));
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: [usize; 5] = std::array::from_fn(width);
        say("");
        for [scenario, figure, goal, ratio, verdict] in &lines {
            let [a, b, c, d, _] = widths;
            say(
                format!("{scenario:a$}  {figure:b$}  {goal:c$}  {ratio:>d$}  {verdict}").trim_end(),
            );
        }
        if std::io::stdout().is_terminal() {
            say("");
        }
    }

    /// Writes `target/load.json`.
    pub(crate) fn save(&self) -> Result<()> {
        let rows: Vec<Value> = self.rows.iter().map(|row| {
            json!({
                "scenario": row.scenario, "figure": row.figure, "goal": row.goal, "ratio": row.ratio,
                "verdict": row.verdict.word(), "data": row.data,
            })
        }).collect();
        let report = json!({ "machine": self.machine, "settings": self.settings, "rows": rows });
        let path = path();
        std::fs::write(&path, serde_json::to_string_pretty(&report)?)
            .with_context(|| path.display().to_string())?;
        say(&format!("written to {}", path.display()));
        Ok(())
    }
}

/// Cargo's target folder: the binary under test lies in a profile's folder of it.
fn path() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_wisp")).ancestors().nth(2);
    target.unwrap_or_else(|| Path::new(".")).join("load.json")
}
