//! Checks what the compiler cannot: who may import whom, who may name a foreign crate, how big a file may get, that no
//! file is dead, and that the documentation of the configuration is complete.
//!
//! The tables are the architecture. To add an arrow, edit it here and say why in the commit.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::repository;

/// Module -> modules of this crate it may name. A module may always name itself.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    // Hints to the processor: knows nothing of ours.
    ("ahead", &[]),
    ("telemetry", &["model"]),
    ("scheduler", &["model"]),
    // Redis, for those who share it with other nodes.
    ("link", &["telemetry"]),
    ("cluster", &["link", "model", "scheduler"]),
    ("store", &["ahead", "link", "model", "telemetry"]),
    // What is accepted must be on disk before it is queued.
    (
        "queue",
        &[
            "cluster",
            "link",
            "model",
            "scheduler",
            "store",
            "telemetry",
        ],
    ),
    ("sandbox", &["ahead", "model", "telemetry"]),
    (
        "pool",
        &["ahead", "model", "sandbox", "scheduler", "telemetry"],
    ),
    ("auth", &["link", "model", "store", "telemetry"]),
    // Rules, steps and web actions are entitled and throttled where they are run.
    ("invoke", &["auth", "model", "queue", "store", "telemetry"]),
    (
        "worker",
        &[
            "model",
            "pool",
            "queue",
            "sandbox",
            "scheduler",
            "store",
            "telemetry",
        ],
    ),
    ("api", &["auth", "invoke", "model", "store", "telemetry"]),
    // It makes entities as a client would, with code that is checked and compiled as any other.
    ("system", &["auth", "invoke", "model", "store"]),
    ("cli", &["app", "config", "model", "telemetry"]),
    // It holds the `Config` of every component, and nothing else of theirs: see `CONFIG_NAMES`.
    (
        "config",
        &[
            "api",
            "auth",
            "cluster",
            "invoke",
            "link",
            "model",
            "pool",
            "queue",
            "sandbox",
            "store",
            "system",
            "telemetry",
            "worker",
        ],
    ),
    ("main", &["cli"]),
];

/// What `config` may name of a component.
const CONFIG_NAMES: &[&str] = &["Config", "EffectiveLimits"];

/// Foreign crate -> the only paths under `src/` that may name it.
const OWNERS: &[(&str, &[&str])] = &[
    ("wasmtime", &["sandbox/"]),
    ("wasmtime_wasi", &["sandbox/"]),
    ("wasmparser", &["sandbox/"]),
    ("wasmtime_wasi_http", &["sandbox/"]),
    ("wat", &["sandbox/"]),
    // The client looks into an archive to tell what language it is in, and makes those of folders.
    ("zip", &["sandbox/", "cli/code.rs", "cli/pack.rs"]),
    ("ruzstd", &["sandbox/language/"]),
    ("redis", &["link/"]),
    ("tokio_rustls", &["link/", "sandbox/egress/"]),
    ("webpki_roots", &["sandbox/egress/"]),
    ("axum", &["api/", "app/"]),
    ("tower", &["api/", "app/"]),
    ("hyper", &["api/", "sandbox/egress/"]),
    ("hyper_util", &["api/", "sandbox/egress/"]),
    ("rusqlite", &["store/embedded/"]),
    ("aes_gcm", &["store/seal.rs"]),
    ("croner", &["model/schedule.rs"]),
    ("jiff", &["model/schedule.rs"]),
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("ureq", &["cli/"]),
    ("serde_saphyr", &["cli/"]),
    ("toml", &["config.rs", "cli/"]),
    ("anyhow", &["main.rs", "app/", "cli/"]),
    ("metrics_exporter_prometheus", &["telemetry/", "app/"]),
];

/// Longest source file, tests not counted.
const LINES_MAX: usize = 600;

/// Longest test module inside a source file.
const TEST_LINES_MAX: usize = 100;

/// A source file.
struct Source {
    /// Its path below `src/`.
    path: String,
    /// Its lines before the tests, without their comments.
    code: Vec<String>,
    /// How many lines of tests follow.
    tests: usize,
}

impl Source {
    /// Whether the file is tests altogether.
    fn is_test(&self) -> bool {
        let path = self.path.trim_end_matches(".rs");
        path.ends_with("tests")
            || path.contains("tests/")
            || path.ends_with("suite")
            || path.ends_with("fake")
    }

