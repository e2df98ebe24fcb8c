//! The cluster, event by event: fronts push, nodes are told, look, claim, run, renew, give back and die, as the decisions in
//! `src/scheduler` say.
//!
//! Simplified, on purpose: a run takes its wall time whatever else runs on its node (permits are what is scarce); Redis answers at
//! once (its CPU time is counted, and must stay below one core a shard for that to be true); what an answer changes in a
//! node is changed when Redis answers, half a millisecond early at most. Nobody is refused: backlogs grow.

mod hands;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::costs::{Kind, ONE_WAY_US, Us};
use crate::meter::{Meter, SHARED};
use crate::node::Node;
use crate::redis::Redis;
use crate::scheduler::idle::{self, History};
use crate::scheduler::placement::{self, NodeIndex, NodeView, Warmth};
use crate::stats::{Call, Stats};
use crate::workload::{Random, Workload};

/// Who learns of work, and who leaves it to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hints {
    /// As the decision code says.
    WarmFirst,
    /// Any one node with free permits is told, and nobody has patience.
    Anybody,
    /// Everybody is told, and claims at once.
    Everybody,
}

/// Which calls run where they came in, without a way through Redis: some of those whose callers wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandOff {
    Never,
    /// Those that find an idle instance.
    Warm,
    /// As the decision code says.
    Worth,
    /// All that find a free permit; what has to be started is started.
    Room,
}

/// How the cluster is.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) nodes: usize,
    /// How many of them calls come in at.
    pub(crate) fronts: usize,
    pub(crate) permits: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) hints: Hints,
    pub(crate) hand_off: HandOff,
    /// Most runs of one action at one time.
    pub(crate) limit: u32,
    pub(crate) keep_alive: Duration,
    pub(crate) lease: Duration,
    /// Nothing is counted before.
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
    /// So many nodes die at that time after the warm-up.
    pub(crate) deaths: Option<(usize, Duration)>,
    pub(crate) seed: u64,
}

/// An action's runs are not limited: no slots are needed.
pub(crate) const NO_LIMIT: u32 = u32::MAX;

/// Share of a run that is CPU time: what fairness goes by.
const CPU_SHARE: f64 = 0.2;

/// Backlog from which on more are told; below, who was told is likely on the way.
const DOUBLED_MIN: usize = 8;

/// What one look reads.
const LOOK_NAMESPACES: usize = 32;
const LOOK_LANES: usize = 4;

/// Ordered only so that it can lie in the heap: times differ, or numbers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(u32),
    Push(u32),
    Told {
        node: u32,
        lane: u32,
        front: u32,
    },
    Claim {
        node: u32,
        lane: u32,
        runs: u32,
        found: bool,
    },
    End {
        call: u32,
        attempt: u32,
    },
    Tick(u32),
    Look(u32),
    Views,
    Die,
    Recover(u32),
}

/// See the module.
struct Cluster<'a> {
    setup: &'a Setup,
    load: &'a Workload,
    random: Random,
    now: Us,
    events: BinaryHeap<Reverse<(Us, u64, Event)>>,
    sequence: u64,
    redis: Redis,
    nodes: Vec<Node>,
    /// What nodes said of themselves last, and what of that was read.
    said: Vec<NodeView>,
    views: Vec<NodeView>,
    calls: Vec<Call>,
    free_calls: Vec<u32>,
    keep: Us,
    lease: Us,
    end: Us,
    meter: Meter,
    stats: Stats,
}

fn us(duration: Duration) -> Us {
    Us::try_from(duration.as_micros()).expect("a run is not that long")
}

/// Runs it.
pub(crate) fn simulate(setup: &Setup, load: &Workload) -> (Stats, Meter) {
    let mut cluster = Cluster::new(setup, load);
    cluster.start();
    while let Some(Reverse((at, _, event))) = cluster.events.pop() {
        if at > cluster.end {
            break;
        }
        cluster.now = at;
        cluster.handle(event);
    }
    cluster.stats.unread = cluster.redis.lanes.iter().map(|l| l.unread.len()).sum();
    (cluster.stats, cluster.meter)
}

