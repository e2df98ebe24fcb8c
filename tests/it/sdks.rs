//! The SDKs below `runtimes/`, by modules that were built with them and are kept among the examples.
//!
//! What they share is a greeting: parameters in, a result, an error of the caller's, a line of log, and instances that are
//! used again.

use serde_json::{Value, json};

use crate::harness::{Tenant, annotation, base64, id_of, repository, shared};

/// Modules of a greeting, by what they were written with.
const GREETINGS: [(&str, &str); 3] = [
    ("rust", "hello-rust/hello-rust.wasm"),
    (
        "assemblyscript",
        "hello-assemblyscript/hello-assemblyscript.wasm",
    ),
    ("zig", "hello-zig/hello-zig.wasm"),
];

fn deploy(tenant: &Tenant, name: &str, file: &str) {
    let wasm = std::fs::read(repository().join("examples").join(file)).unwrap();
    tenant.put_action(name, &base64(&wasm));
}

fn result(tenant: &Tenant, name: &str, params: &Value) -> Value {
    tenant.result(name, params).json()
}

#[test]
fn texts_come_through_every_sdk_as_they_are() {
    let tenant = shared().tenant();
    let names = [
        "Ada",
        "\"quoted\" \\ back",
        "zeile\nzwei\t\u{1}",
        "Ёлка 🎄 é",
        "</script>",
    ];
    for (sdk, file) in GREETINGS {
        deploy(&tenant, sdk, file);
        for name in names {
            let found = result(
                &tenant,
                sdk,
                &json!({ "name": name, "more": [1, {"x": null}] }),
            );
            assert_eq!(
                found,
                json!({ "greeting": format!("Hello, {name}!") }),
                "{sdk}"
            );
        }
        let long = "x".repeat(200_000);
        let found = result(&tenant, sdk, &json!({ "name": long }));
        assert_eq!(
            found["greeting"].as_str().map(str::len),
            Some(200_008),
            "{sdk}"
        );
        assert_eq!(
            result(&tenant, sdk, &json!({})),
            json!({"greeting": "Hello, stranger!"}),
            "{sdk}"
        );
    }
}

#[test]
fn what_a_caller_does_wrong_is_an_application_error_and_the_instance_lives() {
    let tenant = shared().tenant();
    for (sdk, file) in GREETINGS {
        deploy(&tenant, sdk, file);
        for _ in 0..2 {
            let record = tenant.invoke(sdk, &json!({ "name": 7 })).expect(502).json();
            let response = &record["response"];
            assert_eq!(response["status"], "application error", "{sdk}: {record}");
            assert!(response["result"]["error"].is_string(), "{sdk}: {record}");
        }
        let again = tenant.invoke(sdk, &json!({})).expect(200).json();
        let cold = annotation(&again, "initTime");
        assert_eq!(cold, None, "{sdk}: it is a new instance: {again}");
    }
}

#[test]
fn every_sdk_writes_the_log() {
    let tenant = shared().tenant();
    for (sdk, file) in GREETINGS {
        deploy(&tenant, sdk, file);
        let reply = tenant.invoke(sdk, &json!({ "name": "Ada" })).expect(200);
        let lines = tenant.awaited(&id_of(&reply))["logs"].to_string();
        assert!(lines.contains("greeting Ada"), "{sdk}: {lines}");
    }
}

#[test]
fn c_reads_and_writes_all_of_json() {
    let tenant = shared().tenant();
    deploy(&tenant, "top", "polyglot/top/top.wasm");
    let table = [
        (
            json!({"counts": {"a": 1, "\u{e9}\n\"": 3, "c": 2}}),
            json!({"word": "\u{e9}\n\"", "count": 3}),
        ),
        (
            json!({"x": {"counts": {"no": 9}}, "counts": {"🎄": 4}}),
            json!({"word": "🎄", "count": 4}),
        ),
        (
            json!({"counts": {"a": i64::MAX}}),
            json!({"word": "a", "count": i64::MAX}),
        ),
        (
            json!({"counts": {"a": "1", "b": [2], "c": 1.5}}),
            json!({"error": "there are no counts"}),
        ),
        (
            json!({"counts": [1, 2]}),
            json!({"error": "there are no counts"}),
        ),
        (json!({}), json!({"error": "there are no counts"})),
    ];
    for (params, expected) in table {
        assert_eq!(result(&tenant, "top", &params), expected, "{params}");
    }
}

#[test]
fn assemblyscript_gives_back_what_an_activation_took() {
    let tenant = shared().tenant();
    deploy(&tenant, "count", "polyglot/count/count.wasm");
    let words: Vec<String> = (0..2_000).map(|n| format!("word{}", n % 50)).collect();
    let peak = || {
        let record = tenant
            .invoke("count", &json!({ "words": words }))
            .expect(200)
            .json();
        assert_eq!(
            record["response"]["result"]["counts"]["word7"], 40,
            "{record}"
        );
        annotation(&record, "peakMemory")
            .and_then(Value::as_u64)
            .unwrap()
    };
    let first = peak();
    let last = (0..30).fold(0, |_, _| peak());
    assert!(last <= first * 2, "from {first} to {last} bytes");
}
