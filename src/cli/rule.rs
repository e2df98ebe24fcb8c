//! `wisp rule`: which trigger runs which action.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Session;
use super::client::{Answer, Client, EntityPath};
use super::entity::{self, Get, List, Put};
use super::failure::Result;
use super::pairs::Annotations;

/// `wisp rule …`
#[derive(Debug, Subcommand)]
pub(super) enum Rule {
    /// Make a rule; it is active at once
    #[command(after_help = "\
Examples:
  wisp rule create resize uploaded images/thumbnail
  wisp rule create resize uploaded images/thumbnail --retry 5 --backoff 1000")]
    Create(Write),
    /// Change a rule, or make it when it does not exist
    Update(Write),
    /// Show a rule
    Get(Get),
    /// List rules with their state, newest first
    List(List),
    /// Let a rule run its action
    Enable {
        /// Name of the rule
        name: String,
    },
    /// Keep a rule from running its action
    Disable {
        /// Name of the rule
        name: String,
    },
    /// Say whether a rule is active
    Status {
        /// Name of the rule
        name: String,
    },
    /// Delete a rule
    Delete {
        /// Name of the rule
        name: String,
        /// Disable it first
        #[arg(long)]
        disable: bool,
    },
}

/// What is said of a rule.
#[derive(Debug, Args)]
pub(super) struct Write {
    /// Name of the rule
    name: String,
    /// The trigger that runs it
    trigger: String,
    /// The action it runs
    action: String,
    #[command(flatten)]
    annotations: Annotations,
    /// Run an action that fails up to that many times in all, 1 to 10, and keep what failed to the end as a dead letter
    #[arg(long, value_name = "ATTEMPTS", value_parser = clap::value_parser!(u32).range(1..=10))]
    retry: Option<u32>,
    /// Wait that long before the first retry, twice as long before each other
    #[arg(long, value_name = "MILLISECONDS", requires = "retry")]
    backoff: Option<u64>,
}

impl Rule {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        match self {
            Self::Create(write) => write.run(session, Put::Create),
            Self::Update(write) => write.run(session, Put::Update),
            Self::Get(get) => show(session, get),
            Self::List(list) => all(session, list),
            Self::Enable { name } => set(session, name, "enable", "active"),
            Self::Disable { name } => set(session, name, "disable", "inactive"),
            Self::Status { name } => status(session, name),
            Self::Delete { name, disable } => delete(session, name, *disable),
        }
    }
}

impl Write {
    fn run(&self, session: Session<'_>, way: Put) -> Result<()> {
        let client = Client::new(session)?;
        let own = client.namespace();
        let name = EntityPath::parse_plain(&self.name, own)?;
        let trigger = EntityPath::parse_plain(&self.trigger, own)?;
        let action = EntityPath::parse(&self.action, own)?;
        let mut body = json!({
            "name": name.path,
            "status": "",
            "trigger": trigger.to_string(),
            "action": action.to_string(),
        });
        if let Some(annotations) = self.annotations.pairs()? {
            body["annotations"] = annotations;
        }
        if let Some(attempts) = self.retry {
            if way == Put::Update && body.get("annotations").is_none() {
                body["annotations"] = kept(&client, &name)?;
            }
            let mut retry = json!({ "attempts": attempts });
            if let Some(backoff) = self.backoff {
                retry["backoff"] = json!(backoff);
            }
            entity::annotate(&mut body["annotations"], "retry", retry);
        }
        let rule = entity::put(&client, way, "rule", &name, &body)?;
        let text = format!("{} rule {}", way.done(), name.path);
        session.output.done(&text, &rule);
        Ok(())
    }
}

/// The annotations a rule has: a `PUT` replaces them as a whole.
fn kept(client: &Client<'_>, name: &EntityPath) -> Result<Value> {
    match entity::get(client, "rule", name) {
        Ok(rule) => Ok(rule["annotations"].clone()),
        Err(failure) if failure.status == Some(404) => Ok(json!([])),
        Err(failure) => Err(failure),
    }
}

