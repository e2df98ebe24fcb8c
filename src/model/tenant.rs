//! A namespace as the platform keeps it: who may use it, and how much.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::digest::Digest;
use super::limits::NamespaceLimits;
use super::name::Namespace;
use super::time::Timestamp;

/// A namespace and its one key. The key itself is never kept in clear: it is 64 characters of randomness, so a plain digest
/// of it cannot be searched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its name; also the subject of its key.
    pub namespace: Namespace,
    /// The user part of the key.
    pub uuid: Uuid,
    /// Digest of the password part of the key.
    pub key_digest: Digest,
    /// The key, encrypted, for what runs in the owner's name; none when it was made while nothing was encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_key: Option<String>,
    /// A blocked namespace's key counts as unknown.
    #[serde(default)]
    pub blocked: bool,
    /// What differs from the platform's defaults.
    #[serde(default)]
    pub limits: NamespaceLimits,
    /// When it was made.
    pub created: Timestamp,
}
