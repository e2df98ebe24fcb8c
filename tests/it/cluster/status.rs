//! What operators are shown of a cluster, and answers that were not heard.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Counter, Nodes, Redis, Request, SYSTEM_KEY, eventually, id_of, pause};

fn status(nodes: &Nodes, index: usize) -> Value {
    let request = Request::new("GET", "/admin/v1/cluster").key(SYSTEM_KEY);
    nodes.at(index).client().send(&request).expect(200).json()
}

fn metric(nodes: &Nodes, index: usize, series: &str) -> f64 {
    let request = Request::new("GET", "/metrics");
    let text = nodes.at(index).client().send(&request).expect(200).text();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let value = line.unwrap_or_else(|| panic!("no {series} in\n{text}"));
    value.trim().parse().expect("a number")
}

#[test]
fn a_cluster_shows_its_nodes_and_what_waits_when_nobody_runs_it() {
    let (redis, counter) = (Redis::start(), Counter::start());
    let mut nodes = Nodes::start(&redis.url(), &["front", "worker"], 2, &counter.egress());
    let tenant = nodes.at(0).tenant();
    Counter::put_action(&tenant, "a", json!({}));
    tenant.invoke("a", &counter.params("a", 1)).expect(200);
    let told = eventually("both nodes are there", || {
        let told = status(&nodes, 0);
        (told["nodes"].as_array().map(Vec::len) == Some(2)).then_some(told)
    });
    let roles: Vec<_> = told["nodes"].as_array().expect("nodes").iter().collect();
    assert!(
        roles
            .iter()
            .any(|node| node["role"] == "front" && node["this"] == true)
    );
    assert!(
        roles
            .iter()
            .any(|node| node["role"] == "worker" && node["this"] == false)
    );
    assert_eq!(told["dead"], json!([]));
    assert!(metric(&nodes, 0, "wisp_cluster_calls_total{way=\"pushed\"}") >= 1.0);
    assert!(metric(&nodes, 1, "wisp_cluster_entries_total{event=\"pulled\"}") >= 1.0);
    eventually("the node has looked who lives", || {
        (metric(&nodes, 0, "wisp_cluster_nodes{state=\"alive\"}") >= 2.0).then_some(())
    });
    nodes.kill(1);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let params = counter.params("a", 1);
        ids.push(id_of(&tenant.post("actions/a", &params).expect(202)));
    }
    let told = eventually("what waits is shown, and who is left", || {
        let told = status(&nodes, 0);
        let alone = told["nodes"].as_array().map(Vec::len) == Some(1);
        let queue = &told["queues"][0];
        (alone && queue["invocations"].as_u64() >= Some(3)).then_some(told)
    });
    assert_eq!(told["queues"][0]["namespace"], *tenant.namespace);
    eventually("it can be scaled by what waits", || {
        (metric(&nodes, 0, "wisp_cluster_queue_depth") >= 3.0).then_some(())
    });
    assert!(metric(&nodes, 0, "wisp_queue_oldest_age_seconds") > 0.0);
    nodes.start_again(1);
    for id in ids {
        tenant.awaited(&id);
    }
}

#[test]
fn a_caller_whose_answer_was_lost_gets_it_from_the_record() {
    let (redis, counter) = (Redis::start(), Counter::start());
    let nodes = Nodes::start(&redis.url(), &["front", "worker"], 2, &counter.egress());
    let tenant = nodes.at(0).tenant();
    Counter::put_action(&tenant, "a", json!({}));
    tenant.invoke("a", &counter.params("a", 1)).expect(200);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Nobody hears anything while the run ends.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                pause(Duration::from_millis(5));
            }
        });
        let calls: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| tenant.invoke("a", &counter.params("a", 300))))
            .collect();
        for call in calls {
            call.join().expect("no panic").expect(200);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(metric(&nodes, 0, "wisp_cluster_replies_found_total") >= 1.0);
    eventually("no wait is left", || {
        (metric(&nodes, 0, "wisp_inflight") < 1.0).then_some(())
    });
}

#[test]
fn compiled_code_is_shared_where_nodes_have_a_secret() {
    let (redis, counter) = (Redis::start(), Counter::start());
    let secret = "secret = \"what all nodes know and Redis does not\"\n";
    let more = format!("{secret}{}", counter.egress());
    let nodes = Nodes::start(&redis.url(), &["front", "worker"], 2, &more);
    let tenant = nodes.at(0).tenant();
    Counter::put_action(&tenant, "a", json!({}));
    eventually("what the front compiled is offered", || {
        let keys = redis.keys("faults:a:*");
        keys.iter().any(|key| key.contains('.')).then_some(())
    });
    tenant.invoke("a", &counter.params("a", 1)).expect(200);
    let fetched = "wisp_cluster_artefacts_total{outcome=\"fetched\"}";
    assert!(metric(&nodes, 1, fetched) >= 1.0);
}
