//! What is sent for records, and for what follows them: as few commands as can be, each bounded in what it does at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chunks;
use super::keys::{All, Keys};
use crate::link::{Cmd, Script, cmd};
use crate::model::{Activation, ActivationId, Namespace};
use crate::store::chunk;
use crate::store::seal::Seal;

/// Removes a chunk. KEYS records, chunks, bytes, namespace, entries, bodies; its bytes and how many records it had.
macro_rules! forget {
    () => {
        "local function forget(member) \
           local name = string.sub(member, 1, 16) \
           local entries = redis.call('HGET', KEYS[5], name) or '' \
           local count = math.floor(#entries / 32) \
           local bytes = #entries + redis.call('HSTRLEN', KEYS[6], name) \
           for first = 0, count - 1, 500 do \
             local ids = {} \
             for i = first, math.min(first + 499, count - 1) do ids[#ids + 1] = string.sub(entries, 32 * i + 9, 32 * i + 24) end \
             redis.call('HDEL', KEYS[1], unpack(ids)) \
           end \
           redis.call('HDEL', KEYS[5], name) \
           redis.call('HDEL', KEYS[6], name) \
           redis.call('ZREM', KEYS[2], member) \
           return bytes, count \
         end "
    };
}
pub(super) use forget;

/// KEYS records, chunks, bytes, namespace, entries, bodies; ARGV most bytes, what the chunk counts, what a chunk and a record
/// count beside its values, name, member, newest start, entries, body, ids. Nothing, or those of the ids that are there
/// already: then nothing was written, and the others are to come in a chunk of their own.
///
/// The oldest go while there are too many bytes: a few chunks for each that comes, so it never has much to do.
static PUT: Script = Script::new(concat!(
    forget!(),
    "if redis.call('HEXISTS', KEYS[4], 'gone') == 1 then return {} end \
     local have, known, ids, name = redis.call('HMGET', KEYS[1], unpack(ARGV, 10)), {}, {}, ARGV[5] \
     for i = 1, #have do if have[i] then known[#known + 1] = ARGV[i + 9] end end \
     if #known > 0 then return known end \
     for i = 10, #ARGV do ids[2 * i - 19] = ARGV[i] ids[2 * i - 18] = name end \
     redis.call('HSET', KEYS[1], unpack(ids)) \
     redis.call('HSET', KEYS[5], name, ARGV[8]) \
     redis.call('HSET', KEYS[6], name, ARGV[9]) \
     redis.call('ZADD', KEYS[2], ARGV[7], ARGV[6]) \
     local over = redis.call('INCRBY', KEYS[3], ARGV[2]) - tonumber(ARGV[1]) \
     if over > 0 then \
       local gone = 0 \
       for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, 7)) do \
         if gone >= over then break end \
         local bytes, count = forget(member) \
         gone = gone + bytes + tonumber(ARGV[3]) + count * tonumber(ARGV[4]) \
       end \
       redis.call('DECRBY', KEYS[3], gone) \
     end \
     return {}",
));

/// KEYS records, chunks, bytes, namespace, entries, bodies. Puts aside what is none of ours; how many keys.
pub(super) static MEND: Script = Script::new(
    "local types, count = {'hash', 'zset', 'string', 'hash', 'hash', 'hash'}, 0 \
     for i, key in ipairs(KEYS) do \
       local is = redis.call('TYPE', key).ok \
       if is ~= 'none' and (is ~= types[i] or i == 3 and not tonumber(redis.call('GET', key))) then \
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
    seal: Arc<Seal>,
}

impl Pipeline {
    /// Of `node`.
    pub(super) fn new(keys: &Keys, node: &str, retained_bytes_max: u64, seal: Arc<Seal>) -> Self {
        Self {
            keys: keys.clone(),
            node: node.to_owned(),
            retained_bytes_max,
            seal,
        }
    }

    /// A chunk of the records of each namespace, or several when they are many.
    pub(super) fn records(&self, records: Vec<(Arc<Activation>, usize)>) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        let mut by_namespace: BTreeMap<Namespace, Vec<_>> = BTreeMap::new();
        for put in records {
            match by_namespace.get_mut(&put.0.namespace) {
                Some(records) => records.push(put),
                None => {
                    by_namespace.insert(put.0.namespace.clone(), vec![put]);
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
        for (namespace, mut records) in by_namespace {
            records.sort_by_key(|(record, _)| record.start);
            while !records.is_empty() {
                let rest = records.split_off(chunks::first_of(&records));
                let first = records.into_iter().map(|(record, _)| record).collect();
                outgoing.extend(self.put(&namespace, first));
                records = rest;
            }
        }
        outgoing
    }

    /// One chunk; `None` when none of its records can be written, which is said.
    pub(super) fn put(
        &self,
        namespace: &Namespace,
        records: Vec<Arc<Activation>>,
    ) -> Option<Outgoing> {
        let made = chunks::pack(namespace, &records, &self.seal)?;
        let mut put = PUT.call(&self.keys.places(namespace));
        put.arg(self.retained_bytes_max)
            .arg(made.bytes())
            .arg(chunks::CHUNK_BYTES)
            .arg(chunks::RECORD_BYTES)
            .arg(&made.name)
            .arg(&made.member)
            .arg(made.chunk.start_max.0)
            .arg(&made.chunk.entries)
            .arg(&made.chunk.body);
        for entry in chunk::entries_of(&made.chunk.entries) {
            put.arg(&entry.id.0.to_be_bytes());
        }
        Some(Outgoing {
            command: (Some(&PUT), put),
            records,
            key: self.keys.records(namespace),
            tries: 0,
        })
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
