//! Limits hold for all nodes together, as counted from inside the guests.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::load::Load;
use crate::harness::{Counter, Nodes, Redis, Tenant, eventually, pause};

#[test]
fn an_actions_limit_holds_over_all_nodes_for_calls_that_wait_and_calls_that_do_not() {
    let (redis, counter) = (Redis::start(), Counter::start());
    let nodes = Nodes::start(&redis.url(), &["all"; 3], 3, &counter.egress());
    let tenant = nodes.at(0).tenant();
    Counter::put_action(&tenant, "a", json!({ "limits": { "instances": 3 } }));
    nodes.await_action(&tenant, "a");
    let (load, params) = (Load::default(), counter.params("a", 150));
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for index in 0..nodes.count() {
            let at = nodes.tenant_at(index, &tenant);
            let (load, params, answered) = (&load, &params, &answered);
            let waits = at.clone();
            scope.spawn(move || {
                for _ in 0..15 {
                    load.call(&at, "a", params);
                }
            });
            scope.spawn(move || {
                for _ in 0..10 {
                    waits.result("a", params).expect(200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    for id in load.ids() {
        tenant.awaited(&id);
    }
    let most = counter.most("a");
    println!("a limit of 3 over 3 nodes: at most {most} ran, {answered:?} calls waited");
    assert!(most <= 3, "{most} at one time");
    assert!(most > 1, "they ran one by one");
    assert_eq!(counter.duplicates(), 0);
    assert_eq!(counter.runs().len(), 75);
}

#[test]
fn a_namespaces_limit_of_calls_in_flight_holds_over_all_nodes() {
    let (redis, counter) = (Redis::start(), Counter::start());
    let nodes = Nodes::start(&redis.url(), &["all"; 3], 3, &counter.egress());
    let tenant = nodes.at(0).tenant();
    Counter::put_action(&tenant, "a", json!({}));
    nodes.await_action(&tenant, "a");
    tenant.limits(&json!({ "concurrentInvocations": 5 }));
    let changed = Instant::now();
    for index in 0..nodes.count() {
        let at = nodes.tenant_at(index, &tenant);
        eventually("the node has heard of it", || {
            let told = at.get("limits").expect(200).json();
            (told["concurrentInvocations"] == 5).then_some(())
        });
    }
    let heard = changed.elapsed();
    assert!(heard < Duration::from_secs(1), "{heard:?}");
    let (served, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let params = counter.params("a", 100);
    std::thread::scope(|scope| {
        for thread in 0..12 {
            let at = nodes.tenant_at(thread % nodes.count(), &tenant);
            let (served, refused, params) = (&served, &refused, &params);
            scope.spawn(move || {
                for _ in 0..15 {
                    let reply = at.result("a", params);
                    match reply.status {
                        200 => served.fetch_add(1, Ordering::Relaxed),
                        429 => refused.fetch_add(1, Ordering::Relaxed),
                        _ => panic!("{}", reply.shown()),
                    };
                }
            });
        }
    });
    let most = counter.most("a");
    println!(
        "5 in flight over 3 nodes: at most {most} ran, {served:?} served, {refused:?} refused"
    );
    assert!(most <= 5, "{most} at one time");
    assert!(most > 1, "they ran one by one");
    assert!(refused.into_inner() > 0, "nobody was refused");
}

/// What came of calls that were made as fast as they are answered.
#[derive(Debug, Default)]
struct Flood {
    served: AtomicUsize,
    refused: AtomicUsize,
    is_over: AtomicBool,
}

impl Flood {
    /// Calls `a` at `at` until it is over.
    fn go_on(&self, at: &Tenant, params: &Value) {
        while !self.is_over.load(Ordering::Acquire) {
            let reply = at.result("a", params);
            match reply.status {
                200 => self.served.fetch_add(1, Ordering::Relaxed),
                429 => self.refused.fetch_add(1, Ordering::Relaxed),
                _ => panic!("{}", reply.shown()),
            };
            pause(Duration::from_millis(5));
        }
    }
}

/// Ends a flood when it is dropped: a test that fails must not wait for it.
struct Flooding<'a>(&'a Flood);

impl Drop for Flooding<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}

/// A front that admitted as many calls as its namespace may have in flight is killed while they run elsewhere, with the node
/// they run on or without, and another front is flooded from then on until long after its places would have lapsed.
fn kill_a_front_and_flood_another(kills_the_worker: bool) {
    const LIMIT: usize = 3;
    const LEASE_S: u64 = 1;
    let (redis, counter) = (Redis::start(), Counter::start());
    let roles = ["front", "front", "worker", "worker"];
    let more = format!("{}[worker]\nruns_per_core = 4\n", counter.egress());
    let mut nodes = Nodes::start(&redis.url(), &roles, LEASE_S, &more);
    let (tenant, flooded) = {
        let tenant = nodes.at(0).tenant();
        let flooded = nodes.tenant_at(1, &tenant);
        (tenant, flooded)
    };
    Counter::put_action(&tenant, "a", json!({}));
    nodes.await_action(&tenant, "a");
    tenant.limits(&json!({ "concurrentInvocations": LIMIT }));
    eventually("the other front has heard of the limit", || {
        let told = flooded.get("limits").expect(200).json();
        (told["concurrentInvocations"] == LIMIT).then_some(())
    });
    let (load, flood) = (Load::default(), Flood::default());
    // Longer than anybody keeps the places of the dead.
    let long = counter.params("a", 8000);
    eventually("as many run as may", || {
        load.call(&tenant, "a", &long);
        (counter.now("a") == LIMIT).then_some(())
    });
    let began = Instant::now();
    let brief = counter.params("a", 50);
    let first_served = std::thread::scope(|scope| {
        let _flooding = Flooding(&flood);
        for _ in 0..4 {
            scope.spawn(|| flood.go_on(&flooded, &brief));
        }
        nodes.kill(0);
        if kills_the_worker {
            for index in [2, 3] {
                if nodes.at(index).runs_at_least(1) {
                    nodes.kill(index);
                    nodes.start_again(index);
                }
            }
        }
        eventually("what was accepted is recorded", || {
            let ids = load.ids();
            let mut ids = ids.iter();
            let recorded = |id: &String| flooded.get(&format!("activations/{id}")).status == 200;
            ids.all(recorded).then_some(())
        });
        let before = flood.served.load(Ordering::Relaxed);
        eventually("the flood is served", || {
            (flood.served.load(Ordering::Relaxed) > before + 20).then_some(())
        });
        began.elapsed()
    });
    let most = counter.most("a");
    println!(
        "a front died with {} of {LIMIT} places (its work {}): at most {most} ran at one time; {flood:?}, served freely after {first_served:?}",
        load.ids().len(),
        if kills_the_worker {
            "taken over"
        } else {
            "going on"
        },
    );
    assert!(most <= LIMIT, "{most} at one time");
    assert!(
        flood.refused.load(Ordering::Relaxed) > 0,
        "nobody was refused"
    );
}

#[test]
fn the_places_of_a_killed_front_stay_taken_while_its_work_runs_elsewhere() {
    kill_a_front_and_flood_another(false);
}

#[test]
fn the_work_of_a_killed_front_and_worker_waits_for_its_places() {
    kill_a_front_and_flood_another(true);
}
