//! A scripted sandbox, for tests of pool, worker and scheduler: a guest that is slow, dies or eats memory on demand,
//! without compiling anything. Time is tokio's, so `tokio::time::pause` moves it.
//!
//! A program is the digest of its name; [`Fake::add`] gives it a [`Script`]. Code that [`Sandbox::prepare`] is given
//! is looked up by the same digest, so "upload `hello`" means `prepare("hello")`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Abi, CodeSource, Grant, HostError, Input, Instance, InstanceLimits, LoadError, LogLine,
    Occupancy, Outcome, Prepared, Program, Refused, Run, Sandbox, Source, StartError, Started,
    Stream, Traffic,
};
use crate::model::Digest;

/// What a program does. Start from `Script::default()` (answers `{}` at once) and change what matters.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) abi: Abi,
    pub(crate) memory_bytes_min: usize,
    /// How long linking takes, when it was not linked yet.
    pub(crate) load_for: Duration,
    /// How long a start takes.
    pub(crate) start_for: Duration,
    /// What the start ends in; `None` is a good start. For `TimedOut` set `start_for` beyond the deadline instead.
    pub(crate) start_outcome: Option<Outcome>,
    /// How long a run takes, unless its deadline is sooner.
    pub(crate) run_for: Duration,
    /// Bytes each run adds to what the instance holds.
    pub(crate) grow_bytes: usize,
    /// What a run ends in.
    pub(crate) outcome: Arc<dyn Fn(&Input) -> Outcome + Send + Sync>,
    /// Whether the host itself fails instead.
    pub(crate) host_error: bool,
    /// Lines each run writes to stdout.
    pub(crate) logs: Vec<String>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            abi: Abi::Core,
            memory_bytes_min: 64 << 10,
            load_for: Duration::ZERO,
            start_for: Duration::ZERO,
            start_outcome: None,
            run_for: Duration::ZERO,
            grow_bytes: 0,
            outcome: Arc::new(|_| Outcome::Answered(Bytes::from_static(b"{}"))),
            host_error: false,
            logs: Vec::new(),
        }
    }
}

impl Script {
    /// Answers `json` at once.
    pub(crate) fn answers(json: &'static str) -> Self {
        Self::ends(Outcome::Answered(Bytes::from_static(json.as_bytes())))
    }

    /// Answers its own parameters.
    pub(crate) fn echoes() -> Self {
        Self {
            outcome: Arc::new(|input| Outcome::Answered(input.params.clone())),
            ..Self::default()
        }
    }

    /// Ends in `outcome` at once.
    pub(crate) fn ends(outcome: Outcome) -> Self {
        Self {
            outcome: Arc::new(move |_| outcome.clone()),
            ..Self::default()
        }
    }

    /// Answers `{}` after `run_for`.
    pub(crate) fn takes(run_for: Duration) -> Self {
        Self {
            run_for,
            ..Self::default()
        }
    }
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Programs linked because they were not.
    pub(crate) loads: usize,
    /// Instances started.
    pub(crate) starts: usize,
    /// Instances alive now.
    pub(crate) live: usize,
    /// Most instances alive at one time.
    pub(crate) live_most: usize,
    /// Runs begun.
    pub(crate) runs: usize,
    /// Runs going on now.
    pub(crate) running: usize,
    /// Most runs going on at one time.
    pub(crate) running_most: usize,
    /// How often one was told to rest.
    pub(crate) rests: usize,
}

/// A sandbox that does what its scripts say.
#[derive(Default)]
pub(crate) struct Fake {
    slots: usize,
    scripts: Mutex<HashMap<Digest, Script>>,
    linked: Mutex<HashMap<Digest, Arc<FakeProgram>>>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    seen: Mutex<Seen>,
    slots_used: AtomicUsize,
}

impl Tally {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock();
        change(&mut seen);
        seen.live_most = seen.live_most.max(seen.live);
        seen.running_most = seen.running_most.max(seen.running);
    }
}

impl Fake {
    /// A sandbox with room for `slots` instances and no program.
    pub(crate) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            slots,
            ..Self::default()
        })
    }

    /// The digest of the program called `name`.
    pub(crate) fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// Makes (or changes) the program called `name`; it is not linked until it is loaded.
    pub(crate) fn add(&self, name: &str, script: Script) -> Digest {
        let digest = Self::digest(name);
        self.scripts.lock().insert(digest, script);
        self.linked.lock().remove(&digest);
        digest
    }

    /// What has happened so far.
    pub(crate) fn seen(&self) -> Seen {
        *self.tally.seen.lock()
    }

    fn link(&self, program: &Digest, script: Script) -> Arc<FakeProgram> {
        let mut linked = self.linked.lock();
        let entry = linked.entry(*program).or_insert_with(|| {
            self.tally.note(|seen| seen.loads += 1);
            Arc::new(FakeProgram {
                script,
                slots: self.slots,
                tally: Arc::clone(&self.tally),
            })
        });
        Arc::clone(entry)
    }
}

#[async_trait]
impl Sandbox for Fake {
    async fn prepare(&self, source: Source) -> Result<Prepared, Refused> {
        let code = source.code;
        let program = Self::digest(&code);
        let script = self.scripts.lock().get(&program).cloned();
        let script =
            script.ok_or_else(|| Refused::Invalid(format!("the script has no `{code}`")))?;
        let abi = script.abi;
        self.link(&program, script);
        Ok(Prepared {
            program,
            abi,
            size: code.len(),
            compiled: true,
        })
    }

