//! Every key of the store in Redis. What stands in braces is the hash tag: keys that one script touches share it.
//!
//! | key, after the prefix | type | what |
//! |---|---|---|
//! | `e:{namespace}:path` | hash | an entity: revision `r`, collection `c`, updated `u`, code `d`, its hold `h`, body `b` |
//! | `l:{namespace}:collection[:package]` | sorted set | paths of entities, by `-updated` |
//! | `n:{namespace}` | hash | `rev`, the last revision given; `gone` while deleted (1: being emptied, 2: empty) |
//! | `h:{namespace}` | sorted set | holds on code that are to be confirmed (`+`, by when) or let go (`-`) |
//! | `t:{namespace}` | string | the tenant |
//! | `u:{uuid}` | string | the namespace that has this uuid; the tenant has the last word |
//! | `i:shelf:{namespace}:name` | hash | an item: revision `r`, body `b`, code `d`, its hold `h`, expiry `x` |
//! | `j:shelf:{namespace}` | sorted set | names of items, all with score 0 |
//! | `x:shelf:{namespace}` | sorted set | names of items that expire, by when |
//! | `y:shelf:{namespace}` | string | bytes of names and bodies of items |
//! | `c:{digest}` | hash | code, in pieces |
//! | `w:{digest}` | set | who holds that code |
//! | `z:{namespace}` | sorted set | chunks of activation records, by their newest start (`chunks.rs` has the form of a member) |
//! | `p:{namespace}` | hash | entries of a chunk by its name |
//! | `v:{namespace}` | hash | body of a chunk by its name |
//! | `r:{namespace}` | hash | name of the chunk that has a record, by the record's id (16 bytes) |
//! | `b:{namespace}` | string | bytes of its records |
//! | `a:{home}` | hash | accepted work by id |
//! | `g:{home}` | hash | how often runs of it began |
//! | `o:{home}` | string | the node that answers for it |
//! | `watched` | sorted set | which node watches records or lines of which namespace, by how long |
//! | `live:{namespace}` | channel | records and lines as they come |
//! | `check` | string | a text that the cluster's encryption key has encrypted |
//! | `sweeper` | string | the node that tidies up |
//! | `all:what` | set | namespaces (or homes) that have such things, or had |

use uuid::Uuid;

use crate::model::{Digest, Namespace};
use crate::store::{Collection, EntityKey, Shelf};

/// Makes the names of keys.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

/// What a set of namespaces is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum All {
    Tenants,
    Shelf(Shelf),
    Records,
    /// Those with holds to be confirmed or let go.
    Holds,
    /// Deleted, and not emptied yet.
    Gone,
    Homes,
}

