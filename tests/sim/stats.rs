//! What callers and namespaces got.

use hdrhistogram::Histogram;

use crate::costs::Us;
use crate::node::Start;

/// One call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    pub(crate) action: u32,
    pub(crate) namespace: u32,
    pub(crate) front: u32,
    pub(crate) arrived: Us,
    /// How long its run takes.
    pub(crate) run: Us,
    pub(crate) is_blocking: bool,
    pub(crate) is_streamed: bool,
    pub(crate) is_redelivered: bool,
    /// Tells the end of this run from that of one before, or of the call that was kept here before.
    pub(crate) attempt: u32,
    /// Where it runs.
    pub(crate) node: Option<u32>,
}

/// A namespace's calls.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    pub(crate) calls: u64,
    /// Sum over its calls.
    pub(crate) slowdown: f64,
}

/// Runs shorter than this count as this long: a wait of two milliseconds is no slowdown of three for who runs one.
const RUN_MIN_US: Us = 10_000;

/// Namespaces with fewer calls are not compared: theirs is chance.
const CALLS_MIN: u64 = 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Stats {
    since: Us,
    pub(crate) calls: u64,
    pub(crate) hand_offs: u64,
    pub(crate) starts: [u64; 3],
    pub(crate) claims: u64,
    /// Claims that found nothing: somebody else was first.
    pub(crate) conflicts: u64,
    /// Claims that found the limit reached.
    pub(crate) limited: u64,
    /// From arrival to the begin of the run, microseconds.
    pub(crate) waits: Histogram<u64>,
    /// By namespace.
    pub(crate) shares: Vec<Share>,
    pub(crate) redelivered: u64,
    /// Longest from a death to the new begin of what it cut off.
    pub(crate) gap: Us,
    pub(crate) died_at: Option<Us>,
    /// Callers whose call ran without a stream on a node that died.
    pub(crate) cut_off: u64,
    /// Most runs of one lane at one time.
    pub(crate) runs_most: u32,
    /// Left in streams at the end.
    pub(crate) unread: usize,
}

/// How evenly namespaces were served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fairness {
    pub(crate) namespaces: usize,
    /// Jain's index of the mean slowdowns: 1 when all are the same, one over their number when one has it all.
    pub(crate) jain: f64,
    pub(crate) mean: f64,
    pub(crate) worst: f64,
}

impl Stats {
    pub(crate) fn new(namespaces: usize, since: Us) -> Self {
        Self {
            since,
            calls: 0,
            hand_offs: 0,
            starts: [0; 3],
            claims: 0,
            conflicts: 0,
            limited: 0,
            waits: Histogram::new(3).expect("three digits"),
            shares: vec![Share::default(); namespaces],
            redelivered: 0,
            gap: 0,
            died_at: None,
            cut_off: 0,
            runs_most: 0,
            unread: 0,
        }
    }

    pub(crate) fn handed_off(&mut self, now: Us) {
        self.hand_offs += u64::from(now >= self.since);
    }

    pub(crate) fn claimed(&mut self, now: Us, took: u32, left: u32) {
        if now >= self.since {
            self.claims += 1;
            self.conflicts += u64::from(took == 0 && left == 0);
            self.limited += u64::from(took == 0 && left > 0);
        }
    }

    pub(crate) fn began(&mut self, at: Us, call: &Call, start: Start) {
        if call.is_redelivered {
            self.redelivered += 1;
            self.gap = self.gap.max(at - self.died_at.unwrap_or(at));
        }
        if at < self.since {
            return;
        }
        self.calls += 1;
        self.starts[start as usize] += 1;
        if !call.is_redelivered {
            let wait = (at - call.arrived).max(1);
            self.waits.record(wait).expect("it grows");
        }
    }

    pub(crate) fn ended(&mut self, now: Us, call: &Call) {
        if now < self.since || call.is_redelivered {
            return;
        }
        let run = call.run.max(RUN_MIN_US) as f64;
        let share = &mut self.shares[call.namespace as usize];
        share.calls += 1;
        share.slowdown += ((now - call.arrived) as f64 / run).max(1.0);
    }

    pub(crate) fn fairness(&self) -> Fairness {
        let compared = self.shares.iter().filter(|share| share.calls >= CALLS_MIN);
        let means: Vec<f64> = compared.map(|s| s.slowdown / s.calls as f64).collect();
        let count = means.len() as f64;
        let (sum, squares) = means
            .iter()
            .fold((0.0, 0.0), |(a, b), x| (a + x, b + x * x));
        Fairness {
            namespaces: means.len(),
            jain: sum * sum / (count * squares),
            mean: sum / count,
            worst: means.iter().copied().fold(0.0, f64::max),
        }
    }

    /// Share of calls that began like that.
    pub(crate) fn share(&self, start: Start) -> f64 {
        self.starts[start as usize] as f64 / self.calls.max(1) as f64
    }
}
