//! The documents say what is so: commands that parse, links that lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{binary, repository, run_to_end};

/// Every document of the repository but those of dependencies and builds.
fn documents() -> Vec<PathBuf> {
    let mut all = Vec::new();
    collect(repository(), &mut all);
    all
}

fn collect(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.is_dir()
            && !matches!(
                name.as_str(),
                "target" | "node_modules" | ".git" | "wisp-data"
            )
        {
            collect(&path, all);
        } else if path.is_file() && name.ends_with(".md") {
            all.push(path);
        }
    }
}

/// The fenced blocks of `language` in `text`.
fn blocks(text: &str, languages: &[&str]) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines
            .by_ref()
            .take_while(|line| line.trim() != "```")
            .collect();
        if languages.contains(&language.trim()) {
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

/// The words of the `wisp` commands in a shell block, up to the first thing only a shell understands.
fn commands(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    let lines = lines.map(|line| line.strip_prefix("$ ").unwrap_or(line));
    let words = |line: &str| -> Option<Vec<String>> {
        let rest = line
            .strip_prefix("wisp ")
            .or_else(|| line.strip_prefix("./target/release/wisp "));
        let rest = rest.or_else(|| line.strip_prefix("cargo run --release -- "))?;
        let all = rest
            .split_whitespace()
            .take_while(|word| !matches!(*word, "|" | ">" | "&" | "&&" | "#" | ">>"));
        Some(all.map(str::to_owned).collect())
    };
    lines.filter_map(words).collect()
}

#[test]
fn shell_blocks_are_shell() {
    for path in documents() {
        let text = fs::read_to_string(&path).expect("readable");
        for block in blocks(&text, &["sh", "bash", "shell"]) {
            let script = block
                .lines()
                .map(|line| line.strip_prefix("$ ").unwrap_or(line))
                .collect::<Vec<_>>()
                .join("\n");
            let mut shell = Command::new("/bin/bash");
            shell.args(["-n", "-c", &script]);
            let (code, _, err) = run_to_end(shell);
            assert_eq!(code, Some(0), "{}: {err}\n{block}", path.display());
        }
    }
}

#[test]
fn every_command_in_the_documents_exists() {
    let mut seen = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).expect("readable");
        for words in blocks(&text, &["sh", "bash", "shell", "console"])
            .iter()
            .flat_map(|block| commands(block))
        {
            // Asking for help checks the path of the command, and runs nothing.
            let path_of: Vec<&String> = words
                .iter()
                .take_while(|word| {
                    word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
                        && !word.starts_with('-')
                })
                .collect();
            let nouns = path_of.iter().take(if words[0] == "admin" { 3 } else { 2 });
            let mut command = binary();
            let known = ["serve", "completion"].contains(&words[0].as_str());
            command
                .args(nouns.take(if known { 1 } else { 3 }))
                .arg("--help");
            let (code, _, err) = run_to_end(command);
            assert_eq!(
                code,
                Some(0),
                "{}: wisp {}: {err}",
                path.display(),
                words.join(" ")
            );
            seen += 1;
        }
    }
    assert!(seen > 0, "the documents show no command");
}

#[test]
fn links_lead_somewhere() {
    let mut errors = Vec::new();
    for path in documents() {
        let text = fs::read_to_string(&path).expect("readable");
        let folder = path.parent().expect("a folder");
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            // Links of rustdoc (`crate::x`) are checked by rustdoc.
            let elsewhere = file.is_empty() || file.contains(':') || file.contains(' ');
            if !elsewhere && !folder.join(file).exists() {
                errors.push(format!("{}: {target} leads nowhere", path.display()));
            }
        }
    }
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}

#[test]
fn what_the_licence_asks_for_is_here() {
    for file in [
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "src/README.md",
    ] {
        let text = fs::read_to_string(repository().join(file)).unwrap_or_default();
        assert!(text.len() > 200, "{file} is missing or says nothing");
    }
}
