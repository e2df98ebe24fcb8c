//! Sections 2.7 and 2.10: packages, bindings, what they hand down, and what namespaces see of each other's.

use serde_json::{Value, json};

use crate::contract_actions::{exec, names};
use crate::harness::{ECHO, Expect, Tenant, annotation, big_echo, has, rows, run, shared};

const GONE: Expect = Expect::Error("The requested resource does not exist.");

/// Two tenants: whoever shares, and whoever takes.
fn two() -> (Tenant, Tenant) {
    (shared().tenant(), shared().tenant())
}

#[test]
fn a_package_is_made_read_changed_listed_and_deleted() {
    let tenant = shared().tenant();
    let none = Value::Null;
    let namespace = tenant.namespace.clone();
    let reserved = Expect::Error("Package name 'default' is reserved.");
    let exists = Expect::Error("resource already exists");
    let parameters = json!([{ "key": "a", "value": 1 }]);
    let rows = rows! {
        "2.7", "PUT packages/default", json!({}) => 400, reserved;
        "2.2", "GET packages/p", none.clone() => 404, GONE;
        "2.7", "PUT packages/p", json!({ "parameters": parameters, "binding": {} }) => 200,
            Expect::Has(json!({ "namespace": namespace, "name": "p", "version": "0.0.1", "publish": false, "binding": {}, "parameters": parameters }));
        "2.2", "PUT packages/p", json!({}) => 409, exists;
        "2.7", "PUT packages/p?overwrite=true", json!({ "annotations": [{ "key": "x", "value": 1 }] }) => 200,
            Expect::Has(json!({ "version": "0.0.2", "parameters": parameters }));
        "2.7", "PUT packages/p?overwrite=true", json!({ "annotations": [{ "key": "y", "value": 1 }], "parameters": [] }) => 200,
            Expect::Has(json!({ "parameters": [], "annotations": [{ "key": "y", "value": 1 }] }));
        "2.7", "GET packages/p", none.clone() => 200, Expect::Has(json!({ "actions": [], "feeds": [], "binding": {} }));
        "2.5", "GET packages?count=true", none.clone() => 200, Expect::Is(json!({ "packages": 1 }));
        "1.3", "POST packages/refresh", none.clone() => 405, Expect::Any;
        "2.7", "PUT actions/p/a", exec(ECHO) => 200, Expect::Has(json!({ "namespace": format!("{namespace}/p") }));
        "2.7", "DELETE packages/p", none.clone() => 409, Expect::Error("Package not empty (contains 1 entity). Set force param or delete package contents.");
        "2.7", "PUT actions/p/b", exec(ECHO) => 200, Expect::Any;
        "2.7", "DELETE packages/p", none.clone() => 409, Expect::Error("Package not empty (contains 2 entities). Set force param or delete package contents.");
        "2.7", "DELETE packages/p?force=true", none.clone() => 200, Expect::Has(json!({ "name": "p" }));
        "2.2", "GET packages/p", none.clone() => 404, GONE;
        "2.5", "GET actions?count=true", none => 200, Expect::Is(json!({ "actions": 0 }));
    };
    run(&tenant, &rows);
}

#[test]
fn parameters_come_from_provider_binding_action_and_payload_in_that_order() {
    let (owner, user) = two();
    let keyed = |value: Value| {
        let keys = value.as_object().unwrap().clone();
        let list = keys
            .into_iter()
            .map(|(key, value)| json!({ "key": key, "value": value }));
        list.collect::<Value>()
    };
    let provider =
        keyed(json!({ "a": "provider", "b": "provider", "c": "provider", "d": "provider" }));
    let body = json!({ "publish": true, "parameters": provider });
    owner.put("packages/p", &body).expect(200);
    let action = keyed(json!({ "c": "action", "d": "action" }));
    owner.put_action_with("p/echo", &big_echo(), json!({ "parameters": action }));
    let bound = keyed(json!({ "b": "binding", "c": "binding" }));
    let binding = json!({ "namespace": owner.namespace, "name": "p" });
    let body = json!({ "binding": binding, "parameters": bound });
    let made = user.put("packages/mine", &body).expect(200).json();
    assert_eq!(made["binding"], binding, "section 2.7");
    assert_eq!(annotation(&made, "binding"), Some(&binding), "section 2.7");
    let payload = json!({ "d": "payload" });
    let got = user.result("mine/echo", &payload).expect(200).json();
    let expected = json!({ "a": "provider", "b": "binding", "c": "action", "d": "payload" });
    assert_eq!(got, expected, "section 2.10");
    let path = format!("/api/v1/namespaces/{}/actions/p/echo", owner.namespace);
    let got = user.post(&format!("{path}?blocking=true&result=true"), &payload);
    let expected = json!({ "a": "provider", "b": "provider", "c": "action", "d": "payload" });
    assert_eq!(got.expect(200).json(), expected, "section 2.10");
    // A change of the package is seen by the next call.
    let later = keyed(json!({ "b": "later" }));
    user.put(
        "packages/mine?overwrite=true",
        &json!({ "parameters": later }),
    )
    .expect(200);
    let got = user.result("mine/echo", &payload).expect(200).json();
    assert_eq!(got["b"], "later");
    // It ran in the namespace of whoever called, and says by which name.
    let whole = user.invoke("mine/echo", &payload).expect(200).json();
    assert_eq!(whole["namespace"], user.namespace.as_str(), "section 2.7");
    assert_eq!(
        annotation(&whole, "binding"),
        Some(&json!(format!("{}/mine", user.namespace))),
        "section 2.11"
    );
    assert_eq!(
        annotation(&whole, "path"),
        Some(&json!(format!("{}/p/echo", owner.namespace))),
        "section 2.11"
    );
}

