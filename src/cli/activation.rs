//! `wisp activation`: what invocations did.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{Answer, Client, EntityPath, encode};
use super::entity::annotation;
use super::failure::{Failure, Result};
use super::{Page, Session, poll};
use crate::model::{ActivationId, time};

/// How long a server waits for an activation at once.
const WAIT_AT_ONCE: Duration = Duration::from_secs(60);

/// Longest wait, a day: nothing runs longer.
const WAIT_S_MAX: u64 = 86_400;

/// `wisp activation …`
#[derive(Debug, Subcommand)]
pub(super) enum Activation {
    /// List activations, newest first
    #[command(after_help = "\
Examples:
  wisp activation list -l 5
  wisp activation list hello --since 1700000000000
  wisp activation list --full --json")]
    List(List),
    /// Show an activation, or one field of it
    #[command(after_help = "\
Examples:
  wisp activation get --last
  wisp activation get 018bcfe568007a3ab2c15de0ef0d1a2b --wait 60
  wisp activation get 018bcfe568007a3ab2c15de0ef0d1a2b response")]
    Get {
        #[command(flatten)]
        which: Which,
        /// Only a summary: what it was, how it ended, its result
        #[arg(short, long)]
        summary: bool,
        /// When it has not ended, wait that long for it
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// End an activation that waits or runs
    Cancel {
        /// Its id
        id: String,
    },
    /// Print what an activation wrote
    #[command(after_help = "Example:\n  wisp activation logs --last --strip")]
    Logs {
        #[command(flatten)]
        which: Which,
        /// Without stamp and stream
        #[arg(short = 'r', long)]
        strip: bool,
    },
    /// Print what an activation answered
    Result {
        #[command(flatten)]
        which: Which,
    },
    /// Print activations with their logs as they come
    Poll(poll::Poll),
}

/// Which activation.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Its id, unless --last; then, for `get`, one of its fields
    #[arg(value_name = "ID", num_args = 0..=2)]
    words: Vec<String>,
    /// The latest
    #[arg(short, long)]
    last: bool,
}

/// Which activations to list.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those of this action
    name: Option<String>,
    #[command(flatten)]
    page: Page,
    /// Whole records
    #[arg(short, long)]
    full: bool,
    /// Started at or after, milliseconds since 1970
    #[arg(long, value_name = "MILLISECONDS")]
    since: Option<u64>,
    /// Started at or before, milliseconds since 1970
    #[arg(long, value_name = "MILLISECONDS")]
    upto: Option<u64>,
}

impl Activation {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        let output = session.output;
        match self {
            Self::List(list) => return list.run(session),
            Self::Poll(poll) => return poll.run(session),
            Self::Cancel { id } => return cancel(session, id),
            Self::Get {
                which,
                summary,
                wait,
            } => {
                let (id, field, record) = which.fetch(session, "", *wait)?;
                match field {
                    Some(field) => {
                        let value = record.get(&field);
                        let missing =
                            || Failure::general(format!("Invalid field filter '{field}'."));
                        let value = value.ok_or_else(missing)?;
                        output.ok(&format!("got activation {id}, displaying field {field}"));
                        output.value(value);
                    }
                    None if *summary && !output.json => {
                        output.line(&summarised(&record));
                        output.value(&record["response"]["result"]);
                    }
                    None => {
                        output.ok(&format!("got activation {id}"));
                        output.value(&record);
                    }
                }
            }
            Self::Logs { which, strip } => {
                let (_, _, answer) = which.fetch(session, "/logs", None)?;
                if output.json {
                    output.value(&answer);
                }
                for line in answer["logs"].as_array().into_iter().flatten() {
                    let line = line.as_str().unwrap_or_default();
                    output.line(if *strip { stripped(line) } else { line });
                }
            }
            Self::Result { which } => {
                let (_, _, answer) = which.fetch(session, "/result", None)?;
                output.value(answer.get("result").unwrap_or(&answer));
            }
        }
        Ok(())
    }
}

impl Which {
    /// The id, the field if one was named, and `GET activations/{id}{part}`.
    fn fetch(
        &self,
        session: Session<'_>,
        part: &str,
        wait: Option<u64>,
    ) -> Result<(String, Option<String>, Value)> {
        let client = Client::new(session)?;
        let mut words = self.words.iter();
        let id = match self.last {
            true => Some(latest(&client)?),
            false => words.next().cloned(),
        };
        let id = id.ok_or_else(|| {
            Failure::usage("An activation ID is required.")
                .advise("Give the id, or --last for the latest activation.")
        })?;
        check(&id)?;
        let field = words.next().cloned();
        if words.next().is_some() || (!part.is_empty() && field.is_some()) {
            return Err(Failure::usage(
                "too many arguments: one activation ID is enough",
            ));
        }
        let path = client.path("_", &format!("activations/{}{part}", encode(&id)));
        let what = match part {
            "" => format!("Unable to get activation '{id}'"),
            part => format!(
                "Unable to get {} for activation '{id}'",
                part.trim_start_matches('/')
            ),
        };
        let answer = match wait {
            Some(seconds) => awaited(&client, &path, seconds),
            None => client.get(&path, &[]),
        };
        let answer = answer.map_err(|f| f.while_trying(&what))?;
        Ok((id, field, answer))
    }
}

