//! Components that speak HTTP, unmodified: as web actions that stream both ways, as plain invocations, and with everything
//! that can go wrong on either side.
//!
//! The guest is `fixtures/guests/http`: one behaviour per path.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Reply, Request, Server, Tenant, annotation, base64, eventually, shared};

/// The guest.
pub(crate) const GUEST: &[u8] = include_bytes!("../fixtures/guests/http/http.wasm");

/// A namespace with the guest as a web action, whose name it is given.
pub(crate) struct Site {
    pub(crate) tenant: Tenant,
}

impl Site {
    pub(crate) fn of(tenant: Tenant, more: Value) -> Self {
        Self::running(GUEST, tenant, more)
    }

    /// With another guest.
    pub(crate) fn running(guest: &[u8], tenant: Tenant, more: Value) -> Self {
        tenant.put_action_with("site", &base64(guest), more);
        Self { tenant }
    }

    fn new() -> Self {
        Self::with(&json!([]), json!({}))
    }

    /// With more annotations and limits.
    pub(crate) fn with(annotations: &Value, limits: Value) -> Self {
        let mut all = annotations.as_array().unwrap().clone();
        all.push(json!({"key": "web-export", "value": true}));
        Self::of(
            shared().tenant(),
            json!({"annotations": all, "limits": limits}),
        )
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/web/{}/default/site{rest}", self.tenant.namespace)
    }

    pub(crate) fn get(&self, rest: &str) -> Reply {
        self.send(Request::new("GET", &self.path(rest)))
    }

    pub(crate) fn send(&self, request: Request) -> Reply {
        self.tenant.client.send(&request)
    }

    /// A connection on which a request has been begun with `head` behind its first line.
    pub(crate) fn open(&self, method: &str, rest: &str, head: &str) -> TcpStream {
        let mut stream = self.tenant.client.connect().unwrap();
        let path = self.path(rest);
        let text = format!("{method} {path} HTTP/1.1\r\nhost: site.example\r\n{head}\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    /// The newest record, once it is there and `is_it`.
    pub(crate) fn record(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || {
            let listed = self.tenant.get("activations?docs=true&limit=1").expect(200);
            let record = listed.json()[0].clone();
            is_it(&record).then_some(record)
        })
    }
}

pub(crate) fn id(reply: &Reply) -> String {
    reply
        .header("x-openwhisk-activation-id")
        .unwrap()
        .to_owned()
}

/// The head of an answer.
pub(crate) fn head(stream: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "{head}");
    }
    head
}

