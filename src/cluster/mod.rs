//! The nodes of a cluster: who lives, with what capacity, and whether this node may still act as one of them.
//!
//! There is no leader. Each node renews its own **lease** in Redis and reads who else did. Everything a node holds
//! (entries of streams, slots, places) is held under that lease and renewed with it.
//!
//! Invariants:
//! - a node's own view of its lease ends before Redis's: the node counts from before it asked, Redis from when it heard, and the
//!   node ends a margin earlier. No wall clocks are compared: nodes count on their monotonic clocks, Redis on its own;
//! - a node whose view has ended starts nothing and ends what it runs ([`Fence`]), because others may have taken it over. It
//!   comes back under another name, so that nothing it held before is taken for what it holds now.

mod members;
mod standing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub(crate) use members::{Member, Members};

use crate::link::{self, Link};
use crate::model::{Timestamp, time};

/// Answers that took longer do not tell the time.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(200);

/// What a node does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Serves the API and runs actions.
    #[default]
    All,
    /// Serves the API; its actions run elsewhere.
    Front,
    /// Runs actions. Its API answers, too, but nobody needs to be sent there.
    Worker,
}

impl Role {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Front => "front",
            Self::Worker => "worker",
        }
    }

    /// Whether it runs actions.
    pub(crate) fn runs(self) -> bool {
        self != Self::Front
    }
}

/// The `[cluster]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// What this node does.
    pub(crate) role: Role,
    /// Seconds after which others take over what a node held that is not heard of.
    pub(crate) lease_s: u64,
    /// Whether a call that arrives where its action is warm runs there, without a way through Redis.
    pub(crate) hand_off: bool,
    /// Where the other nodes and operators find this one; what it listens on when unset.
    pub(crate) address: Option<String>,
    /// What all nodes know and Redis does not: with it they share compiled code.
    pub(crate) secret: Option<Secret>,
    /// A file that has it.
    pub(crate) secret_file: Option<PathBuf>,
}

/// A secret: not printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Bytes that a secret has at least: fewer can be guessed by who reads what it authenticates.
const SECRET_BYTES_MIN: usize = 16;

impl Default for Config {
    fn default() -> Self {
        Self {
            role: Role::All,
            lease_s: 5,
            hand_off: true,
            address: None,
            secret: None,
            secret_file: None,
        }
    }
}

impl Config {
    /// What cannot be: the key to blame and why.
    pub(crate) fn validate(&self) -> Result<(), (&'static str, String)> {
        if !(1..=300).contains(&self.lease_s) {
            return Err(("lease_s", "a lease lasts 1 to 300 seconds".to_owned()));
        }
        if let Some(Secret(secret)) = &self.secret {
            long_enough(secret).map_err(|why| ("secret", why))?;
        }
        Ok(())
    }

    /// The secret, from wherever it is.
    ///
    /// # Errors
    /// When the file cannot be read, or has none that will do.
    pub(crate) fn secret(&self) -> Result<Option<String>, String> {
        if let Some(Secret(secret)) = &self.secret {
            return Ok(Some(secret.clone()));
        }
        let Some(file) = &self.secret_file else {
            return Ok(None);
        };
        let name = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("cluster.secret_file: {name}: {error}"))?;
        let secret = text.trim();
        long_enough(secret).map_err(|why| format!("cluster.secret_file: {name}: {why}"))?;
        Ok(Some(secret.to_owned()))
    }

    /// The lease.
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_s.max(1))
    }
}

fn long_enough(secret: &str) -> Result<(), String> {
    if secret.len() >= SECRET_BYTES_MIN {
        return Ok(());
    }
    Err(format!(
        "a secret has at least {SECRET_BYTES_MIN} characters, as `openssl rand -base64 32` prints"
    ))
}

/// Whether this node may act: a moment up to which its lease holds for certain.
#[derive(Debug)]
pub(crate) struct Fence {
    start: Instant,
    /// Microseconds after `start`; 0 when the lease is not held.
    until_us: AtomicU64,
    /// Counts how often it was lost.
    epoch: AtomicU64,
}

impl Default for Fence {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            until_us: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
        }
    }
}

impl Fence {
    /// Whether the lease holds now.
    pub(crate) fn is_held(&self) -> bool {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        now < self.until_us.load(Ordering::Acquire)
    }

    /// How often it was lost so far: tells one holding from the next.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether it is held, and was since that epoch.
    pub(crate) fn holds(&self, epoch: u64) -> bool {
        self.epoch() == epoch && self.is_held()
    }

    /// It holds for `lease` from `asked` on, less a margin for clocks that do not run alike.
    ///
    /// `false` when it had ended in between: what was held under it is lost, and must be dropped first.
    #[must_use]
    pub(crate) fn extend(&self, asked: Instant, lease: Duration) -> bool {
        if self.until_us.load(Ordering::Acquire) != 0 && !self.is_held() {
            return false;
        }
        let margin = (lease / 10).max(Duration::from_millis(100));
        let until = (asked + lease)
            .duration_since(self.start)
            .saturating_sub(margin);
        let until = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
        self.until_us.fetch_max(until, Ordering::AcqRel);
        true
    }

    /// It does not hold.
    pub(crate) fn drop_lease(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.until_us.store(0, Ordering::Release);
    }

