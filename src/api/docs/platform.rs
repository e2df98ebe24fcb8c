//! Operations on the server itself: what anyone may know, and what its operator does.

use serde_json::json;

use super::faults::{
    AUTHENTICATED, IN_NAMESPACE, NEEDS_BODY, NEGOTIATED, ROUTED, STORED, SYSTEM_ONLY, WITH_BODY,
};
use super::operation::{Access, Operation, array_of, schema};
use super::parameters::TENANT;
use super::refusals::{NAMESPACE_MADE, NOT_TO_SYSTEM, OF_TENANT};
use super::{DOCUMENT, PAGE};

const SERVER: &str = "Server";
const OPERATOR: &str = "Operator";

/// All of them.
pub(super) fn operations() -> Vec<Operation> {
    let mut all = server();
    all.extend(operator());
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

fn operator() -> Vec<Operation> {
    let all = "/admin/v1/namespaces";
    let one = "/admin/v1/namespaces/{namespace}";
    let key = "/admin/v1/namespaces/{namespace}/key";
    let limits = "/admin/v1/namespaces/{namespace}/limits";
    let block = "/admin/v1/namespaces/{namespace}/block";
    let unblock = "/admin/v1/namespaces/{namespace}/unblock";
    let at = |method, path, id, summary| {
        Operation::new((method, path), OPERATOR, id, summary)
            .access(Access::System)
            .refuses(ROUTED)
            .refuses(AUTHENTICATED)
            .refuses(SYSTEM_ONLY)
            .refuses(STORED)
    };
    let of = |method, path, id, summary| {
        at(method, path, id, summary)
            .takes(&[&TENANT])
            .refuses(IN_NAMESPACE)
            .refuses(OF_TENANT)
    };
    vec![
        at("GET", all, "listTenants", "All namespaces, by name.").answers(
            200,
            "The namespaces.",
            array_of("Tenant"),
        ),
        of("PUT", one, "createTenant", "Makes a namespace.")
            .answers(200, "The namespace and its key.", schema("TenantWithKey"))
            .refuses(NAMESPACE_MADE),
        of("GET", one, "getTenant", "One namespace.").answers(
            200,
            "The namespace.",
            schema("Tenant"),
        ),
        of(
            "DELETE",
            one,
            "deleteTenant",
            "Removes a namespace with everything it has.",
        )
        .answers(200, "The namespace as it was, blocked.", schema("Tenant"))
        .refuses(NOT_TO_SYSTEM),
        of(
            "POST",
            key,
            "rotateKey",
            "Gives a namespace a new key; the old one ends at once.",
        )
        .answers(200, "The namespace and its key.", schema("TenantWithKey")),
        of(
            "PUT",
            limits,
            "putTenantLimits",
            "Replaces what a namespace sets itself.",
        )
        .needs("The limits.", schema("NamespaceLimits"))
        .answers(200, "The limits.", schema("NamespaceLimits"))
        .refuses(WITH_BODY)
        .refuses(NEEDS_BODY),
        of(
            "GET",
            limits,
            "getTenantLimits",
            "What a namespace sets itself.",
        )
        .answers(200, "The limits.", schema("NamespaceLimits")),
        of(
            "DELETE",
            limits,
            "deleteTenantLimits",
            "Takes back everything a namespace sets itself.",
        )
        .answers(200, "The limits, none.", schema("NamespaceLimits")),
        of(
            "POST",
            block,
            "blockTenant",
            "Makes a namespace's key count as unknown.",
        )
        .answers(200, "The namespace.", schema("Tenant"))
        .refuses(NOT_TO_SYSTEM),
        of(
            "POST",
            unblock,
            "unblockTenant",
            "Makes a namespace's key count again.",
        )
        .answers(200, "The namespace.", schema("Tenant")),
    ]
}
