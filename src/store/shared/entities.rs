//! Entities: a hash each, whose key names it, so that whoever caches it hears of its changes; and lists of their paths.

use std::sync::Arc;

use async_trait::async_trait;

use crate::link::{Cmd, Script, cmd};
use crate::model::{Digest, EntityName, Namespace, Timestamp};
use crate::store::{
    Change, Document, Entities, EntityFilter, EntityKey, Error, Expect, Page, Result, Revision,
};

use super::Redis;
use super::answer::{Parts, corrupt};
use super::codes::Hold;
use super::keys::{collection_name, collection_of, path};

/// Entities read by one script: it bounds how long others wait for it.
const LIST_COUNT: usize = 200;

/// Gives the next revision of a namespace: one more than the last; and at first the time, so that a namespace whose
/// traces were wiped does not begin with ones that somebody still remembers.
macro_rules! next_revision {
    () => {
        "local function next_revision(key) \
           if redis.call('HEXISTS', key, 'rev') == 0 then \
             local t = redis.call('TIME') \
             redis.call('HSET', key, 'rev', string.format('%d%06d', t[1], t[2])) \
           end \
           return redis.call('HINCRBY', key, 'rev', 1) \
         end "
    };
}
pub(super) use next_revision;

/// Turns the hold that was noted, or the one that is there, into the one that is written; and notes the one that goes.
/// `old` has digest and hold at `at`.
macro_rules! keep_code {
    () => {
        "local function keep_code(holds, digest, hold, old_digest, old_hold) \
           if digest ~= '' then \
             if hold ~= '' then \
               if redis.call('ZREM', holds, '+' .. digest .. hold) == 0 then return 'conflict' end \
             elseif old_digest == digest then hold = old_hold \
             else return 'hold' end \
           end \
           local goes = '' \
           if old_digest and old_digest ~= '' and old_hold ~= hold then \
             goes = old_digest .. old_hold \
             redis.call('ZADD', holds, 0, '-' .. goes) \
           end \
           return 'ok', hold, goes \
         end "
    };
}
pub(super) use keep_code;

/// KEYS entity, namespace, holds, lists; ARGV path, package, collection, updated, digest, hold, body, expect.
static PUT: Script = Script::new(concat!(
    next_revision!(),
    keep_code!(),
    "if redis.call('HEXISTS', KEYS[2], 'gone') == 1 then return {'conflict'} end \
     local old = redis.call('HMGET', KEYS[1], 'r', 'c', 'd', 'h') \
     if (old[1] or '') ~= ARGV[8] then return {'conflict'} end \
     local verdict, hold, goes = keep_code(KEYS[3], ARGV[5], ARGV[6], old[3], old[4]) \
     if verdict ~= 'ok' then return {verdict} end \
     local function lists(collection) \
       local found = {KEYS[4] .. collection} \
       if ARGV[2] ~= '' then found[2] = KEYS[4] .. collection .. ':' .. ARGV[2] end \
       return found \
     end \
     if old[2] and old[2] ~= ARGV[3] then \
       for _, list in ipairs(lists(old[2])) do redis.call('ZREM', list, ARGV[1]) end \
     end \
     local revision = next_revision(KEYS[2]) \
     redis.call('HSET', KEYS[1], 'r', revision, 'c', ARGV[3], 'u', ARGV[4], 'd', ARGV[5], 'h', hold, 'b', ARGV[7]) \
     for _, list in ipairs(lists(ARGV[3])) do redis.call('ZADD', list, '-' .. ARGV[4], ARGV[1]) end \
     return {'ok', revision, goes}",
));

/// KEYS entity, holds, lists; ARGV path, package, expect.
static DELETE: Script = Script::new(
    "#!lua flags=allow-oom\n\
     local old = redis.call('HMGET', KEYS[1], 'r', 'c', 'd', 'h') \
     if old[1] ~= ARGV[3] then return {'conflict'} end \
     redis.call('DEL', KEYS[1]) \
     local list = KEYS[3] .. (old[2] or '') \
     redis.call('ZREM', list, ARGV[1]) \
     if ARGV[2] ~= '' then redis.call('ZREM', list .. ':' .. ARGV[2], ARGV[1]) end \
     local goes = '' \
     if old[3] and old[3] ~= '' then \
       goes = old[3] .. (old[4] or '') \
       redis.call('ZADD', KEYS[2], 0, '-' .. goes) \
     end \
     return {'ok', goes}",
);

