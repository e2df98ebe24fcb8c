//! Packages: actions under one name, with parameters in common; and bindings, which are somebody's own name for one.

use serde::{Deserialize, Serialize};

use super::action::Version;
use super::name::Fqn;
use super::params::{Annotations, Parameters};
use super::time::Timestamp;

/// A package, or a binding to one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Package {
    /// Where it lives and what it is called; in no package itself.
    #[serde(flatten)]
    pub fqn: Fqn,
    /// Bumped with each update.
    pub version: Version,
    /// Whether everybody may read it, bind to it and invoke what is in it.
    pub publish: bool,
    /// When it was last written.
    pub updated: Timestamp,
    /// What its actions have for parameters below their own; a binding's lie over its provider's.
    pub parameters: Parameters,
    /// Its annotations.
    pub annotations: Annotations,
    /// The package it stands for, when it is a binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Fqn>,
}
