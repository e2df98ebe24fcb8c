//! Where work goes in a cluster: which node is told of it, how long the others leave it alone, what a node with free
//! permits asks for, and what it gives back.
//!
//! Nobody decides for another. Each node decides with what it knows, which may be a second old, and a wrong guess costs a
//! colder start or a command to Redis: a run too many cannot happen, because slots are claimed atomically, and work cannot be
//! forgotten, because all of it is in the due list, where everybody looks. So three things bring work to where it is warm,
//! and none of them is needed for it to run:
//!
//! 1. whoever pushes tells one node, [`home`];
//! 2. the others leave a lane that is due alone for a while, the longer the colder they are to it ([`patience`]);
//! 3. the due list is looked at seldom, and by the whole cluster at a steady rate ([`look_after`]).
//!
//! Every node must come to the same home, so the hash in [`home`] may not change between versions that run together; if it
//! does, starts are colder until all are replaced.

use std::collections::HashMap;
use std::time::Duration;

/// Which of the nodes that were handed to a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeIndex(pub(crate) usize);

/// What is known of a node: as it said when it renewed its lease, less what was sent there since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeView {
    /// Made of its id.
    pub(crate) hash: u64,
    pub(crate) permits_free: u32,
    pub(crate) permits: u32,
    pub(crate) bytes_free: u64,
}

impl NodeView {
    /// Whether its free share of permits is larger than the other's.
    const fn is_freer(&self, than: &Self) -> bool {
        (self.permits_free as u64) * (than.permits as u64)
            > (than.permits_free as u64) * (self.permits as u64)
    }

    /// Whether less than a quarter of its permits is free.
    const fn is_crowded(&self) -> bool {
        (self.permits_free as u64) * 4 < self.permits as u64
    }

    /// The busy share of its permits, in 256ths.
    fn busy(&self) -> u32 {
        let busy = self.permits.saturating_sub(self.permits_free);
        let share = u64::from(busy) * 256 / u64::from(self.permits.max(1));
        u32::try_from(share).unwrap_or(256).min(256)
    }
}

/// Free memory below which a node is not told of work that needs an instance: what the smallest memory limit of an action is.
const BYTES_WANTED: u64 = 128 << 20;

/// How much a node is a lane's home, by highest random weight: the finalizer of splitmix64, which spreads every bit of both.
const fn weight(lane: u64, node: u64) -> u64 {
    let mut z = lane ^ node.rotate_left(32);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Which node to tell of work in a lane.
///
/// A node that holds slots of the lane and has a permit for more, the freest of them: its instances are warm. Else the
/// lane's home, which is where its calls went before and, as long as nodes neither come nor go, always the same. A
/// node that is crowded hands on to the second best home if that is freer, so a lane spreads over few nodes, in the same
/// order each time. `None` when nobody has room: the work is found when somebody has.
pub(crate) fn home(lane_hash: u64, nodes: &[NodeView], holders: &[NodeIndex]) -> Option<NodeIndex> {
    let holding = holders
        .iter()
        .filter_map(|&index| Some((index, nodes.get(index.0)?)))
        .filter(|(_, node)| node.permits_free > 0)
        .reduce(|best, next| if next.1.is_freer(best.1) { next } else { best });
    if let Some((index, _)) = holding {
        return Some(index);
    }
    let mut best: Option<(u64, usize)> = None;
    let mut second: Option<(u64, usize)> = None;
    for (index, node) in nodes.iter().enumerate() {
        if node.permits_free == 0 || node.bytes_free < BYTES_WANTED {
            continue;
        }
        let ranked = Some((weight(lane_hash, node.hash), index));
        if ranked > best {
            second = best;
            best = ranked;
        } else if ranked > second {
            second = ranked;
        }
    }
    let (_, first) = best?;
    let chosen = match second {
        Some((_, other)) if nodes[first].is_crowded() && nodes[other].is_freer(&nodes[first]) => {
            other
        }
        _ => first,
    };
    Some(NodeIndex(chosen))
}

/// What a node has of a lane's action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Warmth {
    /// An idle instance.
    Warm,
    /// Its compiled code, in memory or on the disk.
    Code,
    /// Nothing: the code is fetched, and compiled if nobody alike has.
    Cold,
}

