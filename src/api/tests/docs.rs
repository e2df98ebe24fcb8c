//! The document describes what is served, all of it and nothing else; and what is answered is as it says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;
use crate::api::docs::{DOCUMENT, PAGE};
use crate::model::NamespaceLimits;

/// The page of all routes, and where web paths are told apart.
const ROUTES: &str = include_str!("../mod.rs");

/// The methods that a route may have.
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "PATCH"];

async fn document(site: &Site) -> Value {
    site.send(bare("GET", DOCUMENT[0])).await.is(200).json()
}

/// Every object in `value`, with the names and indexes that lead to it.
fn walk<'a>(at: &str, value: &'a Value, visit: &mut impl FnMut(&str, &'a Value)) {
    visit(at, value);
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                walk(&format!("{at}/{name}"), field, visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(&format!("{at}/{index}"), item, visit);
            }
        }
        _ => {}
    }
}

/// What a reference leads to.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        None => value,
        Some(reference) => {
            let pointer = reference.strip_prefix('#').expect("within the document");
            document
                .pointer(pointer)
                .unwrap_or_else(|| panic!("{reference} leads nowhere"))
        }
    }
}

/// `(path, method in capitals, operation)` of all.
fn operations(document: &Value) -> Vec<(&str, String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let mut all = Vec::new();
    for (path, methods) in paths {
        let methods = methods.as_object().expect("methods").iter();
        for (method, operation) in methods.filter(|(name, _)| *name != "parameters") {
            all.push((path.as_str(), method.to_uppercase(), operation));
        }
    }
    all
}

/// Names of parameters are nobody's business here.
fn nameless(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        if segment.starts_with('{') {
            "{}"
        } else {
            segment
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

/// What the page of routes has between quotes, and between backticks in its list of prefixes; these are cut where more
/// may follow.
fn routes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in ROUTES.lines().map(str::trim) {
        let quoted = line
            .strip_prefix("/// - `")
            .and_then(|rest| rest.split('`').next())
            .or_else(|| line.split('"').nth(1));
        if let Some(path) = quoted.filter(|path| path.starts_with('/')) {
            let path = match path.split_once('…') {
                Some((before, _)) => before.trim_end_matches('/'),
                None => path,
            };
            found.extend(each(path).iter().map(|path| nameless(path)));
        }
    }
    found
}

/// `a/{x, y}` is `a/x` and `a/y`.
fn each(path: &str) -> Vec<String> {
    let Some((before, names)) = path.split_once('{').filter(|(_, rest)| rest.contains(", ")) else {
        return vec![path.to_owned()];
    };
    let names = names.trim_end_matches('}').split(", ");
    names.map(|name| format!("{before}{name}")).collect()
}

#[tokio::test]
async fn every_route_is_described_and_nothing_else() {
    let site = Site::new().await;
    let document = document(&site).await;
    let described: BTreeSet<String> = operations(&document)
        .iter()
        .map(|(path, ..)| nameless(path))
        .collect();
    let routes = routes();
    assert!(
        routes.len() > 30,
        "the routes are not where this test looks"
    );
    for route in &routes {
        // A slash at the end is the same thing, but where it is a thing of its own.
        let bare = route.trim_end_matches('/');
        assert!(
            described.contains(route) || described.contains(bare),
            "{route} is not described"
        );
    }
    for path in &described {
        assert!(routes.contains(path), "{path} is described, and no route");
    }
}

#[tokio::test]
async fn the_described_methods_are_those_that_are_served() {
    let site = Site::new().await;
    let document = document(&site).await;
    let mut methods: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (path, method, _) in operations(&document) {
        methods.entry(path).or_default().insert(method);
    }
    for (path, described) in methods {
        // Which methods an API has is its tenant's to say.
        if path.starts_with("/api/{tenant}/") {
            continue;
        }
        let concrete = path
            .replace("{namespace}", "_")
            .replace("{id}", &"0".repeat(32));
        let concrete = nameless(&concrete).replace("{}", "x");
        for method in METHODS {
            let got = site.system(method, &concrete, "").await;
            let status = got.status.as_u16();
            let is_served = status != 405
                && (status != 404 || got.error() != "The requested resource could not be found.");
            // OpenWhisk's actions for APIs never looked at the method.
            let is_lenient = path.contains("/apimgmt/");
            assert!(
                described.contains(method) == is_served || is_lenient && is_served,
                "{method} {concrete}: {status}"
            );
        }
    }
}

#[tokio::test]
async fn the_document_is_valid_and_every_reference_leads_somewhere() {
    let site = Site::new().await;
    let document = document(&site).await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut used = BTreeSet::new();
    walk("", &document, &mut |at, value| {
        if let Some(reference) = value["$ref"].as_str() {
            resolved(&document, value);
            used.insert(reference.to_owned());
            let siblings = value.as_object().expect("an object").len();
            assert_eq!(siblings, 1, "{at}: nothing stands beside a reference");
        }
    });
    for (kind, components) in document["components"].as_object().expect("components") {
        let all = components.as_object().expect("an object").keys();
        for name in all.filter(|_| kind != "securitySchemes") {
            let reference = format!("#/components/{kind}/{name}");
            assert!(used.contains(&reference), "nobody uses {reference}");
            let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            assert!(name.chars().all(is_legal), "{name}");
        }
    }
    let schemas = document["components"]["schemas"].as_object();
    for (name, schema) in schemas.expect("schemas") {
        schema::assert_known(name, schema);
    }
}

#[tokio::test]
async fn operations_are_whole_and_have_names_of_their_own() {
    let site = Site::new().await;
    let document = document(&site).await;
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let id = operation["operationId"].as_str().expect("an id");
        assert!(ids.insert(id), "{id} is there twice");
        for field in ["summary", "responses", "security", "tags"] {
            assert!(!operation[field].is_null(), "{method} {path}: {field}");
        }
        let parameters = operation["parameters"].as_array().cloned();
        let parameters = parameters.unwrap_or_default();
        let in_path: BTreeSet<String> = parameters
            .iter()
            .map(|one| resolved(&document, one))
            .filter(|one| one["in"] == "path")
            .map(|one| one["name"].as_str().expect("a name").to_owned())
            .collect();
        let in_template: BTreeSet<String> = path
            .split('/')
            .filter_map(|one| one.strip_prefix('{')?.strip_suffix('}'))
            .map(str::to_owned)
            .collect();
        assert_eq!(in_path, in_template, "{method} {path}");
        let responses = operation["responses"].as_object().expect("answers");
        for (status, answer) in responses {
            let answer = resolved(&document, answer);
            let says = answer["description"].as_str().expect("a description");
            assert!(says.ends_with('.'), "{method} {path} {status}: {says}");
        }
    }
}

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

