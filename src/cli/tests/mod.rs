//! The client from its command line to the wire and back, against a server that follows a script.

mod actions;
mod cluster;
mod entities;
mod extensions;
mod project;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use clap::CommandFactory;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::folder::Folder;
use crate::cli::output::Output;
use crate::cli::props::Target;
use crate::cli::{Cli, Globals, Session, run};
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

/// Calls the program against a script; the lines of the requests, and what it did.
fn asked<const N: usize>(
    script: [(u16, Value); N],
    arguments: &[&str],
) -> (Done, Vec<String>, Vec<Value>) {
    let (done, seen) = scripted(script, arguments);
    let short = |line: &str| line.replace("/api/v1/namespaces/", "");
    let lines = seen.iter().map(|seen| short(&seen.line)).collect();
    let bodies = seen.into_iter().map(|seen| seen.body).collect();
    (done, lines, bodies)
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
    Folder::below(folder.path()).unwrap()[0]
        .deploy(session, &client)
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
