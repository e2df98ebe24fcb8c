//! The client, as the real program against a real server: what it sends, prints, and ends with.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Client, ECHO, GUEST_KEY, SYSTEM_KEY, Server, Tenant, answers, binary, logs, repository,
    run_to_end, shared,
};

/// A user: a home of their own, and a server to talk to.
struct User {
    home: TempDir,
    tenant: Tenant,
    url: String,
}

/// What a command did.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Done {
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl User {
    fn new() -> Self {
        Self::of(shared())
    }

    fn of(server: &Server) -> Self {
        Self {
            home: TempDir::new().unwrap(),
            tenant: server.tenant(),
            url: server.url(),
        }
    }

    /// Runs with the address and the key on the command line.
    fn run(&self, args: &[&str]) -> Done {
        let mut all = vec!["--apihost", &self.url, "--auth", &self.tenant.key];
        all.extend(args);
        self.bare(&all)
    }

    /// Runs with nothing but the home folder.
    fn bare(&self, args: &[&str]) -> Done {
        let mut command = binary();
        command
            .args(args)
            .env("HOME", self.home.path())
            .current_dir(self.home.path());
        let (code, out, err) = run_to_end(command);
        Done { code, out, err }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.home.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }
}

#[test]
fn an_action_lives_its_life() {
    let user = User::new();
    let code = user.file("echo.wat", ECHO);
    let done = user
        .run(&[
            "action",
            "create",
            "hello",
            &code,
            "-p",
            "greeting",
            "hi",
            "-a",
            "description",
            "says",
            "-m",
            "128",
            "-t",
            "5000",
            "-l",
            "1",
        ])
        .ok();
    assert_eq!(done.out, "ok: created action hello\n");
    let stored = user.tenant.get("actions/hello").expect(200).json();
    assert_eq!(stored["exec"]["kind"], "wasm:1", "no --kind needed");
    assert_eq!(
        stored["parameters"],
        json!([{ "key": "greeting", "value": "hi" }])
    );
    assert_eq!(
        stored["limits"],
        json!({ "memory": 128, "timeout": 5000, "logs": 1, "concurrency": 1 })
    );
    assert_eq!(
        crate::harness::annotation(&stored, "description"),
        Some(&json!("says"))
    );

    let done = user
        .run(&[
            "action", "invoke", "hello", "-r", "-p", "n", "5", "-p", "list", "[1,2]",
        ])
        .ok();
    assert_eq!(
        done.json(),
        json!({ "greeting": "hi", "n": 5, "list": [1, 2] }),
        "values that read as JSON are"
    );
}

#[test]
fn an_action_is_invoked_updated_shown_and_deleted() {
    let user = User::new();
    let code = user.file("echo.wat", ECHO);
    user.run(&["action", "create", "hello", &code, "-t", "5000"])
        .ok();
    let done = user.run(&["action", "invoke", "hello", "-b"]).ok();
    assert!(
        done.out.starts_with("ok: invoked /_/hello with id "),
        "{done:?}"
    );
    let done = user.run(&["action", "invoke", "hello"]).ok();
    assert!(
        done.out.starts_with("ok: invoked /_/hello with id "),
        "{done:?}"
    );

    let done = user
        .run(&["action", "update", "hello", "-p", "greeting", "hello"])
        .ok();
    assert_eq!(done.out, "ok: updated action hello\n");
    let done = user.run(&["action", "get", "hello"]).ok();
    assert!(
        done.out.starts_with("ok: got action hello\n")
            && done.out.contains("\"version\": \"0.0.2\""),
        "{done:?}"
    );
    let done = user.run(&["action", "get", "hello", "limits"]).ok();
    assert!(
        done.out.contains("\"timeout\": 5000") && !done.out.contains("version"),
        "{done:?}"
    );
    let done = user.run(&["action", "list"]).ok();
    assert!(
        done.out
            .contains(&format!("/{}/hello", user.tenant.namespace)),
        "{done:?}"
    );
    let done = user.run(&["action", "delete", "hello"]).ok();
    assert_eq!(done.out, "ok: deleted action hello\n");
    user.tenant.get("actions/hello").expect(404);
}

#[test]
fn a_wasm_file_arrives_whole() {
    let user = User::new();
    let wasm = repository().join("examples/hello-rust/hello-rust.wasm");
    user.run(&["action", "create", "rust", &wasm.display().to_string()])
        .ok();
    let done = user
        .run(&["action", "invoke", "rust", "-r", "-p", "name", "Ada"])
        .ok();
    assert!(done.out.contains("Ada"), "{done:?}");
    user.run(&["action", "get", "rust", "--save-as", "copy.wasm"])
        .ok();
    let copy = fs::read(user.home.path().join("copy.wasm")).unwrap();
    assert!(copy == fs::read(wasm).unwrap(), "saved as it was sent");
}

