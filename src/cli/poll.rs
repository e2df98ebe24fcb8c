//! `wisp activation poll`: activations with their logs, each once, as they come.
//!
//! A server that has a stream of them sends each when it ends, and its log line by line before that. Lines that were printed
//! are not printed again with the record. The stream is opened again whenever it breaks, and the list
//! is looked at once after that. A server without one is asked for the list every two seconds, as `wsk` does.
//!
//! The server lists by start, and a record is there from its end on: one that ran long turns up behind others that began
//! later. So the list is asked for again from a while before the newest seen, and what was printed is remembered.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::Instant;

use super::Session;
use super::activation::polled;
use super::client::{Client, Events};
use super::events::{self, Signal};
use super::failure::{Failure, Result};
use crate::model::Timestamp;

/// Between two looks, as `wsk` has it.
const EVERY: Duration = Duration::from_secs(2);

/// How much longer than its neighbours an activation may run and still be printed: the largest action timeout.
const LATE_MS_MAX: u64 = 300_000;

/// How long a stream may say nothing before it is taken for dead; servers send a sign of life much more often.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// How long one stream is read before the next is opened: bounds what a dead one holds.
const STREAM_MAX: Duration = Duration::from_secs(600);

/// How much longer a stream may live than it is read.
const SPARE: Duration = Duration::from_secs(2);

/// What the server gives at once for `limit=0`.
const PAGE: usize = 200;

/// Pages read in one look, at most; more than this in two seconds is no longer for reading.
const PAGES_MAX: usize = 25;

/// Lines remembered until their record comes; beyond it those of the activation that began first are printed twice.
const LINES_MAX: usize = 65_536;

/// How what comes is shown.
pub(super) type Show = fn(Session<'_>, &Shown<'_>);

/// What comes.
#[derive(Debug)]
pub(super) enum Shown<'a> {
    /// An activation that has ended; its log has what was not shown before. Whether anything was.
    Record(&'a Value, bool),
    /// A line of one that goes on: `activationId`, `name`, `line`; and whether another one's were shown before it.
    Line(&'a Value, bool),
}

/// Why watching ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The time that was asked for is over.
    Time,
    /// Somebody said so.
    Told,
}

/// What to poll for.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wisp activation poll\n  wisp activation poll hello -e 60 --since-minutes 5"
)]
pub(super) struct Poll {
    /// Only activations of this action
    name: Option<String>,
    /// Stop after that many seconds
    #[arg(short, long, value_name = "SECONDS")]
    exit: Option<u64>,
    /// Begin that many seconds ago
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    since_seconds: u64,
    /// Begin that many minutes ago
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    since_minutes: u64,
    /// Begin that many hours ago
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    since_hours: u64,
    /// Begin that many days ago
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    since_days: u64,
}

