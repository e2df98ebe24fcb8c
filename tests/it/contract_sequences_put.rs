//! Section 5.1: which sequences are taken, and how they are shown.

use serde_json::{Value, json};

use crate::contract_actions::exec;
use crate::harness::{ECHO, Expect, annotation, answers, rows, run, shared};

fn of(components: &[&str]) -> Value {
    json!({ "exec": { "kind": "sequence", "components": components } })
}

fn repeated(component: &str, count: usize) -> Value {
    of(&vec![component; count])
}

#[test]
fn a_sequence_is_shown_with_its_components_and_runs() {
    let tenant = shared().tenant();
    let n = &tenant.namespace;
    tenant.put_action("first", &answers(r#"{"from":"first"}"#));
    tenant.put("packages/p", &json!({})).expect(200);
    tenant.put_action("p/echo", ECHO);
    let mut body = of(&["/_/first", &format!("{n}/p/echo")]);
    body["parameters"] = json!([{ "key": "mine", "value": 1 }]);
    let made = tenant.put("actions/s", &body).expect(200).json();
    let names = json!([format!("/{n}/first"), format!("/{n}/p/echo")]);
    let exec = json!({ "kind": "sequence", "components": names, "binary": false });
    assert_eq!(made["exec"], exec, "section 2.6");
    assert_eq!(annotation(&made, "exec"), Some(&json!("sequence")));
    let parameters = json!([{ "key": "_actions", "value": names }]);
    assert_eq!(made["parameters"], parameters, "section 2.6");
    assert_eq!(tenant.get("actions/s").expect(200).json(), made);
    let lean = tenant.get("actions/s?code=false").expect(200).json();
    let exec = json!({ "kind": "sequence", "components": names });
    assert_eq!(lean["exec"], exec, "section 2.6");
    let result = tenant.result("s", &json!({})).expect(200).json();
    assert_eq!(result, json!({ "from": "first" }));
    // What replaces it does not inherit its components.
    let code = crate::contract_actions::exec(ECHO);
    let path = "actions/s?overwrite=true";
    let now = tenant.put(path, &code).expect(200).json();
    assert_eq!(now["parameters"], json!([]), "section 2.6");
    let result = tenant.result("s", &json!({ "x": 1 })).expect(200).json();
    assert_eq!(result, json!({ "x": 1 }));
}

#[test]
fn wrong_sequences_are_refused_in_the_words_of_the_wire() {
    let tenant = shared().tenant();
    let circular = || Expect::Error("Sequence may not refer to itself.");
    let missing = Expect::Error("Sequence component does not exist.");
    let long = || Expect::Error("Too many actions in the sequence.");
    let any = || Expect::Any;
    let rows = rows! {
        "5.1", "PUT actions/a", exec(ECHO) => 200, any();
        "5.1", "PUT actions/s", of(&[]) => 400, Expect::Error("No component specified for the sequence.");
        "5.1", "PUT actions/s", of(&["/_/none"]) => 400, missing;
        "5.1", "PUT actions/s", of(&["/_/s"]) => 400, circular();
        "1.7", "PUT actions/s", of(&["a"]) => 400, Expect::ErrorHas("The fully qualified name of the entity must contain at least");
        "5.1", "PUT actions/s", repeated("/_/a", 51) => 400, long();
        "5.1", "PUT actions/s", repeated("/_/a", 50) => 200, any();
        "5.1", "PUT actions/t", of(&["/_/s"]) => 200, any();
        "5.1", "PUT actions/u", of(&["/_/t", "/_/a"]) => 400, long();
        "5.1", "PUT actions/s?overwrite=true", of(&["/_/a", "/_/t"]) => 400, circular();
        "5.1", "PUT actions/a?overwrite=true", of(&["/_/t"]) => 400, circular();
        "2.6", "PUT actions/x", json!({ "exec": { "kind": "blackbox", "image": "i" } }) => 400, Expect::ErrorHas("runs no container images");
        "2.6", "PUT actions/x", json!({ "exec": { "kind": "builtin", "builtin": "x" } }) => 400, Expect::ErrorHas("The specified runtime 'builtin' is not supported by this platform.");
    };
    run(&tenant, &rows);
}

#[test]
fn components_of_others_that_may_not_be_used_are_named() {
    let (owner, user) = (shared().tenant(), shared().tenant());
    let n = &owner.namespace;
    owner
        .put("packages/open", &json!({ "publish": true }))
        .expect(200);
    owner.put_action("open/a", ECHO);
    let (z, a) = (format!("{n}/z/a"), format!("{n}/a"));
    let body = of(&[&format!("/{z}"), &format!("/{n}/open/a"), &format!("/{a}")]);
    let refused = user.put("actions/s", &body).expect(403);
    assert_eq!(
        refused.error(),
        format!("The supplied authentication is not authorized to access '{a}, {z}'."),
        "section 1.2: sorted"
    );
    let body = of(&[&format!("/{n}/open/a")]);
    user.put("actions/s", &body).expect(200);
    let allowed = json!({ "allowedKinds": ["wasm:1"] });
    user.limits(&allowed);
    let refused = user.put("actions/s?overwrite=true", &body).expect(403);
    assert_eq!(
        refused.error(),
        "The supplied authentication is not authorized to access actions of kind 'sequence'.",
        "section 2.6"
    );
}
