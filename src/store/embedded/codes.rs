//! Code: kept once, by its digest, as long as an entity or an item refers to it.
//!
//! Who refers to code calls [`keep`] before it writes the reference, and [`collect`] after it removed one, both in the
//! transaction that does so.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use crate::model::Digest;
use crate::store::{Error, Result};

pub(super) fn get(connection: &Connection, digest: Digest) -> Result<Option<Arc<str>>> {
    Ok(connection
        .prepare_cached("SELECT body FROM codes WHERE digest = ?")?
        .query_row([digest.0], |row| row.get(0))
        .optional()?)
}

/// Sees to it that the code somebody is about to refer to is there. Code that was not given must be stored already; it
/// was there when the writer looked, so if it has gone since, the writer has to look again.
pub(super) fn keep(
    connection: &Connection,
    digest: Option<Digest>,
    code: Option<&str>,
) -> Result<()> {
    let Some(digest) = digest else { return Ok(()) };
    let is_stored = connection
        .prepare_cached("SELECT 1 FROM codes WHERE digest = ?")?
        .exists([digest.0])?;
    match code {
        _ if is_stored => Ok(()),
        None => Err(Error::Conflict),
        Some(code) => {
            connection
                .prepare_cached("INSERT INTO codes (digest, body) VALUES (?, ?)")?
                .execute(params![digest.0, code])?;
            Ok(())
        }
    }
}

/// Removes code that nobody refers to any more.
pub(super) fn collect(connection: &Connection, digest: &[u8; 32]) -> Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM codes WHERE digest = ?1
             AND NOT EXISTS (SELECT 1 FROM entities WHERE code = ?1)
             AND NOT EXISTS (SELECT 1 FROM items WHERE code = ?1)",
        )?
        .execute([digest])?;
    Ok(())
}
