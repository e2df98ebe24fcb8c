//! Operations on what has no name of its own: namespaces, activations, and what web actions show.

use serde_json::json;

use super::faults::{
    AUTHENTICATED, BOUND, FLAGGED, IN_NAMESPACE, LISTED, NEGOTIATED, OF_A_KIND, OWN_ONLY, ROUTED,
    RUN, STORED, THROTTLED, WITH_BODY,
};
use super::operation::{Access, Operation, array_of, schema};
use super::parameters::{
    ACTIVATION, ANYTHING, COUNT, DEAD_LETTER, DOCS, EVENTS, LAST_EVENT_ID, LIMIT, LOGS,
    NAME_FILTER, NAMESPACE, SINCE, SKIP, TENANT, UPTO, WAIT, WEB_ACTION, WEB_PACKAGE, WEB_SECRET,
};
use super::refusals::{ACTIVATIONS_LISTED, BELOW_LIMITS, CANCELLED, OF_ACTIVATION, WAITED, WEB};

const NAMESPACES: &str = "Namespaces";
const ACTIVATIONS: &str = "Activations";
const DEAD_LETTERS: &str = "Dead letters";
const WEB_ACTIONS: &str = "Web actions";

const AN_ACTIVATION: &str = "/api/v1/namespaces/{namespace}/activations/{id}";
const A_WEB_ACTION: &str = "/api/v1/web/{namespace}/{package}/{action}";

/// All of them.
pub(super) fn operations() -> Vec<Operation> {
    let mut all = namespaces();
    all.extend(activations());
    all.extend(dead_letters());
    all.extend(web());
    all
}