    fn linked(&self, program: &Digest) -> Option<Arc<dyn Program>> {
        let found = self.linked.lock().get(program).cloned()?;
        Some(found)
    }

    async fn load(
        &self,
        program: &Digest,
        code: &(dyn CodeSource + Sync),
    ) -> Result<Arc<dyn Program>, LoadError> {
        if let Some(found) = self.linked(program) {
            return Ok(found);
        }
        let script = self.scripts.lock().get(program).cloned();
        let Some(script) = script else {
            return Err(match code.source().await {
                Some(_) => Refused::Invalid("not in the script".into()).into(),
                None => LoadError::Host("the code is gone".into()),
            });
        };
        sleep(script.load_for).await;
        Ok(self.link(program, script))
    }

    fn occupancy(&self) -> Occupancy {
        let linked = self.linked.lock().len();
        Occupancy {
            programs: linked,
            program_bytes: linked << 10,
            slots_used: self.tally.slots_used.load(Ordering::Relaxed),
            slots: self.slots,
        }
    }
}

struct FakeProgram {
    script: Script,
    slots: usize,
    tally: Arc<Tally>,
}

#[async_trait]
impl Program for FakeProgram {
    fn memory_bytes_min(&self) -> usize {
        self.script.memory_bytes_min
    }

    async fn instantiate(
        &self,
        limits: InstanceLimits,
        grant: Arc<dyn Grant>,
    ) -> Result<Started, StartError> {
        let slot = Slot::take(&self.tally, self.slots)?;
        let in_time = within(self.script.start_for, limits.deadline).await;
        let failed = match &self.script.start_outcome {
            _ if !in_time => Some(Outcome::TimedOut),
            outcome => outcome.clone(),
        };
        if let Some(outcome) = failed {
            let run = ended(outcome, &self.script, self.script.memory_bytes_min);
            return Err(StartError::Guest(Box::new(run)));
        }
        let instance = FakeInstance {
            script: self.script.clone(),
            held: self.script.memory_bytes_min,
            limits,
            grant,
            sound: true,
            slot,
        };
        Ok(Started {
            instance: Box::new(instance),
            logs: Vec::new(),
        })
    }
}

/// One slot; gives it back when dropped.
struct Slot(Arc<Tally>);

impl Slot {
    fn take(tally: &Arc<Tally>, slots: usize) -> Result<Self, StartError> {
        let taken = tally
            .slots_used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                (used < slots).then_some(used + 1)
            });
        if taken.is_err() {
            return Err(StartError::NoSlot(slots));
        }
        tally.note(|seen| {
            seen.starts += 1;
            seen.live += 1;
        });
        Ok(Self(Arc::clone(tally)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.slots_used.fetch_sub(1, Ordering::Relaxed);
        self.0.note(|seen| seen.live -= 1);
    }
}

struct FakeInstance {
    script: Script,
    held: usize,
    limits: InstanceLimits,
    grant: Arc<dyn Grant>,
    sound: bool,
    slot: Slot,
}

/// A run going on; counted until it is dropped, however it ends.
struct Running<'a>(&'a Tally);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.note(|seen| seen.running -= 1);
    }
}

impl FakeInstance {
    async fn grow(&mut self) -> Option<Outcome> {
        let bytes = self.script.grow_bytes;
        if bytes == 0 {
            return None;
        }
        if self.held + bytes > self.limits.memory_bytes_max {
            return Some(Outcome::OutOfMemory);
        }
        if !self.grant.try_grow(bytes) && !self.grant.grow(bytes).await {
            return Some(Outcome::NoRoom);
        }
        self.held += bytes;
        None
    }
}

#[async_trait]
impl Instance for FakeInstance {
    async fn run(&mut self, input: Input) -> Result<Run, HostError> {
        let tally = Arc::clone(&self.slot.0);
        tally.note(|seen| {
            seen.runs += 1;
            seen.running += 1;
        });
        let _running = Running(&tally);
        // Until it ends well it counts as cut off, so a dropped run leaves an unsound instance.
        self.sound = false;
        if self.script.host_error {
            return Err(HostError("the script says so".into()));
        }
        let grown = self.grow().await;
        let in_time = within(self.script.run_for, input.deadline).await;
        let outcome = match grown {
            Some(outcome) => outcome,
            None if !in_time => Outcome::TimedOut,
            None => (self.script.outcome)(&input),
        };
        self.sound = matches!(
            outcome,
            Outcome::Answered(_) | Outcome::Failed { exit: false, .. }
        );
        Ok(ended(outcome, &self.script, self.held))
    }

    fn reusable(&self) -> bool {
        self.sound && matches!(self.script.abi, Abi::Core | Abi::Handler)
    }

    fn memory_bytes(&self) -> usize {
        self.held
    }

    fn rest(&mut self) -> bool {
        self.slot.0.note(|seen| seen.rests += 1);
        true
    }
}

/// Sleeps for `duration` or until `deadline`; says whether the duration was over first.
async fn within(duration: Duration, deadline: Instant) -> bool {
    let end = Instant::now() + duration;
    sleep_until(end.min(deadline)).await;
    end <= deadline
}

fn ended(outcome: Outcome, script: &Script, held: usize) -> Run {
    let lines = script.logs.iter().map(|text| LogLine {
        at: 0,
        stream: Stream::Stdout,
        text: text.clone(),
    });
    Run {
        outcome,
        logs: lines.collect(),
        logs_truncated: false,
        traffic: Traffic::default(),
        peak_memory_bytes: held,
    }
}
