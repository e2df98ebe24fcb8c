//! The database file: where it is, its tables, its versions, how connections to it are set up.
//!
//! `application_id` says that the file is ours, `user_version` which of [`MIGRATIONS`] it has seen. A file of a later
//! version, or of another program, is refused untouched; an older one is brought up to date, each step in a
//! transaction of its own together with its version.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::OpenError;

/// "Wisp", in the header of the file.
const APPLICATION_ID: i32 = 0x5769_7370;

/// Step `n` leads from version `n` to version `n + 1`. Steps are only ever appended.
pub(super) const MIGRATIONS: &[&str] = &[V1, V2, V3];

/// - An entity outside packages has `''` for its package, which no package can be called.
/// - `entities.revision` comes from a counter that all entities share, so that a key made anew never sees an old one.
/// - `chunks` holds activation records, many to a row (see `chunk`). It is `AUTOINCREMENT` because retention is planned
///   on one connection and carried out on another: a number must never come to mean another chunk. `entries` stands
///   before `body`, so that reading it does not read the pages of the body.
/// - `begun` is apart from `accepted`, so that noting a run does not write the work again.
const V1: &str = "
CREATE TABLE tenants (
    namespace TEXT PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    body TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE entities (
    namespace TEXT NOT NULL,
    package TEXT NOT NULL,
    name TEXT NOT NULL,
    collection INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    code BLOB,
    body TEXT NOT NULL,
    UNIQUE (namespace, package, name)
);
CREATE INDEX entities_by_updated ON entities (namespace, collection, updated DESC, package, name);
CREATE INDEX entities_by_code ON entities (code) WHERE code IS NOT NULL;

CREATE TABLE codes (
    digest BLOB PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counters VALUES ('revision', 0);

CREATE TABLE chunks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    start_min INTEGER NOT NULL,
    start_max INTEGER NOT NULL,
    id_min BLOB NOT NULL,
    id_max BLOB NOT NULL,
    count INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    entries BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX chunks_by_start ON chunks
    (namespace, start_max, start_min, count, raw_bytes, stored_bytes);
CREATE INDEX chunks_by_id ON chunks (namespace, id_max, id_min);

CREATE TABLE accepted (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    namespace TEXT NOT NULL,
    work BLOB NOT NULL
);
CREATE TABLE begun (
    seq INTEGER PRIMARY KEY,
    count INTEGER NOT NULL
);
";

/// - `items.name` is compared by its bytes, as text is unless another order is asked for.
/// - `expires` is NULL for what is kept; `body` stands last, so that the rest is read without the pages of a long one.
const V2: &str = "
CREATE TABLE items (
    namespace TEXT NOT NULL,
    shelf INTEGER NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    code BLOB,
    expires INTEGER,
    body TEXT NOT NULL,
    PRIMARY KEY (namespace, shelf, name)
);
CREATE INDEX items_by_code ON items (code) WHERE code IS NOT NULL;
CREATE INDEX items_by_expiry ON items (expires) WHERE expires IS NOT NULL;
";

/// - `chunks.key` names the key that the body is encrypted with, NULL for none; it is read by its index alone.
/// - Bodies of entities and items may be encrypted, too, which earlier releases do not know.
const V3: &str = "
ALTER TABLE chunks ADD COLUMN key BLOB;
CREATE INDEX chunks_by_key ON chunks (namespace, key);
";

/// Where the database of a data folder is.
pub(super) fn file_in(folder: &Path) -> PathBuf {
    folder.join("wisp.db")
}

/// Opens the connection that writes; makes or migrates the database.
pub(super) fn open_writer(folder: &Path) -> Result<Connection, OpenError> {
    let file = file_in(folder);
    let failed = |source| OpenError::Database {
        file: file.clone(),
        source,
    };
    let connection = Connection::open_with_flags(
        &file,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(failed)?;
    let version = version(&connection, &file)?;
    if version == 0 {
        // Must come before the first table.
        connection
            .pragma_update(None, "auto_vacuum", "INCREMENTAL")
            .map_err(failed)?;
    }
    set_up_writer(&connection).map_err(failed)?;
    migrate(&connection, version).map_err(failed)?;
    Ok(connection)
}

/// Which version the file is of; 0 for an empty one.
fn version(connection: &Connection, file: &Path) -> Result<usize, OpenError> {
    let failed = |source| OpenError::Database {
        file: file.to_owned(),
        source,
    };
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let application = number("PRAGMA application_id").map_err(failed)?;
    let version = number("PRAGMA user_version").map_err(failed)?;
    let tables = number("SELECT count(*) FROM sqlite_schema").map_err(failed)?;
    if tables == 0 && application == 0 {
        return Ok(0);
    }
    if application != i64::from(APPLICATION_ID) {
        return Err(OpenError::Foreign {
            file: file.to_owned(),
        });
    }
    match usize::try_from(version) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(OpenError::Newer {
            file: file.to_owned(),
            found: version,
            known: MIGRATIONS.len(),
        }),
    }
}

fn set_up_writer(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_millis(100))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -16384;
         PRAGMA temp_store = MEMORY;",
    )
}

fn migrate(connection: &Connection, from: usize) -> rusqlite::Result<()> {
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(from) {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", super::to_int(step as u64 + 1))?;
        transaction.commit()?;
        if from > 0 {
            tracing::info!(version = step + 1, "the database was migrated");
        }
    }
    Ok(())
}

/// Opens a connection that reads; the writer's must be open.
pub(super) fn open_reader(folder: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        file_in(folder),
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(Duration::from_secs(1))?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.execute_batch("PRAGMA query_only = 1; PRAGMA cache_size = -8192;")?;
    Ok(connection)
}

/// Opens the connection that moves the write-ahead log into the file.
pub(super) fn open_checkpointer(folder: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        file_in(folder),
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = NORMAL;")?;
    Ok(connection)
}
