//! Counts that the cluster has only so many of, held by nodes on lease: places of namespaces.
//!
//! Each count is a hash in Redis, holder -> `count:serial`, with the sum of all, beside a sorted set of the holders by
//! deadline. A node holds some of it, gives them out without a round trip, renews what it holds, and gives back what it has
//! no use for. What a node that renews nothing held is dropped after [`KEPT`] leases; until then others may move it to
//! themselves ([`Leased::adopt`]), because work that it was for is theirs now.
//!
//! Invariants:
//! - what stands in the hash together is never raised above the most that is allowed, but by what runs already;
//! - a call costs the same however many nodes hold some: the sum is kept, and who is overdue is found by the deadlines;
//! - deadlines are set and read by Redis's clock alone, inside the scripts. A node measures only how long ago it asked, and
//!   takes its lease to be over earlier than Redis does ([`Hold::stands_at`]);
//! - where nobody was heard of for a lease, Redis was away and not they: everybody gets another term;
//! - commands say what the node has in the end, not by how much it changes, and carry a serial number: one whose answer was lost, or
//!   that arrives late, does no harm, and the next one puts the count right;
//! - after [`Leased::lapse`] nothing may be used until Redis has renewed it; what is in use stays counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use foldhash::quality::RandomState;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::link::{Batch, Cmd, Link, Result, Script, Value};

/// For how many leases what a node holds stays counted that renews nothing.
///
/// A node that has work of the dead one finds out within its own lease, or loses that lease and ends the work; and the dead
/// one's own lease, by which that is judged, was renewed at most one lease after its counts were.
pub(crate) const KEPT: u32 = 3;

/// What all scripts begin with. KEYS: the hash, the deadlines. ARGV: us, for how long a count is kept.
///
/// Beside the holders, the hash has the sum of what they have `#s`, when one of them was last heard of `#t`, and a time
/// before which none is overdue `#d`. `look` is called when that has passed: it drops those who are, but for us and
/// `spared`. It gives everybody another term where nobody was heard of for a third of it: whoever lives renews several
/// times in that, so Redis was away, or its clock was set. And it counts anew where somebody changed anything by hand.
macro_rules! script {
    ($($body:literal),*) => {
        Script::new(concat!(
            "#!lua flags=allow-oom
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local me, kept = ARGV[1], tonumber(ARGV[2])
local f = redis.pcall('HMGET', KEYS[1], '#s', '#t', '#d', me)
if f.err then
  redis.call('DEL', KEYS[1])
  f = {}
end
local sum, seen, due = tonumber(f[1]), tonumber(f[2]), tonumber(f[3])
local function parse(value)
  local count, serial = string.match(value or '', '^(%d+):(%d+)$')
  return tonumber(count) or 0, tonumber(serial)
end
local mine, last = parse(f[4])
local has_looked = false
local function look(spared)
  local odd = sum and seen and due and math.abs(now - seen) >= kept / 3
  if sum and seen and due and now < due and not odd then return end
  local known = redis.pcall('ZCARD', KEYS[2])
  if type(known) ~= 'number' then
    redis.call('DEL', KEYS[2])
    known = 0
  end
  if not (sum and seen and due) or redis.call('HLEN', KEYS[1]) ~= known + 3 then
    sum = 0
    redis.call('DEL', KEYS[2])
    local all = redis.call('HGETALL', KEYS[1])
    for i = 1, #all, 2 do
      local count = parse(all[i + 1])
      sum = sum + count
      if count > 0 then redis.call('ZADD', KEYS[2], now + kept, all[i])
      else redis.call('HDEL', KEYS[1], all[i]) end
    end
  elseif odd then
    for _, who in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do redis.call('ZADD', KEYS[2], now + kept, who) end
  else
    for _, who in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 64)) do
      if who ~= me and who ~= spared then
        sum = sum - parse(redis.call('HGET', KEYS[1], who))
        redis.call('HDEL', KEYS[1], who)
        redis.call('ZREM', KEYS[2], who)
      end
    end
  end
  due = tonumber(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]) or now + kept
  has_looked = true
end
local function gone(who)
  redis.call('HDEL', KEYS[1], who)
  redis.call('ZREM', KEYS[2], who)
end
local function close(count, serial)
  if sum <= 0 then
    redis.call('DEL', KEYS[1], KEYS[2])
    return
  end
  if count > 0 then redis.call('HSET', KEYS[1], me, string.format('%.0f:%.0f', count, serial), '#s', sum, '#t', now)
  else
    gone(me)
    redis.call('HSET', KEYS[1], '#s', sum, '#t', now)
  end
  if has_looked then
    redis.call('HSET', KEYS[1], '#d', due)
    redis.call('PEXPIRE', KEYS[1], 3600000)
    redis.call('PEXPIRE', KEYS[2], 3600000)
  end
end
",
            $($body),*
        ))
    };
}

