//! Entities.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::model::{Digest, EntityName, Namespace, Timestamp};
use crate::store::{
    Change, Collection, Document, Entities, EntityFilter, EntityKey, Error, Expect, Page, Result,
    Revision,
};

use super::error::corrupt;
use super::{Embedded, codes, from_int, to_int};

#[async_trait]
impl Entities for Embedded {
    async fn get(&self, key: &EntityKey) -> Result<Option<(Document, Revision)>> {
        let key = key.clone();
        self.readers
            .read(move |connection| get(connection, key))
            .await
    }

    async fn put(
        &self,
        document: Document,
        code: Option<Arc<str>>,
        expect: Expect,
    ) -> Result<Revision> {
        self.write(move |connection| put(connection, &document, code.as_deref(), expect))
            .await
    }

    async fn delete(&self, key: &EntityKey, expect: Revision) -> Result<()> {
        let key = key.clone();
        self.write(move |connection| delete(connection, &key, expect))
            .await
    }

    async fn reseal(&self, key: &EntityKey, expect: Revision, body: Arc<str>) -> Result<bool> {
        let key = key.clone();
        self.write(move |connection| {
            let changed = connection
                .prepare_cached(
                    "UPDATE entities SET body = ?
                     WHERE namespace = ? AND package = ? AND name = ? AND revision = ?",
                )?
                .execute(params![
                    &*body,
                    key.namespace.as_str(),
                    package_text(key.package.as_ref()),
                    key.name.as_str(),
                    to_int(expect.0),
                ])?;
            Ok(changed > 0)
        })
        .await
    }

