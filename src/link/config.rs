//! Where Redis is.

use std::path::PathBuf;

use serde::Deserialize;

/// The `[redis]` section.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// `redis://` or `rediss://` (TLS) `[user:password@]host[:port][/db]`; `redis+cluster://host,host,…`,
    /// `redis+sentinel://host,host,…/service[/db]`, both with `rediss+…` too; `unix:///path`.
    /// Without it the server is alone on its machine.
    pub(crate) url: Option<String>,
    /// What every key begins with: two clusters on one Redis have different ones.
    pub(crate) prefix: String,
    /// Which cluster this is; nodes with another name do not join it.
    pub(crate) cluster: String,
    /// Longest wait for an answer, milliseconds.
    pub(crate) timeout_ms: u64,
    /// PEM file with the certificates that Redis's certificate may be signed by, in place of the system's.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            prefix: "wisp".to_owned(),
            cluster: "default".to_owned(),
            timeout_ms: 2_000,
            ca_file: None,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may have a password.
        f.debug_struct("Config")
            .field("prefix", &self.prefix)
            .field("cluster", &self.cluster)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}
