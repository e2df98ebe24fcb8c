//! `wisp admin`: the namespaces of a server, with its system key.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Session;
use super::client::{Answer, Client, encode};
use super::failure::{Failure, Result};
use crate::model::NamespaceLimits;

/// `wisp admin …`
#[derive(Debug, Args)]
#[command(after_help = "\
The system key comes from --auth or WISP_SYSTEM_KEY; on this machine the well-known one is tried.
Examples:
  wisp admin namespace create team
  wisp admin namespace limits set team concurrentInvocations=50 maxActionMemory=1024
  wisp admin namespace block team")]
pub(super) struct Admin {
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Make, list, block and limit namespaces
    #[command(subcommand)]
    Namespace(Namespace),
    /// Encrypt what is stored anew, with the first of the server's keys
    #[command(after_help = "\
What is under that key already is passed over: it can be interrupted, and run again. When it ends with `ok`, nothing is under
another key but work that was accepted before the key was changed and has not ended, and the others can be taken out of the
server's [encryption] section.
Examples:
  wisp admin reencrypt
  wisp admin reencrypt team")]
    Reencrypt {
        /// These namespaces alone
        #[arg(value_name = "NAMESPACE")]
        namespaces: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
enum Namespace {
    /// List all namespaces
    List,
    /// Make a namespace and print its key; it is shown this once
    Create { namespace: String },
    /// Show a namespace
    Get { namespace: String },
    /// Delete a namespace with everything in it
    Delete { namespace: String },
    /// Give a namespace a new key; the old one ends at once
    RotateKey { namespace: String },
    /// Refuse a namespace's key from now on
    Block { namespace: String },
    /// Accept a blocked namespace's key again
    Unblock { namespace: String },
    /// What a namespace may use
    #[command(subcommand)]
    Limits(Limits),
}

#[derive(Debug, Subcommand)]
enum Limits {
    /// Show the limits a namespace has of its own
    Get { namespace: String },
    /// Set limits, keeping the others
    #[command(after_help = "\
Example:
  wisp admin namespace limits set team invocationsPerMinute=600 allowedKinds='[\"wasm:1\"]'")]
    Set {
        namespace: String,
        /// As `concurrentInvocations=50`; the value is JSON
        #[arg(required = true, value_name = "LIMIT=VALUE")]
        limits: Vec<String>,
    },
    /// Return to the server's defaults: for the limits named, or for all
    Unset {
        namespace: String,
        /// As `concurrentInvocations`
        #[arg(value_name = "LIMIT")]
        limits: Vec<String>,
    },
}

impl Admin {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        let client = Client::admin(session)?;
        let client = Administrator { client, session };
        let namespace = match &self.noun {
            Noun::Namespace(namespace) => namespace,
            Noun::Reencrypt { namespaces } => return client.reencrypt(namespaces),
        };
        match namespace {
            Namespace::List => client.list(),
            Namespace::Create { namespace } => client.create(namespace),
            Namespace::Get { namespace } => {
                let found = client.call("get", "GET", namespace, "", None)?;
                session.output.ok(&format!("got namespace {namespace}"));
                session.output.value(&found);
                Ok(())
            }
            Namespace::Delete { namespace } => {
                client.act("delete", "DELETE", namespace, "", "deleted")
            }
            Namespace::RotateKey { namespace } => client.rotate(namespace),
            Namespace::Block { namespace } => {
                client.act("block", "POST", namespace, "/block", "blocked")
            }
            Namespace::Unblock { namespace } => {
                client.act("unblock", "POST", namespace, "/unblock", "unblocked")
            }
            Namespace::Limits(limits) => client.limits(limits),
        }
    }
}

/// What a step of encrypting anew counts.
const REENCRYPTED: [&str; 5] = ["entities", "items", "records", "keys", "unreadable"];

/// Where among them stands what no key opens.
const UNREADABLE: usize = 4;

fn told(sums: &[u64; REENCRYPTED.len()]) -> String {
    let [entities, items, records, keys, _] = sums;
    format!("{entities} entities, {items} documents, {records} activation records, {keys} API keys")
}

/// A client with the system key.
struct Administrator<'a> {
    client: Client<'a>,
    session: Session<'a>,
}

