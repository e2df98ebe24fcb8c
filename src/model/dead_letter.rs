//! Dead letters: work that was promised and given up.

use serde::{Deserialize, Serialize};

use super::activation::ActivationId;
use super::json::Json;
use super::name::EntityName;
use super::time::Timestamp;

/// Work that was given up, as it is kept and as clients see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Of the last run, or of the one that never was.
    pub id: ActivationId,
    /// When it was given up.
    pub time: Timestamp,
    /// What fired, where that is how it began.
    pub trigger: Option<EntityName>,
    /// The rule that ran it, likewise.
    pub rule: Option<EntityName>,
    /// `ns/name` or `ns/package/name`.
    pub action: String,
    /// The same as `id`: where the record of the last run is.
    pub activation_id: ActivationId,
    /// Runs there were.
    pub attempts: u32,
    /// The last one's.
    pub error: Json,
    /// What the action was given.
    pub payload: Json,
}