/// Whether a call that is waited for should run where it came in, given a permit there and nothing that waits before it.
///
/// With an instance, or the code for one, that is sooner than any way through Redis. Where the code would have to be fetched
/// it is worth it only for a lane whose calls come in here often enough to find what is kept: `last` is how long ago
/// the last one did. So few nodes are each warm for everything, and many nodes only for what is called a lot, without
/// anybody counting them.
pub(crate) fn is_worth_starting(warmth: Warmth, last: Option<Duration>, keep: Duration) -> bool {
    warmth < Warmth::Cold || last.is_some_and(|last| last < keep)
}

/// How long a node that was not told leaves a lane that is due to those who are warmer.
///
/// Long enough for whoever was told to have claimed it (a message and a claim are two round trips, 1 to 2 ms), and for the
/// warm to come before those who have the code, and these before the cold. Never longer than [`PATIENCE_MAX`], so nobody
/// is starved. A busy node waits up to twice as long, and so leaves work to the idle.
pub(crate) fn patience(warmth: Warmth, node: &NodeView) -> Duration {
    let idle = match warmth {
        Warmth::Warm => PATIENCE_MIN,
        Warmth::Code => Duration::from_millis(5),
        Warmth::Cold => PATIENCE_MAX / 2,
    };
    idle + idle * node.busy() / 256
}

/// The longest that anybody leaves a lane alone: what a cold start costs where the code has to be fetched, so that
/// waiting for somebody warm is never worse than not waiting.
pub(crate) const PATIENCE_MAX: Duration = Duration::from_millis(24);

/// The shortest: nobody looks at a lane before.
pub(crate) const PATIENCE_MIN: Duration = Duration::from_millis(2);

/// How often the cluster looks at the due list, all nodes together: what was told to nobody, or to a node that could not
/// take it, waits some milliseconds, and Redis spends less than one hundredth of a core on being asked.
const LOOKS_PER_S: u32 = 400;

/// Between two looks of one node: not more often than a person would notice, not less often than a lease lasts.
const LOOK_MIN: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_secs(5);

/// When a node looks at the due list again. It need not ask for lanes that are not due for [`PATIENCE_MIN`] yet.
///
/// `nodes` is how many there are; `hungry` whether what it found last brought work (not merely seemed to), and it has permits
/// for more: then there is more where that came from. `random` keeps nodes that started together apart.
pub(crate) fn look_after(nodes: usize, hungry: bool, random: u64) -> Duration {
    if hungry {
        return LOOK_MIN / 4;
    }
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    let even = (Duration::from_secs(1) / LOOKS_PER_S).saturating_mul(nodes);
    let even = even.clamp(LOOK_MIN, LOOK_MAX);
    // From half to one and a half of it.
    even / 2 + even * u32::try_from(random % 256).unwrap_or(0) / 256
}

/// When a node reads what the others say of themselves again.
///
/// All nodes reading about all nodes grows with the square of their number: once a second it is 100 MB/s at 1,000 nodes. So
/// it gets rarer with them, and the whole reads at most about [`VIEWS_PER_S`] views. Old views make poorer guesses,
/// nothing worse.
pub(crate) fn views_after(nodes: usize) -> Duration {
    let nodes = u64::try_from(nodes).unwrap_or(u64::MAX);
    let us = nodes.saturating_mul(nodes).saturating_mul(1_000_000) / VIEWS_PER_S;
    Duration::from_micros(us).clamp(Duration::from_secs(1), Duration::from_secs(60))
}

/// Views read in the whole cluster per second: one hundredth of a core of Redis, at 0.1 us each.
const VIEWS_PER_S: u64 = 100_000;

/// A lane that is due, as a node sees it.
///
/// Also those whose slots the node holds and which have more waiting: they are told. A node that served only what it
/// holds would leave everybody else's work to others, who may do the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    /// Tells namespaces apart.
    pub(crate) namespace: u64,
    /// CPU time the namespace has used on this node, lifted: see [`super::fairness::Runtime`].
    pub(crate) runtime: u64,
    /// For how long it has been due, by the clock of Redis.
    pub(crate) age: Duration,
    pub(crate) warmth: Warmth,
    /// Whether this node was told of it.
    pub(crate) told: bool,
    /// How much waits there, where that is known; `u32::MAX` where not.
    pub(crate) backlog: u32,
}

