//! Namespaces, their keys and limits.
//!
//! A tenant has its namespace's hash tag, the index by uuid another. The index is written first and believed only if the
//! tenant says the same: a key works from when its tenant is written, and stops when it is.

use async_trait::async_trait;
use uuid::Uuid;

use crate::link::{Script, Value, cmd};
use crate::model::{Namespace, NamespaceLimits, Tenant};
use crate::store::{Error, Result, Tenants};

use super::Redis;
use super::answer::{Parts, corrupt};
use super::keys::All;

/// Tenants read together.
const LIST_COUNT: usize = 500;

/// KEYS uuid; ARGV namespace, who may have it now. Who has it then.
static CLAIM: Script = Script::new(
    "local has = redis.call('GET', KEYS[1]) \
     if has and has ~= ARGV[1] and has ~= ARGV[2] then return has end \
     redis.call('SET', KEYS[1], ARGV[1]) return ARGV[1]",
);

/// KEYS uuid; ARGV namespace.
static DISCLAIM: Script = Script::new(
    "#!lua flags=allow-oom\n\
     if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end",
);

/// KEYS tenant, namespace; ARGV tenant, whether it must be new.
static PUT: Script = Script::new(
    "local old = redis.call('GET', KEYS[1]) \
     if old and ARGV[2] == '1' then return {'conflict'} end \
     if redis.call('HGET', KEYS[2], 'gone') == '1' then return {'gone'} end \
     redis.call('SET', KEYS[1], ARGV[1]) \
     redis.call('HDEL', KEYS[2], 'gone') \
     redis.call('PERSIST', KEYS[2]) \
     return {'ok', old or ''}",
);

/// KEYS tenant; ARGV what is thought to be there, what is to be.
static CHANGE: Script = Script::new(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
     redis.call('SET', KEYS[1], ARGV[2]) return 1",
);

#[async_trait]
impl Tenants for Redis {
    async fn get(&self, namespace: &Namespace) -> Result<Option<Tenant>> {
        let found = self.tenant(namespace).await?;
        Ok(found.map(|(tenant, _)| tenant))
    }

    async fn by_uuid(&self, uuid: Uuid) -> Result<Option<Tenant>> {
        let key = self.keys.uuid(uuid);
        let mut get = cmd("GET");
        get.arg(&key);
        let Some(name) = self.query::<Option<String>>(&get, &key).await? else {
            return Ok(None);
        };
        let namespace =
            Namespace::parse(&name).map_err(|error| corrupt(&key, &error.to_string()))?;
        let found = self.tenant(&namespace).await?;
        Ok(found
            .map(|(tenant, _)| tenant)
            .filter(|tenant| tenant.uuid == uuid))
    }

    async fn list(&self) -> Result<Vec<Tenant>> {
        let mut namespaces = self.all(All::Tenants).await?;
        namespaces.sort();
        let mut found = Vec::with_capacity(namespaces.len());
        for namespaces in namespaces.chunks(LIST_COUNT) {
            let mut batch = crate::link::Batch::default();
            for namespace in namespaces {
                batch.push(cmd("GET").arg(self.keys.tenant(namespace)).clone());
            }
            let answers = self.run(&batch, &self.keys.all(All::Tenants)).await?;
            for (namespace, answer) in namespaces.iter().zip(answers) {
                let key = self.keys.tenant(namespace);
                let Some(json) = super::answer::bytes(answer) else {
                    continue;
                };
                match parse(&json, &key) {
                    Ok(tenant) => found.push(tenant),
                    Err(error) => tracing::error!(%error, "a namespace is left out of a list"),
                }
            }
        }
        Ok(found)
    }