/// Bytes of a server's memory that are resident.
pub(crate) fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[test]
fn a_request_has_its_method_target_headers_and_authority() {
    let site = Site::new();
    let request = Request::new("PUT", &site.path("/info?a=1&a=2&%42"))
        .header("X-Custom", "one")
        .header("X-Custom", "two")
        .header("X-Forwarded-Proto", "https")
        .raw("text/plain", "body");
    let text = site.send(request).expect(200).text();
    for line in [
        "method Method::Put",
        "target /info?a=1&a=2&%42",
        "scheme Some(Scheme::Https)",
        "header x-custom: one",
        "header x-custom: two",
        "header content-type: text/plain",
        &format!("authority {}", site.tenant.client.address),
        &format!("env __OW_NAMESPACE={}", site.tenant.namespace),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let bare = site.get("").expect(200);
    assert_eq!(bare.text(), "Hello, world!");
    assert_eq!(bare.header("content-type"), Some("text/plain"));
    let record = site.tenant.activation(&id(&bare));
    assert_eq!(record["response"]["result"], json!({"statusCode": 200}));
    assert_eq!(annotation(&record, "bytesOut"), Some(&json!(13)));
}

#[test]
fn the_first_byte_is_out_before_the_last_is_made() {
    let site = Site::new();
    let mut stream = BufReader::new(site.open("GET", "/chunks?n=3&ms=400", ""));
    assert!(head(&mut stream).contains("transfer-encoding: chunked"));
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line.clear();
    stream.read_line(&mut line).unwrap();
    assert_eq!(line, "chunk 0\n");
    let first = Instant::now();
    while !line.ends_with("chunk 2\n") {
        stream.read_line(&mut line).unwrap();
    }
    assert!(
        first.elapsed() >= Duration::from_millis(500),
        "{:?}",
        first.elapsed()
    );
}

#[test]
fn a_gibibyte_passes_in_constant_memory_in_out_and_through() {
    const SIZE: u64 = 1 << 30;
    // One of its own: what other tests have in memory is no concern of this one.
    let server = Server::start("");
    let more = json!({
        "annotations": [{"key": "web-export", "value": true}], "limits": {"timeout": 120_000},
    });
    let site = Site::of(server.tenant(), more);
    site.get("").expect(200);
    let before = resident(&server);
    let mut most = 0;

    let mut stream = BufReader::new(site.open("GET", &format!("/big?bytes={SIZE}&length"), ""));
    assert!(head(&mut stream).contains(&format!("content-length: {SIZE}\r\n")));
    let mut buffer = vec![0; 1 << 20];
    let mut left = SIZE;
    while left > 0 {
        let count = stream.read(&mut buffer).unwrap() as u64;
        assert!(count > 0, "{left} bytes are missing");
        left -= count;
        most = most.max(resident(&server));
    }

    let length = format!("content-length: {SIZE}\r\n");
    let mut stream = site.open("POST", "/count", &length);
    for _ in 0..SIZE >> 20 {
        stream.write_all(&buffer).unwrap();
        most = most.max(resident(&server));
    }
    let reply = Reply::read(&mut BufReader::new(stream)).unwrap();
    assert_eq!(reply.expect(200).text(), SIZE.to_string());

    let quarter = SIZE / 4;
    let mut stream = site.open("POST", "/echo", &format!("content-length: {quarter}\r\n"));
    let mut reading = BufReader::new(stream.try_clone().unwrap());
    let writer = std::thread::spawn(move || {
        for _ in 0..quarter >> 20 {
            stream.write_all(&vec![7; 1 << 20]).unwrap();
        }
    });
    let reply = Reply::read(&mut reading).unwrap();
    writer.join().unwrap();
    assert_eq!(reply.body.len() as u64, quarter);
    most = most.max(resident(&server));

    let grown = most.saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more were resident");
    let record = site.record("the record of the echo", |record| {
        annotation(record, "bytesOut") == Some(&json!(quarter))
            && annotation(record, "bytesIn") == Some(&json!(quarter))
    });
    assert_eq!(record["response"]["success"], true);
}

#[test]
fn a_client_that_leaves_ends_what_was_for_it() {
    let site = Site::new();
    let mut stream = BufReader::new(site.open("GET", "/endless", ""));
    head(&mut stream);
    drop(stream);
    let record = site.record("a record of the call", |record| record.is_object());
    assert_eq!(record["response"]["success"], true, "{record}");
    assert!(
        record["logs"][0]
            .as_str()
            .unwrap()
            .contains("the client left"),
        "{record}"
    );
}

#[test]
fn a_request_that_is_cut_off_is_an_error_to_the_guest() {
    let site = Site::new();
    let mut stream = site.open("POST", "/count", "content-length: 1000\r\n");
    stream.write_all(b"only this").unwrap();
    drop(stream);
    let record = site.record("a record of the call", |record| record.is_object());
    assert!(
        record["logs"][0]
            .as_str()
            .unwrap()
            .contains("the body broke off"),
        "{record}"
    );
}

#[test]
fn a_body_that_is_never_read_hinders_nobody() {
    let site = Site::new();
    let mut stream = site.open("POST", "/status?code=201", "content-length: 67108864\r\n");
    // The server may close before all of it is through.
    drop(stream.write_all(&vec![0; 1 << 20]));
    let reply = Reply::read(&mut BufReader::new(stream)).unwrap();
    assert_eq!(reply.expect(201).text(), "as asked");
}

#[test]
fn a_guest_that_gives_no_answer_is_a_bad_gateway_and_its_log_says_why() {
    let site = Site::new();
    for (path, why) in [
        ("/silent", "without an answer"),
        (
            "/refuse",
            "answered with an error: ErrorCode::InternalError",
        ),
        ("/trap", "trapped"),
        ("/headers?n=100000", ""),
    ] {
        let reply = site.get(path).expect(502);
        assert_eq!(reply.error(), "There was an error processing your request.");
        let record = site.tenant.activation(&id(&reply));
        assert_eq!(
            record["response"]["status"], "action developer error",
            "{record}"
        );
        assert!(record["logs"].to_string().contains(why), "{path}: {record}");
    }
    site.get("/headers?n=500").expect(200);
}

#[test]
fn an_answer_that_is_not_finished_breaks_off() {
    let site = Site::new();
    for path in ["/trap-late?ms=50", "/unfinished?ms=50"] {
        let mut stream = BufReader::new(site.open("GET", path, ""));
        let head = head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest));
        let rest = String::from_utf8(rest).unwrap();
        assert!(
            rest.contains("begun") && !rest.ends_with("0\r\n\r\n"),
            "{path}: {rest:?}"
        );
    }
}

#[test]
fn the_deadline_covers_the_whole_exchange() {
    let site = Site::with(&json!([]), json!({"timeout": 500}));
    let reply = site.get("/spin").expect(504);
    assert_eq!(reply.error(), "The action did not answer in time.");
    let record = site.tenant.activation(&id(&reply));
    assert_eq!(annotation(&record, "timeout"), Some(&json!(true)));

    // A client that does not read: the guest waits for it, and no longer than it may.
    let mut stream = BufReader::new(site.open("GET", "/endless", ""));
    head(&mut stream);
    let record = site.record("a record of the second call", |record| {
        record["activationId"] != id(&reply)
    });
    assert_eq!(
        annotation(&record, "timeout"),
        Some(&json!(true)),
        "{record}"
    );
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest));
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}

