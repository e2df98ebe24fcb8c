//! Operations on the server itself: what anyone may know, and what its operator does.

use serde_json::json;

use super::faults::{
    AUTHENTICATED, IN_NAMESPACE, NEEDS_BODY, NEGOTIATED, ROUTED, STORED, SYSTEM_ONLY, WITH_BODY,
};
use super::operation::{Access, Operation, array_of, schema};
use super::parameters::TENANT;
use super::refusals::{NAMESPACE_MADE, NO_KEY, NOT_TO_SYSTEM, OF_TENANT};
use super::{DOCUMENT, PAGE};

const SERVER: &str = "Server";
const OPERATOR: &str = "Operator";

/// All of them.
pub(super) fn operations() -> Vec<Operation> {
    let mut all = server();
    all.extend(controller());
    all.extend(tenants());
    all.extend(limits());
    all
}

fn anyone(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(("GET", path), SERVER, id, summary)
        .access(Access::Anyone)
        .refuses(ROUTED)
}

fn server() -> Vec<Operation> {
    let text = || json!({ "type": "string" });
    let document =
        |operation: Operation| operation.answers(200, "The document.", json!({ "type": "object" }));
    let page = |operation: Operation| operation.answers_as(200, "The page.", "text/html", text());
    vec![
        anyone(
            "/",
            "getServer",
            "Which server this is, its limits and its kinds.",
        )
        .answers(200, "The server.", schema("Server")),
        anyone(
            "/api/v1",
            "getApi",
            "Which API this is, and where its documents are.",
        )
        .answers(200, "The API.", schema("ApiInfo"))
        .refuses(NEGOTIATED),
        document(anyone(DOCUMENT[0], "getDocument", "This document.")),
        document(anyone(DOCUMENT[1], "getApiDocument", "This document.")).refuses(NEGOTIATED),
        page(anyone(PAGE[0], "getPage", "This document, for people.")),
        page(anyone(PAGE[1], "getApiPage", "This document, for people.")).refuses(NEGOTIATED),
        anyone("/ping", "ping", "Whether the process lives.").answers_as(
            200,
            "`pong`.",
            "text/plain",
            text(),
        ),
        anyone("/health", "getHealth", "Whether this node can serve.")
            .answers(200, "It can.", schema("Health"))
            .answers(503, "It cannot, and why.", schema("Health")),
        anyone("/metrics", "getMetrics", "What Prometheus reads.").answers_as(
            200,
            "The metrics.",
            "text/plain",
            text(),
        ),
    ]
}

/// What OpenWhisk's operators ask of its controllers.
fn controller() -> Vec<Operation> {
    let text = || json!({ "type": "string" });
    let count = || json!({ "type": "integer", "minimum": 0 });
    let of = |field: &str| {
        json!({ "type": "object", "required": [field], "additionalProperties": false,
            "properties": { field: { "type": "string", "pattern": r"^\d+/\d+$" } } })
    };
    let states = json!({ "type": "object",
        "additionalProperties": { "enum": ["up", "unhealthy"] } });
    let disable = Operation::new(
        ("POST", "/disable"),
        SERVER,
        "disable",
        "Ends this server: nothing new is accepted, what runs is finished.",
    );
    let in_flight = |path, id| {
        anyone(path, id, "Activations accepted and not ended.").answers(
            200,
            "How many there are.",
            count(),
        )
    };
    vec![
        anyone("/invokers", "getInvokers", "What runs actions: this node.").answers(
            200,
            "The state of each.",
            states,
        ),
        anyone(
            "/invokers/healthy/count",
            "countHealthyInvokers",
            "How many can run actions.",
        )
        .answers(200, "How many there are.", count()),
        anyone(
            "/invokers/ready",
            "getReadyInvokers",
            "Whether any can run actions.",
        )
        .answers(200, "Those that can, of all.", of("healthy"))
        .answers(500, "None can.", of("unhealthy")),
        in_flight("/activation", "getActivationCount"),
        in_flight("/activation/count", "countActivations"),
        disable
            .access(Access::System)
            .refuses(ROUTED)
            .answers_as(200, "It ends.", "text/plain", text())
            .answers_as(401, "It takes the system's key.", "text/plain", text())
            .refuses(STORED),
    ]
}

