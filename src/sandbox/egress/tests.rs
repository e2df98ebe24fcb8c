use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::client::{Client, whole};
use super::{Config, Usage};
use crate::model::Namespace;
use crate::sandbox::tests::harness::{self, Lab, input, input_for};
use crate::sandbox::{self, Outcome};

/// Makes the request that its parameters are the head of; answers the body, or the head when there is none.
const FETCH: &str = r#"(module
  (import "wisp" "http_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (import "wisp" "http_poll" (func $poll (param i64) (result i32)))
  (import "wisp" "http_head" (func $head (param i32 i32 i32) (result i32)))
  (import "wisp" "http_read" (func $read (param i32 i32 i32) (result i32)))
  (memory (export "memory") 3)
  (data (i32.const 16) "{\"error\":\"not taken\"}")
  (func (export "wisp_alloc") (param i32) (result i32) (i32.const 1024))
  (func $pack (param $ptr i32) (param $len i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32)) (i64.extend_i32_u (local.get $len))))
  (func (export "wisp_run") (param $ptr i32) (param $len i32) (result i64)
    (local $h i32) (local $n i32) (local $at i32)
    (local.set $h (call $start (local.get $ptr) (local.get $len) (i32.const 0) (i32.const 0)))
    (if (i32.lt_s (local.get $h) (i32.const 0)) (then (return (call $pack (i32.const 16) (i32.const 21)))))
    (local.set $at (i32.const 65536))
    (loop $again
      (drop (call $poll (i64.const -1)))
      (loop $more
        (local.set $n (call $read (local.get $h) (local.get $at) (i32.const 100)))
        (if (i32.gt_s (local.get $n) (i32.const 0))
          (then (local.set $at (i32.add (local.get $at) (local.get $n))) (br $more))))
      (br_if $again (i32.eq (local.get $n) (i32.const -1))))
    (if (i32.or (i32.eq (local.get $n) (i32.const -2)) (i32.eq (local.get $at) (i32.const 65536)))
      (then (return (call $pack (i32.const 32768) (call $head (local.get $h) (i32.const 32768) (i32.const 16384))))))
    (call $pack (i32.const 65536) (i32.sub (local.get $at) (i32.const 65536)))))"#;

/// Makes a request and ends without waiting for it.
const LEAVE: &str = r#"(module
  (import "wisp" "http_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (import "wisp" "http_poll" (func $poll (param i64) (result i32)))
  (memory (export "memory") 1 1)
  (data (i32.const 16) "{\"left\":true}")
  (func (export "wisp_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "wisp_run") (param $ptr i32) (param $len i32) (result i64)
    (drop (call $start (local.get $ptr) (local.get $len) (i32.const 0) (i32.const 0)))
    (drop (call $poll (i64.const 100)))
    (i64.const 68719476749)))"#;

/// Sleeps for 50 ms: there is nothing to wait for.
const SLEEP: &str = r#"(module
  (import "wisp" "http_poll" (func $poll (param i64) (result i32)))
  (memory (export "memory") 1 1)
  (data (i32.const 16) "{}")
  (func (export "wisp_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "wisp_run") (param i32 i32) (result i64)
    (if (i32.ne (call $poll (i64.const 50)) (i32.const -1)) (then unreachable))
    (i64.const 68719476738)))"#;

fn lab(allow: &[&str]) -> Lab {
    Lab::with(sandbox::Config {
        egress: config(allow),
        ..harness::config()
    })
}

fn config(allow: &[&str]) -> Config {
    Config {
        allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
        ..Config::default()
    }
}

fn get(url: &str) -> String {
    json!({"method": "GET", "url": url, "headers": [["x-a", "1"], ["host", "other"]]}).to_string()
}

fn answer(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Answered(bytes) => serde_json::from_slice(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Answers one request on a port of its own with `text`; gives back what it was sent.
async fn server(text: impl Into<String>) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let text = text.into();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head(&mut stream).await;
        stream.write_all(text.as_bytes()).await.unwrap();
        head
    });
    (address, served)
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nx-b: 2\r\n\r\n{body}")
}