    /// `store/embedded/mod.rs` is in `store`.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().expect("not empty");
        let first = first.trim_end_matches(".rs");
        first.strip_suffix("_tests").unwrap_or(first)
    }
}

fn sources() -> Vec<Source> {
    let root = repository().join("src");
    let files = files(&root, "rs");
    assert!(
        files.len() > 30,
        "the sources are not where this test looks"
    );
    files.iter().map(|path| read(&root, path)).collect()
}

fn read(root: &Path, path: &Path) -> Source {
    let text = fs::read_to_string(path).expect("readable");
    let lines: Vec<&str> = text.lines().collect();
    let inline = |at: &usize| {
        let next = lines.get(at + 1).unwrap_or(&"");
        lines[*at] == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{')
    };
    let end = (0..lines.len()).find(inline).unwrap_or(lines.len());
    let without_comment = |line: &&str| line.split("//").next().unwrap_or_default().to_owned();
    let path = path.strip_prefix(root).expect("below it");
    Source {
        path: path.to_string_lossy().into_owned(),
        code: lines[..end].iter().map(without_comment).collect(),
        tests: lines.len() - end,
    }
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            // What Cargo builds of the guests is nobody's source.
            if !path.ends_with("target") {
                all.extend(files(&path, extension));
            }
        } else if path.extension().is_some_and(|given| given == extension) {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Paths that follow every `crate::` on the line, `{a, b}` left out: `store::Error` → `store`, `Error`.
fn paths_after_crate(line: &str) -> Vec<Vec<&str>> {
    let mut paths = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("crate::") {
        rest = after;
        if before.ends_with(|c: char| is_name(c) || c == '$') {
            continue;
        }
        let path = after.split(|c: char| !is_name(c) && c != ':').next();
        let segments = path.unwrap_or_default().split("::");
        paths.push(segments.filter(|segment| !segment.is_empty()).collect());
    }
    paths
}

/// Whether the line names the foreign crate, as `krate::…` that is not part of a longer path.
fn names_crate(line: &str, krate: &str) -> bool {
    let path = format!("{krate}::");
    let mut parts: Vec<&str> = line.split(&path).collect();
    parts.pop();
    parts
        .iter()
        .any(|before| !before.ends_with(|c: char| is_name(c) || c == ':'))
}

fn assert_none(errors: &[String]) {
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}

#[test]
fn arrows_point_the_right_way() {
    let mut errors = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let module = source.module();
        if matches!(module, "app" | "lib") {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            errors.push(format!(
                "{}: the module {module} is not in the table",
                source.path
            ));
            continue;
        };
        for (index, line) in source.code.iter().enumerate() {
            for path in paths_after_crate(line) {
                let Some(used) = path
                    .first()
                    .filter(|name| name.starts_with(char::is_lowercase))
                else {
                    continue;
                };
                let at = format!("{}:{}", source.path, index + 1);
                if *used != module && !allowed.contains(used) {
                    errors.push(format!("{at}: {module} may not import {used}"));
                }
                let leaf = path.last().expect("not empty");
                let is_component = !matches!(*used, "model" | "telemetry" | "config");
                if module == "config"
                    && is_component
                    && leaf.starts_with(char::is_uppercase)
                    && !CONFIG_NAMES.contains(leaf)
                {
                    errors.push(format!(
                        "{at}: config may name only {CONFIG_NAMES:?} of {used}, not {leaf}"
                    ));
                }
            }
        }
    }
    assert_none(&errors);
}

#[test]
fn foreign_crates_are_named_by_their_owners_only() {
    let mut errors = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (index, line) in source.code.iter().enumerate() {
            for (krate, owners) in OWNERS {
                let owned = owners.iter().any(|owner| source.path.starts_with(owner));
                if names_crate(line, krate) && !owned {
                    errors.push(format!(
                        "{}:{}: only {owners:?} may name {krate}",
                        source.path,
                        index + 1
                    ));
                }
            }
            let reads_environment = line.contains("std::env::") || line.contains("env::var");
            if reads_environment && source.path != "config.rs" {
                errors.push(format!(
                    "{}:{}: only config.rs reads the environment",
                    source.path,
                    index + 1
                ));
            }
        }
    }
    assert_none(&errors);
}

