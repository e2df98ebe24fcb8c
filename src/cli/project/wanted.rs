//! What a manifest wants there to be: every entity with the body it would be `PUT` with.
//!
//! Reads the code files a manifest names, asks no server. What it cannot do it refuses, naming the entity; what it leaves
//! out it says.

use serde_json::{Map, Value};

use super::inputs::{Bad, Scope};
use super::manifest::{Document, Named, Package};
use super::package::{Place, Reader};
use crate::cli::api::Route;
use crate::cli::client::EntityPath;
use crate::cli::failure::{Failure, Result};
use crate::cli::web::Mode;

/// What entities there are, in the order they are made; they are deleted the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Package,
    Binding,
    Action,
    Sequence,
    Trigger,
    Rule,
    Api,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Binding => "binding",
            Self::Action => "action",
            Self::Sequence => "sequence",
            Self::Trigger => "trigger",
            Self::Rule => "rule",
            Self::Api => "api",
        }
    }

    /// Where it stands in a URL; two kinds may stand in one collection.
    pub(super) fn collection(self) -> &'static str {
        match self {
            Self::Package | Self::Binding => "packages",
            Self::Action | Self::Sequence => "actions",
            Self::Trigger => "triggers",
            Self::Rule => "rules",
            Self::Api => "apis",
        }
    }
}

/// An entity as it should be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entity {
    pub(super) kind: Kind,
    /// `name` or `package/name`; of an API's route `GET /base/path`.
    pub(super) name: String,
    /// Annotations by name.
    pub(super) annotations: Map<String, Value>,
    /// The body of its `PUT`, without its annotations.
    pub(super) body: Value,
    /// What its feed is told, if it has one.
    pub(super) feed: Option<Feed>,
    /// What it is, if it is a route of an API.
    pub(super) route: Option<Route>,
}

/// The feed of a trigger.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Feed {
    pub(super) action: EntityPath,
    pub(super) inputs: Map<String, Value>,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) entities: Vec<Entity>,
    /// What was left out, for people.
    pub(super) notes: Vec<String>,
}

impl Wanted {
    /// What `manifest` wants, with `deployment` over it.
    pub(super) fn of(
        manifest: &Document,
        deployment: Option<&Document>,
        scope: &Scope<'_>,
        place: Place<'_>,
    ) -> Result<Self> {
        let mut wanted = Self::default();
        let project = &manifest.project;
        wanted.ignored(
            "project",
            &[
                ("namespace", &project.namespace),
                ("credential", &project.credential),
                ("apiHost", &project.api_host),
                ("apigwAccessToken", &project.gateway_token),
            ],
        );
        let of_project = |bad: Bad| Failure::general(format!("project: {bad}"));
        let inputs = scope.inputs(&project.inputs, None).map_err(of_project)?;
        let scope = scope.with(&inputs);
        let over = deployment.map(Document::all).into_iter().flatten();
        let over = over.map(|(name, package)| Ok((scope.text(name)?, package)));
        let over: Named<&Package> = over
            .collect::<std::result::Result<_, Bad>>()
            .map_err(of_project)?;
        for (name, package) in manifest.all() {
            let name = scope.text(name).map_err(of_project)?;
            let over = over.get(&name).copied();
            let mut reader = Reader {
                name: &name,
                package,
                over,
                place,
                wanted: &mut wanted,
            };
            reader.read(&scope)?;
        }
        wanted.unheard(manifest, deployment);
        wanted.publish_apis();
        wanted.twins()?;
        wanted.order();
        Ok(wanted)
    }

    /// Says that these keys are, where they are there.
    pub(super) fn ignored(&mut self, what: &str, keys: &[(&str, &Value)]) {
        for (key, value) in keys {
            if !value.is_null() {
                self.notes.push(format!("{what}: {key} is ignored"));
            }
        }
    }

    /// Says what a deployment file speaks of that the manifest does not have.
    fn unheard(&mut self, manifest: &Document, deployment: Option<&Document>) {
        for (name, package) in deployment.map(Document::all).into_iter().flatten() {
            let own = manifest.all().get(name);
            let mut unknown = Vec::new();
            match own {
                None => unknown.push(format!("package {name}")),
                Some(own) => {
                    let actions = package.actions.keys();
                    let actions = actions.filter(|action| !own.actions.contains_key(*action));
                    unknown.extend(actions.map(|action| format!("action {name}/{action}")));
                    let triggers = package.triggers.keys();
                    let triggers = triggers.filter(|name| !own.triggers.contains_key(*name));
                    unknown.extend(triggers.map(|trigger| format!("trigger {trigger}")));
                }
            }
            let unknown = unknown.into_iter();
            let notes = unknown
                .map(|what| format!("the deployment file has a {what} that the manifest has not"));
            self.notes.extend(notes);
        }
    }

    /// What an API calls must be on the web.
    fn publish_apis(&mut self) {
        let called = self
            .entities
            .iter()
            .filter_map(|entity| entity.route.as_ref());
        let called: Vec<String> = called.map(|route| route.action.path.clone()).collect();
        for entity in &mut self.entities {
            let is_code = matches!(entity.kind, Kind::Action | Kind::Sequence);
            let is_web = entity.annotations.get("web-export") == Some(&Value::Bool(true));
            if is_code && !is_web && called.contains(&entity.name) {
                set_web(&mut entity.annotations, Mode::Yes);
                let note = format!(
                    "{} {} is put on the web for its API",
                    entity.kind.name(),
                    entity.name
                );
                self.notes.push(note);
            }
        }
    }

    /// Two entities cannot have one name; actions, triggers, rules and packages share theirs.
    fn twins(&self) -> Result<()> {
        let mut seen: Named<Kind> = Named::new();
        for entity in &self.entities {
            let key = match entity.kind {
                Kind::Api => format!("api {}", entity.name),
                _ => entity.name.clone(),
            };
            if let Some(other) = seen.insert(key, entity.kind) {
                return Err(Failure::general(format!(
                    "{} {} has the name of a {}: a name stands for one thing in a namespace",
                    entity.kind.name(),
                    entity.name,
                    other.name()
                )));
            }
        }
        Ok(())
    }

    /// In the order they are made: by kind, and a sequence after those it runs.
    fn order(&mut self) {
        self.entities
            .sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        let mut placed: Vec<Entity> = Vec::with_capacity(self.entities.len());
        let mut waiting = std::mem::take(&mut self.entities);
        while !waiting.is_empty() {
            let names: Vec<String> = waiting.iter().map(|entity| entity.name.clone()).collect();
            let ready = |entity: &Entity| {
                let components = entity.body["exec"]["components"].as_array();
                let components = components.into_iter().flatten().filter_map(Value::as_str);
                let mut paths = components.filter_map(|name| name.splitn(3, '/').nth(2));
                entity.kind != Kind::Sequence
                    || !paths
                        .any(|path| names.iter().any(|name| name == path && path != entity.name))
            };
            let before = waiting.len();
            let first_kind = waiting[0].kind;
            let (now, later): (Vec<Entity>, Vec<Entity>) = waiting
                .into_iter()
                .partition(|entity| entity.kind == first_kind && ready(entity));
            placed.extend(now);
            waiting = later;
            if waiting.len() == before {
                // They run each other: the server says so better.
                placed.append(&mut waiting);
            }
        }
        self.entities = placed;
    }
}

/// Puts a mode of the web among annotations.
pub(super) fn set_web(annotations: &mut Map<String, Value>, mode: Mode) {
    for (key, value) in mode.annotations() {
        annotations.insert(key.to_owned(), value);
    }
}
