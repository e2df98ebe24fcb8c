//! Operations on the entities of a namespace: what all have in common, and packages, triggers and rules.

use super::faults::{
    AUTHENTICATED, BOUND, DELETED, FLAGGED, Fault, IN_NAMESPACE, LISTED, NAMED, NEEDS_BODY,
    NEGOTIATED, OF_A_KIND, OWN_ONLY, ROUTED, STORED, THROTTLED, WITH_BODY, WRITTEN,
};
use super::operation::{Operation, array_of, schema};
use super::parameters::{
    COUNT, DIGEST, EXTRA_LOGGING, FORCE, IDEMPOTENCY_KEY, LIMIT, NAMESPACE, OVERWRITE, PACKAGE,
    Parameter, RULE, SKIP, TRIGGER,
};
use super::refusals::{
    ONCE, PACKAGE_DELETED, PACKAGE_WRITTEN, RULE_SET, RULE_WRITTEN, TRIGGER_WRITTEN,
};

const PACKAGES: &str = "Packages";
const TRIGGERS: &str = "Triggers";
const RULES: &str = "Rules";

/// Where the collections are.
const OF_PACKAGES: &str = "/api/v1/namespaces/{namespace}/packages";
const A_PACKAGE: &str = "/api/v1/namespaces/{namespace}/packages/{package}";
const OF_TRIGGERS: &str = "/api/v1/namespaces/{namespace}/triggers";
const A_TRIGGER: &str = "/api/v1/namespaces/{namespace}/triggers/{trigger}";
const OF_RULES: &str = "/api/v1/namespaces/{namespace}/rules";
const A_RULE: &str = "/api/v1/namespaces/{namespace}/rules/{rule}";

/// A header that names the activation an answer tells of.
pub(super) const ACTIVATION_NAMED: &str = "X-OpenWhisk-Activation-Id";

/// A header that says whose answer it is.
pub(super) const REPLAYED: &str = "Idempotency-Replayed";

/// All of them.
pub(super) fn operations() -> Vec<Operation> {
    let mut all = packages();
    all.extend(triggers());
    all.extend(rules());
    all
}

