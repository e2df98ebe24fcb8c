//! The use case "run this": the name resolved, parameters merged, the wait registered, the work enqueued, the answer
//! awaited or not.
//!
//! [`resolve`] says what a name means to a caller; [`run`] takes one action to its end; what is made of several actions
//! is put together here, inside the node, out of such runs.

mod alarms;
mod backlog;
mod builtin;
mod cancel;
mod clock;
mod composition;
mod conductor;
mod config;
mod deadletter;
mod detached;
mod dues;
mod events;
mod expand;
mod feed;
pub(crate) mod idempotency;
pub(crate) mod resolve;
mod retry;
mod run;
mod sequence;
mod trigger;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub(crate) use composition::Running;
pub(crate) use config::Config;
pub(crate) use events::Events;
pub(crate) use retry::retry_fault;
pub(crate) use run::new_id;
pub(crate) use trigger::Fire;
pub(crate) use wait::{Admission, Waits};

use crate::auth::{self, Keys, Throttle};
use crate::model::dead_letter::DeadLetter;
use crate::model::exchange::Exchange;
use crate::model::limits::EffectiveLimits;
use crate::model::{Action, Activation, ActivationId, Digest, Fqn, Json, Keep, Namespace};
use crate::queue::Queue;
use crate::queue::message::CANCELLED;
use crate::store::{self, Store};
use resolve::Resolver;

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
    /// What holds for the namespace.
    pub(crate) limits: Arc<EffectiveLimits>,
    /// Which outcomes leave a record.
    pub(crate) record: Keep,
}

/// What is invoked, and how.
pub(crate) struct Call {
    /// The id its activation gets; see [`new_id`].
    pub(crate) id: ActivationId,
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
    /// The caller may not invoke what the action is made of; names what.
    #[error("The supplied authentication is not authorized to access '{0}'.")]
    Forbidden(String),
    /// It was told to stop.
    #[error("{CANCELLED}")]
    Cancelled,
    /// Too much waits already.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was to be durable, and could not be made so.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A parameter of what is called cannot be decrypted; names it, and what it belongs to.
    #[error(
        "Parameter '{key}' of '{of}' is encrypted with a key that this server was not given. Set it anew, or have the key configured."
    )]
    Locked { key: String, of: Box<Fqn> },
    /// Ours.
    #[error("{0}")]
    Unavailable(String),
}

impl Error {
    /// Of parameter `key`.
    fn locked(key: &str, of: &Fqn) -> Self {
        Self::Locked {
            key: key.to_owned(),
            of: Box::new(of.clone()),
        }
    }

    /// One word for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::ReservedParameters => "parameters",
            Self::Forbidden(_) => "rights",
            Self::Cancelled => "cancelled",
            Self::Refused(Refusal::Backlog { .. }) => "backlog",
            Self::Refused(Refusal::Overload { .. }) => "overload",
            Self::Store(_) => "storage",
            Self::Locked { .. } => "encryption",
            Self::Unavailable(_) => "internal",
        }
    }
}

/// Runs actions; see [`Invoker`].
#[async_trait]
pub(crate) trait Invoke: Send + Sync + 'static {
    /// Runs `call` for `caller`; returns when it has ended, the wait has, or (non-blocking) it is safely accepted.
    async fn invoke(&self, caller: Caller, call: Call) -> Result<Answer, Error>;

    /// Tells an activation of `namespace` to stop, for good; whether it was in flight.
    ///
    /// # Errors
    /// When it was told, and that could not be noted for the next process.
    async fn cancel(&self, namespace: &Namespace, id: ActivationId) -> Result<bool, Error>;

    /// Runs `call`, whose action speaks HTTP, to answer a request. The answer goes its own way, at the latest when this
    /// returns: that is when the run has ended, or the wait has.
    async fn exchange(
        &self,
        caller: Caller,
        call: Call,
        exchange: Exchange,
    ) -> Result<Answer, Error>;

    /// Gives up what waits of a namespace that was blocked.
    fn blocked(&self, namespace: &Namespace);

    /// Whether an activation of `namespace` is in flight.
    fn is_in_flight(&self, namespace: &Namespace, id: ActivationId) -> bool;

    /// Fires a trigger; returns when that is safely accepted, or `None` when no active rule listens.
    async fn fire(&self, caller: Caller, fire: Fire) -> Result<Option<ActivationId>, Error>;

    /// Runs `action`, which a dead letter is about, once more; returns when that is safely accepted and the letter removed. What
    /// fails is a letter again.
    async fn replay(
        &self,
        caller: Caller,
        letter: DeadLetter,
        action: Arc<Action>,
        transaction: Arc<str>,
        admission: auth::Admission,
    ) -> Result<ActivationId, Error>;
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
    /// Names the program inside `code` (the string as uploaded) of a concrete `kind`, ready to be run from `main`. Of the
    /// namespaces that wait for that, each has its turn.
    async fn prepare(
        &self,
        namespace: &Namespace,
        kind: &str,
        main: Option<&str>,
        code: Arc<str>,
    ) -> Result<Digest, UploadError>;

    /// Whether a program that was just prepared answers HTTP requests itself.
    fn speaks_http(&self, _program: &Digest) -> bool {
        false
    }
}

