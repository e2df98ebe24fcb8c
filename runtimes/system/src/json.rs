//! JSON as text and as values. Objects keep their order and numbers their text, so that what an action does not touch comes
//! out as it went in.

use alloc::string::String;
use alloc::vec::Vec;

/// Deeper than any value the host passes on, and shallow enough for the stack.
const DEPTH_MAX: usize = 256;

/// Any JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// A number, as it was written.
    Number(String),
    String(String),
    Array(Vec<Value>),
    /// Keys and values, in the order they were written.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// Reads JSON text.
    ///
    /// # Errors
    /// When it is none; the text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value(0)?;
        match parser.next_token() {
            None => Ok(value),
            Some(_) => Err("more than one value"),
        }
    }

    /// An object of these.
    pub fn object<const N: usize>(fields: [(&str, Value); N]) -> Self {
        let fields = fields.map(|(key, value)| (String::from(key), value));
        Self::Object(Vec::from(fields))
    }

    /// What stands under `key`; nothing when this is no object. Of equal keys the last counts, as in JavaScript.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Object(fields) => {
                let found = fields.iter().rev().find(|(given, _)| given == key);
                found.map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// As JSON text.
    pub fn to_json(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Number(text) => out.push_str(text),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (index, (key, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_string(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(decimal(number as u64))
    }
}

/// A whole number in decimal digits.
pub fn decimal(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from(b'0' + (number % 10) as u8));
        number /= 10;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => {
                out.push_str(if c < '\u{10}' { "\\u000" } else { "\\u001" });
                out.push(char::from(b"0123456789abcdef"[c as usize % 16]));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Reads from the front to the back; `at` is always at the border of a character.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// What comes after white space.
    fn next_token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    fn takes(&mut self, token: u8) -> bool {
        let is = self.next_token() == Some(token);
        self.at += usize::from(is);
        is
    }

    fn value(&mut self, depth: usize) -> Result<Value, &'static str> {
        if depth > DEPTH_MAX {
            return Err("nested too deep");
        }
        match self.next_token() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.word("null", Value::Null),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(_) => Err("no value where one must be"),
            None => Err("it ends too early"),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, &'static str> {
        if !self.rest().starts_with(word) {
            return Err("an unknown word");
        }
        self.at += word.len();
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Value, &'static str> {
        self.at += 1;
        let mut items = Vec::new();
        if self.takes(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.takes(b']') {
                return Ok(Value::Array(items));
            }
            if !self.takes(b',') {
                return Err("no comma between elements");
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, &'static str> {
        self.at += 1;
        let mut fields = Vec::new();
        if self.takes(b'}') {
            return Ok(Value::Object(fields));
        }
        loop {
            if self.next_token() != Some(b'"') {
                return Err("a key that is no string");
            }
            let key = self.string()?;
            if !self.takes(b':') {
                return Err("no colon after a key");
            }
            fields.push((key, self.value(depth + 1)?));
            if self.takes(b'}') {
                return Ok(Value::Object(fields));
            }
            if !self.takes(b',') {
                return Err("no comma between fields");
            }
        }
    }

    fn digits(&mut self) -> Result<(), &'static str> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            return Err("a number without digits");
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Value, &'static str> {
        let rest = self.rest();
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = rest.get(..self.at - start).unwrap_or_default();
        Ok(Value::Number(text.into()))
    }

    fn string(&mut self) -> Result<String, &'static str> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let plain = rest.find(|c| matches!(c, '"' | '\\' | '\0'..='\u{1f}'));
            let plain = rest.get(..plain.ok_or("a string without end")?);
            let plain = plain.unwrap_or_default();
            text.push_str(plain);
            self.at += plain.len() + 1;
            match self.text.as_bytes().get(self.at - 1) {
                Some(b'"') => return Ok(text),
                Some(b'\\') => text.push(self.escape()?),
                _ => return Err("a control character in a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, &'static str> {
        let escape = self.peek();
        self.at += 1;
        Ok(match escape {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'u') => {
                let mut code = self.hex()?;
                if (0xd800..0xdc00).contains(&code) && self.rest().starts_with("\\u") {
                    self.at += 2;
                    let low = self.hex()?.wrapping_sub(0xdc00);
                    if low >= 0x400 {
                        return Err("half a character");
                    }
                    code = 0x10000 + ((code - 0xd800) << 10) + low;
                }
                char::from_u32(code).ok_or("half a character")?
            }
            _ => {
                self.at -= 1;
                return Err("an unknown escape");
            }
        })
    }

    /// Four hexadecimal digits.
    fn hex(&mut self) -> Result<u32, &'static str> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|c| char::from(c).to_digit(16));
            code = code * 16 + digit.ok_or("an escape without its four digits")?;
            self.at += 1;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, decimal};

    #[test]
    fn what_goes_in_comes_out() {
        for text in [
            "null",
            "true",
            "false",
            "[]",
            "{}",
            r#"{"b":[1,-0.5,1e400,12345678901234567890.10],"a":{"":[[],{}]}}"#,
            r#"["\"\\\n\r\t\u0001\u001f/ü✓😀"]"#,
        ] {
            assert_eq!(Value::parse(text).unwrap().to_json(), text);
        }
        let spaced = Value::parse(" {\n\"a\" :\t[ 1 , 2 ]\r} ").unwrap();
        assert_eq!(spaced.to_json(), r#"{"a":[1,2]}"#);
        let escaped = Value::parse(r#""\u00fc\uD83D\ude00\/\b\f""#).unwrap();
        assert_eq!(escaped, Value::from("ü😀/\u{8}\u{c}"));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = "[".repeat(10_000);
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "nul",
            "tru",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "1 2",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"\n\"",
            "\"\\ü\"",
            "ü",
            &deep,
        ] {
            assert!(Value::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn of_equal_keys_the_last_counts() {
        let value = Value::parse(r#"{"a":1,"a":2}"#).unwrap();
        assert_eq!(value.get("a"), Some(&Value::from(2)));
        assert_eq!(Value::Null.get("a"), None);
    }

    #[test]
    fn whole_numbers_are_written_in_full() {
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(decimal(number), number.to_string());
        }
    }
}
