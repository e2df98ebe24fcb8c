//! Lua scripts: what must happen at once, or not at all.

use std::sync::OnceLock;

use redis::{Cmd, ToRedisArgs};

/// A script, sent by its digest; its text follows where the server does not know it.
///
/// All keys of one call have the same hash tag, so that scripts work on a Redis Cluster.
pub(crate) struct Script {
    text: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    /// A script of this text.
    pub(crate) const fn new(text: &'static str) -> Self {
        Self {
            text,
            digest: OnceLock::new(),
        }
    }

    fn digest(&self) -> &str {
        self.digest
            .get_or_init(|| redis::Script::new(self.text).get_hash().to_owned())
    }

    /// A call of it; arguments are appended with [`Cmd::arg`].
    pub(crate) fn call<K: ToRedisArgs>(&self, keys: &[K]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.digest()).arg(keys.len());
        for key in keys {
            command.arg(key);
        }
        command
    }

    /// The same call with the text in place of the digest.
    pub(super) fn with_text(&self, call: &Cmd) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.text);
        for argument in call.args_iter().skip(2) {
            match argument {
                redis::Arg::Simple(bytes) => command.arg(bytes),
                // None of ours have cursors.
                _ => &mut command,
            };
        }
        command
    }
}
