//! A file to the `exec` of an action: its kind, and its code as the wire carries it.
//!
//! Decided by the bytes first and by the name second: Wasm and zips travel as base64, so that no JSON encoder mangles
//! them; text travels as it is.

use std::io::Cursor;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use zip::ZipArchive;

use super::failure::{Failure, Result};
use super::pack::pack;

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

/// The `exec` for the file at `path`, or for the folder, zipped.
pub(super) fn read(path: &Path, kind: Option<&str>, main: Option<&str>) -> Result<Value> {
    if path.is_dir() {
        let zip = pack(path)?;
        let attempt = || format!("Unable to use the folder '{}'", path.display());
        return exec(&zip, "zip", kind, main).map_err(|f| f.while_trying(&attempt()));
    }
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
        (None, Shape::Zip) => kind_of_zip(bytes)?,
        (None, Shape::Wasm | Shape::Wat) => WASM,
        (None, Shape::Other) if ["wasm", "wat", "zip"].contains(&extension.as_str()) => WASM,
        (None, Shape::Other) => match language {
            Some((_, kind)) => kind,
            None => {
                let failure =
                    Failure::usage(format!("'.{extension}' is not a supported action runtime"));
                return Err(failure.advise(
                    "Give a .js, .py, .wasm, .wat or .zip file or a folder, or say what it is with --kind.",
                ));
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

/// What an archive is, by the names in its top folder.
fn kind_of_zip(bytes: &[u8]) -> Result<&'static str> {
    let unsure = |why: &str, advice: &str| {
        let failure = Failure::usage(format!("cannot tell what is in the zip: {why}"));
        failure.advise(format!("{advice} Or say what it is with --kind."))
    };
    let archive = ZipArchive::new(Cursor::new(bytes))
        .map_err(|error| Failure::general(format!("the zip cannot be read: {error}")))?;
    let names: Vec<String> = archive
        .file_names()
        .filter_map(|name| name.ok())
        .map(|name| name.trim_start_matches("./").replace('\\', "/"))
        .filter(|name| !name.starts_with("__MACOSX/"))
        .collect();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let is_js = ["package.json", "index.js", "index.mjs", "index.cjs"]
        .iter()
        .any(|name| has(name));
    let is_python = has("__main__.py");
    let is_wasm = names.iter().any(|name| {
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        ["wasm", "wat"].contains(&extension.to_lowercase().as_str())
    });
    match (is_js, is_python, is_wasm) {
        // Packages of either language may bring modules of Wasm along.
        (true, false, _) => Ok("nodejs:default"),
        (false, true, _) => Ok("python:default"),
        (false, false, true) => Ok(WASM),
        (true, true, _) => Err(unsure(
            "it has index.js or package.json, and __main__.py",
            "Leave one of them out.",
        )),
        (false, false, false) => {
            let entry = |name: &String| {
                let (_, rest) = name.split_once('/').unwrap_or_default();
                ["package.json", "index.js", "__main__.py"].contains(&rest)
            };
            Err(match names.iter().find(|name| entry(name)) {
                Some(name) => unsure(
                    &format!("'{name}' is not in its top folder"),
                    "Zip what is in the folder and not the folder itself.",
                ),
                None => unsure(
                    "it has neither package.json, index.js, __main__.py nor a .wasm file",
                    "JavaScript starts in index.js or what package.json says, Python in __main__.py.",
                ),
            })
        }
    }
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
        let table: [(&[u8], &str, &str, bool); 7] = [
            (b"\0asm\x01\0\0\0", "bin", "wasm:default", true),
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

    fn zipped(names: &[&str]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for name in names {
            let options = zip::write::SimpleFileOptions::default();
            zip.start_file(*name, options).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn a_zip_is_what_its_files_are_called() {
        let table: [(&[&str], &str); 4] = [
            (&["lib/a.js", "index.js"], "nodejs:default"),
            (
                &["package.json", "src/main.mjs", "x.wasm"],
                "nodejs:default",
            ),
            (&["./__main__.py", "helper.py"], "python:default"),
            (&["readme.md", "bin/action.wasm"], "wasm:default"),
        ];
        for (names, kind) in table {
            let exec = exec(&zipped(names), "zip", None, None).unwrap();
            assert_eq!(exec["kind"], kind, "{names:?}");
        }
        let table: [(&[&str], &str); 3] = [
            (&["index.js", "__main__.py"], "and __main__.py"),
            (&["app/index.js"], "'app/index.js' is not in its top folder"),
            (&["readme.md"], "neither package.json"),
        ];
        for (names, part) in table {
            let refused = exec(&zipped(names), "zip", None, None).unwrap_err();
            assert!(refused.message.contains(part), "{}", refused.message);
            let exec = exec(&zipped(names), "zip", Some("nodejs:20"), None).unwrap();
            assert_eq!(exec["kind"], "nodejs:20");
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
