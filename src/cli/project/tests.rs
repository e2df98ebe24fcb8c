//! From the text of a manifest to what is done: wanted, planned, shown.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::inputs::Scope;
use super::manifest::Document;
use super::package::Place;
use super::plan::{Have, Plan, Verb};
use super::wanted::{Kind, Wanted};
use super::{adapt, mark};
use crate::cli::failure::Result;
use crate::config::Environment;

const MANIFEST: &str = r#"
project:
  name: shop
  inputs: {region: eu}
  packages:
    orders:
      version: 1.0
      license: Apache-2.0
      public: true
      inputs:
        host: ${DB_HOST}
      actions:
        list:
          function: list.wat
          web: raw
          inputs:
            place: $region
            limit: integer
          limits: {memorySize: 128, timeout: 5000, codeSize: 5}
          annotations: {note: "of ${host}"}
        greet:
          code: |
            (module)
          runtime: wasm:default
          docker: an/image
      sequences:
        outer: {actions: "inner, greet"}
        inner: {actions: "list, /whisk.system/utils/echo"}
      triggers:
        placed:
          inputs: {kind: order}
        nightly:
          source: /whisk.system/alarms/alarm
          inputs: {cron: "0 3 * * *"}
      rules:
        on-placed: {trigger: placed, action: list, annotations: {retry: {attempts: 3}}}
      apis:
        Shop:
          shop:
            orders:
              list: GET
            orders/{id}:
              outer: {method: post, response: http}
      dependencies:
        utils: {location: /whisk.system/utils, inputs: {separator: ";"}}
    default:
      actions:
        plain: {function: list.wat}
"#;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("list.wat"), "(module)").unwrap();
    folder
}

fn read(manifest: &str, deployment: Option<&str>, folder: &Path) -> Result<Wanted> {
    let environment = Environment::of([("DB_HOST", "db")]);
    let said = Map::new();
    let manifest = Document::parse(manifest).unwrap();
    let deployment = deployment.map(|text| Document::parse(text).unwrap());
    let scope = Scope::new(&environment, &said);
    let place = Place {
        folder,
        namespace: "guest",
        code: true,
    };
    let mut wanted = Wanted::of(&manifest, deployment.as_ref(), &scope, place)?;
    mark(
        &mut wanted,
        Some("shop"),
        Path::new("manifest.yaml"),
        "text",
    );
    Ok(wanted)
}

fn wanted() -> Wanted {
    read(MANIFEST, None, folder().path()).unwrap()
}

/// What a server would have after all of it was put.
fn had(wanted: &Wanted) -> Have {
    let mut have = Have::default();
    have.defaults.insert("wasm".to_owned(), "wasm:1".to_owned());
    for entity in &wanted.entities {
        if let Some(route) = &entity.route {
            have.routes.extend(crate::cli::api::operations(&json!({"apidoc": {
                "basePath": route.base, "paths": { route.path.clone(): { route.verb.to_lowercase(): {
                    "x-openwhisk": {"namespace": "guest", "package": "orders", "action": route.action.name(),
                        "url": format!("http://h/x.{}", route.response.name())},
                }}},
            }})));
            continue;
        }
        let mut found = entity.body.clone();
        if found["exec"]["kind"] == "wasm:default" {
            found["exec"]["kind"] = json!("wasm:1");
            found["exec"]["binary"] = json!(false);
        }
        let mut annotations = entity.annotations.clone();
        if entity.kind == Kind::Rule {
            for (end, path) in [("trigger", "guest"), ("action", "guest/orders")] {
                let name = found[end]
                    .as_str()
                    .unwrap()
                    .rsplit('/')
                    .next()
                    .unwrap()
                    .to_owned();
                found[end] = json!({"path": path, "name": name});
            }
            found["status"] = json!("active");
        }
        if entity.kind == Kind::Action && entity.name.starts_with("orders/") {
            // As servers show them: with what they inherit of their package.
            let inherited = json!({"key": "host", "value": "db"});
            found["parameters"].as_array_mut().unwrap().push(inherited);
        }
        if entity.kind.collection() == "actions" {
            annotations.insert("exec".to_owned(), json!("wasm:1"));
            annotations.insert("provide-api-key".to_owned(), json!(false));
        }
        found["annotations"] = crate::cli::pairs::keys_and_values(annotations);
        have.entities
            .insert((entity.kind.collection(), entity.name.clone()), found);
        have.managed.push((entity.kind, entity.name.clone()));
    }
    have
}

fn lines(plan: &Plan) -> Vec<String> {
    let line = |step: &super::Step| {
        let text = format!(
            "{} {} {} {}",
            step.verb.sign(),
            step.kind.name(),
            step.name,
            step.fields.join(",")
        );
        text.trim_end().to_owned()
    };
    plan.steps.iter().map(line).collect()
}