#[tokio::test]
async fn a_core_guest_fetches_what_the_policy_allows() {
    let lab = lab(&["127.0.0.1"]);
    let long = format!("{{\"long\":\"{}\"}}", "x".repeat(20_000));
    let (address, served) = server(ok(&long)).await;
    let run = lab
        .run(FETCH, input(&get(&format!("http://{address}/p?q=1"))))
        .await;
    assert_eq!(answer(&run.outcome)["long"].as_str().unwrap().len(), 20_000);
    let head = served.await.unwrap().to_lowercase();
    assert!(head.starts_with("get /p?q=1 http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nx-a: 1\r\n"), "{head}");
    assert_eq!(head.matches("\r\nhost: ").count(), 1, "{head}");
    assert!(head.contains(&format!("\r\nhost: {address}\r\n")), "{head}");
}

#[tokio::test]
async fn what_is_not_public_is_refused_and_the_guest_told_why() {
    let lab = lab(&[]);
    let urls = [
        "http://127.0.0.1:1/",
        "http://localhost:1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://0/",
        "https://192.168.0.1/",
    ];
    let mut instance = lab.instance(FETCH).await;
    for url in urls {
        let run = instance.run(input(&get(url))).await.unwrap();
        let answer = answer(&run.outcome);
        let text = answer["error"].as_str().unwrap();
        assert!(
            text.contains("no address of the public internet"),
            "{url}: {text}"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_the_guests_to_follow_and_judged_anew() {
    let (address, _served) =
        server("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
            .await;
    let lab = lab(&[&address]);
    let mut instance = lab.instance(FETCH).await;
    let run = instance
        .run(input(&get(&format!("http://{address}/"))))
        .await
        .unwrap();
    let moved = answer(&run.outcome);
    assert_eq!(moved["status"], 302);
    let location = moved["headers"][0][1].as_str().unwrap().to_owned();
    let run = instance.run(input(&get(&location))).await.unwrap();
    assert!(answer(&run.outcome)["error"].is_string());
}

#[tokio::test]
async fn a_head_that_is_none_is_not_taken() {
    let lab = lab(&[]);
    let mut instance = lab.instance(FETCH).await;
    let heads = [
        "{}".to_owned(),
        json!({"method": "G T", "url": "http://x/"}).to_string(),
        json!({"method": "GET", "url": "http://x/", "headers": [["a b", "c"]]}).to_string(),
        json!({"method": "GET", "url": "http://x/", "headers": [["a", "c\r\nd: e"]]}).to_string(),
    ];
    for head in heads {
        let run = instance.run(input(&head)).await.unwrap();
        assert_eq!(answer(&run.outcome)["error"], "not taken", "{head}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let (address, _served) = server("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"a\":").await;
    let run = lab(&[&address])
        .run(FETCH, input(&get(&format!("http://{address}/"))))
        .await;
    assert!(answer(&run.outcome)["error"].is_string());
}

#[tokio::test]
async fn an_endless_head_is_cut() {
    let many = "x: y\r\n".repeat(100_000);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Breaks off when the other side has had enough.
        drop(
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\n{many}\r\n").as_bytes())
                .await,
        );
    });
    let run = lab(&[&address])
        .run(FETCH, input(&get(&format!("http://{address}/"))))
        .await;
    assert!(answer(&run.outcome)["error"].is_string());
}

#[tokio::test]
async fn requests_end_with_their_run() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let lab = lab(&[&address]);
    let mut instance = lab.instance(LEAVE).await;
    let run = instance
        .run(input(&get(&format!("http://{address}/"))))
        .await
        .unwrap();
    assert_eq!(answer(&run.outcome)["left"], true);
    assert!(instance.reusable());
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut rest = Vec::new();
    // Ends, by a close or a reset, although the instance lives on.
    drop(stream.read_to_end(&mut rest).await);
    assert!(rest.starts_with(b"GET / "));
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_with_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut input = input_for(Duration::from_millis(200));
    input.params = get(&format!("http://{address}/")).into();
    let run = lab(&[&address]).run(FETCH, input).await;
    assert_eq!(run.outcome, Outcome::TimedOut);
}

#[tokio::test]
async fn a_poll_with_nothing_open_sleeps() {
    let began = tokio::time::Instant::now();
    let run = lab(&[]).run(SLEEP, input("{}")).await;
    assert_eq!(answer(&run.outcome), json!({}));
    assert!(began.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn requests_of_a_namespace_are_bounded_and_others_go_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            stream.write_all(ok("12345").as_bytes()).await.unwrap();
            tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
        }
    });
    let client = Client::new(Config {
        requests_max_each: 2,
        ..config(&[&address])
    });
    let client = client.unwrap();
    // Each of an instance of its own.
    let send = |namespace: &str| {
        let request = http::Request::get(format!("http://{address}/"));
        let request = request.body(whole("".into())).unwrap();
        let usage = Usage::of(Some(Namespace::parse(namespace).unwrap()));
        let sent = Arc::clone(&client).send(request, client.patience(), usage);
        async { sent.await.map_err(|error| error.to_string()) }
    };
    let (first, second) = (send("one").await.unwrap(), send("one").await.unwrap());
    let refused = send("one").await.map(|_| ()).unwrap_err();
    let words = "the namespace has 2 outbound requests open already";
    assert_eq!(refused, words);
    assert!(send("two").await.is_ok());
    drop(first);
    let third = send("one").await.unwrap();
    assert!(send("one").await.is_err());
    drop((second, third));
    assert!(client.is_idle());
}

