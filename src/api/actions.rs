//! `/api/v1/namespaces/{ns}/actions`: the code tenants keep here. What a PUT makes is in `actions_put`, former texts of an
//! action in `revisions`, invoking it in `invocations`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::entities::{digested, json_body, stored, to_the_end};
use super::error::{Error, Result};
use super::extract::{Place, Query, authenticate, payload};
use super::paging::{Asked, asked};
use super::{Front, actions_put, revisions, wire};
use crate::auth::Identity;
use crate::invoke::resolve::Unresolved;
use crate::model::{
    Action, ActionLimits, Annotations, EntityName, Exec, Fqn, Package, Parameters, Timestamp,
    Version,
};
use crate::store::{self, Revision};

/// Tells which text of the action an answer shows.
const X_WISP_REVISION: HeaderName = HeaderName::from_static("x-wisp-revision");

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
    #[serde(skip_serializing_if = "Option::is_none")]
    binding: Option<String>,
}

#[derive(Serialize)]
struct WholeExec<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    components: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    main: Option<&'a str>,
}

impl<'a> WholeExec<'a> {
    /// With the code, where that is what runs.
    fn whole(exec: &'a Exec, code: Option<&'a str>) -> Self {
        Self {
            code,
            binary: Some(is_binary(exec)),
            ..Self::lean(exec)
        }
    }

    fn lean(exec: &'a Exec) -> Self {
        let components = match exec {
            Exec::Sequence(sequence) => Some(sequence.names().collect()),
            Exec::Code(_) | Exec::Builtin(_) => None,
        };
        Self {
            kind: exec.kind(),
            code: None,
            binary: components.is_none().then(|| is_binary(exec)),
            components,
            main: exec.code().and_then(|code| code.main.as_deref()),
        }
    }
}

fn is_binary(exec: &Exec) -> bool {
    exec.code().is_some_and(|code| code.binary)
}

impl<'a> Whole<'a> {
    fn of(action: &'a Action, exec: WholeExec<'a>) -> Self {
        Self {
            namespace: action.wire_namespace(),
            name: action.name(),
            version: action.version,
            publish: action.publish,
            updated: action.updated,
            exec,
            parameters: &action.parameters,
            limits: &action.limits,
            annotations: &action.annotations,
            binding: None,
        }
    }

