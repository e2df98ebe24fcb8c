//! Errors: when each is answered, with the status and the words of the code that answers it. They come in sets, so that an
//! operation names what it does (reads a body, lists, writes) and not what may go wrong then.
//!
//! Where the code has its words in a handler they are repeated here; a test looks for them in the handlers.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::api::error::{Error, UNAVAILABLE};
use crate::auth::Denied;
use crate::model::name::{BadName, NAME_MAX};
use crate::store;

/// An error that an operation may answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    /// Of its example, among the components.
    pub(super) id: &'static str,
    /// A sentence.
    pub(super) when: &'static str,
    error: fn() -> Error,
}

impl Fault {
    /// The error that `error` makes.
    pub(super) const fn new(id: &'static str, when: &'static str, error: fn() -> Error) -> Self {
        Self { id, when, error }
    }

    /// What it is answered with.
    pub(super) fn status(&self) -> u16 {
        (self.error)().status().as_u16()
    }

    /// Its words.
    pub(super) fn text(&self) -> String {
        (self.error)().text().to_owned()
    }

    /// The example of it.
    pub(super) fn example(&self) -> Value {
        let code = "zQxKpVwB3cRrY8mTnD5sLfGhJ2aUeX7o";
        json!({ "summary": self.when, "value": { "error": self.text(), "code": code } })
    }
}

/// Of every path that the router knows.
pub(super) const ROUTED: &[Fault] = &[
    Fault::new("no_route", "Nobody serves the path.", Error::no_route),
    Fault::new(
        "wrong_method",
        "The path has other methods: `Allow` lists them.",
        Error::wrong_method,
    ),
    URI_TOO_LONG,
];

/// Of everything.
pub(super) const URI_TOO_LONG: Fault =
    Fault::new("uri_too_long", "Path and query are too long.", || {
        Error::new(
            StatusCode::URI_TOO_LONG,
            "URI longer than allowed: 9000 > 8192 bytes.",
        )
    });

/// Of everything under `/api/v1` but web actions.
pub(super) const NEGOTIATED: &[Fault] = &[Fault::new(
    "not_acceptable",
    "The request does not accept JSON.",
    || {
        let text = "Resource representation is only available with these types:\napplication/json";
        Error::new(StatusCode::NOT_ACCEPTABLE, text)
    },
)];

/// Of everything that needs the store.
pub(super) const STORED: &[Fault] = &[
    Fault::new("internal", "The server failed; its log says why.", || {
        Error::internal("")
    }),
    Fault::new("corrupt", "A record cannot be read.", || {
        store::Error::Corrupt(String::new()).into()
    }),
    Fault::new(
        "unavailable",
        "The server cannot do it now: it is overloaded, full or about to end.",
        || Error::unavailable(1, ""),
    ),
];

/// Of everything that needs a key.
pub(super) const AUTHENTICATED: &[Fault] = &[
    Fault::new("no_credentials", "No key was sent.", || {
        Denied::Missing.into()
    }),
    Fault::new(
        "bad_credentials",
        "The key is unknown, or its namespace is blocked.",
        || Denied::Invalid.into(),
    ),
];

/// Of everything for the system alone.
pub(super) const SYSTEM_ONLY: &[Fault] = &[Fault::new(
    "not_system",
    "The key is not the system's.",
    Error::not_system,
)];

/// Of paths with a namespace.
pub(super) const IN_NAMESPACE: &[Fault] = &[
    Fault::new("bad_namespace", "The namespace's name is illegal.", || {
        BadName::Namespace.into()
    }),
    Fault::new(
        "long_namespace",
        "The namespace's name is too long.",
        || BadName::NamespaceLong(NAME_MAX + 1).into(),
    ),
];

/// Of what belongs to the namespace of the key alone.
pub(super) const OWN_ONLY: &[Fault] = &[Fault::new(
    "forbidden",
    "It is somebody else's, and not shared. Whether it exists is not told.",
    || Error::forbidden("other/name"),
)];

/// Of paths with an entity.
pub(super) const NAMED: &[Fault] = &[
    Fault::new("bad_name", "The name is illegal.", || {
        BadName::Entity.into()
    }),
    Fault::new("long_name", "The name is too long.", || {
        BadName::EntityLong(NAME_MAX + 1).into()
    }),
    Fault::new("not_found", "There is no such thing.", Error::not_found),
];

/// Of entities: their names are shared by all kinds.
pub(super) const OF_A_KIND: &[Fault] = &[Fault::new(
    "conformance",
    "The name is that of another kind of entity.",
    Error::conformance,
)];