fn show(session: Session<'_>, get: &Get) -> Result<()> {
    let client = Client::new(session)?;
    let name = EntityPath::parse_plain(&get.name, client.namespace())?;
    let rule = entity::get(&client, "rule", &name)?;
    if !get.summary || session.output.json {
        return entity::show(session, "rule", &name, &rule, get.field.as_deref());
    }
    let status = rule["status"].as_str().unwrap_or("?");
    let full = entity::full_name(&rule);
    session
        .output
        .line(&format!("rule {full}\n   (status: {status})"));
    Ok(())
}

fn all(session: Session<'_>, list: &List) -> Result<()> {
    let client = Client::new(session)?;
    let rows = with_status(&client, list.fetch(&client, "rules")?)?;
    if session.output.json {
        session.output.value(&Value::Array(rows));
        return Ok(());
    }
    let rows: Vec<[String; 3]> = rows.iter().map(row).collect();
    session.output.table(["rules", "", ""], &rows);
    Ok(())
}

/// As `wsk` lists a rule: name, whether it is shared, state.
pub(super) fn row(rule: &Value) -> [String; 3] {
    [
        entity::full_name(rule),
        entity::visibility(rule).to_owned(),
        rule["status"].as_str().unwrap_or_default().to_owned(),
    ]
}

/// Lists do not say whether a rule is active, so each is asked for. One that went meanwhile is left out.
pub(super) fn with_status(client: &Client<'_>, rows: Vec<Value>) -> Result<Vec<Value>> {
    let mut known = Vec::with_capacity(rows.len());
    for mut row in rows {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let name = EntityPath {
            namespace: text("namespace"),
            path: text("name"),
        };
        match entity::get(client, "rule", &name) {
            Ok(rule) => {
                row["status"] = rule["status"].clone();
                known.push(row);
            }
            Err(failure) if failure.status == Some(404) => {}
            Err(failure) => {
                let what = format!("Unable to get status of rule '{}'", name.path);
                return Err(failure.while_trying(&what));
            }
        }
    }
    Ok(known)
}

fn post(client: &Client<'_>, name: &EntityPath, verb: &str, state: &str) -> Result<Value> {
    let path = client.path(&name.namespace, &name.in_collection("rules"));
    let body = json!({ "status": state });
    let answer = client.send("POST", &path, &[], Some(&body));
    let attempt = format!("Unable to {verb} rule '{}'", name.path);
    answer
        .and_then(Answer::success)
        .map_err(|f| f.while_trying(&attempt))
}

fn set(session: Session<'_>, name: &str, verb: &str, state: &str) -> Result<()> {
    let client = Client::new(session)?;
    let name = EntityPath::parse_plain(name, client.namespace())?;
    post(&client, &name, verb, state)?;
    let text = format!("{verb}d rule {}", name.path);
    session.output.done(&text, &json!({ "status": state }));
    Ok(())
}

fn status(session: Session<'_>, name: &str) -> Result<()> {
    let client = Client::new(session)?;
    let name = EntityPath::parse_plain(name, client.namespace())?;
    let rule = entity::get(&client, "rule", &name)?;
    let state = rule["status"].as_str().unwrap_or("?");
    let text = format!("rule {} is {state}", name.path);
    session.output.done(&text, &json!({ "status": state }));
    Ok(())
}

fn delete(session: Session<'_>, name: &str, disable: bool) -> Result<()> {
    let client = Client::new(session)?;
    let name = EntityPath::parse_plain(name, client.namespace())?;
    if disable {
        post(&client, &name, "disable", "inactive")?;
    }
    let deleted = entity::delete(&client, "rule", &name)?;
    let text = format!("deleted rule {}", name.path);
    session.output.done(&text, &deleted);
    Ok(())
}
