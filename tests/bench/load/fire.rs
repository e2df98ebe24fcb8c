//! Fires of a trigger with ten rules: how fast they are promised, each promise on disk before its 202 leaves, and how
//! long it then takes until all that they set off has run and been recorded.

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::time::{Duration, Instant, sleep};

use crate::api::{Action, Tenant, metric};
use crate::args::Args;
use crate::client::{Calls, Connection};
use crate::drive;
use crate::guests;
use crate::report::{Row, say};
use crate::server::Server;
use crate::throughput::{median, quantile_data, quantiles};

const RULES: usize = 10;
const CONNECTIONS: usize = 64;
const RATE: f64 = 2_000.0;
/// Fires of one round: below what one namespace may have waiting, so that none has to be refused.
const FIRES_MAX: usize = 8_000;
/// How long what was promised may take to be done.
const PATIENCE: Duration = Duration::from_secs(120);
const PAYLOAD: &str = r#"{"name":"stranger"}"#;

pub(crate) async fn fire(args: &Args) -> Result<Vec<Row>> {
    let server = Server::start("").await?;
    let tenant = Tenant::new(&server, "bench", 10_000_000).await?;
    deploy(&server, &tenant).await?;
    let fires = Calls::from(tenant.fire("event", PAYLOAD)?);
    // Its ten actions start their instances, and what is counted below is seen to be stored.
    let (sample, _) = round(&server, &fires, 100, args).await?;
    check_stored(&server, &tenant, sample.latency.len()).await?;
    let (mut rates, mut p99s, mut backlogs, mut last) = (Vec::new(), Vec::new(), Vec::new(), None);
    for index in 0..args.rounds {
        let (sample, backlog) = round(&server, &fires, FIRES_MAX, args).await?;
        say(&format!(
            "  round {}: {:.0}/s, {}; all {} runs recorded {:.1} s later",
            index + 1,
            sample.rate,
            quantiles(&sample),
            sample.latency.len() * RULES as u64,
            backlog.as_secs_f64()
        ));
        rates.push(sample.rate);
        p99s.push(sample.quantile_ms(0.99));
        backlogs.push(backlog.as_secs_f64());
        last = Some(quantile_data(&sample));
    }
    let (rate, p99, backlog) = (median(&rates)?, median(&p99s)?, median(&backlogs)?);
    let figure =
        format!("{rate:.0}/s, p99 {p99:.2} ms; all runs recorded {backlog:.1} s after the last");
    let data = json!({ "rates": rates, "p99sMs": p99s, "backlogsS": backlogs, "last": last });
    let scenario = format!("fires, {RULES} rules");
    let goal = format!(">= {RATE}/s");
    Ok(vec![Row::judged(
        &scenario,
        figure,
        &goal,
        rate >= RATE,
        data,
    )])
}

/// Fires, and waits until every rule's run has ended and is counted, all of them as successes.
async fn round(
    server: &Server,
    fires: &Calls,
    most: usize,
    args: &Args,
) -> Result<(drive::Sample, Duration)> {
    let before = ended(server, "").await?;
    let sample = drive::closed_up_to(most, server.addr, fires, CONNECTIONS, args.measure)
        .await?
        .checked()?;
    let fired = Instant::now();
    let wanted = before + (sample.latency.len() * RULES as u64) as f64;
    loop {
        let now = ended(server, "").await?;
        ensure!(
            now <= wanted,
            "{now} runs have ended, but only {wanted} were set off"
        );
        if now == wanted {
            break;
        }
        ensure!(
            fired.elapsed() < PATIENCE,
            "{} runs have not ended after {PATIENCE:?}",
            wanted - now
        );
        sleep(Duration::from_millis(20)).await;
    }
    let took = fired.elapsed();
    let failed = ended(server, "").await? - ended(server, "status=\"success\"").await?;
    ensure!(failed == 0.0, "{failed} runs failed");
    Ok((sample, took))
}

/// Sees that every rule's runs, and the one of its deployment, are stored.
async fn check_stored(server: &Server, tenant: &Tenant, fires: u64) -> Result<()> {
    for index in 0..RULES {
        let name = format!("task-{index}");
        let start = Instant::now();
        while tenant.activations(server, &name).await? != fires + 1 {
            ensure!(
                start.elapsed() < PATIENCE,
                "of {name} not {fires} fires and one call are stored after {PATIENCE:?}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Runs that have ended so far.
async fn ended(server: &Server, label: &str) -> Result<f64> {
    let count = metric(server, "wisp_activations_total", label).await?;
    Ok(count.unwrap_or(0.0))
}

async fn deploy(server: &Server, tenant: &Tenant) -> Result<()> {
    let mut connection = Connection::open(server.addr).await?;
    connection
        .call(&tenant.put_entity("triggers/event", &json!({}))?)
        .await?;
    let module = guests::assemble(guests::ECHO)?;
    for index in 0..RULES {
        let name = format!("task-{index}");
        let code = guests::base64(&guests::distinct(&module, index)?);
        let action = Action {
            name: &name,
            code: &code,
            timeout_ms: 60_000,
        };
        tenant.deploy(server, &action, PAYLOAD, PAYLOAD).await?;
        let rule = json!({ "trigger": "/_/event", "action": format!("/_/{name}") });
        connection
            .call(&tenant.put_entity(&format!("rules/on-{name}"), &rule)?)
            .await?;
    }
    Ok(())
}
