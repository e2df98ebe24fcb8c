//! Sections 2.1, 2.4 and 2.6: what a PUT of an action may say, and what it is told when it may not.

use serde_json::{Value, json};

use crate::contract_actions::with;
use crate::harness::{ECHO, Expect, Request, Row, annotation, rows, run, shared};

const MALFORMED: &str = "The request content was malformed:\n";

#[test]
fn exec_is_checked_in_the_words_of_the_wire() {
    let tenant = shared().tenant();
    let put = |exec: Value, expect| {
        Row::new("2.6", "PUT actions/a", json!({ "exec": exec }), 400, expect)
    };
    let kind = "The request content was malformed:\n'kind' must be a string defined in 'exec'";
    let rows = [
        put(json!({}), Expect::Error(kind)),
        put(json!({ "kind": 1 }), Expect::Error(kind)),
        put(json!("wasm"), Expect::Error(kind)),
        put(
            json!({ "kind": "cobol:1", "code": "x" }),
            Expect::ErrorStarts(
                "The request content was malformed:\nThe specified runtime 'cobol:1' is not supported by this platform. Valid values are: '",
            ),
        ),
        put(
            json!({ "kind": "wasm", "code": "x" }),
            Expect::ErrorHas("The specified runtime 'wasm' is not supported"),
        ),
        put(
            json!({ "kind": "wasm:1" }),
            Expect::Error(
                "The request content was malformed:\n'code' must be a string or attachment object defined in 'exec' for 'wasm:1' actions",
            ),
        ),
        put(
            json!({ "kind": "wasm:1", "code": 1 }),
            Expect::Error(
                "The request content was malformed:\n'code' must be a string or attachment object defined in 'exec' for 'wasm:1' actions",
            ),
        ),
        put(
            json!({ "kind": "wasm:1", "code": ECHO, "main": 1 }),
            Expect::Error(
                "The request content was malformed:\nif defined, 'main' be a string in 'exec' for 'wasm:1' actions",
            ),
        ),
    ];
    run(&tenant, &rows);
}

#[test]
fn a_kind_is_trimmed_lowered_and_made_concrete() {
    let tenant = shared().tenant();
    for (index, kind) in ["wasm:1", "wasm:default", " WASM:Default ", "Wasm:1"]
        .iter()
        .enumerate()
    {
        let body = json!({ "exec": { "kind": kind, "code": ECHO } });
        let put = tenant
            .put(&format!("actions/a{index}"), &body)
            .expect(200)
            .json();
        assert_eq!(put["exec"]["kind"], "wasm:1", "section 2.6: {kind:?}");
        assert_eq!(
            annotation(&put, "exec"),
            Some(&json!("wasm:1")),
            "section 2.6: {kind:?}"
        );
    }
}

#[test]
fn bodies_are_checked_in_the_words_of_the_wire() {
    let tenant = shared().tenant();
    let of = |more: Value| with(ECHO, more);
    let malformed = || Expect::ErrorStarts(MALFORMED);
    let rows = rows! {
        "2.1", "PUT actions/a", of(json!({ "parameters": { "a": 1 } })) => 400, Expect::Error("The request content was malformed:\nparameters malformed!");
        "2.1", "PUT actions/a", of(json!({ "parameters": [{ "value": 1 }] })) => 400, malformed();
        "2.1", "PUT actions/a", of(json!({ "annotations": "x" })) => 400, malformed();
        "2.1", "PUT actions/a", of(json!({ "publish": "yes" })) => 400, malformed();
        "2.1", "PUT actions/a", of(json!({ "version": 1 })) => 400, malformed();
        "2.6", "PUT actions/a", of(json!({ "limits": 3 })) => 400, malformed();
        "2.6", "PUT actions/a", of(json!({ "delAnnotations": "x" })) => 400, malformed();
        "1.2", "PUT actions/a", json!([]) => 400, malformed();
        "1.2", "PUT actions/a", json!("text") => 400, malformed();
    };
    run(&tenant, &rows);
    let put = |request: Request| tenant.client.send(&request);
    let none = put(tenant.request("PUT", "actions/a")).expect(400).error();
    assert_eq!(
        none, "Request entity expected but not supplied",
        "section 1.2"
    );
    let broken = tenant
        .request("PUT", "actions/a")
        .raw("application/json", "{\"exec\":");
    let text = put(broken).expect(400).error();
    assert!(text.starts_with(MALFORMED), "section 1.2: {text}");
    let plain = tenant.request("PUT", "actions/a").raw("text/plain", "{}");
    let text = put(plain).expect(415).error();
    assert!(
        text.starts_with("The request's Content-Type [text/plain")
            && text.ends_with("] is not supported. Expected:\napplication/json"),
        "section 1.2: {text}"
    );
    tenant.get("actions/a").expect(404);
}

