//! Actions and their activations: uploaded, invoked, listed, followed.

use super::*;

#[test]
fn create_needs_no_kind_and_sends_wasm_as_base64() {
    let (_folder, path) = file("hello.wasm", b"\0asm\x01\0\0\0");
    let arguments = [
        "action", "create", "hello", &path, "-p", "n", "-5", "-p", "s", "it", "-a", "final",
        "true", "-m", "128", "-t", "500", "-l", "1", "-c", "1",
    ];
    let (done, seen) = scripted([(200, json!({"name": "hello"}))], &arguments);
    assert_eq!(
        (done.exit, done.out.as_str(), done.err.as_str()),
        (0, "ok: created action hello\n", "")
    );
    assert_eq!(
        seen[0].line,
        "PUT /api/v1/namespaces/_/actions/hello?overwrite=false"
    );
    assert!(
        seen[0].authorization.starts_with("Basic MjNiYzQ2YjEt"),
        "{}",
        seen[0].authorization
    );
    assert_eq!(
        seen[0].body,
        json!({
            "namespace": "_", "name": "hello",
            "exec": {"kind": "wasm:default", "code": "AGFzbQEAAAA="},
            "parameters": [{"key": "n", "value": -5}, {"key": "s", "value": "it"}],
            "annotations": [{"key": "final", "value": true}],
            "limits": {"memory": 128, "timeout": 500, "logs": 1, "concurrency": 1},
        })
    );
}

#[test]
fn update_sends_only_what_is_said() {
    let arguments = ["action", "update", "/ns/pkg/a b", "--del-annotation", "x"];
    let (done, seen) = scripted([(200, json!({}))], &arguments);
    assert_eq!(done.out, "ok: updated action pkg/a b\n");
    assert_eq!(
        seen[0].line,
        "PUT /api/v1/namespaces/ns/actions/pkg/a%20b?overwrite=true"
    );
    assert_eq!(
        seen[0].body,
        json!({"namespace": "ns", "name": "a b", "delAnnotations": ["x"]})
    );
}

#[test]
fn copy_reads_then_writes() {
    let kept = json!({"exec": {"kind": "wasm:1", "code": "(module)"}, "limits": {"memory": 1}, "version": "0.0.9"});
    let (done, seen) = scripted(
        [(200, kept), (200, json!({}))],
        &["action", "create", "twin", "--copy", "hello"],
    );
    assert_eq!(done.exit, 0, "{}", done.err);
    assert_eq!(
        seen[0].line,
        "GET /api/v1/namespaces/_/actions/hello?code=true"
    );
    let expected = json!({"namespace": "_", "name": "twin", "exec": {"kind": "wasm:1", "code": "(module)"}, "limits": {"memory": 1}});
    assert_eq!(seen[1].body, expected);
}

#[test]
fn a_refusal_is_worded_and_exits_as_in_wsk() {
    let refusal = json!({"error": "resource already exists", "code": "abc"});
    let (_folder, path) = file("x.wat", b"(module)");
    let (done, _) = scripted([(409, refusal.clone())], &["action", "create", "x", &path]);
    assert_eq!(done.exit, 153);
    assert_eq!(
        done.err,
        "error: Unable to create action 'x': resource already exists (code abc)\n"
    );
    let (done, _) = scripted(
        [(409, refusal)],
        &["--json", "action", "create", "x", &path],
    );
    let error: Value = serde_json::from_str(&done.err).unwrap();
    assert_eq!(
        (done.out.as_str(), error["status"].as_u64()),
        ("", Some(409))
    );
}

#[test]
fn invocations_print_what_wsk_prints() {
    let started = json!({ "activationId": ID });
    let (done, seen) = scripted(
        [(202, started.clone())],
        &["action", "invoke", "hello", "-p", "o", "{\"a\":[1]}"],
    );
    assert_eq!(done.out, format!("ok: invoked /_/hello with id {ID}\n"));
    assert_eq!(
        seen[0].line,
        "POST /api/v1/namespaces/_/actions/hello?blocking=false&result=false"
    );
    assert_eq!(seen[0].body, json!({"o": {"a": [1]}}));

    let (done, seen) = scripted(
        [(200, json!({"greeting": "hi"}))],
        &["action", "invoke", "hello", "-r"],
    );
    assert_eq!(done.out, "{\n    \"greeting\": \"hi\"\n}\n");
    assert_eq!(
        seen[0].line,
        "POST /api/v1/namespaces/_/actions/hello?blocking=true&result=true"
    );
    assert_eq!(seen[0].body, json!({}));

    let (done, _) = scripted([(202, started)], &["action", "invoke", "hello", "-b"]);
    assert_eq!(done.exit, 202);
    assert_eq!(
        done.out,
        format!("ok: invoked /_/hello, but the request has not yet finished, with id {ID}\n")
    );
}

#[test]
fn an_action_that_failed_shows_its_result_and_exits_246() {
    let (done, _) = scripted(
        [(502, json!({"error": "boom"}))],
        &["action", "invoke", "bad", "-r"],
    );
    assert_eq!((done.exit, done.out.as_str()), (246, ""));
    assert_eq!(
        done.err,
        format!("ok: invoked /_/bad with id {ID}\n{{\n    \"error\": \"boom\"\n}}\n")
    );
    let (done, _) = scripted(
        [(502, json!({"error": "boom"}))],
        &["action", "invoke", "bad", "-r", "--json"],
    );
    assert_eq!(
        (done.exit, done.out.as_str(), done.err.as_str()),
        (246, "{\n    \"error\": \"boom\"\n}\n", "")
    );
    let (done, _) = scripted(
        [(429, json!({"error": "Too many", "code": "t"}))],
        &["action", "invoke", "bad", "-b"],
    );
    assert_eq!(
        (done.exit, done.err.as_str()),
        (
            173,
            "error: Unable to invoke action 'bad': Too many (code t)\n"
        )
    );
}

