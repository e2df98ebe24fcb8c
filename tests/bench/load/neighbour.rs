//! A neighbour that spins: what one namespace at its full concurrency takes from another.

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::time::{Duration, Instant, sleep};

use crate::api::{Action, Tenant};
use crate::args::Args;
use crate::client::{Call, Calls, Connection};
use crate::drive::{self, Sample};
use crate::guests;
use crate::report::{Row, say};
use crate::server::Server;
use crate::throughput::{quantile_data, quantiles};

/// Invocations the spinning namespace has in flight: the platform's own default limit.
const SPINNERS: usize = 1_000;
/// Connections of the victim's closed loop: more than the cores it could fill.
const VICTIM_CONNECTIONS: usize = 16;
/// How long a spinner may spin: longer than all that is measured.
const SPIN_MS: u64 = 300_000;

pub(crate) async fn neighbour(args: &Args) -> Result<Vec<Row>> {
    let server = Server::start("").await?;
    let victim = Tenant::new(&server, "victim", 100_000).await?;
    let burn = Action {
        name: "burn",
        code: guests::BURN,
        timeout_ms: 60_000,
    };
    victim
        .deploy(&server, &burn, r#"{"rounds":1}"#, r#"{"rounds":1}"#)
        .await?;
    let call = millisecond(&server, &victim).await?;
    let alone = Seen::by(&call, &server, args).await?;
    say(&format!(
        "  alone: {:.0}/s; at 100/s {}",
        alone.closed.rate,
        quantiles(&alone.open)
    ));

    let since = Instant::now();
    start_spinning(&server).await?;
    let beside = Seen::by(&call, &server, args).await?;
    let still = since.elapsed() < Duration::from_millis(SPIN_MS);
    ensure!(
        still,
        "the spinners ended before the measurement: use fewer --seconds"
    );
    Ok(beside.rows(&alone))
}

/// What the victim saw.
struct Seen {
    /// At a constant rate of 100/s.
    open: Sample,
    /// As much as it could.
    closed: Sample,
}

impl Seen {
    async fn by(call: &Call, server: &Server, args: &Args) -> Result<Self> {
        let length = args.measure * 2;
        let calls = Calls::from(call.clone());
        let open = drive::open(server.addr, call, 64, 100.0, length)
            .await?
            .checked()?;
        let closed = drive::closed(server.addr, &calls, VICTIM_CONNECTIONS, length).await?;
        Ok(Self {
            open,
            closed: closed.checked()?,
        })
    }

    fn rows(&self, alone: &Self) -> Vec<Row> {
        let data =
            json!({ "beside": quantile_data(&self.open), "alone": quantile_data(&alone.open) });
        let p99 = self.open.quantile_ms(0.99);
        let figure = format!(
            "{}; alone {}",
            quantiles(&self.open),
            quantiles(&alone.open)
        );
        let (rate, rate_alone) = (self.closed.rate, alone.closed.rate);
        let rates = json!({ "beside": rate, "alone": rate_alone, "spinners": SPINNERS });
        let throughput = format!("{rate:.0}/s of {rate_alone:.0}/s");
        vec![
            Row::judged(
                "neighbour, 1 ms action at 100/s",
                figure,
                "p99 <= 10 ms",
                p99 <= 10.0,
                data,
            ),
            Row::at_least(
                "neighbour, closed loop",
                throughput,
                rate / rate_alone,
                0.50,
                rates,
            ),
        ]
    }
}

/// Fills another namespace's concurrency with calls that never end by themselves.
async fn start_spinning(server: &Server) -> Result<()> {
    let spinner = Tenant::new(server, "spinner", SPINNERS.try_into()?).await?;
    let spin = Action {
        name: "spin",
        code: guests::SPIN,
        timeout_ms: SPIN_MS,
    };
    Connection::open(server.addr)
        .await?
        .call(&spinner.put(&spin)?)
        .await?;
    let spins = vec![spinner.submit("spin", "{}")?; SPINNERS];
    drive::each(server.addr, spins, 8, "spinners started").await?;
    sleep(Duration::from_secs(2)).await; // until they run, not only wait
    Ok(())
}

/// A call of the action that computes for a millisecond on this machine.
async fn millisecond(server: &Server, tenant: &Tenant) -> Result<Call> {
    let many = 5_000_000u32;
    let mut connection = Connection::open(server.addr).await?;
    let none = tenant.invoke("burn", r#"{"rounds":1}"#)?;
    let all = tenant.invoke("burn", &format!(r#"{{"rounds":{many}}}"#))?;
    let mut best = [f64::INFINITY; 2];
    for _ in 0..20 {
        for (call, best) in [&none, &all].into_iter().zip(&mut best) {
            let sent = Instant::now();
            connection.call(call).await?;
            *best = best.min(sent.elapsed().as_secs_f64());
        }
    }
    let rounds = f64::from(many) * 1e-3 / (best[1] - best[0]);
    ensure!(
        rounds.is_finite() && rounds > 1.0,
        "the action cannot be timed: {best:?}"
    );
    say(&format!("  1 ms is {rounds:.0} rounds"));
    tenant.invoke("burn", &format!(r#"{{"rounds":{rounds:.0}}}"#))
}
