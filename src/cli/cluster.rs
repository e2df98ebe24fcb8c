//! `wisp cluster`: how the cluster stands that a server is a node of, with its system key.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Session;
use super::client::Client;
use super::failure::Result;
use super::output::Output;

/// A queue whose oldest has waited longer is worth a line, milliseconds.
const LATE_MS: u64 = 10_000;

/// `wisp cluster …`
#[derive(Debug, Args)]
#[command(after_help = "\
The system key comes from --auth or WISP_SYSTEM_KEY; on this machine the well-known one is tried.
Examples:
  wisp cluster status
  wisp cluster status --json | jq '.queues[0]'")]
pub(super) struct Cluster {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show nodes, queues, and what is wrong
    Status,
}

impl Cluster {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        let Verb::Status = &self.verb;
        let client = Client::admin(session)?;
        let status = client
            .get("/admin/v1/cluster", &[])
            .map_err(|failure| match failure.status {
                Some(401 | 403) => {
                    failure.advise("Pass the system key with --auth or in WISP_SYSTEM_KEY.")
                }
                _ => failure,
            })
            .map_err(|failure| failure.while_trying("Unable to get the state of the cluster"))?;
        let output = session.output;
        if output.json {
            output.value(&status);
            return Ok(());
        }
        show(output, &status);
        Ok(())
    }
}

fn show(output: &Output, status: &Value) {
    let nodes = list(&status["nodes"]);
    output.line(&format!(
        "cluster {}: {}, {} waiting, {}",
        text(&status["name"]),
        counted(
            u64::try_from(nodes.len()).unwrap_or(u64::MAX),
            "node",
            "nodes"
        ),
        counted(number(&status["waiting"]), "invocation", "invocations"),
        counted(
            number(&status["deadLetters"]),
            "dead letter",
            "dead letters"
        ),
    ));
    output.line("");
    let rows: Vec<[String; 10]> = nodes.iter().map(node).collect();
    let header = [
        "Node", "Role", "Address", "Version", "Lease", "Runs", "Memory", "Idle", "Waiting",
        "Queues",
    ];
    output.table(header, &rows);
    show_queues(output, status);
    let accepted = list(&status["homes"]).iter();
    let accepted: u64 = accepted.map(|home| number(&home["accepted"])).sum();
    if accepted > 0 {
        output.line("");
        output.line(&format!(
            "promised and not over: {}",
            counted(accepted, "piece of work", "pieces of work")
        ));
    }
    output.line("");
    let wrong = wrong(status);
    if wrong.is_empty() {
        output.ok("nothing is wrong");
    }
    for line in wrong {
        output.line(&format!("{} {line}", output.bold("wrong:")));
    }
}

fn show_queues(output: &Output, status: &Value) {
    let queues = list(&status["queues"]);
    if !queues.is_empty() {
        output.line("");
        let rows: Vec<[String; 7]> = queues.iter().map(queue).collect();
        let header = [
            "Namespace",
            "Action",
            "Waiting",
            "Entries",
            "In work",
            "Oldest",
            "Holders (slots)",
        ];
        output.table(header, &rows);
        if number(&status["queuesMore"]) > 0 {
            output.line(&format!(
                "and {}",
                counted(number(&status["queuesMore"]), "queue more", "queues more")
            ));
        }
    }
}

/// What somebody should look at.
fn wrong(status: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for dead in list(&status["dead"]) {
        let since = match &dead["sinceMs"] {
            Value::Null => String::new(),
            since => format!(" {} ago", seconds(since)),
        };
        lines.push(format!(
            "node {} died{since}, and what it had is not taken over yet",
            text(&dead["id"])
        ));
    }
    let nodes = list(&status["nodes"]);
    if nodes.iter().all(|node| node["role"] == "front") {
        lines.push("no node runs actions: all of them are fronts".to_owned());
    } else if nodes
        .iter()
        .all(|node| node["role"] == "front" || node["leaves"] == true)
    {
        lines.push("no node runs actions: those that do are leaving".to_owned());
    }
    for queue in list(&status["queues"]) {
        let name = format!(
            "the queue of {} for {}",
            text(&queue["action"]),
            text(&queue["namespace"])
        );
        if number(&queue["oldestAgeMs"]) > LATE_MS {
            lines.push(format!(
                "{name}: the oldest has waited {}",
                seconds(&queue["oldestAgeMs"])
            ));
        }
        if number(&queue["unreadable"]) > 0 {
            lines.push(format!(
                "{name}: {} cannot be read and set aside; what they are is in the nodes' logs",
                counted(number(&queue["unreadable"]), "entry", "entries")
            ));
        }
        if !queue["problem"].is_null() {
            lines.push(format!("{name}: {}", text(&queue["problem"])));
        }
    }
    if status["partial"] == true {
        lines.push("there are more queues than were looked at".to_owned());
    }
    lines
}

fn node(node: &Value) -> [String; 10] {
    let this = if node["this"] == true { "*" } else { "" };
    [
        format!("{}{this}", text(&node["id"])),
        match node["leaves"] == true {
            true => format!("{}, leaving", text(&node["role"])),
            false => text(&node["role"]),
        },
        text(&node["address"]),
        text(&node["version"]),
        seconds(&node["leaseLeftMs"]),
        of(number(&node["runs"]), number(&node["runsMax"])),
        match number(&node["memoryMaxBytes"]) >> 20 {
            0 => "-".to_owned(),
            max => format!("{} MiB", of(number(&node["memoryUsedBytes"]) >> 20, max)),
        },
        number(&node["idle"]).to_string(),
        number(&node["waiting"]).to_string(),
        number(&node["lanes"]).to_string(),
    ]
}

fn queue(queue: &Value) -> [String; 7] {
    let limited = number(&queue["runsMax"]) > 0;
    let holders = list(&queue["holders"]).iter().map(|holder| {
        let dead = if holder["alive"] == false {
            ", dead"
        } else {
            ""
        };
        let name: String = text(&holder["node"]).chars().take(8).collect();
        match (limited, dead) {
            (true, dead) => format!("{name} ({}{dead})", number(&holder["slots"])),
            (false, "") => name,
            (false, _) => format!("{name} (dead)"),
        }
    });
    let mut holders: Vec<String> = holders.collect();
    let more = number(&queue["holdersMore"]);
    if more > 0 {
        holders.push(format!("{more} more"));
    }
    let left = number(&queue["toTakeOver"]);
    let left = if left > 0 {
        format!(" +{left} left behind")
    } else {
        String::new()
    };
    [
        text(&queue["namespace"]),
        text(&queue["action"]),
        number(&queue["invocations"]).to_string(),
        format!("{}{left}", number(&queue["entries"])),
        number(&queue["inWork"]).to_string(),
        match number(&queue["oldestAgeMs"]) {
            0 => "-".to_owned(),
            _ => seconds(&queue["oldestAgeMs"]),
        },
        holders.join(", "),
    ]
}

/// So many of the most there can be; nothing where there can be none.
fn of(some: u64, all: u64) -> String {
    match all {
        0 => "-".to_owned(),
        _ => format!("{some}/{all}"),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// What nodes say of themselves is shown without what a terminal might obey.
fn text(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default().chars();
    text.filter(|c| !c.is_control()).collect()
}

fn seconds(millis: &Value) -> String {
    let millis = number(millis);
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
