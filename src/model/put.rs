//! What the bodies of all PUTs have in common, read leniently where OpenWhisk is lenient and refused in its words where
//! it is not.
//!
//! Unknown fields are ignored (clients send back what they got); `null` counts as absent. Nothing here knows what is
//! stored.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::action::Version;
use super::json::Json;
use super::name::{Fqn, Namespace};
use super::params::{Annotations, Parameter, Parameters};

/// Why a body is not what it should be: what follows `The request content was malformed:` on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl From<&str> for Malformed {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// The fields that every kind of entity has.
#[derive(Debug, Clone, Default)]
pub struct Common {
    /// Instead of the next patch number.
    pub version: Option<Version>,
    /// Kept when absent.
    pub publish: Option<bool>,
    /// What is to be known about it.
    pub annotations: Option<Annotations>,
    /// Replace those there are.
    pub parameters: Option<Parameters>,
}

impl Common {
    /// Reads the fields out of a body.
    ///
    /// # Errors
    /// In the words of the wire, saying which field is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(borrow, default)]
            version: Option<&'a RawValue>,
            #[serde(borrow, default)]
            publish: Option<&'a RawValue>,
            #[serde(borrow, default)]
            annotations: Option<&'a RawValue>,
            #[serde(borrow, default)]
            parameters: Option<&'a RawValue>,
        }
        let raw: Raw<'_> = body_of(body)?;
        Ok(Self {
            version: raw.version.map(version).transpose()?,
            publish: raw.publish.map(publish).transpose()?,
            annotations: raw.annotations.map(annotations).transpose()?,
            parameters: raw.parameters.map(parameters).transpose()?,
        })
    }
}

/// The fields of a body, which must be an object.
pub(super) fn body_of<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Malformed> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        // Structs would be read from arrays, too.
        return Err("expected a JSON object".into());
    }
    Ok(serde_json::from_slice(body)?)
}

/// A qualified name, as a string or as `{"path", "name"}`; `_` stands for the caller's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePut(String);

impl NamePut {
    pub(super) fn parse(raw: &RawValue) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Parts {
            path: String,
            name: String,
        }
        const WRONG: &str = "fully qualified name malformed";
        if raw.get().starts_with('{') {
            let Parts { path, name } = typed(raw, WRONG)?;
            return Ok(Self(format!("{path}/{name}")));
        }
        typed(raw, WRONG).map(Self)
    }

    /// The name it stands for in requests of the namespace `own`.
    ///
    /// # Errors
    /// With the text of the wire when it is none.
    pub fn resolve(&self, own: &Namespace) -> Result<Fqn, Malformed> {
        Fqn::parse(&self.0, own).map_err(|error| Malformed(error.to_string()))
    }
}

/// `raw` as a `T`, or the refusal `otherwise`.
pub(super) fn typed<'a, T: Deserialize<'a>>(
    raw: &'a RawValue,
    otherwise: &str,
) -> Result<T, Malformed> {
    serde_json::from_str(raw.get()).map_err(|_| otherwise.into())
}

/// As [`typed`], for structs: those could be read from arrays, too.
pub(super) fn object<'a, T: Deserialize<'a>>(
    raw: &'a RawValue,
    otherwise: &str,
) -> Result<T, Malformed> {
    if raw.get().starts_with('{') {
        typed(raw, otherwise)
    } else {
        Err(otherwise.into())
    }
}

pub(super) fn publish(raw: &RawValue) -> Result<bool, Malformed> {
    typed(raw, "'publish' must be a boolean")
}

pub(super) fn version(raw: &RawValue) -> Result<Version, Malformed> {
    typed(raw, "semantic version malformed")
}

pub(super) fn parameters(raw: &RawValue) -> Result<Parameters, Malformed> {
    #[derive(Deserialize)]
    struct Raw<'a> {
        key: String,
        #[serde(borrow)]
        value: &'a RawValue,
        #[serde(default)]
        init: Option<bool>,
        #[serde(default)]
        encryption: Option<String>,
    }
    let mut kept: Vec<Parameter> = Vec::new();
    let given: Vec<&RawValue> = typed(raw, "parameters malformed!")?;
    for one in given {
        let one: Raw<'_> = object(one, "parameters malformed!")?;
        let parameter = Parameter {
            value: compact(one.value)?,
            key: one.key,
            init: one.init.unwrap_or(false),
            encryption: one.encryption,
            opened: None,
            digest: None,
        };
        if parameter.key.is_empty() {
            return Err("parameters malformed!".into());
        }
        match kept.iter_mut().find(|p| p.key == parameter.key) {
            Some(same) => *same = parameter,
            None => kept.push(parameter),
        }
    }
    Ok(Parameters(kept))
}

pub(super) fn annotations(raw: &RawValue) -> Result<Annotations, Malformed> {
    #[derive(Deserialize)]
    struct Raw<'a> {
        key: String,
        #[serde(borrow)]
        value: &'a RawValue,
    }
    let mut annotations = Annotations::default();
    let given: Vec<&RawValue> = typed(raw, "annotations malformed!")?;
    for one in given {
        let one: Raw<'_> = object(one, "annotations malformed!")?;
        if one.key.is_empty() {
            return Err("annotations malformed!".into());
        }
        annotations.set(one.key, compact(one.value)?);
    }
    Ok(annotations)
}

/// The value without white space between its tokens, so that limits count the same however a client prints; refused
/// where it is nested too deeply.
fn compact(raw: &RawValue) -> Result<Json, Malformed> {
    let text = raw.get();
    let mut kept = Vec::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => continue,
            _ => {}
        }
        kept.push(byte);
    }
    Json::parse(&kept).map_err(|error| Malformed(error.to_string()))
}