impl Keys {
    /// Below `prefix`.
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: format!("{prefix}:s"),
        }
    }

    fn tagged(&self, kind: &str, tag: &str) -> String {
        format!("{}:{kind}:{{{tag}}}", self.prefix)
    }

    /// What all keys of a kind begin with.
    pub(super) fn kind(&self, kind: &str) -> String {
        format!("{}:{kind}:", self.prefix)
    }

    pub(super) fn entity(&self, key: &EntityKey) -> String {
        format!("{}{}", self.entities(&key.namespace), path(key))
    }

    pub(super) fn entities(&self, namespace: &Namespace) -> String {
        format!("{}:", self.tagged("e", namespace.as_str()))
    }

    /// What the names of its lists begin with.
    pub(super) fn lists(&self, namespace: &Namespace) -> String {
        format!("{}:", self.tagged("l", namespace.as_str()))
    }

    pub(super) fn namespace(&self, namespace: &Namespace) -> String {
        self.tagged("n", namespace.as_str())
    }

    pub(super) fn holds(&self, namespace: &Namespace) -> String {
        self.tagged("h", namespace.as_str())
    }

    pub(super) fn tenant(&self, namespace: &Namespace) -> String {
        self.tagged("t", namespace.as_str())
    }

    pub(super) fn uuid(&self, uuid: Uuid) -> String {
        self.tagged("u", &uuid.to_string())
    }

    pub(super) fn item(&self, namespace: &Namespace, shelf: Shelf, name: &str) -> String {
        format!("{}{name}", self.items(namespace, shelf))
    }

    /// What the keys of its items begin with.
    pub(super) fn items(&self, namespace: &Namespace, shelf: Shelf) -> String {
        format!("{}:", self.shelf("i", namespace, shelf))
    }

    pub(super) fn names(&self, namespace: &Namespace, shelf: Shelf) -> String {
        self.shelf("j", namespace, shelf)
    }

    pub(super) fn expiries(&self, namespace: &Namespace, shelf: Shelf) -> String {
        self.shelf("x", namespace, shelf)
    }

    pub(super) fn size(&self, namespace: &Namespace, shelf: Shelf) -> String {
        self.shelf("y", namespace, shelf)
    }

    fn shelf(&self, kind: &str, namespace: &Namespace, shelf: Shelf) -> String {
        format!(
            "{}:{kind}:{}:{{{namespace}}}",
            self.prefix,
            shelf_name(shelf)
        )
    }

    pub(super) fn code(&self, digest: &Digest) -> String {
        self.tagged("c", &digest.to_string())
    }

    pub(super) fn holders(&self, digest: &Digest) -> String {
        self.tagged("w", &digest.to_string())
    }

    pub(super) fn records(&self, namespace: &Namespace) -> String {
        self.tagged("r", namespace.as_str())
    }

    /// Where the records of a namespace are, as scripts want it.
    pub(super) fn places(&self, namespace: &Namespace) -> [String; 6] {
        let of = |kind| self.tagged(kind, namespace.as_str());
        [of("r"), of("z"), of("b"), of("n"), of("p"), of("v")]
    }

    /// The chunks of a namespace's records, by time.
    pub(super) fn chunks(&self, namespace: &Namespace) -> String {
        self.tagged("z", namespace.as_str())
    }

    pub(super) fn entries(&self, namespace: &Namespace) -> String {
        self.tagged("p", namespace.as_str())
    }

    pub(super) fn bodies(&self, namespace: &Namespace) -> String {
        self.tagged("v", namespace.as_str())
    }

    pub(super) fn accepted(&self, home: &str) -> String {
        self.tagged("a", home)
    }

    pub(super) fn begun(&self, home: &str) -> String {
        self.tagged("g", home)
    }

    pub(super) fn owner(&self, home: &str) -> String {
        self.tagged("o", home)
    }

    pub(super) fn all(&self, what: All) -> String {
        let what = match what {
            All::Tenants => "tenants",
            All::Shelf(shelf) => shelf_name(shelf),
            All::Records => "records",
            All::Holds => "holds",
            All::Gone => "gone",
            All::Homes => "homes",
        };
        format!("{}:all:{what}", self.prefix)
    }

    /// Who watches what.
    pub(super) fn watched(&self) -> String {
        format!("{}:watched", self.prefix)
    }

    /// Where records of a namespace are told.
    pub(super) fn channel(&self, namespace: &Namespace) -> String {
        self.tagged("live", namespace.as_str())
    }

    /// The namespace whose channel this is.
    pub(super) fn channel_of(&self, channel: &str) -> Option<Namespace> {
        let rest = channel.strip_prefix(&self.kind("live"))?;
        let name = rest.strip_prefix('{')?.strip_suffix('}')?;
        Namespace::parse(name).ok()
    }

    /// What only the cluster's encryption key opens.
    pub(super) fn check(&self) -> String {
        format!("{}:check", self.prefix)
    }

    /// Who tidies up now.
    pub(super) fn sweeper(&self) -> String {
        format!("{}:sweeper", self.prefix)
    }
}

/// `name` or `package/name`.
pub(super) fn path(key: &EntityKey) -> String {
    match &key.package {
        Some(package) => format!("{package}/{}", key.name),
        None => key.name.to_string(),
    }
}

pub(super) const SHELVES: [Shelf; 7] = [
    Shelf::Apis,
    Shelf::Schedules,
    Shelf::DeadLetters,
    Shelf::Revisions,
    Shelf::Idempotency,
    Shelf::Cancelled,
    Shelf::KeyValue,
];

pub(super) fn shelf_name(shelf: Shelf) -> &'static str {
    match shelf {
        Shelf::Apis => "apis",
        Shelf::Schedules => "schedules",
        Shelf::DeadLetters => "letters",
        Shelf::Revisions => "revisions",
        Shelf::Idempotency => "idempotency",
        Shelf::Cancelled => "cancelled",
        Shelf::KeyValue => "keyvalue",
    }
}

pub(super) const COLLECTIONS: [Collection; 4] = [
    Collection::Actions,
    Collection::Packages,
    Collection::Rules,
    Collection::Triggers,
];

pub(super) fn collection_name(collection: Collection) -> &'static str {
    match collection {
        Collection::Actions => "actions",
        Collection::Packages => "packages",
        Collection::Rules => "rules",
        Collection::Triggers => "triggers",
    }
}

pub(super) fn collection_of(name: &[u8]) -> Option<Collection> {
    COLLECTIONS
        .into_iter()
        .find(|collection| collection_name(*collection).as_bytes() == name)
}
