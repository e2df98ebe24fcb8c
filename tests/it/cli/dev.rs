//! `wisp new`, `build`, `dev` and `run`: from nothing to an action that runs.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use super::User;
use crate::harness::{
    Client, GUEST_KEY, Tenant, answers, binary, eventually, repository, run_to_end, traps,
};

#[test]
fn new_makes_a_project_that_runs_at_once() {
    let user = User::new();
    user.bare(&["new", "wat", "first"]).ok();
    let done = user.bare(&["run", "first", "-p", "name", "Ada"]).ok();
    assert_eq!(done.json()["you sent"], json!({"name": "Ada"}));
    let again = user.bare(&["new", "wat", "first"]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.contains("not empty"), "{again:?}");
}

#[test]
fn new_lists_the_languages() {
    let user = User::new();
    let listed = user.bare(&["new"]).ok().out;
    let names = user.bare(&["new", "--json"]).ok().json();
    for language in [
        "rust",
        "go",
        "c",
        "assemblyscript",
        "javascript",
        "python",
        "wat",
    ] {
        assert!(listed.contains(language), "{language}: {listed}");
        assert!(
            names.as_array().unwrap().contains(&json!(language)),
            "{names}"
        );
    }
    let nameless = user.bare(&["new", "rust"]);
    assert_eq!(nameless.code, Some(2), "{nameless:?}");
    let strange = user.bare(&["new", "rust", "No Name"]);
    assert_eq!(strange.code, Some(2), "{strange:?}");
    assert!(!user.home.path().join("No Name").exists());
}

#[test]
fn run_shows_the_result_and_the_log_apart() {
    let user = User::new();
    let wasm = repository().join("examples/hello-rust/hello-rust.wasm");
    let wasm = wasm.to_str().unwrap();
    let params = user.file("params.json", r#"{"name": "Bob", "x": 1}"#);
    let done = user
        .bare(&["run", wasm, "-P", &params, "-p", "name", "Ada"])
        .ok();
    assert_eq!(done.json(), json!({"greeting": "Hello, Ada!"}));
    assert_eq!(done.err, "greeting Ada\n");
    let failed = user.bare(&["run", wasm, "-p", "name", "7"]);
    assert_eq!(
        (failed.code, failed.out.as_str()),
        (Some(246), ""),
        "{failed:?}"
    );
    assert!(failed.err.contains("name must be a string"), "{failed:?}");
}

#[test]
fn run_says_what_is_wrong_with_the_code() {
    let user = User::new();
    let trap = user.file("trap.wat", traps());
    let done = user.bare(&["run", &trap]);
    assert_eq!(done.code, Some(246), "{done:?}");
    assert!(done.err.contains("exited unexpectedly"), "{done:?}");
    assert!(done.err.contains("The action trapped: "), "{done:?}");
    let table = [
        (user.file("text.wat", "(modul)"), 144, "text.wat"),
        (user.file("odd.bas", "10 PRINT"), 2, ".bas"),
        ("/no/such.wasm".to_owned(), 1, "/no/such.wasm"),
    ];
    for (file, code, word) in table {
        let done = user.bare(&["run", &file]);
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.err.contains(word) || code == 144, "{word}: {done:?}");
        assert!(done.err.starts_with("error: "), "{done:?}");
    }
    let slow = user.file("spin.wat", crate::harness::SPIN);
    let done = user.bare(&["run", &slow, "-t", "100"]);
    assert_eq!(done.code, Some(246), "{done:?}");
    assert!(done.err.contains("100"), "names the time: {done:?}");
}

#[test]
fn run_can_be_interrupted() {
    let user = User::new();
    let slow = user.file("spin.wat", crate::harness::SPIN);
    let mut command = binary();
    command
        .args(["run", &slow, "-v"])
        .env("HOME", user.home.path());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let posted = said.by_ref().any(|line| line.unwrap().contains("POST "));
    assert!(posted, "it says when it invokes");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let rest: Vec<String> = said.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest:?}");
    assert!(
        !rest.iter().any(|line| line.contains("panicked")),
        "{rest:?}"
    );
}

#[test]
fn build_says_what_to_install() {
    let user = User::new();
    for (language, tool, advice) in [
        ("rust", "cargo", "rustup.rs"),
        ("go", "go", "go.dev"),
        ("c", "clang", "lld"),
        ("assemblyscript", "npm", "nodejs.org"),
        ("zig", "zig", "ziglang"),
    ] {
        user.bare(&["new", language, language]).ok();
        let mut command = binary();
        command
            .args(["build", language])
            .env("PATH", "/nonexistent")
            .current_dir(user.home.path());
        let (code, out, err) = run_to_end(command);
        assert_eq!(code, Some(1), "{out}{err}");
        assert!(
            err.contains(&format!("{tool} is needed")),
            "{language}: {err}"
        );
        assert!(err.contains(advice), "{language}: {err}");
    }
}

