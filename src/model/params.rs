//! Parameters and annotations: lists of `{"key": …, "value": …}`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::json::Json;

/// One bound parameter of an action, package or trigger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Name, as the action sees it.
    pub key: String,
    /// Any JSON; null allowed.
    pub value: Json,
    /// Delivered as an environment variable at init instead of with each run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub init: bool,
    /// Cipher the value is stored under, as the client said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
}

/// Bound parameters, at most one per key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parameters(pub Vec<Parameter>);

impl Parameters {
    /// What size limits count: bytes of keys plus compact JSON of values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0
            .iter()
            .map(|p| p.key.len() + p.value.get().len())
            .sum()
    }

    /// Those delivered with each run, as one JSON object.
    #[must_use]
    pub fn run_object(&self) -> Json {
        let run = self
            .0
            .iter()
            .filter(|p| !p.init)
            .map(|p| (p.key.clone(), p.value.to_value()));
        Json::from_serialize(&run.collect::<serde_json::Map<_, _>>())
    }

    /// Those delivered at init: name and text (strings raw, everything else compact JSON).
    #[must_use]
    pub fn init_env(&self) -> Vec<(String, String)> {
        let text = |json: &Json| match json.to_value() {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        self.0
            .iter()
            .filter(|p| p.init)
            .map(|p| (p.key.clone(), text(&p.value)))
            .collect()
    }
}

/// One annotation of an entity or of an activation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// Name; see the registry in the OpenWhisk documentation.
    pub key: Cow<'static, str>,
    /// Any JSON.
    pub value: Json,
}

/// Annotations, at most one per key, in no particular order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Annotations(pub Vec<Annotation>);

impl Annotations {
    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.0.iter().find(|a| a.key == key).map(|a| &a.value)
    }

    /// Sets `key`, replacing what it had.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: Json) {
        let key = key.into();
        match self.0.iter_mut().find(|a| a.key == key) {
            Some(found) => found.value = value,
            None => self.0.push(Annotation { key, value }),
        }
    }

    /// Appends `key`, which must not be there yet.
    pub fn push(&mut self, key: &'static str, value: Json) {
        self.0.push(Annotation {
            key: Cow::Borrowed(key),
            value,
        });
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|a| a.key != key);
    }

    /// Whether `key` is exactly `true`, as `final` and `web-export` want it.
    #[must_use]
    pub fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(|json| json.get() == "true")
    }

    /// Whether `key` is anything but absent, null, false, 0 or the empty string; `absent` when it is not there.
    #[must_use]
    pub fn is_truthy(&self, key: &str, absent: bool) -> bool {
        self.get(key).map_or(absent, |json| match json.to_value() {
            serde_json::Value::Null => false,
            serde_json::Value::Bool(value) => value,
            serde_json::Value::Number(number) => number.as_f64() != Some(0.0),
            serde_json::Value::String(text) => !text.is_empty(),
            _ => true,
        })
    }

    /// What size limits count: bytes of keys plus compact JSON of values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0
            .iter()
            .map(|a| a.key.len() + a.value.get().len())
            .sum()
    }
}
