//! The same greeting in every language: the bytes it is uploaded with, what its calls last, and the memory it takes.
//!
//! The table of `runtimes/README.md` is what this scenario prints, a line for each greeting. One caller over one connection, so
//! no figure is a throughput; nearly all of a warm call is HTTP.
//!
//! - *First call*: the whole of a call whose program is linked and that needs a new instance.
//! - *From disk*: the whole of the first call after a restart, of programs that differ and that nobody called since; the engine of
//!   a language is linked already.
//! - *Warm call*: the whole of a call that finds an instance.
//! - *Memory*: `peakMemory` of a record, which is everything the instance holds. *Idle*: what one more instance that waits takes
//!   of the server's private memory, its host's side included; what it shares with others is not in it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::Tenant;
use crate::args::Args;
use crate::client::{Call, Connection};
use crate::drive::{self, histogram, nanos_since, quantile_ms};
use crate::guests;
use crate::languages::PARAMS;
use crate::report::{Row, say};
use crate::server::Server;

/// Idle instances stay while they are counted.
const CONFIG: &str = "\
[pool]
keep_alive_s = 3600
";
/// First calls before those that are counted: what all instances have in common is there then.
const EARLY: usize = 10;
/// Calls of another before calls from disk are counted.
const EARLY_RUNS: usize = 300;
/// Modules above this size are compiled for some seconds, and so fewer times.
const LARGE_BYTES: usize = 1 << 20;

/// How a greeting is uploaded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A module or component.
    Binary,
    /// WebAssembly in text.
    Text,
    /// Source of a language: its kind, and how a comment begins.
    Source(&'static str, &'static str),
}

/// One greeting: its name in the table, its file, and how that is uploaded.
struct Greeting(&'static str, &'static str, Form);

/// In the order of the table.
const GREETINGS: [Greeting; 9] = [
    Greeting("Rust", "hello-rust/hello-rust.wasm", Form::Binary),
    Greeting("Go", "hello-go/hello-go.wasm", Form::Binary),
    Greeting("C, by hand", "hello-c/hello-c.wasm", Form::Binary),
    Greeting(
        "AssemblyScript",
        "hello-assemblyscript/hello-assemblyscript.wasm",
        Form::Binary,
    ),
    Greeting("Zig", "hello-zig/hello-zig.wasm", Form::Binary),
    Greeting("WebAssembly text", "hello-wat/hello.wat", Form::Text),
    Greeting(
        "Rust, a component",
        "hello-component/hello-component.wasm",
        Form::Binary,
    ),
    Greeting(
        "JavaScript",
        "hello-javascript/hello.js",
        Form::Source("nodejs:default", "//"),
    ),
    Greeting(
        "Python",
        "hello-python/hello.py",
        Form::Source("python:default", "#"),
    ),
];

/// A greeting that is there, and what was measured of it so far.
struct Measured {
    greeting: &'static Greeting,
    /// Its file.
    bytes: Vec<u8>,
    first: Histogram<u64>,
    warm: Histogram<u64>,
    peak_kib: u64,
    idle_kib: u64,
}

pub(crate) async fn run(args: &Args) -> Result<Vec<Row>> {
    let mut server = Server::start(CONFIG).await?;
    let tenant = Tenant::new(&server, "bench", 100_000).await?;
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for greeting in &GREETINGS {
        match greeting.read() {
            Ok(bytes) => all.push(greeting.measure(args, &server, &tenant, bytes).await?),
            Err(why) => rows.push(Row::left_out(&greeting.row(), &why)),
        }
    }
    let mut variants = Vec::new();
    for measured in &all {
        variants.push(measured.put_variants(args, &server, &tenant).await?);
    }
    server.restart().await?;
    say(
        "  | greeting | uploaded, bytes | first call, ms | from disk, ms | warm call, ms | memory, KiB | idle, KiB |",
    );
    for (measured, calls) in all.iter().zip(variants) {
        rows.push(measured.row(&each_timed(&server, &calls).await?));
    }
    Ok(rows)
}