#[test]
fn a_manifest_is_made_in_the_order_of_what_needs_what() {
    let plan = Plan::deploy(&wanted(), &Have::default());
    let expected = [
        "+ package orders",
        "+ binding utils",
        "+ action orders/greet",
        "+ action orders/list",
        "+ action plain",
        "+ sequence orders/inner",
        "+ sequence orders/outer",
        "+ trigger nightly",
        "+ trigger placed",
        "+ rule on-placed",
        "+ api GET /shop/orders",
        "+ api POST /shop/orders/{id}",
    ];
    assert_eq!(lines(&plan), expected);
}

#[test]
fn every_part_of_a_manifest_arrives() {
    let wanted = wanted();
    let of = |name: &str| {
        let mut all = wanted.entities.iter();
        all.find(|entity| entity.name == name).unwrap()
    };
    let host = json!([{"key": "host", "value": "db"}]);
    assert_eq!(
        of("orders").body,
        json!({"publish": true, "parameters": host})
    );
    let list = of("orders/list");
    let parameters = json!([{"key": "limit", "value": 0}, {"key": "place", "value": "eu"}]);
    assert_eq!(list.body["parameters"], parameters);
    assert_eq!(list.body["limits"], json!({"memory": 128, "timeout": 5000}));
    assert_eq!(list.annotations["note"], "of db");
    assert_eq!(list.annotations["raw-http"], true);
    assert_eq!(list.annotations["whisk-managed"]["projectName"], "shop");
    assert_eq!(
        of("orders/greet").body["exec"],
        json!({"kind": "wasm:default", "code": "(module)\n"})
    );
    let components = json!(["/guest/orders/list", "/whisk.system/utils/echo"]);
    assert_eq!(of("orders/inner").body["exec"]["components"], components);
    assert_eq!(
        of("orders/outer").annotations["web-export"],
        true,
        "its API needs it"
    );
    let nightly = of("nightly");
    assert_eq!(nightly.annotations["feed"], "/whisk.system/alarms/alarm");
    assert_eq!(nightly.body, json!({"parameters": []}));
    assert_eq!(nightly.feed.as_ref().unwrap().inputs["cron"], "0 3 * * *");
    let rule = json!({"trigger": "/guest/placed", "action": "/guest/orders/list"});
    assert_eq!(of("on-placed").body, rule);
    let notes = wanted.notes.join("\n");
    for says in [
        "docker is ignored",
        "codeSize is ignored",
        "orders/outer is put on the web",
    ] {
        assert!(notes.contains(says), "{says}: {notes}");
    }
}

#[test]
fn a_second_deploy_changes_nothing() {
    let wanted = wanted();
    let plan = Plan::deploy(&wanted, &had(&wanted));
    assert_eq!((lines(&plan), plan.unchanged), (Vec::new(), 12));
}

#[test]
fn what_changed_is_named() {
    let wanted = wanted();
    let mut have = had(&wanted);
    let mut set = |kind: &'static str, name: &str, at: &str, value: Value| {
        let found = have.entities.get_mut(&(kind, name.to_owned())).unwrap();
        *found.pointer_mut(at).unwrap() = value;
    };
    set("packages", "orders", "/publish", json!(false));
    set(
        "packages",
        "utils",
        "/binding",
        json!({"namespace": "other", "name": "utils"}),
    );
    set(
        "actions",
        "orders/list",
        "/exec/code",
        json!("(module (memory 1))"),
    );
    set("actions", "orders/list", "/limits/memory", json!(256));
    set("actions", "orders/list", "/parameters/0/value", json!(5));
    set("actions", "plain", "/exec/kind", json!("wasm:0"));
    let managed = json!([{"key": "whisk-managed", "value": {"projectName": "shop"}}, {"key": "old", "value": 1}]);
    set("actions", "orders/greet", "/annotations", managed);
    set("rules", "on-placed", "/status", json!("inactive"));
    let placed = json!({"path": "guest", "name": "other"});
    set("rules", "on-placed", "/trigger", placed);
    let mut changed = wanted;
    for entity in &mut changed.entities {
        if let Some(feed) = &mut entity.feed {
            feed.inputs.insert("cron".to_owned(), json!("0 4 * * *"));
        }
    }
    mark(
        &mut changed,
        Some("shop"),
        Path::new("manifest.yaml"),
        "other text",
    );
    let plan = Plan::deploy(&changed, &have);
    let expected = [
        "~ package orders publish",
        "~ binding utils binding",
        "~ action orders/greet annotations.old",
        "~ action orders/list code,parameters.limit,limits.memory",
        "~ action plain kind",
        "~ trigger nightly feed inputs",
        "~ rule on-placed trigger,status",
    ];
    assert_eq!(lines(&plan), expected);
}

#[test]
fn a_managed_project_deletes_what_it_wants_no_more() {
    let wanted = wanted();
    let mut have = had(&wanted);
    let old = [
        (Kind::Action, "orders/old"),
        (Kind::Rule, "old-rule"),
        (Kind::Trigger, "old-trigger"),
    ];
    for (kind, name) in old {
        have.entities
            .insert((kind.collection(), name.to_owned()), json!({}));
        have.managed.push((kind, name.to_owned()));
    }
    let plan = Plan::deploy(&wanted, &have);
    let expected = [
        "- rule old-rule",
        "- trigger old-trigger",
        "- action orders/old",
    ];
    assert_eq!(lines(&plan), expected);
}