/// What the use cases here are built on.
pub(crate) struct Parts {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) store: Store,
    pub(crate) waits: Arc<Waits>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) throttle: Arc<Throttle>,
    /// What is made of several actions and runs.
    pub(crate) running: Arc<Running>,
    /// What goes on behind answers: fires, retries, alarms.
    pub(crate) events: Arc<Events>,
}

#[cfg(test)]
impl Parts {
    /// Everything that is not given made anew over `store`.
    pub(crate) fn over(store: Store, queue: Arc<dyn Queue>, waits: Arc<Waits>) -> Self {
        use crate::store::catalog::Catalog;
        let catalog = Arc::new(Catalog::new(Arc::clone(&store.entities), 1000));
        let keys = Keys::new(Arc::clone(&store.tenants), EffectiveLimits::default());
        Self {
            queue,
            waits,
            resolver: Arc::new(Resolver::new(catalog)),
            keys: Arc::new(keys.expect("the system has randomness")),
            throttle: Arc::default(),
            running: Arc::default(),
            events: Arc::default(),
            store,
        }
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Invoker(Arc<Parts>);

impl std::fmt::Debug for Invoker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invoker")
            .field("waits", &self.0.waits)
            .finish_non_exhaustive()
    }
}

impl Invoker {
    /// An invoker made of `parts`.
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Resolves when nothing that is made of several runs any more.
    #[cfg(test)]
    pub(crate) async fn idle(&self) {
        self.0.running.idle().await;
    }

    #[cfg(test)]
    pub(crate) fn resolver(&self) -> &Resolver {
        &self.0.resolver
    }
}

#[async_trait]
impl Invoke for Invoker {
    async fn invoke(&self, caller: Caller, call: Call) -> Result<Answer, Error> {
        if composition::is_composed(&call.action) {
            Box::pin(self.invoke_composed(caller, call)).await
        } else {
            self.invoke_code(caller, call, None).await
        }
    }

    async fn cancel(&self, namespace: &Namespace, id: ActivationId) -> Result<bool, Error> {
        self.stop_for_good(namespace, id).await
    }

    async fn exchange(
        &self,
        caller: Caller,
        call: Call,
        exchange: Exchange,
    ) -> Result<Answer, Error> {
        self.invoke_code(caller, call, Some(Arc::new(exchange)))
            .await
    }

    fn blocked(&self, namespace: &Namespace) {
        self.0.queue.give_up_all(namespace, expand::BLOCKED);
    }

    fn is_in_flight(&self, namespace: &Namespace, id: ActivationId) -> bool {
        self.0.waits.holds(namespace, id)
    }

    async fn fire(&self, caller: Caller, fire: Fire) -> Result<Option<ActivationId>, Error> {
        Box::pin(self.fire_trigger(caller, fire)).await
    }

    async fn replay(
        &self,
        caller: Caller,
        letter: DeadLetter,
        action: Arc<Action>,
        transaction: Arc<str>,
        admission: auth::Admission,
    ) -> Result<ActivationId, Error> {
        Box::pin(self.replay_letter(caller, &letter, action, transaction, admission)).await
    }
}
