//! Section 4.1 beyond its cases, and what a 202 promises: fires hold when the server is killed.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    ECHO, SLEEP, Server, Tenant, annotation, eventually, id_of, pause, shared, variable,
};

/// A trigger `t` with rules `r0`, `r1`, … that run these actions.
pub(crate) fn trigger(tenant: &Tenant, actions: &[&str]) {
    tenant.put("triggers/t", &json!({})).expect(200);
    for (index, action) in actions.iter().enumerate() {
        let body = json!({ "trigger": "/_/t", "action": format!("/_/{action}") });
        tenant.put(&format!("rules/r{index}"), &body).expect(200);
    }
}

pub(crate) fn at(tenant: &Tenant, server: &Server) -> Tenant {
    Tenant::new(server.client(), &tenant.namespace, &tenant.key)
}

/// The ids in the log of a trigger's record.
fn ran(record: &Value) -> Vec<String> {
    let lines = record["logs"].as_array().expect("lines");
    let id = |line: &Value| {
        let line: Value = serde_json::from_str(line.as_str()?).ok()?;
        line["activationId"].as_str().map(str::to_owned)
    };
    lines.iter().filter_map(id).collect()
}

#[test]
fn rules_run_what_is_composed_and_what_is_bound_as_well() {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    let sequence = json!({ "exec": { "kind": "sequence", "components": ["/_/a", "/_/a"] } });
    tenant.put("actions/s", &sequence).expect(200);
    let binding = json!({ "binding": { "namespace": "whisk.system", "name": "utils" },
        "parameters": [{ "key": "from", "value": "binding" }] });
    tenant.put("packages/b", &binding).expect(200);
    trigger(&tenant, &["a", "s", "b/echo"]);
    let reply = tenant.post("triggers/t", &json!({ "x": 1 })).expect(202);
    let record = tenant.awaited(&id_of(&reply));
    let ids = ran(&record);
    assert_eq!(ids.len(), 3, "{record}");
    let results: Vec<Value> = ids
        .iter()
        .map(|id| tenant.awaited(id)["response"]["result"].clone())
        .collect();
    assert!(results.iter().all(|result| result["x"] == 1), "{results:?}");
    assert!(results[0]["__ow_headers"]["authorization"].is_null());
    assert_eq!(results[2]["from"], "binding", "section 2.10");
}

#[test]
fn steps_of_what_a_rule_runs_get_the_key_they_ask_for() {
    let tenant = shared().tenant();
    let asks = json!({ "annotations": [{ "key": "provide-api-key", "value": true }] });
    tenant.put_action_with("a", &variable("__OW_API_KEY"), asks);
    let sequence = json!({ "exec": { "kind": "sequence", "components": ["/_/a"] } });
    tenant.put("actions/s", &sequence).expect(200);
    // It does what the event says, and then answers what that answered.
    let conducts = json!({ "annotations": [{ "key": "conductor", "value": true }] });
    tenant.put_action_with("c", ECHO, conducts);
    let event = json!({ "action": format!("/{}/a", tenant.namespace) });
    for name in ["s", "c"] {
        trigger(&tenant, &[name]);
        let reply = tenant.post("triggers/t", &event).expect(202);
        let [id] = &ran(&tenant.awaited(&id_of(&reply)))[..] else {
            panic!("one rule")
        };
        let result = &tenant.awaited(id)["response"]["result"];
        assert_eq!(*result, json!({ "value": tenant.key }), "{name}");
        tenant.delete("rules/r0").expect(200);
        tenant.delete("triggers/t").expect(200);
    }
}

#[test]
fn a_replayed_letter_is_not_lost_whenever_the_server_is_killed() {
    let server = Server::start("");
    let first = server.tenant();
    first.put_action("fails", SLEEP);
    first.put("triggers/t", &json!({})).expect(200);
    let once = json!([{ "key": "retry", "value": { "attempts": 1 } }]);
    let rule = json!({ "trigger": "/_/t", "action": "/_/fails", "annotations": once });
    first.put("rules/r", &rule).expect(200);
    let event = json!({ "ms": 1000, "error": "no" });
    first.post("triggers/t", &event).expect(202);
    let letters = |tenant: &Tenant| tenant.get("deadletters").expect(200).json();
    let id = eventually("a dead letter", || {
        letters(&first)[0]["id"].as_str().map(str::to_owned)
    });
    let replayed = first.post(&format!("deadletters/{id}"), &json!({}));
    let replayed = id_of(&replayed.expect(202));
    assert_eq!(letters(&first), json!([]), "it is promised now");
    let server = server.crash_and_restart();
    let tenant = at(&first, &server);
    // The first letter may be there again: it was kept a moment before its fire was noted to be over.
    let letter = eventually("a letter about the replay", || {
        let all = letters(&tenant);
        let mut all = all.as_array()?.iter();
        all.find(|letter| letter["id"] == json!(replayed)).cloned()
    });
    assert_eq!(letter["attempts"], 2, "{letter}");
    assert_eq!(letter["payload"]["ms"], 1000, "the event is all there");
    assert_eq!(
        tenant.awaited(&replayed)["response"]["result"]["error"],
        "no"
    );
}

