//! What to do so that a server has what a manifest wants: a pure function of both.
//!
//! A manifest is the whole truth of the entities it names: an annotation or a parameter it does not have is taken away.
//! Limits it does not name stay as they are, and so do the annotations a server makes by itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::wanted::{Entity, Kind, Wanted};
use crate::cli::api::Operation;
use crate::cli::entity::annotation;
use crate::model::params;

/// Whose an entity is, when a project manages it; the key is wskdeploy's.
pub(super) const MANAGED: &str = "whisk-managed";

/// What was told to the feed of a trigger, so that a change of it is seen.
pub(super) const FEED_INPUTS: &str = "feed-inputs";

/// Annotations that servers make.
const SERVERS: [&str; 3] = ["exec", "provide-api-key", "binding"];

/// What a server has of what matters.
#[derive(Debug, Default)]
pub(super) struct Have {
    /// By collection and name.
    pub(super) entities: BTreeMap<(&'static str, String), Value>,
    /// Every path and verb of every API.
    pub(super) routes: Vec<Operation>,
    /// The kind that `family:default` stands for, by family.
    pub(super) defaults: BTreeMap<String, String>,
    /// What this project manages.
    pub(super) managed: Vec<(Kind, String)>,
    /// What digests of encrypted parameters were made with.
    pub(super) salt: String,
}

impl Have {
    fn of(&self, entity: &Entity) -> Option<Value> {
        match &entity.route {
            None => {
                let key = (entity.kind.collection(), entity.name.clone());
                self.entities.get(&key).cloned()
            }
            Some(route) => {
                let mut routes = self.routes.iter();
                let same = |one: &&Operation| {
                    one.base == route.base
                        && one.path == route.path
                        && one.verb.eq_ignore_ascii_case(&route.verb)
                };
                let found = routes.find(same)?;
                Some(json!({ "action": found.action, "target": found.target }))
            }
        }
    }
}

/// What is done to an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Update,
    Delete,
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Create => "+",
            Self::Update => "~",
            Self::Delete => "-",
        }
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) verb: Verb,
    pub(super) kind: Kind,
    pub(super) name: String,
    /// What changes.
    pub(super) fields: Vec<String>,
    /// How it should be; none for what is deleted because the manifest does not have it any more.
    pub(super) wanted: Option<Entity>,
    /// How it is.
    pub(super) have: Option<Value>,
}

/// All there is to do, in order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// How many are as they should be.
    pub(super) unchanged: usize,
    /// What is not done, for people.
    pub(super) notes: Vec<String>,
}

impl Plan {
    pub(super) fn count(&self, verb: Verb) -> usize {
        self.steps.iter().filter(|step| step.verb == verb).count()
    }

    /// To have everything `wanted`, and nothing that the project managed before.
    pub(super) fn deploy(wanted: &Wanted, have: &Have) -> Self {
        let mut plan = Self::default();
        for entity in &wanted.entities {
            let found = have.of(entity);
            let (verb, fields) = match &found {
                None => (Verb::Create, Vec::new()),
                Some(found) => (Verb::Update, changed(entity, found, have)),
            };
            if verb == Verb::Update && fields.is_empty() {
                plan.unchanged += 1;
                continue;
            }
            plan.steps.push(Step {
                verb,
                kind: entity.kind,
                name: entity.name.clone(),
                fields,
                wanted: Some(entity.clone()),
                have: found,
            });
        }
        plan.leave(wanted, have);
        plan
    }

    /// To have nothing of what is `wanted`, nor of what the project managed before.
    pub(super) fn undeploy(wanted: &Wanted, have: &Have) -> Self {
        let mut plan = Self::default();
        for entity in wanted.entities.iter().rev() {
            let Some(found) = have.of(entity) else {
                continue;
            };
            let others = match entity.kind {
                Kind::Package => strangers(&entity.name, &found, wanted, have),
                _ => Vec::new(),
            };
            if !others.is_empty() {
                let others = others.join(", ");
                let note = format!("package {} stays: it holds {others} too", entity.name);
                plan.notes.push(note);
                continue;
            }
            plan.steps.push(Step {
                verb: Verb::Delete,
                kind: entity.kind,
                name: entity.name.clone(),
                fields: Vec::new(),
                wanted: Some(entity.clone()),
                have: Some(found),
            });
        }
        plan.leave(wanted, have);
        // Stable: sequences among each other stay the other way round.
        plan.steps.sort_by_key(|step| std::cmp::Reverse(step.kind));
        plan
    }