/// KEYS namespace, lists, entities; ARGV for each entity: verb, path, package, collection, updated, body, expect. First all are
/// looked at, then all are written. Revisions, 0 for what has none.
static WRITE: Script = Script::new(concat!(
    next_revision!(),
    "local count, is_put = #KEYS - 2, false \
     local function arg(i, n) return ARGV[(i - 1) * 7 + n] end \
     for i = 1, count do \
       local revision = redis.call('HGET', KEYS[i + 2], 'r') or '' \
       if revision ~= arg(i, 7) then return {'conflict'} end \
       if arg(i, 1) == 'put' then is_put = true end \
     end \
     if is_put and redis.call('HEXISTS', KEYS[1], 'gone') == 1 then return {'conflict'} end \
     local function unlist(i) \
       local list = KEYS[2] .. (redis.call('HGET', KEYS[i + 2], 'c') or '') \
       redis.call('ZREM', list, arg(i, 2)) \
       if arg(i, 3) ~= '' then redis.call('ZREM', list .. ':' .. arg(i, 3), arg(i, 2)) end \
     end \
     local answer = {'ok'} \
     for i = 1, count do \
       local revision = 0 \
       if arg(i, 1) == 'delete' then \
         unlist(i) \
         redis.call('DEL', KEYS[i + 2]) \
       elseif arg(i, 1) == 'put' then \
         unlist(i) \
         revision = next_revision(KEYS[1]) \
         redis.call('HSET', KEYS[i + 2], 'r', revision, 'c', arg(i, 4), 'u', arg(i, 5), 'd', '', 'h', '', 'b', arg(i, 6)) \
         local list = KEYS[2] .. arg(i, 4) \
         redis.call('ZADD', list, '-' .. arg(i, 5), arg(i, 2)) \
         if arg(i, 3) ~= '' then redis.call('ZADD', list .. ':' .. arg(i, 3), '-' .. arg(i, 5), arg(i, 2)) end \
       end \
       answer[i + 1] = revision \
     end \
     return answer",
));

/// KEYS entity; ARGV expect, body.
static RESEAL: Script = Script::new(
    "if redis.call('HGET', KEYS[1], 'r') ~= ARGV[1] then return 0 end \
     redis.call('HSET', KEYS[1], 'b', ARGV[2]) \
     return 1",
);

/// KEYS list, entities; ARGV first, last.
static LIST: Script = Script::new(
    "local found = {} \
     for _, path in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2])) do \
       local fields = redis.call('HMGET', KEYS[2] .. path, 'c', 'u', 'd', 'b') \
       found[#found + 1] = path \
       for i = 1, 4 do found[#found + 1] = fields[i] end \
     end \
     return found",
);

#[async_trait]
impl Entities for Redis {
    async fn get(&self, key: &EntityKey) -> Result<Option<(Document, Revision)>> {
        let name = self.keys.entity(key);
        let mut get = cmd("HMGET");
        get.arg(&name).arg(&["r", "c", "u", "d", "b"]);
        let mut parts = Parts::of(self.query(&get, &name).await?, &name)?;
        let Some(revision) = parts.maybe() else {
            return Ok(None);
        };
        let revision = revision_of(&revision, &name)?;
        Ok(Some((document(key.clone(), &mut parts)?, revision)))
    }