    /// Whether it was held and has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.until_us.load(Ordering::Acquire) != 0 && !self.is_held()
    }
}

/// Redis's clock, as far as it is known here.
#[derive(Debug, Default)]
struct Clock {
    /// As of an answer: milliseconds there, and when that was here.
    told: Option<(u64, Instant)>,
    /// When it was last found to be another than it was, and how often that was.
    moved: Option<Instant>,
    moves: u64,
}

/// This node.
pub(crate) struct Node {
    /// Stays the same while the process lives: its channel, its front's name.
    id: Box<str>,
    /// Under which it holds: another one after each lapse.
    name: RwLock<Arc<str>>,
    lapses: AtomicU64,
    pub(crate) fence: Arc<Fence>,
    pub(crate) members: Members,
    clock: Mutex<Clock>,
    pub(crate) config: Config,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.id)
    }
}

impl Node {
    /// A node that nobody knows yet.
    pub(crate) fn new(config: Config, prefix: &str) -> Arc<Self> {
        let id = format!("{:016x}", fastrand::u64(..));
        Arc::new(Self {
            name: RwLock::new(format!("{id}.0").into()),
            members: Members::new(prefix),
            id: id.into(),
            lapses: AtomicU64::new(0),
            fence: Arc::default(),
            clock: Mutex::default(),
            config,
        })
    }

    /// Its id, as long as the process lives.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Under which name it holds what it holds.
    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name.read())
    }

    /// Gives up its name: what was held under it belongs to whoever takes it over.
    pub(crate) fn lapse(&self) {
        self.fence.drop_lease();
        let lapses = self.lapses.fetch_add(1, Ordering::AcqRel) + 1;
        *self.name.write() = format!("{}.{lapses}", self.id).into();
    }

    /// Notes what Redis's clock said, milliseconds, to a question that was asked at `asked`, and goes by that clock. An answer
    /// that took long says too little.
    pub(crate) fn follow_time(&self, redis_ms: u64, asked: Instant) {
        self.note_time(redis_ms, asked);
        let took = asked.elapsed();
        if took > ROUND_TRIP_MAX {
            return;
        }
        let half_ms = u64::try_from(took.as_millis() / 2).unwrap_or(0);
        if let Some(ahead_ms) = time::follow(Timestamp(redis_ms + half_ms)) {
            tracing::warn!(
                ahead_ms,
                "the clock of this machine and Redis's are apart; the cluster goes by Redis's"
            );
        }
    }

    /// Asks Redis for the time, and goes by it from then on.
    ///
    /// # Errors
    /// When it does not tell.
    pub(crate) async fn ask_time(&self, link: &Link) -> link::Result<()> {
        let asked = Instant::now();
        self.follow_time(self.members.time(link).await?, asked);
        Ok(())
    }

    /// Notes what Redis's clock said, milliseconds, to a question that was asked at `asked`: that of the server which has the
    /// nodes' leases, by which all nodes go. Others may differ.
    ///
    /// An answer that took long says little, and is not listened to while a better one is at hand. Where the clock is another
    /// than it was (somebody set it, or another server with another clock took over), every lease in Redis may seem to have
    /// ended: nothing is taken over for a lease then ([`Node::takes_over`]), in which all who live renew theirs.
    pub(crate) fn note_time(&self, redis_ms: u64, asked: Instant) {
        let (now, lease) = (Instant::now(), self.config.lease());
        let took = now.saturating_duration_since(asked);
        let mut clock = self.clock.lock();
        if let Some((ms, when)) = clock.told {
            let old = now.saturating_duration_since(when);
            if took > ROUND_TRIP_MAX && old < lease * 2 {
                return;
            }
            let (least, most) = (ms + millis(old.saturating_sub(took)), ms + millis(old));
            let apart_ms = least
                .saturating_sub(redis_ms)
                .max(redis_ms.saturating_sub(most));
            if apart_ms > millis(lease / 2) {
                clock.moved = Some(now);
                clock.moves += 1;
                tracing::warn!(
                    apart_ms,
                    "Redis's clock was set, or is another server's: nothing is taken over from other nodes for a lease"
                );
            }
        }
        clock.told = Some((redis_ms, asked + took / 2));
    }

    /// Whether what others held may be taken over when their leases have ended in Redis: not for a lease after its clock moved.
    pub(crate) fn takes_over(&self) -> bool {
        let moved = self.clock.lock().moved;
        moved.is_none_or(|moved| moved.elapsed() >= self.config.lease())
    }

    /// Another number whenever times in Redis may have become those of a former clock: when its clock was found to have moved,
    /// and a lease later, when whoever had not found out lives no longer.
    pub(crate) fn clock_era(&self) -> u64 {
        let moves = self.clock.lock().moves;
        moves * 2 + u64::from(self.takes_over())
    }

    /// About what Redis's clock says now, milliseconds. Good for hints and scores, never for leases.
    pub(crate) fn redis_now_ms(&self) -> u64 {
        let told = self.clock.lock().told;
        told.map_or(0, |(ms, when)| ms.saturating_add(millis(when.elapsed())))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The id of the node that holds under `name`.
pub(crate) fn id_of(name: &str) -> &str {
    name.split_once('.').map_or(name, |(id, _)| id)
}
