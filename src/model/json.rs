//! JSON that is passed on more often than it is looked into.
//!
//! Parameters and results cross the platform as text: checked once where they enter, merged by their top-level keys,
//! and never built into a tree on the path of an invocation.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Deepest nesting accepted anywhere: what `serde_json` reads back into a tree without refusing.
pub const DEPTH_MAX: usize = 127;

/// Valid JSON text, shared. Cloning copies a pointer, or a small number.
#[derive(Clone)]
pub struct Json(Repr);

#[derive(Clone)]
enum Repr {
    Text(Arc<RawValue>),
    /// Records are full of numbers: these take no memory of their own.
    Number(u64, Digits),
    Bool(bool),
}

/// A number's decimal text.
#[derive(Clone, Copy)]
struct Digits {
    len: u8,
    bytes: [u8; 20],
}

impl Digits {
    fn of(number: u64) -> Self {
        let (mut digits, mut rest) = (
            Self {
                len: 0,
                bytes: [0; 20],
            },
            number,
        );
        loop {
            digits.bytes[usize::from(digits.len)] =
                b"0123456789"[usize::try_from(rest % 10).unwrap_or(0)];
            digits.len += 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        digits.bytes[..usize::from(digits.len)].reverse();
        digits
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("0")
    }
}

impl From<Box<RawValue>> for Json {
    fn from(raw: Box<RawValue>) -> Self {
        Self(Repr::Text(Arc::from(raw)))
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self(Repr::Number(number, Digits::of(number)))
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self(Repr::Bool(value))
    }
}

impl Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Repr::Text(raw) => raw.serialize(serializer),
            Repr::Number(number, _) => serializer.serialize_u64(*number),
            Repr::Bool(value) => serializer.serialize_bool(*value),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::from)
    }
}

/// Why some bytes are not JSON that is accepted.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not JSON at all; says where.
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    /// Valid, but nested too deeply to be read back.
    #[error("JSON is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// Valid, but not an object where one is needed.
    #[error("expected a JSON object, got {0}")]
    NotObject(&'static str),
}

impl Json {
    /// Checks `bytes` (any JSON value, UTF-8) and takes a copy without surrounding white space.
    ///
    /// # Errors
    /// When it is not JSON, or nested deeper than [`DEPTH_MAX`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let raw: &RawValue = serde_json::from_slice(bytes)?;
        if depth(raw.get()) > DEPTH_MAX {
            return Err(Malformed::TooDeep);
        }
        Ok(Self::from(raw.to_owned()))
    }

    /// As [`Json::parse`], and it must be an object.
    ///
    /// # Errors
    /// As [`Json::parse`], and for any other kind of value.
    pub fn parse_object(bytes: &[u8]) -> Result<Self, Malformed> {
        let json = Self::parse(bytes)?;
        if json.is_object() {
            Ok(json)
        } else {
            Err(Malformed::NotObject(json.kind()))
        }
    }

    /// `{}`.
    #[must_use]
    pub fn empty_object() -> Self {
        Self::from_serialize(&serde_json::Map::new())
    }

    /// The JSON of a value of ours, which always has one.
    #[must_use]
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Self {
        let raw =
            serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned());
        Self::from(raw)
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        match &self.0 {
            Repr::Text(raw) => raw.get(),
            Repr::Number(_, digits) => digits.text(),
            Repr::Bool(true) => "true",
            Repr::Bool(false) => "false",
        }
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.get().starts_with('{')
    }

    /// Whether it is an array.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.get().starts_with('[')
    }

    /// The value as a tree.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(self.get()).unwrap_or_default()
    }

    /// The value of a top-level key, the last one where it repeats; `None` where it is no object or lacks the key.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<Self> {
        let found = Fields::of(self)?.last(key)?;
        Some(Self::from(found.to_owned()))
    }

    fn kind(&self) -> &'static str {
        match self.get().as_bytes().first() {
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        }
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get() || self.to_value() == other.to_value()
    }
}

