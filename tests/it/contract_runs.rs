//! Sections 3.3 and 3.6: what a run is told, how long it may take, and what becomes of its instance.

use serde_json::{Value, json};

use crate::harness::{
    ECHO, SLEEP, SPIN, annotation, answers, base64, command_echo, counts, id_of, shared, traps,
    variable,
};

#[test]
fn time_limits_hold_in_run_and_in_init() {
    let tenant = shared().tenant();
    let limits = json!({ "limits": { "timeout": 300 } });
    let spins = crate::harness::spins_in_init();
    let table = [
        (
            "run",
            SPIN,
            "The action exceeded its time limits of 300 milliseconds.",
        ),
        (
            "waits",
            SLEEP,
            "The action exceeded its time limits of 300 milliseconds.",
        ),
        (
            "init",
            &spins,
            "The action exceeded its time limits of 300 milliseconds during initialization.",
        ),
    ];
    for (name, code, text) in table {
        tenant.put_action_with(name, code, limits.clone());
        let record = tenant
            .invoke(name, &json!({ "ms": 5000 }))
            .expect(502)
            .json();
        assert_eq!(
            record["response"]["result"],
            json!({ "error": text }),
            "section 3.3: {name}"
        );
        assert_eq!(
            record["response"]["status"], "action developer error",
            "section 3.3: {name}"
        );
        assert_eq!(
            annotation(&record, "timeout"),
            Some(&json!(true)),
            "section 3.4: {name}"
        );
        let duration = record["duration"].as_u64().unwrap();
        assert!((290..3000).contains(&duration), "{name}: {duration} ms");
    }
}

#[test]
fn an_instance_is_kept_after_an_error_of_the_application_and_not_after_a_trap() {
    let tenant = shared().tenant();
    tenant.put_action("counts", &counts());
    let count = |name| tenant.result(name, &json!({})).expect(200).json()["n"].clone();
    assert_eq!(
        (count("counts"), count("counts")),
        (json!(1), json!(2)),
        "reused while warm"
    );
    let fresh = json!({ "annotations": [{ "key": "fresh-instance", "value": true }] });
    tenant.put_action_with("fresh", &counts(), fresh);
    assert_eq!(
        (count("fresh"), count("fresh")),
        (json!(1), json!(1)),
        "fresh-instance"
    );
    for (name, code, warm) in [
        ("error", answers("{\"error\":1}"), true),
        ("trap", traps(), false),
        ("text", answers("text"), true),
    ] {
        tenant.put_action(name, &code);
        tenant.invoke(name, &json!({})).expect(502);
        let second = tenant.invoke(name, &json!({})).expect(502).json();
        let was_warm = annotation(&second, "initTime").is_none();
        assert!(
            name == "text" || was_warm == warm,
            "section 3.3: {name}: {second}"
        );
    }
}

#[test]
fn the_guest_is_told_of_its_activation() {
    let tenant = shared().tenant();
    let value = |name: &str, more: Value| {
        let action = name.trim_start_matches('_').to_lowercase();
        tenant.put_action_with(&action, &variable(name), more);
        let reply = tenant.invoke(&action, &json!({})).expect(200);
        (reply.json()["response"]["result"]["value"].clone(), reply)
    };
    let none = || json!({});
    assert_eq!(
        value("__OW_NAMESPACE", none()).0,
        tenant.namespace.as_str(),
        "section 3.6"
    );
    assert_eq!(
        value("__OW_ACTION_NAME", none()).0,
        format!("/{}/ow_action_name", tenant.namespace),
        "section 3.6: leading slash"
    );
    assert_eq!(
        value("__OW_ACTION_VERSION", none()).0,
        "0.0.1",
        "section 3.6"
    );
    let (id, reply) = value("__OW_ACTIVATION_ID", none());
    assert_eq!(id, id_of(&reply), "section 3.6");
    let (transaction, reply) = value("__OW_TRANSACTION_ID", none());
    assert_eq!(
        transaction.as_str(),
        reply.header("x-request-id"),
        "section 3.6"
    );
    let (deadline, reply) = value("__OW_DEADLINE", none());
    let deadline: u64 = deadline
        .as_str()
        .unwrap()
        .parse()
        .expect("section 3.6: epoch ms");
    assert!(
        deadline.abs_diff(reply.json()["start"].as_u64().unwrap() + 60_000) < 5_000,
        "section 3.6"
    );
    assert_eq!(
        value("__OW_API_KEY", none()).0,
        Value::Null,
        "section 3.6: only if provide-api-key"
    );
    let wanted = json!({ "annotations": [{ "key": "provide-api-key", "value": true }] });
    assert_eq!(
        value("__OW_API_KEY", wanted).0,
        tenant.key.as_str(),
        "section 3.6"
    );
    assert_eq!(value("__OW_NO_SUCH", none()).0, Value::Null);
}

#[test]
fn what_a_warm_instance_is_told_is_of_this_activation() {
    let tenant = shared().tenant();
    tenant.put_action("id", &variable("__OW_ACTIVATION_ID"));
    for _ in 0..3 {
        let reply = tenant.invoke("id", &json!({})).expect(200);
        assert_eq!(reply.json()["response"]["result"]["value"], id_of(&reply));
    }
}

#[test]
fn every_way_of_being_called_echoes() {
    let tenant = shared().tenant();
    let example =
        |path: &str| base64(&std::fs::read(crate::harness::repository().join(path)).unwrap());
    tenant.put_action("core", ECHO);
    tenant.put_action("command", &command_echo());
    for name in ["core", "command"] {
        let text = "héllo ✓ \u{1F600} \u{0} \" \\";
        let params = json!({ "text": text, "deep": [[{}]], "n": 1.5, "big": 12_345_678_901_234_567_890_u64 });
        assert_eq!(
            tenant.result(name, &params).expect(200).json(),
            params,
            "{name}"
        );
    }
    tenant.put_action(
        "component",
        &example("examples/hello-component/hello-component.wasm"),
    );
    let reply = tenant
        .result("component", &json!({ "name": "Ada" }))
        .expect(200);
    assert!(reply.text().contains("Ada"), "{}", reply.shown());
    tenant.put_action("rust", &example("examples/hello-rust/hello-rust.wasm"));
    let reply = tenant.result("rust", &json!({ "name": "Ada" })).expect(200);
    assert!(reply.text().contains("Ada"), "{}", reply.shown());
}

#[test]
fn an_action_deleted_before_its_run_is_an_application_error_or_ran() {
    let tenant = shared().tenant();
    tenant.put_action_with("a", SLEEP, json!({ "limits": { "instances": 1 } }));
    let all: Vec<String> = (0..4)
        .map(|_| tenant.fire("a", &json!({ "ms": 100 })))
        .collect();
    tenant.delete("actions/a").expect(200);
    for id in all {
        let status = tenant.awaited(&id)["response"]["status"].clone();
        assert!(
            status == "success" || status == "application error",
            "section 3.3: {status}"
        );
    }
}
