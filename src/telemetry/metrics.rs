//! Every metric: its name, its help, its labels, and the function that records it.
//!
//! # Design
//! Counters and histograms are recorded where things happen, by the functions below; gauges are read when `/metrics` is
//! asked, by whoever owns them ([`Gauges`]), and so is what is counted for each action ([`Series`]). Histograms are ours
//! ([`Histogram`]) and printed behind what the exporter prints.
//!
//! Labels `namespace` and `action` are bounded: the first [`PAIRS_MAX`] pairs get series of their own, all others share
//! `other`. So a tenant cannot fill the server's memory, or the operator's, by making up names.
//!
//! # Limitations
//! A pair keeps its series until the server ends, whether it is still called or not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use foldhash::quality::RandomState;
use metrics::{Counter, counter, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::histogram::{self, Histogram};
use crate::model::{Fqn, Namespace, Status};

/// Most pairs of namespace and action with series of their own.
const PAIRS_MAX: usize = 256;

const HELP: &[(Kind, &str, &str)] = &[
    (
        Kind::Counter,
        "wisp_http_requests_total",
        "HTTP requests answered, by route, method and status.",
    ),
    (
        Kind::Counter,
        "wisp_activations_total",
        "Activations ended, by namespace, action and status.",
    ),
    (
        Kind::Counter,
        "wisp_starts_total",
        "Runs by the start they had: cold (an instance was started) or warm.",
    ),
    (
        Kind::Counter,
        "wisp_activation_cpu_microseconds_total",
        "CPU time of guests, by namespace and action.",
    ),
    (
        Kind::Counter,
        "wisp_refused_total",
        "Invocations refused, by reason: rate, concurrency, parameters, backlog, overload, storage, encryption, internal.",
    ),
    (
        Kind::Counter,
        "wisp_web_cache_total",
        "Answers of web actions by what the cache had to do with them: hit, shared (waited for another's run), kept.",
    ),
    (
        Kind::Counter,
        "wisp_fires_total",
        "Fires of triggers, by source (request, clock) and outcome: accepted, unheard (no active rule), refused.",
    ),
    (
        Kind::Counter,
        "wisp_rule_runs_total",
        "What became of the active rules of accepted fires: success, failure, refused (not run).",
    ),
    (
        Kind::Counter,
        "wisp_rule_retries_total",
        "Failed runs of rules that are to be tried again.",
    ),
    (
        Kind::Counter,
        "wisp_dead_letters_total",
        "Dead letters by what happened: kept, dropped (too many of one namespace), replayed.",
    ),
    (
        Kind::Counter,
        "wisp_alarms_total",
        "Times at which the clock was to fire a trigger: fired, skipped (missed or blocked), postponed (to be tried again).",
    ),
    (
        Kind::Gauge,
        "wisp_queue_depth",
        "Work waiting in all queues.",
    ),
    (
        Kind::Gauge,
        "wisp_queue_bytes",
        "Bytes of parameters waiting in all queues.",
    ),
    (
        Kind::Gauge,
        "wisp_queue_oldest_age_seconds",
        "Age of the oldest waiting work.",
    ),
    (Kind::Gauge, "wisp_runs", "Runs in progress."),
    (Kind::Gauge, "wisp_runs_max", "Most runs at one time."),
    (
        Kind::Gauge,
        "wisp_pool_instances",
        "Instances by state: idle, running.",
    ),
    (
        Kind::Gauge,
        "wisp_pool_programs",
        "Programs linked, the rung below an instance.",
    ),
    (
        Kind::Gauge,
        "wisp_pool_program_bytes",
        "Bytes of their artefacts, mapped.",
    ),
    (
        Kind::Gauge,
        "wisp_pool_slots",
        "Instance slots, by state: used, all.",
    ),
    (
        Kind::Gauge,
        "wisp_pool_evictions",
        "Idle instances given up for live work since the start.",
    ),
    (
        Kind::Gauge,
        "wisp_memory_bytes",
        "The node's memory budget, by state: used, budget.",
    ),
    (
        Kind::Gauge,
        "wisp_fires_pending",
        "Fires accepted whose rules have not all run to their end.",
    ),
    (
        Kind::Gauge,
        "wisp_rule_retries_waiting",
        "Runs of rules that wait to be tried again.",
    ),
    (
        Kind::Gauge,
        "wisp_inflight",
        "Activations accepted and not ended.",
    ),
];

enum Kind {
    Counter,
    Gauge,
}

/// The values of gauges, read when they are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gauges {
    pub(crate) queue_depth: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) queue_oldest_age: Duration,
    pub(crate) runs: usize,
    pub(crate) runs_max: usize,
    pub(crate) idle: usize,
    pub(crate) running: u64,
    pub(crate) programs: usize,
    pub(crate) program_bytes: usize,
    pub(crate) slots_used: usize,
    pub(crate) slots: usize,
    pub(crate) evictions: u64,
    pub(crate) memory_used_bytes: usize,
    pub(crate) memory_budget_bytes: usize,
    pub(crate) inflight: usize,
    pub(crate) fires_pending: usize,
    pub(crate) retries_waiting: usize,
}

