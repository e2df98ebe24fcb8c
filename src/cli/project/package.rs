//! One package of a manifest to its entities: names in full, code from files, inputs with their values.

use std::path::Path;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::inputs::{Bad, Scope};
use super::manifest::{Action, Dependency, Named, Operation, Package, Sequence, Trigger};
use super::wanted::{Entity, Feed, Kind, Wanted, set_web};
use crate::cli::api::{ResponseType, Route, has_parameters, verb};
use crate::cli::client::EntityPath;
use crate::cli::code;
use crate::cli::failure::{Failure, Result};
use crate::cli::pairs::keys_and_values;
use crate::cli::web::Mode;

/// Where a manifest is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The folder that files are relative to.
    pub(super) folder: &'a Path,
    /// The real name of the namespace.
    pub(super) namespace: &'a str,
    /// Whether code is wanted: to delete an action its file need not be there.
    pub(super) code: bool,
}

/// One package of a manifest while it is read.
pub(super) struct Reader<'a> {
    pub(super) name: &'a str,
    pub(super) package: &'a Package,
    /// What the deployment file says of it.
    pub(super) over: Option<&'a Package>,
    pub(super) place: Place<'a>,
    pub(super) wanted: &'a mut Wanted,
}

impl Reader<'_> {
    /// Adds everything in it to what is wanted.
    pub(super) fn read(&mut self, scope: &Scope<'_>) -> Result<()> {
        let package = self.package;
        let name = self.name.to_owned();
        let bad = |bad: Bad| Failure::general(format!("package {name}: {bad}"));
        let over = self.over.map(|over| &over.inputs);
        let inputs = scope.inputs(&package.inputs, over).map_err(bad)?;
        let scope = &scope.with(&inputs);
        self.wanted.ignored(
            &format!("package {name}"),
            &[
                ("feeds", &package.feeds),
                ("namespace", &package.namespace),
                ("credential", &package.credential),
                ("apiHost", &package.api_host),
                ("apigwAccessToken", &package.gateway_token),
            ],
        );
        if !self.is_default() {
            let over = self.over.map(|over| &over.annotations);
            let annotations = annotations(scope, &package.annotations, over, &package.description);
            let body = json!({
                "publish": package.public,
                "parameters": keys_and_values(inputs),
            });
            self.add(Kind::Package, name.clone(), annotations.map_err(bad)?, body);
        }
        for (name, dependency) in &package.dependencies {
            self.dependency(scope, name, dependency)?;
        }
        for (name, action) in &package.actions {
            let attempt = |bad: Failure| bad.while_trying(&format!("action {name}"));
            self.action(scope, name, action).map_err(attempt)?;
        }
        for (name, sequence) in &package.sequences {
            let attempt = |bad: Failure| bad.while_trying(&format!("sequence {name}"));
            self.sequence(scope, name, sequence).map_err(attempt)?;
        }
        for (name, trigger) in &package.triggers {
            let attempt = |bad: Failure| bad.while_trying(&format!("trigger {name}"));
            self.trigger(scope, name, trigger).map_err(attempt)?;
        }
        for (name, rule) in &package.rules {
            let bad = |bad: Bad| Failure::general(format!("rule {name}: {bad}"));
            let annotations = annotations(scope, &rule.annotations, None, &rule.description);
            let trigger = scope.text(&rule.trigger).map_err(bad)?;
            let action = scope.text(&rule.action).map_err(bad)?;
            let body = json!({
                "trigger": self.qualified(&trigger, false)?.to_string(),
                "action": self.qualified(&action, true)?.to_string(),
            });
            let name = scope.text(name).map_err(bad)?;
            self.add(Kind::Rule, name, annotations.map_err(bad)?, body);
        }
        self.apis(scope)
    }

    fn is_default(&self) -> bool {
        self.name.eq_ignore_ascii_case("default")
    }

    /// `name` in this package.
    fn inside(&self, name: &str) -> String {
        match self.is_default() {
            true => name.to_owned(),
            false => format!("{}/{name}", self.name),
        }
    }

    /// A name as manifests have it, in full; one without a slash is in this package if it can be in one.
    fn qualified(&self, name: &str, packaged: bool) -> Result<EntityPath> {
        let name = name.trim();
        let name = match name.contains('/') {
            false if packaged => self.inside(name),
            _ if name.matches('/').count() == 2 && !name.starts_with('/') => format!("/{name}"),
            _ => name.to_owned(),
        };
        let mut path = EntityPath::parse(&name, self.place.namespace)?;
        if path.namespace == "_" {
            self.place.namespace.clone_into(&mut path.namespace);
        }
        Ok(path)
    }

    fn add(
        &mut self,
        kind: Kind,
        name: String,
        annotations: Map<String, Value>,
        body: Value,
    ) -> &mut Entity {
        self.wanted.entities.push(Entity {
            kind,
            name,
            annotations,
            body,
            feed: None,
            route: None,
        });
        self.wanted.entities.last_mut().expect("just pushed")
    }

    fn dependency(&mut self, scope: &Scope<'_>, name: &str, dependency: &Dependency) -> Result<()> {
        let bad = |bad: Bad| Failure::general(format!("dependency {name}: {bad}"));
        let location = scope.text(&dependency.location).map_err(bad)?;
        let rooted = location.starts_with('/') || location.starts_with("whisk.system/");
        let path = location.trim_start_matches('/').split_once('/');
        let path =
            path.filter(|(_, package)| rooted && !package.is_empty() && !package.contains('/'));
        let Some((namespace, package)) = path else {
            let message = format!(
                "'{location}' is no package: only bindings to /NAMESPACE/PACKAGE can be deployed"
            );
            let failure = Failure::general(format!("dependency {name}: {message}"));
            return Err(failure.advise("Deploy what is in a repository as a project of its own."));
        };
        let namespace = match namespace {
            "_" => self.place.namespace,
            other => other,
        };
        let annotations = annotations(scope, &dependency.annotations, None, "").map_err(bad)?;
        let body = json!({
            "binding": { "namespace": namespace, "name": package },
            "parameters": keys_and_values(scope.inputs(&dependency.inputs, None).map_err(bad)?),
        });
        let name = scope.text(name).map_err(bad)?;
        self.add(Kind::Binding, name, annotations, body);
        Ok(())
    }

    fn action(&mut self, scope: &Scope<'_>, name: &str, action: &Action) -> Result<()> {
        let name = scope.text(name).map_err(Failure::general)?;
        self.wanted.ignored(
            &format!("action {name}"),
            &[
                ("docker", &action.docker),
                ("include", &action.include),
                ("exclude", &action.exclude),
                ("namespace", &action.namespace),
                ("credential", &action.credential),
                ("exposedUrl", &action.exposed_url),
            ],
        );
        if action.native {
            self.wanted
                .notes
                .push(format!("action {name}: native is ignored"));
        }
        let over = self.over.and_then(|over| over.actions.get(&name));
        let described = annotations(
            scope,
            &action.annotations,
            over.map(|over| &over.annotations),
            &action.description,
        );
        let mut annotations = described.map_err(Failure::general)?;
        let web = match action.web.is_null() {
            true => &action.web_export,
            false => &action.web,
        };
        if let Some(mode) = mode(web)? {
            set_web(&mut annotations, mode);
        }
        if action.conductor {
            annotations.insert("conductor".to_owned(), json!(true));
        }
        let inputs = scope.inputs(&action.inputs, over.map(|over| &over.inputs));
        let mut body = json!({
            "exec": self.exec(scope, action)?,
            "parameters": keys_and_values(inputs.map_err(Failure::general)?),
        });
        let limits = self.limits(&name, &action.limits)?;
        if !limits.is_empty() {
            body["limits"] = Value::Object(limits);
        }
        let name = self.inside(&name);
        self.add(Kind::Action, name, annotations, body);
        Ok(())
    }

    fn exec(&self, scope: &Scope<'_>, action: &Action) -> Result<Value> {
        let bad = Failure::general;
        if !self.place.code {
            return Ok(Value::Null);
        }
        let runtime = scope.text(&action.runtime).map_err(bad)?;
        let runtime = Some(runtime.as_str()).filter(|kind| !kind.is_empty());
        let main = Some(action.main.as_str()).filter(|main| !main.is_empty());
        let function = match action.function.is_empty() {
            true => &action.location,
            false => &action.function,
        };
        let function = scope.text(function).map_err(bad)?;
        match (&action.code, function.is_empty()) {
            (Some(_), false) => Err(bad("has both function and code: one of them".to_owned())),
            (Some(code), true) => match runtime {
                Some(kind) => code::inline(code, kind, main),
                None => Err(bad("code needs a runtime that says what it is".to_owned())),
            },
            (None, true) => Err(bad("has neither function nor code".to_owned())),
            (None, false) if function.contains("://") => Err(bad(format!(
                "'{function}' is not a file: code is read from this machine only"
            ))),
            (None, false) => {
                let path = self.place.folder.join(&function);
                code::read(&path, runtime, main)
            }
        }
    }

    fn limits(&mut self, name: &str, said: &Named<Value>) -> Result<Map<String, Value>> {
        let mut limits = Map::new();
        for (key, value) in said {
            let ours = match key.as_str() {
                "timeout" => "timeout",
                "memorySize" | "memory" => "memory",
                "logSize" | "logs" => "logs",
                "concurrency" => "concurrency",
                "instances" => "instances",
                // Known to wskdeploy, and to no server.
                "concurrentActivations" | "userInvocationRate" | "codeSize" | "parameterSize" => {
                    self.wanted
                        .notes
                        .push(format!("action {name}: limit {key} is ignored"));
                    continue;
                }
                other => return Err(Failure::general(format!("there is no limit {other}"))),
            };
            if !value.is_u64() {
                return Err(Failure::general(format!(
                    "limit {key} must be a whole number, not {value}"
                )));
            }
            limits.insert(ours.to_owned(), value.clone());
        }
        Ok(limits)
    }

    fn sequence(&mut self, scope: &Scope<'_>, name: &str, sequence: &Sequence) -> Result<()> {
        let name = scope.text(name).map_err(Failure::general)?;
        let mut annotations =
            annotations(scope, &sequence.annotations, None, "").map_err(Failure::general)?;
        if let Some(mode) = mode(&sequence.web)? {
            set_web(&mut annotations, mode);
        }
        let mut components = Vec::new();
        for action in sequence.actions.names() {
            let action = scope.text(action).map_err(Failure::general)?;
            components.push(self.qualified(&action, true)?.to_string());
        }
        let body = json!({ "exec": { "kind": "sequence", "components": components } });
        let name = self.inside(&name);
        self.add(Kind::Sequence, name, annotations, body);
        Ok(())
    }

    fn trigger(&mut self, scope: &Scope<'_>, name: &str, trigger: &Trigger) -> Result<()> {
        let bad = Failure::general;
        let name = scope.text(name).map_err(bad)?;
        self.wanted.ignored(
            &format!("trigger {name}"),
            &[
                ("namespace", &trigger.namespace),
                ("credential", &trigger.credential),
            ],
        );
        let over = self.over.and_then(|over| over.triggers.get(&name));
        let described = annotations(
            scope,
            &trigger.annotations,
            over.map(|over| &over.annotations),
            &trigger.description,
        );
        let mut annotations = described.map_err(bad)?;
        let inputs = scope.inputs(&trigger.inputs, over.map(|over| &over.inputs));
        let inputs = inputs.map_err(bad)?;
        let feed = match trigger.feed.is_empty() {
            true => &trigger.source,
            false => &trigger.feed,
        };
        let feed = scope.text(feed).map_err(bad)?;
        if feed.is_empty() {
            let body = json!({ "parameters": keys_and_values(inputs) });
            self.add(Kind::Trigger, name, annotations, body);
            return Ok(());
        }
        let action = self.qualified(&feed, false)?;
        annotations.insert("feed".to_owned(), json!(action.to_string()));
        let body = json!({ "parameters": [] });
        let entity = self.add(Kind::Trigger, name, annotations, body);
        entity.feed = Some(Feed { action, inputs });
        Ok(())
    }

    fn apis(&mut self, scope: &Scope<'_>) -> Result<()> {
        let rooted = |path: &str| format!("/{}", path.trim_start_matches('/'));
        for (api, bases) in &self.package.apis {
            let bad = |bad: Bad| Failure::general(format!("api {api}: {bad}"));
            let refuse = |failure: Failure| failure.while_trying(&format!("api {api}"));
            let name = scope.text(api).map_err(bad)?;
            let of_base = bases.iter().flat_map(|(base, paths)| {
                paths
                    .iter()
                    .flat_map(move |(path, actions)| actions.iter().map(move |a| (base, path, a)))
            });
            for (base, path, (action, operation)) in of_base {
                let (method, said) = match operation {
                    Operation::Method(method) => (method, None),
                    Operation::Full { method, response } => (method, response.as_deref()),
                };
                let path = rooted(&scope.text(path).map_err(bad)?);
                let said = said.filter(|said| !said.is_empty());
                let mut response = match said {
                    Some(said) => ResponseType::from_str(said, true)
                        .map_err(|_| bad(format!("'{said}' is no response type")))?,
                    None => ResponseType::Json,
                };
                if has_parameters(&path) && response != ResponseType::Http {
                    let note =
                        format!("api {name}: {path} has parameters, so its response type is http");
                    self.wanted.notes.push(note);
                    response = ResponseType::Http;
                }
                let action = scope.text(action).map_err(bad)?;
                let route = Route {
                    base: rooted(&scope.text(base).map_err(bad)?),
                    path,
                    verb: verb(method).map_err(refuse)?,
                    action: self.qualified(&action, true).map_err(refuse)?,
                    name: Some(name.clone()),
                    response,
                };
                route.check().map_err(refuse)?;
                let title = route.title();
                let entity = self.add(Kind::Api, title, Map::new(), Value::Null);
                entity.route = Some(route);
            }
        }
        Ok(())
    }
}

/// Annotations with what a deployment says over them, and a description if there is one.
fn annotations(
    scope: &Scope<'_>,
    declared: &Named<Value>,
    over: Option<&Named<Value>>,
    description: &str,
) -> std::result::Result<Map<String, Value>, Bad> {
    let mut all = Map::new();
    if !description.is_empty() {
        all.insert("description".to_owned(), json!(description));
    }
    for (key, value) in declared.iter().chain(over.into_iter().flatten()) {
        let value = scope
            .value(value)
            .map_err(|bad| format!("annotation {key}: {bad}"))?;
        all.insert(key.clone(), value);
    }
    Ok(all)
}

/// `web: true`, `web: raw`.
fn mode(said: &Value) -> Result<Option<Mode>> {
    let text = match said {
        Value::Null => return Ok(None),
        Value::Bool(true) => "yes",
        Value::Bool(false) => "no",
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => text,
        _ => "",
    };
    let mode = Mode::from_str(text, true);
    mode.map(Some)
        .map_err(|_| Failure::general(format!("web: {said} is not yes, no or raw")))
}
