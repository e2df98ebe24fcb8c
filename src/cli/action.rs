//! `wisp action`: upload, look, invoke.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::activation::stamp;
use super::client::{Answer, Client, EntityPath};
use super::entity::{self, annotation, full_name, visibility};
use super::failure::{Failure, Result, exit_of};
use super::pairs::Parameters;
use super::upload::Upload;
use super::{Page, Session, code, web};

/// `wisp action …`
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Upload a new action
    #[command(after_help = "\
Examples:
  wisp action create hello hello.wasm                 the kind follows from the bytes
  wisp action create hello hello.wat -p name Ada      with a bound parameter
  wisp action create small hello.wasm -m 128 -t 5000  128 MB, 5 seconds
  wisp action create twin --copy hello                from another action
  wisp action create both --sequence first,second     one after the other
  wisp action create page page.wasm --web yes         on the web")]
    Create(Upload),
    /// Change an action, or create it when it does not exist
    #[command(after_help = "\
Examples:
  wisp action update hello hello.wasm     new code
  wisp action update hello -p name Bob    new parameters, same code
  wisp action update hello --del-annotation description")]
    Update(Upload),
    /// Show an action, one field of it, or save its code
    #[command(after_help = "\
Examples:
  wisp action get hello
  wisp action get hello limits
  wisp action get hello --url
  wisp action get hello --save-as copy.wasm")]
    Get(Get),
    /// List actions, newest first
    List(List),
    /// Delete an action
    Delete {
        /// Name of the action
        name: String,
    },
    /// Run an action
    #[command(after_help = "\
Examples:
  wisp action invoke hello                     start it, print its activation id
  wisp action invoke hello -r -p name Ada      wait, print its result
  wisp action invoke hello -b -P params.json   wait, print the whole activation")]
    Invoke(Invoke),
    /// List what an action was before, newest first
    Revisions {
        /// Name of the action
        name: String,
    },
    /// Make an action again what it was
    #[command(
        after_help = "Example:\n  wisp action revisions hello\n  wisp action rollback hello 3"
    )]
    Rollback {
        /// Name of the action
        name: String,
        /// Which revision
        revision: u64,
    },
}

/// What to show of an action.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// Name of the action
    name: String,
    /// Only this field
    field: Option<String>,
    /// Only a summary: description and parameters; * is bound, ** is bound and final
    #[arg(short, long)]
    summary: bool,
    /// As it was at this revision
    #[arg(long, value_name = "NUMBER")]
    revision: Option<u64>,
    /// Print its URL; of a web action, that on the web
    #[arg(short = 'r', long)]
    url: bool,
    /// Save its code to a file called like it
    #[arg(long)]
    save: bool,
    /// Save its code to this file
    #[arg(long, value_name = "FILE")]
    save_as: Option<PathBuf>,
}

/// Which actions to list.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those of this package, or of /NAMESPACE
    of: Option<String>,
    #[command(flatten)]
    page: Page,
    /// By name, not by age
    #[arg(short, long)]
    name_sort: bool,
}

