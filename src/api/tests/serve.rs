//! Connections, over real sockets: kept alive, bounded, timed out, drained.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

const PING: &[u8] = b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n";

struct Server {
    address: std::net::SocketAddr,
    drain: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

async fn start(config: Config) -> Server {
    let (state, _) = Site::state(EffectiveLimits::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (drain, drained) = oneshot::channel::<()>();
    let drained = async move { drop(drained.await) };
    let ended = tokio::spawn(super::super::serve(listener, state, config, drained));
    Server {
        address,
        drain,
        ended,
    }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("listening")
    }
}

/// Reads one answer whose body is `pong`.
async fn pong(stream: &mut TcpStream) {
    let mut got = Vec::new();
    while !got.ends_with(b"pong") {
        let count = stream.read_buf(&mut got).await.expect("an answer");
        assert_ne!(count, 0, "closed after {}", String::from_utf8_lossy(&got));
    }
    assert!(got.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    // A reset ends it as well as a close does.
    drop(stream.read_to_end(&mut got).await);
    String::from_utf8(got).expect("text")
}

#[tokio::test]
async fn a_connection_is_kept_alive_and_pipelines() {
    let server = start(Config::default()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(PING).await.expect("sent");
        pong(&mut stream).await;
    }
}

#[tokio::test]
async fn a_drain_closes_idle_connections_and_returns() {
    let server = start(Config::default()).await;
    let mut idle = server.connect().await;
    let mut used = server.connect().await;
    used.write_all(PING).await.expect("sent");
    pong(&mut used).await;
    server.drain.send(()).expect("running");
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut used).await, "");
    server.ended.await.expect("no panic");
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_drain_lets_a_request_in_flight_end() {
    let server = start(Config::default()).await;
    let mut stream = server.connect().await;
    let key = basic(WELL_KNOWN_GUEST);
    let head = format!(
        "POST /api/v1/namespaces/_/actions/x HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\n\
         expect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut asked = [0; 25];
    // The server has begun: it wants the body.
    stream.read_exact(&mut asked).await.expect("100");
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.drain.send(()).expect("running");
    stream.write_all(b"{}").await.expect("sent");
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.contains("The requested resource does not exist."));
    server.ended.await.expect("no panic");
}

#[tokio::test]
async fn half_a_head_does_not_hold_up_a_drain() {
    let config = Config {
        drain_timeout_s: 3600,
        ..Config::default()
    };
    let server = start(config).await;
    let (mut used, mut fresh) = (server.connect().await, server.connect().await);
    fresh.write_all(b"GET /ping HT").await.expect("sent");
    used.write_all(PING).await.expect("sent");
    pong(&mut used).await;
    used.write_all(b"GET /ping HT").await.expect("sent");
    server.drain.send(()).expect("running");
    let ended = tokio::time::timeout(Duration::from_secs(30), server.ended);
    ended.await.expect("in time").expect("no panic");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    let server = start(Config {
        connections_max: 1,
        ..Config::default()
    })
    .await;
    let mut first = server.connect().await;
    first.write_all(PING).await.expect("sent");
    pong(&mut first).await;
    let mut second = server.connect().await;
    let answer = rest(&mut second).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable"));
    assert!(head.contains(&format!("content-length: {}", body.len())));
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body["error"], "The server has too many connections.");
    first.write_all(PING).await.expect("sent");
    pong(&mut first).await;
}

#[tokio::test]
async fn a_head_that_dribbles_is_cut_off() {
    let server = start(Config {
        head_timeout_s: 0,
        ..Config::default()
    })
    .await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /ping HT").await.expect("sent");
    assert_eq!(rest(&mut slow).await, "");
}

#[tokio::test]
async fn a_connection_that_idles_too_long_is_closed() {
    let server = start(Config {
        idle_timeout_s: 0,
        head_timeout_s: 60,
        ..Config::default()
    })
    .await;
    let mut idle = server.connect().await;
    idle.write_all(PING).await.expect("sent");
    pong(&mut idle).await;
    assert_eq!(rest(&mut idle).await, "");
}

#[tokio::test]
async fn a_thousand_idle_connections_keep_nobody_out() {
    let server = start(Config::default()).await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(server.connect().await);
    }
    let mut busy = server.connect().await;
    busy.write_all(PING).await.expect("sent");
    let answered = tokio::time::timeout(Duration::from_secs(10), pong(&mut busy));
    answered.await.expect("in time");
    assert_eq!(idle.len(), 1000);
}

#[tokio::test]
async fn what_is_no_http_is_refused_without_harm() {
    let server = start(Config::default()).await;
    for bytes in [&b"\x16\x03\x01\x02\x00 hello\r\n\r\n"[..], b"GET\r\n\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(bytes).await.expect("sent");
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let mut stream = server.connect().await;
    let large = format!(
        "GET /ping HTTP/1.1\r\nx: {}\r\n\r\n",
        "x".repeat(128 * 1024)
    );
    drop(stream.write_all(large.as_bytes()).await);
    let answer = rest(&mut stream).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
}
