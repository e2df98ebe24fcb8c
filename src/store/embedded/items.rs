//! Items: the platform's own documents.
//!
//! An expired item is a row that nobody sees: it goes when it is replaced, deleted or tidied up. Its code goes with
//! the row.
//!
//! What may be many is removed [`DELETE_COUNT`] at a time, each step a write of its own: in one go, a full shelf would
//! hold up everybody's writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use crate::model::{Digest, Namespace, Timestamp};
use crate::store::{Error, Expect, Item, Items, Page, Result, Revision, Shelf};

use super::error::corrupt;
use super::{Embedded, codes, entities, from_int, to_int};

/// Most items removed in one write.
const DELETE_COUNT: usize = 128;

#[async_trait]
impl Items for Embedded {
    async fn get(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        name: &str,
    ) -> Result<Option<(Item, Revision)>> {
        let (namespace, name) = (namespace.clone(), name.to_owned());
        self.readers
            .read(move |connection| get(connection, &namespace, shelf, &name))
            .await
    }

    async fn put(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        item: Item,
        expect: Option<Expect>,
    ) -> Result<Revision> {
        let (namespace, inbox) = (namespace.clone(), Arc::clone(&self.inbox));
        self.write(move |connection| {
            // Asked here, where writes have their order: either this sees the burial, or the deletion comes later.
            if inbox.is_buried(&namespace) {
                return Err(Error::Conflict);
            }
            put(connection, &namespace, shelf, &item, expect)
        })
        .await
    }

    async fn reseal(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        item: Item,
        expect: Revision,
    ) -> Result<bool> {
        let namespace = namespace.clone();
        self.write(move |connection| {
            let changed = connection
                .prepare_cached(
                    "UPDATE items SET body = ?
                     WHERE namespace = ? AND shelf = ? AND name = ? AND revision = ?",
                )?
                .execute(params![
                    &*item.body,
                    namespace.as_str(),
                    shelf_number(shelf),
                    item.name,
                    to_int(expect.0),
                ])?;
            Ok(changed > 0)
        })
        .await
    }

    async fn delete(&self, namespace: &Namespace, shelf: Shelf, name: &str) -> Result<bool> {
        let (namespace, name) = (namespace.clone(), name.to_owned());
        self.write(move |connection| delete(connection, &namespace, shelf, &name))
            .await
    }

    async fn list(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        prefix: &str,
        page: Page,
    ) -> Result<Vec<Item>> {
        let (namespace, range) = (namespace.clone(), Range::of(prefix));
        self.readers
            .read(move |connection| list(connection, &namespace, shelf, &range, page))
            .await
    }

    async fn count(&self, namespace: &Namespace, shelf: Shelf, prefix: &str) -> Result<usize> {
        let (namespace, range) = (namespace.clone(), Range::of(prefix));
        self.readers
            .read(move |connection| count(connection, &namespace, shelf, &range))
            .await
    }

    async fn purge(&self, namespace: &Namespace, shelf: Shelf, prefix: &str) -> Result<usize> {
        let range = Range::of(prefix);
        let mut count = 0;
        loop {
            let (namespace, range) = (namespace.clone(), range.clone());
            let removed = self
                .write(move |connection| purge_some(connection, &namespace, shelf, &range))
                .await?;
            count += removed.visible;
            if removed.rows < DELETE_COUNT {
                return Ok(count);
            }
        }
    }

    async fn everywhere(&self, shelf: Shelf) -> Result<Vec<(Namespace, Item)>> {
        self.readers
            .read(move |connection| everywhere(connection, shelf))
            .await
    }

    async fn expire_items(&self, now: Timestamp) -> Result<usize> {
        let mut count = 0;
        loop {
            let removed = self
                .write_unforced(move |connection| expire_some(connection, now))
                .await?;
            count += removed.rows;
            if removed.rows < DELETE_COUNT {
                return Ok(count);
            }
        }
    }
}

fn shelf_number(shelf: Shelf) -> i64 {
    match shelf {
        Shelf::Apis => 1,
        Shelf::Schedules => 2,
        Shelf::DeadLetters => 3,
        Shelf::Revisions => 4,
        Shelf::Idempotency => 5,
        Shelf::Cancelled => 6,
        Shelf::KeyValue => 7,
    }
}

/// The names that start with a prefix: those from `from` to before `to`.
#[derive(Debug, Clone)]
struct Range {
    from: String,
    to: Value,
}

