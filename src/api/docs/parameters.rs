//! Parameters of paths, queries and headers, each printed once.

use serde_json::{Value, json};

use super::operation::schema;
use crate::api::activations::WAIT_S_MAX;
use crate::api::idempotency::KEY_BYTES_MAX;
use crate::api::invocations::WAIT_MS_MAX;
use crate::api::paging::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::model::name::NAME_MAX;

/// A parameter.
#[derive(Debug)]
pub(super) struct Parameter {
    /// Among the components.
    pub(super) id: &'static str,
    /// `path`, `query` or `header`.
    pub(super) place: &'static str,
    /// As requests name it.
    pub(super) name: &'static str,
    required: bool,
    says: &'static str,
    schema: fn() -> Value,
}

impl Parameter {
    const fn path(id: &'static str, name: &'static str, says: &'static str) -> Self {
        Self {
            id,
            place: "path",
            name,
            required: true,
            says,
            schema: || schema("Name"),
        }
    }

    const fn query(name: &'static str, says: &'static str, schema: fn() -> Value) -> Self {
        Self {
            id: name,
            place: "query",
            name,
            required: false,
            says,
            schema,
        }
    }

    const fn header(name: &'static str, says: &'static str, schema: fn() -> Value) -> Self {
        Self {
            id: name,
            place: "header",
            name,
            required: false,
            says,
            schema,
        }
    }

    const fn schema(self, schema: fn() -> Value) -> Self {
        Self { schema, ..self }
    }

    /// A reference to it.
    pub(super) fn reference(&self) -> Value {
        json!({ "$ref": format!("#/components/parameters/{}", self.id) })
    }

    /// As the document has it.
    pub(super) fn print(&self) -> Value {
        json!({
            "name": self.name,
            "in": self.place,
            "required": self.required,
            "description": self.says,
            "schema": (self.schema)(),
        })
    }
}

/// A boolean, in any of the words there are; see the description of the document.
fn flag() -> Value {
    json!({ "type": "boolean", "default": false })
}

fn instant() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX / 2 })
}

fn number() -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": u64::MAX / 2 })
}

fn text() -> Value {
    json!({ "type": "string", "maxLength": NAME_MAX })
}

fn uuid() -> Value {
    json!({ "type": "string", "format": "uuid" })
}

fn activation_id() -> Value {
    schema("ActivationId")
}

pub(super) const NAMESPACE: Parameter = Parameter::path(
    "namespace",
    "namespace",
    "The namespace; `_` is that of the key.",
);
pub(super) const PACKAGE: Parameter =
    Parameter::path("package", "package", "A package, or a binding to one.");
pub(super) const ACTION: Parameter = Parameter::path("action", "action", "An action.");
pub(super) const TRIGGER: Parameter = Parameter::path("trigger", "trigger", "A trigger.");
pub(super) const RULE: Parameter = Parameter::path("rule", "rule", "A rule.");
pub(super) const ACTIVATION: Parameter =
    Parameter::path("activation", "id", "An activation.").schema(activation_id);
pub(super) const ANYTHING: Parameter = Parameter::path("anything", "anything", "Anything.");
pub(super) const TENANT: Parameter = Parameter::path("anyNamespace", "namespace", "A namespace.");
pub(super) const WEB_PACKAGE: Parameter = Parameter::path(
    "webPackage",
    "package",
    "A package, or `default` for an action in none.",
);
pub(super) const WEB_ACTION: Parameter = Parameter::path(
    "webAction",
    "action",
    "An action, with `.http` (which is what nothing means), `.json`, `.html`, `.svg` or `.text` behind its name. What \
     follows in the path is the action's to read.",
);

