//! Activation records, seen as they are put: whoever waits for one, or follows all of a namespace, learns of it here.
//!
//! In front of another [`Activations`]. A record that nobody watches for costs one load of a counter.
//!
//! Invariants:
//! - a record is announced after it can be read, so whoever subscribes first and reads then misses none;
//! - subscriptions are bounded, and a subscriber that is too slow loses the oldest records, is told how many, and holds
//!   nobody up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::broadcast;

use super::{ActivationFilter, Activations, Page, Result};
use crate::model::{Activation, ActivationId, Namespace, Timestamp};

/// Records a subscriber may be behind.
const BEHIND_MAX: usize = 256;

/// Subscriptions at one time; each is a waiting request.
const SUBSCRIPTIONS_MAX: usize = 4096;

/// Subscriptions of one namespace: one tenant must not take them all.
const SUBSCRIPTIONS_MAX_EACH: usize = 256;

/// Who watches what.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    count: AtomicUsize,
    closed: AtomicBool,
    channels: DashMap<Namespace, broadcast::Sender<Arc<Activation>>>,
}

/// The records of one namespace, from the moment it was made.
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    namespace: Namespace,
    receiver: Option<broadcast::Receiver<Arc<Activation>>>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscription({})", self.namespace)
    }
}

/// What a subscriber sees.
#[derive(Debug)]
pub(crate) enum Seen {
    Record(Arc<Activation>),
    /// So many were lost because it was too slow.
    Missed(u64),
    /// The server drains.
    Closed,
}

impl Hub {
    /// Watches the records of `namespace`; `None` when there are too many who watch, or the server drains.
    pub(crate) fn subscribe(self: &Arc<Self>, namespace: &Namespace) -> Option<Subscription> {
        if self.closed.load(Ordering::SeqCst) {
            return None;
        }
        if self.count.fetch_add(1, Ordering::SeqCst) >= SUBSCRIPTIONS_MAX {
            self.count.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        let receiver = {
            let channel = self.channels.entry(namespace.clone());
            let channel = channel.or_insert_with(|| broadcast::Sender::new(BEHIND_MAX));
            (channel.receiver_count() < SUBSCRIPTIONS_MAX_EACH).then(|| channel.subscribe())
        };
        if receiver.is_none() {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
        Some(Subscription {
            hub: Arc::clone(self),
            namespace: namespace.clone(),
            receiver: Some(receiver?),
        })
    }

    /// Ends every subscription: the server drains.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.channels.clear();
    }

    fn announce(&self, record: &Arc<Activation>) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(channel) = self.channels.get(&record.namespace) {
            // Fails when nobody is left, which is no matter.
            drop(channel.send(Arc::clone(record)));
        }
    }
}

impl Subscription {
    /// The next record.
    pub(crate) async fn next(&mut self) -> Seen {
        let Some(receiver) = &mut self.receiver else {
            return Seen::Closed;
        };
        match receiver.recv().await {
            Ok(record) => Seen::Record(record),
            Err(broadcast::error::RecvError::Lagged(count)) => Seen::Missed(count),
            Err(broadcast::error::RecvError::Closed) => Seen::Closed,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        drop(self.receiver.take());
        self.hub.count.fetch_sub(1, Ordering::SeqCst);
        if let Entry::Occupied(channel) = self.hub.channels.entry(self.namespace.clone())
            && channel.get().receiver_count() == 0
        {
            channel.remove();
        }
    }
}

/// See the module.
pub(crate) struct Watched {
    inner: Arc<dyn Activations>,
    hub: Arc<Hub>,
}

impl Watched {
    /// Announces to `hub` what is put into `inner`.
    pub(crate) fn new(inner: Arc<dyn Activations>, hub: Arc<Hub>) -> Self {
        Self { inner, hub }
    }
}

#[async_trait]
impl Activations for Watched {
    fn put(&self, record: Arc<Activation>) -> Result<()> {
        self.inner.put(Arc::clone(&record))?;
        self.hub.announce(&record);
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.inner.has_room()
    }

    async fn get(
        &self,
        namespace: &Namespace,
        id: ActivationId,
    ) -> Result<Option<Arc<Activation>>> {
        self.inner.get(namespace, id).await
    }

    async fn list(
        &self,
        namespace: &Namespace,
        filter: &ActivationFilter,
        page: Page,
    ) -> Result<Vec<Arc<Activation>>> {
        self.inner.list(namespace, filter, page).await
    }

    async fn count(&self, namespace: &Namespace, filter: &ActivationFilter) -> Result<usize> {
        self.inner.count(namespace, filter).await
    }

    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }

    async fn expire(&self, now: Timestamp) -> Result<usize> {
        self.inner.expire(now).await
    }
}
