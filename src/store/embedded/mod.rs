//! The store in one file of the data folder.
//!
//! ```text
//!  put, begin, settle ──► Inbox (memory, bounded) ──► writer thread ──► wisp.db + its write-ahead log
//!  accept, entities, tenants ─┘   one commit for all who wait      ▲
//!  get, list, count ─► Inbox, then a pool of readers ──────────────┘
//! ```
//!
//! Invariants:
//! - one process per folder ([`lock`]), one thread that writes ([`writer`]), every write in one of its transactions;
//! - what is promised durable is flushed to the disk before the promise is given;
//! - accepted work leaves the log in the transaction that stores its record, or in a later one;
//! - a failed transaction leaves nothing behind; what nobody waits for is kept in memory, up to
//!   [`Config::pending_bytes_max`], and tried again.
//!
//! First writer wins, by id: a second record is ignored while the first waits for the disk, and as long as its work
//! is in the log of accepted work, across restarts. Records of other work have ids made for them alone and are put
//! once, so the database is not asked.
//!
//! A full disk takes nothing that was promised, and serving goes on as far as it can: see [`writer`]. Only a *start*
//! needs some room (32 KiB for the index of the write-ahead log); without it, `open` says that the disk is full.
//!
//! # Why `SQLite`
//! Measured on this load with `tests/bench/stores` (`cargo run --release -- DIR SMALL_DIR`; 2 cores of a Xeon virtual
//! machine shared with other builds, ext4, `fdatasync` 0.25 ms): 400,000 records of 600 bytes in commits of 2,000;
//! 128,000 pieces of work of 1,500 bytes from 64 callers that wait for the disk. CPU is what comes on top of making
//! and packing the records.
//!
//! | | `SQLite` 3 (rusqlite 0.41) | fjall 3.1 | redb 4.5 | plain file, no index |
//! |---|---|---|---|---|
//! | a row per record, CPU µs each | 3.6 | 3.7 | 3.5 | 0.3 |
//! | chunks, CPU µs per record | **0.36** | 0.67 | 0.37 | 0.07 |
//! | chunks, MB written | 77 | 24 | 66 | 35 |
//! | accept and settle, per s | **53,500** | 48,900 | 32,700 | 74,000 |
//! | accept and settle, CPU µs each | **9.6** | 11.8 | 17.2 | 5.0 |
//! | accept, p99 ms | 6.0 | **4.3** | 8.3 | 1.6 |
//! | full disk, then room again | **resumes** | poisoned until reopened | refuses until reopened | |
//! | of what was promised, lost after reopening | 0 of 204 | 0 of 380 | 0 of 191 | |
//!
//! All three are quick enough once records are chunks; only `SQLite` goes on by itself when the disk has room again,
//! and it is the one whose file any operator can open and look into.
//!
//! # What it comes to
//! This module, with `cargo run --release --bin ours -- DIR SMALL_DIR` in the same place, on the same machine: 40,000
//! records/s cost 2.7 to 3.2 µs of CPU each from `put` to the disk, all told (5.7 from 100 namespaces at once, 7 to 9
//! from 1,000). 64 callers that accept, begin, put and settle get through 65,000/s with a p99 of 6.9 ms on the quiet
//! machine (checkpoints at 16 MiB then), and 14,000/s with 20 to 40 ms while builds held the load at ten. An entity is read in 9 to 16 µs, a record
//! in 60 to 80, a list of 30 in 400; a cached action in 0.1. A file system filled up by it refused, resumed 0.5 s after
//! there was room, and held 320 of 320 promises and 91,702 of 91,702 records when opened again.

mod accepted;
mod activations;
mod batch;
mod codes;
mod entities;
mod error;
mod inbox;
mod items;
mod lock;
mod reader;
mod reseal;
mod retention;
mod schema;
mod tenants;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::seal::Seal;
use super::{Error, Result, Store};

use batch::{Job, Urgent};
use error::closed;
use inbox::Inbox;
use reader::Readers;

/// The knobs of the embedded store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// How long activation records are kept, seconds.
    pub(crate) retention_age_s: u64,
    /// How much of the disk a namespace's activation records may take, bytes as stored (compressed).
    pub(crate) retention_bytes_max: u64,
    /// Memory for records that wait for the disk, bytes. New work is refused when three quarters are taken; what runs
    /// already has the rest.
    pub(crate) pending_bytes_max: usize,
    /// Longest a record waits for others before it is written, milliseconds: what a crash may take of records nobody
    /// was promised.
    pub(crate) flush_interval_ms: u64,
    /// Reads at one time.
    pub(crate) readers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            retention_age_s: 7 * 24 * 60 * 60,
            retention_bytes_max: 1 << 30,
            pending_bytes_max: 64 << 20,
            flush_interval_ms: 50,
            readers: 4,
        }
    }
}

/// Why the data folder cannot be used; written for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Another server has it.
    #[error(
        "the data folder {} is in use by another server{}; stop that one, or choose another folder with --data",
        folder.display(),
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Locked { folder: PathBuf, pid: Option<u32> },
    /// It cannot be made, read or written.
    #[error(
        "cannot use the data folder {}: {source}; it must be a folder this user may write to, on a disk that is not mounted read-only",
        folder.display()
    )]
    Folder {
        folder: PathBuf,
        source: std::io::Error,
    },
    /// Written by a later release.
    #[error(
        "{} has format version {found}, this release knows versions up to {known}; run the release that wrote it, or a later one",
        file.display()
    )]
    Newer {
        file: PathBuf,
        found: i64,
        known: usize,
    },
    /// A database of another program.
    #[error("{} is a database, but not one of Wisp's; choose another folder with --data", file.display())]
    Foreign { file: PathBuf },
    /// The database refused.
    #[error("cannot open {}: {source}", file.display())]
    Database {
        file: PathBuf,
        source: rusqlite::Error,
    },
    /// What is in it cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Content { file: PathBuf, source: Error },
}

