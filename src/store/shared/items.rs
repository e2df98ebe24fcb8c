//! Items: a hash each, the names of a shelf in a sorted set, and those that expire in another.
//!
//! Whether an item has expired is asked of Redis's clock. What has expired is not there for anybody, and is removed by
//! whoever sweeps.

use async_trait::async_trait;

use crate::link::{Batch, Cmd, Script, cmd};
use crate::model::{Namespace, Timestamp};
use crate::store::{Error, Expect, Item, Items, Page, Result, Revision, Shelf};

use super::Redis;
use super::answer::{Parts, bytes, failed};
use super::codes::Hold;
use super::entities::{expected, keep_code, next_revision, revision_of};
use super::keys::All;

/// Items read, looked at or removed by one script.
const STEP_COUNT: usize = 200;

macro_rules! now {
    () => {
        "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "
    };
}
pub(super) use now;

/// Removes an item. KEYS names, expiries, holds, items, size; whether it was visible at `now`. Collects the holds that go.
macro_rules! remove {
    () => {
        "local goes = {} \
         local function remove(name) \
           local key = KEYS[4] .. name \
           local old = redis.call('HMGET', key, 'r', 'd', 'h', 'x') \
           if old[1] then redis.call('DECRBY', KEYS[5], #name + redis.call('HSTRLEN', key, 'b')) end \
           redis.call('DEL', key) \
           redis.call('ZREM', KEYS[1], name) \
           redis.call('ZREM', KEYS[2], name) \
           if old[2] and old[2] ~= '' then \
             goes[#goes + 1] = old[2] .. (old[3] or '') \
             redis.call('ZADD', KEYS[3], 0, '-' .. goes[#goes]) \
           end \
           return old[1] and not (old[4] and old[4] ~= '' and tonumber(old[4]) <= now) \
         end "
    };
}
pub(super) use remove;

/// KEYS item, namespace, holds, names, expiries, size; ARGV name, body, digest, hold, expires, expect.
static PUT: Script = Script::new(concat!(
    next_revision!(),
    keep_code!(),
    now!(),
    "if redis.call('HEXISTS', KEYS[2], 'gone') == 1 then return {'conflict'} end \
     local old = redis.call('HMGET', KEYS[1], 'r', 'd', 'h', 'x') \
     local have = old[1] or '' \
     if old[4] and old[4] ~= '' and tonumber(old[4]) <= now then have = '' end \
     if ARGV[6] ~= '*' and ARGV[6] ~= have then return {'conflict'} end \
     local verdict, hold, goes = keep_code(KEYS[3], ARGV[3], ARGV[4], old[2], old[3]) \
     if verdict ~= 'ok' then return {verdict} end \
     local revision = next_revision(KEYS[2]) \
     local size = #ARGV[2] - redis.call('HSTRLEN', KEYS[1], 'b') \
     if not old[1] then size = size + #ARGV[1] end \
     redis.call('INCRBY', KEYS[6], size) \
     redis.call('HSET', KEYS[1], 'r', revision, 'b', ARGV[2], 'd', ARGV[3], 'h', hold, 'x', ARGV[5]) \
     redis.call('ZADD', KEYS[4], 0, ARGV[1]) \
     if ARGV[5] == '' then redis.call('ZREM', KEYS[5], ARGV[1]) \
     else redis.call('ZADD', KEYS[5], ARGV[5], ARGV[1]) end \
     return {'ok', revision, goes}",
));

/// KEYS item, size; ARGV expect, body.
static RESEAL: Script = Script::new(
    "if redis.call('HGET', KEYS[1], 'r') ~= ARGV[1] then return 0 end \
     redis.call('INCRBY', KEYS[2], #ARGV[2] - redis.call('HSTRLEN', KEYS[1], 'b')) \
     redis.call('HSET', KEYS[1], 'b', ARGV[2]) \
     return 1",
);

/// KEYS item.
static GET: Script = Script::new(concat!(
    now!(),
    "local found = redis.call('HMGET', KEYS[1], 'r', 'b', 'd', 'x') \
     if not found[1] then return {} end \
     if found[4] and found[4] ~= '' and tonumber(found[4]) <= now then return {} end \
     return found",
));

/// KEYS names, expiries, holds, items, size; ARGV name.
static DELETE: Script = Script::new(concat!(
    "#!lua flags=allow-oom\n",
    now!(),
    remove!(),
    "local was_there = remove(ARGV[1]) and 1 or 0 \
     return {was_there, goes[1] or ''}",
));

