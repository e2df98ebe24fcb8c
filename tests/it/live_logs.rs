//! Log lines while an activation runs, as events.

use serde_json::json;

use crate::harness::{Events, Tenant, logs, logs_around_a_sleep, shared};

/// That its first line is told while it runs, the second after it, and the record at the end has both as they were told.
fn is_told_live(tenant: &Tenant, name: &str) {
    let mut events = Events::of(tenant, &format!("&logs=true&name={name}"));
    let mut silent = Events::of(tenant, "");
    let id = tenant.fire(name, &json!({}));
    let first = events.next_line(&id);
    tenant.get(&format!("activations/{id}")).expect(404);
    assert!(first.ends_with(" stdout: first"), "{first}");
    let second = events.next_line(&id);
    assert!(second.ends_with(" stderr: second"), "{second}");
    for events in [&mut events, &mut silent] {
        let (name, record) = events.next();
        assert_eq!(name, "activation", "{record}");
        assert_eq!(record["activationId"], json!(id));
        assert_eq!(record["logs"], json!([first, second]));
    }
}

#[test]
fn a_line_is_told_while_its_activation_runs_to_those_who_ask_for_it() {
    let tenant = shared().tenant();
    tenant.put_action("talks", &logs_around_a_sleep(1500));
    is_told_live(&tenant, "talks");
    // The second time the instance is there already.
    is_told_live(&tenant, "talks");
}

#[test]
fn lines_of_javascript_and_python_are_told_while_it_runs() {
    let tenant = shared().tenant();
    let script = "async function main() { console.log('first'); await new Promise(r => setTimeout(r, 1500)); \
                  console.error('second'); return {}; }";
    let python = "import sys, time\ndef main(args):\n  print('first')\n  time.sleep(1.5)\n  \
                  print('second', file=sys.stderr)\n  return {}\n";
    for (name, kind, code) in [("js", "nodejs:20", script), ("py", "python:3", python)] {
        let body = json!({ "exec": { "kind": kind, "code": code } });
        tenant.put(&format!("actions/{name}"), &body).expect(200);
        is_told_live(&tenant, name);
    }
}

#[test]
fn lines_of_other_actions_and_namespaces_are_not_told() {
    let (tenant, other) = (shared().tenant(), shared().tenant());
    let mut events = Events::of(&tenant, "&logs=true&name=mine");
    for (tenant, name) in [(&other, "mine"), (&tenant, "another"), (&tenant, "mine")] {
        tenant.put_action(name, &logs(name, 1));
        tenant.invoke(name, &json!({})).expect(200);
    }
    for _ in 0..2 {
        let (event, data) = events.next();
        assert_eq!(
            (event.as_str(), &data["name"]),
            ("log", &json!("mine")),
            "{data}"
        );
        let line = data["line"].as_str().expect("a line");
        assert!(line.ends_with(": mine"), "{line}");
    }
    assert_eq!(events.next().0, "activation");
}
