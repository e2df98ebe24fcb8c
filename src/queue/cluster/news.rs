//! What nodes tell each other through channels: each node has one, and there is one for all.
//!
//! Channels are at most once. Nothing here is needed for correctness: a lane that nobody was told of is in the due list, an
//! outcome that was not heard is in the activation's record, and whoever was told to stop is noted in the store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Activation, ActivationId, Namespace};
use crate::queue::message::{Outcome, Refusal};

/// How an activation ended, as the front that waits for it is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) id: ActivationId,
    // Not flattened: a record holds JSON as it was written, which cannot be read through that.
    pub(super) how: How,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum How {
    /// The record: somebody waits for it.
    Done(Arc<Activation>),
    /// Nobody waits for more than to know.
    Over { millis: u64 },
    /// It was not run.
    Dropped { backlog: bool, retry_after_s: u32 },
}

/// What one node says to another, or to all.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct News {
    /// Lanes to look at, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) wake: Vec<String>,
    /// What has ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ended: Vec<Ended>,
    /// Activations that are to stop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) cancel: Vec<(Namespace, ActivationId)>,
    /// Activations that whoever has them in flight is to end for good, and who wants to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stop: Vec<(String, Namespace, ActivationId)>,
    /// Activations that were found in flight and are ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stopped: Vec<ActivationId>,
    /// Namespaces all of whose waiting work is given up, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) give_up: Vec<(Namespace, String)>,
}

impl Ended {
    /// What is told of `outcome` to a front where `waits` says whether somebody waits for the record.
    pub(super) fn of(id: ActivationId, outcome: Outcome, waits: bool) -> Self {
        let how = match outcome {
            Outcome::Done(record) if waits => How::Done(record),
            Outcome::Done(record) => How::Over {
                millis: record.duration.unwrap_or(0),
            },
            Outcome::Dropped(refusal) => How::Dropped {
                backlog: matches!(refusal, Refusal::Backlog { .. }),
                retry_after_s: refusal.retry_after_s(),
            },
        };
        Self { id, how }
    }
}

/// Why what waited was dropped.
pub(super) fn refusal(backlog: bool, retry_after_s: u32) -> Refusal {
    if backlog {
        Refusal::Backlog { retry_after_s }
    } else {
        Refusal::Overload { retry_after_s }
    }
}
