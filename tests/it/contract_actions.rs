//! Sections 2.1 to 2.6, 2.10 and 2.11: actions, created, read, changed, listed, deleted.

use serde_json::{Value, json};

use crate::harness::{
    ECHO, Expect, Row, annotation, answers, base64, big_echo, has, rows, run, shared, variable, zip,
};

pub(crate) fn exec(code: &str) -> Value {
    json!({ "exec": { "kind": "wasm:1", "code": code } })
}

/// `exec` and more.
pub(crate) fn with(code: &str, more: Value) -> Value {
    let mut body = exec(code);
    let fields = more.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(fields);
    body
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
    let rows = list.as_array().expect("an array");
    rows.iter().filter_map(|row| row["name"].as_str()).collect()
}

#[test]
fn create_answers_the_whole_entity_with_its_code() {
    let tenant = shared().tenant();
    let body = with(
        ECHO,
        json!({
            "namespace": "ignored", "name": "ignored", "updated": 1, "unknown": true,
            "parameters": [{ "key": "a", "value": 1 }, { "key": "n", "value": null }],
            "annotations": [{ "key": "description", "value": "echoes" }],
            "limits": { "timeout": 1000 },
        }),
    );
    let put = tenant.put("actions/a", &body).expect(200).json();
    let expected = json!({
        "namespace": tenant.namespace, "name": "a", "version": "0.0.1", "publish": false,
        "exec": { "kind": "wasm:1", "code": ECHO, "binary": false },
        "parameters": [{ "key": "a", "value": 1 }, { "key": "n", "value": null }],
        "limits": { "timeout": 1000, "memory": 256, "logs": 10, "concurrency": 1 },
    });
    assert!(has(&put, &expected), "section 2.6: {put}");
    assert!(
        put["updated"].as_u64().unwrap() > 1_600_000_000_000,
        "section 2.1: server-set"
    );
    assert_eq!(
        annotation(&put, "exec"),
        Some(&json!("wasm:1")),
        "section 2.11"
    );
    assert_eq!(
        annotation(&put, "provide-api-key"),
        Some(&json!(false)),
        "section 2.6"
    );
    assert_eq!(annotation(&put, "description"), Some(&json!("echoes")));
    assert!(
        put["exec"].get("main").is_none(),
        "section 2.6: main only if set"
    );
    assert!(put["limits"].get("instances").is_none(), "section 2.6");
    assert_eq!(
        tenant.get("actions/a").expect(200).json(),
        put,
        "GET says what PUT said"
    );
}

#[test]
fn get_without_code_leaves_only_the_code_out() {
    let tenant = shared().tenant();
    tenant
        .put(
            "actions/a",
            &json!({ "exec": { "kind": "wasm:1", "code": ECHO, "main": "run" } }),
        )
        .expect(200);
    let lean = tenant.get("actions/a?code=false").expect(200).json();
    assert_eq!(
        lean["exec"],
        json!({ "kind": "wasm:1", "binary": false, "main": "run" }),
        "section 2.6"
    );
    let full = tenant.get("actions/a?code=true").expect(200).json();
    assert_eq!(full["exec"]["code"], ECHO);
}

#[test]
fn code_comes_back_as_it_was_sent_and_binary_is_derived() {
    let tenant = shared().tenant();
    let wasm = wat::parse_str(ECHO).unwrap();
    let table = [
        ("text", ECHO.to_owned(), false),
        ("raw", base64(&wasm), true),
        ("zipped", zip(&[("echo.wasm", &wasm)]), true),
        (
            "folder",
            zip(&[("README.md", b"about"), ("bin/echo.wasm", &wasm)]),
            true,
        ),
        ("zipped-text", zip(&[("echo.wat", ECHO.as_bytes())]), true),
        (
            "text-in-base64",
            base64(format!("{ECHO}  ").as_bytes()),
            true,
        ),
    ];
    for (name, code, binary) in table {
        let path = format!("actions/{name}");
        let body = json!({ "exec": { "kind": "wasm:1", "code": code, "binary": !binary } });
        tenant.put(&path, &body).expect(200);
        let got = tenant.get(&path).expect(200).json();
        assert_eq!(got["exec"]["code"], code.as_str(), "section 2.6: {name}");
        assert_eq!(
            got["exec"]["binary"], binary,
            "section 2.6: {name}: the client's word is ignored"
        );
        let reply = tenant.result(name, &json!({ "x": name })).expect(200);
        assert_eq!(reply.json(), json!({ "x": name }), "{name} runs");
    }
}