/// The backend behind the five seams.
#[derive(Debug)]
struct Embedded {
    inbox: Arc<Inbox>,
    readers: Readers,
    config: Config,
    /// What encrypts records.
    seal: Arc<Seal>,
}

/// Ends the store. Dropped without [`Keeper::close`], it lets the writer finish what waits, but does not wait for it.
#[derive(Debug)]
pub(crate) struct Keeper {
    inbox: Arc<Inbox>,
    readers: Readers,
    readers_count: usize,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Keeper {
    /// Writes everything that waits, closes the database and gives the folder up.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when records could not be written; says how many are lost.
    pub(crate) async fn close(mut self) -> Result<()> {
        self.inbox.close();
        self.readers.close(self.readers_count).await;
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        if !writer::join(thread, Duration::from_secs(60)).await {
            return Err(Error::Unavailable("its writer did not end".to_owned()));
        }
        match self.inbox.unwritten_count() {
            0 => Ok(()),
            lost => Err(Error::Unavailable(format!(
                "{lost} activation records could not be written before the end"
            ))),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// Opens the store in `data_dir`, which is made when it is not there; records are encrypted as `seal` says.
///
/// Reads and migrates: call it before serving, from a thread that may block.
///
/// # Errors
/// Says what to do about it.
pub(crate) fn open(
    config: &Config,
    data_dir: &Path,
    seal: Arc<Seal>,
) -> std::result::Result<(Store, Keeper), OpenError> {
    let (backend, keeper) = build(config, data_dir, seal)?;
    Ok((seams(&backend), keeper))
}

fn seams(backend: &Arc<Embedded>) -> Store {
    Store {
        entities: Arc::clone(backend) as _,
        items: Arc::clone(backend) as _,
        tenants: Arc::clone(backend) as _,
        activations: Arc::clone(backend) as _,
        accepted: Arc::clone(backend) as _,
    }
}

fn build(
    config: &Config,
    data_dir: &Path,
    seal: Arc<Seal>,
) -> std::result::Result<(Arc<Embedded>, Keeper), OpenError> {
    make_folder(data_dir).map_err(|source| OpenError::Folder {
        folder: data_dir.to_owned(),
        source,
    })?;
    let lock = lock::Lock::take(data_dir)?;
    let connection = schema::open_writer(data_dir)?;
    let content = |source| OpenError::Content {
        file: schema::file_in(data_dir),
        source,
    };
    let recovered = accepted::recover(&connection).map_err(content)?;
    let last_seq = recovered.values().map(|entry| entry.seq).max().unwrap_or(0);
    if !recovered.is_empty() {
        tracing::info!(
            count = recovered.len(),
            "accepted work was found that has not ended"
        );
    }
    let inbox = Arc::new(Inbox::new(config, recovered));
    let readers = Readers::new(data_dir.to_owned(), config.readers);
    let writer = {
        let rest = (last_seq, Arc::clone(&seal));
        writer::Writer::new(Arc::clone(&inbox), connection, data_dir, rest)?
    };
    let told = Arc::clone(&inbox);
    let thread = std::thread::Builder::new()
        .name("wisp-store".to_owned())
        .spawn(move || {
            let _told = TellsAtEnd(told);
            writer.run();
            drop(lock);
        })
        .map_err(|source| OpenError::Folder {
            folder: data_dir.to_owned(),
            source,
        })?;
    let keeper = Keeper {
        inbox: Arc::clone(&inbox),
        readers: readers.clone(),
        readers_count: config.readers,
        thread: Some(thread),
    };
    let backend = Arc::new(Embedded {
        inbox,
        readers,
        config: config.clone(),
        seal,
    });
    Ok((backend, keeper))
}

/// However the writer ends, even by a panic, nobody waits for it for ever: the store is closed then.
struct TellsAtEnd(Arc<Inbox>);

impl Drop for TellsAtEnd {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// Nobody but the owner may look into it: it holds what tenants stored.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

impl Embedded {
    /// Has the writer run `work` in its next transaction; durable when it returns.
    async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.send(work, true).await
    }

    /// As [`Embedded::write`], for what need not survive a power cut.
    async fn write_unforced<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.send(work, false).await
    }

    async fn send<T, F>(&self, work: F, wants_sync: bool) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Call {
            work: Some(work),
            outcome: None,
            reply,
        };
        self.inbox.push(Urgent::Write {
            job: Box::new(job),
            wants_sync,
        });
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// A closure and who waits for what it returns.
struct Call<T, F> {
    work: Option<F>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<()> {
        let Some(work) = self.work.take() else {
            return Err(closed());
        };
        let outcome = work(connection);
        let verdict = outcome.as_ref().map(|_| ()).map_err(Clone::clone);
        self.outcome = Some(outcome);
        verdict
    }

    fn done(self: Box<Self>, committed: Result<()>) {
        let result = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(closed()),
            (Err(error), _) => Err(error),
        };
        drop(self.reply.send(result));
    }
}

/// `SQLite` has signed numbers only; nothing of ours comes near their end but what a caller makes up.
fn to_int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_int(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
