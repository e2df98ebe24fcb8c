//! kill -9 of nodes with work: what was accepted is recorded once, whoever dies.

use std::sync::RwLock;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::load::Load;
use crate::harness::{Counter, Nodes, Redis, Tenant, eventually, pause};

/// Seconds that nodes are told to hold what they hold without being heard of.
const LEASE_S: u64 = 2;

/// What an unoptimised build on a busy machine may take longer than the lease and a second.
const SLACK: Duration = Duration::from_secs(6);

/// The longest that nobody may serve while one of two fronts lives.
const GAP_MAX: Duration = Duration::from_secs(20);

fn set_up(roles: &[&str]) -> (Redis, Counter, Nodes, Tenant) {
    let (redis, counter) = (Redis::start(), Counter::start());
    let nodes = Nodes::start(&redis.url(), roles, LEASE_S, &counter.egress());
    let tenant = nodes.at(0).tenant();
    Counter::put_action(&tenant, "a", json!({}));
    nodes.await_action(&tenant, "a");
    (redis, counter, nodes, tenant)
}

#[test]
fn the_work_of_a_killed_worker_runs_elsewhere_as_soon_as_its_lease_ends() {
    let (_redis, counter, mut nodes, tenant) = set_up(&["front", "worker", "worker"]);
    let (load, params) = (Load::default(), counter.params("a", 400));
    // Whoever is told of the first has compiled it, and is told of those that follow.
    load.call(&tenant, "a", &params);
    load.settle(&tenant);
    let killed = std::thread::scope(|scope| {
        let _running = load.running();
        for _ in 0..2 {
            scope.spawn(|| {
                load.go_on("a", &params, Duration::from_millis(20), || tenant.clone());
            });
        }
        let before = load.ids().len();
        load.await_accepted(before + 40);
        // Some of what runs on it must have begun in its guest: more is counted than the other one can have.
        let running = || {
            let begun = |index: &usize| counter.now("a") > nodes.at(3 - index).runs() + 2;
            (1..=2).find(begun)
        };
        let busy = eventually("one of them is busy when it is killed", running);
        nodes.kill(busy);
        let killed = Instant::now();
        load.await_accepted(before + 80);
        killed
    });
    let found = load.settle(&tenant);
    let by_id = counter.by_id();
    // Those that broke, and those that had ended and whose records died with the node.
    let mut longest = Duration::ZERO;
    let mut again = 0;
    for runs in by_id.values().filter(|runs| runs.len() > 1) {
        let last = runs.last().expect("several");
        longest = longest.max(last.began.saturating_duration_since(killed));
        again += 1;
    }
    println!(
        "kill -9 of a worker: {found:?}, run again {again}, to the end both times {}, run again within {longest:?} (lease {LEASE_S} s)",
        counter.duplicates()
    );
    assert!(again > 0, "nothing ran on it");
    assert!(
        longest <= Duration::from_secs(LEASE_S + 1) + SLACK,
        "{longest:?}"
    );
    assert_eq!(counter.overlaps(), []);
}

#[test]
fn what_a_front_accepted_is_recorded_though_it_is_killed_at_once() {
    let (_redis, counter, mut nodes, tenant) = set_up(&["front", "worker"]);
    let (load, params) = (Load::default(), counter.params("a", 50));
    std::thread::scope(|scope| {
        let _running = load.running();
        for _ in 0..4 {
            scope.spawn(|| {
                load.go_on("a", &params, Duration::ZERO, || tenant.clone());
            });
        }
        load.await_accepted(60);
        nodes.kill(0);
    });
    let found = load.settle(&nodes.tenant_at(1, &tenant));
    println!(
        "kill -9 of a front: {found:?}, not answered {:?}, duplicated runs {}",
        load.unanswered,
        counter.duplicates()
    );
    assert_eq!(counter.duplicates(), 0, "no worker died");
}

/// How long nodes are killed at random: 20 s unless `WISP_FAULTS_SECONDS` says otherwise.
fn chaos() -> Duration {
    let said = crate::harness::said("WISP_FAULTS_SECONDS");
    let seconds = said.and_then(|text| text.parse().ok()).unwrap_or(20);
    Duration::from_secs(seconds)
}

#[test]
fn nodes_killed_at_random_under_load_lose_nothing() {
    let (_redis, counter, mut nodes, tenant) = set_up(&["front", "front", "worker", "worker"]);
    let (load, params) = (Load::default(), counter.params("a", 100));
    let fronts = RwLock::new([nodes.at(0).client(), nodes.at(1).client()]);
    let kills = std::thread::scope(|scope| {
        let _running = load.running();
        for thread in 0..4 {
            let (fronts, load, params, tenant) = (&fronts, &load, &params, &tenant);
            scope.spawn(move || {
                let turn = std::cell::Cell::new(thread);
                load.go_on("a", params, Duration::from_millis(20), || {
                    // The other one, should this one be dead.
                    turn.set(turn.get() + 1);
                    let client = fronts.read().expect("not poisoned")[turn.get() % 2];
                    Tenant::new(client, &tenant.namespace, &tenant.key)
                });
            });
        }
        let deadline = Instant::now() + chaos();
        let mut kills = [0; 4];
        while Instant::now() < deadline {
            let index = usize::from(fastrand::u8(..4));
            nodes.kill(index);
            kills[index] += 1;
            pause(Duration::from_millis(fastrand::u64(..1000)));
            nodes.start_again(index);
            if index < 2 {
                fronts.write().expect("not poisoned")[index] = nodes.at(index).client();
            }
            pause(Duration::from_millis(fastrand::u64(..1000)));
        }
        kills
    });
    let found = load.settle_after_many_kills(&nodes.tenant_at(0, &tenant));
    println!(
        "{:?} of kill -9 at random ({kills:?} of fronts and workers): accepted {}, recorded {}, redelivered {}, given up {}, duplicated runs {}, \
         longest gap in service {:?}; not answered {:?}, refused {:?}",
        chaos(),
        found.accepted,
        found.recorded,
        found.redelivered,
        found.given_up,
        counter.duplicates(),
        found.gap,
        load.unanswered,
        load.refused
    );
    assert!(found.gap < GAP_MAX, "somebody serves all the time");
    assert!(
        found.given_up * 50 <= found.accepted,
        "few runs are that unlucky"
    );
    assert_eq!(counter.overlaps(), []);
}
