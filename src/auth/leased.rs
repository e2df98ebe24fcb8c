//! Counts that the cluster has only so many of, held by nodes on lease: places of namespaces, slots of actions.
//!
//! Each count is a hash in Redis: holder -> `count:deadline:serial`. A node holds some of it, gives them out without a round
//! trip, renews what it holds, and gives back what it has no use for. A node that renews nothing has lost what it held when
//! its lease has run out.
//!
//! Invariants:
//! - what unexpired holders have together is never raised above the most that is allowed;
//! - deadlines are set and read by Redis's clock alone, inside the scripts. A node measures only how long ago it asked, and
//!   takes its lease to be over earlier than Redis does ([`Hold::stands_at`]);
//! - commands say what the node has in the end, not by how much it changes, and carry a serial number: one whose answer was lost, or
//!   that arrives late, does no harm, and the next one puts the count right;
//! - after [`Leased::lapse`] the node is another holder: what it held before stays counted until Redis's lease of it ends.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use foldhash::quality::RandomState;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::link::{Batch, Error, Link, Result, Script, Value};

/// Claims: drops what is not ours and whose lease has run out, then raises what this holder has as far as there is room.
///
/// ARGV: holder, serial, what it has, how much it needs, which share of the rest it would like, most that are allowed, lease.
/// Answers: granted, held by all, held by the others, whether the holder was thought to have something and had not.
static CLAIM: Script = Script::new(
    "#!lua flags=allow-oom
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local holder, serial, have = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local need, share, max, lease = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local others, is_known = 0, false
local all = redis.pcall('HGETALL', KEYS[1])
if all.err then
  redis.call('DEL', KEYS[1])
  all = {}
end
for i = 1, #all, 2 do
  local count, deadline, last = string.match(all[i + 1], '^(%d+):(%d+):(%d+)$')
  if not count or tonumber(deadline) <= now then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= holder then
    others = others + tonumber(count)
  elseif tonumber(last) >= serial then
    return redis.error_reply('WISP late')
  else
    is_known = true
  end
end
local room = max - others - have
local granted = math.max(0, math.min(need, room))
if share > 0 and room > granted then
  granted = granted + math.min(math.floor((room - granted) / share), 1024)
end
local mine = have + granted
if mine > 0 then
  redis.call('HSET', KEYS[1], holder, string.format('%.0f:%.0f:%.0f', mine, now + lease, serial))
  if redis.call('PTTL', KEYS[1]) < lease then redis.call('PEXPIRE', KEYS[1], lease) end
else
  redis.call('HDEL', KEYS[1], holder)
end
return {granted, others + mine, others, (have > 0 and not is_known) and 1 or 0}",
);

/// Lowers what a holder has. ARGV: holder, serial, what it has from now on. Never raises it, and never brings it back.
static KEEP: Script = Script::new(
    "#!lua flags=allow-oom
local value = redis.pcall('HGET', KEYS[1], ARGV[1])
if type(value) ~= 'string' then return 0 end
local count, deadline, last = string.match(value, '^(%d+):(%d+):(%d+)$')
if count and tonumber(last) >= tonumber(ARGV[2]) then return 0 end
local mine = math.min(tonumber(count) or 0, tonumber(ARGV[3]))
if mine > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:%s:%s', mine, deadline, ARGV[2]))
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1",
);

/// Renews a lease that has not run out. ARGV: holder, lease. Answers whether it did.
static RENEW: Script = Script::new(
    "#!lua flags=allow-oom
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local value = redis.pcall('HGET', KEYS[1], ARGV[1])
if type(value) ~= 'string' then return 0 end
local count, deadline, last = string.match(value, '^(%d+):(%d+):(%d+)$')
if not count or tonumber(deadline) <= now then return 0 end
local lease = tonumber(ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%s:%.0f:%s', count, now + lease, last))
if redis.call('PTTL', KEYS[1]) < lease then redis.call('PEXPIRE', KEYS[1], lease) end
return 1",
);

/// Renewals sent together: a pipeline of these keeps Redis busy for about a millisecond.
const BATCH_MAX: usize = 256;

/// Limits beyond this are this: Lua's numbers are exact up to here.
const MOST: u64 = 1 << 52;

/// [`Hold::told`] while it is not known what Redis has.
const UNKNOWN: u64 = u64::MAX;

/// How much is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// What is needed now.
    pub(crate) need: u64,
    /// One in so many of what is left after that is welcome too; 0: nothing.
    pub(crate) share: u64,
    /// Most that all nodes may hold together.
    pub(crate) max: u64,
}

