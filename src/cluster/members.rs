//! Who else lives.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Node, Role};
use crate::link::{self, Batch, Cmd, Link, Script, Value, cmd};
use crate::scheduler::placement::{self, NodeView};

/// Nodes that were read of together. More are not looked at: a node that knows this many others finds one with room.
const MEMBERS_MAX: usize = 4096;

/// What a node says of itself. Unknown fields are ignored, missing ones are as nothing: releases may differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Member {
    pub(crate) role: Role,
    /// Whether it takes nothing more, and ends when what it has is over.
    pub(crate) leaves: bool,
    pub(crate) address: String,
    pub(crate) version: String,
    /// Runs in progress, and the most there may be.
    pub(crate) runs: usize,
    pub(crate) runs_max: usize,
    /// Bytes of guests' memory in use, and the most there may be.
    pub(crate) memory_used: usize,
    pub(crate) memory_max: usize,
    /// Warm instances that do nothing.
    pub(crate) idle: usize,
    /// Work taken from streams that waits here, and lanes held.
    pub(crate) waiting: usize,
    pub(crate) lanes: usize,
    /// When its lease ends unless it is renewed, by Redis's clock: as read, not as said.
    #[serde(skip)]
    pub(crate) lease_ends_ms: u64,
}

/// Those who live, as of the last look.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// By id, in order.
    pub(crate) living: Vec<(Arc<str>, Member)>,
    /// Those of them that run actions, as placement sees them, and where each stands in `living`.
    pub(crate) nodes: Vec<NodeView>,
    places: Vec<usize>,
    /// Whose lease has ended, and what they held was not taken over yet.
    pub(crate) dead: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Members {
    nodes: String,
    facts: String,
    view: RwLock<Arc<View>>,
    /// When leases end that were asked for one by one since the last time several were.
    asked: RwLock<HashMap<Arc<str>, u64>>,
}

/// Renews a node's lease and what it says of itself; Redis's time.
static BEAT: Script = Script::new(
    "local t = redis.call('TIME') \
     local now = t[1] * 1000 + math.floor(t[2] / 1000) \
     redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1]) \
     redis.call('HSET', KEYS[2], ARGV[1], ARGV[3]) \
     return now",
);

/// Who is there: time, then id, end of lease and facts of each.
///
/// A lease that ends later than any can is one by another clock: it is given one by this clock, which is renewed if its node lives.
pub(super) static LOOK: Script = Script::new(
    "local t = redis.call('TIME') \
     local now = t[1] * 1000 + math.floor(t[2] / 1000) \
     local out = { now } \
     local all = redis.call('ZRANGE', KEYS[1], 0, ARGV[1], 'WITHSCORES') \
     for i = 1, #all, 2 do \
       if tonumber(all[i + 1]) > now + 2 * ARGV[2] then \
         all[i + 1] = now + ARGV[2] \
         redis.call('ZADD', KEYS[1], all[i + 1], all[i]) \
       end \
       out[#out + 1] = { all[i], tonumber(all[i + 1]), redis.call('HGET', KEYS[2], all[i]) or '' } \
     end \
     return out",
);

/// When the leases of some end, 0 where they have none: Redis's time, then one for each.
static LEASES: Script = Script::new(
    "local t = redis.call('TIME') \
     local out = { t[1] * 1000 + math.floor(t[2] / 1000) } \
     for i = 1, #ARGV do out[#out + 1] = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i])) or 0 end \
     return out",
);

