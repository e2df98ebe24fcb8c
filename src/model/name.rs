//! Names: of namespaces, of entities, and fully qualified.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name, in characters.
pub const NAME_MAX: usize = 256;

/// Why a name is refused; the texts are those of the OpenWhisk wire, misspelling included.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// A character outside the grammar, or an empty name.
    #[error("The name of the entity contains illegal characters.")]
    Entity,
    /// Longer than [`NAME_MAX`].
    #[error("Name segement longer than allowed: {0} > {NAME_MAX}.")]
    EntityLong(usize),
    /// A character outside the grammar, or an empty namespace.
    #[error("The namespace contains illegal characters.")]
    Namespace,
    /// Longer than [`NAME_MAX`].
    #[error("Namespace longer than allowed: {0} > {NAME_MAX}.")]
    NamespaceLong(usize),
    /// Fewer than two segments where a qualified name is needed.
    #[error(
        "requirement failed: The fully qualified name of the entity must contain at least the namespace and the name of the entity."
    )]
    Unqualified,
}

/// First a letter, digit or underscore; then also ` @.&-`; no space at the end. ASCII only.
fn is_legal(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(word)
        && !name.ends_with(' ')
        && name
            .chars()
            .all(|c| word(c) || matches!(c, ' ' | '@' | '.' | '&' | '-'))
}

/// A namespace: a tenant's name and security boundary.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Namespace(Arc<str>);

/// The name of an action, package, trigger or rule, without its namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntityName(Arc<str>);

impl Namespace {
    /// Checks `text` (trimmed) against the grammar of names.
    ///
    /// # Errors
    /// With the text of the wire when it is illegal or too long.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let text = text.trim();
        let count = text.chars().count();
        if count > NAME_MAX {
            return Err(BadName::NamespaceLong(count));
        }
        if is_legal(text) {
            Ok(Self(text.into()))
        } else {
            Err(BadName::Namespace)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl EntityName {
    /// Checks `text` against the grammar of names.
    ///
    /// # Errors
    /// With the text of the wire when it is illegal or too long.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let count = text.chars().count();
        if count > NAME_MAX {
            return Err(BadName::EntityLong(count));
        }
        if is_legal(text) {
            Ok(Self(text.into()))
        } else {
            Err(BadName::Entity)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `namespace/name`, or `namespace/package/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fqn {
    /// Where it lives.
    pub namespace: Namespace,
    /// The package it is in, if any.
    pub package: Option<EntityName>,
    /// Its own name.
    pub name: EntityName,
}

impl Fqn {
    /// Reads `/ns/name`, `/ns/pkg/name`, or the same without the first slash; `_` as namespace means `own`.
    ///
    /// # Errors
    /// With the text of the wire when a segment is missing, superfluous or illegal.
    pub fn parse(text: &str, own: &Namespace) -> Result<Self, BadName> {
        let segments: Vec<&str> = text.strip_prefix('/').unwrap_or(text).split('/').collect();
        let (namespace, package, name) = match segments.as_slice() {
            [namespace, name] => (namespace, None, name),
            [namespace, package, name] => (namespace, Some(EntityName::parse(package)?), name),
            [_] | [] => return Err(BadName::Unqualified),
            _ => return Err(BadName::Entity),
        };
        let namespace = if *namespace == "_" {
            own.clone()
        } else {
            Namespace::parse(namespace)?
        };
        Ok(Self {
            namespace,
            package,
            name: EntityName::parse(name)?,
        })
    }

    /// `name` or `package/name`: the key within the namespace.
    #[must_use]
    pub fn path(&self) -> String {
        match &self.package {
            Some(package) => format!("{package}/{}", self.name),
            None => self.name.to_string(),
        }
    }
}

impl fmt::Display for Fqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.package {
            Some(package) => write!(f, "{}/{package}/{}", self.namespace, self.name),
            None => write!(f, "{}/{}", self.namespace, self.name),
        }
    }
}

impl fmt::Debug for Fqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! prints_as_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
prints_as_text!(Namespace);
prints_as_text!(EntityName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar_of_the_wire() {
        for good in [
            "a",
            "_",
            "9",
            "a b",
            "a@b.c&d-e",
            "Foo",
            "x".repeat(256).as_str(),
        ] {
            assert!(EntityName::parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            "", " ", "a ", "hi+there", "$hola", "dora?", "é", "a/b", "-a", ".a", "a\u{0}",
        ] {
            assert_eq!(EntityName::parse(bad), Err(BadName::Entity), "{bad:?}");
        }
        let long = "x".repeat(257);
        assert_eq!(EntityName::parse(&long), Err(BadName::EntityLong(257)));
        assert_eq!(Namespace::parse(&long), Err(BadName::NamespaceLong(257)));
    }

    #[test]
    fn underscore_is_the_callers_namespace() {
        let own = Namespace::parse("guest").expect("legal");
        let fqn = Fqn::parse("/_/pkg/a", &own).expect("legal");
        assert_eq!(fqn.to_string(), "guest/pkg/a");
        assert_eq!(Fqn::parse("a", &own), Err(BadName::Unqualified));
    }
}
