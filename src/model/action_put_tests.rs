//! Every refusal of an action's body in the words of the wire, and every leniency.

use serde_json::{Value, json};

use super::*;

fn parse(body: &Value) -> Result<ActionPut, String> {
    ActionPut::parse(body.to_string().as_bytes()).map_err(|error| error.0)
}

#[test]
fn wrong_bodies_are_refused_in_the_words_of_the_wire() {
    let code =
        "'code' must be a string or attachment object defined in 'exec' for 'wasm:1' actions";
    let rows = [
        (json!([1]), "expected a JSON object"),
        (
            json!({"exec": 1}),
            "'kind' must be a string defined in 'exec'",
        ),
        (
            json!({"exec": {}}),
            "'kind' must be a string defined in 'exec'",
        ),
        (
            json!({"exec": {"kind": 7}}),
            "'kind' must be a string defined in 'exec'",
        ),
        (
            json!({"exec": {"kind": "cobol:1", "code": ""}}),
            "The specified runtime 'cobol:1' is not supported by this platform. Valid values are: 'wasm:1', 'nodejs:18', 'nodejs:20', 'nodejs:22', 'python:3', 'python:3.10', 'python:3.11', 'python:3.12', 'python:3.13', 'sequence'",
        ),
        (json!({"exec": {"kind": "wasm:1"}}), code),
        (json!({"exec": {"kind": "wasm:1", "code": 1}}), code),
        (
            json!({"exec": {"kind": "wasm:1", "code": "", "main": 1}}),
            "if defined, 'main' be a string in 'exec' for 'wasm:1' actions",
        ),
        (json!({"parameters": {"a": 1}}), "parameters malformed!"),
        (
            json!({"parameters": [{"key": "a"}]}),
            "parameters malformed!",
        ),
        (
            json!({"parameters": [{"key": "", "value": 1}]}),
            "parameters malformed!",
        ),
        (json!({"parameters": [["a", 1]]}), "parameters malformed!"),
        (json!({"annotations": "x"}), "annotations malformed!"),
        (json!({"annotations": [["a", 1]]}), "annotations malformed!"),
        (json!({"version": "0.0.0"}), "semantic version malformed"),
        (json!({"version": 1}), "semantic version malformed"),
    ];
    for (body, text) in rows {
        assert_eq!(parse(&body).expect_err("wrong"), text, "{body}");
    }
}

#[test]
fn limits_that_are_no_whole_numbers_are_refused_in_the_words_of_the_wire() {
    let rows = [
        (json!({"limits": []}), "limits malformed"),
        (
            json!({"limits": {"timeout": 1.5}}),
            "requirement failed: time limit must be whole number",
        ),
        (
            json!({"limits": {"memory": 0.5}}),
            "requirement failed: memory limit must be whole number",
        ),
        (
            json!({"limits": {"logs": 0.5}}),
            "requirement failed: log limit must be whole number",
        ),
        (
            json!({"limits": {"concurrency": 0.5}}),
            "requirement failed: intra concurrency limit must be whole number",
        ),
        (
            json!({"limits": {"instances": 0.5}}),
            "requirement failed: instance concurrency limit must be whole number",
        ),
        (json!({"limits": {"timeout": "x"}}), "time limit malformed"),
        (
            json!({"limits": {"memory": true}}),
            "memory limit malformed",
        ),
        (
            json!({"limits": {"instances": -1}}),
            "requirement failed: Action container concurrency must be greater than or equal to 0.",
        ),
    ];
    for (body, text) in rows {
        assert_eq!(parse(&body).expect_err("wrong"), text, "{body}");
    }
}

#[test]
fn limits_out_of_bounds_name_the_bound() {
    let rows = [
        (
            json!({"timeout": 99}),
            "duration 99 milliseconds below allowed threshold of 100 milliseconds",
        ),
        (
            json!({"timeout": 300_001}),
            "duration 300001 milliseconds exceeds allowed threshold of 300000 milliseconds",
        ),
        (
            json!({"memory": 127}),
            "memory size 127 MB below allowed threshold of 128 MB",
        ),
        (
            json!({"memory": 513}),
            "memory size 513 MB exceeds allowed threshold of 512 MB",
        ),
        (
            json!({"logs": 11}),
            "log size 11 MB exceeds allowed threshold of 10 MB",
        ),
        (
            json!({"logs": -1}),
            "log size -1 MB below allowed threshold of 0 MB",
        ),
        (
            json!({"concurrency": 2}),
            "concurrency 2 exceeds allowed threshold of 1",
        ),
        (
            json!({"concurrency": 0}),
            "concurrency 0 below allowed threshold of 1",
        ),
    ];
    let over = |limits: &Value| {
        let put = parse(&json!({ "limits": limits })).expect("well formed");
        put.limits
            .over(&ActionLimits::default(), &EffectiveLimits::default())
    };
    for (limits, core) in rows {
        let text = over(&limits).expect_err("out of bounds");
        assert_eq!(text, format!("requirement failed: {core}"), "{limits}");
    }
    assert_eq!(
        over(&json!({"instances": 1001})),
        Err(
            "Max action instance concurrency must not exceed your namespace concurrency of 1000."
                .to_owned()
        )
    );
    let merged = over(&json!({"timeout": 1e3, "memory": null, "instances": 0})).expect("within");
    assert_eq!(
        (merged.timeout, merged.memory, merged.instances),
        (1000, 256, Some(0))
    );
}

#[test]
fn nulls_count_as_absent_and_unknown_fields_are_ignored() {
    let put = parse(&json!({
        "exec": null, "parameters": null, "limits": null, "version": null, "publish": null,
        "annotations": null, "delAnnotations": null, "namespace": "elsewhere", "name": "other", "x": {}
    }))
    .expect("lenient");
    assert!(put.exec.is_none() && put.parameters.is_none() && put.annotations.is_none());
}

#[test]
fn the_last_of_equal_keys_wins_and_values_are_compacted() {
    let body = r#"{"parameters":[{"key":"a","value":1},{"key":"a","value":{ "x y" : [ 1, "\" " ] },"init":true}],
                   "annotations":[{"key":"b","value":null},{"key":"b","value":2}]}"#;
    let put = ActionPut::parse(body.as_bytes()).expect("well formed");
    let parameters = put.parameters.expect("given").0;
    assert_eq!(parameters.len(), 1);
    assert_eq!(parameters[0].value.get(), r#"{"x y":[1,"\" "]}"#);
    assert!(parameters[0].init);
    assert_eq!(put.annotations.expect("given").iter().count(), 1);
}

#[test]
fn a_bomb_of_brackets_in_a_parameter_is_refused() {
    let bomb = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let body = format!(r#"{{"parameters":[{{"key":"a","value":{bomb}}}]}}"#);
    assert!(ActionPut::parse(body.as_bytes()).is_err());
}

#[test]
fn binary_is_derived_from_the_shape_of_the_code() {
    let exec = |code: &str| CodePut {
        runtime: kind::resolve("wasm:1").expect("known"),
        code: code.to_owned(),
        main: None,
    };
    for (code, binary) in [
        ("", false),
        ("AGFzbQ==", true),
        (" AGFzbQE= \n", true),
        ("AGFzbQEAAAA", false),
        ("(module)", false),
        ("a=bc", false),
        ("abc===", false),
    ] {
        assert_eq!(exec(code).is_binary(), binary, "{code:?}");
    }
}
