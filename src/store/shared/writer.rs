//! Writes activation records, and behind them what must not come before them.
//!
//! One task, one pipeline in flight. Whatever gathers while it is answered is the next: a lone record leaves at once, many
//! share a round trip, and the more there are the fewer commands they cost. What follows records ([`Writer::call_then`], the
//! beginnings and ends of accepted work) waits in a queue of its own, each with the number of records that were put before
//! it, and travels with the next pipeline once those have been answered for.
//!
//! When Redis is away, slow or full, records wait and are sent again in their order, first writer wins under each id, until
//! `[store] pending_bytes_max` is taken: then [`Error::Full`]. They can be read on this node all the while.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::answer::failed;
use super::pipeline::{After, MEND, Outgoing, Pipeline, weight};
use crate::link::{self, Batch, Link, Value};
use crate::model::activation::IdHasher;
use crate::model::{Activation, ActivationId, Namespace};
use crate::store::{Error, Result};

/// Records in one pipeline, and about their bytes: what goes to Redis at once, and what is packed without a pause.
const PIPELINE_COUNT: usize = 1024;
const PIPELINE_BYTES: usize = 2 << 20;
/// What follows records, in one pipeline.
const AFTER_COUNT: usize = 4096;
/// Records in one round trip from which on the next waits a moment for more.
const BUSY_COUNT: usize = 8;
/// That moment.
const GATHER: Duration = Duration::from_millis(1);
/// First and longest pause before what failed is sent again.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How often records are sent that Redis does not take for a reason that time does not mend.
const TRIES_MAX: u32 = 5;

type ById<T> = HashMap<ActivationId, T, BuildHasherDefault<IdHasher>>;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer(Arc<Inner>);

struct Inner {
    link: Link,
    pipeline: Pipeline,
    state: Mutex<State>,
    wake: Notify,
    /// Somebody waits for what was put.
    hurry: Notify,
    bytes_max: usize,
}

/// A record and about what it takes in memory.
type Put = (Arc<Activation>, usize);

#[derive(Default)]
struct State {
    /// In the order they were put.
    waiting: VecDeque<Put>,
    /// Those that wait and those that are being written.
    by_id: ById<Put>,
    bytes: usize,
    put_count: u64,
    /// So many of the records put, from the first, have been answered for.
    written_count: u64,
    after: VecDeque<(u64, After)>,
    after_put_count: u64,
    after_done_count: u64,
    flushes: Vec<Flush>,
    is_closed: bool,
}

/// Somebody who waits for what was put before.
struct Flush {
    records: u64,
    after: u64,
    reply: oneshot::Sender<Result<()>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({} waiting)", self.0.state.lock().by_id.len())
    }
}

fn closed() -> Error {
    Error::Unavailable("it is closed".to_owned())
}

impl Writer {
    /// Starts the task.
    pub(super) fn start(link: Link, pipeline: Pipeline, bytes_max: usize) -> Self {
        let writer = Self(Arc::new(Inner {
            link,
            pipeline,
            state: Mutex::default(),
            wake: Notify::new(),
            hurry: Notify::new(),
            bytes_max,
        }));
        tokio::spawn(Arc::clone(&writer.0).go_on());
        writer
    }

    /// Calls `what` when every record that was put before has been answered for by Redis. It must not block.
    pub(crate) fn call_then(&self, what: Box<dyn FnOnce() + Send>) {
        {
            let state = self.0.state.lock();
            if state.written_count < state.put_count || !state.after.is_empty() {
                drop(state);
                self.after([After::Call(what)]);
                return;
            }
        }
        what();
    }

    /// Counts a run of accepted work.
    pub(super) fn begin(&self, home: Arc<str>, id: ActivationId) {
        self.after([After::Begin(home, id)]);
    }

    /// Forgets accepted work.
    pub(super) fn settle(&self, home: Arc<str>, id: ActivationId) {
        self.after([After::Settle(home, id)]);
    }

    fn after(&self, after: impl IntoIterator<Item = After>) {
        let mut state = self.0.state.lock();
        let mark = state.put_count;
        let before = state.after.len();
        state
            .after
            .extend(after.into_iter().map(|after| (mark, after)));
        state.after_put_count += (state.after.len() - before) as u64;
        drop(state);
        self.0.wake.notify_one();
    }

