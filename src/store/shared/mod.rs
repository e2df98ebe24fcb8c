//! The store on Redis, shared by all nodes of a cluster.
//!
//! ```text
//!  entities, items, tenants ─► one script each, in the hash tag of their namespace ───────────┐
//!  activations: put ─► Writer (memory, bounded) ─► one pipeline at a time, in order ──────────┼─► Redis
//!  accepted work: accept ─► one script for all who wait; begin, settle ─► behind the records ─┘
//! ```
//!
//! Invariants:
//! - every change of a namespace's things is one script on keys of one hash tag, so it happens at once or not at all, in a
//!   Redis Cluster too; what spans two tags (code and who refers to it, a tenant and its uuid) is written in an order in
//!   which every step may be the last, and put right by the sweep;
//! - a script that may have been executed is only sent again where twice is harmless;
//! - a record is written once: the first under its id wins, whichever node it comes from;
//! - accepted work leaves its log after every record put before has been answered for;
//! - no wall clock of a node decides what others see: scripts ask Redis what time it is;
//! - nothing scans the whole of Redis, and no script works on more than some hundreds of things;
//! - what is stored is not believed: what was deleted or written over by hand is [`Error::Corrupt`], with its key, and what
//!   stands beside it is served.
//!
//! # What it comes to
//! Measured on the 2-core machine that also ran the client (a build without optimisation) and others' work, Redis 7.0 on a Unix
//! socket: a record costs Redis 33 to 40 µs of CPU when it travels alone and 8 µs in pipelines of 100, and 520 bytes of its
//! memory (149 of them the record, packed from 404); accepted work with its beginning and end 30 µs alone, 7 µs from 64
//! callers; an entity is read for 5 to 7 µs, a list of 30 records for 115, and a list by a name that none of 100,000 records
//! has for next to nothing.
//!
//! What "durable" means is what Redis does with what it was told: with `appendfsync everysec`, a crash of its machine may
//! take the last second.

mod accepted;
mod activations;
mod answer;
mod check;
mod chunks;
mod codes;
mod entities;
mod invalidate;
mod items;
mod keys;
mod listing;
mod live;
mod message;
mod pipeline;
mod purge;
mod record;
mod reseal;
mod retention;
mod standing;
mod tenants;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use super::embedded::Config;
use super::seal::Seal;
use super::watched::Hub;
use super::{Error, Result, Store};
use crate::link::{Batch, Cmd, FromRedisValue, Link, Script, Value};

pub(crate) use accepted::Homes;
use answer::failed;
pub(crate) use invalidate::Change;
use keys::Keys;
use live::Live;
use pipeline::Pipeline;
pub(crate) use writer::Writer;

/// Longest time the end waits for records to be written.
const CLOSE_MAX: Duration = Duration::from_secs(30);

/// The backend behind the five seams.
struct Redis {
    link: Link,
    keys: Keys,
    config: Config,
    /// This node.
    node: String,
    writer: Writer,
    homes: Homes,
    /// Encrypts records.
    seal: Arc<Seal>,
}

/// What the shared store can beyond the five seams.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// Writes records, and what must follow them.
    pub(crate) writer: Writer,
    /// Where accepted work is kept, of nodes alive and dead.
    pub(crate) homes: Homes,
    link: Link,
    keys: Keys,
    live: Live,
}

impl Shared {
    /// Tells what other nodes change, and `hub` the records they put, until the future is dropped. `tell` must not wait.
    pub(crate) async fn follow(&self, hub: Arc<Hub>, tell: impl Fn(Change) + Send + Sync) {
        let (link, keys) = (self.link.clone(), self.keys.clone());
        invalidate::follow(link, keys, (self.live.clone(), hub), tell).await;
    }
}

/// Ends the store.
#[derive(Debug)]
pub(crate) struct Keeper {
    writer: Writer,
}

impl Keeper {
    /// Writes everything that waits.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when records could not be written; says how many are lost.
    pub(crate) async fn close(self) -> Result<()> {
        let written = tokio::time::timeout(CLOSE_MAX, self.writer.finish()).await;
        let left = self.writer.close();
        match (written, left) {
            (_, 0) => Ok(()),
            (_, left) => Err(Error::Unavailable(format!(
                "{left} activation records could not be written to Redis before the end"
            ))),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.writer.close();
    }
}

/// The store of this node, whose keys begin with `prefix`; from within a runtime.
///
/// Of `config` the retention and the memory for what waits are meant; the rest is about files. Records are encrypted as `seal`
/// says.
pub(crate) fn open(
    link: Link,
    prefix: &str,
    config: &Config,
    (node, seal): (&str, Arc<Seal>),
) -> (Store, Shared, Keeper) {
    let keys = Keys::new(prefix);
    let pipeline = Pipeline::new(&keys, node, config.retention_bytes_max, Arc::clone(&seal));
    let writer = Writer::start(link.clone(), pipeline, config.pending_bytes_max);
    let homes = Homes::new(link.clone(), keys.clone(), node, writer.clone());
    let shared = Shared {
        writer: writer.clone(),
        homes: homes.clone(),
        link: link.clone(),
        keys: keys.clone(),
        live: Live::new(link.clone(), keys.clone(), node, writer.clone()),
    };
    let keeper = Keeper {
        writer: writer.clone(),
    };
    let redis = Arc::new(Redis {
        link,
        keys,
        config: config.clone(),
        node: node.to_owned(),
        writer,
        homes: homes.clone(),
        seal,
    });
    let store = Store {
        entities: Arc::clone(&redis) as _,
        items: Arc::clone(&redis) as _,
        tenants: Arc::clone(&redis) as _,
        activations: redis as _,
        accepted: Arc::new(homes) as _,
    };
    (store, shared, keeper)
}

impl Redis {
    /// Calls a script; `key` is what it is about.
    async fn call<T: FromRedisValue>(
        &self,
        script: &'static Script,
        command: &Cmd,
        key: &str,
    ) -> Result<T> {
        let answer = self.link.call(script, command).await;
        answer.map_err(|error| failed(error, key))
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd, key: &str) -> Result<T> {
        let answer = self.link.query(command).await;
        answer.map_err(|error| failed(error, key))
    }

    /// Sends commands together; the first failure among their answers is the outcome.
    async fn run(&self, batch: &Batch, key: &str) -> Result<Vec<Value>> {
        let answers = self.link.run(batch).await;
        codes::all(answers.map_err(|error| failed(error, key))?, key)
    }
}
