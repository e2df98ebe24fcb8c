//! What a deleted namespace leaves, and how it goes.
//!
//! First the namespace is marked as gone, in the script that removes its tenant: from then on its key does not work, and
//! scripts that would write something for it do nothing. Then it is emptied in steps, each of which looks whether it is
//! still gone, and marked as empty. Only then can it be made again. Whoever dies in between leaves it on the list of those
//! that are gone, where the sweep finds it; whoever wants to make it again finishes first.

use crate::link::{Batch, Script, Value, cmd};
use crate::model::Namespace;
use crate::store::Result;

use super::Redis;
use super::answer::{Parts, bytes};
use super::items::{now, remove};
use super::keys::{All, COLLECTIONS, SHELVES, collection_name};
use super::pipeline::forget;
use super::tenants;

/// Things removed by one script.
const STEP_COUNT: usize = 100;
/// Members of a set read in one step.
const SCAN_COUNT: usize = 500;
/// How long it is remembered that a namespace is gone; whatever ran for it has ended by then. Seconds.
const REMEMBER_S: u64 = 30 * 24 * 60 * 60;

/// KEYS tenant, namespace. What the tenant was.
static BURY: Script = Script::new(
    "#!lua flags=allow-oom\n\
     local old = redis.call('GET', KEYS[1]) \
     redis.call('DEL', KEYS[1]) \
     redis.call('HSET', KEYS[2], 'gone', 1) \
     redis.call('PERSIST', KEYS[2]) \
     return old or ''",
);

/// KEYS records, chunks, bytes, namespace, entries, bodies; ARGV how many chunks at most. So many when
/// there may be more.
static RECORDS: Script = Script::new(concat!(
    "#!lua flags=allow-oom\n",
    forget!(),
    "if redis.call('HGET', KEYS[4], 'gone') ~= '1' then return {0} end \
     local some, most, gone, records = redis.call('ZRANGE', KEYS[2], 0, ARGV[1] - 1), tonumber(ARGV[1]), 0, 0 \
     while gone < #some and records < 500 do \
       gone = gone + 1 \
       local bytes, count = forget(some[gone]) \
       records = records + count \
     end \
     if gone == most or gone < #some then return {most} end \
     redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[5], KEYS[6]) \
     return {gone}",
));

/// KEYS namespace, holds, list, entities; ARGV how many. How many went, and their holds.
static ENTITIES: Script = Script::new(
    "#!lua flags=allow-oom\n\
     if redis.call('HGET', KEYS[1], 'gone') ~= '1' then return {0} end \
     local some, goes = redis.call('ZRANGE', KEYS[3], 0, ARGV[1] - 1), {} \
     for _, path in ipairs(some) do \
       local old = redis.call('HMGET', KEYS[4] .. path, 'd', 'h') \
       redis.call('DEL', KEYS[4] .. path) \
       redis.call('ZREM', KEYS[3], path) \
       local package = string.match(path, '^(.*)/') \
       if package then redis.call('ZREM', KEYS[3] .. ':' .. package, path) end \
       if old[1] and old[1] ~= '' then \
         goes[#goes + 1] = old[1] .. (old[2] or '') \
         redis.call('ZADD', KEYS[2], 0, '-' .. goes[#goes]) \
       end \
     end \
     return {#some, unpack(goes)}",
);

/// KEYS names, expiries, holds, items, size, namespace; ARGV how many. How many went, and their holds.
static ITEMS: Script = Script::new(concat!(
    "#!lua flags=allow-oom\n\
     if redis.call('HGET', KEYS[6], 'gone') ~= '1' then return {0} end ",
    now!(),
    remove!(),
    "local some = redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1) \
     for _, name in ipairs(some) do remove(name) end \
     if #some < tonumber(ARGV[1]) then redis.call('DEL', KEYS[5]) end \
     return {#some, unpack(goes)}",
));

/// KEYS namespace; ARGV how long it is remembered.
static EMPTY: Script = Script::new(
    "#!lua flags=allow-oom\n\
     if redis.call('HGET', KEYS[1], 'gone') ~= '1' then return end \
     redis.call('HSET', KEYS[1], 'gone', 2) \
     redis.call('EXPIRE', KEYS[1], ARGV[1])",
);