impl<'a> Cluster<'a> {
    fn new(setup: &'a Setup, load: &'a Workload) -> Self {
        let mut random = Random::new(setup.seed);
        let views: Vec<NodeView> = (0..setup.nodes)
            .map(|_| NodeView {
                hash: random.bits(),
                permits_free: setup.permits,
                permits: setup.permits,
                bytes_free: setup.memory_bytes,
            })
            .collect();
        let owners = load.actions.iter().map(|action| action.namespace);
        let policy = idle::policy(idle::Kind::Fixed, setup.keep_alive);
        let warm_up = us(setup.warm_up);
        Self {
            setup,
            load,
            random,
            now: 0,
            events: BinaryHeap::new(),
            sequence: 0,
            redis: Redis::new(owners, load.namespaces, setup.limit),
            nodes: views.iter().copied().map(Node::new).collect(),
            said: views.clone(),
            views,
            calls: Vec::new(),
            free_calls: Vec::new(),
            keep: us(policy.keep(&History::default())),
            lease: us(setup.lease),
            end: warm_up + us(setup.length),
            meter: Meter::new(setup.nodes, warm_up),
            stats: Stats::new(load.namespaces, warm_up),
        }
    }

    fn at(&mut self, time: Us, event: Event) {
        self.sequence += 1;
        let entry = (time, self.sequence, event);
        self.events.push(Reverse(entry));
    }

    fn start(&mut self) {
        for (action, one) in (0..).zip(&self.load.actions) {
            let first = one.gap(true, &mut self.random);
            if first <= self.end {
                self.at(first, Event::Arrive(action));
            }
        }
        for node in 0..u32::try_from(self.setup.nodes).expect("few") {
            let (tick, look) = (self.random.below(1_000_000), self.random.below(1_000_000));
            self.nodes[node as usize].lease_until = self.lease;
            self.at(tick as Us, Event::Tick(node));
            self.at(look as Us, Event::Look(node));
        }
        self.at(0, Event::Views);
        if let Some((_, after)) = self.setup.deaths {
            self.at(us(self.setup.warm_up + after), Event::Die);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive(action) => self.arrive(action),
            Event::Push(call) => self.push(call),
            Event::Told { node, lane, front } => self.told(node, lane, front),
            Event::Claim {
                node,
                lane,
                runs,
                found,
            } => {
                if self.claim(node, lane, runs) && found {
                    self.look_soon(node);
                }
            }
            Event::End { call, attempt } => self.ended(call, attempt),
            Event::Tick(node) => self.tick(node),
            Event::Look(node) => self.look(node),
            Event::Views => self.read_views(),
            Event::Die => self.die(),
            Event::Recover(call) => self.recover(call),
        }
    }

    /// Sends a command; when it arrives.
    fn send(&mut self, node: u32, lane: u32, kind: Kind, items: u64) -> Us {
        let key = u64::from(lane).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        self.meter.send(self.now, node as usize, key, kind, items)
    }

    fn marks(&mut self, node: u32, lane: u32, count: u64) {
        // The namespace's list is elsewhere than the lane, and the list of namespaces is at one place.
        if count > 0 {
            let namespace = self.redis.lanes[lane as usize].namespace;
            self.send(node, !namespace, Kind::Due, 0);
        }
        if count > 1 {
            let (now, node) = (self.now, node as usize);
            self.meter.send(now, node, SHARED, Kind::Due, 0);
        }
    }

    /// A call comes in at any of the fronts.
    fn arrive(&mut self, action: u32) {
        let one = &self.load.actions[action as usize];
        let next = self.now + one.gap(false, &mut self.random).max(1);
        if next <= self.end {
            self.at(next, Event::Arrive(action));
        }
        let front = loop {
            let node = self.random.below(self.setup.fronts);
            if self.nodes[node].is_alive {
                break node;
            }
        };
        let call = Call {
            action,
            namespace: one.namespace,
            front: u32::try_from(front).expect("few"),
            arrived: self.now,
            run: one.run(&mut self.random),
            is_blocking: one.is_blocking,
            ..Call::default()
        };
        let front_id = call.front;
        let id = match self.free_calls.pop() {
            Some(id) => {
                let attempt = self.calls[id as usize].attempt + 1;
                self.calls[id as usize] = Call { attempt, ..call };
                id
            }
            None => {
                self.calls.push(call);
                u32::try_from(self.calls.len() - 1).expect("few at a time")
            }
        };
        let places = self.nodes[front].place(one.namespace, self.now);
        for _ in 0..places {
            let holders = self.redis.place(self.now, one.namespace);
            self.send(front_id, !one.namespace, Kind::Places, holders);
        }
        let is_here = one.is_blocking && self.may_hand_off(front, action);
        if one.is_blocking && self.setup.hand_off == HandOff::Worth {
            self.nodes[front].lane(action).called_at = Some(self.now);
        }
        if is_here {
            self.nodes[front].view.permits_free -= 1;
            self.run(front_id, id, self.now);
            self.stats.handed_off(self.now);
            return;
        }
        let mut arrives = self.send(front_id, action, Kind::Push, 0);
        if places > 0 {
            // The place first.
            arrives += 2 * ONE_WAY_US;
        }
        self.calls[id as usize].is_streamed = true;
        self.at(arrives, Event::Push(id));
    }