/// What a claim came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// May be less than needed, and more.
    pub(crate) granted: u64,
    /// Held by all nodes, this one and what was granted included.
    pub(crate) in_use: u64,
    /// Held by the other nodes.
    pub(crate) others: u64,
    /// Whether Redis had forgotten what this node held; it knows it again.
    pub(crate) was_lost: bool,
}

/// What this node holds of one count.
pub(crate) struct Hold {
    key: String,
    holder: String,
    /// Held here.
    held: AtomicU64,
    /// What Redis has, as far as is known; [`UNKNOWN`] while a command is under way or when its answer was lost.
    told: AtomicU64,
    /// When the node takes its lease to be over, in milliseconds of [`Leased::at`].
    until_ms: AtomicU64,
    has_lapsed: AtomicBool,
    /// One command at a time, in the order of their serials.
    turn: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hold({} of {})", self.held(), self.key)
    }
}

impl Hold {
    /// How much is held.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether what is held may be used at `now_ms` ([`Leased::at`]): the lease has not run out as the node sees it.
    pub(crate) fn stands_at(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms.load(Ordering::Relaxed) && !self.has_lapsed()
    }

    /// Whether the node was told to forget it.
    pub(crate) fn has_lapsed(&self) -> bool {
        self.has_lapsed.load(Ordering::Acquire)
    }

    /// Whether Redis has to be told, by [`Leased::settle`].
    pub(crate) fn is_unsettled(&self) -> bool {
        self.told.load(Ordering::Relaxed) != self.held()
    }

    /// Holds `count` less, which nobody may use any more; Redis is told by [`Leased::settle`], or the next claim.
    pub(crate) fn lower(&self, count: u64) {
        let lowered = |held: u64| Some(held.saturating_sub(count));
        // Never fails: it is always lowered to something.
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, lowered)
            .ok();
    }
}

/// What this node holds of all counts.
pub(crate) struct Leased {
    link: Link,
    prefix: String,
    node: String,
    lease: Duration,
    margin: Duration,
    began: Instant,
    /// Numbers the commands.
    serial: AtomicU64,
    /// How often the node's lease has lapsed.
    lapses: AtomicU64,
    holds: DashMap<Box<str>, Arc<Hold>, RandomState>,
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leased({} counts)", self.holds.len())
    }
}

impl Leased {
    /// Nothing held, by the node `node`, under keys that begin with `prefix`.
    pub(crate) fn new(link: Link, prefix: String, node: String, lease: Duration) -> Self {
        Self {
            link,
            prefix,
            node,
            lease,
            margin: (lease / 10).max(Duration::from_millis(100)).min(lease / 2),
            began: Instant::now(),
            serial: AtomicU64::new(1),
            lapses: AtomicU64::new(0),
            holds: DashMap::default(),
        }
    }