/// Claims: raises what this holder has as far as there is room.
///
/// ARGV: us, term, serial, what we have, how much we need, which share of the rest we would like, most that are allowed.
/// Answers: granted, held by all, held by the others, whether the holder was thought to have something and had not.
static CLAIM: Script = script!(
    "local serial, have = tonumber(ARGV[3]), tonumber(ARGV[4])
local need, share, max = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
if last and last >= serial then return redis.error_reply('WISP late') end
look()
local others = sum - mine
local room = max - others - have
local granted = math.max(0, math.min(need, room))
if share > 0 and room > granted then
  granted = granted + math.min(math.floor((room - granted) / share), 1024)
end
sum = others + have + granted
if have + granted > 0 then redis.call('ZADD', KEYS[2], now + kept, me) end
close(have + granted, serial)
return {granted, sum, others, (have > 0 and not last) and 1 or 0}"
);

/// Lowers what a holder has. ARGV: us, term, serial, what we have from now on. Never raises it, and never brings it back.
static KEEP: Script = script!(
    "local serial = tonumber(ARGV[3])
if not last or last >= serial then return 0 end
look()
local left = math.min(mine, tonumber(ARGV[4]))
sum = sum - mine + left
close(left, serial)
return 1"
);

/// Renews what a holder has. ARGV: us, term. Answers how much that is: none where it was dropped.
static RENEW: Script = script!(
    "if mine == 0 then return 0 end
look()
redis.call('ZADD', KEYS[2], now + kept, me)
if has_looked then close(mine, last) else redis.call('HSET', KEYS[1], '#t', now) end
return mine"
);

