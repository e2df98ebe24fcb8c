//! Preparing source: one instance of the engine, one call, and the instance is gone.
//!
//! It runs the uploader's top level, so it has what a run has not: a thread of its own that stands back behind those that
//! serve, a short deadline, and memory of its own limit. Only a few run at one time, each namespace in its turn, and what
//! they take together is bounded by that.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::super::config::Config;
use super::super::instance::{self, Exchanged};
use super::super::limits::Denied;
use super::super::program::Linked;
use super::super::run::{End, read, until};
use super::super::turns::{For, Full, Turn, Turns};
use super::super::{Grant, InstanceLimits, LogLine, Refused};
use super::engine::Engine;
use super::package::Package;
use super::run::{TEXT_BYTES_MAX, words};

/// How often a slot is asked for when all are taken by instances, and how long in between.
const SLOT_TRIES: usize = 50;
const SLOT_WAIT: Duration = Duration::from_millis(20);
/// How much the thread stands back behind others.
const NICENESS: i32 = 5;
/// Bytes of what the top level printed that are kept, for when that is all there is to say.
const LOG_BYTES_MAX: usize = 16 << 10;
/// Lines of it that are shown.
const LOG_LINES_MAX: usize = 10;

/// Prepares source, a few pieces at once.
pub(in super::super) struct Prepare {
    turns: Turns,
    timeout: Duration,
    memory_bytes_max: usize,
    /// How a slot is had when none is free.
    pub(in super::super) full: Arc<OnceLock<GiveUp>>,
}

/// Memory that is bounded by the limit of the one instance that asks for it.
struct Bounded;

#[async_trait]
impl Grant for Bounded {
    fn try_grow(&self, _bytes: usize) -> bool {
        true
    }
    async fn grow(&self, _bytes: usize) -> bool {
        true
    }
}

/// Gives up an idle instance, if there is one.
pub(in super::super) type GiveUp = Box<dyn Fn() -> bool + Send + Sync>;

/// What one piece is prepared with.
struct Job {
    /// The engine, with no code of anybody's.
    linked: Arc<Linked>,
    engine: Arc<Engine>,
    package: Vec<u8>,
    timeout: Duration,
    memory_bytes_max: usize,
    full: Arc<OnceLock<GiveUp>>,
}

impl Prepare {
    /// With the settings of `config`.
    pub(in super::super) fn new(config: &Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let parallel = config.prepare_parallel_max.unwrap_or(cores / 2).max(1);
        Self {
            turns: Turns::new(parallel, config.prepare_waiting_max),
            timeout: Duration::from_millis(config.prepare_timeout_ms),
            memory_bytes_max: config.prepare_memory_mib_max << 20,
            full: Arc::default(),
        }
    }

    /// The blob that the engine of `linked` makes of a package, when it is the turn of `whom`.
    ///
    /// # Errors
    /// With the engine's words when it refuses the source, or with ours when the source took too much or ended the engine.
    pub(in super::super) async fn blob(
        &self,
        whom: &For,
        linked: Arc<Linked>,
        engine: Arc<Engine>,
        package: Package,
    ) -> Result<Vec<u8>, Refused> {
        let turn = self.turns.take(whom).await.map_err(|Full| {
            Refused::Unavailable(
                "Too many uploads are waiting to be prepared; try again in a few seconds.".into(),
            )
        })?;
        let job = Job {
            linked,
            engine,
            package: package.bytes,
            timeout: self.timeout,
            memory_bytes_max: self.memory_bytes_max,
            full: Arc::clone(&self.full),
        };
        on_its_own_thread(job, turn).await
    }
}

/// The place goes with the thread: a client that leaves frees nothing yet.
async fn on_its_own_thread(job: Job, turn: Turn) -> Result<Vec<u8>, Refused> {
    let failed =
        |why: &dyn std::fmt::Display| Refused::Unavailable(format!("Preparing failed: {why}."));
    let (send, receive) = oneshot::channel();
    let runtime = Handle::current();
    let thread = std::thread::Builder::new().name("wisp-prepare".into());
    let spawned = thread.spawn(move || {
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::debug!(%error, "source is prepared at the priority of everything else");
        }
        let done = runtime.block_on(job.run());
        drop(turn);
        // Whoever asked may have gone.
        drop(send.send(done));
    });
    spawned.map_err(|error| failed(&error))?;
    receive.await.map_err(|error| failed(&error))?
}

