//! A feed: the action that brings the events of a trigger. A server knows nothing of feeds; clients tell a feed what
//! becomes of its trigger, by invoking it with a lifecycle event.

use serde_json::{Map, Value, json};

use super::client::{Client, EntityPath};
use super::entity::annotation;
use super::failure::{Failure, Result};

/// What a feed is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Begin to fire the trigger.
    Create,
    /// Say how you are set up.
    Read,
    /// Fire it otherwise.
    Update,
    /// Do not fire it any more.
    Delete,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Read => "READ",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// A feed, and the trigger that is its concern.
#[derive(Debug)]
pub(super) struct Feed<'c> {
    client: &'c Client<'c>,
    pub(super) action: EntityPath,
    trigger: EntityPath,
}

impl<'c> Feed<'c> {
    /// The feed called `action`.
    pub(super) fn named(
        client: &'c Client<'c>,
        action: &str,
        trigger: &EntityPath,
    ) -> Result<Self> {
        Ok(Self {
            client,
            action: EntityPath::parse(action, client.namespace())?,
            trigger: trigger.clone(),
        })
    }

    /// The feed `trigger` has by its annotation.
    pub(super) fn of(
        client: &'c Client<'c>,
        name: &EntityPath,
        trigger: &Value,
    ) -> Result<Option<Self>> {
        let action = annotation(trigger, "feed").and_then(Value::as_str);
        let Some(action) = action.filter(|action| !action.is_empty()) else {
            return Ok(None);
        };
        // As annotations have it: `/namespace/package/feed`, also without the first slash.
        let action = match action.matches('/').count() {
            2 if !action.starts_with('/') => format!("/{action}"),
            _ => action.to_owned(),
        };
        Self::named(client, &action, name).map(Some)
    }

    /// Tells the feed what happens, and waits for what it makes of it: the record of its activation.
    pub(super) fn tell(&self, event: Event, mut parameters: Map<String, Value>) -> Result<Value> {
        parameters.insert("lifecycleEvent".to_owned(), json!(event.name()));
        parameters.insert("triggerName".to_owned(), json!(self.trigger.to_string()));
        parameters.insert("authKey".to_owned(), json!(self.client.auth()));
        let path = self.action.in_collection("actions");
        let path = self.client.path(&self.action.namespace, &path);
        let query = [
            ("blocking", "true".to_owned()),
            ("result", "false".to_owned()),
        ];
        let body = Value::Object(parameters);
        let answer = self.client.send("POST", &path, &query, Some(&body));
        let attempt = format!("Unable to configure feed '{}'", self.action);
        let answer = answer.map_err(|f| f.while_trying(&attempt))?;
        let failure = match answer.status {
            200 => return Ok(answer.body),
            202 => Failure::status(
                202,
                &json!({"error": format!(
                    "it has not finished in time; its activation is {}",
                    answer.body["activationId"].as_str().unwrap_or("unknown")
                )}),
            ),
            status => {
                let own = reason(&answer.body["response"]["result"]["error"]);
                match own {
                    Value::Null => Failure::status(status, &answer.body),
                    own => Failure::status(status, &json!({ "error": own })),
                }
            }
        };
        Err(failure.while_trying(&attempt))
    }
}

/// What a feed says is wrong: many answer an object that says `error` once more.
fn reason(error: &Value) -> &Value {
    match &error["error"] {
        Value::Null => error,
        inner => reason(inner),
    }
}
