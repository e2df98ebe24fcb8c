//! Actions: created, updated, read, listed, deleted, refused.

use super::*;
use crate::store::{Collection, Document, EntityKey, Expect};

fn exec(code: &str) -> Value {
    json!({"exec": {"kind": "wasm:default", "code": code}})
}

fn annotation<'a>(action: &'a Value, key: &str) -> Option<&'a Value> {
    let all = action["annotations"].as_array().expect("always there");
    all.iter()
        .find(|one| one["key"] == key)
        .map(|one| &one["value"])
}

#[tokio::test]
async fn a_new_action_is_answered_whole() {
    let site = Site::new().await;
    let got = site.put("_/actions/hello", exec("AGFzbQ==")).await;
    let action = got.is(200).json();
    assert_eq!(action["namespace"], "guest");
    assert_eq!(action["name"], "hello");
    assert_eq!(action["version"], "0.0.1");
    assert_eq!(action["publish"], false);
    assert!(
        action["updated"]
            .as_u64()
            .is_some_and(|at| at > 1_600_000_000_000)
    );
    assert_eq!(
        action["exec"],
        json!({"kind": "wasm:1", "code": "AGFzbQ==", "binary": true})
    );
    assert_eq!(action["parameters"], json!([]));
    assert_eq!(
        action["limits"],
        json!({"timeout": 60000, "memory": 256, "logs": 10, "concurrency": 1})
    );
    assert_eq!(annotation(&action, "exec"), Some(&json!("wasm:1")));
    assert_eq!(annotation(&action, "provide-api-key"), Some(&json!(false)));
    assert_eq!(site.get("_/actions/hello").await.is(200).json(), action);
    assert_eq!(
        site.get("guest/actions/hello?code=true").await.json(),
        action
    );
    let bare = site.get("_/actions/hello?code=false").await.json();
    assert_eq!(bare["exec"], json!({"kind": "wasm:1", "binary": true}));
}

#[tokio::test]
async fn an_existing_action_is_updated_only_with_overwrite() {
    let site = Site::new().await.with_action("a").await;
    site.put("_/actions/a", exec("x"))
        .await
        .refuses(409, "resource already exists");
    site.put("_/actions/a?overwrite=no", exec("x"))
        .await
        .is(409);
    let updated = site.put("_/actions/a?overwrite=true", exec("x")).await;
    assert_eq!(updated.is(200).json()["version"], "0.0.2");
    site.put("_/actions/b?overwrite=true", exec("x"))
        .await
        .is(200);
}

#[tokio::test]
async fn an_update_merges_annotations_and_limits_and_replaces_parameters() {
    let site = Site::new().await;
    let first = json!({
        "exec": {"kind": "wasm:1", "code": "one", "main": "go"}, "publish": true,
        "parameters": [{"key": "p", "value": 1}, {"key": "n", "value": null}],
        "limits": {"memory": 128, "timeout": 500},
        "annotations": [{"key": "a", "value": 1}, {"key": "b", "value": 2}, {"key": "provide-api-key", "value": true}]
    });
    let made = site.put("_/actions/a", first).await.is(200).json();
    assert_eq!(annotation(&made, "provide-api-key"), Some(&json!(true)));
    assert_eq!(made["exec"]["main"], "go");
    let second = json!({
        "limits": {"timeout": 600}, "delAnnotations": ["a", "provide-api-key"],
        "annotations": [{"key": "b", "value": 3}, {"key": "exec", "value": "mine"}]
    });
    let now = site
        .put("_/actions/a?overwrite=true", second)
        .await
        .is(200)
        .json();
    assert_eq!(now["exec"], made["exec"]);
    assert_eq!(now["publish"], true);
    assert_eq!(now["parameters"], made["parameters"]);
    assert_eq!(now["limits"]["memory"], 128);
    assert_eq!(now["limits"]["timeout"], 600);
    assert_eq!(annotation(&now, "a"), None);
    assert_eq!(annotation(&now, "b"), Some(&json!(3)));
    assert_eq!(annotation(&now, "exec"), Some(&json!("wasm:1")));
    assert_eq!(
        annotation(&now, "provide-api-key"),
        None,
        "added on create only"
    );
    let third =
        json!({"parameters": [{"key": "q", "value": {}}], "version": "2", "publish": false});
    let now = site
        .put("_/actions/a?overwrite=true", third)
        .await
        .is(200)
        .json();
    assert_eq!(now["parameters"], json!([{"key": "q", "value": {}}]));
    assert_eq!(now["version"], "2.0.0");
    assert_eq!(now["publish"], false);
}