pub(super) const LIMIT: Parameter = Parameter::query(
    "limit",
    "How many at most; 0 is as many as one answer may have.",
    || json!({ "type": "integer", "minimum": 0, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT }),
);
pub(super) const SKIP: Parameter = Parameter::query(
    "skip",
    "How many to leave out.",
    || json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX, "default": 0 }),
);
pub(super) const COUNT: Parameter = Parameter::query(
    "count",
    "Answers how many there are (behind the first `skip`), in place of the rows.",
    flag,
);
pub(super) const OVERWRITE: Parameter = Parameter::query(
    "overwrite",
    "Updates what is there, in place of a 409.",
    flag,
);
pub(super) const FORCE: Parameter = Parameter::query(
    "force",
    "Deletes what is in the package, too, in place of a 409.",
    flag,
);
pub(super) const CODE: Parameter = Parameter::query(
    "code",
    "Whether the code is shown.",
    || json!({ "type": "boolean", "default": true }),
);
pub(super) const REVISIONS: Parameter = Parameter::query(
    "revisions",
    "Lists the revisions that are kept, in place of the action. For its owner alone.",
    flag,
);
pub(super) const REVISION: Parameter = Parameter::query(
    "revision",
    "A former revision of the action, in place of the newest. For its owner alone.",
    number,
);
pub(super) const DIGEST: Parameter = Parameter::query(
    "digest",
    "Any text of the client's own: encrypted parameters come with `digest` then, BLAKE3 of this text, a NUL, and the value as \
     compact JSON with sorted keys. Whoever knows what a value should be sees so whether it is. For its owner alone.",
    text,
);
pub(super) const BLOCKING: Parameter = Parameter::query(
    "blocking",
    "Waits for the end, as long as `timeout` says; then 202.",
    flag,
);
pub(super) const RESULT: Parameter = Parameter::query(
    "result",
    "Answers the result alone, in place of the record, when `blocking`.",
    flag,
);
pub(super) const TIMEOUT: Parameter = Parameter::query(
    "timeout",
    "How long `blocking` waits, in milliseconds.",
    || json!({ "type": "integer", "minimum": 1, "maximum": WAIT_MS_MAX, "default": WAIT_MS_MAX }),
);
pub(super) const SINCE: Parameter = Parameter::query(
    "since",
    "Those that started then or later; milliseconds since 1970.",
    instant,
);
pub(super) const UPTO: Parameter = Parameter::query(
    "upto",
    "Those that started then or before; milliseconds since 1970.",
    instant,
);
pub(super) const NAME_FILTER: Parameter = Parameter::query(
    "name",
    "Those of this name: `name`, or `package/name`.",
    text,
);
pub(super) const DOCS: Parameter = Parameter::query("docs", "Answers whole records.", flag);
pub(super) const EVENTS: Parameter = Parameter::query(
    "events",
    "Answers server-sent events without end: each activation when it has ended. So does `Accept: text/event-stream`.",
    flag,
);
pub(super) const LOGS: Parameter = Parameter::query(
    "logs",
    "With `events`: also each line of log as it is written.",
    flag,
);
pub(super) const WAIT: Parameter = Parameter::query(
    "wait",
    "How long to wait for the end of an activation that still runs, in seconds.",
    || json!({ "type": "integer", "minimum": 0, "maximum": WAIT_S_MAX, "default": 0 }),
);
pub(super) const LAST_EVENT_ID: Parameter = Parameter::header(
    "Last-Event-ID",
    "With `events`: the activation up to which everything was told.",
    activation_id,
);
pub(super) const REQUEST_ID: Parameter = Parameter::header(
    "X-Request-ID",
    "Names the request, unless it begins with `sid_`: it comes back in the answer, is the `code` of errors, and the \
     transaction of activations.",
    text,
);
pub(super) const EXTRA_LOGGING: Parameter = Parameter::header(
    "X-OW-EXTRA-LOGGING",
    "`on` keeps the record even where the namespace keeps none.",
    || json!({ "enum": ["on", "off"] }),
);
pub(super) const WEB_SECRET: Parameter = Parameter::header(
    "X-Require-Whisk-Auth",
    "The secret that the action's annotation `require-whisk-auth` names.",
    || json!({ "type": "string" }),
);

/// Below it the path of an API, and what follows it.
pub(super) const API_TENANT: Parameter =
    Parameter::path("tenant", "tenant", "The uuid of a namespace.").schema(uuid);
pub(super) const API_BASE: Parameter = Parameter::path(
    "base",
    "base",
    "The base path of an API, and what it has below.",
)
.schema(text);
pub(super) const RESPONSE_TYPE: Parameter = Parameter::query(
    "responsetype",
    "What of the action's result a new operation answers.",
    || json!({ "enum": ["http", "json", "html", "svg", "text"], "default": "json" }),
);
pub(super) const API_NAME: Parameter =
    Parameter::query("basepath", "The base path of an API, or its title.", text);
pub(super) const API_NAME_REQUIRED: Parameter = Parameter {
    id: "basepathRequired",
    required: true,
    ..Parameter::query("basepath", "The base path of an API, or its title.", text)
};
pub(super) const API_LIMIT: Parameter = Parameter {
    id: "apiLimit",
    ..Parameter::query(
        "limit",
        "How many at most; 0 is all.",
        || json!({ "type": "integer", "minimum": 0 }),
    )
};
pub(super) const API_PATH: Parameter =
    Parameter::query("relpath", "This path of the API alone.", text);
pub(super) const API_METHOD: Parameter =
    Parameter::query("operation", "This method of the path alone.", text);

pub(super) const IDEMPOTENCY_KEY: Parameter = Parameter::header(
    "Idempotency-Key",
    "Names the call, so that it is done once however often it is sent: the answer to the same again is that of the first, \
     and says so.",
    || json!({ "type": "string", "pattern": "^[!-~]+$", "minLength": 1, "maxLength": KEY_BYTES_MAX }),
);
pub(super) const DEAD_LETTER: Parameter =
    Parameter::path("deadLetter", "id", "A dead letter: the id of the last run.")
        .schema(activation_id);
