//! Triggers: named channels of events, and the rules that listen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::action::Version;
use super::name::{EntityName, Fqn};
use super::params::{Annotations, Parameters};
use super::time::Timestamp;

/// A trigger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// Where it lives and what it is called; in no package.
    #[serde(flatten)]
    pub fqn: Fqn,
    /// Bumped with each update of its own fields, not of its rules.
    pub version: Version,
    /// Kept and ignored.
    pub publish: bool,
    /// When it was last written.
    pub updated: Timestamp,
    /// What lies below the payload of each fire.
    pub parameters: Parameters,
    /// Its annotations; `feed` names the action that fires it.
    pub annotations: Annotations,
    /// The rules of its namespace that listen to it, by name.
    #[serde(default)]
    pub rules: BTreeMap<EntityName, Link>,
}

/// What a rule is to its trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What it runs.
    pub action: Fqn,
    /// Whether it does.
    pub active: bool,
}
