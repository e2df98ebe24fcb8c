//! Calls that carry an `Idempotency-Key`: done once, however often they are sent.
//!
//! Under a key stand the id of the activation it led to and a fingerprint of the payload, written before anything is run;
//! the activation runs under that id. So whatever a crash leaves behind the key can be told from what there is under the
//! id: a record, a run in flight, or an entry in the log of accepted work. Where there is none of them, what the key was
//! used for never began, or was a blocking call that a crash ended: it is run now, under the same id. Once a call has been
//! answered that is noted (`done`), so that a record that was not kept, or is past its retention, is not taken for one that
//! never was.
//!
//! Where several nodes share the store ([`Idempotency::share`]), a run may be in flight on another one: what a key was used for
//! is then taken to go on for [`HELD_MS`], and whoever sends the key again is told of that activation.
//!
//! Keys are remembered per namespace and resource, for as long as the configuration says, and are bounded per namespace. A node
//! counts those it adds, and all of them now and then: by what the others add in between the bound can be passed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use super::{Config, new_id};
use crate::model::{ActivationId, Digest, Json, Namespace, Timestamp};
use crate::store::{self, Expect, Item, Items, Shelf, Store};

/// Longer than a call waits for its turn and runs.
const HELD_MS: u64 = 10 * 60 * 1000;

/// In how many parts of the bound all keys are counted where other nodes add some, too: each may pass it by one part.
const PARTS: usize = 64;

/// Why a key does not let a call through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// It was used with another payload.
    #[error("The Idempotency-Key was used before with another payload.")]
    OtherPayload,
    /// A call with it has not been answered yet.
    #[error("A call with this Idempotency-Key is being accepted; send it again for its answer.")]
    Busy,
    /// The namespace has used too many.
    #[error("Too many Idempotency-Keys are remembered for this namespace (allowed: {0}).")]
    TooMany(usize),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What stands under a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Used {
    id: ActivationId,
    fingerprint: Digest,
    #[serde(default)]
    done: bool,
    /// When the call came.
    #[serde(default)]
    since: Timestamp,
}

/// What a key lets a call do.
pub(crate) enum Claim {
    /// To run, under the ticket's id.
    Run(Ticket),
    /// To be answered with what that activation came to, or will.
    Replay(ActivationId),
}

/// A call with a key, until it is answered.
pub(crate) struct Ticket {
    keys: Arc<Idempotency>,
    namespace: Namespace,
    name: String,
    used: Used,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticket({})", self.used.id)
    }
}

/// See the module.
pub(crate) struct Idempotency {
    store: Store,
    age_ms: u64,
    keys_max: usize,
    /// Keys of calls that are not answered yet.
    claimed: DashMap<(Namespace, String), ()>,
    /// About how many keys each namespace has; counted anew when it looks like too many.
    counts: DashMap<Namespace, usize>,
    is_shared: AtomicBool,
}

impl std::fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Idempotency({} claimed)", self.claimed.len())
    }
}

impl Idempotency {
    /// Keys remembered in `store`.
    pub(crate) fn new(store: Store, config: &Config) -> Arc<Self> {
        Arc::new(Self {
            store,
            age_ms: config.idempotency_age_s.saturating_mul(1000),
            keys_max: config.idempotency_keys_max,
            claimed: DashMap::new(),
            counts: DashMap::new(),
            is_shared: AtomicBool::new(false),
        })
    }

    /// From now on other nodes take calls, too.
    pub(crate) fn share(&self) {
        self.is_shared.store(true, Ordering::Relaxed);
    }

    /// Whether a call may still be on its way on another node.
    fn is_held(&self, used: &Used) -> bool {
        let age_ms = Timestamp::now().millis_since(used.since);
        self.is_shared.load(Ordering::Relaxed) && age_ms < HELD_MS
    }

