//! Everything a namespace has under the key in use, in the place of what is under a former one or none.
//!
//! Done in steps, beside a server that serves: each step encrypts some of it anew, and whoever asks for the next one finds
//! what is left by itself. Nothing is changed that was written since it was read: that is under the key in use already.
//! What no key opens is counted and left as it is.

use std::sync::Arc;

use serde::Serialize;

use super::catalog::Catalog;
use super::entity::Entity;
use super::seal::Seal;
use super::sealed::{close_item, open_item};
use super::{Collection, Document, EntityFilter, Error, Item, Page, Result, Shelf, Store};
use crate::model::{Action, Fqn, Namespace, Tenant};

/// Entities and items encrypted anew in one step, at most: bounds how long a request takes.
const STEP_COUNT: usize = 256;

/// Read at one time.
const PAGE_COUNT: usize = 200;

const COLLECTIONS: [Collection; 4] = [
    Collection::Actions,
    Collection::Packages,
    Collection::Rules,
    Collection::Triggers,
];

const SHELVES: [Shelf; 7] = [
    Shelf::Apis,
    Shelf::Schedules,
    Shelf::DeadLetters,
    Shelf::Revisions,
    Shelf::Idempotency,
    Shelf::Cancelled,
    Shelf::KeyValue,
];

/// What a step has encrypted anew.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    /// Actions, packages, triggers and rules.
    pub(crate) entities: usize,
    /// Documents of the platform's own: schedules, dead letters, revisions, APIs, values of guests, …
    pub(crate) items: usize,
    /// Activation records.
    pub(crate) records: usize,
    /// The namespace's API key, if it is kept.
    pub(crate) keys: usize,
    /// What no configured key opens.
    pub(crate) unreadable: usize,
    /// Whether another step is needed.
    pub(crate) left: bool,
}

/// What a step has done about activation records.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) count: usize,
    /// Chunks of them that no configured key opens.
    pub(crate) unreadable: usize,
    pub(crate) left: bool,
}

impl Step {
    fn is_full(&self) -> bool {
        self.entities + self.items >= STEP_COUNT
    }
}

/// See the module.
pub(crate) struct Resealer {
    /// Below what encrypts and decrypts.
    raw: Store,
    seal: Arc<Seal>,
    /// Forgets what it shows of what was encrypted anew.
    catalog: Arc<Catalog>,
}

impl Resealer {
    /// Of the store `raw`, as it is below encryption.
    pub(crate) fn new(raw: Store, seal: Arc<Seal>, catalog: Arc<Catalog>) -> Self {
        Self { raw, seal, catalog }
    }

    /// Whether there is a key to encrypt with.
    pub(crate) fn has_keys(&self) -> bool {
        self.seal.has_keys()
    }

    /// One step for `namespace`.
    pub(crate) async fn step(&self, namespace: &Namespace) -> Result<Step> {
        let mut step = Step::default();
        self.api_key(namespace, &mut step).await?;
        for collection in COLLECTIONS {
            self.entities(namespace, collection, &mut step).await?;
        }
        for shelf in SHELVES {
            self.items(namespace, shelf, &mut step).await?;
        }
        if !step.is_full() {
            let records = self.raw.activations.reseal(namespace).await?;
            step.records = records.count;
            step.unreadable += records.unreadable;
            step.left = records.left;
        }
        // Lists that change while they are read may hide something: done is what a whole step finds nothing in.
        step.left |= step.entities + step.items + step.records + step.keys > 0;
        Ok(step)
    }

    fn note(step: &mut Step, why: &str) {
        step.unreadable += 1;
        tracing::warn!(why, "what no key opens is left as it is");
    }

    async fn api_key(&self, namespace: &Namespace, step: &mut Step) -> Result<()> {
        let Some(tenant) = self.raw.tenants.get(namespace).await? else {
            return Ok(());
        };
        let Some(kept) = &tenant.sealed_key else {
            return Ok(());
        };
        let (seal, uuid) = (&self.seal, tenant.uuid);
        if seal.is_current_api_key(namespace, uuid, kept) {
            return Ok(());
        }
        let Some(key) = seal.open_api_key(namespace, uuid, kept) else {
            Self::note(step, "an API key");
            return Ok(());
        };
        let sealed_key = seal.close_api_key(namespace, uuid, &key)?;
        let tenant = Tenant {
            sealed_key,
            ..tenant
        };
        self.raw.tenants.put(tenant, false).await?;
        step.keys += 1;
        Ok(())
    }

