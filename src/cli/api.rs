//! `wisp api`: paths and verbs that call web actions, kept by the server's own management of APIs.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::client::{Client, EntityPath};
use super::entity::annotation;
use super::failure::{Failure, Result};
use super::{Page, Session, web};

/// Verbs an API may have.
const VERBS: [&str; 7] = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"];

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

/// What one route of an API is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) base: String,
    pub(super) path: String,
    /// In capitals.
    pub(super) verb: String,
    pub(super) action: EntityPath,
    pub(super) name: Option<String>,
    pub(super) response: ResponseType,
}

impl Route {
    /// What cannot be said of a route is refused here, in words, before a server is asked.
    pub(super) fn check(&self) -> Result<()> {
        rooted(&self.path)?;
        verb(&self.verb)?;
        if !parameters(&self.base).is_empty() {
            let message = format!(
                "The base path '{}' cannot have parameters. Only the relative path supports path parameters.",
                self.base
            );
            return Err(Failure::usage(message));
        }
        if !parameters(&self.path).is_empty() && self.response != ResponseType::Http {
            let message = "A response type of 'http' is required when using path parameters.";
            return Err(Failure::usage(message));
        }
        if self.name.is_some() && !self.base.starts_with('/') {
            return Err(Failure::usage("An API name can only be specified once."));
        }
        Ok(())
    }

    /// As it is called in lists: `GET /base/path`.
    pub(super) fn title(&self) -> String {
        let base = self.base.trim_end_matches('/');
        format!("{} {base}{}", self.verb, self.path)
    }

    /// What narrows a call to it.
    pub(super) fn part(&self) -> [(&'static str, String); 3] {
        [
            ("basepath", self.base.clone()),
            ("relpath", self.path.clone()),
            ("operation", self.verb.clone()),
        ]
    }

    /// Creates it; what the server made of it.
    pub(super) fn create(&self, client: &Client<'_>) -> Result<Value> {
        let action = web_action(client, &self.action)?;
        let namespace = action["namespace"].as_str().unwrap_or("_");
        let namespace = namespace.split('/').next().unwrap_or("_");
        let mut target = json!({
            "name": self.action.path,
            "namespace": namespace,
            "backendMethod": self.verb,
            "backendUrl": format!(
                "{}.{}",
                web::url(client, namespace, &self.action),
                self.response.name()
            ),
            "authkey": client.auth(),
        });
        if let Some(secret) = annotation(&action, web::SECRET) {
            target["secureKey"] = secret.clone();
        }
        let mut doc = json!({
            "namespace": "_",
            "gatewayBasePath": self.base,
            "gatewayPath": self.path,
            "gatewayMethod": self.verb,
            "action": target,
        });
        if self.base.starts_with('/') {
            doc["id"] = json!(format!("API:_:{}", self.base));
        }
        if let Some(name) = &self.name {
            doc["apiName"] = json!(name);
        }
        let parameters = parameters(&self.path);
        if !parameters.is_empty() {
            doc["pathParameters"] = parameters.into_iter().map(path_parameter).collect();
        }
        upload(client, doc, self.response)
    }
}

fn path_parameter(name: &str) -> Value {
    json!({
        "name": name,
        "in": "path",
        "description": format!("Default description for '{name}'"),
        "required": true,
        "type": "string",
    })
}

/// Whether a path has segments that stand for any.
pub(super) fn has_parameters(path: &str) -> bool {
    !parameters(path).is_empty()
}

/// Names between braces that are whole segments.
fn parameters(path: &str) -> Vec<&str> {
    let segments = path.split('/');
    let inner = segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    inner.filter(|name| !name.is_empty()).collect()
}

fn rooted(path: &str) -> Result<()> {
    match path.starts_with('/') {
        true => Ok(()),
        false => Err(Failure::usage(format!("'{path}' must begin with '/'."))),
    }
}

/// A verb in capitals.
pub(super) fn verb(text: &str) -> Result<String> {
    let verb = text.to_ascii_uppercase();
    match VERBS.contains(&verb.as_str()) {
        true => Ok(verb),
        false => {
            let all = VERBS.join(", ");
            let message = format!("'{text}' is not a valid API verb.  Valid values are: {all}");
            Err(Failure::usage(message))
        }
    }
}

/// The action, which must be on the web.
fn web_action(client: &Client<'_>, name: &EntityPath) -> Result<Value> {
    let path = client.path(&name.namespace, &name.in_collection("actions"));
    let action = client.get(&path, &[("code", "false".to_owned())]);
    let action = action.map_err(|failure| match failure.status {
        Some(404) => Failure {
            message: format!("API action '{}' does not exist", name.path),
            ..failure
        },
        _ => failure.while_trying(&format!("Unable to get action '{}'", name.path)),
    })?;
    match web::is_web(&action) {
        true => Ok(action),
        false => {
            let text = format!("API action '{}' is not a web action.", name.path);
            let advice = format!(
                "Issue 'wisp action update \"{}\" --web yes' to convert the action to a web action.",
                name.path
            );
            Err(Failure::general(text).advise(advice))
        }
    }
}

/// `…/apimgmt/{operation}.http`, the parameters all calls have, and those of this one.
fn call(
    client: &Client<'_>,
    method: &str,
    operation: &str,
    more: &[(&str, String)],
    body: Option<&Value>,
) -> Result<Value> {
    let space = client.auth().split(':').next().unwrap_or_default();
    let mut query = vec![
        ("accesstoken", client.gateway_token().to_owned()),
        ("spaceguid", space.to_owned()),
    ];
    query.extend(more.iter().cloned());
    let path = format!("{}/whisk.system/apimgmt/{operation}.http", client.web());
    client.send(method, &path, &query, body)?.success()
}

fn upload(client: &Client<'_>, doc: Value, response: ResponseType) -> Result<Value> {
    let body = json!({ "apidoc": doc });
    let more = [("responsetype", response.name().to_owned())];
    let made = call(client, "POST", "createApi", &more, Some(&body));
    made.map_err(|f| f.while_trying("Unable to create API"))
}

/// `getApi`, of all APIs or of the part that `which` names.
pub(super) fn fetch(client: &Client<'_>, which: &[(&str, String)]) -> Result<Vec<Value>> {
    let answer = call(client, "GET", "getApi", which, None)?;
    let apis = answer["apis"].as_array().into_iter().flatten();
    Ok(apis.map(|api| api["value"].clone()).collect())
}

/// `deleteApi`.
pub(super) fn delete(client: &Client<'_>, which: &[(&str, String)]) -> Result<Value> {
    let deleted = call(client, "DELETE", "deleteApi", which, None);
    deleted.map_err(|f| f.while_trying("Unable to delete API"))
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
            serde_saphyr::from_str(&text).map_err(|error| bad(format!("\n{error}")))?
        }
        _ => serde_json::from_str(&text).map_err(|error| bad(format!("is no JSON: {error}")))?,
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

/// A path and a verb of an API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Operation {
    pub(super) base: String,
    pub(super) path: String,
    /// In small letters.
    pub(super) verb: String,
    /// Friendly name of the API.
    name: String,
    /// Empty when it calls none of ours.
    pub(super) action: String,
    /// Where it is sent on to, when the server says so.
    pub(super) target: String,
    url: String,
}

