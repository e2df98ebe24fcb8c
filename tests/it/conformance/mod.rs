//! The contract of the wire, section by section: requests and answers as data, in `tests/conformance/`.
//!
//! A file is a section, a case a row of one of its tables. Each case is played in a fresh namespace against the real program,
//! see [`play`]; what a file may say is in [`case`] and [`check`], and in the README beside the files. That no row is forgotten is
//! checked in [`rows`].

mod case;
mod check;
mod play;
mod rows;
mod vars;

use std::collections::BTreeSet;
use std::fs;

use case::File;

use crate::harness::{Server, repository, shared};

/// At least as many cases as there are rows in the contract's tables.
const CASES_MIN: usize = 350;

/// The sections of the contract that say what can be seen on the wire.
const SECTIONS: &[&str] = &[
    "0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6",
    "2.7", "2.8", "2.9", "2.10", "2.11", "2.12", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "4.1",
    "4.2", "5.1", "5.2", "5.3", "6.1", "6.2", "6.3", "6.4", "6.5", "6.6", "6.7", "7", "8.1", "8.2",
    "9.1", "9.2", "9.3", "10.2", "10.3", "10.4", "11.2", "11.6", "12", "13",
];

fn load(name: &str) -> File {
    let path = repository().join("tests/conformance").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every file of cases there is.
fn names() -> BTreeSet<String> {
    let folder = fs::read_dir(repository().join("tests/conformance")).expect("a readable folder");
    let names = folder.map(|entry| {
        entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    names.filter(|name| name.ends_with(".json")).collect()
}

#[track_caller]
fn check(name: &str) {
    let file = load(name);
    let faults = play::faults(&file);
    assert!(faults.is_empty(), "{name}: {faults:#?}");
    println!(
        "section {} {}: {} cases",
        file.section,
        file.title,
        file.cases.len()
    );
    let failures = match file.server.is_empty() {
        true => play::play(shared(), &file),
        false => play::play(&Server::start(&file.server.to_string()), &file),
    };
    assert!(
        failures.is_empty(),
        "{name}: {} of {} cases failed\n\n{}",
        failures.len(),
        file.cases.len(),
        failures.join("\n")
    );
}

/// A test for each file, so that a section that fails is seen by its name.
macro_rules! sections {
    ($($test:ident: $file:literal;)*) => {
        $(
            #[test]
            fn $test() {
                check($file);
            }
        )*

        const FILES: &[&str] = &[$($file),*];
    };
}

sections! {
    s0_map: "0-map.json";
    s1_1_credentials: "1.1-credentials.json";
    s1_1_isolation: "1.1-isolation.json";
    s1_2_errors: "1.2-errors.json";
    s1_3_methods: "1.3-methods.json";
    s1_4_headers: "1.4-headers.json";
    s1_5_cors: "1.5-cors.json";
    s1_6_info: "1.6-info.json";
    s1_7_names: "1.7-names.json";
    s2_1_common_fields: "2.1-common-fields.json";
    s2_2_verbs: "2.2-verbs.json";
    s2_3_conformance: "2.3-conformance.json";
    s2_4_code_size: "2.4-code-size.json";
    s2_4_sizes: "2.4-sizes.json";
    s2_5_lists: "2.5-lists.json";
    s2_6_actions: "2.6-actions.json";
    s2_6_deprecated: "2.6-deprecated.json";
    s2_7_packages: "2.7-packages.json";
    s2_7_execute_only: "2.7-execute-only.json";
    s2_8_triggers: "2.8-triggers.json";
    s2_9_rules: "2.9-rules.json";
    s2_10_parameters: "2.10-parameters.json";
    s2_10_encryption: "2.10-encryption.json";
    s2_11_annotations: "2.11-annotations.json";
    s2_12_system: "2.12-system.json";
    s3_1_invoke: "3.1-invoke.json";
    s3_2_overload: "3.2-overload.json";
    s3_2_patience: "3.2-patience.json";
    s3_2_responses: "3.2-responses.json";
    s3_3_results: "3.3-results.json";
    s3_3_warmth: "3.3-warmth.json";
    s3_4_activations: "3.4-activations.json";
    s3_5_logs: "3.5-logs.json";
    s3_6_environment: "3.6-environment.json";
    s4_1_fire: "4.1-fire.json";
    s4_2_feeds: "4.2-feeds.json";
    s5_1_sequences: "5.1-sequences.json";
    s5_2_sequence_runs: "5.2-sequence-runs.json";
    s5_3_conductors: "5.3-conductors.json";
    s6_1_web_addresses: "6.1-web-addresses.json";
    s6_2_web_authentication: "6.2-web-authentication.json";
    s6_3_web_arguments: "6.3-web-arguments.json";
    s6_4_web_responses: "6.4-web-responses.json";
    s6_5_web_http: "6.5-web-http.json";
    s6_6_web_cors: "6.6-web-cors.json";
    s6_7_web_cli: "6.7-web-cli.json";
    s7_throttles: "7-throttles.json";
    s8_1_runtimes: "8.1-runtimes.json";
    s8_2_code: "8.2-code.json";
    s9_1_api_calls: "9.1-api-calls.json";
    s9_2_api_responses: "9.2-api-responses.json";
    s9_3_api_served: "9.3-api-served.json";
    s10_2_cli: "10.2-cli.json";
    s10_3_npm: "10.3-npm.json";
    s10_4_demands: "10.4-demands.json";
    s11_2_queues: "11.2-queues.json";
    s11_6_knobs: "11.6-knobs.json";
    s12_complaints: "12-complaints.json";
    s13_easily_missed: "13-easily-missed.json";
}

#[test]
fn every_row_of_the_contract_has_its_case() {
    let tested: BTreeSet<String> = FILES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(tested, names(), "each file has a test, each test a file");
    let files: Vec<File> = FILES.iter().map(|name| load(name)).collect();
    let sections: BTreeSet<&str> = files.iter().map(|file| file.section.as_str()).collect();
    let missing: Vec<&&str> = SECTIONS
        .iter()
        .filter(|section| !sections.contains(*section))
        .collect();
    assert!(missing.is_empty(), "sections without a file: {missing:?}");
    let (faults, [shown, elsewhere]) = rows::check(&files);
    assert!(faults.is_empty(), "{faults:#?}");
    let cases: usize = files.iter().map(|file| file.cases.len()).sum();
    println!(
        "{} sections, {cases} cases, {} rows: {shown} shown by cases, {elsewhere} by other tests",
        sections.len(),
        shown + elsewhere
    );
    assert!(
        cases >= CASES_MIN,
        "{cases} cases, at least {CASES_MIN} wanted"
    );
}