/// Installs the recorder of the process; later calls return the first one's handle.
///
/// # Errors
/// When another recorder was installed by somebody else.
pub(crate) fn install() -> Result<PrometheusHandle, String> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            metrics::set_global_recorder(recorder).map_err(|e| e.to_string())?;
            for (kind, name, help) in HELP {
                match kind {
                    Kind::Counter => metrics::describe_counter!(*name, *help),
                    Kind::Gauge => metrics::describe_gauge!(*name, *help),
                }
            }
            Ok(handle)
        })
        .clone()
}

/// Brings what `/metrics` shows up to now: sets every gauge, hands over what is counted elsewhere.
pub(crate) fn set(gauges: &Gauges) {
    for series in &*SERIES {
        series.show();
    }
    if let Some(other) = LazyLock::get(&OTHER) {
        other.show();
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "gauges are floats; counts stay far below 2^53"
    )]
    let count = |value: usize| value as f64;
    let large = |value: u64| count(usize::try_from(value).unwrap_or(usize::MAX));
    gauge!("wisp_queue_depth").set(count(gauges.queue_depth));
    gauge!("wisp_queue_bytes").set(count(gauges.queue_bytes));
    gauge!("wisp_queue_oldest_age_seconds").set(gauges.queue_oldest_age.as_secs_f64());
    gauge!("wisp_runs").set(count(gauges.runs));
    gauge!("wisp_runs_max").set(count(gauges.runs_max));
    gauge!("wisp_pool_instances", "state" => "idle").set(count(gauges.idle));
    gauge!("wisp_pool_instances", "state" => "running").set(large(gauges.running));
    gauge!("wisp_pool_programs").set(count(gauges.programs));
    gauge!("wisp_pool_program_bytes").set(count(gauges.program_bytes));
    gauge!("wisp_pool_slots", "state" => "used").set(count(gauges.slots_used));
    gauge!("wisp_pool_slots", "state" => "all").set(count(gauges.slots));
    gauge!("wisp_pool_evictions").set(large(gauges.evictions));
    gauge!("wisp_memory_bytes", "state" => "used").set(count(gauges.memory_used_bytes));
    gauge!("wisp_memory_bytes", "state" => "budget").set(count(gauges.memory_budget_bytes));
    gauge!("wisp_inflight").set(count(gauges.inflight));
    gauge!("wisp_fires_pending").set(count(gauges.fires_pending));
    gauge!("wisp_rule_retries_waiting").set(count(gauges.retries_waiting));
}

/// Series that have no labels, or few, made once: looking a series up costs more than a warm call's other bookkeeping.
struct Fixed {
    warm: Counter,
    cold: Counter,
    wait: Histogram,
    init: Histogram,
    run: Histogram,
    compile: Histogram,
    commit: Histogram,
    alarm_delay: Histogram,
    /// By route; the routes are a closed list.
    requests: DashMap<&'static str, Arc<Histogram>>,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| Fixed {
    warm: counter!("wisp_starts_total", "start" => "warm"),
    cold: counter!("wisp_starts_total", "start" => "cold"),
    wait: Histogram::default(),
    init: Histogram::default(),
    run: Histogram::default(),
    compile: Histogram::default(),
    commit: Histogram::default(),
    alarm_delay: Histogram::default(),
    requests: DashMap::new(),
});

