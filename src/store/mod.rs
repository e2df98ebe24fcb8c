//! What must survive: entities, items, tenants, activation records, and the log of accepted work.
//!
//! Five seams, and two backends behind them: a database in the data folder of one machine (`embedded`), and Redis, which
//! the nodes of a cluster share (`shared`). `suite` is the conformance suite that both must pass.
//!
//! Invariants:
//! - an entity changes only if it is what the writer saw ([`Expect`]): no update is lost;
//! - a record is written once; a second one with its id is ignored (first writer wins);
//! - a record can be read from the moment [`Activations::put`] returned, on disk or not (read your own writes);
//! - [`Accepted::accept`] resolves only when the work would survive a power cut;
//! - a full or read-only disk is [`Error::Full`] or [`Error::Unavailable`], never a panic and never a torn record;
//!   writing resumes by itself when there is room.

pub(crate) mod catalog;
mod chunk;
pub(crate) mod embedded;
pub(crate) mod entity;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod items_suite;
pub(crate) mod keyvalue;
#[cfg(test)]
mod records_suite;
pub(crate) mod reseal;
pub(crate) mod seal;
pub(crate) mod sealed;
pub(crate) mod shared;
#[cfg(test)]
pub(crate) mod suite;
#[cfg(test)]
mod together_suite;
pub(crate) mod watched;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::{
    Activation, ActivationId, Digest, EntityName, Namespace, NamespaceLimits, Tenant, Timestamp,
};

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    /// Somebody else wrote first; read again and decide anew.
    #[error("the entity was changed in the meantime")]
    Conflict,
    /// No room on the disk. Nothing was written; try again when there is.
    #[error("the data folder's disk is full")]
    Full,
    /// What is stored cannot be read as what it should be.
    #[error("stored data is corrupt: {0}")]
    Corrupt(String),
    /// The store cannot be used now: I/O error, read-only, closed.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// The kinds of entities; all of a namespace share one key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Collection {
    Actions,
    Packages,
    Rules,
    Triggers,
}

/// Where an entity is: `name` or `package/name` within a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EntityKey {
    pub(crate) namespace: Namespace,
    pub(crate) package: Option<EntityName>,
    pub(crate) name: EntityName,
}

/// Counts the writes of one entity; never reused for a key, not even after a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Revision(pub(crate) u64);

/// An entity as the store keeps it: its JSON, not looked into.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) key: EntityKey,
    pub(crate) collection: Collection,
    /// What lists are sorted by, newest first.
    pub(crate) updated: Timestamp,
    /// Digest of the code it needs, which the store keeps as long as any entity or item needs it.
    pub(crate) code: Option<Digest>,
    /// JSON of the model's type.
    pub(crate) body: Arc<str>,
}

/// What a writer believes is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Nothing under this key.
    Absent,
    /// Exactly this revision.
    Revision(Revision),
}

/// One of several writes that are made together. None has code.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Put(Document, Expect),
    Delete(EntityKey, Revision),
    /// Nothing is written; it must be what it was.
    Keep(EntityKey, Revision),
}

impl Change {
    /// What it is about.
    pub(crate) fn key(&self) -> &EntityKey {
        match self {
            Self::Put(document, _) => &document.key,
            Self::Delete(key, _) | Self::Keep(key, _) => key,
        }
    }
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) skip: usize,
    /// At least 1.
    pub(crate) limit: usize,
}

/// Which entities of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntityFilter {
    pub(crate) collection: Collection,
    /// Only those in this package.
    pub(crate) package: Option<EntityName>,
}

/// Entities and their code.
#[async_trait]
pub(crate) trait Entities: Send + Sync + 'static {
    async fn get(&self, key: &EntityKey) -> Result<Option<(Document, Revision)>>;

    /// Writes the entity and, when given, its code (whose digest is `document.code`); durable when it returns.
    ///
    /// # Errors
    /// [`Error::Conflict`] when what is stored is not what was expected; nothing changes then.
    async fn put(
        &self,
        document: Document,
        code: Option<Arc<str>>,
        expect: Expect,
    ) -> Result<Revision>;

    /// Removes the entity, and its code when nobody else needs it; durable when it returns.
    async fn delete(&self, key: &EntityKey, expect: Revision) -> Result<()>;

    /// Puts `body` in the place of what is stored, which says the same under another key; nothing else changes, the revision
    /// neither. Whether it was at `expect`.
    async fn reseal(&self, key: &EntityKey, expect: Revision, body: Arc<str>) -> Result<bool>;

    /// Makes all of `changes`, which lie in one namespace and are about different entities, or none of them; durable when it
    /// returns. The revision of each that was put.
    ///
    /// # Errors
    /// [`Error::Conflict`] when anything stored is not what was expected; nothing changes then.
    async fn write(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>>;

    /// Newest `updated` first, ties by key.
    async fn list(
        &self,
        namespace: &Namespace,
        filter: &EntityFilter,
        page: Page,
    ) -> Result<Vec<Document>>;

    async fn count(&self, namespace: &Namespace, filter: &EntityFilter) -> Result<usize>;

    /// The code string exactly as it was uploaded.
    async fn code(&self, digest: &Digest) -> Result<Option<Arc<str>>>;
}