impl Members {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            nodes: format!("{prefix}:n:{{nodes}}:leases"),
            facts: format!("{prefix}:n:{{nodes}}:facts"),
            view: RwLock::default(),
            asked: RwLock::default(),
        }
    }

    /// As of the last look.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    /// Appends the renewal of `node`'s lease.
    pub(crate) fn beat(&self, node: &Node, facts: &Member, batch: &mut Batch) {
        let lease_ms = u64::try_from(node.config.lease().as_millis()).unwrap_or(u64::MAX);
        let mut call = BEAT.call(&[&self.nodes, &self.facts]);
        call.arg(node.id())
            .arg(lease_ms)
            .arg(serde_json::to_string(facts).unwrap_or_default());
        batch.call(&BEAT, call);
    }

    /// The call of [`LOOK`].
    pub(super) fn asked(&self, node: &Node) -> Cmd {
        let mut call = LOOK.call(&[&self.nodes, &self.facts]);
        call.arg(MEMBERS_MAX)
            .arg(super::millis(node.config.lease()));
        call
    }

    /// Reads who is there.
    pub(crate) async fn look(&self, link: &Link, node: &Node) -> link::Result<Arc<View>> {
        let asked = Instant::now();
        let answer: Vec<Value> = link.call(&LOOK, &self.asked(node)).await?;
        let mut answer = answer.into_iter();
        let Some(Value::Int(now)) = answer.next() else {
            return Err(link::Error::Unexpected(
                "a list of nodes without a time".to_owned(),
            ));
        };
        node.note_time(u64::try_from(now).unwrap_or(0), asked);
        let mut view = View::default();
        for one in answer {
            let Some((id, until, facts)) = link::read::<(String, i64, String)>(one) else {
                continue;
            };
            if until >= now {
                // Facts that cannot be read make a node without capacity, not an error.
                let mut facts: Member = serde_json::from_str(&facts).unwrap_or_default();
                facts.lease_ends_ms = u64::try_from(until).unwrap_or(0);
                view.living.push((id.into(), facts));
            } else {
                view.dead.push(id);
            }
        }
        view.living.sort_by(|a, b| a.0.cmp(&b.0));
        for (place, (id, member)) in view.living.iter().enumerate() {
            if member.role.runs() && !member.leaves {
                view.nodes.push(member.view(id));
                view.places.push(place);
            }
        }
        let view = Arc::new(view);
        *self.view.write() = Arc::clone(&view);
        Ok(view)
    }

    /// Whether the lease of a node holds, as far as is known here. Who is not known may live all the same.
    pub(crate) fn is_known_to_live(&self, node: &Node, id: &str) -> bool {
        let now_ms = node.redis_now_ms();
        // One that ends later than any can is by another clock.
        let latest_ms = now_ms.saturating_add(super::millis(node.config.lease() * 2));
        let holds = |ends_ms: u64| ends_ms > now_ms && ends_ms <= latest_ms;
        let asked = self.asked.read().get(id).copied();
        asked.is_some_and(holds) || {
            let view = self.view();
            view.get(id).is_some_and(|facts| holds(facts.lease_ends_ms))
        }
    }

    /// Asks which of these nodes live; gives those that do not, and nobody where leases say nothing ([`Node::takes_over`]).
    ///
    /// # Errors
    /// When Redis does not tell.
    pub(crate) async fn gone(
        &self,
        link: &Link,
        node: &Node,
        ids: Vec<Arc<str>>,
    ) -> link::Result<Vec<Arc<str>>> {
        let mut call = LEASES.call(&[&self.nodes]);
        for id in &ids {
            call.arg(&**id);
        }
        let began = Instant::now();
        let answer: Vec<u64> = link.call(&LEASES, &call).await?;
        let Some((&now_ms, ends)) = answer.split_first() else {
            return Err(link::Error::Unexpected("leases without a time".to_owned()));
        };
        node.note_time(now_ms, began);
        if !node.takes_over() {
            return Ok(Vec::new());
        }
        let mut asked = self.asked.write();
        asked.retain(|_, ends| *ends >= now_ms);
        let mut gone = Vec::new();
        for (id, ends) in ids.into_iter().zip(ends) {
            if *ends >= now_ms {
                asked.insert(id, *ends);
            } else {
                gone.push(id);
            }
        }
        Ok(gone)
    }

    /// What the clock says that leases are judged by, milliseconds.
    pub(super) async fn time(&self, link: &Link) -> link::Result<u64> {
        let answer: Vec<u64> = link.call(&LEASES, &LEASES.call(&[&self.nodes])).await?;
        let now_ms = answer.first().copied();
        now_ms.ok_or_else(|| link::Error::Unexpected("leases without a time".to_owned()))
    }

    /// Removes a node: one that leaves, or whose things were all taken over.
    pub(crate) async fn remove(&self, link: &Link, id: &str) -> link::Result<()> {
        let mut batch = Batch::default();
        batch.push(cmd("ZREM").arg(&self.nodes).arg(id).clone());
        batch.push(cmd("HDEL").arg(&self.facts).arg(id).clone());
        for answer in link.run(&batch).await? {
            answer?;
        }
        Ok(())
    }

    /// How often to look when this many live, so that all of them together do not keep Redis busy.
    pub(crate) fn look_every(&self) -> Duration {
        placement::views_after(self.view().living.len())
    }
}

impl View {
    /// The member `id`, if it lives.
    pub(crate) fn get(&self, id: &str) -> Option<&Member> {
        let index = self
            .living
            .binary_search_by(|(one, _)| (**one).cmp(id))
            .ok()?;
        self.living.get(index).map(|(_, member)| member)
    }

    /// The id of one of `nodes`.
    pub(crate) fn node_id(&self, index: usize) -> Option<&str> {
        let place = self.places.get(index)?;
        self.living.get(*place).map(|(id, _)| &**id)
    }

    /// Ids of `nodes` to where they stand there.
    pub(crate) fn node_index(&self) -> HashMap<&str, usize> {
        let ids = (0..self.nodes.len()).filter_map(|index| Some((self.node_id(index)?, index)));
        ids.collect()
    }
}

impl Member {
    fn view(&self, id: &str) -> NodeView {
        let digest = blake3::hash(id.as_bytes());
        let free = self.runs_max.saturating_sub(self.runs + self.waiting);
        NodeView {
            hash: u64::from_le_bytes(*digest.as_bytes().first_chunk().unwrap_or(&[0; 8])),
            permits_free: u32::try_from(free).unwrap_or(u32::MAX),
            permits: u32::try_from(self.runs_max).unwrap_or(u32::MAX),
            bytes_free: u64::try_from(self.memory_max.saturating_sub(self.memory_used))
                .unwrap_or(u64::MAX),
        }
    }
}