#[test]
fn fires_have_exactly_one_record_each_whenever_the_server_is_killed() {
    let mut server = Server::start("");
    let first = server.tenant();
    first.put_action_with("a", SLEEP, json!({ "limits": { "instances": 4 } }));
    first.put_action("b", ECHO);
    trigger(&first, &["a", "b"]);
    let mut fired = Vec::new();
    for round in 0..3_u64 {
        let tenant = at(&first, &server);
        fired.extend((0..10).map(|n| {
            let body = json!({ "ms": 10 + n % 7 * 10 });
            id_of(&tenant.post("triggers/t", &body).expect(202))
        }));
        pause(std::time::Duration::from_millis(round * 40));
        server = server.crash_and_restart();
    }
    let tenant = at(&first, &server);
    let mut expected = fired.clone();
    for id in &fired {
        let ids = ran(&tenant.awaited(id));
        assert_eq!(ids.len(), 2);
        for id in ids {
            let record = tenant.awaited(&id);
            assert_eq!(record["response"]["status"], "success", "{record}");
            expected.push(id);
        }
    }
    let listed = tenant.get("activations?limit=200").expect(200).json();
    let listed = listed.as_array().expect("rows");
    let mut listed: Vec<String> = listed
        .iter()
        .map(|row| row["activationId"].as_str().expect("an id").to_owned())
        .collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected, "one each, and none that nobody asked for");
}

#[test]
fn a_drain_leaves_no_fire_half_done() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action("a", SLEEP);
    trigger(&tenant, &["a"]);
    let reply = tenant.post("triggers/t", &json!({ "ms": 300 })).expect(202);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let server = server.restart();
    let tenant = at(&tenant, &server);
    let record = tenant.awaited(&id_of(&reply));
    let ran = tenant.awaited(&ran(&record)[0]);
    assert_eq!(ran["response"]["status"], "success");
    assert_eq!(annotation(&ran, "redelivered"), None, "it ran once");
}

#[test]
fn a_failure_is_tried_again_and_then_kept_to_be_replayed() {
    let tenant = shared().tenant();
    tenant.put_action("a", &crate::harness::answers(r#"{"error":"no"}"#));
    trigger(&tenant, &["a"]);
    let retry = json!([{ "key": "retry", "value": { "attempts": 2, "backoff": 20 } }]);
    let body = json!({ "annotations": retry });
    tenant.put("rules/r0?overwrite=true", &body).expect(200);
    tenant.post("triggers/t", &json!({ "x": 1 })).expect(202);
    let letters = eventually("a dead letter", || {
        let letters = tenant.get("deadletters").expect(200).json();
        (letters.as_array().map(Vec::len) == Some(1)).then_some(letters)
    });
    let letter = &letters[0];
    assert_eq!(letter["trigger"], "t");
    assert_eq!(letter["rule"], "r0");
    assert_eq!(letter["attempts"], 2);
    assert_eq!(letter["error"], "no");
    assert_eq!(letter["payload"]["x"], 1);
    let id = letter["id"].as_str().expect("an id");
    tenant.awaited(id);
    // Repaired, it is run again.
    tenant.put_action("a", ECHO);
    let reply = tenant.post(&format!("deadletters/{id}"), &json!({}));
    let record = tenant.awaited(&id_of(&reply.expect(202)));
    assert_eq!(record["response"]["result"]["x"], 1);
    tenant.get(&format!("deadletters/{id}")).expect(404);
    let purged = tenant.delete("deadletters").expect(200).json();
    assert_eq!(purged, json!({ "purged": 0 }));
}