/// To claim up to so many runs of a lane, by its place in the list that was given.
///
/// The claim grants no more than what waits there and what the limits leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) lane: usize,
    pub(crate) runs: u32,
}

/// Most lanes asked for at once: claims are sent in one go, and what they bring was decided with what was known before.
const LANES_ASKED_MAX: usize = 16;

/// Most runs asked for of one lane: what one read brings, and what a node that dies leaves waiting for its lease to end.
const RUNS_ASKED_MAX: u32 = 64;

/// Which of the lanes that are due to claim now, how many runs of each, and in which order.
///
/// Those told to this node, and those left to others for long enough; the rest are left to the next look, by whomever: to
/// come back for them as soon as patience is over would make each look two. Namespaces take turns, the one that used least CPU
/// time first, so that one with a thousand lanes has no more turns than one with one; within a namespace the longest due
/// first. Free permits are shared evenly between these lanes, and what some do not need goes to the first that do. Nothing
/// is asked for without a permit for it.
pub(crate) fn asks(due: &[Due], node: &NodeView) -> Vec<Ask> {
    if node.permits_free == 0 {
        return Vec::new();
    }
    let is_ripe = |one: &Due| one.told || one.age >= patience(one.warmth, node);
    let mut ripe: Vec<usize> = (0..due.len()).filter(|&lane| is_ripe(&due[lane])).collect();
    ripe.sort_by_key(|&lane| (due[lane].runtime, std::cmp::Reverse(due[lane].age), lane));
    let mut turns: HashMap<u64, usize> = HashMap::new();
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(ripe.len());
    for lane in ripe {
        let turn = turns.entry(due[lane].namespace).or_default();
        order.push((*turn, lane));
        *turn += 1;
    }
    // Stable: within a turn the order stays.
    order.sort_by_key(|(turn, _)| *turn);
    order.truncate(LANES_ASKED_MAX);
    let lanes: Vec<usize> = order.into_iter().map(|(_, lane)| lane).collect();
    shared(due, &lanes, node.permits_free)
}

/// `permits` shared between `lanes`, in their order.
fn shared(due: &[Due], lanes: &[usize], permits: u32) -> Vec<Ask> {
    let mut left = permits;
    let even = permits / u32::try_from(lanes.len()).unwrap_or(u32::MAX).max(1);
    let most = |lane: usize| due[lane].backlog.clamp(1, RUNS_ASKED_MAX);
    let mut asks: Vec<Ask> = Vec::with_capacity(lanes.len());
    for &lane in lanes {
        let runs = most(lane).min(even.max(1)).min(left);
        if runs == 0 {
            break;
        }
        left -= runs;
        asks.push(Ask { lane, runs });
    }
    for ask in &mut asks {
        let more = (most(ask.lane) - ask.runs).min(left);
        ask.runs += more;
        left -= more;
    }
    asks
}

/// The slots of one lane that a node holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holding {
    pub(crate) held: u32,
    /// Used now.
    pub(crate) busy: u32,
    /// Most used at one time since this was last decided.
    pub(crate) peak: u32,
    /// Since the last run began or ended.
    pub(crate) unused_for: Duration,
    /// Whether the limit keeps others from claiming: one of theirs came back empty.
    pub(crate) wanted: bool,
}

/// How long the last slot of a lane is kept without a run. Calls that come more often than this are handed over without
/// asking Redis; those that come less often pay one claim each. Longer would keep a lane's limit from others for nothing.
pub(crate) const KEEP: Duration = Duration::from_secs(1);

/// How many slots to give back; asked about once a second, and whenever somebody wants one.
///
/// What others wait for goes at once, all that is not in use. What nobody wants is kept as far as it was needed since the
/// last time, and the last one for [`KEEP`].
pub(crate) fn surplus(holding: &Holding) -> u32 {
    let needed = if holding.wanted {
        holding.busy
    } else {
        let last = u32::from(holding.unused_for < KEEP);
        holding.peak.max(holding.busy).max(last)
    };
    holding.held.saturating_sub(needed)
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
