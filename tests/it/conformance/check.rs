//! Compares an answer with what a case expects, and says every difference.
//!
//! In expected JSON, texts that begin with `$` stand for what differs from run to run: `$any`, `$string`, `$number`, `$bool`,
//! `$id` (an activation), `$tid` (a transaction), `$time` (milliseconds of these years), `$version`, `$absent` (no such
//! key), `$re:…` (a regular expression for the whole text), `$starts:…`, `$has:…`. Objects with one key that begins with `$` stand for
//! what an array, an object or a text must be like: see [`special`].

use base64::Engine as _;
use regex_lite::Regex;
use serde_json::Value;

use super::case::Expect;
use super::vars::Vars;
use crate::harness::Reply;

/// Whether objects may have more keys than expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum More {
    Allowed,
    Refused,
}

/// Everything that is wrong with the answer.
pub(super) fn differences(expect: &Expect, vars: &Vars, reply: &Reply) -> Vec<String> {
    let mut wrong = Vec::new();
    if reply.status != expect.status {
        wrong.push(format!(
            "status: expected {}, got {}",
            expect.status, reply.status
        ));
    }
    let tid = reply.header("x-request-id").unwrap_or_default();
    // A head that does not fit is no request yet.
    if tid.is_empty() && reply.status != 431 {
        wrong.push("header x-request-id: expected one, got none".to_owned());
    }
    for (name, value) in &expect.headers {
        header(name, &vars.json(value), reply, &mut wrong);
    }
    body(expect, vars, reply, &mut wrong);
    if let Some(text) = &expect.error {
        let text = vars.text(text);
        with_json(reply, &mut wrong, |given, wrong| {
            compare(
                "/error",
                &text.into(),
                &given["error"],
                More::Refused,
                wrong,
            );
            compare("/code", &tid.into(), &given["code"], More::Refused, wrong);
            if given.as_object().map(serde_json::Map::len) != Some(2) {
                wrong.push("body: expected error and code and nothing else".to_owned());
            }
        });
    }
    let everything = format!("{:?} {}", reply.headers, reply.text());
    for text in &expect.nowhere {
        let text = vars.text(text);
        if everything.contains(&text) {
            wrong.push(format!("{text}: expected nowhere, but it is there"));
        }
    }
    wrong
}

/// Everything that is wrong with how a command ended and what it printed, the body of `printed`.
pub(super) fn differences_of_run(
    expect: &Expect,
    vars: &Vars,
    exit: Option<i32>,
    printed: &Reply,
) -> Vec<String> {
    let mut wrong = Vec::new();
    if exit != expect.exit {
        wrong.push(format!("exit: expected {:?}, got {exit:?}", expect.exit));
    }
    body(expect, vars, printed, &mut wrong);
    for text in &expect.nowhere {
        let text = vars.text(text);
        if printed.text().contains(&text) {
            wrong.push(format!("{text}: expected nowhere, but it is there"));
        }
    }
    wrong
}

fn body(expect: &Expect, vars: &Vars, reply: &Reply, wrong: &mut Vec<String>) {
    for (json, more) in [(&expect.json, More::Refused), (&expect.has, More::Allowed)] {
        if let Some(json) = json {
            let json = vars.json(json);
            with_json(reply, wrong, |given, wrong| {
                compare("", &json, given, more, wrong);
            });
        }
    }
    if let Some(text) = &expect.text {
        let text = Value::String(vars.text(text));
        compare("body", &text, &reply.text().into(), More::Refused, wrong);
    }
    if let Some(base64) = &expect.base64 {
        let given = base64::engine::general_purpose::STANDARD.encode(&reply.body);
        compare(
            "body as base64",
            &base64.as_str().into(),
            &given.into(),
            More::Refused,
            wrong,
        );
    }
    if expect.empty && !reply.body.is_empty() {
        wrong.push(format!("body: expected none, got {}", short(&reply.text())));
    }
}

fn with_json(reply: &Reply, wrong: &mut Vec<String>, then: impl FnOnce(&Value, &mut Vec<String>)) {
    match serde_json::from_slice(&reply.body) {
        Ok(given) => then(&given, wrong),
        Err(error) => wrong.push(format!(
            "body: expected JSON ({error}), got {}",
            short(&reply.text())
        )),
    }
}

