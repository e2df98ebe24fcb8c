//! What waits for the writer, and what is known without asking the database.
//!
//! Two kinds of things wait. *Urgent* ones have somebody waiting for them and are committed as soon as the writer is
//! free: whatever gathers while one commit syncs shares the next. *Lazy* ones (records, begins, settles) have nobody
//! waiting and are committed together every flush interval, or sooner when they are many.
//!
//! Invariants:
//! - a record is findable here from `put` until after its commit; whoever looks here first and in the database next
//!   cannot miss it;
//! - notes (begins, settles) leave only together with the last of the waiting records, so no work is forgotten before
//!   a record that was put before its settle is on disk;
//! - records take at most `pending_bytes_max`. Notes are as many as pieces of accepted work; urgent things are as many
//!   as callers.
//!
//! One mutex: each holder copies pointers, never waits and never touches the disk.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::model::{Activation, ActivationId, Namespace};
use crate::store::{Error, Result};

use super::Config;
use super::error::closed;

/// Records by the namespace whose they are.
pub(super) type Records = HashMap<Namespace, Vec<Arc<Activation>>>;

type ById<T> = HashMap<ActivationId, T, BuildHasherDefault<IdHasher>>;

/// Waiting records that make a flush due before its interval has passed, bytes.
const FLUSH_BYTES: usize = 1 << 20;
/// Most bytes of records in one commit; it bounds how long an urgent thing waits behind them.
const BATCH_BYTES: usize = 4 << 20;
/// First and longest pause between attempts to write records when writing fails.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

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
    fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.settled.is_empty()
    }
}

/// Lazy things on their way to the disk.
#[derive(Debug)]
pub(super) struct Lazy {
    pub(super) records: Arc<Records>,
    pub(super) notes: Notes,
    pub(super) flushes: Vec<oneshot::Sender<Result<()>>>,
    bytes: usize,
}

/// What one commit writes.
pub(super) struct Batch {
    pub(super) urgent: Vec<Urgent>,
    pub(super) lazy: Option<Lazy>,
}

/// A piece of accepted work, as far as it is kept in memory.
#[derive(Debug, Clone)]
pub(super) struct AcceptedEntry {
    pub(super) seq: i64,
    pub(super) namespace: Namespace,
    /// Its record was put, in this life of the process or in an earlier one.
    pub(super) recorded: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
    interval: Duration,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    urgent: Vec<Urgent>,
    waiting: Records,
    waiting_bytes: usize,
    writing: Arc<Records>,
    /// Of `waiting` and `writing` together.
    bytes: usize,
    by_id: ById<Arc<Activation>>,
    notes: Notes,
    flushes: Vec<oneshot::Sender<Result<()>>>,
    /// When the waiting lazy things are due; set by the writer when it first sees them.
    due: Option<Instant>,
    retry: Option<Retry>,
    accepted: ById<AcceptedEntry>,
    /// Namespaces deleted and not made again: what still comes for them is dropped.
    buried: HashSet<Namespace>,
    closing: bool,
    closed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    pause: Duration,
}

impl State {
    fn has_lazy(&self) -> bool {
        !self.waiting.is_empty() || !self.notes.is_empty() || !self.flushes.is_empty()
    }
}

impl std::fmt::Debug for Urgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Urgent")
    }
}

impl Inbox {
    pub(super) fn new(
        config: &Config,
        accepted: impl IntoIterator<Item = (ActivationId, AcceptedEntry)>,
    ) -> Self {
        let state = State {
            accepted: accepted.into_iter().collect(),
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            interval: Duration::from_millis(config.flush_interval_ms),
            bytes_max: config.pending_bytes_max,
        }
    }

