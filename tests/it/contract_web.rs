//! Section 6: web actions, with guests, over the wire.
//!
//! What an action answers comes from what it is sent: the guest echoes its parameters, so a JSON body with `statusCode`,
//! `headers` and `body` becomes the response.

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

use crate::harness::{
    ECHO, PATIENCE, Reply, Request, SLEEP, Tenant, answers, basic, big_echo, shared, traps,
};

/// Annotations as clients send them.
fn annotations(all: &[(&str, Value)]) -> Value {
    let one = |(key, value): &(&str, Value)| json!({"key": key, "value": value});
    all.iter().map(one).collect()
}

impl Tenant {
    /// A web action.
    #[track_caller]
    pub(crate) fn put_web(&self, name: &str, code: &str, more: &[(&str, Value)]) {
        let mut all = vec![("web-export", json!(true))];
        all.extend_from_slice(more);
        self.put_action_with(name, code, json!({"annotations": annotations(&all)}));
    }

    /// A request for `path`, below the namespace, without credentials.
    pub(crate) fn web(&self, method: &str, path: &str) -> Request {
        let path = format!("/api/v1/web/{}/{path}", self.namespace);
        Request::new(method, &path)
    }

    /// What the echoing action at `path` makes of `answer`.
    #[track_caller]
    fn answered(&self, path: &str, answer: &Value) -> Reply {
        self.client.send(&self.web("POST", path).json(answer))
    }
}

/// Values of a header, all of them.
fn all<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    let named = reply.headers.iter();
    let named = named.filter(|(given, _)| given.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn an_action_is_given_the_request_and_runs_as_its_owner() {
    let (tenant, other) = (shared().tenant(), shared().tenant());
    tenant.put_web("a", ECHO, &[]);
    let request = tenant
        .web("PUT", "default/a.json/more/%C3%A9/?q=1&q=2&b=query")
        .header("X-Own", "1")
        .header("X-OWN", "2")
        .key(&other.key)
        .json(&json!({"b": "body", "n": [1]}));
    let reply = tenant.client.send(&request).expect(200);
    let given = reply.json();
    assert_eq!(given["__ow_method"], "put");
    assert_eq!(given["__ow_path"], "/more/%C3%A9/");
    assert_eq!(given["__ow_user"], other.namespace.as_str());
    assert_eq!(given["q"], "2");
    assert_eq!(given["b"], "body");
    assert_eq!(given["n"], json!([1]));
    let headers = &given["__ow_headers"];
    assert_eq!(headers["x-own"], "2");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["host"], tenant.client.address.to_string());
    assert_eq!(headers.get("authorization"), None, "the key of {other:?}");
    assert_eq!(headers.get("x-request-id"), None);
    let id = reply
        .header("x-openwhisk-activation-id")
        .expect("it ran")
        .to_owned();
    let record = tenant.awaited(&id);
    assert_eq!(record["namespace"], tenant.namespace.as_str());
    assert_eq!(record["subject"], tenant.namespace.as_str());
    other.get(&format!("activations/{id}")).expect(404);
}

#[test]
fn parameters_are_merged_below_and_finals_are_kept() {
    let tenant = shared().tenant();
    let body = json!({
        "parameters": [{"key": "bound", "value": 1}, {"key": "open", "value": null}],
        "annotations": annotations(&[("web-export", json!(true)), ("final", json!(true))]),
    });
    tenant.put_action_with("a", ECHO, body);
    let given = tenant
        .client
        .send(&tenant.web("GET", "default/a.json?open=2"));
    let given = given.expect(200).json();
    assert_eq!((&given["bound"], &given["open"]), (&json!(1), &json!("2")));
    let reply = tenant
        .client
        .send(&tenant.web("GET", "default/a.json?bound=2"));
    let text = "Request defines parameters that are not allowed (e.g., reserved properties).";
    assert_eq!(reply.expect(400).error(), text);
}

