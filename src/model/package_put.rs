//! What a client sends to create or update a package or a binding.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::name::{EntityName, Fqn, Namespace};
use super::put::{Common, Malformed, body_of, typed};

/// The body of `PUT …/packages/{name}`.
#[derive(Debug, Clone, Default)]
pub struct PackagePut {
    /// What every entity has.
    pub common: Common,
    /// What it stands for; `None` where the body says `{}` or nothing.
    pub binding: Option<Fqn>,
}

impl PackagePut {
    /// Reads a body sent by `own`.
    ///
    /// # Errors
    /// In the words of the wire, saying which field is wrong.
    pub fn parse(body: &[u8], own: &Namespace) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(borrow, default)]
            binding: Option<&'a RawValue>,
        }
        let raw: Raw<'_> = body_of(body)?;
        let binding = raw.binding.map(|raw| binding(raw, own)).transpose()?;
        Ok(Self {
            common: Common::parse(body)?,
            binding: binding.flatten(),
        })
    }
}

/// `{}` is none.
fn binding(raw: &RawValue, own: &Namespace) -> Result<Option<Fqn>, Malformed> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default)]
        namespace: Option<String>,
        #[serde(default)]
        name: Option<String>,
    }
    const WRONG: &str =
        "'binding' must be an empty object or an object with strings 'namespace' and 'name'";
    if !raw.get().starts_with('{') {
        return Err(WRONG.into());
    }
    let (namespace, name) = match typed(raw, WRONG)? {
        Raw {
            namespace: None,
            name: None,
        } => return Ok(None),
        Raw { namespace, name } => (namespace.ok_or(WRONG)?, name.ok_or(WRONG)?),
    };
    let wrong = |error: super::name::BadName| Malformed(error.to_string());
    Ok(Some(Fqn {
        namespace: if namespace == "_" {
            own.clone()
        } else {
            Namespace::parse(&namespace).map_err(wrong)?
        },
        package: None,
        name: EntityName::parse(&name).map_err(wrong)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_is_read_in_all_its_forms() {
        let own = Namespace::parse("guest").unwrap();
        let parse = |body: &str| PackagePut::parse(body.as_bytes(), &own);
        for none in ["{}", r#"{"binding":{}}"#, r#"{"binding":null}"#] {
            assert_eq!(parse(none).unwrap().binding, None, "{none}");
        }
        let bound = parse(r#"{"binding":{"namespace":"_","name":"p"}}"#).unwrap();
        assert_eq!(bound.binding.unwrap().to_string(), "guest/p");
        for bad in [
            r#"{"binding":"p"}"#,
            r#"{"binding":["a","b"]}"#,
            r#"{"binding":{"name":"p"}}"#,
            r#"{"binding":{"namespace":"a","name":"p/q"}}"#,
            r#"{"binding":{"namespace":"a/b","name":"p"}}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
