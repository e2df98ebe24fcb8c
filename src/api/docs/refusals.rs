//! Errors of single nouns; see `faults`.

use axum::http::StatusCode;

use super::faults::{Fault, KIND_FORBIDDEN, URI_TOO_LONG};
use crate::api::cluster::alone;
use crate::api::error::Error;
use crate::invoke::idempotency::KeyError;
use crate::model::activation::BadActivationId;
use crate::model::kind;

fn conflict(text: &'static str) -> Error {
    Error::new(StatusCode::CONFLICT, text)
}

/// Of the text of an action.
pub(super) const ACTION_WRITTEN: &[Fault] = &[
    Fault::new(
        "no_exec",
        "A new action says nothing of what it runs.",
        || Error::bad_request("exec undefined"),
    ),
    Fault::new("no_kind", "`exec` has no kind.", || {
        Error::malformed("'kind' must be a string defined in 'exec'")
    }),
    Fault::new("unknown_kind", "Nobody has this kind.", || {
        Error::malformed(kind::unsupported("cobol:1"))
    }),
    Fault::new(
        "limit_exceeded",
        "A limit is beyond what the namespace may have.",
        || {
            Error::bad_request(
                "requirement failed: memory size 9999 MB exceeds allowed threshold of 512 MB",
            )
        },
    ),
    Fault::new("no_component", "A sequence is empty.", || {
        Error::bad_request("No component specified for the sequence.")
    }),
    Fault::new(
        "missing_component",
        "What a sequence is made of is missing.",
        || Error::bad_request("Sequence component does not exist."),
    ),
    Fault::new("circular_sequence", "A sequence contains itself.", || {
        Error::bad_request("Sequence may not refer to itself.")
    }),
    Fault::new("long_sequence", "A sequence has too many actions.", || {
        Error::bad_request("Too many actions in the sequence.")
    }),
    Fault::new(
        "body_with_revision",
        "There are a body and `revision`.",
        || {
            Error::bad_request(
                "A PUT with 'revision' takes no body: it writes that revision again.",
            )
        },
    ),
    ON_BINDING,
    KIND_FORBIDDEN,
    Fault::new("large_exec", "The code is too large.", || {
        Error::too_large("exec", 50_331_649, 50_331_648)
    }),
];

/// Of writes to the actions of a package.
pub(super) const IN_PACKAGE: &[Fault] = &[ON_BINDING];

const ON_BINDING: Fault = Fault::new("on_binding", "The package is a binding.", || {
    Error::bad_request("Operation not permitted on package binding.")
});

/// Of packages and bindings.
pub(super) const PACKAGE_WRITTEN: &[Fault] = &[
    Fault::new("reserved_package", "The name is reserved.", || {
        Error::bad_request("Package name 'default' is reserved.")
    }),
    Fault::new("missing_target", "What is to be bound is missing.", || {
        Error::bad_request("Binding references a package that does not exist.")
    }),
    Fault::new(
        "bound_target",
        "What is to be bound is a binding itself.",
        || Error::bad_request("Cannot bind to another package binding."),
    ),
    Fault::new("wrong_target", "What is to be bound is no package.", || {
        conflict("Cannot bind to a resource that is not a package.")
    }),
    Fault::new(
        "package_to_binding",
        "A package cannot become a binding.",
        || conflict("Resource is a package and cannot be converted into a binding."),
    ),
];

/// Of deleting packages.
pub(super) const PACKAGE_DELETED: &[Fault] = &[Fault::new(
    "not_empty",
    "The package is not empty, and `force` is not true.",
    || {
        conflict(
            "Package not empty (contains 1 entity). Set force param or delete package contents.",
        )
    },
)];

/// Of triggers.
pub(super) const TRIGGER_WRITTEN: &[Fault] = &[Fault::new(
    "bad_feed",
    "The annotation `feed` of a new trigger is no name.",
    || Error::bad_request("Feed name is not valid"),
)];

/// Of rules.
pub(super) const RULE_WRITTEN: &[Fault] = &[
    Fault::new(
        "no_link",
        "A new rule names no trigger or no action.",
        || Error::bad_request("rule requires a valid trigger and a valid action"),
    ),
    Fault::new("missing_trigger", "The trigger is missing.", || {
        Error::bad_request("trigger /guest/t does not exist")
    }),
    Fault::new("missing_action", "The action is missing.", || {
        Error::bad_request("action /guest/a does not exist")
    }),
];

/// Of enabling and disabling rules.
pub(super) const RULE_SET: &[Fault] = &[
    Fault::new(
        "bad_status",
        "It is neither `active` nor `inactive`.",
        || Error::malformed("'on' is not a recognized rule state"),
    ),
    Fault::new("no_trigger", "The trigger of the rule is gone.", || {
        let text = "Only rules with existing triggers can be activated";
        Error::new(StatusCode::NOT_FOUND, text)
    }),
];

