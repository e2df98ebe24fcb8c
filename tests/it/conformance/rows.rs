//! The rows of the contract's tables, and where each is shown: by a case, or elsewhere.
//!
//! `rows.toml` has their names by section, `elsewhere.toml` those that no request can show, with the reason and the test
//! that shows what stands for them here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::case::File;
use crate::harness::repository;

/// What `elsewhere.toml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Elsewhere {
    row: Vec<Shown>,
}

/// A row that no request can show.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    row: String,
    why: String,
    /// `file: function`.
    test: String,
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = repository().join("tests/conformance").join(name);
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every row as `section row`.
fn rows() -> BTreeSet<String> {
    let tables: BTreeMap<String, Vec<String>> = read("rows.toml");
    let mut rows = BTreeSet::new();
    for (section, keys) in tables {
        for key in keys {
            let row = format!("{section} {key}");
            assert!(rows.insert(row.clone()), "rows.toml: {row} is there twice");
        }
    }
    rows
}

/// What is wrong with `test`, if anything: it must be a function of that file that the tests run.
fn fault(test: &str) -> Option<String> {
    let Some((file, function)) = test.split_once(": ") else {
        return Some(format!("{test} is no `file: function`"));
    };
    let Ok(text) = fs::read_to_string(repository().join(file)) else {
        return Some(format!("there is no file {file}"));
    };
    let head = format!("fn {function}(");
    let Some((before, _)) = text.split_once(&head) else {
        return Some(format!("{file} has no function {function}"));
    };
    let is_test = before
        .lines()
        .rev()
        .take_while(|line| !line.is_empty())
        .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
    // A suite's functions are run for each form of what it tests, by a list of their names.
    let is_of_suite = file.ends_with("suite.rs") && text.matches(function).count() > 1;
    (!is_test && !is_of_suite).then(|| format!("{file}: {function} is no test"))
}

/// What is wrong with what the cases and `elsewhere.toml` say of the rows; how many rows they show.
pub(super) fn check(files: &[File]) -> (Vec<String>, [usize; 2]) {
    let rows = rows();
    let elsewhere: Elsewhere = read("elsewhere.toml");
    let mut faults = Vec::new();
    let mut shown = BTreeSet::new();
    for file in files {
        for case in &file.cases {
            for row in &case.rows {
                if !rows.contains(row) {
                    faults.push(format!("{}: there is no row {row}", case.name));
                }
                shown.insert(row.as_str());
            }
        }
    }
    let mut others = BTreeSet::new();
    for Shown { row, why, test } in &elsewhere.row {
        if !rows.contains(row) {
            faults.push(format!("elsewhere.toml: there is no row {row}"));
        }
        if shown.contains(row.as_str()) || !others.insert(row.as_str()) {
            faults.push(format!("elsewhere.toml: {row} is shown already"));
        }
        if why.is_empty() {
            faults.push(format!(
                "elsewhere.toml: {row}: why can no request show it?"
            ));
        }
        faults.extend(fault(test).map(|fault| format!("elsewhere.toml: {row}: {fault}")));
    }
    for row in &rows {
        if !shown.contains(row.as_str()) && !others.contains(row.as_str()) {
            faults.push(format!("{row}: no case shows it"));
        }
    }
    (faults, [shown.len(), others.len()])
}
