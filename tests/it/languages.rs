//! Source of a language, from the upload to the answer. What each language's programs find is its own file's affair.

use serde_json::{Value, json};

use crate::harness::{
    ECHO, Expect, Reply, Row, Server, Tenant, annotation, base64, id_of, run, shared, zip,
};

const HELLO: &str = "function main(params) { return { greeting: 'hi ' + params.name }; }";

fn js(code: &str) -> Value {
    json!({ "exec": { "kind": "nodejs:default", "code": code } })
}

#[track_caller]
fn put(tenant: &Tenant, name: &str, body: &Value) -> Value {
    let reply = tenant.put(&format!("actions/{name}?overwrite=true"), body);
    reply.expect(200).json()
}

#[track_caller]
fn refused(tenant: &Tenant, body: &Value) -> String {
    let text = tenant.put("actions/refused", body).expect(400).error();
    tenant.get("actions/refused").expect(404);
    text
}

/// The error of an invocation that failed as the developer's fault.
#[track_caller]
fn developer_error(reply: Reply) -> String {
    let reply = reply.expect(502);
    let response = reply.json()["response"].clone();
    assert_eq!(response["status"], "action developer error");
    response["result"]["error"]
        .as_str()
        .expect("a text")
        .to_owned()
}

#[test]
fn source_is_kept_as_it_was_sent_and_runs_under_its_concrete_kind() {
    let tenant = shared().tenant();
    let stored = put(&tenant, "hello", &js(HELLO));
    assert_eq!(stored["exec"]["kind"], "nodejs:20");
    assert_eq!(annotation(&stored, "exec"), Some(&json!("nodejs:20")));
    let read = tenant.get("actions/hello").expect(200).json();
    assert_eq!(
        read["exec"],
        json!({ "kind": "nodejs:20", "code": HELLO, "binary": false })
    );
    let answer = tenant
        .result("hello", &json!({ "name": "Ada" }))
        .expect(200);
    assert_eq!(answer.json(), json!({ "greeting": "hi Ada" }));
    let warm = tenant
        .invoke("hello", &json!({ "name": "Bob" }))
        .expect(200)
        .json();
    assert_eq!(annotation(&warm, "kind"), Some(&json!("nodejs:20")));
    assert_eq!(annotation(&warm, "initTime"), None, "it was warm");
    assert_eq!(warm["response"]["result"]["greeting"], "hi Bob");
}

#[test]
fn an_instance_keeps_its_globals_and_sees_each_runs_environment() {
    let tenant = shared().tenant();
    let code = "let n = 0; const seen = new Set();
        function main() { seen.add(process.env.__OW_ACTIVATION_ID); console.log('run', ++n);
          return { n, seen: seen.size, name: process.env.__OW_ACTION_NAME }; }";
    put(&tenant, "counts", &js(code));
    let name = format!("/{}/counts", tenant.namespace);
    for n in 1..=3 {
        let record = tenant.invoke("counts", &json!({})).expect(200).json();
        assert_eq!(
            record["response"]["result"],
            json!({ "n": n, "seen": n, "name": name })
        );
        let id = record["activationId"].as_str().unwrap();
        let logs = tenant.awaited(id)["logs"].clone();
        let line = logs[0].as_str().unwrap();
        assert!(line.ends_with(&format!("stdout: run {n}")), "{logs}");
    }
}

#[test]
fn what_does_not_parse_or_fails_at_its_top_level_fails_its_upload() {
    let tenant = shared().tenant();
    let rows = [
        ("function main( {\n  return 1\n}", "SyntaxError"),
        (
            "const a = 1;\nthrow new Error('not today');\nfunction main() {}",
            "not today",
        ),
        ("function other() {}", "main"),
        ("while (true) {}", "did not end within"),
    ];
    for (code, part) in rows {
        let text = refused(&tenant, &js(code));
        assert!(text.contains(part), "{text}");
    }
    let line = refused(&tenant, &js("const a = 1;\n\nthrow new Error('here');"));
    assert!(line.contains(":3:"), "the line it was thrown in: {line}");
    // An action that is there stays as it was.
    put(&tenant, "kept", &js(HELLO));
    tenant
        .put("actions/kept?overwrite=true", &js("function main( {"))
        .expect(400);
    tenant.result("kept", &json!({})).expect(200);
}