/// All metrics, as Prometheus reads them: those of `exporter`, then the histograms.
pub(crate) fn print(exporter: &PrometheusHandle) -> String {
    let mut text = exporter.render();
    let fixed = &*FIXED;
    for (name, help, histogram) in [
        (
            "wisp_activation_wait_seconds",
            "Time from acceptance to the start of the run.",
            &fixed.wait,
        ),
        (
            "wisp_activation_init_seconds",
            "Time of the start of an instance, where a run paid for one.",
            &fixed.init,
        ),
        (
            "wisp_activation_run_seconds",
            "Wall time of activations, init included.",
            &fixed.run,
        ),
        (
            "wisp_compile_seconds",
            "Time of compiling an upload.",
            &fixed.compile,
        ),
        (
            "wisp_store_commit_seconds",
            "Time of one commit of the store.",
            &fixed.commit,
        ),
        (
            "wisp_alarm_delay_seconds",
            "How much later than due the clock fired.",
            &fixed.alarm_delay,
        ),
    ] {
        histogram::print_head(&mut text, name, help);
        histogram.print(&mut text, name, "");
    }
    let name = "wisp_http_request_seconds";
    let help = "Time from a request's head to its answer's head, by route.";
    histogram::print_head(&mut text, name, help);
    for route in &fixed.requests {
        route.print(&mut text, name, &format!("route=\"{}\"", route.key()));
    }
    text
}

/// The series of one namespace and action.
///
/// Counted here and handed over when `/metrics` is asked: counting where the exporter keeps its counters would touch
/// eight lines of memory for each activation instead of one.
#[derive(Debug)]
pub(crate) struct Series {
    ended: [AtomicU64; 4],
    cpu_us: AtomicU64,
    shown: Box<Shown>,
}

/// The series as the exporter has them.
#[derive(Debug)]
struct Shown {
    ended: [Counter; 4],
    cpu_us: Counter,
}

static SERIES: LazyLock<DashMap<(Namespace, Fqn), Arc<Series>>> = LazyLock::new(DashMap::new);
static OTHER: LazyLock<Arc<Series>> =
    LazyLock::new(|| Arc::new(Series::labelled("other", "other")));

impl Series {
    /// Those of `action` invoked by `namespace`, or those all share when there are too many already.
    pub(crate) fn of(namespace: &Namespace, action: &Fqn) -> Arc<Self> {
        let key = (namespace.clone(), action.clone());
        if let Some(series) = SERIES.get(&key) {
            return Arc::clone(&series);
        }
        if SERIES.len() >= PAIRS_MAX {
            return Arc::clone(&OTHER);
        }
        let made = || Arc::new(Self::labelled(namespace.as_str(), &action.to_string()));
        Arc::clone(&SERIES.entry(key).or_insert_with(made))
    }

    fn labelled(namespace: &str, action: &str) -> Self {
        let labels = [
            ("namespace", namespace.to_owned()),
            ("action", action.to_owned()),
        ];
        let status = |status: Status| {
            let mut labels = labels.to_vec();
            labels.push(("status", status.as_str().replace(' ', "_")));
            counter!("wisp_activations_total", &labels)
        };
        let shown = Shown {
            ended: [
                status(Status::Success),
                status(Status::ApplicationError),
                status(Status::DeveloperError),
                status(Status::InternalError),
            ],
            cpu_us: counter!("wisp_activation_cpu_microseconds_total", &labels),
        };
        Self {
            ended: Default::default(),
            cpu_us: AtomicU64::new(0),
            shown: Box::new(shown),
        }
    }

    /// An activation of theirs has ended.
    pub(crate) fn ended(&self, status: Status, cpu: Duration) {
        let cpu_us = u64::try_from(cpu.as_micros()).unwrap_or(0);
        self.ended[usize::from(status.code())].fetch_add(1, Ordering::Relaxed);
        self.cpu_us.fetch_add(cpu_us, Ordering::Relaxed);
    }

    fn show(&self) {
        for (counter, count) in self.shown.ended.iter().zip(&self.ended) {
            counter.absolute(count.load(Ordering::Relaxed));
        }
        self.shown
            .cpu_us
            .absolute(self.cpu_us.load(Ordering::Relaxed));
    }
}

/// An activation has ended: how long it waited, what its start took if it had one, how long it ran.
pub(crate) fn activation(wait: Duration, init: Option<Duration>, run: Duration) {
    let fixed = &*FIXED;
    fixed.wait.record(wait);
    fixed.run.record(run);
    match init {
        Some(init) => {
            fixed.cold.increment(1);
            fixed.init.record(init);
        }
        None => fixed.warm.increment(1),
    }
}

/// An invocation was refused.
pub(crate) fn refused(reason: &'static str) {
    counter!("wisp_refused_total", "reason" => reason).increment(1);
}

/// What the cache did for a web action.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WebCache {
    /// It had the answer.
    Hit,
    /// It got the answer while this request waited.
    Shared,
    /// It keeps the answer.
    Kept,
}