/// Of lists of activations.
pub(super) const ACTIVATIONS_LISTED: &[Fault] = &[
    Fault::new(
        "docs_with_count",
        "`docs` and `count` exclude each other.",
        || Error::bad_request("The parameter 'docs' is not permitted with 'count'."),
    ),
    Fault::new("bad_instant", "`since` or `upto` is no time.", || {
        Error::query(
            "since",
            "Parameter is not a valid value for epoch seconds: x",
        )
    }),
    Fault::new("bad_name_filter", "`name` has too many parts.", || {
        let text = "Parameter may be a 'simple' name or 'package-name/simple' name: a/b/c";
        Error::query("name", text)
    }),
];

/// Of paths with an activation.
pub(super) const OF_ACTIVATION: &[Fault] = &[
    Fault::new("short_id", "The id does not have 32 characters.", || {
        BadActivationId::Length(3).into()
    }),
    Fault::new("bad_id", "The id is not hexadecimal.", || {
        BadActivationId::Characters.into()
    }),
    Fault::new("not_found", "There is no such thing.", Error::not_found),
];

/// Of waiting for an activation.
pub(super) const WAITED: &[Fault] = &[Fault::new("bad_wait", "`wait` is out of range.", || {
    Error::query("wait", "wait must be a number of seconds up to 60.")
})];

/// Of cancelling.
pub(super) const CANCELLED: &[Fault] = &[Fault::new("ended", "The activation has ended.", || {
    conflict("The activation has ended already.")
})];

/// Of what is below the limits of a namespace.
pub(super) const BELOW_LIMITS: &[Fault] = &[Fault::new(
    "inner_limits",
    "Always: there is nothing below.",
    || Error::bad_request("Inner entity level routes for limits are not yet implemented."),
)];

/// Of new namespaces.
pub(super) const NAMESPACE_MADE: &[Fault] = &[Fault::new(
    "namespace_exists",
    "The namespace exists.",
    || conflict("The namespace 'x' exists already. POST …/x/key gives it a new key."),
)];

/// Of what needs a key to encrypt with.
pub(super) const NO_KEY: &[Fault] = &[Fault::new("no_key", "No key is configured.", || {
    conflict("There is no key to encrypt with: the server's [encryption] section has none.")
})];

/// Of what must not be done to the system's own namespace.
pub(super) const NOT_TO_SYSTEM: &[Fault] = &[Fault::new(
    "system_namespace",
    "It is the system's own namespace.",
    || conflict("The system namespace cannot be blocked or deleted: nobody could undo it."),
)];

/// Of web actions.
pub(super) const WEB: &[Fault] = &[
    URI_TOO_LONG,
    Fault::new("not_found", "There is no such thing.", Error::not_found),
    Fault::new("no_route", "Nobody serves the path.", Error::no_route),
    WEB_UNAUTHORIZED,
    Fault::new("web_failed", "The action failed.", || {
        Error::bad_request("There was an error processing your request.")
    }),
    Fault::new(
        "web_no_extension",
        "The server wants paths to say `.http`, `.json` or what else is meant.",
        || {
            let text = "Extension must be specified and one of [.http, .json, .html, .svg, .text].";
            Error::new(StatusCode::NOT_ACCEPTABLE, text)
        },
    ),
    Fault::new("web_late", "The action still runs.", || {
        Error::new(StatusCode::ACCEPTED, "Response not yet ready.")
    }),
];

const WEB_UNAUTHORIZED: Fault = Fault::new(
    "web_unauthorized",
    "The action requires a key, or a secret in `X-Require-Whisk-Auth`.",
    || {
        let text = "Authentication is possible but has failed or not yet been provided.";
        Error::new(StatusCode::UNAUTHORIZED, text)
    },
);

/// Of what manages APIs.
pub(super) const MANAGED: &[Fault] = &[URI_TOO_LONG, WEB_UNAUTHORIZED];

/// Of APIs.
pub(super) const GATEWAY: &[Fault] = &[
    Fault::new("no_route", "Nobody serves the path.", Error::no_route),
    Fault::new(
        "wrong_method",
        "The path has other methods: `Allow` lists them.",
        Error::wrong_method,
    ),
];

/// Of namespaces, as the operator sees them.
pub(super) const OF_TENANT: &[Fault] = &[Fault::new(
    "not_found",
    "There is no such thing.",
    Error::not_found,
)];

/// Of servers that are no nodes.
pub(super) const ALONE: &[Fault] = &[Fault::new(
    "alone",
    "The server is no node of a cluster.",
    alone,
)];

/// Of calls that are done once.
pub(super) const ONCE: &[Fault] = &[
    Fault::new("bad_key", "The `Idempotency-Key` is illegal.", || {
        Error::bad_request(
            "The header 'Idempotency-Key' must be given once, with 1 to 255 visible ASCII characters.",
        )
    }),
    Fault::new(
        "other_payload",
        "The key was used for something else.",
        || KeyError::OtherPayload.into(),
    ),
    Fault::new("busy_key", "The same call is just being accepted.", || {
        KeyError::Busy.into()
    }),
    Fault::new("many_keys", "Too many keys are remembered.", || {
        KeyError::TooMany(100_000).into()
    }),
];

/// Of numbers of revisions.
pub(super) const REVISED: &[Fault] = &[Fault::new(
    "bad_revision",
    "`revision` is not the number of one.",
    || Error::query("revision", "The value '0' is not the number of a revision."),
)];