/// The kinds of small documents that the platform itself keeps for a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shelf {
    /// API documents, by base path.
    Apis,
    /// When triggers are fired by the clock, by trigger.
    Schedules,
    /// Work that was given up, by activation id.
    DeadLetters,
    /// Former versions of actions, by action and revision.
    Revisions,
    /// What was answered to a call with an `Idempotency-Key`, by key.
    Idempotency,
    /// Activations that were told to stop, by id.
    Cancelled,
    /// What guests keep, by bucket and key.
    KeyValue,
}

/// A small document of the platform's own. Unlike an entity it has no name that a tenant could claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Any text, unique within namespace and shelf.
    pub(crate) name: String,
    /// JSON, not looked into.
    pub(crate) body: Arc<str>,
    /// Digest of code that must be kept as long as the item is.
    pub(crate) code: Option<Digest>,
    /// When it may be forgotten; `None` keeps it.
    pub(crate) expires: Option<Timestamp>,
}

/// Items. All writes are durable when they return; a namespace's items go with it.
#[async_trait]
pub(crate) trait Items: Send + Sync + 'static {
    /// The item, unless it has expired.
    async fn get(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        name: &str,
    ) -> Result<Option<(Item, Revision)>>;

    /// Writes the item; with `None` whatever is stored.
    ///
    /// # Errors
    /// [`Error::Conflict`] when what is stored (an expired item is not) is not what was expected, when the code it
    /// refers to is not stored, and when its namespace was deleted and not made again; nothing changes then.
    async fn put(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        item: Item,
        expect: Option<Expect>,
    ) -> Result<Revision>;

    /// Puts the body of `item` in the place of what is stored, which says the same under another key; nothing else changes,
    /// the revision neither. Whether it was at `expect`.
    async fn reseal(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        item: Item,
        expect: Revision,
    ) -> Result<bool>;

    /// Removes it; whether it existed.
    async fn delete(&self, namespace: &Namespace, shelf: Shelf, name: &str) -> Result<bool>;

    /// Those whose name starts with `prefix`, the largest name (by bytes) first.
    async fn list(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        prefix: &str,
        page: Page,
    ) -> Result<Vec<Item>>;

    /// How many [`Items::list`] would list.
    async fn count(&self, namespace: &Namespace, shelf: Shelf, prefix: &str) -> Result<usize>;

    /// How many items a shelf has, and bytes of their names and bodies, where that is known without reading them.
    async fn usage(&self, namespace: &Namespace, shelf: Shelf) -> Result<Option<(u64, u64)>> {
        let _nothing_known = (namespace, shelf);
        Ok(None)
    }

    /// Removes those whose name starts with `prefix`; how many there were.
    ///
    /// Where they are many, in several steps: a crash in between leaves some.
    async fn purge(&self, namespace: &Namespace, shelf: Shelf, prefix: &str) -> Result<usize>;

    /// The items of a shelf in all namespaces, in no particular order; read once at start.
    async fn everywhere(&self, shelf: Shelf) -> Result<Vec<(Namespace, Item)>>;

    /// Removes what had expired at `now`, whose room and code are held until then; how many there were.
    ///
    /// Nobody sees what has expired in any case, so this alone need not survive a power cut.
    async fn expire_items(&self, now: Timestamp) -> Result<usize>;
}

/// Namespaces, their keys and limits. All writes are durable when they return.
#[async_trait]
pub(crate) trait Tenants: Send + Sync + 'static {
    async fn get(&self, namespace: &Namespace) -> Result<Option<Tenant>>;
    async fn by_uuid(&self, uuid: uuid::Uuid) -> Result<Option<Tenant>>;
    /// By name.
    async fn list(&self) -> Result<Vec<Tenant>>;
    /// Makes or replaces it; `created` tells which: [`Error::Conflict`] when `must_be_new` and it exists.
    async fn put(&self, tenant: Tenant, must_be_new: bool) -> Result<()>;
    /// Replaces its limits alone.
    async fn put_limits(&self, namespace: &Namespace, limits: NamespaceLimits) -> Result<()>;
    /// Removes it with every entity, record and piece of accepted work it has; whether it existed.
    async fn delete(&self, namespace: &Namespace) -> Result<bool>;
}

