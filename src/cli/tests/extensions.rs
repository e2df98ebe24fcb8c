//! Revisions, cancelling, waiting, dead letters and live logs: what each command asks, in which order, and what it says.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use super::{Environment, ID, asked, scripted, wisp};

#[test]
fn revisions_are_listed_run_and_returned_to() {
    let rows =
        json!([{"revision": 2, "version": "0.0.2", "updated": 0, "exec": {"kind": "wasm:1"}}]);
    let (done, lines, _) = asked([(200, rows)], &["action", "revisions", "p/a"]);
    assert_eq!(lines, ["GET _/actions/p/a?revisions=true"]);
    let row = "2         0.0.2    1970-01-01 00:00:00  wasm:1\n";
    assert!(done.out.ends_with(row), "{}", done.out);
    let (done, lines, bodies) = asked([(200, json!({}))], &["action", "rollback", "a", "3"]);
    assert_eq!(done.out, "ok: rolled back action a to revision 3\n");
    assert_eq!(lines, ["PUT _/actions/a?overwrite=true&revision=3"]);
    assert_eq!(bodies[0], Value::Null);
    let arguments = [
        "action",
        "invoke",
        "a",
        "--revision",
        "3",
        "--idempotency-key",
        "k",
    ];
    let (_, seen) = scripted([(202, json!({ "activationId": ID }))], &arguments);
    assert!(
        seen[0]
            .line
            .ends_with("?blocking=false&result=false&revision=3"),
        "{}",
        seen[0].line
    );
    assert_eq!(seen[0].idempotency_key, "k");
}

#[test]
fn activations_are_waited_for_and_cancelled() {
    let (_, lines, _) = asked(
        [(200, json!({}))],
        &["activation", "get", ID, "--wait", "5"],
    );
    assert_eq!(lines, [format!("GET _/activations/{ID}?wait=5")]);
    let unknown = json!({"error": "none", "code": "t"});
    let (done, lines, _) = asked([(404, unknown)], &["activation", "get", ID, "--wait", "90"]);
    assert_eq!(
        lines,
        [format!("GET _/activations/{ID}?wait=60")],
        "it did not wait: asked once"
    );
    assert!(
        done.exit == 148 && done.err.contains("not ended yet"),
        "{}",
        done.err
    );
    let cancelled = json!({ "activationId": ID });
    let (done, lines, _) = asked([(202, cancelled)], &["activation", "cancel", ID]);
    assert_eq!(done.out, format!("ok: cancelled activation {ID}\n"));
    assert_eq!(lines, [format!("DELETE _/activations/{ID}")]);
    let ended = json!({"error": "It has ended.", "code": "t"});
    let (done, _, _) = asked([(409, ended)], &["activation", "cancel", ID]);
    assert_eq!(done.exit, 153, "{}", done.err);
}

#[test]
fn dead_letters_are_listed_replayed_and_purged() {
    let row = json!([{"id": "d1", "time": 0, "rule": "g/r", "action": "g/a", "attempts": 3, "error": "boom"}]);
    let (done, lines, _) = asked([(200, row)], &["deadletter", "list"]);
    assert_eq!(lines, ["GET _/deadletters?limit=30&skip=0"]);
    let line = "1970-01-01 00:00:00  d1  g/r   g/a     3         boom\n";
    assert!(done.out.ends_with(line), "{}", done.out);
    let started = json!({ "activationId": ID });
    let (done, lines, _) = asked([(202, started)], &["deadletter", "replay", "d1"]);
    assert_eq!(lines, ["POST _/deadletters/d1"]);
    assert!(
        done.out.ends_with(&format!("with id {ID}\n")),
        "{}",
        done.out
    );
    let (done, lines, _) = asked(
        [(200, json!({"purged": 4}))],
        &["deadletter", "purge", "--all"],
    );
    assert_eq!(lines, ["DELETE _/deadletters"]);
    assert_eq!(done.out, "ok: purged 4 dead letters\n");
    let nobody = Environment::of([("WISP_APIHOST", "http://127.0.0.1:1")]);
    let done = wisp(&nobody, &["deadletter", "purge"]);
    assert_eq!(done.exit, 2, "nothing is purged by accident");
    assert!(done.err.contains("--all"), "{}", done.err);
}

#[test]
fn poll_prints_lines_as_they_are_told_and_none_of_them_twice() {
    let event = |name: &str, data: &Value| format!("event: {name}\ndata: {data}\n\n");
    let line = |id: &str, line: &str| {
        event(
            "log",
            &json!({"activationId": id, "name": "n", "line": line}),
        )
    };
    let record = |id: &str, logs: &[&str]| {
        event(
            "activation",
            &json!({"activationId": id, "name": "n", "start": 9, "logs": logs}),
        )
    };
    let told = [
        line("a", "same"),
        line("a", "same"),
        line("b", "of b"),
        event("missed-logs", &json!(1)),
        record("a", &["same", "same", "same"]),
        record("b", &["of b"]),
        // It was on its way when the record came.
        line("b", "of b"),
    ];
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
    let list = format!("{head}content-length: 2\r\n\r\n[]");
    let stream = format!(
        "{head}content-type: text/event-stream\r\n\r\n{}",
        told.concat()
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for answer in [list.clone(), stream, list] {
            let (stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(&stream).lines().map(Result::unwrap);
            drop(lines.take_while(|line| !line.is_empty()).last());
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    let environment = Environment::of([("WISP_APIHOST", &url)]);
    let done = wisp(&environment, &["activation", "poll", "-e", "1"]);
    server.join().unwrap();
    let (_, printed) = done.out.split_once("logs\n").unwrap();
    let expected = "\nActivation: 'n' (a)\nsame\nsame\n\nActivation: 'n' (b)\nof b\n\
        \nActivation: 'n' (a)\n[\n    \"same\"\n]\n";
    assert_eq!(printed, expected);
}

#[test]
fn poll_reads_the_servers_stream_and_comes_back_when_it_breaks() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let record =
        |id: &str| json!({"activationId": id, "name": "n", "start": 9, "logs": []}).to_string();
    let stream = move |text: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{text}"
        )
    };
    let list = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n[]".to_owned();
    let event = |id: &str| format!("id: {id}\nevent: activation\ndata: {}\n\n", record(id));
    let answers = [
        list.clone(),
        stream(&format!(": hi\n\n{}", event("a"))),
        list.clone(),
        stream(&format!("{}{}", event("a"), event("b"))),
        list,
    ];
    let server = std::thread::spawn(move || {
        answers.map(|answer| {
            let (stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(&stream).lines().map(Result::unwrap);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            (&stream).write_all(answer.as_bytes()).unwrap();
            head.join("\n")
        })
    });
    let environment = Environment::of([("WISP_APIHOST", &url)]);
    let done = wisp(&environment, &["activation", "poll", "-e", "6"]);
    let heads = server.join().unwrap();
    assert_eq!(
        done.out.matches("Activation: 'n' (a)").count(),
        1,
        "{}",
        done.out
    );
    assert_eq!(
        done.out.matches("Activation: 'n' (b)").count(),
        1,
        "{}",
        done.out
    );
    assert!(
        heads[1].contains("events=true") && heads[1].contains("accept: text/event-stream"),
        "{}",
        heads[1]
    );
    assert!(heads[3].contains("last-event-id: a"), "{}", heads[3]);
}