#[test]
fn raw_actions_get_the_request_as_it_came() {
    let tenant = shared().tenant();
    tenant.put_web("raw", &big_echo(), &[("raw-http", json!(true))]);
    for (kind, body, given) in [
        ("application/json", &b"{\"a\": 1}"[..], "eyJhIjogMX0="),
        ("text/plain; charset=utf-8", "é".as_bytes(), "é"),
        ("application/x-www-form-urlencoded", b"a=1&a=2", "a=1&a=2"),
        ("application/xml", b"<a/>", "<a/>"),
        ("application/octet-stream", b"\xff\x00", "/wA="),
        ("image/jpeg", b"\xff\xd8", "/9g="),
        ("multipart/form-data; boundary=b", b"--b--", "LS1iLS0="),
        ("video/mp4", b"", ""),
    ] {
        let request = tenant.web("POST", "default/raw.json?a=%20&__ow_body=x");
        let reply = tenant
            .client
            .send(&request.raw(kind, body))
            .expect(200)
            .json();
        assert_eq!(reply["__ow_body"], given, "{kind}");
        assert_eq!(reply["__ow_query"], "a=%20&__ow_body=x");
        assert_eq!(reply.get("a"), None);
    }
    let said = said_to(
        &tenant,
        "default/raw.json",
        "Content-Type: text/plain\r\nTransfer-Encoding: chunked",
        b"5\r\nhello\r\n0\r\n\r\n",
    );
    assert!(said.contains("\"__ow_body\":\"hello\""), "{said}");
}

/// All that comes back over the connection of a POST.
fn said_to(tenant: &Tenant, path: &str, headers: &str, body: &[u8]) -> String {
    let path = tenant.web("POST", path).path;
    let mut stream = tenant.client.connect().expect("connected");
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(body).expect("sent");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("an answer");
    said
}

#[test]
fn a_response_is_made_of_status_headers_and_body() {
    let tenant = shared().tenant();
    tenant.put_web("a", ECHO, &[]);
    let reply = tenant.answered(
        "default/a",
        &json!({"statusCode": 201, "body": "<b>", "headers": {
            "Set-Cookie": ["a=1", "b=2"], "Location": "/x", "Connection": "close, x-y",
            "Content-Length": 1, "Transfer-Encoding": "chunked"}}),
    );
    let reply = reply.expect(201);
    assert_eq!(reply.text(), "<b>");
    assert_eq!(all(&reply, "set-cookie"), ["a=1", "b=2"]);
    assert_eq!(all(&reply, "content-length"), ["3"]);
    assert!(all(&reply, "transfer-encoding").is_empty());
    assert_eq!(
        reply.header("content-type"),
        Some("text/html; charset=UTF-8")
    );
    let png = json!({"body": "iVBORw0KGgo=", "headers": {"Content-Type": "image/png"}});
    let reply = tenant.answered("default/a", &png).expect(200);
    assert_eq!(reply.body, b"\x89PNG\r\n\x1a\n");
    for status in [204, 205, 304] {
        let reply = tenant.answered("default/a", &json!({"statusCode": status, "body": "x"}));
        assert!(reply.expect(status).body.is_empty());
    }
    for (method, length) in [("GET", "2"), ("HEAD", "2")] {
        let request = tenant.web(method, "default/a.text?text=hi");
        let reply = tenant.client.send(&request).expect(200);
        assert_eq!(reply.header("content-length"), Some(length), "{method}");
        assert_eq!(reply.body.is_empty(), method == "HEAD");
    }
}