#[tokio::test]
async fn wrong_bodies_are_400_413_or_415() {
    let site = Site::new().await;
    let malformed = |detail: &str| format!("The request content was malformed:\n{detail}");
    let rows = [
        (json!({}), "exec undefined".to_owned()),
        (
            json!({"exec": {"kind": "nodejs", "code": ""}}),
            malformed(
                "The specified runtime 'nodejs' is not supported by this platform. Valid values are: 'wasm:1', 'nodejs:18', 'nodejs:20', 'nodejs:22', 'python:3', 'python:3.10', 'python:3.11', 'python:3.12', 'python:3.13', 'sequence'",
            ),
        ),
        (
            json!({"exec": {"code": ""}}),
            malformed("'kind' must be a string defined in 'exec'"),
        ),
        (
            json!({"exec": {"kind": "wasm:1", "code": "x"}, "version": "0.0.0"}),
            malformed("semantic version malformed"),
        ),
        (
            json!({"parameters": {}}),
            malformed("parameters malformed!"),
        ),
        (
            json!({"exec": {"kind": "wasm:1", "code": "x"}, "limits": {"memory": 1}}),
            "requirement failed: memory size 1 MB below allowed threshold of 128 MB".to_owned(),
        ),
        (
            json!({"exec": {"kind": "wasm:1", "code": "x"}, "limits": {"instances": 1001}}),
            "Max action instance concurrency must not exceed your namespace concurrency of 1000."
                .to_owned(),
        ),
        (exec("bad"), "it is no module".to_owned()),
        (exec("slow"), "it takes too long".to_owned()),
    ];
    for (body, text) in rows {
        site.put("_/actions/a", body).await.refuses(400, &text);
    }
    let busy = site.put("_/actions/a", exec("later")).await;
    busy.is(503);
    assert!(busy.header("retry-after").is_some());
    site.guest("PUT", "_/actions/a", "")
        .await
        .refuses(400, "Request entity expected but not supplied");
    for text in ["{", "[1]", "7", "{\"exec\":{}} x", "\u{feff}{}"] {
        let got = site.guest("PUT", "_/actions/a", text).await;
        assert!(
            got.is(400)
                .error()
                .starts_with("The request content was malformed:\n"),
            "{text}"
        );
    }
    let mut request = bare("PUT", "/api/v1/namespaces/_/actions/a");
    let headers = request.headers_mut();
    headers.insert(
        "authorization",
        basic(WELL_KNOWN_GUEST).parse().expect("a header"),
    );
    headers.insert("content-type", "text/plain".parse().expect("a header"));
    *request.body_mut() = Body::from(exec("x").to_string());
    site.send(request).await.refuses(
        415,
        "The request's Content-Type [text/plain] is not supported. Expected:\napplication/json",
    );
}

#[tokio::test]
async fn what_is_too_large_is_413_and_says_how_large_it_may_be() {
    let config = Config {
        code_bytes_max: 10,
        annotation_bytes_max: 100,
        body_bytes_max: 1000,
        ..Config::default()
    };
    let defaults = EffectiveLimits {
        parameter_size_max: 10,
        ..EffectiveLimits::default()
    };
    let site = Site::with(defaults, config).await;
    let main = json!({"exec": {"kind": "wasm:1", "code": "12345678", "main": "abc"}});
    let parameters = json!({"exec": {"kind": "wasm:1", "code": "x"},
        "parameters": [{"key": "abc", "value": "12345 "}]});
    let annotations = json!({"exec": {"kind": "wasm:1", "code": "x"},
        "annotations": [{"key": "abc", "value": "1".repeat(97)}]});
    for (body, text) in [
        (main, "exec larger than allowed: 11 > 10 bytes."),
        (parameters, "parameters larger than allowed: 11 > 10 bytes."),
        (
            annotations,
            "annotations larger than allowed: 102 > 100 bytes.",
        ),
        (
            exec(&"x".repeat(1000)),
            "Request larger than allowed: 1042 > 1000 bytes.",
        ),
    ] {
        site.put("_/actions/a", body).await.refuses(413, text);
    }
}

#[tokio::test]
async fn kinds_the_namespace_may_not_have_are_403() {
    let defaults = EffectiveLimits {
        allowed_kinds: vec!["nodejs:20".to_owned()],
        ..EffectiveLimits::default()
    };
    let site = Site::with(defaults, Config::default()).await;
    site.put("_/actions/a", exec("x")).await.refuses(
        403,
        "The supplied authentication is not authorized to access actions of kind 'wasm:1'.",
    );
}