    async fn entities(
        &self,
        namespace: &Namespace,
        collection: Collection,
        step: &mut Step,
    ) -> Result<()> {
        let filter = EntityFilter {
            collection,
            package: None,
        };
        let mut page = Page {
            skip: 0,
            limit: PAGE_COUNT,
        };
        while !step.is_full() {
            let found = self.raw.entities.list(namespace, &filter, page).await?;
            let is_last = found.len() < PAGE_COUNT;
            for document in found {
                if !step.is_full() {
                    self.entity(document, step).await?;
                }
            }
            if is_last {
                break;
            }
            page.skip += PAGE_COUNT;
        }
        Ok(())
    }

    async fn entity(&self, listed: Document, step: &mut Step) -> Result<()> {
        let Some(_) = self.reclosed(&listed, step)? else {
            return Ok(());
        };
        // What a list gives has no revision.
        let key = &listed.key;
        let Some((document, revision)) = self.raw.entities.get(key).await? else {
            return Ok(());
        };
        let Some(body) = self.reclosed(&document, &mut Step::default())? else {
            return Ok(());
        };
        if self.raw.entities.reseal(key, revision, body).await? {
            step.entities += 1;
            self.catalog.forget(&Fqn {
                namespace: key.namespace.clone(),
                package: key.package.clone(),
                name: key.name.clone(),
            });
        }
        Ok(())
    }

    /// The document as it is to be, when that is another than it is.
    fn reclosed(&self, document: &Document, step: &mut Step) -> Result<Option<Arc<str>>> {
        let made = Entity::parse(document, &self.seal)?.resealed(&self.seal)?;
        let (entity, count, locked) = made;
        for _ in 0..locked {
            Self::note(step, &format!("a parameter of {}", document.key.name));
        }
        if count == 0 {
            return Ok(None);
        }
        Ok(Some(entity.document()?.body))
    }

    async fn items(&self, namespace: &Namespace, shelf: Shelf, step: &mut Step) -> Result<()> {
        let mut page = Page {
            skip: 0,
            limit: PAGE_COUNT,
        };
        while !step.is_full() {
            let found = self.raw.items.list(namespace, shelf, "", page).await?;
            let is_last = found.len() < PAGE_COUNT;
            for item in found {
                // Former texts of actions have parameters that are encrypted by themselves.
                let looked_into = shelf == Shelf::Revisions;
                let is_current = self.seal.is_current_text(&item.body) && !looked_into;
                if !is_current && !step.is_full() {
                    self.item(namespace, shelf, &item.name, step).await?;
                }
            }
            if is_last {
                break;
            }
            page.skip += PAGE_COUNT;
        }
        Ok(())
    }

    async fn item(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        name: &str,
        step: &mut Step,
    ) -> Result<()> {
        let Some((item, revision)) = self.raw.items.get(namespace, shelf, name).await? else {
            return Ok(());
        };
        let is_current = self.seal.is_current_text(&item.body);
        let made = open_item(&self.seal, namespace, shelf, item)
            .and_then(|item| self.inner(shelf, item, step))
            .and_then(|(item, count)| match is_current && count == 0 {
                true => Ok(None),
                false => close_item(&self.seal, namespace, shelf, item).map(Some),
            });
        match made {
            Ok(None) => {}
            Ok(Some(made)) => {
                let items = &self.raw.items;
                let is_done = items.reseal(namespace, shelf, made, revision).await?;
                step.items += usize::from(is_done);
            }
            Err(Error::Corrupt(why)) => Self::note(step, &why),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What is encrypted by itself within an item, and how much of it was not under the key in use.
    fn inner(&self, shelf: Shelf, mut item: Item, step: &mut Step) -> Result<(Item, usize)> {
        if shelf != Shelf::Revisions {
            return Ok((item, 0));
        }
        let action: Action = serde_json::from_str(&item.body)
            .map_err(|error| Error::Corrupt(format!("revision {}: {error}", item.name)))?;
        let made = Entity::Action(Arc::new(action)).resealed(&self.seal)?;
        let (entity, count, locked) = made;
        for _ in 0..locked {
            Self::note(step, &format!("a parameter of revision {}", item.name));
        }
        if count > 0 {
            item.body = entity.document()?.body;
        }
        Ok((item, count))
    }
}
