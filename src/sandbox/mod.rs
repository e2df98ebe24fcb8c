//! The sandbox: turns uploaded bytes into programs, programs into instances, and runs them. The only module that
//! names wasmtime; nothing else can run a guest.
//!
//! `code` (what are these bytes) → `compile` (in a process of its own) → `cache` (authenticated files) → `program`
//! (mapped and linked) → `instance` (a store in a pooled slot) → [`Instance::run`]. Source takes the same way, but that it
//! is not compiled: `language` has its engine prepare it.
//!
//! Invariants:
//! - a guest's failure is a value ([`Outcome`]); `Err` is the host's alone;
//! - guests yield to the executor at every epoch tick (about 1 ms), so a poll of [`Instance::run`] is never long;
//! - memory is granted before it is given to a guest ([`Grant`]), and counts everything the store holds;
//! - an instance serves one action of one namespace until it is dropped; its slot is zeroed before it is used again.

mod abi;
mod cache;
mod code;
mod command;
mod compile;
mod component;
mod config;
pub(crate) mod egress;
mod engine;
mod epoch;
#[cfg(test)]
pub(crate) mod fake;
mod files;
mod host;
mod http;
mod instance;
mod keyvalue;
mod language;
mod limits;
mod output;
mod p2;
mod prefault;
mod program;
mod run;
mod service;
mod shared;
mod stacks;
#[cfg(test)]
mod tests;
mod turns;
mod wasi;

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::ahead::Ahead;
use crate::model::exchange::Exchange;
use crate::model::kind::Language;
use crate::model::time::iso8601;
use crate::model::{ActivationId, Digest, Namespace};

pub(crate) use compile::compile_child;
pub(crate) use config::{Compiler, Config};
pub(crate) use keyvalue::Serves;
#[cfg(test)]
pub(crate) use language::EngineModules;
pub(crate) use service::Wasmtime;
pub(crate) use shared::{Artefacts, Shared};

/// The hidden argument that turns this executable into a compiler, see [`compile_child`].
pub(crate) const COMPILE_ARG: &str = "__compile";

/// How a program is called; decided from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Abi {
    /// Core module with `memory`, `wisp_alloc` and `wisp_run`; instances are reused.
    Core,
    /// Component that exports `wisp:action/handler`; instances are reused.
    Handler,
    /// Preview 1 module with `_start`; one instance per activation.
    Command,
    /// Component that exports `wasi:cli/run`; one instance per activation.
    CommandComponent,
    /// Component that exports `wasi:http/incoming-handler`; one instance per activation.
    Http,
    /// Source of a language, run by its engine; instances are reused.
    Language(Language),
}

/// Code as it was uploaded, and what was said of it.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// For whom it is made a program: among those that wait, each namespace has its turn.
    pub(crate) namespace: Option<Namespace>,
    /// Concrete kind: whether it is WebAssembly or the source of a language.
    pub(crate) kind: String,
    /// Entry point, when the client named one; WebAssembly has none.
    pub(crate) main: Option<String>,
    /// The string as uploaded.
    pub(crate) code: Arc<str>,
}

#[cfg(test)]
impl<T: Into<Arc<str>>> From<T> for Source {
    fn from(code: T) -> Self {
        Self {
            namespace: None,
            kind: "wasm:1".to_owned(),
            main: None,
            code: code.into(),
        }
    }
}

/// What an upload was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prepared {
    /// Names the program from now on: the digest of the module's bytes, unpacked and decoded.
    pub(crate) program: Digest,
    pub(crate) abi: Abi,
    /// Bytes of the module.
    pub(crate) size: usize,
    /// Whether it had to be compiled, or an artefact was at hand.
    pub(crate) compiled: bool,
}

/// Why an upload is refused: the uploader's fault, said so that it can be mended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// No module, an ABI nobody knows, imports nobody provides, a zip that is no archive of one module, …
    #[error("{0}")]
    Invalid(String),
    /// Compiling took more time or memory than it may.
    #[error("{0}")]
    TooCostly(String),
    /// The compiler is busy or broken: our fault; try again.
    #[error("{0}")]
    Unavailable(String),
}

