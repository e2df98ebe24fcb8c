//! Packages and bindings: every row of the table, and what namespaces see of each other's.

use super::*;

const GONE: &str = "The requested resource does not exist.";

fn forbidden(resource: &str) -> String {
    format!("The supplied authentication is not authorized to access '{resource}'.")
}

fn exec() -> Value {
    json!({"exec": {"kind": "wasm:1", "code": "(module)"}})
}

fn bind(to: &str) -> Value {
    json!({"binding": {"namespace": to.split('/').next(), "name": to.split('/').nth(1)}})
}

impl Site {
    /// As the other tenant there is, below its own namespace.
    async fn other(&self, method: &str, path: &str, body: Value) -> Got {
        let path = api(&path.replacen("_/", "whisk.system/", 1));
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.system(method, &path, body).await
    }
}

#[tokio::test]
async fn a_package_is_answered_in_the_shape_of_each_verb() {
    let site = Site::new().await;
    let body = json!({"publish": true, "parameters": [{"key": "a", "value": 1}],
        "annotations": [{"key": "d", "value": "x"}], "binding": {}});
    let made = site.put("_/packages/p", body).await.is(200).json();
    let mut expected = json!({
        "namespace": "guest", "name": "p", "version": "0.0.1", "publish": true, "binding": {},
        "parameters": [{"key": "a", "value": 1}], "annotations": [{"key": "d", "value": "x"}],
        "updated": made["updated"],
    });
    assert_eq!(made, expected);
    let rows = site.get("_/packages").await.is(200).json();
    let mut row = expected.clone();
    row.as_object_mut().unwrap().remove("parameters");
    row["binding"] = json!(false);
    assert_eq!(rows, json!([row]));
    expected["actions"] = json!([]);
    expected["feeds"] = json!([]);
    assert_eq!(site.get("_/packages/p").await.is(200).json(), expected);
    let count = site.get("_/packages/?count=true").await.is(200).json();
    assert_eq!(count, json!({"packages": 1}));
    let gone = site.guest("DELETE", "_/packages/p", "").await;
    assert_eq!(gone.is(200).json(), made);
    site.get("_/packages/p").await.refuses(404, GONE);
    site.guest("DELETE", "_/packages/p", "")
        .await
        .refuses(404, GONE);
}

#[tokio::test]
async fn what_is_in_a_package_is_listed_feeds_apart() {
    let site = Site::new().await;
    site.put("_/packages/p", json!({})).await.is(200);
    site.put("_/actions/p/a", exec()).await.is(200);
    let mut feed = exec();
    feed["annotations"] = json!([{"key": "feed", "value": null}]);
    site.put("_/actions/p/f", feed).await.is(200);
    site.put("_/actions/outside", exec()).await.is(200);
    let package = site.get("_/packages/p").await.is(200).json();
    let names = |list: &str| package[list][0]["name"].clone();
    assert_eq!((names("actions"), names("feeds")), (json!("a"), json!("f")));
    assert_eq!(package["actions"].as_array().map(Vec::len), Some(1));
    let mut keys: Vec<_> = package["actions"][0].as_object().unwrap().keys().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["annotations", "name", "version"]);
}

#[tokio::test]
async fn an_update_replaces_parameters_and_annotations() {
    let site = Site::new().await;
    let first = json!({"publish": true, "parameters": [{"key": "a", "value": 1}],
        "annotations": [{"key": "d", "value": 1}, {"key": "e", "value": 2}]});
    site.put("_/packages/p", first).await.is(200);
    site.put("_/packages/p", json!({}))
        .await
        .refuses(409, "resource already exists");
    let path = "_/packages/p?overwrite=true";
    let kept = site.put(path, json!({})).await.is(200).json();
    assert_eq!(kept["version"], "0.0.2");
    assert_eq!(kept["publish"], true);
    assert_eq!(kept["parameters"][0]["key"], "a");
    assert_eq!(kept["annotations"].as_array().map(Vec::len), Some(2));
    let body = json!({"annotations": [{"key": "e", "value": 3}], "parameters": [], "version": "7"});
    let replaced = site.put(path, body).await.is(200).json();
    assert_eq!(replaced["annotations"], json!([{"key": "e", "value": 3}]));
    assert_eq!(replaced["parameters"], json!([]));
    assert_eq!(replaced["version"], "7.0.0");
}