impl Range {
    /// Text sorts by its bytes, and UTF-8 sorts like the characters it stands for: what starts with `ab` comes before
    /// `ac`. A blob sorts after every text.
    fn of(prefix: &str) -> Self {
        let mut to: Vec<char> = prefix.chars().collect();
        let to = loop {
            match to.pop() {
                None => break Value::Blob(Vec::new()),
                Some(char::MAX) => {}
                Some(last) => {
                    // The range leaves out what is no character, and there is one after `last`.
                    to.extend((last..=char::MAX).nth(1));
                    break Value::Text(to.into_iter().collect());
                }
            }
        };
        Self {
            from: prefix.to_owned(),
            to,
        }
    }
}

/// What a row says from column `from`: `name, code, expires, body`.
fn item(row: &Row<'_>, from: usize) -> Result<Item> {
    Ok(Item {
        name: row.get(from)?,
        code: row.get::<_, Option<[u8; 32]>>(from + 1)?.map(Digest),
        expires: row
            .get::<_, Option<i64>>(from + 2)?
            .map(|expires| Timestamp(from_int(expires))),
        body: row.get(from + 3)?,
    })
}

fn get(
    connection: &Connection,
    namespace: &Namespace,
    shelf: Shelf,
    name: &str,
) -> Result<Option<(Item, Revision)>> {
    let mut statement = connection.prepare_cached(
        "SELECT name, code, expires, body, revision FROM items
         WHERE namespace = ? AND shelf = ? AND name = ? AND (expires IS NULL OR expires > ?)",
    )?;
    let now = to_int(Timestamp::now().0);
    let mut rows = statement.query(params![namespace.as_str(), shelf_number(shelf), name, now])?;
    match rows.next()? {
        Some(row) => Ok(Some((item(row, 0)?, Revision(from_int(row.get(4)?))))),
        None => Ok(None),
    }
}

/// What is under a name, expired or not.
struct Stored {
    revision: Revision,
    code: Option<[u8; 32]>,
    is_visible: bool,
}

fn stored(
    connection: &Connection,
    namespace: &Namespace,
    shelf: Shelf,
    name: &str,
) -> Result<Option<Stored>> {
    let now = to_int(Timestamp::now().0);
    let found = connection
        .prepare_cached(
            "SELECT revision, code, expires IS NULL OR expires > ? FROM items
             WHERE namespace = ? AND shelf = ? AND name = ?",
        )?
        .query_row(
            params![now, namespace.as_str(), shelf_number(shelf), name],
            |row| {
                Ok(Stored {
                    revision: Revision(from_int(row.get(0)?)),
                    code: row.get(1)?,
                    is_visible: row.get(2)?,
                })
            },
        );
    Ok(found.optional()?)
}

fn put(
    connection: &Connection,
    namespace: &Namespace,
    shelf: Shelf,
    item: &Item,
    expect: Option<Expect>,
) -> Result<Revision> {
    let before = stored(connection, namespace, shelf, &item.name)?;
    let visible = before.as_ref().filter(|before| before.is_visible);
    let is_expected = match (visible, expect) {
        (_, None) | (None, Some(Expect::Absent)) => true,
        (Some(found), Some(Expect::Revision(expected))) => found.revision == expected,
        _ => false,
    };
    if !is_expected {
        return Err(Error::Conflict);
    }
    codes::keep(connection, item.code, None)?;
    let revision = entities::next_revision(connection)?;
    let code = item.code.map(|digest| digest.0);
    connection
        .prepare_cached(
            "INSERT INTO items (namespace, shelf, name, revision, code, expires, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (namespace, shelf, name) DO UPDATE
             SET revision = ?4, code = ?5, expires = ?6, body = ?7",
        )?
        .execute(params![
            namespace.as_str(),
            shelf_number(shelf),
            item.name,
            to_int(revision.0),
            code,
            item.expires.map(|expires| to_int(expires.0)),
            &*item.body,
        ])?;
    if let Some(former) = before.and_then(|before| before.code)
        && code != Some(former)
    {
        codes::collect(connection, &former)?;
    }
    Ok(revision)
}

/// What a deletion took.
#[derive(Debug, Default)]
struct Removed {
    rows: usize,
    /// Those of them that had not expired.
    visible: usize,
}

/// Runs a `DELETE … RETURNING code, expires`, and removes the code that nobody needs after it.
fn remove(connection: &Connection, sql: &str, params: impl Params) -> Result<Removed> {
    let now = to_int(Timestamp::now().0);
    let (mut removed, mut digests) = (Removed::default(), BTreeSet::<[u8; 32]>::new());
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        digests.extend(row.get::<_, Option<[u8; 32]>>(0)?);
        let expires: Option<i64> = row.get(1)?;
        removed.rows += 1;
        removed.visible += usize::from(expires.is_none_or(|expires| expires > now));
    }
    digests
        .iter()
        .try_for_each(|digest| codes::collect(connection, digest))?;
    Ok(removed)
}