#[test]
fn build_does_what_the_folder_says() {
    let user = User::new();
    let folder = user.home.path().join("made");
    fs::create_dir(&folder).unwrap();
    let write = |text: &str| fs::write(folder.join("action.toml"), text).unwrap();
    fs::write(folder.join("source"), answers("{\"a\":1}")).unwrap();
    write("code = \"out.wat\"\nbuild = \"echo building; cp source out.wat\"");
    let done = user.bare(&["build", "made"]).ok();
    assert!(done.out.starts_with("ok: built made: "), "{done:?}");
    assert_eq!(
        done.err, "building\n",
        "tools do not write where results stand"
    );
    let done = user.bare(&["run", "made"]).ok();
    assert_eq!(done.json(), json!({"a": 1}));
    write("code = \"other.wat\"\nbuild = \"true\"");
    let done = user.bare(&["build", "made"]);
    assert!(done.err.contains("there is no made/other.wat"), "{done:?}");
    write("code = \"out.wat\"\nbuild = \"exit 3\"");
    let done = user.bare(&["build", "made"]);
    assert!(
        done.code == Some(1) && done.err.contains("exit 3"),
        "{done:?}"
    );
}

#[test]
fn build_installs_the_packages_of_a_javascript_action() {
    let user = User::new();
    let home = user.home.path();
    let write = |path: &str, text: &str| {
        let path = home.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    // A package as a registry gives it away.
    write(
        "shouter/package.json",
        r#"{"name": "shouter", "version": "1.2.3", "main": "lib.js"}"#,
    );
    write(
        "shouter/lib.js",
        "module.exports = (text) => `${text.toUpperCase()}!`;",
    );
    let packed = Command::new("npm")
        .args(["pack", "--silent", "./shouter"])
        .current_dir(home)
        .output()
        .expect("npm, which tests/run asks for");
    assert!(packed.status.success(), "{packed:?}");

    write("loud/action.toml", "code = \"loud.zip\"\n");
    write(
        "loud/package.json",
        r#"{"dependencies": {"shouter": "file:../shouter-1.2.3.tgz"}}"#,
    );
    write(
        "loud/index.js",
        "const shout = require('shouter');\nexports.main = ({ name }) => ({ said: shout(name) });",
    );
    let done = user.bare(&["build", "loud"]).ok();
    assert!(done.out.contains("built loud: loud/loud.zip"), "{done:?}");
    assert!(home.join("loud/node_modules/shouter/lib.js").is_file());
    let done = user.bare(&["run", "loud", "-p", "name", "Ada"]).ok();
    assert_eq!(done.json(), json!({"said": "ADA!"}));

    // With a script of its own, that makes the code.
    write(
        "loud/package.json",
        r#"{"dependencies": {"shouter": "file:../shouter-1.2.3.tgz"}, "scripts": {"build": "cp index.js built.js"}}"#,
    );
    write("loud/action.toml", "code = \"built.js\"\n");
    let done = user.bare(&["build", "loud"]).ok();
    assert!(done.out.contains("built loud: loud/built.js"), "{done:?}");

    write(
        "gone/package.json",
        r#"{"dependencies": {"gone": "file:../gone-1.0.0.tgz"}}"#,
    );
    write("gone/action.toml", "code = \"gone.zip\"\n");
    write("gone/index.js", "exports.main = require('gone');");
    let done = user.bare(&["build", "gone"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.err.contains("npm install"), "{done:?}");
    assert!(
        done.err.contains("gone-1.0.0.tgz"),
        "npm's own words: {done:?}"
    );
}

/// A running `wisp dev`.
struct Dev {
    child: Child,
    out: BufReader<ChildStdout>,
    said: String,
}

impl Dev {
    fn start(home: &Path, folder: &Path) -> Self {
        let mut command = binary();
        command.args(["dev", "--listen", "127.0.0.1:0"]).arg(folder);
        command
            .env("HOME", home)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let said = String::new();
        Self { child, out, said }
    }

    /// Reads on until a line has `word` in it: that line.
    fn until(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.out.read_line(&mut line).unwrap();
            assert!(read > 0, "it ended without saying '{word}': {}", self.said);
            self.said.push_str(&line);
            if line.contains(word) {
                return line;
            }
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn dev_serves_what_is_saved_and_shows_the_log() {
    let (home, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let code = folder.path().join("hello.wat");
    fs::write(&code, answers("{\"version\":1}")).unwrap();
    let text = "name = \"hello\"\ncode = \"hello.wat\"\n[annotations]\nkept = true";
    fs::write(folder.path().join("action.toml"), text).unwrap();
    let mut dev = Dev::start(home.path(), folder.path());
    let line = dev.until("http://");
    let address = line.split("http://").nth(1).unwrap().trim();
    let client = Client {
        address: address.parse().unwrap(),
    };
    dev.until("hello deployed");
    let guest = Tenant::new(client, "guest", GUEST_KEY);
    let version = || guest.result("hello", &json!({})).json()["version"].clone();
    assert_eq!(version(), 1);
    dev.until("→ hello");
    fs::write(&code, answers("{\"version\":22}")).unwrap();
    dev.until("hello deployed");
    assert_eq!(
        eventually("the new code", || (version() == 22).then_some(22)),
        22
    );
    // What cannot be deployed leaves what was there, and is looked at again.
    fs::write(&code, "(modul").unwrap();
    fs::write(&code, answers("{\"version\":333}")).unwrap();
    dev.until("hello deployed");
    assert_eq!(version(), 333);
    kill_process(Pid::from_child(&dev.child), Signal::INT).unwrap();
    assert_eq!(dev.child.wait().unwrap().code(), Some(0), "{}", dev.said);
}