/// The record once there is one. A server waits for so long at once, then is asked again; one that answers before that
/// has nothing to wait for.
fn awaited(client: &Client<'_>, path: &str, seconds: u64) -> Result<Value> {
    let end = Instant::now() + Duration::from_secs(seconds.min(WAIT_S_MAX));
    loop {
        let begin = Instant::now();
        let left = end.saturating_duration_since(begin).as_secs_f64().ceil();
        let part = Duration::from_secs_f64(left).min(WAIT_AT_ONCE);
        let found = client.get(path, &[("wait", part.as_secs().to_string())]);
        let waited = begin.elapsed() + Duration::from_secs(1) >= part;
        match found {
            Err(failure) if failure.status == Some(404) => {
                if !waited || Instant::now() >= end {
                    let advice = "It has not ended yet, or there is none of that id.";
                    return Err(failure.advise(advice));
                }
            }
            other => return other,
        }
    }
}

fn check(id: &str) -> Result<()> {
    let parsed = id.parse::<ActivationId>();
    parsed
        .map(drop)
        .map_err(|bad| Failure::usage(format!("'{id}': {bad}")))
}

fn cancel(session: Session<'_>, id: &str) -> Result<()> {
    check(id)?;
    let client = Client::new(session)?;
    let path = client.path("_", &format!("activations/{}", encode(id)));
    let answer = client.send("DELETE", &path, &[], None);
    let cancelled = answer
        .and_then(Answer::success)
        .map_err(|f| f.while_trying(&format!("Unable to cancel activation '{id}'")))?;
    session
        .output
        .done(&format!("cancelled activation {id}"), &cancelled);
    Ok(())
}

fn latest(client: &Client<'_>) -> Result<String> {
    let query = [("limit", "1".to_owned()), ("skip", "0".to_owned())];
    let rows = client.list(&client.path("_", "activations"), &query)?;
    let id = rows.first().and_then(|row| row["activationId"].as_str());
    let id =
        id.ok_or_else(|| Failure::general("Activation list does not contain any activations."))?;
    Ok(id.to_owned())
}

impl List {
    fn run(&self, session: Session<'_>) -> Result<()> {
        let client = Client::new(session)?;
        let mut query = self.page.query();
        let mut namespace = "_".to_owned();
        match self
            .name
            .as_deref()
            .map(|name| (name, name.strip_prefix('/')))
        {
            // As `wsk`: `/namespace` alone says whose.
            Some((_, Some(alone))) if !alone.contains('/') => alone.clone_into(&mut namespace),
            Some((name, _)) => {
                let name = EntityPath::parse(name, "_")?;
                namespace = name.namespace;
                query.push(("name", name.path));
            }
            None => {}
        }
        query.extend(self.since.map(|since| ("since", since.to_string())));
        query.extend(self.upto.map(|upto| ("upto", upto.to_string())));
        if self.full {
            query.push(("docs", "true".to_owned()));
        }
        let path = client.path(&namespace, "activations");
        let attempt =
            format!("Unable to obtain the list of activations for namespace '{namespace}'");
        let rows = client
            .list(&path, &query)
            .map_err(|f| f.while_trying(&attempt))?;
        let output = session.output;
        if output.json {
            output.value(&Value::Array(rows));
        } else if self.full {
            output.line(&output.bold("activations"));
            for row in &rows {
                output.value(row);
            }
        } else {
            let header = [
                "Datetime (UTC)",
                "Activation ID",
                "Kind",
                "Start",
                "Duration",
                "Status",
                "Entity",
            ];
            let rows: Vec<[String; 7]> = rows.iter().map(row).collect();
            output.table(header, &rows);
        }
        Ok(())
    }
}

