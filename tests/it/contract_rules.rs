//! Section 2.9: rules, and the links they have in triggers.

use serde_json::{Value, json};

use crate::harness::{ECHO, Expect, Server, Tenant, rows, run, shared};

fn tenant() -> Tenant {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    tenant.put_action("b", ECHO);
    for name in ["t", "u"] {
        tenant
            .put(&format!("triggers/{name}"), &json!({}))
            .expect(200);
    }
    tenant
}

fn rule(trigger: &str, action: &str) -> Value {
    json!({ "trigger": trigger, "action": action, "status": "" })
}

fn set(status: &str) -> Value {
    json!({ "status": status, "trigger": null, "action": null })
}

#[test]
fn a_rule_is_made_switched_moved_and_deleted() {
    let tenant = tenant();
    let none = Value::Null;
    let at = |name: &str| json!({ "path": tenant.namespace, "name": name });
    let is = |status: &str, trigger: &str, action: &str| {
        Expect::Has(json!({ "status": status, "trigger": at(trigger), "action": at(action) }))
    };
    let put = "PUT rules/r?overwrite=true";
    let rows = rows! {
        "2.9", "PUT rules/r", rule("/_/t", "/_/a") => 200, is("active", "t", "a");
        "2.2", "PUT rules/r", rule("/_/t", "/_/a") => 409, Expect::Error("resource already exists");
        "2.9", "GET rules/r", none.clone() => 200, is("active", "t", "a");
        "2.9", put, json!({ "action": { "path": "_", "name": "b" } }) => 200, is("active", "t", "b");
        "2.9", put, json!({ "trigger": format!("{}/u", tenant.namespace) }) => 200, is("active", "u", "b");
        "2.9", "GET rules/r", none.clone() => 200, is("active", "u", "b");
        "2.9", "POST rules/r", set("off") => 400, Expect::Error("The request content was malformed:\n'off' is not a recognized rule state");
        "2.9", "DELETE triggers/u", none.clone() => 200, Expect::Any;
        "2.9", "GET rules/r", none.clone() => 200, is("inactive", "u", "b");
        "2.9", "POST rules/r", set("active") => 404, Expect::Error("Only rules with existing triggers can be activated");
        "2.9", put, json!({ "trigger": "/_/t" }) => 200, is("inactive", "t", "b");
        "2.9", "DELETE rules/r", none.clone() => 200, is("inactive", "t", "b");
        "2.2", "GET rules/r", none => 404, Expect::Error("The requested resource does not exist.");
    };
    run(&tenant, &rows);
    for trigger in ["t", "u"] {
        let reply = tenant.get(&format!("triggers/{trigger}"));
        assert!(reply.status == 404 || reply.json().get("rules").is_none());
    }
}

#[test]
fn switching_a_rule_answers_nothing_and_may_be_repeated() {
    let tenant = tenant();
    tenant.put("rules/r", &rule("/_/t", "/_/a")).expect(200);
    let key = format!("{}/r", tenant.namespace);
    for status in ["inactive", "inactive", "active", "active"] {
        let reply = tenant.post("rules/r", &set(status)).expect(200);
        assert_eq!(reply.text(), "", "section 2.9: an empty body");
        let rule = tenant.get("rules/r").expect(200).json();
        assert_eq!(rule["status"], status, "section 2.9");
        let trigger = tenant.get("triggers/t").expect(200).json();
        let action = json!({ "path": tenant.namespace, "name": "a" });
        let link = json!({ "action": action, "status": status });
        assert_eq!(trigger["rules"][&key], link, "section 2.8");
    }
    let rows = tenant.get("rules").expect(200).json();
    assert!(rows[0].get("status").is_none(), "section 2.5: no status");
    assert_eq!(rows[0]["trigger"]["name"], "t", "section 2.5");
}

#[test]
fn what_a_rule_needs_must_be_there() {
    let tenant = tenant();
    let n = tenant.namespace.clone();
    let other = shared().tenant();
    let incomplete = Expect::Error("rule requires a valid trigger and a valid action");
    let denied = Expect::ErrorHas("is not authorized to access");
    let foreign = |name: &str| format!("/{}/{name}", other.namespace);
    let unqualified =
        Expect::ErrorHas("The fully qualified name of the entity must contain at least");
    let rows = rows! {
        "2.9", "PUT rules/r", json!({}) => 400, incomplete.clone();
        "2.9", "PUT rules/r", json!({ "trigger": "/_/t" }) => 400, incomplete;
        "2.9", "PUT rules/r", rule("t", "/_/a") => 400, unqualified.clone();
        "2.9", "PUT rules/r", rule("/_/t", "a") => 400, unqualified;
        "2.9", "PUT rules/r", rule(&foreign("t"), "/_/a") => 403, denied.clone();
        "2.9", "PUT rules/r", rule("/_/t", &foreign("p/a")) => 403, denied;
    };
    run(&tenant, &rows);
    let text = tenant.put("rules/r", &rule("/_/x", "/_/a")).expect(400);
    assert_eq!(text.error(), format!("trigger /{n}/x does not exist"));
    let text = tenant.put("rules/r", &rule("/_/t", "/_/x")).expect(400);
    assert_eq!(text.error(), format!("action /{n}/x does not exist"));
}

#[test]
fn rules_made_at_once_for_one_trigger_are_all_linked() {
    const COUNT: usize = 12;
    let tenant = tenant();
    std::thread::scope(|scope| {
        for index in 0..COUNT {
            let tenant = &tenant;
            scope.spawn(move || {
                let path = format!("rules/r{index}");
                tenant.put(&path, &rule("/_/t", "/_/a")).expect(200);
                let path = "triggers/t?overwrite=true";
                tenant.put(path, &json!({})).expect(200);
            });
        }
    });
    let trigger = tenant.get("triggers/t").expect(200).json();
    assert_eq!(
        trigger["rules"].as_object().map(|all| all.len()),
        Some(COUNT)
    );
}

#[test]
fn a_killed_server_knows_its_rules() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action("a", ECHO);
    tenant.put("triggers/t", &json!({})).expect(200);
    for name in ["on", "off"] {
        tenant
            .put(&format!("rules/{name}"), &rule("/_/t", "/_/a"))
            .expect(200);
    }
    tenant.post("rules/off", &set("inactive")).expect(200);
    let before = tenant.get("triggers/t").expect(200).json();
    let server = server.crash_and_restart();
    let tenant = Tenant::new(server.client(), &tenant.namespace, &tenant.key);
    assert_eq!(tenant.get("triggers/t").expect(200).json(), before);
    assert_eq!(
        tenant.get("rules/on").expect(200).json()["status"],
        "active"
    );
    assert_eq!(
        tenant.get("rules/off").expect(200).json()["status"],
        "inactive"
    );
}
