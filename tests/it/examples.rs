//! The examples' README files: what they say to paste does what they say.
//!
//! A block of shell is run as it stands, in the repository, with the address of a server of ours in the place of the usual. When
//! a block of JSON or text follows, that is what it must print last.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{GUEST_KEY, Server, repository, run_to_end, shared};

/// What is said and what comes of it.
#[derive(Debug)]
struct Step {
    script: String,
    expected: Option<Expected>,
}

#[derive(Debug)]
enum Expected {
    Json(Value),
    Text(String),
}

/// The steps of a document.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let block = lines.by_ref().take_while(|line| *line != "```");
        let block = block.collect::<Vec<_>>().join("\n");
        match (language, steps.last_mut()) {
            ("sh", _) => steps.push(Step {
                script: block,
                expected: None,
            }),
            ("json", Some(step)) => {
                let json = serde_json::from_str(&block).expect("a block of JSON is JSON");
                step.expected = Some(Expected::Json(json));
            }
            ("text", Some(step)) => step.expected = Some(Expected::Text(block)),
            _ => {}
        }
    }
    steps
}

/// Runs a step as somebody would who has the program on the path; what is wrong with what it printed.
fn run(step: &Step, server: &Server, home: &Path) -> Option<String> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_wisp"));
    let folder = program.parent().expect("a program is in a folder");
    let address = server.address.to_string();
    let script = step.script.replace("127.0.0.1:3233", &address);
    let mut shell = Command::new("/bin/bash");
    shell
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(repository())
        .env_clear()
        .env(
            "PATH",
            format!("{}:/usr/local/bin:/usr/bin:/bin", folder.display()),
        )
        .env("HOME", home)
        .env("WISP_APIHOST", server.url())
        .env("WISP_AUTH", GUEST_KEY);
    let (code, out, err) = run_to_end(shell);
    if code != Some(0) {
        return Some(format!("ended with {code:?}: {out}{err}"));
    }
    // Before what is expected other commands may have printed.
    let fits = match &step.expected {
        None => true,
        Some(Expected::Text(text)) => out.trim_end().ends_with(text.trim_end()),
        Some(Expected::Json(json)) => {
            let from = out.find("\n{").map_or(0, |at| at + 1);
            let found = out.get(from..).unwrap_or_default();
            serde_json::from_str::<Value>(found).is_ok_and(|found| found == *json)
        }
    };
    (!fits).then(|| format!("printed {out}{err}, expected {:?}", step.expected))
}

/// Runs the documents of the examples that `wanted` chooses; at least `count` of them.
fn check(wanted: impl Fn(&str) -> bool, count: usize) {
    let home = TempDir::new().unwrap();
    let mut errors = Vec::new();
    let mut checked = 0;
    let mut folders: Vec<PathBuf> = fs::read_dir(repository().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("example.toml").is_file())
        .collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !wanted(&name) {
            continue;
        }
        let text =
            fs::read_to_string(folder.join("README.md")).expect("every example has a README.md");
        assert!(
            text.starts_with(&format!("# {name}\n")),
            "{name}: says what it is"
        );
        for step in steps(&text) {
            if let Some(error) = run(&step, shared(), home.path()) {
                errors.push(format!("{name}: {error}\n{}", step.script));
            }
        }
        checked += 1;
    }
    assert!(errors.is_empty(), "\n{}", errors.join("\n\n"));
    assert!(checked >= count, "only {checked} examples were found");
}

/// Examples of languages whose engine has to be compiled first, which takes an unoptimised build a while.
const JAVASCRIPT: [&str; 3] = ["hello-javascript", "json-schema", "webhook"];
const PYTHON: [&str; 1] = ["hello-python"];

#[test]
fn examples_of_compiled_languages_do_what_their_readme_says() {
    check(
        |name| !JAVASCRIPT.contains(&name) && !PYTHON.contains(&name),
        12,
    );
}

#[test]
fn examples_in_javascript_do_what_their_readme_says() {
    check(|name| JAVASCRIPT.contains(&name), JAVASCRIPT.len());
}

#[test]
fn examples_in_python_do_what_their_readme_says() {
    check(|name| PYTHON.contains(&name), PYTHON.len());
}
