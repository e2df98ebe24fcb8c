//! Sections 3.4 and 3.5: what is kept of an activation, and its logs.

use serde_json::{Value, json};

use crate::harness::{
    ECHO, Expect, Row, Tenant, annotation, answers, eventually, has, id_of, logs, run, shared,
    traps,
};

#[test]
fn a_record_says_who_what_when_and_what_it_took() {
    let tenant = shared().tenant();
    tenant.put_action_with("a", ECHO, json!({ "limits": { "memory": 128 } }));
    let cold = tenant.activation(&id_of(&tenant.invoke("a", &json!({ "x": 1 })).expect(200)));
    let expected = json!({
        "namespace": tenant.namespace, "name": "a", "version": "0.0.1", "subject": tenant.namespace,
        "publish": false, "logs": [],
        "response": { "status": "success", "success": true, "size": 7, "result": { "x": 1 } },
    });
    assert!(has(&cold, &expected), "section 3.4: {cold}");
    let number = |key: &str| {
        cold[key]
            .as_u64()
            .unwrap_or_else(|| panic!("section 3.4: {key}: {cold}"))
    };
    assert_eq!(
        number("end") - number("start"),
        number("duration"),
        "section 3.4"
    );
    let path = format!("{}/a", tenant.namespace);
    let value = |record: &Value, key: &str| annotation(record, key).cloned();
    assert_eq!(value(&cold, "path"), Some(json!(path)), "section 3.4");
    assert_eq!(value(&cold, "kind"), Some(json!("wasm:1")), "section 3.4");
    assert_eq!(value(&cold, "timeout"), Some(json!(false)), "section 3.4");
    let limits = json!({ "concurrency": 1, "logs": 10, "memory": 128, "timeout": 60000 });
    assert_eq!(value(&cold, "limits"), Some(limits), "section 3.4");
    assert!(value(&cold, "waitTime").unwrap().is_u64(), "section 3.4");
    assert!(
        value(&cold, "initTime").is_some_and(|v| v.is_u64()),
        "section 3.4: the first is cold"
    );
    assert!(
        value(&cold, "cpuTime").is_some_and(|v| v.is_u64()),
        "{cold}"
    );
    assert!(
        value(&cold, "peakMemory").is_some_and(|v| v.as_u64() >= Some(65536)),
        "{cold}"
    );
    assert!(cold["response"].get("statusCode").is_none(), "section 3.4");
    assert!(cold.get("cause").is_none(), "section 3.4");
    let warm = tenant.activation(&id_of(&tenant.invoke("a", &json!({})).expect(200)));
    assert_eq!(
        value(&warm, "initTime"),
        None,
        "section 3.4: the second is warm"
    );
}

#[test]
fn parts_of_a_record_have_their_own_paths() {
    let tenant = shared().tenant();
    tenant.put_action("a", &logs("hello from the guest", 1));
    let id = id_of(&tenant.invoke("a", &json!({})).expect(200));
    let path = |rest: &str| format!("GET activations/{id}{rest}");
    let unknown = "0123456789abcdef0123456789abcdef";
    let missing = Expect::Error("The requested resource does not exist.");
    let get = |request: &str, status, expect| Row::new("3.4", request, Value::Null, status, expect);
    run(
        &tenant,
        &[
            get(
                &path("/result"),
                200,
                Expect::Is(
                    json!({ "result": {}, "success": true, "status": "success", "size": 2 }),
                ),
            ),
            get(&path("/other"), 404, Expect::Any),
            get(
                "GET activations/abc",
                400,
                Expect::Error("Activation id length is 3 but must be 32."),
            ),
            get(
                &format!("GET activations/{}", "g".repeat(32)),
                400,
                Expect::Error("The activation id is not valid."),
            ),
            get(&format!("GET activations/{unknown}"), 404, missing.clone()),
            get(
                &format!("GET activations/{unknown}/logs"),
                404,
                missing.clone(),
            ),
            get(&format!("GET activations/{unknown}/result"), 404, missing),
        ],
    );
    let lines = tenant
        .get(&format!("activations/{id}/logs"))
        .expect(200)
        .json();
    let lines = lines["logs"].as_array().expect("section 3.4").clone();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, stream) in lines.iter().zip(["stdout", "stderr"]) {
        let line = line.as_str().unwrap();
        let (stamp, text) = line.split_at(30);
        assert_eq!(
            text,
            format!(" {stream}: hello from the guest"),
            "section 3.5: {line}"
        );
        let shape = |c: char| if c.is_ascii_digit() { '0' } else { c };
        assert_eq!(
            stamp.chars().map(shape).collect::<String>(),
            "0000-00-00T00:00:00.000000000Z",
            "section 3.5"
        );
    }
}