impl Greeting {
    fn row(&self) -> String {
        format!("greeting, {}", self.0)
    }

    /// Its file, or why there is none.
    fn read(&self) -> Result<Vec<u8>, String> {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        std::fs::read(examples.join(self.1)).map_err(|error| {
            let folder = self.1.split('/').next().unwrap_or_default();
            format!(
                "examples/{}: {error}; `wisp build examples/{folder}` makes it",
                self.1
            )
        })
    }

    /// The call that makes an action of it.
    fn put(&self, tenant: &Tenant, name: &str, bytes: &[u8]) -> Result<Call> {
        let (kind, code) = match self.2 {
            Form::Source(kind, _) => (kind, std::str::from_utf8(bytes)?.to_owned()),
            // A variant of a text is a module.
            Form::Text if bytes.first() != Some(&0) => {
                ("wasm:1", std::str::from_utf8(bytes)?.to_owned())
            }
            Form::Binary | Form::Text => ("wasm:1", guests::base64(bytes)),
        };
        let body = json!({ "exec": { "kind": kind, "code": code }, "limits": { "memory": 128 } });
        tenant.put_entity(&format!("actions/{name}"), &body)
    }

    /// Another program that does the same.
    fn variant(&self, bytes: &[u8], index: usize) -> Result<Vec<u8>> {
        Ok(match self.2 {
            Form::Binary => guests::distinct(bytes, index)?,
            Form::Text => {
                let module = guests::assemble(std::str::from_utf8(bytes)?)?;
                guests::distinct(&module, index)?
            }
            Form::Source(_, comment) => {
                [bytes, format!("\n{comment} {index}\n").as_bytes()].concat()
            }
        })
    }

    /// What is measured while its program is linked.
    async fn measure(
        &'static self,
        args: &Args,
        server: &Server,
        tenant: &Tenant,
        bytes: Vec<u8>,
    ) -> Result<Measured> {
        say(&format!("  {}", self.0));
        let mut connection = Connection::open(server.addr).await?;
        let name = |index: usize| format!("{}-{index}", slug(self.0));
        connection
            .call(&self.put(tenant, &name(0), &bytes)?)
            .await?;
        let peak_kib = peak_kib(&mut connection, tenant, &name(0)).await?;
        let call = tenant.invoke(&name(0), PARAMS)?;
        let mut warm = histogram()?;
        for _ in 0..args.count(1_000, 100) {
            connection.call(&call).await?;
        }
        for _ in 0..args.count(2_000, 200) {
            warm.saturating_record(timed(&mut connection, &call).await?);
        }
        let count = args.count(200, 20);
        let (mut puts, mut calls) = (Vec::new(), Vec::new());
        for index in 1..=EARLY + count {
            puts.push(self.put(tenant, &name(index), &bytes)?);
            calls.push(tenant.invoke(&name(index), PARAMS)?);
        }
        drive::each(server.addr, puts, 2, "actions made").await?;
        let (early, rest) = calls.split_at(EARLY);
        for early in early {
            connection.call(early).await?;
        }
        let before = server.memory()?;
        let mut first = histogram()?;
        for one in rest {
            // In turns, so that what else the machine does is not all in one of them.
            connection.call(&call).await?;
            first.saturating_record(timed(&mut connection, one).await?);
        }
        let more = server.memory()?.private.saturating_sub(before.private);
        Ok(Measured {
            greeting: self,
            bytes,
            first,
            warm,
            peak_kib,
            idle_kib: more / 1024 / u64::try_from(count)?,
        })
    }
}

