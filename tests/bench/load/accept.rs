//! Non-blocking calls: how fast work is promised, each promise on disk before its 202 leaves.

use anyhow::Result;
use serde_json::json;

use crate::api::{Action, Tenant};
use crate::args::Args;
use crate::client::Calls;
use crate::drive;
use crate::guests;
use crate::report::{Row, say};
use crate::server::Server;
use crate::throughput::{median, quantile_data, quantiles};

const CONNECTIONS: usize = 64;
const RATE: f64 = 8_000.0;
const P99_MS: f64 = 20.0;

pub(crate) async fn accept(args: &Args) -> Result<Vec<Row>> {
    let params = r#"{"name":"stranger"}"#;
    let server = Server::start("").await?;
    let tenant = Tenant::new(&server, "bench", 1_000_000).await?;
    let action = Action {
        name: "later",
        code: guests::ECHO,
        timeout_ms: 60_000,
    };
    tenant.deploy(&server, &action, params, params).await?;
    let calls = Calls::from(tenant.submit("later", params)?);
    drive::closed(server.addr, &calls, CONNECTIONS, args.measure / 4)
        .await?
        .checked()?;
    let (mut rates, mut p99s, mut last) = (Vec::new(), Vec::new(), None);
    for round in 0..args.rounds {
        let sample = drive::closed(server.addr, &calls, CONNECTIONS, args.measure)
            .await?
            .checked()?;
        say(&format!(
            "  round {}: {:.0}/s, {}",
            round + 1,
            sample.rate,
            quantiles(&sample)
        ));
        rates.push(sample.rate);
        p99s.push(sample.quantile_ms(0.99));
        last = Some(quantile_data(&sample));
    }
    let (rate, p99) = (median(&rates)?, median(&p99s)?);
    let met = rate >= RATE && p99 < P99_MS;
    let figure = format!("{rate:.0}/s, p99 {p99:.2} ms");
    let goal = format!(">= {RATE}/s, p99 < {P99_MS} ms");
    let data = json!({ "rates": rates, "p99sMs": p99s, "last": last });
    Ok(vec![Row::judged(
        "non-blocking accept",
        figure,
        &goal,
        met,
        data,
    )])
}