    /// Takes a record; a second one with the id of one that waits is ignored.
    pub(super) fn put(&self, record: Arc<Activation>) -> Result<()> {
        let bytes = weight(&record);
        let mut state = self.0.state.lock();
        if state.is_closed {
            return Err(closed());
        }
        if state.by_id.contains_key(&record.id) {
            return Ok(());
        }
        if state.bytes + bytes > self.0.bytes_max {
            return Err(Error::Full);
        }
        state.bytes += bytes;
        state.put_count += 1;
        state.by_id.insert(record.id, (Arc::clone(&record), bytes));
        state.waiting.push_back((record, bytes));
        drop(state);
        self.0.wake.notify_one();
        Ok(())
    }

    /// A quarter of the room is left to what already runs.
    pub(super) fn has_room(&self) -> bool {
        let state = self.0.state.lock();
        !state.is_closed && state.bytes < self.0.bytes_max - self.0.bytes_max / 4
    }

    /// A record that may not be in Redis yet.
    pub(super) fn find(&self, id: ActivationId) -> Option<Arc<Activation>> {
        let state = self.0.state.lock();
        state.by_id.get(&id).map(|(record, _)| Arc::clone(record))
    }

    /// Resolves when every record put before is in Redis; fails when an attempt to write them does.
    pub(super) async fn flush(&self) -> Result<()> {
        self.wait(false).await
    }

    /// As [`Writer::flush`], with everything that follows them.
    pub(super) async fn flush_all(&self) -> Result<()> {
        self.wait(true).await
    }

    async fn wait(&self, with_after: bool) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.0.state.lock();
            let after = if with_after { state.after_put_count } else { 0 };
            let records = state.put_count;
            if state.written_count >= records && state.after_done_count >= after {
                return Ok(());
            }
            if state.is_closed {
                return Err(closed());
            }
            state.flushes.push(Flush {
                records,
                after,
                reply,
            });
        }
        self.0.wake.notify_one();
        self.0.hurry.notify_one();
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Waits until everything is written, whatever fails on the way.
    pub(super) async fn finish(&self) {
        while self.flush_all().await.is_err() {
            if self.0.state.lock().is_closed {
                return;
            }
            tokio::time::sleep(RETRY_MIN).await;
        }
    }

    /// Ends it; how many records are lost by that.
    pub(super) fn close(&self) -> usize {
        let mut state = self.0.state.lock();
        state.is_closed = true;
        state.flushes.clear();
        let left = state.by_id.len();
        drop(state);
        self.0.wake.notify_one();
        left
    }
}

impl Inner {
    async fn go_on(self: Arc<Self>) {
        let mut pause = RETRY_MIN;
        let mut is_busy = false;
        loop {
            if is_busy {
                // Many come: a moment later they are one round trip, for which both sides do the work of one.
                tokio::select! {
                    () = tokio::time::sleep(GATHER) => {}
                    () = self.hurry.notified() => {}
                }
            }
            let (records, after) = self.take();
            is_busy = records.len() >= BUSY_COUNT;
            if records.is_empty() && after.is_empty() {
                if self.state.lock().is_closed {
                    return;
                }
                self.wake.notified().await;
                continue;
            }
            let counts = (records.len() as u64, after.len() as u64);
            let mut outgoing = self.pipeline.records(records);
            self.pipeline.follow(after, &mut outgoing);
            self.send(outgoing, counts, &mut pause).await;
        }
    }

    /// Sends until all of it is done.
    async fn send(
        &self,
        mut outgoing: Vec<Outgoing>,
        (records, after): (u64, u64),
        pause: &mut Duration,
    ) {
        loop {
            let failure = self.attempt(&mut outgoing).await;
            if outgoing.is_empty() {
                *pause = RETRY_MIN;
                self.done(records, after);
                return;
            }
            let Some(error) = failure else {
                continue; // What is left is new.
            };
            if self.failed(&error) {
                return;
            }
            tracing::warn!(%error, waiting = self.state.lock().by_id.len(), "records wait for Redis");
            tokio::time::sleep(*pause).await;
            *pause = (*pause * 2).min(RETRY_MAX);
        }
    }

