//! Which action a web path means: `/api/v1/web/{ns}/{package or "default"}/{action}[.ext][/more/path]`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::model::{EntityName, Fqn, Namespace};

/// What all web paths start with.
pub(in crate::api) const PREFIX: &str = "/api/v1/web/";

/// What stands for "in no package".
const NO_PACKAGE: &str = "default";

/// What a client wants of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extension {
    Http,
    Json,
    Html,
    Svg,
    Text,
}

/// Every extension and its name.
const EXTENSIONS: [(Extension, &str); 5] = [
    (Extension::Http, ".http"),
    (Extension::Json, ".json"),
    (Extension::Html, ".html"),
    (Extension::Svg, ".svg"),
    (Extension::Text, ".text"),
];

/// An action, as a web path names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address<'a> {
    pub(super) action: Fqn,
    pub(super) extension: Extension,
    /// What follows the segment of the action, verbatim.
    pub(super) rest: &'a str,
}

/// Why a path means no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misaddressed {
    /// Too short.
    #[error("The requested resource could not be found.")]
    NoRoute,
    /// No action can have this name.
    #[error("The requested resource does not exist.")]
    Nothing,
    /// It says no extension where one is required.
    #[error("Extension must be specified and one of [.http, .json, .html, .svg, .text].")]
    NoExtension,
}

impl<'a> Address<'a> {
    /// Reads a path that starts with [`PREFIX`].
    pub(super) fn of(path: &'a str, extension_required: bool) -> Result<Self, Misaddressed> {
        let rest = path.strip_prefix(PREFIX).ok_or(Misaddressed::NoRoute)?;
        let (namespace, rest) = rest.split_once('/').ok_or(Misaddressed::NoRoute)?;
        let (package, rest) = rest.split_once('/').ok_or(Misaddressed::NoRoute)?;
        let (action, rest) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if namespace.is_empty() || package.is_empty() || action.is_empty() {
            return Err(Misaddressed::NoRoute);
        }
        let (namespace, package, action) =
            (decoded(namespace)?, decoded(package)?, decoded(action)?);
        let (name, extension) = match split_extension(&action) {
            Some(named) => named,
            None if extension_required => return Err(Misaddressed::NoExtension),
            None => (&*action, Extension::Http),
        };
        let entity = |text: &str| EntityName::parse(text).map_err(|_| Misaddressed::Nothing);
        Ok(Self {
            action: Fqn {
                namespace: Namespace::parse(&namespace).map_err(|_| Misaddressed::Nothing)?,
                package: match &*package {
                    NO_PACKAGE => None,
                    package => Some(entity(package)?),
                },
                name: entity(name)?,
            },
            extension,
            rest,
        })
    }
}

/// Whether `path` can mean a web action.
pub(in crate::api) fn is_address(path: &str) -> bool {
    Address::of(path, false).is_ok()
}

fn decoded(segment: &str) -> Result<Cow<'_, str>, Misaddressed> {
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.map_err(|_| Misaddressed::Nothing)
}

/// The name and the extension it ends with, if that is a known one; any other is part of the name.
fn split_extension(action: &str) -> Option<(&str, Extension)> {
    EXTENSIONS.iter().find_map(|(extension, suffix)| {
        let name = action.strip_suffix(suffix)?;
        Some((name, *extension))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Result<(String, Extension, String), Misaddressed> {
        let path = format!("{PREFIX}{path}");
        let address = Address::of(&path, false)?;
        let name = address.action.to_string();
        Ok((name, address.extension, address.rest.to_owned()))
    }

    #[test]
    fn extensions_are_suffixes_of_the_action_alone() {
        for (path, name, extension, rest) in [
            ("guest/default/a", "guest/a", Extension::Http, ""),
            ("guest/default/a.http", "guest/a", Extension::Http, ""),
            ("guest/default/a.json", "guest/a", Extension::Json, ""),
            ("guest/p/a.html", "guest/p/a", Extension::Html, ""),
            ("guest/p/a.svg/", "guest/p/a", Extension::Svg, "/"),
            (
                "guest/p/a.text/x/y.json",
                "guest/p/a",
                Extension::Text,
                "/x/y.json",
            ),
            (
                "guest/default/foo.xyz",
                "guest/foo.xyz",
                Extension::Http,
                "",
            ),
            ("guest/default/a.JSON", "guest/a.JSON", Extension::Http, ""),
            (
                "guest/default/a.json.http",
                "guest/a.json",
                Extension::Http,
                "",
            ),
            (
                "g%40b/p%20q/a%20b.json/%20",
                "g@b/p q/a b",
                Extension::Json,
                "/%20",
            ),
        ] {
            let expected = (name.to_owned(), extension, rest.to_owned());
            assert_eq!(read(path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_an_action_is_nothing() {
        for path in ["", "guest", "guest/p", "guest/p/", "//a", "guest//a"] {
            assert_eq!(read(path), Err(Misaddressed::NoRoute), "{path}");
        }
        for path in [
            "guest/p/.json",
            "guest/p/$a",
            "guest/%ff/a",
            "é/p/a",
            "guest/p/a%2Fb",
        ] {
            assert_eq!(read(path), Err(Misaddressed::Nothing), "{path}");
        }
    }

    #[test]
    fn an_extension_can_be_required() {
        let path = format!("{PREFIX}guest/p/a.xyz");
        assert_eq!(Address::of(&path, true), Err(Misaddressed::NoExtension));
    }
}
