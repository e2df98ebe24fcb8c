//! Activations: the record of one run.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::action::Version;
use super::json::Json;
use super::name::{EntityName, Namespace};
use super::params::Annotations;
use super::time::Timestamp;

/// 128 bits, printed as 32 hex digits. The first 48 are the milliseconds at which it was made (as in UUID version 7),
/// so ids sort by time and the store finds a record without an index of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivationId(pub u128);

/// Why a text is no activation id; the texts are those of the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadActivationId {
    /// Not 32 characters.
    #[error("Activation id length is {0} but must be 32.")]
    Length(usize),
    /// Not hex digits.
    #[error("The activation id is not valid.")]
    Characters,
}

impl ActivationId {
    /// An id made at `now` from 80 bits of `random`.
    #[must_use]
    pub fn new(now: Timestamp, random: u128) -> Self {
        let time = u128::from(now.millis() & ((1 << 48) - 1)) << 80;
        let version = 7 << 76;
        let variant = 2 << 62;
        let random = random & !(0xf << 76) & !(3 << 62) & ((1 << 80) - 1);
        Self(time | version | variant | random)
    }

    /// When it was made, for ids made by [`ActivationId::new`].
    #[must_use]
    pub fn made_at(self) -> Timestamp {
        Timestamp(u64::try_from(self.0 >> 80).unwrap_or(u64::MAX))
    }
}

/// Hashes the ids of activations that this server made: their lower half is random as it stands.
///
/// Not for maps that others can put ids into.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        let low = u64::try_from(id & u128::from(u64::MAX)).unwrap_or_default();
        // The two bits that say which kind of id it is are always the same, and maps look at the upper ones.
        self.0 = low << 2;
    }
}

impl fmt::Display for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ActivationId {
    type Err = BadActivationId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = text.chars().count();
        if count != 32 {
            return Err(BadActivationId::Length(count));
        }
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(BadActivationId::Characters);
        }
        u128::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| BadActivationId::Characters)
    }
}

impl Serialize for ActivationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ActivationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// How an activation ended, as the wire words it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// The action answered.
    #[serde(rename = "success")]
    Success,
    /// The action said `error`.
    #[serde(rename = "application error")]
    ApplicationError,
    /// The action trapped, timed out, ran out of memory, or answered no JSON.
    #[serde(rename = "action developer error")]
    DeveloperError,
    /// The platform failed.
    #[serde(rename = "whisk internal error")]
    InternalError,
}

impl Status {
    /// The number list rows carry.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::ApplicationError => 1,
            Self::DeveloperError => 2,
            Self::InternalError => 3,
        }
    }

    /// The wire's words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ApplicationError => "application error",
            Self::DeveloperError => "action developer error",
            Self::InternalError => "whisk internal error",
        }
    }
}

/// What the action answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// How it ended.
    pub status: Status,
    /// Characters of the raw answer, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The answer, or `{"error": …}`.
    pub result: Json,
}

impl Response {
    /// `{"error": "<text>"}` under `status`.
    #[must_use]
    pub fn error(status: Status, text: &str) -> Self {
        let result = Json::from_serialize(&serde_json::json!({ "error": text }));
        Self {
            status,
            size: None,
            result,
        }
    }
}

/// The record of one activation, as it is kept. Its wire forms are made in `api/activations.rs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Activation {
    /// The invoker's namespace, where the record lives.
    pub namespace: Namespace,
    /// The action's own name.
    pub name: EntityName,
    /// The action's version.
    pub version: Version,
    /// Who invoked it.
    pub subject: Namespace,
    /// Its id.
    pub id: ActivationId,
    /// When it started to run.
    pub start: Timestamp,
    /// When it ended; none for triggers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Timestamp>,
    /// Milliseconds it took, init included; none for triggers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// The sequence or composition that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<ActivationId>,
    /// What it answered.
    pub response: Response,
    /// Log lines, stamped.
    #[serde(default)]
    pub logs: Arc<[String]>,
    /// `path`, `kind`, `limits`, `waitTime`, `initTime`, …
    pub annotations: Annotations,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_hex_digits_and_sort_by_time() {
        let early = ActivationId::new(Timestamp(1_700_000_000_000), u128::MAX);
        let late = ActivationId::new(Timestamp(1_700_000_000_001), 0);
        assert!(early < late);
        assert_eq!(early.made_at(), Timestamp(1_700_000_000_000));
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(early.to_string().len(), 32);
    }

    #[test]
    fn bad_ids_are_refused_in_the_words_of_the_wire() {
        let refusal = |text: &str| text.parse::<ActivationId>().expect_err("bad").to_string();
        assert_eq!(refusal("abc"), "Activation id length is 3 but must be 32.");
        assert_eq!(refusal(&"g".repeat(32)), "The activation id is not valid.");
        assert_eq!(refusal(&"+1".repeat(16)), "The activation id is not valid.");
    }
}
