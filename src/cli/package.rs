//! `wisp package`: actions that belong together, and bindings to packages of others.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::Session;
use super::client::{Answer, Client, EntityPath};
use super::entity::{self, Get, List, Put};
use super::failure::{Failure, Result};
use super::pairs::{Annotations, Parameters};

/// `wisp package …`
#[derive(Debug, Subcommand)]
pub(super) enum Package {
    /// Make a package
    #[command(after_help = "\
Examples:
  wisp package create tools
  wisp package create tools -p host db.example.com --shared yes")]
    Create(Write),
    /// Change a package, or make it when it does not exist
    #[command(after_help = "Example:\n  wisp package update tools --shared no")]
    Update(Write),
    /// Use a package of another namespace, or one's own, with parameters of one's own
    #[command(after_help = "Example:\n  wisp package bind /whisk.system/utils mine -p separator ,")]
    Bind(Bind),
    /// Show a package with its actions and feeds
    #[command(
        after_help = "Examples:\n  wisp package get tools\n  wisp package get /whisk.system/utils --summary"
    )]
    Get(Get),
    /// List packages, newest first
    List(List),
    /// Delete a package
    Delete {
        /// Name of the package
        name: String,
        /// Delete the actions in it too
        #[arg(long)]
        force: bool,
    },
    /// Bring the bindings of a namespace up to date, where a deployment has such a thing
    Refresh {
        /// Which, as `/name`; the key's own when left out
        namespace: Option<String>,
    },
}

/// What is said of a package.
#[derive(Debug, Args)]
pub(super) struct Write {
    /// Name of the package
    name: String,
    #[command(flatten)]
    parameters: Parameters,
    #[command(flatten)]
    annotations: Annotations,
    /// Whether everybody may use it
    #[arg(long, value_name = "SCOPE")]
    shared: Option<Shared>,
}

/// Whether a package is for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shared {
    #[value(alias = "true")]
    Yes,
    #[value(alias = "false")]
    No,
}

/// What is bound, and as what.
#[derive(Debug, Args)]
pub(super) struct Bind {
    /// The package, as `/NAMESPACE/PACKAGE`
    package: String,
    /// What it is called here
    name: String,
    #[command(flatten)]
    parameters: Parameters,
    #[command(flatten)]
    annotations: Annotations,
    /// Change the binding if there is one
    #[arg(short, long)]
    overwrite: bool,
}

impl Package {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        match self {
            Self::Create(write) => write.run(session, Put::Create),
            Self::Update(write) => write.run(session, Put::Update),
            Self::Bind(bind) => bind.run(session),
            Self::Get(get) => show(session, get),
            Self::List(list) => list.run(session, "packages"),
            Self::Delete { name, force } => delete(session, name, *force),
            Self::Refresh { namespace } => refresh(session, namespace.as_deref()),
        }
    }
}

impl Write {
    fn run(&self, session: Session<'_>, way: Put) -> Result<()> {
        let client = Client::new(session)?;
        let name = EntityPath::parse_plain(&self.name, client.namespace())?;
        let mut body = json!({ "namespace": name.namespace, "name": name.path });
        lay_over(&mut body, &self.parameters, &self.annotations)?;
        if let Some(shared) = self.shared {
            body["publish"] = json!(shared == Shared::Yes);
        }
        let package = entity::put(&client, way, "package", &name, &body)?;
        let text = format!("{} package {}", way.done(), name.path);
        session.output.done(&text, &package);
        Ok(())
    }
}

fn lay_over(body: &mut Value, parameters: &Parameters, annotations: &Annotations) -> Result<()> {
    if let Some(parameters) = parameters.pairs()? {
        body["parameters"] = parameters;
    }
    if let Some(annotations) = annotations.pairs()? {
        body["annotations"] = annotations;
    }
    Ok(())
}

