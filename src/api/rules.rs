//! `/api/v1/namespaces/{ns}/rules`: which action runs when a trigger fires.
//!
//! What a trigger runs, and whether, stands in the trigger (its links), so that firing reads one entity. What a rule is
//! called and says stands in the rule. The two are written in an order that leaves nothing wrong when the server stops in
//! between:
//!
//! - a rule is written before its link: until then it is inactive;
//! - a rule that moves or goes loses its link first: the old trigger does not run what no rule says;
//! - a link is made of the rule as it is stored at that moment, and a rule is shown as its link says.

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
use crate::invoke::resolve::Unresolved;
use crate::model::trigger::Link;
use crate::model::{
    Annotations, EntityName, Fqn, Namespace, Rule, RulePut, Timestamp, Trigger, Version, rule_put,
};
use crate::store::catalog::Found;
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

/// Writes the rule, and its link where it belongs.
async fn write(
    front: Arc<Front>,
    rule: Rule,
    stored: Option<(Arc<Rule>, Revision)>,
) -> Result<(Arc<Rule>, Option<Link>)> {
    let front = &*front;
    let expect = expect(stored.as_ref());
    let old = stored.as_ref().map(|(rule, _)| &**rule);
    let moves = old.filter(|old| old.trigger != rule.trigger);
    let active = match (old, moves) {
        (None, _) => Some(true),
        (Some(_), None) => None,
        (Some(_), Some(old)) => {
            let link = unlink(front, &old.trigger, &old.fqn).await?;
            Some(link.is_some_and(|link| link.active))
        }
    };
    let rule = match front.state.catalog.put(rule, None, expect).await {
        Ok(rule) => rule,
        Err(error) => {
            if let Some(old) = moves {
                // Somebody else's change of the rule stands: it keeps the link it had.
                link(front, &old.trigger, &old.fqn, active).await?;
            }
            return Err(error.into());
        }
    };
    let now = link(front, &rule.trigger, &rule.fqn, active).await?;
    if let Some(old) = moves {
        // Whoever enabled it in between, as it was, has linked it to its old trigger again: what follows the rule goes.
        link(front, &old.trigger, &old.fqn, None).await?;
    }
    Ok((rule, now))
}

/// Enables or disables a rule.
pub(super) async fn post(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let identity = authenticate(&front, &parts.headers).await?;
    let name = Place::of(&parts.uri, &identity)?.entity(&parts.uri)?;
    let body = payload(&front, &parts.headers, body, front.config.body_bytes_max).await?;
    let body = json_body(&parts.headers, &body)?;
    let active = rule_put::parse_status(body).map_err(Error::malformed)?;
    let (rule, _) = stored::<Rule>(&front, &name)
        .await?
        .ok_or_else(Error::not_found)?;
    let link = to_the_end(set(Arc::clone(&front), rule, active)).await?;
    if link.is_none() && active {
        let text = "Only rules with existing triggers can be activated";
        return Err(Error::new(StatusCode::NOT_FOUND, text));
    }
    Ok(Response::new(Body::empty()))
}

/// A rule without a link is as inactive as one whose link says so.
async fn set(front: Arc<Front>, rule: Arc<Rule>, active: bool) -> Result<Option<Link>> {
    if !active && link_of(&front, &rule).await?.is_none() {
        return Ok(None);
    }
    link(&front, &rule.trigger, &rule.fqn, Some(active)).await
}

/// Deletes a rule, active or not, and answers what it was.
pub(super) async fn delete(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let name = Place::of(request.uri(), &identity)?.entity(request.uri())?;
    let rule = to_the_end(async move {
        let stored = stored::<Rule>(&front, &name).await?;
        let (rule, revision) = stored.ok_or_else(Error::not_found)?;
        let former = unlink(&front, &rule.trigger, &name).await?;
        if let Err(error) = front.state.catalog.delete(&name, revision).await {
            if let Some(former) = former {
                link(&front, &rule.trigger, &name, Some(former.active)).await?;
            }
            return Err(error.into());
        }
        // Whoever enabled it in between has linked it again.
        unlink(&front, &rule.trigger, &name).await?;
        Ok(rule)
    });
    wire::ok(&Shape::whole(&*rule.await?, None))
}

/// What becomes of a link.
#[derive(Clone, Copy)]
enum Change {
    /// It says what the rule, as it is stored at that moment, says. Where that is nothing, it goes.
    Follow {
        /// `None` keeps what the link says, and makes none.
        active: Option<bool>,
    },
    /// It goes.
    Remove,
}

/// Links `rule` to the trigger `name`; the link there is afterwards. There is none where the trigger or the rule is gone,
/// or where the rule listens to another trigger.
async fn link(front: &Front, name: &Fqn, rule: &Fqn, active: Option<bool>) -> Result<Option<Link>> {
    let (_, now) = change(front, name, rule, Change::Follow { active }).await?;
    Ok(now)
}

/// Removes the link of `rule` from the trigger `name`, and says what it was.
async fn unlink(front: &Front, name: &Fqn, rule: &Fqn) -> Result<Option<Link>> {
    let (former, _) = change(front, name, rule, Change::Remove).await?;
    Ok(former)
}

/// Changes the link of `rule` in the trigger `name`: what it was, and what it is. The trigger keeps its version and the
/// time of its update: nothing of its own has changed.
async fn change(
    front: &Front,
    name: &Fqn,
    rule: &Fqn,
    change: Change,
) -> Result<(Option<Link>, Option<Link>)> {
    let _turn = front.turns.take(name).await;
    for _ in 0..ATTEMPTS_MAX {
        let Some((trigger, revision)) = trigger(front, name).await? else {
            return Ok((None, None));
        };
        let former = trigger.rules.get(&rule.name).cloned();
        // The rule is read after the trigger: whoever changes the rule later writes the link later.
        let link = match change {
            Change::Follow { active } => {
                followed(front, name, rule, active, former.as_ref()).await?
            }
            Change::Remove => None,
        };
        if former == link {
            return Ok((former, link));
        }
        let mut changed = (*trigger).clone();
        match &link {
            Some(link) => changed.rules.insert(rule.name.clone(), link.clone()),
            None => changed.rules.remove(&rule.name),
        };
        let expect = store::Expect::Revision(revision);
        match front.state.catalog.put(changed, None, expect).await {
            Ok(_) => return Ok((former, link)),
            Err(store::Error::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(store::Error::Conflict.into())
}

/// The link that the rule, as it is stored now, is to have in `trigger`.
async fn followed(
    front: &Front,
    trigger: &Fqn,
    rule: &Fqn,
    active: Option<bool>,
    former: Option<&Link>,
) -> Result<Option<Link>> {
    let stored = stored::<Rule>(front, rule).await?;
    let rule = stored.map(|(rule, _)| rule);
    let rule = rule.filter(|rule| rule.trigger == *trigger);
    let active = active.or_else(|| former.map(|link| link.active));
    Ok(rule.zip(active).map(|(rule, active)| Link {
        action: rule.action.clone(),
        active,
    }))
}
