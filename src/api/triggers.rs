//! `/api/v1/namespaces/{ns}/triggers`: named channels of events. Firing them is elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::entities::{
    ATTEMPTS_MAX, digested, expect, json_body, openable, replaced, stored, to_the_end, version,
    within_sizes,
};
use super::error::{Error, Result};
use super::extract::{Place, Query, authenticate, payload};
use super::paging::{Asked, asked};
use super::{Front, rules, wire};
use crate::model::{
    Annotations, Common, EntityName, Fqn, Json, Namespace, Parameters, Timestamp, Trigger, Version,
};
use crate::store::{self, Shelf};

/// A trigger as `GET`, `PUT` and `DELETE` answer it.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    parameters: &'a Parameters,
    limits: Limits,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rules: BTreeMap<String, Listener<'a>>,
}

/// A trigger as lists show it.
#[derive(Serialize)]
struct Row<'a> {
    namespace: &'a Namespace,
    name: &'a EntityName,
    version: Version,
    publish: bool,
    annotations: &'a Annotations,
    updated: Timestamp,
}

/// Triggers have none.
#[derive(Serialize)]
struct Limits {}

/// A rule that listens.
#[derive(Serialize)]
struct Listener<'a> {
    action: rules::PathAndName<'a>,
    status: &'static str,
}

impl<'a> Whole<'a> {
    fn of(trigger: &'a Trigger) -> Self {
        let namespace = &trigger.fqn.namespace;
        let rules = trigger.rules.iter().map(|(name, link)| {
            let listener = Listener {
                action: rules::PathAndName::of(&link.action),
                status: rules::status(link.active),
            };
            (format!("{namespace}/{name}"), listener)
        });
        Self {
            row: Row::of(trigger),
            parameters: &trigger.parameters,
            limits: Limits {},
            rules: rules.collect(),
        }
    }
}

impl<'a> Row<'a> {
    fn of(trigger: &'a Trigger) -> Self {
        Self {
            namespace: &trigger.fqn.namespace,
            name: &trigger.fqn.name,
            version: trigger.version,
            publish: trigger.publish,
            annotations: &trigger.annotations,
            updated: trigger.updated,
        }
    }
}

/// The triggers of the namespace.
pub(super) async fn list(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let namespace = Place::of(request.uri(), &identity)?.namespace;
    let catalog = &front.state.catalog;
    match asked(request.uri(), "triggers")? {
        Asked::Count { skip } => {
            let count = catalog.count::<Trigger>(&namespace, None).await?;
            wire::ok(&json!({ "triggers": count.saturating_sub(skip) }))
        }
        Asked::Rows(page) => {
            let triggers = catalog.list::<Trigger>(&namespace, None, page).await?;
            let rows: Vec<_> = triggers.iter().map(|trigger| Row::of(trigger)).collect();
            wire::ok(&rows)
        }
    }
}

/// One trigger, with the rules that listen.
pub(super) async fn get(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let name = Place::of(request.uri(), &identity)?.entity(request.uri())?;
    let (trigger, _) = stored::<Trigger>(&front, &name)
        .await?
        .ok_or_else(Error::not_found)?;
    let mut trigger = followed(&front, trigger).await?;
    digested(request.uri(), &mut Arc::make_mut(&mut trigger).parameters)?;
    wire::ok(&Whole::of(&trigger))
}

/// The trigger with what its rules say they run.
async fn followed(front: &Front, trigger: Arc<Trigger>) -> Result<Arc<Trigger>> {
    let mut followed = Arc::clone(&trigger);
    for (name, link) in &trigger.rules {
        let rule = front.state.catalog.listener(&trigger, name).await?;
        if let Some(rule) = rule.filter(|rule| rule.action != link.action) {
            let links = &mut Arc::make_mut(&mut followed).rules;
            if let Some(link) = links.get_mut(name) {
                link.action.clone_from(&rule.action);
            }
        }
    }
    Ok(followed)
}

