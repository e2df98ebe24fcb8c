//! `wisp project`: the packages, actions, sequences, triggers, rules and APIs of a `manifest.yaml`, as one.
//!
//! The files are read (`manifest`), variables and inputs put in (`inputs`), and what they want is worked out (`package`, `wanted`).
//! What the server has is read (`remote`), and the difference is a plan (`plan`): shown, agreed to, and done step by
//! step. A plan that was done leaves nothing to do; one that broke off is taken up by doing it again.

mod inputs;
mod manifest;
mod package;
mod plan;
mod remote;
#[cfg(test)]
mod tests;
mod wanted;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Session;
use super::client::Client;
use super::failure::{Failure, Result};
use super::namespace;
use super::pairs::object_of;
use inputs::Scope;
use manifest::Document;
use package::Place;
use plan::{FEED_INPUTS, MANAGED, Plan, Step, Verb};
use remote::Remote;
use wanted::Wanted;

/// What a manifest is called when nobody says.
const MANIFESTS: [&str; 2] = ["manifest.yaml", "manifest.yml"];

/// What a deployment file is called when nobody says.
const DEPLOYMENTS: [&str; 2] = ["deployment.yaml", "deployment.yml"];

/// `wisp project …`
#[derive(Debug, Subcommand)]
pub(super) enum Project {
    /// Make a server have what a manifest says; shows what changes before it changes it
    #[command(after_help = "\
Examples:
  wisp project deploy
  wisp project deploy -m shop/manifest.yaml -d shop/production.yaml --yes
  wisp project deploy --managed           delete what the manifest does not have any more
  DB_HOST=db wisp project deploy          for a manifest with ${DB_HOST} in it")]
    Deploy(Files),
    /// Delete what a manifest says
    #[command(after_help = "Example:\n  wisp project undeploy --yes")]
    Undeploy(Files),
    /// Show what `deploy` would change; exits with 1 when that is anything
    Diff(Files),
}

/// What is deployed, and how.
#[derive(Debug, Args)]
pub(super) struct Files {
    /// The manifest; manifest.yaml here when left out
    #[arg(short, long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Values for this deployment, also as -d; deployment.yaml beside the manifest when left out and there
    #[arg(long, value_name = "FILE")]
    deployment: Option<PathBuf>,
    /// Mark everything as the project's, and delete what is marked and not in the manifest
    #[arg(long)]
    managed: bool,
    /// A value for every input of that name. May be repeated
    #[arg(long, num_args = 2, value_names = ["KEY", "VALUE"], action = ArgAction::Append)]
    #[arg(allow_hyphen_values = true)]
    param: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// What is to be done with a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Deploy,
    Undeploy,
    Diff,
}

/// As wskdeploy has it, `-d` after `project deploy` is the deployment file, while everywhere else it is `--debug`. So it
/// is renamed here, before the command line is read.
pub(super) fn adapt(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let ours = arguments.windows(2).position(|pair| {
        let words = [&pair[0], &pair[1]].map(|word| word.to_str().unwrap_or_default());
        matches!(words, ["project", "deploy" | "undeploy" | "diff"])
    });
    if let Some(at) = ours {
        for word in arguments.iter_mut().skip(at + 2) {
            if word == "-d" {
                *word = OsString::from("--deployment");
            }
        }
    }
    arguments
}

impl Project {
    pub(super) fn run(&self, session: Session<'_>) -> Result<u8> {
        match self {
            Self::Deploy(files) => files.run(session, Way::Deploy),
            Self::Undeploy(files) => files.run(session, Way::Undeploy),
            Self::Diff(files) => files.run(session, Way::Diff),
        }
    }
}

impl Files {
    fn run(&self, session: Session<'_>, way: Way) -> Result<u8> {
        let client = Client::new(session)?;
        let namespace = namespace_of(&client)?;
        let (title, plan) = self.plan(session, &client, &namespace, way)?;
        let remote = Remote {
            client: &client,
            namespace: &namespace,
        };
        self.carry_out(session, way, &title, &plan, &remote)
    }