    async fn put(
        &self,
        document: Document,
        code: Option<Arc<str>>,
        expect: Expect,
    ) -> Result<Revision> {
        let namespace = &document.key.namespace;
        let mut hold = Hold::new();
        if let (Some(digest), Some(code)) = (&document.code, &code) {
            hold = self
                .hold(namespace, digest, Some(code))
                .await?
                .ok_or(Error::Conflict)?;
        }
        let name = self.keys.entity(&document.key);
        loop {
            let put = self.put_command(&document, &hold, expect);
            let answer = self.call(&PUT, &put, &name).await;
            let mut parts = Parts::of(answer?, &name)?;
            match (parts.verdict()?.as_str(), &document.code) {
                ("ok", _) => {
                    let revision = Revision(parts.number()?);
                    self.release(namespace, &parts.text()?).await;
                    return Ok(revision);
                }
                ("hold", Some(digest)) if hold.is_empty() => {
                    let taken = self.hold(namespace, digest, None).await?;
                    hold = taken.ok_or(Error::Conflict)?;
                }
                (_, Some(digest)) if !hold.is_empty() => {
                    self.abandon(namespace, digest, &hold).await;
                    return Err(Error::Conflict);
                }
                _ => return Err(Error::Conflict),
            }
        }
    }

    async fn delete(&self, key: &EntityKey, expect: Revision) -> Result<()> {
        let name = self.keys.entity(key);
        let mut delete = DELETE.call(&[
            &name,
            &self.keys.holds(&key.namespace),
            &self.keys.lists(&key.namespace),
        ]);
        delete
            .arg(path(key))
            .arg(package_text(key.package.as_ref()))
            .arg(expect.0);
        let mut parts = Parts::of(self.call(&DELETE, &delete, &name).await?, &name)?;
        if parts.verdict()? != "ok" {
            return Err(Error::Conflict);
        }
        self.release(&key.namespace, &parts.text()?).await;
        Ok(())
    }

    async fn reseal(&self, key: &EntityKey, expect: Revision, body: Arc<str>) -> Result<bool> {
        let name = self.keys.entity(key);
        let mut reseal = RESEAL.call(&[&name]);
        reseal.arg(expect.0).arg(&*body);
        self.call(&RESEAL, &reseal, &name).await
    }

    async fn write(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>> {
        let Some(first) = changes.first() else {
            return Ok(Vec::new());
        };
        let namespace = &first.key().namespace;
        let name = self.keys.namespace(namespace);
        let mut keys = vec![name.clone(), self.keys.lists(namespace)];
        keys.extend(changes.iter().map(|change| self.keys.entity(change.key())));
        let mut write = WRITE.call(&keys);
        for change in &changes {
            let (verb, document, expect) = match change {
                Change::Put(document, expect) => ("put", Some(document), *expect),
                Change::Delete(_, revision) => ("delete", None, Expect::Revision(*revision)),
                Change::Keep(_, revision) => ("keep", None, Expect::Revision(*revision)),
            };
            let key = change.key();
            write
                .arg(verb)
                .arg(path(key))
                .arg(package_text(key.package.as_ref()))
                .arg(document.map_or("", |document| collection_name(document.collection)))
                .arg(document.map_or(0, |document| document.updated.0))
                .arg(document.map_or("", |document| &document.body))
                .arg(expected(Some(expect)));
        }
        let mut parts = Parts::of(self.call(&WRITE, &write, &name).await?, &name)?;
        if parts.verdict()? != "ok" {
            return Err(Error::Conflict);
        }
        let revision = |number| Some(Revision(number)).filter(|revision| revision.0 > 0);
        changes
            .iter()
            .map(|_| parts.number().map(revision))
            .collect()
    }

    async fn list(
        &self,
        namespace: &Namespace,
        filter: &EntityFilter,
        page: Page,
    ) -> Result<Vec<Document>> {
        let list = self.list_of(namespace, filter);
        let mut found = Vec::new();
        let (mut first, end) = (page.skip, page.skip.saturating_add(page.limit));
        while first < end {
            let next = end.min(first + LIST_COUNT);
            let mut read = LIST.call(&[&list, &self.keys.entities(namespace)]);
            read.arg(first).arg(next - 1);
            let mut parts = Parts::of(self.call(&LIST, &read, &list).await?, &list)?;
            if parts.is_empty() {
                break;
            }
            while !parts.is_empty() {
                let key = key_of(namespace, &parts.text()?)
                    .ok_or_else(|| corrupt(&list, "it has what is no path of an entity"))?;
                match document(key, &mut parts) {
                    Ok(document) => found.push(document),
                    Err(error) => {
                        tracing::error!(%namespace, %error, "an entity is left out of a list");
                    }
                }
            }
            first = next;
        }
        Ok(found)
    }

    async fn count(&self, namespace: &Namespace, filter: &EntityFilter) -> Result<usize> {
        let list = self.list_of(namespace, filter);
        let mut count = cmd("ZCARD");
        count.arg(&list);
        self.query(&count, &list).await
    }

    async fn code(&self, digest: &Digest) -> Result<Option<Arc<str>>> {
        self.code_of(digest).await
    }
}

impl Redis {
    fn put_command(&self, document: &Document, hold: &str, expect: Expect) -> Cmd {
        let (key, namespace) = (&document.key, &document.key.namespace);
        let mut put = PUT.call(&[
            &self.keys.entity(key),
            &self.keys.namespace(namespace),
            &self.keys.holds(namespace),
            &self.keys.lists(namespace),
        ]);
        put.arg(path(key))
            .arg(package_text(key.package.as_ref()))
            .arg(collection_name(document.collection))
            .arg(document.updated.0)
            .arg(
                document
                    .code
                    .map_or_else(String::new, |code| code.to_string()),
            )
            .arg(hold)
            .arg(&*document.body)
            .arg(expected(Some(expect)));
        put
    }