#[tokio::test]
async fn names_are_those_that_are_taken() {
    let site = Site::new().await;
    let document = document(&site).await;
    let schema = &document["components"]["schemas"]["Name"];
    let mut names: Vec<String> = Vec::new();
    for c in (0..=0x7f_u8).map(char::from).chain(['é', '\u{7f0}']) {
        names.extend([
            format!("{c}"),
            format!("{c}a"),
            format!("a{c}a"),
            format!("a{c}"),
        ]);
    }
    names.extend([String::new(), "x".repeat(256), "x".repeat(257)]);
    for name in names {
        assert_eq!(
            schema::errors(&document, schema, &json!(name)).is_empty(),
            EntityName::parse(&name).is_ok(),
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn the_limits_that_are_described_are_those_that_are_read() {
    let site = Site::new().await;
    let document = document(&site).await;
    let described = &document["components"]["schemas"]["NamespaceLimits"]["properties"];
    let mut whole = serde_json::Map::new();
    for (name, schema) in described.as_object().expect("properties") {
        let value = match schema["type"].as_str().expect("a type") {
            "integer" => json!(1),
            "boolean" => json!(true),
            "string" => schema["enum"][0].clone(),
            _ => json!(["wasm:1"]),
        };
        whole.insert(name.clone(), value);
    }
    let limits: NamespaceLimits =
        serde_json::from_value(Value::Object(whole.clone())).expect("all are known");
    let printed = serde_json::to_value(&limits).expect("JSON");
    assert_eq!(printed, Value::Object(whole), "all are described");
    // Every field is a name and an option: one that is not described would be missing above.
    let debug = format!("{:?}", NamespaceLimits::default());
    assert_eq!(
        debug.matches(": None").count(),
        described.as_object().expect("properties").len()
    );
}

#[tokio::test]
async fn the_words_of_errors_stand_in_the_code() {
    let site = Site::new().await;
    let document = document(&site).await;
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut code = String::new();
    collect(&src, &mut code);
    for (id, example) in document["components"]["examples"]
        .as_object()
        .expect("examples")
    {
        let text = example["value"]["error"].as_str().expect("a text");
        // What stands between quotes, and numbers, differ from one request to the next.
        let is_fixed = |part: &&str| part.len() > 12;
        let parts = text.split(|c: char| matches!(c, '\'' | ':' | '\n' | '0'..='9'));
        for part in parts.map(str::trim).filter(is_fixed) {
            // Names of fields, collections and units differ, too: a good part is the same.
            let words: Vec<&str> = part.split(' ').collect();
            let runs = (0..words.len())
                .flat_map(|from| (from + 1..=words.len()).map(move |to| (from, to)))
                .map(|(from, to)| words[from..to].join(" "));
            let is_said = runs
                .filter(|run| run.len() * 3 > part.len())
                .any(|run| code.contains(&run));
            assert!(is_said, "{id}: nobody says {part:?}");
        }
    }
}

/// All code under `folder` but that of the document and of tests.
fn collect(folder: &Path, code: &mut String) {
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        if path.is_dir() && name != "docs" && name != "tests" {
            collect(&path, code);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            code.push_str(&std::fs::read_to_string(&path).expect("text"));
        }
    }
}

#[tokio::test]
async fn the_page_runs_nothing_but_its_own_script() {
    let site = Site::new().await;
    for path in PAGE {
        let mut request = bare("GET", path);
        let accept = "text/html".parse().expect("a header");
        request.headers_mut().insert("accept", accept);
        let got = site.send(request).await;
        assert_eq!(
            got.is(200).header("content-type"),
            Some("text/html; charset=UTF-8")
        );
        let policy = got.header("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'sha256-"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        for elsewhere in ["http:", "https:", "src=", "/*style*/", "/*script*/"] {
            assert!(!got.text.contains(elsewhere), "{elsewhere}");
        }
        assert_eq!(got.text.matches("<script>").count(), 1);
        assert!(got.text.len() < 40 << 10, "{} bytes", got.text.len());
    }
    let info = site.send(bare("GET", "/api/v1")).await.json();
    let paths = json!({"ui": PAGE[0], "api-docs": DOCUMENT[0]});
    assert_eq!(info["swagger_paths"], paths);
}