    /// Whether the call may run where it came in: nothing waits there, and a slot is at hand if the action has so few.
    fn may_hand_off(&self, front: usize, action: u32) -> bool {
        let node = &self.nodes[front];
        if node.view.permits_free == 0 {
            return false;
        }
        let is_free = self.setup.limit == NO_LIMIT;
        let local = node.lanes.get(&action);
        let may = local.map_or(is_free, |local| {
            (is_free || local.held > local.busy) && !local.is_asking && local.backlog == 0
        });
        let warmth = node.warmth(action, self.now, self.keep);
        let called = local.and_then(|local| local.called_at);
        let since = called.map(|at| Duration::from_micros(self.now - at));
        may && match self.setup.hand_off {
            HandOff::Never => false,
            HandOff::Warm => warmth == Warmth::Warm,
            HandOff::Worth => placement::is_worth_starting(warmth, since, self.setup.keep_alive),
            HandOff::Room => true,
        }
    }

    /// Work is in its stream: somebody is told.
    fn push(&mut self, call: u32) {
        let Call {
            action: lane,
            front,
            ..
        } = self.calls[call as usize];
        let (before, marks) = self.redis.push(self.now, lane, call);
        self.marks(front, lane, marks);
        // The first, and whenever what waits has doubled: then who was told cannot keep up.
        if before == 0 || (before >= DOUBLED_MIN && before.is_power_of_two()) {
            self.tell(front, lane);
        }
    }

    fn tell(&mut self, front: u32, lane: u32) {
        let target = match self.setup.hints {
            Hints::WarmFirst => {
                let holders = &self.redis.lanes[lane as usize].holders;
                let holders: Vec<NodeIndex> = holders
                    .iter()
                    .filter(|holder| holder.until > self.now)
                    .map(|holder| NodeIndex(holder.node as usize))
                    .collect();
                let hash = u64::from(lane).wrapping_mul(0xd6e8_feb8_6659_fd93);
                placement::home(hash, &self.views, &holders)
            }
            Hints::Anybody => (0..8)
                .map(|_| NodeIndex(self.random.below(self.nodes.len())))
                .find(|node| self.views[node.0].permits_free > 0),
            Hints::Everybody => {
                self.send(front, lane, Kind::Wake, self.nodes.len() as u64);
                for node in 0..u32::try_from(self.nodes.len()).expect("few") {
                    let told = Event::Told { node, lane, front };
                    self.at(self.now + 3 * ONE_WAY_US, told);
                }
                None
            }
        };
        let Some(NodeIndex(node)) = target else {
            return;
        };
        let node = u32::try_from(node).expect("few");
        // Its answer comes back first; then the message goes, unless it is for the front itself.
        let mut at = self.now + ONE_WAY_US;
        if node != front {
            self.send(front, lane, Kind::Wake, 1);
            at += 2 * ONE_WAY_US;
        }
        self.at(at, Event::Told { node, lane, front });
    }

    /// Every node reads what the others say.
    fn read_views(&mut self) {
        self.views.clone_from(&self.said);
        let count = self.nodes.len();
        for node in 0..count {
            if self.nodes[node].is_alive {
                self.send(node as u32, 0, Kind::Members, count as u64);
            } else {
                self.views[node].permits_free = 0;
            }
        }
        let next = self.now + us(placement::views_after(count));
        self.at(next, Event::Views);
    }

    fn die(&mut self) {
        let Some((count, _)) = self.setup.deaths else {
            return;
        };
        // Those in the middle: neither the first nor the last of anything.
        let first = (self.nodes.len() - count) / 2;
        for node in &mut self.nodes[first..first + count] {
            node.is_alive = false;
        }
        self.stats.died_at = Some(self.now);
        for id in 0..u32::try_from(self.calls.len()).expect("few at a time") {
            let call = &self.calls[id as usize];
            let Some(node) = call.node else { continue };
            let one = &self.nodes[node as usize];
            if one.is_alive {
                continue;
            }
            self.redis.lanes[call.action as usize].running -= 1;
            if call.is_streamed {
                self.at(one.lease_until, Event::Recover(id));
            } else {
                self.stats.cut_off += 1;
            }
        }
    }

    /// The lease of its node has ended: work can be read again.
    fn recover(&mut self, id: u32) {
        let lane = self.calls[id as usize].action;
        self.calls[id as usize].node = None;
        self.calls[id as usize].is_redelivered = true;
        self.calls[id as usize].attempt += 1;
        // What of the dead was due at that time is due now; it is moved by whoever claims it.
        self.redis.recover(self.now, lane, id);
    }
}
