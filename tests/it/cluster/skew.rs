//! Redis's clock, by which everybody goes, is another all of a sudden: somebody set it, or a server with another clock took over.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::load::Load;
use crate::alarms::{clocked, fires};
use crate::harness::{Counter, Nodes, Redis, Run, Tenant, eventually, pause};

/// Long enough that a fail-over ends within it.
const LEASE_S: u64 = 6;

/// Three nodes, each of which runs something that goes on until it is let go.
struct Set {
    counter: Counter,
    nodes: Nodes,
    tenant: Tenant,
    load: Load,
    fires: usize,
}

fn set_up(url: &str) -> Set {
    let counter = Counter::start();
    let more = format!("[system]\npackages = true\n{}", counter.egress());
    let nodes = Nodes::start(url, &["all", "all", "worker"], LEASE_S, &more);
    let (tenant, load) = (nodes.at(0).tenant(), Load::default());
    // Each action is at home with one of them, which has room for more.
    let mut names = (0..).map(|index| format!("long{index}"));
    eventually("all of them run something long", || {
        for name in names.by_ref().take(4) {
            Counter::put_action(&tenant, &name, json!({ "limits": { "timeout": 300_000 } }));
            load.call(&tenant, &name, &counter.held_params("long"));
        }
        eventually("they run", || {
            (counter.now("long") == load.ids().len()).then_some(())
        });
        (0..3)
            .all(|index| nodes.at(index).runs_at_least(1))
            .then_some(())
    });
    Counter::put_action(&tenant, "counted", json!({}));
    Counter::put_action(&tenant, "limited", json!({ "limits": { "instances": 2 } }));
    clocked(&tenant, "* * * * * *");
    eventually("the clock fires", || {
        (fires(&tenant).len() >= 2).then_some(())
    });
    for _ in 0..4 {
        load.call(&tenant, "limited", &counter.params("limited", 3000));
    }
    let fires = fires(&tenant).len();
    Set {
        counter,
        nodes,
        tenant,
        load,
        fires,
    }
}

/// The clock changes when `change` is called, which answers how far it went; at that moment a node dies.
fn story(name: &str, mut set: Set, change: impl FnOnce() -> i64) {
    let began = Instant::now();
    set.nodes.kill(2);
    let moved_ms = change();
    let Set {
        counter,
        nodes,
        tenant,
        load,
        ..
    } = &set;
    eventually("calls are accepted", || {
        (load.call(tenant, "counted", &counter.params("a", 20)) == Some(202)).then_some(())
    });
    eventually("calls are answered", || {
        (tenant.invoke("counted", &counter.params("b", 20)).status == 200).then_some(())
    });
    let back = began.elapsed();
    for _ in 0..20 {
        load.call(tenant, "counted", &counter.params("a", 20));
        pause(Duration::from_millis(50));
    }
    let lease = Duration::from_secs(LEASE_S);
    let all_again = || {
        let by_id = counter.by_id();
        let mut broken = by_id.values().filter(|runs| runs[0].broke).peekable();
        broken.peek().is_some() && broken.all(|runs| runs.len() > 1)
    };
    while !all_again() {
        let waits = began.elapsed();
        assert!(
            waits < lease * 3,
            "what the dead node ran waits for {waits:?}: {:#?}",
            counter.by_id()
        );
        pause(Duration::from_millis(10));
    }
    let again = began.elapsed();
    // What the living run goes on for longer than the lease it had when the clock changed, and the next.
    while began.elapsed() < lease * 2 {
        pause(Duration::from_millis(10));
    }
    counter.let_go();
    // Records of both calls that were waited for, and of fires, are nobody's of the load.
    for id in load.ids() {
        let record = settled(tenant, &id);
        assert_eq!(record["response"]["status"], "success", "{record}");
    }
    let runs = counter.by_id();
    let taken: Vec<_> = runs.values().filter(|runs| is_taken(runs, began)).collect();
    let fired = after_the_change(&set, moved_ms);
    println!(
        "{name}: the clock went {moved_ms} ms, service was back after {back:?}, the work of a node that died with it ran elsewhere \
         after {again:?} (lease {LEASE_S} s); accepted {}, taken from the living {}, fires {} and then {fired}, \
         at most {} of 2 ran",
        load.ids().len(),
        taken.len(),
        set.fires,
        counter.most("limited")
    );
    assert!(taken.is_empty(), "{taken:#?}, the node died at {began:?}");
    assert_eq!(counter.overlaps(), []);
    assert!(counter.most("limited") <= 2, "its limit was passed");
    for index in 0..2 {
        assert!(!nodes.at(index).log().contains("the lease was lost"));
    }
}

