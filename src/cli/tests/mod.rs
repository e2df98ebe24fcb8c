//! The client from its command line to the wire and back, against a server that follows a script.

mod entities;
mod project;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use clap::CommandFactory;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::output::Output;
use crate::cli::props::Target;
use crate::cli::{Cli, Globals, Session, examples, run};
use crate::config::Environment;

/// A request as it came in.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    authorization: String,
    idempotency_key: String,
    body: Value,
}

/// Answers one request after the other, each with the next of its script, and tells what was asked.
struct Server {
    url: String,
    thread: JoinHandle<Vec<Seen>>,
}

fn server<const N: usize>(script: [(u16, Value); N]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let answers = script.iter();
        answers
            .map(|(status, body)| answer(listener.accept().unwrap().0, *status, body))
            .collect()
    });
    Server { url, thread }
}

fn answer(stream: TcpStream, status: u16, body: &Value) -> Seen {
    let mut reader = BufReader::new(&stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    assert!(!head.is_empty(), "the script goes on, and nobody asks");
    let header = |name: &str| {
        let lines = head.iter().filter_map(|line| line.split_once(": "));
        let mut values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values
            .next()
            .map_or(String::new(), |(_, value)| value.to_owned())
    };
    let mut sent = vec![0; header("content-length").parse().unwrap_or(0)];
    match header("expect").as_str() {
        // Refused by its head: a server does not wait for the body.
        "100-continue" if status == 413 => sent.clear(),
        "100-continue" => (&stream)
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .unwrap(),
        _ => {}
    }
    reader.read_exact(&mut sent).unwrap();
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let length = body.len();
    let id = "x-openwhisk-activation-id: 0123456789abcdef0123456789abcdef";
    let head_out = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\n{id}\r\ncontent-length: {length}\r\n\r\n"
    );
    (&stream)
        .write_all(format!("{head_out}{body}").as_bytes())
        .unwrap();
    Seen {
        line: head[0].trim_end_matches(" HTTP/1.1").to_owned(),
        authorization: header("authorization"),
        idempotency_key: header("idempotency-key"),
        body: serde_json::from_slice(&sent).unwrap_or(Value::Null),
    }
}

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What one call of the program came to.
struct Done {
    exit: u8,
    out: String,
    err: String,
}

fn wisp(environment: &Environment, arguments: &[&str]) -> Done {
    let (out, err) = (Paper::default(), Paper::default());
    let all = std::iter::once(&"wisp").chain(arguments);
    let all = all.map(std::ffi::OsString::from).collect();
    let exit = run(all, environment, Output::to(out.clone(), err.clone()));
    let text = |paper: Paper| String::from_utf8(paper.0.lock().clone()).unwrap();
    Done {
        exit,
        out: text(out),
        err: text(err),
    }
}

/// Calls the program once against a script; what it did, and what the server saw.
fn scripted<const N: usize>(script: [(u16, Value); N], arguments: &[&str]) -> (Done, Vec<Seen>) {
    let server = server(script);
    let environment = Environment::of([("WISP_APIHOST", &server.url)]);
    let done = wisp(&environment, arguments);
    // Should the script go on, nobody asks any more: it ends instead of waiting.
    drop(TcpStream::connect(server.url.trim_start_matches("http://")));
    let seen = server.thread.join();
    let seen = seen.unwrap_or_else(|_| panic!("{arguments:?}: {}{}", done.out, done.err));
    (done, seen)
}

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

const ID: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn the_tree_of_commands_is_sound() {
    Cli::command().debug_assert();
}

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
        "GET /api/v1/namespaces/_/activations?events=true&name=n"
    );
    assert_eq!(
        seen[2].line,
        "GET /api/v1/namespaces/_/activations?docs=true&limit=0&skip=0&since=5&name=n"
    );
}

#[test]
fn wrong_command_lines_exit_2_and_ask_nobody() {
    let environment = Environment::of([("WISP_APIHOST", "http://127.0.0.1:1")]);
    let wrong: [&[&str]; 7] = [
        &["action", "fly"],
        &["action", "create", "x"],
        &["action", "invoke", "a/b/c/d"],
        &["action", "invoke", "x", "-p", "lonely"],
        &["activation", "get"],
        &["activation", "get", "short"],
        &["serve", "--listen", "nowhere"],
    ];
    for arguments in wrong {
        let done = wisp(&environment, arguments);
        assert_eq!(done.exit, 2, "{arguments:?}: {}{}", done.out, done.err);
        assert!(
            done.err.starts_with("error: "),
            "{arguments:?}: {}",
            done.err
        );
    }
}

#[test]
fn nobody_at_home_exits_3_and_says_what_to_do() {
    let done = wisp(
        &Environment::of([("WISP_APIHOST", "http://127.0.0.1:1")]),
        &["namespace", "list"],
    );
    assert_eq!(done.exit, 3);
    assert!(
        done.err.contains("nothing listens on http://127.0.0.1:1")
            && done.err.contains("wisp serve"),
        "{}",
        done.err
    );
}

