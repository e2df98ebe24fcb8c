//! The one thread that writes, and the one that checkpoints.
//!
//! `SQLite` has one writer at a time; giving that to one thread makes every commit a group commit: what gathered while
//! the last one was written goes into the next, and all who wait for the disk wait for the same flush. A batch that
//! holds a promise is committed with `synchronous = FULL` (the write-ahead log is flushed), any other with `NORMAL`
//! (written, not flushed: it survives the end of the process, and after a power cut the log ends at an earlier commit).
//!
//! Moving the log into the database file (a checkpoint) takes tens of milliseconds, which nobody should wait for. A
//! second connection on a thread of its own does most of it while the writer goes on; the writer then moves the small
//! rest, after which the log starts from its beginning again.
//!
//! When a commit fails, everything in it is undone. Whoever waits is told at once; records and notes wait in memory
//! and are tried again, with growing pauses, or at once when something else could be written.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::Instant;

use crate::model::{ActivationId, Namespace};
use crate::store::chunk::Packer;
use crate::store::seal::Seal;
use crate::store::{Error, Result};
use crate::telemetry::metrics;

use super::batch::{Batch, Lazy, Urgent};
use super::inbox::{AcceptedEntry, Inbox};
use super::{OpenError, accepted, activations, schema};

/// Bytes written to the log after which it is moved into the file: a balance between how much the disk is given to
/// flush at one time, which commits then wait for, and how often a page is written that changes often.
const CHECKPOINT_BYTES: usize = 4 << 20;
/// What a commit is taken to add to the log besides the bodies it holds: the pages of tables and indexes it touches.
const COMMIT_BYTES: usize = 16 << 10;

/// Accepted work of one batch, which `Inbox` learns of once it is committed.
type Fresh = HashMap<ActivationId, AcceptedEntry>;

/// Owns the connection that writes.
pub(super) struct Writer {
    inbox: Arc<Inbox>,
    connection: Connection,
    checkpointer: Checkpointer,
    packer: Packer,
    seal: Arc<Seal>,
    /// Of the next piece of accepted work.
    next_seq: i64,
    is_synchronous: bool,
    /// What the last attempt to write met, while nothing could be written since.
    trouble: Option<Error>,
}

impl Writer {
    pub(super) fn new(
        inbox: Arc<Inbox>,
        connection: Connection,
        folder: &Path,
        (last_seq, seal): (i64, Arc<Seal>),
    ) -> std::result::Result<Self, OpenError> {
        let failed = |source| OpenError::Database {
            file: schema::file_in(folder),
            source,
        };
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(failed)?;
        let checkpointer = Checkpointer::start(folder)?;
        Ok(Self {
            inbox,
            connection,
            checkpointer,
            packer: Packer::default(),
            seal,
            next_seq: last_seq + 1,
            is_synchronous: true,
            trouble: None,
        })
    }