#[test]
fn no_answer_of_an_action_becomes_two_on_the_wire() {
    let tenant = shared().tenant();
    tenant.put_web("a", ECHO, &[]);
    for (name, value) in [
        ("X-A", "b\r\n\r\nHTTP/1.1 200 OK\r\nX-Split: 1\r\n\r\n"),
        ("X-A", "b\nX-Split: 1"),
        ("X-A\r\nX-Split", "1"),
        ("X-A: b\r\nX-Split", "1"),
        ("Content-Type", "text/html\r\nX-Split: 1"),
        ("Location", "/\u{0}"),
    ] {
        let answer = json!({"headers": {name: value}, "body": "x"});
        let body = answer.to_string();
        let headers = format!(
            "Content-Type: application/json\r\nContent-Length: {}",
            body.len()
        );
        let said = said_to(&tenant, "default/a", &headers, body.as_bytes());
        assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
        assert_eq!(said.matches("HTTP/1.1").count(), 1, "{said}");
        assert!(!said.to_ascii_lowercase().contains("x-split"), "{said}");
        assert!(
            said.contains("Response is not valid 'message/http'."),
            "{said}"
        );
    }
}

#[test]
fn failures_are_told_without_their_cause() {
    let tenant = shared().tenant();
    tenant.put_web("trap", &traps(), &[]);
    tenant.put_web(
        "error",
        &answers(r#"{"error":{"statusCode":418,"body":"tea"}}"#),
        &[],
    );
    tenant.put_web("list", &answers("[1,2]"), &[]);
    for extension in ["", ".json", ".text"] {
        let reply = tenant
            .client
            .send(&tenant.web("GET", &format!("default/trap{extension}")));
        let reply = reply.expect(400);
        assert_eq!(reply.error(), "There was an error processing your request.");
        assert!(reply.header("x-openwhisk-activation-id").is_some());
        assert!(
            reply.text().starts_with("{\n  \"error\": "),
            "{}",
            reply.text()
        );
    }
    let reply = tenant
        .client
        .send(&tenant.web("GET", "default/error"))
        .expect(418);
    assert_eq!(reply.text(), "tea");
    let reply = tenant.client.send(&tenant.web("GET", "default/list.json"));
    assert_eq!(reply.expect(200).json(), json!([1, 2]));
}

#[test]
fn packages_and_bindings_lead_to_actions() {
    let (tenant, other) = (shared().tenant(), shared().tenant());
    let public = json!({"publish": true, "parameters": [{"key": "p", "value": "provider"}]});
    other.put("packages/shared", &public).expect(200);
    other.put("packages/private", &json!({})).expect(200);
    for package in ["shared", "private"] {
        other.put_web(&format!("{package}/a"), ECHO, &[]);
        other.put_action(&format!("{package}/hidden"), ECHO);
    }
    let binding = json!({"binding": {"namespace": other.namespace, "name": "shared"},
        "parameters": [{"key": "b", "value": "binding"}]});
    tenant.put("packages/bound", &binding).expect(200);
    let reply = tenant
        .client
        .send(&tenant.web("GET", "bound/a.json?q=1"))
        .expect(200);
    let given = reply.json();
    assert_eq!(given["p"], "provider");
    assert_eq!((&given["b"], &given["q"]), (&json!("binding"), &json!("1")));
    let id = reply
        .header("x-openwhisk-activation-id")
        .expect("it ran")
        .to_owned();
    tenant.awaited(&id);
    // Exported is exported, whosoever's package it is in.
    other
        .client
        .send(&other.web("GET", "private/a.json"))
        .expect(200);
    for path in ["bound/hidden", "bound/none", "none/a", "default/bound"] {
        let reply = tenant.client.send(&tenant.web("GET", path)).expect(404);
        assert_eq!(reply.error(), "The requested resource does not exist.");
    }
    other
        .put("packages/shared?overwrite=true", &json!({"publish": false}))
        .expect(200);
    tenant
        .client
        .send(&tenant.web("GET", "bound/a.json"))
        .expect(404);
}

#[test]
fn a_sequence_can_be_a_web_action() {
    let tenant = shared().tenant();
    tenant.put_action("one", ECHO);
    tenant.put_action("two", &answers(r#"{"body":"the end"}"#));
    let components: Vec<_> = ["one", "two"].map(|name| format!("/_/{name}")).into();
    let body = json!({"exec": {"kind": "sequence", "components": components},
        "annotations": annotations(&[("web-export", json!(true))])});
    tenant.put("actions/all", &body).expect(200);
    let reply = tenant
        .client
        .send(&tenant.web("GET", "default/all?q=1"))
        .expect(200);
    assert_eq!(reply.text(), "the end");
}

#[test]
fn secrets_and_keys_are_asked_for() {
    let (tenant, other) = (shared().tenant(), shared().tenant());
    tenant.put_web("secret", ECHO, &[("require-whisk-auth", json!("s3cret"))]);
    tenant.put_web("key", ECHO, &[("require-whisk-auth", json!(true))]);
    let secret = |value: &str| {
        tenant
            .web("GET", "default/secret.json")
            .header("X-Require-Whisk-Auth", value)
    };
    let key = |value: &str| {
        tenant
            .web("GET", "default/key.json")
            .header("Authorization", value)
    };
    for request in [
        tenant.web("GET", "default/secret.json"),
        secret("s3cre"),
        secret("s3crets"),
        tenant.web("GET", "default/key.json"),
        key("Basic x"),
        key(&basic(&format!("{}x", tenant.key))),
    ] {
        let reply = tenant.client.send(&request).expect(401);
        let text = "Authentication is possible but has failed or not yet been provided.";
        assert_eq!(reply.error(), text);
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    }
    tenant.client.send(&secret("s3cret")).expect(200);
    for who in [&tenant, &other] {
        let reply = tenant.client.send(&key(&basic(&who.key))).expect(200);
        assert_eq!(reply.json()["__ow_user"], who.namespace.as_str());
    }
}

#[test]
fn sizes_are_bounded_and_the_next_caller_is_served() {
    let tenant = shared().tenant();
    tenant.put_web("a", &big_echo(), &[]);
    let query = "x".repeat(1 << 20);
    let request = tenant.web("GET", &format!("default/a.json?{query}"));
    match tenant.client.try_send(&request) {
        Ok(reply) => assert!(matches!(reply.status, 400 | 414 | 431), "{}", reply.shown()),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    let request = tenant.web("GET", &format!("default/a.json?{}", "x".repeat(9000)));
    tenant.client.send(&request).expect(414);
    let large = vec![b'x'; (1 << 20) + 1];
    let request = tenant
        .web("POST", "default/a.json")
        .raw("text/plain", large);
    let reply = tenant.client.send(&request).expect(413);
    assert_eq!(
        reply.error(),
        "Request larger than allowed: 1048577 > 1048576 bytes."
    );
    assert_eq!(reply.header("access-control-allow-origin"), None);
    let large = vec![b'x'; 500_000];
    let request = tenant
        .web("POST", "default/a.json")
        .raw("text/plain", large);
    let reply = tenant.client.send(&request).expect(200);
    assert_eq!(
        reply.json()["__ow_body"].as_str().map(str::len),
        Some(500_000)
    );
}

#[test]
fn the_owners_limits_hold_whoever_calls() {
    let (tenant, other) = (shared().tenant(), shared().tenant());
    tenant.put_web("a", SLEEP, &[]);
    tenant.limits(&json!({"invocationsPerMinute": 1}));
    let send = || {
        tenant
            .client
            .send(&tenant.web("GET", "default/a.json").key(&other.key))
    };
    let (first, second) = (send(), send());
    // A minute may turn in between; then the third is one too many.
    let refused = if second.status == 200 { send() } else { second };
    first.expect(200);
    let refused = refused.expect(429);
    assert!(
        refused
            .error()
            .starts_with("Too many requests in the last minute")
    );
    assert!(refused.header("retry-after").is_some());
    other.put_action("a", ECHO);
    other.result("a", &json!({})).expect(200);
}