/// As `wsk` shows one; it paid for an init if it was started cold.
fn row(activation: &Value) -> [String; 7] {
    let text = |field: &str| activation[field].as_str().unwrap_or("?").to_owned();
    let kind = annotation(activation, "kind").and_then(Value::as_str);
    // A trigger's has no end: nothing of it ran.
    let is_fire = kind.is_none() && activation["end"].is_null();
    let start = match annotation(activation, "initTime") {
        _ if is_fire => "",
        Some(_) => "cold",
        None => "warm",
    };
    let kind = kind.unwrap_or(if is_fire { "trigger" } else { "unknown" });
    let entity = format!("{}/{}:{}", text("namespace"), text("name"), text("version"));
    [
        stamp(activation["start"].as_u64().unwrap_or_default()),
        text("activationId"),
        kind.to_owned(),
        start.to_owned(),
        activation["duration"]
            .as_u64()
            .map(duration)
            .unwrap_or_default(),
        status(activation).to_owned(),
        entity,
    ]
}

fn status(activation: &Value) -> &str {
    match activation["statusCode"].as_u64() {
        None => activation["response"]["status"]
            .as_str()
            .unwrap_or("success"),
        Some(0) => "success",
        Some(1) => "application error",
        Some(2) => "developer error",
        Some(_) => "internal error",
    }
}

fn summarised(record: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let (namespace, name) = (text(&record["namespace"]), text(&record["name"]));
    let at = stamp(
        record["end"]
            .as_u64()
            .or_else(|| record["start"].as_u64())
            .unwrap_or_default(),
    );
    format!(
        "activation result for '/{namespace}/{name}' ({} at {at})",
        status(record)
    )
}

/// `2018-03-13 21:06:34`, UTC.
pub(super) fn stamp(millis: u64) -> String {
    let full = time::iso8601(millis.saturating_mul(1_000_000));
    full.get(..19).unwrap_or(&full).replace('T', " ")
}

/// `12ms`, `1.234s`, `2m0.5s`, as `wsk` has them.
fn duration(millis: u64) -> String {
    let seconds = |millis: u64| {
        let text = format!("{}.{:03}", millis / 1000, millis % 1000);
        format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match millis {
        0..1000 => format!("{millis}ms"),
        1000..60_000 => seconds(millis),
        _ => format!("{}m{}", millis / 60_000, seconds(millis % 60_000)),
    }
}

/// A log line without its stamp and stream; as it is when it has none.
pub(super) fn stripped(line: &str) -> &str {
    let (stamp, rest) = line.split_once(' ').unwrap_or(("", line));
    let rest = rest.trim_start_matches(' ');
    let text = ["stdout:", "stderr:"]
        .iter()
        .find_map(|stream| rest.strip_prefix(stream));
    match text {
        Some(text) if stamp.ends_with('Z') => text.strip_prefix(' ').unwrap_or(text),
        _ => line,
    }
}

/// What poll prints of a record: its name, its id, and its log.
pub(super) fn polled(record: &Value) -> (String, Value) {
    let text = |field: &str| record[field].as_str().unwrap_or("?").to_owned();
    let head = format!(
        "\nActivation: '{}' ({})",
        text("name"),
        text("activationId")
    );
    (
        head,
        record.get("logs").cloned().unwrap_or_else(|| json!([])),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_wsk() {
        let table = [
            (0, "0ms"),
            (999, "999ms"),
            (1000, "1s"),
            (1230, "1.23s"),
            (59_999, "59.999s"),
            (120_500, "2m0.5s"),
        ];
        for (millis, text) in table {
            assert_eq!(duration(millis), text);
        }
    }

    #[test]
    fn logs_are_stripped_of_stamp_and_stream_only() {
        assert_eq!(
            stripped("2018-03-13T21:06:34.652259951Z stdout: hi  there"),
            "hi  there"
        );
        assert_eq!(stripped("2018-03-13T21:06:34.65Z         stderr: x"), "x");
        assert_eq!(stripped("no stamp stdout: x"), "no stamp stdout: x");
        assert_eq!(stripped(""), "");
    }

    #[test]
    fn rows_tell_cold_from_warm() {
        let row_of = |annotations: Value| {
            row(
                &json!({"namespace": "guest", "name": "hello", "version": "0.0.1", "activationId": "a",
                "start": 1_520_975_194_652_u64, "end": 1_520_975_194_664_u64, "duration": 12, "statusCode": 2, "annotations": annotations}),
            )
        };
        let cold =
            row_of(json!([{"key": "kind", "value": "wasm:1"}, {"key": "initTime", "value": 1}]));
        let expected = [
            "2018-03-13 21:06:34",
            "a",
            "wasm:1",
            "cold",
            "12ms",
            "developer error",
            "guest/hello:0.0.1",
        ];
        assert_eq!(cold, expected.map(str::to_owned));
        assert_eq!(
            row_of(json!([]))[2..4],
            ["unknown".to_owned(), "warm".to_owned()]
        );
        let fire = json!({"namespace": "guest", "name": "t", "version": "0.0.1", "activationId": "a", "annotations": []});
        assert_eq!(row(&fire)[2..4], ["trigger".to_owned(), String::new()]);
    }
}
