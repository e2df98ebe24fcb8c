//! A file to the `exec` of an action: its kind, and its code as the wire carries it.
//!
//! Decided by the bytes first and by the name second: Wasm and zips travel as base64, so that no JSON encoder mangles
//! them; text travels as it is.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::failure::{Failure, Result};

/// The kind of everything the sandbox runs as it is.
const WASM: &str = "wasm:default";

/// Languages by the extension of their source.
const LANGUAGES: [(&str, &str); 4] = [
    ("js", "nodejs:default"),
    ("mjs", "nodejs:default"),
    ("cjs", "nodejs:default"),
    ("py", "python:default"),
];

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Wasm,
    Zip,
    Wat,
    Other,
}

impl Shape {
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(b"\0asm") {
            return Self::Wasm;
        }
        if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
            return Self::Zip;
        }
        match std::str::from_utf8(bytes).map(beginning) {
            Ok(text) if text.starts_with("(module") || text.starts_with("(component") => Self::Wat,
            _ => Self::Other,
        }
    }

    /// How a file of it is called.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Wasm => ".wasm",
            Self::Zip => ".zip",
            Self::Wat => ".wat",
            Self::Other => "",
        }
    }
}

/// WAT without the white space and comments before its first form.
fn beginning(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        if text.starts_with(";;") {
            text = text.split_once('\n').map_or("", |(_, rest)| rest);
        } else if text.starts_with("(;") {
            text = text.split_once(";)").map_or("", |(_, rest)| rest);
        } else {
            return text;
        }
    }
}

/// The `exec` for the file at `path`.
pub(super) fn read(path: &Path, kind: Option<&str>, main: Option<&str>) -> Result<Value> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::general(format!("cannot read '{}': {error}", path.display())))?;
    if bytes.is_empty() {
        return Err(Failure::general(format!("'{}' is empty", path.display())));
    }
    let extension = path.extension().and_then(|extension| extension.to_str());
    exec(&bytes, extension.unwrap_or_default(), kind, main)
}

/// The `exec` for code that is text, and said to be of `kind`.
pub(super) fn inline(code: &str, kind: &str, main: Option<&str>) -> Result<Value> {
    exec(code.as_bytes(), "", Some(kind), main)
}

fn exec(bytes: &[u8], extension: &str, kind: Option<&str>, main: Option<&str>) -> Result<Value> {
    let extension = extension.to_lowercase();
    let shape = Shape::of(bytes);
    let language = LANGUAGES.iter().find(|(name, _)| *name == extension);
    let kind = match (kind, shape) {
        (Some(kind), _) => kind,
        (None, Shape::Wasm | Shape::Zip | Shape::Wat) => WASM,
        (None, Shape::Other) if ["wasm", "wat", "zip"].contains(&extension.as_str()) => WASM,
        (None, Shape::Other) => match language {
            Some((_, kind)) => kind,
            None => {
                let failure =
                    Failure::usage(format!("'.{extension}' is not a supported action runtime"));
                return Err(failure
                    .advise("Give a .wasm, .wat or .zip file, or say what it is with --kind."));
            }
        },
    };
    let binary =
        matches!(shape, Shape::Wasm | Shape::Zip) || ["wasm", "zip"].contains(&extension.as_str());
    let code = match std::str::from_utf8(bytes) {
        Ok(text) if !binary => text.to_owned(),
        _ => BASE64_STANDARD.encode(bytes),
    };
    let mut exec = json!({ "kind": kind, "code": code });
    if let Some(main) = main {
        exec["main"] = json!(main);
    }
    Ok(exec)
}

/// The bytes of an action's code, as they were before they were uploaded, and how a file of them is called.
pub(super) fn unpack(exec: &Value) -> Result<(Vec<u8>, &'static str)> {
    let code = exec["code"].as_str();
    let code = code.ok_or_else(|| Failure::general("the action has no code to save"))?;
    let bytes = match exec["binary"].as_bool() {
        Some(true) => BASE64_STANDARD.decode(code.trim()).map_err(|error| {
            Failure::general(format!("the action's code is no base64: {error}"))
        })?,
        _ => code.as_bytes().to_vec(),
    };
    let kind = exec["kind"].as_str().unwrap_or_default();
    let family = kind.split(':').next().unwrap_or_default();
    let extension = match (Shape::of(&bytes), family) {
        (Shape::Other, "nodejs") => ".js",
        (Shape::Other, "python") => ".py",
        (shape, _) => shape.extension(),
    };
    Ok((bytes, extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_bytes_then_from_the_name() {
        let table: [(&[u8], &str, &str, bool); 8] = [
            (b"\0asm\x01\0\0\0", "bin", "wasm:default", true),
            (b"PK\x03\x04...", "", "wasm:default", true),
            (b" ;; hi\n(; x ;) (module)", "txt", "wasm:default", false),
            (b"(component)", "wat", "wasm:default", false),
            (b"garbage", "wasm", "wasm:default", true),
            (b"module.exports", "JS", "nodejs:default", false),
            (b"def main(a): pass", "py", "python:default", false),
            (b"\0asm\x01\0\0\0", "js", "wasm:default", true),
        ];
        for (bytes, extension, kind, base64) in table {
            let exec = exec(bytes, extension, None, None).unwrap();
            assert_eq!(exec["kind"], kind, "{extension}");
            let code = exec["code"].as_str().unwrap().as_bytes();
            assert_eq!(code != bytes, base64, "{extension}");
        }
    }

    #[test]
    fn what_nobody_knows_needs_a_kind() {
        let refused = exec(b"10 PRINT", "bas", None, None).unwrap_err();
        assert_eq!(
            (refused.exit, refused.message.as_str()),
            (2, "'.bas' is not a supported action runtime")
        );
        let exec = exec(b"10 PRINT", "bas", Some("basic:1"), Some("go")).unwrap();
        assert_eq!(
            exec,
            json!({"kind": "basic:1", "code": "10 PRINT", "main": "go"})
        );
    }

    #[test]
    fn code_comes_back_as_it_was() {
        let wasm = exec(b"\0asm\x01", "wasm", None, None).unwrap();
        let kept = json!({"kind": "wasm:1", "binary": true, "code": wasm["code"]});
        assert_eq!(unpack(&kept).unwrap(), (b"\0asm\x01".to_vec(), ".wasm"));
        let text = json!({"kind": "wasm:1", "binary": false, "code": "(module)"});
        assert_eq!(unpack(&text).unwrap(), (b"(module)".to_vec(), ".wat"));
        assert!(unpack(&json!({"kind": "sequence"})).is_err());
    }
}
