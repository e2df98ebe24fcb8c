//! A node that has no room hears of work all the same, because what the others know of it is old.

use serde_json::json;

use crate::harness::{Counter, ECHO, Nodes, Redis, annotation, eventually};

/// Longest that work may wait for a node with room, milliseconds: less than the lease (2 s), after which anybody takes what
/// nobody answers for. The patience of the others and their looks at the due list come to some 50 ms; the rest is left to a
/// machine that is busy with other tests.
const WAIT_MAX_MS: u64 = 1_500;

#[test]
fn work_that_a_full_node_is_told_of_begins_on_another_within_its_patience() {
    const RUNS_MAX: usize = 4;
    const ACTIONS: usize = 20;
    let (redis, counter) = (Redis::start(), Counter::start());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let per_core = RUNS_MAX.div_ceil(cores);
    let runs_max = per_core * cores;
    let more = format!("{}[worker]\nruns_per_core = {per_core}\n", counter.egress());
    let nodes = Nodes::start(&redis.url(), &["front", "worker", "worker"], 2, &more);
    // No namespace has all of a node.
    let tenants = [nodes.at(0).tenant(), nodes.at(0).tenant()];
    for tenant in &tenants {
        Counter::put_action(tenant, "long", json!({}));
        nodes.await_action(tenant, "long");
    }
    let other = nodes.at(0).tenant();
    let names: Vec<String> = (0..ACTIONS).map(|index| format!("b{index}")).collect();
    for name in &names {
        other.put_action(name, ECHO);
    }
    // Until one of them is full, and the other is not.
    let params = counter.params("long", 50_000);
    let mut running = 0;
    let full = eventually("one is full", || {
        let full = (1..=2).find(|index| nodes.at(*index).runs_at_least(runs_max));
        if full.is_none() && counter.now("long") == running {
            tenants[running % 2]
                .post("actions/long", &params)
                .expect(202);
            running += 1;
        }
        full
    });
    let free = 3 - full;
    assert!(!nodes.at(free).runs_at_least(runs_max), "both are full");
    let mut waits: Vec<u64> = names
        .iter()
        .map(|name| {
            let record = other.invoke(name, &json!({ "x": 1 })).expect(200).json();
            let wait = annotation(&record, "waitTime").and_then(serde_json::Value::as_u64);
            wait.expect("a wait")
        })
        .collect();
    waits.sort_unstable();
    println!(
        "{ACTIONS} actions while one of two workers was full: waits of {} ms in the middle, {} ms at most",
        waits[ACTIONS / 2],
        waits[ACTIONS - 1]
    );
    assert!(
        nodes.at(full).runs_at_least(runs_max),
        "it had room meanwhile"
    );
    assert!(waits[ACTIONS - 1] <= WAIT_MAX_MS, "{waits:?}");
}
