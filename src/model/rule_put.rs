//! What a client sends to create, update, enable or disable a rule.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::name::{Fqn, Namespace};
use super::put::{Common, Malformed, NamePut, body_of, typed};

/// The body of `PUT …/rules/{name}`.
#[derive(Debug, Clone, Default)]
pub struct RulePut {
    /// What every entity has; rules have no parameters.
    pub common: Common,
    /// Whose fires it listens to.
    pub trigger: Option<Fqn>,
    /// What it runs.
    pub action: Option<Fqn>,
}

impl RulePut {
    /// Reads a body sent by `own`.
    ///
    /// # Errors
    /// In the words of the wire, saying which field is wrong.
    pub fn parse(body: &[u8], own: &Namespace) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(borrow, default)]
            trigger: Option<&'a RawValue>,
            #[serde(borrow, default)]
            action: Option<&'a RawValue>,
        }
        let raw: Raw<'_> = body_of(body)?;
        let name = |raw: &RawValue| NamePut::parse(raw)?.resolve(own);
        Ok(Self {
            common: Common::parse(body)?,
            trigger: raw.trigger.map(name).transpose()?,
            action: raw.action.map(name).transpose()?,
        })
    }
}

/// Reads the body of `POST …/rules/{name}`: whether the rule is to be active.
///
/// # Errors
/// In the words of the wire, for a body without a status or with one that nobody knows.
pub fn parse_status(body: &[u8]) -> Result<bool, Malformed> {
    #[derive(Deserialize)]
    struct Raw<'a> {
        #[serde(borrow, default)]
        status: Option<&'a RawValue>,
    }
    let raw: Raw<'_> = body_of(body)?;
    let raw = raw
        .status
        .ok_or("Object is missing required member 'status'")?;
    let unknown = format!("'{}' is not a recognized rule state", raw.get());
    let status: String = typed(raw, &unknown)?;
    match status.as_str() {
        "active" => Ok(true),
        "inactive" => Ok(false),
        other => Err(Malformed(format!(
            "'{other}' is not a recognized rule state"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_strings_or_objects_and_need_a_namespace() {
        let own = Namespace::parse("guest").unwrap();
        let parse = |body: &str| RulePut::parse(body.as_bytes(), &own);
        let put = parse(r#"{"trigger":"/_/t","action":{"path":"_/p","name":"a"},"status":""}"#);
        let put = put.unwrap();
        assert_eq!(put.trigger.unwrap().to_string(), "guest/t");
        assert_eq!(put.action.unwrap().to_string(), "guest/p/a");
        let text = parse(r#"{"trigger":"t"}"#).unwrap_err().0;
        assert!(text.starts_with("requirement failed: The fully qualified name"));
        for bad in [r#"{"trigger":7}"#, r#"{"action":{"path":"guest"}}"#, "[]"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_status_is_one_of_two() {
        assert_eq!(parse_status(br#"{"status":"active"}"#), Ok(true));
        let tolerated = br#"{"status":"inactive","trigger":null,"action":null}"#;
        assert_eq!(parse_status(tolerated), Ok(false));
        for bad in [r#"{"status":"on"}"#, r#"{"status":7}"#] {
            let text = parse_status(bad.as_bytes()).unwrap_err().0;
            assert!(text.ends_with("is not a recognized rule state"), "{text}");
        }
        assert!(parse_status(b"{}").is_err());
    }
}