/// Whether an activation ran again though its first run had not ended with the node that died, or before it: then its record
/// may have died with the node.
fn is_taken(runs: &[Run], died: Instant) -> bool {
    let goes_on = |run: &&Run| !run.broke && run.ended.is_none_or(|ended| ended > died);
    runs.iter().filter(goes_on).count() > 1 || (runs.len() > 1 && goes_on(&&runs[0]))
}

/// The record of an activation, in the time that long runs take.
fn settled(tenant: &Tenant, id: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let reply = tenant.get(&format!("activations/{id}"));
        if reply.status == 200 {
            return reply.json();
        }
        assert!(Instant::now() < deadline, "{id}: {}", reply.shown());
        pause(Duration::from_millis(50));
    }
}

/// Each second fires once; what was skipped does not come all at once, and what was fired does not come again.
fn after_the_change(set: &Set, moved_ms: i64) -> usize {
    let (tenant, began) = (&set.tenant, Instant::now());
    if moved_ms > 0 {
        let before = fires(tenant).len();
        eventually("the clock fires again", || {
            (fires(tenant).len() >= before + 3).then_some(())
        });
    }
    // A schedule that is new is of the new time.
    let other = set.nodes.at(0).tenant();
    clocked(&other, "* * * * * *");
    eventually("a new schedule fires", || {
        (fires(&other).len() >= 2).then_some(())
    });
    let all = fires(tenant);
    let due = |fire: &Value| {
        let id = fire["activationId"].as_str().expect("an id");
        u64::from_str_radix(id.split_at(12).0, 16).expect("hexadecimal") / 1000
    };
    let unique: HashSet<u64> = all.iter().map(due).collect();
    assert_eq!(unique.len(), all.len(), "a second fired twice");
    let most = set.fires + usize::try_from(began.elapsed().as_secs() + 90).expect("small");
    assert!(all.len() <= most, "{} fires at once", all.len());
    all.len()
}

#[test]
fn redis_whose_clock_is_set_an_hour_ahead_and_back_ends_no_lease_of_the_living() {
    let redis = Redis::at_another_time(0, &[]);
    for (name, ahead_s) in [("set ahead", 3600), ("set back", -1800)] {
        let set = set_up(&redis.url());
        story(name, set, || {
            let (before, began) = (redis.now_ms(), Instant::now());
            redis.set_clock(ahead_s);
            let passed = i64::try_from(began.elapsed().as_millis()).expect("small");
            i64::try_from(redis.now_ms()).expect("a time")
                - i64::try_from(before).expect("a time")
                - passed
        });
    }
}

/// A master, and a replica with another clock that takes over.
fn fail_over(name: &str, ahead_s: i64) {
    let master = Redis::start();
    let of = format!("127.0.0.1 {}", master.port);
    let replica = Redis::at_another_time(ahead_s, &["--replicaof", &of]);
    let sentinel = Redis::sentinel(&master);
    eventually("the replica has all", || {
        let known = sentinel.cli(&["SENTINEL", "replicas", "wisp"]);
        let is_known = known.contains(&replica.port.to_string()) && !known.contains("disconnected");
        let answer = replica.cli(&["INFO", "replication"]);
        (is_known && answer.contains("master_link_status:up")).then_some(())
    });
    let url = format!("redis+sentinel://127.0.0.1:{}/wisp", sentinel.port);
    story(name, set_up(&url), || {
        let acknowledged = master.cli(&["WAIT", "1", "5000"]);
        assert_eq!(acknowledged, "1");
        let apart = i64::try_from(replica.now_ms()).expect("a time")
            - i64::try_from(master.now_ms()).expect("a time");
        master.kill();
        sentinel.fail_over();
        apart
    });
}

#[test]
fn a_fail_over_to_a_replica_an_hour_ahead_ends_no_lease_of_the_living() {
    fail_over("a replica ahead", 3600);
}

#[test]
fn a_fail_over_to_a_replica_an_hour_behind_keeps_no_lease_of_the_dead() {
    fail_over("a replica behind", -3600);
}