    /// Takes a record; a second one with the id of one that waits, or of accepted work that has one, is ignored.
    pub(super) fn put(&self, record: Arc<Activation>) -> Result<()> {
        let bytes = weight(&record);
        let mut state = self.state.lock();
        if state.closing {
            return Err(closed());
        }
        if !state.buried.is_empty() && state.buried.contains(&record.namespace) {
            return Ok(());
        }
        let is_known = state.by_id.contains_key(&record.id)
            || state.accepted.get(&record.id).is_some_and(|a| a.recorded);
        if is_known {
            return Ok(());
        }
        if state.bytes + bytes > self.bytes_max {
            return Err(Error::Full);
        }
        if let Some(accepted) = state.accepted.get_mut(&record.id) {
            accepted.recorded = true;
        }
        let before = state.waiting_bytes;
        let is_first = !state.has_lazy();
        state.bytes += bytes;
        state.waiting_bytes += bytes;
        state.by_id.insert(record.id, Arc::clone(&record));
        match state.waiting.get_mut(&record.namespace) {
            Some(records) => records.push(record),
            None => {
                state.waiting.insert(record.namespace.clone(), vec![record]);
            }
        }
        let is_many = before < FLUSH_BYTES && state.waiting_bytes >= FLUSH_BYTES;
        drop(state);
        if is_first || is_many {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// A quarter of the room is left to what already runs.
    pub(super) fn has_room(&self) -> bool {
        let state = self.state.lock();
        !state.closing && state.bytes < self.bytes_max - self.bytes_max / 4
    }

    pub(super) fn find(&self, id: ActivationId) -> Option<Arc<Activation>> {
        self.state.lock().by_id.get(&id).cloned()
    }

    /// The records of a namespace that may not be in the database yet, in no order.
    pub(super) fn records_of(&self, namespace: &Namespace) -> Vec<Arc<Activation>> {
        let state = self.state.lock();
        let of = |records: &Records| records.get(namespace).cloned().unwrap_or_default();
        let mut found = of(&state.writing);
        found.append(&mut of(&state.waiting));
        found
    }

    pub(super) fn begin(&self, id: ActivationId) {
        self.note(|notes| *notes.begun.entry(id).or_default() += 1);
    }

    pub(super) fn settle(&self, id: ActivationId) {
        self.note(|notes| notes.settled.push(id));
    }

    fn note(&self, add: impl FnOnce(&mut Notes)) {
        let mut state = self.state.lock();
        let is_first = !state.has_lazy();
        add(&mut state.notes);
        drop(state);
        if is_first {
            self.wake.notify_one();
        }
    }

    /// Queues something somebody waits for; answers it at once when the store is closed.
    pub(super) fn push(&self, urgent: Urgent) {
        let mut state = self.state.lock();
        if state.closing {
            drop(state);
            return urgent.done(Err(closed()));
        }
        if let Urgent::Accept { namespace, .. } = &urgent
            && state.buried.contains(namespace)
        {
            drop(state);
            return urgent.done(Err(Error::Unavailable(
                "the namespace was deleted".to_owned(),
            )));
        }
        state.urgent.push(urgent);
        let is_first = state.urgent.len() == 1;
        drop(state);
        if is_first {
            self.wake.notify_one();
        }
    }

    pub(super) async fn flush(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.closed {
                return Err(closed());
            }
            state.flushes.push(reply);
        }
        self.wake.notify_one();
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// From now on nothing of the namespace is taken, and what waits is dropped. Until [`Inbox::unbury`].
    pub(super) fn bury(&self, namespace: &Namespace) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.buried.insert(namespace.clone());
        for record in state.waiting.remove(namespace).unwrap_or_default() {
            let bytes = weight(&record);
            state.by_id.remove(&record.id);
            state.bytes -= bytes;
            state.waiting_bytes -= bytes;
        }
    }

    /// The namespace's accepted work is gone from the database.
    pub(super) fn forget_accepted(&self, namespace: &Namespace) {
        let mut state = self.state.lock();
        state
            .accepted
            .retain(|_, accepted| accepted.namespace != *namespace);
    }

    pub(super) fn unbury(&self, namespace: &Namespace) {
        self.state.lock().buried.remove(namespace);
    }

    /// Lets the writer finish what waits and end.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        // One more attempt, whatever the last one met.
        state.retry = None;
        drop(state);
        self.wake.notify_one();
    }

    /// The writer has ended: whoever still waits is told.
    pub(super) fn closed(&self) {
        let (urgent, flushes) = {
            let mut state = self.state.lock();
            state.closing = true;
            state.closed = true;
            (
                std::mem::take(&mut state.urgent),
                std::mem::take(&mut state.flushes),
            )
        };
        for urgent in urgent {
            urgent.done(Err(closed()));
        }
        for flush in flushes {
            drop(flush.send(Err(closed())));
        }
    }

    /// How many records would be lost if the process ended now.
    pub(super) fn unwritten_count(&self) -> usize {
        self.state.lock().by_id.len()
    }