#[test]
fn undeploying_goes_the_other_way_and_spares_what_is_not_ours() {
    let wanted = wanted();
    let mut have = had(&wanted);
    let package = have
        .entities
        .get_mut(&("packages", "orders".to_owned()))
        .unwrap();
    package["actions"] = json!([{"name": "list"}, {"name": "inner"}]);
    let plan = Plan::undeploy(&wanted, &have);
    let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    let expected = [
        "POST /shop/orders/{id}",
        "GET /shop/orders",
        "on-placed",
        "placed",
        "nightly",
        "orders/outer",
        "orders/inner",
        "plain",
        "orders/list",
        "orders/greet",
        "utils",
        "orders",
    ];
    assert_eq!(names, expected);
    assert_eq!(plan.count(Verb::Delete), 12);
    let package = have
        .entities
        .get_mut(&("packages", "orders".to_owned()))
        .unwrap();
    package["feeds"] = json!([{"name": "somebody's"}]);
    let plan = Plan::undeploy(&wanted, &have);
    assert_eq!(plan.count(Verb::Delete), 11);
    assert_eq!(
        plan.notes,
        ["package orders stays: it holds somebody's too"]
    );
}

#[test]
fn a_deployment_file_goes_over_the_manifest() {
    let deployment = "project:\n  packages:\n    orders:\n      actions:\n        list: {inputs: {place: us, more: 1}, annotations: {note: new}}\n        \
        lost: {inputs: {a: 1}}\n      triggers:\n        placed: {inputs: {kind: sale}}\n";
    let wanted = read(MANIFEST, Some(deployment), folder().path()).unwrap();
    let list = wanted
        .entities
        .iter()
        .find(|entity| entity.name == "orders/list")
        .unwrap();
    let parameters = json!([{"key": "limit", "value": 0}, {"key": "more", "value": 1}, {"key": "place", "value": "us"}]);
    assert_eq!(list.body["parameters"], parameters);
    assert_eq!(list.annotations["note"], "new");
    let notes = wanted.notes.join("\n");
    assert!(
        notes.contains("action orders/lost that the manifest has not"),
        "{notes}"
    );
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let package = |inner: &str| format!("packages:\n  p:\n{inner}");
    let table = [
        ("    actions:\n      a: {function: none.wat}", "cannot read"),
        (
            "    actions:\n      a: {runtime: 'wasm:1'}",
            "neither function nor code",
        ),
        ("    actions:\n      a: {code: x}", "needs a runtime"),
        (
            "    actions:\n      a: {function: 'https://h/x.js'}",
            "is not a file",
        ),
        (
            "    actions:\n      a: {function: list.wat, limits: {memorySize: big}}",
            "whole number",
        ),
        (
            "    actions:\n      a: {function: list.wat, limits: {speed: 1}}",
            "no limit speed",
        ),
        (
            "    actions:\n      a: {function: list.wat, web: perhaps}",
            "not yes, no or raw",
        ),
        (
            "    dependencies:\n      d: {location: github.com/a/b}",
            "only bindings",
        ),
        (
            "    actions:\n      a: {function: $NOWHERE}",
            "$NOWHERE is neither set",
        ),
        (
            "    actions:\n      a: {function: list.wat}\n    sequences:\n      a: {actions: b}",
            "stands for one thing",
        ),
        (
            "    apis:\n      x: {b: {p: {a: FETCH}}}",
            "not a valid API verb",
        ),
        (
            "    inputs:\n      i: {required: true, type: string}",
            "no value for required inputs: i",
        ),
    ];
    let folder = folder();
    for (inner, says) in table {
        let refused = read(&package(inner), None, folder.path()).unwrap_err();
        assert!(
            refused.message.contains(says),
            "{inner}: {}",
            refused.message
        );
    }
    let unknown = Document::parse("packages:\n  p:\n    action: {}\n").unwrap_err();
    assert!(
        unknown.contains("line 3") && unknown.contains("action"),
        "{unknown}"
    );
    let empty = Document::parse("packages:\n  p:\n    actions:\n").unwrap();
    assert!(empty.all()["p"].actions.is_empty());
}

#[test]
fn d_is_the_deployment_file_after_project_deploy_only() {
    let line = |words: &[&str]| {
        let words = words.iter().map(std::ffi::OsString::from).collect();
        adapt(words)
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
    };
    let adapted = line(&["wisp", "-d", "project", "deploy", "-d", "x.yaml"]);
    assert_eq!(
        adapted,
        ["wisp", "-d", "project", "deploy", "--deployment", "x.yaml"]
    );
    let other = ["wisp", "action", "list", "-d"];
    assert_eq!(line(&other), other);
}
