//! Answers of web actions that say they may be kept.

use serde_json::json;

use crate::harness::{Reply, Tenant, answers, shared};

const KEPT: &str = r#"{"headers":{"Cache-Control":"max-age=600","Vary":"X-Vary"},"body":"kept"}"#;

fn get(tenant: &Tenant, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = tenant.web("GET", path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    tenant.client.send(&request)
}

fn ran(reply: &Reply) -> bool {
    reply.header("x-openwhisk-activation-id").is_some()
}

#[test]
fn a_kept_answer_is_no_activation() {
    let tenant = shared().tenant();
    tenant.put_web("a", &answers(KEPT), &[]);
    let first = get(&tenant, "default/a", &[]).expect(200);
    assert!(ran(&first));
    for _ in 0..5 {
        let reply = get(&tenant, "default/a", &[]).expect(200);
        assert!(!ran(&reply));
        assert_eq!(reply.text(), "kept");
        assert!(reply.header("age").is_some());
        assert_eq!(
            reply.header("content-type"),
            Some("text/html; charset=UTF-8")
        );
        let etag = reply.header("etag").expect("a validator").to_owned();
        let known = get(&tenant, "default/a", &[("If-None-Match", &etag)]).expect(304);
        assert!(known.body.is_empty());
        assert_eq!(known.header("etag"), Some(etag.as_str()));
    }
    assert!(ran(&get(&tenant, "default/a", &[("X-Vary", "1")])));
    assert!(!ran(&get(&tenant, "default/a", &[("X-Vary", "1")])));
    assert!(ran(&get(
        &tenant,
        "default/a",
        &[("Cache-Control", "no-cache")]
    )));
    let count = tenant
        .get("activations?count=true&name=a")
        .expect(200)
        .json();
    assert_eq!(count["activations"], 3);
    let metrics = shared().client().get("/metrics").expect(200).text();
    assert!(
        metrics.contains("wisp_web_cache_total{outcome=\"hit\"}"),
        "{metrics}"
    );
}

#[test]
fn a_change_of_the_action_or_its_package_is_seen_at_once() {
    let tenant = shared().tenant();
    tenant.put("packages/p", &json!({})).expect(200);
    tenant.put_web("p/a", &answers(KEPT), &[]);
    assert!(ran(&get(&tenant, "p/a", &[])));
    assert!(!ran(&get(&tenant, "p/a", &[])));
    tenant.put_web("p/a", &answers(KEPT), &[]);
    assert!(ran(&get(&tenant, "p/a", &[])));
    let parameters = json!({"parameters": [{"key": "x", "value": 1}]});
    tenant
        .put("packages/p?overwrite=true", &parameters)
        .expect(200);
    assert!(ran(&get(&tenant, "p/a", &[])));
    assert!(!ran(&get(&tenant, "p/a", &[])));
    tenant.delete("actions/p/a").expect(200);
    get(&tenant, "p/a", &[]).expect(404);
}
