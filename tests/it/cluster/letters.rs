//! What was given up on one node, and is run once more through another.

use serde_json::{Value, json};

use crate::harness::{Counter, Nodes, Redis, Tenant, eventually, id_of};

/// The letters of the tenant, as one node has them.
fn letters(tenant: &Tenant) -> Vec<Value> {
    let all = tenant.get("deadletters").expect(200).json();
    all.as_array().cloned().expect("a list")
}

/// The letter about the activation `id`, or any, once there is one.
#[track_caller]
fn letter_of(tenant: &Tenant, id: Option<&str>) -> Value {
    eventually("a dead letter", || {
        let is_it = |letter: &Value| id.is_none_or(|id| letter["id"] == id);
        letters(tenant).into_iter().find(is_it)
    })
}

/// A trigger `t` whose rule runs the action `a` once.
#[track_caller]
fn rule(tenant: &Tenant) {
    tenant.put("triggers/t", &json!({})).expect(200);
    let once = json!([{ "key": "retry", "value": { "attempts": 1 } }]);
    let rule = json!({ "trigger": "/_/t", "action": "/_/a", "annotations": once });
    tenant.put("rules/r", &rule).expect(200);
}

fn replay(letter: &Value) -> String {
    format!("deadletters/{}", letter["id"].as_str().expect("an id"))
}

#[test]
fn a_letter_is_replayed_through_another_node_exactly_once() {
    let (redis, counter) = (Redis::start(), Counter::start());
    let roles = ["front", "front", "worker"];
    let nodes = Nodes::start(&redis.url(), &roles, 2, &counter.egress());
    let tenant = nodes.at(0).tenant();
    Counter::put_action(&tenant, "a", json!({}));
    nodes.await_action(&tenant, "a");
    rule(&tenant);
    let other = nodes.tenant_at(1, &tenant);
    counter.let_fail(true);
    tenant
        .post("triggers/t", &counter.params("a", 1))
        .expect(202);
    let letter = letter_of(&other, None);
    assert_eq!(letter["attempts"], 1, "{letter}");
    assert_eq!(counter.runs().len(), 1);

    // It fails again: one run more, and a letter about that.
    let second = id_of(&other.post(&replay(&letter), &json!({})).expect(202));
    tenant.get(&replay(&letter)).expect(404);
    let letter = letter_of(&tenant, Some(&second));
    assert_eq!(letter["attempts"], 2, "{letter}");
    assert_eq!(
        (letter["rule"].as_str(), &letter["trigger"]),
        (Some("r"), &json!("t"))
    );
    assert_eq!(letters(&other), std::slice::from_ref(&letter));
    assert_eq!(counter.by_id()[&second].len(), 1);
    assert_eq!(counter.runs().len(), 2);

    // Through both nodes at the same moment: one of them runs it.
    counter.let_fail(false);
    let path = replay(&letter);
    let replies = std::thread::scope(|scope| {
        let both = [&tenant, &other].map(|one| scope.spawn(|| one.post(&path, &json!({}))));
        both.map(|one| one.join().expect("it was answered"))
    });
    let accepted: Vec<_> = replies.iter().filter(|reply| reply.status == 202).collect();
    assert_eq!(accepted.len(), 1, "{replies:?}");
    let refused = replies.iter().find(|reply| reply.status != 202);
    assert!(
        refused.is_some_and(|one| [404, 409].contains(&one.status)),
        "{replies:?}"
    );
    let third = id_of(accepted[0]);
    let record = other.awaited(&third);
    assert_eq!(record["response"]["status"], "success", "{record}");
    eventually("nothing is in flight", || {
        let listed = tenant
            .get("activations?name=a&limit=200")
            .expect(200)
            .json();
        (listed.as_array().map(Vec::len) == Some(3)).then_some(())
    });
    assert_eq!(counter.by_id()[&third].len(), 1);
    assert_eq!(counter.runs().len(), 3, "{:?}", counter.runs());
    assert_eq!((letters(&tenant), letters(&other)), (vec![], vec![]));
}

#[test]
fn a_replay_whose_node_dies_is_seen_to_by_another() {
    let (redis, counter) = (Redis::start(), Counter::start());
    let roles = ["front", "front", "front", "worker"];
    let mut nodes = Nodes::start(&redis.url(), &roles, 2, &counter.egress());
    let tenant = nodes.at(0).tenant();
    Counter::put_action(&tenant, "a", json!({}));
    nodes.await_action(&tenant, "a");
    rule(&tenant);
    for (front, fails) in [(1, true), (2, false)] {
        let other = nodes.tenant_at(front, &tenant);
        counter.let_fail(true);
        tenant
            .post("triggers/t", &counter.params("a", 700))
            .expect(202);
        let letter = letter_of(&tenant, None);
        counter.let_fail(fails);
        let before = counter.runs().len();
        let id = id_of(&other.post(&replay(&letter), &json!({})).expect(202));
        eventually("it runs", || (counter.runs().len() > before).then_some(()));
        nodes.kill(front);
        let record = tenant.awaited(&id);
        let status = if fails {
            "application error"
        } else {
            "success"
        };
        assert_eq!(record["response"]["status"], status, "{record}");
        if fails {
            let letter = letter_of(&tenant, Some(&id));
            assert_eq!(letter["attempts"], 2, "{letter}");
            tenant.delete("deadletters").expect(200);
        }
        println!("fails {fails}: {:?}", counter.by_id()[&id]);
        assert_eq!(counter.overlaps(), []);
    }
    assert_eq!(letters(&tenant), Vec::<Value>::new());
}
