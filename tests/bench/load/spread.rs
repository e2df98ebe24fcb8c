//! Whether the rate of warm calls depends on how many actions they are for: the same load on 1, 10, 100, 1,000.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::api::{Action, Tenant};
use crate::args::Args;
use crate::client::Calls;
use crate::drive;
use crate::guests;
use crate::report::{Row, say};
use crate::server::Server;
use crate::throughput::median;

const CONNECTIONS: usize = 64;
const COUNTS: [usize; 4] = [1, 10, 100, 1_000];
/// Of one action's rate.
const GOAL: f64 = 0.90;
const PREFIX: &str = "spread-";
const PARAMS: &str = r#"{"name":"stranger"}"#;

/// What was measured with one number of actions, round by round.
#[derive(Default)]
struct Figures {
    rates: Vec<f64>,
    /// CPU time of the server for each call, microseconds.
    cpus_us: Vec<f64>,
}

pub(crate) async fn spread(args: &Args) -> Result<Vec<Row>> {
    let server = Server::start("").await?;
    let tenant = Tenant::new(&server, "bench", 100_000).await?;
    deploy(&server, &tenant).await?;
    let mut all = COUNTS.map(|_| Figures::default());
    for round in 0..args.rounds {
        // Each round goes through all counts, so that a busy moment of the machine does not hit one of them alone.
        for (count, figures) in COUNTS.into_iter().zip(&mut all) {
            let calls = tenant.invoke_each(PREFIX, count, PARAMS)?;
            let (rate, cpu_us) = measure(&server, &calls, args.measure).await?;
            say(&format!(
                "  round {}: {count} actions {rate:.0}/s, {cpu_us:.1} us of CPU each",
                round + 1
            ));
            figures.rates.push(rate);
            figures.cpus_us.push(cpu_us);
        }
    }
    COUNTS
        .into_iter()
        .zip(&all)
        .map(|(count, figures)| row(count, figures, &all[0].rates))
        .collect()
}

/// Makes all actions, each with a program of its own, and calls each often enough that all are warm.
async fn deploy(server: &Server, tenant: &Tenant) -> Result<()> {
    let most = COUNTS.into_iter().max().unwrap_or(1);
    let module = guests::assemble(guests::ECHO)?;
    let (mut puts, mut calls) = (Vec::new(), Vec::new());
    for index in 0..most {
        let name = format!("{PREFIX}{index}");
        let code = guests::base64(&guests::distinct(&module, index)?);
        puts.push(tenant.put(&Action {
            name: &name,
            code: &code,
            timeout_ms: 60_000,
        })?);
        calls.push(tenant.invoke(&name, PARAMS)?);
    }
    drive::each(server.addr, puts, 8, "actions made").await?;
    drive::each(server.addr, calls, CONNECTIONS, "actions called once").await
}

/// Calls a second, and the server's CPU time for each.
async fn measure(server: &Server, calls: &Calls, length: Duration) -> Result<(f64, f64)> {
    let before = server.cpu_seconds()?;
    let sample = drive::closed(server.addr, calls, CONNECTIONS, length)
        .await?
        .checked()?;
    let cpu = server.cpu_seconds()? - before;
    Ok((sample.rate, cpu * 1e6 / sample.latency.len() as f64))
}

fn row(count: usize, figures: &Figures, one: &[f64]) -> Result<Row> {
    let (rate, cpu_us) = (median(&figures.rates)?, median(&figures.cpus_us)?);
    let shares: Vec<f64> = figures
        .rates
        .iter()
        .zip(one)
        .map(|(rate, one)| rate / one)
        .collect();
    let share = median(&shares)?;
    let data = json!({
        "actions": count, "rates": figures.rates, "share": share, "cpusUs": figures.cpus_us,
    });
    let scenario = format!("spread over {count}");
    let figure = format!("{rate:.0}/s, {cpu_us:.1} us of CPU each");
    Ok(if Some(count) == COUNTS.into_iter().max() {
        Row::at_least(&scenario, figure, share, GOAL, data)
    } else {
        let figure = format!("{figure}, {:.0} % of one action", share * 100.0);
        Row::shown(&scenario, figure, data)
    })
}