/// Which records of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ActivationFilter {
    /// `start` at or after.
    pub(crate) since: Option<Timestamp>,
    /// `start` at or before.
    pub(crate) upto: Option<Timestamp>,
    /// Name of the action.
    pub(crate) name: Option<EntityName>,
    /// Package in the `path` annotation, or the binding's name in `binding`; with `name` only.
    pub(crate) package: Option<EntityName>,
}

impl ActivationFilter {
    /// Whether the record is of the action that is asked for; when it started is not looked at.
    pub(crate) fn names(&self, record: &Activation) -> bool {
        let Some(name) = &self.name else {
            return true;
        };
        let package = |wanted: &EntityName| package_of(record).as_deref() == Some(wanted.as_str());
        record.name == *name && self.package.as_ref().is_none_or(package)
    }
}

/// The package a record's action was found in: the binding's name when it was invoked through one.
fn package_of(record: &Activation) -> Option<String> {
    let text = |key| {
        let value = record.annotations.get(key)?.to_value();
        Some(value.as_str()?.to_owned())
    };
    if let Some(binding) = text("binding") {
        return binding.split('/').nth(1).map(str::to_owned);
    }
    match text("path")?.split('/').collect::<Vec<_>>().as_slice() {
        [_, package, _] => Some((*package).to_owned()),
        _ => None,
    }
}

/// Activation records.
#[async_trait]
pub(crate) trait Activations: Send + Sync + 'static {
    /// Takes the record; it can be read at once and is on disk soon after. Never waits for the disk.
    ///
    /// # Errors
    /// [`Error::Full`] when too many records wait for the disk: refuse new work until they have gone.
    fn put(&self, record: Arc<Activation>) -> Result<()>;

    /// Whether [`Activations::put`] would be refused now; asked before work is admitted.
    fn has_room(&self) -> bool;

    async fn get(&self, namespace: &Namespace, id: ActivationId)
    -> Result<Option<Arc<Activation>>>;

    /// Newest `start` first.
    async fn list(
        &self,
        namespace: &Namespace,
        filter: &ActivationFilter,
        page: Page,
    ) -> Result<Vec<Arc<Activation>>>;

    async fn count(&self, namespace: &Namespace, filter: &ActivationFilter) -> Result<usize>;

    /// Resolves when everything put before is on disk (as far as an ordinary write is: it survives `kill -9`).
    async fn flush(&self) -> Result<()>;

    /// Deletes what is past its retention by age or by bytes per namespace; returns how many records went.
    async fn expire(&self, now: Timestamp) -> Result<usize>;

    /// Encrypts some of the namespace's records anew that are not under the key in use.
    async fn reseal(&self, namespace: &Namespace) -> Result<reseal::Records> {
        let _none_is_encrypted = namespace;
        Ok(reseal::Records::default())
    }
}

/// A piece of accepted work found at start.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) id: ActivationId,
    /// As it was accepted.
    pub(crate) work: Bytes,
    /// How many times a run of it has begun.
    pub(crate) begun: u32,
}

/// The log of accepted work: what was promised with a 202 and is not yet recorded.
#[async_trait]
pub(crate) trait Accepted: Send + Sync + 'static {
    /// Resolves when `work` would survive a power cut; concurrent calls share one flush of the disk.
    async fn accept(&self, namespace: &Namespace, id: ActivationId, work: Bytes) -> Result<()>;

    /// Notes that a run of it begins; does not wait.
    fn begin(&self, id: ActivationId);

    /// As [`Accepted::begin`], and waits until the note survives a crash; for work that must not run twice.
    async fn begin_durably(&self, id: ActivationId) -> Result<()>;

    /// Forgets it, after every record put before this call is on disk; does not wait.
    fn settle(&self, id: ActivationId);

    /// Everything accepted and not settled, oldest first.
    async fn pending(&self) -> Result<Vec<Pending>>;
}

/// The five seams of one backend.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) entities: Arc<dyn Entities>,
    pub(crate) items: Arc<dyn Items>,
    pub(crate) tenants: Arc<dyn Tenants>,
    pub(crate) activations: Arc<dyn Activations>,
    pub(crate) accepted: Arc<dyn Accepted>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}