    /// Writes until the inbox is closed and empty.
    pub(super) fn run(mut self) {
        while let Some(batch) = self.inbox.next() {
            self.serve(batch);
            self.checkpointer.look(&self.connection);
        }
        let Self {
            connection,
            checkpointer,
            ..
        } = self;
        checkpointer.stop();
        // The last connection to close would do it too, but without a word when it fails.
        if let Err(error) = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "the write-ahead log was left for the next start");
        }
        if let Err((_, error)) = connection.close() {
            tracing::warn!(%error, "the database did not close cleanly");
        }
    }

    fn serve(&mut self, mut batch: Batch) {
        let mut fresh = Fresh::new();
        let result = self.commit(&mut batch, &mut fresh);
        let Batch { urgent, lazy } = batch;
        match &result {
            Ok(()) => self.inbox.accepted(fresh),
            Err(error) => self.note_trouble(error),
        }
        for urgent in urgent {
            urgent.done(result.clone());
        }
        match (result, lazy) {
            (Ok(()), Some(lazy)) => {
                self.inbox.written(lazy);
                self.note_recovery();
            }
            (Err(error), Some(lazy)) => self.inbox.unwritten(lazy, &error),
            (Ok(()), None) if self.trouble.is_some() => {
                self.inbox.hurry();
                if self.inbox.unwritten_count() == 0 {
                    self.note_recovery();
                }
            }
            (_, None) => {}
        }
    }

    /// Writes a batch in one transaction. The one place that knows how long that took.
    fn commit(&mut self, batch: &mut Batch, fresh: &mut Fresh) -> Result<()> {
        if is_empty(batch) {
            return Ok(());
        }
        let began = Instant::now();
        self.set_synchronous(batch.urgent.iter().any(Urgent::wants_sync))?;
        self.connection
            .prepare_cached("BEGIN IMMEDIATE")?
            .execute([])?;
        let written = self.write(batch, fresh).and_then(|bytes| {
            self.connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(bytes)
        });
        match written {
            Ok(bytes) => {
                self.checkpointer.count(bytes + COMMIT_BYTES);
                metrics::committed(began.elapsed());
                Ok(())
            }
            Err(error) => {
                fresh.clear();
                self.roll_back();
                Err(error)
            }
        }
    }

    fn write(&mut self, batch: &mut Batch, fresh: &mut Fresh) -> Result<usize> {
        let mut bytes = 0;
        for urgent in &mut batch.urgent {
            bytes += self.write_urgent(urgent, fresh)?;
        }
        if let Some(lazy) = &batch.lazy {
            bytes += self.write_lazy(lazy, fresh)?;
        }
        Ok(bytes)
    }

    fn write_urgent(&mut self, urgent: &mut Urgent, fresh: &mut Fresh) -> Result<usize> {
        match urgent {
            Urgent::Accept {
                namespace,
                id,
                work,
                ..
            } => {
                let seq = self.next_seq;
                self.next_seq += 1;
                accepted::insert(&self.connection, seq, namespace, *id, work)?;
                let entry = AcceptedEntry {
                    seq,
                    namespace: namespace.clone(),
                    recorded: false,
                };
                fresh.insert(*id, entry);
                Ok(work.len())
            }
            Urgent::Begin { id, .. } => {
                if let Some(seq) = self.seq_of(*id, fresh) {
                    accepted::begin(&self.connection, seq, 1)?;
                }
                Ok(0)
            }
            Urgent::Write { job, .. } => {
                self.connection.execute_batch("SAVEPOINT job")?;
                match job.run(&self.connection) {
                    Ok(()) => self.connection.execute_batch("RELEASE job")?,
                    // The job knows, and tells whoever waits; the rest of the batch is none of its business.
                    Err(Error::Conflict | Error::Corrupt(_)) => {
                        self.connection
                            .execute_batch("ROLLBACK TO job; RELEASE job")?;
                    }
                    Err(error) => return Err(error),
                }
                Ok(COMMIT_BYTES)
            }
        }
    }

    fn write_lazy(&mut self, lazy: &Lazy, fresh: &Fresh) -> Result<usize> {
        let mut bytes = 0;
        for (namespace, records) in lazy.records.iter() {
            for record in records {
                if let Err(error) = self.packer.add(record) {
                    // Trying again would not help it, and everything else would wait.
                    tracing::error!(%error, activation = %record.id, "a record was dropped");
                }
                if self.packer.is_full() {
                    bytes += self.write_chunk(namespace)?;
                }
            }
            bytes += self.write_chunk(namespace)?;
        }
        // Work that is settled in the same breath need not be noted as begun.
        let mut begun = lazy.notes.begun.clone();
        for id in &lazy.notes.settled {
            begun.remove(id);
            if let Some(seq) = self.seq_of(*id, fresh) {
                accepted::remove(&self.connection, seq)?;
            }
        }
        for (id, count) in begun {
            if let Some(seq) = self.seq_of(id, fresh) {
                accepted::begin(&self.connection, seq, count)?;
            }
        }
        Ok(bytes)
    }

    /// Closes the chunk that is being packed; bytes it added.
    fn write_chunk(&mut self, namespace: &Namespace) -> Result<usize> {
        let chunk = self.packer.finish(namespace, b"");
        activations::insert(&self.connection, &self.seal, chunk)
    }

    fn seq_of(&self, id: ActivationId, fresh: &Fresh) -> Option<i64> {
        fresh
            .get(&id)
            .map(|entry| entry.seq)
            .or_else(|| self.inbox.seq_of(id))
    }

    fn set_synchronous(&mut self, wanted: bool) -> Result<()> {
        if self.is_synchronous != wanted {
            let level = if wanted { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.is_synchronous = wanted;
        }
        Ok(())
    }

    fn roll_back(&mut self) {
        // What was packed for a chunk that is not written is packed again with the next attempt.
        self.packer = Packer::default();
        if self.connection.is_autocommit() {
            return; // Some failures undo the transaction by themselves.
        }
        if let Err(error) = self.connection.execute_batch("ROLLBACK") {
            tracing::error!(%error, "a failed write could not be undone");
        }
    }

    /// Logs once that writing fails, and makes what room can be made.
    fn note_trouble(&mut self, error: &Error) {
        if self.trouble.is_none() {
            tracing::error!(%error, "the store cannot write; it keeps trying");
        }
        self.trouble = Some(error.clone());
        if matches!(error, Error::Full) {
            // What the log holds may fit into pages that are free in the file; then the log is free again.
            drop(
                self.connection
                    .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)"),
            );
        }
    }

    fn note_recovery(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the store can write again");
        }
    }
}

