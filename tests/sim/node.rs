//! One node: its permits, memory, instances, the slots it holds, and what it knows to be waiting.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::FixedState;

use crate::costs::{Us, start};
use crate::scheduler::fairness::Runtime;
use crate::scheduler::placement::{NodeView, Warmth};

/// What a node has of one lane.
#[derive(Debug, Default)]
pub(crate) struct Local {
    pub(crate) held: u32,
    pub(crate) busy: u32,
    pub(crate) peak: u32,
    pub(crate) used_at: Us,
    /// When a call that is waited for came in here last.
    pub(crate) called_at: Option<Us>,
    /// Since when each idle instance is idle, the one used last at the end.
    pub(crate) idle: Vec<Us>,
    pub(crate) has_code: bool,
    /// A claim or read is on its way.
    pub(crate) is_asking: bool,
    /// Unread, as the last claim said.
    pub(crate) backlog: u32,
}

/// How a run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Warm,
    Code,
    Cold,
}

impl Start {
    pub(crate) const fn us(self) -> Us {
        match self {
            Self::Warm => 0,
            Self::Code => start::CODE_US,
            Self::Cold => start::COLD_US,
        }
    }
}

/// A lane that a node knows to be due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) lane: u32,
    pub(crate) since: Us,
    pub(crate) is_told: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) is_alive: bool,
    pub(crate) view: NodeView,
    pub(crate) lanes: HashMap<u32, Local, FixedState>,
    /// Lanes with slots, for renewals.
    pub(crate) held: Vec<u32>,
    /// What it could not take when it learned of it.
    pub(crate) hungry: Vec<Known>,
    expiry: VecDeque<(Us, u32)>,
    pub(crate) lease_until: Us,
    /// When it looks at the due list next.
    pub(crate) looks_at: Us,
    runtimes: HashMap<u32, Runtime, FixedState>,
    floor: Runtime,
    /// Namespaces whose places it holds as a front: last used, last renewed.
    places: HashMap<u32, (Us, Us), FixedState>,
}

/// Most lanes remembered as hungry; what is forgotten is still in the due list.
const HUNGRY_MAX: usize = 64;

/// Places and slots nobody used for so long are given back.
const UNUSED_US: Us = 1_000_000;

impl Node {
    pub(crate) fn new(view: NodeView) -> Self {
        Self {
            is_alive: true,
            view,
            lanes: HashMap::default(),
            held: Vec::new(),
            hungry: Vec::new(),
            expiry: VecDeque::new(),
            lease_until: 0,
            looks_at: 0,
            runtimes: HashMap::default(),
            floor: Runtime::default(),
            places: HashMap::default(),
        }
    }

    pub(crate) fn lane(&mut self, lane: u32) -> &mut Local {
        self.lanes.entry(lane).or_default()
    }

    pub(crate) fn warmth(&self, lane: u32, now: Us, keep: Us) -> Warmth {
        match self.lanes.get(&lane) {
            Some(l) if l.idle.last().is_some_and(|at| now - at <= keep) => Warmth::Warm,
            Some(l) if l.has_code => Warmth::Code,
            _ => Warmth::Cold,
        }
    }

    /// Takes an instance for a run, or memory for one.
    pub(crate) fn begin(&mut self, lane: u32, now: Us, keep: Us) -> Start {
        let one = self.lanes.entry(lane).or_default();
        one.busy += 1;
        one.peak = one.peak.max(one.busy);
        one.used_at = now;
        let start = match one.idle.pop() {
            Some(since) if now.saturating_sub(since) <= keep => return Start::Warm,
            // It goes with the expiry; what is below it as well.
            Some(since) => {
                one.idle.push(since);
                one.has_code
            }
            None => one.has_code,
        };
        one.has_code = true;
        while self.view.bytes_free < start::BYTES && self.evict() {}
        self.view.bytes_free = self.view.bytes_free.saturating_sub(start::BYTES);
        if start { Start::Code } else { Start::Cold }
    }

    /// The run is over; its instance waits for the next.
    pub(crate) fn end(&mut self, lane: u32, now: Us, keep: Us) {
        self.view.permits_free += 1;
        let one = self.lanes.entry(lane).or_default();
        one.busy -= 1;
        one.used_at = now;
        one.idle.push(now);
        self.expiry.push_back((now + keep, lane));
    }

    /// Drops the instance that would be the first to go.
    fn evict(&mut self) -> bool {
        while let Some((_, lane)) = self.expiry.pop_front() {
            if let Some(one) = self.lanes.get_mut(&lane)
                && !one.idle.is_empty()
            {
                one.idle.remove(0);
                self.view.bytes_free += start::BYTES;
                return true;
            }
        }
        false
    }

    /// Drops what was idle for too long.
    pub(crate) fn expire(&mut self, now: Us, keep: Us) {
        while self.expiry.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, lane)) = self.expiry.pop_front() else {
                return;
            };
            if let Some(one) = self.lanes.get_mut(&lane)
                && one.idle.first().is_some_and(|since| since + keep <= now)
            {
                one.idle.remove(0);
                self.view.bytes_free += start::BYTES;
            }
        }
    }

    /// Notes a lane to be thought of when a permit comes free.
    pub(crate) fn note(&mut self, known: Known) {
        if let Some(one) = self.hungry.iter_mut().find(|k| k.lane == known.lane) {
            one.is_told |= known.is_told;
        } else if self.hungry.len() < HUNGRY_MAX {
            self.hungry.push(known);
        }
    }

    pub(crate) fn runtime(&self, namespace: u32) -> Runtime {
        let own = self.runtimes.get(&namespace).copied();
        own.unwrap_or_default().lifted(self.floor)
    }

    /// A run of the namespace begins: the floor follows whoever is served.
    pub(crate) fn serve(&mut self, namespace: u32) {
        self.floor = self.floor.max(self.runtime(namespace));
    }

    /// A run of the namespace used so much.
    pub(crate) fn charge(&mut self, namespace: u32, cpu: Duration) {
        let charged = self.runtime(namespace).charged(cpu, self.floor);
        self.runtimes.insert(namespace, charged);
    }

    /// A call of the namespace came in here; how many commands its place costs.
    pub(crate) fn place(&mut self, namespace: u32, now: Us) -> u64 {
        let (used, renewed) = self.places.entry(namespace).or_insert((0, 0));
        let is_new = *used == 0 || now - *used > UNUSED_US;
        let is_old = now - *renewed > UNUSED_US;
        *used = now;
        if is_new || is_old {
            *renewed = now;
        }
        // Claimed, and given back later.
        if is_new { 2 } else { u64::from(is_old) }
    }
}