#[test]
fn another_entry_point_is_called_and_must_be_there() {
    let tenant = shared().tenant();
    let code = "function main() { return { from: 'main' }; } function other() { return { from: 'other' }; }";
    let with = |main: &str| json!({ "exec": { "kind": "nodejs:20", "code": code, "main": main } });
    put(&tenant, "a", &with("other"));
    let answer = tenant.result("a", &json!({})).expect(200);
    assert_eq!(answer.json(), json!({ "from": "other" }));
    let text = refused(&tenant, &with("third"));
    assert!(text.contains("third"), "{text}");
}

#[test]
fn a_zip_starts_at_its_entry_and_finds_its_files() {
    let tenant = shared().tenant();
    let files: &[(&str, &[u8])] = &[
        ("package.json", br#"{"main": "src/start.js"}"#),
        ("src/start.js", b"const { shout } = require('./lib'); const { n } = require('numbers');\nexports.main = p => ({ said: shout(p.text), n });"),
        ("src/lib.js", b"exports.shout = text => text.toUpperCase() + '!';"),
        ("node_modules/numbers/index.js", b"module.exports = { n: 42 };"),
    ];
    let code = zip(files);
    let stored = put(&tenant, "zipped", &js(&code));
    assert_eq!(stored["exec"]["binary"], true);
    assert_eq!(stored["exec"]["code"], code);
    let answer = tenant
        .result("zipped", &json!({ "text": "hey" }))
        .expect(200);
    assert_eq!(answer.json(), json!({ "said": "HEY!", "n": 42 }));

    let rows = [
        (zip(&[("readme.md", b"nothing to run")]), ""),
        (zip(&[("../index.js", b"x")]), "path out of the archive"),
        (
            zip(&[("index.js", b"x"), ("./index.js", b"y")]),
            "two entries",
        ),
        (
            base64(b"PK\x03\x04 and then nothing"),
            "The zip cannot be read",
        ),
    ];
    for (code, part) in rows {
        let text = refused(&tenant, &js(&code));
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn webassembly_is_no_source_and_source_no_webassembly() {
    let tenant = shared().tenant();
    let wasm = base64(&wat::parse_str(ECHO).unwrap());
    assert!(refused(&tenant, &js(&wasm)).contains("kind `wasm:default`"));
    let as_wasm = json!({ "exec": { "kind": "wasm:1", "code": HELLO } });
    assert!(refused(&tenant, &as_wasm).contains("neither WAT text nor base64"));
}

#[test]
fn a_start_that_fails_says_why() {
    let tenant = shared().tenant();
    // At upload there is no activation, so its top level ends well.
    let guard = "if (process.env.__OW_NAMESPACE)";
    let thrown = format!("{guard} throw new Error('no start');\nfunction main() {{}}");
    put(&tenant, "throws", &js(&thrown));
    let error = developer_error(tenant.invoke("throws", &json!({})));
    let start = "The action failed during initialization: ";
    assert!(
        error.starts_with(start) && error.contains("no start"),
        "{error}"
    );

    let mut body = js(&format!("{guard} while (true);\nfunction main() {{}}"));
    body["limits"] = json!({ "timeout": 500 });
    put(&tenant, "loops", &body);
    assert_eq!(
        developer_error(tenant.invoke("loops", &json!({}))),
        "The action exceeded its time limits of 500 milliseconds during initialization."
    );
}

#[test]
fn a_run_that_takes_too_long_or_too_much_ends_and_the_next_starts_anew() {
    let tenant = shared().tenant();
    let code = "let n = 0;
        function main(p) { n++; if (p.loop) while (true); const all = [];
          if (p.eat) while (true) all.push('x'.repeat(1 << 20) + all.length); return { n }; }";
    let mut body = js(code);
    body["limits"] = json!({ "timeout": 500, "memory": 128 });
    put(&tenant, "greedy", &body);
    tenant.result("greedy", &json!({})).expect(200);
    assert_eq!(
        developer_error(tenant.invoke("greedy", &json!({ "loop": true }))),
        "The action exceeded its time limits of 500 milliseconds."
    );
    let answer = tenant.result("greedy", &json!({})).expect(200);
    assert_eq!(answer.json(), json!({ "n": 1 }), "a new instance");
    body["limits"] = json!({ "timeout": 30_000, "memory": 128 });
    put(&tenant, "greedy", &body);
    let record = tenant
        .invoke("greedy", &json!({ "eat": true }))
        .expect(502)
        .json();
    let id = record["activationId"].as_str().unwrap();
    let peak = annotation(&tenant.awaited(id), "peakMemory").and_then(Value::as_u64);
    assert!(peak.is_some_and(|peak| peak <= 128 << 20), "{peak:?}");
    tenant.result("greedy", &json!({})).expect(200);
}

#[test]
fn actions_of_a_language_are_actions_like_others() {
    let tenant = shared().tenant();
    put(&tenant, "hello", &js(HELLO));
    tenant.put_action("echo", ECHO);
    let steps = json!({ "exec": { "kind": "sequence", "components": ["/_/echo", "/_/hello"] } });
    put(&tenant, "both", &steps);
    let answer = tenant.result("both", &json!({ "name": "you" })).expect(200);
    assert_eq!(answer.json(), json!({ "greeting": "hi you" }));

    let page = "function main(p) { return { statusCode: 201, headers: { 'X-Seen': p.__ow_method }, body: '<b>' + p.q + '</b>' }; }";
    let mut body = js(page);
    body["annotations"] = json!([{ "key": "web-export", "value": true }]);
    put(&tenant, "page", &body);
    let path = format!("/api/v1/web/{}/default/page.http?q=1", tenant.namespace);
    let reply = shared().client().get(&path).expect(201);
    assert_eq!(reply.header("x-seen"), Some("get"));
    assert_eq!(reply.text(), "<b>1</b>");

    tenant.put("triggers/t", &json!({})).expect(200);
    let rule = json!({ "trigger": "/_/t", "action": "/_/hello" });
    tenant.put("rules/r", &rule).expect(200);
    let fired = tenant
        .post("triggers/t", &json!({ "name": "rule" }))
        .expect(202);
    let fired = tenant.awaited(&id_of(&fired));
    let log: Value = serde_json::from_str(fired["logs"][0].as_str().unwrap()).unwrap();
    let record = tenant.awaited(log["activationId"].as_str().unwrap());
    assert_eq!(
        record["response"]["result"],
        json!({ "greeting": "hi rule" })
    );
}

#[test]
fn kinds_of_languages_are_permitted_like_others() {
    let tenant = shared().tenant();
    tenant.limits(&json!({ "allowedKinds": ["wasm:1", "nodejs:22"] }));
    let text =
        "The supplied authentication is not authorized to access actions of kind 'nodejs:20'.";
    let rows = [Row::new(
        "2.6",
        "PUT actions/a",
        js(HELLO),
        403,
        Expect::Error(text),
    )];
    run(&tenant, &rows);
    let allowed = json!({ "exec": { "kind": "nodejs:22", "code": HELLO } });
    assert_eq!(put(&tenant, "a", &allowed)["exec"]["kind"], "nodejs:22");
}

#[test]
fn what_was_prepared_outlives_the_server_and_is_made_again_when_it_is_gone() {
    let server = Server::start("");
    let tenant = server.guest();
    put(&tenant, "hello", &js(HELLO));
    let server = server.crash_and_restart();
    let tenant = server.guest();
    let answer = tenant.result("hello", &json!({ "name": "a" })).expect(200);
    assert_eq!(answer.json(), json!({ "greeting": "hi a" }));
    let compiled = "the language's engine is compiled";
    assert!(!server.log().contains(&format!("{compiled} and ready")));
    // What is no engine is small.
    let removed = remove_small(&server.data().join("aot"), 1 << 20);
    assert!(removed > 0);
    let server = server.crash_and_restart();
    let answer = server
        .guest()
        .result("hello", &json!({ "name": "b" }))
        .expect(200);
    assert_eq!(answer.json(), json!({ "greeting": "hi b" }));
}

/// Removes files of fewer than `bytes_max` bytes; how many.
fn remove_small(folder: &std::path::Path, bytes_max: u64) -> usize {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.metadata().unwrap();
        if metadata.is_dir() {
            removed += remove_small(&path, bytes_max);
        } else if metadata.len() < bytes_max {
            std::fs::remove_file(&path).unwrap();
            removed += 1;
        }
    }
    removed
}