impl Administrator<'_> {
    fn call(
        &self,
        verb: &str,
        method: &str,
        namespace: &str,
        part: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let path = format!("/admin/v1/namespaces/{}{part}", encode(namespace));
        let answer = self
            .client
            .send(method, &path, &[], body)
            .and_then(Answer::success);
        let what = part.trim_start_matches('/');
        let of = if what == "limits" {
            "limits of namespace"
        } else {
            "namespace"
        };
        answer.map_err(|failure| {
            self.explained(failure)
                .while_trying(&format!("Unable to {verb} {of} '{namespace}'"))
        })
    }

    fn explained(&self, failure: Failure) -> Failure {
        match failure.status {
            Some(401 | 403) => {
                failure.advise("Pass the system key with --auth or in WISP_SYSTEM_KEY.")
            }
            _ => failure,
        }
    }

    fn act(&self, verb: &str, method: &str, namespace: &str, part: &str, done: &str) -> Result<()> {
        let answer = self.call(verb, method, namespace, part, None)?;
        self.session
            .output
            .done(&format!("{done} namespace {namespace}"), &answer);
        Ok(())
    }

    fn rows(&self) -> Result<Vec<Value>> {
        let rows = self.client.list("/admin/v1/namespaces", &[]);
        rows.map_err(|failure| {
            self.explained(failure)
                .while_trying("Unable to list the namespaces")
        })
    }

    /// Asks for steps until nothing is left.
    fn reencrypt(&self, named: &[String]) -> Result<()> {
        let output = self.session.output;
        let mut namespaces = named.to_vec();
        if namespaces.is_empty() {
            let rows = self.rows()?;
            let names = rows.iter().filter_map(|row| row["namespace"].as_str());
            namespaces.extend(names.map(str::to_owned));
        }
        let mut sums = [0; REENCRYPTED.len()];
        for namespace in &namespaces {
            loop {
                let step = self.call("reencrypt", "POST", namespace, "/reencrypt", None)?;
                let counts = REENCRYPTED.map(|what| step[what].as_u64().unwrap_or_default());
                // What is unreadable is met again by every step.
                let last = step["left"] != true;
                for (index, count) in counts.iter().enumerate() {
                    if last || index != UNREADABLE {
                        sums[index] += count;
                    }
                }
                if last {
                    break;
                }
                output.note(&format!("{namespace}: {} so far", told(&sums)));
            }
        }
        if output.json {
            let fields = REENCRYPTED.iter().zip(sums);
            let fields = fields.map(|(what, sum)| ((*what).to_owned(), json!(sum)));
            output.value(&Value::Object(fields.collect()));
        }
        match sums[UNREADABLE] {
            0 => {
                output.ok(&format!("reencrypted {}", told(&sums)));
                Ok(())
            }
            unreadable => {
                let text = format!("{unreadable} could not be read with any of the server's keys");
                Err(Failure::general(text)
                    .advise("Its log names them; put the key they are under into [encryption]."))
            }
        }
    }

    fn list(&self) -> Result<()> {
        let rows = self.rows()?;
        let output = self.session.output;
        if output.json {
            output.value(&Value::Array(rows));
            return Ok(());
        }
        let rows: Vec<[String; 3]> = rows.iter().map(row).collect();
        output.table(["Namespace", "UUID", "State"], &rows);
        Ok(())
    }

    fn create(&self, namespace: &str) -> Result<()> {
        let made = self.call("create", "PUT", namespace, "", None)?;
        self.show_key(&format!("created namespace {namespace}"), &made);
        Ok(())
    }

    fn rotate(&self, namespace: &str) -> Result<()> {
        let made = self.call("rotate the key of", "POST", namespace, "/key", None)?;
        self.show_key(&format!("gave namespace {namespace} a new key"), &made);
        Ok(())
    }

    /// A key is shown once: alone on its line of standard output, so that it can be kept by a script.
    fn show_key(&self, done: &str, made: &Value) {
        let output = self.session.output;
        if output.json {
            return output.value(made);
        }
        output.note(&format!("ok: {done}; its key is shown this once:"));
        output.line(made["key"].as_str().unwrap_or_default());
    }

    fn limits(&self, limits: &Limits) -> Result<()> {
        let output = self.session.output;
        match limits {
            Limits::Get { namespace } => {
                let own = self.call("get", "GET", namespace, "/limits", None)?;
                output.value(&own);
            }
            Limits::Set { namespace, limits } => {
                let set = parsed(limits)?;
                let mut own = self.own(namespace)?;
                own.extend(set);
                self.put(namespace, own)?;
            }
            Limits::Unset { namespace, limits } if limits.is_empty() => {
                let answer = self.call("unset", "DELETE", namespace, "/limits", None)?;
                output.done(
                    &format!("namespace {namespace} has the server's default limits"),
                    &answer,
                );
            }
            Limits::Unset { namespace, limits } => {
                let mut own = self.own(namespace)?;
                for name in limits {
                    known(name, None)?;
                    own.remove(name);
                }
                self.put(namespace, own)?;
            }
        }
        Ok(())
    }

    fn own(&self, namespace: &str) -> Result<Map<String, Value>> {
        match self.call("get", "GET", namespace, "/limits", None)? {
            Value::Object(own) => Ok(own),
            other => Err(Failure::general(format!(
                "expected the limits of '{namespace}', got {other}"
            ))),
        }
    }

    fn put(&self, namespace: &str, limits: Map<String, Value>) -> Result<()> {
        let limits = Value::Object(limits);
        let now = self.call("set", "PUT", namespace, "/limits", Some(&limits))?;
        let now = if now.is_object() { now } else { limits };
        self.session
            .output
            .ok(&format!("set limits of namespace {namespace}"));
        self.session.output.value(&now);
        Ok(())
    }
}

