//! What the inbox holds and the writer writes.

use std::collections::HashMap;
use std::hash::Hasher;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::model::{Activation, ActivationId, Namespace};
use crate::store::Result;

/// Records by the namespace whose they are.
pub(super) type Records = HashMap<Namespace, Vec<Arc<Activation>>>;

/// A write somebody waits for: run inside a transaction, told afterwards whether that was committed.
pub(super) trait Job: Send {
    /// Writes. An error that is about this job alone undoes this job alone.
    fn run(&mut self, connection: &Connection) -> Result<()>;
    /// The transaction ended; `Ok` when it was committed.
    fn done(self: Box<Self>, committed: Result<()>);
}

/// What somebody waits for.
pub(super) enum Urgent {
    Accept {
        namespace: Namespace,
        id: ActivationId,
        work: Bytes,
        reply: oneshot::Sender<Result<()>>,
    },
    Begin {
        id: ActivationId,
        reply: oneshot::Sender<Result<()>>,
    },
    Write {
        job: Box<dyn Job>,
        wants_sync: bool,
    },
}

impl Urgent {
    pub(super) fn done(self, result: Result<()>) {
        match self {
            Self::Accept { reply, .. } | Self::Begin { reply, .. } => drop(reply.send(result)),
            Self::Write { job, .. } => job.done(result),
        }
    }

    /// Whether the promise is about power cuts, not only about crashes of this process.
    pub(super) fn wants_sync(&self) -> bool {
        match self {
            Self::Accept { .. } => true,
            Self::Begin { .. } => false,
            Self::Write { wants_sync, .. } => *wants_sync,
        }
    }
}

/// What is to be noted about accepted work.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) begun: HashMap<ActivationId, u32>,
    pub(super) settled: Vec<ActivationId>,
}

impl Notes {
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.settled.is_empty()
    }
}

/// Lazy things on their way to the disk.
#[derive(Debug)]
pub(super) struct Lazy {
    pub(super) records: Arc<Records>,
    pub(super) notes: Notes,
    pub(super) flushes: Vec<oneshot::Sender<Result<()>>>,
    /// Weight of the records.
    pub(super) bytes: usize,
}

/// What one commit writes.
pub(super) struct Batch {
    pub(super) urgent: Vec<Urgent>,
    pub(super) lazy: Option<Lazy>,
}

impl std::fmt::Debug for Urgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Urgent")
    }
}

/// About what a record takes in memory, bytes.
pub(super) fn weight(record: &Activation) -> usize {
    const FIXED: usize = 512;
    FIXED
        + record.response.result.get().len()
        + record.logs.iter().map(String::len).sum::<usize>()
        + record.annotations.size()
}

/// Ids are random in their lower half, which is all a hash table needs.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_u128(&mut self, number: u128) {
        // The table takes its buckets from one end and its tags from the other.
        let (low, high) = (number & u128::from(u64::MAX), number >> 64);
        let mixed = low ^ high;
        self.0 = u64::try_from(mixed)
            .unwrap_or_default()
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