    /// What there is to do, and what it is called.
    fn plan(
        &self,
        session: Session<'_>,
        client: &Client<'_>,
        namespace: &str,
        way: Way,
    ) -> Result<(String, Plan)> {
        let file = self.manifest()?;
        let (text, manifest) = Document::read(&file)?;
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        let deployment = self.deployment(folder)?;
        let project = self.project(&manifest, deployment.as_ref(), session)?;
        let place = Place {
            folder,
            namespace,
            code: way != Way::Undeploy,
        };
        let said = object_of(&self.param);
        let scope = Scope::new(session.environment, &said);
        let wanted = Wanted::of(&manifest, deployment.as_ref(), &scope, place);
        let in_file = |f: Failure| f.while_trying(&file.display().to_string());
        let mut wanted = wanted.map_err(in_file)?;
        mark(&mut wanted, project.as_deref(), &file, &text);
        let remote = Remote { client, namespace };
        let have = remote.have(&wanted, project.as_deref())?;
        let mut plan = match way {
            Way::Undeploy => Plan::undeploy(&wanted, &have),
            Way::Deploy | Way::Diff => Plan::deploy(&wanted, &have),
        };
        plan.notes.splice(0..0, std::mem::take(&mut wanted.notes));
        let title = match project.as_deref().unwrap_or(&manifest.project.name) {
            "" => format!("Namespace {namespace}"),
            name => format!("Project {name} in namespace {namespace}"),
        };
        Ok((title, plan))
    }

    /// Shows the plan, asks, and does it.
    fn carry_out(
        &self,
        session: Session<'_>,
        way: Way,
        title: &str,
        plan: &Plan,
        remote: &Remote<'_>,
    ) -> Result<u8> {
        let output = session.output;
        show(session, way, title, plan);
        let nothing = plan.steps.is_empty();
        let mut applied = false;
        if way != Way::Diff && !nothing {
            if !self.yes && output.asks() && !output.confirm("Do it?") {
                return Err(Failure::general("nothing was changed"));
            }
            for (at, step) in plan.steps.iter().enumerate() {
                remote.apply(session, step).map_err(|failure| {
                    let left = plan.steps.len() - at;
                    failure.advise(format!(
                        "{at} done, {left} left. The same command goes on from there."
                    ))
                })?;
                output.ok(&format!(
                    "{}d {} {}",
                    step.verb.name(),
                    step.kind.name(),
                    step.name
                ));
            }
            applied = true;
        }
        if output.json {
            output.value(&json!({
                "changes": plan.steps.iter().map(described).collect::<Value>(),
                "unchanged": plan.unchanged,
                "notes": plan.notes,
                "applied": applied,
            }));
        }
        Ok(u8::from(way == Way::Diff && !nothing))
    }

    fn manifest(&self) -> Result<PathBuf> {
        if let Some(file) = &self.manifest {
            return Ok(file.clone());
        }
        let found = MANIFESTS
            .iter()
            .map(PathBuf::from)
            .find(|file| file.is_file());
        found.ok_or_else(|| {
            let failure = Failure::general("there is no manifest.yaml here");
            failure.advise("Name one with -m.")
        })
    }

    fn deployment(&self, folder: &Path) -> Result<Option<Document>> {
        let beside = || {
            let mut files = DEPLOYMENTS.iter().map(|name| folder.join(name));
            files.find(|file| file.is_file())
        };
        let file = self.deployment.clone().or_else(beside);
        let read = file.map(|file| Document::read(&file));
        Ok(read.transpose()?.map(|(_, document)| document))
    }