    /// Sends everything once and keeps what is to be sent again; why.
    async fn attempt(&self, outgoing: &mut Vec<Outgoing>) -> Option<Error> {
        let mut batch = Batch::default();
        for Outgoing { command, .. } in outgoing.iter() {
            match command {
                (Some(script), command) => batch.call(script, command.clone()),
                (None, command) => batch.push(command.clone()),
            };
        }
        let answers = match self.link.run(&batch).await {
            Ok(answers) => answers,
            Err(error) => return Some(failed(error, "")),
        };
        let mut failure = None;
        let mut damaged = Vec::new();
        let mut answers = answers.into_iter();
        outgoing.retain_mut(|one| {
            let answer = answers.next().unwrap_or_else(|| {
                Err(link::Error::Unavailable("an answer is missing".to_owned()))
            });
            match answer.and_then(|answer| self.answered(one, answer)) {
                Ok(is_left) => is_left,
                Err(error) => {
                    let passes = matches!(
                        error,
                        link::Error::Unavailable(_) | link::Error::Full(_) | link::Error::NoScript
                    );
                    let error = failed(error, &one.key);
                    one.tries += 1;
                    if !passes && (one.records.is_empty() || one.tries >= TRIES_MAX) {
                        tracing::error!(%error, records = one.records.len(), "Redis does not take what was to be written; it is given up");
                        self.written(&one.records);
                        return false;
                    }
                    if !passes && let Some(record) = one.records.first() {
                        damaged.push(record.namespace.clone());
                    }
                    failure = Some(error);
                    true
                }
            }
        });
        for namespace in damaged {
            self.mend(&namespace).await;
        }
        failure
    }

    /// Redis took it, or had some of its records: whether the others are to be sent.
    fn answered(&self, one: &mut Outgoing, answer: Value) -> link::Result<bool> {
        let known: Vec<Vec<u8>> = match answer {
            Value::Array(_) if !one.records.is_empty() => link::read(answer)
                .ok_or_else(|| link::Error::Unexpected("what are no ids".to_owned()))?,
            _ => Vec::new(),
        };
        let is_known = |record: &Activation| {
            known.is_empty() || known.iter().any(|id| *id == record.id.0.to_be_bytes())
        };
        let (done, left): (Vec<_>, Vec<_>) =
            one.records.drain(..).partition(|record| is_known(record));
        self.written(&done);
        if done.is_empty() && !left.is_empty() {
            one.records = left;
            return Err(link::Error::Unexpected(
                "records that were not sent".to_owned(),
            ));
        }
        let next = left.first().map(|record| record.namespace.clone());
        let next = next.and_then(|namespace| self.pipeline.put(&namespace, left.clone()));
        match next {
            Some(next) => *one = next,
            None => self.written(&left),
        }
        Ok(!one.records.is_empty())
    }

    /// Puts aside what somebody wrote in the place of records, so that they can be written.
    async fn mend(&self, namespace: &Namespace) {
        let key = self.pipeline.keys.records(namespace);
        let mend = MEND.call(&self.pipeline.keys.places(namespace));
        match self.link.call::<u32>(&MEND, &mend).await {
            Ok(0) => {}
            Ok(count) => {
                tracing::error!(
                    key,
                    count,
                    "what stood where records belong is no record of ours; it is kept under its name and :damaged"
                );
            }
            Err(error) => {
                tracing::error!(key, %error, "what stands where records belong cannot be put aside");
            }
        }
    }

    /// The next records, and of what follows records what may be sent now.
    fn take(&self) -> (Vec<Put>, Vec<After>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < PIPELINE_COUNT && bytes < PIPELINE_BYTES {
            let Some(put) = state.waiting.pop_front() else {
                break;
            };
            bytes += put.1;
            records.push(put);
        }
        let written = state.written_count;
        let free = state
            .after
            .iter()
            .take(AFTER_COUNT)
            .take_while(|(mark, _)| *mark <= written)
            .count();
        let after = state.after.drain(..free).map(|(_, after)| after).collect();
        (records, after)
    }

    /// These are in Redis, or given up.
    fn written(&self, records: &[Arc<Activation>]) {
        let mut state = self.state.lock();
        for record in records {
            if let Some((_, bytes)) = state.by_id.remove(&record.id) {
                state.bytes -= bytes;
            }
        }
    }

    /// Everything that was taken together is done.
    fn done(&self, records: u64, after: u64) {
        let mut state = self.state.lock();
        state.written_count += records;
        state.after_done_count += after;
        let (written, done) = (state.written_count, state.after_done_count);
        let flushes = std::mem::take(&mut state.flushes);
        let (ready, rest): (Vec<_>, Vec<_>) = flushes
            .into_iter()
            .partition(|flush| flush.records <= written && flush.after <= done);
        state.flushes = rest;
        drop(state);
        for flush in ready {
            drop(flush.reply.send(Ok(())));
        }
    }

    /// Tells who waits; whether it is over.
    fn failed(&self, error: &Error) -> bool {
        let mut state = self.state.lock();
        let flushes = std::mem::take(&mut state.flushes);
        let is_closed = state.is_closed;
        drop(state);
        for flush in flushes {
            drop(flush.reply.send(Err(error.clone())));
        }
        is_closed
    }
}
