//! Redis is there and answers late: later than networks are, later than anybody waits for it, later than a lease.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::load::Load;
use crate::harness::{Counter, Nodes, Proxy, Redis, Spot, Tenant, eventually, pause};

/// Longest that anybody who calls may be kept waiting for an answer that is none: a few times what a node waits for Redis (2 s).
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What callers were told: by whether they waited for the outcome, and status; how many, and how long that took at most.
type Told = BTreeMap<(&'static str, u16), (usize, Duration)>;

/// Calls that are waited for, and calls that are not, for so long.
fn under_load(
    lasts: Duration,
    (load, tenant): (&Load, &Tenant),
    waiting: &Tenant,
    params: &Value,
) -> Told {
    let (told, until) = (Mutex::<Told>::default(), Instant::now() + lasts);
    let note = |kind: &'static str, began: Instant, status: Option<u16>| {
        let mut told = told.lock().expect("not poisoned");
        let (count, longest) = told.entry((kind, status.unwrap_or(0))).or_default();
        *count += 1;
        *longest = began.elapsed().max(*longest);
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while Instant::now() < until {
                    let began = Instant::now();
                    note("posted", began, load.call(tenant, "a", params));
                    pause(Duration::from_millis(20));
                }
            });
            scope.spawn(|| {
                while Instant::now() < until {
                    let began = Instant::now();
                    let reply = waiting.invoke("a", params);
                    assert!(
                        reply.status != 503 || reply.header("retry-after").is_some(),
                        "{}",
                        reply.shown()
                    );
                    note("waited", began, Some(reply.status));
                    pause(Duration::from_millis(20));
                }
            });
        }
    });
    told.into_inner().expect("not poisoned")
}

/// How a Redis is slow.
#[derive(Debug, Clone, Copy)]
enum Slow {
    /// Everything takes so many milliseconds more, each way.
    By(u64),
    /// It does nothing at all: as for a fork, or a command that takes for ever.
    Still,
}

#[test]
fn a_slow_redis_costs_time_and_503_and_nothing_that_was_accepted() {
    const LEASE_S: u64 = 5;
    let (redis, counter) = (Redis::start(), Counter::start());
    let ways: Vec<Proxy> = (0..3).map(|_| Proxy::start(redis.port)).collect();
    let spots = ways.iter().map(|way| Spot::here(way.url()));
    let spots: Vec<(Spot, &str)> = spots.zip(["front", "worker", "worker"]).collect();
    let nodes = Nodes::on(&spots, LEASE_S, &counter.egress());
    let (tenant, waiting) = (nodes.at(0).tenant(), nodes.at(0).tenant());
    for tenant in [&tenant, &waiting] {
        Counter::put_action(tenant, "a", json!({}));
        nodes.await_action(tenant, "a");
    }
    let (load, params) = (Load::default(), counter.params("a", 20));
    load.call(&tenant, "a", &params);
    load.settle(&tenant);
    let stages = [
        (Slow::By(50), 4),
        (Slow::By(500), 8),
        (Slow::By(1500), LEASE_S + 4),
        (Slow::Still, LEASE_S + 4),
    ];
    for (slow, seconds) in stages {
        // Something that goes on when it becomes slow.
        for _ in 0..2 {
            load.call(&tenant, "a", &counter.params("long", 2500));
        }
        match slow {
            Slow::By(ms) => ways
                .iter()
                .for_each(|way| way.slow(Duration::from_millis(ms))),
            Slow::Still => redis.signal(Signal::STOP),
        }
        let lasts = Duration::from_secs(seconds);
        let told = under_load(lasts, (&load, &tenant), &waiting, &params);
        match slow {
            Slow::By(_) => ways.iter().for_each(|way| way.slow(Duration::ZERO)),
            Slow::Still => redis.signal(Signal::CONT),
        }
        let fast = Instant::now();
        eventually("calls are accepted", || {
            (load.call(&tenant, "a", &params) == Some(202)).then_some(())
        });
        let accepted = fast.elapsed();
        eventually("calls are answered", || {
            (waiting.invoke("a", &params).status == 200).then_some(())
        });
        println!(
            "{slow:?} for {lasts:?}: {told:?}; when it was fast again calls were accepted after {accepted:?}, answered after {:?}",
            fast.elapsed()
        );
        for ((kind, status), (_, longest)) in &told {
            assert!(matches!(status, 200 | 202 | 503), "{told:?}");
            // Who waits for an outcome that comes is told it, however late.
            assert!(*status == 200 || *longest < ANSWER_MAX, "{kind}: {told:?}");
            let is_bearable = matches!(slow, Slow::By(50));
            assert!(!is_bearable || *status != 503, "{told:?}");
        }
    }
    let found = load.settle(&tenant);
    println!(
        "a slow Redis: accepted {}, recorded {}, redelivered {}, duplicated runs {}, longest gap in service {:?}, refused {:?}",
        found.accepted,
        found.recorded,
        found.redelivered,
        counter.duplicates(),
        found.gap,
        load.refused
    );
    assert_eq!(counter.overlaps(), []);
    for index in 0..nodes.count() {
        let node = nodes.at(index);
        assert!(node.ended().is_none(), "{}", node.log());
    }
}

#[test]
fn a_node_for_which_redis_is_slower_than_its_lease_ends_what_others_take_over() {
    const LEASE_S: u64 = 2;
    let (redis, counter) = (Redis::start(), Counter::start());
    let way = Proxy::start(redis.port);
    let here = Spot::here(redis.url());
    let spots = [
        (here.clone(), "front"),
        (here, "worker"),
        (Spot::here(way.url()), "worker"),
    ];
    let more = format!("{}[worker]\nruns_per_core = 2\n", counter.egress());
    let nodes = Nodes::on(&spots, LEASE_S, &more);
    let tenant = nodes.at(0).tenant();
    Counter::put_action(&tenant, "a", json!({}));
    nodes.await_action(&tenant, "a");
    let (load, params) = (Load::default(), counter.params("a", 6000));
    // As many as both have room for: what is taken over must not wait behind others.
    let mut calls = 0..10;
    eventually("both of them run it", || {
        if calls.next().is_some() {
            load.call(&tenant, "a", &params);
        }
        (1..=2)
            .all(|index| nodes.at(index).runs_at_least(1))
            .then_some(())
    });
    // What it says arrives, and is too late.
    way.slow(Duration::from_millis(1500));
    let slowed = Instant::now();
    eventually("what it had runs elsewhere", || {
        let by_id = counter.by_id();
        by_id.values().any(|runs| runs.len() > 1).then_some(())
    });
    let again = slowed.elapsed();
    way.slow(Duration::ZERO);
    eventually("it runs again", || {
        load.call(&tenant, "a", &counter.params("b", 500));
        nodes.at(2).runs_at_least(1).then_some(())
    });
    let found = load.settle(&tenant);
    let runs = counter.runs();
    let broken = runs.iter().filter(|run| run.broke);
    let broken: Vec<Duration> = broken
        .map(|run| {
            run.ended
                .unwrap_or(slowed)
                .saturating_duration_since(slowed)
        })
        .collect();
    println!(
        "Redis slower than a node's lease: {found:?}, its runs ended {broken:?} after that, ran elsewhere after {again:?}, duplicated \
         runs {}, overlaps {:?}",
        counter.duplicates(),
        counter.overlaps()
    );
    assert!(!broken.is_empty(), "nothing ran there");
    assert_eq!(counter.overlaps(), []);
}
