//! The shapes of what is sent and answered: names, and the entities of a namespace. Names, kinds and bounds are those of
//! [`crate::model`].

use serde_json::{Map, Value, json};

use super::operation::{array_of, schema};
use super::{Facts, action_schemas};
use crate::model::name::NAME_MAX;

/// What [`crate::model::EntityName::parse`] takes, as a regular expression; a test compares the two.
pub(super) const NAME_PATTERN: &str = r"^[A-Za-z0-9_]([A-Za-z0-9_@ .&-]*[A-Za-z0-9_@.&-])?$";

/// A qualified name in a body.
const QUALIFIED_PATTERN: &str = "^/?[^/]+(/[^/]+){1,2}$";

/// Names and schemas, in the order in which they are printed.
pub(super) type Schemas = Vec<(&'static str, Value)>;

/// An object of these `properties`, all of which are there but for those of `optional`.
pub(super) fn object(properties: Value, optional: &[&str]) -> Value {
    let Value::Object(properties) = properties else {
        return Value::Null;
    };
    let names = properties.keys().map(String::as_str);
    let required: Vec<&str> = names.filter(|name| !optional.contains(name)).collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

/// An object of these `properties`, none of which need be there. Others are ignored.
pub(super) fn optional(properties: Value) -> Value {
    json!({ "type": "object", "properties": properties })
}

/// The properties of `base`, and those of `more`.
fn extended(base: &Value, more: Value) -> Value {
    let mut all = base["properties"].as_object().cloned().unwrap_or_default();
    if let Value::Object(more) = more {
        all.extend(more);
    }
    Value::Object(all)
}

/// How many there are of a collection.
pub(super) fn count_of(collection: &str) -> Value {
    object(
        json!({ collection: { "type": "integer", "minimum": 0 } }),
        &[],
    )
}

/// All that is in a namespace, and what it is made of.
pub(super) fn schemas(facts: &Facts<'_>) -> Schemas {
    let mut all = basics();
    all.extend(action_schemas::schemas(facts));
    all.extend(packages());
    all.extend(triggers());
    all.extend(rules());
    all
}

fn basics() -> Schemas {
    let text = json!({ "type": "string" });
    let annotation = object(json!({ "key": text, "value": {} }), &[]);
    let parameter = object(
        json!({
            "key": { "type": "string" },
            "value": {},
            "init": { "type": "boolean", "description": "Given to the action at its start, as an environment variable." },
            "encryption": { "type": "string", "description": "The value is encrypted, and how." },
            "digest": { "type": "string", "description": "Of what the value says, where `digest` asked for it." },
        }),
        &["init", "encryption", "digest"],
    );
    let error = object(
        json!({
            "error": { "type": "string", "description": "What was wrong." },
            "code": { "type": "string", "description": "Which request it was: its X-Request-ID." },
        }),
        &[],
    );
    let qualified = json!({
        "description": "`/namespace/name` or `/namespace/package/name`; `_` is the namespace of the key.",
        "anyOf": [
            { "type": "string", "pattern": QUALIFIED_PATTERN },
            object(json!({ "path": text, "name": text }), &[]),
        ],
    });
    vec![
        ("Error", error),
        (
            "Name",
            json!({ "type": "string", "pattern": NAME_PATTERN, "minLength": 1, "maxLength": NAME_MAX }),
        ),
        ("QualifiedName", qualified),
        (
            "Version",
            json!({ "type": "string", "pattern": r"^\d+\.\d+\.\d+$", "examples": ["0.0.1"] }),
        ),
        (
            "VersionPut",
            json!({ "type": "string", "pattern": r"^\d{1,9}(\.\d{1,9}){0,2}$", "not": { "pattern": r"^0+(\.0+)*$" } }),
        ),
        (
            "Timestamp",
            json!({ "type": "integer", "minimum": 0, "description": "Milliseconds since 1970." }),
        ),
        ("Annotation", annotation),
        ("Annotations", array_of("Annotation")),
        ("AnnotationsPut", keyed(json!({}))),
        ("Parameter", parameter),
        ("Parameters", array_of("Parameter")),
        (
            "ParametersPut",
            keyed(json!({ "init": { "type": "boolean" }, "encryption": { "type": "string" } })),
        ),
        (
            "PathAndName",
            object(json!({ "path": text, "name": schema("Name") }), &[]),
        ),
    ]
}

/// What every entity has, in lists and elsewhere.
fn row() -> Map<String, Value> {
    let row = json!({
        "namespace": { "type": "string", "description": "With the package, where there is one." },
        "name": schema("Name"),
        "version": schema("Version"),
        "publish": { "type": "boolean" },
        "updated": schema("Timestamp"),
        "annotations": schema("Annotations"),
    });
    row.as_object().cloned().unwrap_or_default()
}

/// The properties of every entity, and `more`.
pub(super) fn with_row(more: Value) -> Value {
    extended(&json!({ "properties": row() }), more)
}

/// What the body of every PUT may have.
pub(super) fn put(more: Value) -> Value {
    let common = optional(json!({
        "version": schema("VersionPut"),
        "publish": { "type": "boolean" },
        "annotations": schema("AnnotationsPut"),
        "parameters": schema("ParametersPut"),
    }));
    optional(extended(&common, more))
}

/// A list of keys and values, with `more` beside them.
fn keyed(more: Value) -> Value {
    let base =
        json!({ "properties": { "key": { "type": "string", "minLength": 1 }, "value": {} } });
    let one = object(extended(&base, more), &["init", "encryption"]);
    json!({ "type": "array", "items": one })
}

fn packages() -> Schemas {
    let target = || {
        let name = json!({ "namespace": schema("Name"), "name": schema("Name") });
        object(name, &[])
    };
    let empty = json!({ "type": "object", "maxProperties": 0 });
    let binding = json!({ "description": "What a binding stands for; `{}` for a package.",
        "anyOf": [target(), empty] });
    let content = object(
        json!({ "name": schema("Name"), "version": schema("Version"), "annotations": schema("Annotations") }),
        &[],
    );
    let whole = json!({ "binding": binding, "parameters": schema("Parameters") });
    let package = object(with_row(whole), &[]);
    let contents =
        json!({ "actions": array_of("PackageContent"), "feeds": array_of("PackageContent") });
    let row_binding = json!({ "description": "What a binding stands for; `false` for a package.",
        "anyOf": [target(), { "const": false }] });
    vec![
        ("PackageContent", content),
        (
            "PackageWithContents",
            object(extended(&package, contents), &[]),
        ),
        ("Package", package),
        (
            "PackageRow",
            object(with_row(json!({ "binding": row_binding })), &[]),
        ),
        ("PackageCount", count_of("packages")),
        ("PackagePut", put(json!({ "binding": binding }))),
    ]
}

fn status() -> Value {
    json!({ "enum": ["active", "inactive"] })
}

fn triggers() -> Schemas {
    let listener = object(
        json!({ "action": schema("PathAndName"), "status": status() }),
        &[],
    );
    let whole = json!({
        "parameters": schema("Parameters"),
        "limits": { "type": "object", "maxProperties": 0 },
        "rules": {
            "type": "object",
            "description": "Which rules listen, by `namespace/name`.",
            "additionalProperties": listener,
        },
    });
    vec![
        ("Trigger", object(with_row(whole), &["rules"])),
        ("TriggerRow", object(with_row(json!({})), &[])),
        ("TriggerCount", count_of("triggers")),
        ("TriggerPut", put(json!({ "limits": { "type": "object" } }))),
    ]
}

fn rules() -> Schemas {
    let row = json!({ "trigger": schema("PathAndName"), "action": schema("PathAndName") });
    let row = object(with_row(row), &[]);
    let rule = object(extended(&row, json!({ "status": status() })), &[]);
    let rule_put =
        put(json!({ "trigger": schema("QualifiedName"), "action": schema("QualifiedName") }));
    vec![
        ("Rule", rule),
        ("RuleRow", row),
        ("RuleCount", count_of("rules")),
        ("RulePut", rule_put),
        ("RuleStatus", object(json!({ "status": status() }), &[])),
    ]
}
