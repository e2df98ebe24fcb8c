//! What is let go: records past their age or their namespace's share of the disk; and what is tidied up meanwhile.
//!
//! Whole chunks go, oldest first: a record may outlive its age by as much as its chunk spans, and a namespace is cut
//! to its bytes within one chunk. Plans are made by reading, in a few short writes carried out; a plan that is out
//! of date deletes nothing that it did not mean to, since the number of a chunk is never used again.
//!
//! A namespace with little traffic leaves a chunk per flush. Neighbours that are small are put together here, at least
//! [`MERGE_COUNT`] of them into one, so that a record is rewritten a few times at most and a list reads few rows.

use std::sync::Arc;

use rusqlite::{Connection, params};

use crate::model::{Namespace, Timestamp};
use crate::store::Result;
use crate::store::chunk::{self, Chunk, Packer};
use crate::store::seal::Seal;

use super::activations::{self, DELETE_COUNT};
use super::error::corrupt;
use super::{Embedded, from_int, to_int};

/// Fewest neighbours that are put together.
const MERGE_COUNT: usize = 8;
/// Free pages kept for what comes next; more than these are given back to the disk.
const FREE_PAGES: i64 = 4096;
/// Pages given back in one commit.
const VACUUM_PAGES: i64 = 1024;

/// A chunk, as far as retention looks at it.
#[derive(Debug, Clone, Copy)]
struct Row {
    seq: i64,
    start_max: Timestamp,
    count: usize,
    raw_bytes: usize,
    stored_bytes: u64,
}

/// What is to happen to a namespace's chunks.
#[derive(Debug, Default)]
struct Plan {
    delete: Vec<Row>,
    merge: Vec<Vec<Row>>,
}

impl Embedded {
    /// Deletes and tidies; how many records went.
    pub(super) async fn expire_records(&self, now: Timestamp) -> Result<usize> {
        let oldest = Timestamp(
            now.0
                .saturating_sub(self.config.retention_age_s.saturating_mul(1000)),
        );
        let bytes_max = self.config.retention_bytes_max;
        let mut count = 0;
        for namespace in self.readers.read(namespaces).await? {
            let name = namespace.clone();
            let plan = self
                .readers
                .read(move |connection| Ok(plan(&rows(connection, &name)?, oldest, bytes_max)))
                .await?;
            for rows in plan.delete.chunks(DELETE_COUNT) {
                let rows = rows.to_vec();
                count += self
                    .write_unforced(move |connection| delete(connection, &rows))
                    .await?;
            }
            for rows in plan.merge {
                self.merge(&namespace, rows).await?;
            }
        }
        self.vacuum().await?;
        Ok(count)
    }

    async fn merge(&self, namespace: &Namespace, rows: Vec<Row>) -> Result<()> {
        let (name, read) = (namespace.clone(), rows.clone());
        let (seal, opens) = (Arc::clone(&self.seal), Arc::clone(&self.seal));
        let merged = self
            .readers
            .read(move |connection| merge(connection, &opens, &name, &read))
            .await?;
        let Some(chunk) = merged else { return Ok(()) };
        self.write_unforced(move |connection| replace(connection, &seal, &rows, chunk))
            .await
    }

    async fn vacuum(&self) -> Result<()> {
        loop {
            let free: i64 = self
                .readers
                .read(|connection| {
                    Ok(connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?)
                })
                .await?;
            let surplus = VACUUM_PAGES.min(free - FREE_PAGES);
            if surplus <= 0 {
                return Ok(());
            }
            self.write_unforced(move |connection| {
                let sql = format!("PRAGMA incremental_vacuum({surplus})");
                Ok(connection.execute_batch(&sql)?)
            })
            .await?;
        }
    }
}

fn namespaces(connection: &Connection) -> Result<Vec<Namespace>> {
    // Hops from one to the next over the index instead of walking through all chunks.
    let mut statement = connection.prepare_cached(
        "WITH RECURSIVE names (name) AS (
             SELECT min(namespace) FROM chunks
             UNION ALL
             SELECT (SELECT min(namespace) FROM chunks WHERE namespace > name) FROM names
             WHERE name IS NOT NULL
         ) SELECT name FROM names WHERE name IS NOT NULL",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        found.push(Namespace::parse(&name).map_err(|error| corrupt("records", error))?);
    }
    Ok(found)
}

