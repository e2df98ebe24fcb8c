//! Sequences: what is taken, and how they are shown.

use super::*;

const CIRCULAR: &str = "Sequence may not refer to itself.";
const MISSING: &str = "Sequence component does not exist.";
const TOO_LONG: &str = "Too many actions in the sequence.";

fn of(components: &[&str]) -> Value {
    json!({"exec": {"kind": "sequence", "components": components}})
}

fn repeated(component: &str, count: usize) -> Value {
    of(&vec![component; count])
}

fn code() -> Value {
    json!({"exec": {"kind": "wasm:1", "code": "x"}, "parameters": [{"key": "p", "value": 1}]})
}

#[tokio::test]
async fn a_sequence_has_its_components_in_place_of_parameters() {
    let site = Site::new().await.with_action("a").await;
    site.put("_/packages/p", json!({})).await.is(200);
    site.put("_/actions/p/b", code()).await.is(200);
    let mut body = of(&["/_/a", "guest/p/b", "/_/p/b"]);
    body["exec"]["kind"] = json!(" Sequence ");
    body["parameters"] = json!([{"key": "mine", "value": 1}]);
    body["limits"] = json!({"timeout": 1000});
    let made = site.put("_/actions/s", body).await.is(200).json();
    let names = json!(["/guest/a", "/guest/p/b", "/guest/p/b"]);
    assert_eq!(
        made["exec"],
        json!({"kind": "sequence", "components": names, "binary": false})
    );
    let parameters = json!([{"key": "_actions", "value": names}]);
    assert_eq!(made["parameters"], parameters);
    assert_eq!(made["limits"]["timeout"], 1000);
    let kind = |action: &Value| {
        let all = action["annotations"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["key"] == "exec").unwrap()["value"].clone()
    };
    assert_eq!(kind(&made), "sequence");
    assert_eq!(site.get("_/actions/s").await.is(200).json(), made);
    let lean = site.get("_/actions/s?code=false").await.is(200).json();
    assert_eq!(
        lean["exec"],
        json!({"kind": "sequence", "components": names})
    );
    let rows = site.get("_/actions?limit=1").await.is(200).json();
    assert_eq!(rows[0]["exec"], json!({"binary": false}));
    // It keeps them whatever parameters an update brings, and they do not outlive it.
    let path = "_/actions/s?overwrite=true";
    let update = json!({"parameters": [{"key": "mine", "value": 1}]});
    assert_eq!(
        site.put(path, update).await.is(200).json()["parameters"],
        parameters
    );
    let exec = json!({"exec": {"kind": "wasm:1", "code": "x"}});
    let now = site.put(path, exec).await.is(200).json();
    assert_eq!(now["parameters"], json!([]));
    assert_eq!(kind(&now), "wasm:1");
    let gone = site.guest("DELETE", "_/actions/s", "").await;
    assert_eq!(gone.is(200).json(), now);
}

#[tokio::test]
async fn wrong_sequences_are_refused_in_the_words_of_the_wire() {
    let site = Site::new().await.with_action("a").await;
    let malformed = |detail: &str| format!("The request content was malformed:\n{detail}");
    let unqualified = "requirement failed: The fully qualified name of the entity must contain at least the namespace and the name of the entity.";
    for (exec, text) in [
        (
            json!({"kind": "sequence"}),
            malformed("'components' must be defined for sequence kind"),
        ),
        (
            json!({"kind": "sequence", "components": "a"}),
            malformed("'components' must be an array"),
        ),
        (
            json!({"kind": "sequence", "components": ["a"]}),
            malformed(unqualified),
        ),
        (
            json!({"kind": "sequence", "components": ["/_/$"]}),
            malformed("The name of the entity contains illegal characters."),
        ),
        (
            json!({"kind": "sequence", "components": []}),
            "No component specified for the sequence.".to_owned(),
        ),
        (
            json!({"kind": "sequence", "components": ["/_/none"]}),
            MISSING.to_owned(),
        ),
        (
            json!({"kind": "sequence", "components": ["/_/p/none"]}),
            MISSING.to_owned(),
        ),
        (
            json!({"kind": "sequence", "components": ["/_/s"]}),
            CIRCULAR.to_owned(),
        ),
        (
            json!({"kind": "sequence", "components": ["/_/a", "/_/s"]}),
            CIRCULAR.to_owned(),
        ),
        (
            json!({"kind": "builtin", "builtin": "alarm"}),
            malformed(
                "The specified runtime 'builtin' is not supported by this platform. Valid values are: 'wasm:1', 'nodejs:18', 'nodejs:20', 'nodejs:22', 'python:3', 'python:3.10', 'python:3.11', 'python:3.12', 'python:3.13', 'sequence'",
            ),
        ),
        (
            json!({"kind": "blackbox", "image": "x"}),
            malformed(
                "The specified runtime 'blackbox' is not supported by this platform, which runs no container images: it runs code in WebAssembly sandboxes. Valid values are: 'wasm:1', 'nodejs:18', 'nodejs:20', 'nodejs:22', 'python:3', 'python:3.10', 'python:3.11', 'python:3.12', 'python:3.13', 'sequence'",
            ),
        ),
    ] {
        let body = json!({"exec": exec});
        site.put("_/actions/s", body).await.refuses(400, &text);
    }
    site.put("_/actions/s", repeated("/_/a", 51))
        .await
        .refuses(400, TOO_LONG);
    site.put("_/actions/s", repeated("/_/a", 50)).await.is(200);
}

