//! Whether a value fits a schema of the document: the part of JSON Schema that the document uses, and a refusal of all
//! else. Stricter in one thing: an object may have only the properties that its schema names.

use regex_lite::Regex;
use serde_json::Value;

/// Keywords that say something about values.
const KEYWORDS: [&str; 18] = [
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "enum",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "not",
    "pattern",
    "properties",
    "required",
    "type",
];

/// Keywords that say something to people. (`format` does, unless a validator is told otherwise.)
const NOTES: [&str; 4] = ["default", "description", "examples", "format"];

const TYPES: [&str; 7] = [
    "array", "boolean", "integer", "null", "number", "object", "string",
];

/// Panics where `schema`, or one in it, says what [`errors`] does not check, or says it wrongly.
pub(super) fn assert_known(name: &str, schema: &Value) {
    let fields = schema
        .as_object()
        .unwrap_or_else(|| panic!("{name}: {schema}"));
    for (keyword, value) in fields {
        let at = format!("{name}/{keyword}");
        assert!(
            KEYWORDS.contains(&&**keyword) || NOTES.contains(&&**keyword),
            "{at} is not known"
        );
        let is_right = match keyword.as_str() {
            "$ref" | "description" | "format" => value.is_string(),
            "maxItems" | "maxLength" | "maxProperties" | "minItems" | "minLength" => value.is_u64(),
            "maximum" | "minimum" => value.is_number(),
            "enum" | "examples" | "required" => value
                .as_array()
                .is_some_and(|all| !all.is_empty() || keyword == "required"),
            "pattern" => value.as_str().is_some_and(|text| Regex::new(text).is_ok()),
            "type" => types(value).iter().all(|one| TYPES.contains(one)),
            _ => true,
        };
        assert!(is_right, "{at}: {value}");
        match keyword.as_str() {
            "properties" => {
                for (name, schema) in value.as_object().expect("properties") {
                    assert_known(&format!("{at}/{name}"), schema);
                }
            }
            "anyOf" => {
                for schema in value.as_array().expect("schemas") {
                    assert_known(&at, schema);
                }
            }
            "items" | "not" => assert_known(&at, value),
            "additionalProperties" if value.is_object() => assert_known(&at, value),
            _ => {}
        }
    }
}

/// What is wrong with `value`, each with where.
pub(super) fn errors(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    let check = Check { document };
    check.value("", schema, value, &mut errors);
    errors
}

struct Check<'a> {
    document: &'a Value,
}

fn types(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        _ => value.is_string(),
    }
}

impl Check<'_> {
    fn value(&self, at: &str, schema: &Value, value: &Value, errors: &mut Vec<String>) {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = self.document.pointer(reference.trim_start_matches('#'));
            return self.value(at, target.expect("it leads somewhere"), value, errors);
        }
        let mut wrong = |what: &str| errors.push(format!("{at}: {what}: {value}"));
        let kinds = types(&schema["type"]);
        if !kinds.is_empty() && !kinds.iter().any(|kind| is_of(value, kind)) {
            wrong("type");
        }
        if schema["enum"]
            .as_array()
            .is_some_and(|all| !all.contains(value))
        {
            wrong("enum");
        }
        if schema
            .get("const")
            .is_some_and(|constant| constant != value)
        {
            wrong("const");
        }
        if let Some(number) = value.as_f64() {
            let is_within = |bound: &str, fits: fn(f64, f64) -> bool| {
                schema[bound]
                    .as_f64()
                    .is_none_or(|bound| fits(number, bound))
            };
            if !is_within("minimum", |is, min| is >= min)
                || !is_within("maximum", |is, max| is <= max)
            {
                wrong("bounds");
            }
        }
        let between = |count: usize, min: &str, max: &str| {
            let count = count as u64;
            schema[min].as_u64().is_none_or(|min| count >= min)
                && schema[max].as_u64().is_none_or(|max| count <= max)
        };
        let is_sized = match value {
            Value::String(text) => between(text.chars().count(), "minLength", "maxLength"),
            Value::Array(items) => between(items.len(), "minItems", "maxItems"),
            Value::Object(fields) => between(fields.len(), "minProperties", "maxProperties"),
            _ => true,
        };
        if !is_sized {
            wrong("size");
        }
        if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
            && !Regex::new(pattern).expect("a pattern").is_match(text)
        {
            wrong("pattern");
        }
        if schema.get("not").is_some_and(|not| self.fits(not, value)) {
            wrong("not");
        }
        let any = schema["anyOf"].as_array();
        if any.is_some_and(|all| !all.iter().any(|one| self.fits(one, value))) {
            wrong("anyOf");
        }
        self.inside(at, schema, value, errors);
    }

    fn fits(&self, schema: &Value, value: &Value) -> bool {
        errors(self.document, schema, value).is_empty()
    }

    fn inside(&self, at: &str, schema: &Value, value: &Value, errors: &mut Vec<String>) {
        if let (Some(items), Some(schema)) = (value.as_array(), schema.get("items")) {
            for (index, item) in items.iter().enumerate() {
                self.value(&format!("{at}/{index}"), schema, item, errors);
            }
        }
        let Some(fields) = value.as_object() else {
            return;
        };
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().expect("a name")) {
                errors.push(format!("{at}: lacks {name}"));
            }
        }
        let named = schema["properties"].as_object();
        for (name, field) in fields {
            let at = format!("{at}/{name}");
            let other = &schema["additionalProperties"];
            match named.and_then(|named| named.get(name)) {
                Some(schema) => self.value(&at, schema, field, errors),
                None if other.is_object() => self.value(&at, other, field, errors),
                None if named.is_some() => errors.push(format!("{at}: nobody names it")),
                None => {}
            }
        }
    }
}