    fn list_of(&self, namespace: &Namespace, filter: &EntityFilter) -> String {
        let mut list = self.keys.lists(namespace);
        list.push_str(collection_name(filter.collection));
        if let Some(package) = &filter.package {
            list.push(':');
            list.push_str(package.as_str());
        }
        list
    }
}

fn package_text(package: Option<&EntityName>) -> &str {
    package.map_or("", EntityName::as_str)
}

/// What scripts compare with: nothing for what must be absent, `*` for whatever is there.
pub(super) fn expected(expect: Option<Expect>) -> String {
    match expect {
        None => "*".to_owned(),
        Some(Expect::Absent) => String::new(),
        Some(Expect::Revision(revision)) => revision.0.to_string(),
    }
}

pub(super) fn revision_of(bytes: &[u8], key: &str) -> Result<Revision> {
    let text = str::from_utf8(bytes).ok();
    text.and_then(|text| text.parse().ok())
        .map(Revision)
        .ok_or_else(|| corrupt(key, "its revision is no number"))
}

fn document(key: EntityKey, parts: &mut Parts) -> Result<Document> {
    // All are taken before any is judged: the next of a list begins behind them.
    let (collection, updated) = (parts.maybe(), parts.maybe());
    let (code, body) = (parts.maybe(), parts.maybe());
    let wrong = || parts.corrupt(&format!("{} was deleted or written by hand", path(&key)));
    let text = |bytes: Option<Vec<u8>>| {
        let bytes = bytes.ok_or_else(wrong)?;
        String::from_utf8(bytes).map_err(|_| wrong())
    };
    let collection = collection.as_deref().and_then(collection_of);
    let code = match text(code)?.as_str() {
        "" => None,
        digest => Some(digest.parse().map_err(|_| wrong())?),
    };
    Ok(Document {
        collection: collection.ok_or_else(wrong)?,
        updated: Timestamp(text(updated)?.parse().map_err(|_| wrong())?),
        code,
        body: text(body)?.into(),
        key,
    })
}

/// What a path names.
fn key_of(namespace: &Namespace, path: &str) -> Option<EntityKey> {
    let (package, name) = match path.split_once('/') {
        Some((package, name)) => (Some(EntityName::parse(package).ok()?), name),
        None => (None, path),
    };
    Some(EntityKey {
        namespace: namespace.clone(),
        package,
        name: EntityName::parse(name).ok()?,
    })
}