#[tokio::test]
async fn components_that_may_not_be_used_are_listed_in_order() {
    let site = Site::new().await.with_action("a").await;
    let system = async |path: &str, body: Value| {
        let path = format!("/api/v1/namespaces/_/{path}");
        site.system("PUT", &path, body.to_string()).await.is(200);
    };
    system("packages/open", json!({"publish": true})).await;
    system("actions/open/a", code()).await;
    system("packages/shut", json!({})).await;
    system("actions/shut/a", code()).await;
    system("actions/a", code()).await;
    let body = of(&[
        "/whisk.system/shut/a",
        "/_/none",
        "/whisk.system/a",
        "/whisk.system/shut/a",
        "/whisk.system/open/a",
    ]);
    site.put("_/actions/s", body).await.refuses(
        403,
        "The supplied authentication is not authorized to access 'whisk.system/a, whisk.system/shut/a'.",
    );
    let body = of(&["/_/a", "/whisk.system/open/a"]);
    site.put("_/actions/s", body).await.is(200);
}

#[tokio::test]
async fn what_is_nested_counts_and_may_not_lead_back() {
    let site = Site::new().await.with_action("a").await;
    site.put("_/actions/ten", repeated("/_/a", 10))
        .await
        .is(200);
    site.put("_/actions/fifty", repeated("/_/ten", 5))
        .await
        .is(200);
    site.put("_/actions/more", of(&["/_/fifty", "/_/a"]))
        .await
        .refuses(400, TOO_LONG);
    site.put("_/actions/just", of(&["/_/fifty"])).await.is(200);
    let path = "_/actions/ten?overwrite=true";
    for inner in ["/_/ten", "/_/fifty", "/_/just"] {
        site.put(path, of(&[inner])).await.refuses(400, CIRCULAR);
    }
    // Code that is about to become a sequence is no way out.
    site.put("_/actions/a?overwrite=true", of(&["/_/just"]))
        .await
        .refuses(400, CIRCULAR);
    // Through a binding it is the same action.
    site.put("_/packages/p", json!({})).await.is(200);
    let binding = json!({"binding": {"namespace": "_", "name": "p"}});
    site.put("_/packages/bound", binding).await.is(200);
    site.put("_/actions/p/s", of(&["/_/a"])).await.is(200);
    site.put("_/actions/p/s?overwrite=true", of(&["/_/bound/s"]))
        .await
        .refuses(400, CIRCULAR);
    // One that lost a component since cannot be taken into another.
    site.put("_/actions/lossy", of(&["/_/p/s"])).await.is(200);
    site.guest("DELETE", "_/actions/p/s", "").await.is(200);
    site.put("_/actions/outer", of(&["/_/lossy"]))
        .await
        .refuses(400, MISSING);
}

#[tokio::test]
async fn a_namespace_without_sequences_cannot_make_one() {
    let allowing = |kinds: &[&str]| EffectiveLimits {
        allowed_kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        ..EffectiveLimits::default()
    };
    let site = Site::with(allowing(&["wasm:1"]), Config::default()).await;
    let site = site.with_action("a").await;
    site.put("_/actions/s", of(&["/_/a"])).await.refuses(
        403,
        "The supplied authentication is not authorized to access actions of kind 'sequence'.",
    );
    let both = allowing(&["wasm:1", "sequence"]);
    let site = Site::with(both, Config::default()).await;
    let site = site.with_action("a").await;
    site.put("_/actions/s", of(&["/_/a"])).await.is(200);
}
