//! Source from the command line: what a file is follows from what it is called and what is in it.

use std::fs;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::User;
use crate::harness::zip;

#[test]
fn a_file_of_source_needs_no_kind() {
    let user = User::new();
    let hello = "function main(p) { return { hi: p.name }; }";
    let module = "export function main(p) { return { module: p.name }; }";
    for (file, code, key) in [("hello.js", hello, "hi"), ("hello.mjs", module, "module")] {
        let path = user.file(file, code);
        user.run(&["action", "update", "hello", &path]).ok();
        let stored = user.tenant.get("actions/hello").expect(200).json();
        assert_eq!(stored["exec"]["kind"], "nodejs:20");
        let done = user.run(&["action", "invoke", "hello", "-r", "-p", "name", "Ada"]);
        assert_eq!(done.ok().json(), json!({ key: "Ada" }));
    }
    let path = user.file("two.js", "function two() { return { n: 2 }; }");
    user.run(&["action", "create", "two", &path, "--main", "two"])
        .ok();
    let done = user.run(&["action", "invoke", "two", "-r"]);
    assert_eq!(done.ok().json(), json!({ "n": 2 }));
}

#[test]
fn a_zip_is_of_the_language_of_its_files() {
    let user = User::new();
    let archive = |files: &[(&str, &[u8])]| BASE64_STANDARD.decode(zip(files)).unwrap();
    let good = archive(&[
        ("index.js", b"exports.main = () => require('./b');"),
        ("b.js", b"module.exports = { b: 1 };"),
    ]);
    let path = user.file("good.zip", good);
    user.run(&["action", "create", "zipped", &path]).ok();
    let done = user.run(&["action", "invoke", "zipped", "-r"]);
    assert_eq!(done.ok().json(), json!({ "b": 1 }));

    let nested = user.file("nested.zip", archive(&[("app/index.js", b"")]));
    let done = user.run(&["action", "create", "a", &nested]);
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("Zip what is in the folder"), "{done:?}");
}

/// A folder in the user's with these files.
fn folder(user: &User, name: &str, files: &[(&str, &str)]) -> String {
    let root = user.home.path().join(name);
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root.display().to_string()
}

#[test]
fn a_folder_of_source_is_zipped() {
    let user = User::new();
    let script = folder(
        &user,
        "script",
        &[
            ("package.json", r#"{"main": "src/main.js"}"#),
            ("src/main.js", "exports.main = () => require('parts');"),
            (
                "node_modules/parts/index.js",
                "module.exports = { parts: 1 };",
            ),
            (".env", "SECRET=1"),
        ],
    );
    let python = folder(
        &user,
        "python",
        &[
            (
                "__main__.py",
                "from parts.one import part\ndef main(args):\n  return {'parts': part}\n",
            ),
            ("parts/__init__.py", ""),
            ("parts/one.py", "part = 1\n"),
        ],
    );
    let built = folder(
        &user,
        "built",
        &[
            (
                "action.toml",
                "code = \"built.zip\"\nlanguage = \"javascript\"",
            ),
            ("index.js", "exports.main = () => require('./parts');"),
            ("parts.js", "module.exports = { parts: 1 };"),
        ],
    );
    for (path, kind) in [(&script, "nodejs:20"), (&python, "python:3")] {
        user.run(&["action", "update", "whole", path]).ok();
        let stored = user.tenant.get("actions/whole").expect(200).json();
        let found = stored["exec"]["kind"].as_str().unwrap();
        assert!(found.starts_with(kind), "{found}");
        let done = user.run(&["action", "invoke", "whole", "-r"]);
        assert_eq!(done.ok().json(), json!({ "parts": 1 }));
        let same = user.run(&["build", path]).ok().out;
        assert!(same.contains("built ") && same.contains(" bytes"), "{same}");
    }
    user.run(&["build", &built]).ok();
    let zip = format!("{built}/built.zip");
    let first = fs::read(&zip).unwrap();
    user.run(&["build", &built]).ok();
    assert_eq!(fs::read(&zip).unwrap(), first, "it is not in itself");
    user.run(&["action", "update", "whole", &zip]).ok();
    let done = user.run(&["action", "invoke", "whole", "-r"]);
    assert_eq!(done.ok().json(), json!({ "parts": 1 }));
    let empty = folder(&user, "empty", &[("README.md", "")]);
    let done = user.run(&["action", "create", "a", &empty]);
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("neither package.json"), "{done:?}");
}

#[test]
fn what_is_wrong_with_source_is_shown_where_it_was_uploaded() {
    let user = User::new();
    let path = user.file("bad.js", "let a = 1;\nfunction main() { return a +; }\n");
    let done = user.run(&["action", "create", "bad", &path]);
    assert_ne!(done.code, Some(0));
    assert!(
        done.err.contains("SyntaxError") && done.err.contains(":2:"),
        "{done:?}"
    );
}
