//! Rules: every row of the table, and the link in the trigger that goes with each.

use super::*;
use crate::model::{Fqn, Rule};
use crate::store::catalog::Found;

const GONE: &str = "The requested resource does not exist.";

fn malformed(detail: &str) -> String {
    format!("The request content was malformed:\n{detail}")
}

fn rule(trigger: &str, action: &str) -> Value {
    json!({"trigger": format!("/_/{trigger}"), "action": format!("/_/{action}")})
}

/// Triggers `t` and `u`, actions `a` and `b`.
async fn site() -> Arc<Site> {
    let site = Site::new()
        .await
        .with_action("a")
        .await
        .with_action("b")
        .await;
    for name in ["t", "u"] {
        site.put(&format!("_/triggers/{name}"), json!({}))
            .await
            .is(200);
    }
    Arc::new(site)
}

impl Site {
    async fn status(&self, name: &str) -> Value {
        let rule = self.get(&format!("_/rules/{name}")).await;
        rule.is(200).json()["status"].clone()
    }

    async fn links(&self, trigger: &str) -> Value {
        let trigger = self.get(&format!("_/triggers/{trigger}")).await;
        trigger.is(200).json()["rules"].clone()
    }

    async fn set(&self, name: &str, status: &str) -> Got {
        let body = json!({"status": status, "trigger": null, "action": null}).to_string();
        self.guest("POST", &format!("_/rules/{name}"), body).await
    }
}

#[tokio::test]
async fn a_new_rule_is_active_and_linked() {
    let site = site().await;
    let mut body = rule("t", "a");
    body["status"] = json!("");
    body["annotations"] = json!([{"key": "d", "value": 1}]);
    let made = site.put("_/rules/r", body).await.is(200).json();
    let mut expected = json!({
        "namespace": "guest", "name": "r", "version": "0.0.1", "publish": false, "status": "active",
        "annotations": [{"key": "d", "value": 1}], "updated": made["updated"],
        "trigger": {"path": "guest", "name": "t"}, "action": {"path": "guest", "name": "a"},
    });
    assert_eq!(made, expected);
    assert_eq!(site.get("_/rules/r").await.is(200).json(), made);
    let link = json!({"guest/r": {"action": {"path": "guest", "name": "a"}, "status": "active"}});
    assert_eq!(site.links("t").await, link);
    expected.as_object_mut().unwrap().remove("status");
    assert_eq!(site.get("_/rules").await.is(200).json(), json!([expected]));
    assert_eq!(
        site.get("_/rules?count=true").await.json(),
        json!({"rules": 1})
    );
}

