//! The clock's triggers fire once in the cluster, whoever dies.

use serde_json::Value;

use crate::alarms::{clocked, fires};
use crate::harness::{Nodes, Redis, eventually};

#[test]
fn a_clocked_trigger_fires_once_in_the_cluster_and_goes_on_when_a_node_dies() {
    let redis = Redis::start();
    let more = "[system]\npackages = true\n";
    let mut nodes = Nodes::start(&redis.url(), &["all", "all"], 2, more);
    let tenant = nodes.at(0).tenant();
    clocked(&tenant, "* * * * * *");
    let await_fires = |nodes: &Nodes, index: usize, more: usize| {
        let at = nodes.tenant_at(index, &tenant);
        let before = fires(&at).len();
        eventually("the clock fires", || {
            (fires(&at).len() >= before + more).then_some(())
        });
    };
    await_fires(&nodes, 0, 4);
    nodes.kill(0);
    await_fires(&nodes, 1, 3);
    nodes.start_again(0);
    await_fires(&nodes, 0, 2);
    nodes.kill(1);
    await_fires(&nodes, 0, 3);
    // The id says when it was due: no second has two.
    let all: Vec<Value> = fires(&nodes.tenant_at(0, &tenant));
    let ids = all.iter().filter_map(|fire| fire["activationId"].as_str());
    let mut due: Vec<&str> = ids.map(|id| id.split_at(12).0).collect();
    due.sort_unstable();
    let count = due.len();
    due.dedup();
    assert_eq!(due.len(), count, "{due:?}");
}