    /// The name of the project, if it is to manage what it deploys.
    fn project(
        &self,
        manifest: &Document,
        deployment: Option<&Document>,
        session: Session<'_>,
    ) -> Result<Option<String>> {
        if !self.managed {
            return Ok(None);
        }
        let nothing = Map::new();
        let scope = Scope::new(session.environment, &nothing);
        let over = deployment.map(|document| document.project.name.as_str());
        let name = over.filter(|name| !name.is_empty());
        let name = scope.text(name.unwrap_or(&manifest.project.name));
        let name = name.map_err(|bad| Failure::general(format!("project: {bad}")))?;
        match name.is_empty() {
            false => Ok(Some(name)),
            true => {
                let failure = Failure::usage("--managed needs a project with a name");
                Err(failure.advise("Write `project:` with `name: …` at the top of the manifest."))
            }
        }
    }
}

/// Makes a server have what the manifest in `file` says, without a word.
pub(super) fn deploy(session: Session<'_>, client: &Client<'_>, file: &Path) -> Result<()> {
    let files = Files {
        manifest: Some(file.to_owned()),
        deployment: None,
        managed: false,
        param: Vec::new(),
        yes: true,
    };
    let namespace = namespace_of(client)?;
    let (_, plan) = files.plan(session, client, &namespace, Way::Deploy)?;
    let remote = Remote {
        client,
        namespace: &namespace,
    };
    let mut steps = plan.steps.iter();
    steps.try_for_each(|step| remote.apply(session, step))
}

/// The real name of the namespace a client is for.
fn namespace_of(client: &Client<'_>) -> Result<String> {
    match client.namespace() {
        "_" => Ok(namespace::own(client)?
            .into_iter()
            .next()
            .unwrap_or_default()),
        name => Ok(name.to_owned()),
    }
}

/// Marks what the project manages, and what feeds are told.
fn mark(wanted: &mut Wanted, project: Option<&str>, file: &Path, text: &str) {
    let hash = blake3::hash(text.as_bytes()).to_hex();
    let managed = project.map(|name| {
        json!({
            "projectName": name,
            "projectHash": hash.as_str(),
            "file": file.display().to_string(),
            "projectDeps": [],
        })
    });
    for entity in &mut wanted.entities {
        if let Some(managed) = &managed {
            entity
                .annotations
                .insert(MANAGED.to_owned(), managed.clone());
        }
        if let Some(feed) = &entity.feed {
            let inputs = Value::Object(feed.inputs.clone()).to_string();
            let digest = blake3::hash(inputs.as_bytes()).to_hex();
            let digest = json!(digest.as_str());
            entity.annotations.insert(FEED_INPUTS.to_owned(), digest);
        }
    }
}

/// A step for machines.
fn described(step: &Step) -> Value {
    json!({
        "verb": step.verb.name(),
        "kind": step.kind.name(),
        "name": step.name,
        "fields": step.fields,
    })
}

/// The plan, for people.
fn show(session: Session<'_>, way: Way, title: &str, plan: &Plan) {
    let output = session.output;
    for note in &plan.notes {
        if !output.json {
            output.note(&format!("note: {note}"));
        }
    }
    if plan.steps.is_empty() {
        let text = match way {
            Way::Undeploy => "nothing of it is there.".to_owned(),
            _ => format!("nothing changes ({} as they should be).", plan.unchanged),
        };
        output.line(&format!("{title}: {text}"));
        return;
    }
    output.line(&format!("{title}:"));
    let widths = plan.steps.iter().map(|step| step.name.chars().count());
    let width = widths.max().unwrap_or_default();
    for step in &plan.steps {
        let (sign, kind, name) = (step.verb.sign(), step.kind.name(), &step.name);
        let fields = step.fields.join(", ");
        let line = format!("  {sign} {kind:<8}  {name:<width$}  {fields}");
        output.line(line.trim_end());
    }
    let counts = [
        (Verb::Create, "to create"),
        (Verb::Update, "to update"),
        (Verb::Delete, "to delete"),
    ];
    let counts = counts.map(|(verb, text)| (plan.count(verb), text));
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let mut parts: Vec<String> = counts
        .map(|(count, text)| format!("{count} {text}"))
        .collect();
    if plan.unchanged > 0 {
        parts.push(format!("{} unchanged", plan.unchanged));
    }
    output.line(&format!("{}.", parts.join(", ")));
}