/// KEYS names, expiries, items; ARGV least, most, skip, limit. Names, bodies, digests, expiries.
static LIST: Script = Script::new(concat!(
    now!(),
    "local skip, limit, names = tonumber(ARGV[3]), tonumber(ARGV[4]), nil \
     local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now) \
     if #gone == 0 then \
       names = redis.call('ZREVRANGEBYLEX', KEYS[1], ARGV[2], ARGV[1], 'LIMIT', skip, limit) \
     else \
       local is_gone, at = {}, 0 \
       for _, name in ipairs(gone) do is_gone[name] = true end \
       names = {} \
       while #names < limit do \
         local some = redis.call('ZREVRANGEBYLEX', KEYS[1], ARGV[2], ARGV[1], 'LIMIT', at, 500) \
         for _, name in ipairs(some) do \
           if not is_gone[name] then \
             if skip > 0 then skip = skip - 1 elseif #names < limit then names[#names + 1] = name end \
           end \
         end \
         if #some < 500 then break end \
         at = at + 500 \
       end \
     end \
     local found = {} \
     for _, name in ipairs(names) do \
       local fields = redis.call('HMGET', KEYS[3] .. name, 'b', 'd', 'x') \
       found[#found + 1] = name \
       for i = 1, 3 do found[#found + 1] = fields[i] end \
     end \
     return found",
));

/// KEYS names, expiries; ARGV least, most, prefix.
static COUNT: Script = Script::new(concat!(
    now!(),
    "local count = redis.call('ZLEXCOUNT', KEYS[1], ARGV[1], ARGV[2]) \
     for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do \
       if string.sub(name, 1, #ARGV[3]) == ARGV[3] then count = count - 1 end \
     end \
     return count",
));

/// KEYS names, expiries, holds, items, size; ARGV least, most, how many. How many went, how many of them were visible, holds.
static PURGE: Script = Script::new(concat!(
    "#!lua flags=allow-oom\n",
    now!(),
    remove!(),
    "local visible = 0 \
     local some = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3]) \
     for _, name in ipairs(some) do if remove(name) then visible = visible + 1 end end \
     return {#some, visible, unpack(goes)}",
));

/// KEYS names, expiries, holds, items, size; ARGV now, how many. How many went, and holds.
static EXPIRE: Script = Script::new(concat!(
    "#!lua flags=allow-oom\n\
     local now = tonumber(ARGV[1]) ",
    remove!(),
    "local some = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2]) \
     for _, name in ipairs(some) do remove(name) end \
     return {#some, unpack(goes)}",
));

#[async_trait]
impl Items for Redis {
    async fn get(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        name: &str,
    ) -> Result<Option<(Item, Revision)>> {
        let key = self.keys.item(namespace, shelf, name);
        let get = GET.call(&[&key]);
        let mut parts = Parts::of(self.call(&GET, &get, &key).await?, &key)?;
        let Some(revision) = parts.maybe() else {
            return Ok(None);
        };
        let revision = revision_of(&revision, &key)?;
        Ok(Some((item(name.to_owned(), &mut parts)?, revision)))
    }

