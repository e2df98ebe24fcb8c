//! What a PUT makes of an action: read, held to its limits, merged with what is stored, compiled, written.

use std::sync::Arc;

use axum::http::StatusCode;

use super::actions::{check_package, package_of};
use super::entities::{expect, openable, version, within};
use super::error::{Error, Result};
use super::{Front, revisions, sequences};
use crate::auth::Identity;
use crate::model::action_put::LimitsPut;
use crate::model::limits::KindRefused;
use crate::model::{
    Action, ActionLimits, ActionPut, Annotations, Code, CodePut, Digest, Exec, ExecPut, Fqn, Json,
    Parameters, Timestamp, kind,
};
use crate::store::Revision;

/// Reads the body of a PUT and holds it to the limits of size.
pub(super) fn read(front: &Front, body: &[u8], identity: &Identity) -> Result<ActionPut> {
    let put = ActionPut::parse(body).map_err(Error::malformed)?;
    let exec = put.exec.as_ref().map_or(0, ExecPut::size);
    within("exec", exec, front.config.code_bytes_max)?;
    let parameters = put.parameters.as_ref().map_or(0, Parameters::size);
    within("parameters", parameters, identity.limits.parameter_size_max)?;
    openable(front, &identity.namespace, put.parameters.as_ref())?;
    Ok(put)
}

/// The action that `put` makes of `old`, and its code if that is new. Compiles last, because that costs most.
pub(super) async fn written(
    front: &Front,
    identity: &Identity,
    fqn: Fqn,
    put: ActionPut,
    old: Option<&Action>,
) -> Result<(Action, Option<Arc<str>>)> {
    let base = old.map_or_else(ActionLimits::default, |old| old.limits);
    let limits = put.limits.over(&base, &identity.limits);
    let limits = limits.map_err(Error::bad_request)?;
    let mut annotations = annotations(front, &put, old)?;
    let (exec, code) = match (put.exec, old) {
        (Some(ExecPut::Code(code)), _) => {
            let (code, text) = prepared(front, identity, code).await?;
            (Exec::Code(code), Some(text))
        }
        (Some(ExecPut::Sequence(names)), _) => {
            permit_kind(kind::SEQUENCE, identity)?;
            let sequence = sequences::read(&names, &identity.namespace)?;
            sequences::check(front, &identity.namespace, &fqn, &sequence).await?;
            (Exec::Sequence(sequence), None)
        }
        (None, Some(old)) => {
            permit_kind(old.exec.kind(), identity)?;
            (old.exec.clone(), None)
        }
        (None, None) => return Err(Error::bad_request("exec undefined")),
    };
    annotations.set("exec", Json::from_serialize(exec.kind()));
    let action = Action {
        version: version(put.version, old.map(|old| old.version)),
        publish: put
            .publish
            .unwrap_or_else(|| old.is_some_and(|old| old.publish)),
        updated: Timestamp::now(),
        parameters: parameters(&exec, put.parameters, old),
        exec,
        limits,
        annotations,
        revision: next_revision(old),
        reached: None,
        fqn,
    };
    Ok((action, code))
}

fn next_revision(old: Option<&Action>) -> u64 {
    old.map_or(1, |old| old.number().saturating_add(1))
}

/// Those of `old`, without what is to go, with what is new laid over.
fn annotations(front: &Front, put: &ActionPut, old: Option<&Action>) -> Result<Annotations> {
    let mut annotations = old.map(|old| old.annotations.clone()).unwrap_or_default();
    for key in &put.del_annotations {
        annotations.remove(key);
    }
    for annotation in put.annotations.iter().flat_map(Annotations::iter).cloned() {
        annotations.set(annotation.key, annotation.value);
    }
    within(
        "annotations",
        annotations.size(),
        front.config.annotation_bytes_max,
    )?;
    if old.is_none() && annotations.get("provide-api-key").is_none() {
        annotations.set("provide-api-key", Json::from(false));
    }
    Ok(annotations)
}

/// A sequence has its components in place of parameters, and they do not outlive it.
fn parameters(exec: &Exec, put: Option<Parameters>, old: Option<&Action>) -> Parameters {
    if let Exec::Sequence(sequence) = exec {
        return sequence.parameters();
    }
    put.unwrap_or_else(|| match old {
        Some(old) if !matches!(old.exec, Exec::Sequence(_)) => old.parameters.clone(),
        _ => Parameters::default(),
    })
}

/// The code of a body, compiled, and its text.
async fn prepared(front: &Front, identity: &Identity, put: CodePut) -> Result<(Code, Arc<str>)> {
    let kind = put.runtime.kind;
    permit_kind(kind, identity)?;
    let binary = put.is_binary();
    let text: Arc<str> = put.code.into();
    let program = if text.is_empty() {
        // It may be made, and fails when it is run: clients make actions first and fill them later.
        Digest::of(b"")
    } else {
        let (uploads, main) = (&front.state.uploads, put.main.as_deref());
        uploads
            .prepare(&identity.namespace, kind, main, Arc::clone(&text))
            .await?
    };
    let code = Code {
        kind: kind.to_owned(),
        main: put.main,
        binary,
        code: Digest::of(text.as_bytes()),
        code_size: u64::try_from(text.len()).unwrap_or(u64::MAX),
        program,
        http: front.state.uploads.speaks_http(&program),
    };
    Ok((code, text))
}

/// `past`, a former revision of `old`, as its newest; held to what holds today.
pub(super) async fn restored(
    front: &Front,
    identity: &Identity,
    old: &Action,
    past: &Action,
) -> Result<Action> {
    let limits = LimitsPut::default().over(&past.limits, &identity.limits);
    let limits = limits.map_err(Error::bad_request)?;
    permit_kind(past.exec.kind(), identity)?;
    if let Exec::Sequence(sequence) = &past.exec {
        sequences::check(front, &identity.namespace, &old.fqn, sequence).await?;
    }
    Ok(Action {
        version: old.version.bumped(),
        updated: Timestamp::now(),
        limits,
        revision: next_revision(Some(old)),
        ..past.clone()
    })
}

/// Writes the action over `stored`, which becomes a former revision.
pub(super) async fn store(
    front: Arc<Front>,
    action: Action,
    code: Option<Arc<str>>,
    stored: Option<(Arc<Action>, Revision)>,
) -> Result<Arc<Action>> {
    let package = package_of(&action.fqn);
    let _turn = match &package {
        Some(package) => {
            let turn = front.turns.take(package).await;
            // It may have gone while the code was compiled.
            check_package(&front, package).await?;
            Some(turn)
        }
        None => None,
    };
    match &stored {
        Some((former, revision)) => revisions::keep(&front, former, *revision).await?,
        None => revisions::forget(&front, &action.fqn).await?,
    }
    let catalog = &front.state.catalog;
    let action = catalog.put(action, code, expect(stored.as_ref())).await?;
    revisions::trim(&front, &action).await;
    Ok(action)
}

/// Whether the caller may write or run actions of this kind.
pub(super) fn permit_kind(kind: &str, identity: &Identity) -> Result<()> {
    identity.limits.permit_kind(kind).map_err(|refused| {
        let status = match refused {
            KindRefused::Deprecated(_) => StatusCode::BAD_REQUEST,
            KindRefused::NotAllowed(_) => StatusCode::FORBIDDEN,
        };
        Error::new(status, refused.to_string())
    })
}