fn header(name: &str, expected: &Value, reply: &Reply, wrong: &mut Vec<String>) {
    let given = reply
        .headers
        .iter()
        .filter(|(given, _)| given.eq_ignore_ascii_case(name));
    let given: Vec<Value> = given.map(|(_, value)| value.as_str().into()).collect();
    let at = format!("header {name}");
    if let Some(names) = expected
        .as_str()
        .and_then(|text| text.strip_prefix("$set:"))
    {
        let joined = given
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(",");
        if set(names) != set(&joined) {
            wrong.push(format!(
                "{at}: expected, in any order, {names}; got {joined}"
            ));
        }
        return;
    }
    match (expected, given.as_slice()) {
        (Value::Array(_), _) => compare(&at, expected, &given.into(), More::Refused, wrong),
        (Value::String(text), []) if text == "$absent" => {}
        (_, [one]) => compare(&at, expected, one, More::Refused, wrong),
        _ => wrong.push(format!(
            "{at}: expected {expected}, got {}",
            Value::Array(given)
        )),
    }
}

/// Comma-separated names, in any order and case.
fn set(list: &str) -> Vec<String> {
    let mut names: Vec<String> = list
        .split(',')
        .map(|name| name.trim().to_lowercase())
        .collect();
    names.sort();
    names
}

