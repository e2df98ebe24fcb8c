//! What Redis keeps, as far as decisions depend on it: the unread part of every stream, who holds slots of a lane and until
//! when, and the due lists, namespace by namespace.

use std::collections::{BTreeSet, VecDeque};

use crate::costs::Us;

/// Slots of a lane that a node holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder {
    pub(crate) node: u32,
    pub(crate) count: u32,
    pub(crate) until: Us,
}

/// One action of one namespace.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) namespace: u32,
    pub(crate) unread: VecDeque<u32>,
    /// Read and not acknowledged.
    pub(crate) pending: u32,
    /// In progress, handed over or read.
    pub(crate) running: u32,
    pub(crate) holders: Vec<Holder>,
    /// From when on anybody may look at it.
    pub(crate) due: Option<Us>,
    /// Somebody's claim came back empty because of the limit.
    pub(crate) is_wanted: bool,
}

/// What a claim brought.
#[derive(Debug, Default)]
pub(crate) struct Claimed {
    pub(crate) work: Vec<u32>,
    pub(crate) slots: u32,
    /// Unread after it.
    pub(crate) left: u32,
    /// Commands to due lists.
    pub(crate) marks: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) lanes: Vec<Lane>,
    due: BTreeSet<(Us, u32)>,
    namespaces: Vec<BTreeSet<(Us, u32)>>,
    /// Most runs of one lane at one time.
    limit: u32,
    /// About how many fronts hold places, by namespace: claims and renewals of the last second, fading.
    places: Vec<(Us, f64)>,
}

/// How long a lane at its limit is left alone; who gives a slot back could tell sooner.
const LIMITED_US: Us = 50_000;

impl Redis {
    pub(crate) fn new(owners: impl Iterator<Item = u32>, namespaces: usize, limit: u32) -> Self {
        let lane = |namespace| Lane {
            namespace,
            ..Lane::default()
        };
        Self {
            lanes: owners.map(lane).collect(),
            due: BTreeSet::new(),
            namespaces: vec![BTreeSet::new(); namespaces],
            limit,
            places: vec![(0, 0.0); namespaces],
        }
    }

    fn lane(&mut self, lane: u32) -> &mut Lane {
        &mut self.lanes[lane as usize]
    }

    /// Moves a lane in the due lists; how many commands that takes.
    pub(crate) fn mark(&mut self, lane: u32, due: Option<Us>) -> u64 {
        let one = &mut self.lanes[lane as usize];
        if one.due == due {
            return 0;
        }
        let lanes = &mut self.namespaces[one.namespace as usize];
        let first = lanes.first().map(|(at, _)| *at);
        if let Some(before) = std::mem::replace(&mut one.due, due) {
            lanes.remove(&(before, lane));
        }
        if let Some(at) = due {
            lanes.insert((at, lane));
        }
        let now_first = lanes.first().map(|(at, _)| *at);
        if first == now_first {
            return 1;
        }
        let namespace = one.namespace;
        if let Some(at) = first {
            self.due.remove(&(at, namespace));
        }
        if let Some(at) = now_first {
            self.due.insert((at, namespace));
        }
        2
    }

    /// A front claims or renews places of a namespace; how many hold some.
    pub(crate) fn place(&mut self, now: Us, namespace: u32) -> u64 {
        let (at, holders) = &mut self.places[namespace as usize];
        *holders = *holders * (-((now - *at) as f64) / 1e6).exp() + 1.0;
        *at = now;
        *holders as u64
    }

    /// Appends work; how much was unread before, and commands to due lists.
    pub(crate) fn push(&mut self, now: Us, lane: u32, work: u32) -> (usize, u64) {
        let one = self.lane(lane);
        let before = one.unread.len();
        one.unread.push_back(work);
        let is_due = one.due.is_some_and(|at| at <= now);
        let marks = if is_due {
            0
        } else {
            self.mark(lane, Some(now))
        };
        (before, marks)
    }

    /// Slots not held by anybody whose lease is good.
    fn free(&mut self, now: Us, lane: u32) -> u32 {
        let limit = self.limit;
        let one = self.lane(lane);
        one.holders.retain(|holder| holder.until > now);
        let held: u32 = one.holders.iter().map(|holder| holder.count).sum();
        limit.saturating_sub(held)
    }

    /// Up to `runs` of what is unread, for slots that are held (`have`) and such as can be had.
    pub(crate) fn claim(&mut self, now: Us, lane: u32, by: Holder, runs: u32) -> Claimed {
        let have = by.count;
        let free = self.free(now, lane);
        let one = self.lane(lane);
        let unread = u32::try_from(one.unread.len()).unwrap_or(u32::MAX);
        let slots = unread.min(runs).saturating_sub(have).min(free);
        let take = unread.min(runs).min(have + slots);
        let work: Vec<u32> = one.unread.drain(..take as usize).collect();
        one.pending += take;
        let left = unread - take;
        if slots > 0 {
            match one.holders.iter_mut().find(|h| h.node == by.node) {
                Some(holder) => holder.count += slots,
                None => one.holders.push(Holder { count: slots, ..by }),
            }
        }
        let due = if left == 0 {
            (one.pending > 0).then_some(by.until.max(one.due.unwrap_or(0)))
        } else if take == 0 {
            one.is_wanted = true;
            Some(now + LIMITED_US)
        } else {
            one.due
        };
        Claimed {
            work,
            slots,
            left,
            marks: self.mark(lane, due),
        }
    }

    /// Lets a node's hold last; `count` 0 ends it. Commands to due lists.
    pub(crate) fn renew(&mut self, lane: u32, by: Holder) -> u64 {
        let one = self.lane(lane);
        match one.holders.iter().position(|h| h.node == by.node) {
            Some(at) if by.count == 0 => drop(one.holders.swap_remove(at)),
            Some(at) => one.holders[at] = by,
            None if by.count > 0 => one.holders.push(by),
            None => {}
        }
        if !one.unread.is_empty() {
            return 0;
        }
        let due = (one.pending > 0).then_some(by.until);
        self.mark(lane, due)
    }

    /// Work of the dead can be read again.
    pub(crate) fn recover(&mut self, now: Us, lane: u32, work: u32) -> u64 {
        let one = self.lane(lane);
        one.pending = one.pending.saturating_sub(1);
        one.unread.push_front(work);
        self.mark(lane, Some(now))
    }

    /// Lanes due since before `until`: the longest due of the namespaces that wait longest. And how many namespaces.
    pub(crate) fn look(&self, until: Us, namespaces: usize, lanes: usize) -> (Vec<(u32, Us)>, u64) {
        let mut seen = Vec::new();
        let mut asked = 0;
        for (_, namespace) in self.due.range(..=(until, u32::MAX)).take(namespaces) {
            asked += 1;
            let due = self.namespaces[*namespace as usize].range(..=(until, u32::MAX));
            seen.extend(due.take(lanes).map(|(at, lane)| (*lane, *at)));
        }
        (seen, asked)
    }
}
