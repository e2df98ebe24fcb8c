//! The use case "run this": parameters merged, the wait registered, the work enqueued, the answer awaited or not.

mod wait;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub(crate) use wait::{Admission, Waits};

use crate::model::json::{Fields, overlay};
use crate::model::{Action, Activation, ActivationId, Digest, Json, Namespace, Timestamp};
use crate::queue::message::{Outcome, Work};
use crate::queue::{EnqueueError, Queue};
use crate::store::{self, Store};

pub(crate) use crate::queue::message::Refusal;

/// Who invokes.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Whose queue, instances and records.
    pub(crate) namespace: Namespace,
    /// Subject of the key.
    pub(crate) subject: Namespace,
    /// `uuid:key` as it was sent; passed on only to actions that ask for it.
    pub(crate) api_key: Option<Arc<str>>,
    /// Bytes of result the namespace may have.
    pub(crate) result_bytes_max: usize,
    /// Whether the record is kept.
    pub(crate) record: bool,
}

/// What is invoked, and how.
pub(crate) struct Call {
    pub(crate) action: Arc<Action>,
    /// A JSON object.
    pub(crate) payload: Json,
    /// How long the caller waits; `None` is a non-blocking call.
    pub(crate) wait: Option<Duration>,
    /// `X-Request-ID`.
    pub(crate) transaction: Arc<str>,
    /// Dropped when the activation has ended, however long after the caller left.
    pub(crate) admission: Admission,
}

/// What the caller gets.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is accepted, or the wait ended first.
    Accepted(ActivationId),
    /// It has ended; the record tells how.
    Finished(Arc<Activation>),
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The payload names a parameter that is final.
    #[error("Request defines parameters that are not allowed (e.g., reserved properties).")]
    ReservedParameters,
    /// Too much waits already.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was to be durable, and could not be made so.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Ours.
    #[error("{0}")]
    Unavailable(String),
}

impl Error {
    /// One word for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::ReservedParameters => "parameters",
            Self::Refused(Refusal::Backlog { .. }) => "backlog",
            Self::Refused(Refusal::Overload { .. }) => "overload",
            Self::Store(_) => "storage",
            Self::Unavailable(_) => "internal",
        }
    }
}

/// Runs actions; see [`Invoker`].
#[async_trait]
pub(crate) trait Invoke: Send + Sync + 'static {
    /// Runs `call` for `caller`; returns when it has ended, the wait has, or (non-blocking) it is safely accepted.
    async fn invoke(&self, caller: Caller, call: Call) -> Result<Answer, Error>;
}

/// Why code is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UploadError {
    /// It is no code that can run here; the text says what was found and what is needed.
    #[error("{0}")]
    Invalid(String),
    /// Preparing it took more time or memory than it may.
    #[error("{0}")]
    TooCostly(String),
    /// Ours; try again.
    #[error("{0}")]
    Unavailable(String),
}

/// Checks and prepares code at upload; the sandbox, as the edge knows it.
#[async_trait]
pub(crate) trait Upload: Send + Sync + 'static {
    /// Names the program inside `code` (the string as uploaded), ready to be run.
    async fn prepare(&self, kind: &str, code: Arc<str>) -> Result<Digest, UploadError>;
}

/// See the module.
pub(crate) struct Invoker {
    queue: Arc<dyn Queue>,
    store: Store,
    waits: Arc<Waits>,
}

impl std::fmt::Debug for Invoker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invoker")
            .field("waits", &self.waits)
            .finish_non_exhaustive()
    }
}

impl Invoker {
    /// An invoker whose work goes to `queue`, whose outcomes come to `waits`.
    pub(crate) fn new(queue: Arc<dyn Queue>, store: Store, waits: Arc<Waits>) -> Self {
        Self {
            queue,
            store,
            waits,
        }
    }
}

/// Bound parameters overlaid with the payload; refused when the payload names a final one.
fn parameters(action: &Action, payload: Json) -> Result<Json, Error> {
    if action.parameters.0.is_empty() {
        return Ok(payload);
    }
    if action.annotations.is_true("final")
        && let Some(fields) = Fields::of(&payload)
    {
        let is_final = |key: &str| {
            action
                .parameters
                .0
                .iter()
                .any(|p| p.key == key && p.value.get() != "null")
        };
        if fields.0.iter().any(|(key, _)| is_final(key)) {
            return Err(Error::ReservedParameters);
        }
    }
    Ok(overlay(&[&action.parameters.run_object(), &payload]))
}

#[async_trait]
impl Invoke for Invoker {
    async fn invoke(&self, caller: Caller, call: Call) -> Result<Answer, Error> {
        let Call {
            action,
            payload,
            wait,
            transaction,
            admission,
        } = call;
        let params = parameters(&action, payload)?;
        if !self.store.activations.has_room() {
            return Err(store::Error::Full.into());
        }
        let now = Timestamp::now();
        let id = ActivationId::new(now, fastrand::u128(..));
        let wants_key = |_: &Arc<str>| action.annotations.is_truthy("provide-api-key", true);
        let api_key = caller.api_key.filter(wants_key).map(|key| key.to_string());
        let work = Work {
            version: Work::VERSION,
            id,
            namespace: caller.namespace,
            subject: caller.subject,
            action,
            params,
            api_key,
            transaction,
            accepted_at: now,
            cause: None,
            durable: wait.is_none(),
            record: caller.record,
            result_bytes_max: caller.result_bytes_max,
            redelivered: 0,
        };
        let Some(wait) = wait else {
            self.waits.hold(id, admission);
            return self.accept(work).await.map(|()| Answer::Accepted(id));
        };
        let mut outcome = self.waits.register(id, admission);
        let enqueued = self.queue.enqueue(work).await;
        taken(&self.waits, id, enqueued)?;
        // Most calls have ended by now: no timer is armed for them.
        let outcome = match outcome.try_recv() {
            Ok(outcome) => Ok(outcome),
            Err(_) => match tokio::time::timeout(wait, outcome).await {
                Ok(outcome) => outcome,
                Err(_) => return Ok(Answer::Accepted(id)),
            },
        };
        match outcome {
            Ok(Outcome::Done(record)) => Ok(Answer::Finished(record)),
            Ok(Outcome::Dropped(refusal)) => Err(refusal.into()),
            Err(_) => Err(Error::Unavailable(format!(
                "the outcome of activation {id} was lost"
            ))),
        }
    }
}

impl Invoker {
    /// Makes the work durable and enqueues it. In a task of its own: a caller that leaves in between must not leave work
    /// behind that is on disk and in no queue.
    async fn accept(&self, work: Work) -> Result<(), Error> {
        let (queue, waits, id) = (Arc::clone(&self.queue), Arc::clone(&self.waits), work.id);
        let accepted = tokio::spawn(async move {
            let enqueued = queue.enqueue(work).await;
            taken(&waits, id, enqueued)
        });
        accepted
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
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