/// Creates a trigger, or, with `overwrite=true`, updates it; its rules stay.
pub(super) async fn put(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let identity = authenticate(&front, &parts.headers).await?;
    let name = Place::of(&parts.uri, &identity)?.entity(&parts.uri)?;
    let body = payload(&front, &parts.headers, body, front.config.body_bytes_max).await?;
    let body = json_body(&parts.headers, &body)?;
    let put = Common::parse(body).map_err(Error::malformed)?;
    within_sizes(&front, &identity.limits, &put)?;
    openable(&front, &name.namespace, put.parameters.as_ref())?;
    let trigger = write(&front, &parts.uri, name, put).await?;
    wire::ok(&Whole::of(&trigger))
}

/// Writes what `put` makes of the trigger, over the rules it has at that moment.
async fn write(front: &Front, uri: &Uri, name: Fqn, put: Common) -> Result<Arc<Trigger>> {
    let overwrite = Query::of(uri).flag("overwrite")?;
    let _turn = front.turns.take(&name).await;
    let mut seen = None;
    for _ in 0..ATTEMPTS_MAX {
        let stored = replaced::<Trigger>(front, &name, overwrite).await?;
        let old = stored.as_ref().map(|(trigger, _)| &**trigger);
        let is_new = old.is_none();
        if is_new && let Some(feed) = put.annotations.as_ref().and_then(|all| all.get("feed")) {
            check_feed(feed)?;
        }
        // Only rules may have come or gone since the first look: whoever changed the rest was not seen by this writer.
        let now = old.map(|old| (old.version, old.updated));
        if *seen.get_or_insert(now) != now {
            break;
        }
        let trigger = written(name.clone(), put.clone(), old);
        let expect = expect(stored.as_ref());
        match front.state.catalog.put(trigger, None, expect).await {
            Err(store::Error::Conflict) if !is_new => {}
            result => return Ok(result?),
        }
    }
    Err(store::Error::Conflict.into())
}

/// A feed is the path of an action: legal names between slashes.
fn check_feed(feed: &Json) -> Result<()> {
    let feed: Option<String> = serde_json::from_str(feed.get()).ok();
    let is_path = feed.is_some_and(|feed| {
        let mut names = feed.split('/').filter(|name| !name.is_empty()).peekable();
        names.peek().is_some() && names.all(|name| EntityName::parse(name).is_ok())
    });
    if is_path {
        Ok(())
    } else {
        Err(Error::bad_request("Feed name is not valid"))
    }
}

/// The trigger that `put` makes of `old`.
fn written(fqn: Fqn, put: Common, old: Option<&Trigger>) -> Trigger {
    let annotations = || old.map(|old| old.annotations.clone()).unwrap_or_default();
    let parameters = || old.map(|old| old.parameters.clone()).unwrap_or_default();
    Trigger {
        fqn,
        version: version(put.version, old.map(|old| old.version)),
        publish: put
            .publish
            .unwrap_or_else(|| old.is_some_and(|old| old.publish)),
        updated: Timestamp::now(),
        parameters: put.parameters.unwrap_or_else(parameters),
        annotations: put.annotations.unwrap_or_else(annotations),
        rules: old.map(|old| old.rules.clone()).unwrap_or_default(),
    }
}

/// Deletes a trigger; its rules stay, and are inactive.
pub(super) async fn delete(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let name = Place::of(request.uri(), &identity)?.entity(request.uri())?;
    let trigger = to_the_end(async move {
        let _turn = front.turns.take(&name).await;
        let stored = stored::<Trigger>(&front, &name).await?;
        let (trigger, revision) = stored.ok_or_else(Error::not_found)?;
        front.state.catalog.delete(&name, revision).await?;
        // The clock would find it gone when it is due; a trigger made anew before then is another.
        let items = &front.state.store.items;
        let schedule = name.name.as_str();
        items
            .delete(&name.namespace, Shelf::Schedules, schedule)
            .await?;
        Ok(trigger)
    });
    wire::ok(&Whole::of(&*trigger.await?))
}