const TENANTS: &str = "/admin/v1/namespaces";
const A_TENANT: &str = "/admin/v1/namespaces/{namespace}";
const ITS_KEY: &str = "/admin/v1/namespaces/{namespace}/key";
const ITS_LIMITS: &str = "/admin/v1/namespaces/{namespace}/limits";
const BLOCK: &str = "/admin/v1/namespaces/{namespace}/block";
const UNBLOCK: &str = "/admin/v1/namespaces/{namespace}/unblock";
const REENCRYPT: &str = "/admin/v1/namespaces/{namespace}/reencrypt";

/// For the holder of the system's key.
pub(super) fn administered(
    method_and_path: (&'static str, &'static str),
    id: &'static str,
    summary: &'static str,
) -> Operation {
    Operation::new(method_and_path, OPERATOR, id, summary)
        .access(Access::System)
        .refuses(ROUTED)
        .refuses(AUTHENTICATED)
        .refuses(SYSTEM_ONLY)
        .refuses(STORED)
}

/// Of one namespace.
fn of(
    method_and_path: (&'static str, &'static str),
    id: &'static str,
    summary: &'static str,
) -> Operation {
    administered(method_and_path, id, summary)
        .takes(&[&TENANT])
        .refuses(IN_NAMESPACE)
        .refuses(OF_TENANT)
}

fn tenants() -> Vec<Operation> {
    let tenant = |operation: Operation, says| operation.answers(200, says, schema("Tenant"));
    let keyed = |operation: Operation| {
        operation.answers(200, "The namespace and its key.", schema("TenantWithKey"))
    };
    let list = administered(("GET", TENANTS), "listTenants", "All namespaces, by name.");
    let create = of(("PUT", A_TENANT), "createTenant", "Makes a namespace.");
    let get = of(("GET", A_TENANT), "getTenant", "One namespace.");
    let says = "Removes a namespace with everything it has.";
    let delete = of(("DELETE", A_TENANT), "deleteTenant", says);
    let says = "Gives a namespace a new key; the old one ends at once.";
    let rotate = of(("POST", ITS_KEY), "rotateKey", says);
    let says = "Makes a namespace's key count as unknown.";
    let block = of(("POST", BLOCK), "blockTenant", says);
    let says = "Makes a namespace's key count again.";
    let unblock = of(("POST", UNBLOCK), "unblockTenant", says);
    let says = "Encrypts some of what a namespace has anew, with the first of the configured keys.";
    let reencrypt = of(("POST", REENCRYPT), "reencryptTenant", says).details(
        "A step at a time, beside what is served: to be asked for until nothing is `left`. What is under that key already is \
         passed over, so it can be taken up again at any time.",
    );
    vec![
        list.answers(200, "The namespaces.", array_of("Tenant")),
        keyed(create).refuses(NAMESPACE_MADE),
        tenant(get, "The namespace."),
        tenant(delete, "The namespace as it was, blocked.").refuses(NOT_TO_SYSTEM),
        keyed(rotate),
        tenant(block, "The namespace.").refuses(NOT_TO_SYSTEM),
        tenant(unblock, "The namespace."),
        reencrypt
            .answers(200, "What this step has done.", schema("Reencrypted"))
            .refuses(NO_KEY),
    ]
}

fn limits() -> Vec<Operation> {
    let at = |method, id, summary| {
        let operation = of((method, ITS_LIMITS), id, summary);
        operation.answers(200, "The limits.", schema("NamespaceLimits"))
    };
    let says = "Takes back everything a namespace sets itself.";
    vec![
        at(
            "PUT",
            "putTenantLimits",
            "Replaces what a namespace sets itself.",
        )
        .needs("The limits.", schema("NamespaceLimits"))
        .refuses(WITH_BODY)
        .refuses(NEEDS_BODY),
        at("GET", "getTenantLimits", "What a namespace sets itself."),
        at("DELETE", "deleteTenantLimits", says),
    ]
}
