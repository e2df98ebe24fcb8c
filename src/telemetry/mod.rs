//! What the program says about itself while it runs: logs on stderr.
//!
//! A line is a sentence for people with fields for machines; `format = "json"` makes every line one JSON object.
//! Standard output is never written to here, so that what a command prints can be piped.

pub(crate) mod cluster;
mod histogram;
pub(crate) mod metrics;

use std::io::IsTerminal;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// The `[log]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How lines look.
    pub format: Format,
    /// Which lines are written: `info`, or targets, as `info,wisp::worker=debug`.
    pub filter: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: Format::Human,
            filter: "info".to_owned(),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people: time, level, sentence, fields.
    Human,
    /// For machines: one JSON object per line.
    Json,
}

impl Config {
    /// What is wrong with it, if anything: the key and the reason.
    ///
    /// # Errors
    /// When the filter cannot be read.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        self.filter().map(drop).map_err(|reason| ("filter", reason))
    }

    fn filter(&self) -> Result<EnvFilter, String> {
        EnvFilter::builder()
            .parse(&self.filter)
            .map_err(|error| format!("'{}' is no log filter: {error}", self.filter))
    }
}

/// Starts logging, once per process; a second call changes nothing.
///
/// # Errors
/// When the filter cannot be read.
pub fn init(config: &Config, colour: bool) -> Result<(), String> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(config.filter()?)
        .with_writer(std::io::stderr);
    let started = match config.format {
        Format::Human => lines
            .with_ansi(colour && std::io::stderr().is_terminal())
            .with_target(false)
            .try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    // Only tests start it twice, and they are content with the first.
    drop(started);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_is_refused_by_name() {
        let config = Config {
            filter: "wisp=loud".to_owned(),
            ..Config::default()
        };
        let (key, reason) = config.validate().expect_err("no such level");
        assert_eq!(key, "filter");
        assert!(reason.contains("wisp=loud"), "{reason}");
        assert_eq!(Config::default().validate(), Ok(()));
    }
}
