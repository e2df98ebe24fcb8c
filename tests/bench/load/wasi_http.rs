//! A component that speaks HTTP, with a fresh instance for each request, side by side with `wasmtime serve` on the same bytes.
//!
//! Wisp does it as a web action: throttle and records on, nobody's key. The other side is `WISP_BENCH_WASMTIME`, or the
//! `wasmtime` in PATH: pooled, and a fresh instance for each request as well.

use std::path::Path;

use anyhow::{Result, ensure};
use hyper::Method;
use serde_json::json;
use tokio::process::Command;

use crate::api::Tenant;
use crate::args::Args;
use crate::bare::Bare;
use crate::client::{Call, Connection};
use crate::guests;
use crate::other;
use crate::report::Row;
use crate::server::Server;
use crate::throughput::compare;

const SCENARIO: &str = "wasi:http, of wasmtime serve";
const GOAL: f64 = 0.90;
/// What made it fastest of what was tried: instances from a pool, slots kept warm, given back to the system 32 at a time (11,900/s without
/// the batches, 16,000/s with them; memory that stays resident made it slower). One request for an instance is its default for
/// this version of `wasi:http`, and said all the same.
const SETTINGS: [&str; 8] = [
    "-O",
    "pooling-allocator=y",
    "-O",
    "pooling-max-unused-warm-slots=1000",
    "-O",
    "pooling-decommit-batch-size=32",
    "--max-instance-reuse-count",
    "1",
];
const ANSWER: &str = "Hello, world!";
const GUEST: &[u8] = include_bytes!("../../fixtures/guests/hello/hello.wasm");

pub(crate) async fn run(args: &Args) -> Result<Vec<Row>> {
    let wasmtime = match other::find("wasmtime", "WISP_BENCH_WASMTIME") {
        Ok(found) => found,
        Err(why) => return Ok(vec![Row::left_out(SCENARIO, &why)]),
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
    other::introduce(&wasmtime, &SETTINGS.join(" ")).await?;
    let other = serve(&wasmtime).await?;
    let got = Connection::open(other.addr).await?.call(&call).await?;
    ensure!(got == ANSWER, "its page is {got:?}, not {ANSWER}");
    let compared = compare(args, &server, &other, &call.into()).await?;
    Ok(vec![compared.row(SCENARIO, GOAL)])
}

/// Starts the other side, with what makes it fastest.
async fn serve(wasmtime: &Path) -> Result<Bare> {
    let guest = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/guests/hello/hello.wasm"
    );
    let addr = other::free_address()?;
    let mut command = Command::new(wasmtime);
    command
        .args(["serve", "-S", "cli"])
        .args(SETTINGS)
        .args(["--addr", &addr.to_string(), guest]);
    other::start(command, addr).await
}