/// Why a program could not be brought to where it can run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The code cannot be compiled: the action's fault (it was checked at upload, so rare).
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Ours.
    #[error("{0}")]
    Host(String),
}

/// Why there is no instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Every slot of the program's pool is taken; give up an idle instance and try again.
    #[error("all {0} slots of this size are in use")]
    NoSlot(usize),
    /// The guest failed in its own start (trap, time, memory): an outcome, with what it logged.
    #[error("the guest failed to start")]
    Guest(Box<Run>),
    /// Ours.
    #[error("{0}")]
    Host(String),
}

/// A failure of the host during a run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HostError(pub(crate) String);

/// Memory a store may take, asked before it is given. Implemented by the pool; given back when it is dropped.
#[async_trait]
pub(crate) trait Grant: Send + Sync + 'static {
    /// Takes `bytes` more if that is possible at once.
    fn try_grow(&self, bytes: usize) -> bool;
    /// Takes `bytes` more, waiting a bounded time for others to give up theirs; `false` when they did not.
    async fn grow(&self, bytes: usize) -> bool;
}

/// What one instance may use and how it may be told of its surroundings.
#[derive(Debug, Clone)]
pub(crate) struct InstanceLimits {
    /// Bytes for everything the store holds: all memories, tables, and the host's share.
    pub(crate) memory_bytes_max: usize,
    /// Environment at init: `init` parameters and the `__OW_*` that do not change between runs.
    pub(crate) env: Arc<[(String, String)]>,
    /// When its start must be over.
    pub(crate) deadline: Instant,
    /// Bytes of log kept of the start.
    pub(crate) log_bytes_max: usize,
    /// What it serves, for what is kept by namespace or said of the action.
    pub(crate) serves: Option<Serves>,
}

/// One activation's input.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    /// Which activation it is.
    pub(crate) id: ActivationId,
    /// A JSON object, UTF-8.
    pub(crate) params: Bytes,
    /// What this activation is called: `__OW_ACTIVATION_ID` and the like, over the instance's own environment.
    pub(crate) env: Vec<(Cow<'static, str>, String)>,
    /// When it must be over.
    pub(crate) deadline: Instant,
    /// Bytes of log kept; 0 collects none.
    pub(crate) log_bytes_max: usize,
    /// Bytes of result read from the guest.
    pub(crate) result_bytes_max: usize,
    /// The request to be answered, for a program that speaks HTTP and is called by it.
    pub(crate) exchange: Option<Arc<Exchange>>,
}

/// Where a log line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// One line a guest wrote, without its line end; bytes that are no UTF-8 are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    /// Nanoseconds since 1970.
    pub(crate) at: u64,
    pub(crate) stream: Stream,
    pub(crate) text: String,
}

impl LogLine {
    /// As records have it: `<stamp> <stream>: <text>`.
    pub(crate) fn stamped(&self) -> String {
        let stream = match self.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        format!("{} {stream}: {}", iso8601(self.at), self.text)
    }
}

/// What the guest did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It answered these bytes; whether they are JSON is not yet known.
    Answered(Bytes),
    /// It answered `err` (handler), or ended with a non-zero status after printing these bytes (command).
    Failed { answer: Bytes, exit: bool },
    /// It answered more than it may: how many bytes, and the first of them.
    TooLarge { size: usize, prefix: Bytes },
    /// It trapped, broke the ABI, or ended without an answer; the words are for the log.
    Died(String),
    /// Its deadline passed.
    TimedOut,
    /// It wanted more memory than its limit.
    OutOfMemory,
    /// It wanted memory within its limit that the node could not give.
    NoRoom,
}

