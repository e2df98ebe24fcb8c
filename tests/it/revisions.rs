//! Revisions of actions: what was replaced can be read, run and brought back, also after a crash.

use serde_json::{Value, json};

use crate::harness::{SLEEP, Server, Tenant, annotation, answers, id_of, shared, variable};

fn says(text: &str) -> String {
    answers(&json!({ "v": text }).to_string())
}

fn numbers(tenant: &Tenant) -> Vec<Value> {
    let rows = tenant.get("actions/a?revisions=true").expect(200).json();
    let rows = rows.as_array().expect("an array");
    rows.iter().map(|row| row["revision"].clone()).collect()
}

#[test]
fn a_former_text_is_read_run_and_brought_back() {
    let tenant = shared().tenant();
    for text in ["one", "two"] {
        tenant.put_action("a", &says(text));
    }
    assert_eq!(numbers(&tenant), [2, 1]);
    let first = tenant.get("actions/a?revision=1").expect(200);
    assert_eq!(first.header("x-wisp-revision"), Some("1"));
    assert_eq!(first.json()["exec"]["code"], says("one"));
    // Called in turn, each call gets the text it asked for, and its record says which that was.
    for (query, text, number) in [
        ("", "two", 2),
        ("&revision=1", "one", 1),
        ("&revision=2", "two", 2),
        ("&revision=1", "one", 1),
        ("", "two", 2),
    ] {
        let path = format!("actions/a?blocking=true{query}");
        let whole = tenant.post(&path, &json!({})).expect(200).json();
        assert_eq!(whole["response"]["result"], json!({ "v": text }), "{query}");
        assert_eq!(annotation(&whole, "revision"), Some(&json!(number)));
    }
    let path = "actions/a?overwrite=true&revision=1";
    let back = tenant.client.send(&tenant.request("PUT", path));
    assert_eq!(back.header("x-wisp-revision"), Some("3"));
    assert_eq!(back.expect(200).json()["version"], "0.0.3");
    let result = tenant.result("a", &json!({})).expect(200).json();
    assert_eq!(result, json!({ "v": "one" }));
    tenant
        .post("actions/a?blocking=true&revision=4", &json!({}))
        .expect(404);
    tenant.delete("actions/a").expect(200);
    tenant.put_action("a", &says("new"));
    assert_eq!(numbers(&tenant), [1]);
}

#[test]
fn revisions_and_their_code_survive_a_crash() {
    let server = Server::start("[api]\nrevisions_max = 2\n");
    let tenant = server.tenant();
    for text in ["one", "two", "three", "four"] {
        tenant.put_action("a", &says(text));
    }
    let server = server.crash_and_restart();
    let tenant = Tenant::new(server.client(), &tenant.namespace, &tenant.key);
    assert_eq!(numbers(&tenant), [4, 3, 2]);
    for (number, text) in [(2, "two"), (3, "three"), (4, "four")] {
        let path = format!("actions/a?blocking=true&result=true&revision={number}");
        let result = tenant.post(&path, &json!({})).expect(200).json();
        assert_eq!(result, json!({ "v": text }));
    }
    tenant.get("actions/a?revision=1").expect(404);
}

#[test]
fn revisions_that_run_side_by_side_are_each_their_own_and_count_together() {
    let tenant = shared().tenant();
    // Each says which version it is told to be, having slept; the environment is a warm instance's from its start.
    for version in ["1.0.0", "2.0.0"] {
        let more = json!({ "version": version, "limits": { "instances": 4, "timeout": 20_000 } });
        tenant.put_action_with("a", &variable("__OW_ACTION_VERSION"), more);
    }
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let tenant = &tenant;
            scope.spawn(move || {
                for call in 0..15 {
                    let number = 1 + (caller + call) % 2;
                    let path = format!("actions/a?blocking=true&revision={number}");
                    let record = tenant.post(&path, &json!({})).expect(200).json();
                    let version = format!("{number}.0.0");
                    assert_eq!(record["response"]["result"]["value"], json!(version));
                    assert_eq!(record["version"], json!(version));
                    assert_eq!(annotation(&record, "revision"), Some(&json!(number)));
                }
            });
        }
    });
    // The limit of instances is the action's, whichever revisions run: the second waits for the first.
    for _ in 0..2 {
        tenant.put_action_with("one", SLEEP, json!({ "limits": { "instances": 1 } }));
    }
    let first = tenant
        .post("actions/one?revision=1", &json!({ "ms": 1500 }))
        .expect(202);
    let second = tenant
        .post("actions/one?revision=2", &json!({ "ms": 1 }))
        .expect(202);
    let (first, second) = (
        tenant.awaited(&id_of(&first)),
        tenant.awaited(&id_of(&second)),
    );
    let at = |record: &Value, field: &str| record[field].as_u64().expect("a time");
    assert!(
        at(&second, "start") >= at(&first, "end"),
        "{first} {second}"
    );
}