/// The chunks of a namespace, newest first.
fn rows(connection: &Connection, namespace: &Namespace) -> Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, start_max, count, raw_bytes, stored_bytes
         FROM chunks INDEXED BY chunks_by_start WHERE namespace = ? ORDER BY start_max DESC",
    )?;
    let size = |number: i64| usize::try_from(number).unwrap_or_default();
    let rows = statement.query_map([namespace.as_str()], |row| {
        Ok(Row {
            seq: row.get(0)?,
            start_max: Timestamp(from_int(row.get(1)?)),
            count: size(row.get(2)?),
            raw_bytes: size(row.get(3)?),
            stored_bytes: from_int(row.get(4)?),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Decides about chunks, newest first.
fn plan(rows: &[Row], oldest: Timestamp, bytes_max: u64) -> Plan {
    let mut plan = Plan::default();
    let (mut bytes, mut small, mut small_bytes) = (0u64, Vec::new(), 0);
    for row in rows {
        bytes = bytes.saturating_add(row.stored_bytes);
        if row.start_max < oldest || bytes > bytes_max {
            plan.delete.push(*row);
            continue;
        }
        if small_bytes + row.raw_bytes > chunk::RAW_BYTES {
            merge_if_many(&mut plan, &mut small);
            small_bytes = 0;
        }
        if row.raw_bytes <= chunk::RAW_BYTES / MERGE_COUNT {
            small_bytes += row.raw_bytes;
            small.push(*row);
        }
    }
    merge_if_many(&mut plan, &mut small);
    plan
}

fn merge_if_many(plan: &mut Plan, small: &mut Vec<Row>) {
    let rows = std::mem::take(small);
    if rows.len() >= MERGE_COUNT {
        plan.merge.push(rows);
    }
}

/// How many records went.
fn delete(connection: &Connection, rows: &[Row]) -> Result<usize> {
    let mut statement = connection.prepare_cached("DELETE FROM chunks WHERE seq = ?")?;
    let mut count = 0;
    for row in rows {
        if statement.execute([row.seq])? > 0 {
            count += row.count;
        }
    }
    Ok(count)
}

/// One chunk in place of many; `None` when one of them has gone.
fn merge(
    connection: &Connection,
    seal: &Seal,
    namespace: &Namespace,
    rows: &[Row],
) -> Result<Option<Chunk>> {
    let mut packer = Packer::default();
    // Oldest first, as they were written.
    for row in rows.iter().rev() {
        let Some((entries, body)) = activations::blobs(connection, row.seq)? else {
            return Ok(None);
        };
        let raw = activations::unpacked(seal, namespace, &entries, body)?;
        packer.add_chunk(&entries, &raw)?;
    }
    Ok(packer.finish(namespace, b""))
}

fn replace(connection: &Connection, seal: &Seal, rows: &[Row], chunk: Chunk) -> Result<()> {
    let mut is_there =
        connection.prepare_cached("SELECT 1 FROM chunks WHERE seq = ? AND count = ?")?;
    for row in rows {
        if !is_there.exists(params![row.seq, to_int(row.count as u64)])? {
            return Ok(()); // Deleted since: its records must not come back.
        }
    }
    delete(connection, rows)?;
    activations::insert(connection, seal, Some(chunk))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: i64, start_max: u64, bytes: u64) -> Row {
        Row {
            seq,
            start_max: Timestamp(start_max),
            count: 1,
            raw_bytes: usize::try_from(bytes).unwrap(),
            stored_bytes: bytes,
        }
    }

    fn seqs(rows: &[Row]) -> Vec<i64> {
        rows.iter().map(|row| row.seq).collect()
    }

    #[test]
    fn what_is_too_old_goes_and_what_is_just_young_enough_stays() {
        let plan = plan(
            &[row(3, 30, 1), row(2, 20, 1), row(1, 10, 1)],
            Timestamp(20),
            100,
        );
        assert_eq!(seqs(&plan.delete), [1]);
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits_into_its_bytes() {
        let plan = plan(
            &[row(3, 30, 50), row(2, 20, 50), row(1, 10, 1)],
            Timestamp(0),
            100,
        );
        assert_eq!(seqs(&plan.delete), [1]);
    }

    #[test]
    fn small_neighbours_are_merged_and_a_large_one_is_left_alone() {
        let large = u64::try_from(chunk::RAW_BYTES).unwrap();
        let mut rows: Vec<Row> = (0..8).map(|n| row(20 - n, 100, 10)).collect();
        rows.push(row(9, 50, large));
        rows.push(row(8, 40, 10));
        let plan = plan(&rows, Timestamp(0), u64::MAX);
        assert_eq!(plan.merge.len(), 1);
        assert_eq!(seqs(&plan.merge[0]), [20, 19, 18, 17, 16, 15, 14, 13]);
    }
}
