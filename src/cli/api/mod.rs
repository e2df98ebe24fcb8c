//! `wisp api`: paths and verbs that call web actions, kept by the server's own management of APIs.

mod operation;
mod route;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::client::{Client, EntityPath};
use super::failure::{Failure, Result, yaml_error};
use super::{Page, Session};

pub(super) use operation::{Operation, operations};
pub(super) use route::{Route, delete, fetch, has_parameters, verb};
use route::{rooted, upload};

/// `wisp api …`
#[derive(Debug, Subcommand)]
pub(super) enum Api {
    /// Let a path and a verb call a web action
    #[command(after_help = "\
Examples:
  wisp api create /shop /orders get list-orders
  wisp api create /shop '/orders/{id}' get one-order --response-type http
  wisp api create --config-file shop.yaml          a whole API from its swagger")]
    Create(Create),
    /// Show an API as swagger
    Get(Get),
    /// List what paths and verbs call which actions
    List(List),
    /// Delete an API, one path of it, or one verb of a path
    #[command(
        after_help = "Examples:\n  wisp api delete /shop\n  wisp api delete /shop /orders get"
    )]
    Delete(Which),
}

/// A new part of an API.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// `[BASE_PATH] PATH VERB ACTION`; the base path is / when left out
    #[arg(value_name = "PATH VERB ACTION", num_args = 0..=4, required_unless_present = "config_file")]
    words: Vec<String>,
    /// Friendly name of the API; its base path when left out
    #[arg(short = 'n', long, value_name = "NAME")]
    apiname: Option<String>,
    /// Swagger of a whole API, JSON or YAML
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["words", "apiname"])]
    config_file: Option<PathBuf>,
    /// What the action answers with
    #[arg(long, value_name = "TYPE", default_value = "json")]
    response_type: ResponseType,
}

/// What a web action answers with, as its extension says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ResponseType {
    Html,
    Http,
    Json,
    Text,
    Svg,
}

impl ResponseType {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Http => "http",
            Self::Json => "json",
            Self::Text => "text",
            Self::Svg => "svg",
        }
    }
}

/// Which API to show.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// Base path or name
    api: String,
    /// Its addresses too
    #[arg(short, long)]
    full: bool,
    /// How to print it
    #[arg(long, value_name = "TYPE", default_value = "json")]
    format: Format,
}

/// How an API is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Json,
    Yaml,
}

/// What to list.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Base path or name of one API
    api: Option<String>,
    /// Only this path
    path: Option<String>,
    /// Only this verb
    verb: Option<String>,
    #[command(flatten)]
    page: Page,
    /// By name, not by age
    #[arg(short, long)]
    name_sort: bool,
    /// A line for each property
    #[arg(short, long)]
    full: bool,
}

/// Which part of an API.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Base path or name
    api: String,
    /// Only this path
    path: Option<String>,
    /// Only this verb of the path
    verb: Option<String>,
}

impl Api {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        match self {
            Self::Create(create) => create.run(session),
            Self::Get(get) => get.run(session),
            Self::List(list) => list.run(session),
            Self::Delete(which) => which.delete(session),
        }
    }
}

impl Create {
    fn run(&self, session: Session<'_>) -> Result<()> {
        let client = Client::new(session)?;
        let output = session.output;
        if let Some(file) = &self.config_file {
            let doc = json!({ "namespace": "_", "swagger": swagger(file)?.to_string() });
            let made = upload(&client, doc, self.response_type)?;
            let text: Vec<String> = operations(&made).iter().map(Operation::made).collect();
            match output.json {
                true => output.value(&made),
                false => text.iter().for_each(|text| output.ok(text)),
            }
            return Ok(());
        }
        let route = self.route(&client)?;
        let made = route.create(&client)?;
        let url = made["gwApiUrl"].as_str().unwrap_or_default();
        let text = format!(
            "created API {}{} {} for action {}\n{}{}",
            route.base.trim_end_matches('/'),
            route.path,
            route.verb,
            route.action,
            url.trim_end_matches('/'),
            route.path
        );
        output.done(&text, &made);
        Ok(())
    }

    fn route(&self, client: &Client<'_>) -> Result<Route> {
        let (base, path, said, action) = match self.words.as_slice() {
            [path, verb, action] => ("/", path, verb, action),
            [base, path, verb, action] => (base.as_str(), path, verb, action),
            _ => {
                let message = "an API needs a path, a verb and an action";
                let failure = Failure::usage(message);
                return Err(
                    failure.advise("Example: wisp api create /shop /orders get list-orders")
                );
            }
        };
        let route = Route {
            base: base.to_owned(),
            path: path.clone(),
            verb: verb(said)?,
            action: EntityPath::parse(action, client.namespace())?,
            name: self.apiname.clone(),
            response: self.response_type,
        };
        route.check()?;
        Ok(route)
    }
}

