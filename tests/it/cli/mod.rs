//! The client, as the real program against a real server: what it sends, prints, and ends with.

mod actions;
mod dev;
mod entities;
mod languages;
mod project;
mod serve;

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{ECHO, SYSTEM_KEY, Server, Tenant, answers, binary, run_to_end, shared};

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
