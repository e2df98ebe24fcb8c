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
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::model::{Activation, ActivationId, Namespace};
use crate::store::{Error, Result};

use super::Config;
use super::batch::{Batch, IdHasher, Lazy, Notes, Records, Urgent, weight};
use super::error::closed;

type ById<T> = HashMap<ActivationId, T, BuildHasherDefault<IdHasher>>;

/// Waiting records that make a flush due before its interval has passed, bytes.
const FLUSH_BYTES: usize = 256 << 10;
/// Most bytes of records in one commit; it bounds how long an urgent thing waits behind them.
const BATCH_BYTES: usize = 8 << 20;
/// Records of many namespaces with less than this for each make chunks that cost more than what they hold...
const THIN_BYTES: usize = 8 << 10;
const THIN_NAMESPACES: usize = 64;
/// ... so they are given this many times the interval, and the bytes, to gather.
const THIN_PATIENCE: u32 = 5;
/// First and longest pause between attempts to write records when writing fails.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

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
    /// When the writer first saw the lazy things that wait.
    since: Option<Instant>,
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
    fn patience(&self) -> u32 {
        let count = self.waiting.len();
        let is_thin = count > THIN_NAMESPACES && self.waiting_bytes < count * THIN_BYTES;
        if is_thin { THIN_PATIENCE } else { 1 }
    }

    /// Whether enough waits not to wait for more.
    fn is_many(&self) -> bool {
        self.waiting_bytes >= FLUSH_BYTES * self.patience() as usize
    }

    fn has_lazy(&self) -> bool {
        !self.waiting.is_empty() || !self.notes.is_empty() || !self.flushes.is_empty()
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
        let was_many = state.waiting_bytes >= FLUSH_BYTES && state.is_many();
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
        let is_many = !was_many && state.waiting_bytes >= FLUSH_BYTES && state.is_many();
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

    pub(super) fn is_buried(&self, namespace: &Namespace) -> bool {
        self.state.lock().buried.contains(namespace)
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
            let due = self.due(&mut state, now);
            let is_due = due.is_some_and(|due| due <= now);
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
            match due {
                Some(due) => {
                    self.wake
                        .wait_for(&mut state, due.saturating_duration_since(now));
                }
                None => self.wake.wait(&mut state),
            }
        }
    }

    /// When the lazy things that wait should be written.
    fn due(&self, state: &mut State, now: Instant) -> Option<Instant> {
        if !state.has_lazy() {
            state.since = None;
            return None;
        }
        let since = *state.since.get_or_insert(now);
        let is_asked = !state.flushes.is_empty() || state.closing;
        Some(match state.retry {
            _ if is_asked => now,
            Some(retry) => retry.at,
            None if state.is_many() => now,
            None => since + self.interval * state.patience(),
        })
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
        state.since = None;
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
