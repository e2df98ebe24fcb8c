//! What can be told to the use cases: the `[invoke]` section.

use serde::Deserialize;

/// Bounds of what goes on behind an answer, and how long things are remembered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Whether the actions of a trigger's rules see the credentials of whoever fired it: `authorization`,
    /// `proxy-authorization` and `cookie` in `__ow_headers`.
    pub(crate) forward_authorization: bool,
    /// Fires accepted whose rules have not all run to their end; beyond it callers get 503. One namespace gets at most
    /// half of them.
    pub(crate) fires_max: usize,
    /// Bytes of those fires, as they are kept on disk.
    pub(crate) fires_bytes_max: usize,
    /// Runs of one namespace that wait to be tried again; a failure beyond it becomes a dead letter at once.
    pub(crate) retries_max: usize,
    /// Dead letters of one namespace; beyond it the oldest goes.
    pub(crate) dead_letters_max: usize,
    /// How long a dead letter is kept, seconds.
    pub(crate) dead_letter_age_s: u64,
    /// Shortest interval at which the clock fires a trigger, seconds; from 60 on, cron patterns have five fields.
    pub(crate) alarm_interval_min_s: u64,
    /// How long an `Idempotency-Key` is remembered, seconds.
    pub(crate) idempotency_age_s: u64,
    /// Keys remembered per namespace; calls with a new one beyond it get 429.
    pub(crate) idempotency_keys_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            forward_authorization: false,
            fires_max: 20_000,
            fires_bytes_max: 64 << 20,
            retries_max: 1_000,
            dead_letters_max: 1_000,
            dead_letter_age_s: 7 * 24 * 60 * 60,
            alarm_interval_min_s: 1,
            idempotency_age_s: 24 * 60 * 60,
            idempotency_keys_max: 100_000,
        }
    }
}