impl Operation {
    fn made(&self) -> String {
        let Self {
            path, verb, url, ..
        } = self;
        let base = self.base.trim_end_matches('/');
        let action = match self.action.as_str() {
            "" => String::new(),
            action => format!(" for action {action}"),
        };
        format!("created API {base}{path} {verb}{action}\n{url}")
    }
}

/// Every path and verb of an API as the server has it.
pub(super) fn operations(api: &Value) -> Vec<Operation> {
    let doc = &api["apidoc"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let url = text(&api["gwApiUrl"]);
    let none = Map::new();
    let paths = doc["paths"].as_object().unwrap_or(&none);
    let mut all = Vec::new();
    for (path, verbs) in paths {
        let verbs = verbs.as_object().unwrap_or(&none).iter();
        let verbs = verbs.filter(|(verb, _)| self::verb(verb).is_ok());
        for (verb, operation) in verbs {
            let target = &operation["x-openwhisk"];
            let segments = ["namespace", "package", "action"].map(|field| text(&target[field]));
            // `default` is how addresses say that there is no package.
            let said = |(at, segment): &(usize, &String)| {
                !segment.is_empty() && (*at != 1 || *segment != "default")
            };
            let segments = segments.iter().enumerate().filter(said);
            all.push(Operation {
                base: text(&doc["basePath"]),
                path: path.clone(),
                verb: verb.clone(),
                name: text(&doc["info"]["title"]),
                action: segments.map(|(_, segment)| format!("/{segment}")).collect(),
                target: text(&target["url"]),
                url: format!("{}{path}", url.trim_end_matches('/')),
            });
        }
    }
    all
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read_from_swagger() {
        let api = json!({"gwApiUrl": "http://h/api/t/shop/", "apidoc": {
            "basePath": "/shop", "info": {"title": "Shop"},
            "paths": {"/orders": {
                "parameters": [],
                "get": {"x-openwhisk": {"namespace": "g", "package": "p", "action": "a"}},
                "post": {},
            }},
        }});
        let all = operations(&api);
        assert_eq!(all.len(), 2);
        let text = "created API /shop/orders get for action /g/p/a\nhttp://h/api/t/shop/orders";
        assert_eq!(all[0].made(), text);
        assert_eq!(all[1].action, "");
    }

    #[test]
    fn routes_that_cannot_be_are_refused() {
        let route = |base: &str, path: &str, response| Route {
            base: base.to_owned(),
            path: path.to_owned(),
            verb: "GET".to_owned(),
            action: EntityPath::parse("a", "_").unwrap(),
            name: None,
            response,
        };
        assert!(route("/b", "/p/{id}", ResponseType::Http).check().is_ok());
        assert!(route("/b", "/p/{id}", ResponseType::Json).check().is_err());
        assert!(route("/{b}", "/p", ResponseType::Http).check().is_err());
        assert!(route("/b", "p", ResponseType::Json).check().is_err());
        assert_eq!(verb("pAtch").unwrap(), "PATCH");
        assert!(verb("fetch").is_err());
        assert_eq!(parameters("/a/{b}/c{d}/{}/{e}"), ["b", "e"]);
    }
}
