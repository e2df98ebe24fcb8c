//! Kinds of actions: which language or format the code is in.

use serde::{Deserialize, Serialize};

/// One runtime of the manifest that `GET /` lists.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Runtime {
    /// `family:version`.
    pub kind: &'static str,
    /// Shown to clients that expect a container image; there is none.
    pub image: &'static str,
    /// What `family:default` means.
    pub default: bool,
    /// May be read and deleted, not updated or invoked.
    pub deprecated: bool,
    /// Code travels as an attachment in OpenWhisk's store; kept for clients that read it.
    pub attached: bool,
    /// `main` must be given.
    #[serde(rename = "requireMain")]
    pub require_main: bool,
}

/// The kind of actions made of others.
pub const SEQUENCE: &str = "sequence";

/// The kind of actions that the server does itself; no client can make one.
pub const BUILTIN: &str = "builtin";

/// The kind of OpenWhisk's container images, which nobody can make here.
const BLACKBOX: &str = "blackbox";

/// A language whose source is taken as it is and run by an engine of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// JavaScript, `nodejs:*`.
    JavaScript,
    /// Python, `python:*`.
    Python,
}

impl Language {
    /// Every language, in the order their engines are made ready.
    pub const ALL: [Self; 2] = [Self::JavaScript, Self::Python];

    /// The language of a concrete kind; `None` for one whose code is WebAssembly.
    #[must_use]
    pub fn of_kind(kind: &str) -> Option<Self> {
        match kind.split_once(':')?.0 {
            "nodejs" => Some(Self::JavaScript),
            "python" => Some(Self::Python),
            _ => None,
        }
    }

    /// As people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
        }
    }
}

/// A kind as most are: nothing about it is special.
const fn usual(kind: &'static str, image: &'static str, default: bool) -> Runtime {
    Runtime {
        kind,
        image,
        default,
        deprecated: false,
        attached: true,
        require_main: false,
    }
}

const JAVASCRIPT: &str = "wisp/javascript:1";
const PYTHON: &str = "wisp/python:3.13";

/// Every family and its kinds, in the order they are listed.
///
/// There is one engine for each language. The other versions are there because clients and manifests name them; what they
/// run on is what `image` says.
pub const FAMILIES: &[(&str, &[Runtime])] = &[
    ("wasm", &[usual("wasm:1", "wisp/wasm:1", true)]),
    (
        "nodejs",
        &[
            usual("nodejs:18", JAVASCRIPT, false),
            usual("nodejs:20", JAVASCRIPT, true),
            usual("nodejs:22", JAVASCRIPT, false),
        ],
    ),
    (
        "python",
        &[
            usual("python:3", PYTHON, false),
            usual("python:3.10", PYTHON, false),
            usual("python:3.11", PYTHON, false),
            usual("python:3.12", PYTHON, false),
            usual("python:3.13", PYTHON, true),
        ],
    ),
];

/// Trims, lowers, and replaces `family:default` by the family's default kind; `None` for a kind nobody has.
#[must_use]
pub fn resolve(kind: &str) -> Option<&'static Runtime> {
    let kind = kind.trim().to_lowercase();
    let mut all = FAMILIES
        .iter()
        .flat_map(|(family, kinds)| kinds.iter().map(move |k| (*family, k)));
    all.find(|(family, runtime)| {
        runtime.kind == kind || (runtime.default && kind.strip_suffix(":default") == Some(*family))
    })
    .map(|(_, runtime)| runtime)
}

/// Whether `kind`, as a client writes it, is that of actions made of others.
#[must_use]
pub fn is_sequence(kind: &str) -> bool {
    kind.trim().eq_ignore_ascii_case(SEQUENCE)
}

/// What a client is told about a kind nobody has.
#[must_use]
pub fn unsupported(kind: &str) -> String {
    let known = FAMILIES.iter().flat_map(|(_, kinds)| kinds.iter());
    let known = known.map(|runtime| runtime.kind).chain([SEQUENCE]);
    let known: Vec<String> = known.map(|kind| format!("'{kind}'")).collect();
    let known = known.join(", ");
    let why = if kind.trim().eq_ignore_ascii_case(BLACKBOX) {
        ", which runs no container images: it runs code in WebAssembly sandboxes"
    } else {
        ""
    };
    format!(
        "The specified runtime '{kind}' is not supported by this platform{why}. Valid values are: {known}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_resolves_to_a_concrete_kind() {
        assert_eq!(resolve(" WASM:default ").map(|r| r.kind), Some("wasm:1"));
        assert_eq!(resolve("wasm:1").map(|r| r.kind), Some("wasm:1"));
        assert!(resolve("wasm").is_none());
        assert!(resolve("cobol:default").is_none());
    }

    #[test]
    fn languages_are_those_of_their_families() {
        assert_eq!(Language::of_kind("nodejs:22"), Some(Language::JavaScript));
        assert_eq!(Language::of_kind("python:3.11"), Some(Language::Python));
        for kind in ["wasm:1", "sequence", "nodejsx:1", ""] {
            assert_eq!(Language::of_kind(kind), None, "{kind}");
        }
    }

    #[test]
    fn every_family_has_one_default() {
        for (family, kinds) in FAMILIES {
            assert_eq!(kinds.iter().filter(|k| k.default).count(), 1, "{family}");
        }
    }
}
