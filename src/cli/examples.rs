//! The examples that come with the program: found, read, and shown in lines to paste.
//!
//! An example is a folder with an `example.toml`, beside its code.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::folder::Folder;

/// The folder of the examples: under the current one, else beside the source this was built from.
pub(super) fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    [PathBuf::from("examples"), beside]
        .into_iter()
        .find(|folder| folder.is_dir())
}

/// Lines to paste.
impl Folder {
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
pub(super) fn worth_trying<'a>(examples: &[&'a Folder], count: usize) -> Vec<&'a Folder> {
    let mut worth: Vec<&Folder> = Vec::new();
    let mut sorted = examples.to_vec();
    sorted.retain(|example| !example.is_manifest());
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
        let all = Folder::below(root.path()).unwrap();
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
            toml::from_str::<Folder>(&text).unwrap()
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
}