#[tokio::test]
async fn a_rule_may_name_an_action_in_a_package_or_behind_a_binding() {
    let site = site().await;
    let exec = json!({"exec": {"kind": "wasm:1", "code": "x"}}).to_string();
    let system = async |path: &str, body: &str| {
        let path = format!("/api/v1/namespaces/_/{path}");
        site.system("PUT", &path, body.to_owned()).await.is(200);
    };
    system("packages/open", r#"{"publish":true}"#).await;
    system("actions/open/a", &exec).await;
    system("packages/shut", "{}").await;
    system("actions/shut/a", &exec).await;
    let binding = json!({"binding": {"namespace": "whisk.system", "name": "open"}});
    site.put("_/packages/bound", binding).await.is(200);
    for (name, action, path) in [
        (
            "foreign",
            json!("/whisk.system/open/a"),
            "whisk.system/open",
        ),
        (
            "bound",
            json!({"path": "_/bound", "name": "a"}),
            "guest/bound",
        ),
    ] {
        let body = json!({"trigger": "/_/t", "action": action});
        let made = site
            .put(&format!("_/rules/{name}r"), body)
            .await
            .is(200)
            .json();
        assert_eq!(made["action"], json!({"path": path, "name": "a"}));
    }
    let denied =
        |what: &str| format!("The supplied authentication is not authorized to access '{what}'.");
    for (trigger, action, what) in [
        ("/_/t", "/whisk.system/shut/a", "whisk.system/shut/a"),
        ("/_/t", "/whisk.system/none/a", "whisk.system/none/a"),
        ("/_/t", "/whisk.system/a", "whisk.system/a"),
        ("/whisk.system/t", "/_/a", "whisk.system/t"),
        (
            "/whisk.system/t",
            "/whisk.system/a",
            "whisk.system/a, whisk.system/t",
        ),
    ] {
        let body = json!({"trigger": trigger, "action": action});
        site.put("_/rules/r", body)
            .await
            .refuses(403, &denied(what));
    }
}

#[tokio::test]
async fn what_a_rule_needs_must_be_there() {
    let site = site().await;
    let incomplete = "rule requires a valid trigger and a valid action";
    let unqualified = malformed(
        "requirement failed: The fully qualified name of the entity must contain at least the namespace and the name of the entity.",
    );
    for (body, text) in [
        (json!({}), incomplete.to_owned()),
        (json!({"trigger": "/_/t"}), incomplete.to_owned()),
        (json!({"action": "/_/a"}), incomplete.to_owned()),
        (
            rule("none", "a"),
            "trigger /guest/none does not exist".to_owned(),
        ),
        (
            rule("t", "none"),
            "action /guest/none does not exist".to_owned(),
        ),
        (
            rule("t", "p/a"),
            "action /guest/p/a does not exist".to_owned(),
        ),
        (
            json!({"trigger": "t", "action": "/_/a"}),
            unqualified.clone(),
        ),
        (json!({"trigger": "/_/t", "action": "a"}), unqualified),
    ] {
        site.put("_/rules/r", body).await.refuses(400, &text);
    }
    let text = "Resource by this name exists but is not in this collection.";
    site.put("_/rules/r", rule("a", "b"))
        .await
        .refuses(409, text);
    site.get("_/rules/r").await.refuses(404, GONE);
}

#[tokio::test]
async fn an_update_keeps_the_status_and_moves_the_link() {
    let site = site().await;
    site.put("_/rules/r", rule("t", "a")).await.is(200);
    site.put("_/rules/r", rule("t", "a"))
        .await
        .refuses(409, "resource already exists");
    let path = "_/rules/r?overwrite=true";
    let now = site
        .put(path, json!({"action": "/_/b"}))
        .await
        .is(200)
        .json();
    assert_eq!(
        (&now["status"], &now["version"]),
        (&json!("active"), &json!("0.0.2"))
    );
    assert_eq!(site.links("t").await["guest/r"]["action"]["name"], "b");
    let now = site
        .put(path, json!({"trigger": "/_/u"}))
        .await
        .is(200)
        .json();
    assert_eq!(now["status"], "active");
    assert_eq!(now["action"]["name"], "b");
    assert_eq!(site.links("t").await, json!(null));
    assert_eq!(site.links("u").await["guest/r"]["status"], "active");
    site.set("r", "inactive").await.is(200);
    let now = site.put(path, rule("t", "a")).await.is(200).json();
    assert_eq!(now["status"], "inactive");
    assert_eq!(site.links("t").await["guest/r"]["status"], "inactive");
    assert_eq!(site.links("u").await, json!(null));
    let now = site.put(path, json!({})).await.is(200).json();
    assert_eq!(now["status"], "inactive");
    site.guest("DELETE", "_/triggers/t", "").await.is(200);
    site.put(path, json!({}))
        .await
        .refuses(400, "trigger /guest/t does not exist");
    let now = site
        .put(path, json!({"trigger": "/_/u"}))
        .await
        .is(200)
        .json();
    assert_eq!(now["status"], "inactive");
}

#[tokio::test]
async fn a_crash_between_rule_and_link_leaves_them_saying_the_same() {
    let site = site().await;
    site.put("_/rules/r", rule("t", "a")).await.is(200);
    site.set("r", "inactive").await.is(200);
    let catalog = &site.catalog;
    let name = Fqn {
        namespace: Namespace::parse("guest").unwrap(),
        package: None,
        name: EntityName::parse("r").unwrap(),
    };
    let Found::Is(made, revision) = catalog.get::<Rule>(&name).await.unwrap() else {
        panic!("it was made");
    };
    let mut changed = Rule::clone(&made);
    changed.action.name = EntityName::parse("b").unwrap();
    let expect = crate::store::Expect::Revision(revision);
    catalog.put(changed, None, expect).await.unwrap();
    let link = site.links("t").await["guest/r"].clone();
    assert_eq!(
        (&link["action"]["name"], &link["status"]),
        (&json!("b"), &json!("inactive"))
    );
    let rule = site.get("_/rules/r").await.is(200).json();
    assert_eq!(rule["action"]["name"], "b");
    assert_eq!(rule["status"], "inactive");
}

#[tokio::test]
async fn a_rule_is_switched_on_and_off() {
    let site = site().await;
    site.put("_/rules/r", rule("t", "a")).await.is(200);
    for status in ["inactive", "inactive", "active", "active"] {
        let got = site.set("r", status).await;
        assert_eq!(got.is(200).text, "");
        assert_eq!(site.status("r").await, status);
        assert_eq!(site.links("t").await["guest/r"]["status"], status);
    }
    for (body, text) in [
        (r#"{"status":"on"}"#, "'on' is not a recognized rule state"),
        (r#"{"status":""}"#, "'' is not a recognized rule state"),
        ("{}", "Object is missing required member 'status'"),
    ] {
        site.guest("POST", "_/rules/r", body)
            .await
            .refuses(400, &malformed(text));
    }
    site.set("none", "active").await.refuses(404, GONE);
}

#[tokio::test]
async fn a_rule_without_its_trigger_is_inactive() {
    let site = site().await;
    site.put("_/rules/r", rule("t", "a")).await.is(200);
    site.guest("DELETE", "_/triggers/t", "").await.is(200);
    assert_eq!(site.status("r").await, "inactive");
    site.set("r", "active")
        .await
        .refuses(404, "Only rules with existing triggers can be activated");
    site.set("r", "inactive").await.is(200);
    // A trigger of the same name knows nothing of it until it is switched on.
    site.put("_/triggers/t", json!({})).await.is(200);
    assert_eq!(site.status("r").await, "inactive");
    site.set("r", "active").await.is(200);
    assert_eq!(site.status("r").await, "active");
}

#[tokio::test]
async fn a_deleted_rule_leaves_no_link() {
    let site = site().await;
    site.put("_/rules/r", rule("t", "a")).await.is(200);
    site.put("_/rules/s", rule("t", "b")).await.is(200);
    let gone = site.guest("DELETE", "_/rules/r", "").await;
    assert_eq!(gone.is(200).json()["status"], "inactive");
    let links = site.links("t").await;
    assert_eq!(links.as_object().map(|all| all.len()), Some(1));
    assert_eq!(links["guest/s"]["action"]["name"], "b");
    for method in ["GET", "DELETE"] {
        site.guest(method, "_/rules/r", "").await.refuses(404, GONE);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rules_made_at_once_for_one_trigger_are_all_linked() {
    const COUNT: usize = 24;
    let site = site().await;
    let mut writers = tokio::task::JoinSet::new();
    for index in 0..COUNT {
        let site = Arc::clone(&site);
        writers.spawn(async move {
            let name = format!("_/rules/r{index}");
            site.put(&name, rule("t", "a")).await.is(200);
            let name = format!("_/triggers/t?overwrite=true&index={index}");
            let body = json!({"annotations": [{"key": "by", "value": index}]});
            site.put(&name, body).await.is(200);
        });
    }
    writers.join_all().await;
    let links = site.links("t").await;
    assert_eq!(links.as_object().map(|all| all.len()), Some(COUNT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_races_the_link_says_what_the_rule_says() {
    let site = site().await;
    for round in 0..20 {
        site.put("_/rules/r", rule("t", "a")).await.is(200);
        let mut writers = tokio::task::JoinSet::new();
        for (index, (trigger, action)) in [("t", "b"), ("u", "a"), ("u", "b")].iter().enumerate() {
            let site = Arc::clone(&site);
            let (trigger, action) = (*trigger, *action);
            writers.spawn(async move {
                let path = "_/rules/r?overwrite=true";
                site.put(path, rule(trigger, action)).await;
                site.set("r", if index == 0 { "inactive" } else { "active" })
                    .await;
                if round % 2 == 0 && index == 2 {
                    site.guest("DELETE", "_/rules/r", "").await;
                }
            });
        }
        writers.join_all().await;
        let rows = site.get("_/rules").await.json();
        for trigger in ["t", "u"] {
            let link = site.links(trigger).await["guest/r"].clone();
            let is_mine = rows[0]["trigger"]["name"] == trigger;
            if !is_mine {
                assert_eq!(link, json!(null), "round {round}: a link without its rule");
            } else if !link.is_null() {
                assert_eq!(link["action"], rows[0]["action"], "round {round}");
            }
        }
        site.guest("DELETE", "_/rules/r", "").await;
    }
}

#[tokio::test]
async fn a_rule_that_could_not_be_linked_is_there_and_inactive() {
    let site = site().await;
    // As if the server had stopped before the link was written.
    site.put("_/rules/r", rule("t", "a")).await.is(200);
    site.guest("DELETE", "_/triggers/t", "").await.is(200);
    site.put("_/triggers/t", json!({})).await.is(200);
    assert_eq!(site.status("r").await, "inactive");
    let now = site.put("_/rules/r?overwrite=true", rule("t", "b")).await;
    assert_eq!(now.is(200).json()["status"], "inactive");
    site.set("r", "active").await.is(200);
    assert_eq!(site.links("t").await["guest/r"]["action"]["name"], "b");
}
