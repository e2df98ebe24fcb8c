//! The examples that come with the program: found, read, and deployed through the wire like anybody's.
//!
//! An example is a folder with an `example.toml`, beside its code.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client::{Answer, Client, EntityPath};
use super::code;
use super::failure::{Failure, Result};
use super::pairs::keys_and_values;

/// What `example.toml` says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Example {
    /// What it is deployed as; the folder's name when left out.
    #[serde(default)]
    pub(super) name: String,
    /// Its code, relative to the folder.
    code: PathBuf,
    /// Kind, when the code does not say.
    kind: Option<String>,
    /// One line about it.
    #[serde(default)]
    pub(super) description: String,
    /// Parameters worth trying.
    #[serde(default)]
    pub(super) params: Map<String, Value>,
    #[serde(default)]
    annotations: Map<String, Value>,
    #[serde(default)]
    limits: Map<String, Value>,
    #[serde(skip)]
    folder: PathBuf,
}

/// The folder of the examples: under the current one, else beside the source this was built from.
pub(super) fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    [PathBuf::from("examples"), beside]
        .into_iter()
        .find(|folder| folder.is_dir())
}

/// Every example in `folder`, by name of its own folder.
pub(super) fn all(folder: &Path) -> Result<Vec<Example>> {
    let unreadable = |error: std::io::Error| {
        Failure::general(format!("cannot read {}: {error}", folder.display()))
    };
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.join("example.toml").is_file() {
            folders.push(path);
        }
    }
    folders.sort();
    folders.iter().map(|folder| Example::read(folder)).collect()
}

impl Example {
    fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("example.toml");
        let bad = |why: String| Failure::general(format!("{}: {why}", file.display()));
        let text = std::fs::read_to_string(&file).map_err(|error| bad(error.to_string()))?;
        let mut example: Self = toml::from_str(&text).map_err(|error| bad(format!("\n{error}")))?;
        folder.clone_into(&mut example.folder);
        if example.name.is_empty() {
            let name = folder.file_name().and_then(|name| name.to_str());
            name.unwrap_or_default().clone_into(&mut example.name);
        }
        Ok(example)
    }

    /// Creates or replaces its action.
    pub(super) fn deploy(&self, client: &Client<'_>) -> Result<()> {
        let exec = code::read(&self.folder.join(&self.code), self.kind.as_deref(), None)?;
        let mut annotations = self.annotations.clone();
        if !self.description.is_empty() {
            annotations.insert("description".to_owned(), json!(self.description));
        }
        let mut body = json!({ "exec": exec, "annotations": keys_and_values(annotations) });
        if !self.limits.is_empty() {
            body["limits"] = Value::Object(self.limits.clone());
        }
        let name = EntityPath::parse(&self.name, "_")?;
        let path = client.path(&name.namespace, &name.in_collection("actions"));
        let answer = client.upload(
            &self.name,
            &path,
            &[("overwrite", "true".to_owned())],
            &body,
        );
        answer.and_then(Answer::success).map(drop)
    }

    /// A line for a shell that invokes it over plain HTTP.
    pub(super) fn curl(&self, base: &str, key: &str) -> String {
        let name = super::client::encode(&self.name);
        let data = quoted(&Value::Object(self.params.clone()).to_string());
        format!(
            "curl -u {key} -H 'Content-Type: application/json' -d {data} \\\n    \
             '{base}/api/v1/namespaces/_/actions/{name}?blocking=true&result=true'"
        )
    }

    /// A line for a shell that invokes it with this program.
    pub(super) fn invoke(&self, command: &str, flags: &str) -> String {
        let mut words = vec![format!(
            "{command} action invoke {} -r{flags}",
            quoted(&self.name)
        )];
        for (key, value) in &self.params {
            let text = match value {
                Value::String(text) if serde_json::from_str::<Value>(text).is_err() => text.clone(),
                other => other.to_string(),
            };
            words.push(format!("-p {} {}", quoted(key), quoted(&text)));
        }
        words.join(" ")
    }
}

/// At most `count` of `examples`, those with parameters first, no two that take the same ones: they would look alike.
pub(super) fn worth_trying<'a>(examples: &[&'a Example], count: usize) -> Vec<&'a Example> {
    let mut worth: Vec<&Example> = Vec::new();
    let mut sorted = examples.to_vec();
    sorted.sort_by_key(|example| example.params.is_empty());
    for example in sorted {
        if !worth
            .iter()
            .any(|other| other.params.keys().eq(example.params.keys()))
        {
            worth.push(example);
        }
    }
    worth.truncate(count);
    worth
}

/// A word as a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_read_by_folder_and_print_lines_to_paste() {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in [
            (
                "b",
                "code = \"b.wat\"\n[params]\nwho = \"it's\"\nn = 2\nt = \"3\"",
            ),
            ("a", "name = \"first\"\ncode = \"x\""),
        ] {
            std::fs::create_dir(root.path().join(name)).unwrap();
            std::fs::write(root.path().join(name).join("example.toml"), text).unwrap();
        }
        std::fs::create_dir(root.path().join("no-example")).unwrap();
        let all = all(root.path()).unwrap();
        let names: Vec<&str> = all.iter().map(|example| example.name.as_str()).collect();
        assert_eq!(names, ["first", "b"]);
        assert_eq!(
            all[1].invoke("wisp", ""),
            r#"wisp action invoke b -r -p n 2 -p t '"3"' -p who 'it'\''s'"#
        );
        assert!(
            all[1]
                .curl("http://h:1", "u:k")
                .ends_with("'http://h:1/api/v1/namespaces/_/actions/b?blocking=true&result=true'")
        );
    }

    #[test]
    fn examples_worth_trying_do_not_look_alike() {
        let of = |name: &str, params: &str| {
            let text = format!("name = \"{name}\"\ncode = \"x\"\n[params]\n{params}");
            toml::from_str::<Example>(&text).unwrap()
        };
        let all = [
            of("none", ""),
            of("a", "name = 1"),
            of("b", "name = 2"),
            of("c", "n = 3"),
        ];
        let worth = worth_trying(&all.each_ref(), 2);
        let names: Vec<&str> = worth.iter().map(|example| example.name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
    }

    #[test]
    fn a_broken_example_is_named() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("x");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("example.toml"), "coed = 1").unwrap();
        let message = all(root.path()).unwrap_err().message;
        assert!(
            message.contains("x/example.toml") && message.contains("coed"),
            "{message}"
        );
    }
}