/// Of what may be reached through a binding.
pub(super) const BOUND: &[Fault] = &[
    Fault::new("missing", "The package is missing.", || {
        Error::missing("guest/p")
    }),
    Fault::new("circular", "Package bindings lead in a circle.", || {
        let text = "Package binding 'guest/b' contains a circular reference.";
        Error::new(StatusCode::UNPROCESSABLE_ENTITY, text)
    }),
];

/// Of boolean options in the query.
pub(super) const FLAGGED: &[Fault] = &[Fault::new(
    "bad_flag",
    "An option is neither true nor false.",
    || Error::query("count", "'perhaps' is not a valid Boolean value"),
)];

/// Of lists.
pub(super) const LISTED: &[Fault] = &[
    Fault::new("bad_limit", "`limit` is out of range.", || {
        Error::query(
            "limit",
            "The value '201' is not in the range of 0 to 200 for actions.",
        )
    }),
    Fault::new("bad_skip", "`skip` is negative.", || {
        Error::query(
            "skip",
            "The value '-1' is not greater than or equal to 0 for actions.",
        )
    }),
    Fault::new("no_integer", "`limit` or `skip` is no integer.", || {
        Error::query("limit", "The value 'x' is not an integer for actions.")
    }),
];

/// Of bodies.
pub(super) const WITH_BODY: &[Fault] = &[
    Fault::new("malformed", "The body is not what it should be.", || {
        Error::malformed("expected a JSON object")
    }),
    Fault::new("late_body", "The body did not arrive in time.", || {
        Error::new(
            StatusCode::REQUEST_TIMEOUT,
            "The request body did not arrive in time.",
        )
    }),
    Fault::new("large_body", "The body is too large.", || {
        Error::too_large("Request", 1_048_577, 1_048_576)
    }),
    Fault::new("media_type", "The body says it is no JSON.", || {
        let text =
            "The request's Content-Type [text/plain] is not supported. Expected:\napplication/json";
        Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    }),
];

/// Of bodies that must be there.
pub(super) const NEEDS_BODY: &[Fault] =
    &[Fault::new("no_body", "There is no body.", Error::no_body)];

/// Of writes.
pub(super) const WRITTEN: &[Fault] = &[
    Fault::new(
        "exists",
        "It exists, and `overwrite` is not true.",
        Error::exists,
    ),
    CONCURRENT,
    Fault::new("large_parameters", "The parameters are too large.", || {
        Error::too_large("parameters", 1_048_577, 1_048_576)
    }),
    Fault::new(
        "large_annotations",
        "The annotations are too large.",
        || Error::too_large("annotations", 1_048_577, 1_048_576),
    ),
];

/// Of what several may write.
pub(super) const CONCURRENT: Fault = Fault::new(
    "concurrent",
    "Somebody else wrote at the same time.",
    || store::Error::Conflict.into(),
);

/// Of deletions.
pub(super) const DELETED: &[Fault] = &[CONCURRENT];

/// Of what counts against a namespace's rates.
pub(super) const THROTTLED: &[Fault] = &[
    Fault::new("too_often", "Too many in this minute.", || {
        let text = "Too many requests in the last minute (count: 61, allowed: 60).";
        Error::new(StatusCode::TOO_MANY_REQUESTS, text)
    }),
    Fault::new("too_many", "Too many at one time.", || {
        let text = "Too many concurrent requests in flight (count: 31, allowed: 30).";
        Error::new(StatusCode::TOO_MANY_REQUESTS, text)
    }),
];

/// Of what runs actions.
pub(super) const RUN: &[Fault] = &[
    Fault::new(
        "reserved_parameters",
        "The payload names a parameter that is final or reserved.",
        || {
            Error::bad_request(
                "Request defines parameters that are not allowed (e.g., reserved properties).",
            )
        },
    ),
    KIND_FORBIDDEN,
    Fault::new("overloaded", "There is no room to run it now.", || {
        Error::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE)
    }),
];

/// Of kinds.
pub(super) const KIND_FORBIDDEN: Fault = Fault::new(
    "kind_forbidden",
    "The namespace may not use this kind.",
    || {
        let text =
            "The supplied authentication is not authorized to access actions of kind 'wasm:1'.";
        Error::new(StatusCode::FORBIDDEN, text)
    },
);

/// Of invocations.
pub(super) const INVOKED: &[Fault] = &[
    Fault::new("bad_timeout", "`timeout` is out of range.", || {
        Error::query(
            "timeout",
            "Timeout must be number of milliseconds up to 60000.",
        )
    }),
    Fault::new(
        "cancelled",
        "Somebody cancelled the activation before it had begun.",
        || crate::invoke::Error::Cancelled.into(),
    ),
];