    async fn put(&self, tenant: Tenant, must_be_new: bool) -> Result<()> {
        let namespace = &tenant.namespace;
        let (key, json) = (self.keys.tenant(namespace), json(&tenant)?);
        self.claim(&tenant).await?;
        let old = loop {
            let mut put = PUT.call(&[&key, &self.keys.namespace(namespace)]);
            put.arg(&json).arg(u8::from(must_be_new));
            let mut parts = Parts::of(self.call(&PUT, &put, &key).await?, &key)?;
            match parts.verdict()?.as_str() {
                "ok" => break parts.bytes()?,
                // What its former life left goes first.
                "gone" => self.empty(namespace).await?,
                _ => {
                    self.disclaim_unused(&tenant).await?;
                    return Err(Error::Conflict);
                }
            }
        };
        self.know(All::Tenants, namespace).await?;
        if let Ok(old) = parse(&old, &key)
            && old.uuid != tenant.uuid
        {
            self.disclaim(old.uuid, namespace).await?;
        }
        Ok(())
    }

    async fn put_limits(&self, namespace: &Namespace, limits: NamespaceLimits) -> Result<()> {
        let key = self.keys.tenant(namespace);
        loop {
            let found = self.tenant(namespace).await?;
            let (mut tenant, old) = found.ok_or(Error::Conflict)?;
            tenant.limits = limits.clone();
            let mut change = CHANGE.call(&[&key]);
            change.arg(old).arg(json(&tenant)?);
            // Somebody else wrote in between: only the limits are to change.
            if self.call::<bool>(&CHANGE, &change, &key).await? {
                return Ok(());
            }
        }
    }

    async fn delete(&self, namespace: &Namespace) -> Result<bool> {
        let existed = self.bury(namespace).await?;
        // What still waits here would come too late to be refused if the namespace were made again at once.
        drop(self.writer.flush().await);
        self.empty(namespace).await?;
        Ok(existed)
    }
}

impl Redis {
    /// The tenant, and how it is written.
    pub(super) async fn tenant(&self, namespace: &Namespace) -> Result<Option<(Tenant, Vec<u8>)>> {
        let key = self.keys.tenant(namespace);
        let mut get = cmd("GET");
        get.arg(&key);
        let Some(json) = self.query::<Option<Vec<u8>>>(&get, &key).await? else {
            return Ok(None);
        };
        Ok(Some((parse(&json, &key)?, json)))
    }

    /// Notes that the tenant's uuid is its own, if no other tenant says so of itself.
    async fn claim(&self, tenant: &Tenant) -> Result<()> {
        let key = self.keys.uuid(tenant.uuid);
        let mut stale = String::new();
        loop {
            let mut claim = CLAIM.call(&[&key]);
            claim.arg(tenant.namespace.as_str()).arg(&stale);
            let has: String = self.call(&CLAIM, &claim, &key).await?;
            if has == tenant.namespace.as_str() {
                return Ok(());
            }
            let other = Namespace::parse(&has).map_err(|e| corrupt(&key, &e.to_string()))?;
            let found = self.tenant(&other).await?;
            if found.is_some_and(|(other, _)| other.uuid == tenant.uuid) {
                return Err(Error::Conflict);
            }
            stale = has;
        }
    }

    /// Takes a claim back that came to nothing, unless the uuid is the one that the namespace has.
    async fn disclaim_unused(&self, tenant: &Tenant) -> Result<()> {
        let found = self.tenant(&tenant.namespace).await?;
        if found.is_some_and(|(found, _)| found.uuid == tenant.uuid) {
            return Ok(());
        }
        self.disclaim(tenant.uuid, &tenant.namespace).await
    }

    pub(super) async fn disclaim(&self, uuid: Uuid, namespace: &Namespace) -> Result<()> {
        let key = self.keys.uuid(uuid);
        let mut disclaim = DISCLAIM.call(&[&key]);
        disclaim.arg(namespace.as_str());
        self.call::<Value>(&DISCLAIM, &disclaim, &key)
            .await
            .map(drop)
    }
}

pub(super) fn parse(json: &[u8], key: &str) -> Result<Tenant> {
    serde_json::from_slice(json).map_err(|error| corrupt(key, &format!("no tenant: {error}")))
}

fn json(tenant: &Tenant) -> Result<Vec<u8>> {
    serde_json::to_vec(tenant)
        .map_err(|error| Error::Unavailable(format!("a namespace has no JSON: {error}")))
}