fn row(tenant: &Value) -> [String; 3] {
    // A list may be of names alone.
    let text = |field: &str| {
        tenant[field]
            .as_str()
            .or(tenant.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let state = match tenant["blocked"] {
        Value::Bool(true) => "blocked",
        _ => "active",
    };
    let uuid = tenant["uuid"].as_str().unwrap_or_default().to_owned();
    [text("namespace"), uuid, state.to_owned()]
}

/// `name=value` pairs to an object of limits, each checked alone.
fn parsed(limits: &[String]) -> Result<Map<String, Value>> {
    let mut object = Map::new();
    for limit in limits {
        let Some((name, value)) = limit.split_once('=') else {
            return Err(Failure::usage(format!(
                "'{limit}' is not LIMIT=VALUE, as concurrentInvocations=50"
            )));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        known(name, Some(&value))?;
        object.insert(name.to_owned(), value);
    }
    Ok(object)
}

/// Whether a limit of that name may have that value.
fn known(name: &str, value: Option<&Value>) -> Result<()> {
    let one = json!({ name: value });
    let checked: std::result::Result<NamespaceLimits, _> = serde_json::from_value(one);
    checked
        .map(drop)
        .map_err(|error| Failure::usage(format!("{name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked_before_they_are_sent() {
        let given = [
            "maxActionMemory=1024".to_owned(),
            "allowedKinds=[\"wasm:1\"]".to_owned(),
        ];
        let object = parsed(&given).unwrap();
        assert_eq!(
            Value::Object(object),
            json!({"maxActionMemory": 1024, "allowedKinds": ["wasm:1"]})
        );
        for bad in ["maxMemory=1", "maxActionMemory=lots", "maxActionMemory"] {
            assert_eq!(parsed(&[bad.to_owned()]).unwrap_err().exit, 2, "{bad}");
        }
    }
}
