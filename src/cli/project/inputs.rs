//! Inputs: what a manifest declares, laid under what a deployment file and the command line say, with variables put in.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::manifest::Named;
use crate::config::Environment;

/// The keys of an input that is described instead of just given.
const DESCRIPTION: [&str; 7] = [
    "type",
    "description",
    "value",
    "required",
    "default",
    "status",
    "schema",
];

/// Why an input has no value: a sentence.
pub(super) type Bad = String;

/// Where `$NAME` is looked up: inputs of the package and the project first, the environment then.
#[derive(Debug, Clone)]
pub(super) struct Scope<'e> {
    environment: &'e Environment,
    /// Said on the command line, over all other values of that name.
    said: &'e Map<String, Value>,
    inputs: BTreeMap<String, Value>,
}

impl<'e> Scope<'e> {
    pub(super) fn new(environment: &'e Environment, said: &'e Map<String, Value>) -> Self {
        Self {
            environment,
            said,
            inputs: BTreeMap::new(),
        }
    }

    /// With these inputs over those there are.
    pub(super) fn with(&self, inputs: &Map<String, Value>) -> Self {
        let mut scope = self.clone();
        let inputs = inputs.iter();
        scope
            .inputs
            .extend(inputs.map(|(name, value)| (name.clone(), value.clone())));
        scope
    }

    fn look_up(&self, name: &str) -> Result<Value, Bad> {
        if let Some(value) = self.said.get(name).or_else(|| self.inputs.get(name)) {
            return Ok(value.clone());
        }
        let variable = self.environment.variable(name);
        variable.map(|text| json!(text)).ok_or_else(|| {
            format!("${name} is neither set in the environment nor an input of the package (write $${{{name}}} for the text itself)")
        })
    }