fn is_empty(batch: &Batch) -> bool {
    let idle = |lazy: &Lazy| {
        lazy.records.is_empty() && lazy.notes.begun.is_empty() && lazy.notes.settled.is_empty()
    };
    batch.urgent.is_empty() && batch.lazy.as_ref().is_none_or(idle)
}

/// The thread that moves the log into the file; see the module.
struct Checkpointer {
    start: mpsc::SyncSender<()>,
    /// It has moved what it could, and the writer should move the rest.
    is_done: Arc<AtomicBool>,
    is_running: bool,
    bytes: usize,
    thread: std::thread::JoinHandle<()>,
}

impl Checkpointer {
    fn start(folder: &Path) -> std::result::Result<Self, OpenError> {
        let failed = |source| OpenError::Database {
            file: schema::file_in(folder),
            source,
        };
        let connection = schema::open_checkpointer(folder).map_err(failed)?;
        let (start, started) = mpsc::sync_channel(1);
        let is_done = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&is_done);
        let thread = std::thread::Builder::new()
            .name("wisp-checkpoint".to_owned())
            .spawn(move || {
                while let Ok(()) = started.recv() {
                    checkpoint(&connection);
                    done.store(true, Ordering::Release);
                }
            })
            .map_err(|source| OpenError::Folder {
                folder: folder.to_owned(),
                source,
            })?;
        Ok(Self {
            start,
            is_done,
            is_running: false,
            bytes: 0,
            thread,
        })
    }

    /// Bytes were added to the log.
    fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Starts or finishes a checkpoint when it is time to.
    fn look(&mut self, writer: &Connection) {
        if self.is_running {
            if self.is_done.swap(false, Ordering::Acquire) {
                self.is_running = false;
                checkpoint(writer);
            }
        } else if self.bytes >= CHECKPOINT_BYTES && self.start.try_send(()).is_ok() {
            self.is_running = true;
            self.bytes = 0;
        }
    }

    fn stop(self) {
        drop(self.start);
        if self.thread.join().is_err() {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

/// Moves what no reader needs any more. A failure costs nothing but the log's length: the next one tries again.
fn checkpoint(connection: &Connection) {
    if let Err(error) = connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)") {
        tracing::debug!(%error, "a checkpoint was put off");
    }
}

/// Waits for `thread` without holding up the async threads; `false` when it panicked or took longer than `patience`.
pub(super) async fn join(thread: std::thread::JoinHandle<()>, patience: Duration) -> bool {
    let joining = tokio::task::spawn_blocking(move || thread.join().is_ok());
    matches!(tokio::time::timeout(patience, joining).await, Ok(Ok(true)))
}