    /// Waits for something to write; `None` when the store closes and nothing is left that could be written.
    pub(super) fn next(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            let failed_while_closing = state.closing && state.retry.is_some();
            if state.has_lazy() && state.due.is_none() {
                state.due = Some(now + self.interval);
            }
            let asked = !state.flushes.is_empty() || state.closing;
            let due = match (state.retry, state.due) {
                _ if asked => Some(now),
                (Some(retry), Some(_)) => Some(retry.at),
                (None, Some(_)) if state.waiting_bytes >= FLUSH_BYTES => Some(now),
                (_, due) => due,
            };
            let is_due = state.has_lazy() && due.is_some_and(|due| due <= now);
            if is_due && !failed_while_closing || !state.urgent.is_empty() {
                let lazy = is_due.then(|| take_lazy(&mut state));
                return Some(Batch {
                    urgent: std::mem::take(&mut state.urgent),
                    lazy,
                });
            }
            if state.closing {
                return None;
            }
            match due.filter(|_| state.has_lazy()) {
                Some(due) => {
                    self.wake
                        .wait_for(&mut state, due.saturating_duration_since(now));
                }
                None => self.wake.wait(&mut state),
            }
        }
    }

    /// The batch's lazy part is on disk.
    pub(super) fn written(&self, lazy: Lazy) {
        let mut state = self.state.lock();
        let writing = std::mem::take(&mut state.writing);
        for record in lazy.records.values().flatten() {
            state.by_id.remove(&record.id);
        }
        for id in &lazy.notes.settled {
            state.accepted.remove(id);
        }
        state.bytes -= lazy.bytes;
        state.retry = None;
        drop(state);
        // Frees the records, outside the lock.
        drop(writing);
        drop(lazy.records);
        for flush in lazy.flushes {
            drop(flush.send(Ok(())));
        }
    }

    /// The batch's lazy part is not on disk: it waits again, before what came since.
    pub(super) fn unwritten(&self, lazy: Lazy, error: &Error) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.writing = Arc::default();
        let mut bytes_dropped = 0;
        let mut waiting = Arc::unwrap_or_clone(lazy.records);
        for (namespace, records) in &waiting {
            if state.buried.contains(namespace) {
                for record in records {
                    bytes_dropped += weight(record);
                    state.by_id.remove(&record.id);
                }
            }
        }
        waiting.retain(|namespace, _| !state.buried.contains(namespace));
        for (namespace, mut records) in state.waiting.drain() {
            waiting.entry(namespace).or_default().append(&mut records);
        }
        state.waiting = waiting;
        state.bytes -= bytes_dropped;
        state.waiting_bytes += lazy.bytes - bytes_dropped;
        for (id, count) in lazy.notes.begun {
            *state.notes.begun.entry(id).or_default() += count;
        }
        state.notes.settled.extend(lazy.notes.settled);
        let pause = state
            .retry
            .map_or(RETRY_MIN, |retry| (retry.pause * 2).min(RETRY_MAX));
        state.retry = Some(Retry {
            at: Instant::now() + pause,
            pause,
        });
        for flush in lazy.flushes.into_iter().chain(state.flushes.drain(..)) {
            drop(flush.send(Err(error.clone())));
        }
    }

    /// There is room again: what waits to be tried again is tried now.
    pub(super) fn hurry(&self) {
        if let Some(retry) = &mut self.state.lock().retry {
            retry.at = Instant::now();
        }
    }

    /// Accepted work that was committed.
    pub(super) fn accepted(
        &self,
        entries: impl IntoIterator<Item = (ActivationId, AcceptedEntry)>,
    ) {
        self.state.lock().accepted.extend(entries);
    }

    /// Where accepted work is in the database.
    pub(super) fn seq_of(&self, id: ActivationId) -> Option<i64> {
        self.state.lock().accepted.get(&id).map(|a| a.seq)
    }
}

/// Takes the waiting records, as far as one commit may hold them, and with the last of them everything else.
fn take_lazy(state: &mut State) -> Lazy {
    let (records, bytes) = if state.waiting_bytes <= BATCH_BYTES {
        (std::mem::take(&mut state.waiting), state.waiting_bytes)
    } else {
        take_some(&mut state.waiting)
    };
    state.waiting_bytes -= bytes;
    state.writing = Arc::new(records);
    let mut lazy = Lazy {
        records: Arc::clone(&state.writing),
        notes: Notes::default(),
        flushes: Vec::new(),
        bytes,
    };
    if state.waiting.is_empty() {
        lazy.notes = std::mem::take(&mut state.notes);
        lazy.flushes = std::mem::take(&mut state.flushes);
        state.due = None;
    }
    lazy
}

fn take_some(waiting: &mut Records) -> (Records, usize) {
    let (mut taken, mut bytes) = (Records::new(), 0);
    for (namespace, records) in waiting.iter_mut() {
        let mut count = 0;
        while bytes < BATCH_BYTES && count < records.len() {
            bytes += weight(&records[count]);
            count += 1;
        }
        if count > 0 {
            taken.insert(namespace.clone(), records.drain(..count).collect());
        }
    }
    waiting.retain(|_, records| !records.is_empty());
    (taken, bytes)
}

/// About what a record takes in memory, bytes.
fn weight(record: &Activation) -> usize {
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
