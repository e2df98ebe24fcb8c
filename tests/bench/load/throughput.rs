//! Warm blocking calls: how much of a bare server's rate is left when every call is authenticated, counted, run in a
//! sandbox and recorded.

use anyhow::{Context as _, Result};
use hyper::Method;
use serde_json::json;

use crate::api::{Action, Tenant};
use crate::args::Args;
use crate::bare::Bare;
use crate::client::{Call, Calls};
use crate::drive::{self, Sample};
use crate::guests;
use crate::report::{Row, say};
use crate::server::Server;

/// Connections of the closed loop.
const CONNECTIONS: usize = 64;

/// A guest with parameters and what it answers to them.
struct Subject<'a> {
    scenario: &'a str,
    code: &'a str,
    params: &'a str,
    answer: &'a str,
    goal: f64,
}

/// The bare server alone: the ceiling of this machine and of the generator.
pub(crate) async fn ceiling(args: &Args) -> Result<Vec<Row>> {
    let answer = r#"{"name":"stranger"}"#;
    let bare = Bare::start(answer).await?;
    let path = "/api/v1/namespaces/_/actions/warm?blocking=true&result=true";
    let call = Call::new(Method::POST, path, "user:password", answer)?;
    let calls = Calls::from(call.clone());
    let full = drive::closed(bare.addr, &calls, CONNECTIONS, args.measure)
        .await?
        .checked()?;
    let rate = full.rate / 2.0;
    let half = drive::open(bare.addr, &call, CONNECTIONS * 4, rate, args.measure)
        .await?
        .checked()?;
    let figure = format!("{:.0}/s, {}", full.rate, quantiles(&full));
    Ok(vec![
        Row::shown("bare axum", figure, quantile_data(&full)),
        Row::shown(
            &format!("bare axum, open loop {rate:.0}/s"),
            quantiles(&half),
            quantile_data(&half),
        ),
    ])
}

/// Core ABI: the hand-written module, and for comparison the Rust one.
pub(crate) async fn core(args: &Args) -> Result<Vec<Row>> {
    let params = r#"{"name":"stranger"}"#;
    let subject = Subject {
        scenario: "core",
        code: guests::ECHO,
        params,
        answer: params,
        goal: 0.55,
    };
    let mut rows = warm(args, &subject).await?;
    let code = guests::base64(guests::RUST);
    let answer = r#"{"greeting":"Hello, stranger!"}"#;
    let subject = Subject {
        scenario: "core, Rust guest",
        code: &code,
        params,
        answer,
        goal: 0.55,
    };
    rows.extend(warm(args, &subject).await?);
    Ok(rows)
}

/// A component that exports `wisp:action/handler`.
pub(crate) async fn handler(args: &Args) -> Result<Vec<Row>> {
    let code = guests::base64(guests::COMPONENT);
    let (params, answer) = (
        r#"{"name":"stranger"}"#,
        r#"{"greeting":"Hello, stranger!"}"#,
    );
    warm(
        args,
        &Subject {
            scenario: "handler",
            code: &code,
            params,
            answer,
            goal: 0.50,
        },
    )
    .await
}

/// A WASI command: a fresh instance for every call.
pub(crate) async fn command(args: &Args) -> Result<Vec<Row>> {
    let code = guests::base64(guests::COMMAND);
    let params = r#"{"text":"the cat saw the dog","top":1}"#;
    let answer = r#"{"characters":19,"lines":1,"top":[{"count":2,"word":"the"}],"words":5}"#;
    warm(
        args,
        &Subject {
            scenario: "command",
            code: &code,
            params,
            answer,
            goal: 0.35,
        },
    )
    .await
}

async fn warm(args: &Args, subject: &Subject<'_>) -> Result<Vec<Row>> {
    let server = Server::start("").await?;
    let tenant = Tenant::new(&server, "bench", 100_000).await?;
    let action = Action {
        name: "warm",
        code: subject.code,
        timeout_ms: 60_000,
    };
    tenant
        .deploy(&server, &action, subject.params, subject.answer)
        .await?;
    let call = tenant.invoke("warm", subject.params)?;
    let bare = Bare::start(subject.answer).await?;
    let calls = Calls::from(call.clone());

    let compared = compare(args, &server, &bare, &calls).await?;
    let mut rows = vec![compared.row(subject.scenario, subject.goal)];

    let rate = compared.wisp / 2.0;
    say(&format!("  open loop at {rate:.0}/s"));
    let wisp = drive::open(server.addr, &call, CONNECTIONS * 4, rate, args.measure)
        .await?
        .checked()?;
    let bare = drive::open(bare.addr, &call, CONNECTIONS * 4, rate, args.measure)
        .await?
        .checked()?;
    let figure = format!("{}; bare {}", quantiles(&wisp), quantiles(&bare));
    let data = json!({ "rate": rate, "wisp": quantile_data(&wisp), "bare": quantile_data(&bare) });
    rows.push(Row::shown(
        &format!("{}, open loop {rate:.0}/s", subject.scenario),
        figure,
        data,
    ));
    Ok(rows)
}

