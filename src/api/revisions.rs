//! Revisions: the former texts of an action, kept so that they can be read, run and brought back.
//!
//! Each PUT counts one up from 1, and what it replaces goes to a shelf of its own, code included. A former text is kept
//! before it is replaced, so that a server that stops in between has lost nothing; whoever reads leaves out what is not
//! older than the action. They are for the owner alone: what somebody shares is what it is now.

use std::sync::Arc;

use serde::Serialize;

use super::Front;
use super::actions::package_of;
use super::entities::stored;
use super::error::{Error, Result};
use super::extract::Query;
use crate::auth::Identity;
use crate::model::{Action, Fqn, Timestamp, Version};
use crate::store::{self, Item, Page, Revision, Shelf};

/// Superfluous revisions removed after one write; more than one only after the configuration was lowered.
const TRIMMED_COUNT: usize = 32;

/// One revision, in a list of them.
#[derive(Serialize)]
pub(super) struct Row {
    revision: u64,
    version: Version,
    updated: Timestamp,
    publish: bool,
    exec: RowExec,
    current: bool,
}

#[derive(Serialize)]
struct RowExec {
    kind: String,
    binary: bool,
}

impl Row {
    fn of(action: &Action, current: bool) -> Self {
        Self {
            revision: action.number(),
            version: action.version,
            updated: action.updated,
            publish: action.publish,
            exec: RowExec {
                kind: action.exec.kind().to_owned(),
                binary: action.exec.code().is_some_and(|code| code.binary),
            },
            current,
        }
    }
}

/// Which revision the query asks for.
pub(super) fn asked(query: Query<'_>) -> Result<Option<u64>> {
    let Some(text) = query.get("revision")? else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number) if number > 0 => Ok(Some(number)),
        _ => {
            let detail = format!("The value '{text}' is not the number of a revision.");
            Err(Error::query("revision", detail))
        }
    }
}

/// All revisions of the action there are, newest first.
pub(super) async fn rows(front: &Front, identity: &Identity, name: &Fqn) -> Result<Vec<Row>> {
    let action = own(front, identity, name).await?;
    let action = current(front, &action.fqn).await?;
    let (namespace, prefix) = (&action.fqn.namespace, prefix(&action.fqn));
    let page = Page {
        skip: 0,
        limit: usize::try_from(front.config.revisions_max)
            .unwrap_or(usize::MAX)
            .saturating_add(TRIMMED_COUNT),
    };
    let items = &front.state.store.items;
    let kept = items
        .list(namespace, Shelf::Revisions, &prefix, page)
        .await?;
    let mut rows = vec![Row::of(&action, true)];
    let newest = item_name(&action.fqn, action.number());
    for item in kept.iter().filter(|item| item.name < newest) {
        rows.push(Row::of(&parse(item)?, false));
    }
    Ok(rows)
}

/// The action `name` with its text of revision `number` and the parameters that its packages have now.
pub(super) async fn resolve(
    front: &Front,
    identity: &Identity,
    name: &Fqn,
    number: u64,
) -> Result<Arc<Action>> {
    let resolved = own(front, identity, name).await?;
    if resolved.number() == number {
        return Ok(resolved);
    }
    let current = current(front, &resolved.fqn).await?;
    let mut past = of(front, &current, number).await?;
    if let Some(package) = package_of(name) {
        let resolver = &front.state.resolver;
        let reached = resolver.package(&identity.namespace, &package).await?;
        past.parameters = reached.parameters().overlaid(&past.parameters);
        // Instances take some parameters at init: those of older packages must not be used again.
        past.updated = past.updated.max(resolved.updated);
        past.reached.clone_from(&resolved.reached);
    }
    Ok(Arc::new(past))
}

/// What `name` means to the caller, if it is the caller's own.
async fn own(front: &Front, identity: &Identity, name: &Fqn) -> Result<Arc<Action>> {
    let resolver = &front.state.resolver;
    let action = resolver.action(&identity.namespace, name).await?;
    if action.fqn.namespace == identity.namespace {
        Ok(action)
    } else {
        Err(Error::forbidden(name))
    }
}

/// The action as it is stored, without the parameters of its package.
async fn current(front: &Front, name: &Fqn) -> Result<Arc<Action>> {
    let stored = stored::<Action>(front, name).await?;
    Ok(stored.ok_or_else(Error::not_found)?.0)
}