/// The cache did something for a web action.
pub(crate) fn web_cache(what: WebCache) {
    static COUNTERS: LazyLock<[Counter; 3]> = LazyLock::new(|| {
        ["hit", "shared", "kept"].map(|what| counter!("wisp_web_cache_total", "outcome" => what))
    });
    COUNTERS[what as usize].increment(1);
}

/// Who fired a trigger.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// Somebody, over the API.
    Request,
    /// The clock, as a schedule says.
    Clock,
}

/// What became of a fire.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fire {
    /// It is promised.
    Accepted,
    /// No active rule listens.
    Unheard,
    /// It was too much.
    Refused,
}

/// A trigger was fired.
pub(crate) fn fired(source: Source, outcome: Fire) {
    static COUNTERS: LazyLock<[[Counter; 3]; 2]> = LazyLock::new(|| {
        ["request", "clock"].map(|source| {
            ["accepted", "unheard", "refused"].map(
                |outcome| counter!("wisp_fires_total", "source" => source, "outcome" => outcome),
            )
        })
    });
    COUNTERS[source as usize][outcome as usize].increment(1);
}

/// What became of a rule whose trigger fired.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RuleRun {
    /// Its action ran.
    Success,
    /// Its action ran and failed.
    Failure,
    /// Its action was not run.
    Refused,
}

/// A rule has had its turn.
pub(crate) fn rule_ran(outcome: RuleRun) {
    static COUNTERS: LazyLock<[Counter; 3]> = LazyLock::new(|| {
        ["success", "failure", "refused"]
            .map(|outcome| counter!("wisp_rule_runs_total", "outcome" => outcome))
    });
    COUNTERS[outcome as usize].increment(1);
}

/// A rule's action is to be run again.
pub(crate) fn rule_retry() {
    static COUNTER: LazyLock<Counter> = LazyLock::new(|| counter!("wisp_rule_retries_total"));
    COUNTER.increment(1);
}

/// What happened to a dead letter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Letter {
    /// It was made.
    Kept,
    /// It had to make room.
    Dropped,
    /// What it is about was run again.
    Replayed,
}

/// Something happened to a dead letter.
pub(crate) fn dead_letter(what: Letter) {
    static COUNTERS: LazyLock<[Counter; 3]> = LazyLock::new(|| {
        ["kept", "dropped", "replayed"]
            .map(|event| counter!("wisp_dead_letters_total", "event" => event))
    });
    COUNTERS[what as usize].increment(1);
}

/// What the clock did about a time that had come.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Alarm {
    /// It fired, so much later than due.
    Fired(Duration),
    /// It let it pass.
    Skipped,
    /// It will try again.
    Postponed,
}

/// The clock did something about a time that had come.
pub(crate) fn alarm(what: Alarm) {
    static COUNTERS: LazyLock<[Counter; 3]> = LazyLock::new(|| {
        let outcomes = ["fired", "skipped", "postponed"];
        outcomes.map(|outcome| counter!("wisp_alarms_total", "outcome" => outcome))
    });
    let index = match what {
        Alarm::Fired(late) => {
            FIXED.alarm_delay.record(late);
            0
        }
        Alarm::Skipped => 1,
        Alarm::Postponed => 2,
    };
    COUNTERS[index].increment(1);
}

/// An upload was compiled.
pub(crate) fn compiled(took: Duration) {
    FIXED.compile.record(took);
}

/// The store has committed.
pub(crate) fn committed(took: Duration) {
    FIXED.commit.record(took);
}

/// A request was answered. Both words come from closed lists.
pub(crate) fn request(route: &'static str, method: &'static str, status: u16, took: Duration) {
    type Answered = (Counter, Arc<Histogram>);
    static ANSWERED: LazyLock<DashMap<(&'static str, &'static str, u16), Answered, RandomState>> =
        LazyLock::new(DashMap::default);
    let key = (route, method, status);
    if let Some(answered) = ANSWERED.get(&key) {
        answered.0.increment(1);
        answered.1.record(took);
        return;
    }
    let made = || {
        let status = status.to_string();
        let labels = [("route", route), ("method", method), ("status", &*status)];
        let labels = labels.map(|(name, value)| metrics::Label::new(name, value.to_owned()));
        let count = counter!("wisp_http_requests_total", labels.to_vec());
        let took = FIXED.requests.entry(route).or_default();
        (count, Arc::clone(&took))
    };
    let answered = ANSWERED.entry(key).or_insert_with(made);
    answered.0.increment(1);
    answered.1.record(took);
}