#[test]
fn put_needs_overwrite_to_replace() {
    let tenant = shared().tenant();
    let none = Value::Null;
    let missing = Expect::Error("The requested resource does not exist.");
    let exists = Expect::Error("resource already exists");
    let version = |version| Expect::Has(json!({ "version": version }));
    let rows = rows! {
        "2.2", "PUT actions/a", exec(ECHO) => 200, version("0.0.1");
        "2.2", "PUT actions/a", exec(ECHO) => 409, exists.clone();
        "2.2", "PUT actions/a?overwrite=false", exec(ECHO) => 409, exists;
        "2.1", "PUT actions/a?overwrite=true", exec(ECHO) => 200, version("0.0.2");
        "2.1", "PUT actions/a?overwrite=true", json!({ "version": "3" }) => 200, version("3.0.0");
        "2.1", "PUT actions/a?overwrite=true", json!({ "version": "1.2" }) => 200, version("1.2.0");
        "2.1", "PUT actions/a?overwrite=true", json!({}) => 200, version("1.2.1");
        "2.1", "PUT actions/a?overwrite=true", json!({ "version": "0.0.0" }) => 400, Expect::ErrorHas("semantic version malformed");
        "2.2", "DELETE actions/a", none.clone() => 200, Expect::Has(json!({ "name": "a", "version": "1.2.1" }));
        "2.2", "DELETE actions/a", none.clone() => 404, missing.clone();
        "2.2", "GET actions/a", none => 404, missing.clone();
        "2.2", "POST actions/a", json!({}) => 404, missing;
        "2.6", "PUT actions/a?overwrite=true", json!({}) => 400, Expect::Error("exec undefined");
        "2.6", "PUT actions/no-package/a", exec(ECHO) => 404, Expect::ErrorHas("does not exist");
    };
    run(&tenant, &rows);
}

#[test]
fn an_update_keeps_what_it_does_not_name() {
    let tenant = shared().tenant();
    let first = with(
        ECHO,
        json!({
            "publish": true,
            "parameters": [{ "key": "a", "value": 1 }, { "key": "b", "value": 2 }],
            "annotations": [{ "key": "x", "value": 1 }, { "key": "y", "value": 2 }],
            "limits": { "timeout": 1000, "memory": 128 },
        }),
    );
    tenant.put("actions/a", &first).expect(200);
    let update = |body: Value| {
        tenant
            .put("actions/a?overwrite=true", &body)
            .expect(200)
            .json()
    };
    let got = update(json!({ "limits": { "timeout": 2000 } }));
    assert!(
        has(
            &got,
            &json!({ "publish": true, "limits": { "timeout": 2000, "memory": 128 } })
        ),
        "section 2.6: {got}"
    );
    assert_eq!(
        got["parameters"].as_array().map(Vec::len),
        Some(2),
        "section 2.6"
    );
    assert_eq!(got["exec"]["code"], ECHO, "section 2.6");
    let got = update(json!({ "parameters": [{ "key": "c", "value": 3 }] }));
    assert_eq!(
        got["parameters"],
        json!([{ "key": "c", "value": 3 }]),
        "section 2.6: replaced wholesale"
    );
    let got = update(json!({
        "annotations": [{ "key": "x", "value": 9 }, { "key": "z", "value": 3 }, { "key": "exec", "value": "lie" }],
        "delAnnotations": ["y"],
    }));
    let value = |key| annotation(&got, key).cloned();
    assert_eq!(value("x"), Some(json!(9)), "section 2.6: new keys win");
    assert_eq!(value("y"), None, "section 2.6: delAnnotations");
    assert_eq!(value("z"), Some(json!(3)));
    assert_eq!(
        value("exec"),
        Some(json!("wasm:1")),
        "section 2.6: always overwritten"
    );
    assert_eq!(
        value("provide-api-key"),
        Some(json!(false)),
        "kept from create"
    );
    let got = update(json!({ "publish": false, "delAnnotations": ["provide-api-key"] }));
    assert_eq!(
        annotation(&got, "provide-api-key"),
        None,
        "section 2.6: added on create only"
    );
    assert_eq!(got["publish"], false);
}

