//! Records under the key in use, in the place of those that are under another or none.
//!
//! Chunk by chunk, each as it is found: a chunk that was deleted or put together with others since is left alone, and what
//! came of it has been encrypted with the key in use.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

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
    seq: i64,
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
        let mut after = 0;
        for _ in 0..STEP_COUNT {
            let (namespace, seal) = (namespace.clone(), Arc::clone(&self.seal));
            let found = self
                .readers
                .read(move |connection| find(connection, (&seal, key), &namespace, after))
                .await?;
            let Some(found) = found else {
                return Ok(records);
            };
            after = found.seq;
            match found.body {
                Err(Error::Corrupt(why)) => {
                    tracing::warn!(why, "what no key opens is left as it is");
                    records.unreadable += 1;
                }
                Err(error) => return Err(error),
                Ok(body) => {
                    let count = found.count;
                    let is_done = self.write_unforced(move |connection| {
                        let bytes = found.stored_bytes;
                        replace(connection, found.seq, (&found.before, &body, bytes), key)
                    });
                    records.count += if is_done.await? { count } else { 0 };
                }
            }
        }
        records.left = true;
        Ok(records)
    }
}

/// The first chunk after `after` that is under another key or none.
fn find(
    connection: &Connection,
    (seal, key): (&Seal, KeyName),
    namespace: &Namespace,
    after: i64,
) -> Result<Option<Found>> {
    let seq: Option<i64> = connection
        .prepare_cached(
            "SELECT seq FROM chunks INDEXED BY chunks_by_key
             WHERE namespace = ? AND (key IS NULL OR key <> ?) AND seq > ? ORDER BY seq LIMIT 1",
        )?
        .query_row(params![namespace.as_str(), key, after], |row| row.get(0))
        .optional()?;
    let Some(seq) = seq else {
        return Ok(None);
    };
    let Some((entries, before)) = activations::blobs(connection, seq)? else {
        return Ok(None);
    };
    let place = chunk::place(namespace, &entries);
    let body = seal.open_bytes(place, before.clone());
    let body = body.and_then(|plain| seal.close_bytes(place, plain));
    Ok(Some(Found {
        seq,
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
    key: KeyName,
) -> Result<bool> {
    let changed = connection
        .prepare_cached(
            "UPDATE chunks SET body = ?, stored_bytes = ?, key = ? WHERE seq = ? AND body = ?",
        )?
        .execute(params![body, to_int(bytes as u64), key, seq, before])?;
    Ok(changed > 0)
}
