//! The shapes of what is not in a namespace by name: activations, limits, tenants, and the server itself.

use serde_json::{Map, Value, json};

use super::operation::{any_of, array_of, schema};
use super::schemas::{Schemas, object};
use crate::api::admin::LIMIT_MAX;
use crate::model::{Status, StoreLevel};

const STATUSES: [Status; 4] = [
    Status::Success,
    Status::ApplicationError,
    Status::DeveloperError,
    Status::InternalError,
];

/// Among effective limits, those that are shown only where they are set.
const UNSET: [&str; 6] = [
    "allowedKinds",
    "storeActivations",
    "storeBlockingResultLevel",
    "storeNonBlockingResultLevel",
    "maxPayloadSize",
    "truncationSize",
];

/// All of them.
pub(super) fn schemas() -> Schemas {
    let mut all = activations();
    all.extend(dead_letters());
    all.extend(limits());
    all.extend(apis());
    all.extend(server());
    all
}

fn activations() -> Schemas {
    let whole = json!({ "type": "integer", "minimum": 0 });
    let outcome = object(
        json!({
            "status": { "enum": STATUSES.map(Status::as_str) },
            "success": { "type": "boolean" },
            "size": whole,
            "result": { "description": "What the action answered, or an object with `error`." },
        }),
        &["size"],
    );
    let head = json!({
        "namespace": schema("Name"),
        "name": schema("Name"),
        "version": schema("Version"),
        "activationId": schema("ActivationId"),
        "cause": schema("ActivationId"),
        "start": schema("Timestamp"),
        "end": schema("Timestamp"),
        "duration": { "type": "integer", "minimum": 0, "description": "Milliseconds." },
        "publish": { "const": false },
        "annotations": schema("Annotations"),
    });
    let lines = json!({ "type": "array", "items": { "type": "string" } });
    let mut record = head.clone();
    record["subject"] = schema("Name");
    record["response"] = schema("Outcome");
    record["logs"] = lines.clone();
    let mut row = head;
    row["statusCode"] = json!({ "enum": STATUSES.map(Status::code) });
    let absent = ["cause", "end", "duration", "statusCode"];
    vec![
        (
            "ActivationId",
            json!({ "type": "string", "pattern": "^[0-9a-fA-F]{32}$" }),
        ),
        ("Outcome", outcome),
        ("Activation", object(record, &absent)),
        ("ActivationRow", object(row, &absent)),
        (
            "ActivationCount",
            object(json!({ "activations": whole }), &[]),
        ),
        ("Logs", object(json!({ "logs": lines }), &[])),
        (
            "Accepted",
            object(json!({ "activationId": schema("ActivationId") }), &[]),
        ),
        (
            "Result",
            json!({ "type": ["object", "array"], "description": "What the action answered." }),
        ),
        (
            "Failure",
            object(
                json!({ "error": { "description": "What the action said." } }),
                &[],
            ),
        ),
        (
            "Payload",
            json!({ "type": "object", "description": "Parameters, by name." }),
        ),
    ]
}

fn dead_letters() -> Schemas {
    let whole = json!({ "type": "integer", "minimum": 0 });
    let name = json!({ "anyOf": [schema("Name"), { "type": "null" }] });
    let dead_letter = object(
        json!({
            "id": schema("ActivationId"),
            "time": schema("Timestamp"),
            "trigger": name,
            "rule": name,
            "action": { "type": "string", "description": "`namespace/name` or `namespace/package/name`." },
            "activationId": schema("ActivationId"),
            "attempts": whole,
            "error": { "description": "What the last run failed with." },
            "payload": { "description": "What the action was given." },
        }),
        &[],
    );
    vec![
        ("DeadLetter", dead_letter),
        (
            "DeadLetterCount",
            object(json!({ "deadletters": whole }), &[]),
        ),
        ("Purged", object(json!({ "purged": whole }), &[])),
    ]
}

/// Numbers among the limits of a namespace, as the wire has them; those of [`crate::model::NamespaceLimits`] that come
/// as `"N B"` in effective limits are in [`SIZES`].
const NUMBERS: [&str; 12] = [
    "invocationsPerMinute",
    "concurrentInvocations",
    "firesPerMinute",
    "minActionMemory",
    "maxActionMemory",
    "minActionLogs",
    "maxActionLogs",
    "minActionTimeout",
    "maxActionTimeout",
    "minActionConcurrency",
    "maxActionConcurrency",
    "maxActionInstances",
];

const SIZES: [&str; 3] = ["maxParameterSize", "maxPayloadSize", "truncationSize"];

const KEPT_WARM: [&str; 2] = [
    "warmedContainerKeepingCount",
    "warmedContainerKeepingTimeout",
];