    fn without_code(action: &'a Action) -> Self {
        Self {
            binding: action.binding(),
            ..Self::of(action, WholeExec::lean(&action.exec))
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
                binary: is_binary(&action.exec),
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

/// The actions of one package, or of the one that a binding stands for: the path ends in a slash.
pub(super) async fn list_package(
    State(front): State<Arc<Front>>,
    request: Request,
) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let name = Place::anywhere(request.uri(), &identity)?.entity(request.uri())?;
    let resolver = &front.state.resolver;
    let reached = resolver.package(&identity.namespace, &name).await;
    let reached = reached.map_err(|error| match error {
        Unresolved::Nothing => Error::missing(&name),
        other => other.into(),
    })?;
    let Fqn {
        namespace, name, ..
    } = reached.provider().fqn.clone();
    rows(&front, request.uri(), &Place { namespace }, Some(&name)).await
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

/// One action, with its code unless `code=false`; a former text of it with `revision=`, all of them with
/// `revisions=true`.
pub(super) async fn get(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let name = Place::anywhere(request.uri(), &identity)?.action(request.uri())?;
    let query = Query::of(request.uri());
    let with_code = query.flag_or("code", true)?;
    permit_reading(&front, &identity, &name).await?;
    if query.flag("revisions")? {
        let rows = revisions::rows(&front, &identity, &name).await?;
        return wire::ok(&rows);
    }
    let mut action = match revisions::asked(query)? {
        Some(number) => at_revision(&front, &identity, &name, number).await?,
        None => {
            let resolver = &front.state.resolver;
            resolver.action(&identity.namespace, &name).await?
        }
    };
    if action.fqn.namespace == identity.namespace && query.get("digest")?.is_some() {
        digested(request.uri(), &mut Arc::make_mut(&mut action).parameters)?;
    }
    if with_code {
        answered(&front, &action).await
    } else {
        Ok(numbered(&action, wire::ok(&Whole::without_code(&action))?))
    }
}

/// Refuses to show what somebody else shares, where sharing is for running alone. Whether it is there is not looked at.
async fn permit_reading(front: &Front, identity: &Identity, name: &Fqn) -> Result<()> {
    let caller = &identity.namespace;
    let Some(package) = package_of(name).filter(|_| front.config.shared_packages_execute_only)
    else {
        return Ok(());
    };
    let text = match front.state.resolver.package(caller, &package).await {
        Ok(_) if name.namespace != *caller => {
            format!("GET not permitted for '{package}' since it's an action in a shared package")
        }
        Ok(reached) if reached.provider().fqn.namespace != *caller => format!(
            "GET not permitted for '{name}'. Resource does not exist or is an action in a shared package binding."
        ),
        // What is wrong is told where the action is looked up.
        Ok(_) | Err(_) => return Ok(()),
    };
    Err(Error::new(StatusCode::FORBIDDEN, text))
}

/// The action `name` as it was when it had this revision, to be read or run by its owner.
pub(super) async fn at_revision(
    front: &Front,
    identity: &Identity,
    name: &Fqn,
    number: u64,
) -> Result<Arc<Action>> {
    revisions::resolve(front, identity, name, number).await
}

/// Creates an action, or, with `overwrite=true`, updates it; with `revision=` and no body, makes a former text the
/// newest again.
pub(super) async fn put(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let identity = authenticate(&front, &parts.headers).await?;
    let name = Place::of(&parts.uri, &identity)?.action(&parts.uri)?;
    let query = Query::of(&parts.uri);
    let overwrite = query.flag("overwrite")?;
    let back_to = revisions::asked(query)?;
    let body = payload(&front, &parts.headers, body, front.config.body_bytes_max).await?;
    let put = match back_to {
        Some(_) if !body.bytes.trim_ascii().is_empty() => {
            let text = "A PUT with 'revision' takes no body: it writes that revision again.";
            return Err(Error::bad_request(text));
        }
        Some(_) => None,
        None => {
            let body = json_body(&parts.headers, &body)?;
            Some(actions_put::read(&front, body, &identity)?)
        }
    };
    drop(body);
    let stored = find_for_write(&front, &name).await?;
    if stored.is_some() && !overwrite {
        return Err(Error::exists());
    }
    let old = stored.as_ref().map(|(action, _)| &**action);
    let (action, code) = match (put, back_to) {
        (Some(put), _) => actions_put::written(&front, &identity, name, put, old).await?,
        (None, number) => {
            let old = old.ok_or_else(Error::not_found)?;
            let past = revisions::of(&front, old, number.unwrap_or_default()).await?;
            let action = actions_put::restored(&front, &identity, old, &past).await?;
            (action, None)
        }
    };
    let sent = code.clone();
    let action = to_the_end(actions_put::store(Arc::clone(&front), action, code, stored)).await?;
    match sent {
        // Not read again: writers that came after may have dropped it already.
        Some(code) => whole(&action, Some(&code)),
        None => answered(&front, &action).await,
    }
}

/// Deletes an action, its former revisions with it, and answers what it was.
pub(super) async fn delete(State(front): State<Arc<Front>>, request: Request) -> Result<Response> {
    let identity = authenticate(&front, request.headers()).await?;
    let name = Place::of(request.uri(), &identity)?.action(request.uri())?;
    let (action, _) = find_for_write(&front, &name)
        .await?
        .ok_or_else(Error::not_found)?;
    let answer = answered(&front, &action).await?;
    to_the_end(async move { remove(&front, &name).await }).await?;
    Ok(answer)
}

/// Removes the action `name` as it is stored now; nothing where there is none.
pub(super) async fn remove(front: &Front, name: &Fqn) -> Result<()> {
    let Some((_, revision)) = stored::<Action>(front, name).await? else {
        return Ok(());
    };
    front.state.catalog.delete(name, revision).await?;
    revisions::forget(front, name).await
}

/// What is stored under `name` before it is written; its package must exist, and be one.
async fn find_for_write(front: &Front, name: &Fqn) -> Result<Option<(Arc<Action>, Revision)>> {
    if let Some(package) = package_of(name) {
        check_package(front, &package).await?;
    }
    stored::<Action>(front, name).await
}

/// The package that `name` says it is in.
pub(super) fn package_of(name: &Fqn) -> Option<Fqn> {
    Some(Fqn {
        namespace: name.namespace.clone(),
        package: None,
        name: name.package.clone()?,
    })
}

/// Refuses to write into what is not there, or stands for something else.
pub(super) async fn check_package(front: &Front, package: &Fqn) -> Result<()> {
    let (package, _) = stored::<Package>(front, package)
        .await?
        .ok_or_else(Error::not_found)?;
    if package.binding.is_some() {
        let text = "Operation not permitted on package binding.";
        return Err(Error::bad_request(text));
    }
    Ok(())
}

/// The action with its code.
async fn answered(front: &Front, action: &Action) -> Result<Response> {
    let code = match action.exec.code() {
        None => None,
        Some(code) => {
            let code = front.state.catalog.code(&code.code).await?;
            let missing =
                || store::Error::Corrupt(format!("the code of {} is missing", action.fqn));
            Some(code.ok_or_else(missing)?)
        }
    };
    whole(action, code.as_deref())
}

fn whole(action: &Action, code: Option<&str>) -> Result<Response> {
    let exec = WholeExec::whole(&action.exec, code);
    Ok(numbered(action, wire::ok(&Whole::of(action, exec))?))
}

fn numbered(action: &Action, mut answer: Response) -> Response {
    let number = HeaderValue::from(action.number());
    answer.headers_mut().insert(X_WISP_REVISION, number);
    answer
}
