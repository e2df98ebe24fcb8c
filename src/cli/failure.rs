//! Why a command did not succeed, and the exit code that says so.

use serde_json::Value;

/// Something here failed.
const GENERAL: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;
/// The server cannot be reached.
const NETWORK: u8 = 3;

/// What a command that failed says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    /// One sentence for people.
    pub(super) message: String,
    /// The exit code.
    pub(super) exit: u8,
    /// What the server calls the request, for its operator.
    pub(super) code: Option<Value>,
    /// The HTTP status, when the server answered.
    pub(super) status: Option<u16>,
    /// What to do about it.
    pub(super) advice: Option<String>,
}

pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    fn new(exit: u8, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit,
            code: None,
            status: None,
            advice: None,
        }
    }

    /// Something on this machine: a file, a format.
    pub(super) fn general(message: impl Into<String>) -> Self {
        Self::new(GENERAL, message)
    }

    /// The command line asks for what cannot be.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    /// No answer came.
    pub(super) fn network(message: impl Into<String>) -> Self {
        Self::new(NETWORK, message)
    }

    /// The server answered with an error.
    pub(super) fn status(status: u16, body: &Value) -> Self {
        let message = match body.get("error") {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => format!("The connection failed, or timed out. (HTTP status code {status})"),
        };
        Self {
            code: body.get("code").cloned(),
            status: Some(status),
            ..Self::new(exit_of(status), message)
        }
    }

    /// Says what was attempted.
    pub(super) fn while_trying(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Says what to do about it.
    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// What is wrong with YAML: where, and the lines around it.
pub(super) fn yaml_error(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    // Ours are errors already, and say of which file.
    let bare = text.strip_prefix("error: ").map(str::to_owned);
    bare.unwrap_or(text)
}

/// `wsk` exits with the status minus 256, of which the system keeps a byte.
pub(super) fn exit_of(status: u16) -> u8 {
    u8::try_from(status % 256).unwrap_or(GENERAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_wsk() {
        let table = [
            (202, 202),
            (400, 144),
            (401, 145),
            (403, 147),
            (404, 148),
            (409, 153),
        ];
        let more = [(413, 157), (429, 173), (500, 244), (502, 246)];
        for (status, exit) in table.into_iter().chain(more) {
            assert_eq!(exit_of(status), exit, "{status}");
        }
    }
}
