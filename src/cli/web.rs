//! Actions on the web: the flags that turn one into a web action, and where it is served then.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::client::{Client, EntityPath, encode};
use super::entity::{annotate, annotation};
use super::failure::{Failure, Result};

/// The annotation that holds what a caller must know.
pub(super) const SECRET: &str = "require-whisk-auth";

/// `--web` and `--web-secure`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Web")]
pub(super) struct Web {
    /// Serve it on the web; `raw` leaves query and body as they come
    #[arg(long, value_name = "MODE", ignore_case = true)]
    web: Option<Mode>,
    /// Ask callers for a secret in X-Require-Whisk-Auth: `true` makes one, `false` asks no more, else it is the secret
    #[arg(long, value_name = "SECRET")]
    web_secure: Option<String>,
}

/// How an action is on the web.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    #[value(alias = "true")]
    Yes,
    #[value(alias = "false")]
    No,
    Raw,
}

impl Mode {
    /// The annotations that make it so.
    pub(super) fn annotations(self) -> [(&'static str, Value); 3] {
        [
            ("web-export", json!(self != Self::No)),
            ("raw-http", json!(self == Self::Raw)),
            ("final", json!(self != Self::No)),
        ]
    }
}

impl Web {
    /// Puts what was said into the body of a `PUT`; `existing` is asked for the action as it is, when that matters.
    pub(super) fn lay_over(
        &self,
        body: &mut Value,
        existing: impl FnOnce() -> Result<Option<Value>>,
    ) -> Result<()> {
        if let Some(mode) = self.web {
            for (key, value) in mode.annotations() {
                annotate(&mut body["annotations"], key, value);
            }
        }
        let Some(secure) = &self.web_secure else {
            return Ok(());
        };
        let existing = existing()?.unwrap_or(Value::Null);
        let is_web = match self.web {
            Some(mode) => mode != Mode::No,
            None => is_web(body) || is_web(&existing),
        };
        if !is_web {
            let message = "The --web-secure option is only valid when the --web option is enabled.";
            return Err(Failure::usage(message).advise("Say --web yes too."));
        }
        match secure.to_ascii_lowercase().as_str() {
            "false" | "no" => {
                if let Some(annotations) = body["annotations"].as_array_mut() {
                    annotations.retain(|annotation| annotation["key"] != SECRET);
                }
                match body["delAnnotations"].as_array_mut() {
                    Some(names) => names.push(json!(SECRET)),
                    None => body["delAnnotations"] = json!([SECRET]),
                }
            }
            "true" | "yes" => {
                // Whoever knows the one there is keeps access.
                let kept = annotation(&existing, SECRET).filter(|value| value.is_u64());
                let secret = kept.cloned().map_or_else(fresh_secret, Ok)?;
                annotate(&mut body["annotations"], SECRET, secret);
            }
            _ => annotate(&mut body["annotations"], SECRET, json!(secure)),
        }
        Ok(())
    }
}

/// Whether an action is served on the web.
pub(super) fn is_web(action: &Value) -> bool {
    annotation(action, "web-export") == Some(&Value::Bool(true))
}

/// A number nobody guesses, small enough for every JSON parser.
fn fresh_secret() -> Result<Value> {
    let number = getrandom::u64()
        .map_err(|error| Failure::general(format!("no random number for a secret: {error}")))?;
    Ok(json!(number >> 11))
}

/// Where a web action is served, without an extension; `namespace` is the real name of its namespace.
pub(super) fn url(client: &Client<'_>, namespace: &str, name: &EntityPath) -> String {
    let package = name.package().unwrap_or("default");
    format!(
        "{}{}/{}/{}/{}",
        client.base(),
        client.web(),
        encode(namespace),
        encode(package),
        encode(name.name())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(web: Option<&str>, secure: Option<&str>, existing: Value) -> Result<Value> {
        let flags = Web {
            web: web.map(|mode| Mode::from_str(mode, true).unwrap()),
            web_secure: secure.map(str::to_owned),
        };
        let mut body = json!({});
        flags.lay_over(&mut body, || Ok(Some(existing)))?;
        Ok(body)
    }

    fn of(body: &Value, key: &str) -> Value {
        annotation(body, key).cloned().unwrap_or(Value::Null)
    }

    #[test]
    fn modes_are_the_annotations_of_wsk() {
        for (mode, export, raw) in [
            ("yes", true, false),
            ("TRUE", true, false),
            ("raw", true, true),
            ("no", false, false),
            ("false", false, false),
        ] {
            let body = laid(Some(mode), None, Value::Null).unwrap();
            assert_eq!(of(&body, "web-export"), export, "{mode}");
            assert_eq!(of(&body, "raw-http"), raw, "{mode}");
            assert_eq!(of(&body, "final"), export, "{mode}");
        }
    }

    #[test]
    fn a_secret_is_made_kept_or_taken_away() {
        let body = laid(Some("yes"), Some("true"), Value::Null).unwrap();
        assert!(of(&body, SECRET).as_u64().unwrap() < 1 << 53);
        let existing = json!({"annotations": [
            {"key": "web-export", "value": true}, {"key": SECRET, "value": 5},
        ]});
        let body = laid(None, Some("true"), existing.clone()).unwrap();
        assert_eq!(of(&body, SECRET), 5);
        let body = laid(None, Some("mine"), existing.clone()).unwrap();
        assert_eq!(of(&body, SECRET), "mine");
        let body = laid(None, Some("false"), existing).unwrap();
        assert_eq!(body["delAnnotations"], json!([SECRET]));
        let refused = laid(None, Some("true"), json!({})).unwrap_err();
        assert_eq!(refused.exit, 2);
    }
}
