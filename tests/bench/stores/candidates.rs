//! The candidates, each used the way its documentation advises for this load.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use fjall::{KeyspaceCreateOptions, PersistMode};
use redb::{Durability, ReadableDatabase, TableDefinition};
use rusqlite::{Connection, params};

use crate::Record;

/// What a candidate says when it fails.
#[derive(Debug)]
pub struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// A database under the store's load.
pub trait Candidate: Sized {
    fn open(place: &Path) -> Result<Self>;
    /// A row per record and an index by time; survives `kill -9`.
    fn put_rows(&mut self, records: &[Record]) -> Result<()>;
    /// Packed records; survives `kill -9`.
    fn put_chunks(&mut self, chunks: &[Record]) -> Result<()>;
    /// Keeps `works` and forgets `settled`; survives a power cut.
    fn accept(&mut self, works: &[Record], settled: &[[u8; 16]]) -> Result<()>;
    /// Whether work is kept.
    fn holds(&mut self, id: &[u8; 16]) -> bool;
}

fn by_time(record: &Record) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&record.start.to_be_bytes());
    key[8..].copy_from_slice(&record.id);
    key
}

/// The cost of the benchmark itself.
pub struct Nothing;

impl Candidate for Nothing {
    fn open(_: &Path) -> Result<Self> {
        Ok(Self)
    }
    fn put_rows(&mut self, _: &[Record]) -> Result<()> {
        Ok(())
    }
    fn put_chunks(&mut self, _: &[Record]) -> Result<()> {
        Ok(())
    }
    fn accept(&mut self, _: &[Record], _: &[[u8; 16]]) -> Result<()> {
        Ok(())
    }
    fn holds(&mut self, _: &[u8; 16]) -> bool {
        false
    }
}

/// A file that is appended to: no index, nothing ever goes.
pub struct FileLog(File);

impl FileLog {
    fn append(&mut self, records: &[Record]) -> Result<()> {
        let mut batch = Vec::new();
        for record in records {
            batch.extend(record.id);
            batch.extend(&record.json);
        }
        Ok(self.0.write_all(&batch)?)
    }
}

impl Candidate for FileLog {
    fn open(place: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(place.join("log"))?;
        Ok(Self(file))
    }
    fn put_rows(&mut self, records: &[Record]) -> Result<()> {
        self.append(records)
    }
    fn put_chunks(&mut self, chunks: &[Record]) -> Result<()> {
        self.append(chunks)
    }
    fn accept(&mut self, works: &[Record], _: &[[u8; 16]]) -> Result<()> {
        self.append(works)?;
        Ok(self.0.sync_data()?)
    }
    fn holds(&mut self, _: &[u8; 16]) -> bool {
        false
    }
}

/// `SQLite` with its write-ahead log; checkpoints as it does by itself, every 16 MiB.
pub struct Sqlite {
    connection: Connection,
    is_synchronous: bool,
}

impl Sqlite {
    fn synchronous(&mut self, wanted: bool) -> Result<()> {
        if self.is_synchronous != wanted {
            let level = if wanted { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.is_synchronous = wanted;
        }
        Ok(())
    }
}

impl Candidate for Sqlite {
    fn open(place: &Path) -> Result<Self> {
        let connection = Connection::open(place.join("db"))?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.execute_batch(
            "PRAGMA auto_vacuum = INCREMENTAL;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = 4096;
             PRAGMA cache_size = -16384;
             CREATE TABLE IF NOT EXISTS records
                 (id BLOB PRIMARY KEY, start INTEGER, json BLOB) WITHOUT ROWID;
             CREATE INDEX IF NOT EXISTS records_by_start ON records (start);
             CREATE TABLE IF NOT EXISTS chunks
                 (seq INTEGER PRIMARY KEY AUTOINCREMENT, start INTEGER, id BLOB, body BLOB);
             CREATE INDEX IF NOT EXISTS chunks_by_start ON chunks (start);
             CREATE INDEX IF NOT EXISTS chunks_by_id ON chunks (id);
             CREATE TABLE IF NOT EXISTS accepted (id BLOB PRIMARY KEY, work BLOB);",
        )?;
        Ok(Self {
            connection,
            is_synchronous: true,
        })
    }

