//! Nodes that do not hear of Redis for longer than their lease: cut off, or stopped. What they held runs elsewhere, and not
//! there any more.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use super::load::Load;
use crate::harness::{Counter, Nodes, Redis, Spot, Tenant, Way, eventually};

const LEASE_S: u64 = 2;

/// Guests reach the counter, and a node runs so few that one is not enough.
fn few_runs(counter: &Counter) -> String {
    format!("{}[worker]\nruns_per_core = 2\n", counter.egress())
}

/// Calls until all of these nodes run something.
#[track_caller]
fn await_busy(nodes: &Nodes, indices: &[usize], mut call: impl FnMut()) {
    eventually("all of them run it", || {
        call();
        let mut all = indices.iter();
        let busy = all.all(|index| nodes.at(*index).runs_at_least(1));
        busy.then_some(())
    });
}

/// Waits until so many activations have begun a second time.
#[track_caller]
fn await_taken_over(counter: &Counter, count: usize) {
    eventually("what was held is run elsewhere", || {
        let by_id = counter.by_id();
        let again = by_id.values().filter(|runs| runs.len() > 1).count();
        (again >= count).then_some(())
    });
}

#[test]
fn a_node_whose_network_loses_everything_ends_what_others_take_over_and_serves_again_after() {
    cut_off(Way::through_a_network());
}

#[test]
fn a_node_behind_a_proxy_that_stalls_ends_what_others_take_over_and_serves_again_after() {
    cut_off(Way::through_a_proxy());
}

/// A guest's and a system's key that nobody else knows: whoever listens to more than loopback has keys of its own.
fn own_keys() -> [String; 2] {
    ["0b0b46b1", "0c0c46b1"].map(|begin| {
        let secret = "own0".repeat(16);
        format!("{begin}-71f6-4ed5-8c54-816aa4f8c502:{secret}")
    })
}

fn cut_off((way, redis, counter): (Way, Redis, Counter)) {
    let here = Spot::here(redis.url());
    let spots = [
        (here.clone(), "front"),
        (here, "worker"),
        (way.spot(&redis), "all"),
    ];
    let [guest, system] = own_keys();
    let more = format!(
        "[auth]\nguest_key = {guest:?}\nsystem_key = {system:?}\n{}",
        few_runs(&counter)
    );
    let nodes = Nodes::on(&spots, LEASE_S, &more);
    let tenant = Tenant::make_by(&system, nodes.at(0).client(), &Tenant::fresh_name());
    Counter::put_action(&tenant, "a", json!({}));
    nodes.await_action(&tenant, "a");
    let (load, cut_off) = (Load::default(), nodes.tenant_at(2, &tenant));
    // Runs that outlast the lease.
    let params = counter.params("a", 3500);
    await_busy(&nodes, &[1, 2], || {
        load.call(&tenant, "a", &params);
        load.call(&cut_off, "a", &params);
    });
    // Its own calls are under way to Redis when it is cut off, and arrive there whenever the way is free again.
    let (blocked, seen) = std::thread::scope(|scope| {
        let _running = load.running();
        scope.spawn(|| {
            load.go_on(
                "a",
                &counter.params("a", 50),
                Duration::from_millis(5),
                || cut_off.clone(),
            );
        });
        load.await_accepted(40);
        way.cut();
        let blocked = Instant::now();
        await_taken_over(&counter, 1);
        // Whoever asks there meanwhile is told to come back.
        let refused = eventually("it says that it cannot", || {
            let request = cut_off.request("POST", "actions/a").json(&params);
            let reply = cut_off.client.try_send(&request).ok()?;
            (reply.status == 503).then_some(reply)
        });
        assert!(
            refused.header("retry-after").is_some(),
            "{}",
            refused.shown()
        );
        let seen = counter.runs().len();
        way.heal();
        (blocked, seen)
    });
    eventually("it runs again", || {
        load.call(&cut_off, "a", &counter.params("b", 500));
        let runs = counter.runs();
        (runs.len() > seen && nodes.at(2).runs_at_least(1)).then_some(())
    });
    let found = load.settle(&tenant);
    let broken: Vec<Duration> = counter
        .runs()
        .iter()
        .filter(|run| run.broke)
        .map(|run| run.ended.unwrap_or(blocked) - blocked)
        .collect();
    println!(
        "cut off from Redis: {found:?}, runs ended {broken:?} after the cut, duplicated runs {}, overlaps {:?}",
        counter.duplicates(),
        counter.overlaps()
    );
    assert!(!broken.is_empty(), "nothing ran there");
    assert_eq!(counter.overlaps(), []);
}

