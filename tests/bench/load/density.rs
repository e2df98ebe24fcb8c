//! Density: what actions and idle instances cost in memory, and whether warm calls notice them.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::api::{Action, Tenant, metric};
use crate::args::Args;
use crate::client::{Call, Calls, Connection};
use crate::drive::{self, Sample, connect};
use crate::guests;
use crate::machine::max_map_count;
use crate::report::{Progress, Row};
use crate::server::Server;
use crate::throughput::{median, quantile_data};

const MIB: f64 = 1024.0 * 1024.0;
const PARAMS: &str = r#"{"name":"stranger"}"#;
/// Idle instances stay, and as many guests may sleep at once as one round starts.
const CONFIG: &str = "\
[pool]
keep_alive_s = 3600
";
/// How much slower a warm call may be before it counts as changed: what two runs of one server differ by.
const NOISE: f64 = 1.15;

pub(crate) async fn density(args: &Args) -> Result<Vec<Row>> {
    let mut rows = actions(args).await?;
    rows.extend(instances(args).await?);
    Ok(rows)
}

/// Registered actions of distinct programs, each called once.
async fn actions(args: &Args) -> Result<Vec<Row>> {
    let count = args.count(10_000, 500);
    let server = Server::start("").await?;
    let tenant = Tenant::new(&server, "bench", 100_000).await?;
    let empty = server.resident_bytes()?;
    let module = guests::assemble(guests::ECHO)?;
    let (mut puts, mut calls) = (Vec::new(), Vec::new());
    for index in 0..count {
        let (name, code) = (
            format!("small-{index}"),
            guests::base64(&guests::distinct(&module, index)?),
        );
        puts.push(tenant.put(&Action {
            name: &name,
            code: &code,
            timeout_ms: 60_000,
        })?);
        calls.push(tenant.invoke(&name, PARAMS)?);
    }
    drive::each(server.addr, puts, 8, "actions made").await?;
    drive::each(server.addr, calls, 8, "actions called once").await?;
    let warm = server.resident_bytes()?;
    sleep(Duration::from_secs(5)).await;
    let idle = server.resident_bytes()?;
    let most = mib(warm.max(idle));
    let figure = format!(
        "{most:.0} MiB resident for {count} actions, {:.0} MiB before",
        mib(empty)
    );
    let data = json!({
        "actions": count, "emptyBytes": empty, "afterCallsBytes": warm, "idleBytes": idle, "maps": server.map_count()?,
    });
    Ok(vec![Row::judged(
        "density, registered actions",
        figure,
        "< 1 GiB",
        most < 1024.0,
        data,
    )])
}

/// Idle warm instances: 100 of each action, made by as many calls that sleep at the same time.
async fn instances(args: &Args) -> Result<Vec<Row>> {
    let shape = Shape {
        namespaces: args.count(100, 10),
        actions_each: 10,
        instances_each: 100,
    };
    let server = Server::start(CONFIG).await?;
    let calls = warm(&server).await?;
    let filled = fill(&server, &shape).await?;
    // What a lone warm call takes depends on where its threads are woken, by tens of microseconds, and changes with the time
    // and the process: so the server with the instances is held against others without any, in turns.
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds.max(3) {
        let empty = Server::start(CONFIG).await?;
        let others = warm(&empty).await?;
        without.push(latency(&empty, &others, args).await?);
        with.push(latency(&server, &calls, args).await?);
    }
    Ok(vec![filled, unchanged(&without, &with)?])
}

/// Warm calls of one action, which is made for them.
async fn warm(server: &Server) -> Result<Calls> {
    let warm = Tenant::new(server, "warm", 100_000).await?;
    let echo = Action {
        name: "warm",
        code: guests::ECHO,
        timeout_ms: 60_000,
    };
    warm.deploy(server, &echo, PARAMS, PARAMS).await?;
    Ok(Calls::from(warm.invoke("warm", PARAMS)?))
}

/// Who has how many.
struct Shape {
    namespaces: usize,
    actions_each: usize,
    instances_each: usize,
}

