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

pub(super) async fn document(site: &Site) -> Value {
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
pub(super) fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
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
