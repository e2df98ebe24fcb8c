//! Limits hold for all nodes together, as counted from inside the guests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::load::Load;
use crate::harness::{Counter, Nodes, Redis, eventually};

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