impl Redis {
    /// Marks the namespace as gone; whether it existed.
    pub(super) async fn bury(&self, namespace: &Namespace) -> Result<bool> {
        self.know(All::Gone, namespace).await?;
        let key = self.keys.tenant(namespace);
        let bury = BURY.call(&[&key, &self.keys.namespace(namespace)]);
        let old: Vec<u8> = self.call(&BURY, &bury, &key).await?;
        if old.is_empty() {
            return Ok(false);
        }
        if let Ok(old) = tenants::parse(&old, &key) {
            self.disclaim(old.uuid, namespace).await?;
        }
        Ok(true)
    }

    /// Removes everything that a namespace has that is gone.
    pub(super) async fn empty(&self, namespace: &Namespace) -> Result<()> {
        let keys = &self.keys;
        let own = keys.namespace(namespace);
        let records = keys.records(namespace);
        let mut remove = RECORDS.call(&keys.places(namespace));
        remove.arg(STEP_COUNT);
        self.empty_one(namespace, &RECORDS, &remove, &records)
            .await?;
        for collection in COLLECTIONS {
            let list = format!("{}{}", keys.lists(namespace), collection_name(collection));
            let entities = keys.entities(namespace);
            let mut remove = ENTITIES.call(&[&own, &keys.holds(namespace), &list, &entities]);
            remove.arg(STEP_COUNT);
            self.empty_one(namespace, &ENTITIES, &remove, &list).await?;
        }
        for shelf in SHELVES {
            let names = keys.names(namespace, shelf);
            let mut remove = ITEMS.call(&[
                &names,
                &keys.expiries(namespace, shelf),
                &keys.holds(namespace),
                &keys.items(namespace, shelf),
                &keys.size(namespace, shelf),
                &own,
            ]);
            remove.arg(STEP_COUNT);
            self.empty_one(namespace, &ITEMS, &remove, &names).await?;
        }
        self.homes.forget(namespace).await?;
        let mut empty = EMPTY.call(&[&own]);
        empty.arg(REMEMBER_S);
        self.call::<Value>(&EMPTY, &empty, &own).await?;
        self.strike_out(namespace).await
    }

    async fn empty_one(
        &self,
        namespace: &Namespace,
        script: &'static Script,
        remove: &crate::link::Cmd,
        key: &str,
    ) -> Result<()> {
        loop {
            let mut parts = Parts::of(self.call(script, remove, key).await?, key)?;
            let count = parts.number()?;
            while !parts.is_empty() {
                self.release(namespace, &parts.text()?).await;
            }
            if count < STEP_COUNT as u64 {
                return Ok(());
            }
        }
    }

    /// Takes a namespace off every list. If it was made again meanwhile, it is put back: an entry too many does no harm.
    async fn strike_out(&self, namespace: &Namespace) -> Result<()> {
        let lists = SHELVES.into_iter().map(All::Shelf);
        let lists = lists.chain([All::Tenants, All::Records]);
        let each = |name: &str| {
            let mut batch = Batch::default();
            for list in lists.clone() {
                let mut one = cmd(name);
                one.arg(self.keys.all(list)).arg(namespace.as_str());
                batch.push(one);
            }
            batch
        };
        let key = self.keys.all(All::Gone);
        self.run(&each("SREM"), &key).await?;
        let own = self.keys.namespace(namespace);
        let mut gone = cmd("HEXISTS");
        gone.arg(&own).arg("gone");
        if !self.query::<bool>(&gone, &own).await? {
            self.run(&each("SADD"), &key).await?;
        }
        let mut done = cmd("SREM");
        done.arg(&key).arg(namespace.as_str());
        self.query::<Value>(&done, &key).await.map(drop)
    }

    /// Puts a namespace on a list.
    pub(super) async fn know(&self, list: All, namespace: &Namespace) -> Result<()> {
        let key = self.keys.all(list);
        let mut know = cmd("SADD");
        know.arg(&key).arg(namespace.as_str());
        self.query::<Value>(&know, &key).await.map(drop)
    }

    /// The namespaces on a list, read in steps.
    pub(super) async fn all(&self, list: All) -> Result<Vec<Namespace>> {
        let key = self.keys.all(list);
        let (mut cursor, mut found) = (0_u64, std::collections::BTreeSet::new());
        loop {
            let mut scan = cmd("SSCAN");
            scan.arg(&key).arg(cursor).arg("COUNT").arg(SCAN_COUNT);
            let (next, some): (u64, Vec<Value>) = self.query(&scan, &key).await?;
            for name in some.into_iter().filter_map(bytes) {
                match str::from_utf8(&name).ok().map(Namespace::parse) {
                    Some(Ok(namespace)) => drop(found.insert(namespace)),
                    _ => tracing::error!(key, "a name in Redis is no namespace's"),
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(found.into_iter().collect());
            }
        }
    }
}
