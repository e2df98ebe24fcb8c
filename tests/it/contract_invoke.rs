//! Section 3: invoking, and how each outcome is answered.

use serde_json::{Value, json};

use crate::harness::{
    ECHO, Expect, Row, SLEEP, answers, answers_object_of, big_echo, command, has, id_of, run,
    shared, traps, traps_in_init,
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
