//! What is sent for records, and for what follows them: as few commands as can be, each bounded in what it does at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::keys::{All, Keys};
use super::record;
use crate::link::{Cmd, Script, cmd};
use crate::model::{Activation, ActivationId, Namespace};

/// Records in one call of the script: it bounds how long others wait for it.
const CALL_COUNT: usize = 64;

/// Removes a record from everywhere. KEYS records, starts, bytes, namespace, sets; its bytes.
macro_rules! forget {
    () => {
        "local function forget(member) \
           local id = string.sub(member, 1, 16) \
           local bytes = redis.call('HSTRLEN', KEYS[1], id) \
           redis.call('HDEL', KEYS[1], id) \
           redis.call('ZREM', KEYS[2], member) \
           redis.call('ZREM', KEYS[5] .. string.sub(member, 17, 26), id) \
           if #member > 26 then redis.call('ZREM', KEYS[5] .. string.sub(member, 27), id) end \
           return bytes \
         end "
    };
}
pub(super) use forget;

/// KEYS records, starts, bytes, namespace, sets; ARGV most bytes, fixed bytes, how many, then all ids, then id and value of
/// each, then start and member of each, then for each set by name its hash, twice its count, and starts and ids.
///
/// Usually none of them is there, and all go in with a command for each set; else one by one, the first writer of each wins.
/// The oldest go while there are too many bytes: a few more in each call than come, so it never has much to do.
static PUT: Script = Script::new(concat!(
    forget!(),
    "if redis.call('HEXISTS', KEYS[4], 'gone') == 1 then return 0 end \
     local fixed, n, added, count = tonumber(ARGV[2]), tonumber(ARGV[3]), 0, 0 \
     if n == 0 then return 0 end \
     local values, starts = 4 + n, 4 + 3 * n \
     local have, is_fresh = redis.call('HMGET', KEYS[1], unpack(ARGV, 4, 3 + n)), true \
     for i = 1, n do if have[i] then is_fresh = false break end end \
     if is_fresh then \
       redis.call('HSET', KEYS[1], unpack(ARGV, values, values + 2 * n - 1)) \
       redis.call('ZADD', KEYS[2], unpack(ARGV, starts, starts + 2 * n - 1)) \
       local at = starts + 2 * n \
       while at < #ARGV do \
         local length = tonumber(ARGV[at + 1]) \
         redis.call('ZADD', KEYS[5] .. ARGV[at], unpack(ARGV, at + 2, at + 1 + length)) \
         at = at + 2 + length \
       end \
       count = n \
       for i = 0, n - 1 do added = added + #ARGV[values + 2 * i + 1] + fixed end \
     else \
       for i = 0, n - 1 do \
         local id, value = ARGV[values + 2 * i], ARGV[values + 2 * i + 1] \
         if redis.call('HSETNX', KEYS[1], id, value) == 1 then \
           local start, member = ARGV[starts + 2 * i], ARGV[starts + 2 * i + 1] \
           redis.call('ZADD', KEYS[2], start, member) \
           redis.call('ZADD', KEYS[5] .. string.sub(member, 17, 26), start, id) \
           if #member > 26 then redis.call('ZADD', KEYS[5] .. string.sub(member, 27), start, id) end \
           added = added + #value + fixed \
           count = count + 1 \
         end \
       end \
     end \
     if added == 0 then return 0 end \
     local over = redis.call('INCRBY', KEYS[3], added) - tonumber(ARGV[1]) \
     if over > 0 then \
       local gone = 0 \
       for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, 2 * count + 8)) do \
         if gone >= over then break end \
         gone = gone + forget(member) + fixed \
       end \
       redis.call('DECRBY', KEYS[3], gone) \
     end \
     return count",
));

/// KEYS records, starts, bytes, namespace, sets. Puts aside what is none of ours; how many keys.
pub(super) static MEND: Script = Script::new(
    "local types, count = {'hash', 'zset', 'string', 'hash'}, 0 \
     for i, key in ipairs(KEYS) do \
       local is = redis.call('TYPE', key).ok \
       if is ~= 'none' and types[i] and (is ~= types[i] or i == 3 and not tonumber(redis.call('GET', key))) then \
         redis.call('RENAME', key, key .. ':damaged') \
         count = count + 1 \
       end \
     end \
     return count",
);

/// KEYS begun, accepted, owner; ARGV node, ids.
pub(super) static BEGIN: Script = Script::new(
    "if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end \
     local count = 0 \
     for i = 2, #ARGV do \
       if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 then count = redis.call('HINCRBY', KEYS[1], ARGV[i], 1) end \
     end \
     return count",
);

/// KEYS begun, accepted, owner; ARGV node, ids. Another node answers for them when it has taken the home over.
static SETTLE: Script = Script::new(
    "#!lua flags=allow-oom\n\
     if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end \
     for i = 2, #ARGV do \
       redis.call('HDEL', KEYS[1], ARGV[i]) \
       redis.call('HDEL', KEYS[2], ARGV[i]) \
     end \
     return 1",
);

