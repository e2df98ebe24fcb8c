//! `/api/v1/namespaces/{ns}/rules`: which action runs when a trigger fires.
//!
//! What a trigger runs, and whether, stands in the trigger (its links), so that firing reads one entity. What a rule is
//! called and says stands in the rule. A rule and its links are written together or not at all ([`Catalog::write`]), so that
//! no trigger runs what no rule says, and a rule that moves is at one trigger or at the other, whenever the server stops and
//! whoever else writes. A rule is shown as its link says.
//!
//! [`Catalog::write`]: crate::store::catalog::Catalog::write

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::entities::{
    ATTEMPTS_MAX, expect, json_body, replaced, stored, to_the_end, version, within_sizes,
};
use super::error::{Error, Result};
use super::extract::{Place, Query, authenticate, payload};
use super::paging::{Asked, asked};
use super::{Front, wire};
use crate::invoke;
use crate::invoke::resolve::Unresolved;
use crate::model::trigger::Link;
use crate::model::{
    Annotations, EntityName, Fqn, Namespace, Rule, RulePut, Timestamp, Trigger, Version, rule_put,
};
use crate::store::catalog::{Found, Write};
use crate::store::{self, Revision};

/// A name as rules and triggers show it: `path` is `namespace[/package]`.
#[derive(Serialize)]
pub(super) struct PathAndName<'a> {
    path: String,
    name: &'a EntityName,
}

impl<'a> PathAndName<'a> {
    pub(super) fn of(fqn: &'a Fqn) -> Self {
        let path = match &fqn.package {
            Some(package) => format!("{}/{package}", fqn.namespace),
            None => fqn.namespace.to_string(),
        };
        Self {
            path,
            name: &fqn.name,
        }
    }
}

/// The word for it.
pub(super) fn status(active: bool) -> &'static str {
    if active { "active" } else { "inactive" }
}

/// A rule; lists do not say its status.
#[derive(Serialize)]
struct Shape<'a> {
    namespace: &'a Namespace,
    name: &'a EntityName,
    version: Version,
    publish: bool,
    annotations: &'a Annotations,
    updated: Timestamp,
    trigger: PathAndName<'a>,
    action: PathAndName<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

impl<'a> Shape<'a> {
    fn row(rule: &'a Rule) -> Self {
        Self {
            namespace: &rule.fqn.namespace,
            name: &rule.fqn.name,
            version: rule.version,
            publish: rule.publish,
            annotations: &rule.annotations,
            updated: rule.updated,
            trigger: PathAndName::of(&rule.trigger),
            action: PathAndName::of(&rule.action),
            status: None,
        }
    }

    /// The rule, with the status that its link says.
    fn whole(rule: &'a Rule, link: Option<&Link>) -> Self {
        Self {
            status: Some(status(link.is_some_and(|link| link.active))),
            ..Self::row(rule)
        }
    }
}

/// The rules of the namespace.
pub(super) async fn list(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let namespace = Place::of(request.uri(), &identity)?.namespace;
    let catalog = &front.state.catalog;
    match asked(request.uri(), "rules")? {
        Asked::Count { skip } => {
            let count = catalog.count::<Rule>(&namespace, None).await?;
            wire::ok(&json!({ "rules": count.saturating_sub(skip) }))
        }
        Asked::Rows(page) => {
            let rules = catalog.list::<Rule>(&namespace, None, page).await?;
            let rows: Vec<_> = rules.iter().map(|rule| Shape::row(rule)).collect();
            wire::ok(&rows)
        }
    }
}

/// One rule, with its status.
pub(super) async fn get(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let name = Place::of(request.uri(), &identity)?.entity(request.uri())?;
    let (rule, _) = stored::<Rule>(&front, &name)
        .await?
        .ok_or_else(Error::not_found)?;
    let link = link_of(&front, &rule).await?;
    wire::ok(&Shape::whole(&rule, link.as_ref()))
}

/// The link that the rule's trigger has for it.
async fn link_of(front: &Front, rule: &Rule) -> Result<Option<Link>> {
    let trigger = trigger(front, &rule.trigger).await?;
    Ok(trigger.and_then(|(trigger, _)| trigger.rules.get(&rule.fqn.name).cloned()))
}

/// The trigger, if there is one: what else has its name is none.
async fn trigger(front: &Front, name: &Fqn) -> Result<Option<(Arc<Trigger>, Revision)>> {
    Ok(match front.state.catalog.get::<Trigger>(name).await? {
        Found::Is(trigger, revision) => Some((trigger, revision)),
        Found::Other | Found::Nothing => None,
    })
}