#[test]
fn parameters_come_from_files_too_and_the_line_wins() {
    let user = User::new();
    let code = user.file("echo.wat", ECHO);
    user.run(&["action", "create", "a", &code]).ok();
    let params = user.file("params.json", r#"{"a": 1, "b": {"c": 2}}"#);
    let done = user
        .run(&[
            "action", "invoke", "a", "-r", "-P", &params, "-p", "a", "text",
        ])
        .ok();
    assert_eq!(done.json(), json!({ "a": "text", "b": { "c": 2 } }));
    let broken = user.file("broken.json", "{");
    let done = user.run(&["action", "invoke", "a", "-r", "-P", &broken]);
    assert_ne!(done.code, Some(0));
    assert!(
        done.err.contains("broken.json"),
        "says which file: {done:?}"
    );
}

#[test]
fn activations_are_seen_from_every_side() {
    let user = User::new();
    user.tenant.put_action("talks", &logs("so it goes", 1));
    let id = crate::harness::id_of(&user.tenant.invoke("talks", &json!({})));
    let done = user.run(&["activation", "list"]).ok();
    assert!(
        done.out.contains(&id) && done.out.contains("talks"),
        "{done:?}"
    );
    for which in [id.as_str(), "--last"] {
        let done = user.run(&["activation", "get", which]).ok();
        assert!(
            done.out.starts_with(&format!("ok: got activation {id}\n")),
            "{done:?}"
        );
        let done = user.run(&["activation", "logs", which]).ok();
        assert!(
            done.out.contains(" stdout: so it goes") && done.out.contains(" stderr: so it goes"),
            "{done:?}"
        );
        let done = user.run(&["activation", "result", which]).ok();
        assert_eq!(done.json(), json!({}));
    }
    let done = user.run(&["activation", "logs", "--last", "--strip"]).ok();
    assert_eq!(done.out, "so it goes\nso it goes\n");
    let done = user.run(&["activation", "get", &id, "response"]).ok();
    assert!(done.out.contains("\"success\": true"), "{done:?}");
}

#[test]
fn poll_prints_what_comes_while_it_looks() {
    let user = User::new();
    user.tenant.put_action("talks", &logs("polled line", 1));
    let done = std::thread::scope(|scope| {
        let poll = scope.spawn(|| user.run(&["activation", "poll", "--exit", "6"]));
        // It looks from when it starts: something new until it ends, so that its first look has something to miss.
        while !poll.is_finished() {
            user.tenant.invoke("talks", &json!({})).expect(200);
            crate::harness::pause(std::time::Duration::from_millis(300));
        }
        poll.join().unwrap()
    });
    assert!(
        done.out.contains("talks") && done.out.contains("polled line"),
        "{done:?}"
    );
}

#[test]
fn json_is_all_that_json_prints() {
    let user = User::new();
    let code = user.file("echo.wat", ECHO);
    let invoke = ["action", "invoke", "a", "--json"];
    let commands: &[&[&str]] = &[
        &["action", "create", "a", &code, "--json"],
        &["action", "get", "a", "--json"],
        &["action", "list", "--json"],
        &invoke,
        &["action", "invoke", "a", "-r", "--json"],
        &["action", "invoke", "a", "-b", "--json"],
        &["activation", "list", "--json"],
        &["activation", "get", "--last", "--json"],
        &["activation", "logs", "--last", "--json"],
        &["activation", "result", "--last", "--json"],
        &["namespace", "list", "--json"],
        &["namespace", "get", "--json"],
        &["property", "get", "--json"],
        &["action", "delete", "a", "--json"],
    ];
    for command in commands {
        let done = user.run(command).ok();
        done.json();
    }
    let done = user.run(&["action", "get", "a", "--json"]);
    let error: Value = serde_json::from_str(&done.err).unwrap_or_else(|_| panic!("{done:?}"));
    assert_eq!(error["status"], 404, "{done:?}");
    assert!(done.out.is_empty(), "{done:?}");
}

#[test]
fn exit_codes_are_those_of_wsk() {
    let user = User::new();
    user.tenant
        .put_action("error", &answers("{\"error\":\"no\"}"));
    user.tenant.put_action("a", ECHO);
    let code = user.file("echo.wat", ECHO);
    let text = user.file("text.wat", "no module");
    let table: &[(&[&str], i32)] = &[
        (&["action", "get", "none"], 148),
        (&["action", "invoke", "none"], 148),
        (&["action", "create", "a", &code], 153),
        (&["action", "create", "b", &text], 144),
        (&["action", "create", "b", &code, "-m", "5"], 144),
        (&["action", "invoke", "error", "-r"], 246),
        (&["action", "invoke", "error", "-b"], 246),
        (&["action", "get", "/whisk.system/a"], 147),
        (&["no-such-command"], 2),
        (&["action", "create", "b", "/no/such/file.wasm"], 1),
    ];
    for (args, code) in table {
        let done = user.run(args);
        assert_eq!(done.code, Some(*code), "section 10.1: {args:?}: {done:?}");
        assert!(
            !done.err.is_empty() || !done.out.is_empty(),
            "{args:?} says nothing"
        );
    }
    let wrong = user.bare(&["--apihost", &user.url, "--auth", "x:y", "action", "list"]);
    assert_eq!(wrong.code, Some(145), "{wrong:?}");
    let nobody = user.bare(&["--apihost", "http://127.0.0.1:1", "action", "list"]);
    assert_eq!(nobody.code, Some(3), "{nobody:?}");
    assert!(nobody.err.contains("127.0.0.1:1"), "says where: {nobody:?}");
}

#[test]
fn properties_are_kept_where_wsk_keeps_them() {
    let user = User::new();
    user.bare(&[
        "property",
        "set",
        "--apihost",
        &user.url,
        "--auth",
        &user.tenant.key,
    ])
    .ok();
    let kept = fs::read_to_string(user.home.path().join(".wskprops")).unwrap();
    assert!(
        kept.contains(&format!("AUTH={}", user.tenant.key)) && kept.contains("APIHOST="),
        "section 10.1: {kept}"
    );
    let done = user.bare(&["namespace", "list"]).ok();
    assert!(done.out.contains(&user.tenant.namespace), "{done:?}");
    let done = user.bare(&["property", "get", "--auth", "-o", "raw"]).ok();
    assert_eq!(done.out.trim(), user.tenant.key);
    user.bare(&["property", "unset", "--auth"]).ok();
    let kept = fs::read_to_string(user.home.path().join(".wskprops")).unwrap();
    assert!(!kept.contains(&user.tenant.key), "{kept}");
}

#[test]
fn a_file_of_wsk_is_understood_wherever_it_is() {
    let user = User::new();
    let props = user.file(
        "props",
        format!(
            "# from wsk\nAPIHOST={}\nAUTH={}\nNAMESPACE=_\nAPIGW_ACCESS_TOKEN=x\n",
            user.url, user.tenant.key
        ),
    );
    let mut command = binary();
    command
        .args(["namespace", "list"])
        .env("WSK_CONFIG_FILE", props);
    let (code, out, err) = run_to_end(command);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(&user.tenant.namespace), "{out}");
}