/// The text that `action`, as it is stored, had with revision `number`; 404 when it is not kept.
pub(super) async fn of(front: &Front, action: &Action, number: u64) -> Result<Action> {
    if action.number() == number {
        return Ok(action.clone());
    }
    if number > action.number() {
        return Err(Error::not_found());
    }
    let (namespace, name) = (&action.fqn.namespace, item_name(&action.fqn, number));
    let items = &front.state.store.items;
    let found = items.get(namespace, Shelf::Revisions, &name).await?;
    let (item, _) = found.ok_or_else(Error::not_found)?;
    let mut past = parse(&item)?;
    let seal = front.state.catalog.seal();
    seal.open(&[namespace], &mut past.parameters);
    Ok(past)
}

/// Keeps `former`, stored at `revision` and about to be replaced.
pub(super) async fn keep(front: &Front, former: &Action, revision: Revision) -> Result<()> {
    if front.config.revisions_max == 0 {
        return Ok(());
    }
    let is_stored = async || {
        let now = stored::<Action>(front, &former.fqn).await?;
        Ok::<_, Error>(now.is_some_and(|(_, now)| now == revision))
    };
    if !is_stored().await? {
        // Somebody else wrote since; what is kept under this number may no longer be what this writer saw.
        return Err(store::Error::Conflict.into());
    }
    let body = serde_json::to_string(former).map_err(Error::internal)?;
    let item = Item {
        name: item_name(&former.fqn, former.number()),
        body: body.into(),
        code: former.exec.code().map(|code| code.code),
        expires: None,
    };
    let (namespace, items) = (&former.fqn.namespace, &front.state.store.items);
    match items.put(namespace, Shelf::Revisions, item, None).await {
        Ok(_) => Ok(()),
        // Its code is lost. That must not keep its owner from replacing it.
        Err(store::Error::Conflict) if is_stored().await? => {
            tracing::warn!(action = %former.fqn, "a former revision has no code and is not kept");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes what is more than may be kept. The write before it stands whatever comes of this: the next one tries again.
pub(super) async fn trim(front: &Front, action: &Action) {
    if let Err(error) = try_trim(front, action).await {
        tracing::warn!(action = %action.fqn, %error, "superfluous revisions could not be removed");
    }
}

async fn try_trim(front: &Front, action: &Action) -> store::Result<()> {
    let (namespace, items) = (&action.fqn.namespace, &front.state.store.items);
    let page = Page {
        skip: usize::try_from(front.config.revisions_max).unwrap_or(usize::MAX),
        limit: TRIMMED_COUNT,
    };
    let prefix = prefix(&action.fqn);
    let superfluous = items
        .list(namespace, Shelf::Revisions, &prefix, page)
        .await?;
    for item in superfluous {
        items
            .delete(namespace, Shelf::Revisions, &item.name)
            .await?;
    }
    Ok(())
}

/// Removes all revisions of an action that is no more, or not yet.
pub(super) async fn forget(front: &Front, name: &Fqn) -> Result<()> {
    forget_all(front, name, &prefix(name)).await
}

/// As [`forget`], of all actions that were in a package.
pub(super) async fn forget_package(front: &Front, package: &Fqn) -> Result<()> {
    forget_all(front, package, &format!("{}/", package.name)).await
}

async fn forget_all(front: &Front, name: &Fqn, prefix: &str) -> Result<()> {
    let (namespace, items) = (&name.namespace, &front.state.store.items);
    let one = Page { skip: 0, limit: 1 };
    // Looking is free; removing nothing would wait for the disk all the same.
    if !items
        .list(namespace, Shelf::Revisions, prefix, one)
        .await?
        .is_empty()
    {
        items.purge(namespace, Shelf::Revisions, prefix).await?;
    }
    Ok(())
}

/// `package/name/`, the package empty for an action in none: no name has a slash.
fn prefix(name: &Fqn) -> String {
    let package = name.package.as_ref().map_or("", |package| package.as_str());
    format!("{package}/{}/", name.name)
}

/// Sorts by number.
fn item_name(name: &Fqn, number: u64) -> String {
    format!("{}{number:020}", prefix(name))
}

fn parse(item: &Item) -> Result<Action> {
    serde_json::from_str(&item.body)
        .map_err(|error| store::Error::Corrupt(format!("revision {}: {error}", item.name)).into())
}
