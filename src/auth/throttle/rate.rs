//! Calls per minute, counted over all nodes.
//!
//! The count is a hash in Redis, of the minute by Redis's clock. A node takes some of what is left of it, hands it out without
//! a round trip, and only until that minute is surely not yet over; what it did not hand out within a second it gives back.
//! When few are left it takes one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::counts::{COUNT_MAX, Counts, Moment};
use super::flight::Flight;
use super::pot::Pot;
use super::tend::{Order, Want};
use super::wide::{self, Shared};
use super::{Exceeded, Window};
use crate::link::{Result as Linked, Script};
use crate::model::{Namespace, Timestamp};

/// Counts calls.
///
/// ARGV: node, how many are needed, allowed, whether the window slides, the minute in which the node refused how many on its own.
/// Answers: granted, counted in this minute, in the one before, refused in this, Redis's milliseconds, the minute, whether other nodes
/// may have some in hand.
///
/// A server that took over and is a little behind goes on with the minute that the other had begun.
static COUNT: Script = Script::new(
    "#!lua flags=allow-oom
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local minute = math.floor(now / 60000)
local f = redis.pcall('HMGET', KEYS[1], 'm', 'n', 'b', 'x')
if f.err then f = {} end
local m, n, b, x = tonumber(f[1]), tonumber(f[2]) or 0, tonumber(f[3]) or 0, tonumber(f[4]) or 0
if m == minute + 1 then minute = m end
if m ~= minute then
  if m == minute - 1 then b = n else b = 0 end
  n, x = 0, 0
  redis.call('DEL', KEYS[1])
end
local node, need, allowed = 'h' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local used = n
if ARGV[4] == '1' then
  local left = math.min(60, 60 - math.floor((now - minute * 60000) / 1000))
  used = used + math.floor(b * left / 60)
elseif tonumber(ARGV[5]) == minute then
  x = x + tonumber(ARGV[6])
end
local room = allowed - used
local granted = math.max(0, math.min(need, room))
local rest = room - granted
if rest > 64 then
  granted = granted + math.min(math.floor(rest / 16), 4096)
end
n = n + granted
redis.call('HSET', KEYS[1], 'm', string.format('%.0f', minute), 'n', string.format('%.0f', n), 'b', string.format('%.0f', b),
  'x', string.format('%.0f', x))
if granted > need then redis.call('HSET', KEYS[1], node, 1) end
redis.call('PEXPIRE', KEYS[1], 180000)
local others = redis.call('HLEN', KEYS[1]) - 4 - redis.call('HEXISTS', KEYS[1], node)
return {granted, n, b, x, now, minute, others}",
);

/// Gives back what was counted in a minute and not used. ARGV: node, how many, the minute, whether the node has nothing left.
static UNCOUNT: Script = Script::new(
    "#!lua flags=allow-oom
local f = redis.pcall('HMGET', KEYS[1], 'm', 'n', 'b')
if f.err then return 0 end
local m, minute, count = tonumber(f[1]), tonumber(ARGV[3]), tonumber(ARGV[2])
if m == minute then
  redis.call('HSET', KEYS[1], 'n', string.format('%.0f', math.max(0, (tonumber(f[2]) or 0) - count)))
  if ARGV[4] == '1' then redis.call('HDEL', KEYS[1], 'h' .. ARGV[1]) end
elseif m == minute + 1 then
  redis.call('HSET', KEYS[1], 'b', string.format('%.0f', math.max(0, (tonumber(f[3]) or 0) - count)))
end
return 1",
);

/// For how long a refusal is repeated without asking again, at most: others may give back what they did not use.
const REFUSED_MS: u64 = 250;

/// A node stops handing out a minute's calls so long before the minute is over.
const MARGIN_MS: u64 = 5;

/// What Redis said last.
#[derive(Clone, Copy)]
struct Seen {
    minute: u64,
    counted: u64,
    before: u64,
    /// Refused in the minute, by all nodes.
    refused: u64,
    /// Refused here since.
    refused_here: u64,
    /// Redis's clock then,
    redis_ms: u64,
    /// and this node's when it was asked.
    at_ms: u64,
}

