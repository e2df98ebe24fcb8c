//! `wisp action create` and `wisp action update`: a file, a sequence or another action, with parameters, annotations and
//! limits, to one `PUT`.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Answer, Client, EntityPath};
use super::failure::{Failure, Result};
use super::pairs::{Annotations, Parameters};
use super::web::Web;
use super::{Session, code};

/// What an upload says.
#[derive(Debug, Args)]
pub(super) struct Upload {
    /// Name of the action
    name: String,
    /// File with the code (.js, .py, .wasm, .wat, .zip), or with --copy the action to copy, or with --sequence names as `a,b,c`
    artifact: Option<String>,
    /// Take everything from another action
    #[arg(long, conflicts_with_all = ["sequence", "kind", "main"])]
    copy: bool,
    /// Run actions one after the other, each with the result of the one before
    #[arg(long, conflicts_with_all = ["kind", "main"])]
    sequence: bool,
    /// Kind of the code, as `nodejs:default`; needed only when the file does not say
    #[arg(long)]
    kind: Option<String>,
    /// Function to call of a language's source; `main` when it is not said
    #[arg(long, value_name = "NAME")]
    main: Option<String>,
    /// As `wsk` has it, to say that it is not here
    #[arg(long, value_name = "IMAGE", hide = true)]
    docker: Option<String>,
    /// Likewise
    #[arg(long, hide = true)]
    native: bool,
    #[command(flatten)]
    parameters: Parameters,
    #[command(flatten)]
    annotations: Annotations,
    /// An annotation to remove. May be repeated
    #[arg(long, value_name = "KEY")]
    del_annotation: Vec<String>,
    #[command(flatten)]
    web: Web,
    #[command(flatten)]
    limits: Limits,
}

/// Limits that an upload sets.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// Wall time of one activation
    #[arg(short, long, value_name = "MILLISECONDS")]
    timeout: Option<u64>,
    /// Memory of one instance
    #[arg(short, long, value_name = "MB")]
    memory: Option<u64>,
    /// Log of one activation
    #[arg(short, long, value_name = "MB")]
    logsize: Option<u64>,
    /// Activations per instance
    #[arg(short, long, value_name = "COUNT")]
    concurrency: Option<u64>,
    /// Most activations at one time
    #[arg(long, value_name = "COUNT")]
    instances: Option<u64>,
}

impl Upload {
    pub(super) fn run(&self, session: Session<'_>, update: bool) -> Result<()> {
        let (verb, done) = match update {
            true => ("update", "updated"),
            false => ("create", "created"),
        };
        let client = Client::new(session)?;
        let entity = EntityPath::parse(&self.name, client.namespace())?;
        let attempt = format!("Unable to {verb} action '{}'", entity.path);
        let body = self
            .body(&client, &entity, update)
            .map_err(|f| f.while_trying(&attempt))?;
        let path = client.path(&entity.namespace, &entity.in_collection("actions"));
        let query = [("overwrite", update.to_string())];
        let answer = client.upload(&entity.path, &path, &query, &body);
        let action = answer
            .and_then(Answer::success)
            .map_err(|f| f.while_trying(&attempt))?;
        session
            .output
            .done(&format!("{done} action {}", entity.path), &action);
        Ok(())
    }

    fn body(&self, client: &Client<'_>, entity: &EntityPath, update: bool) -> Result<Value> {
        let mut body = self.start(client, entity, update)?;
        body["namespace"] = json!(entity.namespace);
        body["name"] = json!(entity.name());
        if let Some(parameters) = self.parameters.pairs()? {
            body["parameters"] = parameters;
        }
        if let Some(annotations) = self.annotations.pairs()? {
            body["annotations"] = annotations;
        }
        if !self.del_annotation.is_empty() {
            body["delAnnotations"] = json!(self.del_annotation);
        }
        self.limits.lay_over(&mut body);
        self.web.lay_over(&mut body, || match update {
            true => existing(client, entity),
            false => Ok(None),
        })?;
        Ok(body)
    }

    /// What the action is: code from a file, a sequence, what another action has, or as it was.
    fn start(&self, client: &Client<'_>, entity: &EntityPath, update: bool) -> Result<Value> {
        if self.docker.is_some() || self.native {
            let failure = Failure::usage("container images are not run here");
            return Err(failure.advise(
                "Code runs in WebAssembly sandboxes: give the function itself, a .js, .py, .wasm, .wat or .zip file.",
            ));
        }
        match &self.artifact {
            Some(other) if self.copy => copied(client, other),
            Some(names) if self.sequence => {
                let exec = sequence(names, client.namespace())?;
                Ok(json!({ "exec": exec }))
            }
            Some(file) => {
                let exec = code::read(Path::new(file), self.kind.as_deref(), self.main.as_deref())?;
                Ok(json!({ "exec": exec }))
            }
            None if self.copy => Err(Failure::usage(
                "--copy needs the name of the action to copy",
            )),
            None if self.sequence => Err(Failure::usage(
                "--sequence needs the names of actions, as first,second",
            )),
            None if update => Ok(json!({})),
            None => {
                let failure = Failure::usage("a file with the code is needed");
                Err(failure.advise(format!(
                    "Example: wisp action create {} hello.js",
                    entity.path
                )))
            }
        }
    }
}

/// The `exec` of a sequence of the actions in `names`, which stand between commas.
pub(super) fn sequence(names: &str, own: &str) -> Result<Value> {
    let names = names.split(',').map(str::trim);
    let names = names.map(|name| EntityPath::parse(name, own).map(|name| name.to_string()));
    let components = names.collect::<Result<Vec<String>>>()?;
    Ok(json!({ "kind": "sequence", "components": components }))
}

/// The action as it is, without its code; none when there is none.
fn existing(client: &Client<'_>, entity: &EntityPath) -> Result<Option<Value>> {
    let path = client.path(&entity.namespace, &entity.in_collection("actions"));
    match client.get(&path, &[("code", "false".to_owned())]) {
        Ok(action) => Ok(Some(action)),
        Err(failure) if failure.status == Some(404) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// What of `other` a new action takes.
fn copied(client: &Client<'_>, other: &str) -> Result<Value> {
    let other = EntityPath::parse(other, client.namespace())?;
    let path = client.path(&other.namespace, &other.in_collection("actions"));
    let action = client
        .get(&path, &[("code", "true".to_owned())])
        .map_err(|f| f.while_trying(&format!("Unable to get action '{}'", other.path)))?;
    let kept = ["exec", "parameters", "annotations", "limits"];
    let kept = kept.map(|field| (field.to_owned(), action[field].clone()));
    let kept = kept.into_iter().filter(|(_, value)| !value.is_null());
    Ok(Value::Object(kept.collect()))
}

impl Limits {
    fn lay_over(&self, body: &mut Value) {
        let limits = [
            ("timeout", self.timeout),
            ("memory", self.memory),
            ("logs", self.logsize),
            ("concurrency", self.concurrency),
            ("instances", self.instances),
        ];
        for (name, value) in limits {
            if let Some(value) = value {
                body["limits"][name] = json!(value);
            }
        }
    }
}
