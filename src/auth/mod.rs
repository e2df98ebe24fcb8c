//! Who calls, and how much they may.
//!
//! [`keys`] turns an `Authorization` header into an [`Identity`]; [`throttle`] holds each namespace to its rate and its
//! concurrency. Both are on the path of every invocation and touch neither disk nor tree there.
//!
//! Invariants:
//! - a key in clear text is held no longer than it takes to check it, and is never logged;
//! - what an operator changes (key, block, limits, delete) holds from the next request on.

pub(crate) mod entitlement;
pub(crate) mod keys;
pub(crate) mod leased;
pub(crate) mod setup;
pub(crate) mod throttle;

use std::sync::Arc;

use serde::Deserialize;
use uuid::Uuid;

pub(crate) use keys::{Credential, Keys};
pub(crate) use setup::{WELL_KNOWN_GUEST, ensure_defaults, uses_well_known_keys};
pub(crate) use throttle::{Admission, Throttle, Window};

use crate::model::Namespace;
use crate::model::limits::EffectiveLimits;
use crate::store;

/// The namespace whose key opens the admin API.
pub(crate) const SYSTEM_NAMESPACE: &str = "whisk.system";

/// The namespace a fresh installation has for its users.
pub(crate) const GUEST_NAMESPACE: &str = "guest";

/// A caller whose key was checked.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The namespace the key belongs to; also the subject.
    pub(crate) namespace: Namespace,
    /// The first half of its key; names the tenant where its name should not be seen.
    pub(crate) uuid: Uuid,
    /// Its key as it is kept, for what runs in its name ([`Keys::api_key`]).
    pub(crate) sealed_key: Option<String>,
    /// What holds for the namespace.
    pub(crate) limits: Arc<EffectiveLimits>,
    /// Whether it may use the admin API.
    pub(crate) system: bool,
}

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    /// No `Authorization` header.
    #[error("The resource requires authentication, which was not supplied with the request")]
    Missing,
    /// Malformed, unknown, wrong or blocked; which of them is not said.
    #[error("The supplied authentication is invalid")]
    Invalid,
    /// The keys could not be read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The two keys that exist from the start, and how rates are counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// `uuid:key` of the namespace `guest`. Unset: the well-known key, made at the first start only. Set: holds from the
    /// next start on, whatever was stored. Empty: no such namespace is made.
    pub(crate) guest_key: Option<String>,
    /// `uuid:key` of the namespace `whisk.system`, which opens the admin API. Unset: the well-known key, made when there
    /// is none. Set: holds from the next start on, whatever was stored. Never empty.
    pub(crate) system_key: Option<String>,
    /// Over which time rates are counted.
    pub(crate) rate_window: Window,
}

impl Config {
    /// Key to blame, and the reason, when a key is none.
    pub(crate) fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.system_key.as_deref() == Some("") {
            return Err((
                "system_key",
                "it must not be empty: it opens the admin API".to_owned(),
            ));
        }
        for (name, key) in [
            ("guest_key", &self.guest_key),
            ("system_key", &self.system_key),
        ] {
            if let Some(key) = key.as_deref().filter(|key| !key.is_empty()) {
                key.parse::<Credential>()
                    .map_err(|why| (name, why.to_owned()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