/// Creates a rule, which is active, or, with `overwrite=true`, updates it.
pub(super) async fn put(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let identity = authenticate(&front, &parts.headers).await?;
    let name = Place::of(&parts.uri, &identity)?.entity(&parts.uri)?;
    let overwrite = Query::of(&parts.uri).flag("overwrite")?;
    let body = payload(&front, &parts.headers, body, front.config.body_bytes_max).await?;
    let body = json_body(&parts.headers, &body)?;
    let put = RulePut::parse(body, &identity.namespace).map_err(Error::malformed)?;
    within_sizes(&front, &identity.limits, &put.common)?;
    let given = (put.trigger.as_ref(), put.action.as_ref());
    check_rights(&front, &identity.namespace, given).await?;
    let stored = replaced::<Rule>(&front, &name, overwrite).await?;
    let old = stored.as_ref().map(|(rule, _)| &**rule);
    let rule = written(name, put, old)?;
    check_existence(&front, &rule).await?;
    let (rule, link) = to_the_end(write(Arc::clone(&front), rule, stored)).await?;
    wire::ok(&Shape::whole(&rule, link.as_ref()))
}

/// 403 naming everything of `given`, trigger and action, that `caller` may not use.
async fn check_rights(
    front: &Front,
    caller: &Namespace,
    given: (Option<&Fqn>, Option<&Fqn>),
) -> Result<()> {
    let (trigger, action) = given;
    let mut denied = Vec::new();
    denied.extend(trigger.filter(|trigger| trigger.namespace != *caller));
    if let Some(action) = action {
        match front.state.resolver.action(caller, action).await {
            Err(Unresolved::Forbidden(_)) => denied.push(action),
            Err(Unresolved::Store(error)) => return Err(error.into()),
            _ => {}
        }
    }
    Error::forbidden_all(denied)
}

/// 400 for what is not there.
async fn check_existence(front: &Front, rule: &Rule) -> Result<()> {
    let (trigger, action) = (&rule.trigger, &rule.action);
    if stored::<Trigger>(front, trigger).await?.is_none() {
        let text = format!("trigger /{trigger} does not exist");
        return Err(Error::bad_request(text));
    }
    let caller = &rule.fqn.namespace;
    match front.state.resolver.action(caller, action).await {
        Ok(_) => Ok(()),
        Err(Unresolved::Nothing | Unresolved::NoPackage(_)) => {
            let text = format!("action /{action} does not exist");
            Err(Error::bad_request(text))
        }
        Err(other) => Err(other.into()),
    }
}

/// The rule that `put` makes of `old`.
fn written(fqn: Fqn, put: RulePut, old: Option<&Rule>) -> Result<Rule> {
    let trigger = put.trigger.or_else(|| old.map(|old| old.trigger.clone()));
    let action = put.action.or_else(|| old.map(|old| old.action.clone()));
    let (Some(trigger), Some(action)) = (trigger, action) else {
        let text = "rule requires a valid trigger and a valid action";
        return Err(Error::bad_request(text));
    };
    let common = put.common;
    let retry = common.annotations.as_ref().and_then(|all| all.get("retry"));
    if let Some(fault) = retry.and_then(invoke::retry_fault) {
        return Err(Error::malformed(fault));
    }
    let kept = || old.map(|old| old.annotations.clone()).unwrap_or_default();
    Ok(Rule {
        fqn,
        version: version(common.version, old.map(|old| old.version)),
        publish: common
            .publish
            .unwrap_or_else(|| old.is_some_and(|old| old.publish)),
        updated: Timestamp::now(),
        annotations: common.annotations.unwrap_or_else(kept),
        trigger,
        action,
    })
}

