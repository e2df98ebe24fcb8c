//! Operations on actions.

use super::entities::{ACTIVATION_NAMED, REPLAYED, entity, list, written};
use super::faults::{
    BOUND, DELETED, FLAGGED, INVOKED, NAMED, OF_A_KIND, OWN_ONLY, RUN, THROTTLED, WITH_BODY,
};
use super::operation::{Operation, any_of, array_of, schema};
use super::parameters::{
    ACTION, BLOCKING, CODE, DIGEST, EXTRA_LOGGING, IDEMPOTENCY_KEY, PACKAGE, Parameter, RESULT,
    REVISION, REVISIONS, TIMEOUT,
};
use super::refusals::{ACTION_WRITTEN, IN_PACKAGE, ONCE, REVISED};

const ACTIONS: &str = "Actions";

const OF_ACTIONS: &str = "/api/v1/namespaces/{namespace}/actions";
const OF_PACKAGE: &str = "/api/v1/namespaces/{namespace}/actions/{package}/";
const AN_ACTION: &str = "/api/v1/namespaces/{namespace}/actions/{action}";
const A_PACKAGED_ACTION: &str = "/api/v1/namespaces/{namespace}/actions/{package}/{action}";

/// A header that names the revision an answer shows.
const REVISION_SHOWN: &str = "X-Wisp-Revision";

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
    all
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
        .takes(&[&CODE, &REVISIONS, &REVISION, &DIGEST])
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
