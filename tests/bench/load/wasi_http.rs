//! A component that speaks HTTP, with a fresh instance for each request, side by side with `wasmtime serve` on the same bytes.
//!
//! Wisp does it as a web action: throttle and records on, nobody's key. The other side is `WISP_BENCH_WASMTIME`, or the
//! `wasmtime` in PATH, as it comes: pooled, a fresh instance for each request.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hyper::Method;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::api::Tenant;
use crate::args::Args;
use crate::bare::Bare;
use crate::client::{Call, Connection};
use crate::guests;
use crate::report::{Row, say};
use crate::server::Server;
use crate::throughput::compare;

const GOAL: f64 = 0.90;
const ANSWER: &str = "Hello, world!";
const GUEST: &[u8] = include_bytes!("../../fixtures/guests/hello/hello.wasm");

pub(crate) async fn run(args: &Args) -> Result<Vec<Row>> {
    let Some(wasmtime) = find() else {
        let text = "there is no `wasmtime` in PATH and none in WISP_BENCH_WASMTIME: nothing to stand beside";
        bail!(text);
    };
    let server = Server::start("").await?;
    let tenant = Tenant::new(&server, "bench", 100_000).await?;
    let mut connection = Connection::open(server.addr).await?;
    let action = json!({
        "exec": { "kind": "wasm:1", "code": guests::base64(GUEST) },
        "annotations": [{ "key": "web-export", "value": true }],
    });
    connection
        .call(&tenant.put_entity("actions/page", &action)?)
        .await?;
    let call = Call::new(Method::GET, "/api/v1/web/bench/default/page", "", "")?;
    let got = connection.call(&call).await?;
    ensure!(got == ANSWER, "the page is {got:?}, not {ANSWER}");
    let (addr, child) = serve(&wasmtime).await?;
    let got = Connection::open(addr).await?.call(&call).await?;
    ensure!(got == ANSWER, "its page is {got:?}, not {ANSWER}");
    let other = Bare::of(addr, child);
    let compared = compare(args, &server, &other, &call.into()).await?;
    Ok(vec![compared.row("wasi:http, of wasmtime serve", GOAL)])
}

fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("WISP_BENCH_WASMTIME") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let mut all = std::env::split_paths(&path).map(|folder| folder.join("wasmtime"));
    all.find(|file| file.is_file())
}

/// Starts the other side on a port that was free a moment ago.
async fn serve(wasmtime: &PathBuf) -> Result<(SocketAddr, Child)> {
    let version = Command::new(wasmtime).arg("--version").output().await?;
    say(&format!(
        "  beside {}",
        String::from_utf8_lossy(&version.stdout).trim()
    ));
    let free = std::net::TcpListener::bind("127.0.0.1:0")?;
    let addr = free.local_addr()?;
    drop(free);
    let guest = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/guests/hello/hello.wasm"
    );
    let child = Command::new(wasmtime)
        .args(["serve", "-S", "cli", "--addr", &addr.to_string(), guest])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} cannot be started", wasmtime.display()))?;
    for _ in 0..200 {
        if TcpStream::connect(addr).await.is_ok() {
            return Ok((addr, child));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{} does not listen on {addr}", wasmtime.display())
}