#[tokio::test]
async fn a_binding_shows_what_its_provider_has_under_its_own_parameters() {
    let site = Site::new().await;
    let shared = json!({"publish": true,
        "parameters": [{"key": "a", "value": 1}, {"key": "b", "value": 1}]});
    site.other("PUT", "_/packages/p", shared).await.is(200);
    site.other("PUT", "_/actions/p/x", exec()).await.is(200);
    let body = json!({"binding": {"namespace": "whisk.system", "name": "p"},
        "parameters": [{"key": "b", "value": 2}],
        "annotations": [{"key": "binding", "value": "mine"}]});
    let made = site.put("_/packages/bound", body).await.is(200).json();
    let provider = json!({"namespace": "whisk.system", "name": "p"});
    assert_eq!(made["binding"], provider);
    assert_eq!(
        made["annotations"],
        json!([{"key": "binding", "value": provider}])
    );
    assert_eq!(made["parameters"], json!([{"key": "b", "value": 2}]));
    let got = site.get("_/packages/bound").await.is(200).json();
    assert_eq!(got["namespace"], "guest");
    assert_eq!(got["actions"][0]["name"], "x");
    assert_eq!(
        got["parameters"],
        json!([{"key": "a", "value": 1}, {"key": "b", "value": 2}])
    );
    let listed = site.get("_/packages").await.is(200).json();
    assert_eq!(listed[0]["binding"], provider);
    let actions = site.get("_/actions/bound/").await.is(200).json();
    assert_eq!(actions[0]["namespace"], "whisk.system/p");
    let action = site
        .get("_/actions/bound/x?code=false")
        .await
        .is(200)
        .json();
    assert_eq!(action["namespace"], "whisk.system/p");
    assert_eq!(action["binding"], "guest/bound");
    assert_eq!(action["parameters"], got["parameters"]);
    let with_code = site.get("_/actions/bound/x").await.is(200).json();
    assert!(with_code.get("binding").is_none());
    let own = site.get("_/actions?count=true").await.json();
    assert_eq!(own, json!({"actions": 0}));
    // An update without a binding keeps it.
    let kept = site.put(
        "_/packages/bound?overwrite=true",
        json!({"annotations": []}),
    );
    assert_eq!(
        kept.await.is(200).json()["annotations"],
        made["annotations"]
    );
}

#[tokio::test]
async fn what_cannot_be_bound_is_refused_in_the_words_of_the_wire() {
    let site = Site::new().await.with_action("action").await;
    site.put("_/packages/p", json!({})).await.is(200);
    site.put("_/packages/bound", bind("_/p")).await.is(200);
    site.other("PUT", "_/packages/private", json!({}))
        .await
        .is(200);
    let missing = "Binding references a package that does not exist.";
    let converted = "Resource is a package and cannot be converted into a binding.";
    for (path, to, status, text) in [
        ("b", "_/none", 400, missing.to_owned()),
        (
            "b",
            "_/bound",
            400,
            "Cannot bind to another package binding.".to_owned(),
        ),
        (
            "b",
            "_/action",
            409,
            "Cannot bind to a resource that is not a package.".to_owned(),
        ),
        (
            "b",
            "whisk.system/private",
            403,
            forbidden("whisk.system/private"),
        ),
        (
            "b",
            "whisk.system/none",
            403,
            forbidden("whisk.system/none"),
        ),
        ("p?overwrite=true", "_/p", 409, converted.to_owned()),
        (
            "bound?overwrite=true",
            "_/bound",
            400,
            "Cannot bind to another package binding.".to_owned(),
        ),
        (
            "action?overwrite=true",
            "_/p",
            409,
            "Resource by this name exists but is not in this collection.".to_owned(),
        ),
        ("bound", "_/p", 409, "resource already exists".to_owned()),
    ] {
        let got = site.put(&format!("_/packages/{path}"), bind(to)).await;
        got.refuses(status, &text);
    }
    site.put("_/packages/b", json!({"binding": "p"}))
        .await
        .is(400);
    // A binding may be pointed elsewhere.
    site.put("_/packages/q", json!({})).await.is(200);
    let moved = site
        .put("_/packages/bound?overwrite=true", bind("_/q"))
        .await;
    assert_eq!(moved.is(200).json()["binding"]["name"], "q");
}