/// Moves some of what another holder has to us. ARGV: us, term, serial, what we have, the other, how many, whether we have
/// so many from now on in any case. Answers how many more we have.
static ADOPT: Script = script!(
    "local serial, from, count = tonumber(ARGV[3]), ARGV[5], tonumber(ARGV[6])
if last and last >= serial then return redis.error_reply('WISP late') end
look(from)
local theirs, theirs_last = parse(redis.call('HGET', KEYS[1], from))
local moved = math.min(count, theirs)
if moved > 0 and moved == theirs then gone(from)
elseif moved > 0 then redis.call('HSET', KEYS[1], from, string.format('%.0f:%.0f', theirs - moved, theirs_last)) end
if ARGV[7] ~= '1' then count = moved end
local have = tonumber(ARGV[4]) + count
sum = sum - moved - mine + have
if have > 0 then redis.call('ZADD', KEYS[2], now + kept, me) end
close(have, serial)
return count"
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
    deadlines: String,
    /// Held here.
    held: AtomicU64,
    /// What Redis has, as far as is known; [`UNKNOWN`] while a command is under way or when its answer was lost.
    told: AtomicU64,
    /// When the node takes its lease to be over, in milliseconds of [`Leased::at`].
    until_ms: AtomicU64,
    /// Whether it has not been renewed since a lapse.
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
        now_ms < self.until_ms.load(Ordering::Relaxed)
    }

    /// Whether it has not been renewed since a lapse: others may have been granted what is in use here.
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
            Arc::new(Hold {
                key: format!("{}{key}", self.prefix),
                deadlines: format!("{}{key}:d", self.prefix),
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
    /// When it is not known what was granted, if anything; it is put right by the next command.
    pub(crate) async fn claim(&self, hold: &Hold, ask: Ask) -> Result<Claimed> {
        let _turn = hold.turn.lock().await;
        let asked = Instant::now();
        let (serial, have) = (self.serial(), hold.held());
        hold.told.store(UNKNOWN, Ordering::Relaxed);
        let mut command = self.call(&CLAIM, hold);
        command.arg(serial).arg(have);
        command.arg(ask.need.min(MOST)).arg(ask.share);
        command.arg(ask.max.min(MOST));
        let (granted, in_use, others, was_lost): (u64, u64, u64, u64) =
            self.link.call(&CLAIM, &command).await?;
        hold.told.store(have + granted, Ordering::Relaxed);
        self.stands_since(hold, asked);
        hold.held.fetch_add(granted, Ordering::Relaxed);
        Ok(Claimed {
            granted,
            in_use,
            others,
            was_lost: was_lost == 1,
        })
    }

    /// Holds some of what `from` held: as many of `count` as it has, or all of them where they are in use here in any case.
    /// Answers how many.
    ///
    /// # Errors
    /// When it is not known what was moved. What is in use is held all the same, and told with the next renewal.
    pub(crate) async fn adopt(
        &self,
        hold: &Hold,
        from: &str,
        count: u64,
        in_use: bool,
    ) -> Result<u64> {
        let _turn = hold.turn.lock().await;
        let asked = Instant::now();
        let (serial, have) = (self.serial(), hold.held());
        hold.told.store(UNKNOWN, Ordering::Relaxed);
        let mut command = self.call(&ADOPT, hold);
        command.arg(serial).arg(have);
        command.arg(from).arg(count).arg(u8::from(in_use));
        let answer: Result<u64> = self.link.call(&ADOPT, &command).await;
        let more = answer.as_ref().copied();
        let more = more.unwrap_or(if in_use { count } else { 0 });
        hold.held.fetch_add(more, Ordering::Relaxed);
        if answer.is_ok() {
            hold.told.store(have + more, Ordering::Relaxed);
            self.stands_since(hold, asked);
        }
        answer
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
        if !hold.is_unsettled() {
            return Ok(());
        }
        let (serial, held) = (self.serial(), hold.held());
        hold.told.store(UNKNOWN, Ordering::Relaxed);
        let mut command = self.call(&KEEP, hold);
        command.arg(serial).arg(held);
        let _: u64 = self.link.call(&KEEP, &command).await?;
        hold.told.store(held, Ordering::Relaxed);
        Ok(())
    }

    /// Renews everything that is held, and gives those of which Redis has less, or nothing: they may not be used.
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
        let mut held = Vec::with_capacity(holds.len());
        for hold in holds {
            held.push(hold.held());
            batch.call(&RENEW, self.call(&RENEW, hold));
        }
        let asked = Instant::now();
        let answers = self.link.run(&batch).await?;
        let (mut refused, mut failed) = (Vec::new(), None);
        for ((hold, held), answer) in holds.iter().zip(held).zip(answers) {
            match answer {
                // What was given back in the meantime is no loss.
                Ok(Value::Int(count))
                    if u64::try_from(count).is_ok_and(|count| count >= held.min(hold.held())) =>
                {
                    self.stands_since(hold, asked);
                }
                Ok(_) => refused.push(Arc::clone(hold)),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(refused), Err)
    }

    /// The node's lease is over as the node sees it: nothing that is held may be used until Redis has renewed it.
    pub(crate) fn lapse(&self) {
        for hold in &self.holds {
            hold.until_ms.store(0, Ordering::Relaxed);
            hold.has_lapsed.store(true, Ordering::Release);
        }
    }

    fn stands_since(&self, hold: &Hold, asked: Instant) {
        let until_ms = self.at(asked + self.lease - self.margin);
        hold.until_ms.fetch_max(until_ms, Ordering::Relaxed);
        hold.has_lapsed.store(false, Ordering::Release);
    }

    /// A call of a script for `hold`, with the arguments that all have.
    fn call(&self, script: &Script, hold: &Hold) -> Cmd {
        let mut command = script.call(&[&hold.key, &hold.deadlines]);
        let kept = self.lease * KEPT;
        command
            .arg(&self.node)
            .arg(u64::try_from(kept.as_millis()).unwrap_or(MOST));
        command
    }

    fn serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
#[path = "leased_tests.rs"]
mod tests;
