//! Actions that the server does itself. They are found, entitled, throttled and recorded as any other; only what they do is
//! here.

use std::sync::Arc;

use super::run::Step;
use super::{Caller, Error, Invoker, feed};
use crate::model::json::overlay;
use crate::model::{Action, Activation, Annotations, Exec, Json, Response, Status, Timestamp};

/// Does what `action` says, for `caller`.
async fn perform(invoker: &Invoker, caller: &Caller, action: &Action, params: &Json) -> Response {
    let Exec::Builtin(builtin) = &action.exec else {
        return Response::error(
            Status::InternalError,
            "The action is not one of the server's.",
        );
    };
    match &*builtin.builtin {
        "alarms/alarm" => feed::feed(invoker, caller, feed::Kind::Cron, params).await,
        "alarms/interval" => feed::feed(invoker, caller, feed::Kind::Interval, params).await,
        "alarms/once" => feed::feed(invoker, caller, feed::Kind::Once, params).await,
        unknown => {
            let text = format!("This server has no action '{unknown}' of its own.");
            Response::error(Status::DeveloperError, &text)
        }
    }
}

/// Runs the action of `step` to its end and keeps the record of it.
pub(super) async fn run(invoker: &Invoker, caller: &Caller, step: Step) -> Arc<Activation> {
    let (started, action) = (Timestamp::now(), &step.action);
    let response = match action.parameters.locked() {
        Some(key) => {
            let error = Error::locked(key, &action.fqn);
            Response::error(Status::InternalError, &error.to_string())
        }
        None => {
            let params = overlay(&[&action.parameters.run_object(), &step.payload]);
            perform(invoker, caller, action, &params).await
        }
    };
    let ended = Timestamp::now().max(started);
    let number = |value: u64| Json::from(value);
    let mut annotations = Annotations::default();
    annotations.push("path", Json::from_serialize(&action.fqn.to_string()));
    annotations.push("kind", Json::from_serialize(action.exec.kind()));
    annotations.push("limits", Json::from_serialize(&action.limits));
    annotations.push("timeout", Json::from(false));
    annotations.push("waitTime", number(started.millis_since(step.id.made_at())));
    if let Some(binding) = action.binding() {
        annotations.push("binding", Json::from_serialize(&binding));
    }
    if step.cause.is_some() {
        annotations.push("causedBy", Json::from_serialize("sequence"));
    }
    if step.redelivered > 0 {
        annotations.push("redelivered", number(step.redelivered.into()));
    }
    let record = Arc::new(Activation {
        namespace: caller.namespace.clone(),
        name: action.fqn.name.clone(),
        version: action.version,
        subject: caller.subject.clone(),
        id: step.id,
        start: started,
        end: Some(ended),
        duration: Some(ended.millis_since(started)),
        cause: step.cause,
        response,
        logs: Arc::default(),
        annotations,
    });
    let activations = &invoker.0.store.activations;
    if caller.record.keeps(record.response.status)
        && let Err(error) = activations.put(Arc::clone(&record))
    {
        tracing::error!(activation = %record.id, namespace = %record.namespace, %error, "a record is lost");
    }
    record
}
