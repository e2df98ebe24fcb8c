//! Source from the command line: what a file is follows from what it is called and what is in it.

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
    let folder = user.home.path().display().to_string();
    let done = user.run(&["action", "create", "a", &folder]);
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("zip -r ../action.zip ."), "{done:?}");
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
