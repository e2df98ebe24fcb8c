//! A project from its manifest to a server, again, and away.

use std::fs;

use serde_json::{Value, json};

use super::User;
use crate::harness::{ECHO, Server, annotation};

const MANIFEST: &str = "\
project:
  name: shop
packages:
  orders:
    inputs:
      region: ${REGION}
    actions:
      list:
        function: echo.wat
        web: yes
        inputs: {limit: 5}
        limits: {memorySize: 128}
      work:
        function: hello-rust.wasm
    sequences:
      both: {actions: list}
    triggers:
      placed: {inputs: {kind: order}}
      ticks: {feed: orders/list, inputs: {every: 5}}
    rules:
      on-placed: {trigger: placed, action: list}
";

/// What follows, and where it needs the management of APIs.
const APIS: &str = "    apis:
      Shop:
        shop:
          orders: {list: {method: GET, response: json}}
";

/// A user with the files of a project.
fn user(manifest: &str) -> User {
    let user = User::new();
    user.file("echo.wat", ECHO);
    let wasm = crate::harness::repository().join("examples/hello-rust/hello-rust.wasm");
    fs::copy(wasm, user.home.path().join("hello-rust.wasm")).unwrap();
    user.file("manifest.yaml", manifest);
    user
}

fn run(user: &User, args: &[&str]) -> super::Done {
    let mut all = vec![
        "--apihost",
        &user.url,
        "--auth",
        &user.tenant.key,
        "project",
    ];
    all.extend(args);
    let mut command = crate::harness::binary();
    command
        .args(all)
        .env("HOME", user.home.path())
        .env("REGION", "eu")
        .current_dir(user.home.path());
    let (code, out, err) = crate::harness::run_to_end(command);
    super::Done { code, out, err }
}

