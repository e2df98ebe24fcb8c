//! The clock's triggers fire once in the cluster, whoever dies, and whatever the clocks of the nodes say.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::load::Load;
use crate::alarms::{clocked, fires};
use crate::harness::{Counter, Nodes, Redis, Spot, eventually};

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
    dues(&fires(&nodes.tenant_at(0, &tenant)));
}

/// When fires were due, milliseconds: their ids say so. No second has two.
#[track_caller]
fn dues(fires: &[Value]) -> Vec<u64> {
    let ids = fires
        .iter()
        .filter_map(|fire| fire["activationId"].as_str());
    let due = ids.map(|id| u64::from_str_radix(id.split_at(12).0, 16).expect("hexadecimal"));
    let due: Vec<u64> = due.collect();
    let unique: HashSet<u64> = due.iter().map(|ms| ms / 1000).collect();
    assert_eq!(unique.len(), due.len(), "{due:?}");
    due
}

/// Redis's time, milliseconds.
fn redis_ms(redis: &Redis) -> u64 {
    let time = redis.cli(&["TIME"]);
    let seconds = time
        .lines()
        .next()
        .and_then(|text| text.parse::<u64>().ok());
    seconds.expect("seconds") * 1000
}

#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
#[test]
fn nodes_whose_clocks_are_an_hour_ahead_and_a_day_behind_go_by_one_clock() {
    let (redis, counter) = (Redis::start(), Counter::start());
    let more = format!(
        "[system]\npackages = true\n[store]\nretention_age_s = 600\n{}",
        counter.egress()
    );
    let spots = [
        (Spot::here(redis.url()), "all"),
        (Spot::at_another_time(redis.url(), "+1h"), "all"),
        (Spot::at_another_time(redis.url(), "-1d"), "all"),
    ];
    let began_ms = redis_ms(&redis);
    let mut nodes = Nodes::on(&spots, 2, &more);
    for index in [1, 2] {
        let log = nodes.at(index).log();
        assert!(log.contains("are apart"), "its clock is right: {log}");
    }
    let tenant = nodes.at(0).tenant();
    Counter::put_action(&tenant, "counted", json!({}));
    nodes.await_action(&tenant, "counted");
    let recent = |ms: Option<u64>| {
        let (ms, now_ms) = (ms.expect("a time"), redis_ms(&redis) + 2000);
        let is_recent = (began_ms - 1000..now_ms).contains(&ms);
        assert!(is_recent, "{ms} is not between {began_ms} and {now_ms}");
    };
    // Records have the same time wherever they are made, and are in order.
    let (load, params) = (Load::default(), counter.params("counted", 1));
    let mut starts = Vec::new();
    for round in 0..6 {
        let at = nodes.tenant_at(round % 3, &tenant);
        let record = at.invoke("counted", &params).expect(200).json();
        recent(record["start"].as_u64());
        recent(record["end"].as_u64());
        starts.push(record["start"].as_u64().expect("a time"));
        load.call(&at, "counted", &params);
    }
    // As far as asking for the time is exact.
    let in_order = |two: &[u64]| two[0] < two[1] + 50;
    assert!(starts.windows(2).all(in_order), "{starts:?}");
    for id in load.ids() {
        recent(tenant.awaited(&id)["start"].as_u64());
    }
    // A schedule is due once, whoever fires it: each of them alone, too.
    clocked(&tenant, "* * * * * *");
    let await_fires = |nodes: &Nodes, index: usize| {
        let at = nodes.tenant_at(index, &tenant);
        let before = fires(&at).len();
        eventually("the clock fires", || {
            (fires(&at).len() >= before + 3).then_some(())
        });
    };
    await_fires(&nodes, 0);
    nodes.kill(0);
    await_fires(&nodes, 1);
    nodes.kill(1);
    await_fires(&nodes, 2);
    // The one that was ahead sweeps: nothing is older than ten minutes, though its machine says so.
    let before = fires(&nodes.tenant_at(2, &tenant)).len();
    for key in redis.keys("faults:*sweep*") {
        redis.cli(&["DEL", &key]);
    }
    nodes.start_again(1);
    let sweeper = eventually("it sweeps", || redis.keys("faults:*sweep*").pop());
    await_fires(&nodes, 1);
    nodes.start_again(0);
    let all = fires(&nodes.tenant_at(0, &tenant));
    let due = dues(&all);
    for ms in &due {
        recent(Some(*ms));
    }
    assert!(all.len() > before);
    for id in load.ids() {
        tenant_record(&nodes, &tenant, &id);
    }
    println!(
        "clocks +1 h and -1 d: {} fires, each second once; {} records in one time; {sweeper} was had by the node ahead",
        due.len(),
        load.ids().len() + starts.len()
    );
    assert_eq!((counter.duplicates(), counter.overlaps()), (0, vec![]));
}

#[track_caller]
fn tenant_record(nodes: &Nodes, tenant: &crate::harness::Tenant, id: &str) {
    let at = nodes.tenant_at(0, tenant);
    at.get(&format!("activations/{id}")).expect(200);
}
