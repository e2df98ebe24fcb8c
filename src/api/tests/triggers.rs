//! Triggers, as entities.

use super::*;

const GONE: &str = "The requested resource does not exist.";

#[tokio::test]
async fn a_trigger_is_answered_whole_and_listed_lean() {
    let site = Site::new().await;
    let body = json!({"parameters": [{"key": "a", "value": 1}], "limits": {},
        "annotations": [{"key": "d", "value": 1}]});
    let made = site.put("_/triggers/t", body).await.is(200).json();
    let mut expected = json!({
        "namespace": "guest", "name": "t", "version": "0.0.1", "publish": false, "limits": {},
        "parameters": [{"key": "a", "value": 1}], "annotations": [{"key": "d", "value": 1}],
        "updated": made["updated"],
    });
    assert_eq!(made, expected);
    assert_eq!(site.get("_/triggers/t").await.is(200).json(), made);
    let whole = expected.as_object_mut().unwrap();
    whole.remove("parameters");
    whole.remove("limits");
    assert_eq!(
        site.get("_/triggers").await.is(200).json(),
        json!([expected])
    );
    let count = site.get("_/triggers?count=true").await.json();
    assert_eq!(count, json!({"triggers": 1}));
    let gone = site.guest("DELETE", "_/triggers/t", "").await;
    assert_eq!(gone.is(200).json(), made);
    for method in ["GET", "DELETE"] {
        site.guest(method, "_/triggers/t", "")
            .await
            .refuses(404, GONE);
    }
}

#[tokio::test]
async fn an_update_replaces_annotations_and_keeps_rules() {
    let site = Site::new().await.with_action("a").await;
    let first = json!({"annotations": [{"key": "d", "value": 1}, {"key": "e", "value": 1}]});
    site.put("_/triggers/t", first).await.is(200);
    let rule = json!({"trigger": "/_/t", "action": "/_/a"});
    site.put("_/rules/r", rule).await.is(200);
    site.put("_/triggers/t", json!({}))
        .await
        .refuses(409, "resource already exists");
    let body = json!({"annotations": [{"key": "e", "value": 2}], "publish": true});
    let now = site
        .put("_/triggers/t?overwrite=true", body)
        .await
        .is(200)
        .json();
    assert_eq!(now["annotations"], json!([{"key": "e", "value": 2}]));
    assert_eq!(
        now["version"], "0.0.2",
        "a rule is no update of the trigger"
    );
    let link = json!({"guest/r": {"action": {"path": "guest", "name": "a"}, "status": "active"}});
    assert_eq!(now["rules"], link);
    assert_eq!(site.get("_/triggers/t").await.json()["rules"], link);
    let gone = site.guest("DELETE", "_/triggers/t", "").await;
    assert_eq!(gone.is(200).json()["rules"], link, "rules do not keep it");
}

#[tokio::test]
async fn a_feed_is_a_path_and_is_checked_on_create() {
    let site = Site::new().await;
    let feed = |value: Value| json!({"annotations": [{"key": "feed", "value": value}]});
    for bad in [
        json!(1),
        json!(null),
        json!(""),
        json!("/"),
        json!("a/$b"),
        json!(["a"]),
    ] {
        site.put("_/triggers/t", feed(bad))
            .await
            .refuses(400, "Feed name is not valid");
    }
    let good = feed(json!("/whisk.system/alarms/alarm"));
    site.put("_/triggers/t", good).await.is(200);
    site.put("_/triggers/t?overwrite=true", feed(json!(1)))
        .await
        .is(200);
    site.put("_/triggers/new?overwrite=true", feed(json!(1)))
        .await
        .is(400);
}

#[tokio::test]
async fn a_name_that_is_something_else_is_409_whatever_is_looked_for() {
    let site = Site::new().await.with_action("action").await;
    site.put("_/triggers/trigger", json!({})).await.is(200);
    site.put("_/packages/package", json!({})).await.is(200);
    let rule = json!({"trigger": "/_/trigger", "action": "/_/action"});
    site.put("_/rules/rule", rule.clone()).await.is(200);
    let text = "Resource by this name exists but is not in this collection.";
    for collection in ["action", "trigger", "package", "rule"] {
        for name in ["action", "trigger", "package", "rule"] {
            if name == collection {
                continue;
            }
            let path = format!("_/{collection}s/{name}");
            for method in ["GET", "DELETE"] {
                site.guest(method, &path, "").await.refuses(409, text);
            }
            let body = if collection == "rule" {
                rule.clone()
            } else {
                json!({"exec": {"kind": "wasm:1", "code": ""}})
            };
            site.put(&path, body).await.refuses(409, text);
        }
    }
    site.guest("POST", "_/rules/action", r#"{"status":"active"}"#)
        .await
        .refuses(409, text);
}
