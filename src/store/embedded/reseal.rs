//! Records under the key in use, in the place of those that are under another or none.
//!
//! Chunk by chunk, each as it is found: a chunk that was deleted or put together with others since is left alone, and what
//! came of it has been encrypted with the key in use.

use std::sync::Arc;

use rusqlite::{Connection, params};

use crate::model::Namespace;
use crate::store::chunk;
use crate::store::reseal::Records;
use crate::store::seal::{KeyName, Seal};
use crate::store::{Error, Result};

use super::activations;
use super::{Embedded, to_int};

/// Chunks encrypted anew in one step: some megabytes.
const STEP_COUNT: usize = 32;

/// A chunk as it was found, and as it is to be.
struct Found {
    count: usize,
    before: Vec<u8>,
    /// What no key opens is an error, which is about this chunk alone.
    body: Result<Vec<u8>>,
    stored_bytes: usize,
}

impl Embedded {
    /// Encrypts some chunks anew.
    pub(super) async fn reseal_records(&self, namespace: &Namespace) -> Result<Records> {
        let mut records = Records::default();
        let Some(key) = self.seal.key_name() else {
            return Ok(records);
        };
        let (mut after, mut steps) = (0, 0);
        while steps < STEP_COUNT {
            let name = namespace.clone();
            let stale = self
                .readers
                .read(move |connection| stale(connection, &name, key, after))
                .await?;
            if stale.is_empty() {
                return Ok(records);
            }
            for seq in stale {
                after = seq;
                steps += usize::from(self.reseal_chunk(namespace, seq, &mut records).await?);
            }
        }
        records.left = true;
        Ok(records)
    }

    /// Whether it could be encrypted anew.
    async fn reseal_chunk(
        &self,
        namespace: &Namespace,
        seq: i64,
        records: &mut Records,
    ) -> Result<bool> {
        let (name, seal) = (namespace.clone(), Arc::clone(&self.seal));
        let found = self
            .readers
            .read(move |connection| find(connection, &seal, &name, seq))
            .await?;
        let Some(found) = found else {
            return Ok(false);
        };
        let body = match found.body {
            Err(Error::Corrupt(why)) => {
                tracing::warn!(why, "what no key opens is left as it is");
                records.unreadable += 1;
                return Ok(false);
            }
            body => body?,
        };
        let (count, key) = (found.count, self.seal.key_name());
        let is_done = self.write_unforced(move |connection| {
            replace(
                connection,
                seq,
                (&found.before, &body, found.stored_bytes),
                key,
            )
        });
        records.count += if is_done.await? { count } else { 0 };
        Ok(true)
    }
}

/// Some chunks that are under another key or none, from the first after `after`.
fn stale(
    connection: &Connection,
    namespace: &Namespace,
    key: KeyName,
    after: i64,
) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq FROM chunks INDEXED BY chunks_by_key
         WHERE namespace = ? AND (key IS NULL OR key <> ?) AND seq > ? ORDER BY seq LIMIT ?",
    )?;
    let limit = to_int(STEP_COUNT as u64);
    let rows = statement.query_map(params![namespace.as_str(), key, after, limit], |row| {
        row.get(0)
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A chunk, if it is still there.
fn find(
    connection: &Connection,
    seal: &Seal,
    namespace: &Namespace,
    seq: i64,
) -> Result<Option<Found>> {
    let Some((entries, before)) = activations::blobs(connection, seq)? else {
        return Ok(None);
    };
    let place = chunk::place(namespace, &entries);
    let body = seal.open_bytes(place, before.clone());
    let body = body.and_then(|plain| seal.close_bytes(place, plain));
    Ok(Some(Found {
        count: chunk::entries_of(&entries).count(),
        stored_bytes: entries.len() + body.as_ref().map_or(0, Vec::len),
        before,
        body,
    }))
}

fn replace(
    connection: &Connection,
    seq: i64,
    (before, body, bytes): (&[u8], &[u8], usize),
    key: Option<KeyName>,
) -> Result<bool> {
    let changed = connection
        .prepare_cached(
            "UPDATE chunks SET body = ?, stored_bytes = ?, key = ? WHERE seq = ? AND body = ?",
        )?
        .execute(params![body, to_int(bytes as u64), key, seq, before])?;
    Ok(changed > 0)
}
