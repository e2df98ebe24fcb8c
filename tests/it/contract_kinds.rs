//! Section 8: kinds, and what clients do to code on its way here.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::contract_fire::{at, trigger};
use crate::harness::{ECHO, Expect, Row, Server, base64, id_of, run, shared, zip};

#[test]
fn the_manifest_lists_the_kinds_that_are_accepted() {
    let tenant = shared().tenant();
    let manifest = shared().client().get("/").expect(200).json();
    for kinds in manifest["runtimes"].as_object().unwrap().values() {
        for kind in kinds.as_array().unwrap() {
            let body = json!({ "exec": { "kind": kind["kind"], "code": "" } });
            tenant.put("actions/a?overwrite=true", &body).expect(200);
        }
    }
    for kind in manifest["runtimes"]["wasm"].as_array().unwrap() {
        let body = json!({ "exec": { "kind": kind["kind"], "code": ECHO } });
        tenant.put("actions/a?overwrite=true", &body).expect(200);
    }
}

#[test]
fn code_mangled_by_a_clients_utf8_conversion_is_refused_with_advice() {
    let tenant = shared().tenant();
    // What a Go client makes of the bytes: every invalid sequence becomes U+FFFD.
    let wasm =
        std::fs::read(crate::harness::repository().join("examples/hello-rust/hello-rust.wasm"))
            .unwrap();
    let mangled = String::from_utf8_lossy(&wasm).into_owned();
    assert!(
        mangled.contains('\u{FFFD}'),
        "the example must have bytes that are no UTF-8"
    );
    let reply = tenant
        .put(
            "actions/a",
            &json!({ "exec": { "kind": "wasm:1", "code": mangled } }),
        )
        .expect(400);
    let text = reply.error();
    assert!(text.contains("damaged"), "section 8.2: {text}");
    assert!(
        text.contains("zip") && text.contains("base64"),
        "section 8.2: advice: {text}"
    );
}

#[test]
fn a_text_that_looks_like_base64_is_judged_by_what_is_in_it() {
    let tenant = shared().tenant();
    let wasm = wat::parse_str(ECHO).unwrap();
    let with_lines: String = base64(&wasm)
        .as_bytes()
        .chunks(64)
        .map(|line| format!("{}\n", String::from_utf8_lossy(line)))
        .collect();
    for (name, code) in [
        ("padded", base64(&wasm)),
        ("zip", zip(&[("a.wasm", &wasm)])),
        ("spaced", format!("\n {ECHO}")),
    ] {
        tenant.put_action(name, &code);
        tenant.result(name, &json!({})).expect(200);
    }
    // Line breaks inside base64 are how `base64` prints it: taken or refused, never a crash.
    let reply = tenant.put(
        "actions/lines",
        &json!({ "exec": { "kind": "wasm:1", "code": with_lines } }),
    );
    assert!(matches!(reply.status, 200 | 400), "{}", reply.shown());
}

#[test]
fn a_kind_that_is_not_allowed_is_403() {
    let tenant = shared().tenant();
    tenant.put_action("before", ECHO);
    tenant.limits(&json!({ "allowedKinds": ["nodejs:20"] }));
    let exec = json!({ "exec": { "kind": "wasm:1", "code": ECHO } });
    let text = "The supplied authentication is not authorized to access actions of kind 'wasm:1'.";
    run(
        &tenant,
        &[Row::new(
            "2.6",
            "PUT actions/a",
            exec,
            403,
            Expect::Error(text),
        )],
    );
    tenant.get("actions/before").expect(200);
    tenant.limits(&json!({ "allowedKinds": ["wasm:1"] }));
    tenant.result("before", &json!({})).expect(200);
}

#[test]
fn what_has_no_place_here_yet_is_named_as_unsupported() {
    let tenant = shared().tenant();
    let rows = [
        "nodejs", "nodejs:6", "python:2", "blackbox", "builtin", "", "🦀", "wasm:999",
    ]
    .map(|kind| {
        let exec = json!({ "exec": { "kind": kind, "code": "x", "image": "x", "components": [] } });
        Row::new(
            "2.6",
            "PUT actions/a",
            exec,
            400,
            Expect::ErrorStarts("The request content was malformed:\n"),
        )
    });
    run(&tenant, &rows);
    let none = tenant.get("actions").expect(200).json();
    assert_eq!(none, Value::Array(Vec::new()), "nothing was kept");
}

#[test]
fn actions_of_a_kind_that_has_had_its_time_are_read_and_deleted_and_nothing_else() {
    let server = Server::start("");
    let tenant = server.tenant();
    let made = tenant.put_action("a", ECHO);
    trigger(&tenant, &["a"]);
    server.signal(Signal::TERM);
    server.wait();
    let server = server.restart_with("[limits]\ndeprecated_kinds = [\"wasm:1\"]");
    let tenant = at(&tenant, &server);
    let words = "The 'wasm:1' runtime is no longer supported. You may read and delete but not update or invoke this action.";
    assert_eq!(tenant.get("actions/a").expect(200).json(), made);
    for reply in [
        tenant.post("actions/a?blocking=true", &json!({})),
        tenant.put("actions/a?overwrite=true", &json!({ "publish": true })),
    ] {
        assert_eq!(reply.expect(400).json()["error"], words);
    }
    let fired = tenant.post("triggers/t", &json!({})).expect(202);
    let record = tenant.awaited(&id_of(&fired));
    let line = record["logs"][0].as_str().expect("a line");
    assert!(line.contains(words), "{line}");
    tenant.delete("actions/a").expect(200);
}
