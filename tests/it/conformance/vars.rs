//! Variables of a case, and texts that name them.
//!
//! In every text of a case, `{name}` is the variable, `{name+1}` and `{name-1}` what is beside its number, and `{x*1000}` the
//! letter a thousand times. A text that is nothing but one variable becomes its value, with its type. Braces that name no
//! variable stay as they are.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

#[derive(Debug, Default, Clone)]
pub(super) struct Vars(BTreeMap<String, Value>);

impl Vars {
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    pub(super) fn text(&self, template: &str) -> String {
        let mut out = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let found = after
                .split_once('}')
                .filter(|(name, _)| !name.contains('{'))
                .and_then(|(name, rest)| Some((self.value(name)?, rest)));
            rest = match found {
                Some((Value::String(text), rest)) => {
                    out.push_str(&text);
                    rest
                }
                Some((value, rest)) => {
                    out.push_str(&value.to_string());
                    rest
                }
                None => {
                    out.push('{');
                    after
                }
            };
        }
        out.push_str(rest);
        out
    }

    /// Every text in it, keys too.
    pub(super) fn json(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.whole(text).unwrap_or_else(|| self.text(text).into()),
            Value::Array(all) => all.iter().map(|one| self.json(one)).collect(),
            Value::Object(all) => {
                let all = all
                    .iter()
                    .map(|(key, value)| (self.text(key), self.json(value)));
                Value::Object(all.collect::<Map<_, _>>())
            }
            other => other.clone(),
        }
    }

    fn whole(&self, text: &str) -> Option<Value> {
        let name = text.strip_prefix('{')?.strip_suffix('}')?;
        self.value(name)
    }

    fn value(&self, name: &str) -> Option<Value> {
        if let Some(value) = self.0.get(name) {
            return Some(value.clone());
        }
        if let Some((text, times)) = name.rsplit_once('*')
            && let Ok(times) = times.parse()
        {
            return Some(text.repeat(times).into());
        }
        let (base, by) = match (name.split_once('+'), name.split_once('-')) {
            (Some((base, by)), _) => (base, by.parse::<i64>().ok()?),
            (None, Some((base, by))) => (base, -by.parse::<i64>().ok()?),
            (None, None) => return None,
        };
        Some((self.0.get(base)?.as_i64()? + by).into())
    }
}

#[test]
fn texts_name_variables() {
    let mut vars = Vars::default();
    vars.set("ns", "tenant");
    vars.set("start", 41);
    assert_eq!(vars.text("/{ns}/{unknown}/{x*3}"), "/tenant/{unknown}/xxx");
    assert_eq!(vars.text("{\"a\":{start+1}}"), "{\"a\":42}");
    assert_eq!(vars.text("{\"a\":\"{x*2}\"}"), "{\"a\":\"xx\"}");
    let json = serde_json::json!({ "{ns}/r": "{start-1}", "t": "at {start}" });
    let expected = serde_json::json!({ "tenant/r": 40, "t": "at 41" });
    assert_eq!(vars.json(&json), expected);
}