/// Writes the rule together with its links: the new one is made, the one that a rule which moves had is taken away.
async fn write(
    front: Arc<Front>,
    rule: Rule,
    stored: Option<(Arc<Rule>, Revision)>,
) -> Result<(Arc<Rule>, Option<Link>)> {
    let catalog = &front.state.catalog;
    let old = stored.as_ref().map(|(rule, _)| &**rule);
    let left = old.map(|old| &old.trigger);
    let left = left.filter(|left| **left != rule.trigger);
    let _turns = front
        .turns
        .take_all(left.into_iter().chain([&rule.trigger]))
        .await;
    for _ in 0..ATTEMPTS_MAX {
        let (written, write) = catalog.putting(rule.clone(), expect(stored.as_ref()))?;
        let mut writes = vec![write];
        let mut active = old.is_none().then_some(true);
        if let Some(left) = left {
            let link = linked(&front, left, &rule.fqn, None, &mut writes).await?;
            active = Some(link.is_some_and(|link| link.active));
        }
        let link = |former: Option<&Link>| {
            let active = active.or_else(|| former.map(|link| link.active))?;
            let action = rule.action.clone();
            Some(Link { action, active })
        };
        let link = changed(&front, &rule.trigger, &rule.fqn, link, &mut writes).await?;
        match catalog.write(writes).await {
            Ok(()) => return Ok((written, link)),
            Err(store::Error::Conflict) => {
                let now = self::stored::<Rule>(&front, &rule.fqn).await?;
                if now.map(|(_, now)| now) != stored.as_ref().map(|(_, seen)| *seen) {
                    // Somebody else's change of the rule stands.
                    break;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(store::Error::Conflict.into())
}

/// Has the trigger `name` say `link` of `rule`, by one more of `writes` where it does not yet; what it said. There is nothing
/// to write where the trigger is gone.
async fn linked(
    front: &Front,
    name: &Fqn,
    rule: &Fqn,
    link: Option<Link>,
    writes: &mut Vec<Write>,
) -> Result<Option<Link>> {
    let mut former = None;
    let link = |found: Option<&Link>| {
        former = found.cloned();
        link
    };
    changed(front, name, rule, link, writes).await?;
    Ok(former)
}

/// As [`linked`], with the link that is made of what the trigger says; what it says then. The trigger keeps its version and
/// the time of its update: nothing of its own has changed.
async fn changed(
    front: &Front,
    name: &Fqn,
    rule: &Fqn,
    link: impl FnOnce(Option<&Link>) -> Option<Link>,
    writes: &mut Vec<Write>,
) -> Result<Option<Link>> {
    let Some((trigger, revision)) = trigger(front, name).await? else {
        return Ok(None);
    };
    let former = trigger.rules.get(&rule.name);
    let link = link(former);
    if link.as_ref() != former {
        let mut trigger = (*trigger).clone();
        match &link {
            Some(link) => trigger.rules.insert(rule.name.clone(), link.clone()),
            None => trigger.rules.remove(&rule.name),
        };
        let expect = store::Expect::Revision(revision);
        let (_, write) = front.state.catalog.putting(trigger, expect)?;
        writes.push(write);
    }
    Ok(link)
}

/// Enables or disables a rule.
pub(super) async fn post(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let identity = authenticate(&front, &parts.headers).await?;
    let name = Place::of(&parts.uri, &identity)?.entity(&parts.uri)?;
    let body = payload(&front, &parts.headers, body, front.config.body_bytes_max).await?;
    let body = json_body(&parts.headers, &body)?;
    let active = rule_put::parse_status(body).map_err(Error::malformed)?;
    let is_linked = to_the_end(set(Arc::clone(&front), name, active)).await?;
    if !is_linked && active {
        let text = "Only rules with existing triggers can be activated";
        return Err(Error::new(StatusCode::NOT_FOUND, text));
    }
    Ok(Response::new(Body::empty()))
}

/// Whether the rule has a link then: one without is as inactive as one whose link says so.
async fn set(front: Arc<Front>, name: Fqn, active: bool) -> Result<bool> {
    for _ in 0..ATTEMPTS_MAX {
        let (rule, revision) = stored::<Rule>(&front, &name)
            .await?
            .ok_or_else(Error::not_found)?;
        let _turn = front.turns.take(&rule.trigger).await;
        // The link is made of the rule, which must not become another meanwhile.
        let mut writes = vec![Write::Keep(name.clone(), revision)];
        let link = |former: Option<&Link>| {
            let action = rule.action.clone();
            (active || former.is_some()).then_some(Link { action, active })
        };
        let link = changed(&front, &rule.trigger, &name, link, &mut writes).await?;
        if writes.len() == 1 {
            return Ok(link.is_some());
        }
        match front.state.catalog.write(writes).await {
            Ok(()) => return Ok(link.is_some()),
            Err(store::Error::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(store::Error::Conflict.into())
}

/// Deletes a rule, active or not, and answers what it was.
pub(super) async fn delete(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let name = Place::of(request.uri(), &identity)?.entity(request.uri())?;
    let rule = to_the_end(async move {
        for _ in 0..ATTEMPTS_MAX {
            let stored = stored::<Rule>(&front, &name).await?;
            let (rule, revision) = stored.ok_or_else(Error::not_found)?;
            let _turn = front.turns.take(&rule.trigger).await;
            let mut writes = vec![Write::Delete(name.clone(), revision)];
            linked(&front, &rule.trigger, &name, None, &mut writes).await?;
            match front.state.catalog.write(writes).await {
                Ok(()) => return Ok(rule),
                Err(store::Error::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(store::Error::Conflict.into())
    });
    wire::ok(&Shape::whole(&*rule.await?, None))
}
