//! Operations on the entities of a namespace: actions, packages, triggers and rules.

use super::faults::{
    AUTHENTICATED, BOUND, DELETED, FLAGGED, Fault, IN_NAMESPACE, INVOKED, LISTED, NAMED,
    NEEDS_BODY, NEGOTIATED, OF_A_KIND, ONCE, OWN_ONLY, REVISED, ROUTED, RUN, STORED, THROTTLED,
    WITH_BODY, WRITTEN,
};
use super::operation::{Operation, any_of, array_of, schema};
use super::parameters::{
    ACTION, BLOCKING, CODE, COUNT, EXTRA_LOGGING, FORCE, IDEMPOTENCY_KEY, LIMIT, NAMESPACE,
    OVERWRITE, PACKAGE, Parameter, RESULT, REVISION, REVISIONS, RULE, SKIP, TIMEOUT, TRIGGER,
};
use super::refusals::{
    ACTION_WRITTEN, IN_PACKAGE, PACKAGE_DELETED, PACKAGE_WRITTEN, RULE_SET, RULE_WRITTEN,
    TRIGGER_WRITTEN,
};

const ACTIONS: &str = "Actions";
const PACKAGES: &str = "Packages";
const TRIGGERS: &str = "Triggers";
const RULES: &str = "Rules";

/// Where the collections are.
const OF_ACTIONS: &str = "/api/v1/namespaces/{namespace}/actions";
const OF_PACKAGE: &str = "/api/v1/namespaces/{namespace}/actions/{package}/";
const AN_ACTION: &str = "/api/v1/namespaces/{namespace}/actions/{action}";
const A_PACKAGED_ACTION: &str = "/api/v1/namespaces/{namespace}/actions/{package}/{action}";
const OF_PACKAGES: &str = "/api/v1/namespaces/{namespace}/packages";
const A_PACKAGE: &str = "/api/v1/namespaces/{namespace}/packages/{package}";
const OF_TRIGGERS: &str = "/api/v1/namespaces/{namespace}/triggers";
const A_TRIGGER: &str = "/api/v1/namespaces/{namespace}/triggers/{trigger}";
const OF_RULES: &str = "/api/v1/namespaces/{namespace}/rules";
const A_RULE: &str = "/api/v1/namespaces/{namespace}/rules/{rule}";

/// A header that names the revision an answer shows.
const REVISION_SHOWN: &str = "X-Wisp-Revision";

/// A header that names the activation an answer tells of.
const ACTIVATION_NAMED: &str = "X-OpenWhisk-Activation-Id";

/// A header that says whose answer it is.
const REPLAYED: &str = "Idempotency-Replayed";

/// All of them.
pub(super) fn operations() -> Vec<Operation> {
    let mut all = vec![
        list(
            (OF_ACTIONS, ACTIONS, "listActions"),
            "Lists the actions of a namespace, newest first: those in packages, too.",
            ("ActionRow", "ActionCount"),
        )
        .refuses(OWN_ONLY),
        list(
            (OF_PACKAGE, ACTIONS, "listPackageActions"),
            "Lists the actions of a package, or of the one that a binding stands for.",
            ("ActionRow", "ActionCount"),
        )
        .takes(&[&PACKAGE])
        .refuses(OWN_ONLY)
        .refuses(NAMED)
        .refuses(OF_A_KIND)
        .refuses(BOUND),
    ];
    all.extend(actions(&Place {
        path: AN_ACTION,
        ids: ["getAction", "putAction", "deleteAction", "invokeAction"],
        names: &[&ACTION],
        is_packaged: false,
    }));
    all.extend(actions(&Place {
        path: A_PACKAGED_ACTION,
        ids: [
            "getPackagedAction",
            "putPackagedAction",
            "deletePackagedAction",
            "invokePackagedAction",
        ],
        names: &[&PACKAGE, &ACTION],
        is_packaged: true,
    }));
    all.extend(packages());
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

fn list(
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
fn entity(
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

fn written(operation: Operation, faults: &[Fault]) -> Operation {
    operation
        .takes(&[&OVERWRITE])
        .refuses(FLAGGED)
        .refuses(WITH_BODY)
        .refuses(NEEDS_BODY)
        .refuses(WRITTEN)
        .refuses(faults)
}

/// Where an action is.
struct Place {
    path: &'static str,
    ids: [&'static str; 4],
    names: &'static [&'static Parameter],
    is_packaged: bool,
}

fn actions(place: &Place) -> Vec<Operation> {
    let [get, put, delete, invoke] = place.ids;
    let at =
        |method, id, summary| entity((method, place.path), (ACTIONS, id), summary, place.names);
    let bound = if place.is_packaged { BOUND } else { &[] };
    let in_package = if place.is_packaged { IN_PACKAGE } else { &[] };
    let get = at("GET", get, "One action, with its code.")
        .takes(&[&CODE, &REVISIONS, &REVISION])
        .answers(200, "The action.", schema("Action"))
        .answers(
            200,
            "With `revisions`, the revisions that are kept, newest first.",
            array_of("Revision"),
        )
        .header(200, REVISION_SHOWN)
        .refuses(FLAGGED)
        .refuses(REVISED)
        .refuses(bound);
    let put = at("PUT", put, "Creates or updates an action; with `revision`, brings a former revision back.")
        .details(
            "Code is compiled before it is answered: what no sandbox would run is refused. Annotations are laid over those \
             there are, parameters replace them. With `revision` there is no body, and `overwrite` must be true.",
        )
        .takes(&[&REVISION])
        .may_have("The action. It may be left out with `revision` alone.", schema("ActionPut"))
        .answers(200, "The action as it is now, with its code.", schema("Action"))
        .header(200, REVISION_SHOWN)
        .refuses(REVISED);
    let delete = at(
        "DELETE",
        delete,
        "Deletes an action, and its former revisions.",
    )
    .answers(
        200,
        "The action as it was, with its code.",
        schema("Action"),
    )
    .header(200, REVISION_SHOWN)
    .refuses(DELETED)
    .refuses(in_package);
    vec![
        get,
        written(put, ACTION_WRITTEN),
        delete,
        invocation(at("POST", invoke, "Runs an action.").refuses(bound)),
    ]
}

fn invocation(operation: Operation) -> Operation {
    let failed = || any_of([schema("Activation"), schema("Failure")]);
    operation
        .details(
            "The checks come in this order: who, how large, how often, and only then whether there is such an action. A 502 \
             is the action's own failure.",
        )
        .takes(&[&BLOCKING, &RESULT, &TIMEOUT, &REVISION, &EXTRA_LOGGING, &IDEMPOTENCY_KEY])
        .may_have("What the action is given, over its own parameters.", schema("Payload"))
        .answers(200, "With `blocking`: it succeeded.", any_of([schema("Activation"), schema("Result")]))
        .answers(202, "It runs, or will; or it runs longer than was waited for.", schema("Accepted"))
        .answers(500, "With `blocking`: the platform failed.", failed())
        .answers(502, "With `blocking`: the action failed.", failed())
        .header(200, ACTIVATION_NAMED)
        .header(202, ACTIVATION_NAMED)
        .header(502, ACTIVATION_NAMED)
        .refuses(FLAGGED)
        .refuses(WITH_BODY)
        .refuses(THROTTLED)
        .refuses(RUN)
        .refuses(INVOKED)
        .refuses(ONCE)
        .header(200, REPLAYED)
        .header(202, REPLAYED)
        .header(502, REPLAYED)
        .refuses(REVISED)
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