#[tokio::test]
async fn lists_are_newest_first_and_paged() {
    let site = Site::new().await;
    for name in ["a", "b", "c"] {
        site.put(&format!("_/actions/{name}"), exec("x"))
            .await
            .is(200);
    }
    let rows = site.get("_/actions").await.is(200).json();
    let row = rows[0].as_object().expect("a row");
    let mut keys: Vec<&str> = row.keys().map(String::as_str).collect();
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
        ]
    );
    assert_eq!(row["exec"], json!({"binary": false}));
    let count = async |query: &str| {
        let rows = site.get(&format!("_/actions{query}")).await.is(200).json();
        rows.as_array().expect("an array").len()
    };
    for (query, rows) in [
        ("/", 3),
        ("?limit=2", 2),
        ("?limit=0", 3),
        ("?limit=200", 3),
        ("?skip=1", 2),
        ("?limit=&skip=", 3),
    ] {
        assert_eq!(count(query).await, rows, "{query}");
    }
    for (query, count) in [
        ("?count=true", 3),
        ("?count=1&skip=2", 1),
        ("?count=yes&skip=9", 0),
    ] {
        let got = site.get(&format!("_/actions{query}")).await;
        assert_eq!(got.is(200).json(), json!({"actions": count}), "{query}");
    }
}

#[tokio::test]
async fn wrong_list_options_are_400() {
    let site = Site::new().await;
    for (query, name, detail) in [
        (
            "limit=201",
            "limit",
            "The value '201' is not in the range of 0 to 200 for actions.",
        ),
        (
            "limit=-1",
            "limit",
            "The value '-1' is not in the range of 0 to 200 for actions.",
        ),
        (
            "limit=x",
            "limit",
            "The value 'x' is not an integer for actions.",
        ),
        (
            "skip=-1",
            "skip",
            "The value '-1' is not greater than or equal to 0 for actions.",
        ),
        (
            "skip=1.5",
            "skip",
            "The value '1.5' is not an integer for actions.",
        ),
        (
            "count=maybe",
            "count",
            "'maybe' is not a valid Boolean value",
        ),
    ] {
        let text = format!("The query parameter '{name}' was malformed:\n{detail}");
        site.get(&format!("_/actions?{query}"))
            .await
            .refuses(400, &text);
    }
}

#[tokio::test]
async fn a_deleted_action_is_answered_and_gone() {
    let site = Site::new().await.with_action("a").await;
    let before = site.get("_/actions/a").await.json();
    let deleted = site.guest("DELETE", "_/actions/a", "").await;
    assert_eq!(deleted.is(200).json(), before);
    let missing = "The requested resource does not exist.";
    for method in ["GET", "DELETE", "POST"] {
        site.guest(method, "_/actions/a", "")
            .await
            .refuses(404, missing);
    }
}

#[tokio::test]
async fn names_are_decoded_and_case_sensitive() {
    let site = Site::new()
        .await
        .with_action("a%20b@c.d&e")
        .await
        .with_action("Foo")
        .await;
    assert_eq!(
        site.get("_/actions/a%20b%40c.d%26e").await.is(200).json()["name"],
        "a b@c.d&e"
    );
    site.get("_/actions/foo").await.is(404);
}

#[tokio::test]
async fn a_name_that_is_something_else_is_409() {
    let site = Site::new().await;
    plant(&site, "t", Collection::Triggers).await;
    let text = "Resource by this name exists but is not in this collection.";
    for method in ["GET", "DELETE", "POST"] {
        site.guest(method, "_/actions/t", "")
            .await
            .refuses(409, text);
    }
    site.put("_/actions/t", exec("x")).await.refuses(409, text);
    site.put("_/actions/t/x", exec("x"))
        .await
        .refuses(409, text);
}

#[tokio::test]
async fn what_is_in_a_package_needs_the_package() {
    let site = Site::new().await;
    site.put("_/actions/p/x", exec("x"))
        .await
        .refuses(404, "The requested resource does not exist.");
    let missing = "The requested resource 'guest/p' does not exist.";
    for (method, path) in [
        ("GET", "_/actions/p/x"),
        ("POST", "_/actions/p/x"),
        ("GET", "_/actions/p/"),
    ] {
        site.guest(method, path, "").await.refuses(404, missing);
    }
    plant(&site, "p", Collection::Packages).await;
    let made = site.put("_/actions/p/x", exec("x")).await.is(200).json();
    assert_eq!(
        (&made["namespace"], &made["name"]),
        (&json!("guest/p"), &json!("x"))
    );
    let rows = site.get("_/actions/p/").await.is(200).json();
    assert_eq!(rows.as_array().map(Vec::len), Some(1));
    site.get("_/actions/p/y")
        .await
        .refuses(404, "The requested resource does not exist.");
}

/// Puts an entity of another kind there.
async fn plant(site: &Site, name: &str, collection: Collection) {
    use crate::store::Entities;
    let body = json!({
        "namespace": "guest", "package": null, "name": name, "version": "0.0.1", "publish": false, "updated": 1,
        "parameters": [], "annotations": [],
    });
    let document = Document {
        key: EntityKey {
            namespace: Namespace::parse("guest").expect("legal"),
            package: None,
            name: EntityName::parse(name).expect("legal"),
        },
        collection,
        updated: Timestamp::now(),
        code: None,
        body: body.to_string().into(),
    };
    let put = Entities::put(&*site.store, document, None, Expect::Absent);
    put.await.expect("room");
}