#[test]
fn duplicate_annotations_and_parameters_keep_the_last() {
    let tenant = shared().tenant();
    let twice = json!([{ "key": "k", "value": 1 }, { "key": "k", "value": 2 }]);
    let put = tenant.put(
        "actions/a",
        &with(ECHO, json!({ "annotations": twice, "parameters": twice })),
    );
    let put = put.expect(200).json();
    assert_eq!(annotation(&put, "k"), Some(&json!(2)), "section 2.1");
    assert_eq!(
        put["parameters"],
        json!([{ "key": "k", "value": 2 }]),
        "section 2.1"
    );
}

#[test]
fn lists_are_newest_first_lean_and_paged() {
    let tenant = shared().tenant();
    for name in ["a", "b", "c"] {
        tenant.put_action_with(
            name,
            ECHO,
            json!({ "parameters": [{ "key": "p", "value": 1 }] }),
        );
    }
    tenant
        .put("actions/a?overwrite=true", &json!({}))
        .expect(200);
    let list = |query: &str| tenant.get(&format!("actions{query}")).expect(200).json();
    let all = list("");
    assert_eq!(
        names(&all),
        ["a", "c", "b"],
        "section 2.5: newest updated first"
    );
    let mut keys: Vec<&str> = all[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "annotations",
            "exec",
            "limits",
            "name",
            "namespace",
            "publish",
            "updated",
            "version"
        ],
        "section 2.5"
    );
    assert_eq!(
        all[0]["exec"],
        json!({ "binary": false }),
        "section 2.5: no kind"
    );
    assert_eq!(
        annotation(&all[0], "exec"),
        Some(&json!("wasm:1")),
        "section 10.4: exec is a string"
    );
    assert_eq!(names(&list("?limit=1")), ["a"]);
    assert_eq!(names(&list("?limit=1&skip=1")), ["c"]);
    assert_eq!(names(&list("?skip=3")), Vec::<&str>::new());
    assert_eq!(
        names(&list("?limit=0")),
        ["a", "c", "b"],
        "section 2.5: 0 is 200"
    );
    assert_eq!(list("?count=true"), json!({ "actions": 3 }), "section 2.5");
    assert_eq!(
        list("?count=true&skip=2"),
        json!({ "actions": 1 }),
        "section 2.5"
    );
    assert_eq!(
        tenant.get("actions/").expect(200).json(),
        all,
        "the slash changes nothing"
    );
}

#[test]
fn the_default_page_is_30_and_the_largest_200() {
    let tenant = shared().tenant();
    for index in 0..32 {
        tenant.put_action(&format!("a{index}"), ECHO);
    }
    let count = |query: &str| {
        tenant
            .get(&format!("actions{query}"))
            .expect(200)
            .json()
            .as_array()
            .map(Vec::len)
    };
    assert_eq!(count(""), Some(30), "section 2.5");
    assert_eq!(count("?limit=200"), Some(32), "section 2.5");
    assert_eq!(count("?limit=0"), Some(32), "section 13.6");
}

#[test]
fn bad_pages_are_refused_in_the_words_of_the_wire() {
    let tenant = shared().tenant();
    let row = |request: &str, text| Row::new("2.5", request, Value::Null, 400, Expect::Error(text));
    run(
        &tenant,
        &[
            row(
                "GET actions?limit=201",
                "The query parameter 'limit' was malformed:\nThe value '201' is not in the range of 0 to 200 for actions.",
            ),
            row(
                "GET actions?limit=-1",
                "The query parameter 'limit' was malformed:\nThe value '-1' is not in the range of 0 to 200 for actions.",
            ),
            row(
                "GET actions?limit=x",
                "The query parameter 'limit' was malformed:\nThe value 'x' is not an integer for actions.",
            ),
            row(
                "GET actions?skip=-1",
                "The query parameter 'skip' was malformed:\nThe value '-1' is not greater than or equal to 0 for actions.",
            ),
            row(
                "GET actions?skip=x",
                "The query parameter 'skip' was malformed:\nThe value 'x' is not an integer for actions.",
            ),
            row(
                "GET actions?count=maybe",
                "The query parameter 'count' was malformed:\n'maybe' is not a valid Boolean value",
            ),
            row(
                "GET activations?limit=201",
                "The query parameter 'limit' was malformed:\nThe value '201' is not in the range of 0 to 200 for activations.",
            ),
        ],
    );
}