impl Bind {
    fn run(&self, session: Session<'_>) -> Result<()> {
        let client = Client::new(session)?;
        let target = EntityPath::parse_plain(&self.package, client.namespace())?;
        let name = EntityPath::parse_plain(&self.name, client.namespace())?;
        let mut body = json!({
            "namespace": name.namespace,
            "name": name.path,
            "binding": { "namespace": target.namespace, "name": target.path },
        });
        lay_over(&mut body, &self.parameters, &self.annotations)?;
        let way = match self.overwrite {
            true => Put::Update,
            false => Put::Create,
        };
        let path = client.path(&name.namespace, &name.in_collection("packages"));
        let answer = client.send("PUT", &path, &way.query(), Some(&body));
        let bound = answer
            .and_then(Answer::success)
            .map_err(|f| f.while_trying("Binding creation failed"))?;
        let text = format!("created binding {}", name.path);
        session.output.done(&text, &bound);
        Ok(())
    }
}

fn show(session: Session<'_>, get: &Get) -> Result<()> {
    let client = Client::new(session)?;
    let name = EntityPath::parse_plain(&get.name, client.namespace())?;
    let package = entity::get(&client, "package", &name)?;
    if !get.summary || session.output.json {
        return entity::show(session, "package", &name, &package, get.field.as_deref());
    }
    let own = entity::full_name(&package);
    let line = |kind, name: &str, of: &Value| session.output.line(&entity::summary(kind, name, of));
    line("package", &own, &package);
    for (kind, field) in [(" action", "actions"), (" feed  ", "feeds")] {
        for one in package[field].as_array().into_iter().flatten() {
            let name = one["name"].as_str().unwrap_or("?");
            line(kind, &format!("{own}/{name}"), one);
        }
    }
    Ok(())
}

fn delete(session: Session<'_>, name: &str, force: bool) -> Result<()> {
    let client = Client::new(session)?;
    let name = EntityPath::parse_plain(name, client.namespace())?;
    let path = client.path(&name.namespace, &name.in_collection("packages"));
    let forced = [("force", "true".to_owned())];
    let query = if force { &forced[..] } else { &[] };
    let deleted = client.send("DELETE", &path, query, None);
    let deleted = deleted.and_then(Answer::success).map_err(|f| {
        let full = !force && f.message.contains("not empty");
        let f = f.while_trying(&format!("Unable to delete package '{}'", name.path));
        match full {
            true => f.advise("--force deletes the actions in it too."),
            false => f,
        }
    })?;
    let text = format!("deleted package {}", name.path);
    session.output.done(&text, &deleted);
    Ok(())
}

fn refresh(session: Session<'_>, namespace: Option<&str>) -> Result<()> {
    let client = Client::new(session)?;
    let namespace = entity::namespace_of(namespace, &client)?;
    let answer = client.send(
        "POST",
        &client.path(&namespace, "packages/refresh"),
        &[],
        None,
    )?;
    if matches!(answer.status, 404 | 405 | 501) {
        let message = "The package refresh feature is not implemented in the target deployment";
        let failure = Failure::status(answer.status, &json!({ "error": message }));
        return Err(failure.advise("Bindings are always up to date here: nothing needs it."));
    }
    let attempt = format!("Package refresh for namespace '{namespace}' failed");
    let updates = answer.success().map_err(|f| f.while_trying(&attempt))?;
    let output = session.output;
    if output.json {
        output.value(&updates);
        return Ok(());
    }
    output.line(&format!("'{namespace}' refreshed successfully"));
    let none = Map::new();
    let updates = updates.as_object().unwrap_or(&none);
    for (title, field) in [
        ("created", "added"),
        ("updated", "updated"),
        ("deleted", "deleted"),
    ] {
        output.line(&format!("{title} bindings:"));
        let names = updates.get(field).and_then(Value::as_array);
        for name in names.into_iter().flatten().filter_map(Value::as_str) {
            output.line(name);
        }
    }
    Ok(())
}
