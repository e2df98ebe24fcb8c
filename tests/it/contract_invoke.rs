//! Section 3: invoking, and what is told of it.

use serde_json::{Value, json};

use crate::harness::{
    ECHO, Expect, Row, SLEEP, SPIN, Tenant, annotation, answers, answers_object_of, base64,
    big_echo, command, command_echo, counts, eventually, has, id_of, logs, run, shared, traps,
    traps_in_init, variable,
};

const EXITED: &str = "The action did not produce a valid response and exited unexpectedly.";

fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What a guest answers, and how each form of a call shows it.
struct Case {
    what: &'static str,
    code: String,
    status: u16,
    words: &'static str,
    result: Value,
}

fn case(what: &'static str, code: String, words: &'static str, result: Value) -> Case {
    let status = if words == "success" { 200 } else { 502 };
    Case {
        what,
        code,
        status,
        words,
        result,
    }
}

fn answered() -> Vec<Case> {
    let ok = |what, text, result| case(what, answers(text), "success", result);
    let error = |what, text, result| case(what, answers(text), "application error", result);
    vec![
        ok(
            "an object",
            r#"{"greeting":"hi"}"#,
            json!({ "greeting": "hi" }),
        ),
        ok("white space around", " {\"a\" : 1}\n", json!({ "a": 1 })),
        error(
            "error with siblings",
            r#"{"error":"bad","other":1}"#,
            json!({ "error": "bad" }),
        ),
        error("error null", r#"{"error":null}"#, json!({ "error": null })),
        error(
            "error false",
            r#"{"error":false}"#,
            json!({ "error": false }),
        ),
        error(
            "error object",
            r#"{"error":{"code":4}}"#,
            json!({ "error": { "code": 4 } }),
        ),
        error(
            "error escaped",
            r#"{"\u0065rror":1}"#,
            json!({ "error": 1 }),
        ),
    ]
}

fn invalid() -> Vec<Case> {
    const PREFIX: &str = "The action did not produce a valid JSON or JSON Array response: ";
    let texts = [
        ("a string", "\"text\""),
        ("a number", "42"),
        ("null", "null"),
        ("no JSON", "hello"),
        ("two", "{} {}"),
    ];
    let of = |(what, text)| {
        let error = json!({ "error": format!("{PREFIX}{text}") });
        case(what, answers(text), "action developer error", error)
    };
    texts.map(of).into()
}

fn ended() -> Vec<Case> {
    let developer = "action developer error";
    let not_initialised = "The action did not initialize and exited unexpectedly.";
    vec![
        case("a trap", traps(), developer, json!({ "error": EXITED })),
        case(
            "a trap in init",
            traps_in_init(),
            developer,
            json!({ "error": not_initialised }),
        ),
        case(
            "a command",
            command("log\n{\"a\":1}\n", 0),
            "success",
            json!({ "a": 1 }),
        ),
        case(
            "a command's error",
            command("{\"error\":\"e\",\"x\":1}\n", 0),
            "application error",
            json!({ "error": "e" }),
        ),
        case(
            "a command that fails",
            command("{\"error\":\"e\"}\n", 3),
            developer,
            json!({ "error": "e" }),
        ),
    ]
}

#[test]
fn every_outcome_has_its_status_and_its_shapes() {
    let tenant = shared().tenant();
    let cases = answered().into_iter().chain(invalid()).chain(ended());
    for (index, case) in cases.enumerate() {
        let name = format!("case{index}");
        tenant.put_action(&name, &case.code);
        let what = format!("section 3.2, 3.3: {}", case.what);
        let bare = tenant.result(&name, &json!({}));
        assert_eq!(
            (bare.status, bare.json()),
            (case.status, case.result.clone()),
            "{what}"
        );
        assert!(
            bare.header("x-openwhisk-activation-id").is_some_and(is_id),
            "{what}"
        );
        let whole = tenant.invoke(&name, &json!({}));
        assert_eq!(whole.status, case.status, "{what}: {}", whole.shown());
        let record = whole.json();
        let response =
            json!({ "status": case.words, "success": case.status == 200, "result": case.result });
        assert!(has(&record["response"], &response), "{what}: {record}");
        assert_eq!(
            record["logs"],
            json!([]),
            "section 3.2: no logs on the fast path"
        );
        assert_eq!(
            whole.header("x-openwhisk-activation-id"),
            record["activationId"].as_str()
        );
        let stored = tenant.activation(&id_of(&whole));
        assert!(
            has(&stored["response"], &response),
            "{what}: the record: {stored}"
        );
    }
}

#[test]
fn an_array_comes_back_bare_even_without_result() {
    let tenant = shared().tenant();
    tenant.put_action("a", &answers("[1,{\"b\":2}]"));
    for reply in [
        tenant.invoke("a", &json!({})),
        tenant.result("a", &json!({})),
    ] {
        assert_eq!(
            reply.expect(200).json(),
            json!([1, { "b": 2 }]),
            "section 3.2"
        );
    }
}

#[test]
fn a_non_blocking_call_is_202_with_an_id() {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    for query in [
        "",
        "?result=true",
        "?blocking=false",
        "?blocking=0",
        "?blocking=",
        "?blocking=NO",
    ] {
        let reply = tenant
            .post(&format!("actions/a{query}"), &json!({ "x": 1 }))
            .expect(202);
        let body = reply.json();
        let id = id_of(&reply);
        assert!(is_id(&id), "section 3.4: {id}");
        assert_eq!(body, json!({ "activationId": id }), "section 3.2: {query}");
        assert_eq!(
            reply.header("x-openwhisk-activation-id"),
            Some(id.as_str()),
            "section 1.4"
        );
        let record = tenant.awaited(&id);
        assert_eq!(record["response"]["result"], json!({ "x": 1 }));
    }
}

#[test]
fn booleans_are_read_in_every_way_upstream_knows() {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    for word in ["true", "yes", "on", "1", "TRUE", "Yes"] {
        tenant
            .post(
                &format!("actions/a?blocking={word}&result={word}"),
                &json!({}),
            )
            .expect(200);
    }
    let row = |request: &str, text| Row::new("3.1", request, json!({}), 400, Expect::Error(text));
    run(
        &tenant,
        &[
            row(
                "POST actions/a?blocking=maybe",
                "The query parameter 'blocking' was malformed:\n'maybe' is not a valid Boolean value",
            ),
            row(
                "POST actions/a?blocking=true&result=2",
                "The query parameter 'result' was malformed:\n'2' is not a valid Boolean value",
            ),
        ],
    );
}

#[test]
fn a_wait_that_ends_is_202_and_the_activation_goes_on() {
    let tenant = shared().tenant();
    tenant.put_action("a", SLEEP);
    let reply = tenant
        .post(
            "actions/a?blocking=true&result=true&timeout=50",
            &json!({ "ms": 700 }),
        )
        .expect(202);
    let id = id_of(&reply);
    assert_eq!(reply.json(), json!({ "activationId": id }), "section 3.2");
    let record = tenant.awaited(&id);
    assert_eq!(record["response"]["result"], json!({ "ms": 700 }));
    assert!(record["duration"].as_u64().unwrap() >= 690, "{record}");
}

#[test]
fn the_wait_is_between_1_and_60000_ms() {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    let rows = ["0", "-1", "60001", "x", "1.5"].map(|bad| {
        let request = format!("POST actions/a?blocking=true&timeout={bad}");
        Row::new(
            "3.1",
            &request,
            json!({}),
            400,
            Expect::ErrorHas("Timeout must be number of milliseconds up to 60000."),
        )
    });
    run(&tenant, &rows);
    tenant
        .post("actions/a?blocking=true&timeout=60000", &json!({}))
        .expect(200);
}

#[test]
fn a_payload_is_an_object_or_nothing() {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    let row = |body: Value| {
        Row::new(
            "3.1",
            "POST actions/a?blocking=true",
            body,
            400,
            Expect::ErrorStarts("The request content was malformed:\n"),
        )
    };
    run(
        &tenant,
        &[
            row(json!([1])),
            row(json!("x")),
            row(json!(1)),
            row(json!(true)),
        ],
    );
    let empty = tenant
        .client
        .send(&tenant.request("POST", "actions/a?blocking=true&result=true"))
        .expect(200);
    assert_eq!(empty.json(), json!({}), "section 3.1: empty is {{}}");
    let broken = tenant
        .request("POST", "actions/a?blocking=true")
        .raw("application/json", "{\"a\":");
    tenant.client.send(&broken).expect(400);
    let text = tenant
        .request("POST", "actions/a?blocking=true")
        .raw("text/plain", "hello");
    tenant.client.send(&text).expect(415);
}

#[test]
fn a_payload_over_a_mebibyte_is_413_and_just_under_passes() {
    let tenant = shared().tenant();
    tenant.put_action("a", &big_echo());
    let of = |size: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(size - 8));
    let send = |body: String| {
        tenant.client.send(
            &tenant
                .request("POST", "actions/a?blocking=true&result=true")
                .raw("application/json", body),
        )
    };
    let over = send(of(1_048_577)).expect(413);
    assert_eq!(
        over.error(),
        "Request larger than allowed: 1048577 > 1048576 bytes.",
        "section 3.1"
    );
    let most = of(1_048_576);
    assert_eq!(
        send(most.clone()).expect(200).text(),
        most,
        "section 3.6: a 1 MB echo"
    );
    tenant.limits(&json!({ "maxPayloadSize": 100 }));
    let over = send(of(101)).expect(413);
    assert_eq!(
        over.error(),
        "Request larger than allowed: 101 > 100 bytes.",
        "section 3.1: of the namespace"
    );
}

#[test]
fn a_result_over_the_limit_is_cut_and_is_an_application_error() {
    let tenant = shared().tenant();
    tenant.put_action("most", &answers_object_of(1 << 20));
    tenant.result("most", &json!({})).expect(200);
    tenant.put_action("over", &answers_object_of((1 << 20) + 1));
    let reply = tenant.invoke("over", &json!({})).expect(502).json();
    let expected = json!({ "response": { "status": "application error", "success": false } });
    assert!(has(&reply, &expected), "section 3.3");
    let text = reply["response"]["result"]["error"].as_str().unwrap();
    let start = "The action produced a response that exceeded the allowed length: 1048577 > 1048576 bytes. The truncated response was: {\"a\":\"aaa";
    assert!(
        text.starts_with(start),
        "section 3.3: {}",
        text.chars().take(200).collect::<String>()
    );
    assert!(
        text.len() <= (1 << 20) + 300,
        "the prefix is bounded: {}",
        text.len()
    );
}

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