/// One run, or one start, of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) outcome: Outcome,
    pub(crate) logs: Vec<LogLine>,
    /// Whether log lines were dropped because of the limit.
    pub(crate) logs_truncated: bool,
    /// Most bytes the store held, all memories and tables and the host's share.
    pub(crate) peak_memory_bytes: usize,
    /// What it moved over HTTP.
    pub(crate) traffic: Traffic,
}

/// Bytes of bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Of requests to the guest and answers to its own requests.
    pub(crate) received: u64,
    /// Of its answer and its own requests.
    pub(crate) sent: u64,
}

impl Run {
    /// A run that ended in `outcome` before the guest did anything.
    pub(crate) fn without(outcome: Outcome) -> Self {
        Self {
            outcome,
            logs: Vec::new(),
            logs_truncated: false,
            peak_memory_bytes: 0,
            traffic: Traffic::default(),
        }
    }
}

/// Turns code into programs.
#[async_trait]
pub(crate) trait Sandbox: Send + Sync + 'static {
    /// Decides what an upload is, compiles or prepares it if need be and keeps the artefact.
    async fn prepare(&self, source: Source) -> Result<Prepared, Refused>;

    /// A program that is linked already; never waits.
    fn linked(&self, program: &Digest) -> Option<Arc<dyn Program>>;

    /// A program from the artefact on disk, or, when that is missing or does not verify, made again from `code`.
    /// Concurrent calls for one program share the work.
    async fn load(
        &self,
        program: &Digest,
        code: &(dyn CodeSource + Sync),
    ) -> Result<Arc<dyn Program>, LoadError>;

    /// What is in memory, for metrics.
    fn occupancy(&self) -> Occupancy;
}

/// Where the code is when an artefact must be made again.
#[async_trait]
pub(crate) trait CodeSource {
    /// The code as it was uploaded; `None` when it is gone.
    async fn source(&self) -> Option<Source>;
}

/// Counts of the ladder's rungs below instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Occupancy {
    /// Programs linked.
    pub(crate) programs: usize,
    /// Bytes of their artefacts, mapped.
    pub(crate) program_bytes: usize,
    /// Instance slots in use.
    pub(crate) slots_used: usize,
    /// Instance slots there are.
    pub(crate) slots: usize,
}

/// A linked program, ready to be instantiated.
#[async_trait]
pub(crate) trait Program: Send + Sync + 'static {
    /// Bytes an instance holds from its start; what must be granted before [`Program::instantiate`].
    fn memory_bytes_min(&self) -> usize;

    /// Whether it answers HTTP requests itself ([`Input::exchange`]).
    fn speaks_http(&self) -> bool {
        false
    }

    /// Starts an instance. For programs that start with their run (commands) this is only its preparation.
    ///
    /// `grant` already holds [`Program::memory_bytes_min`]; more is asked of it as the guest grows.
    async fn instantiate(
        &self,
        limits: InstanceLimits,
        grant: Arc<dyn Grant>,
    ) -> Result<Started, StartError>;
}

/// A started instance and what its start wrote.
pub(crate) struct Started {
    pub(crate) instance: Box<dyn Instance>,
    pub(crate) logs: Vec<LogLine>,
}

/// One live guest.
#[async_trait]
pub(crate) trait Instance: Send {
    /// Runs one activation. Trap, deadline, memory and exit status are outcomes. Cancelling it (dropping the future)
    /// leaves the instance unusable.
    async fn run(&mut self, input: Input) -> Result<Run, HostError>;

    /// Whether the next activation may have it: the program allows it, and the last run ended in an answer.
    fn reusable(&self) -> bool;

    /// Bytes it holds now: memories, tables, and the host's share.
    fn memory_bytes(&self) -> usize;

    /// Was not called for a while: gives up what it keeps to be called sooner, where others want that. Whether there is
    /// nothing left to give up. Takes some microseconds.
    fn rest(&mut self) -> bool {
        true
    }

    /// What its next run will touch, as far as that is known.
    fn ahead(&self) -> Ahead {
        Ahead::default()
    }
}