/// How to run an action.
#[derive(Debug, Args)]
pub(super) struct Invoke {
    /// Name of the action
    name: String,
    #[command(flatten)]
    parameters: Parameters,
    /// Wait for it to end
    #[arg(short, long)]
    blocking: bool,
    /// Wait, and print only the result
    #[arg(short, long)]
    result: bool,
    /// Run it as it was at this revision
    #[arg(long, value_name = "NUMBER")]
    revision: Option<u64>,
    /// Run once for this key, however often it is tried
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Action {
    pub(super) fn run(&self, session: Session<'_>) -> Result<u8> {
        match self {
            Self::Create(upload) => upload.run(session, false)?,
            Self::Update(upload) => upload.run(session, true)?,
            Self::Get(get) => get.run(session)?,
            Self::List(list) => list.run(session)?,
            Self::Delete { name } => {
                let client = Client::new(session)?;
                let entity = EntityPath::parse(name, client.namespace())?;
                let path = client.path(&entity.namespace, &entity.in_collection("actions"));
                let deleted = client
                    .send("DELETE", &path, &[], None)
                    .and_then(Answer::success);
                let deleted = deleted
                    .map_err(|f| f.while_trying(&format!("Unable to delete action '{name}'")))?;
                session
                    .output
                    .done(&format!("deleted action {}", entity.path), &deleted);
            }
            Self::Invoke(invoke) => return invoke.run(session),
            Self::Revisions { name } => revisions(session, name)?,
            Self::Rollback { name, revision } => rollback(session, name, *revision)?,
        }
        Ok(0)
    }
}

impl Get {
    fn run(&self, session: Session<'_>) -> Result<()> {
        let client = Client::new(session)?;
        let entity = EntityPath::parse(&self.name, client.namespace())?;
        let attempt = format!("Unable to get action '{}'", entity.path);
        let path = client.path(&entity.namespace, &entity.in_collection("actions"));
        let save = self.save || self.save_as.is_some();
        let mut query = vec![("code", save.to_string())];
        query.extend(self.revision.map(|number| ("revision", number.to_string())));
        let action = client.get(&path, &query);
        let action = action.map_err(|f| f.while_trying(&attempt))?;
        let output = session.output;
        if save {
            let saved = self
                .save(&entity, &action)
                .map_err(|f| f.while_trying(&attempt))?;
            output.done(
                &format!("saved action code to {saved}"),
                &json!({ "saved": saved }),
            );
        } else if self.url {
            let namespace = action["namespace"].as_str().unwrap_or_default();
            let namespace = namespace.split('/').next().unwrap_or_default();
            let url = match web::is_web(&action) {
                true => web::url(&client, namespace, &entity),
                false => format!("{}{path}", client.base()),
            };
            output.done(
                &format!("got action {}\n{url}", entity.path),
                &json!({ "url": url }),
            );
        } else if self.summary && !output.json {
            let name = full_name(&action);
            output.line(&entity::summary("action", &name, &action));
        } else {
            return entity::show(session, "action", &entity, &action, self.field.as_deref());
        }
        Ok(())
    }

    fn save(&self, entity: &EntityPath, action: &Value) -> Result<String> {
        let (bytes, extension) = code::unpack(&action["exec"])?;
        let own = PathBuf::from(format!("{}{extension}", entity.name()));
        let path = self.save_as.as_ref().unwrap_or(&own);
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).open(path);
        let saved = file.and_then(|mut file| std::io::Write::write_all(&mut file, &bytes));
        saved.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::general(format!("the file '{}' exists already", path.display()))
                    .advise("Name another with --save-as.")
            }
            _ => Failure::general(format!("cannot write '{}': {error}", path.display())),
        })?;
        Ok(path
            .canonicalize()
            .unwrap_or_else(|_| path.clone())
            .display()
            .to_string())
    }
}

impl List {
    fn run(&self, session: Session<'_>) -> Result<()> {
        let client = Client::new(session)?;
        let own = client.namespace().to_owned();
        let of = self.of.as_deref().unwrap_or_default();
        let (namespace, rest) = match of.strip_prefix('/') {
            None if of.is_empty() => (own, "actions".to_owned()),
            Some(namespace) if !namespace.contains('/') => {
                (namespace.to_owned(), "actions".to_owned())
            }
            _ => {
                let package = EntityPath::parse(of, &own)?;
                (
                    package.namespace.clone(),
                    format!("{}/", package.in_collection("actions")),
                )
            }
        };
        let path = client.path(&namespace, &rest);
        let mut rows = client.list(&path, &self.page.query()).map_err(|f| {
            f.while_trying(&format!(
                "Unable to obtain the list of actions for namespace '{namespace}'"
            ))
        })?;
        if self.name_sort {
            rows.sort_by_key(full_name);
        }
        if session.output.json {
            session.output.value(&Value::Array(rows));
            return Ok(());
        }
        let rows: Vec<[String; 3]> = rows.iter().map(row).collect();
        session.output.table(["actions", "", ""], &rows);
        Ok(())
    }
}

/// As `wsk` lists: name, whether it is shared, kind.
pub(super) fn row(action: &Value) -> [String; 3] {
    let kind = annotation(action, "exec").and_then(Value::as_str);
    [
        full_name(action),
        visibility(action).to_owned(),
        kind.unwrap_or_default().to_owned(),
    ]
}