/// Answers of [`COUNT`].
type Answer = (u64, u64, u64, u64, u64, u64, u64);

/// The calls of one kind that a namespace makes.
pub(super) struct Rate {
    shared: Arc<Shared>,
    namespace: Namespace,
    want: Want,
    key: String,
    /// Counted already, and not used.
    pot: Pot,
    /// Under which limit.
    allowed: AtomicU64,
    /// Until when what is in the pot may be used, by this node's clock.
    until_ms: AtomicU64,
    /// Until when refusals are repeated.
    refused_until_ms: AtomicU64,
    refused_allowed: AtomicU64,
    seen: Mutex<Option<Seen>>,
    flight: Flight,
}

impl Rate {
    pub(super) fn new(shared: &Arc<Shared>, namespace: &Namespace, want: Want) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            namespace: namespace.clone(),
            want,
            key: shared.key(namespace, want),
            pot: Pot::default(),
            allowed: AtomicU64::new(0),
            until_ms: AtomicU64::new(0),
            refused_until_ms: AtomicU64::new(0),
            refused_allowed: AtomicU64::new(0),
            seen: Mutex::default(),
            flight: Flight::default(),
        })
    }

    /// Counts a call with what this node has in hand, or refuses it as one before; `None`: Redis must be asked.
    pub(super) fn take(&self, now_ms: u64, allowed: u64) -> Option<Result<(), Exceeded>> {
        if allowed >= COUNT_MAX {
            return Some(Ok(()));
        }
        let may_use = now_ms < self.until_ms.load(Ordering::Acquire)
            && allowed >= self.allowed.load(Ordering::Relaxed);
        if may_use && self.pot.take() {
            return Some(Ok(()));
        }
        let is_refused = now_ms < self.refused_until_ms.load(Ordering::Relaxed)
            && allowed == self.refused_allowed.load(Ordering::Relaxed);
        is_refused.then(|| Err(self.refusal(now_ms, allowed)))
    }

    /// Counts a call.
    pub(super) async fn count(self: &Arc<Self>, allowed: u64) -> Result<(), Exceeded> {
        let take = || self.take(self.shared.now_ms(), allowed);
        let trip = |need| Arc::clone(self).ask(need, allowed);
        self.flight.join(take, trip).await
    }

    async fn ask(self: Arc<Self>, need: u64, allowed: u64) -> Result<(), Exceeded> {
        if allowed < self.allowed.load(Ordering::Relaxed) {
            // What was counted under a higher limit.
            self.give(self.pot.empty()).await;
        }
        let asked = Instant::now();
        let (mut granted, others) = self.claim(need, allowed).await?;
        if granted == 0 && others {
            let wanted = self.shared.want(self.want, &self.namespace, need, 0);
            wanted.await;
            tokio::time::sleep(wide::pause(asked.elapsed())).await;
            (granted, _) = self.claim(need, allowed).await?;
        }
        if granted > 0 {
            return Ok(());
        }
        let now_ms = self.shared.now_ms();
        self.refuse_until(now_ms, allowed);
        Err(self.refusal(now_ms, allowed))
    }

    /// Claims, and puts what is more than one into the pot. How many were granted, and whether others may have some left.
    async fn claim(self: &Arc<Self>, need: u64, allowed: u64) -> Result<(u64, bool), Exceeded> {
        let refused = self
            .seen
            .lock()
            .map(|seen| (seen.minute, seen.refused_here));
        let (minute, refused_here) = refused.unwrap_or_default();
        let slides = u8::from(self.shared.window == Window::Sliding);
        let mut command = COUNT.call(&[&self.key]);
        command.arg(&self.shared.node).arg(need).arg(allowed);
        command.arg(slides).arg(minute).arg(refused_here);
        let at_ms = self.shared.now_ms();
        let answer: Linked<Answer> = self.shared.link.call(&COUNT, &command).await;
        let (granted, counted, before, refused, redis_ms, new_minute, others) =
            answer.map_err(|error| wide::unknown(&error))?;
        let mut seen = self.seen.lock();
        let is_new = seen.is_none_or(|seen| seen.minute != new_minute);
        let since = seen.map_or(0, |seen| seen.refused_here.saturating_sub(refused_here));
        *seen = Some(Seen {
            minute: new_minute,
            counted,
            before,
            refused,
            refused_here: if is_new { 0 } else { since },
            redis_ms,
            at_ms,
        });
        if is_new {
            // Those were of a minute that is over.
            self.pot.empty();
        }
        let left_ms = ((new_minute + 1) * 60_000).saturating_sub(redis_ms);
        let until_ms = (at_ms + left_ms).saturating_sub(MARGIN_MS);
        self.until_ms.store(until_ms, Ordering::Release);
        self.allowed.store(allowed, Ordering::Relaxed);
        if granted > 0 {
            self.refused_until_ms.store(0, Ordering::Relaxed);
        }
        if self.pot.put(granted.saturating_sub(1)) {
            self.shared.order(Order::Rate(Arc::clone(self)));
        }
        Ok((granted, others > 0))
    }

    /// Refusals are repeated until the second of Redis's clock is over, and no longer than [`REFUSED_MS`].
    fn refuse_until(&self, now_ms: u64, allowed: u64) {
        let Some(seen) = *self.seen.lock() else {
            return;
        };
        let second_ends = seen.at_ms + 1000 - seen.redis_ms % 1000;
        let until_ms = second_ends.min(now_ms + REFUSED_MS);
        self.refused_allowed.store(allowed, Ordering::Relaxed);
        self.refused_until_ms.store(until_ms, Ordering::Relaxed);
    }

    /// Refuses a call, and counts it.
    fn refusal(&self, now_ms: u64, allowed: u64) -> Exceeded {
        let mut seen = self.seen.lock();
        let Some(seen) = seen.as_mut() else {
            return Exceeded::Unknown;
        };
        seen.refused_here += 1;
        let now = seen.redis_ms + now_ms.saturating_sub(seen.at_ms);
        let moment = Moment::of(Timestamp(now));
        let counts = Counts {
            minute: moment.minute,
            before: seen.before,
            now: seen.counted,
        };
        let window = self.shared.window;
        let count = match window {
            Window::Minute => seen.counted + seen.refused + seen.refused_here,
            Window::Sliding => counts.with_one_more(window, moment),
        };
        Exceeded::Rate {
            count,
            allowed,
            retry_after_s: counts.retry_after_s(window, moment, allowed),
        }
    }

    /// What is in hand and was not used since the last look.
    pub(super) fn take_idle(&self) -> u64 {
        self.pot.take_idle()
    }

    /// What is given up for another node that needs `count`: at least half.
    pub(super) fn take_wanted(&self, count: u64) -> u64 {
        self.pot.take_upto(count.max(self.pot.left().div_ceil(2)))
    }

    /// What is in hand.
    pub(super) fn take_all(&self) -> u64 {
        self.pot.empty()
    }

    /// Whether what nobody uses is given back soon.
    pub(super) fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pot.left() == 0
    }

    pub(super) fn stays_watched(&self) -> bool {
        self.pot.stays_watched()
    }

    /// Gives back what was taken out of the pot.
    pub(super) async fn give(&self, count: u64) {
        let minute = self.seen.lock().map(|seen| seen.minute);
        let (Some(minute), true) = (minute, count > 0) else {
            return;
        };
        let mut command = UNCOUNT.call(&[&self.key]);
        command.arg(&self.shared.node).arg(count).arg(minute);
        command.arg(u8::from(self.is_empty()));
        let given: Linked<u64> = self.shared.link.call(&UNCOUNT, &command).await;
        if let Err(error) = given {
            // They count as used until the minute is over.
            tracing::debug!(%error, count, "calls that were not made stay counted");
        }
    }
}