/// Answers `{"secure":true}` to one request after the other, with a certificate for `name` that `authority` signed.
async fn secure(authority: &Authority, name: &str) -> u16 {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority.0).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not believe it leaves.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let text = ok("{\"secure\":true}");
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    port
}

/// Signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        // Its own, so that it is another one's word that is not believed and not a signature that does not fit.
        let name = key
            .public_key_raw()
            .iter()
            .map(|byte| format!("{byte:02x}"));
        let name: String = name.take(16).collect();
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }
}

#[tokio::test]
async fn a_server_is_believed_when_an_authority_that_is_configured_says_who_it_is() {
    let (ours, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, ours.0.pem()).unwrap();
    let lab = |ca_file: Option<&std::path::Path>| {
        Lab::with(sandbox::Config {
            egress: Config {
                ca_file: ca_file.map(Into::into),
                ..config(&["127.0.0.1", "localhost"])
            },
            ..harness::config()
        })
    };
    let (with, without) = (lab(Some(&ca_file)), lab(None));
    let (mut with, mut without) = (with.instance(FETCH).await, without.instance(FETCH).await);
    let right = secure(&ours, "localhost").await;
    let by_address = secure(&ours, "127.0.0.1").await;
    let wrong_name = secure(&ours, "example.com").await;
    let stranger = secure(&other, "localhost").await;
    for url in [
        format!("https://localhost:{right}/"),
        format!("https://127.0.0.1:{by_address}/"),
    ] {
        let run = with.run(input(&get(&url))).await.unwrap();
        assert_eq!(answer(&run.outcome), json!({ "secure": true }), "{url}");
        let run = without.run(input(&get(&url))).await.unwrap();
        let error = answer(&run.outcome)["error"].to_string();
        assert!(error.contains("no secure connection to"), "{url}: {error}");
    }
    for (url, why) in [
        (
            format!("https://localhost:{wrong_name}/"),
            "not valid for name",
        ),
        (format!("https://localhost:{stranger}/"), "UnknownIssuer"),
        (format!("https://127.0.0.1:{right}/"), "not valid for name"),
    ] {
        let run = with.run(input(&get(&url))).await.unwrap();
        let error = answer(&run.outcome)["error"].to_string();
        assert!(error.contains("no secure connection to"), "{url}: {error}");
        assert!(error.contains(why), "{url}: {error}");
    }
}

#[tokio::test]
async fn bytes_are_counted_and_connections_are_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            stream.write_all(ok("12345").as_bytes()).await.unwrap();
            // Left open: who is served decides when it is over.
            tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
        }
    });
    let client = Client::new(Config {
        instance_connections_max: 1,
        ..config(&[&address])
    });
    let client = client.unwrap();
    let usage = Arc::new(Usage::default());
    let request = || {
        let request = http::Request::post(format!("http://{address}/"));
        request.body(whole("abc".into())).unwrap()
    };
    let send = || Arc::clone(&client).send(request(), client.patience(), Arc::clone(&usage));
    let (first, connection) = send().await.map_err(|error| error.to_string()).unwrap();
    let refused = send().await.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("1 connections open"), "{refused}");
    let body = http_body_util::BodyExt::collect(first.into_body());
    let body = body.await.unwrap().to_bytes();
    assert_eq!(body, "12345");
    drop(connection);
    assert_eq!(usage.sent.load(Ordering::Relaxed), 3);
    assert_eq!(usage.received.load(Ordering::Relaxed), 5);
    assert!(send().await.is_ok());
}
