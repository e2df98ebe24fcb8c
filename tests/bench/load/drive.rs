//! Load: a closed loop for rates, an open loop for latency, and one of each for setting things up.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, format_err};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Call, Calls, Connection};
use crate::pacer;
use crate::report::Progress;

/// What a measurement saw.
pub(crate) struct Sample {
    /// Right answers per second.
    pub(crate) rate: f64,
    /// Nanoseconds, of right answers.
    pub(crate) latency: Histogram<u64>,
    /// Answers that were not what they had to be.
    pub(crate) errors: u64,
    /// The first of them.
    pub(crate) first_error: Option<String>,
}

impl Sample {
    /// The sample, if all was answered as it had to be.
    pub(crate) fn checked(self) -> Result<Self> {
        if let Some(first) = &self.first_error {
            bail!(
                "{} of {} calls failed; the first: {first}",
                self.errors,
                self.errors + self.latency.len()
            );
        }
        Ok(self)
    }

    /// A quantile, milliseconds.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.latency, quantile)
    }
}

/// A quantile in milliseconds of a histogram in nanoseconds.
pub(crate) fn quantile_ms(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e6
}

/// An empty histogram of nanoseconds, up to ten minutes.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(600_000_000_000, 3)?)
}

/// Nanoseconds since `from`.
pub(crate) fn nanos_since(from: Instant) -> u64 {
    u64::try_from(from.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// What the connections of one measurement share.
struct Tally {
    latency: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

impl Tally {
    fn new() -> Result<Arc<Mutex<Self>>> {
        Ok(Arc::new(Mutex::new(Self {
            latency: histogram()?,
            errors: 0,
            first_error: None,
        })))
    }

    fn note<T>(&mut self, answer: Result<T>, from: Instant) {
        match answer {
            Ok(_) => self.latency.saturating_record(nanos_since(from)),
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }

    fn sample(tally: &Mutex<Self>, took: Duration) -> Sample {
        let tally = tally.lock();
        Sample {
            rate: tally.latency.len() as f64 / took.as_secs_f64(),
            latency: tally.latency.clone(),
            errors: tally.errors,
            first_error: tally.first_error.clone(),
        }
    }
}

/// `count` open connections.
pub(crate) async fn connect(addr: SocketAddr, count: usize) -> Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(Connection::open(addr).await?);
    }
    Ok(connections)
}

/// Closed loop: each of `connections` sends the next call as soon as it has the answer to the last, for `length`.
/// Calls are taken in turn.
pub(crate) async fn closed(
    addr: SocketAddr,
    calls: &Calls,
    connections: usize,
    length: Duration,
) -> Result<Sample> {
    closed_up_to(usize::MAX, addr, calls, connections, length).await
}

/// As [`closed`], and at most `most` calls.
pub(crate) async fn closed_up_to(
    most: usize,
    addr: SocketAddr,
    calls: &Calls,
    connections: usize,
    length: Duration,
) -> Result<Sample> {
    let open = connect(addr, connections).await?;
    let tally = Tally::new()?;
    let calls = Arc::new(calls.clone());
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in open {
        let (calls, tally, next) = (calls.clone(), tally.clone(), next.clone());
        tasks.spawn(async move {
            while start.elapsed() < length {
                let done = next.fetch_add(1, Ordering::Relaxed);
                if done >= most {
                    return;
                }
                let call = calls.next(done);
                let sent = Instant::now();
                let answer = match &call {
                    Ok(call) => connection.call(call).await,
                    Err(error) => Err(format_err!("{error:#}")),
                };
                tally.lock().note(answer, sent);
            }
        });
    }
    tasks.join_all().await;
    Ok(Tally::sample(&tally, start.elapsed()))
}

/// Connections of an open loop: those that wait for work, or work that waits for them.
struct Lanes {
    idle: Vec<Connection>,
    late: VecDeque<Instant>,
}

/// Open loop: a call is due every `1 / rate` seconds, whatever became of those before; latency counts from then.
pub(crate) async fn open(
    addr: SocketAddr,
    call: &Call,
    connections: usize,
    rate: f64,
    length: Duration,
) -> Result<Sample> {
    open_after(Duration::ZERO, addr, call, connections, rate, length).await
}

/// As [`open`]; what is due in the first `lead` is sent and not counted: that is when all connections are new.
pub(crate) async fn open_after(
    lead: Duration,
    addr: SocketAddr,
    call: &Call,
    connections: usize,
    rate: f64,
    length: Duration,
) -> Result<Sample> {
    let idle = connect(addr, connections).await?;
    let lanes = Arc::new(Mutex::new(Lanes {
        idle,
        late: VecDeque::new(),
    }));
    let call = Arc::new(call.clone());
    let tally = Tally::new()?;
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    let counted = start + lead;
    let mut ticks = pacer::ticks(start, rate, lead + length);
    while let Some(due) = ticks.recv().await {
        let idle = {
            let mut lanes = lanes.lock();
            let idle = lanes.idle.pop();
            if idle.is_none() {
                lanes.late.push_back(due);
            }
            idle
        };
        if let Some(connection) = idle {
            tasks.spawn(lane(
                connection,
                (due, counted),
                call.clone(),
                lanes.clone(),
                tally.clone(),
            ));
        }
        while tasks.try_join_next().is_some() {}
    }
    tasks.join_all().await;
    Ok(Tally::sample(&tally, counted.elapsed()))
}

/// Sends what is due, then what came due meanwhile and found no connection; then the connection is idle.
async fn lane(
    mut connection: Connection,
    (mut due, counted): (Instant, Instant),
    call: Arc<Call>,
    lanes: Arc<Mutex<Lanes>>,
    tally: Arc<Mutex<Tally>>,
) {
    loop {
        let answer = connection.call(&call).await;
        if due >= counted || answer.is_err() {
            tally.lock().note(answer, due);
        }
        let mut lanes = lanes.lock();
        match lanes.late.pop_front() {
            Some(late) => due = late,
            None => {
                lanes.idle.push(connection);
                return;
            }
        }
    }
}

/// Sends every call once over `connections`; the first that is not answered as it must be ends it.
pub(crate) async fn each(
    addr: SocketAddr,
    calls: Vec<Call>,
    connections: usize,
    what: &str,
) -> Result<()> {
    let progress = Arc::new(Progress::new(what, calls.len()));
    let left = Arc::new(Mutex::new(VecDeque::from(calls)));
    let mut tasks = JoinSet::new();
    for mut connection in connect(addr, connections).await? {
        let (left, progress) = (left.clone(), progress.clone());
        tasks.spawn(async move {
            loop {
                let call = left.lock().pop_front();
                let Some(call) = call else { return Ok(()) };
                connection.call(&call).await?;
                progress.step();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        let done: Result<()> = done?;
        done.with_context(|| what.to_owned())?;
    }
    Ok(())
}
