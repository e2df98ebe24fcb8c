//! Namespaces, their keys and limits.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::model::{Namespace, NamespaceLimits, Tenant};
use crate::store::{Error, Result, Tenants};

use super::error::corrupt;
use super::{Embedded, activations, entities, items};

#[async_trait]
impl Tenants for Embedded {
    async fn get(&self, namespace: &Namespace) -> Result<Option<Tenant>> {
        let namespace = namespace.clone();
        self.readers
            .read(move |connection| get(connection, &namespace))
            .await
    }

    async fn by_uuid(&self, uuid: Uuid) -> Result<Option<Tenant>> {
        self.readers
            .read(move |connection| {
                let body = connection
                    .prepare_cached("SELECT body FROM tenants WHERE uuid = ?")?
                    .query_row([uuid.into_bytes()], |row| row.get::<_, String>(0))
                    .optional()?;
                body.map(|body| parse(&body)).transpose()
            })
            .await
    }

    async fn list(&self) -> Result<Vec<Tenant>> {
        self.readers
            .read(|connection| {
                let mut statement =
                    connection.prepare_cached("SELECT body FROM tenants ORDER BY namespace")?;
                let mut rows = statement.query([])?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    found.push(parse(&row.get::<_, String>(0)?)?);
                }
                Ok(found)
            })
            .await
    }

    async fn put(&self, tenant: Tenant, must_be_new: bool) -> Result<()> {
        let namespace = tenant.namespace.clone();
        self.write(move |connection| {
            if must_be_new && get(connection, &tenant.namespace)?.is_some() {
                return Err(Error::Conflict);
            }
            put(connection, &tenant)
        })
        .await?;
        self.inbox.unbury(&namespace);
        Ok(())
    }

    async fn put_limits(&self, namespace: &Namespace, limits: NamespaceLimits) -> Result<()> {
        let namespace = namespace.clone();
        self.write(move |connection| {
            let mut tenant = get(connection, &namespace)?.ok_or(Error::Conflict)?;
            tenant.limits = limits;
            put(connection, &tenant)
        })
        .await
    }

    /// What runs for the namespace meanwhile leaves nothing behind: until the namespace is made again, its records
    /// are dropped and its work is not accepted.
    async fn delete(&self, namespace: &Namespace) -> Result<bool> {
        let name = namespace.clone();
        self.inbox.bury(namespace);
        let deleted = match self.delete_most(namespace).await {
            Ok(()) => {
                self.write(move |connection| delete(connection, &name))
                    .await
            }
            Err(error) => Err(error),
        };
        match &deleted {
            Ok(_) => self.inbox.forget_accepted(namespace),
            Err(_) => self.inbox.unbury(namespace),
        }
        deleted
    }
}

impl Embedded {
    /// Removes records and items a few at a time: in one go, a large namespace would hold up everybody's writes.
    async fn delete_most(&self, namespace: &Namespace) -> Result<()> {
        loop {
            let name = namespace.clone();
            let count = self
                .write_unforced(move |connection| {
                    Ok(activations::delete_some(connection, &name)?
                        + items::delete_some(connection, &name)?)
                })
                .await?;
            if count == 0 {
                return Ok(());
            }
        }
    }
}

fn parse(body: &str) -> Result<Tenant> {
    serde_json::from_str(body).map_err(|error| corrupt("a namespace", error))
}

fn get(connection: &Connection, namespace: &Namespace) -> Result<Option<Tenant>> {
    let body = connection
        .prepare_cached("SELECT body FROM tenants WHERE namespace = ?")?
        .query_row([namespace.as_str()], |row| row.get::<_, String>(0))
        .optional()?;
    body.map(|body| parse(&body)).transpose()
}

/// A uuid belongs to one namespace: [`Error::Conflict`] when another has it.
fn put(connection: &Connection, tenant: &Tenant) -> Result<()> {
    let is_taken = connection
        .prepare_cached("SELECT 1 FROM tenants WHERE uuid = ? AND namespace <> ?")?
        .exists(params![tenant.uuid.into_bytes(), tenant.namespace.as_str()])?;
    if is_taken {
        return Err(Error::Conflict);
    }
    let body = serde_json::to_string(tenant)
        .map_err(|error| Error::Unavailable(format!("a namespace has no JSON: {error}")))?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO tenants (namespace, uuid, body) VALUES (?, ?, ?)")?
        .execute(params![
            tenant.namespace.as_str(),
            tenant.uuid.into_bytes(),
            body
        ])?;
    Ok(())
}

fn delete(connection: &Connection, namespace: &Namespace) -> Result<bool> {
    while activations::delete_some(connection, namespace)? > 0 {}
    while items::delete_some(connection, namespace)? > 0 {}
    entities::delete_all(connection, namespace)?;
    for sql in [
        "DELETE FROM begun WHERE seq IN (SELECT seq FROM accepted WHERE namespace = ?)",
        "DELETE FROM accepted WHERE namespace = ?",
    ] {
        connection
            .prepare_cached(sql)?
            .execute([namespace.as_str()])?;
    }
    let count = connection
        .prepare_cached("DELETE FROM tenants WHERE namespace = ?")?
        .execute([namespace.as_str()])?;
    Ok(count > 0)
}