    /// Uses `key` for a call of `resource` with `payload`; `is_in_flight` tells whether an activation is on this node.
    ///
    /// # Errors
    /// When it was used otherwise, or cannot be used now.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        namespace: &Namespace,
        (resource, key): (&str, &str),
        payload: &Json,
        is_in_flight: impl Fn(ActivationId) -> bool + Send,
    ) -> Result<Claim, KeyError> {
        let name = format!("{resource} {key}");
        match self.claimed.entry((namespace.clone(), name.clone())) {
            dashmap::Entry::Occupied(_) => return Err(KeyError::Busy),
            dashmap::Entry::Vacant(free) => drop(free.insert(())),
        }
        let mut ticket = Ticket {
            keys: Arc::clone(self),
            namespace: namespace.clone(),
            name: name.clone(),
            used: Used {
                id: new_id(),
                fingerprint: Digest::of(payload.get().as_bytes()),
                done: false,
                since: Timestamp::now(),
            },
        };
        let items = &self.store.items;
        let Some((item, _)) = items.get(namespace, Shelf::Idempotency, &name).await? else {
            self.count_one(namespace).await?;
            return match ticket.write(Some(Expect::Absent)).await {
                Ok(()) => Ok(Claim::Run(ticket)),
                // Another node took a call with it meanwhile.
                Err(store::Error::Conflict) => Err(KeyError::Busy),
                Err(error) => Err(error.into()),
            };
        };
        let used: Used = serde_json::from_str(&item.body)
            .map_err(|error| store::Error::Corrupt(error.to_string()))?;
        if used.fingerprint != ticket.used.fingerprint {
            return Err(KeyError::OtherPayload);
        }
        let id = used.id;
        let is_known = used.done
            || is_in_flight(id)
            || self.is_held(&used)
            || self.is_known(namespace, id).await?;
        if is_known {
            return Ok(Claim::Replay(id));
        }
        ticket.used = used;
        Ok(Claim::Run(ticket))
    }

    /// Whether there is a record of it, or a promise.
    async fn is_known(&self, namespace: &Namespace, id: ActivationId) -> store::Result<bool> {
        if self.store.activations.get(namespace, id).await?.is_some() {
            return Ok(true);
        }
        // Rare: only a key whose call was cut off comes here.
        let pending = self.store.accepted.pending().await?;
        Ok(pending.iter().any(|pending| pending.id == id))
    }

    /// Counts a key more, if the namespace may have it.
    async fn count_one(&self, namespace: &Namespace) -> Result<(), KeyError> {
        let count = self.counts.get(namespace).map(|count| *count);
        let is_shared = self.is_shared.load(Ordering::Relaxed);
        let others_added =
            |count: usize| is_shared && count.is_multiple_of(self.keys_max / PARTS + 1);
        if count.is_none_or(|count| count >= self.keys_max || others_added(count)) {
            let items = &self.store.items;
            let count = items.count(namespace, Shelf::Idempotency, "").await?;
            self.counts.insert(namespace.clone(), count);
            if count >= self.keys_max {
                return Err(KeyError::TooMany(self.keys_max));
            }
        }
        *self.counts.entry(namespace.clone()).or_default() += 1;
        Ok(())
    }
}

impl Ticket {
    /// What the call's activation is to be called.
    pub(crate) fn id(&self) -> ActivationId {
        self.used.id
    }

    async fn write(&self, expect: Option<Expect>) -> store::Result<()> {
        let expires = Timestamp::now().millis().saturating_add(self.keys.age_ms);
        let item = Item {
            name: self.name.clone(),
            body: Json::from_serialize(&self.used).get().into(),
            code: None,
            expires: Some(Timestamp(expires)),
        };
        let items = &self.keys.store.items;
        let put = items.put(&self.namespace, Shelf::Idempotency, item, expect);
        put.await.map(drop)
    }

    /// The call is as good as answered: from now on it is done, whatever is kept of it.
    pub(crate) async fn done(mut self) {
        self.used.done = true;
        if let Err(error) = self.write(None).await {
            tracing::warn!(activation = %self.used.id, %error, "an Idempotency-Key could not be noted as done");
        }
    }

    /// Nothing came of the call: the key may be used again.
    pub(crate) async fn forget(self) {
        let items: &Arc<dyn Items> = &self.keys.store.items;
        let removed = items.delete(&self.namespace, Shelf::Idempotency, &self.name);
        if let Err(error) = removed.await {
            tracing::warn!(activation = %self.used.id, %error, "an Idempotency-Key could not be forgotten");
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let slot = (self.namespace.clone(), std::mem::take(&mut self.name));
        self.keys.claimed.remove(&slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fake::Fake;

    #[tokio::test]
    async fn nodes_that_share_a_store_pass_the_bound_by_a_key_each_at_most() {
        let (store, _fake) = Fake::store();
        let config = Config {
            idempotency_keys_max: 8,
            ..Config::default()
        };
        let node = || {
            let node = Idempotency::new(store.clone(), &config);
            node.share();
            node
        };
        let (nodes, guest) = ([node(), node(), node()], Namespace::parse("guest").unwrap());
        let (mut taken, mut refused) = (0, 0);
        for index in 0..30 {
            let key = format!("k{index}");
            let payload = Json::parse(b"{}").unwrap();
            let claim = nodes[index % 3].claim(&guest, ("actions/a", &key), &payload, |_| false);
            match claim.await {
                Ok(_) => taken += 1,
                Err(KeyError::TooMany(8)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(
            (8..=11).contains(&taken) && taken + refused == 30,
            "{taken}"
        );
    }
}