impl Poll {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        let client = Client::new(session)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Failure::general(format!("cannot wait: {error}")))?;
        session.output.line("Enter Ctrl-c to exit.");
        session.output.line("Polling for activation logs");
        let interrupted = async { drop(tokio::signal::ctrl_c().await) };
        let seen = self.begin(&client)?;
        let ended = runtime.block_on(self.watch(session, &client, (print, seen), interrupted))?;
        if ended == Ended::Told {
            session.output.line("Poll terminated");
        }
        Ok(())
    }

    /// Everything that happens `from` a time on, until told to stop.
    pub(super) fn live(
        session: Session<'_>,
        client: &Client<'_>,
        (show, from): (Show, Timestamp),
        told: impl Future<Output = ()>,
    ) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Failure::general(format!("cannot wait: {error}")))?;
        let all = Self {
            name: None,
            exit: None,
            since_seconds: 0,
            since_minutes: 0,
            since_hours: 0,
            since_days: 0,
        };
        let seen = Seen::from(from.millis());
        runtime
            .block_on(all.watch(session, client, (show, seen), told))
            .map(drop)
    }

    async fn watch(
        &self,
        session: Session<'_>,
        client: &Client<'_>,
        (show, mut seen): (Show, Seen),
        told: impl Future<Output = ()>,
    ) -> Result<Ended> {
        let output = session.output;
        let end = self.exit.filter(|seconds| *seconds > 0);
        let end = end.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut told = pin!(told);
        let mut subscription = Subscription::new(end, !output.json);
        let mut live = Live::default();
        loop {
            // Subscribed first and looked then, so that nothing falls between.
            let stream = subscription.open(client, self.name.as_deref());
            let looked = stream.and_then(|stream| Ok((stream, self.look(client, &mut seen)?)));
            let stream = match looked {
                Ok((stream, records)) => {
                    for record in records {
                        live.record(session, show, record);
                    }
                    stream
                }
                // A server that restarts is no reason to stop watching.
                Err(failure) => {
                    output.failure(&failure);
                    None
                }
            };
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(Ended::Time);
            }
            let next = Instant::now() + EVERY;
            let next = end.map_or(next, |end| end.min(next));
            tokio::select! {
                () = follow(session, show, stream, (&mut subscription, &mut seen, &mut live)) => {}
                () = &mut told => return Ok(Ended::Told),
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = &mut told => return Ok(Ended::Told),
            }
        }
    }

    /// From when on: as long ago as asked, or after the latest activation there is.
    fn begin(&self, client: &Client<'_>) -> Result<Seen> {
        let hours = self
            .since_hours
            .saturating_add(self.since_days.saturating_mul(24));
        let minutes = self.since_minutes.saturating_add(hours.saturating_mul(60));
        let seconds = self
            .since_seconds
            .saturating_add(minutes.saturating_mul(60));
        if seconds > 0 {
            let back = seconds.saturating_mul(1000);
            return Ok(Seen::from(Timestamp::now().millis().saturating_sub(back)));
        }
        let query = [
            ("limit", "1".to_owned()),
            ("skip", "0".to_owned()),
            ("docs", "true".to_owned()),
        ];
        let latest = client.list(&client.path("_", "activations"), &query)?;
        let start = latest.first().and_then(|record| record["start"].as_u64());
        let mut seen = Seen::from(start.unwrap_or(0));
        drop(seen.fresh(latest));
        Ok(seen)
    }

    /// What is new, oldest first.
    fn look(&self, client: &Client<'_>, seen: &mut Seen) -> Result<Vec<Value>> {
        let path = client.path("_", "activations");
        let since = seen.since();
        let mut new = Vec::new();
        for page in 0..PAGES_MAX {
            let mut query = vec![
                ("docs", "true".to_owned()),
                ("limit", "0".to_owned()),
                ("skip", (page * PAGE).to_string()),
                ("since", since.to_string()),
            ];
            query.extend(self.name.clone().map(|name| ("name", name)));
            let records = client.list(&path, &query)?;
            let last = records.len() < PAGE;
            let fresh = seen.fresh(records);
            let nothing = fresh.is_empty();
            new.extend(fresh);
            if last || nothing {
                break;
            }
        }
        new.sort_by_key(|record| record["start"].as_u64());
        Ok(new)
    }
}

/// The server's own stream of activations, as long as it has one.
#[derive(Debug)]
struct Subscription {
    /// The last event that came: those after it are asked for.
    last: Option<String>,
    /// Whether the server has such a stream.
    offered: bool,
    /// Whether lines are wanted before their records.
    lines: bool,
    end: Option<Instant>,
}

impl Subscription {
    fn new(end: Option<Instant>, lines: bool) -> Self {
        Self {
            last: None,
            offered: true,
            lines,
            end,
        }
    }

    fn open(&mut self, client: &Client<'_>, name: Option<&str>) -> Result<Option<Events>> {
        let over = self.end.is_some_and(|end| Instant::now() >= end);
        if over || !self.offered {
            return Ok(None);
        }
        let mut query = vec![("events", "true".to_owned())];
        if self.lines {
            query.push(("logs", "true".to_owned()));
        }
        query.extend(name.map(|name| ("name", name.to_owned())));
        let left = self
            .end
            .map(|end| end.saturating_duration_since(Instant::now()));
        let lifetime = left.map_or(STREAM_MAX, |left| left.min(STREAM_MAX));
        let path = client.path("_", "activations");
        let lifetime = lifetime + SPARE;
        let stream = client.events(&path, &query, self.last.as_deref(), lifetime)?;
        self.offered = stream.is_some();
        Ok(stream)
    }
}

/// Prints what comes on the stream until it ends, is silent for too long, or the time is over.
async fn follow(
    session: Session<'_>,
    show: Show,
    stream: Option<Events>,
    (subscription, seen, live): (&mut Subscription, &mut Seen, &mut Live),
) {
    let Some(stream) = stream else {
        return;
    };
    let mut signals = events::read(stream);
    loop {
        let silent = Instant::now() + SILENCE_MAX;
        let until = subscription.end.map_or(silent, |end| end.min(silent));
        let event = match tokio::time::timeout_at(until, signals.recv()).await {
            Ok(Some(Signal::Event(event))) => event,
            Ok(Some(Signal::Alive)) => continue,
            Ok(None) | Err(_) => return,
        };
        if event.name == "missed" {
            // Too slow for the server: the list has what it left out.
            return;
        }
        if event.name == "activation"
            && let Ok(record) = serde_json::from_str(&event.data)
        {
            for record in seen.fresh(vec![record]) {
                live.record(session, show, record);
            }
        }
        if event.name == "log"
            && let Ok(line) = serde_json::from_str(&event.data)
            && !seen.has(&line)
        {
            live.line(session, show, &line);
        }
        if !event.id.is_empty() {
            subscription.last = Some(event.id);
        }
    }
}