/// Rates of Wisp and of the bare server in turns.
pub(crate) struct Compared {
    /// Medians, per second.
    wisp: f64,
    bare: f64,
    ratio: f64,
    /// The best round's latency under full load, for the record.
    full: Sample,
    ratios: Vec<f64>,
}

impl Compared {
    /// As a share of the bare server's rate.
    pub(crate) fn row(&self, scenario: &str, goal: f64) -> Row {
        Row::at_least(scenario, self.figure(), self.ratio, goal, self.data())
    }

    /// The share alone: nothing is wanted of it.
    pub(crate) fn shown(&self, scenario: &str) -> Row {
        let figure = format!("{:.1} %: {}", self.ratio * 100.0, self.figure());
        Row::shown(scenario, figure, self.data())
    }

    fn figure(&self) -> String {
        format!(
            "{:.0}/s of {:.0}/s, {}",
            self.wisp,
            self.bare,
            quantiles(&self.full)
        )
    }

    fn data(&self) -> serde_json::Value {
        json!({
            "wisp": self.wisp, "bare": self.bare, "ratios": self.ratios, "fullLoad": quantile_data(&self.full),
        })
    }
}

/// Bare, Wisp, bare, Wisp, …, bare: each of Wisp's rates is held against the mean of those right before and after.
pub(crate) async fn compare(
    args: &Args,
    server: &Server,
    bare: &Bare,
    calls: &Calls,
) -> Result<Compared> {
    for addr in [server.addr, bare.addr] {
        drive::closed(addr, calls, CONNECTIONS, args.measure / 4)
            .await?
            .checked()?;
    }
    let mut before = drive::closed(bare.addr, calls, CONNECTIONS, args.measure)
        .await?
        .checked()?
        .rate;
    let (mut wisps, mut bares, mut ratios, mut full) = (Vec::new(), vec![before], Vec::new(), None);
    for round in 0..args.rounds {
        let wisp = drive::closed(server.addr, calls, CONNECTIONS, args.measure)
            .await?
            .checked()?;
        let after = drive::closed(bare.addr, calls, CONNECTIONS, args.measure)
            .await?
            .checked()?
            .rate;
        let ratio = wisp.rate / f64::midpoint(before, after);
        say(&format!(
            "  round {}: {:.0}/s of {after:.0}/s, {:.1} %",
            round + 1,
            wisp.rate,
            ratio * 100.0
        ));
        wisps.push(wisp.rate);
        bares.push(after);
        ratios.push(ratio);
        before = after;
        full = Some(wisp);
    }
    Ok(Compared {
        wisp: median(&wisps)?,
        bare: median(&bares)?,
        ratio: median(&ratios)?,
        full: full.context("there was no round")?,
        ratios,
    })
}

/// The middle one; the mean of the two in the middle when they are even.
pub(crate) fn median(of: &[f64]) -> Result<f64> {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted
        .get(sorted.len() / 2)
        .context("there is nothing to take a median of")?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Ok(f64::midpoint(lower, upper))
}

pub(crate) fn quantiles(sample: &Sample) -> String {
    format!(
        "p50 {:.2} ms, p99 {:.2} ms",
        sample.quantile_ms(0.5),
        sample.quantile_ms(0.99)
    )
}

pub(crate) fn quantile_data(sample: &Sample) -> serde_json::Value {
    json!({
        "count": sample.latency.len(),
        "p50Ms": sample.quantile_ms(0.5),
        "p90Ms": sample.quantile_ms(0.9),
        "p99Ms": sample.quantile_ms(0.99),
        "p999Ms": sample.quantile_ms(0.999),
        "maxMs": sample.quantile_ms(1.0),
    })
}
