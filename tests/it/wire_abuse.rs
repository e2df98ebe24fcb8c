//! Callers that do not behave: too much, too deep, too slow, too many.

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{ECHO, GUEST_KEY, Reply, Request, SLEEP, Server, basic, shared};

/// A server that has little patience, so that the tests need little.
const IMPATIENT: &str = "
[api]
head_timeout_s = 1
body_timeout_s = 1
idle_timeout_s = 1
";

#[test]
fn a_body_over_the_limit_is_413_without_being_read() {
    let tenant = shared().tenant();
    // It is refused by what its head says; the body never comes.
    let request = tenant
        .request("PUT", "actions/a")
        .raw("application/json", "{}")
        .header("Content-Length", "99999999999");
    let began = Instant::now();
    let reply = tenant.client.send(&request).expect(413);
    assert!(!reply.error().is_empty(), "section 1.4: with the JSON body");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_chunked_body_without_end_is_413() {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    let mut stream = tenant.client.connect().unwrap();
    let head = format!(
        "POST /api/v1/namespaces/_/actions/a?blocking=true HTTP/1.1\r\nHost: wisp\r\nAuthorization: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        basic(&tenant.key)
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65536));
    // 3 MiB; the limit is 1. The server may stop reading at any point of it.
    for _ in 0..48 {
        if stream.write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    drop(stream.write_all(b"0\r\n\r\n"));
    Reply::read(&mut BufReader::new(stream))
        .unwrap()
        .expect(413);
}

#[test]
fn deeply_nested_json_is_400() {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    for depth in [200, 10_000, 100_000] {
        let nested = format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let objects = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        for body in [nested, objects] {
            let invoke = tenant
                .request("POST", "actions/a?blocking=true")
                .raw("application/json", body.clone());
            tenant.client.send(&invoke).expect(400);
            let put = tenant.request("PUT", "actions/b").raw("application/json", format!("{{\"exec\":{{\"kind\":\"wasm:1\",\"code\":\"x\"}},\"annotations\":[{{\"key\":\"a\",\"value\":{body}}}]}}"));
            tenant.client.send(&put).expect(400);
        }
    }
    tenant.result("a", &json!({})).expect(200);
}

#[test]
fn a_result_nested_too_deeply_is_the_actions_fault() {
    let tenant = shared().tenant();
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(400), "]".repeat(400));
    tenant.put_action("deep", &crate::harness::answers(&deep));
    let reply = tenant.invoke("deep", &json!({})).expect(502).json();
    assert_eq!(reply["response"]["status"], "action developer error");
}

#[test]
fn json_with_odd_contents_passes_unharmed() {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    for body in [
        r#"{"":""}"#,
        r#"{"\u0000":"\ud83e\udd80"}"#,
        r#"{"n":1e400}"#,
        r#"{"n":123456789012345678901234567890.123456789}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"__proto__":{"x":1},"constructor":1}"#,
    ] {
        let request = tenant
            .request("POST", "actions/a?blocking=true&result=true")
            .raw("application/json", body);
        let reply = tenant.client.send(&request);
        assert!(
            matches!(reply.status, 200 | 400),
            "{body}: {}",
            reply.shown()
        );
    }
    for body in [
        &b"{\"a\":\"\xff\"}"[..],
        b"\xef\xbb\xbf{}",
        b"{\"a\":\"\\ud800\"}",
        b"{} {}",
        b"{\"a\":NaN}",
    ] {
        let request = tenant
            .request("POST", "actions/a?blocking=true")
            .raw("application/json", body);
        let reply = tenant.client.send(&request);
        assert!(
            matches!(reply.status, 200 | 400 | 502),
            "{body:?}: {}",
            reply.shown()
        );
    }
}

#[test]
fn what_is_no_http_is_refused_and_the_next_caller_is_served() {
    for bytes in [
        &b"\0\0\0\0\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut stream = shared().client().connect().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        drop(stream.write_all(bytes));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.starts_with("HTTP/1.1 5"), "{bytes:?}: {text}");
    }
    shared().client().get("/ping").expect(200);
}

#[test]
fn a_path_without_end_is_refused() {
    let tenant = shared().tenant();
    for length in [9_000, 60_000] {
        let path = format!("/api/v1/{}", "x".repeat(length));
        let reply = tenant.get(&path);
        assert!(
            matches!(reply.status, 400 | 404 | 414 | 431),
            "section 1.4: {}",
            reply.shown()
        );
    }
    let request = Request::new("GET", "/api/v1/namespaces")
        .key(GUEST_KEY)
        .header("X-Long", "y".repeat(600_000));
    match tenant.client.try_send(&request) {
        Ok(reply) => assert!(matches!(reply.status, 400 | 413 | 431), "{}", reply.shown()),
        Err(_) => shared()
            .client()
            .get("/ping")
            .expect(200)
            .status
            .clone_into(&mut 0),
    }
}

