//! What goes on behind answers: fires that wait, runs to be tried again, times to fire at.

use super::backlog::Backlog;
use super::config::Config;
use super::dues::Clock;
use super::retry::Retries;

/// The state of it, in memory; what was promised is in the log of accepted work.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pub(super) config: Config,
    pub(super) backlog: Backlog,
    pub(super) retries: Retries,
    pub(super) clock: Clock,
}

impl Events {
    /// Nothing yet.
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// Fires whose rules have not all run to their end, and runs of rules that wait to be tried again.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.backlog.pending(), self.retries.waiting())
    }

    /// Begins nothing more: what waits is left to the next process.
    pub(crate) fn stop(&self) {
        self.backlog.stop();
    }
}