fn compare(at: &str, expected: &Value, given: &Value, more: More, wrong: &mut Vec<String>) {
    let right = match (expected, given) {
        (Value::String(text), _) if text.starts_with('$') => matches(text, given),
        (Value::Object(all), _) if all.len() == 1 && all.keys().all(|key| key.starts_with('$')) => {
            for (key, value) in all {
                special(at, key, value, given, wrong);
            }
            return;
        }
        (Value::Object(all), Value::Object(found)) => {
            for (key, value) in all {
                match found.get(key) {
                    Some(found) => compare(&format!("{at}/{key}"), value, found, more, wrong),
                    None if *value == "$absent" => {}
                    None => wrong.push(format!(
                        "{at}/{key}: expected {}, got nothing",
                        shown(value)
                    )),
                }
            }
            for (key, value) in found {
                if more == More::Refused && !all.contains_key(key) {
                    wrong.push(format!(
                        "{at}/{key}: expected nothing, got {}",
                        shown(value)
                    ));
                }
            }
            return;
        }
        (Value::Array(all), Value::Array(found)) if all.len() == found.len() => {
            for (index, (value, found)) in all.iter().zip(found).enumerate() {
                compare(&format!("{at}/{index}"), value, found, more, wrong);
            }
            return;
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => expected == given,
    };
    if !right {
        wrong.push(format!(
            "{at}: expected {}, got {}",
            shown(expected),
            shown(given)
        ));
    }
}

/// What a text with `$` in front stands for.
fn matches(text: &str, given: &Value) -> bool {
    let string = given.as_str();
    let is = |holds: &dyn Fn(&str) -> bool| string.is_some_and(holds);
    if let Some((kind, rest)) = text.split_once(':') {
        return match kind {
            "$re" => {
                let whole = Regex::new(&format!("^(?s:{rest})$"));
                is(&|given| {
                    whole
                        .as_ref()
                        .expect("a regular expression")
                        .is_match(given)
                })
            }
            "$starts" => is(&|given| given.starts_with(rest)),
            "$has" => is(&|given| given.contains(rest)),
            _ => panic!("no such matcher: {text}"),
        };
    }
    match text {
        "$any" => true,
        "$string" => given.is_string(),
        "$number" => given.is_u64(),
        "$bool" => given.is_boolean(),
        "$absent" => false,
        "$id" => {
            is(&|id| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        }
        "$tid" => is(&|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_alphanumeric())),
        "$time" => given
            .as_u64()
            .is_some_and(|ms| (1_600_000_000_000..4_000_000_000_000).contains(&ms)),
        "$version" => is(&|version| {
            version
                .split('.')
                .filter(|part| part.parse::<u32>().is_ok())
                .count()
                == 3
        }),
        _ => panic!("no such matcher: {text}"),
    }
}

/// What an object with one key that begins with `$` stands for.
fn special(at: &str, key: &str, value: &Value, given: &Value, wrong: &mut Vec<String>) {
    match key {
        // A text that is JSON like this.
        "$json" => match given
            .as_str()
            .and_then(|text| serde_json::from_str(text).ok())
        {
            Some(inner) => compare(
                &format!("{at} as JSON"),
                value,
                &inner,
                More::Allowed,
                wrong,
            ),
            None => wrong.push(format!(
                "{at}: expected a text of JSON, got {}",
                shown(given)
            )),
        },
        "$not" => {
            if is_like(value, given) {
                wrong.push(format!("{at}: expected anything but {}", shown(value)));
            }
        }
        "$all" => {
            for value in value.as_array().expect("$all: a list") {
                compare(at, value, given, More::Allowed, wrong);
            }
        }
        // A number of at least, or at most, so much.
        "$min" => range(at, given, wrong, |given| Some(given) >= value.as_f64()),
        "$max" => range(at, given, wrong, |given| Some(given) <= value.as_f64()),
        // So many elements or letters.
        "$size" => {
            let letters = || Some(given.as_str()?.chars().count());
            let size = given.as_array().map(Vec::len).or_else(letters);
            compare(
                &format!("{at} size"),
                value,
                &size.into(),
                More::Refused,
                wrong,
            );
        }
        // An object with exactly these keys.
        "$keys" => {
            let keys = given.as_object().into_iter().flatten();
            let keys = sorted(keys.map(|(key, _)| key.as_str().into()).collect());
            let expected = sorted(value.as_array().expect("$keys: a list").clone());
            compare(
                &format!("{at} keys"),
                &expected,
                &keys,
                More::Refused,
                wrong,
            );
        }
        _ => match given.as_array() {
            Some(list) => special_list(at, key, value, list, wrong),
            None => wrong.push(format!("{at}: expected a list, got {}", shown(given))),
        },
    }
}

/// What such an object stands for where there is a list.
fn special_list(at: &str, key: &str, value: &Value, list: &[Value], wrong: &mut Vec<String>) {
    match key {
        // `[{key, value}, …]` has these pairs, or has them not (`$absent`).
        "$pairs" => {
            for (name, value) in value.as_object().expect("$pairs: an object") {
                let at = format!("{at}[{name}]");
                match list.iter().find(|one| one["key"] == name.as_str()) {
                    Some(found) => compare(&at, value, &found["value"], More::Refused, wrong),
                    None if *value == "$absent" => {}
                    None => wrong.push(format!("{at}: expected {}, got nothing", shown(value))),
                }
            }
        }
        // Among others, or altogether, one like each of these; each only once.
        "$contains" | "$unordered" => {
            let mut left: Vec<&Value> = list.iter().collect();
            for value in value.as_array().expect("$contains: a list") {
                match left.iter().position(|one| is_like(value, one)) {
                    Some(index) => drop(left.swap_remove(index)),
                    None => wrong.push(format!("{at}: expected one like {}", shown(value))),
                }
            }
            if key == "$unordered" && !left.is_empty() {
                wrong.push(format!("{at}: expected no more, got {left:?}"));
            }
        }
        // All elements are like this.
        "$each" => {
            for (index, one) in list.iter().enumerate() {
                compare(&format!("{at}/{index}"), value, one, More::Allowed, wrong);
            }
        }
        _ => panic!("no such matcher: {key}"),
    }
}

fn sorted(mut list: Vec<Value>) -> Value {
    list.sort_by_key(Value::to_string);
    list.into()
}

fn range(at: &str, given: &Value, wrong: &mut Vec<String>, holds: impl FnOnce(f64) -> bool) {
    if !given.as_f64().is_some_and(holds) {
        wrong.push(format!("{at}: not in the range: {}", shown(given)));
    }
}

fn is_like(expected: &Value, given: &Value) -> bool {
    let mut wrong = Vec::new();
    compare("", expected, given, More::Allowed, &mut wrong);
    wrong.is_empty()
}

fn shown(value: &Value) -> String {
    short(&value.to_string())
}

/// At most some hundred letters of it.
pub(super) fn short(text: &str) -> String {
    const LETTERS_MAX: usize = 400;
    match text.char_indices().nth(LETTERS_MAX) {
        Some((end, _)) => format!(
            "{}… ({} bytes)",
            text.get(..end).unwrap_or_default(),
            text.len()
        ),
        None => text.to_owned(),
    }
}
