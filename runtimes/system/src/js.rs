//! The rules of JavaScript that the originals rely on: what is truthy, how values become text, how arrays join and sort.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::Value;
use crate::json::decimal;

/// `value || …`: the value, unless it is missing, `null`, `false`, `0` or `""`.
pub fn truthy(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(text) => Number::of(text).is_some_and(|number| !number.digits.is_empty()),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    })
}

/// `String(value)`.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(true) => "true".into(),
        Value::Bool(false) => "false".into(),
        Value::Number(text) => number_text(text),
        Value::String(text) => text.clone(),
        Value::Array(items) => join(items, ","),
        Value::Object(_) => "[object Object]".into(),
    }
}

/// `String(value)` of what may be missing.
pub fn text_or_undefined(value: Option<&Value>) -> String {
    value.map_or_else(|| "undefined".into(), text)
}

/// The value that a method is called on; without one, the error that JavaScript throws.
///
/// # Errors
/// When it is missing or `null`.
pub fn present<'a>(value: Option<&'a Value>, method: &str) -> Result<&'a Value, String> {
    let nothing = match value {
        Some(Value::Null) => "null",
        Some(value) => return Ok(value),
        None => "undefined",
    };
    let mut error = String::from("An error has occurred: TypeError: Cannot read property '");
    error.push_str(method);
    error.push_str("' of ");
    error.push_str(nothing);
    Err(error)
}

/// `items.join(separator)`: `null` is nothing.
pub fn join(items: &[Value], separator: &str) -> String {
    let mut joined = String::new();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            joined.push_str(separator);
        }
        match item {
            Value::Null => {}
            item => joined.push_str(&text(item)),
        }
    }
    joined
}

/// `items.sort()`: by their text, by UTF-16 code units; equal ones keep their order.
pub fn sort(items: Vec<Value>) -> Vec<Value> {
    let mut keyed: Vec<(String, Value)> = Vec::with_capacity(items.len());
    for item in items {
        keyed.push((text(&item), item));
    }
    keyed.sort_by(|(a, _), (b, _)| by_code_units(a, b));
    keyed.into_iter().map(|(_, item)| item).collect()
}

fn by_code_units(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// `text.split(separator)`.
pub fn split(text: &str, separator: &str) -> Vec<Value> {
    if separator.is_empty() {
        return text.chars().map(|c| String::from(c).into()).collect();
    }
    text.split(separator).map(Value::from).collect()
}

/// `text.split(/\r?\n/)`.
pub fn lines(text: &str) -> Vec<Value> {
    let mut pieces: Vec<&str> = text.split('\n').collect();
    let ended = pieces.len() - 1;
    for piece in &mut pieces[..ended] {
        *piece = piece.strip_suffix('\r').unwrap_or(piece);
    }
    pieces.into_iter().map(Value::from).collect()
}

/// How many of `len` elements `slice(0, end)` takes.
pub fn slice_end(end: &Value, len: usize) -> usize {
    let end = whole(end);
    let from_back = len.saturating_sub(usize::try_from(end.unsigned_abs()).unwrap_or(usize::MAX));
    match usize::try_from(end) {
        Ok(end) => end.min(len),
        Err(_) if end < 0 => from_back,
        Err(_) => len,
    }
}

/// A number without what stands behind its point.
pub fn truncated(number: &Value) -> Value {
    let whole = whole(number);
    let digits = decimal(whole.unsigned_abs());
    Value::Number(match whole < 0 {
        true => String::from("-") + &digits,
        false => digits,
    })
}

/// A value as a whole number, cut off towards zero; 0 when it is none.
fn whole(value: &Value) -> i64 {
    match value {
        Value::Bool(is) => i64::from(*is),
        Value::Number(text) => Number::of(text).map_or(0, |number| number.whole()),
        Value::Null | Value::Object(_) => 0,
        Value::String(text) => Number::of(text.trim()).map_or(0, |number| number.whole()),
        Value::Array(items) => whole(&Value::String(join(items, ","))),
    }
}

/// A decimal number: 0.DIGITS × 10^`point`, without zeros at either end of the digits; no digits are zero.
struct Number {
    is_negative: bool,
    digits: Vec<u8>,
    point: i64,
}

impl Number {
    /// Reads `-12.5e3`; nothing when it is no such thing.
    fn of(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            // More than any number has; what overflows is no number of JSON's.
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (unsigned, 0),
        };
        let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = || before.bytes().chain(after.bytes());
        if all().next().is_none() || !all().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let zeros = all().take_while(|digit| *digit == b'0').count();
        let mut digits: Vec<u8> = all().skip(zeros).collect();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        Some(Self {
            is_negative: text.starts_with('-'),
            digits,
            point: before.len() as i64 - zeros as i64 + i64::from(exponent),
        })
    }

    /// Without what stands behind the point; at the ends of the range when it lies outside.
    fn whole(&self) -> i64 {
        let mut whole: i64 = 0;
        for index in 0..self.point.clamp(0, 20) {
            let digit = self
                .digits
                .get(index as usize)
                .map_or(0, |digit| digit - b'0');
            whole = whole.saturating_mul(10).saturating_add(i64::from(digit));
        }
        match self.is_negative {
            true => -whole,
            false => whole,
        }
    }
}