#[tokio::test]
async fn a_package_cannot_be_called_default() {
    let site = Site::new().await;
    for path in ["_/packages/default", "_/packages/default?overwrite=true"] {
        site.put(path, json!({}))
            .await
            .refuses(400, "Package name 'default' is reserved.");
    }
    site.get("_/packages/default").await.refuses(404, GONE);
    site.put("_/packages/Default", json!({})).await.is(200);
}

#[tokio::test]
async fn a_package_with_contents_is_deleted_by_force_alone() {
    let site = Site::new().await;
    site.put("_/packages/p", json!({})).await.is(200);
    site.put("_/packages/bound", bind("_/p")).await.is(200);
    site.put("_/actions/p/a", exec()).await.is(200);
    let full = |what: &str| {
        format!("Package not empty (contains {what}). Set force param or delete package contents.")
    };
    site.guest("DELETE", "_/packages/p", "")
        .await
        .refuses(409, &full("1 entity"));
    site.put("_/actions/p/b", exec()).await.is(200);
    site.put("_/actions/other", exec()).await.is(200);
    site.guest("DELETE", "_/packages/p?force=false", "")
        .await
        .refuses(409, &full("2 entities"));
    site.guest("DELETE", "_/packages/p?force=true", "")
        .await
        .is(200);
    let left = site.get("_/actions").await.is(200).json();
    assert_eq!(left.as_array().map(Vec::len), Some(1));
    // The binding dangles, and can go.
    for path in ["_/packages/bound", "_/actions/bound/a"] {
        site.get(path).await.refuses(404, GONE);
    }
    site.guest("DELETE", "_/packages/bound", "").await.is(200);
}

#[tokio::test]
async fn nothing_is_written_through_a_binding_or_into_the_packages_of_others() {
    let site = Site::new().await;
    site.put("_/packages/p", json!({})).await.is(200);
    site.put("_/actions/p/a", exec()).await.is(200);
    site.put("_/packages/bound", bind("_/p")).await.is(200);
    let text = "Operation not permitted on package binding.";
    for path in ["_/actions/bound/a", "_/actions/bound/new"] {
        site.put(path, exec()).await.refuses(400, text);
        site.guest("DELETE", path, "").await.refuses(400, text);
    }
    let shared = json!({"publish": true});
    site.other("PUT", "_/packages/p", shared).await.is(200);
    let path = "whisk.system/actions/p/a";
    for (method, body) in [("PUT", exec().to_string()), ("DELETE", String::new())] {
        site.guest(method, path, body)
            .await
            .refuses(403, &forbidden("whisk.system/p/a"));
    }
    for method in ["PUT", "DELETE"] {
        site.guest(method, "whisk.system/packages/p", "{}")
            .await
            .refuses(403, &forbidden("whisk.system/p"));
    }
}

