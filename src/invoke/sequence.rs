//! Sequences: each action gets the result of the one before; the first failure ends it.

use std::sync::Arc;

use super::composition::{Frame, Nesting, Recursive, internal, take_one};
use super::resolve::Unresolved;
use super::run::Step;
use super::{Caller, Error, Invoker};
use crate::model::{Activation, Exec, Json, Response, Sequence, Status};

const TOO_MANY: &str = "Too many actions in the sequence.";
const MISSING: &str = "Sequence component does not exist.";
const FAILED: &str = "Sequence failed.";

/// Whether `caller` may invoke every component; those it may not are named together.
pub(super) async fn permit(
    invoker: &Invoker,
    caller: &Caller,
    sequence: &Sequence,
) -> Result<(), Error> {
    let mut denied = Vec::new();
    for component in &sequence.components {
        if component.namespace == caller.namespace && component.package.is_none() {
            continue;
        }
        match invoker
            .0
            .resolver
            .action(&caller.namespace, component)
            .await
        {
            Err(Unresolved::Forbidden(_)) => denied.push(component.to_string()),
            Err(Unresolved::Store(error)) => return Err(error.into()),
            // What has gone is told by the run.
            Ok(_) | Err(_) => {}
        }
    }
    if denied.is_empty() {
        return Ok(());
    }
    denied.sort();
    denied.dedup();
    Err(Error::Forbidden(denied.join(", ")))
}

/// Runs the sequence that `step` names, to its end.
pub(super) fn run<'a>(
    invoker: &'a Invoker,
    caller: &'a Caller,
    step: Step,
    nesting: Nesting<'a>,
) -> Recursive<'a, Arc<Activation>> {
    Box::pin(async move {
        let (mut frame, payload) = Frame::of(invoker, caller, step);
        let response = steps(&mut frame, payload, nesting).await;
        frame.end(response)
    })
}

async fn steps(frame: &mut Frame<'_>, payload: Json, nesting: Nesting<'_>) -> Response {
    let action = Arc::clone(&frame.action);
    let Exec::Sequence(sequence) = &action.exec else {
        return internal(FAILED);
    };
    let failed = |text: &str| Response::error(Status::ApplicationError, text);
    let resolver = Arc::clone(&frame.invoker.0.resolver);
    let mut payload = payload;
    let mut last = failed(MISSING);
    for name in &sequence.components {
        let namespace = &frame.caller.namespace;
        let component = match resolver.at_hand(namespace, name) {
            Some(component) => component,
            None => match resolver.action(namespace, name).await {
                Ok(component) => component,
                Err(Unresolved::Store(_)) => return internal(FAILED),
                Err(denied @ Unresolved::Forbidden(_)) => return failed(&denied.to_string()),
                Err(_) => return failed(MISSING),
            },
        };
        let is_atomic = !matches!(component.exec, Exec::Sequence(_));
        let Some(inner) = nesting.deeper() else {
            return failed(TOO_MANY);
        };
        if is_atomic && !take_one(nesting.atomic_left) {
            return failed(TOO_MANY);
        }
        let record = match frame.step(component, payload, inner).await {
            Ok(record) => record,
            Err(refused @ (Error::ReservedParameters | Error::Cancelled)) => {
                return failed(&refused.to_string());
            }
            Err(error) => {
                tracing::warn!(activation = %frame.id, namespace = %frame.caller.namespace, %error, "a sequence failed");
                return internal(FAILED);
            }
        };
        last = record.response.clone();
        if last.status != Status::Success {
            return last;
        }
        payload = last.result.clone();
    }
    last
}