/// The swagger in a file, which must be one.
fn swagger(file: &Path) -> Result<Value> {
    let bad = |why: String| Failure::general(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
    let extension = file.extension().and_then(|extension| extension.to_str());
    let swagger: Value = match extension {
        Some("yaml" | "yml") => {
            serde_saphyr::from_str(&text).map_err(|error| bad(yaml_error(&error)))?
        }
        _ => serde_json::from_str(&text).map_err(|error| bad(format!("no JSON: {error}")))?,
    };
    let missing = ["swagger", "info", "basePath", "paths"];
    if missing.iter().any(|field| swagger.get(field).is_none()) {
        let message = "Swagger file is invalid (missing basePath, info, paths, or swagger fields)";
        return Err(bad(message.to_owned()));
    }
    match swagger["basePath"].as_str() {
        Some(base) if base.starts_with('/') => Ok(swagger),
        _ => {
            let message = "Swagger file basePath must start with a leading slash (/)";
            Err(bad(message.to_owned()))
        }
    }
}

impl Get {
    fn run(&self, session: Session<'_>) -> Result<()> {
        let client = Client::new(session)?;
        let attempt = format!("Unable to get API '{}'", self.api);
        let apis = fetch(&client, &[("basepath", self.api.clone())]);
        let apis = apis.map_err(|f| f.while_trying(&attempt))?;
        let api = apis.into_iter().next().ok_or_else(|| {
            Failure::general(format!("API does not exist for basepath {}", self.api))
        })?;
        let shown = if self.full { &api } else { &api["apidoc"] };
        match self.format {
            Format::Json => session.output.value(shown),
            Format::Yaml => {
                let text = serde_saphyr::to_string(shown);
                let text = text
                    .map_err(|error| Failure::general(error.to_string()).while_trying(&attempt))?;
                session.output.raw(text.as_bytes());
            }
        }
        Ok(())
    }
}

/// What narrows a call to a part of an API.
fn part(api: &str, path: Option<&str>, said: Option<&str>) -> Result<Vec<(&'static str, String)>> {
    let mut which = vec![("basepath", api.to_owned())];
    if let Some(path) = path {
        rooted(path)?;
        which.push(("relpath", path.to_owned()));
    }
    if let Some(said) = said {
        which.push(("operation", verb(said)?));
    }
    Ok(which)
}

impl List {
    fn run(&self, session: Session<'_>) -> Result<()> {
        let client = Client::new(session)?;
        let which = match &self.api {
            Some(api) => part(api, self.path.as_deref(), self.verb.as_deref())?,
            None => self.page.query(),
        };
        let apis = fetch(&client, &which);
        let apis = apis.map_err(|f| f.while_trying("Unable to obtain the API list"))?;
        let output = session.output;
        if output.json {
            output.value(&Value::Array(apis));
            return Ok(());
        }
        let mut all: Vec<Operation> = apis.iter().flat_map(operations).collect();
        all.retain(|one| self.path.as_ref().is_none_or(|path| *path == one.path));
        let asked = |said: &String, one: &Operation| said.eq_ignore_ascii_case(&one.verb);
        all.retain(|one| self.verb.as_ref().is_none_or(|verb| asked(verb, one)));
        if self.name_sort {
            all.sort();
        }
        output.ok("APIs");
        if !self.full {
            let rows = all.into_iter();
            let rows = rows.map(|one| [one.action, one.verb, one.name, one.url]);
            let header = ["Action", "Verb", "API Name", "URL"];
            output.table(header, &rows.collect::<Vec<_>>());
            return Ok(());
        }
        for one in all {
            output.line(&format!("Action: {}", one.action));
            output.line(&format!("  API Name: {}", one.name));
            output.line(&format!("  Base path: {}", one.base));
            output.line(&format!("  Path: {}", one.path));
            output.line(&format!("  Verb: {}", one.verb));
            output.line(&format!("  URL: {}", one.url));
        }
        Ok(())
    }
}

impl Which {
    fn delete(&self, session: Session<'_>) -> Result<()> {
        let client = Client::new(session)?;
        let which = part(&self.api, self.path.as_deref(), self.verb.as_deref())?;
        let deleted = delete(&client, &which)?;
        let text = match (&self.path, &self.verb) {
            (None, _) => format!("deleted API {}", self.api),
            (Some(path), None) => format!("deleted {path} from {}", self.api),
            (Some(path), Some(said)) => {
                format!("deleted {path} {} from {}", verb(said)?, self.api)
            }
        };
        session.output.done(&text, &deleted);
        Ok(())
    }
}