fn delete(
    connection: &Connection,
    namespace: &Namespace,
    shelf: Shelf,
    name: &str,
) -> Result<bool> {
    let removed = remove(
        connection,
        "DELETE FROM items WHERE namespace = ? AND shelf = ? AND name = ?
         RETURNING code, expires",
        params![namespace.as_str(), shelf_number(shelf), name],
    )?;
    Ok(removed.visible > 0)
}

fn purge_some(
    connection: &Connection,
    namespace: &Namespace,
    shelf: Shelf,
    range: &Range,
) -> Result<Removed> {
    remove(
        connection,
        "DELETE FROM items WHERE rowid IN
             (SELECT rowid FROM items
              WHERE namespace = ? AND shelf = ? AND name >= ? AND name < ? LIMIT ?)
         RETURNING code, expires",
        params![
            namespace.as_str(),
            shelf_number(shelf),
            range.from,
            range.to,
            to_int(DELETE_COUNT as u64)
        ],
    )
}

fn expire_some(connection: &Connection, now: Timestamp) -> Result<Removed> {
    remove(
        connection,
        "DELETE FROM items WHERE rowid IN
             (SELECT rowid FROM items WHERE expires <= ? LIMIT ?)
         RETURNING code, expires",
        params![to_int(now.0), to_int(DELETE_COUNT as u64)],
    )
}

/// Removes some of a namespace's items; how many, 0 when none are left.
pub(super) fn delete_some(connection: &Connection, namespace: &Namespace) -> Result<usize> {
    let removed = remove(
        connection,
        "DELETE FROM items WHERE rowid IN (SELECT rowid FROM items WHERE namespace = ? LIMIT ?)
         RETURNING code, expires",
        params![namespace.as_str(), to_int(DELETE_COUNT as u64)],
    )?;
    Ok(removed.rows)
}

fn list(
    connection: &Connection,
    namespace: &Namespace,
    shelf: Shelf,
    range: &Range,
    page: Page,
) -> Result<Vec<Item>> {
    let mut statement = connection.prepare_cached(
        "SELECT name, code, expires, body FROM items
         WHERE namespace = ? AND shelf = ? AND name >= ? AND name < ?
             AND (expires IS NULL OR expires > ?)
         ORDER BY name DESC LIMIT ? OFFSET ?",
    )?;
    let mut rows = statement.query(params![
        namespace.as_str(),
        shelf_number(shelf),
        range.from,
        range.to,
        to_int(Timestamp::now().0),
        to_int(page.limit as u64),
        to_int(page.skip as u64),
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(item(row, 0)?);
    }
    Ok(found)
}

fn count(
    connection: &Connection,
    namespace: &Namespace,
    shelf: Shelf,
    range: &Range,
) -> Result<usize> {
    let count: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM items
             WHERE namespace = ? AND shelf = ? AND name >= ? AND name < ?
                 AND (expires IS NULL OR expires > ?)",
        )?
        .query_row(
            params![
                namespace.as_str(),
                shelf_number(shelf),
                range.from,
                range.to,
                to_int(Timestamp::now().0),
            ],
            |row| row.get(0),
        )?;
    Ok(usize::try_from(count).unwrap_or_default())
}

fn everywhere(connection: &Connection, shelf: Shelf) -> Result<Vec<(Namespace, Item)>> {
    // Hops from one namespace to the next over the index instead of walking through all shelves.
    let mut statement = connection.prepare_cached(
        "WITH RECURSIVE names (namespace) AS (
             SELECT min(namespace) FROM items
             UNION ALL
             SELECT (SELECT min(namespace) FROM items WHERE namespace > names.namespace)
             FROM names WHERE namespace IS NOT NULL
         )
         SELECT items.namespace, name, code, expires, body
         FROM names CROSS JOIN items ON items.namespace = names.namespace
         WHERE shelf = ? AND (expires IS NULL OR expires > ?)",
    )?;
    let now = to_int(Timestamp::now().0);
    let mut rows = statement.query(params![shelf_number(shelf), now])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let namespace: String = row.get(0)?;
        let namespace = Namespace::parse(&namespace).map_err(|error| corrupt("an item", error))?;
        found.push((namespace, item(row, 1)?));
    }
    Ok(found)
}
