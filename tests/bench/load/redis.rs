//! One node and Redis on one machine, against the same program that keeps everything in its own folder: `--redis`.
//!
//! Redis is a process of its own with an append-only file (`appendfsync everysec`), and shares the cores with the server and
//! the generator, so what it costs is in every figure. The two servers are measured in turns.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Duration, Instant, sleep};

use crate::api::{Action, Tenant, metric};
use crate::args::Args;
use crate::client::{Call, Calls};
use crate::drive;
use crate::guests;
use crate::report::{Row, say};
use crate::server::Server;
use crate::throughput::{median, quantile_data, quantiles};

const CONNECTIONS: usize = 64;
const PARAMS: &str = r#"{"name":"stranger"}"#;
/// Of the embedded rate.
const STREAM_GOAL: f64 = 0.50;
const HAND_OFF_GOAL: f64 = 0.85;
/// Above the embedded p99, at half of the load.
const P99_ABOVE_MS: f64 = 5.0;
/// Accepted per second.
const ACCEPT_GOAL: f64 = 15_000.0;
/// Of one action's rate.
const SPREAD_GOAL: f64 = 0.90;
const SPREAD: usize = 1_000;
/// Seconds beyond the lease in which another worker runs what a killed one had.
const TAKEOVER_GOAL_S: f64 = 1.0;
/// The default.
const LEASE_S: f64 = 5.0;

/// A Redis of the benchmark's own.
pub(crate) struct Redis {
    addr: SocketAddr,
    _child: Child,
    _folder: TempDir,
}

/// What Redis has done so far.
struct Used {
    commands: f64,
    cpu_s: f64,
    /// Its file is being rewritten.
    rewrites: bool,
}