    fn put_rows(&mut self, records: &[Record]) -> Result<()> {
        self.synchronous(false)?;
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO records VALUES (?, ?, ?)")?;
            for record in records {
                insert.execute(params![record.id, record.start as i64, record.json])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn put_chunks(&mut self, chunks: &[Record]) -> Result<()> {
        self.synchronous(false)?;
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO chunks (start, id, body) VALUES (?, ?, ?)")?;
            for chunk in chunks {
                insert.execute(params![chunk.start as i64, chunk.id, chunk.json])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn accept(&mut self, works: &[Record], settled: &[[u8; 16]]) -> Result<()> {
        self.synchronous(true)?;
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO accepted VALUES (?, ?)")?;
            for work in works {
                insert.execute(params![work.id, work.json])?;
            }
            let mut delete = transaction.prepare_cached("DELETE FROM accepted WHERE id = ?")?;
            for id in settled {
                delete.execute([id])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn holds(&mut self, id: &[u8; 16]) -> bool {
        let found = self
            .connection
            .prepare_cached("SELECT 1 FROM accepted WHERE id = ?")
            .and_then(|mut statement| statement.exists([id]));
        found.unwrap_or(false)
    }
}

/// An LSM tree: journal, memtables, compaction on threads of its own.
pub struct Fjall {
    database: fjall::Database,
    records: fjall::Keyspace,
    by_time: fjall::Keyspace,
    chunks: fjall::Keyspace,
    accepted: fjall::Keyspace,
}

impl Candidate for Fjall {
    fn open(place: &Path) -> Result<Self> {
        let database = fjall::Database::builder(place).open()?;
        let keyspace = |name| database.keyspace(name, KeyspaceCreateOptions::default);
        Ok(Self {
            records: keyspace("records")?,
            by_time: keyspace("by_time")?,
            chunks: keyspace("chunks")?,
            accepted: keyspace("accepted")?,
            database,
        })
    }

    fn put_rows(&mut self, records: &[Record]) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
        for record in records {
            batch.insert(&self.records, record.id, record.json.as_slice());
            batch.insert(&self.by_time, by_time(record), []);
        }
        Ok(batch.commit()?)
    }

    fn put_chunks(&mut self, chunks: &[Record]) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
        for chunk in chunks {
            batch.insert(&self.chunks, chunk.id, chunk.json.as_slice());
            batch.insert(&self.by_time, by_time(chunk), []);
        }
        Ok(batch.commit()?)
    }

    fn accept(&mut self, works: &[Record], settled: &[[u8; 16]]) -> Result<()> {
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        for work in works {
            batch.insert(&self.accepted, work.id, work.json.as_slice());
        }
        for id in settled {
            batch.remove(&self.accepted, *id);
        }
        Ok(batch.commit()?)
    }

    fn holds(&mut self, id: &[u8; 16]) -> bool {
        self.accepted.contains_key(id).unwrap_or(false)
    }
}

const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");
const BY_TIME: TableDefinition<&[u8], ()> = TableDefinition::new("by_time");
const CHUNKS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("chunks");
const ACCEPTED: TableDefinition<&[u8], &[u8]> = TableDefinition::new("accepted");

/// A copy-on-write B-tree. It has no commit that survives the process and is not flushed, so each is flushed.
pub struct Redb(redb::Database);

impl Redb {
    fn put(
        &mut self,
        table: TableDefinition<&[u8], &[u8]>,
        records: &[Record],
        settled: &[[u8; 16]],
        with_time: bool,
    ) -> Result<()> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(table)?;
            for record in records {
                table.insert(record.id.as_slice(), record.json.as_slice())?;
            }
            for id in settled {
                table.remove(id.as_slice())?;
            }
            if with_time {
                let mut index = transaction.open_table(BY_TIME)?;
                for record in records {
                    index.insert(by_time(record).as_slice(), ())?;
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Candidate for Redb {
    fn open(place: &Path) -> Result<Self> {
        Ok(Self(redb::Database::create(place.join("db"))?))
    }

    fn put_rows(&mut self, records: &[Record]) -> Result<()> {
        self.put(RECORDS, records, &[], true)
    }

    fn put_chunks(&mut self, chunks: &[Record]) -> Result<()> {
        self.put(CHUNKS, chunks, &[], true)
    }

    fn accept(&mut self, works: &[Record], settled: &[[u8; 16]]) -> Result<()> {
        self.put(ACCEPTED, works, settled, false)
    }

    fn holds(&mut self, id: &[u8; 16]) -> bool {
        let find = || -> Result<bool> {
            let table = self.0.begin_read()?.open_table(ACCEPTED)?;
            Ok(table.get(id.as_slice())?.is_some())
        };
        find().unwrap_or(false)
    }
}
