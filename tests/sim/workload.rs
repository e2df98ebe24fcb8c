//! What is called, by whom, how often and for how long: synthetic, in the shape that was published of Azure Functions 2019
//! ("Serverless in the Wild", and the dataset's figures, digitised to about 1 %).
//!
//! Rates are not drawn but laid out by quantile, so that a run with few actions has the shape, too; everything else is
//! drawn, from a seed. The daily swing is left out: a run lasts minutes. [`Workload::check`] measures the published tables
//! again on what was made.

use crate::costs::Us;

/// Share of functions called at most so often a day.
const RATES: [(f64, f64); 9] = [
    (0.0, 0.1),
    (0.34, 1.0),
    (0.56, 10.0),
    (0.64, 24.0),
    (0.74, 96.0),
    (0.82, 288.0),
    (0.92, 1_440.0),
    (0.97, 10_000.0),
    (0.99, 60_000.0),
];

/// Share of all calls that the most popular share of functions makes. Below one in 10,000 nothing is published: the line is
/// drawn on to one in 100,000.
const POPULAR: [(f64, f64); 4] = [(1e-5, 0.08), (1e-4, 0.31), (1e-3, 0.64), (1e-2, 0.93)];

/// Share of applications with at most so many functions; an application stands for a namespace. Beyond 11 nothing is
/// published: up to 300, the larger the rarer.
const SIZES: [(f64, f64); 7] = [
    (0.0, 1.0),
    (0.54, 1.0),
    (0.70, 2.0),
    (0.80, 3.0),
    (0.88, 5.0),
    (0.95, 10.0),
    (1.0, 300.0),
];

/// Share of functions whose gaps between calls have at most this coefficient of variation.
const GAPS: [(f64, f64); 7] = [
    (0.0, 0.0),
    (0.22, 0.05),
    (0.57, 1.0),
    (0.72, 2.0),
    (0.85, 4.0),
    (0.95, 10.0),
    (1.0, 20.0),
];

/// The value at a quantile of a table, on a line between its points; logarithmic where values are positive.
fn at(table: &[(f64, f64)], quantile: f64) -> f64 {
    let next = table.iter().position(|(q, _)| *q >= quantile);
    let next = next.unwrap_or(table.len() - 1).max(1);
    let ((q0, v0), (q1, v1)) = (table[next - 1], table[next]);
    let part = ((quantile - q0) / (q1 - q0)).clamp(0.0, 1.0);
    if v0 > 0.0 {
        v0 * (v1 / v0).powf(part)
    } else {
        v0 + (v1 - v0) * part
    }
}

/// The share of calls of the most popular `share` of functions.
fn popular(share: f64) -> f64 {
    let logs: Vec<(f64, f64)> = POPULAR.iter().map(|(p, s)| (p.log10(), *s)).collect();
    let p = share.log10();
    if p <= logs[0].0 {
        return logs[0].1 * share / POPULAR[0].0;
    }
    let next = logs
        .iter()
        .position(|(q, _)| *q >= p)
        .unwrap_or(logs.len() - 1);
    let ((q0, v0), (q1, v1)) = (logs[next - 1], logs[next]);
    v0 + (v1 - v0) * (p - q0) / (q1 - q0)
}

/// Numbers that follow from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(fastrand::Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    pub(crate) fn part(&mut self) -> f64 {
        self.0.f64()
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0.u64(..)
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0.usize(..count)
    }

    /// Of the standard normal distribution (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.part()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.part()).cos()
    }

    /// Of a gamma distribution with mean 1 and that shape (Marsaglia and Tsang).
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // One with a shape above 1, made smaller by a power of a uniform number.
            let boost = (1.0 - self.part()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * (shape + 1.0) / shape * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.part()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v / shape;
            }
        }
    }
}

/// One action.
#[derive(Debug, Clone)]
pub(crate) struct Action {
    pub(crate) namespace: u32,
    pub(crate) gap_us: f64,
    /// Of the gaps between calls; 0 is a timer.
    pub(crate) variation: f64,
    pub(crate) run_us: f64,
    /// Whether its callers wait.
    pub(crate) is_blocking: bool,
}

