//! `Idempotency-Key`: a call that is sent twice is run once, over restarts as well.

use serde_json::{Value, json};

use crate::contract_fire::{at, trigger};
use crate::harness::{Reply, SLEEP, Server, Tenant, counts, id_of, shared};

fn keyed(tenant: &Tenant, path: &str, key: &str, body: &Value) -> Reply {
    let request = tenant.request("POST", path).json(body);
    let request = request.header("idempotency-key", key);
    tenant.client.send(&request)
}

#[test]
fn the_answer_of_a_blocking_call_is_given_again() {
    let tenant = shared().tenant();
    tenant.put_action("a", &counts());
    let path = "actions/a?blocking=true&result=true";
    let first = keyed(&tenant, path, "k", &json!({})).expect(200);
    let again = keyed(&tenant, path, "k", &json!({})).expect(200);
    assert_eq!(first.json(), again.json(), "it counts its runs");
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let other = keyed(&tenant, path, "k", &json!({ "x": 1 })).expect(422);
    assert!(other.header("idempotency-replayed").is_none());
    let next = keyed(&tenant, path, "l", &json!({})).expect(200);
    assert_ne!(first.json(), next.json());
}

#[test]
fn duplicates_of_a_call_that_runs_lead_to_the_same_activation() {
    let tenant = shared().tenant();
    tenant.put_action("a", SLEEP);
    let body = json!({ "ms": 400 });
    let first = keyed(&tenant, "actions/a", "k", &body).expect(202);
    let again = keyed(&tenant, "actions/a?blocking=true", "k", &body).expect(200);
    assert_eq!(again.json()["activationId"], id_of(&first));
}

#[test]
fn a_key_is_remembered_over_a_crash() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action("a", SLEEP);
    trigger(&tenant, &["a"]);
    let body = json!({ "ms": 1 });
    let fired = keyed(&tenant, "triggers/t", "k", &body).expect(202);
    let called = keyed(&tenant, "actions/a", "k", &body).expect(202);
    let server = server.crash_and_restart();
    let tenant = at(&tenant, &server);
    for (path, first) in [("triggers/t", fired), ("actions/a", called)] {
        let again = keyed(&tenant, path, "k", &body).expect(202);
        assert_eq!(id_of(&again), id_of(&first), "{path}");
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        tenant.awaited(&id_of(&first));
    }
}