#[test]
fn limits_lie_between_their_thresholds() {
    let tenant = shared().tenant();
    let of = |limits: Value| with(ECHO, json!({ "limits": limits }));
    let rows = rows! {
        "2.6", "PUT actions/a", of(json!({ "timeout": 300_001 })) => 400, Expect::Error("requirement failed: duration 300001 milliseconds exceeds allowed threshold of 300000 milliseconds");
        "2.6", "PUT actions/a", of(json!({ "timeout": 99 })) => 400, Expect::Error("requirement failed: duration 99 milliseconds below allowed threshold of 100 milliseconds");
        "2.6", "PUT actions/a", of(json!({ "memory": 513 })) => 400, Expect::Error("requirement failed: memory size 513 MB exceeds allowed threshold of 512 MB");
        "2.6", "PUT actions/a", of(json!({ "memory": 127 })) => 400, Expect::Error("requirement failed: memory size 127 MB below allowed threshold of 128 MB");
        "2.6", "PUT actions/a", of(json!({ "logs": 11 })) => 400, Expect::Error("requirement failed: log size 11 MB exceeds allowed threshold of 10 MB");
        "2.6", "PUT actions/a", of(json!({ "logs": -1 })) => 400, Expect::Error("requirement failed: log size -1 MB below allowed threshold of 0 MB");
        "2.6", "PUT actions/a", of(json!({ "concurrency": 2 })) => 400, Expect::Error("requirement failed: concurrency 2 exceeds allowed threshold of 1");
        "2.6", "PUT actions/a", of(json!({ "concurrency": 0 })) => 400, Expect::Error("requirement failed: concurrency 0 below allowed threshold of 1");
    };
    run(&tenant, &rows);
    tenant.get("actions/a").expect(404);
    let least = of(json!({ "memory": 128, "logs": 0, "timeout": 100, "instances": 5 }));
    let put = tenant.put("actions/a", &least).expect(200).json();
    assert_eq!(
        put["limits"],
        json!({ "memory": 128, "logs": 0, "timeout": 100, "concurrency": 1, "instances": 5 }),
        "section 2.6"
    );
}

#[test]
fn limits_are_whole_numbers() {
    let tenant = shared().tenant();
    let of = |limits: Value| with(ECHO, json!({ "limits": limits }));
    let rows = rows! {
        "2.6", "PUT actions/a", of(json!({ "timeout": 1000.5 })) => 400, Expect::Error("The request content was malformed:\nrequirement failed: time limit must be whole number");
        "2.6", "PUT actions/a", of(json!({ "memory": 200.5 })) => 400, Expect::Error("The request content was malformed:\nrequirement failed: memory limit must be whole number");
        "2.6", "PUT actions/a", of(json!({ "logs": 1.5 })) => 400, Expect::Error("The request content was malformed:\nrequirement failed: log limit must be whole number");
        "2.6", "PUT actions/a", of(json!({ "concurrency": 1.5 })) => 400, Expect::Error("The request content was malformed:\nrequirement failed: intra concurrency limit must be whole number");
        "2.6", "PUT actions/a", of(json!({ "instances": 1.5 })) => 400, Expect::Error("The request content was malformed:\nrequirement failed: instance concurrency limit must be whole number");
        "2.6", "PUT actions/a", of(json!({ "instances": -1 })) => 400, Expect::Error("The request content was malformed:\nrequirement failed: Action container concurrency must be greater than or equal to 0.");
        "2.6", "PUT actions/a", of(json!({ "timeout": "long" })) => 400, Expect::Error("The request content was malformed:\ntime limit malformed");
    };
    run(&tenant, &rows);
}

#[test]
fn thresholds_are_those_of_the_namespace() {
    let tenant = shared().tenant();
    tenant.limits(&json!({ "concurrentInvocations": 5, "maxActionMemory": 200 }));
    let of = |limits: Value| with(ECHO, json!({ "limits": limits }));
    let rows = rows! {
        "2.6", "PUT actions/a", of(json!({ "instances": 6, "memory": 128 })) => 400, Expect::Error("Max action instance concurrency must not exceed your namespace concurrency of 5.");
        "2.6", "PUT actions/a", of(json!({ "memory": 201 })) => 400, Expect::Error("requirement failed: memory size 201 MB exceeds allowed threshold of 200 MB");
    };
    run(&tenant, &rows);
}

#[test]
fn what_is_too_large_is_413_and_says_which_and_by_how_much() {
    let tenant = shared().tenant();
    let big = "x".repeat(1 << 20);
    // The key and the two quotes of the value count as well.
    let over = 1_048_576 + 3;
    let list = json!([{ "key": "k", "value": big }]);
    for (field, body) in [
        ("parameters", with(ECHO, json!({ "parameters": list }))),
        ("annotations", with(ECHO, json!({ "annotations": list }))),
    ] {
        let reply = tenant.put("actions/a", &body).expect(413);
        assert_eq!(
            reply.error(),
            format!("{field} larger than allowed: {over} > 1048576 bytes."),
            "section 2.4"
        );
    }
    let fits = json!([{ "key": "k", "value": "x".repeat((1 << 20) - 3) }]);
    tenant
        .put("actions/a", &with(ECHO, json!({ "parameters": fits })))
        .expect(200);
}