/// What to make.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) actions: usize,
    /// Calls per second of all actions together; `None` as published, for that many actions.
    pub(crate) rate: Option<f64>,
    /// What published run times (mostly waiting for others, in containers) are divided by.
    pub(crate) runs_divided_by: f64,
    pub(crate) seed: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) actions: Vec<Action>,
    pub(crate) namespaces: usize,
    pub(crate) rate: f64,
}

const US_PER_DAY: f64 = 86_400e6;

/// Timeout of an action at the most.
const RUN_US_MAX: f64 = 300e6;

impl Workload {
    pub(crate) fn new(shape: &Shape) -> Self {
        let mut random = Random::new(shape.seed);
        let count = shape.actions as f64;
        // Per day, the most called first. The mean is what joins both tables at one in a hundred.
        let slope = (POPULAR[3].1 - POPULAR[2].1) / (1e-2 * std::f64::consts::LN_10);
        let mean = RATES[8].1 / slope;
        let mut rates: Vec<f64> = (0..shape.actions)
            .map(|rank| {
                let (from, to) = (rank as f64 / count, (rank as f64 + 1.0) / count);
                if to <= 1e-2 {
                    (popular(to) - popular(from)) * count * mean
                } else {
                    at(&RATES, 1.0 - (from + to) / 2.0)
                }
            })
            .collect();
        let natural: f64 = rates.iter().sum::<f64>() / 86_400.0;
        let rate = shape.rate.unwrap_or(natural);
        rates.iter_mut().for_each(|one| *one *= rate / natural);

        let mut namespaces = 0;
        let mut owners: Vec<u32> = Vec::with_capacity(shape.actions);
        while owners.len() < shape.actions {
            let size = at(&SIZES, random.part()).round() as usize;
            let size = size.min(shape.actions - owners.len());
            owners.extend(std::iter::repeat_n(namespaces, size));
            namespaces += 1;
        }
        // Popularity and owner have nothing to do with each other.
        random.0.shuffle(&mut owners);
        let actions = rates
            .into_iter()
            .zip(owners)
            .map(|(rate, namespace)| action(rate, namespace, shape, &mut random))
            .collect();
        Self {
            actions,
            namespaces: namespaces as usize,
            rate,
        }
    }

    /// Share of calls of the most popular 0.01, 0.1, 1 and 10 % of the actions, to be compared with 31, 64, 93 and 99.3 %.
    pub(crate) fn check(&self) -> [f64; 4] {
        let rates: Vec<f64> = self.actions.iter().map(|a| 1.0 / a.gap_us).collect();
        let all: f64 = rates.iter().sum();
        [1e-4, 1e-3, 1e-2, 1e-1].map(|share| {
            let most = (self.actions.len() as f64 * share).ceil() as usize;
            rates[..most].iter().sum::<f64>() / all
        })
    }

    /// Runs in progress that are to be expected.
    pub(crate) fn runs(&self) -> f64 {
        self.actions.iter().map(|a| a.run_us / a.gap_us).sum()
    }
}

fn action(per_day: f64, namespace: u32, shape: &Shape, random: &mut Random) -> Action {
    // Timers are 15.6 % of functions and 2 % of calls: they are seldom called.
    let is_timer = per_day <= 1_440.0 && random.part() < 0.17;
    let variation = if is_timer {
        0.0
    } else {
        at(&GAPS, random.part())
    };
    // Refitted to the published averages: lognormal, mu 0.00, sigma 2.28, of seconds.
    let run_us = (2.28 * random.normal()).exp() * 1e6 / shape.runs_divided_by;
    Action {
        namespace,
        gap_us: US_PER_DAY / per_day,
        variation,
        run_us: run_us.clamp(50.0, RUN_US_MAX),
        // 35.9 % of calls come by HTTP.
        is_blocking: !is_timer && random.part() < 0.36,
    }
}

impl Action {
    /// Until its next call; the first comes somewhere in a gap.
    pub(crate) fn gap(&self, is_first: bool, random: &mut Random) -> Us {
        let part = if is_first {
            random.part()
        } else if self.variation < 0.1 {
            1.0
        } else {
            random.gamma(self.variation.powi(-2))
        };
        (self.gap_us * part) as Us
    }

    /// How long one run takes, wall time: around the action's own by a factor of 1.6 and back.
    pub(crate) fn run(&self, random: &mut Random) -> Us {
        let us = self.run_us * (0.5 * random.normal() - 0.125).exp();
        us.clamp(20.0, RUN_US_MAX) as Us
    }
}
