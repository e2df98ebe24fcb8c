//! What is answered is as the document says: a sample of every answer, held to its schema.

use std::collections::BTreeSet;

use super::docs::{document, resolved};
use super::*;
use crate::model::cluster::{
    ClusterStatus, DeadNode, HolderStatus, HomeStatus, NodeStatus, QueueStatus,
};

/// `value` against what the document says of this answer; fields it does not name are errors.
fn check(document: &Value, path: &str, method: &str, got: &Got) {
    let operation = &document["paths"][path][method.to_lowercase()];
    let status = got.status.as_u16().to_string();
    let answers = &operation["responses"];
    assert!(
        !answers[&status].is_null(),
        "{method} {path}: {status} is not described: {}",
        got.text
    );
    let answer = resolved(document, &answers[&status]);
    for (name, header) in answer["headers"].as_object().expect("headers") {
        let required = resolved(document, header)["required"] == true;
        assert!(
            !required || got.header(name).is_some(),
            "{method} {path}: {name}"
        );
    }
    let Some(kind) = got.header("content-type") else {
        assert!(answer["content"].is_null(), "{method} {path}: {status}");
        return;
    };
    let media = kind.split(';').next().expect("not empty");
    let schema = &answer["content"][media]["schema"];
    assert!(!schema.is_null(), "{method} {path}: {status} as {media}");
    if media != "application/json" {
        return;
    }
    let value = got.json();
    let errors = schema::errors(document, schema, &value);
    assert!(errors.is_empty(), "{method} {path}: {errors:#?}\n{value:#}");
}

/// A method, a template, the path that is asked for, and the body.
type Sample = (&'static str, &'static str, String, Value);

const NAMESPACE: &str = "/api/v1/namespaces/{namespace}";