#[test]
fn the_well_known_key_is_not_sent_to_strangers() {
    let done = wisp(
        &Environment::of([("WISP_APIHOST", "https://functions.example.com")]),
        &["action", "list"],
    );
    assert_eq!(done.exit, 2);
    assert!(
        done.err
            .contains("no key is set for https://functions.example.com"),
        "{}",
        done.err
    );
}

#[test]
fn properties_are_kept_for_wsk_and_used_here() {
    let server = server([(200, json!(["team"]))]);
    let (_folder, path) = file("props", b"# mine\nCERT=c\n");
    let environment = Environment::of([("WSK_CONFIG_FILE", &path)]);
    let done = wisp(
        &environment,
        &["property", "set", "--apihost", &server.url, "--auth", "u:k"],
    );
    assert_eq!(done.exit, 0, "{}", done.err);
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        kept,
        format!("# mine\nCERT=c\nAUTH=u:k\nAPIHOST={}\n", server.url)
    );
    let done = wisp(&environment, &["property", "get", "--auth", "-o", "raw"]);
    assert_eq!(done.out, "u:k\n");
    let done = wisp(&environment, &["-v", "namespace", "list"]);
    assert_eq!(done.out, "namespaces\nteam\n");
    assert_eq!(
        done.err,
        format!("REQUEST: GET {}/api/v1/namespaces\n", server.url)
    );
    assert_eq!(server.thread.join().unwrap()[0].authorization, "Basic dTpr");
    let done = wisp(&environment, &["property", "unset", "--auth", "--apihost"]);
    assert_eq!(
        done.out,
        "ok: whisk auth unset.\nok: whisk API host unset.\n"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "# mine\nCERT=c\n");
}

#[test]
fn admin_uses_the_system_key_and_shows_a_new_key_alone() {
    let made = json!({"namespace": "team", "uuid": "u", "key": "u:k"});
    let (done, seen) = scripted([(200, made)], &["admin", "namespace", "create", "team"]);
    assert_eq!(done.out, "u:k\n");
    assert_eq!(seen[0].line, "PUT /admin/v1/namespaces/team");
    assert!(
        seen[0].authorization.starts_with("Basic Nzg5YzQ2YjEt"),
        "{}",
        seen[0].authorization
    );

    let own = json!({"maxActionLogs": 1, "maxActionMemory": 2});
    let script = [(200, own), (200, Value::Null)];
    let arguments = [
        "admin",
        "namespace",
        "limits",
        "set",
        "team",
        "maxActionMemory=1024",
    ];
    let (done, seen) = scripted(script, &arguments);
    assert_eq!(done.exit, 0, "{}", done.err);
    assert_eq!(seen[1].line, "PUT /admin/v1/namespaces/team/limits");
    assert_eq!(
        seen[1].body,
        json!({"maxActionLogs": 1, "maxActionMemory": 1024})
    );

    let refused = json!({"error": "no", "code": "t"});
    let (done, seen) = scripted(
        [(401, refused)],
        &["admin", "namespace", "block", "team", "-u", "a:b"],
    );
    assert_eq!(seen[0].line, "POST /admin/v1/namespaces/team/block");
    assert!(
        done.exit == 145 && done.err.contains("WISP_SYSTEM_KEY"),
        "{}",
        done.err
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
fn examples_are_deployed_like_anybodys_actions() {
    let folder = tempfile::tempdir().unwrap();
    let example = folder.path().join("hello");
    std::fs::create_dir(&example).unwrap();
    std::fs::write(example.join("h.wat"), "(module)").unwrap();
    let text = "code = \"h.wat\"\ndescription = \"Says hello\"\n[limits]\nmemory = 128\n";
    std::fs::write(example.join("example.toml"), text).unwrap();
    let server = server([(200, json!({}))]);
    let environment = Environment::of([("WISP_APIHOST", &server.url)]);
    let (globals, output) = (
        Globals::default(),
        Output::to(Paper::default(), Paper::default()),
    );
    let session = Session {
        globals: &globals,
        environment: &environment,
        output: &output,
    };
    let client = Client::to(Target::of(session).unwrap(), session);
    examples::all(folder.path()).unwrap()[0]
        .deploy(&client)
        .unwrap();
    let seen = server.thread.join().unwrap();
    assert_eq!(
        seen[0].line,
        "PUT /api/v1/namespaces/_/actions/hello?overwrite=true"
    );
    let expected = json!({
        "exec": {"kind": "wasm:default", "code": "(module)"},
        "annotations": [{"key": "description", "value": "Says hello"}],
        "limits": {"memory": 128},
    });
    assert_eq!(seen[0].body, expected);
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
