//! Parameters and annotations: lists of `{"key": …, "value": …}`.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digest::Digest;
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
    /// Cipher the value is stored under, or what the client said it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// What an encrypted value says, once it was decrypted; never shown or stored.
    #[serde(skip)]
    pub opened: Option<Json>,
    /// Of an encrypted value's clear text, where its owner asked for that; never stored, and nothing that is given counts.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl Parameter {
    /// The value as the action sees it; `None` when it is encrypted and was not decrypted.
    #[must_use]
    pub fn plain(&self) -> Option<&Json> {
        match &self.encryption {
            None => Some(&self.value),
            Some(_) => self.opened.as_ref(),
        }
    }
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

    /// `self` with those of `over` laid over, key by key.
    #[must_use]
    pub fn overlaid(&self, over: &Self) -> Self {
        let below = self
            .0
            .iter()
            .filter(|p| over.0.iter().all(|o| o.key != p.key));
        Self(below.chain(&over.0).cloned().collect())
    }

    /// Notes the digest of what each encrypted value says, by which whoever has `salt` and knows the value recognises it.
    pub fn digest(&mut self, salt: &str) {
        for parameter in self.0.iter_mut().filter(|one| one.encryption.is_some()) {
            let opened = parameter.opened.as_ref();
            parameter.digest = opened.map(|value| digest(salt, &value.to_value()));
        }
    }

    /// The first that is encrypted and was not decrypted.
    #[must_use]
    pub fn locked(&self) -> Option<&str> {
        let locked = self.0.iter().find(|p| p.plain().is_none());
        locked.map(|p| p.key.as_str())
    }

    /// Those delivered with each run, as one JSON object.
    #[must_use]
    pub fn run_object(&self) -> Json {
        let run = self
            .0
            .iter()
            .filter(|p| !p.init)
            .filter_map(|p| Some((p.key.clone(), p.plain()?.to_value())));
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
            .filter_map(|p| Some((p.key.clone(), text(p.plain()?))))
            .collect()
    }
}

/// What [`Parameters::digest`] notes: 64 hex digits, the same for values that differ in nothing but the order of their keys.
#[must_use]
pub fn digest(salt: &str, value: &serde_json::Value) -> String {
    // Objects are maps that are sorted by key.
    Digest::of(format!("{salt}\0{value}").as_bytes()).to_string()
}

/// One annotation of an entity or of an activation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// Name; see the registry in the OpenWhisk documentation.
    #[serde(deserialize_with = "key")]
    pub key: Cow<'static, str>,
    /// Any JSON.
    pub value: Json,
}

/// Names that every invocation looks for, and those that most actions have.
const KEYS: [&str; 12] = [
    "at-most-once",
    "conductor",
    "description",
    "exec",
    "final",
    "fresh-instance",
    "kind",
    "limits",
    "path",
    "provide-api-key",
    "raw-http",
    "web-export",
];

/// A name: the one text of it where it is well known, so that no action has to keep, nor a call to read, its own.
fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'static, str>, D::Error> {
    let given = Cow::<str>::deserialize(deserializer)?;
    Ok(match KEYS.iter().find(|known| **known == given) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(given.into_owned()),
    })
}

/// Annotations, at most one per key, in no particular order.
///
/// A record's annotations are for the most part those of every record of its action: these are shared, and only what is
/// its own is held by itself.
#[derive(Debug, Clone, Default)]
pub struct Annotations {
    shared: Arc<[Annotation]>,
    own: Vec<Annotation>,
    /// [`Annotations::wants_key`], once somebody asked.
    wants_key: OnceLock<bool>,
}

impl Annotations {
    /// Those of `shared`, to which `own_count` more will be pushed.
    #[must_use]
    pub fn sharing(shared: Arc<[Annotation]>, own_count: usize) -> Self {
        Self {
            shared,
            own: Vec::with_capacity(own_count),
            wants_key: OnceLock::new(),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Annotation> {
        self.shared.iter().chain(&self.own)
    }

    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.iter().find(|a| a.key == key).map(|a| &a.value)
    }

    /// Sets `key`, replacing what it had.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: Json) {
        let key = key.into();
        self.remove(&key);
        self.own.push(Annotation { key, value });
    }

    /// Appends `key`, which must not be there yet.
    pub fn push(&mut self, key: &'static str, value: Json) {
        self.wants_key.take();
        self.own.push(Annotation {
            key: Cow::Borrowed(key),
            value,
        });
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &str) {
        self.wants_key.take();
        if self.shared.iter().any(|a| a.key == key) {
            let kept = self.shared.iter().filter(|a| a.key != key);
            self.shared = kept.cloned().collect();
        }
        self.own.retain(|a| a.key != key);
    }

    /// Whether `key` is exactly `true`, as `final` and `web-export` want it.
    #[must_use]
    pub fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(|json| json.get() == "true")
    }

    /// Whether `key` is anything but absent, null, false, 0 or the empty string; `absent` when it is not there.
    #[must_use]
    pub fn is_truthy(&self, key: &str, absent: bool) -> bool {
        self.get(key).map_or(absent, |json| match json.get() {
            "null" | "false" | "\"\"" => false,
            text if text.starts_with(['-', '0']) => text.parse() != Ok(0.0),
            _ => true,
        })
    }

    /// Whether code so annotated is given its caller's key, or passes it on: anything but code that declines it. Asked at every
    /// call and looked up once, because looking reads the texts of several annotations.
    #[must_use]
    pub fn wants_key(&self) -> bool {
        *self.wants_key.get_or_init(|| {
            self.get("conductor").is_some() || self.is_truthy("provide-api-key", true)
        })
    }

    /// What size limits count: bytes of keys plus compact JSON of values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.iter().map(|a| a.key.len() + a.value.get().len()).sum()
    }
}

impl FromIterator<Annotation> for Annotations {
    fn from_iter<I: IntoIterator<Item = Annotation>>(all: I) -> Self {
        Self {
            own: all.into_iter().collect(),
            ..Self::default()
        }
    }
}

impl PartialEq for Annotations {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Serialize for Annotations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let own = Vec::deserialize(deserializer)?;
        Ok(Self {
            own,
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn whether_the_key_is_wanted_follows_what_the_annotations_say_now() {
        let mut annotations = Annotations::default();
        assert!(annotations.wants_key());
        annotations.set("provide-api-key", json("false"));
        assert!(!annotations.wants_key());
        annotations.push("conductor", json("true"));
        assert!(annotations.wants_key(), "its steps may want it");
        annotations.remove("conductor");
        assert!(!annotations.wants_key());
        annotations.set("provide-api-key", json("\"yes\""));
        assert!(annotations.wants_key());
    }
}