/// A method, a template, the path that is asked for in the key's own namespace, and the body.
type Row = (&'static str, &'static str, &'static str, Value);

/// Requests that make, show and remove one of everything, in this order.
fn samples() -> Vec<Sample> {
    let mut rows = of_actions_and_packages();
    rows.extend(of_triggers_and_rules());
    let whole = |(method, template, path, body): Row| (method, template, format!("_/{path}"), body);
    rows.into_iter().map(whole).collect()
}

fn of_actions_and_packages() -> Vec<Row> {
    let annotations = json!([{"key": "a", "value": [1]}]);
    let code = json!({
        "exec": {"kind": "wasm:default", "code": "(module)", "main": "x"},
        "limits": {"timeout": 1000, "instances": 3},
        "parameters": [{"key": "a", "value": 1, "init": true}],
        "annotations": annotations,
    });
    let sequence = json!({"exec": {"kind": "sequence", "components": ["/_/a", {"path": "guest", "name": "a"}]}});
    let binding = json!({"binding": {"namespace": "_", "name": "p"}});
    let action = "/actions/{action}";
    let package = "/packages/{package}";
    let in_package = "/actions/{package}/{action}";
    vec![
        ("PUT", action, "actions/a", code.clone()),
        ("PUT", action, "actions/a", code.clone()),
        ("PUT", action, "actions/a?overwrite=true", code.clone()),
        ("PUT", action, "actions/s", sequence),
        ("PUT", action, "actions/none", json!({})),
        ("GET", action, "actions/a", Value::Null),
        ("GET", action, "actions/s", Value::Null),
        ("GET", action, "actions/a?code=false", Value::Null),
        ("GET", action, "actions/a?revisions=true", Value::Null),
        ("GET", action, "actions/a?revision=1", Value::Null),
        ("GET", action, "actions/a?revision=x", Value::Null),
        (
            "PUT",
            package,
            "packages/p",
            json!({"parameters": [{"key": "a", "value": null}]}),
        ),
        ("PUT", package, "packages/b", binding),
        ("PUT", package, "packages/a", json!({})),
        ("PUT", in_package, "actions/p/x", code.clone()),
        (
            "PUT",
            in_package,
            "actions/p/f",
            json!({"exec": code["exec"], "annotations": [{"key": "feed", "value": true}]}),
        ),
        ("PUT", in_package, "actions/none/x", code),
        ("GET", in_package, "actions/b/x?code=false", Value::Null),
        ("GET", package, "packages/p", Value::Null),
        ("GET", package, "packages/b", Value::Null),
        ("GET", "/packages", "packages", Value::Null),
        ("GET", "/packages", "packages?count=true", Value::Null),
        ("GET", "/actions", "actions", Value::Null),
        ("GET", "/actions", "actions?count=true", Value::Null),
        ("GET", "/actions", "actions?limit=201", Value::Null),
        ("GET", "/actions/{package}/", "actions/b/", Value::Null),
    ]
}

fn of_triggers_and_rules() -> Vec<Row> {
    let action = "/actions/{action}";
    let package = "/packages/{package}";
    let trigger = "/triggers/{trigger}";
    let rule = "/rules/{rule}";
    vec![
        (
            "PUT",
            trigger,
            "triggers/t",
            json!({"annotations": [{"key": "a", "value": {}}]}),
        ),
        (
            "PUT",
            rule,
            "rules/r",
            json!({"trigger": "/_/t", "action": "/_/p/x"}),
        ),
        ("PUT", rule, "rules/none", json!({})),
        ("GET", trigger, "triggers/t", Value::Null),
        ("GET", "/triggers", "triggers", Value::Null),
        ("GET", "/triggers", "triggers?count=1", Value::Null),
        ("GET", rule, "rules/r", Value::Null),
        ("GET", "/rules", "rules", Value::Null),
        ("GET", "/rules", "rules?count=1", Value::Null),
        ("POST", rule, "rules/r", json!({"status": "inactive"})),
        ("POST", trigger, "triggers/t", json!({})),
        ("POST", rule, "rules/r", json!({"status": "active"})),
        ("POST", trigger, "triggers/t", json!({})),
        ("DELETE", package, "packages/p", Value::Null),
        ("DELETE", rule, "rules/r", Value::Null),
        ("DELETE", trigger, "triggers/t", Value::Null),
        ("DELETE", package, "packages/p?force=true", Value::Null),
        ("DELETE", action, "actions/a", Value::Null),
    ]
}

#[tokio::test]
async fn what_entities_answer_fits_its_schema() {
    let site = Site::new().await;
    let document = document(&site).await;
    let mut statuses = BTreeSet::new();
    for (method, template, path, body) in samples() {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let got = site.guest(method, &path, body).await;
        statuses.insert(got.status.as_u16());
        check(&document, &format!("{NAMESPACE}{template}"), method, &got);
    }
    let expected = BTreeSet::from([200, 202, 204, 400, 404, 409]);
    assert_eq!(statuses, expected);
}

#[tokio::test]
async fn what_activations_answer_fits_its_schema() {
    let site = Site::new().await.with_action("a").await;
    let document = document(&site).await;
    let whole = record(
        1 << 80,
        "a",
        1_700_000_000_000,
        Status::Success,
        &json!({"a": 1}),
    );
    let mut fired = record(2 << 80, "t", 1_700_000_000_001, Status::Success, &json!({}));
    (fired.end, fired.duration) = (None, None);
    fired.cause = Some(ActivationId(7));
    for one in [&whole, &fired] {
        site.activations.put(Arc::new(one.clone())).expect("room");
    }
    let (known, unknown) = (ActivationId(1 << 80), ActivationId(9));
    let one = format!("{NAMESPACE}/activations/{{id}}");
    for (method, suffix, path) in [
        ("GET", "", format!("{known}")),
        ("GET", "", format!("{unknown}")),
        ("GET", "", format!("{known}?wait=1000")),
        ("GET", "", "x".to_owned()),
        ("GET", "/logs", format!("{known}/logs")),
        ("GET", "/result", format!("{known}/result")),
        ("DELETE", "", format!("{known}")),
        ("DELETE", "", format!("{unknown}")),
    ] {
        let got = site
            .guest(method, &format!("_/activations/{path}"), "")
            .await;
        check(&document, &format!("{one}{suffix}"), method, &got);
    }
    for query in [
        "",
        "?docs=true",
        "?count=true",
        "?docs=1&count=1",
        "?since=x",
        "?name=a/b/c",
    ] {
        let got = site.get(&format!("_/activations{query}")).await;
        check(&document, &format!("{NAMESPACE}/activations"), "GET", &got);
    }
}

#[tokio::test]
async fn what_calls_answer_fits_its_schema() {
    let site = Site::new().await.with_action("a").await;
    let document = document(&site).await;
    let action = format!("{NAMESPACE}/actions/{{action}}");
    for (status, result, query) in [
        (Status::Success, json!({"a": 1}), "blocking=true"),
        (Status::Success, json!([1]), "blocking=true"),
        (
            Status::Success,
            json!({"a": 1}),
            "blocking=true&result=true",
        ),
        (
            Status::ApplicationError,
            json!({"error": 1}),
            "blocking=true&result=true",
        ),
        (Status::DeveloperError, json!({"error": 1}), "blocking=true"),
        (
            Status::InternalError,
            json!({"error": "x"}),
            "blocking=true",
        ),
    ] {
        let finished = record(3, "a", 1, status, &result);
        site.will(Ok(Answer::Finished(Arc::new(finished))));
        let got = site
            .guest("POST", &format!("_/actions/a?{query}"), "{}")
            .await;
        check(&document, &action, "POST", &got);
    }
    for body in ["", "[]", "{"] {
        let got = site.guest("POST", "_/actions/a", body).await;
        check(&document, &action, "POST", &got);
    }
}

#[tokio::test]
async fn what_is_said_of_dead_letters_and_of_calls_done_once_fits_its_schema() {
    let site = Site::new().await.with_action("a").await;
    let site = site.with_letter(1, "guest/a").await;
    let site = site.with_letter(2, "guest/a").await;
    let document = document(&site).await;
    let one = |id: u128| format!("/{id:032x}");
    for (method, template, path) in [
        ("GET", "", String::new()),
        ("GET", "", "?count=true".to_owned()),
        ("GET", "", "?limit=201".to_owned()),
        ("GET", "/{id}", one(1)),
        ("GET", "/{id}", one(9)),
        ("POST", "/{id}", one(1)),
        ("DELETE", "/{id}", one(2)),
        ("DELETE", "", String::new()),
    ] {
        let got = site
            .guest(method, &format!("_/deadletters{path}"), "")
            .await;
        let template = format!("{NAMESPACE}/deadletters{template}");
        check(&document, &template, method, &got);
    }
    for (key, body, status) in [
        ("k", "", 202),
        ("k", "", 202),
        ("k", "{\"a\":1}", 422),
        (" ", "", 400),
    ] {
        let request = Request::post(api("_/actions/a"))
            .header("authorization", basic(WELL_KNOWN_GUEST))
            .header("idempotency-key", key)
            .body(Body::from(body))
            .expect("a request");
        let got = site.send(request).await;
        assert_eq!(got.status.as_u16(), status, "{}", got.text);
        check(
            &document,
            &format!("{NAMESPACE}/actions/{{action}}"),
            "POST",
            &got,
        );
    }
}

#[tokio::test]
async fn what_apis_answer_fits_its_schema() {
    let site = Site::new().await;
    let document = document(&site).await;
    let base = "/api/v1/web/whisk.system/apimgmt";
    let action = json!({"namespace": "guest", "name": "/guest/a", "backendMethod": "GET",
        "backendUrl": "http://localhost/api/v1/web/guest/default/a.json", "authkey": "x"});
    let apidoc = json!({"namespace": "_", "gatewayBasePath": "/b", "gatewayPath": "/p",
        "gatewayMethod": "get", "action": action});
    for (method, name, query, body) in [
        (
            "POST",
            "createApi",
            "",
            json!({ "apidoc": apidoc }).to_string(),
        ),
        ("POST", "createApi", "", "{}".to_owned()),
        ("POST", "createApi", "", "[".to_owned()),
        ("GET", "getApi", "", String::new()),
        ("DELETE", "deleteApi", "?basepath=/b", String::new()),
        ("DELETE", "deleteApi", "?basepath=/b", String::new()),
    ] {
        let path = format!("{base}/{name}");
        let got = site.guest(method, &format!("{path}{query}"), body).await;
        check(&document, &path, method, &got);
    }
    let got = site.send(bare("GET", &format!("{base}/getApi"))).await;
    assert_eq!(got.status.as_u16(), 401);
    check(&document, &format!("{base}/getApi"), "GET", &got);
}

#[tokio::test]
async fn what_the_platform_answers_fits_its_schema() {
    let site = Site::new().await;
    let document = document(&site).await;
    for path in [
        "/",
        "/api/v1",
        "/ping",
        "/health",
        "/metrics",
        "/docs",
        "/api/v1/docs",
        "/api-docs",
    ] {
        let got = site.send(bare("GET", path)).await;
        check(&document, path, "GET", &got);
    }
    for (path, key) in [
        ("/api/v1/namespaces", ""),
        ("/api/v1/namespaces/{namespace}/limits", "_"),
    ] {
        let got = site.get(&path.replace("{namespace}", key)).await;
        check(&document, path, "GET", &got);
        let got = site.send(bare("GET", path)).await;
        assert_eq!(got.status.as_u16(), 401);
        check(&document, path, "GET", &got);
    }
    let limits = json!({"maxActionMemory": 1024, "allowedKinds": ["wasm:1"], "storeActivations": true,
        "storeBlockingResultLevel": "STORE_FAILURES"});
    for (method, suffix, body) in [
        ("PUT", "", String::new()),
        ("PUT", "", String::new()),
        ("GET", "", String::new()),
        ("PUT", "/limits", limits.to_string()),
        ("PUT", "/limits", "{\"x\":1}".to_owned()),
        ("GET", "/limits", String::new()),
        ("DELETE", "/limits", String::new()),
        ("POST", "/key", String::new()),
        ("POST", "/block", String::new()),
        ("POST", "/unblock", String::new()),
        ("DELETE", "", String::new()),
        ("DELETE", "", String::new()),
    ] {
        let path = format!("/admin/v1/namespaces/new{suffix}");
        let got = site.system(method, &path, body.clone()).await;
        let template = path.replace("new", "{namespace}");
        check(&document, &template, method, &got);
        check(
            &document,
            &template,
            method,
            &site.guest(method, &path, body).await,
        );
    }
    let got = site.system("GET", "/admin/v1/namespaces", "").await;
    check(&document, "/admin/v1/namespaces", "GET", &got);
}

/// A cluster with one of everything.
struct Busy;

#[async_trait]
impl crate::api::Cluster for Busy {
    async fn status(&self) -> crate::store::Result<ClusterStatus> {
        let node = NodeStatus {
            role: "all",
            this: true,
            ..NodeStatus::default()
        };
        let dead = |since_ms| DeadNode {
            since_ms,
            ..DeadNode::default()
        };
        let queue = QueueStatus {
            holders: vec![HolderStatus::default()],
            problem: Some("it is none".to_owned()),
            ..QueueStatus::default()
        };
        Ok(ClusterStatus {
            nodes: vec![node],
            dead: vec![dead(None), dead(Some(1))],
            queues: vec![queue],
            homes: vec![HomeStatus::default()],
            ..ClusterStatus::default()
        })
    }
}

#[tokio::test]
async fn what_is_said_of_the_cluster_fits_its_schema() {
    let path = "/admin/v1/cluster";
    let alone = Site::new().await;
    let got = alone.system("GET", path, "").await;
    assert!(got.is(404).error().starts_with("This server is alone: "));
    let document = document(&alone).await;
    check(&document, path, "GET", &got);
    let (mut state, _) = Site::state(EffectiveLimits::default()).await;
    state.cluster = Some(Arc::new(Busy));
    let edge = Edge::new(state, Config::default());
    let site = Site { edge, ..alone };
    for got in [
        site.system("GET", path, "").await,
        site.guest("GET", path, "").await,
        site.send(bare("GET", path)).await,
    ] {
        check(&document, path, "GET", &got);
    }
    let told = site.system("GET", path, "").await.is(200).json();
    assert_eq!(told["nodes"][0]["leaseLeftMs"], 0);
    assert_eq!(told["dead"][0].get("sinceMs"), None);
}
