//! What Redis answers, taken apart and not believed.

use crate::link::{self, Value};
use crate::store::{Error, Result};

/// What the link says, in the store's words; `key` is what was asked for.
pub(super) fn failed(error: link::Error, key: &str) -> Error {
    match error {
        link::Error::Full(_) => Error::Full,
        link::Error::Unexpected(text) => corrupt(key, &text),
        other => Error::Unavailable(other.to_string()),
    }
}

/// What is stored under `key` is not what it should be.
pub(super) fn corrupt(key: &str, why: &str) -> Error {
    Error::Corrupt(format!("the key {key} in Redis: {why}"))
}

/// Text or bytes; `None` for nothing at all.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        Value::Int(number) => Some(number.to_string().into_bytes()),
        _ => None,
    }
}

/// The parts of an answer, taken one after the other.
#[derive(Debug)]
pub(super) struct Parts {
    key: String,
    values: std::vec::IntoIter<Value>,
}

impl Parts {
    /// Of an array; `key` is named when it is none.
    pub(super) fn of(value: Value, key: &str) -> Result<Self> {
        match value {
            Value::Array(values) => Ok(Self {
                key: key.to_owned(),
                values: values.into_iter(),
            }),
            other => Err(corrupt(key, &format!("{other:?} where a list should be"))),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.len() == 0
    }

    /// What is wrong with the answer.
    pub(super) fn corrupt(&self, why: &str) -> Error {
        corrupt(&self.key, why)
    }

    /// The next, which may be nothing.
    pub(super) fn maybe(&mut self) -> Option<Vec<u8>> {
        self.values.next().and_then(bytes)
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>> {
        self.maybe()
            .ok_or_else(|| self.corrupt("a part is missing"))
    }

    pub(super) fn text(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?).map_err(|_| self.corrupt("it is no text"))
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        let text = self.text()?;
        text.parse()
            .map_err(|_| self.corrupt(&format!("{text:?} is no number")))
    }

    /// The first part, which says what became of a call.
    pub(super) fn verdict(&mut self) -> Result<String> {
        self.text()
    }
}
