//! What a server has: read before a plan is made, changed as a plan says.

use serde_json::{Value, json};

use super::plan::{FEED_INPUTS, Have, MANAGED, Step, Verb, is_managed, surplus};
use super::wanted::{Entity, Kind, Wanted};
use crate::cli::Session;
use crate::cli::api;
use crate::cli::client::{Answer, Client, EntityPath};
use crate::cli::entity::annotation;
use crate::cli::failure::{Failure, Result};
use crate::cli::feed::{self, Event};
use crate::cli::pairs::keys_and_values;

/// Rows a server gives at once.
const PAGE: usize = 200;

/// Pages of one collection that are read, at most: a hundred thousand entities.
const PAGES_MAX: usize = 500;

/// A server, and the namespace of a project on it.
#[derive(Debug)]
pub(super) struct Remote<'c> {
    pub(super) client: &'c Client<'c>,
    /// Its real name.
    pub(super) namespace: &'c str,
}

impl Remote<'_> {
    /// What there is of what is `wanted`, and of what `project` manages.
    pub(super) fn have(&self, wanted: &Wanted, project: Option<&str>) -> Result<Have> {
        let mut have = Have {
            defaults: self.defaults()?,
            salt: uuid::Uuid::new_v4().simple().to_string(),
            ..Have::default()
        };
        if wanted
            .entities
            .iter()
            .any(|entity| entity.kind == Kind::Api)
        {
            let apis = api::fetch(self.client, &[]);
            let apis = apis.map_err(|f| f.while_trying("Unable to obtain the API list"))?;
            have.routes = apis.iter().flat_map(api::operations).collect();
        }
        for entity in &wanted.entities {
            if entity.kind != Kind::Api
                && let Some(found) = self.get(entity.kind, &entity.name, &have.salt)?
            {
                let key = (entity.kind.collection(), entity.name.clone());
                have.entities.insert(key, found);
            }
        }
        if let Some(project) = project {
            self.managed(project, &mut have)?;
        }
        Ok(have)
    }

    fn defaults(&self) -> Result<std::collections::BTreeMap<String, String>> {
        let info = self.client.get("/", &[])?;
        let families = info["runtimes"].as_object().into_iter().flatten();
        let defaults = families.filter_map(|(family, kinds)| {
            let mut kinds = kinds.as_array()?.iter();
            let default = kinds.find(|kind| kind["default"] == json!(true))?;
            Some((family.clone(), default["kind"].as_str()?.to_owned()))
        });
        Ok(defaults.collect())
    }

    fn path(&self, kind: Kind, name: &str) -> String {
        let path = self.entity(name).in_collection(kind.collection());
        self.client.path(self.namespace, &path)
    }

    fn entity(&self, name: &str) -> EntityPath {
        EntityPath {
            namespace: self.namespace.to_owned(),
            path: name.to_owned(),
        }
    }

    fn get(&self, kind: Kind, name: &str, salt: &str) -> Result<Option<Value>> {
        // What is encrypted is told by its digest; a server that has none is not put off by the question.
        let query = [("digest", salt.to_owned())];
        match self.client.get(&self.path(kind, name), &query) {
            Ok(found) => Ok(Some(found)),
            Err(failure) if failure.status == Some(404) => Ok(None),
            Err(failure) => {
                let attempt = format!("Unable to get {} '{name}'", kind.name());
                Err(failure.while_trying(&attempt))
            }
        }
    }

    /// Adds what the project manages, read in pages.
    fn managed(&self, project: &str, have: &mut Have) -> Result<()> {
        for kind in [Kind::Package, Kind::Action, Kind::Trigger, Kind::Rule] {
            let path = self.client.path(self.namespace, kind.collection());
            for page in 0..PAGES_MAX {
                let query = [
                    ("limit", "0".to_owned()),
                    ("skip", (page * PAGE).to_string()),
                ];
                let rows = self.client.list(&path, &query)?;
                let last = rows.len() < PAGE;
                for row in rows.into_iter().filter(|row| is_managed(row, project)) {
                    let (kind, name) = identity(kind, &row);
                    let key = (kind.collection(), name.clone());
                    have.entities.entry(key).or_insert(row);
                    have.managed.push((kind, name));
                }
                if last {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Does one step of a plan.
    pub(super) fn apply(&self, session: Session<'_>, step: &Step) -> Result<()> {
        let attempt = format!(
            "Unable to {} {} '{}'",
            step.verb.name(),
            step.kind.name(),
            step.name
        );
        let done = match (step.verb, &step.wanted) {
            (Verb::Delete, _) => self.delete(session, step),
            (_, Some(entity)) => match (&entity.route, entity.kind) {
                // Takes the place of the one there is.
                (Some(route), _) => route.create(self.client).map(drop),
                (None, Kind::Trigger) => self.trigger(session, step, entity),
                (None, _) => self.put(step, entity),
            },
            (_, None) => Ok(()),
        };
        done.map_err(|f| f.while_trying(&attempt))
    }

    /// The body of the `PUT` that makes an entity what it should be.
    fn body(step: &Step, entity: &Entity) -> Value {
        let mut body = entity.body.clone();
        if !body.is_object() {
            body = json!({});
        }
        let mut annotations = entity.annotations.clone();
        if let Some(found) = &step.have {
            // Whoever manages it does so still.
            if let (None, Some(managed)) = (annotations.get(MANAGED), annotation(found, MANAGED)) {
                annotations.insert(MANAGED.to_owned(), managed.clone());
            }
            if entity.kind.collection() == "actions" {
                let surplus = surplus(entity, found);
                if !surplus.is_empty() {
                    body["delAnnotations"] = json!(surplus);
                }
            }
        }
        body["annotations"] = keys_and_values(annotations);
        body
    }

    fn put(&self, step: &Step, entity: &Entity) -> Result<()> {
        self.put_body(step, entity, &Self::body(step, entity))?;
        let inactive = step.fields.iter().any(|field| field == "status");
        if entity.kind == Kind::Rule && inactive {
            let state = json!({ "status": "active" });
            let path = self.path(entity.kind, &entity.name);
            let answer = self.client.send("POST", &path, &[], Some(&state))?;
            answer.success()?;
        }
        Ok(())
    }

    fn put_body(&self, step: &Step, entity: &Entity, body: &Value) -> Result<()> {
        let overwrite = step.verb == Verb::Update;
        let query = [("overwrite", overwrite.to_string())];
        let path = self.path(entity.kind, &entity.name);
        let answer = self.client.upload(&entity.name, &path, &query, body)?;
        answer.success().map(drop)
    }

    /// A trigger with its feed: the one is changed and the other told, in the order that leaves nothing behind.
    fn trigger(&self, session: Session<'_>, step: &Step, entity: &Entity) -> Result<()> {
        let name = self.entity(&entity.name);
        let found = step.have.as_ref();
        let had = found.map(|found| feed::Feed::of(self.client, &name, found));
        let had = had.transpose()?.flatten();
        let Some(wanted) = &entity.feed else {
            if let Some(had) = had {
                tell_end(session, &had);
            }
            return self.put(step, entity);
        };
        let feed = feed::Feed::named(self.client, &wanted.action.to_string(), &name)?;
        let told = found.is_some_and(|found| annotation(found, FEED_INPUTS).is_some());
        if had.as_ref().is_some_and(|had| had.action == feed.action) && told {
            let speaks = ["feed", "feed inputs"];
            if step
                .fields
                .iter()
                .any(|field| speaks.contains(&field.as_str()))
            {
                feed.tell(Event::Update, wanted.inputs.clone())?;
            }
            return self.put(step, entity);
        }
        if let Some(had) = had {
            tell_end(session, &had);
        }
        // Until the feed has agreed, nothing says that it was told.
        let mut body = Self::body(step, entity);
        let whole = body.clone();
        if let Some(annotations) = body["annotations"].as_array_mut() {
            annotations.retain(|annotation| annotation["key"] != FEED_INPUTS);
        }
        self.put_body(step, entity, &body)?;
        if let Err(failure) = feed.tell(Event::Create, wanted.inputs.clone()) {
            if step.verb == Verb::Create {
                let path = self.path(Kind::Trigger, &entity.name);
                let taken = self.client.send("DELETE", &path, &[], None);
                if let Err(left) = taken.and_then(Answer::success) {
                    let advice = format!("The trigger could not be taken back: {}", left.message);
                    return Err(failure.advise(advice));
                }
            }
            return Err(failure);
        }
        let again = Step {
            verb: Verb::Update,
            ..step.clone()
        };
        self.put_body(&again, entity, &whole)
    }

    fn delete(&self, session: Session<'_>, step: &Step) -> Result<()> {
        if let Some(route) = step
            .wanted
            .as_ref()
            .and_then(|entity| entity.route.as_ref())
        {
            return api::delete(self.client, &route.part()).map(drop);
        }
        if let (Kind::Trigger, Some(found)) = (step.kind, &step.have) {
            let name = self.entity(&step.name);
            if let Some(feed) = feed::Feed::of(self.client, &name, found)? {
                tell_end(session, &feed);
            }
        }
        let path = self.path(step.kind, &step.name);
        let answer = self.client.send("DELETE", &path, &[], None)?;
        match answer.status {
            // Somebody was quicker.
            404 => Ok(()),
            _ => answer.success().map(drop),
        }
    }
}

/// Which entity a row of a list is.
fn identity(kind: Kind, row: &Value) -> (Kind, String) {
    let text = |field: &str| row[field].as_str().unwrap_or_default();
    let name = match text("namespace").split_once('/') {
        Some((_, package)) => format!("{package}/{}", text("name")),
        None => text("name").to_owned(),
    };
    let kind = match kind {
        Kind::Action if annotation(row, "exec") == Some(&json!("sequence")) => Kind::Sequence,
        Kind::Package if row["binding"].is_object() => Kind::Binding,
        kind => kind,
    };
    (kind, name)
}

/// As `wsk`: a feed that is gone must not keep its trigger.
fn tell_end(session: Session<'_>, feed: &feed::Feed<'_>) {
    if let Err(Failure { message, .. }) = feed.tell(Event::Delete, serde_json::Map::new()) {
        session
            .output
            .note(&format!("warning: {message}; its feed may not know"));
    }
}