    /// `now`, in milliseconds of this node.
    pub(crate) fn at(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.began);
        u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
    }

    /// What is held of `key`, whose hash tag is the caller's affair.
    pub(crate) fn hold(&self, key: &str) -> Arc<Hold> {
        if let Some(hold) = self.holds.get(key) {
            return Arc::clone(&hold);
        }
        let made = || {
            let lapses = self.lapses.load(Ordering::Acquire);
            Arc::new(Hold {
                key: format!("{}{key}", self.prefix),
                holder: format!("{}.{lapses}", self.node),
                held: AtomicU64::new(0),
                told: AtomicU64::new(0),
                until_ms: AtomicU64::new(0),
                has_lapsed: AtomicBool::new(false),
                turn: tokio::sync::Mutex::default(),
            })
        };
        Arc::clone(&self.holds.entry(key.into()).or_insert_with(made))
    }

    /// Claims more.
    ///
    /// # Errors
    /// When it is not known what was granted, if anything; it is put right by the next command. And after a lapse.
    pub(crate) async fn claim(&self, hold: &Hold, ask: Ask) -> Result<Claimed> {
        let _turn = hold.turn.lock().await;
        if hold.has_lapsed() {
            return Err(lapsed());
        }
        let asked = Instant::now();
        let (serial, have) = (self.serial(), hold.held());
        hold.told.store(UNKNOWN, Ordering::Relaxed);
        let mut command = CLAIM.call(&[&hold.key]);
        command.arg(&hold.holder).arg(serial).arg(have);
        command.arg(ask.need.min(MOST)).arg(ask.share);
        command.arg(ask.max.min(MOST)).arg(self.lease_ms());
        let (granted, in_use, others, was_lost): (u64, u64, u64, u64) =
            self.link.call(&CLAIM, &command).await?;
        hold.told.store(have + granted, Ordering::Relaxed);
        self.stands_since(hold, asked);
        if hold.has_lapsed() {
            return Err(lapsed());
        }
        hold.held.fetch_add(granted, Ordering::Relaxed);
        Ok(Claimed {
            granted,
            in_use,
            others,
            was_lost: was_lost == 1,
        })
    }

    /// Gives `count` back.
    ///
    /// # Errors
    /// When Redis could not be told; the next command, or [`Leased::renew_all`], does it.
    #[cfg(test)]
    pub(crate) async fn give(&self, hold: &Hold, count: u64) -> Result<()> {
        hold.lower(count);
        self.settle(hold).await
    }

    /// Tells Redis what is held here, where it may believe that it is more.
    ///
    /// # Errors
    /// When it could not be told.
    pub(crate) async fn settle(&self, hold: &Hold) -> Result<()> {
        let _turn = hold.turn.lock().await;
        if !hold.is_unsettled() || hold.has_lapsed() {
            return Ok(());
        }
        let (serial, held) = (self.serial(), hold.held());
        hold.told.store(UNKNOWN, Ordering::Relaxed);
        let mut command = KEEP.call(&[&hold.key]);
        command.arg(&hold.holder).arg(serial).arg(held);
        let _: u64 = self.link.call(&KEEP, &command).await?;
        hold.told.store(held, Ordering::Relaxed);
        Ok(())
    }

    /// Renews everything that is held, and gives those whose leases had run out or been forgotten: they may not be used.
    ///
    /// # Errors
    /// When some could not be renewed; those that could are.
    pub(crate) async fn renew_all(&self) -> Result<Vec<Arc<Hold>>> {
        let all: Vec<Arc<Hold>> = self.holds.iter().map(|hold| Arc::clone(&hold)).collect();
        let (mut refused, mut failed) = (Vec::new(), None);
        let (held, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|hold| hold.held() > 0);
        for some in held.chunks(BATCH_MAX) {
            match self.renew(some).await {
                Ok(mut some) => refused.append(&mut some),
                Err(error) => failed = Some(error),
            }
        }
        let unsettled = held.iter().chain(&rest).filter(|hold| hold.is_unsettled());
        // One that fails is tried again with the next round.
        join_all(unsettled.map(|hold| self.settle(hold))).await;
        drop((held, rest));
        self.holds.retain(|_, hold| {
            Arc::strong_count(hold) > 1 || hold.held() > 0 || hold.is_unsettled()
        });
        failed.map_or(Ok(refused), Err)
    }

    async fn renew(&self, holds: &[Arc<Hold>]) -> Result<Vec<Arc<Hold>>> {
        let mut batch = Batch::default();
        for hold in holds {
            let mut command = RENEW.call(&[&hold.key]);
            command.arg(&hold.holder).arg(self.lease_ms());
            batch.call(&RENEW, command);
        }
        let asked = Instant::now();
        let answers = self.link.run(&batch).await?;
        let (mut refused, mut failed) = (Vec::new(), None);
        for (hold, answer) in holds.iter().zip(answers) {
            match answer {
                Ok(Value::Int(1)) => self.stands_since(hold, asked),
                // What was given back in the meantime is no loss.
                Ok(_) if hold.held() == 0 || hold.has_lapsed() => {}
                Ok(_) => refused.push(Arc::clone(hold)),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(refused), Err)
    }

    /// Forgets everything that is held: the node's lease is over as the node sees it, and has not yet been as Redis does.
    pub(crate) fn lapse(&self) {
        self.lapses.fetch_add(1, Ordering::AcqRel);
        self.holds.retain(|_, hold| {
            hold.until_ms.store(0, Ordering::Relaxed);
            hold.has_lapsed.store(true, Ordering::Release);
            false
        });
    }

    fn stands_since(&self, hold: &Hold, asked: Instant) {
        if !hold.has_lapsed() {
            let until_ms = self.at(asked + self.lease - self.margin);
            hold.until_ms.fetch_max(until_ms, Ordering::Relaxed);
        }
    }

    fn serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(MOST)
    }
}

fn lapsed() -> Error {
    Error::Unavailable("the node's lease has lapsed".to_owned())
}

#[cfg(test)]
#[path = "leased_tests.rs"]
mod tests;