    /// Deletes what the project managed and does not want any more.
    fn leave(&mut self, wanted: &Wanted, have: &Have) {
        let mut gone: Vec<&(Kind, String)> = have.managed.iter().collect();
        gone.retain(|(kind, name)| {
            let same = |entity: &Entity| {
                entity.kind.collection() == kind.collection() && entity.name == *name
            };
            !wanted.entities.iter().any(same)
        });
        gone.sort();
        for (kind, name) in gone.into_iter().rev() {
            self.steps.push(Step {
                verb: Verb::Delete,
                kind: *kind,
                name: name.clone(),
                fields: Vec::new(),
                wanted: None,
                have: have
                    .entities
                    .get(&(kind.collection(), name.clone()))
                    .cloned(),
            });
        }
    }
}

/// What a package holds that is not the project's.
fn strangers(package: &str, found: &Value, wanted: &Wanted, have: &Have) -> Vec<String> {
    let lists = ["actions", "feeds"].map(|list| found[list].as_array());
    let names = lists.into_iter().flatten().flatten();
    let names = names.filter_map(|one| one["name"].as_str());
    let own = |name: &str| {
        let full = format!("{package}/{name}");
        let known = |entity: &Entity| entity.kind.collection() == "actions" && entity.name == full;
        let managed =
            |(kind, name): &(Kind, String)| kind.collection() == "actions" && *name == full;
        wanted.entities.iter().any(known) || have.managed.iter().any(managed)
    };
    let names = names.filter(|name| !own(name));
    names.map(str::to_owned).collect()
}

/// Which fields of an entity are not as they should be.
fn changed(entity: &Entity, found: &Value, have: &Have) -> Vec<String> {
    if let Some(route) = &entity.route {
        let mut fields = Vec::new();
        if found["action"] != json!(route.action.to_string()) {
            fields.push("action".to_owned());
        }
        let target = found["target"].as_str().unwrap_or_default();
        let extension = format!(".{}", route.response.name());
        if !target.is_empty() && !target.contains(&extension) {
            fields.push("response".to_owned());
        }
        return fields;
    }
    let mut fields = Vec::new();
    let body = &entity.body;
    if body.get("exec").is_some() {
        fields.extend(exec(&body["exec"], &found["exec"], have));
    }
    if let Some(publish) = body.get("publish")
        && *publish != json!(found["publish"] == json!(true))
    {
        fields.push("publish".to_owned());
    }
    if let Some(binding) = body.get("binding") {
        let same = |field: &str| binding[field] == found["binding"][field];
        if !same("namespace") || !same("name") {
            fields.push("binding".to_owned());
        }
    }
    if body.get("parameters").is_some() {
        fields.extend(different(
            "parameters",
            &map(&body["parameters"]),
            &own(entity, found, have),
        ));
    }
    let limits = body["limits"].as_object().into_iter().flatten();
    let limits = limits.filter(|(name, value)| found["limits"][name.as_str()] != **value);
    fields.extend(limits.map(|(name, _)| format!("limits.{name}")));
    for end in ["trigger", "action"] {
        if entity.kind == Kind::Rule && body[end] != json!(reference(&found[end])) {
            fields.push(end.to_owned());
        }
    }
    if entity.kind == Kind::Rule && found["status"] == json!("inactive") {
        fields.push("status".to_owned());
    }
    let (now, then) = (
        kept(entity, &map(&found["annotations"])),
        &entity.annotations,
    );
    let annotations = different("annotations", then, &now);
    let annotations = annotations.into_iter().map(|field| match field.as_str() {
        "annotations.feed" => "feed".to_owned(),
        "annotations.feed-inputs" => "feed inputs".to_owned(),
        _ => field,
    });
    fields.extend(annotations);
    fields
}