fn limits() -> Schemas {
    let all = |names: &[&str], one: &Value| -> Map<String, Value> {
        let named = names.iter().map(|name| ((*name).to_owned(), one.clone()));
        named.collect()
    };
    let whole = json!({ "type": "integer", "minimum": 0 });
    let kinds = json!({ "type": "array", "items": { "type": "string" } });
    let levels = json!({ "type": "string", "enum": StoreLevel::ALL.map(StoreLevel::as_str) });
    let settable = json!({ "type": "integer", "minimum": 0, "maximum": LIMIT_MAX });
    let mut own = all(&NUMBERS, &settable);
    own.extend(all(&SIZES, &settable));
    own.extend(all(&KEPT_WARM, &settable));
    let mut effective = all(&NUMBERS, &whole);
    let bytes = json!({ "type": "string", "pattern": r"^\d+ B$" });
    effective.extend(all(&SIZES, &bytes));
    for limits in [&mut own, &mut effective] {
        limits.insert("allowedKinds".to_owned(), kinds.clone());
        limits.insert("storeActivations".to_owned(), json!({ "type": "boolean" }));
        for name in ["storeBlockingResultLevel", "storeNonBlockingResultLevel"] {
            limits.insert(name.to_owned(), levels.clone());
        }
    }
    let own = json!({ "type": "object", "additionalProperties": false, "properties": own,
        "description": "What a namespace sets itself; everything else follows the platform." });
    let tenant = object(
        json!({
            "namespace": schema("Name"),
            "uuid": { "type": "string", "format": "uuid" },
            "blocked": { "type": "boolean" },
            "limits": schema("NamespaceLimits"),
            "created": schema("Timestamp"),
        }),
        &[],
    );
    let with_key = object(
        json!({
            "namespace": schema("Name"),
            "uuid": { "type": "string", "format": "uuid" },
            "key": { "type": "string", "description": "User and password, `uuid:secret`. It is shown this once." },
        }),
        &[],
    );
    vec![
        ("EffectiveLimits", object(Value::Object(effective), &UNSET)),
        ("NamespaceLimits", own),
        ("Tenant", tenant),
        ("TenantWithKey", with_key),
        ("Reencrypted", reencrypted()),
    ]
}

fn apis() -> Schemas {
    let text = json!({ "type": "string" });
    let managed = object(
        json!({
            "namespace": schema("Name"),
            "gwApiUrl": { "type": "string", "description": "Where it is served." },
            "gwApiActivated": { "const": true },
            "tenantId": { "type": "string", "format": "uuid" },
            "apidoc": { "type": "object", "description": "It, as a Swagger 2.0 document." },
        }),
        &[],
    );
    let row = object(
        json!({ "id": text, "key": text, "value": schema("ManagedApi") }),
        &[],
    );
    let action = object(
        json!({
            "namespace": text,
            "name": { "type": "string", "description": "`action`, `package/action`, or either after `/namespace/`." },
            "backendMethod": text,
            "backendUrl": { "type": "string", "description": "The URL of the web action." },
            "authkey": text,
            "secureKey": { "type": ["string", "number"], "description": "What the action's `require-whisk-auth` says." },
        }),
        &["secureKey"],
    );
    let endpoint = object(
        json!({
            "namespace": text,
            "gatewayBasePath": text,
            "gatewayPath": text,
            "gatewayMethod": text,
            "apiName": text,
            "action": action,
            "pathParameters": { "type": "array", "items": { "type": "object" } },
        }),
        &["apiName", "pathParameters"],
    );
    let document = object(
        json!({ "namespace": text, "swagger": {
            "type": ["string", "object"], "description": "A Swagger 2.0 document, or its text." } }),
        &[],
    );
    vec![
        ("ManagedApi", managed),
        (
            "ApiList",
            object(json!({ "apis": { "type": "array", "items": row } }), &[]),
        ),
        (
            "ApiPut",
            object(json!({ "apidoc": any_of([endpoint, document]) }), &[]),
        ),
        ("Empty", json!({ "type": "object", "maxProperties": 0 })),
    ]
}

fn server() -> Schemas {
    let text = json!({ "type": "string" });
    let flag = json!({ "type": "boolean" });
    let runtime = object(
        json!({ "kind": text, "image": text, "default": flag, "deprecated": flag, "attached": flag, "requireMain": flag }),
        &[],
    );
    let server = object(
        json!({
            "description": text,
            "support": { "type": "object", "additionalProperties": text },
            "api_paths": { "type": "array", "items": text },
            "limits": { "type": "object", "additionalProperties": { "type": "integer", "minimum": 0 } },
            "runtimes": { "type": "object", "additionalProperties": array_of("Runtime") },
        }),
        &[],
    );
    let api = object(
        json!({
            "description": text,
            "api_version": text,
            "api_version_path": text,
            "build": text,
            "buildno": text,
            "swagger_paths": object(json!({ "ui": text, "api-docs": text }), &[]),
        }),
        &[],
    );
    vec![
        ("Runtime", runtime),
        ("Server", server),
        ("ApiInfo", api),
        (
            "Health",
            object(json!({ "ready": flag, "reason": text }), &["reason"]),
        ),
    ]
}

/// What a step of encrypting anew has done.
fn reencrypted() -> Value {
    let count = |says: &str| json!({ "type": "integer", "minimum": 0, "description": says });
    object(
        json!({
            "entities": count("Actions, packages, triggers and rules."),
            "items": count("Schedules, dead letters, revisions, APIs, values that actions keep."),
            "records": count("Activation records."),
            "keys": count("API keys."),
            "unreadable": count("What no configured key opens, and was left as it is."),
            "left": { "type": "boolean", "description": "Whether another step is needed." },
        }),
        &[],
    )
}