impl Measured {
    /// Makes actions of programs that differ; the calls of them.
    async fn put_variants(
        &self,
        args: &Args,
        server: &Server,
        tenant: &Tenant,
    ) -> Result<Vec<Call>> {
        let is_large = self.bytes.len() > LARGE_BYTES;
        let count = args.count(if is_large { 11 } else { 41 }, 5);
        let (mut puts, mut calls) = (Vec::new(), Vec::new());
        for index in 0..count {
            let name = format!("{}-variant-{index}", slug(self.greeting.0));
            let bytes = self.greeting.variant(&self.bytes, index)?;
            puts.push(self.greeting.put(tenant, &name, &bytes)?);
            calls.push(tenant.invoke(&name, PARAMS)?);
        }
        drive::each(server.addr, puts, 2, "variants made").await?;
        Ok(calls)
    }

    /// Its row, and the line of the table.
    fn row(&self, disk: &Histogram<u64>) -> Row {
        let p50 = |latency: &Histogram<u64>| quantile_ms(latency, 0.5);
        let (first, from_disk, warm) = (p50(&self.first), p50(disk), p50(&self.warm));
        let (bytes, peak, idle) = (self.bytes.len(), self.peak_kib, self.idle_kib);
        let cells = [
            self.greeting.0.to_owned(),
            grouped(bytes as u64),
            format!("{first:.2}"),
            format!("{from_disk:.2}"),
            format!("{warm:.3}"),
            grouped(peak),
            grouped(idle),
        ];
        say(&format!("  | {} |", cells.join(" | ")));
        let figure = format!(
            "{bytes} bytes; p50 of a first call {first:.2} ms, from disk {from_disk:.2} ms, warm {warm:.3} ms; {peak} KiB, idle {idle} KiB"
        );
        let spread = |latency: &Histogram<u64>| {
            let p99 = quantile_ms(latency, 0.99);
            json!({ "p50": p50(latency), "p99": p99, "calls": latency.len() })
        };
        let data = json!({
            "greeting": self.greeting.0, "uploadedBytes": bytes,
            "firstMs": spread(&self.first), "diskMs": spread(disk), "warmMs": spread(&self.warm),
            "peakMemoryKib": peak, "idlePrivateKib": idle,
        });
        Row::shown(&self.greeting.row(), figure, data)
    }
}

/// The first call of an action, of which the whole record is asked: that it greets, and what memory its instance took.
async fn peak_kib(connection: &mut Connection, tenant: &Tenant, action: &str) -> Result<u64> {
    let record = connection
        .call(&tenant.invoke_for_record(action, PARAMS)?)
        .await?;
    let record: Value = serde_json::from_slice(&record)?;
    // Not all of them say the same words.
    let (success, got) = (
        &record["response"]["success"],
        &record["response"]["result"],
    );
    ensure!(
        *success == true && got.to_string().contains("stranger"),
        "{action} answered {got}"
    );
    let annotations = record["annotations"].as_array();
    let peak = annotations
        .into_iter()
        .flatten()
        .find(|annotation| annotation["key"] == "peakMemory")
        .and_then(|annotation| annotation["value"].as_u64());
    Ok(peak.with_context(|| format!("no peakMemory: {record}"))? / 1024)
}

/// What each of `calls` lasts, one after the other over a connection that was used before.
async fn each_timed(server: &Server, calls: &[Call]) -> Result<Histogram<u64>> {
    let mut connection = Connection::open(server.addr).await?;
    let mut latency = histogram()?;
    // Untimed, the first, and often: a server that has just started would be slow at anything.
    if let Some(call) = calls.first() {
        for _ in 0..EARLY_RUNS {
            connection.call(call).await?;
        }
    }
    for call in calls.iter().skip(1) {
        latency.saturating_record(timed(&mut connection, call).await?);
    }
    Ok(latency)
}

/// Nanoseconds of a call.
async fn timed(connection: &mut Connection, call: &Call) -> Result<u64> {
    let sent = Instant::now();
    connection.call(call).await?;
    Ok(nanos_since(sent))
}

/// As a name of an action.
fn slug(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    letters.collect::<String>().to_lowercase()
}

/// With commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
