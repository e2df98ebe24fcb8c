//! Section 2.8: triggers, as entities.

use serde_json::{Value, json};

use crate::contract_actions::names;
use crate::harness::{Expect, rows, run, shared};

#[test]
fn a_trigger_is_made_read_changed_listed_and_deleted() {
    let tenant = shared().tenant();
    let none = Value::Null;
    let gone = Expect::Error("The requested resource does not exist.");
    let feed = |value: Value| json!({ "annotations": [{ "key": "feed", "value": value }] });
    let invalid = Expect::Error("Feed name is not valid");
    let parameters = json!([{ "key": "a", "value": 1 }]);
    let rows = rows! {
        "2.8", "PUT triggers/t", feed(json!(7)) => 400, invalid.clone();
        "2.8", "PUT triggers/t", feed(json!("a//$")) => 400, invalid;
        "2.2", "GET triggers/t", none.clone() => 404, gone.clone();
        "2.8", "PUT triggers/t", json!({ "parameters": parameters, "limits": {} }) => 200,
            Expect::Has(json!({ "namespace": tenant.namespace, "name": "t", "version": "0.0.1", "parameters": parameters, "limits": {} }));
        "2.2", "PUT triggers/t", json!({}) => 409, Expect::Error("resource already exists");
        "2.8", "PUT triggers/t?overwrite=true", feed(json!(7)) => 200, Expect::Has(json!({ "version": "0.0.2", "parameters": parameters }));
        "2.8", "PUT triggers/t?overwrite=true", json!({ "annotations": [] }) => 200, Expect::Has(json!({ "annotations": [] }));
        "2.3", "GET rules/t", none.clone() => 409, Expect::Error("Resource by this name exists but is not in this collection.");
        "2.5", "GET triggers?count=true", none.clone() => 200, Expect::Is(json!({ "triggers": 1 }));
        "2.2", "DELETE triggers/t", none.clone() => 200, Expect::Has(json!({ "name": "t", "limits": {} }));
        "2.2", "DELETE triggers/t", none => 404, gone;
    };
    run(&tenant, &rows);
}

#[test]
fn triggers_are_listed_newest_first_and_lean() {
    let tenant = shared().tenant();
    for name in ["a", "b", "c"] {
        tenant
            .put(&format!("triggers/{name}"), &json!({}))
            .expect(200);
    }
    tenant
        .put("triggers/a?overwrite=true", &json!({}))
        .expect(200);
    let rows = tenant.get("triggers").expect(200).json();
    assert_eq!(names(&rows), ["a", "c", "b"], "section 2.5");
    let mut keys: Vec<_> = rows[0].as_object().unwrap().keys().collect();
    keys.sort_unstable();
    let lean = [
        "annotations",
        "name",
        "namespace",
        "publish",
        "updated",
        "version",
    ];
    assert_eq!(keys, lean, "section 2.5");
}
