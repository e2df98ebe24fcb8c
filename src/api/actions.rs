//! `/api/v1/namespaces/{ns}/actions`: the code tenants keep here. Invoking it is in `invocations`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::error::{Error, Result};
use super::extract::{Payload, Place, Query, authenticate, expect_json, payload, segment};
use super::paging::{Asked, asked};
use super::{Front, wire};
use crate::auth::Identity;
use crate::model::limits::EffectiveLimits;
use crate::model::{
    Action, ActionLimits, ActionPut, Annotations, Code, Digest, EntityName, Exec, Fqn, Json,
    Package, Parameters, Timestamp, Version, kind,
};
use crate::store::catalog::Found;
use crate::store::{Expect, Revision};

/// An action as `GET`, `PUT` and `DELETE` answer it.
#[derive(Serialize)]
struct Whole<'a> {
    namespace: String,
    name: &'a EntityName,
    version: Version,
    publish: bool,
    updated: Timestamp,
    exec: WholeExec<'a>,
    parameters: &'a Parameters,
    limits: &'a ActionLimits,
    annotations: &'a Annotations,
}

#[derive(Serialize)]
struct WholeExec<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    binary: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    main: Option<&'a str>,
}

impl<'a> Whole<'a> {
    fn of(action: &'a Action, code: Option<&'a str>) -> Self {
        Self {
            namespace: action.wire_namespace(),
            name: action.name(),
            version: action.version,
            publish: action.publish,
            updated: action.updated,
            exec: WholeExec {
                kind: action.exec.kind(),
                code,
                binary: action.exec.code().is_some_and(|code| code.binary),
                main: action.exec.code().and_then(|code| code.main.as_deref()),
            },
            parameters: &action.parameters,
            limits: &action.limits,
            annotations: &action.annotations,
        }
    }
}

/// An action as lists show it.
#[derive(Serialize)]
struct Row<'a> {
    namespace: String,
    name: &'a EntityName,
    version: Version,
    publish: bool,
    annotations: &'a Annotations,
    limits: &'a ActionLimits,
    exec: RowExec,
    updated: Timestamp,
}

#[derive(Serialize)]
struct RowExec {
    binary: bool,
}

impl<'a> Row<'a> {
    fn of(action: &'a Action) -> Self {
        Self {
            namespace: action.wire_namespace(),
            name: action.name(),
            version: action.version,
            publish: action.publish,
            annotations: &action.annotations,
            limits: &action.limits,
            exec: RowExec {
                binary: action.exec.code().is_some_and(|code| code.binary),
            },
            updated: action.updated,
        }
    }
}

/// All actions of the namespace, those in packages included.
pub(super) async fn list(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let place = Place::of(request.uri(), &identity)?;
    rows(&front, request.uri(), &place, None).await
}

/// The actions of one package: the path ends in a slash.
pub(super) async fn list_package(
    State(front): State<Arc<Front>>,
    request: Request,
) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let place = Place::of(request.uri(), &identity)?;
    let package = EntityName::parse(&segment(request.uri(), 5)?)?;
    if !package_exists(&front, &place, &package).await? {
        return Err(Error::missing(format!("{}/{package}", place.namespace)));
    }
    rows(&front, request.uri(), &place, Some(&package)).await
}

async fn rows(
    front: &Front,
    uri: &Uri,
    place: &Place,
    package: Option<&EntityName>,
) -> Result<Response> {
    let (catalog, namespace) = (&front.state.catalog, &place.namespace);
    match asked(uri, "actions")? {
        Asked::Count { skip } => {
            let count = catalog.count::<Action>(namespace, package).await?;
            wire::ok(&json!({ "actions": count.saturating_sub(skip) }))
        }
        Asked::Rows(page) => {
            let actions = catalog.list::<Action>(namespace, package, page).await?;
            let rows: Vec<Row<'_>> = actions.iter().map(|action| Row::of(action)).collect();
            wire::ok(&rows)
        }
    }
}

/// One action, with its code unless `code=false`.
pub(super) async fn get(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let name = Place::anywhere(request.uri(), &identity)?.action(request.uri())?;
    let with_code = Query::of(request.uri()).flag_or("code", true)?;
    let action = front
        .state
        .resolver
        .action(&identity.namespace, &name)
        .await?;
    let code = if with_code {
        Some(code_of(&front, &action).await?)
    } else {
        None
    };
    wire::ok(&Whole::of(&action, code.as_deref()))
}

/// Creates an action, or, with `overwrite=true`, updates it.
pub(super) async fn put(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let identity = authenticate(&front, &parts.headers).await?;
    let name = Place::of(&parts.uri, &identity)?.action(&parts.uri)?;
    let overwrite = Query::of(&parts.uri).flag("overwrite")?;
    let body = payload(&front, &parts.headers, body, front.config.body_bytes_max).await?;
    let put = read_put(&front, &parts.headers, &body, &identity.limits)?;
    drop(body);
    let stored = find_for_put(&front, &name).await?;
    if stored.is_some() && !overwrite {
        return Err(Error::exists());
    }
    let expect = match &stored {
        Some((_, revision)) => Expect::Revision(*revision),
        None => Expect::Absent,
    };
    let old = stored.map(|(action, _)| action);
    let (action, code) = written(&front, &identity, name, put, old.as_deref()).await?;
    let action = front
        .state
        .catalog
        .put(action, code.clone(), expect)
        .await?;
    let code = match code {
        Some(code) => code,
        None => code_of(&front, &action).await?,
    };
    wire::ok(&Whole::of(&action, Some(&code)))
}