#[test]
fn bound_parameters_go_under_the_payload_shallowly() {
    let tenant = shared().tenant();
    let parameters = json!([{ "key": "a", "value": 1 }, { "key": "b", "value": { "x": 1, "y": 2 } }, { "key": "n", "value": null }]);
    tenant.put_action_with("a", &big_echo(), json!({ "parameters": parameters }));
    let result = tenant
        .result("a", &json!({ "b": { "z": 3 }, "c": 4 }))
        .expect(200)
        .json();
    assert_eq!(
        result,
        json!({ "a": 1, "b": { "z": 3 }, "c": 4, "n": null }),
        "section 2.10"
    );
    let result = tenant.result("a", &json!({})).expect(200).json();
    assert_eq!(
        result,
        json!({ "a": 1, "b": { "x": 1, "y": 2 }, "n": null }),
        "section 2.10"
    );
}

#[test]
fn final_parameters_cannot_be_overridden_unless_they_are_null() {
    let tenant = shared().tenant();
    let parameters = json!([{ "key": "a", "value": 1 }, { "key": "open", "value": null }]);
    let annotated = |value: Value| json!({ "parameters": parameters, "annotations": [{ "key": "final", "value": value }] });
    tenant.put_action_with("fixed", ECHO, annotated(json!(true)));
    tenant.put_action_with("loose", ECHO, annotated(json!("true")));
    let refused = tenant.result("fixed", &json!({ "a": 2 })).expect(400);
    assert_eq!(
        refused.error(),
        "Request defines parameters that are not allowed (e.g., reserved properties).",
        "section 2.10"
    );
    let result = tenant
        .result("fixed", &json!({ "open": 2, "new": 3 }))
        .expect(200)
        .json();
    assert_eq!(
        result,
        json!({ "a": 1, "open": 2, "new": 3 }),
        "section 2.10"
    );
    let result = tenant
        .result("loose", &json!({ "a": 2 }))
        .expect(200)
        .json();
    assert_eq!(result["a"], 2, "section 2.11: only JSON true counts");
}

#[test]
fn init_parameters_are_environment_not_payload() {
    let tenant = shared().tenant();
    let parameters = json!([
        { "key": "SECRET", "value": "hush", "init": true },
        { "key": "NUMBERS", "value": [1, 2], "init": true },
        { "key": "plain", "value": 1 },
    ]);
    tenant.put_action_with("payload", ECHO, json!({ "parameters": parameters }));
    tenant.put_action_with(
        "secret",
        &variable("SECRET"),
        json!({ "parameters": parameters }),
    );
    tenant.put_action_with(
        "numbers",
        &variable("NUMBERS"),
        json!({ "parameters": parameters }),
    );
    let result = |name| tenant.result(name, &json!({})).expect(200).json();
    assert_eq!(
        result("payload"),
        json!({ "plain": 1 }),
        "section 2.10: removed from the payload"
    );
    assert_eq!(
        result("secret"),
        json!({ "value": "hush" }),
        "section 2.10: strings raw"
    );
    assert_eq!(
        result("numbers"),
        json!({ "value": "[1,2]" }),
        "section 2.10: others compact"
    );
}

#[test]
fn concurrent_writes_lose_nothing() {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let write = || tenant.put("actions/a?overwrite=true", &json!({})).status;
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(write)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let taken = statuses.iter().filter(|status| **status == 200).count();
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 409)),
        "{statuses:?}"
    );
    let version = tenant.get("actions/a").expect(200).json()["version"].clone();
    assert_eq!(
        version,
        format!("0.0.{}", taken + 1),
        "each 200 is one version: {statuses:?}"
    );
}

#[test]
fn what_was_updated_is_what_runs_next() {
    let tenant = shared().tenant();
    for text in ["one", "two", "three"] {
        tenant.put_action("a", &answers(&json!({ "v": text }).to_string()));
        assert_eq!(
            tenant.result("a", &json!({})).expect(200).json(),
            json!({ "v": text })
        );
    }
}
