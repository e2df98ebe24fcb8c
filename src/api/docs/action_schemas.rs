//! The shapes of actions: as they are shown, and as they are written.

use serde_json::{Value, json};

use super::Facts;
use super::operation::{any_of, schema};
use super::schemas::{Schemas, count_of, object, optional, put, with_row};
use crate::model::kind::{self, FAMILIES};
use crate::model::limits::Range;
use crate::model::{ActionLimits, Sequence};

/// All of them.
pub(super) fn schemas(facts: &Facts<'_>) -> Schemas {
    let (concrete, written) = kinds();
    let mut all = shown(&concrete);
    all.extend(put_schemas(facts, &written));
    all
}

fn bounded(range: Range, default: u64, says: &str) -> Value {
    json!({
        "type": "integer",
        "minimum": range.min,
        "maximum": range.max,
        "default": default,
        "description": says,
    })
}

/// Concrete kinds, and what may be written for them.
fn kinds() -> (Vec<&'static str>, Vec<String>) {
    let concrete = FAMILIES.iter().flat_map(|(_, kinds)| kinds.iter());
    let concrete: Vec<&str> = concrete.map(|runtime| runtime.kind).collect();
    let defaults = FAMILIES
        .iter()
        .map(|(family, _)| format!("{family}:default"));
    let written = concrete.iter().map(|&kind| kind.to_owned());
    let written = written.chain(defaults).collect();
    (concrete, written)
}

fn shown(concrete: &[&str]) -> Schemas {
    let others = [kind::SEQUENCE, kind::BUILTIN];
    let shown: Vec<&str> = concrete.iter().copied().chain(others).collect();
    let whole = json!({ "type": "integer", "minimum": 0 });
    let limits = object(
        json!({ "timeout": whole, "memory": whole, "logs": whole, "concurrency": whole, "instances": whole }),
        &["instances"],
    );
    let components = json!({ "type": "array", "items": { "type": "string" } });
    let exec = object(
        json!({
            "kind": { "enum": shown },
            "code": { "type": "string", "description": "As it was sent." },
            "binary": { "type": "boolean", "description": "Whether the code is base64." },
            "main": { "type": "string" },
            "components": components,
        }),
        &["code", "binary", "main", "components"],
    );
    let more = json!({ "limits": schema("ActionLimits"), "exec": schema("Exec"),
        "parameters": schema("Parameters"), "binding": { "type": "string" } });
    let action = object(with_row(more), &["binding"]);
    let binary = object(json!({ "binary": { "type": "boolean" } }), &[]);
    let row = object(
        with_row(json!({ "limits": schema("ActionLimits"), "exec": binary })),
        &[],
    );
    let revision = object(
        json!({
            "revision": { "type": "integer", "minimum": 1 },
            "version": schema("Version"),
            "updated": schema("Timestamp"),
            "publish": { "type": "boolean" },
            "exec": object(json!({ "kind": { "enum": shown }, "binary": { "type": "boolean" } }), &[]),
            "current": { "type": "boolean", "description": "Whether it is the newest." },
        }),
        &[],
    );
    vec![
        ("ActionLimits", limits),
        ("Exec", exec),
        ("Action", action),
        ("ActionRow", row),
        ("ActionCount", count_of("actions")),
        ("Revision", revision),
    ]
}

fn put_schemas(facts: &Facts<'_>, written: &[String]) -> Schemas {
    let (bounds, default) = (facts.defaults, ActionLimits::default());
    let limits_put = optional(json!({
        "timeout": bounded(bounds.timeout, default.timeout, "Milliseconds."),
        "memory": bounded(bounds.memory, default.memory, "MiB."),
        "logs": bounded(bounds.logs, default.logs, "MiB."),
        "concurrency": bounded(bounds.concurrency, default.concurrency, "Activations per instance."),
        "instances": { "type": "integer", "minimum": 0, "maximum": bounds.instances_max },
    }));
    let code_put = object(
        json!({
            "kind": { "enum": written },
            "code": { "type": "string", "maxLength": facts.config.code_bytes_max, "description": "Text, or base64 of a module or of a zip archive." },
            "main": { "type": "string" },
        }),
        &["main"],
    );
    let sequence_put = object(
        json!({
            "kind": { "const": kind::SEQUENCE },
            "components": {
                "type": "array",
                "items": schema("QualifiedName"),
                "minItems": 1,
                "maxItems": Sequence::LENGTH_MAX,
            },
        }),
        &[],
    );
    let mut action_put = put(json!({
        "exec": any_of([schema("CodePut"), schema("SequencePut")]),
        "limits": schema("ActionLimitsPut"),
        "delAnnotations": { "type": "array", "items": { "type": "string" } },
    }));
    action_put["examples"] = json!([{ "exec": { "kind": written[0], "code": "" } }]);
    vec![
        ("ActionLimitsPut", limits_put),
        ("CodePut", code_put),
        ("SequencePut", sequence_put),
        ("ActionPut", action_put),
    ]
}