/// Makes all the instances and sees what they cost.
async fn fill(server: &Server, shape: &Shape) -> Result<Row> {
    let (mut puts, mut calls) = (Vec::new(), Vec::new());
    for namespace in 0..shape.namespaces {
        let tenant = Tenant::new(server, &format!("dense-{namespace}"), 1_000).await?;
        for action in 0..shape.actions_each {
            let name = format!("sleep-{action}");
            puts.push(tenant.put(&Action {
                name: &name,
                code: guests::SLEEP,
                timeout_ms: 60_000,
            })?);
            calls.push(tenant.invoke(&name, r#"{"ms":300}"#)?);
        }
    }
    drive::each(server.addr, puts, 8, "actions made").await?;
    // Every action is called once before, so that what is counted is instances, less that one.
    drive::each(server.addr, calls.clone(), 64, "actions called once").await?;
    let before = server.resident_bytes()?;
    together(server, &calls, shape.instances_each).await?;
    sleep(Duration::from_secs(2)).await;
    let after = server.resident_bytes()?;
    let maps = server.map_count()?;
    let wanted = calls.len() * shape.instances_each;
    let idle = metric(server, "wisp_pool_instances", "idle").await?;
    let idle = idle.context("/metrics has no wisp_pool_instances")?;
    ensure!(
        idle >= wanted as f64 * 0.99,
        "{idle} instances are idle, not {wanted}"
    );

    let came = wanted - calls.len();
    let each_kib = after.saturating_sub(before) as f64 / came as f64 / 1024.0;
    let limit = max_map_count().context("vm.max_map_count")?;
    let figure = format!(
        "{each_kib:.1} KiB each of {idle} idle, {:.0} MiB in all, {maps} of {limit} mappings",
        mib(after)
    );
    let data = json!({
        "idle": idle, "beforeBytes": before, "afterBytes": after, "maps": maps, "maxMapCount": limit,
    });
    let met = each_kib <= 16.0 && limit <= 65_530;
    let goal = "<= 16 KiB each, 65,530 mappings";
    Ok(Row::judged(
        "density, idle instances",
        figure,
        goal,
        met,
        data,
    ))
}

/// Holds warm latency beside idle instances against that of servers without any.
fn unchanged(without: &[Sample], with: &[Sample]) -> Result<Row> {
    let of = |samples: &[Sample], quantile: f64| {
        let each: Vec<f64> = samples
            .iter()
            .map(|one| one.quantile_ms(quantile))
            .collect();
        median(&each)
    };
    let (p50, p99) = (of(with, 0.5)?, of(with, 0.99)?);
    let (p50_without, p99_without) = (of(without, 0.5)?, of(without, 0.99)?);
    let slower = p50 / p50_without;
    let figure = format!(
        "p50 {p50:.3} ms, p99 {p99:.2} ms; without them p50 {p50_without:.3} ms, p99 {p99_without:.2} ms"
    );
    let data = |samples: &[Sample]| samples.iter().map(quantile_data).collect::<Vec<_>>();
    let data = json!({ "with": data(with), "without": data(without), "slower": slower });
    let goal = format!("p50 <= {NOISE} x without");
    Ok(Row::judged(
        "density, warm call beside them",
        figure,
        &goal,
        slower <= NOISE,
        data,
    ))
}

/// Warm calls on one connection.
async fn latency(server: &Server, calls: &Calls, args: &Args) -> Result<Sample> {
    drive::closed(server.addr, calls, 1, args.measure / 4)
        .await?
        .checked()?;
    drive::closed(server.addr, calls, 1, args.measure)
        .await?
        .checked()
}

/// Sends each of `calls` `count` times at the same moment, a few of them beside each other: fewer than a node runs at
/// one time, so that none waits for another and each gets an instance of its own.
async fn together(server: &Server, calls: &[Call], count: usize) -> Result<()> {
    let beside = 3;
    let progress = Progress::new("actions with all their instances", calls.len());
    let mut idle: Vec<Connection> = connect(server.addr, count * beside).await?;
    for calls in calls.chunks(beside) {
        let mut tasks = tokio::task::JoinSet::new();
        for call in calls {
            for mut connection in idle.drain(idle.len() - count..) {
                let call = call.clone();
                tasks.spawn(async move { connection.call(&call).await.map(|_| connection) });
            }
        }
        while let Some(done) = tasks.join_next().await {
            idle.push(done??);
        }
        calls.iter().for_each(|_| progress.step());
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}