#[test]
fn the_admin_makes_limits_and_blocks_namespaces() {
    let user = User::new();
    let admin = |args: &[&str]| {
        let mut all = vec![
            "--apihost",
            &user.url,
            "--auth",
            SYSTEM_KEY,
            "admin",
            "namespace",
        ];
        all.extend(args);
        user.bare(&all)
    };
    let name = Tenant::fresh_name();
    let made = admin(&["create", &name]).ok();
    let tenant = Tenant::new(shared().client(), &name, made.out.trim());
    tenant.get("actions").expect(200);
    assert!(admin(&["list"]).ok().out.contains(&name));
    admin(&[
        "limits",
        "set",
        &name,
        "concurrentInvocations=5",
        "maxActionTimeout=1000",
    ])
    .ok();
    admin(&["limits", "set", &name, "concurrentInvocations=6"]).ok();
    let limits = tenant.get("limits").expect(200).json();
    assert_eq!(
        (
            &limits["concurrentInvocations"],
            &limits["maxActionTimeout"]
        ),
        (&json!(6), &json!(1000)),
        "keeps the others"
    );
    admin(&["limits", "unset", &name]).ok();
    assert_ne!(
        tenant.get("limits").expect(200).json()["concurrentInvocations"],
        6
    );
    admin(&["block", &name]).ok();
    tenant.get("actions").expect(401);
    admin(&["unblock", &name]).ok();
    tenant.get("actions").expect(200);
    let rotated = admin(&["rotate-key", &name]).ok();
    tenant.get("actions").expect(401);
    Tenant::new(shared().client(), &name, rotated.out.trim())
        .get("actions")
        .expect(200);
    admin(&["delete", &name]).ok();
    assert_eq!(admin(&["get", &name]).code, Some(148));
    let guest = user.run(&["admin", "namespace", "list"]);
    assert_eq!(guest.code, Some(147), "only with the system key: {guest:?}");
}

#[test]
fn completions_are_written_for_shells() {
    let user = User::new();
    for shell in ["bash", "zsh", "fish"] {
        let done = user.bare(&["completion", shell]).ok();
        assert!(
            done.out.contains("wisp") && done.out.len() > 1000,
            "{shell}"
        );
    }
}

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
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut child = Ended(child);
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut said: Vec<String> = Vec::new();
    for line in lines {
        said.push(line.unwrap());
        if said.last().is_some_and(|line| line.contains("Ready")) {
            break;
        }
    }
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
