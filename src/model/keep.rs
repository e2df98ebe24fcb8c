//! Which activations leave a record: the storage policy of a namespace, and what it comes to for one call.
//!
//! A level says which outcomes are worth a record. A namespace has one for calls whose caller waited and one for those
//! that nobody waited for; a call that asks for its record gets one whatever they say.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::activation::Status;

/// Which outcomes leave a record; names are the wire's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StoreLevel {
    /// All of them.
    #[default]
    StoreAlways,
    /// All but successes.
    StoreFailures,
    /// Failures of the action's code as such and of the server, not those that the action answered itself.
    StoreFailuresNotApplicationErrors,
}

impl StoreLevel {
    /// All there are, by how much they keep.
    pub const ALL: [Self; 3] = [
        Self::StoreAlways,
        Self::StoreFailures,
        Self::StoreFailuresNotApplicationErrors,
    ];

    /// Whether an activation that ended in `status` leaves a record.
    #[must_use]
    pub fn keeps(self, status: Status) -> bool {
        match self {
            Self::StoreAlways => true,
            Self::StoreFailures => status != Status::Success,
            Self::StoreFailuresNotApplicationErrors => {
                matches!(status, Status::DeveloperError | Status::InternalError)
            }
        }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StoreAlways => "STORE_ALWAYS",
            Self::StoreFailures => "STORE_FAILURES",
            Self::StoreFailuresNotApplicationErrors => "STORE_FAILURES_NOT_APPLICATION_ERRORS",
        }
    }
}

/// What one call, and all that is made for it, leaves behind.
///
/// Written as `true` (all), `false` (nothing) or a level's name: the first two are what work that was accepted by an older
/// release says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep(Option<StoreLevel>);

impl Keep {
    /// Every record.
    pub const ALL: Self = Self(Some(StoreLevel::StoreAlways));
    /// None.
    pub const NOTHING: Self = Self(None);

    /// What `level` says.
    #[must_use]
    pub const fn at(level: StoreLevel) -> Self {
        Self(Some(level))
    }

    /// Whether an activation that ended in `status` leaves a record.
    #[must_use]
    pub fn keeps(self, status: Status) -> bool {
        self.0.is_some_and(|level| level.keeps(status))
    }
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_bool(false),
            Some(StoreLevel::StoreAlways) => serializer.serialize_bool(true),
            Some(level) => level.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Keep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a storage level")
            }

            fn visit_bool<E>(self, all: bool) -> Result<Keep, E> {
                Ok(if all { Keep::ALL } else { Keep::NOTHING })
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Keep, E> {
                let mut levels = StoreLevel::ALL.into_iter();
                let level = levels.find(|level| level.as_str() == name);
                let level = level
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(name), &self))?;
                Ok(Keep::at(level))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [Status; 4] = [
        Status::Success,
        Status::ApplicationError,
        Status::DeveloperError,
        Status::InternalError,
    ];

    #[test]
    fn each_level_keeps_what_its_name_says() {
        let kept = |keep: Keep| STATUSES.map(|status| keep.keeps(status));
        assert_eq!(kept(Keep::ALL), [true; 4]);
        assert_eq!(
            kept(Keep::at(StoreLevel::StoreFailures)),
            [false, true, true, true]
        );
        assert_eq!(
            kept(Keep::at(StoreLevel::StoreFailuresNotApplicationErrors)),
            [false, false, true, true]
        );
        assert_eq!(kept(Keep::NOTHING), [false; 4]);
    }

    #[test]
    fn it_is_read_back_as_it_was_written_and_as_it_used_to_be_written() {
        let all = StoreLevel::ALL.map(Keep::at);
        for keep in all.into_iter().chain([Keep::NOTHING]) {
            let text = serde_json::to_string(&keep).expect("JSON");
            assert_eq!(serde_json::from_str::<Keep>(&text).expect(&text), keep);
        }
        for level in StoreLevel::ALL {
            let text = serde_json::to_value(level).expect("JSON");
            assert_eq!(text, level.as_str(), "the two spellings are one");
        }
        assert_eq!(serde_json::to_string(&Keep::ALL).expect("JSON"), "true");
        assert_eq!(
            serde_json::from_str::<Keep>("false").expect("old"),
            Keep::NOTHING
        );
        assert!(serde_json::from_str::<Keep>("\"STORE_SOME\"").is_err());
    }
}