impl Redis {
    async fn start() -> Result<Self> {
        let folder = TempDir::with_prefix_in("redis-", env!("CARGO_TARGET_TMPDIR"))?;
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = Command::new("redis-server")
            .args([
                "--port",
                &addr.port().to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ])
            .args(["--appendonly", "yes", "--appendfsync", "everysec", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("redis-server is needed: apt-get install redis-server")?;
        let redis = Self {
            addr,
            _child: child,
            _folder: folder,
        };
        let start = Instant::now();
        while redis.used().await.is_err() {
            ensure!(
                start.elapsed() < Duration::from_secs(10),
                "Redis does not start"
            );
            sleep(Duration::from_millis(20)).await;
        }
        Ok(redis)
    }

    /// The configuration of a node.
    fn config(&self, cluster: &str) -> String {
        format!(
            "[redis]\nurl = \"redis://{}\"\n[cluster]\n{cluster}",
            self.addr
        )
    }

    async fn used(&self) -> Result<Used> {
        let client = ::redis::Client::open(format!("redis://{}", self.addr))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let info: String = ::redis::cmd("INFO")
            .arg("everything")
            .query_async(&mut connection)
            .await?;
        let field = |name: &str| -> Result<f64> {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            Ok(line.with_context(|| name.to_owned())?.trim().parse()?)
        };
        Ok(Used {
            commands: field("total_commands_processed:")?,
            cpu_s: field("used_cpu_user:")? + field("used_cpu_sys:")?,
            rewrites: field("aof_rewrite_in_progress:")? > 0.0,
        })
    }

    /// Makes Redis rewrite its append-only file: it forks a child for that.
    async fn rewrite(&self) -> Result<()> {
        let client = ::redis::Client::open(format!("redis://{}", self.addr))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        ::redis::cmd("BGREWRITEAOF")
            .exec_async(&mut connection)
            .await?;
        Ok(())
    }

    /// As [`Redis::rewrite`], and waits until it is done: for the next tens of megabytes it does not do so by itself.
    async fn rewritten(&self) -> Result<()> {
        // One that goes on already.
        self.at_rest().await?;
        self.rewrite().await?;
        self.at_rest().await
    }

    async fn at_rest(&self) -> Result<()> {
        while self.used().await?.rewrites {
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// A server with an action that answers what it is given.
struct Subject {
    server: Server,
    tenant: Tenant,
    call: Call,
    calls: Calls,
}

impl Subject {
    async fn start(config: &str) -> Result<Self> {
        let server = Server::start(config).await?;
        let tenant = Tenant::new(&server, "bench", 1_000_000).await?;
        let action = Action {
            name: "warm",
            code: guests::ECHO,
            timeout_ms: 60_000,
        };
        tenant.deploy(&server, &action, PARAMS, PARAMS).await?;
        let call = tenant.invoke("warm", PARAMS)?;
        Ok(Self {
            calls: Calls::from(call.clone()),
            server,
            tenant,
            call,
        })
    }

    async fn rate(&self, length: Duration) -> Result<drive::Sample> {
        let sample = drive::closed(self.server.addr, &self.calls, CONNECTIONS, length).await?;
        sample.checked()
    }
}

/// Blocking calls through the stream: what a call costs that runs on another node than the one it came to.
pub(crate) async fn stream(args: &Args) -> Result<Vec<Row>> {
    let redis = Redis::start().await?;
    let config = redis.config("hand_off = false\n");
    against_embedded(
        args,
        &redis,
        &config,
        "redis, through the stream",
        STREAM_GOAL,
    )
    .await
}

/// Blocking calls that arrive where their action is warm.
pub(crate) async fn hand_off(args: &Args) -> Result<Vec<Row>> {
    let redis = Redis::start().await?;
    let config = redis.config("");
    against_embedded(args, &redis, &config, "redis, handed over", HAND_OFF_GOAL).await
}

async fn against_embedded(
    args: &Args,
    redis: &Redis,
    config: &str,
    scenario: &str,
    goal: f64,
) -> Result<Vec<Row>> {
    let (embedded, shared) = (Subject::start("").await?, Subject::start(config).await?);
    for one in [&embedded, &shared] {
        one.rate(args.measure / 4).await?;
    }
    let (mut rates, mut ratios, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = embedded.rate(args.measure).await?.rate;
    let mut bases = vec![before];
    for round in 0..args.rounds {
        let (used, cpu) = (redis.used().await?, shared.server.cpu_seconds()?);
        let sample = shared.rate(args.measure).await?;
        let (now, count) = (redis.used().await?, sample.latency.len() as f64);
        costs.push((
            (now.commands - used.commands) / count,
            (now.cpu_s - used.cpu_s) * 1e6 / count,
            (shared.server.cpu_seconds()? - cpu) * 1e6 / count,
        ));
        let after = embedded.rate(args.measure).await?.rate;
        let ratio = sample.rate / f64::midpoint(before, after);
        say(&format!(
            "  round {}: {:.0}/s of {after:.0}/s, {:.1} %",
            round + 1,
            sample.rate,
            ratio * 100.0
        ));
        rates.push(sample.rate);
        bases.push(after);
        ratios.push(ratio);
        before = after;
    }
    let each =
        |pick: fn(&(f64, f64, f64)) -> f64| median(&costs.iter().map(pick).collect::<Vec<_>>());
    let (commands, redis_us, server_us) = (each(|c| c.0)?, each(|c| c.1)?, each(|c| c.2)?);
    let (rate, base) = (median(&rates)?, median(&bases)?);
    let figure = format!(
        "{rate:.0}/s of {base:.0}/s; per call {commands:.2} commands, {redis_us:.1} us of Redis, {server_us:.1} us of the server"
    );
    let data = json!({
        "rates": rates, "embedded": bases, "ratios": ratios,
        "commandsEach": commands, "redisUsEach": redis_us, "serverUsEach": server_us,
    });
    let mut rows = vec![Row::at_least(
        scenario,
        figure,
        median(&ratios)?,
        goal,
        data,
    )];

    let both = [&embedded, &shared];
    rows.push(half_load(args, scenario, rate / 2.0, redis, both).await?);
    Ok(rows)
}

/// Seconds of the open loop before it counts.
const LEAD_S: f64 = 0.25;
/// Pairs of open loops for each round, half as long: so that a pause of the machine, of which there is one every few
/// seconds, is in a few of them and not in most.
const PAIRS: usize = 3;

/// Both at the same half load, in an open loop: in turns, and once more while Redis rewrites its file.
///
/// The difference of a pair is that of two neighbouring moments, and the median of all is judged. Redis has rewritten its
/// append-only file just before each pair, so that it does not begin to in between: its child takes one of the cores that
/// the server, Redis and the generator share. What that does is shown beside it.
async fn half_load(
    args: &Args,
    scenario: &str,
    half: f64,
    redis: &Redis,
    [embedded, shared]: [&Subject; 2],
) -> Result<Row> {
    say(&format!("  open loop at {half:.0}/s"));
    let open = async |one: &Subject| {
        let lead = Duration::from_secs_f64(LEAD_S);
        let (addr, many) = (one.server.addr, CONNECTIONS * 4);
        let sample = drive::open_after(lead, addr, &one.call, many, half, args.measure / 2).await?;
        sample.checked()
    };
    let (mut aboves, mut owns, mut bases) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..args.rounds * PAIRS {
        redis.rewritten().await?;
        let (base, own) = (open(embedded).await?, open(shared).await?);
        let above = own.quantile_ms(0.99) - base.quantile_ms(0.99);
        say(&format!(
            "  pair {}: p99 {above:+.2} ms; {}; embedded {}",
            pair + 1,
            quantiles(&own),
            quantiles(&base)
        ));
        aboves.push(above);
        owns.push(own);
        bases.push(base);
    }
    let (above, own, base) = (median(&aboves)?, together(owns)?, together(bases)?);
    let rewriting = async {
        sleep(Duration::from_secs_f64(LEAD_S * 1.5)).await;
        redis.rewrite().await
    };
    let (during, begun) = tokio::join!(open(shared), rewriting);
    begun?;
    let during = during?.quantile_ms(0.99);
    Ok(Row::judged(
        &format!("{scenario}, open loop {half:.0}/s"),
        format!(
            "p99 {above:+.2} ms, the median of {} pairs; all of them together {}; embedded {}; p99 {during:.2} ms while Redis rewrites its file",
            aboves.len(),
            quantiles(&own),
            quantiles(&base),
        ),
        &format!("p99 <= +{P99_ABOVE_MS} ms"),
        above <= P99_ABOVE_MS,
        json!({
            "rate": half, "abovesMs": aboves, "rewritingP99Ms": during,
            "redis": quantile_data(&own), "embedded": quantile_data(&base),
        }),
    ))
}

/// Samples of one thing as one.
fn together(samples: Vec<drive::Sample>) -> Result<drive::Sample> {
    let mut samples = samples.into_iter();
    let mut all = samples.next().context("there was no round")?;
    for sample in samples {
        all.latency.add(&sample.latency)?;
    }
    Ok(all)
}

/// Non-blocking calls, each in Redis before its 202 leaves.
pub(crate) async fn accept(args: &Args) -> Result<Vec<Row>> {
    let redis = Redis::start().await?;
    let one = Subject::start(&redis.config("")).await?;
    let calls = Calls::from(one.tenant.submit("warm", PARAMS)?);
    let addr = one.server.addr;
    drive::closed(addr, &calls, CONNECTIONS, args.measure / 4)
        .await?
        .checked()?;
    let (mut rates, mut p99s, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let used = redis.used().await?;
        let sample = drive::closed(addr, &calls, CONNECTIONS, args.measure)
            .await?
            .checked()?;
        let now = redis.used().await?;
        say(&format!(
            "  round {}: {:.0}/s, {}",
            round + 1,
            sample.rate,
            quantiles(&sample)
        ));
        rates.push(sample.rate);
        p99s.push(sample.quantile_ms(0.99));
        costs.push((now.cpu_s - used.cpu_s) * 1e6 / sample.latency.len() as f64);
    }
    let (rate, p99, cost) = (median(&rates)?, median(&p99s)?, median(&costs)?);
    Ok(vec![Row::judged(
        "redis, non-blocking accept",
        format!("{rate:.0}/s, p99 {p99:.2} ms, {cost:.1} us of Redis each"),
        &format!(">= {ACCEPT_GOAL}/s"),
        rate >= ACCEPT_GOAL,
        json!({ "rates": rates, "p99sMs": p99s, "redisUsEach": costs }),
    )])
}

/// The same load on one action and on a thousand.
pub(crate) async fn spread(args: &Args) -> Result<Vec<Row>> {
    let redis = Redis::start().await?;
    let mut rows = Vec::new();
    for (what, config, goal) in [
        ("redis, handed over, 1000 actions", "", Some(SPREAD_GOAL)),
        (
            "redis, through the stream, 1000 actions",
            "hand_off = false\n",
            None,
        ),
    ] {
        let prefix = if goal.is_some() { "a" } else { "b" };
        let config = redis
            .config(config)
            .replace("[redis]\n", &format!("[redis]\nprefix = \"{prefix}\"\n"));
        let one = Subject::start(&config).await?;
        let count = args.count(SPREAD, 50);
        let (mut puts, mut firsts) = (Vec::new(), Vec::new());
        let module = guests::assemble(guests::ECHO)?;
        for index in 0..count {
            let name = format!("spread-{index}");
            let code = guests::base64(&guests::distinct(&module, index)?);
            puts.push(one.tenant.put(&Action {
                name: &name,
                code: &code,
                timeout_ms: 60_000,
            })?);
            firsts.push(one.tenant.invoke(&name, PARAMS)?);
        }
        drive::each(one.server.addr, puts, 8, "actions made").await?;
        drive::each(one.server.addr, firsts, CONNECTIONS, "actions called once").await?;
        let many = one.tenant.invoke_each("spread-", count, PARAMS)?;
        let (mut shares, mut rates) = (Vec::new(), Vec::new());
        for round in 0..args.rounds {
            let single = one.rate(args.measure).await?.rate;
            let spread = drive::closed(one.server.addr, &many, CONNECTIONS, args.measure)
                .await?
                .checked()?
                .rate;
            say(&format!(
                "  round {}: {count} actions {spread:.0}/s of {single:.0}/s",
                round + 1
            ));
            shares.push(spread / single);
            rates.push(spread);
        }
        let (share, rate) = (median(&shares)?, median(&rates)?);
        let data = json!({ "rates": rates, "shares": shares });
        rows.push(match goal {
            Some(goal) => Row::at_least(what, format!("{rate:.0}/s"), share, goal, data),
            None => Row::shown(
                what,
                format!("{rate:.0}/s, {:.0} % of one action", share * 100.0),
                data,
            ),
        });
    }
    Ok(rows)
}

/// How long after a worker was killed its work runs elsewhere.
pub(crate) async fn takeover(args: &Args) -> Result<Vec<Row>> {
    let mut took = Vec::new();
    for round in 0..args.rounds.min(3) {
        let seconds = killed().await?;
        say(&format!("  round {}: {seconds:.2} s", round + 1));
        took.push(seconds);
    }
    let worst = took.iter().copied().fold(0.0, f64::max);
    let most = LEASE_S + TAKEOVER_GOAL_S;
    Ok(vec![Row::judged(
        "redis, work of a killed worker runs elsewhere",
        format!("after {worst:.2} s at most, with a lease of {LEASE_S} s"),
        &format!("<= {most} s"),
        worst <= most,
        json!({ "seconds": took }),
    )])
}

async fn killed() -> Result<f64> {
    const WORKS: usize = 16;
    let redis = Redis::start().await?;
    let front = Server::start(&redis.config("role = \"front\"\n")).await?;
    let first = Server::start(&redis.config("role = \"worker\"\n")).await?;
    let tenant = Tenant::new(&front, "bench", 1_000_000).await?;
    let action = Action {
        name: "sleep",
        code: guests::SLEEP,
        timeout_ms: 60_000,
    };
    tenant
        .deploy(&front, &action, r#"{"ms":1}"#, r#"{"ms":1}"#)
        .await?;
    let calls = (0..WORKS).map(|_| tenant.submit("sleep", r#"{"ms":30000}"#));
    let calls = calls.collect::<Result<Vec<_>>>()?;
    drive::each(front.addr, calls, 8, "long runs accepted").await?;
    let runs = async |server: &Server| {
        Ok::<_, anyhow::Error>(metric(server, "wisp_runs", "").await?.unwrap_or(0.0))
    };
    let patience = Instant::now();
    while runs(&first).await? < WORKS as f64 {
        ensure!(
            patience.elapsed() < Duration::from_secs(20),
            "the first worker does not run the work"
        );
        sleep(Duration::from_millis(20)).await;
    }
    let second = Server::start(&redis.config("role = \"worker\"\n")).await?;
    let died = Instant::now();
    first.kill()?;
    while runs(&second).await? < WORKS as f64 {
        ensure!(
            died.elapsed() < Duration::from_secs(30),
            "nobody took the work over"
        );
        sleep(Duration::from_millis(10)).await;
    }
    Ok(died.elapsed().as_secs_f64())
}