/// The top-level fields of an object, in order, values unread.
#[derive(Debug)]
pub struct Fields<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The fields of `json`; `None` when it is no object.
    #[must_use]
    pub fn of(json: &'a Json) -> Option<Self> {
        serde_json::from_str(json.get()).ok()
    }

    /// The last value under `key`.
    #[must_use]
    pub fn last(&self, key: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .rev()
            .find(|(k, _)| k == key)
            .map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        struct Key;

        impl<'de> DeserializeSeed<'de> for Key {
            type Value = Cow<'de, str>;

            fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
                struct Text;
                impl<'de> Visitor<'de> for Text {
                    type Value = Cow<'de, str>;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a key")
                    }
                    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                        Ok(Cow::Borrowed(text))
                    }
                    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                        Ok(Cow::Owned(text.to_owned()))
                    }
                }
                d.deserialize_str(Text)
            }
        }

        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some(key) = map.next_key_seed(Key)? {
                    fields.push((key, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// Fields among which a key is looked for one by one. A payload may have a hundred thousand of them, and must not cost
/// their square.
const LINEAR_MAX: usize = 32;

/// Lays objects over one another by their top-level keys, later over earlier; values are copied, never merged.
///
/// Layers that are no objects count as empty.
#[must_use]
pub fn overlay(layers: &[&Json]) -> Json {
    let filled: Vec<&&Json> = layers.iter().filter(|json| json.get() != "{}").collect();
    match filled.as_slice() {
        [] => return Json::empty_object(),
        [only] if only.is_object() => return (**only).clone(),
        _ => {}
    }
    let fields = filled.iter().filter_map(|json| Fields::of(json));
    let all: Vec<(Cow<'_, str>, &RawValue)> = fields.flat_map(|fields| fields.0).collect();
    let mut merged: Vec<(&str, &RawValue)> = Vec::with_capacity(all.len());
    if all.len() <= LINEAR_MAX {
        for (key, value) in &all {
            match merged.iter_mut().find(|(k, _)| k == key) {
                Some(slot) => slot.1 = value,
                None => merged.push((key, value)),
            }
        }
    } else {
        let places = all
            .iter()
            .enumerate()
            .map(|(place, (key, _))| (&**key, place));
        let last: HashMap<&str, usize> = places.collect();
        let is_last = |(place, (key, _)): &(usize, &(Cow<'_, str>, _))| last[&**key] == *place;
        let kept = all.iter().enumerate().filter(is_last);
        merged.extend(kept.map(|(_, (key, value))| (&**key, *value)));
    }
    Json::from_serialize(&AsMap(&merged))
}

struct AsMap<'a>(&'a [(&'a str, &'a RawValue)]);

impl Serialize for AsMap<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// Deepest nesting of arrays and objects in valid JSON text.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).expect("valid in the test")
    }

    #[test]
    fn later_layers_win_and_values_are_not_merged() {
        let merged = overlay(&[
            &json(r#"{"a":1,"b":{"x":1}}"#),
            &json(r#"{"b":{"y":2},"c":3}"#),
        ]);
        assert_eq!(merged, json(r#"{"a":1,"b":{"y":2},"c":3}"#));
    }

    #[test]
    fn many_fields_are_merged_as_few_are() {
        let object = |count: u64, value: u64| {
            let fields = (0..count).map(|n| (format!("k{n}"), value));
            Json::from_serialize(&fields.collect::<std::collections::BTreeMap<_, _>>())
        };
        let merged = overlay(&[&object(100_000, 1), &object(50_000, 2)]);
        let fields = Fields::of(&merged).expect("an object");
        assert_eq!(fields.0.len(), 100_000);
        assert_eq!(fields.last("k49999").map(RawValue::get), Some("2"));
        assert_eq!(fields.last("k50000").map(RawValue::get), Some("1"));
    }

    #[test]
    fn keys_are_compared_unescaped() {
        let merged = overlay(&[&json(r#"{"a":1}"#), &json("{\"\\u0061\":2}")]);
        assert_eq!(merged.to_value(), serde_json::json!({"a": 2}));
    }

    #[test]
    fn a_bomb_of_brackets_is_refused_by_depth() {
        let bomb = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(Json::parse(bomb.as_bytes()).is_err());
        let deep = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        assert!(Json::parse(deep.as_bytes()).is_ok());
    }

    #[test]
    fn brackets_inside_strings_do_not_count() {
        let text = format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(1000));
        assert!(Json::parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn numbers_and_booleans_are_the_same_however_they_were_made() {
        for number in [0, 7, 10, 1_700_000_000_000, u64::MAX] {
            assert_eq!(Json::from(number).get(), number.to_string());
            assert_eq!(Json::from(number), json(&number.to_string()));
            assert_eq!(
                Json::from_serialize(&Json::from(number)).get(),
                number.to_string()
            );
        }
        assert_eq!(Json::from(true), json("true"));
    }

    #[test]
    fn an_array_is_no_object() {
        let refused = Json::parse_object(b"[1]").expect_err("an array");
        assert_eq!(refused.to_string(), "expected a JSON object, got an array");
    }
}
