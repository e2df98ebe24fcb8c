//! What components that speak HTTP reach beyond themselves: the web, on the operator's policy, what their namespace keeps,
//! and their configuration.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::harness::{Server, annotation, shared};
use crate::wasi_http::Site;

fn exported() -> Value {
    json!({"annotations": [{"key": "web-export", "value": true}]})
}

/// Answers every request on a port of its own with `answer`.
fn backend(answer: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).unwrap_or(0) > 2 {
                line.clear();
            }
            // Whoever asked may have left.
            drop(stream.get_mut().write_all(answer.as_bytes()));
        }
    });
    port
}

#[test]
fn egress_is_denied_where_it_is_not_allowed_and_judged_on_every_redirect() {
    let secret = backend("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret".to_owned());
    let moved = format!("http://127.0.0.1:{secret}/");
    let open = backend(format!(
        "HTTP/1.1 302 Found\r\nlocation: {moved}\r\ncontent-length: 5\r\n\r\nmoved"
    ));
    let server = Server::start(&format!("[egress]\nallow = [\"127.0.0.1:{open}\"]\n"));
    let site = Site::of(server.tenant(), exported());
    let fetch = |url: &str| site.get(&format!("/fetch?url={url}")).expect(200);
    for url in [
        moved.as_str(),
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]:1/",
        "http://localhost:1/",
        "https://10.0.0.1/",
    ] {
        assert_eq!(
            fetch(url).text(),
            "failed ErrorCode::DestinationIpProhibited",
            "{url}"
        );
    }
    let reply = fetch(&format!("http://127.0.0.1:{open}/"));
    assert_eq!(reply.text(), "status 302\nmoved");
    let id = reply.header("x-openwhisk-activation-id").unwrap();
    let record = site.tenant.activation(id);
    assert_eq!(annotation(&record, "bytesIn"), Some(&json!(5)), "{record}");
    // This server's own API is open to its actions.
    assert!(
        fetch(&format!("{}/ping", server.url()))
            .text()
            .starts_with("status 200")
    );
}

#[test]
fn a_namespace_has_no_more_requests_open_than_it_may() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = format!("[egress]\nallow = [\"127.0.0.1:{port}\"]\nrequests_max_each = 1\n");
    let server = Server::start(&config);
    let (site, other) = (
        Site::of(server.tenant(), exported()),
        Site::of(server.tenant(), exported()),
    );
    let path = format!("/fetch?url=http://127.0.0.1:{port}/");
    let open = site.open("GET", &path, "");
    let (held, _) = listener.accept().unwrap();
    let refused = site.get(&path).expect(200).text();
    assert_eq!(refused, "failed ErrorCode::ConnectionLimitReached");
    let another = other.open("GET", &path, "");
    listener.accept().unwrap();
    drop((open, held, another));
}

#[test]
fn a_namespace_moves_no_more_bytes_in_a_minute_than_it_may() {
    let port = backend(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 3000\r\nconnection: close\r\n\r\n{}",
        "x".repeat(3000)
    ));
    let config =
        format!("[egress]\nallow = [\"127.0.0.1:{port}\"]\nbytes_per_minute_each = 2000\n");
    let server = Server::start(&config);
    let (site, other) = (
        Site::of(server.tenant(), exported()),
        Site::of(server.tenant(), exported()),
    );
    let path = format!("/fetch?url=http://127.0.0.1:{port}/");
    let got = |site: &Site| site.get(&path).expect(200).text();
    assert!(
        got(&site).ends_with("xxx"),
        "the part it is at is passed on"
    );
    assert_eq!(got(&site), "failed ErrorCode::ConnectionLimitReached");
    assert!(
        got(&other).ends_with("xxx"),
        "the other namespace has its own"
    );
}

#[test]
fn a_server_may_run_no_services() {
    let server = Server::start("[sandbox]\nwasi_3 = false\n");
    let wat = "(component (instance $i) (export \"wasi:http/handler@0.3.0\" (instance $i)))";
    let body = json!({"exec": {"kind": "wasm:1", "code": wat}});
    let error = server
        .tenant()
        .put("actions/odd", &body)
        .expect(400)
        .error();
    assert!(
        error.contains("`wasi:http/handler@0.3.0`, of WASI 0.3, which is switched off"),
        "{error}"
    );
}

#[test]
fn a_server_may_allow_nothing_at_all() {
    let server = Server::start("[egress]\nenabled = false\n");
    let site = Site::of(server.tenant(), exported());
    let reply = site.get(&format!("/fetch?url={}/ping", server.url()));
    assert_eq!(
        reply.expect(200).text(),
        "failed ErrorCode::HttpRequestDenied"
    );
}

#[test]
fn keys_and_values_are_the_namespaces_and_outlive_its_instances() {
    let (site, other) = (
        Site::of(shared().tenant(), exported()),
        Site::of(shared().tenant(), exported()),
    );
    let keep = |query: &str| site.get(&format!("/keep?{query}")).expect(200).text();
    for (query, answer) in [
        ("do=get&key=a", "None"),
        ("do=set&key=a&value=1", "()"),
        ("do=get&key=a", "Some(\"1\")"),
        ("do=exists&key=a", "true"),
        ("do=exists&key=b", "false"),
        ("do=add&key=n", "1"),
        ("do=add&key=n", "2"),
        ("do=keys", "[\"n\", \"a\"]"),
        ("do=set&key=a&value=2&bucket=other", "()"),
        ("do=get&key=a&bucket=default", "Some(\"1\")"),
        ("do=get&key=a&bucket=a/b", "Error::NoSuchStore"),
        ("do=delete&key=a", "()"),
        ("do=get&key=a", "None"),
        (
            "do=many",
            "[Some((\"m1\", [49])), Some((\"m2\", [50])), None] [\"n\"]",
        ),
    ] {
        assert_eq!(keep(query), answer, "{query}");
    }
    assert_eq!(other.get("/keep?do=get&key=n").text(), "None");
}

#[test]
fn what_a_namespace_keeps_is_bounded() {
    let server =
        Server::start("[keyvalue]\nentries_max = 2\nbytes_max = 3000\nvalue_bytes_max = 1000\n");
    let site = Site::of(server.tenant(), exported());
    let keep = |query: &str| site.get(&format!("/keep?{query}")).expect(200).text();
    assert_eq!(keep("do=fill&key=a&bytes=1000"), "()");
    assert!(keep("do=fill&key=b&bytes=1001").contains("at most 1000"));
    assert_eq!(keep("do=fill&key=b&bytes=1000"), "()");
    assert!(keep("do=set&key=c&value=1").contains("quota"));
    assert_eq!(keep("do=delete&key=a"), "()");
    assert_eq!(keep("do=set&key=c&value=1"), "()");
}

#[test]
fn the_configuration_is_what_was_bound_and_nothing_a_caller_sends() {
    let mut more = exported();
    more["parameters"] =
        json!([{"key": "colour", "value": "red"}, {"key": "sizes", "value": [1, 2]}]);
    let site = Site::of(shared().tenant(), more);
    let config = |query: &str| site.get(&format!("/config?{query}")).expect(200).text();
    assert_eq!(config("key=colour"), "Ok(Some(\"red\"))");
    assert_eq!(config("key=sizes"), "Ok(Some(\"[1,2]\"))");
    assert_eq!(config("key=key"), "Ok(None)");
    assert_eq!(
        config(""),
        "Ok([(\"colour\", \"red\"), (\"sizes\", \"[1,2]\")])"
    );
}