/// A command, and the script it calls, if it calls one.
pub(super) type Command = (Option<&'static Script>, Cmd);

/// What follows records.
pub(super) enum After {
    /// Nothing to send: somebody is told.
    Call(Box<dyn FnOnce() + Send>),
    Begin(Arc<str>, ActivationId),
    Settle(Arc<str>, ActivationId),
}

/// What is sent, and is sent again until it is done.
pub(super) struct Outgoing {
    pub(super) command: Command,
    pub(super) records: Vec<Arc<Activation>>,
    /// What is named when it fails.
    pub(super) key: String,
    pub(super) tries: u32,
}

/// About what a record takes in memory while it waits.
pub(super) fn weight(record: &Activation) -> usize {
    const FIXED: usize = 512;
    FIXED
        + record.response.result.get().len()
        + record.logs.iter().map(String::len).sum::<usize>()
        + record.annotations.size()
}

/// Makes commands.
pub(super) struct Pipeline {
    pub(super) keys: Keys,
    /// Who settles.
    node: String,
    retained_bytes_max: u64,
}

impl Pipeline {
    /// Of `node`.
    pub(super) fn new(keys: Keys, node: &str, retained_bytes_max: u64) -> Self {
        Self {
            keys,
            node: node.to_owned(),
            retained_bytes_max,
        }
    }

    /// One call of the script for the records of one namespace, or several when they are many.
    pub(super) fn records(&self, records: Vec<Arc<Activation>>) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        let mut by_namespace: BTreeMap<Namespace, Vec<Arc<Activation>>> = BTreeMap::new();
        for record in records {
            match by_namespace.get_mut(&record.namespace) {
                Some(records) => records.push(record),
                None => {
                    by_namespace.insert(record.namespace.clone(), vec![record]);
                }
            }
        }
        if by_namespace.is_empty() {
            return outgoing;
        }
        let all = self.keys.all(All::Records);
        let mut known = cmd("SADD");
        known.arg(&all);
        for namespace in by_namespace.keys() {
            known.arg(namespace.as_str());
        }
        outgoing.push(Outgoing {
            command: (None, known),
            records: Vec::new(),
            key: all,
            tries: 0,
        });
        for (namespace, records) in by_namespace {
            for records in records.chunks(CALL_COUNT) {
                outgoing.push(self.put_command(&namespace, records));
            }
        }
        outgoing
    }

    fn put_command(&self, namespace: &Namespace, records: &[Arc<Activation>]) -> Outgoing {
        let key = self.keys.records(namespace);
        let mut values = Vec::with_capacity(records.len());
        for record in records {
            match record::packed(record) {
                Ok(value) => values.push((record, record::member(record), value)),
                Err(error) => tracing::error!(%error, "a record has no JSON"),
            }
        }
        let mut put = PUT.call(&self.keys.places(namespace));
        put.arg(self.retained_bytes_max)
            .arg(record::FIXED_BYTES)
            .arg(values.len());
        for (record, ..) in &values {
            put.arg(&record.id.0.to_be_bytes());
        }
        let mut sets: BTreeMap<&[u8], Vec<&Activation>> = BTreeMap::new();
        for (record, member, value) in &values {
            put.arg(&record.id.0.to_be_bytes()).arg(value);
            for set in record::sets_of(member) {
                sets.entry(set).or_default().push(record);
            }
        }
        for (record, member, _) in &values {
            put.arg(record.start.0).arg(member);
        }
        for (set, records) in sets {
            put.arg(set).arg(2 * records.len());
            for record in records {
                put.arg(record.start.0).arg(&record.id.0.to_be_bytes());
            }
        }
        Outgoing {
            command: (Some(&PUT), put),
            records: records.to_vec(),
            key,
            tries: 0,
        }
    }

    /// What follows records: beginnings before ends, one call for those of a home.
    pub(super) fn follow(&self, after: Vec<After>, outgoing: &mut Vec<Outgoing>) {
        let mut begun: BTreeMap<Arc<str>, Cmd> = BTreeMap::new();
        let mut settled: BTreeMap<Arc<str>, Cmd> = BTreeMap::new();
        let call = |script: &'static Script, home: &str| {
            let mut call = script.call(&[
                self.keys.begun(home),
                self.keys.accepted(home),
                self.keys.owner(home),
            ]);
            call.arg(&self.node);
            call
        };
        let outgoing_of = |command: Command, key: String| Outgoing {
            command,
            records: Vec::new(),
            key,
            tries: 0,
        };
        for one in after {
            let (calls, script, home, id) = match one {
                After::Call(what) => {
                    what();
                    continue;
                }
                After::Begin(home, id) => (&mut begun, &BEGIN, home, id),
                After::Settle(home, id) => (&mut settled, &SETTLE, home, id),
            };
            let key = Arc::clone(&home);
            calls
                .entry(home)
                .or_insert_with(|| call(script, &key))
                .arg(&id.0.to_be_bytes());
        }
        for (calls, script) in [(begun, &BEGIN), (settled, &SETTLE)] {
            for (home, call) in calls {
                let key = self.keys.accepted(&home);
                outgoing.push(outgoing_of((Some(script), call), key));
            }
        }
    }
}
