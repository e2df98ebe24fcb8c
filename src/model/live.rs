//! Lines that guests write, between who collects them and who passes them on while the guest still runs.

use std::sync::Arc;

use super::{Action, ActivationId, Namespace};

/// A line of an activation that has not ended.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) id: ActivationId,
    pub(crate) action: Arc<Action>,
    /// As the record will have it: with stamp and stream.
    pub(crate) text: String,
}

/// Hears lines as they end. What it hears is in the record too, later.
pub(crate) trait Listener: std::fmt::Debug + Send + Sync + 'static {
    /// Whether anybody listens just now. Asked before every line, so it is one load.
    fn listens(&self) -> bool;
    /// Takes a line of an activation in `namespace`. Never waits.
    fn hear(&self, namespace: &Namespace, line: Line);
}