fn print(session: Session<'_>, shown: &Shown<'_>) {
    let output = session.output;
    match *shown {
        Shown::Record(record, _) if output.json => output.row(record),
        Shown::Record(record, true) if record["logs"].as_array().is_none_or(Vec::is_empty) => {}
        Shown::Record(record, _) => {
            let (head, logs) = polled(record);
            output.line(&head);
            output.value(&logs);
        }
        Shown::Line(line, is_other) => {
            if is_other {
                output.line(&polled(line).0);
            }
            output.line(line["line"].as_str().unwrap_or_default());
        }
    }
}

/// What was shown of activations that have not ended.
#[derive(Debug, Default)]
struct Live {
    /// Of each the lines, oldest activation first.
    told: VecDeque<(String, Vec<String>)>,
    count: usize,
    /// Whose line was shown last.
    last: String,
}

impl Live {
    fn line(&mut self, session: Session<'_>, show: Show, line: &Value) {
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let id = text("activationId");
        show(session, &Shown::Line(line, self.last != id));
        let told = self.told.iter_mut().find(|(other, _)| *other == id);
        match told {
            Some((_, lines)) => lines.push(text("line")),
            None => self.told.push_back((id.clone(), vec![text("line")])),
        }
        self.last = id;
        self.count += 1;
        while self.count > LINES_MAX
            && let Some((_, lines)) = self.told.pop_front()
        {
            self.count -= lines.len();
        }
    }

    /// The record without the lines that were shown.
    fn record(&mut self, session: Session<'_>, show: Show, mut record: Value) {
        let id = record["activationId"].as_str().unwrap_or_default();
        let told = self.told.iter().position(|(other, _)| other == id);
        let told = told.and_then(|place| self.told.remove(place));
        let was_told = told.is_some();
        if let (Some((_, lines)), Some(logs)) = (told, record["logs"].as_array_mut()) {
            self.count -= lines.len();
            let mut shown: HashMap<&str, usize> = HashMap::new();
            for line in &lines {
                *shown.entry(line).or_default() += 1;
            }
            logs.retain(|line| {
                let left = line.as_str().and_then(|line| shown.get_mut(line));
                match left {
                    Some(left) if *left > 0 => {
                        *left -= 1;
                        false
                    }
                    _ => true,
                }
            });
        }
        show(session, &Shown::Record(&record, was_told));
        self.last.clear();
    }
}

/// What was printed, and from when on to ask.
#[derive(Debug)]
struct Seen {
    /// Where polling began.
    begin: u64,
    /// Start of the newest.
    newest: u64,
    /// Id and start of those that the next answer may hold again.
    ids: HashMap<String, u64>,
}

impl From<u64> for Seen {
    fn from(begin: u64) -> Self {
        Self {
            begin,
            newest: begin,
            ids: HashMap::new(),
        }
    }
}

impl Seen {
    fn since(&self) -> u64 {
        self.begin.max(self.newest.saturating_sub(LATE_MS_MAX))
    }

    /// Whether the record of a line's activation was printed.
    fn has(&self, line: &Value) -> bool {
        let id = line["activationId"].as_str().unwrap_or_default();
        self.ids.contains_key(id)
    }

    /// Those of `records` that were not seen before; they are now.
    fn fresh(&mut self, records: Vec<Value>) -> Vec<Value> {
        let mut fresh = Vec::new();
        for record in records {
            let start = record["start"].as_u64().unwrap_or_default();
            let id = record["activationId"].as_str().unwrap_or_default();
            if self.ids.insert(id.to_owned(), start).is_none() {
                self.newest = self.newest.max(start);
                fresh.push(record);
            }
        }
        let since = self.since();
        self.ids.retain(|_, start| *start >= since);
        fresh
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(id: &str, start: u64) -> Value {
        json!({"activationId": id, "start": start})
    }

    #[test]
    fn each_activation_is_fresh_once_even_when_it_comes_late() {
        let mut seen = Seen::from(1_000);
        assert_eq!(seen.fresh(vec![record("a", 2_000)]).len(), 1);
        let late = seen.fresh(vec![record("a", 2_000), record("b", 1_500)]);
        assert_eq!(late, [record("b", 1_500)]);
        assert_eq!(seen.since(), 1_000);
    }

    #[test]
    fn what_is_too_old_to_come_again_is_forgotten() {
        let mut seen = Seen::from(0);
        seen.fresh(vec![record("a", 1)]);
        seen.fresh(vec![record("b", LATE_MS_MAX + 10)]);
        assert_eq!(seen.since(), 10);
        assert_eq!(seen.ids.len(), 1);
    }
}
