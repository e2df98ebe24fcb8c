//! What a file of cases says. Unknown fields are errors, so that a misspelt expectation is none that always holds.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::harness::{self, base64, zip};

/// One section of the contract.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// As the contract numbers it.
    pub(super) section: String,
    pub(super) title: String,
    /// Configuration of a server of its own; the shared one when empty.
    #[serde(default)]
    pub(super) server: toml::Table,
    pub(super) cases: Vec<Case>,
}

/// A fact, and the requests that show it. It has a namespace of its own, and another one when it speaks of `other`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    /// The rows of the contract's tables that it shows, as `section row`; see [`super::rows`].
    #[serde(default)]
    pub(super) rows: Vec<String>,
    /// Configuration of a server of its own; that of the file when empty.
    #[serde(default)]
    pub(super) server: toml::Table,
    /// What lies in the folder where the client runs.
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    /// Requests that must succeed for the case to mean anything.
    #[serde(default)]
    pub(super) setup: Vec<Step>,
    pub(super) steps: Vec<Step>,
    /// The case counts on a wall-clock minute that does not turn: it is played again when one did.
    #[serde(default)]
    pub(super) within_a_minute: bool,
}

/// A request or a command, and what must come back. Every text may hold `{variables}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// `METHOD path`. A path without a slash in front lies in the case's namespace; one that begins with `web/` among its
    /// web actions.
    #[serde(default)]
    pub(super) send: String,
    /// In place of a request: the client's arguments. Its properties are the server's address and the namespace's key.
    #[serde(default)]
    pub(super) run: Vec<String>,
    /// The answer goes on: it is read until this text came.
    #[serde(default)]
    pub(super) reads: Option<String>,
    #[serde(default, rename = "as")]
    pub(super) who: Option<Who>,
    /// A list sends the header more than once.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Value>,
    /// The body, sent as JSON.
    #[serde(default)]
    pub(super) json: Option<Value>,
    /// The body, as it is.
    #[serde(default)]
    pub(super) text: Option<String>,
    /// The body, decoded first.
    #[serde(default)]
    pub(super) base64: Option<String>,
    /// The content type of the body.
    #[serde(default, rename = "type")]
    pub(super) content_type: Option<String>,
    /// A guest, see [`code`]: becomes `exec` of the body.
    #[serde(default)]
    pub(super) code: Option<String>,
    /// Repeats the request until the answer is as expected, for at most so many seconds.
    #[serde(default)]
    pub(super) until: Option<u64>,
    /// What must come back; in a setup, success when it is left out.
    #[serde(default)]
    pub(super) expect: Option<Expect>,
    /// Variables for later steps: a JSON pointer into the body, or `header:name`.
    #[serde(default)]
    pub(super) capture: BTreeMap<String, String>,
}

/// Who calls. A web action is called by nobody unless it is said.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Who {
    Own,
    Other,
    Guest,
    System,
    None,
    /// Well-formed credentials nobody has.
    Bad,
    /// `uuid:key`.
    Basic(String),
    /// The header as it is.
    Raw(String),
}

/// What must come back.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// Of an answer; none of a command.
    #[serde(default)]
    pub(super) status: u16,
    /// What a command ends with. Its output and its errors are the body.
    #[serde(default)]
    pub(super) exit: Option<i32>,
    /// By name; a list where the header comes more than once.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Value>,
    /// The body is exactly this.
    #[serde(default)]
    pub(super) json: Option<Value>,
    /// The body has at least this.
    #[serde(default)]
    pub(super) has: Option<Value>,
    /// The body is `{"error": <this>, "code": <the transaction>}` and nothing else.
    #[serde(default)]
    pub(super) error: Option<String>,
    /// The body is exactly this text.
    #[serde(default)]
    pub(super) text: Option<String>,
    /// The body is exactly these bytes.
    #[serde(default)]
    pub(super) base64: Option<String>,
    /// There is no body.
    #[serde(default)]
    pub(super) empty: bool,
    /// This stands nowhere in the answer.
    #[serde(default)]
    pub(super) nowhere: Vec<String>,
}

/// The code of a guest by name, as a client sends it. `zip:` and `base64:` in front pack the module.
pub(super) fn code(name: &str) -> String {
    let (head, rest) = name.split_once(':').unwrap_or((name, ""));
    let number = || rest.parse().expect("a number behind the name of the guest");
    match head {
        "script" => include_str!("../../fixtures/guests/conformance/script.wat").to_owned(),
        "echo" => harness::ECHO.to_owned(),
        "sleep" => harness::SLEEP.to_owned(),
        "spin" => harness::SPIN.to_owned(),
        "base64" => base64(&wat::parse_str(code(rest)).expect("a module")),
        "zip" => zip(&[("guest.wasm", &wat::parse_str(code(rest)).expect("a module"))]),
        "text_in_base64" => base64(code(rest).as_bytes()),
        "answers" => harness::answers(rest),
        "counts" => harness::counts(),
        "letters" => harness::answers_letters(number()),
        "traps" => harness::traps(),
        "traps_in_init" => harness::traps_in_init(),
        "pages" => harness::wants_pages(number()),
        "spins_in_init" => harness::spins_in_init(),
        "memory_bomb" => harness::memory_bomb(),
        "command_echo" => harness::command_echo(),
        "command_fails" => harness::command(rest, 1),
        "logs" => {
            let (line, times) = rest.rsplit_once(':').expect("logs:line:times");
            harness::logs(line, times.parse().expect("logs:line:times"))
        }
        "mangled" => {
            String::from_utf8_lossy(&wat::parse_str(code(rest)).expect("a module")).into_owned()
        }
        other => panic!("no guest is called {other}"),
    }
}
