//! A place on its way to a run: a ticket becomes a lease, a lease is given back or dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Pool;
use super::lane::{Facts, Idle, Lane};
use super::memory::Held;
use crate::model::Digest;
use crate::sandbox::{
    CodeSource, Grant, HostError, Input, Instance, InstanceLimits, LoadError, LogLine, Outcome,
    Program, Refused, Run, Serves, StartError, Started,
};

/// How often a start that found no free slot gives up an idle instance and tries again.
const SLOT_TRIES: usize = 50;
/// How long it waits in between when there was none to give up.
const SLOT_WAIT: Duration = Duration::from_millis(20);

/// One run counted against its action's limit, until it is dropped.
pub(super) struct Counted {
    lane: Option<Arc<Lane>>,
}

impl Counted {
    /// For a run that `lane` has counted.
    pub(super) fn new(lane: Arc<Lane>) -> Self {
        Self { lane: Some(lane) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            lane.release();
        }
    }
}

/// Why a start gave no instance.
#[derive(Debug)]
pub(crate) enum StartFailure {
    /// The guest failed in its own start: an outcome.
    Guest(Box<Run>),
    /// The action's code cannot be had or compiled any more: an outcome, too.
    Code(String),
    /// The node has no slot or no memory left, although idle instances were given up.
    NoRoom,
    /// Ours.
    Host(String),
}

/// What a start is given besides its place.
pub(crate) struct Start<'a> {
    /// Where the code is, should the artefact be gone.
    pub(crate) code: &'a (dyn CodeSource + Sync),
    /// Bytes the instance may hold, by the action's limit.
    pub(crate) memory_bytes_max: usize,
    /// When it must be over.
    pub(crate) deadline: Instant,
    /// Bytes of log kept.
    pub(crate) log_bytes_max: usize,
    /// What the instance serves.
    pub(crate) serves: Option<Serves>,
}

/// A place without an instance yet: the run is counted, its memory taken.
pub(crate) struct Ticket {
    pub(super) pool: Pool,
    pub(super) program: Digest,
    pub(super) held: Arc<Held>,
    pub(super) facts: Arc<Facts>,
    pub(super) run: Counted,
}

impl Ticket {
    /// What every record of the action says.
    pub(crate) fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// Loads the program if need be and starts an instance; with it, what it wrote while it started.
    pub(crate) async fn start(
        self,
        start: Start<'_>,
    ) -> Result<(Lease, Vec<LogLine>), StartFailure> {
        let began = Instant::now();
        let program = self.program(&start).await?;
        let bytes_min = program.memory_bytes_min();
        if bytes_min > start.memory_bytes_max {
            // It never fits, however much the node has.
            return Err(StartFailure::Guest(Box::new(Run::without(
                Outcome::OutOfMemory,
            ))));
        }
        let held = self.held.bytes();
        if bytes_min > held {
            let more = bytes_min - held;
            if !self.held.try_grow(more) && !self.held.grow(more).await {
                return Err(StartFailure::NoRoom);
            }
        } else {
            self.held.shrink_to(bytes_min);
        }
        let Started { instance, logs } = self.instantiate(&*program, &start).await?;
        if let Some(lane) = &self.run.lane {
            let took = began.elapsed().as_micros();
            lane.started(bytes_min, u64::try_from(took).unwrap_or(u64::MAX));
        }
        let Self {
            held, facts, run, ..
        } = self;
        Ok((
            Lease {
                instance: Some(instance),
                held,
                facts,
                run,
            },
            logs,
        ))
    }

    async fn program(&self, start: &Start<'_>) -> Result<Arc<dyn Program>, StartFailure> {
        let sandbox = &self.pool.shared.sandbox;
        if let Some(program) = sandbox.linked(&self.program) {
            return Ok(program);
        }
        match sandbox.load(&self.program, start.code).await {
            Ok(program) => Ok(program),
            // No fault of the code's.
            Err(LoadError::Refused(Refused::Unavailable(cause))) => Err(StartFailure::Host(cause)),
            Err(LoadError::Refused(refused)) => Err(StartFailure::Code(refused.to_string())),
            Err(LoadError::Host(cause)) => Err(StartFailure::Host(cause)),
        }
    }

    /// Slots are shared by all actions: when none is free, an idle instance goes.
    async fn instantiate(
        &self,
        program: &dyn Program,
        start: &Start<'_>,
    ) -> Result<Started, StartFailure> {
        for _ in 0..SLOT_TRIES {
            let limits = InstanceLimits {
                memory_bytes_max: start.memory_bytes_max,
                env: Arc::clone(&self.facts.env),
                deadline: start.deadline,
                log_bytes_max: start.log_bytes_max,
                serves: start.serves.clone(),
            };
            let grant: Arc<dyn Grant> = Arc::clone(&self.held) as _;
            match program.instantiate(limits, grant).await {
                Ok(started) => return Ok(started),
                Err(StartError::NoSlot(_)) => {
                    if !self.pool.shared.evict(0, 1) {
                        tokio::time::sleep(SLOT_WAIT).await;
                    }
                }
                Err(StartError::Guest(run)) => return Err(StartFailure::Guest(run)),
                Err(StartError::Host(cause)) => return Err(StartFailure::Host(cause)),
            }
        }
        Err(StartFailure::NoRoom)
    }
}

/// A run in progress.
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Result<Run, HostError>> + Send + 'a>>;

/// An instance, for one run. Dropped, it is destroyed; [`Lease::give_back`] keeps it warm.
pub(crate) struct Lease {
    // Declared in the order they must go: the instance, then its memory, then its count.
    instance: Option<Box<dyn Instance>>,
    held: Arc<Held>,
    facts: Arc<Facts>,
    run: Counted,
}

impl Lease {
    pub(super) fn of(idle: Idle, facts: Arc<Facts>, run: Counted) -> Self {
        Self {
            instance: Some(idle.instance),
            held: idle.held,
            facts,
            run,
        }
    }

    /// What every record of the action says.
    pub(crate) fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// Runs one activation; `None` when the instance was given back before. The guest's failures are outcomes, `Err` is
    /// the host's.
    pub(crate) fn run(&mut self, input: Input) -> Option<Running<'_>> {
        Some(self.instance.as_mut()?.run(input))
    }

    /// Keeps the instance for the next run if it may have one, destroys it otherwise.
    pub(crate) fn give_back(self) {
        let Self {
            instance,
            held,
            facts,
            mut run,
        } = self;
        let Some(instance) = instance else {
            return;
        };
        if !facts.reusable || !instance.reusable() {
            // The instance first, then its memory, then its count.
            drop(instance);
            drop(held);
            drop(run);
            return;
        }
        if let Some(lane) = run.lane.take() {
            drop(lane.give_back(&facts, instance, held));
        }
    }
}