/// `String(number)`, from the text of a number. Numbers reach an action with the fewest digits that tell them apart, which
/// are the ones JavaScript prints; so this only moves the point. Whole numbers beyond 2^53 stay exact.
fn number_text(text: &str) -> String {
    let Some(Number {
        is_negative,
        digits,
        point,
    }) = Number::of(text)
    else {
        return text.into();
    };
    if digits.is_empty() {
        return "0".into();
    }
    let mut printed = String::new();
    if is_negative {
        printed.push('-');
    }
    let zeros = |printed: &mut String, count: i64| (0..count).for_each(|_| printed.push('0'));
    let count = digits.len() as i64;
    if (-5..=21).contains(&point) {
        if point <= 0 {
            printed.push_str("0.");
            zeros(&mut printed, -point);
        }
        for (index, digit) in digits.iter().enumerate() {
            if index as i64 == point && index > 0 {
                printed.push('.');
            }
            printed.push(char::from(*digit));
        }
        zeros(&mut printed, point - count);
        return printed;
    }
    for (index, digit) in digits.iter().enumerate() {
        if index == 1 {
            printed.push('.');
        }
        printed.push(char::from(*digit));
    }
    let exponent = point - 1;
    printed.push_str(if exponent < 0 { "e-" } else { "e+" });
    printed.push_str(&decimal(exponent.unsigned_abs()));
    printed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value::parse(text).unwrap()
    }

    #[test]
    fn numbers_print_as_in_javascript() {
        for (given, printed) in [
            ("0", "0"),
            ("-0", "0"),
            ("0.0", "0"),
            ("1.0", "1"),
            ("-1.50", "-1.5"),
            ("100", "100"),
            ("1e3", "1000"),
            ("12.5e-1", "1.25"),
            ("0.1", "0.1"),
            ("0.000001", "0.000001"),
            ("1e-7", "1e-7"),
            ("1.25e-7", "1.25e-7"),
            ("1e20", "100000000000000000000"),
            ("1e21", "1e+21"),
            ("1.5e300", "1.5e+300"),
            ("123456789012345680000", "123456789012345680000"),
            ("9007199254740993", "9007199254740993"),
        ] {
            assert_eq!(number_text(given), printed, "{given}");
        }
    }

    #[test]
    fn values_become_text_as_in_javascript() {
        for (given, printed) in [
            ("null", "null"),
            ("[]", ""),
            ("[1,null,[2,[3,null]],{}]", "1,,2,3,,[object Object]"),
            ("{\"a\":1}", "[object Object]"),
            ("true", "true"),
            ("\"ü\"", "ü"),
        ] {
            assert_eq!(text(&value(given)), printed, "{given}");
        }
        assert_eq!(text_or_undefined(None), "undefined");
    }

    #[test]
    fn arrays_sort_by_text_and_code_units() {
        for (given, sorted) in [
            ("[10,9,1,\"1\",null,true]", "[1,\"1\",10,9,null,true]"),
            // U+1F600 begins with the surrogate D83D, so it comes before U+FF21.
            (
                "[\"\u{ff21}\",\"😀\",\"é\",\"z\",\"Z\"]",
                "[\"Z\",\"z\",\"é\",\"😀\",\"\u{ff21}\"]",
            ),
            ("[]", "[]"),
        ] {
            let Value::Array(items) = value(given) else {
                unreachable!()
            };
            assert_eq!(Value::Array(sort(items)).to_json(), sorted);
        }
    }

    #[test]
    fn nothing_null_zero_and_the_empty_text_are_not_truthy() {
        for given in ["null", "false", "0", "-0.0", "0e5", "\"\""] {
            assert_eq!(truthy(Some(&value(given))), None, "{given}");
        }
        for given in ["true", "1", "-1", "0.1", "\"0\"", "[]", "{}"] {
            assert!(truthy(Some(&value(given))).is_some(), "{given}");
        }
        assert_eq!(truthy(None), None);
    }

    #[test]
    fn a_slice_ends_where_javascript_ends_it() {
        for (end, taken) in [
            ("2", 2),
            ("2.9", 2),
            ("-1", 4),
            ("-9", 0),
            ("9", 5),
            ("1e300", 5),
            ("-1e300", 0),
            ("\" 3 \"", 3),
            ("\"three\"", 0),
            ("\"\"", 0),
            ("true", 1),
            ("[2]", 2),
            ("[2,3]", 0),
            ("{}", 0),
        ] {
            assert_eq!(slice_end(&value(end), 5), taken, "{end}");
        }
    }

    #[test]
    fn texts_split_as_in_javascript() {
        let split = |text: &str, by: &str| Value::Array(split(text, by)).to_json();
        assert_eq!(split("a,b,,c", ","), r#"["a","b","","c"]"#);
        assert_eq!(split("", ","), r#"[""]"#);
        assert_eq!(split("aüa", "ü"), r#"["a","a"]"#);
        assert_eq!(split("ab", ""), r#"["a","b"]"#);
        let lines = Value::Array(lines("a\r\nb\n\rc\r")).to_json();
        assert_eq!(lines, r#"["a","b","\rc\r"]"#);
    }
}