impl Job {
    async fn run(self) -> Result<Vec<u8>, Refused> {
        for _ in 0..SLOT_TRIES {
            if let Some(done) = self.attempt().await {
                return done;
            }
            // Idle instances may have them all, for as long as they are kept.
            if !self.full.get().is_some_and(|give_up| give_up()) {
                sleep(SLOT_WAIT).await;
            }
        }
        Err(Refused::Unavailable(
            "All instance slots are in use; try again later.".into(),
        ))
    }

    /// `None` when there was no slot.
    async fn attempt(&self) -> Option<Result<Vec<u8>, Refused>> {
        let limits = InstanceLimits {
            memory_bytes_max: self.memory_bytes_max,
            env: Arc::from([]),
            deadline: Instant::now() + self.timeout,
            log_bytes_max: LOG_BYTES_MAX,
            serves: None,
        };
        let mut store = instance::store(&self.linked, &limits, Arc::new(Bounded));
        let prepared = until(limits.deadline, self.call(&mut store)).await;
        let denied = store.data().meter.denied();
        let logs = store.data_mut().end().lines;
        let refused = |text: String| Refused::Invalid(with_logs(text, &logs));
        Some(match prepared {
            None => Err(refused(format!(
                "The code's top level did not end within {} s. What takes long belongs into the function that is called.",
                self.timeout.as_secs_f32()
            ))),
            Some(Ok(Ok(answer))) => answer_of(&answer),
            Some(Ok(Err(text))) => Err(match denied {
                Some(_) => refused(self.memory_text()),
                None => refused(format!("The engine could not take the code: {text}")),
            }),
            Some(Err(error)) => match (read(&error), denied) {
                (End::NoSlot(_), _) => return None,
                (End::Exit(status), None) => Err(refused(format!(
                    "The code's top level exited with status {status}."
                ))),
                (End::Died(text), None) => {
                    let what = "The code's top level ended the engine";
                    Err(refused(format!("{what}: {text}")))
                }
                (_, Some(Denied::Limit | Denied::Room)) => Err(refused(self.memory_text())),
            },
        })
    }

    fn memory_text(&self) -> String {
        format!(
            "The code's top level took more than {} MiB of memory.",
            self.memory_bytes_max >> 20
        )
    }

    /// The engine's answer, or how it broke the ABI.
    async fn call(
        &self,
        store: &mut wasmtime::Store<super::super::host::Host>,
    ) -> wasmtime::Result<Result<Vec<u8>, String>> {
        let calls = instance::bring_up(store, &self.linked).await?;
        let prepare = calls
            .function(store, &self.engine.prepare)?
            .typed(&*store)?;
        Ok(
            match calls.exchange(store, &prepare, &self.package).await? {
                Exchanged::Broken(text) => Err(text),
                Exchanged::Answer(range) => Ok(calls
                    .memory
                    .data(&*store)
                    .get(range)
                    .unwrap_or_default()
                    .to_vec()),
            },
        )
    }
}

/// Byte 0 is 0 and the blob follows, or it is 1 and words for the uploader do.
fn answer_of(answer: &[u8]) -> Result<Vec<u8>, Refused> {
    match answer.split_first() {
        Some((0, blob)) => Ok(blob.to_vec()),
        Some((1, text)) => Err(Refused::Invalid(words(text))),
        _ => Err(Refused::Unavailable(
            "The language's engine gave an answer that nobody understands.".into(),
        )),
    }
}

/// The last lines the code printed tell where it was.
fn with_logs(mut text: String, logs: &[LogLine]) -> String {
    let from = logs.len().saturating_sub(LOG_LINES_MAX);
    for (index, line) in logs.iter().skip(from).enumerate() {
        if text.len() + line.text.len() > TEXT_BYTES_MAX {
            break;
        }
        text.push_str(if index == 0 {
            "\nThe last it printed:\n  "
        } else {
            "\n  "
        });
        text.push_str(&line.text);
    }
    text
}