#[test]
fn a_project_is_deployed_once_and_then_as_it_should_be() {
    let user = user(MANIFEST);
    let done = run(&user, &["diff"]);
    assert_eq!(done.code, Some(1), "something would change: {done:?}");
    user.tenant.get("packages/orders").expect(404);
    let done = run(&user, &["deploy"]).ok();
    assert!(done.out.contains("7 to create."), "{done:?}");
    assert!(
        done.out.ends_with("ok: created rule on-placed\n"),
        "{done:?}"
    );
    let done = user.run(&["action", "invoke", "orders/both", "-r"]).ok();
    assert_eq!(done.json(), json!({ "limit": 5, "region": "eu" }));
    let done = user
        .run(&["action", "invoke", "orders/work", "-r", "-p", "name", "Ada"])
        .ok();
    assert!(done.out.contains("Ada"), "{done:?}");
    let list = user.tenant.get("actions/orders/list").expect(200).json();
    assert_eq!(annotation(&list, "web-export"), Some(&json!(true)));
    assert_eq!(list["limits"]["memory"], 128);

    let done = run(&user, &["deploy"]).ok();
    assert!(
        done.out.contains("nothing changes (7 as they should be)"),
        "{done:?}"
    );
    assert_eq!(run(&user, &["diff"]).code, Some(0));

    // What is changed by hand is seen, and only that.
    user.run(&[
        "action",
        "update",
        "orders/list",
        "-m",
        "256",
        "-p",
        "limit",
        "6",
    ])
    .ok();
    user.run(&["rule", "disable", "on-placed"]).ok();
    let done = run(&user, &["deploy", "--json"]).ok().json();
    let fields: Vec<_> = done["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| &step["fields"])
        .collect();
    assert_eq!(
        fields,
        [
            &json!(["parameters.limit", "limits.memory"]),
            &json!(["status"])
        ]
    );
    let done = user.run(&["rule", "status", "on-placed"]).ok();
    assert_eq!(done.out, "ok: rule on-placed is active\n");

    // The code is not needed any more.
    fs::remove_file(user.home.path().join("echo.wat")).unwrap();
    let done = run(&user, &["undeploy", "--yes"]).ok();
    assert!(done.out.contains("7 to delete."), "{done:?}");
    let rest = user.run(&["list", "--json"]).ok().json();
    assert_eq!(
        rest,
        json!({ "packages": [], "actions": [], "triggers": [], "rules": [] })
    );
}

#[test]
fn a_managed_project_takes_away_what_its_manifest_has_no_more() {
    let user = user(MANIFEST);
    user.tenant.put_action("by-hand", ECHO);
    run(&user, &["deploy", "--managed"]).ok();
    let rest = MANIFEST.split_once("    sequences:").unwrap().0;
    user.file("manifest.yaml", rest);
    let done = run(&user, &["diff", "--managed"]);
    for gone in [
        "- rule      on-placed",
        "- trigger   placed",
        "- sequence  orders/both",
    ] {
        assert!(done.out.contains(gone), "{gone}: {done:?}");
    }
    run(&user, &["deploy", "--managed"]).ok();
    user.tenant.get("triggers/placed").expect(404);
    user.tenant.get("actions/orders/list").expect(200);
    user.tenant.get("actions/by-hand").expect(200);
}

#[test]
fn a_project_deploys_its_apis() {
    let user = user(&format!("{MANIFEST}{APIS}"));
    let done = run(&user, &["deploy"]).ok();
    assert!(
        done.out.ends_with("ok: created api GET /shop/orders\n"),
        "{done:?}"
    );
    let done = run(&user, &["deploy"]).ok();
    assert!(
        done.out.contains("nothing changes (8 as they should be)"),
        "{done:?}"
    );
    run(&user, &["undeploy"]).ok();
    assert_eq!(user.run(&["api", "list", "--json"]).ok().json(), json!([]));
}

#[test]
fn a_manifest_that_cannot_be_read_says_where() {
    let user = user("packages:\n  p:\n    actoins: {}\n");
    let done = run(&user, &["deploy"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    for says in ["manifest.yaml", "line 3", "actoins"] {
        assert!(done.err.contains(says), "{says}: {done:?}");
    }
    user.file("manifest.yaml", MANIFEST.replace("echo.wat", "none.wat"));
    let done = run(&user, &["deploy"]);
    assert!(
        done.err.contains("action list: cannot read") && done.err.contains("none.wat"),
        "{done:?}"
    );
    let done = run(&user, &["deploy", "-m", "other.yaml"]);
    assert!(
        done.code == Some(1) && done.err.contains("other.yaml"),
        "{done:?}"
    );
}

const SECRETS: &str = "\
project:
  name: vault
packages:
  safe:
    inputs: {shared: of-the-package}
    actions:
      open:
        function: echo.wat
        inputs: {pin: of-the-action, nested: {b: [1, 2.5], a: null}}
    triggers:
      ring: {inputs: {token: of-the-trigger}}
    rules:
      on-ring: {trigger: ring, action: open}
";

#[test]
fn encrypted_parameters_are_changed_only_when_they_are_and_shown_to_nobody() {
    let server = Server::start(&format!(
        "[encryption]\nkeys = \"{}\"",
        "A".repeat(43) + "="
    ));
    let user = User::of(&server);
    user.file("echo.wat", ECHO);
    user.file("manifest.yaml", SECRETS);
    let mut shown = String::new();
    let mut told = |done: super::Done| {
        shown.push_str(&done.out);
        shown.push_str(&done.err);
        done
    };
    told(run(&user, &["deploy"]).ok());
    let done = told(run(&user, &["diff"]));
    assert_eq!(done.code, Some(0), "{done:?}");
    let done = told(run(&user, &["deploy"]).ok());
    assert!(done.out.contains("nothing changes"), "{done:?}");

    let changed = SECRETS.replace("of-the-action", "of-the-vault");
    user.file(
        "manifest.yaml",
        changed.replace("of-the-trigger", "of-the-bell"),
    );
    let done = told(run(&user, &["deploy", "--json"]).ok());
    let fields = |step: &Value| step["fields"].clone();
    let steps = done.json()["changes"].as_array().expect("steps").clone();
    assert_eq!(
        steps.iter().map(fields).collect::<Vec<_>>(),
        [json!(["parameters.pin"]), json!(["parameters.token"])]
    );
    assert_eq!(told(run(&user, &["diff"])).code, Some(0));
    assert!(!shown.contains("of-the-"), "{shown}");
    let done = user.run(&["action", "invoke", "safe/open", "-r"]).ok();
    assert_eq!(done.json()["pin"], "of-the-vault");

    // Digests are for whoever asks, and owns it.
    let plain = user.tenant.get("actions/safe/open").expect(200).text();
    assert!(!plain.contains("digest"), "{plain}");
    user.tenant
        .put("packages/safe?overwrite=true", &json!({ "publish": true }))
        .expect(200);
    let other = server.tenant();
    let binding = json!({ "binding": { "namespace": user.tenant.namespace, "name": "safe" }, "parameters": [{ "key": "mine", "value": 1 }] });
    other.put("packages/bound", &binding).expect(200);
    let path = format!(
        "/api/v1/namespaces/{}/actions/safe/open?digest=s",
        user.tenant.namespace
    );
    let action = other
        .client
        .send(&other.request("GET", &path))
        .expect(200)
        .text();
    assert!(
        action.contains("pin") && !action.contains("digest"),
        "{action}"
    );
    let bound = other.get("packages/bound?digest=s").expect(200).json();
    let digests = bound["parameters"].as_array().expect("a list").iter();
    let digests = digests.map(|one| (one["key"].as_str(), one.get("digest").is_some()));
    assert_eq!(
        digests.collect::<Vec<_>>(),
        [(Some("shared"), false), (Some("mine"), true)]
    );
}