#[test]
fn files_are_short_enough_to_be_read() {
    let mut errors = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        if source.code.len() > LINES_MAX {
            errors.push(format!(
                "{}: {} lines, at most {LINES_MAX}",
                source.path,
                source.code.len()
            ));
        }
        if source.tests > TEST_LINES_MAX {
            errors.push(format!(
                "{}: {} lines of tests inside; beyond {TEST_LINES_MAX} they are a file",
                source.path, source.tests
            ));
        }
    }
    assert_none(&errors);
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let headless = |path: &PathBuf| {
        !fs::read_to_string(path)
            .expect("readable")
            .starts_with("//!")
    };
    let src = files(&repository().join("src"), "rs");
    let tests = files(&repository().join("tests"), "rs");
    let all = src
        .into_iter()
        .chain(tests)
        .filter(|path| !path.ends_with("lib.rs") && !path.to_string_lossy().ends_with("tests.rs"));
    let errors: Vec<String> = all
        .filter(headless)
        .map(|path| format!("{}: begins without //!", path.display()))
        .collect();
    assert_none(&errors);
}

#[test]
fn no_file_is_dead() {
    let src = repository().join("src");
    let mut errors = Vec::new();
    for path in files(&src, "rs") {
        let stem = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let folder = path.parent().expect("a folder");
        if folder == src && matches!(stem.as_str(), "main" | "lib") {
            continue;
        }
        // `mod x;` stands in the folder's mod.rs, in lib.rs, or, with a path, in the file beside it.
        let (name, parents) = match stem.as_str() {
            "mod" => (
                folder
                    .file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned(),
                folder.parent().expect("below src"),
            ),
            _ => (stem, folder),
        };
        let declared = files(parents, "rs").iter().any(|file| {
            let text = fs::read_to_string(file).expect("readable");
            text.contains(&format!("mod {name};")) || text.contains(&format!("{name}.rs\"]"))
        });
        if !declared {
            errors.push(format!("{}: no module declares it", path.display()));
        }
    }
    assert_none(&errors);
}

#[test]
fn every_guest_and_every_example_is_used() {
    let tests: String = files(&repository().join("tests"), "rs")
        .iter()
        .chain(&files(&repository().join("src"), "rs"))
        .map(|path| fs::read_to_string(path).expect("readable"))
        .collect();
    let mut errors = Vec::new();
    for path in files(&repository().join("tests/fixtures"), "wat") {
        let name = path.file_name().expect("a name").to_string_lossy();
        if !tests.contains(&*name) {
            errors.push(format!("{}: no test names it", path.display()));
        }
    }
    assert_none(&errors);
}

/// `section.key` of everything in a table, to the second level.
fn keys(table: &toml::Table) -> BTreeSet<String> {
    let sections = table
        .iter()
        .filter_map(|(section, value)| Some((section, value.as_table()?)));
    sections
        .flat_map(|(section, inner)| inner.keys().map(move |key| format!("{section}.{key}")))
        .collect()
}

/// What the documented defaults say, and which keys they name only in a comment (`# key = value`).
fn documented() -> (toml::Table, BTreeSet<String>) {
    let text = wisp::config::DEFAULTS;
    let mut section = String::new();
    let mut commented = BTreeSet::new();
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            name.clone_into(&mut section);
        }
        if let Some((key, _)) = line
            .strip_prefix("# ")
            .and_then(|line| line.split_once(" = "))
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            commented.insert(format!("{section}.{key}"));
        }
    }
    (
        text.parse().expect("config.default.toml is TOML"),
        commented,
    )
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let (documented, commented) = documented();
    let mut command = crate::harness::binary();
    command.args(["serve", "--print-config"]);
    let (code, printed, errors) = crate::harness::run_to_end(command);
    assert_eq!(code, Some(0), "{errors}");
    let actual: toml::Table = printed.parse().expect("--print-config prints TOML");
    let mut wrong = Vec::new();
    for key in keys(&actual).union(&keys(&documented)) {
        let (section, name) = key.split_once('.').expect("section.key");
        let of = |table: &toml::Table| {
            table
                .get(section)
                .and_then(|table| table.get(name))
                .cloned()
        };
        let (said, is) = (of(&documented), of(&actual));
        if said != is && !(said.is_none() && commented.contains(key)) {
            wrong.push(format!("{key}: documented {said:?}, is {is:?}"));
        }
    }
    assert_none(&wrong);
}