#[test]
fn a_node_stopped_for_longer_than_its_lease_leaves_no_second_record() {
    let (redis, counter) = (Redis::start(), Counter::start());
    let roles = ["front", "worker", "worker"];
    let nodes = Nodes::start(&redis.url(), &roles, LEASE_S, &few_runs(&counter));
    let tenant = nodes.at(0).tenant();
    Counter::put_action(&tenant, "a", json!({}));
    nodes.await_action(&tenant, "a");
    let (load, params) = (Load::default(), counter.params("a", 8000));
    // A node has room for three of one namespace: all are where the first is.
    for _ in 0..3 {
        load.call(&tenant, "a", &params);
    }
    let all = || (counter.now("a") == 3).then_some(());
    eventually("all of them run", all);
    let running = || (1..=2).find(|index| nodes.at(*index).runs_at_least(1));
    let stopped = eventually("one of them runs some", running);
    nodes.signal(stopped, Signal::STOP);
    await_taken_over(&counter, 1);
    let (again, before) = (Instant::now(), counter.now("a"));
    nodes.signal(stopped, Signal::CONT);
    // It finds that its lease is over before its guests compute any further: what may still be seen of them is what the
    // kernel and the runtime let run of threads that were in the middle of something.
    eventually("what it ran is ended", || {
        (counter.now("a") < before).then_some(())
    });
    let ended = again.elapsed();
    let found = load.settle(&tenant);
    let longest = counter
        .runs()
        .iter()
        .filter(|run| run.broke)
        .filter_map(|run| Some(run.ended?.saturating_duration_since(again)))
        .max();
    println!(
        "stopped for longer than the lease: {found:?}, its runs ended {ended:?} (the last {longest:?}) after it went on, duplicated runs {}",
        counter.duplicates()
    );
    // What was brief and stood still is answered by the counter meanwhile, and so is counted as a run; its record is not.
    assert!(ended < Duration::from_secs(2), "{ended:?}");
    eventually("it runs again", || {
        load.call(&tenant, "a", &counter.params("b", 500));
        nodes.at(stopped).runs_at_least(1).then_some(())
    });
    load.settle(&tenant);
}

#[test]
fn a_node_that_leaves_hands_back_at_once_what_it_has_not_begun() {
    // A lease that nobody could wait for here.
    let (redis, counter) = (Redis::start(), Counter::start());
    let mut nodes = Nodes::start(
        &redis.url(),
        &["front", "worker", "worker"],
        60,
        &few_runs(&counter),
    );
    let tenant = nodes.at(0).tenant();
    Counter::put_action(&tenant, "a", json!({}));
    nodes.await_action(&tenant, "a");
    let (load, params) = (Load::default(), counter.params("a", 300));
    await_busy(&nodes, &[1, 2], || {
        load.call(&tenant, "a", &params);
    });
    for _ in 0..60 {
        load.call(&tenant, "a", &params);
    }
    eventually("it is busy", || nodes.at(1).runs_at_least(1).then_some(()));
    let asked = Instant::now();
    nodes.signal(1, Signal::TERM);
    let status = nodes.at(1).wait();
    let left = asked.elapsed();
    let found = load.settle(&tenant);
    println!(
        "SIGTERM under load: {found:?}, it left after {left:?}, all was recorded after {:?}, duplicated runs {}",
        asked.elapsed(),
        counter.duplicates()
    );
    assert_eq!(status.code(), Some(0), "{}", nodes.at(1).log());
    let log = nodes.at(1).log();
    assert!(log.contains("waiting for"), "it runs something: {log}");
    assert!(!log.contains("was not told of everything"), "{log}");
    assert!(
        asked.elapsed() < Duration::from_secs(30),
        "as if it had died"
    );
    assert_eq!((found.redelivered, counter.duplicates()), (0, 0));
    assert!(
        counter.runs().iter().all(|run| !run.broke),
        "what ran was ended"
    );
    nodes.start_again(1);
    eventually("it is back", || {
        load.call(&tenant, "a", &params);
        nodes.at(1).runs_at_least(1).then_some(())
    });
}