    async fn put(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        item: Item,
        expect: Option<Expect>,
    ) -> Result<Revision> {
        let name = self.keys.item(namespace, shelf, &item.name);
        let all = self.keys.all(All::Shelf(shelf));
        let mut known = cmd("SADD");
        known.arg(&all).arg(namespace.as_str());
        let mut hold = Hold::new();
        loop {
            let mut batch = Batch::default();
            batch.push(known.clone());
            batch.call(&PUT, self.put_item(namespace, shelf, &item, &hold, expect));
            let answer = self.run(&batch, &name).await?.pop();
            let mut parts = Parts::of(answer.unwrap_or(crate::link::Value::Nil), &name)?;
            match (parts.verdict()?.as_str(), &item.code) {
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

    async fn reseal(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        item: Item,
        expect: Revision,
    ) -> Result<bool> {
        let name = self.keys.item(namespace, shelf, &item.name);
        let size = self.keys.size(namespace, shelf);
        let mut reseal = RESEAL.call(&[&name, &size]);
        reseal.arg(expect.0).arg(&*item.body);
        self.call(&RESEAL, &reseal, &name).await
    }

    async fn delete(&self, namespace: &Namespace, shelf: Shelf, name: &str) -> Result<bool> {
        let key = self.keys.item(namespace, shelf, name);
        let mut delete = self.removal(&DELETE, namespace, shelf);
        delete.arg(name);
        let mut parts = Parts::of(self.call(&DELETE, &delete, &key).await?, &key)?;
        let was_there = parts.number()? == 1;
        self.release(namespace, &parts.text()?).await;
        Ok(was_there)
    }

    async fn list(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        prefix: &str,
        page: Page,
    ) -> Result<Vec<Item>> {
        let (mut found, mut skip) = (Vec::new(), page.skip);
        let end = page.skip.saturating_add(page.limit);
        while skip < end {
            let limit = STEP_COUNT.min(end - skip);
            let list = self.list_command(namespace, shelf, prefix, (skip, limit));
            let names = self.keys.names(namespace, shelf);
            let parts = Parts::of(self.call(&LIST, &list, &names).await?, &names)?;
            let count = read_list(parts, &mut found)?;
            if count < limit {
                break;
            }
            skip += count;
        }
        Ok(found)
    }

    async fn count(&self, namespace: &Namespace, shelf: Shelf, prefix: &str) -> Result<usize> {
        let names = self.keys.names(namespace, shelf);
        let mut count = COUNT.call(&[&names, &self.keys.expiries(namespace, shelf)]);
        let (least, most) = range(prefix);
        count.arg(least).arg(most).arg(prefix);
        self.call(&COUNT, &count, &names).await
    }

    async fn usage(&self, namespace: &Namespace, shelf: Shelf) -> Result<Option<(u64, u64)>> {
        let (names, size) = (
            self.keys.names(namespace, shelf),
            self.keys.size(namespace, shelf),
        );
        let mut batch = Batch::default();
        batch.push(cmd("ZCARD").arg(&names).clone());
        batch.push(cmd("GET").arg(&size).clone());
        let mut answers = self.run(&batch, &size).await?.into_iter();
        let mut number = || {
            let bytes = answers.next().and_then(bytes).unwrap_or_default();
            let text = str::from_utf8(&bytes).ok()?;
            text.parse::<i64>().ok()?.try_into().ok()
        };
        // None at all reads as none used.
        Ok(Some((number().unwrap_or(0), number().unwrap_or(0))))
    }

    async fn purge(&self, namespace: &Namespace, shelf: Shelf, prefix: &str) -> Result<usize> {
        let mut sum = 0;
        loop {
            let (count, visible) = self.purge_step(namespace, shelf, prefix).await?;
            sum += visible;
            if count < STEP_COUNT {
                return Ok(sum);
            }
        }
    }

    async fn everywhere(&self, shelf: Shelf) -> Result<Vec<(Namespace, Item)>> {
        let mut found = Vec::new();
        for namespaces in self.all(All::Shelf(shelf)).await?.chunks(STEP_COUNT) {
            let mut batch = Batch::default();
            for namespace in namespaces {
                batch.call(
                    &LIST,
                    self.list_command(namespace, shelf, "", (0, STEP_COUNT)),
                );
            }
            let key = self.keys.all(All::Shelf(shelf));
            let answers = self.link.run(&batch).await;
            let answers = answers.map_err(|error| failed(error, &key))?;
            for (namespace, answer) in namespaces.iter().zip(answers) {
                let names = self.keys.names(namespace, shelf);
                let answer = answer.map_err(|error| failed(error, &names))?;
                let mut items = Vec::new();
                let count = read_list(Parts::of(answer, &names)?, &mut items)?;
                if count == STEP_COUNT {
                    let rest = Page {
                        skip: count,
                        limit: usize::MAX,
                    };
                    items.extend(Items::list(self, namespace, shelf, "", rest).await?);
                }
                found.extend(items.into_iter().map(|item| (namespace.clone(), item)));
            }
        }
        Ok(found)
    }

    async fn expire_items(&self, now: Timestamp) -> Result<usize> {
        self.expire_shelves(now).await
    }
}

impl Redis {
    fn put_item(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        item: &Item,
        hold: &str,
        expect: Option<Expect>,
    ) -> Cmd {
        let keys = &self.keys;
        let mut put = PUT.call(&[
            keys.item(namespace, shelf, &item.name),
            keys.namespace(namespace),
            keys.holds(namespace),
            keys.names(namespace, shelf),
            keys.expiries(namespace, shelf),
            keys.size(namespace, shelf),
        ]);
        let expires = item
            .expires
            .map_or_else(String::new, |time| time.0.to_string());
        put.arg(&item.name)
            .arg(&*item.body)
            .arg(item.code.map_or_else(String::new, |code| code.to_string()))
            .arg(hold)
            .arg(expires)
            .arg(expected(expect));
        put
    }

    /// A call of a script that removes items.
    fn removal(&self, script: &Script, namespace: &Namespace, shelf: Shelf) -> Cmd {
        script.call(&[
            self.keys.names(namespace, shelf),
            self.keys.expiries(namespace, shelf),
            self.keys.holds(namespace),
            self.keys.items(namespace, shelf),
            self.keys.size(namespace, shelf),
        ])
    }

    fn list_command(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        prefix: &str,
        (skip, limit): (usize, usize),
    ) -> Cmd {
        let mut list = LIST.call(&[
            self.keys.names(namespace, shelf),
            self.keys.expiries(namespace, shelf),
            self.keys.items(namespace, shelf),
        ]);
        let (least, most) = range(prefix);
        list.arg(least).arg(most).arg(skip).arg(limit);
        list
    }

    /// Removes some; how many, and how many of them anybody could see.
    async fn purge_step(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        prefix: &str,
    ) -> Result<(usize, usize)> {
        let names = self.keys.names(namespace, shelf);
        let mut purge = self.removal(&PURGE, namespace, shelf);
        let (least, most) = range(prefix);
        purge.arg(least).arg(most).arg(STEP_COUNT);
        let mut parts = Parts::of(self.call(&PURGE, &purge, &names).await?, &names)?;
        let (count, visible) = (number(&mut parts)?, number(&mut parts)?);
        self.release_all(namespace, parts).await?;
        Ok((count, visible))
    }

    /// Removes what had expired at `now` from one shelf; how many there were.
    pub(super) async fn expire_shelf(
        &self,
        namespace: &Namespace,
        shelf: Shelf,
        now: Timestamp,
    ) -> Result<usize> {
        let names = self.keys.names(namespace, shelf);
        let mut sum = 0;
        loop {
            let mut expire = self.removal(&EXPIRE, namespace, shelf);
            expire.arg(now.0).arg(STEP_COUNT);
            let mut parts = Parts::of(self.call(&EXPIRE, &expire, &names).await?, &names)?;
            let count = number(&mut parts)?;
            sum += count;
            self.release_all(namespace, parts).await?;
            if count < STEP_COUNT {
                return Ok(sum);
            }
        }
    }

    async fn release_all(&self, namespace: &Namespace, mut parts: Parts) -> Result<()> {
        while !parts.is_empty() {
            self.release(namespace, &parts.text()?).await;
        }
        Ok(())
    }
}

fn number(parts: &mut Parts) -> Result<usize> {
    Ok(usize::try_from(parts.number()?).unwrap_or(usize::MAX))
}

/// How many were listed; what was deleted or written over by hand is logged and left out.
fn read_list(mut parts: Parts, found: &mut Vec<Item>) -> Result<usize> {
    let mut count = 0;
    while !parts.is_empty() {
        count += 1;
        let name = parts.text()?;
        let fields = [parts.maybe(), parts.maybe(), parts.maybe()];
        match parse(name, fields, &parts) {
            Ok(item) => found.push(item),
            Err(error) => tracing::error!(%error, "an item is left out of a list"),
        }
    }
    Ok(count)
}

fn item(name: String, parts: &mut Parts) -> Result<Item> {
    let fields = [parts.maybe(), parts.maybe(), parts.maybe()];
    parse(name, fields, parts)
}

fn parse(name: String, fields: [Option<Vec<u8>>; 3], parts: &Parts) -> Result<Item> {
    let wrong = || parts.corrupt(&format!("the item {name:?} was deleted or written by hand"));
    let text = |field: Option<Vec<u8>>| {
        let field = field.ok_or_else(wrong)?;
        String::from_utf8(field).map_err(|_| wrong())
    };
    let [body, code, expires] = fields;
    let code = match text(code)?.as_str() {
        "" => None,
        digest => Some(digest.parse().map_err(|_| wrong())?),
    };
    let expires = match text(expires)?.as_str() {
        "" => None,
        time => Some(Timestamp(time.parse().map_err(|_| wrong())?)),
    };
    Ok(Item {
        body: text(body)?.into(),
        code,
        expires,
        name,
    })
}

/// The ends of the names that start with `prefix`, as Redis has them.
fn range(prefix: &str) -> (Vec<u8>, Vec<u8>) {
    if prefix.is_empty() {
        return (b"-".to_vec(), b"+".to_vec());
    }
    let mut least = b"[".to_vec();
    least.extend(prefix.as_bytes());
    let mut most = prefix.as_bytes().to_vec();
    // No byte of a text is 255.
    if let Some(last) = most.last_mut() {
        *last += 1;
    }
    most.insert(0, b'(');
    (least, most)
}