#[test]
fn logs_end_at_their_limit_and_say_so() {
    let tenant = shared().tenant();
    let line = "x".repeat(99);
    let flood = logs(&line, 20_000);
    tenant.put_action_with("cut", &flood, json!({ "limits": { "logs": 1 } }));
    tenant.put_action_with("none", &flood, json!({ "limits": { "logs": 0 } }));
    let lines = |name| {
        let record = tenant.activation(&id_of(&tenant.invoke(name, &json!({})).expect(200)));
        record["logs"].as_array().unwrap().clone()
    };
    let cut = lines("cut");
    let last = cut.last().and_then(Value::as_str).unwrap();
    assert!(last.ends_with(" stderr: Logs were truncated because the total bytes size exceeds the limit of 1048576 bytes."), "section 3.5: {last}");
    // Stamp and stream may count as well, or only what the guest wrote.
    let kept: Vec<&str> = cut
        .iter()
        .filter_map(Value::as_str)
        .filter(|l| l.ends_with(&line))
        .collect();
    let written: usize = kept.iter().map(|_| line.len() + 1).sum();
    let shown: usize = kept.iter().map(|line| line.len()).sum();
    assert!(
        written <= 1 << 20 && shown >= 900_000,
        "section 3.5: {written} of {shown} bytes"
    );
    assert_eq!(lines("none"), Vec::<Value>::new(), "section 3.5: logs 0");
}

#[test]
fn a_developer_error_says_that_logs_may_be_missing() {
    let tenant = shared().tenant();
    tenant.put_action("a", &traps());
    let record = tenant.activation(&id_of(&tenant.invoke("a", &json!({})).expect(502)));
    let lines = record["logs"].as_array().unwrap();
    let note =
        " stderr: The action did not initialize or run as expected. Log data might be missing.";
    assert!(
        lines
            .iter()
            .any(|line| line.as_str().unwrap().ends_with(note)),
        "section 3.5: {record}"
    );
}

#[test]
fn a_trap_is_told_in_the_log_with_where_it_was() {
    let tenant = shared().tenant();
    let text = r#"(module
      (memory (export "memory") 1)
      (func (export "wisp_alloc") (param i32) (result i32) (i32.const 1024))
      (func $divides (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
      (func $inner (result i64) (i64.extend_i32_u (call $divides (i32.const 0))))
      (func (export "wisp_run") (param i32 i32) (result i64) (call $inner)))"#;
    let deep = r#"(module
      (memory (export "memory") 1)
      (func (export "wisp_alloc") (param i32) (result i32) (i32.const 1024))
      (func $down (result i64) (i64.add (call $down) (i64.const 1)))
      (func (export "wisp_run") (param i32 i32) (result i64) (call $down)))"#;
    tenant.put_action("a", text);
    tenant.put_action("deep", deep);
    tenant.put_action_with("none", text, json!({ "limits": { "logs": 0 } }));
    let lines = |name: &str| {
        let record = tenant.activation(&id_of(&tenant.invoke(name, &json!({})).expect(502)));
        let error = &record["response"]["result"]["error"];
        let said = "The action did not produce a valid response and exited unexpectedly.";
        assert_eq!(error, said, "section 3.3");
        let lines = record["logs"].as_array().unwrap().iter();
        let texts = lines.map(|line| line.as_str().unwrap().split_once(" stderr: ").unwrap().1);
        texts.map(str::to_owned).collect::<Vec<String>>()
    };
    assert_eq!(
        lines("a")[..4],
        [
            "The action trapped: integer divide by zero.",
            "  at divides",
            "  at inner",
            "  at function 3"
        ]
    );
    let deep = lines("deep");
    assert_eq!(deep[0], "The action exhausted its call stack.");
    assert_eq!(
        (deep[1].as_str(), deep.len()),
        ("  at down", 22),
        "{deep:?}"
    );
    assert_eq!(lines("none"), Vec::<String>::new());
}