/// Reads until the server ends the connection: what it said.
fn until_closed(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    stream
        .set_read_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    let ended = stream.read_to_end(&mut said);
    if let Err(error) = ended {
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset,
            "the server never ended the connection"
        );
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn slow_callers_are_dropped_at_every_stage() {
    let server = Server::start(IMPATIENT);
    let connect = || server.client().connect().unwrap();
    let send = |text: &str| {
        let mut stream = connect();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let auth = basic(GUEST_KEY);
    let stages = [
        ("silent", connect()),
        ("half a head", send("GET /ping HTTP/1.1\r\nHos")),
        (
            "idle after an answer",
            send("GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"),
        ),
        (
            "half a body",
            send(&format!(
                "POST /api/v1/namespaces/_/actions/a HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"a\":"
            )),
        ),
    ];
    for (stage, stream) in stages {
        let said = until_closed(stream);
        let expected = match stage {
            "idle after an answer" => said.starts_with("HTTP/1.1 200"),
            _ => !said.starts_with("HTTP/1.1 2") && !said.starts_with("HTTP/1.1 5"),
        };
        assert!(expected, "{stage}: {said}");
    }
    server.client().get("/ping").expect(200);
}

#[test]
fn a_thousand_idle_connections_cost_nobody_anything() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action("a", ECHO);
    let idle: Vec<TcpStream> = (0..1000)
        .map(|_| server.client().connect().unwrap())
        .collect();
    for n in 0..50 {
        let reply = tenant.result("a", &json!({ "n": n })).expect(200);
        assert_eq!(reply.json()["n"], n);
    }
    for mut stream in idle.into_iter().step_by(100) {
        stream
            .write_all(b"GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .unwrap();
        let reply = Reply::read(&mut BufReader::new(stream)).unwrap();
        assert_eq!(reply.text(), "pong", "they still work");
    }
}

#[test]
fn connections_beyond_the_limit_are_told_503() {
    let server = Server::start("[api]\nconnections_max = 10\n");
    let held: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut stream = server.client().connect().unwrap();
            stream
                .write_all(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            Reply::read(&mut BufReader::new(stream.try_clone().unwrap()))
                .unwrap()
                .expect(200);
            stream
        })
        .collect();
    let beyond = server.client().get("/ping").expect(503);
    assert!(beyond.header("retry-after").is_some());
    drop(held);
    crate::harness::eventually("room", || {
        let reply = server
            .client()
            .try_send(&Request::new("GET", "/ping"))
            .ok()?;
        (reply.status == 200).then_some(())
    });
}

#[test]
fn a_backlog_over_its_limit_is_429_or_503_and_says_when_to_come_back() {
    let server = Server::start("[queue]\ndepth_max = 5\n");
    let tenant = server.tenant();
    tenant.put_action_with("slow", SLEEP, json!({ "limits": { "instances": 1 } }));
    tenant.put_action("other", ECHO);
    let replies: Vec<Reply> = (0..20)
        .map(|_| tenant.post("actions/slow", &json!({ "ms": 100 })))
        .collect();
    let taken: Vec<String> = replies
        .iter()
        .filter(|r| r.status == 202)
        .map(crate::harness::id_of)
        .collect();
    let refused: Vec<&Reply> = replies.iter().filter(|r| r.status != 202).collect();
    assert!(
        taken.len() >= 5 && !refused.is_empty(),
        "{} taken, {} refused",
        taken.len(),
        refused.len()
    );
    for reply in refused {
        assert!(matches!(reply.status, 429 | 503), "{}", reply.shown());
        assert!(reply.header("retry-after").is_some(), "{}", reply.shown());
    }
    tenant.result("other", &json!({})).expect(200);
    for id in taken {
        assert_eq!(
            tenant.awaited(&id)["response"]["status"],
            "success",
            "what was taken is done"
        );
    }
}

#[test]
fn work_that_waits_too_long_for_a_run_is_refused() {
    let server = Server::start("[queue]\nwait_max_s = 1\n");
    let tenant = server.tenant();
    tenant.put_action_with("slow", SLEEP, json!({ "limits": { "instances": 1 } }));
    let long = tenant.fire("slow", &json!({ "ms": 4000 }));
    let began = Instant::now();
    let reply = tenant.result("slow", &json!({ "ms": 1 }));
    assert!(
        matches!(reply.status, 202 | 429 | 502 | 503),
        "{}",
        reply.shown()
    );
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(tenant.awaited(&long)["response"]["status"], "success");
}

#[test]
fn a_caller_that_leaves_leaves_nothing_behind() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action("slow", SLEEP);
    let call = || {
        let body = "{\"ms\":1000}";
        let mut stream = tenant.client.connect().unwrap();
        let head = format!(
            "POST /api/v1/namespaces/_/actions/slow?blocking=true HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            basic(&tenant.key),
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let callers: Vec<TcpStream> = (0..5).map(|_| call()).collect();
    crate::harness::eventually("five runs", || server.runs_at_least(5).then_some(()));
    drop(callers);
    let rows = crate::harness::eventually("five records", || {
        let rows = tenant.get("activations").expect(200).json();
        (rows.as_array().map(Vec::len) == Some(5)).then_some(rows)
    });
    assert!(
        rows.as_array()
            .unwrap()
            .iter()
            .all(|row| row["statusCode"] == 0),
        "{rows}"
    );
    tenant.result("slow", &json!({ "ms": 1 })).expect(200);
}

#[test]
fn odd_queries_are_answered() {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    for query in [
        "?",
        "?&&&",
        "?=",
        "?blocking",
        "?blocking=true&blocking=false",
        "?%00=%00",
        "?limit=%31",
        "?unknown=1",
        "?%zz",
    ] {
        let reply = tenant.get(&format!("actions{query}"));
        assert!(
            matches!(reply.status, 200 | 400),
            "{query}: {}",
            reply.shown()
        );
        let reply = tenant.post(
            &format!("actions/a{query}"),
            &Value::Object(serde_json::Map::new()),
        );
        assert!(
            matches!(reply.status, 200 | 202 | 400),
            "{query}: {}",
            reply.shown()
        );
    }
}