/// Something in a namespace.
fn within(
    (method, path): (&'static str, &'static str),
    tag: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Operation {
    Operation::new((method, path), tag, id, summary)
        .takes(&[&NAMESPACE])
        .refuses(ROUTED)
        .refuses(NEGOTIATED)
        .refuses(AUTHENTICATED)
        .refuses(IN_NAMESPACE)
        .refuses(STORED)
}

/// A collection: its rows, or how many there are.
pub(super) fn list(
    (path, tag, id): (&'static str, &'static str, &'static str),
    summary: &'static str,
    (row, count): (&str, &str),
) -> Operation {
    within(("GET", path), tag, id, summary)
        .takes(&[&LIMIT, &SKIP, &COUNT])
        .answers(200, "The rows.", array_of(row))
        .answers(200, "With `count`, how many there are.", schema(count))
        .refuses(LISTED)
        .refuses(FLAGGED)
}

/// An entity of the key's own namespace, or one that may be shared.
pub(super) fn entity(
    method_and_path: (&'static str, &'static str),
    (tag, id): (&'static str, &'static str),
    summary: &'static str,
    names: &[&'static Parameter],
) -> Operation {
    within(method_and_path, tag, id, summary)
        .takes(names)
        .refuses(OWN_ONLY)
        .refuses(NAMED)
        .refuses(OF_A_KIND)
}

/// What every PUT of an entity has.
pub(super) fn written(operation: Operation, faults: &[Fault]) -> Operation {
    operation
        .takes(&[&OVERWRITE])
        .refuses(FLAGGED)
        .refuses(WITH_BODY)
        .refuses(NEEDS_BODY)
        .refuses(WRITTEN)
        .refuses(faults)
}

fn packages() -> Vec<Operation> {
    let at =
        |method, id, summary| entity((method, A_PACKAGE), (PACKAGES, id), summary, &[&PACKAGE]);
    let put = at(
        "PUT",
        "putPackage",
        "Creates or updates a package, or a binding to one.",
    )
    .needs("The package.", schema("PackagePut"))
    .answers(200, "The package as it is now.", schema("Package"));
    vec![
        list(
            (OF_PACKAGES, PACKAGES, "listPackages"),
            "Lists the packages of a namespace, newest first; of somebody else's only those that are shared.",
            ("PackageRow", "PackageCount"),
        ),
        at("GET", "getPackage", "One package, with what is in it.")
            .takes(&[&DIGEST])
            .answers(
                200,
                "The package; of a binding, what it leads to.",
                schema("PackageWithContents"),
            )
            .refuses(BOUND),
        written(put, PACKAGE_WRITTEN),
        at(
            "DELETE",
            "deletePackage",
            "Deletes a package, or a binding.",
        )
        .takes(&[&FORCE])
        .answers(200, "The package as it was.", schema("Package"))
        .refuses(FLAGGED)
        .refuses(DELETED)
        .refuses(PACKAGE_DELETED),
    ]
}

fn triggers() -> Vec<Operation> {
    let at =
        |method, id, summary| entity((method, A_TRIGGER), (TRIGGERS, id), summary, &[&TRIGGER]);
    let put = at(
        "PUT",
        "putTrigger",
        "Creates or updates a trigger; its rules stay.",
    )
    .needs("The trigger.", schema("TriggerPut"))
    .answers(200, "The trigger as it is now.", schema("Trigger"));
    vec![
        list(
            (OF_TRIGGERS, TRIGGERS, "listTriggers"),
            "Lists the triggers of a namespace, newest first.",
            ("TriggerRow", "TriggerCount"),
        )
        .refuses(OWN_ONLY),
        at(
            "GET",
            "getTrigger",
            "One trigger, with the rules that listen.",
        )
        .takes(&[&DIGEST])
        .answers(200, "The trigger.", schema("Trigger")),
        written(put, TRIGGER_WRITTEN),
        at(
            "DELETE",
            "deleteTrigger",
            "Deletes a trigger; its rules stay, and are inactive.",
        )
        .answers(200, "The trigger as it was.", schema("Trigger"))
        .refuses(DELETED),
        at("POST", "fireTrigger", "Fires a trigger.")
            .details("Answered when the fire is on disk; its rules run afterwards.")
            .takes(&[&EXTRA_LOGGING, &IDEMPOTENCY_KEY])
            .may_have(
                "What the rules' actions are given, over the trigger's parameters.",
                schema("Payload"),
            )
            .answers(202, "It fired.", schema("Accepted"))
            .answers_empty(204, "No active rule listens.")
            .header(202, ACTIVATION_NAMED)
            .header(202, REPLAYED)
            .refuses(WITH_BODY)
            .refuses(THROTTLED)
            .refuses(ONCE),
    ]
}

fn rules() -> Vec<Operation> {
    let at = |method, id, summary| entity((method, A_RULE), (RULES, id), summary, &[&RULE]);
    let put = at(
        "PUT",
        "putRule",
        "Creates a rule, which is active, or updates one.",
    )
    .needs("The rule.", schema("RulePut"))
    .answers(200, "The rule as it is now.", schema("Rule"))
    .refuses(BOUND);
    vec![
        list(
            (OF_RULES, RULES, "listRules"),
            "Lists the rules of a namespace, newest first, without their status.",
            ("RuleRow", "RuleCount"),
        )
        .refuses(OWN_ONLY),
        at("GET", "getRule", "One rule, with its status.").answers(
            200,
            "The rule.",
            schema("Rule"),
        ),
        written(put, RULE_WRITTEN),
        at("DELETE", "deleteRule", "Deletes a rule, active or not.")
            .answers(200, "The rule as it was, inactive.", schema("Rule"))
            .refuses(DELETED),
        at("POST", "setRule", "Enables or disables a rule.")
            .needs("What it is to be.", schema("RuleStatus"))
            .answers_empty(200, "It is.")
            .refuses(WITH_BODY)
            .refuses(NEEDS_BODY)
            .refuses(DELETED)
            .refuses(RULE_SET),
    ]
}
