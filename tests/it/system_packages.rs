//! The actions of `/whisk.system` (`runtimes/system`): the catalog is whole, every module is an action that does what its
//! annotations say, and bad input gets the original's error.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Tenant, annotation, base64, repository, shared};

fn folder() -> PathBuf {
    repository().join("runtimes/system")
}

fn catalog() -> Value {
    let text = fs::read_to_string(folder().join("catalog.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// `package/action` and what the catalog says of it.
fn actions() -> Vec<(String, Value)> {
    let catalog = catalog();
    let packages = catalog["packages"].as_array().unwrap();
    let of = |package: &Value| -> Vec<(String, Value)> {
        let name = package["name"].as_str().unwrap();
        let actions = package["actions"].as_array().unwrap();
        let path = |action: &Value| format!("{name}/{}", action["name"].as_str().unwrap());
        let actions = actions.iter().map(|action| (path(action), action.clone()));
        actions.collect()
    };
    packages.iter().flat_map(of).collect()
}

/// Uploads the module of `package/action` as an action of the tenant's; its name there.
#[track_caller]
fn deploy(tenant: &Tenant, path: &str) -> String {
    let all = actions();
    let (_, action) = all.iter().find(|(given, _)| given == path).expect(path);
    let file = folder().join(action["code"].as_str().unwrap());
    let name = path.replace('/', "-");
    tenant.put_action(&name, &base64(&fs::read(file).unwrap()));
    name
}

/// Calls it with each row's parameters and compares the result: a value, or the text of an error.
#[track_caller]
fn check(path: &str, rows: &[(Value, Result<Value, &str>)]) {
    let tenant = shared().tenant();
    let name = deploy(&tenant, path);
    for (params, expected) in rows {
        let reply = tenant.invoke(&name, params);
        let response = reply.json()["response"].clone();
        match expected {
            Ok(result) => {
                assert_eq!(&response["result"], result, "{path} {params}");
                assert_eq!(response["status"], "success", "{path} {params}");
            }
            Err(error) => {
                assert_eq!(response["result"]["error"], *error, "{path} {params}");
                assert_eq!(response["status"], "application error", "{path} {params}");
            }
        }
    }
}

/// The log of one call, without the times.
fn log(path: &str, params: &Value) -> Vec<String> {
    let tenant = shared().tenant();
    let id = tenant.fire(&deploy(&tenant, path), params);
    let lines = tenant.awaited(&id)["logs"].as_array().unwrap().clone();
    let text = |line: &Value| {
        line.as_str()
            .unwrap()
            .split_once("Z ")
            .unwrap()
            .1
            .to_owned()
    };
    lines.iter().map(text).collect()
}

#[test]
fn the_catalog_lists_every_module_and_every_module_is_small() {
    let listed: BTreeSet<String> = actions()
        .iter()
        .map(|(_, action)| action["code"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed.len(), actions().len(), "a module is listed twice");
    let present: BTreeSet<String> = fs::read_dir(folder().join("wasm"))
        .unwrap()
        .map(|file| format!("wasm/{}", file.unwrap().file_name().display()))
        .collect();
    assert_eq!(listed, present);
    for file in &present {
        let bytes = fs::metadata(folder().join(file)).unwrap().len();
        assert!(bytes < 32 * 1024, "{file}: {bytes} bytes");
    }
}

#[test]
fn the_catalog_has_at_least_what_openwhisk_users_expect() {
    let paths: Vec<String> = actions().into_iter().map(|(path, _)| path).collect();
    for name in ["echo", "cat", "sort", "split", "head", "date"] {
        assert!(paths.contains(&format!("utils/{name}")), "{name}");
    }
    for name in ["greeting", "helloWorld", "wordCount"] {
        assert!(paths.contains(&format!("samples/{name}")), "{name}");
    }
    for package in catalog()["packages"].as_array().unwrap() {
        assert_eq!(package["publish"], true, "{}", package["name"]);
        assert!(package["annotations"]["description"].is_string());
    }
    for (path, action) in actions() {
        let annotations = &action["annotations"];
        assert!(annotations["description"].is_string(), "{path}");
        assert!(annotations["parameters"].is_array(), "{path}");
    }
}

#[test]
fn every_action_answers_its_sample_input_with_its_sample_output() {
    let tenant = shared().tenant();
    for (path, action) in actions() {
        // What these answer is the world's: the time, the namespace, the host.
        if ["utils/date", "utils/namespace", "utils/hosturl"].contains(&path.as_str()) {
            continue;
        }
        let name = deploy(&tenant, &path);
        let entity = tenant.get(&format!("actions/{name}")).expect(200).json();
        assert_eq!(
            annotation(&entity, "exec"),
            Some(&json!("wasm:1")),
            "{path}"
        );
        let annotations = &action["annotations"];
        let reply = tenant
            .invoke(&name, &annotations["sampleInput"])
            .expect(200)
            .json();
        let result = &reply["response"]["result"];
        assert_eq!(result, &annotations["sampleOutput"], "{path}");
        if let Some(line) = annotations["sampleLogOutput"].as_str() {
            let said = line.split_once("Z ").unwrap().1;
            let logged = log(&path, &annotations["sampleInput"]);
            assert_eq!(logged.first().map(String::as_str), Some(said), "{path}");
        }
    }
}

#[test]
fn every_action_survives_a_hundred_kilobytes_and_many_calls() {
    let tenant = shared().tenant();
    let lines: Vec<String> = (0..10_000).map(|n| format!("line ü {n}")).collect();
    let big = json!({ "lines": lines, "payload": lines.join("\n"), "$fieldName": "p" });
    for (path, _) in actions() {
        if path == "utils/hosturl" {
            continue;
        }
        let name = deploy(&tenant, &path);
        for _ in 0..5 {
            tenant.result(&name, &big).expect(200);
        }
    }
}

#[test]
fn values_may_be_nested_deeply() {
    let deep = (0..100).fold(json!("ü"), |inner, _| json!([inner]));
    check(
        "utils/cat",
        &[(
            json!({ "lines": deep }),
            Ok(json!({ "lines": deep, "payload": "ü" })),
        )],
    );
    let deep = (0..100).fold(json!({}), |inner, _| json!({ "a": inner }));
    check(
        "utils/smash",
        &[(
            json!({ "$fieldName": "p", "a": deep }),
            Ok(json!({ "p": { "a": deep } })),
        )],
    );
}

#[test]
fn echo_answers_what_it_gets() {
    check(
        "utils/echo",
        &[
            (json!({}), Ok(json!({}))),
            (
                json!({ "a": [1, 0.1, -2e300, null, "ü✓😀\"\\\u{1}"], "b": { "c": {} } }),
                Ok(json!({ "a": [1, 0.1, -2e300, null, "ü✓😀\"\\\u{1}"], "b": { "c": {} } })),
            ),
        ],
    );
}

#[test]
fn cat_joins_lines() {
    let not_joined = "An error has occurred: TypeError: lines.join is not a function";
    check(
        "utils/cat",
        &[
            (json!({}), Ok(json!({ "lines": [], "payload": "" }))),
            (
                json!({ "lines": null }),
                Ok(json!({ "lines": [], "payload": "" })),
            ),
            (
                json!({ "lines": ["ä", 1, 2.5, null, true, [1, 2], {}], "more": 1 }),
                Ok(json!({
                    "lines": ["ä", 1, 2.5, null, true, [1, 2], {}],
                    "payload": "ä\n1\n2.5\n\ntrue\n1,2\n[object Object]"
                })),
            ),
            (json!({ "lines": "abc" }), Err(not_joined)),
            (json!({ "lines": { "a": 1 } }), Err(not_joined)),
        ],
    );
}

#[test]
fn head_takes_the_first_ones() {
    let lines = json!(["a", "b", "c"]);
    check(
        "utils/head",
        &[
            (json!({}), Ok(json!({ "lines": [], "num": 1 }))),
            (
                json!({ "lines": lines }),
                Ok(json!({ "lines": ["a"], "num": 1 })),
            ),
            (
                json!({ "lines": lines, "num": 0 }),
                Ok(json!({ "lines": ["a"], "num": 1 })),
            ),
            (
                json!({ "lines": lines, "num": 2 }),
                Ok(json!({ "lines": ["a", "b"], "num": 2 })),
            ),
            (
                json!({ "lines": lines, "num": 9 }),
                Ok(json!({ "lines": lines, "num": 9 })),
            ),
            (
                json!({ "lines": lines, "num": -1 }),
                Ok(json!({ "lines": ["a", "b"], "num": -1 })),
            ),
            (
                json!({ "lines": lines, "num": "2" }),
                Ok(json!({ "lines": ["a", "b"], "num": "2" })),
            ),
            (
                json!({ "lines": lines, "num": "x" }),
                Ok(json!({ "lines": [], "num": "x" })),
            ),
            (
                json!({ "lines": "üxy", "num": 2 }),
                Ok(json!({ "lines": "üx", "num": 2 })),
            ),
            (
                json!({ "lines": 7 }),
                Err("An error has occurred: TypeError: lines.slice is not a function"),
            ),
        ],
    );
}

#[test]
fn sort_sorts_by_text() {
    check(
        "utils/sort",
        &[
            (json!({}), Ok(json!({ "lines": [], "length": 0 }))),
            (
                json!({ "lines": ["seven", "eight", "nine", "Ä", "a"] }),
                Ok(json!({ "lines": ["a", "eight", "nine", "seven", "Ä"], "length": 5 })),
            ),
            (
                json!({ "lines": [10, 9, 1, null, false] }),
                Ok(json!({ "lines": [1, 10, 9, false, null], "length": 5 })),
            ),
            (
                json!({ "lines": "cab" }),
                Err("An error has occurred: TypeError: lines.sort is not a function"),
            ),
        ],
    );
}

#[test]
fn split_splits_at_the_separator_or_at_line_ends() {
    let undefined =
        "An error has occurred: TypeError: Cannot read property 'toString' of undefined";
    let null = "An error has occurred: TypeError: Cannot read property 'toString' of null";
    let lines = |lines: Value, payload: Value| Ok(json!({ "lines": lines, "payload": payload }));
    check(
        "utils/split",
        &[
            (
                json!({ "payload": "a\nb\r\nc" }),
                lines(json!(["a", "b", "c"]), json!("a\nb\r\nc")),
            ),
            (
                json!({ "payload": "a,b,", "separator": "," }),
                lines(json!(["a", "b", ""]), json!("a,b,")),
            ),
            (
                json!({ "payload": "a.b", "separator": "." }),
                lines(json!(["a", "b"]), json!("a.b")),
            ),
            (
                json!({ "payload": "a→b", "separator": "→" }),
                lines(json!(["a", "b"]), json!("a→b")),
            ),
            (
                json!({ "payload": "", "separator": "," }),
                lines(json!([""]), json!("")),
            ),
            (
                json!({ "payload": "a\nb", "separator": "" }),
                lines(json!(["a", "b"]), json!("a\nb")),
            ),
            (
                json!({ "payload": 1213, "separator": 1 }),
                lines(json!(["", "2", "3"]), json!(1213)),
            ),
            (
                json!({ "payload": [1, 2], "separator": "," }),
                lines(json!(["1", "2"]), json!([1, 2])),
            ),
            (json!({}), Err(undefined)),
            (json!({ "payload": null }), Err(null)),
        ],
    );
}

#[test]
fn smash_nests() {
    let missing = "Expected an argument '$fieldName' of type 'string'.";
    check(
        "utils/smash",
        &[
            (
                json!({ "$fieldName": "x", "a": 1, "c": { "d": 3 } }),
                Ok(json!({ "x": { "a": 1, "c": { "d": 3 } } })),
            ),
            (json!({ "$fieldName": "x" }), Ok(json!({ "x": {} }))),
            (
                json!({ "$fieldName": "", "a": 1 }),
                Ok(json!({ "": { "a": 1 } })),
            ),
            (json!({}), Err(missing)),
            (json!({ "$fieldName": 1, "a": 1 }), Err(missing)),
        ],
    );
}

#[test]
fn namespace_and_hosturl_know_where_they_run() {
    let tenant = shared().tenant();
    let name = deploy(&tenant, "utils/namespace");
    let result = tenant.result(&name, &json!({})).expect(200).json();
    assert_eq!(result, json!({ "namespace": tenant.namespace }));

    let name = deploy(&tenant, "utils/hosturl");
    let host = format!("http://{}", tenant.client.address);
    let namespace = &tenant.namespace;
    for (params, path) in [
        (json!({}), format!("namespaces/{namespace}/actions")),
        (
            json!({ "path": "utils/echo", "ext": ".json" }),
            format!("namespaces/{namespace}/actions/utils/echo"),
        ),
        (
            json!({ "trigger": true, "path": "echo" }),
            format!("namespaces/{namespace}/triggers/echo"),
        ),
        (json!({ "web": true }), format!("web/{namespace}")),
        (
            json!({ "web": true, "path": "echo", "ext": ".text" }),
            format!("web/{namespace}/default/echo.text"),
        ),
        (
            json!({ "web": true, "path": "utils/echo" }),
            format!("web/{namespace}/utils/echo"),
        ),
    ] {
        let result = tenant.result(&name, &params).expect(200).json();
        let url = format!("{host}/api/v1/{path}");
        assert_eq!(result, json!({ "url": url }), "{params}");
    }

    let extension = "extension for web action must be one of [\".html\", \".http\", \".json\", \".svg\", \".text\"].";
    let undefined = "An error has occurred: TypeError: Cannot read property 'indexOf' of undefined";
    check(
        "utils/hosturl",
        &[
            (
                json!({ "web": true, "trigger": true }),
                Err("triggers are not allowed for web actions."),
            ),
            (json!({ "web": true, "ext": ".exe" }), Err(extension)),
            (
                json!({ "trigger": true, "path": "utils/echo" }),
                Err("triggers are not allowed in packages."),
            ),
            (json!({ "trigger": true }), Err(undefined)),
        ],
    );
}

#[test]
fn date_is_now_in_utc() {
    let tenant = shared().tenant();
    let name = deploy(&tenant, "utils/date");
    let record = tenant.awaited(&tenant.fire(&name, &json!({})));
    let date = record["response"]["result"]["date"].as_str().unwrap();
    // Log lines carry the time in the same notation, up to the milliseconds.
    let logged = record["logs"][0].as_str().unwrap();
    assert_eq!(date.len(), "2016-03-22T00:59:55.961Z".len(), "{date}");
    assert!(date.ends_with('Z'), "{date}");
    let minute = "2016-03-22T00:5".len();
    assert_eq!(date.get(..minute), logged.get(..minute), "{date} {logged}");
    assert!(logged.contains("stdout: It is now "), "{logged}");
}

#[test]
fn greeting_greets() {
    let payload = |text: &str| Ok(json!({ "payload": text }));
    check(
        "samples/greeting",
        &[
            (json!({}), payload("Hello, stranger from somewhere!")),
            (
                json!({ "name": "Mork" }),
                payload("Hello, Mork from somewhere!"),
            ),
            (
                json!({ "name": "Mork", "place": "Ork" }),
                payload("Hello, Mork from Ork!"),
            ),
            (
                json!({ "payload": "Cat" }),
                payload("Hello, Cat from somewhere!"),
            ),
            (
                json!({ "name": "", "place": null }),
                payload("Hello, stranger from somewhere!"),
            ),
            (
                json!({ "name": 7, "place": ["Ä", "Ö"] }),
                payload("Hello, 7 from Ä,Ö!"),
            ),
        ],
    );
}

#[test]
fn word_count_counts_the_pieces_between_spaces() {
    check(
        "samples/wordCount",
        &[
            (
                json!({ "payload": "one two three" }),
                Ok(json!({ "count": 3 })),
            ),
            (json!({ "payload": "" }), Ok(json!({ "count": 1 }))),
            (
                json!({ "payload": "zwei  Wörter" }),
                Ok(json!({ "count": 3 })),
            ),
            (json!({ "payload": 12 }), Ok(json!({ "count": 1 }))),
            (
                json!({}),
                Err(
                    "An error has occurred: TypeError: Cannot read property 'toString' of undefined",
                ),
            ),
        ],
    );
}

#[test]
fn the_samples_of_arrays_need_one() {
    let missing = "You must specify a lines parameter!";
    check(
        "samples/cat",
        &[
            (
                json!({ "lines": [] }),
                Ok(json!({ "lines": [], "payload": "" })),
            ),
            (
                json!({ "lines": ["ü"] }),
                Ok(json!({ "lines": ["ü"], "payload": "ü\n" })),
            ),
            (json!({}), Err(missing)),
            (json!({ "lines": "a" }), Err(missing)),
        ],
    );
    check(
        "samples/head",
        &[
            (
                json!({ "lines": [1, 2] }),
                Ok(json!({ "lines": [1], "num": 1 })),
            ),
            (
                json!({ "lines": [1, 2], "num": 2.9 }),
                Ok(json!({ "lines": [1, 2], "num": 2 })),
            ),
            (
                json!({ "lines": [1, 2], "num": 0 }),
                Ok(json!({ "lines": [], "num": 0 })),
            ),
            (
                json!({ "lines": [1, 2], "num": -1 }),
                Err("num must not be negative, and is -1"),
            ),
            (json!({}), Err(missing)),
        ],
    );
}

#[test]
fn what_the_samples_log_is_in_the_record() {
    let logged = |path, params| log(path, &params);
    assert_eq!(
        logged("samples/helloWorld", json!({ "payload": "Wörld" })),
        ["stdout: hello Wörld!"]
    );
    assert_eq!(
        logged("samples/helloWorld", json!({})),
        ["stdout: hello undefined!"]
    );
    assert_eq!(
        logged("samples/printParams", json!({ "b": "x", "a": [1] })),
        ["stdout: params.a: [1]", "stdout:  params.b: \"x\""]
    );
    assert_eq!(
        logged("utils/sort", json!({ "lines": [2, 1] })),
        [
            "stdout: sort input msg: {\"lines\":[2,1]}",
            "stdout: sort before: 2,1",
            "stdout: sort after: 1,2"
        ]
    );
}