/// Deletes an action and answers what it was.
pub(super) async fn delete(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let place = Place::of(request.uri(), &identity)?;
    let name = place.action(request.uri())?;
    let (action, revision) = find_for_put(&front, &name)
        .await?
        .ok_or_else(Error::not_found)?;
    let code = code_of(&front, &action).await?;
    front.state.catalog.delete(&name, revision).await?;
    wire::ok(&Whole::of(&action, Some(&code)))
}

/// What is stored under `name` before it is written; its package must exist.
async fn find_for_put(front: &Front, name: &Fqn) -> Result<Option<(Arc<Action>, Revision)>> {
    if let Some(package) = &name.package {
        let namespace = name.namespace.clone();
        if !package_exists(front, &Place { namespace }, package).await? {
            return Err(Error::not_found());
        }
    }
    match front.state.catalog.get::<Action>(name).await? {
        Found::Is(action, revision) => Ok(Some((action, revision))),
        Found::Other(_) => Err(Error::conformance()),
        Found::Nothing => Ok(None),
    }
}

async fn package_exists(front: &Front, place: &Place, package: &EntityName) -> Result<bool> {
    let name = Fqn {
        namespace: place.namespace.clone(),
        package: None,
        name: package.clone(),
    };
    match front.state.catalog.get::<Package>(&name).await? {
        Found::Is(..) => Ok(true),
        Found::Nothing => Ok(false),
        Found::Other(_) => Err(Error::conformance()),
    }
}

async fn code_of(front: &Front, action: &Action) -> Result<Arc<str>> {
    let Some(code) = action.exec.code() else {
        return Ok("".into());
    };
    let code = front.state.catalog.code(&code.code).await?;
    code.ok_or_else(|| {
        let missing = format!("the code of {} is missing", action.fqn);
        crate::store::Error::Corrupt(missing).into()
    })
}

/// Reads the body of a PUT and holds it to the limits of size.
fn read_put(
    front: &Front,
    headers: &HeaderMap,
    body: &Payload<'_>,
    limits: &EffectiveLimits,
) -> Result<ActionPut> {
    if body.bytes.is_empty() {
        return Err(Error::no_body());
    }
    expect_json(headers)?;
    let put = ActionPut::parse(&body.bytes).map_err(Error::malformed)?;
    let exec = put.exec.as_ref().map_or(0, |exec| exec.size());
    within("exec", exec, front.config.code_bytes_max)?;
    let parameters = put.parameters.as_ref().map_or(0, Parameters::size);
    within("parameters", parameters, limits.parameter_size_max)?;
    Ok(put)
}

fn within(field: &str, size: usize, max: u64) -> Result<()> {
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    if size > max {
        return Err(Error::too_large(field, size, max));
    }
    Ok(())
}

/// The action that `put` makes of `old`, and its code if that is new. Compiles last, because that costs most.
async fn written(
    front: &Front,
    identity: &Identity,
    fqn: Fqn,
    put: ActionPut,
    old: Option<&Action>,
) -> Result<(Action, Option<Arc<str>>)> {
    let base = old.map_or_else(ActionLimits::default, |old| old.limits);
    let limits = put.limits.over(&base, &identity.limits);
    let limits = limits.map_err(Error::bad_request)?;
    let mut annotations = old.map(|old| old.annotations.clone()).unwrap_or_default();
    for key in &put.del_annotations {
        annotations.remove(key);
    }
    for annotation in put.annotations.unwrap_or_default().iter().cloned() {
        annotations.set(annotation.key, annotation.value);
    }
    within(
        "annotations",
        annotations.size(),
        front.config.annotation_bytes_max,
    )?;
    if old.is_none() && annotations.get("provide-api-key").is_none() {
        annotations.set("provide-api-key", Json::from_serialize(&false));
    }
    let (exec, code) = match (put.exec, old) {
        (Some(exec), _) => {
            let kind = exec.runtime.kind;
            permit_kind(kind, identity)?;
            let binary = exec.is_binary();
            let code: Arc<str> = exec.code.into();
            let uploads = &front.state.uploads;
            let program = uploads.prepare(kind, Arc::clone(&code)).await?;
            let exec = Exec::Code(Code {
                kind: kind.to_owned(),
                main: exec.main,
                binary,
                code: Digest::of(code.as_bytes()),
                code_size: u64::try_from(code.len()).unwrap_or(u64::MAX),
                program,
            });
            (exec, Some(code))
        }
        (None, Some(old)) => {
            permit_kind(old.exec.kind(), identity)?;
            (old.exec.clone(), None)
        }
        (None, None) => return Err(Error::bad_request("exec undefined")),
    };
    annotations.set("exec", Json::from_serialize(exec.kind()));
    let next = old.map_or(Version::FIRST, |old| old.version.bumped());
    let kept = |old: &Action| old.parameters.clone();
    let action = Action {
        fqn,
        version: put.version.unwrap_or(next),
        publish: put
            .publish
            .unwrap_or_else(|| old.is_some_and(|old| old.publish)),
        updated: Timestamp::now(),
        exec,
        parameters: put
            .parameters
            .unwrap_or_else(|| old.map(kept).unwrap_or_default()),
        limits,
        annotations,
        reached: None,
    };
    Ok((action, code))
}

/// Whether the caller may write or run actions of this kind.
pub(super) fn permit_kind(kind: &str, identity: &Identity) -> Result<()> {
    if kind::is_deprecated(kind) {
        return Err(Error::bad_request(format!(
            "The '{kind}' runtime is no longer supported. You may read and delete but not update or invoke this action."
        )));
    }
    let allowed = &identity.limits.allowed_kinds;
    if !allowed.is_empty() && !allowed.iter().any(|one| one == kind) {
        return Err(Error::new(
            StatusCode::FORBIDDEN,
            format!(
                "The supplied authentication is not authorized to access actions of kind '{kind}'."
            ),
        ));
    }
    Ok(())
}
