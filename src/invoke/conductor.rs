//! Conductors: an action that says, after each step, which action is next.
//!
//! The conductor's answer `{"action", "params", "state"}` names the next component and what it gets; what that answers,
//! with the state laid over, is the conductor's next payload. An answer without `action` is the end. Failures of components
//! are put to the conductor like any answer; its own failures end the composition.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde_json::value::RawValue;

use super::composition::{Frame, Nesting, Recursive, STEPS_MAX, internal};
use super::resolve::Unresolved;
use super::run::Step;
use super::{Caller, Error, Invoker};
use crate::model::json::{Fields, overlay};
use crate::model::{Activation, EntityName, Fqn, Json, Namespace, Response, Status, name::BadName};

const TOO_MANY: &str = "Too many actions in the composition.";
const FAILED: &str = "Activation failure during composition.";

/// Runs the composition that `step` names, to its end.
pub(super) fn run<'a>(
    invoker: &'a Invoker,
    caller: &'a Caller,
    step: Step,
    nesting: Nesting<'a>,
) -> Recursive<'a, Arc<Activation>> {
    Box::pin(async move {
        let (mut frame, payload) = Frame::of(invoker, caller, step);
        let response = match conduct(&mut frame, payload, nesting).await {
            Ok(response) | Err(Stop::Answer(response)) => response,
            Err(Stop::Failure(error)) => {
                tracing::warn!(activation = %frame.id, namespace = %caller.namespace, %error, "a composition failed");
                internal(FAILED)
            }
        };
        frame.end(response)
    })
}

/// Why a composition ends before its conductor says so.
enum Stop {
    Answer(Response),
    Failure(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::ReservedParameters | Error::Cancelled => {
                let text = error.to_string();
                Self::Answer(Response::error(Status::ApplicationError, &text))
            }
            error => Self::Failure(error),
        }
    }
}

/// What the conductor wants.
struct Next {
    /// The JSON under `action`, as it stands.
    action: Json,
    params: Json,
    state: Option<Json>,
}

async fn conduct(
    frame: &mut Frame<'_>,
    payload: Json,
    nesting: Nesting<'_>,
) -> Result<Response, Stop> {
    let too_many = || Stop::Answer(Response::error(Status::ApplicationError, TOO_MANY));
    let conductor = Arc::clone(&frame.action);
    let mut payload = payload;
    let mut components_left = STEPS_MAX;
    // One call before each component, one after the last, and as many again for what is refused.
    for _ in 0..=2 * STEPS_MAX {
        nesting.deeper().ok_or_else(too_many)?;
        let record = frame.conduct(Arc::clone(&conductor), payload).await?;
        let response = &record.response;
        if response.status != Status::Success {
            return Ok(response.clone());
        }
        let next = match next(&response.result) {
            Ok(next) => next,
            Err(last) => return Ok(finished(response, last)),
        };
        let answer = if components_left == 0 {
            error(TOO_MANY)
        } else {
            match component(frame, &next, nesting).await? {
                Ok(answer) => {
                    components_left -= 1;
                    answer
                }
                Err(refused) => error(&refused),
            }
        };
        payload = match &next.state {
            Some(state) => overlay(&[&object("value", answer), state]),
            None => object("value", answer),
        };
    }
    Err(too_many())
}

/// Runs the component that the conductor wants; the inner error is put to the conductor.
async fn component(
    frame: &mut Frame<'_>,
    next: &Next,
    nesting: Nesting<'_>,
) -> Result<Result<Json, String>, Stop> {
    let namespace = frame.caller.namespace.clone();
    let name: Option<String> = serde_json::from_str(next.action.get()).ok();
    let Some(name) = name.and_then(|name| qualified(&name, &namespace).ok()) else {
        return Ok(Err(format!(
            "Failed to parse action name from json value {} during composition.",
            next.action.get()
        )));
    };
    let action = match frame.invoker.0.resolver.action(&namespace, &name).await {
        Ok(action) => action,
        Err(Unresolved::Store(error)) => return Err(Stop::Failure(error.into())),
        Err(Unresolved::Forbidden(_)) => {
            return Ok(Err(format!(
                "Failed entitlement check for action with name '{name}' during composition."
            )));
        }
        Err(_) => {
            return Ok(Err(format!(
                "Failed to resolve action with name '{name}' during composition."
            )));
        }
    };
    let atomic_left = AtomicUsize::new(STEPS_MAX);
    let Some(inner) = nesting.counting(&atomic_left).deeper() else {
        return Ok(Err(TOO_MANY.to_owned()));
    };
    match frame.step(action, next.params.clone(), inner).await {
        Ok(record) => Ok(Ok(record.response.result.clone())),
        Err(refused @ Error::ReservedParameters) => Ok(Err(refused.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// What the conductor's answer says is next; the inner error is the composition's own result.
fn next(result: &Json) -> Result<Next, Json> {
    let Some(fields) = Fields::of(result) else {
        return Err(result.clone());
    };
    let value = |key: &str| {
        fields
            .last(key)
            .map(|raw: &RawValue| Json::from(raw.to_owned()))
    };
    let params = value("params").map(|params| object("value", params));
    match value("action") {
        Some(action) => Ok(Next {
            action,
            params: params.unwrap_or_else(Json::empty_object),
            state: value("state").map(|state| object("state", state)),
        }),
        None => Err(params.unwrap_or_else(|| result.clone())),
    }
}

/// The response of a composition whose conductor has nothing more to run.
fn finished(response: &Response, result: Json) -> Response {
    match result.field("error") {
        Some(error) => Response {
            status: Status::ApplicationError,
            size: response.size,
            result: Json::from_serialize(&serde_json::json!({ "error": error })),
        },
        None => Response {
            result,
            ..response.clone()
        },
    }
}

/// `json` if it is an object, else `{key: json}`.
fn object(key: &str, json: Json) -> Json {
    if json.is_object() {
        return json;
    }
    let boxed = std::collections::BTreeMap::from([(key, json)]);
    Json::from_serialize(&boxed)
}

fn error(text: &str) -> Json {
    Json::from_serialize(&serde_json::json!({ "error": text }))
}

/// `name` and `package/name` are in the caller's namespace; with three segments, or a slash before the first, it says which.
fn qualified(name: &str, own: &Namespace) -> Result<Fqn, BadName> {
    let segments: Vec<&str> = name.split('/').collect();
    let (package, name) = match segments.as_slice() {
        [name] => (None, name),
        [package, name] if !package.is_empty() => (Some(EntityName::parse(package)?), name),
        _ => return Fqn::parse(name, own),
    };
    Ok(Fqn {
        namespace: own.clone(),
        package,
        name: EntityName::parse(name)?,
    })
}
