//! `/whisk.system/alarms`, as `wsk` uses it: the trigger made, the feed told, and the clock fires it, over a crash as well.

use serde_json::{Value, json};

use crate::contract_fire::at;
use crate::harness::{ECHO, Server, Tenant, eventually, variable};

fn feed(tenant: &Tenant, feed: &str, event: &str, more: Value) -> Value {
    let mut params = more;
    params["lifecycleEvent"] = json!(event);
    params["triggerName"] = json!(format!("/{}/t", tenant.namespace));
    params["authKey"] = json!(tenant.key);
    let path =
        format!("/api/v1/namespaces/whisk.system/actions/alarms/{feed}?blocking=true&result=true");
    tenant.post(&path, &params).json()
}

/// The starts of the trigger's records, oldest first.
pub(crate) fn fires(tenant: &Tenant) -> Vec<Value> {
    let rows = tenant.get("activations?name=t&docs=true&limit=200");
    let rows = rows.expect(200).json();
    let mut rows = rows.as_array().expect("rows").clone();
    rows.reverse();
    rows
}

pub(crate) fn clocked(tenant: &Tenant, cron: &str) {
    tenant.put_action("a", ECHO);
    let annotations = json!([{ "key": "feed", "value": "/whisk.system/alarms/alarm" }]);
    let body = json!({ "annotations": annotations });
    tenant.put("triggers/t", &body).expect(200);
    let rule = json!({ "trigger": "/_/t", "action": "/_/a" });
    tenant.put("rules/r", &rule).expect(200);
    let params = json!({ "cron": cron, "trigger_payload": { "x": 1 } });
    let answer = eventually("the feed is put in behind the start", || {
        let answer = feed(tenant, "alarm", "CREATE", params.clone());
        (answer["status"] == "success").then_some(answer)
    });
    assert_eq!(answer, json!({ "status": "success" }));
}

#[test]
fn a_trigger_is_fired_by_the_clock_once_each_second_over_a_crash() {
    let mut server = Server::start("[system]\npackages = true");
    let first = server.tenant();
    clocked(&first, "* * * * * *");
    for count in [2, 4] {
        let tenant = at(&first, &server);
        eventually("the clock fires", || {
            (fires(&tenant).len() >= count).then_some(())
        });
        server = server.crash_and_restart();
    }
    let tenant = at(&first, &server);
    eventually("the clock goes on", || {
        (fires(&tenant).len() >= 6).then_some(())
    });
    let metrics = server.client().get("/metrics").text();
    for series in [
        "wisp_alarms_total{outcome=\"fired\"}",
        "wisp_alarm_delay_seconds_count",
        "wisp_fires_total{source=\"clock\",outcome=\"accepted\"}",
    ] {
        assert!(metrics.contains(series), "{series} in {metrics}");
    }
    let answer = feed(&tenant, "alarm", "DELETE", json!({}));
    assert_eq!(answer, json!({ "status": "success" }));
    let fires = fires(&tenant);
    // The id says when it was due: no second has two.
    let mut due: Vec<&str> = fires
        .iter()
        .map(|fire| fire["activationId"].as_str().expect("an id").split_at(12).0)
        .collect();
    due.sort_unstable();
    let count = due.len();
    due.dedup();
    assert_eq!(due.len(), count, "{due:?}");
    for fire in &fires {
        assert_eq!(fire["response"]["result"], json!({ "x": 1 }));
        let line: Value = serde_json::from_str(fire["logs"][0].as_str().expect("a line")).unwrap();
        tenant.awaited(line["activationId"].as_str().expect("an id"));
    }
}

#[test]
fn what_an_alarm_fires_gets_the_owners_key_where_it_is_kept_encrypted() {
    let keys = "[encryption]\nkeys = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"";
    let server = Server::start(&format!("[system]\npackages = true\n{keys}"));
    let tenant = server.tenant();
    let annotations = json!([{ "key": "provide-api-key", "value": true }]);
    clocked(&tenant, "* * * * * *");
    let body = json!({
        "exec": { "kind": "wasm:1", "code": variable("__OW_API_KEY") },
        "annotations": annotations,
    });
    tenant.put("actions/b", &body).expect(200);
    let rule = json!({ "trigger": "/_/t", "action": "/_/b" });
    tenant.put("rules/s", &rule).expect(200);
    let result = eventually("the clock fires", || {
        let rows = tenant
            .get("activations?name=b&docs=true")
            .expect(200)
            .json();
        Some(rows.get(0)?["response"]["result"].clone())
    });
    assert_eq!(result, json!({ "value": tenant.key }));
}

#[test]
fn a_trigger_that_is_deleted_is_not_fired_when_it_is_made_anew() {
    let server = Server::start("[system]\npackages = true");
    let tenant = server.tenant();
    clocked(&tenant, "0 0 29 2 *");
    let read = feed(&tenant, "alarm", "READ", json!({}));
    assert_eq!(read["config"]["cron"], "0 0 29 2 *");
    tenant.delete("triggers/t").expect(200);
    tenant.put("triggers/t", &json!({})).expect(200);
    let read = feed(&tenant, "alarm", "READ", json!({}));
    let text = format!(
        "could not find trigger {}/t in the database",
        tenant.namespace
    );
    assert_eq!(read["error"]["error"], text);
}
