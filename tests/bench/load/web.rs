//! Web actions, called by anybody: with a run for each request, and answered from memory.

use anyhow::{Result, ensure};
use hyper::Method;
use serde_json::{Value, json};

use crate::api::{Tenant, metric};
use crate::args::Args;
use crate::bare::Bare;
use crate::client::{Call, Calls, Connection};
use crate::guests;
use crate::report::Row;
use crate::server::Server;
use crate::throughput::compare;

const BODY: &str = r#"{"name":"stranger"}"#;
const GOAL: f64 = 0.50;
const GOAL_CACHED: f64 = 0.85;

/// Each request runs the action.
pub(crate) async fn run(args: &Args) -> Result<Vec<Row>> {
    let (server, calls) = deploy(&json!({ "body": body()? })).await?;
    let row = measure(args, &server, &calls, "web action", GOAL).await?;
    let hits = metric(&server, "wisp_web_cache_total", "hit").await?;
    ensure!(
        hits.unwrap_or(0.0) == 0.0,
        "answers came from memory: {hits:?}"
    );
    Ok(vec![row])
}

/// The first request runs the action, the others are answered with what it said may be kept.
pub(crate) async fn cached(args: &Args) -> Result<Vec<Row>> {
    // Longer than all rounds take.
    let headers = json!({ "Cache-Control": "public, max-age=3600" });
    let (server, calls) = deploy(&json!({ "headers": headers, "body": body()? })).await?;
    let row = measure(args, &server, &calls, "web action, cached", GOAL_CACHED).await?;
    let runs = metric(&server, "wisp_activations_total", "").await?;
    ensure!(runs == Some(1.0), "the action ran {runs:?} times, not once");
    Ok(vec![row])
}

fn body() -> Result<Value> {
    Ok(serde_json::from_str(BODY)?)
}

/// A server with a web action that answers `answer`, and the request for it, which was answered once.
async fn deploy(answer: &Value) -> Result<(Server, Calls)> {
    let server = Server::start("").await?;
    let tenant = Tenant::new(&server, "bench", 100_000).await?;
    let mut connection = Connection::open(server.addr).await?;
    let action = json!({
        "exec": { "kind": "wasm:1", "code": guests::answering(&answer.to_string()) },
        "annotations": [{ "key": "web-export", "value": true }],
    });
    connection
        .call(&tenant.put_entity("actions/page", &action)?)
        .await?;
    let call = Call::new(Method::GET, "/api/v1/web/bench/default/page.http", "", "")?;
    let got = connection.call(&call).await?;
    ensure!(got == BODY, "the page is {got:?}, not {BODY}");
    Ok((server, call.into()))
}

async fn measure(
    args: &Args,
    server: &Server,
    calls: &Calls,
    scenario: &str,
    goal: f64,
) -> Result<Row> {
    let bare = Bare::start(BODY).await?;
    Ok(compare(args, server, &bare, calls)
        .await?
        .row(scenario, goal))
}
