//! Rules: which action runs when a trigger fires.

use serde::{Deserialize, Serialize};

use super::action::Version;
use super::name::Fqn;
use super::params::Annotations;
use super::time::Timestamp;

/// A rule. Whether it is active stands in its trigger, so that firing reads one entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Where it lives and what it is called; in no package.
    #[serde(flatten)]
    pub fqn: Fqn,
    /// Bumped with each update.
    pub version: Version,
    /// Kept and ignored.
    pub publish: bool,
    /// When it was last written.
    pub updated: Timestamp,
    /// Its annotations.
    pub annotations: Annotations,
    /// Whose fires it listens to.
    pub trigger: Fqn,
    /// What it runs; through a binding where the client said so.
    pub action: Fqn,
}
