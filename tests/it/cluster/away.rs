//! Redis itself dies and comes back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::load::Load;
use crate::harness::{Counter, ECHO, Nodes, Proxy, Redis, eventually, pause};

const LEASE_S: u64 = 3;

#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
#[test]
fn redis_killed_and_started_again_loses_nothing_and_warm_calls_go_on_within_the_lease() {
    let (redis, counter) = (Redis::start(), Counter::start());
    let nodes = Nodes::start(&redis.url(), &["all", "worker"], LEASE_S, &counter.egress());
    let tenant = nodes.at(0).tenant();
    Counter::put_action(&tenant, "a", json!({}));
    tenant.put_action("warm", ECHO);
    nodes.await_action(&tenant, "a");
    let (load, params) = (Load::default(), counter.params("a", 100));
    let slow = counter.params("a", 4000);
    for round in 0..2 {
        load.call(&tenant, "a", &slow);
        for _ in 0..5 {
            tenant.result("warm", &json!({ "x": 1 })).expect(200);
        }
        let (killed, served) = std::thread::scope(|scope| {
            let _running = load.running();
            scope.spawn(|| {
                load.go_on("a", &params, Duration::from_millis(5), || tenant.clone());
            });
            let before = load.ids().len();
            load.await_accepted(before + 20);
            redis.kill();
            let killed = Instant::now();
            let warm = tenant.result("warm", &json!({ "x": 1 }));
            println!(
                "round {round}: a warm call {:?} after Redis died: {}",
                killed.elapsed(),
                warm.status
            );
            warm.expect(200);
            let refused = eventually("what needs Redis is refused", || {
                let request = tenant.request("POST", "actions/a").json(&params);
                let reply = tenant.client.try_send(&request).ok()?;
                (reply.status == 503).then_some(reply)
            });
            assert!(
                refused.header("retry-after").is_some(),
                "{}",
                refused.shown()
            );
            let mut served = killed.elapsed();
            if round == 1 {
                // Longer than the lease: then it may not act any more.
                eventually("its lease ends", || {
                    let reply = tenant.result("warm", &json!({ "x": 1 }));
                    match reply.status {
                        200 => served = killed.elapsed(),
                        503 => return Some(()),
                        _ => panic!("{}", reply.shown()),
                    }
                    None
                });
            }
            redis.start_again();
            (killed, served)
        });
        let back = Instant::now();
        eventually("service is back", || {
            (load.call(&tenant, "a", &params) == Some(202)).then_some(())
        });
        eventually("warm calls are answered", || {
            (tenant.result("warm", &json!({ "x": 1 })).status == 200).then_some(())
        });
        println!(
            "round {round}: Redis was away for {:?}, warm calls went on for {served:?}, service was back {:?} after it",
            back - killed,
            back.elapsed()
        );
    }
    // The calls that waited are recorded in the same namespace.
    let ids = load.ids();
    for id in &ids {
        let record = tenant.awaited(id);
        assert_eq!(record["response"]["status"], "success", "{record}");
    }
    println!(
        "Redis killed twice: accepted {}, duplicated runs {}, overlaps {:?}",
        ids.len(),
        counter.duplicates(),
        counter.overlaps()
    );
    assert_eq!(counter.overlaps(), []);
}

/// Who does not hear what was read for him does not know that he has it, and everybody else believes that he does.
#[test]
fn what_was_read_for_a_node_that_did_not_hear_of_it_runs_all_the_same() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port);
    let nodes = Nodes::start(&proxy.url(), &["all"], LEASE_S, "");
    let tenant = nodes.at(0).tenant();
    tenant.put_action("a", ECHO);
    let load = Load::default();
    std::thread::scope(|scope| {
        let _running = load.running();
        for _ in 0..4 {
            scope.spawn(|| load.go_on("a", &json!({}), Duration::ZERO, || tenant.clone()));
        }
        for _ in 0..20 {
            proxy.lose_an_answer();
            pause(Duration::from_millis(300));
        }
    });
    eventually("service is back", || {
        (load.call(&tenant, "a", &json!({})) == Some(202)).then_some(())
    });
    let found = load.settle(&tenant);
    // What was refused because the answer was lost runs as well, and nothing stays behind.
    let stream = format!("faults:q:{{{0}|{0}/a}}:s", tenant.namespace);
    eventually("the stream is empty", || {
        (redis.cli(&["XLEN", &stream]) == "0").then_some(())
    });
    println!(
        "answers of Redis were lost: {found:?}, refused {:?}",
        load.refused
    );
    assert!(load.refused.load(Ordering::Relaxed) > 0, "none was");
}