    async fn write(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>> {
        // A job that fails is undone as a whole.
        self.write(move |connection| {
            let made = changes.iter().map(|change| make(connection, change));
            made.collect()
        })
        .await
    }

    async fn list(
        &self,
        namespace: &Namespace,
        filter: &EntityFilter,
        page: Page,
    ) -> Result<Vec<Document>> {
        let (namespace, filter) = (namespace.clone(), filter.clone());
        self.readers
            .read(move |connection| list(connection, &namespace, &filter, page))
            .await
    }

    async fn count(&self, namespace: &Namespace, filter: &EntityFilter) -> Result<usize> {
        let (namespace, filter) = (namespace.clone(), filter.clone());
        self.readers
            .read(move |connection| count(connection, &namespace, &filter))
            .await
    }

    async fn code(&self, digest: &Digest) -> Result<Option<Arc<str>>> {
        let digest = *digest;
        self.readers
            .read(move |connection| codes::get(connection, digest))
            .await
    }
}

/// `''` stands for no package.
fn package_text(package: Option<&EntityName>) -> &str {
    package.map_or("", EntityName::as_str)
}

fn collection_number(collection: Collection) -> i64 {
    match collection {
        Collection::Actions => 1,
        Collection::Packages => 2,
        Collection::Rules => 3,
        Collection::Triggers => 4,
    }
}

fn collection_of(number: i64) -> Result<Collection> {
    match number {
        1 => Ok(Collection::Actions),
        2 => Ok(Collection::Packages),
        3 => Ok(Collection::Rules),
        4 => Ok(Collection::Triggers),
        other => Err(corrupt("an entity", format!("unknown collection {other}"))),
    }
}

fn name(text: &str) -> Result<EntityName> {
    EntityName::parse(text).map_err(|error| corrupt("an entity's name", error))
}

/// What follows a document's key in a row: `collection, updated, code, body, revision` from column `from`.
fn document(row: &Row<'_>, from: usize, key: EntityKey) -> Result<(Document, Revision)> {
    let document = Document {
        key,
        collection: collection_of(row.get(from)?)?,
        updated: Timestamp(from_int(row.get(from + 1)?)),
        code: row.get::<_, Option<[u8; 32]>>(from + 2)?.map(Digest),
        body: row.get(from + 3)?,
    };
    Ok((document, Revision(from_int(row.get(from + 4)?))))
}

fn get(connection: &Connection, key: EntityKey) -> Result<Option<(Document, Revision)>> {
    let mut statement = connection.prepare_cached(
        "SELECT collection, updated, code, body, revision FROM entities
         WHERE namespace = ? AND package = ? AND name = ?",
    )?;
    let mut rows = statement.query(params![
        key.namespace.as_str(),
        package_text(key.package.as_ref()),
        key.name.as_str()
    ])?;
    match rows.next()? {
        Some(row) => Ok(Some(document(row, 0, key)?)),
        None => Ok(None),
    }
}

/// Revision and code of what is stored under a key.
fn stored(
    connection: &Connection,
    key: &EntityKey,
) -> Result<Option<(Revision, Option<[u8; 32]>)>> {
    let mut statement = connection.prepare_cached(
        "SELECT revision, code FROM entities WHERE namespace = ? AND package = ? AND name = ?",
    )?;
    let found = statement.query_row(
        params![
            key.namespace.as_str(),
            package_text(key.package.as_ref()),
            key.name.as_str()
        ],
        |row| Ok((Revision(from_int(row.get(0)?)), row.get(1)?)),
    );
    Ok(found.optional()?)
}

fn put(
    connection: &Connection,
    document: &Document,
    code: Option<&str>,
    expect: Expect,
) -> Result<Revision> {
    let before = stored(connection, &document.key)?;
    let is_expected = match (&before, expect) {
        (None, Expect::Absent) => true,
        (Some((found, _)), Expect::Revision(expected)) => *found == expected,
        _ => false,
    };
    if !is_expected {
        return Err(Error::Conflict);
    }
    codes::keep(connection, document.code, code)?;
    let revision = next_revision(connection)?;
    connection
        .prepare_cached(
            "INSERT INTO entities
                 (namespace, package, name, collection, updated, revision, code, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (namespace, package, name) DO UPDATE
             SET collection = ?4, updated = ?5, revision = ?6, code = ?7, body = ?8",
        )?
        .execute(params![
            document.key.namespace.as_str(),
            package_text(document.key.package.as_ref()),
            document.key.name.as_str(),
            collection_number(document.collection),
            to_int(document.updated.0),
            to_int(revision.0),
            document.code.map(|digest| digest.0),
            &*document.body,
        ])?;
    if let Some((_, Some(code))) = before
        && document.code.map(|digest| digest.0) != Some(code)
    {
        codes::collect(connection, &code)?;
    }
    Ok(revision)
}

fn make(connection: &Connection, change: &Change) -> Result<Option<Revision>> {
    match change {
        Change::Put(document, expect) => put(connection, document, None, *expect).map(Some),
        Change::Delete(key, expect) => delete(connection, key, *expect).map(|()| None),
        Change::Keep(key, expect) => match stored(connection, key)? {
            Some((found, _)) if found == *expect => Ok(None),
            _ => Err(Error::Conflict),
        },
    }
}

/// A revision that nothing has had before.
pub(super) fn next_revision(connection: &Connection) -> Result<Revision> {
    let value: i64 = connection
        .prepare_cached(
            "UPDATE counters SET value = value + 1 WHERE name = 'revision' RETURNING value",
        )?
        .query_row([], |row| row.get(0))?;
    Ok(Revision(from_int(value)))
}

fn delete(connection: &Connection, key: &EntityKey, expect: Revision) -> Result<()> {
    match stored(connection, key)? {
        Some((found, code)) if found == expect => {
            connection
                .prepare_cached(
                    "DELETE FROM entities WHERE namespace = ? AND package = ? AND name = ?",
                )?
                .execute(params![
                    key.namespace.as_str(),
                    package_text(key.package.as_ref()),
                    key.name.as_str()
                ])?;
            match code {
                Some(code) => codes::collect(connection, &code),
                None => Ok(()),
            }
        }
        _ => Err(Error::Conflict),
    }
}

/// Removes every entity of a namespace, and the code that only they needed.
pub(super) fn delete_all(connection: &Connection, namespace: &Namespace) -> Result<()> {
    let codes: Vec<[u8; 32]> = connection
        .prepare_cached(
            "SELECT DISTINCT code FROM entities WHERE namespace = ? AND code IS NOT NULL",
        )?
        .query_map([namespace.as_str()], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    connection
        .prepare_cached("DELETE FROM entities WHERE namespace = ?")?
        .execute([namespace.as_str()])?;
    codes
        .iter()
        .try_for_each(|code| codes::collect(connection, code))
}

fn list(
    connection: &Connection,
    namespace: &Namespace,
    filter: &EntityFilter,
    page: Page,
) -> Result<Vec<Document>> {
    let mut statement = connection.prepare_cached(
        "SELECT package, name, collection, updated, code, body, revision FROM entities
         WHERE namespace = ?1 AND collection = ?2 AND (?3 IS NULL OR package = ?3)
         ORDER BY updated DESC, package, name LIMIT ?4 OFFSET ?5",
    )?;
    let mut rows = statement.query(params![
        namespace.as_str(),
        collection_number(filter.collection),
        filter.package.as_ref().map(EntityName::as_str),
        to_int(page.limit as u64),
        to_int(page.skip as u64),
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let package: String = row.get(0)?;
        let own: String = row.get(1)?;
        let key = EntityKey {
            namespace: namespace.clone(),
            package: if package.is_empty() {
                None
            } else {
                Some(name(&package)?)
            },
            name: name(&own)?,
        };
        found.push(document(row, 2, key)?.0);
    }
    Ok(found)
}

fn count(connection: &Connection, namespace: &Namespace, filter: &EntityFilter) -> Result<usize> {
    let count: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM entities
             WHERE namespace = ?1 AND collection = ?2 AND (?3 IS NULL OR package = ?3)",
        )?
        .query_row(
            params![
                namespace.as_str(),
                collection_number(filter.collection),
                filter.package.as_ref().map(EntityName::as_str),
            ],
            |row| row.get(0),
        )?;
    Ok(usize::try_from(count).unwrap_or_default())
}
