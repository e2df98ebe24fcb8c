//! Source of languages: what its upload, its first call, its warm calls and its idle instances cost.
//!
//! Every action is a program of its own, so that nothing but the language's engine is shared.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::Tenant;
use crate::args::Args;
use crate::bare::Bare;
use crate::client::{Call, Calls, Connection};
use crate::cold::{Goals, above, in_turns};
use crate::drive::{self, histogram, nanos_since, quantile_ms};
use crate::report::{Row, say};
use crate::server::{Memory, Server};
use crate::throughput::compare;

pub(crate) const PARAMS: &str = r#"{"name":"stranger"}"#;
pub(crate) const ANSWER: &str = r#"{"greeting":"Hello, stranger!"}"#;
const KIB: f64 = 1024.0;
/// Idle instances stay while they are counted.
const CONFIG: &str = "\
[pool]
keep_alive_s = 3600
";

/// A language and what it is held to.
pub(crate) struct Language {
    name: &'static str,
    kind: &'static str,
    source: fn(usize) -> String,
    /// Share of the bare server's rate.
    warm: f64,
    first_call: Goals,
    /// An upload until it has answered, milliseconds.
    upload_ms: f64,
    /// Private memory of an idle instance, KiB.
    idle_kib: f64,
    /// Idle instances that are counted.
    idle_count: usize,
}

/// As most people would begin.
pub(crate) const JAVASCRIPT: Language = Language {
    name: "JavaScript",
    kind: "nodejs:default",
    source: |index| {
        format!(
            "const number = {index};\nfunction main(params) {{\n  const name = params.name ?? 'stranger';\n  \
             return {{ greeting: `Hello, ${{name}}!` }};\n}}\n"
        )
    },
    warm: 0.40,
    first_call: Goals {
        p50_ms: Some(1.0),
        p99_ms: 3.0,
    },
    upload_ms: 300.0,
    idle_kib: 400.0,
    idle_count: 200,
};

pub(crate) async fn javascript(args: &Args) -> Result<Vec<Row>> {
    let mut rows = all(&JAVASCRIPT, args).await?;
    rows.push(density(&JAVASCRIPT, args).await?);
    Ok(rows)
}

pub(crate) async fn python(args: &Args) -> Result<Vec<Row>> {
    let language = Language {
        name: "Python",
        kind: "python:default",
        source: |index| {
            format!(
                "number = {index}\n\n\ndef main(args):\n    name = args.get(\"name\", \"stranger\")\n    \
                 return {{\"greeting\": f\"Hello, {{name}}!\"}}\n"
            )
        },
        warm: 0.25,
        first_call: Goals {
            p50_ms: Some(5.0),
            p99_ms: 15.0,
        },
        upload_ms: 3_000.0,
        idle_kib: 8.0 * KIB,
        idle_count: 50,
    };
    all(&language, args).await
}

async fn all(language: &Language, args: &Args) -> Result<Vec<Row>> {
    let mut rows = uploads(language, args).await?;
    rows.push(warm(language, args).await?);
    rows.push(first_call(language, args).await?);
    rows.push(idle(language, args).await?);
    Ok(rows)
}

impl Language {
    fn put(&self, tenant: &Tenant, index: usize) -> Result<Call> {
        let body = json!({
            "exec": { "kind": self.kind, "code": (self.source)(index) },
            "limits": { "memory": 128 },
        });
        tenant.put_entity(&format!("actions/hello-{index}"), &body)
    }

    /// Calls that make actions, and calls that run them.
    pub(crate) fn actions(
        &self,
        tenant: &Tenant,
        indices: std::ops::Range<usize>,
    ) -> Result<(Vec<Call>, Vec<Call>)> {
        let puts = indices.clone().map(|index| self.put(tenant, index));
        let calls = indices.map(|index| tenant.invoke(&format!("hello-{index}"), PARAMS));
        Ok((puts.collect::<Result<_>>()?, calls.collect::<Result<_>>()?))
    }

    /// A server whose engine is compiled, and one action of it called.
    pub(crate) async fn ready(&self) -> Result<(Server, Tenant)> {
        let server = Server::start(CONFIG).await?;
        let tenant = self.first(&server).await?;
        Ok((server, tenant))
    }

    /// Makes the first action of a server, and calls it.
    async fn first(&self, server: &Server) -> Result<Tenant> {
        let tenant = Tenant::new(server, "bench", 100_000).await?;
        let mut connection = Connection::open(server.addr).await?;
        connection.call(&self.put(&tenant, 0)?).await?;
        let got = connection.call(&tenant.invoke("hello-0", PARAMS)?).await?;
        let (got, wanted): (Value, Value) =
            (serde_json::from_slice(&got)?, serde_json::from_str(ANSWER)?);
        ensure!(got == wanted, "it answered {got}, not {wanted}");
        Ok(tenant)
    }
}

