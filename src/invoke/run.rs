//! One action, run: as a call of its own, or as a step of something larger.

use std::sync::Arc;

use super::{Admission, Answer, Call, Caller, Error, Invoker, Waits};
use crate::model::exchange::Exchange;
use crate::model::json::{Fields, overlay};
use crate::model::{Action, Activation, ActivationId, Json, Timestamp};
use crate::queue::EnqueueError;
use crate::queue::message::{Outcome, Work};
use crate::store;

/// One action to be run to its end within something larger.
pub(super) struct Step {
    pub(super) id: ActivationId,
    pub(super) action: Arc<Action>,
    /// A JSON object, or an array where a step before it answered one.
    pub(super) payload: Json,
    /// What it is a step of.
    pub(super) cause: Option<ActivationId>,
    /// `X-Request-ID` of the request that began it all.
    pub(super) transaction: Arc<str>,
    /// Dropped when the step has ended.
    pub(super) admission: Admission,
    /// How often a run of it had begun before and was lost.
    pub(super) redelivered: u32,
}

impl Step {
    /// A step with a new id, that is part of nothing and takes nobody's place.
    pub(super) fn new(action: Arc<Action>, payload: Json, transaction: Arc<str>) -> Self {
        Self {
            id: new_id(),
            action,
            payload,
            cause: None,
            transaction,
            // Takes no memory.
            admission: Box::new(()),
            redelivered: 0,
        }
    }
}

/// An id for an activation that begins now.
pub(crate) fn new_id() -> ActivationId {
    ActivationId::new(Timestamp::now(), fastrand::u128(..))
}

/// Bound parameters overlaid with the payload; refused when the payload names a final one.
fn parameters(action: &Action, payload: Json) -> Result<Json, Error> {
    if action.parameters.0.is_empty() || !payload.is_object() {
        return Ok(payload);
    }
    if let Some(key) = action.parameters.locked() {
        return Err(Error::locked(key, &action.fqn));
    }
    if action.annotations.is_true("final")
        && let Some(fields) = Fields::of(&payload)
    {
        let is_final = |key: &str| {
            action
                .parameters
                .0
                .iter()
                .any(|p| p.key == key && p.plain().is_none_or(|value| value.get() != "null"))
        };
        if fields.0.iter().any(|(key, _)| is_final(key)) {
            return Err(Error::ReservedParameters);
        }
    }
    Ok(overlay(&[&action.parameters.run_object(), &payload]))
}

/// The work of `step` for `caller`.
fn work(caller: &Caller, step: Step, durable: bool) -> Result<(Work, Admission), Error> {
    let params = parameters(&step.action, step.payload)?;
    let wants_key = |_: &&Arc<str>| step.action.annotations.is_truthy("provide-api-key", true);
    let api_key = caller.api_key.as_ref().filter(wants_key);
    let work = Work {
        version: Work::VERSION,
        id: step.id,
        namespace: caller.namespace.clone(),
        subject: caller.subject.clone(),
        api_key: api_key.map(|key| key.to_string()),
        action: step.action,
        params,
        transaction: step.transaction,
        accepted_at: Timestamp::now(),
        cause: step.cause,
        durable,
        record: caller.record,
        result_bytes_max: usize::try_from(caller.limits.result_size_max).unwrap_or(usize::MAX),
        redelivered: step.redelivered,
        exchange: None,
    };
    Ok((work, step.admission))
}

impl Invoker {
    /// Runs code for a caller of its own.
    pub(super) async fn invoke_code(
        &self,
        caller: Caller,
        call: Call,
        exchange: Option<Arc<Exchange>>,
    ) -> Result<Answer, Error> {
        let wait = call.wait;
        let step = Step {
            id: call.id,
            action: call.action,
            payload: call.payload,
            cause: None,
            transaction: call.transaction,
            admission: call.admission,
            redelivered: 0,
        };
        let id = step.id;
        let (mut work, admission) = work(&caller, step, wait.is_none())?;
        work.exchange = exchange;
        let (queue, store, waits) = (&self.0.queue, &self.0.store, &self.0.waits);
        if !store.activations.has_room() {
            return Err(store::Error::Full.into());
        }
        let Some(wait) = wait else {
            waits.hold(&caller.namespace, id, admission);
            return self.accept(work).await.map(|()| Answer::Accepted(id));
        };
        let mut outcome = waits.register(&caller.namespace, id, admission);
        let enqueued = queue.enqueue(work).await;
        taken(waits, id, enqueued)?;
        // Most calls have ended by now: no timer is armed for them.
        let outcome = match outcome.try_recv() {
            Ok(outcome) => Ok(outcome),
            Err(_) => match tokio::time::timeout(wait, &mut outcome).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    // What is told to come back for its record must be on its way.
                    queue.settled(id).await;
                    match outcome.try_recv() {
                        Ok(outcome) => Ok(outcome),
                        Err(_) => return Ok(Answer::Accepted(id)),
                    }
                }
            },
        };
        ended(id, outcome).map(Answer::Finished)
    }

    /// Runs code as a step of something larger, to its end: its own timeout and the queue's bounds limit the wait.
    pub(super) async fn run_code(
        &self,
        caller: &Caller,
        step: Step,
    ) -> Result<Arc<Activation>, Error> {
        let id = step.id;
        let (work, admission) = work(caller, step, false)?;
        let outcome = self.0.waits.register(&caller.namespace, id, admission);
        let enqueued = self.0.queue.enqueue(work).await;
        taken(&self.0.waits, id, enqueued)?;
        ended(id, outcome.await)
    }

    /// Makes the work durable and enqueues it. In a task of its own: a caller that leaves in between must not leave work
    /// behind that is on disk and in no queue.
    async fn accept(&self, work: Work) -> Result<(), Error> {
        let (this, id) = (self.clone(), work.id);
        let accepted = tokio::spawn(async move {
            let enqueued = this.0.queue.enqueue(work).await;
            taken(&this.0.waits, id, enqueued)
        });
        accepted
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
    }
}

/// The record of what has ended.
fn ended<E>(id: ActivationId, outcome: Result<Outcome, E>) -> Result<Arc<Activation>, Error> {
    match outcome {
        Ok(Outcome::Done(record)) => Ok(record),
        Ok(Outcome::Dropped(refusal)) => Err(refusal.into()),
        Err(_) => Err(Error::Unavailable(format!(
            "the outcome of activation {id} was lost"
        ))),
    }
}

/// Forgets the wait for work that was not taken.
fn taken(waits: &Waits, id: ActivationId, enqueued: Result<(), EnqueueError>) -> Result<(), Error> {
    enqueued.map_err(|error| {
        waits.forget(id);
        match error {
            EnqueueError::Refused(refusal) => Error::Refused(refusal),
            EnqueueError::Store(error) => Error::Store(error),
        }
    })
}
