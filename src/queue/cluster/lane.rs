//! What a node knows of one lane.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::quality::RandomState;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::packet::LastAction;
use super::pulled::Own;
use crate::model::{Fqn, Namespace};
use crate::queue::message::Work;
use crate::queue::{EnqueueError, Key};

/// The keys of a lane in Redis, and what it is called there.
#[derive(Debug)]
pub(super) struct Keys {
    /// `namespace|namespace/package/name`.
    pub(super) name: Arc<str>,
    pub(super) stream: String,
    pub(super) holders: String,
    pub(super) begun: String,
    /// Entries that could not be read.
    pub(super) aside: String,
    /// Where large payloads go; a serial follows.
    pub(super) payload: String,
    /// The due list of its namespace.
    pub(super) due: String,
}

impl Keys {
    pub(super) fn of(prefix: &str, key: &Key) -> Self {
        let name = format!("{}|{}", key.namespace, key.action);
        let tag = format!("{prefix}:q:{{{name}}}");
        Self {
            stream: format!("{tag}:s"),
            holders: format!("{tag}:h"),
            begun: format!("{tag}:b"),
            aside: format!("{tag}:u"),
            payload: format!("{tag}:p:"),
            due: due_of(prefix, &key.namespace),
            name: name.into(),
        }
    }
}

/// The list of namespaces with lanes that are due.
pub(super) fn due(prefix: &str) -> String {
    format!("{prefix}:q:due")
}

/// The list of a namespace's lanes that are due.
pub(super) fn due_of(prefix: &str, namespace: &Namespace) -> String {
    format!("{prefix}:q:due:{namespace}")
}

/// The lane of that name; `None` when it cannot be one of ours.
pub(super) fn parse(name: &str) -> Option<Key> {
    let (namespace, action) = name.split_once('|')?;
    let namespace = Namespace::parse(namespace).ok()?;
    let action = Fqn::parse(action, &namespace).ok()?;
    Some(Key { namespace, action })
}

/// Work on its way into the stream.
pub(super) struct Outgoing {
    pub(super) work: Work,
    /// Who waits for it to be there; nobody but whoever waits for its outcome, if nothing was promised.
    pub(super) answer: Option<oneshot::Sender<Result<(), EnqueueError>>>,
}

/// Runs that take less than this, milliseconds, share an entry with others.
const BRIEF_MS: u64 = 5;

/// Entries of brief runs that are taken per slot, where an action has a limit. Of longer ones one is taken for each: what is
/// taken here nobody else can run.
const BRIEF_PER_SLOT: u64 = 8;

/// See the module.
pub(super) struct Lane {
    pub(super) key: Key,
    pub(super) keys: Arc<Keys>,
    /// Not in the stream yet.
    pub(super) out: Vec<Outgoing>,
    pub(super) actions: LastAction,
    /// What the batch under way puts into the stream and takes out again, as it was before it was packed.
    pub(super) own: Own,
    /// Entries whose works have all ended, and the payloads they had.
    pub(super) acks: Vec<String>,
    pub(super) payloads: Vec<String>,
    /// Whether Redis knows us as a holder.
    pub(super) is_held: bool,
    /// Slots of ours, where the action has a limit.
    pub(super) slots: u64,
    /// Most runs of the action in the whole cluster; 0 is no limit.
    pub(super) limit: u64,
    /// Entries read and not acked, by id.
    pub(super) entries: HashSet<String, RandomState>,
    /// Redis may know of entries of ours that we do not: a read was not answered, or too late, or the lane was forgotten. They
    /// are asked for with the next read.
    pub(super) missed: bool,
    /// Entries that nobody has read, as last heard. While there are some, calls go behind them.
    pub(super) waiting: u64,
    /// Whether to pull with the next batch, and since when it has been due.
    pub(super) hungry: Option<Hungry>,
    /// When work of it was last seen here.
    pub(super) used: Instant,
    /// Whether runs take so little that several travel in one entry: as measured here, or heard.
    pub(super) is_brief: bool,
    /// What was measured is to be said to the others.
    pub(super) tells_brief: bool,
    /// More waits than this node can take: others are to look at once.
    pub(super) tells_due: bool,
    /// It was due, and there was nothing for this node: where nothing is in its stream at all, it is no longer due.
    pub(super) is_stale: bool,
    /// What Redis holds of it is not ours: it is left alone until then.
    pub(super) shunned: Option<Instant>,
    /// Most of its runs here at one time, as of the last renewal.
    pub(super) peak: u32,
    /// It is due at once as far as the others know, though it may have been emptied.
    pub(super) is_due: bool,
    /// It was emptied: the others need not look before our lease ends.
    pub(super) puts_off: bool,
    /// It is among those with something to send.
    pub(super) has_errand_noted: bool,
}

/// A lane that has work for this node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hungry {
    /// Redis's time, milliseconds, from which on it has been due.
    pub(super) since_ms: u64,
    /// Whether this node was told of it, by another or by itself.
    pub(super) told: bool,
}

impl Lane {
    pub(super) fn new(prefix: &str, key: Key) -> Self {
        Self {
            keys: Arc::new(Keys::of(prefix, &key)),
            key,
            out: Vec::new(),
            actions: LastAction::default(),
            own: Own::new(),
            acks: Vec::new(),
            payloads: Vec::new(),
            is_held: false,
            slots: 0,
            limit: 0,
            entries: HashSet::default(),
            missed: true,
            waiting: 0,
            hungry: None,
            used: Instant::now(),
            is_brief: false,
            tells_brief: false,
            tells_due: false,
            is_stale: false,
            shunned: None,
            peak: 0,
            is_due: false,
            puts_off: false,
            has_errand_noted: false,
        }
    }

    /// Takes note of how long a run took; whether that is news.
    pub(super) fn note_length(&mut self, millis: u64) -> bool {
        let is_brief = millis < BRIEF_MS;
        let news = is_brief != self.is_brief;
        self.is_brief = is_brief;
        self.tells_brief |= news;
        news
    }

    /// Whether this node has as much of it as its slots will soon run.
    pub(super) fn is_full(&self) -> bool {
        let entries = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        let most = self.slots.saturating_mul(self.per_slot());
        self.limit > 0 && self.slots == self.limit && entries >= most
    }

    /// Most entries taken for each slot.
    pub(super) fn per_slot(&self) -> u64 {
        if self.is_brief { BRIEF_PER_SLOT } else { 1 }
    }

    /// Whether there is something to send.
    pub(super) fn has_errand(&self) -> bool {
        !self.out.is_empty()
            || !self.acks.is_empty()
            || self.hungry.is_some()
            || self.tells_brief
            || self.tells_due
            || self.puts_off
    }

    /// Nothing of it is here, and nothing is on its way.
    pub(super) fn is_unused(&self) -> bool {
        self.out.is_empty()
            && self.acks.is_empty()
            && self.entries.is_empty()
            && self.hungry.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_found_by_its_name() {
        let namespace = Namespace::parse("guest").unwrap();
        for action in ["whisk.system/utils/echo", "guest/hello world"] {
            let key = Key {
                action: Fqn::parse(action, &namespace).unwrap(),
                namespace: namespace.clone(),
            };
            let keys = Keys::of("p", &key);
            assert_eq!(parse(&keys.name), Some(key));
            assert!(keys.stream.contains('{') && keys.stream.ends_with(":s"));
        }
        for bad in ["", "a", "a|", "|a/b", "a|b", "a|b/c/d/e"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
