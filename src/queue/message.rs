//! What crosses between front and workers: [`Work`] there, [`Outcome`] back. Versioned; nothing else crosses.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::exchange::Exchange;
use crate::model::{Action, Activation, ActivationId, Json, Keep, Namespace, Timestamp};

/// One invocation, accepted and not yet run.
///
/// `version` is 1. A reader that meets another version leaves the work alone and says so.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) version: u16,
    pub(crate) id: ActivationId,
    /// Who invokes: whose queue, whose instance, whose record.
    pub(crate) namespace: Namespace,
    /// Subject of the invoking key.
    pub(crate) subject: Namespace,
    /// What runs, pinned at acceptance: later updates of the action do not change this work.
    pub(crate) action: Arc<Action>,
    /// Parameters, merged; a JSON object.
    pub(crate) params: Json,
    /// The invoking `uuid:key`, only when the action asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_key: Option<String>,
    /// `X-Request-ID` of the request.
    pub(crate) transaction: Arc<str>,
    pub(crate) accepted_at: Timestamp,
    /// The sequence or composition it is a step of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<ActivationId>,
    /// Whether it was promised: in the log of accepted work until its record is kept.
    pub(crate) durable: bool,
    /// Which outcomes leave a record (the namespace may say none).
    pub(crate) record: Keep,
    /// Bytes of result the invoking namespace may have.
    pub(crate) result_bytes_max: usize,
    /// How often a run of it had begun before and was lost.
    #[serde(default)]
    pub(crate) redelivered: u32,
    /// The request it answers. Never promised, and never sent elsewhere: its streams end in this process.
    #[serde(skip)]
    pub(crate) exchange: Option<Arc<Exchange>>,
}

impl Work {
    /// The version this build writes and reads.
    pub(crate) const VERSION: u16 = 1;
}

/// What is answered in place of a result when an activation was told to stop.
pub(crate) const CANCELLED: &str = "The activation was cancelled.";

/// How a piece of work ended: the record of it, without its logs when nobody asked for them.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// It ran, or failed trying; the record says how.
    Done(Arc<Activation>),
    /// It was dropped from the queue before a run began; nothing is recorded.
    Dropped(Refusal),
}

/// Why work is not taken, or not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The action's queue is as long, or its oldest work as old, as it may be: the caller should slow down.
    #[error("Too many concurrent requests in flight.")]
    Backlog { retry_after_s: u32 },
    /// The node has no room (memory, disk, queues in total): come back later.
    #[error(
        "The server is currently unavailable (because it is overloaded or down for maintenance)."
    )]
    Overload { retry_after_s: u32 },
}

impl Refusal {
    /// When to come back.
    pub(crate) fn retry_after_s(self) -> u32 {
        match self {
            Self::Backlog { retry_after_s } | Self::Overload { retry_after_s } => retry_after_s,
        }
    }
}
