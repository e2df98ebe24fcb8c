//! The log of accepted work.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::model::{ActivationId, Namespace};
use crate::store::{Accepted, Pending, Result};

use super::Embedded;
use super::batch::Urgent;
use super::error::{closed, corrupt};
use super::inbox::{AcceptedEntry, Inbox};
use crate::store::chunk::entries_of;

#[async_trait]
impl Accepted for Embedded {
    async fn accept(&self, namespace: &Namespace, id: ActivationId, work: Bytes) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let unclaimed = Unclaimed {
            inbox: &self.inbox,
            id: Some(id),
        };
        self.inbox.push(Urgent::Accept {
            namespace: namespace.clone(),
            id,
            work,
            reply,
        });
        let result = answer.await.unwrap_or_else(|_| Err(closed()));
        unclaimed.claim();
        result
    }

    fn begin(&self, id: ActivationId) {
        self.inbox.begin(id);
    }

    async fn begin_durably(&self, id: ActivationId) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.inbox.push(Urgent::Begin { id, reply });
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    fn settle(&self, id: ActivationId) {
        self.inbox.settle(id);
    }

    async fn pending(&self) -> Result<Vec<Pending>> {
        self.inbox.flush().await?;
        self.readers.read(pending).await
    }
}

/// A caller that left before it heard that its work was accepted was promised nothing, and nobody will run the work:
/// it is forgotten, or the next start would run it.
struct Unclaimed<'a> {
    inbox: &'a Inbox,
    id: Option<ActivationId>,
}

impl Unclaimed<'_> {
    fn claim(mut self) {
        self.id = None;
    }
}

impl Drop for Unclaimed<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.inbox.settle(id);
        }
    }
}

fn pending(connection: &Connection) -> Result<Vec<Pending>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, work, coalesce(count, 0) FROM accepted LEFT JOIN begun USING (seq) ORDER BY seq",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Pending {
            id: ActivationId(u128::from_be_bytes(row.get(0)?)),
            work: Bytes::from(row.get::<_, Vec<u8>>(1)?),
            begun: row.get(2)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Notes accepted work.
pub(super) fn insert(
    connection: &Connection,
    seq: i64,
    namespace: &Namespace,
    id: ActivationId,
    work: &[u8],
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO accepted (seq, id, namespace, work) VALUES (?, ?, ?, ?)")?
        .execute(params![seq, id.0.to_be_bytes(), namespace.as_str(), work])?;
    Ok(())
}

/// Notes that runs of it began.
pub(super) fn begin(connection: &Connection, seq: i64, count: u32) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO begun (seq, count) VALUES (?1, ?2)
             ON CONFLICT (seq) DO UPDATE SET count = count + ?2",
        )?
        .execute(params![seq, count])?;
    Ok(())
}

/// Forgets it.
pub(super) fn remove(connection: &Connection, seq: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM accepted WHERE seq = ?")?
        .execute([seq])?;
    connection
        .prepare_cached("DELETE FROM begun WHERE seq = ?")?
        .execute([seq])?;
    Ok(())
}

/// What a former life of the process left: all accepted work, and whether each has its record already.
///
/// Looks through the chunks that could hold such a record by their range of ids; only after a crash are there any.
pub(super) fn recover(connection: &Connection) -> Result<HashMap<ActivationId, AcceptedEntry>> {
    let mut found = HashMap::new();
    let mut statement = connection.prepare("SELECT seq, id, namespace FROM accepted")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let namespace: String = row.get(2)?;
        let entry = AcceptedEntry {
            seq: row.get(0)?,
            namespace: Namespace::parse(&namespace).map_err(|e| corrupt("accepted work", e))?,
            recorded: false,
        };
        found.insert(ActivationId(u128::from_be_bytes(row.get(1)?)), entry);
    }
    let namespaces: HashSet<Namespace> = found.values().map(|e| e.namespace.clone()).collect();
    for namespace in namespaces {
        mark_recorded(connection, &namespace, &mut found)?;
    }
    Ok(found)
}

fn mark_recorded(
    connection: &Connection,
    namespace: &Namespace,
    found: &mut HashMap<ActivationId, AcceptedEntry>,
) -> Result<()> {
    let of_it = found.iter().filter(|(_, e)| e.namespace == *namespace);
    let Some(oldest) = of_it.map(|(id, _)| *id).min() else {
        return Ok(());
    };
    let mut statement = connection
        .prepare_cached("SELECT entries FROM chunks WHERE namespace = ? AND id_max >= ?")?;
    let mut rows = statement.query(params![namespace.as_str(), oldest.0.to_be_bytes()])?;
    while let Some(row) = rows.next()? {
        let entries = row
            .get_ref(0)?
            .as_blob()
            .map_err(|e| corrupt("records", e))?;
        for entry in entries_of(entries) {
            if let Some(entry) = found.get_mut(&entry.id) {
                entry.recorded = true;
            }
        }
    }
    Ok(())
}
