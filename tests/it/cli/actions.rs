//! Actions and activations from the command line.

use std::fs;

use serde_json::json;

use super::User;
use crate::harness::{ECHO, logs, repository};

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
