//! A server inside this process, for commands that want one and need none: the same parts as `wisp serve`, so that an
//! action behaves as it will there.
//!
//! What it keeps is thrown away with it, unless a folder is named. What it compiled is kept in the user's cache, so that the
//! second call of the same code finds it.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::Session;
use super::activation::stripped;
use super::failure::{Failure, Result};
use super::props::Target;
use crate::app::App;
use crate::config::{Config, Setting};
use crate::telemetry;

/// How the server is to be.
#[derive(Debug, Default)]
pub(super) struct Wish<'w> {
    /// Where it listens; anywhere on this machine when nobody says.
    pub(super) listen: Option<&'w str>,
    /// What it keeps; nothing when nobody says.
    pub(super) data: Option<&'w Path>,
    /// Its key; OpenWhisk's well-known one when nobody says.
    pub(super) key: Option<&'w str>,
    /// Whether the packages of the system are there.
    pub(super) packages: bool,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) app: App,
    /// Goes last: it holds what the server writes.
    folder: Option<TempDir>,
}

impl Local {
    /// Starts one on `runtime`.
    pub(super) fn start(session: Session<'_>, runtime: &Runtime, wish: &Wish<'_>) -> Result<Self> {
        let folder = match wish.data {
            Some(_) => None,
            None => Some(tempfile::tempdir().map_err(|error| {
                Failure::general(format!("a temporary folder cannot be made: {error}"))
            })?),
        };
        let data = folder.as_ref().map(TempDir::path).or(wish.data);
        let data = data
            .unwrap_or_else(|| Path::new("wisp-data"))
            .display()
            .to_string();
        let mut settings = vec![
            Setting::flag(
                "--listen",
                "server",
                "listen",
                wish.listen.unwrap_or("127.0.0.1:0"),
            ),
            Setting::flag("--data", "server", "data", data),
            Setting::flag(
                "--verbose",
                "log",
                "filter",
                match session.globals.verbose {
                    true => "info",
                    false => "error",
                },
            ),
            Setting::flag("this command", "system", "packages", wish.packages),
            // Compiled when an action needs one, and kept in the cache for the next.
            Setting::flag("this command", "sandbox", "engines_ahead", false),
        ];
        if let (None, Some(cache)) = (wish.data, session.environment.cache_folder()) {
            let cache = cache.display().to_string();
            settings.push(Setting::flag("this command", "server", "artefacts", cache));
        }
        if let Some(key) = wish.key {
            settings.push(Setting::flag("this command", "auth", "guest_key", key));
        }
        let refused = |error: crate::config::Error| Failure::usage(error.to_string());
        let config = Config::load(None, session.environment, settings).map_err(refused)?;
        telemetry::init(&config.log, session.environment.colour()).map_err(Failure::usage)?;
        let app = runtime.block_on(App::start(config));
        let app = app.map_err(|error| super::serve::explained(&error))?;
        Ok(Self { app, folder })
    }

    /// How a client reaches it.
    pub(super) fn target(&self) -> Result<Target> {
        let auth = self.app.guest_key().ok_or_else(|| {
            Failure::general("the guest key is not the configured one any more").advise(
                "Choose another folder with --data, or give the key with WISP_AUTH_GUEST_KEY.",
            )
        })?;
        Ok(Target {
            base: super::serve::url(self.app.address()),
            auth,
            namespace: "_".to_owned(),
            version: "v1".to_owned(),
            gateway_token: None,
            assumed: Vec::new(),
        })
    }

    /// Ends it at once, and removes what it kept.
    pub(super) fn abandon(self) {
        self.app.abandon();
        drop(self.folder);
    }

    /// Ends it in order, and removes what it kept.
    pub(super) fn stop(self, runtime: &Runtime) -> Result<()> {
        let drained = runtime.block_on(self.app.drain());
        drop(self.folder);
        drained.map_err(|error| super::serve::explained(&error))
    }
}

/// Threads for a server in this process.
pub(super) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::general(format!("cannot start threads: {error}")))
}

/// A key that nobody else knows.
pub(super) fn secret_key() -> Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::general(format!("the system has no randomness: {error}")))?;
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}:{key}", uuid::Uuid::new_v4()))
}

/// The log lines of an activation, without their times and streams.
pub(super) fn log_lines(record: &Value) -> impl Iterator<Item = &str> {
    let lines = record["logs"].as_array().into_iter().flatten();
    lines.filter_map(Value::as_str).map(stripped)
}

/// What an activation took, for people.
pub(super) fn cost(record: &Value) -> String {
    let annotation = |name: &str| {
        let all = record["annotations"].as_array().into_iter().flatten();
        let mut found = all.filter(|annotation| annotation["key"] == json!(name));
        found
            .next()
            .and_then(|annotation| annotation["value"].as_u64())
    };
    let mut parts = vec![format!(
        "{} ms",
        record["duration"].as_u64().unwrap_or_default()
    )];
    parts.extend(annotation("initTime").map(|millis| format!("of which {millis} ms to start")));
    parts.extend(annotation("peakMemory").map(|bytes| format!("{} KiB at most", bytes >> 10)));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_servers_want_them_and_never_the_same() {
        let (one, other) = (secret_key().unwrap(), secret_key().unwrap());
        let (uuid, key) = one.split_once(':').unwrap();
        assert_eq!((uuid.len(), key.len()), (36, 64));
        assert_ne!(one, other);
    }

    #[test]
    fn what_it_took_is_one_line() {
        let record = json!({"duration": 7, "annotations": [
            {"key": "initTime", "value": 5}, {"key": "peakMemory", "value": 2048},
        ]});
        assert_eq!(cost(&record), "7 ms, of which 5 ms to start, 2 KiB at most");
        assert_eq!(cost(&json!({})), "0 ms");
    }
}