/// From the start of an upload until the action has answered; the very first one waits for the engine.
async fn uploads(language: &Language, args: &Args) -> Result<Vec<Row>> {
    let began = Instant::now();
    let server = Server::started(CONFIG).await?;
    let tenant = language.first(&server).await?;
    let first_s = began.elapsed().as_secs_f64();
    server.settle().await?;
    let (puts, calls) = language.actions(&tenant, 1..args.count(41, 11))?;
    let mut connection = Connection::open(server.addr).await?;
    let mut latency = histogram()?;
    for (put, call) in puts.iter().zip(&calls) {
        let sent = Instant::now();
        connection.call(put).await?;
        connection.call(call).await?;
        latency.saturating_record(nanos_since(sent));
    }
    let (p50, p99) = (quantile_ms(&latency, 0.5), quantile_ms(&latency, 0.99));
    let figure =
        format!("p50 {p50:.1} ms, p99 {p99:.1} ms; the first of a new data folder {first_s:.1} s");
    let data = json!({ "p50Ms": p50, "p99Ms": p99, "count": latency.len(), "firstS": first_s });
    Ok(vec![Row::judged(
        &format!("{}, upload until it answers", language.name),
        figure,
        &format!("< {:.0} ms", language.upload_ms),
        p99 < language.upload_ms,
        data,
    )])
}

async fn warm(language: &Language, args: &Args) -> Result<Row> {
    let (server, tenant) = language.ready().await?;
    let calls = Calls::from(tenant.invoke("hello-0", PARAMS)?);
    let bare = Bare::start(ANSWER).await?;
    let compared = compare(args, &server, &bare, &calls).await?;
    Ok(compared.row(&format!("{}, warm", language.name), language.warm))
}

/// The first call of actions that are on disk only, beside warm calls of another.
async fn first_call(language: &Language, args: &Args) -> Result<Row> {
    let (mut server, tenant) = language.ready().await?;
    let (puts, calls) = language.actions(&tenant, 1..args.count(301, 31))?;
    drive::each(server.addr, puts, 2, "actions made").await?;
    server.restart().await?;
    let (cold, warm) = in_turns(server.addr, &calls, &tenant.invoke("hello-0", PARAMS)?).await?;
    Ok(above(
        &format!("{}, first call, on disk only", language.name),
        &cold,
        &warm,
        &language.first_call,
    ))
}

/// Private memory that one more idle instance takes.
async fn idle(language: &Language, args: &Args) -> Result<Row> {
    let count = args.count(language.idle_count, 10);
    let (server, tenant) = language.ready().await?;
    // Some come first, so that what all have in common is there.
    let (puts, calls) = language.actions(&tenant, 1..count + 11)?;
    drive::each(server.addr, puts, 2, "actions made").await?;
    let (first, rest) = calls.split_at(10);
    drive::each(server.addr, first.to_vec(), 1, "actions called").await?;
    let before = server.memory()?;
    drive::each(server.addr, rest.to_vec(), 1, "actions called").await?;
    let after = server.memory()?;
    let each = |of: fn(&Memory) -> u64| {
        let more = of(&after).saturating_sub(of(&before));
        f64::from(u32::try_from(more / 1024).unwrap_or(u32::MAX))
            / f64::from(u32::try_from(count).unwrap_or(1))
    };
    let (private, resident) = (
        each(|memory| memory.private),
        each(|memory| memory.resident),
    );
    let figure =
        format!("{private:.0} KiB private, {resident:.0} KiB resident each, of {count} idle");
    let data = json!({ "privateKib": private, "residentKib": resident, "instances": count });
    Ok(Row::judged(
        &format!("{}, idle instance", language.name),
        figure,
        &format!("< {:.0} KiB private", language.idle_kib),
        private < language.idle_kib,
        data,
    ))
}

/// Many actions of one language, each called once.
async fn density(language: &Language, args: &Args) -> Result<Row> {
    let count = args.count(1_000, 50);
    let (server, tenant) = language.ready().await?;
    let (puts, calls) = language.actions(&tenant, 1..count + 1)?;
    drive::each(server.addr, puts, 2, "actions made").await?;
    drive::each(server.addr, calls, 4, "actions called once").await?;
    let memory = server.memory()?;
    let mib = |bytes: u64| u32::try_from(bytes >> 20).context("too large");
    let (resident, shares, private) = (
        mib(memory.resident)?,
        mib(memory.shares)?,
        mib(memory.private)?,
    );
    let figure = format!(
        "{resident} MiB resident, PSS {shares} MiB, {private} MiB private for {count} actions"
    );
    say(&format!("  {figure}"));
    let data = json!({ "actions": count, "residentMib": resident, "pssMib": shares, "privateMib": private });
    Ok(Row::judged(
        &format!("{}, {count} actions", language.name),
        figure,
        "< 1.5 GiB",
        resident < 1536,
        data,
    ))
}