fn get(
    path: &'static str,
    tag: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Operation {
    Operation::new(("GET", path), tag, id, summary)
        .refuses(ROUTED)
        .refuses(NEGOTIATED)
        .refuses(AUTHENTICATED)
        .refuses(STORED)
}

fn namespaces() -> Vec<Operation> {
    let limits = "/api/v1/namespaces/{namespace}/limits";
    let below = "/api/v1/namespaces/{namespace}/limits/{anything}";
    let one = json!({ "type": "array", "items": schema("Name"), "minItems": 1, "maxItems": 1 });
    vec![
        get(
            "/api/v1/namespaces",
            NAMESPACES,
            "listNamespaces",
            "The namespace of the key.",
        )
        .answers(200, "It, alone in an array.", one),
        get(
            limits,
            NAMESPACES,
            "getLimits",
            "What holds for the namespace of the key.",
        )
        .takes(&[&NAMESPACE])
        .answers(200, "The limits.", schema("EffectiveLimits"))
        .refuses(IN_NAMESPACE)
        .refuses(OWN_ONLY),
        get(
            below,
            NAMESPACES,
            "getInnerLimits",
            "Nothing: it says that there is nothing.",
        )
        .takes(&[&NAMESPACE, &ANYTHING])
        .refuses(IN_NAMESPACE)
        .refuses(OWN_ONLY)
        .refuses(BELOW_LIMITS),
    ]
}

fn activations() -> Vec<Operation> {
    let all = "/api/v1/namespaces/{namespace}/activations";
    let logs = "/api/v1/namespaces/{namespace}/activations/{id}/logs";
    let result = "/api/v1/namespaces/{namespace}/activations/{id}/result";
    let own = |operation: Operation| {
        operation
            .takes(&[&NAMESPACE])
            .refuses(IN_NAMESPACE)
            .refuses(OWN_ONLY)
    };
    let one = |path, id, summary| {
        own(get(path, ACTIVATIONS, id, summary))
            .takes(&[&ACTIVATION, &WAIT])
            .refuses(OF_ACTIVATION)
            .refuses(WAITED)
    };
    let cancel = Operation::new(
        ("DELETE", AN_ACTIVATION),
        ACTIVATIONS,
        "cancelActivation",
        "Ends an activation that waits or runs.",
    );
    let events = json!({ "type": "string" });
    vec![
        own(get(all, ACTIVATIONS, "listActivations", "Lists the activations of a namespace, newest first."))
            .details(
                "With `events` the answer does not end: `event: activation` with a whole record, its id that of the \
                 activation; `event: missed` with how many were not told. With `logs` also `event: log` with \
                 `activationId`, `name` and `line` while the activation runs, the line as its record will have it; and \
                 `event: missed-logs` with how many lines come with the record alone.",
            )
            .takes(&[&LIMIT, &SKIP, &COUNT, &SINCE, &UPTO, &NAME_FILTER, &DOCS, &EVENTS, &LOGS, &LAST_EVENT_ID])
            .answers(200, "The rows.", array_of("ActivationRow"))
            .answers(200, "With `docs`, whole records.", array_of("Activation"))
            .answers(200, "With `count`, how many there are.", schema("ActivationCount"))
            .answers_as(200, "With `events`, a stream.", "text/event-stream", events)
            .refuses(LISTED)
            .refuses(FLAGGED)
            .refuses(ACTIVATIONS_LISTED)
            .refuses(&OF_ACTIVATION[..2]),
        one(AN_ACTIVATION, "getActivation", "The record of one activation.")
            .answers(200, "The record.", schema("Activation")),
        own(cancel)
            .takes(&[&ACTIVATION])
            .details("Its record says that it was cancelled.")
            .answers(202, "It is told to end.", schema("Accepted"))
            .refuses(ROUTED)
            .refuses(NEGOTIATED)
            .refuses(AUTHENTICATED)
            .refuses(STORED)
            .refuses(OF_ACTIVATION)
            .refuses(CANCELLED),
        one(logs, "getLogs", "The log lines of an activation.")
            .answers(200, "The lines; of a sequence, the ids of its steps.", schema("Logs")),
        one(result, "getResult", "What an activation answered.")
            .answers(200, "The result.", schema("Outcome")),
    ]
}

fn dead_letters() -> Vec<Operation> {
    let all = "/api/v1/namespaces/{namespace}/deadletters";
    let one = "/api/v1/namespaces/{namespace}/deadletters/{id}";
    let at = |method, path, id, summary| {
        Operation::new((method, path), DEAD_LETTERS, id, summary)
            .takes(&[&NAMESPACE])
            .refuses(ROUTED)
            .refuses(NEGOTIATED)
            .refuses(AUTHENTICATED)
            .refuses(IN_NAMESPACE)
            .refuses(OWN_ONLY)
            .refuses(STORED)
    };
    let of = |method, id, summary| {
        at(method, one, id, summary)
            .takes(&[&DEAD_LETTER])
            .refuses(OF_ACTIVATION)
    };
    vec![
        at(
            "GET",
            all,
            "listDeadLetters",
            "Lists work that was promised and given up, newest first.",
        )
        .takes(&[&LIMIT, &SKIP, &COUNT])
        .answers(200, "The letters.", array_of("DeadLetter"))
        .answers(
            200,
            "With `count`, how many there are.",
            schema("DeadLetterCount"),
        )
        .refuses(LISTED)
        .refuses(FLAGGED),
        at(
            "DELETE",
            all,
            "purgeDeadLetters",
            "Throws all dead letters away.",
        )
        .answers(200, "How many there were.", schema("Purged")),
        of("GET", "getDeadLetter", "One dead letter.").answers(
            200,
            "The letter.",
            schema("DeadLetter"),
        ),
        of(
            "POST",
            "replayDeadLetter",
            "Runs the work once more, and removes the letter; what fails is a letter again, under another id.",
        )
        .answers(202, "It runs, or will.", schema("Accepted"))
        .header(202, "X-OpenWhisk-Activation-Id")
        .refuses(THROTTLED)
        .refuses(RUN)
        .refuses(OF_A_KIND)
        .refuses(BOUND),
        of("DELETE", "deleteDeadLetter", "Throws a dead letter away.").answers(
            200,
            "The letter.",
            schema("DeadLetter"),
        ),
    ]
}

/// Methods of web paths, and the ids of their operations.
const WEB_METHODS: [(&str, &str); 7] = [
    ("GET", "webGet"),
    ("PUT", "webPut"),
    ("POST", "webPost"),
    ("DELETE", "webDelete"),
    ("PATCH", "webPatch"),
    ("HEAD", "webHead"),
    ("OPTIONS", "webOptions"),
];

fn web() -> Vec<Operation> {
    let one = |(method, id): &(&'static str, &'static str)| {
        let summary = "Runs an action that is shown to the world, as its owner.";
        Operation::new((method, A_WEB_ACTION), WEB_ACTIONS, id, summary)
            .access(Access::Maybe)
            .details(
                "The action gets the request as its parameters and makes the answer: status, headers and body are its own. \
                 More segments may follow in the path. Query and body may be anything, up to the owner's limits.",
            )
            .takes(&[&TENANT, &WEB_PACKAGE, &WEB_ACTION, &WEB_SECRET])
            .answers_anything("What the action answers.")
            .refuses(WEB)
            .refuses(&WITH_BODY[..3])
            .refuses(THROTTLED)
            .refuses(STORED)
    };
    WEB_METHODS.iter().map(one).collect()
}