#[test]
fn a_binding_shows_its_provider_and_takes_no_writes() {
    let (owner, user) = two();
    let body = json!({ "publish": true, "parameters": [{ "key": "k", "value": 1 }] });
    owner.put("packages/p", &body).expect(200);
    owner.put_action("p/a", ECHO);
    let feed = json!({ "annotations": [{ "key": "feed", "value": true }] });
    owner.put_action_with("p/f", ECHO, feed);
    let binding = json!({ "namespace": owner.namespace, "name": "p" });
    user.put("packages/mine", &json!({ "binding": binding }))
        .expect(200);
    let none = Value::Null;
    let denied = Expect::Error("Operation not permitted on package binding.");
    let rows = rows! {
        "2.6", "PUT actions/mine/a?overwrite=true", exec(ECHO) => 400, denied.clone();
        "2.6", "DELETE actions/mine/a", none.clone() => 400, denied;
        "2.7", "GET packages/mine", none.clone() => 200, Expect::Has(json!({ "binding": binding, "parameters": [{ "key": "k", "value": 1 }] }));
        "2.6", "GET actions/mine/a?code=false", none => 200,
            Expect::Has(json!({ "namespace": format!("{}/p", owner.namespace), "binding": format!("{}/mine", user.namespace) }));
    };
    run(&user, &rows);
    let package = user.get("packages/mine").expect(200).json();
    assert_eq!(names(&package["actions"]), ["a"], "section 2.7");
    assert_eq!(names(&package["feeds"]), ["f"], "section 2.7");
    let listed = user.get("actions/mine/").expect(200).json();
    assert_eq!(names(&listed).len(), 2, "section 2.5");
    assert_eq!(listed[0]["namespace"], format!("{}/p", owner.namespace));
    let row = user.get("packages").expect(200).json();
    assert_eq!(row[0]["binding"], binding, "section 2.5");
    // The provider may take it back, or away.
    let private = json!({ "publish": false });
    owner.put("packages/p?overwrite=true", &private).expect(200);
    user.get("packages/mine").expect(403);
    user.result("mine/a", &json!({})).expect(403);
    owner.delete("packages/p?force=true").expect(200);
    user.delete("packages/mine").expect(200);
}

#[test]
fn what_cannot_be_bound_is_refused() {
    let (owner, user) = two();
    owner.put("packages/private", &json!({})).expect(200);
    user.put("packages/p", &json!({})).expect(200);
    user.put_action("a", ECHO);
    let to = |namespace: &str, name: &str| json!({ "binding": { "namespace": namespace, "name": name } });
    let foreign = owner.namespace.as_str();
    user.put("packages/bound", &to("_", "p")).expect(200);
    let rows = rows! {
        "2.7", "PUT packages/b", to("_", "none") => 400, Expect::Error("Binding references a package that does not exist.");
        "2.7", "PUT packages/b", to("_", "bound") => 400, Expect::Error("Cannot bind to another package binding.");
        "2.7", "PUT packages/b", to("_", "a") => 409, Expect::Error("Cannot bind to a resource that is not a package.");
        "2.7", "PUT packages/b", to(foreign, "private") => 403, Expect::ErrorHas("is not authorized to access");
        "2.7", "PUT packages/b", to(foreign, "none") => 403, Expect::ErrorHas("is not authorized to access");
        "2.7", "PUT packages/p?overwrite=true", to("_", "p") => 409, Expect::Error("Resource is a package and cannot be converted into a binding.");
    };
    run(&user, &rows);
}

#[test]
fn what_is_private_is_never_confirmed_to_exist() {
    let (owner, user) = two();
    owner.put("packages/private", &json!({})).expect(200);
    owner.put_action("private/a", ECHO);
    owner.put_action("a", ECHO);
    owner.put("triggers/t", &json!({})).expect(200);
    let rule = json!({ "trigger": "/_/t", "action": "/_/a" });
    owner.put("rules/r", &rule).expect(200);
    owner
        .put("packages/open", &json!({ "publish": true }))
        .expect(200);
    let base = format!("/api/v1/namespaces/{}", owner.namespace);
    for (there, not_there) in [
        ("packages/private", "packages/nothing"),
        ("actions/private/a", "actions/nothing/a"),
        ("actions/private/", "actions/nothing/"),
        ("actions/a", "actions/nothing"),
        ("triggers/t", "triggers/nothing"),
        ("rules/r", "rules/nothing"),
    ] {
        for method in ["GET", "PUT", "DELETE", "POST"] {
            let ask = |path: &str| {
                let request = user.request(method, &format!("{base}/{path}"));
                let request = if matches!(method, "PUT" | "POST") {
                    request.json(&json!({}))
                } else {
                    request
                };
                let reply = user.client.send(&request);
                let last = path.trim_end_matches('/');
                let name = last.split_once('/').map_or("", |(_, name)| name);
                let text = reply.error().replace(&format!("/{name}'"), "/…'");
                (reply.status, text)
            };
            let (one, other) = (ask(there), ask(not_there));
            assert_eq!(one, other, "section 2.7: {method} {there} and {not_there}");
            assert!(matches!(one.0, 403 | 405), "{method} {there}: {one:?}");
        }
    }
    for list in ["actions", "triggers", "rules", "activations"] {
        user.get(&format!("{base}/{list}")).expect(403);
    }
    let seen = user.get(&format!("{base}/packages")).expect(200).json();
    assert_eq!(names(&seen), ["open"], "section 2.7");
    assert!(has(&seen[0], &json!({ "binding": false })), "section 13.29");
}
