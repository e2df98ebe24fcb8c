//! Work that is to run at most once, and whose node died with it.

use serde_json::json;

use crate::harness::{Counter, Nodes, Redis, annotation, eventually, pause};

#[test]
fn what_runs_at_most_once_runs_when_its_first_node_died_before_it_began_and_not_when_after() {
    let (redis, counter) = (Redis::start(), Counter::start());
    let mut nodes = Nodes::start(&redis.url(), &["front", "worker"], 1, &counter.egress());
    let tenant = nodes.at(0).tenant();
    let once = json!([{ "key": "at-most-once", "value": true }]);
    Counter::put_action(&tenant, "a", json!({ "annotations": once }));
    nodes.await_action(&tenant, "a");
    let params = counter.params("a", 1);
    let first = tenant.fire("a", &params);
    tenant.awaited(&first);
    nodes.kill(1);
    let ids = ["unbegun", "begun"].map(|_| tenant.fire("a", &params));
    // As a worker leaves it that read all of it, noted that it begins the second, and died there.
    let name = &tenant.namespace;
    let lane = format!("faults:q:{{{name}|{name}/a}}");
    let (stream, holders) = (format!("{lane}:s"), format!("{lane}:h"));
    let group = ["XREADGROUP", "GROUP", "w", "gone.0", "COUNT", "9"];
    let read = redis.cli(&[&group[..], &["STREAMS", &stream, ">"]].concat());
    for id in &ids {
        assert!(read.contains(id.as_str()), "{read}");
    }
    redis.cli(&["HSET", &holders, "#e", "0", "#w", "0", "gone.0", "0:1"]);
    redis.cli(&["HSET", &format!("{lane}:b"), &ids[1], "1"]);
    nodes.start_again(1);
    let [unbegun, begun] = ids.map(|id| tenant.awaited(&id));
    println!("{unbegun}\n{begun}");
    assert_eq!(unbegun["response"]["status"], "success", "{unbegun}");
    assert_ne!(begun["response"]["status"], "success", "{begun}");
    assert!(annotation(&begun, "redelivered").is_some(), "{begun}");
    let runs = counter.by_id();
    assert_eq!(
        runs.get(unbegun["activationId"].as_str().unwrap())
            .map(Vec::len),
        Some(1)
    );
    assert!(!runs.contains_key(begun["activationId"].as_str().unwrap()));
    eventually("the lane is cleared away", || {
        pause(std::time::Duration::from_millis(50));
        (redis.cli(&["XLEN", &stream]) == "0").then_some(())
    });
}
