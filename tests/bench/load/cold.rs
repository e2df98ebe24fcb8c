//! Cold calls: what the first call of an action pays above a warm one. One connection, cold and warm calls in turns, so
//! that whatever else the machine does hits both.

use std::net::SocketAddr;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::time::Instant;

use crate::api::{Action, Tenant};
use crate::args::Args;
use crate::client::{Call, Connection};
use crate::drive::{self, histogram, nanos_since, quantile_ms};
use crate::guests;
use crate::report::{Row, say};
use crate::server::Server;

const PARAMS: &str = r#"{"name":"stranger"}"#;
const ANSWER: &str = r#"{"greeting":"Hello, stranger!"}"#;

/// Goals, milliseconds above the median of warm calls.
pub(crate) struct Goals {
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: f64,
}

/// The first call of actions that are on disk only: each a program of its own, compiled before the server was started.
pub(crate) async fn first_call(args: &Args) -> Result<Vec<Row>> {
    let count = args.count(400, 40);
    let mut server = Server::start("").await?;
    let tenant = Tenant::new(&server, "bench", 100_000).await?;
    let code = guests::base64(guests::RUST);
    let (mut puts, mut calls) = (Vec::new(), Vec::new());
    for index in 0..count {
        let (name, code) = (
            format!("cold-{index}"),
            guests::base64(&guests::distinct(guests::RUST, index)?),
        );
        puts.push(tenant.put(&Action {
            name: &name,
            code: &code,
            timeout_ms: 60_000,
        })?);
        calls.push(tenant.invoke(&name, PARAMS)?);
    }
    drive::each(server.addr, puts, 4, "actions compiled").await?;
    let warm = Action {
        name: "warm",
        code: &code,
        timeout_ms: 60_000,
    };
    tenant.deploy(&server, &warm, PARAMS, ANSWER).await?;
    server.restart().await?;
    let goals = Goals {
        p50_ms: Some(0.5),
        p99_ms: 2.0,
    };
    let (cold, warm) = in_turns(server.addr, &calls, &tenant.invoke("warm", PARAMS)?).await?;
    Ok(vec![above(
        "first call, on disk only",
        &cold,
        &warm,
        &goals,
    )])
}

/// The first instance of actions whose program is linked: the same bytes under many names.
pub(crate) async fn first_instance(args: &Args) -> Result<Vec<Row>> {
    let count = args.count(1_000, 100);
    let mut rows = Vec::new();
    let rust = guests::base64(guests::RUST);
    let guests = [
        ("small guest", guests::ECHO, PARAMS),
        ("Rust guest", rust.as_str(), ANSWER),
    ];
    for (guest, code, answer) in guests {
        let server = Server::start("").await?;
        let tenant = Tenant::new(&server, "bench", 100_000).await?;
        let warm = Action {
            name: "warm",
            code,
            timeout_ms: 60_000,
        };
        tenant.deploy(&server, &warm, PARAMS, answer).await?;
        let warm = tenant.invoke("warm", PARAMS)?;
        let (mut colds, mut warms) = (histogram()?, histogram()?);
        // A second in which the machine is busy elsewhere must not decide about the hundredth slowest of all.
        for round in 0..args.rounds {
            let (mut puts, mut calls) = (Vec::new(), Vec::new());
            for index in 0..count {
                let name = format!("linked-{round}-{index}");
                puts.push(tenant.put(&Action {
                    name: &name,
                    code,
                    timeout_ms: 60_000,
                })?);
                calls.push(tenant.invoke(&name, PARAMS)?);
            }
            drive::each(server.addr, puts, 4, "actions made").await?;
            let (cold, warm) = in_turns(server.addr, &calls, &warm).await?;
            colds.add(cold)?;
            warms.add(warm)?;
        }
        let goals = Goals {
            p50_ms: None,
            p99_ms: 0.3,
        };
        rows.push(above(
            &format!("first instance, linked, {guest}"),
            &colds,
            &warms,
            &goals,
        ));
    }
    Ok(rows)
}

/// Latencies of `cold`, each called once, and of `warm`, called before each of them.
pub(crate) async fn in_turns(
    addr: SocketAddr,
    cold: &[Call],
    warm: &Call,
) -> Result<(Histogram<u64>, Histogram<u64>)> {
    let mut connection = Connection::open(addr).await?;
    for _ in 0..2_000 {
        connection.call(warm).await?;
    }
    let (mut colds, mut warms) = (histogram()?, histogram()?);
    for call in cold {
        for (call, latency) in [(warm, &mut warms), (call, &mut colds)] {
            let sent = Instant::now();
            connection.call(call).await?;
            latency.saturating_record(nanos_since(sent));
        }
    }
    say(&format!("  {} calls each", cold.len()));
    Ok((colds, warms))
}

/// Cold quantiles less the median of warm calls, which is stricter than less the same quantile.
pub(crate) fn above(
    scenario: &str,
    cold: &Histogram<u64>,
    warm: &Histogram<u64>,
    goals: &Goals,
) -> Row {
    let quantile = |latency, quantile| quantile_ms(latency, quantile);
    let base = quantile(warm, 0.5);
    let (p50, p99) = (quantile(cold, 0.5) - base, quantile(cold, 0.99) - base);
    let figure = format!(
        "p50 +{p50:.3} ms, p99 +{p99:.3} ms above a warm p50 of {base:.3} ms, whose own p99 is +{:.3} ms",
        quantile(warm, 0.99) - base
    );
    let goal = match goals.p50_ms {
        Some(p50) => format!("p50 < +{p50} ms, p99 < +{} ms", goals.p99_ms),
        None => format!("p99 < +{} ms", goals.p99_ms),
    };
    let met = goals.p50_ms.is_none_or(|goal| p50 < goal) && p99 < goals.p99_ms;
    let data = json!({
        "calls": cold.len(),
        "coldMs": { "p50": quantile(cold, 0.5), "p99": quantile(cold, 0.99), "max": quantile(cold, 1.0) },
        "warmMs": { "p50": base, "p99": quantile(warm, 0.99), "max": quantile(warm, 1.0) },
    });
    Row::judged(scenario, figure, &goal, met, data)
}
