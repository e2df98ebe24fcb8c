//! `wisp serve`: what it refuses, and what it says.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};

use tempfile::TempDir;

use crate::harness::{
    Client, GUEST_KEY, Tenant, binary, eventually, repository, run_to_end, shared,
};

/// What `serve` refuses, and what it must say.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "[server]\nlissten = \"127.0.0.1:0\"\n",
        &["wisp.toml:2", "lissten"],
    ),
    ("[nonsense]\na = 1\n", &["wisp.toml:1", "nonsense"]),
    ("[pool]\nkeep_alive_s = \"long\"\n", &["wisp.toml:2"]),
    ("[server\n", &["wisp.toml:1"]),
    (
        "[log]\nfilter = \"wisp=loud\"\n",
        &["wisp.toml:2", "filter"],
    ),
    ("[limits]\nmemory = { min = 500, max = 100 }\n", &["memory"]),
    ("[auth]\nguest_key = \"no key\"\n", &["guest_key"]),
];

#[test]
fn a_bad_configuration_is_refused_with_the_line_and_the_reason() {
    let folder = TempDir::new().unwrap();
    for (text, words) in REFUSED {
        let file = folder.path().join("wisp.toml");
        fs::write(&file, text).unwrap();
        let err = serve_refused(&["--config", &file.display().to_string()], folder.path());
        for word in *words {
            assert!(err.contains(word), "{text:?}: {word} is not in: {err}");
        }
    }
    let missing = serve_refused(&["--config", "/no/such/wisp.toml"], folder.path());
    assert!(missing.contains("/no/such/wisp.toml"), "{missing}");
    let address = serve_refused(&["--listen", "nowhere"], folder.path());
    assert!(address.contains("--listen"), "{address}");
}

#[test]
fn beyond_loopback_the_well_known_keys_are_refused() {
    let folder = TempDir::new().unwrap();
    let err = serve_refused(&["--listen", "0.0.0.0:0"], folder.path());
    assert!(
        err.contains("guest_key") && err.contains("system_key"),
        "says how to set others: {err}"
    );
}

#[test]
fn a_port_in_use_is_said() {
    let folder = TempDir::new().unwrap();
    let taken = shared().address.to_string();
    let err = serve_refused(&["--listen", &taken], folder.path());
    assert!(err.contains(&taken), "{err}");
}

/// `wisp serve` with `args`, which must end by itself with an error and without a panic: what it says.
#[track_caller]
fn serve_refused(args: &[&str], folder: &Path) -> String {
    let mut command = binary();
    command
        .arg("serve")
        .args(args)
        .arg("--data")
        .arg(folder.join("data"));
    if !args.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    let (code, _, err) = run_to_end(command);
    assert!(
        code.is_some_and(|code| code != 0),
        "it started, or hangs: {args:?}: {err}"
    );
    assert!(!err.contains("panicked"), "{err}");
    err
}

#[test]
fn the_environment_goes_over_the_file_and_flags_over_both() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("wisp.toml");
    fs::write(
        &file,
        "[pool]\nkeep_alive_s = 1\nmemory_mib = 300\n[log]\nformat = \"human\"\n",
    )
    .unwrap();
    let mut command = binary();
    command
        .args([
            "serve",
            "--print-config",
            "--log-format",
            "json",
            "--config",
        ])
        .arg(&file);
    command
        .env("WISP_POOL_KEEP_ALIVE_S", "2")
        .env("WISP_LOG_FORMAT", "human");
    let (code, out, err) = run_to_end(command);
    assert_eq!(code, Some(0), "{err}");
    let config: toml::Table = out.parse().expect("it prints TOML");
    assert_eq!(config["pool"]["keep_alive_s"].as_integer(), Some(2));
    assert_eq!(config["pool"]["memory_mib"].as_integer(), Some(300));
    assert_eq!(config["log"]["format"].as_str(), Some("json"));
}

/// Ends a process with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts `serve --examples`; what it said until it was ready.
fn serve_examples(folder: &Path) -> (Ended, Vec<String>) {
    let mut command = binary();
    command.args(["serve", "--examples", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(folder.join("data")).current_dir(repository());
    // One file for both, so that what came first is first.
    let path = folder.join("said");
    let file = File::create(&path).unwrap();
    let child = command
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let child = Ended(child);
    let said = eventually("it is ready", || {
        let text = fs::read_to_string(&path).unwrap();
        let (before, _) = text.split_once("Ready; ")?;
        Some(before.lines().map(str::to_owned).collect())
    });
    (child, said)
}

#[test]
fn serve_examples_deploys_them_and_prints_lines_that_work() {
    let folder = TempDir::new().unwrap();
    let (_server, said) = serve_examples(folder.path());
    let url = said
        .iter()
        .flat_map(|line| line.split_whitespace())
        .find(|word| word.starts_with("http://"));
    let url = url.unwrap_or_else(|| panic!("no URL: {said:#?}"));
    assert!(
        said.iter().any(|line| line.contains(GUEST_KEY)),
        "the guest key: {said:#?}"
    );
    let client = Client {
        address: url.trim_start_matches("http://").parse().unwrap(),
    };
    let deployed = Tenant::new(client, "guest", GUEST_KEY)
        .get("actions?limit=0")
        .expect(200)
        .json();
    let names: Vec<&str> = deployed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["name"].as_str())
        .collect();
    for wanted in [
        "hello-rust",
        "hello-wat",
        "hello-component",
        "wordcount",
        "primes",
    ] {
        assert!(
            names.contains(&wanted),
            "{wanted} is not among {names:?}: {said:#?}"
        );
    }
    assert!(
        !said.iter().any(|line| line.contains("engine")),
        "no engine is compiled while somebody waits: {said:#?}"
    );
    let lines = said.iter().map(|line| line.trim());
    let pasted: Vec<&str> = lines
        .filter(|line| line.starts_with("curl ") || line.contains(" action invoke "))
        .collect();
    assert!(pasted.len() >= 2, "lines to paste: {said:#?}");
    for line in pasted
        .iter()
        .filter(|line| line.contains(" action invoke "))
    {
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(line)
            .current_dir(repository())
            .env("HOME", folder.path());
        let (code, out, err) = run_to_end(shell);
        assert_eq!(code, Some(0), "{line}: {out} {err}");
    }
}
