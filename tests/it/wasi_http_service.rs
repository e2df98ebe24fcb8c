//! Components that speak HTTP as of WASI 0.3, unmodified: as web actions that stream both ways, and as plain invocations.
//!
//! The guest is `fixtures/guests/service`, built with the crate `wasip3`: one behaviour per path.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Request, Server, annotation, eventually, shared};
use crate::wasi_http::{Site, head, id, resident};

const GUEST: &[u8] = include_bytes!("../fixtures/guests/service/service.wasm");

fn site() -> Site {
    site_with(json!({}))
}

fn site_with(limits: serde_json::Value) -> Site {
    let more = json!({"annotations": [{"key": "web-export", "value": true}], "limits": limits});
    Site::running(GUEST, shared().tenant(), more)
}

#[test]
fn a_service_has_the_clients_request_and_answers_it() {
    let site = site();
    let request = Request::new("PUT", &site.path("/info?a=1&%42"))
        .header("X-Custom", "one")
        .header("X-Forwarded-Proto", "https")
        .raw("text/plain", "body");
    let text = site.send(request).expect(200).text();
    let first = format!(
        "Method::Put https {} /info?a=1&%42",
        site.tenant.client.address
    );
    for line in [first.as_str(), "x-custom: one", "content-type: text/plain"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let reply = site.get("/").expect(200);
    assert_eq!(reply.text(), "Hello, world!");
    assert_eq!(reply.header("content-type"), Some("text/plain"));
    let record = site.tenant.activation(&id(&reply));
    assert_eq!(record["response"]["result"], json!({"statusCode": 200}));
    assert_eq!(annotation(&record, "bytesOut"), Some(&json!(13)));
    assert_eq!(site.get("/nowhere").status, 404);
}

#[test]
fn a_services_first_byte_is_out_before_its_last_is_made() {
    let site = site();
    let mut stream = BufReader::new(site.open("GET", "/chunks?n=3&ms=400", ""));
    assert!(head(&mut stream).contains("transfer-encoding: chunked"));
    let mut line = String::new();
    while !line.ends_with("chunk 0\n") {
        stream.read_line(&mut line).unwrap();
    }
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
fn bodies_pass_a_service_in_constant_memory_in_out_and_through() {
    const SIZE: u64 = 256 << 20;
    let server = Server::start("");
    let more = json!({
        "annotations": [{"key": "web-export", "value": true}], "limits": {"timeout": 120_000},
    });
    let site = Site::running(GUEST, server.tenant(), more);
    site.get("/").expect(200);
    let before = resident(&server);
    let mut most = 0;
    let mut buffer = vec![0; 1 << 20];

    let mut stream = BufReader::new(site.open(
        "GET",
        &format!("/big?bytes={SIZE}"),
        "connection: close\r\n",
    ));
    head(&mut stream);
    let mut read = 0;
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            count => read += count as u64,
        }
        most = most.max(resident(&server));
    }
    assert!(read > SIZE, "{read} bytes with their chunks");

    for path in ["/echo", "/pass"] {
        let length = format!("content-length: {SIZE}\r\nconnection: close\r\n");
        let stream = site.open("POST", path, &length);
        let mut to = stream.try_clone().unwrap();
        let sent = std::thread::spawn(move || {
            let part = vec![b'y'; 1 << 20];
            for _ in 0..SIZE >> 20 {
                to.write_all(&part).unwrap();
            }
        });
        let mut stream = BufReader::new(stream);
        assert!(head(&mut stream).starts_with("HTTP/1.1 200"), "{path}");
        let mut read = 0;
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                count => read += count as u64,
            }
            most = most.max(resident(&server));
        }
        sent.join().unwrap();
        assert!(read > SIZE, "{path}: {read} bytes with their chunks");
    }
    let grown = most.saturating_sub(before) >> 20;
    assert!(grown < 64, "{grown} MiB more");
}

#[test]
fn what_goes_wrong_in_a_service_is_told_and_nothing_broken_is_taken_for_whole() {
    let site = site_with(json!({"timeout": 1000}));
    for (path, status) in [
        ("/trap", 502),
        ("/refuse", 502),
        ("/hoard", 502),
        ("/spin", 504),
        ("/never", 504),
    ] {
        let reply = site.get(path);
        assert_eq!(reply.status, status, "{path}: {}", reply.shown());
    }
}

#[test]
fn a_services_answer_that_breaks_off_is_not_ended_and_a_client_may_leave() {
    let site = site();
    let mut stream = BufReader::new(site.open("GET", "/trap-late", ""));
    assert!(head(&mut stream).starts_with("HTTP/1.1 200"));
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest));
    assert!(
        !rest.ends_with(b"0\r\n\r\n"),
        "a broken answer is not ended"
    );
    let record = site.record("a record of the trap", |record| {
        record["response"]["status"]
            .as_str()
            .is_some_and(|status| status.contains("developer"))
    });
    assert!(record["logs"].to_string().contains("trap"), "{record}");

    // A client that leaves ends what was for it.
    let mut stream = BufReader::new(site.open("GET", "/big?bytes=1000000000000", ""));
    assert!(head(&mut stream).starts_with("HTTP/1.1 200"));
    drop(stream);
    site.record("a record of who was left", |record| {
        record["response"]["result"]["statusCode"] == 200
    });
}

#[test]
fn a_request_that_is_cut_off_ends_a_service_that_reads_it() {
    let site = site();
    let mut stream = site.open("POST", "/count", "content-length: 100\r\n");
    stream.write_all(b"half").unwrap();
    drop(stream);
    let record = site.record("a record", |record| record["end"].is_number());
    assert_ne!(record["response"]["result"]["body"], json!("100"));
}

#[test]
fn a_plain_invocation_of_a_service_is_a_post_of_the_parameters() {
    let site = site();
    let result = site
        .tenant
        .result("site", &json!({"a": [1]}))
        .expect(200)
        .json();
    let name = format!("/{}/site", site.tenant.namespace);
    assert_eq!(result, json!({"params": {"a": [1]}, "action": name}));
}

#[test]
fn what_a_service_prints_is_its_log_and_it_may_go_on_after_its_answer() {
    let site = site();
    let reply = site.get("/log").expect(200);
    let record = site.tenant.activation(&id(&reply));
    let logs = record["logs"].to_string();
    assert!(
        logs.contains("stdout: out") && logs.contains("stderr: err"),
        "{logs}"
    );
    let reply = site.get("/after").expect(200);
    assert_eq!(reply.text(), "answered");
    eventually("what was written after the answer", || {
        let record = site.tenant.get(&format!("activations/{}", id(&reply)));
        (record.status == 200 && record.text().contains("done after the answer")).then_some(())
    });
}

#[test]
fn a_service_goes_out_on_the_policy_of_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut stream_in = BufReader::new(stream.try_clone().unwrap());
        head(&mut stream_in);
        stream
            .write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\nmade")
            .unwrap();
    });
    let server = Server::start(&format!("[egress]\nallow = [\"127.0.0.1:{port}\"]\n"));
    let more = json!({"annotations": [{"key": "web-export", "value": true}]});
    let site = Site::running(GUEST, server.tenant(), more);
    let got = |url: &str| site.get(&format!("/fetch?url={url}")).expect(200).text();
    assert_eq!(got(&format!("http://127.0.0.1:{port}/")), "201 made");
    assert_eq!(
        got("http://127.0.0.1:1/"),
        "ErrorCode::DestinationIpProhibited"
    );
}

#[test]
fn many_requests_at_once_to_a_service_are_all_answered() {
    let site = site();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..20 {
                        assert_eq!(site.get("/").expect(200).text(), "Hello, world!");
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
