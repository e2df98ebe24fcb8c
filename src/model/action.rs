//! Actions: the code to run and everything said about it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digest::Digest;
use super::json::Json;
use super::kind;
use super::limits::ActionLimits;
use super::name::{EntityName, Fqn, Namespace};
use super::params::{Annotations, Parameter, Parameters};
use super::time::Timestamp;

/// A semantic version, `major.minor.patch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The version of a new entity.
    pub const FIRST: Self = Self(0, 0, 1);

    /// The version after this one.
    #[must_use]
    pub fn bumped(self) -> Self {
        Self(self.0, self.1, self.2.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl FromStr for Version {
    type Err = &'static str;

    /// Lenient as OpenWhisk is: missing parts are 0; `0.0.0` is none.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const MALFORMED: &str = "semantic version malformed";
        let mut parts = [0u32; 3];
        let mut given = text.split('.');
        for (part, text) in parts.iter_mut().zip(given.by_ref()) {
            *part = text.parse().map_err(|_| MALFORMED)?;
        }
        if given.next().is_some() || parts == [0; 3] {
            return Err(MALFORMED);
        }
        Ok(Self(parts[0], parts[1], parts[2]))
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What an action runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Exec {
    /// Code, in a sandbox.
    Code(Code),
    /// Other actions, one after the other.
    Sequence(Sequence),
    /// Something this server does itself.
    Builtin(Builtin),
}

impl Exec {
    /// The concrete kind, as clients see it.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Code(code) => &code.kind,
            Self::Sequence(_) => kind::SEQUENCE,
            Self::Builtin(_) => kind::BUILTIN,
        }
    }

    /// The code, where that is what runs.
    #[must_use]
    pub fn code(&self) -> Option<&Code> {
        match self {
            Self::Code(code) => Some(code),
            Self::Sequence(_) | Self::Builtin(_) => None,
        }
    }
}

/// Actions of which each gets the result of the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// In order; through a binding where the client said so. At least one.
    pub components: Vec<Fqn>,
}

impl Sequence {
    /// Most actions that are no sequences themselves, those in nested sequences included.
    pub const LENGTH_MAX: usize = 50;

    /// What the wire has in place of parameters: the components under `_actions`.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        let names: Vec<String> = self.names().collect();
        Parameters(vec![Parameter {
            key: "_actions".to_owned(),
            value: Json::from_serialize(&names),
            init: false,
            encryption: None,
            opened: None,
            digest: None,
        }])
    }

    /// Its components as the wire has them, with a leading slash.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.components.iter().map(|name| format!("/{name}"))
    }
}

/// An action of the server itself; tenants cannot make one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builtin {
    /// Which one.
    pub builtin: String,
}

/// Code to run in a sandbox. The code itself is kept apart, under its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Concrete kind, `family:version`.
    pub kind: String,
    /// Entry point, when the client named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main: Option<String>,
    /// Whether the code, as sent, is base64.
    pub binary: bool,
    /// Digest of the code string as sent.
    pub code: Digest,
    /// Bytes of the code string as sent.
    pub code_size: u64,
    /// What the sandbox runs: digest of the module inside the code (unpacked, decoded, assembled).
    pub program: Digest,
    /// Whether it answers HTTP requests itself: as a web action it is given them as they come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub http: bool,
}

/// An action as it is kept, without its code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Where it lives and what it is called.
    #[serde(flatten)]
    pub fqn: Fqn,
    /// Bumped with each update.
    pub version: Version,
    /// Kept and ignored for actions outside packages.
    pub publish: bool,
    /// When it was last written.
    pub updated: Timestamp,
    /// What it runs.
    pub exec: Exec,
    /// Bound parameters.
    pub parameters: Parameters,
    /// Its limits.
    pub limits: ActionLimits,
    /// Its annotations, `exec` among them.
    pub annotations: Annotations,
    /// Which text of the action this is, counted from 1; 0 for one that was written before they were counted.
    #[serde(default)]
    pub revision: u64,
    /// The name it was reached by, when that is through a binding; never kept. Queues and instances are those of this
    /// name, because parameters that are delivered at init may differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Fqn>,
}

impl Action {
    /// `ns` or `ns/package`, as the wire's `namespace` field shows it.
    #[must_use]
    pub fn wire_namespace(&self) -> String {
        match &self.fqn.package {
            Some(package) => format!("{}/{package}", self.fqn.namespace),
            None => self.fqn.namespace.to_string(),
        }
    }

    /// The name under which it is queued and kept warm.
    #[must_use]
    pub fn address(&self) -> &Fqn {
        self.reached.as_ref().unwrap_or(&self.fqn)
    }

    /// `namespace/package` of the binding it was reached by, if it was.
    #[must_use]
    pub fn binding(&self) -> Option<String> {
        let reached = self.reached.as_ref()?;
        let package = reached.package.as_ref()?;
        Some(format!("{}/{package}", reached.namespace))
    }

    /// Whether its caller's key goes along. What is made of several actions passes it on to those that ask for it.
    #[must_use]
    pub fn wants_key(&self) -> bool {
        self.exec.code().is_none() || self.annotations.wants_key()
    }

    /// Which text of it this is, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.revision.max(1)
    }

    /// The namespace it lives in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.fqn.namespace
    }

    /// Its own name.
    #[must_use]
    pub fn name(&self) -> &EntityName {
        &self.fqn.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_leniently_and_bump_the_patch() {
        assert_eq!("1".parse(), Ok(Version(1, 0, 0)));
        assert_eq!("1.2".parse(), Ok(Version(1, 2, 0)));
        for bad in ["0.0.0", "", "x", "1.2.3.4", "-1"] {
            assert_eq!(
                bad.parse::<Version>(),
                Err("semantic version malformed"),
                "{bad:?}"
            );
        }
        assert_eq!(Version(1, 2, 3).bumped().to_string(), "1.2.4");
    }
}