/// The parameters that are an entity's own: servers show those of its package or provider among them.
fn own(entity: &Entity, found: &Value, have: &Have) -> Map<String, Value> {
    let mut all = map(&found["parameters"]);
    let said = map(&entity.body["parameters"]);
    recognise(&mut all, &said, &found["parameters"], &have.salt);
    match (entity.kind, entity.name.split_once('/')) {
        // Of its provider's it cannot be told which are whose.
        (Kind::Binding, _) => all.retain(|name, _| said.contains_key(name)),
        (Kind::Action, Some((package, _))) => {
            let package = have.entities.get(&("packages", package.to_owned()));
            let inherited = package.map(|package| map(&package["parameters"]));
            let inherited = inherited.unwrap_or_default();
            all.retain(|name, value| {
                said.contains_key(name) || inherited.get(name) != Some(&*value)
            });
        }
        _ => {}
    }
    all
}

/// Puts what is `said` in the place of an encrypted value whose digest says that it is the same.
fn recognise(all: &mut Map<String, Value>, said: &Map<String, Value>, list: &Value, salt: &str) {
    for one in list.as_array().into_iter().flatten() {
        let (key, digest) = (one["key"].as_str(), one["digest"].as_str());
        let (Some(key), Some(digest)) = (key, digest) else {
            continue;
        };
        if let Some(value) = said.get(key)
            && params::digest(salt, value) == digest
        {
            all.insert(key.to_owned(), value.clone());
        }
    }
}

fn exec(wanted: &Value, found: &Value, have: &Have) -> Vec<String> {
    let mut fields = Vec::new();
    let kind = wanted["kind"].as_str().unwrap_or_default();
    let now = found["kind"].as_str().unwrap_or_default();
    let same = match kind.split_once(':') {
        Some((family, "default")) => match have.defaults.get(family) {
            Some(default) => default == now,
            None => now.split(':').next() == Some(family),
        },
        _ => kind.eq_ignore_ascii_case(now),
    };
    if !same {
        fields.push("kind".to_owned());
    }
    for field in ["code", "main", "components"] {
        if wanted[field] != found[field] {
            fields.push(field.to_owned());
        }
    }
    fields
}

/// A reference of a rule as names are written.
fn reference(found: &Value) -> String {
    match found {
        Value::String(name) => name.clone(),
        other => {
            let text = |field: &str| other[field].as_str().unwrap_or_default().to_owned();
            format!("/{}/{}", text("path"), text("name"))
        }
    }
}

/// Keys and values of a wire list.
fn map(list: &Value) -> Map<String, Value> {
    let all = list.as_array().into_iter().flatten();
    let all = all.filter_map(|one| Some((one["key"].as_str()?.to_owned(), one["value"].clone())));
    all.collect()
}

/// The annotations of an entity as it is, without those that are not the manifest's to say.
pub(super) fn kept(entity: &Entity, found: &Map<String, Value>) -> Map<String, Value> {
    let mut found = found.clone();
    found.retain(|key, _| {
        let servers = SERVERS.contains(&key.as_str()) || key == MANAGED;
        !servers || entity.annotations.contains_key(key)
    });
    found
}

fn different(what: &str, wanted: &Map<String, Value>, found: &Map<String, Value>) -> Vec<String> {
    let missing = found.keys().filter(|key| !wanted.contains_key(*key));
    let other = wanted
        .iter()
        .filter(|(key, value)| match (key.as_str(), found.get(*key)) {
            // The hash of the manifest in it changes with every comment.
            (MANAGED, Some(found)) => found["projectName"] != value["projectName"],
            (_, found) => found != Some(*value),
        });
    let other = other.map(|(key, _)| key);
    let mut names: Vec<String> = missing
        .chain(other)
        .map(|key| format!("{what}.{key}"))
        .collect();
    names.sort();
    names
}

/// Annotations that an entity has and should not have.
pub(super) fn surplus(entity: &Entity, found: &Value) -> Vec<String> {
    let found = kept(entity, &map(&found["annotations"]));
    let surplus = found
        .keys()
        .filter(|key| !entity.annotations.contains_key(*key));
    surplus.cloned().collect()
}

/// Whether `project` manages the entity.
pub(super) fn is_managed(entity: &Value, project: &str) -> bool {
    annotation(entity, MANAGED).is_some_and(|managed| managed["projectName"] == project)
}
