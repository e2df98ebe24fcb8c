//! `wisp action`: upload, look, invoke.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Answer, Client, EntityPath};
use super::failure::{Failure, Result, exit_of};
use super::pairs::Parameters;
use super::upload::Upload;
use super::{Page, Session, code};

/// `wisp action …`
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Upload a new action
    #[command(after_help = "\
Examples:
  wisp action create hello hello.wasm                 the kind follows from the bytes
  wisp action create hello hello.wat -p name Ada      with a bound parameter
  wisp action create small hello.wasm -m 128 -t 5000  128 MB, 5 seconds
  wisp action create twin --copy hello                from another action")]
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
}

/// What to show of an action.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// Name of the action
    name: String,
    /// Only this field
    field: Option<String>,
    /// Print its URL
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
        let action = client.get(&path, &[("code", save.to_string())]);
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
            let url = format!("{}{path}", client.base());
            output.done(
                &format!("got action {}\n{url}", entity.path),
                &json!({ "url": url }),
            );
        } else if let Some(field) = &self.field {
            let value = action.get(field).ok_or_else(|| {
                Failure::general(format!("Invalid field filter '{field}'.")).while_trying(&attempt)
            })?;
            output.ok(&format!(
                "got action {}, displaying field {field}",
                entity.path
            ));
            output.value(value);
        } else {
            output.ok(&format!("got action {}", entity.path));
            output.value(&action);
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

fn full_name(action: &Value) -> String {
    let text = |field: &str| action[field].as_str().unwrap_or_default().to_owned();
    format!("/{}/{}", text("namespace"), text("name"))
}

/// As `wsk` lists: name, whether it is shared, kind.
fn row(action: &Value) -> [String; 3] {
    let annotations = action["annotations"].as_array().into_iter().flatten();
    let mut kind = annotations.filter(|annotation| annotation["key"] == "exec");
    let kind = kind
        .next()
        .and_then(|annotation| annotation["value"].as_str());
    let shared = match action["publish"] {
        Value::Bool(true) => "shared",
        _ => "private",
    };
    [
        full_name(action),
        shared.to_owned(),
        kind.unwrap_or_default().to_owned(),
    ]
}

impl Invoke {
    fn run(&self, session: Session<'_>) -> Result<u8> {
        let client = Client::new(session)?;
        let entity = EntityPath::parse(&self.name, client.namespace())?;
        let blocking = self.blocking || self.result;
        let query = [
            ("blocking", blocking.to_string()),
            ("result", self.result.to_string()),
        ];
        let path = client.path(&entity.namespace, &entity.in_collection("actions"));
        let attempt = format!("Unable to invoke action '{}'", entity.path);
        let body = Value::Object(self.parameters.object()?);
        let answer = client.send("POST", &path, &query, Some(&body));
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