fn ids(tenant: &Tenant, query: &str) -> Vec<String> {
    let rows = tenant
        .get(&format!("activations{query}"))
        .expect(200)
        .json();
    let rows = rows.as_array().expect("an array").clone();
    rows.iter()
        .map(|row| row["activationId"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn activations_are_listed_newest_first_and_filtered() {
    let tenant = shared().tenant();
    tenant.put_action("a", &logs("line", 1));
    tenant.put_action("b", &answers("{\"error\":1}"));
    let mut made = Vec::new();
    for name in ["a", "b", "a"] {
        made.push(id_of(&tenant.invoke(name, &json!({}))));
        // `since` and `upto` count milliseconds: the next must begin in a later one.
        let ended = tenant.activation(made.last().unwrap())["end"]
            .as_u64()
            .unwrap();
        eventually("the clock moves", || {
            (wisp::model::Timestamp::now().millis() > ended).then_some(())
        });
    }
    let newest: Vec<String> = made.iter().rev().cloned().collect();
    assert_eq!(ids(&tenant, ""), newest, "section 2.5: newest start first");
    assert_eq!(ids(&tenant, "?limit=1"), newest[..1]);
    assert_eq!(ids(&tenant, "?limit=1&skip=1"), newest[1..2]);
    assert_eq!(ids(&tenant, "?name=b"), newest[1..2], "section 3.4");
    assert_eq!(
        ids(&tenant, "?name="),
        newest,
        "section 3.4: empty is no filter"
    );
    let start = tenant.activation(&made[1])["start"].as_u64().unwrap();
    assert_eq!(
        ids(&tenant, &format!("?since={start}")),
        newest[..2],
        "section 3.4: inclusive"
    );
    assert_eq!(
        ids(&tenant, &format!("?upto={start}")),
        newest[1..],
        "section 3.4: inclusive"
    );
    let count = |query: &str| {
        tenant
            .get(&format!("activations?count=true{query}"))
            .expect(200)
            .json()
    };
    assert_eq!(count(""), json!({ "activations": 3 }), "section 2.5");
    assert_eq!(count("&name=a"), json!({ "activations": 2 }));
}

#[test]
fn rows_of_activations_are_lean_unless_docs_are_wanted() {
    let tenant = shared().tenant();
    tenant.put_action("a", &logs("line", 1));
    tenant.put_action("b", &answers("{\"error\":1}"));
    tenant.invoke("b", &json!({})).expect(502);
    let id = id_of(&tenant.invoke("a", &json!({})).expect(200));
    let rows = tenant.get("activations").expect(200).json();
    let mut keys: Vec<&str> = rows[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    let lean = [
        "activationId",
        "annotations",
        "duration",
        "end",
        "name",
        "namespace",
        "publish",
        "start",
        "statusCode",
        "version",
    ];
    assert_eq!(keys, lean, "section 3.4");
    assert_eq!(
        rows[0]["statusCode"]
            .as_u64()
            .max(rows[1]["statusCode"].as_u64()),
        Some(1),
        "section 3.3"
    );
    let docs = tenant
        .get("activations?docs=true&limit=0")
        .expect(200)
        .json();
    let docs: Vec<&Value> = docs
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["activationId"] == id.as_str())
        .collect();
    assert_eq!(
        *docs[0],
        tenant.activation(&id),
        "section 3.4: full records"
    );
    assert_eq!(
        docs[0]["logs"].as_array().map(Vec::len),
        Some(2),
        "section 10.2: poll relies on it"
    );
}

#[test]
fn bad_filters_are_refused_in_the_words_of_the_wire() {
    let tenant = shared().tenant();
    let row = |query: &str, expect| {
        Row::new(
            "3.4",
            &format!("GET activations?{query}"),
            Value::Null,
            400,
            expect,
        )
    };
    run(
        &tenant,
        &[
            row(
                "count=true&docs=true",
                Expect::ErrorHas("The parameter 'docs' is not permitted with 'count'."),
            ),
            row(
                "since=x",
                Expect::ErrorHas("Parameter is not a valid value for epoch seconds: x"),
            ),
            row(
                "upto=-",
                Expect::ErrorHas("Parameter is not a valid value for epoch seconds: -"),
            ),
            row(
                "name=a/b/c",
                Expect::ErrorHas(
                    "Parameter may be a 'simple' name or 'package-name/simple' name: a/b/c",
                ),
            ),
        ],
    );
}

#[test]
fn a_record_can_be_read_as_soon_as_the_answer_is_there() {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    for _ in 0..50 {
        let id = id_of(&tenant.invoke("a", &json!({})).expect(200));
        tenant.activation(&id);
        assert_eq!(
            ids(&tenant, "?limit=1"),
            [id],
            "design: read your own writes"
        );
    }
}

#[test]
fn a_namespace_may_turn_records_off() {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    tenant.limits(&json!({ "storeActivations": false }));
    let id = id_of(&tenant.invoke("a", &json!({})).expect(200));
    tenant.get(&format!("activations/{id}")).expect(404);
    let request = tenant
        .request("POST", "actions/a?blocking=true")
        .json(&json!({}));
    let forced = tenant
        .client
        .send(&request.header("X-OW-EXTRA-LOGGING", "on"))
        .expect(200);
    tenant.activation(&id_of(&forced));
}
