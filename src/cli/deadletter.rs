//! `wisp deadletter`: what rules could not deliver, after all their retries.

use clap::Subcommand;
use serde_json::{Value, json};

use super::activation::stamp;
use super::client::{Answer, Client, encode};
use super::failure::{Failure, Result};
use super::{Page, Session};

/// `wisp deadletter …`
#[derive(Debug, Subcommand)]
pub(super) enum Deadletter {
    /// List dead letters, newest first
    List(Page),
    /// Show a dead letter with the event in it
    Get {
        /// Its id
        id: String,
    },
    /// Run the action of a dead letter once more; what fails is a dead letter again, under another id
    Replay {
        /// Its id
        id: String,
    },
    /// Throw dead letters away
    #[command(after_help = "Examples:\n  wisp deadletter purge ID\n  wisp deadletter purge --all")]
    Purge {
        /// Which
        #[arg(conflicts_with = "all")]
        id: Option<String>,
        /// All of the namespace
        #[arg(long)]
        all: bool,
    },
}

impl Deadletter {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        let client = Client::new(session)?;
        let output = session.output;
        match self {
            Self::List(page) => {
                let rows = client.list(&path(&client, None), &page.query());
                let rows =
                    rows.map_err(|f| f.while_trying("Unable to obtain the list of dead letters"))?;
                if output.json {
                    output.value(&Value::Array(rows));
                    return Ok(());
                }
                let rows: Vec<[String; 6]> = rows.iter().map(row).collect();
                let header = [
                    "Datetime (UTC)",
                    "ID",
                    "Rule",
                    "Action",
                    "Attempts",
                    "Error",
                ];
                output.table(header, &rows);
            }
            Self::Get { id } => {
                let letter = ask(&client, "GET", Some(id), "get")?;
                output.ok(&format!("got dead letter {id}"));
                output.value(&letter);
            }
            Self::Replay { id } => {
                let started = ask(&client, "POST", Some(id), "replay")?;
                let activation = started["activationId"].as_str().unwrap_or_default();
                let text = format!("replayed dead letter {id} with id {activation}");
                output.done(&text, &started);
            }
            Self::Purge { id: Some(id), .. } => {
                let purged = ask(&client, "DELETE", Some(id), "purge")?;
                output.done(&format!("purged dead letter {id}"), &purged);
            }
            Self::Purge { id: None, all } => {
                if !all {
                    return Err(Failure::usage("Say which: an ID, or --all."));
                }
                let purged = ask(&client, "DELETE", None, "purge")?;
                let count = purged["purged"].as_u64().unwrap_or_default();
                output.done(&format!("purged {count} dead letters"), &purged);
            }
        }
        Ok(())
    }
}

fn path(client: &Client<'_>, id: Option<&str>) -> String {
    let rest = match id {
        Some(id) => format!("deadletters/{}", encode(id)),
        None => "deadletters".to_owned(),
    };
    client.path(client.namespace(), &rest)
}

fn ask(client: &Client<'_>, method: &str, id: Option<&str>, verb: &str) -> Result<Value> {
    if id.is_some_and(str::is_empty) {
        return Err(Failure::usage("the id of a dead letter is empty"));
    }
    let what = match id {
        Some(id) => format!("Unable to {verb} dead letter '{id}'"),
        None => format!("Unable to {verb} the dead letters"),
    };
    let answer = client.send(method, &path(client, id), &[], None);
    let answer = answer.and_then(Answer::success);
    let body = answer.map_err(|f| f.while_trying(&what))?;
    Ok(if body.is_null() { json!({}) } else { body })
}

fn row(letter: &Value) -> [String; 6] {
    let text = |field: &str| match &letter[field] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let time = letter["time"].as_u64().map(stamp);
    [
        time.unwrap_or_default(),
        text("id"),
        text("rule"),
        text("action"),
        text("attempts"),
        text("error"),
    ]
}