#[test]
fn lists_are_tables_or_json() {
    let rows = json!([{"namespace": "guest", "name": "hello", "publish": false, "annotations": [{"key": "exec", "value": "wasm:1"}]}]);
    let (done, seen) = scripted(
        [(200, rows.clone())],
        &["action", "list", "-l", "5", "-s", "1"],
    );
    assert_eq!(done.out, "actions\n/guest/hello  private  wasm:1\n");
    assert_eq!(
        seen[0].line,
        "GET /api/v1/namespaces/_/actions?limit=5&skip=1"
    );
    let (done, seen) = scripted([(200, rows.clone())], &["action", "list", "pkg", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&done.out).unwrap(), rows);
    assert_eq!(
        seen[0].line,
        "GET /api/v1/namespaces/_/actions/pkg/?limit=30&skip=0"
    );
    let (_, seen) = scripted(
        [(200, json!([]))],
        &[
            "activation",
            "list",
            "pkg/a",
            "--since",
            "7",
            "--upto",
            "9",
            "--full",
        ],
    );
    assert_eq!(
        seen[0].line,
        "GET /api/v1/namespaces/_/activations?limit=30&skip=0&name=pkg%2Fa&since=7&upto=9&docs=true"
    );
}

#[test]
fn last_finds_the_latest_first() {
    let latest = json!([{ "activationId": ID }]);
    let logs = json!({"logs": ["2018-03-13T21:06:34.652259951Z stdout: hi"]});
    let (done, seen) = scripted(
        [(200, latest.clone()), (200, logs)],
        &["activation", "logs", "--last", "--strip"],
    );
    assert_eq!(done.out, "hi\n");
    assert_eq!(
        seen[0].line,
        "GET /api/v1/namespaces/_/activations?limit=1&skip=0"
    );
    assert_eq!(
        seen[1].line,
        format!("GET /api/v1/namespaces/_/activations/{ID}/logs")
    );
    let record = json!({"activationId": ID, "duration": 3});
    let (done, _) = scripted(
        [(200, latest), (200, record)],
        &["activation", "get", "-l", "duration"],
    );
    assert_eq!(
        done.out,
        format!("ok: got activation {ID}, displaying field duration\n3\n")
    );
    let (done, _) = scripted(
        [(200, json!({"result": {"a": 1}, "success": true}))],
        &["activation", "result", ID],
    );
    assert_eq!(done.out, "{\n    \"a\": 1\n}\n");
}

#[test]
fn poll_prints_each_activation_once_in_order() {
    let record = |id: &str, start: u64| json!({"activationId": id, "name": "n", "start": start, "logs": [id]});
    let (old, one, two) = (record("old", 5), record("one", 6), record("two", 7));
    let script = [
        (200, json!([old])),
        // A server without a stream answers as to any list.
        (200, json!([])),
        (200, json!([two, one, old])),
        (200, json!([two, one, old])),
    ];
    let (done, seen) = scripted(script, &["activation", "poll", "n", "-e", "1"]);
    let expected = "Enter Ctrl-c to exit.\nPolling for activation logs\n\
        \nActivation: 'n' (one)\n[\n    \"one\"\n]\n\nActivation: 'n' (two)\n[\n    \"two\"\n]\n";
    assert_eq!(done.out, expected);
    assert_eq!(
        seen[0].line,
        "GET /api/v1/namespaces/_/activations?limit=1&skip=0&docs=true"
    );
    assert_eq!(
        seen[1].line,
        "GET /api/v1/namespaces/_/activations?events=true&logs=true&name=n"
    );
    assert_eq!(
        seen[2].line,
        "GET /api/v1/namespaces/_/activations?docs=true&limit=0&skip=0&since=5&name=n"
    );
}

#[test]
fn code_is_saved_as_it_was_and_never_over_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.wasm");
    let kept = json!({"exec": {"kind": "wasm:1", "binary": true, "code": "AGFzbQEAAAA="}});
    let arguments = [
        "action",
        "get",
        "hello",
        "--save-as",
        path.to_str().unwrap(),
    ];
    let (done, seen) = scripted([(200, kept.clone())], &arguments);
    assert_eq!(done.exit, 0, "{}", done.err);
    assert_eq!(
        seen[0].line,
        "GET /api/v1/namespaces/_/actions/hello?code=true"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"\0asm\x01\0\0\0");
    let (done, _) = scripted([(200, kept)], &arguments);
    assert!(
        done.exit == 1 && done.err.contains("exists already"),
        "{}",
        done.err
    );
}

#[test]
fn an_upload_that_is_too_large_is_refused_in_the_servers_words() {
    let (_folder, path) = file(
        "big.wasm",
        &[b"\0asm".as_slice(), &vec![7; 4 << 20]].concat(),
    );
    let refusal = json!({"error": "exec larger than allowed: 9 > 8 bytes.", "code": "t"});
    let (done, _) = scripted([(413, refusal)], &["action", "create", "big", &path]);
    assert_eq!(done.exit, 157, "{}", done.err);
    assert!(
        done.err.contains("exec larger than allowed"),
        "{}",
        done.err
    );
    let (done, seen) = scripted([(200, json!({}))], &["action", "create", "big", &path]);
    assert_eq!(done.exit, 0, "{}", done.err);
    assert!(seen[0].body["exec"]["code"].as_str().unwrap().len() > 5 << 20);
}