fn revisions(session: Session<'_>, name: &str) -> Result<()> {
    let client = Client::new(session)?;
    let entity = EntityPath::parse(name, client.namespace())?;
    let path = client.path(&entity.namespace, &entity.in_collection("actions"));
    let attempt = format!("Unable to list the revisions of action '{}'", entity.path);
    let rows = client.list(&path, &[("revisions", "true".to_owned())]);
    let rows = rows.map_err(|f| f.while_trying(&attempt))?;
    if session.output.json {
        session.output.value(&Value::Array(rows));
        return Ok(());
    }
    let rows: Vec<[String; 4]> = rows.iter().map(revision_row).collect();
    let header = ["Revision", "Version", "Updated (UTC)", "Kind"];
    session.output.table(header, &rows);
    Ok(())
}

fn revision_row(revision: &Value) -> [String; 4] {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    [
        revision["revision"].to_string(),
        text(&revision["version"]),
        stamp(revision["updated"].as_u64().unwrap_or_default()),
        text(&revision["exec"]["kind"]),
    ]
}

fn rollback(session: Session<'_>, name: &str, revision: u64) -> Result<()> {
    let client = Client::new(session)?;
    let entity = EntityPath::parse(name, client.namespace())?;
    let path = client.path(&entity.namespace, &entity.in_collection("actions"));
    let query = [
        ("overwrite", "true".to_owned()),
        ("revision", revision.to_string()),
    ];
    let attempt = format!("Unable to roll back action '{}' to {revision}", entity.path);
    let answer = client.send("PUT", &path, &query, None);
    let action = answer.and_then(Answer::success);
    let action = action.map_err(|f| f.while_trying(&attempt))?;
    let text = format!("rolled back action {} to revision {revision}", entity.path);
    session.output.done(&text, &action);
    Ok(())
}

impl Invoke {
    fn run(&self, session: Session<'_>) -> Result<u8> {
        let client = Client::new(session)?;
        let entity = EntityPath::parse(&self.name, client.namespace())?;
        let blocking = self.blocking || self.result;
        let mut query = vec![
            ("blocking", blocking.to_string()),
            ("result", self.result.to_string()),
        ];
        query.extend(self.revision.map(|number| ("revision", number.to_string())));
        let key = self.idempotency_key.as_deref();
        let headers: Vec<(&str, &str)> = key
            .map(|key| ("idempotency-key", key))
            .into_iter()
            .collect();
        let path = client.path(&entity.namespace, &entity.in_collection("actions"));
        let attempt = format!("Unable to invoke action '{}'", entity.path);
        let body = Value::Object(self.parameters.object()?);
        let answer = client.send_with("POST", &path, &query, &headers, Some(&body));
        let answer = answer.map_err(|f| f.while_trying(&attempt))?;
        self.show(session, &entity, answer)
            .map_err(|f| f.while_trying(&attempt))
    }

    fn show(&self, session: Session<'_>, entity: &EntityPath, answer: Answer) -> Result<u8> {
        let output = session.output;
        let blocking = self.blocking || self.result;
        let id = answer.body["activationId"].as_str().map(str::to_owned);
        let id = id
            .or_else(|| answer.activation_id.clone())
            .unwrap_or_default();
        match answer.status {
            202 if blocking => {
                let text = "but the request has not yet finished, with id";
                output.done(&format!("invoked {entity}, {text} {id}"), &answer.body);
                Ok(exit_of(202))
            }
            200..300 => {
                if !self.result {
                    output.ok(&format!("invoked {entity} with id {id}"));
                }
                if blocking || output.json {
                    output.value(&answer.body);
                }
                Ok(0)
            }
            // The action failed: it has a result or an activation, not a message and a transaction.
            status @ (500 | 502)
                if blocking && answer.body.get("code").is_none() && !answer.body.is_null() =>
            {
                if output.json {
                    output.value(&answer.body);
                } else {
                    output.note(&format!("ok: invoked {entity} with id {id}"));
                    output.note_value(&answer.body);
                }
                Ok(exit_of(status))
            }
            _ => answer.success().map(|_| 0),
        }
    }
}