#[test]
fn a_plain_invocation_is_a_post_of_the_parameters() {
    let site = Site::new();
    for (params, status, result) in [
        (json!({"a": [1]}), 200, json!({"params": {"a": [1]}})),
        (
            json!({"text": 1}),
            200,
            json!({"statusCode": 200, "headers": {"content-type": "text/plain"}, "body": "only text"}),
        ),
        (
            json!({"binary": 1}),
            200,
            json!({"statusCode": 200, "body": "/wA="}),
        ),
        (json!({"refuse": 1}), 502, json!({"error": "refused"})),
        (
            json!({"missing": 1}),
            502,
            json!({"error": {"statusCode": 404, "headers": {"content-type": "text/plain"}, "body": "nothing here"}}),
        ),
    ] {
        let reply = site.tenant.result("site", &params).expect(status);
        assert_eq!(reply.json(), result, "{params}");
    }
    let long = site.tenant.result("site", &json!({"long": 1}));
    let error = long.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("exceeded the allowed length"), "{error}");
}

#[test]
fn what_stands_around_web_actions_stands_around_these() {
    let site = Site::with(
        &json!([{"key": "require-whisk-auth", "value": "secret"}]),
        json!({}),
    );
    site.get("").expect(401);
    let request = Request::new("GET", &site.path("")).header("X-Require-Whisk-Auth", "secret");
    let reply = site.send(request).expect(200);
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    let options = site
        .send(Request::new("OPTIONS", &site.path("")))
        .expect(200);
    assert_eq!(options.text(), "");

    let site = Site::with(
        &json!([{"key": "web-custom-options", "value": true}]),
        json!({}),
    );
    let options = site
        .send(Request::new("OPTIONS", &site.path("/info")))
        .expect(200);
    assert!(options.text().contains("method Method::Options"));
    assert_eq!(options.header("access-control-allow-origin"), None);

    let site = Site::new();
    let own = site.get("/cors").expect(200);
    let all = own
        .headers
        .iter()
        .filter(|(name, _)| name == "access-control-allow-origin");
    let all: Vec<&str> = all.map(|(_, value)| value.as_str()).collect();
    assert_eq!(all, ["https://one.example"]);
    let head = site.send(Request::new("HEAD", &site.path(""))).expect(200);
    assert_eq!(head.header("content-length"), Some("13"));

    let hidden = Site::of(shared().tenant(), json!({}));
    hidden.get("").expect(404);
}

#[test]
fn a_stranger_s_platform_key_is_not_shown_to_the_action() {
    let (site, stranger) = (Site::new(), shared().tenant());
    let path = site.path("/info");
    let theirs = site.send(Request::new("GET", &path).key(&stranger.key));
    assert!(!theirs.expect(200).text().contains("authorization"));
    let own = site.send(Request::new("GET", &path).key(&site.tenant.key));
    assert!(
        own.expect(200)
            .text()
            .contains("header authorization: Basic")
    );
}

#[test]
fn what_a_guest_prints_is_its_log() {
    let site = Site::new();
    let reply = site.get("/log").expect(200);
    let logs = site.tenant.activation(&id(&reply))["logs"].to_string();
    assert!(
        logs.contains("stdout: out") && logs.contains("stderr: err"),
        "{logs}"
    );
}

#[test]
fn what_cannot_be_run_is_named() {
    let tenant = shared().tenant();
    for (wat, named) in [
        (
            "(component (import \"acme:things/store@1.0.0\" (instance)))",
            "`acme:things/store@1.0.0`",
        ),
        (
            "(component (instance $i) (export \"wasi:http/handler@0.3.0\" (instance $i)))",
            "handle",
        ),
        (
            "(component (instance $i) (export \"wasi:http/handler@0.3.0-rc-2026-01-01\" (instance $i)))",
            "it exports `wasi:http/handler@0.3.0-rc-2026-01-01`",
        ),
        (
            "(component (import \"wasi:http/handler@0.3.0\" (instance)) (instance $i) (export \"wasi:http/handler@0.3.0\" (instance $i)))",
            "imports what nobody provides: `wasi:http/handler@0.3.0`",
        ),
        (
            "(component (instance $i) (export \"wasi:http/incoming-handler@0.2.0\" (instance $i)))",
            "handle",
        ),
    ] {
        let body = json!({"exec": {"kind": "wasm:1", "code": wat}});
        let reply = tenant.put("actions/odd?overwrite=true", &body);
        assert_eq!(reply.status, 400, "{}", reply.shown());
        assert!(reply.error().contains(named), "{}", reply.error());
    }
}
