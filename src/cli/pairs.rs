//! Parameters and annotations as they are said on a command line: pairs, and files of JSON.
//!
//! A value is JSON when it reads as JSON, else it is text. Pairs go over files, later ones over earlier ones.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use serde_json::{Map, Value, json};

use super::failure::{Failure, Result};

/// `-p KEY VALUE` and `-P FILE`, of everything that takes parameters.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Parameters {
    /// A parameter; the value is JSON when it reads as JSON, else text. May be repeated
    #[arg(short = 'p', long = "param", num_args = 2, value_names = ["KEY", "VALUE"], action = ArgAction::Append)]
    #[arg(allow_hyphen_values = true)]
    param: Vec<String>,
    /// A file with a JSON object of parameters; -p goes over it
    #[arg(short = 'P', long = "param-file", value_name = "FILE")]
    param_file: Vec<PathBuf>,
}

/// `-a KEY VALUE` and `-A FILE`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Annotations {
    /// An annotation; the value is JSON when it reads as JSON, else text. May be repeated
    #[arg(short = 'a', long = "annotation", num_args = 2, value_names = ["KEY", "VALUE"], action = ArgAction::Append)]
    #[arg(allow_hyphen_values = true)]
    annotation: Vec<String>,
    /// A file with a JSON object of annotations; -a goes over it
    #[arg(short = 'A', long = "annotation-file", value_name = "FILE")]
    annotation_file: Vec<PathBuf>,
}

impl Parameters {
    /// Whether anything was said.
    pub(super) fn is_given(&self) -> bool {
        !self.param.is_empty() || !self.param_file.is_empty()
    }

    /// One object: files first, then the pairs, later over earlier.
    pub(super) fn object(&self) -> Result<Map<String, Value>> {
        merged("parameter", &self.param_file, &self.param)
    }

    /// As the wire lists them; none when nothing was said.
    pub(super) fn pairs(&self) -> Result<Option<Value>> {
        self.is_given()
            .then(|| self.object().map(keys_and_values))
            .transpose()
    }
}

impl Annotations {
    /// As the wire lists them; none when nothing was said.
    pub(super) fn pairs(&self) -> Result<Option<Value>> {
        let given = !self.annotation.is_empty() || !self.annotation_file.is_empty();
        let merged = || merged("annotation", &self.annotation_file, &self.annotation);
        given.then(|| merged().map(keys_and_values)).transpose()
    }
}

fn merged(what: &str, files: &[PathBuf], pairs: &[String]) -> Result<Map<String, Value>> {
    let mut object = Map::new();
    for file in files {
        let bad = |why: String| Failure::usage(format!("{what} file '{}' {why}", file.display()));
        let text = std::fs::read(file).map_err(|error| bad(format!("cannot be read: {error}")))?;
        match serde_json::from_slice(&text) {
            Ok(Value::Object(more)) => object.extend(more),
            Ok(_) => return Err(bad("must hold a JSON object".to_owned())),
            Err(error) => return Err(bad(format!("is no JSON: {error}"))),
        }
    }
    object.extend(object_of(pairs));
    Ok(object)
}

/// Keys and values in turn, as flags have them, to an object.
pub(super) fn object_of(pairs: &[String]) -> Map<String, Value> {
    let pairs = pairs.chunks_exact(2);
    let pairs = pairs.map(|pair| {
        let value = serde_json::from_str(&pair[1]).unwrap_or_else(|_| json!(pair[1]));
        (pair[0].clone(), value)
    });
    pairs.collect()
}

/// An object as the wire lists it.
pub(super) fn keys_and_values(object: Map<String, Value>) -> Value {
    let pairs = object.into_iter();
    pairs
        .map(|(key, value)| json!({ "key": key, "value": value }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_when_they_read_as_json_and_pairs_go_over_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.json");
        std::fs::write(&file, r#"{"a": 1, "b": [2]}"#).unwrap();
        let said = ["a", "null", "c", "{\"x\": 1.50}", "d", "@file", "e", ""].map(str::to_owned);
        let object = merged("parameter", &[file], &said).unwrap();
        let expected = json!({"a": null, "b": [2], "c": {"x": 1.5}, "d": "@file", "e": ""});
        assert_eq!(Value::Object(object), expected);
    }

    #[test]
    fn a_file_that_is_no_object_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.json");
        std::fs::write(&file, "[1]").unwrap();
        let refused = merged("annotation", &[file], &[]).unwrap_err();
        assert_eq!(refused.exit, 2);
        assert!(
            refused.message.ends_with("p.json' must hold a JSON object"),
            "{refused:?}"
        );
    }
}
