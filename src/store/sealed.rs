//! What stands in front of a store that is kept encrypted: items, and the log of accepted work, are encrypted on their way in
//! and decrypted on their way out. Names are not: items are sorted and found by them.
//!
//! Of entities their parameters are encrypted, which is done in front of the catalog's cache; activation records where they are
//! packed, many together, which is inside each store.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::seal::{Place, Seal};
use super::{Accepted, Error, Expect, Item, Items, Page, Pending, Result, Revision, Shelf, Store};
use crate::model::{ActivationId, Namespace, Timestamp};

/// `store` with everything encrypted that is not in the store itself. Without keys too what is encrypted is recognised.
pub(crate) fn sealed(store: Store, seal: &Arc<Seal>) -> Store {
    let items = Arc::new(SealedItems {
        inner: store.items,
        seal: Arc::clone(seal),
    });
    let accepted: Arc<dyn Accepted> = match seal.has_keys() {
        true => Arc::new(Sealed::new(store.accepted, Arc::clone(seal))),
        false => store.accepted,
    };
    Store {
        items,
        accepted,
        ..store
    }
}

/// What can be read: what no key opens must not take everything else with it.
fn readable(item: Result<Item>, namespace: &Namespace) -> Option<Result<Item>> {
    match item {
        Err(Error::Corrupt(why)) => {
            tracing::error!(%namespace, why, "something is left out of a list");
            None
        }
        other => Some(other),
    }
}

fn item_place<'a>(namespace: &'a Namespace, shelf: Shelf, name: &'a str) -> Place<'a> {
    Place {
        namespace,
        what: match shelf {
            Shelf::Apis => "APIs",
            Shelf::Schedules => "schedules",
            Shelf::DeadLetters => "dead letters",
            Shelf::Revisions => "revisions",
            Shelf::Idempotency => "idempotency keys",
            Shelf::Cancelled => "cancellations",
            Shelf::KeyValue => "values",
        },
        name: name.as_bytes(),
    }
}

pub(super) fn close_item(
    seal: &Seal,
    namespace: &Namespace,
    shelf: Shelf,
    mut item: Item,
) -> Result<Item> {
    item.body = seal.close_text(item_place(namespace, shelf, &item.name), item.body.clone())?;
    Ok(item)
}

pub(super) fn open_item(
    seal: &Seal,
    namespace: &Namespace,
    shelf: Shelf,
    mut item: Item,
) -> Result<Item> {
    item.body = seal.open_text(item_place(namespace, shelf, &item.name), item.body.clone())?;
    Ok(item)
}

/// Items whose bodies are encrypted. A list has none that no key opens.
struct SealedItems {
    inner: Arc<dyn Items>,
    seal: Arc<Seal>,
}

#[async_trait]
impl Items for SealedItems {
    async fn get(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        name: &str,
    ) -> Result<Option<(Item, Revision)>> {
        let found = self.inner.get(namespace, shelf, name).await?;
        let opened = found.map(|(item, revision)| {
            open_item(&self.seal, namespace, shelf, item).map(|item| (item, revision))
        });
        opened.transpose()
    }

    async fn put(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        item: Item,
        expect: Option<Expect>,
    ) -> Result<Revision> {
        let item = close_item(&self.seal, namespace, shelf, item)?;
        self.inner.put(namespace, shelf, item, expect).await
    }

    async fn reseal(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        item: Item,
        expect: Revision,
    ) -> Result<bool> {
        self.inner.reseal(namespace, shelf, item, expect).await
    }

    async fn delete(&self, namespace: &Namespace, shelf: Shelf, name: &str) -> Result<bool> {
        self.inner.delete(namespace, shelf, name).await
    }

    async fn list(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        prefix: &str,
        page: Page,
    ) -> Result<Vec<Item>> {
        let found = self.inner.list(namespace, shelf, prefix, page).await?;
        let opened = found.into_iter();
        opened
            .map(|item| open_item(&self.seal, namespace, shelf, item))
            .filter_map(|item| readable(item, namespace))
            .collect()
    }

    async fn count(&self, namespace: &Namespace, shelf: Shelf, prefix: &str) -> Result<usize> {
        self.inner.count(namespace, shelf, prefix).await
    }

    async fn usage(&self, namespace: &Namespace, shelf: Shelf) -> Result<Option<(u64, u64)>> {
        self.inner.usage(namespace, shelf).await
    }

    async fn purge(&self, namespace: &Namespace, shelf: Shelf, prefix: &str) -> Result<usize> {
        self.inner.purge(namespace, shelf, prefix).await
    }

    async fn everywhere(&self, shelf: Shelf) -> Result<Vec<(Namespace, Item)>> {
        let found = self.inner.everywhere(shelf).await?;
        let opened = found.into_iter().filter_map(|(namespace, item)| {
            let item = open_item(&self.seal, &namespace, shelf, item);
            let item = readable(item, &namespace)?;
            Some(item.map(|item| (namespace, item)))
        });
        opened.collect()
    }

    async fn expire_items(&self, now: Timestamp) -> Result<usize> {
        self.inner.expire_items(now).await
    }
}

/// A log whose entries are encrypted on their way in and decrypted on their way out.
struct Sealed {
    inner: Arc<dyn Accepted>,
    seal: Arc<Seal>,
}

impl Sealed {
    /// `inner`, with entries encrypted as `seal` says.
    fn new(inner: Arc<dyn Accepted>, seal: Arc<Seal>) -> Self {
        Self { inner, seal }
    }
}

#[async_trait]
impl Accepted for Sealed {
    async fn accept(&self, namespace: &Namespace, id: ActivationId, work: Bytes) -> Result<()> {
        let work = self.seal.close_entry(id, work)?;
        self.inner.accept(namespace, id, work).await
    }

    fn begin(&self, id: ActivationId) {
        self.inner.begin(id);
    }

    async fn begin_durably(&self, id: ActivationId) -> Result<()> {
        self.inner.begin_durably(id).await
    }

    fn settle(&self, id: ActivationId) {
        self.inner.settle(id);
    }

    async fn pending(&self) -> Result<Vec<Pending>> {
        let mut pending = self.inner.pending().await?;
        for one in &mut pending {
            let kept = std::mem::take(&mut one.work);
            one.work = self.seal.open_entry(one.id, kept);
        }
        Ok(pending)
    }
}