    /// `${NAME}` anywhere, and `$NAME` in a text that begins with it; `$${NAME}` is the text `${NAME}`.
    pub(super) fn text(&self, text: &str) -> Result<String, Bad> {
        let bare = text.starts_with('$');
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(escaped) = after.strip_prefix("${") {
                out.push_str("${");
                rest = escaped;
                continue;
            }
            let braced = after
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'));
            let found = match braced {
                Some((name, left)) if is_name(name) => Some((name, left)),
                Some(_) => None,
                None if bare => {
                    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    let (name, left) = after.split_at(end.unwrap_or(after.len()));
                    is_name(name).then_some((name, left))
                }
                None => None,
            };
            let Some((name, left)) = found else {
                out.push('$');
                rest = after;
                continue;
            };
            match self.look_up(name)? {
                Value::String(value) => out.push_str(&value),
                other => out.push_str(&other.to_string()),
            }
            rest = left;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// As [`Scope::text`], in every text of the value. A text that is one variable alone becomes its value, whatever it is.
    pub(super) fn value(&self, value: &Value) -> Result<Value, Bad> {
        match value {
            Value::String(text) => {
                let alone = text.strip_prefix('$');
                let alone = alone.map(|name| {
                    let braced = name
                        .strip_prefix('{')
                        .and_then(|name| name.strip_suffix('}'));
                    braced.unwrap_or(name)
                });
                match alone.filter(|name| is_name(name)) {
                    Some(name) => self.look_up(name),
                    None => self.text(text).map(Value::String),
                }
            }
            Value::Array(all) => all.iter().map(|one| self.value(one)).collect(),
            Value::Object(all) => {
                let all = all
                    .iter()
                    .map(|(key, one)| Ok((key.clone(), self.value(one)?)));
                Ok(Value::Object(all.collect::<Result<_, Bad>>()?))
            }
            other => Ok(other.clone()),
        }
    }

    /// The values of `declared`, with `deployed` over them.
    pub(super) fn inputs(
        &self,
        declared: &Named<Value>,
        deployed: Option<&Named<Value>>,
    ) -> Result<Map<String, Value>, Bad> {
        let mut all: BTreeMap<&String, &Value> = declared.iter().collect();
        all.extend(deployed.into_iter().flatten());
        let mut values = Map::new();
        let mut missing = Vec::new();
        for (name, input) in all {
            let value = match self.said.get(name) {
                Some(said) => Some(said.clone()),
                None => self
                    .input(input)
                    .map_err(|bad| format!("input {name}: {bad}"))?,
            };
            let required = || declared.get(name).is_some_and(is_required);
            match value {
                Some(value) => drop(values.insert(name.clone(), value)),
                None if required() => missing.push(name.as_str()),
                None => drop(values.insert(name.clone(), empty(input))),
            }
        }
        match missing.is_empty() {
            true => Ok(values),
            false => Err(format!(
                "no value for required inputs: {}",
                missing.join(", ")
            )),
        }
    }

    /// The value of one input, if it has any.
    fn input(&self, input: &Value) -> Result<Option<Value>, Bad> {
        let Some(described) = described(input) else {
            return match input {
                // As wskdeploy: the name of a type alone stands for a value to come.
                Value::String(kind) if of_type(kind).is_some() => Ok(None),
                Value::Null => Ok(None),
                value => self.value(value).map(Some),
            };
        };
        let given = ["value", "default"];
        let mut given = given.iter().filter_map(|key| described.get(*key));
        let Some(value) = given.find(|value| !value.is_null()) else {
            return Ok(None);
        };
        let value = self.value(value)?;
        match (described.get("type").and_then(Value::as_str), &value) {
            (Some("json"), Value::String(text)) => serde_json::from_str(text)
                .map(Some)
                .map_err(|error| format!("is no JSON: {error}")),
            _ => Ok(Some(value)),
        }
    }
}

fn is_name(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// An input that is described by its type, value and so on; one that is not is a value.
fn described(input: &Value) -> Option<&Map<String, Value>> {
    let object = input.as_object()?;
    let known = |key: &String| DESCRIPTION.contains(&key.as_str());
    object.keys().all(known).then_some(object)
}

fn is_required(input: &Value) -> bool {
    described(input).is_some_and(|all| all.get("required") == Some(&Value::Bool(true)))
}

/// What an input without a value is: nothing, in its type.
fn empty(input: &Value) -> Value {
    let kind = match input {
        Value::String(kind) => Some(kind.as_str()),
        other => described(other).and_then(|all| all.get("type")?.as_str()),
    };
    kind.and_then(of_type).unwrap_or_else(|| json!(""))
}

fn of_type(kind: &str) -> Option<Value> {
    match kind {
        "string" => Some(json!("")),
        "integer" => Some(json!(0)),
        "float" => Some(json!(0.0)),
        "boolean" => Some(json!(false)),
        "json" => Some(json!({})),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_scope<T>(run: impl FnOnce(Scope<'_>) -> T) -> T {
        let environment = Environment::of([("TOWN", "Bree"), ("LAND", "Eriador")]);
        let said = Map::from_iter([("said".to_owned(), json!(1))]);
        let inputs = Map::from_iter([("port".to_owned(), json!(80))]);
        run(Scope::new(&environment, &said).with(&inputs))
    }

    #[test]
    fn variables_are_put_in_where_they_are_meant() {
        let table = [
            ("$TOWN", json!("Bree")),
            ("${TOWN}, ${LAND}", json!("Bree, Eriador")),
            ("$TOWN/$LAND", json!("Bree/Eriador")),
            ("$port", json!(80)),
            ("at ${port}", json!("at 80")),
            ("$${TOWN}", json!("${TOWN}")),
            ("costs $5", json!("costs $5")),
            ("a $TOWN", json!("a $TOWN")),
            ("${not a name}", json!("${not a name}")),
            ("$", json!("$")),
        ];
        for (text, expected) in table {
            let value = in_scope(|scope| scope.value(&json!(text)));
            assert_eq!(value, Ok(expected), "{text}");
        }
        let deep = in_scope(|scope| scope.value(&json!({"a": ["${TOWN}"]})));
        assert_eq!(deep, Ok(json!({"a": ["Bree"]})));
        let missing = in_scope(|scope| scope.text("${NOWHERE}")).unwrap_err();
        assert!(missing.starts_with("$NOWHERE is neither set"), "{missing}");
    }

    #[test]
    fn inputs_are_values_types_or_descriptions() {
        let declared = serde_saphyr::from_str::<Named<Value>>(
            "name: string\nchildren: integer\nplace: {value: '${TOWN}', type: string}\nheight: {default: 1.2}\n\
             member: {}\nconfig: {host: h}\nraw: {type: json, value: '{\"a\": 1}'}\nsaid: 0\nport: $port\n",
        )
        .unwrap();
        let deployed = Named::from([("name".to_owned(), json!("Sam"))]);
        let values = in_scope(|scope| scope.inputs(&declared, Some(&deployed))).unwrap();
        let expected = json!({
            "name": "Sam", "children": 0, "place": "Bree", "height": 1.2, "member": "",
            "config": {"host": "h"}, "raw": {"a": 1}, "said": 1, "port": 80,
        });
        assert_eq!(Value::Object(values), expected);
    }

    #[test]
    fn required_inputs_without_a_value_are_named() {
        let declared = Named::from([
            ("a".to_owned(), json!({"required": true, "type": "string"})),
            ("b".to_owned(), json!({"required": true, "value": 1})),
        ]);
        let missing = in_scope(|scope| scope.inputs(&declared, None)).unwrap_err();
        assert_eq!(missing, "no value for required inputs: a");
    }
}