#[tokio::test]
async fn others_see_what_is_shared_and_nothing_else() {
    let site = Site::new().await;
    site.put("_/packages/hers", json!({})).await.is(200);
    for (name, publish) in [("one", true), ("two", true), ("private", false)] {
        let path = format!("_/packages/{name}");
        let body = json!({"publish": publish});
        site.other("PUT", &path, body).await.is(200);
        let path = format!("_/actions/{name}/a");
        site.other("PUT", &path, exec()).await.is(200);
    }
    let mut bound = bind("_/one");
    bound["publish"] = json!(true);
    site.other("PUT", "_/packages/bound", bound).await.is(200);
    let list = async |query: &str| {
        let rows = site.get(&format!("whisk.system/packages{query}")).await;
        let rows = rows.is(200).json();
        let names = rows
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["name"].clone());
        let mut names: Vec<String> = names.map(|name| name.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(list("").await, ["\"one\"", "\"two\""]);
    for (query, count) in [("?skip=1", 1), ("?limit=1", 1), ("?skip=5", 0)] {
        assert_eq!(list(query).await.len(), count, "{query}");
    }
    let count = site.get("whisk.system/packages?count=true&skip=1").await;
    assert_eq!(count.is(200).json(), json!({"packages": 1}));
    site.get("whisk.system/packages/one").await.is(200);
    site.get("whisk.system/actions/one/").await.is(200);
    site.get("whisk.system/actions/one/a").await.is(200);
    for (path, resource) in [
        ("packages/private", "whisk.system/private"),
        ("packages/none", "whisk.system/none"),
        ("actions/private/", "whisk.system/private"),
        ("actions/private/a", "whisk.system/private/a"),
        ("actions/none/a", "whisk.system/none/a"),
        ("actions/a", "whisk.system/a"),
        ("actions", "whisk.system"),
        ("triggers", "whisk.system"),
        ("triggers/t", "whisk.system/t"),
        ("rules", "whisk.system"),
        ("rules/r", "whisk.system/r"),
    ] {
        site.get(&format!("whisk.system/{path}"))
            .await
            .refuses(403, &forbidden(resource));
    }
    site.get("nobody/packages").await.is(200);
}

#[tokio::test]
async fn what_is_shared_for_running_alone_cannot_be_read() {
    let config = Config {
        shared_packages_execute_only: true,
        ..Config::default()
    };
    let site = Site::with(EffectiveLimits::default(), config).await;
    for (path, body) in [
        ("_/packages/open", json!({"publish": true})),
        ("_/packages/shut", json!({})),
        ("_/actions/open/a", exec()),
    ] {
        site.other("PUT", path, body).await.is(200);
    }
    site.put("_/packages/b", bind("whisk.system/open"))
        .await
        .is(200);
    let shared =
        "GET not permitted for 'whisk.system/open' since it's an action in a shared package";
    let missing = "Resource does not exist or is an action in a shared package binding.";
    for (path, text) in [
        ("whisk.system/actions/open/a", shared.to_owned()),
        ("whisk.system/actions/open/a?code=false", shared.to_owned()),
        ("whisk.system/actions/open/none", shared.to_owned()),
        (
            "whisk.system/actions/shut/a",
            forbidden("whisk.system/shut/a"),
        ),
        (
            "_/actions/b/a",
            format!("GET not permitted for 'guest/b/a'. {missing}"),
        ),
        (
            "_/actions/b/none",
            format!("GET not permitted for 'guest/b/none'. {missing}"),
        ),
        (
            "whisk.system/packages/open",
            "GET not permitted for 'whisk.system/open' since it's a shared package".to_owned(),
        ),
        (
            "_/packages/b",
            "GET not permitted since b is a binding of a shared package".to_owned(),
        ),
    ] {
        site.get(path).await.refuses(403, &text);
    }
    for path in ["whisk.system/actions/open/a", "_/actions/b/a"] {
        site.guest("POST", path, "").await.is(202);
    }
    site.other("GET", "_/actions/open/a", Value::Null)
        .await
        .is(200);
    site.put("_/packages/mine", json!({})).await.is(200);
    site.put("_/actions/mine/a", exec()).await.is(200);
    site.put("_/packages/own", bind("guest/mine")).await.is(200);
    for path in [
        "_/actions/mine/a",
        "_/actions/own/a",
        "_/packages/mine",
        "_/packages/own",
    ] {
        site.get(path).await.is(200);
    }
    site.get("_/actions/none/a").await.is(404);
}

#[tokio::test]
async fn wrong_bodies_and_verbs_are_refused() {
    let site = Site::new().await;
    site.guest("PUT", "_/packages/p", "")
        .await
        .refuses(400, "Request entity expected but not supplied");
    for (body, text) in [
        (json!({"parameters": {}}), "parameters malformed!"),
        (json!({"annotations": {}}), "annotations malformed!"),
        (json!({"version": "0.0.0"}), "semantic version malformed"),
        (json!([]), "expected a JSON object"),
    ] {
        let text = format!("The request content was malformed:\n{text}");
        site.put("_/packages/p", body).await.refuses(400, &text);
    }
    let got = site.guest("POST", "_/packages/refresh", "").await;
    assert_eq!(got.is(405).header("allow"), Some("GET,HEAD,PUT,DELETE"));
    for path in ["_/packages", "_/packages/", "_/triggers/", "_/rules"] {
        for method in ["PUT", "DELETE"] {
            site.guest(method, path, "{}").await.is(404);
        }
    }
}

#[tokio::test]
async fn sizes_are_checked_on_every_kind_of_entity() {
    let defaults = EffectiveLimits {
        parameter_size_max: 10,
        ..EffectiveLimits::default()
    };
    let config = Config {
        annotation_bytes_max: 10,
        ..Config::default()
    };
    let site = Site::with(defaults, config).await;
    let large = json!([{"key": "abc", "value": "12345 "}]);
    for path in ["_/packages/x", "_/triggers/x", "_/rules/x"] {
        for field in ["parameters", "annotations"] {
            let text = format!("{field} larger than allowed: 11 > 10 bytes.");
            site.put(path, json!({field: large}))
                .await
                .refuses(413, &text);
        }
    }
}
