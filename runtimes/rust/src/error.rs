use std::fmt;

use serde_json::Value;

/// What an action answers: something to serialize, or an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an action answers when it fails: any JSON. The caller sees `{"error": …}`.
///
/// Made by `?` from every [`std::error::Error`], with its message and those of its causes.
pub struct Error(Value);

impl Error {
    /// An error that is a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Value::String(message.into()))
    }

    /// An error that carries more than a message.
    ///
    /// A web action's error with `statusCode`, `headers` and `body` is an answer like any other.
    #[must_use]
    pub fn json(value: Value) -> Self {
        Self(value)
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self(Value::String(message))
    }
}

impl From<Error> for Value {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Value::String(message) => f.write_str(message),
            other => other.fmt(f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({})", self.0)
    }
}
