//! The hands of the cluster: what nodes do that were told or looked, and what they run, renew and give back.

use std::time::Duration;

use super::{CPU_SHARE, Cluster, Event, Hints, LOOK_LANES, LOOK_NAMESPACES, us};
use crate::costs::{Kind, ONE_WAY_US, Us};
use crate::meter::SHARED;
use crate::node::{Known, Start};
use crate::redis::Holder;
use crate::scheduler::placement::{self, Due, Holding};
use crate::stats::Call;

impl Cluster<'_> {
    pub(super) fn told(&mut self, node: u32, lane: u32, front: u32) {
        let one = &mut self.nodes[node as usize];
        if !one.is_alive {
            // PUBLISH says that nobody heard it: the front tells another.
            if self.views[node as usize].permits_free > 0 {
                self.views[node as usize].permits_free = 0;
                self.tell(front, lane);
            }
            return;
        }
        one.note(Known {
            lane,
            since: self.now,
            is_told: true,
        });
        self.ask(node);
    }

    /// Claims what the node knows to be waiting, as far as it has permits.
    fn ask(&mut self, node: u32) {
        let one = &self.nodes[node as usize];
        if one.view.permits_free == 0 || one.hungry.is_empty() {
            return;
        }
        let hungry: Vec<Known> = one.hungry.clone();
        let due: Vec<Due> = hungry
            .iter()
            .map(|known| {
                let namespace = self.redis.lanes[known.lane as usize].namespace;
                let local = one.lanes.get(&known.lane);
                Due {
                    namespace: u64::from(namespace),
                    runtime: one.runtime(namespace).0,
                    age: Duration::from_micros(self.now - known.since),
                    warmth: one.warmth(known.lane, self.now, self.keep),
                    told: known.is_told || self.setup.hints != Hints::WarmFirst,
                    backlog: local.map_or(0, |local| local.backlog).max(1) * 2,
                }
            })
            .collect();
        for ask in placement::asks(&due, &one.view) {
            let lane = hungry[ask.lane].lane;
            let one = &mut self.nodes[node as usize];
            one.hungry.retain(|known| known.lane != lane);
            let local = one.lane(lane);
            if local.is_asking {
                local.backlog = local.backlog.max(1);
                continue;
            }
            local.is_asking = true;
            let kind = if local.held >= local.busy + ask.runs {
                Kind::Read
            } else {
                Kind::Claim
            };
            one.view.permits_free -= ask.runs;
            let arrives = self.send(node, lane, kind, 0);
            let claim = Event::Claim {
                node,
                lane,
                runs: ask.runs,
                found: !hungry[ask.lane].is_told,
            };
            self.at(arrives, claim);
        }
    }

    /// A claim or read reaches Redis; whether it brought work.
    pub(super) fn claim(&mut self, node: u32, lane: u32, runs: u32) -> bool {
        let one = &mut self.nodes[node as usize];
        if !one.is_alive {
            return false;
        }
        let until = one.lease_until;
        let local = one.lane(lane);
        let have = local.held.saturating_sub(local.busy);
        let by = Holder {
            node,
            count: have,
            until,
        };
        let claimed = self.redis.claim(self.now, lane, by, runs);
        let took = u32::try_from(claimed.work.len()).expect("bounded by runs");
        let local = one.lane(lane);
        local.is_asking = false;
        local.backlog = claimed.left;
        if local.held == 0 && claimed.slots > 0 {
            one.held.push(lane);
        }
        one.lane(lane).held += claimed.slots;
        one.view.permits_free += runs - took;
        self.meter.items(self.now, Kind::Claim, u64::from(took));
        self.stats.claimed(self.now, took, claimed.left);
        self.marks(node, lane, claimed.marks);
        for call in claimed.work {
            self.run(node, call, self.now + ONE_WAY_US);
        }
        if claimed.left > 0 && took > 0 {
            self.nodes[node as usize].note(Known {
                lane,
                since: self.now,
                is_told: true,
            });
            self.ask(node);
        }
        took > 0
    }

    /// A run begins; its permit is taken.
    pub(super) fn run(&mut self, node: u32, call: u32, at: Us) {
        let one = &mut self.nodes[node as usize];
        let Call {
            action, namespace, ..
        } = self.calls[call as usize];
        let start = one.begin(action, at, self.keep);
        one.serve(namespace);
        let lane = &mut self.redis.lanes[action as usize];
        lane.running += 1;
        self.stats.runs_most = self.stats.runs_most.max(lane.running);
        let running = &mut self.calls[call as usize];
        running.node = Some(node);
        let ends = at + start.us() + running.run;
        self.stats.began(at, running, start);
        if start == Start::Cold {
            self.send(node, action, Kind::Code, 0);
        }
        let attempt = self.calls[call as usize].attempt;
        self.at(ends, Event::End { call, attempt });
    }

    pub(super) fn ended(&mut self, id: u32, attempt: u32) {
        let call = self.calls[id as usize].clone();
        let Some(node) = call.node else { return };
        let one = &mut self.nodes[node as usize];
        // A call that was handed over dies with its node; others are recovered, as another attempt.
        if !one.is_alive || call.attempt != attempt {
            return;
        }
        self.calls[id as usize].node = None;
        self.free_calls.push(id);
        one.end(call.action, self.now, self.keep);
        one.charge(
            call.namespace,
            Duration::from_micros((call.run as f64 * CPU_SHARE) as Us),
        );
        let backlog = one.lane(call.action).backlog;
        self.stats.ended(self.now, &call);
        self.redis.lanes[call.action as usize].running -= 1;
        self.send(node, call.action, Kind::Record, 0);
        if call.is_streamed {
            let lane = &mut self.redis.lanes[call.action as usize];
            lane.pending = lane.pending.saturating_sub(1);
            self.send(node, call.action, Kind::Ack, 1);
            if call.is_blocking && call.front != node {
                self.send(node, call.action, Kind::Reply, 0);
            }
        }
        if backlog > 0 {
            self.nodes[node as usize].note(Known {
                lane: call.action,
                since: self.now,
                is_told: true,
            });
        }
        self.ask(node);
    }

    /// Once a second: the lease, and all that is held with it.
    pub(super) fn tick(&mut self, node: u32) {
        let one = &mut self.nodes[node as usize];
        if !one.is_alive {
            return;
        }
        one.lease_until = self.now + self.lease;
        one.expire(self.now, self.keep);
        self.said[node as usize] = one.view;
        let held = std::mem::take(&mut one.held);
        self.send(node, node, Kind::Members, 0);
        for lane in held {
            self.renew(node, lane);
        }
        self.at(self.now + self.lease / 5, Event::Tick(node));
    }

    fn renew(&mut self, node: u32, lane: u32) {
        let wanted = self.redis.lanes[lane as usize].is_wanted;
        let one = &mut self.nodes[node as usize];
        let until = one.lease_until;
        let local = one.lane(lane);
        let surplus = placement::surplus(&Holding {
            held: local.held,
            busy: local.busy,
            peak: local.peak,
            unused_for: Duration::from_micros(self.now.saturating_sub(local.used_at)),
            wanted,
        });
        local.held -= surplus;
        local.peak = local.busy;
        let count = local.held;
        if count > 0 {
            one.held.push(lane);
        }
        if surplus > 0 && wanted {
            self.redis.lanes[lane as usize].is_wanted = false;
        }
        let kind = if count == 0 { Kind::Give } else { Kind::Renew };
        self.send(node, lane, kind, 0);
        let marks = self.redis.renew(lane, Holder { node, count, until });
        self.marks(node, lane, marks);
    }

    /// Looks at the due lists.
    pub(super) fn look(&mut self, node: u32) {
        let one = &self.nodes[node as usize];
        if !one.is_alive || one.looks_at > self.now {
            // The next look was brought forward, and set anew.
            return;
        }
        let cut = if self.setup.hints == Hints::WarmFirst {
            us(placement::PATIENCE_MIN)
        } else {
            0
        };
        let until = self.now.saturating_sub(cut);
        let (seen, asked) = self.redis.look(until, LOOK_NAMESPACES, LOOK_LANES);
        let lanes = seen.len() as u64;
        self.meter
            .send(self.now, node as usize, SHARED, Kind::Look, lanes);
        for _ in 0..asked {
            let anywhere = self.random.below(1 << 20) as u32;
            self.send(node, anywhere, Kind::Look, 0);
        }
        let one = &mut self.nodes[node as usize];
        one.hungry.retain(|known| known.is_told);
        for (lane, since) in seen {
            if !one.lanes.get(&lane).is_some_and(|local| local.is_asking) {
                one.note(Known {
                    lane,
                    since,
                    is_told: false,
                });
            }
        }
        self.ask(node);
        let one = &mut self.nodes[node as usize];
        if one.view.permits_free > 0 {
            // Left to the warmer: the next look is anybody's.
            one.hungry.retain(|known| known.is_told);
        }
        self.look_after(node, false);
    }

    /// A look brought work: there may be more where that came from.
    pub(super) fn look_soon(&mut self, node: u32) {
        if self.nodes[node as usize].view.permits_free > 0 {
            self.look_after(node, true);
        }
    }

    fn look_after(&mut self, node: u32, is_hungry: bool) {
        let random = self.random.bits();
        let next = placement::look_after(self.nodes.len(), is_hungry, random);
        let at = self.now + us(next);
        self.nodes[node as usize].looks_at = at;
        self.at(at, Event::Look(node));
    }
}
