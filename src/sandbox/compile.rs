//! Compiling untrusted modules: in a process of their own, with limits of memory, CPU and time, a few at once.
//!
//! Each compile has a fresh process. A compiler that serves several would save some milliseconds at uploads and would
//! let a module that subverts it write the next tenant's code. Measured on two shared cores, unoptimised build: a tiny
//! module is prepared in 6.5 ms (p99 31 ms), process and all; 200 at once in 1.0 s.
//!
//! On the pipe, both ways, one frame: a byte (class there, verdict back), eight bytes of length, the bytes.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use wasmtime::{Engine, OptLevel, RegallocAlgorithm};

use super::config::{Compiler, Config};
use super::engine::{Class, compiler_config};
use super::turns::{For, Full, Turns};
use super::{COMPILE_ARG, Refused};

const VERDICT_ARTEFACT: u8 = 0;
const VERDICT_INVALID: u8 = 1;
/// Largest answer a compiler may give, as a multiple of the module, and a floor.
const ARTEFACT_RATIO_MAX: usize = 64;
const ARTEFACT_BYTES_FLOOR: usize = 16 << 20;
/// Bytes of a message about an invalid module that are passed on.
const MESSAGE_BYTES_MAX: usize = 2048;

/// What one compile may take.
#[derive(Clone, Copy)]
struct Allowance {
    timeout_ms: u64,
    memory_mib: u64,
    /// How much it stands back behind everything else.
    niceness: i32,
    effort: Effort,
}

/// What is made of a module, and with how many cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// The best code, on one core: others have the rest.
    Fair,
    /// The best code, on all cores.
    Best,
    /// Code that is there soon and runs slower, on all cores.
    Quick,
}

impl Effort {
    /// As it is told to the process that compiles.
    const ALL: [Self; 3] = [Self::Fair, Self::Best, Self::Quick];
}

/// For modules of our own, which are large, few, and compiled while others are served.
const OWN: Allowance = Allowance {
    timeout_ms: 20 * 60 * 1000,
    memory_mib: 16 << 10,
    niceness: 10,
    effort: Effort::Best,
};

/// For the same while somebody waits.
const OWN_QUICK: Allowance = Allowance {
    niceness: 0,
    effort: Effort::Quick,
    ..OWN
};

/// Compiles, a few modules at once.
pub(super) struct Compile {
    config: Config,
    turns: Turns,
}

impl Compile {
    /// A compiler with the settings of `config`.
    pub(super) fn new(config: &Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let parallel = config.compile_parallel_max.unwrap_or(cores).max(1);
        Self {
            config: config.clone(),
            turns: Turns::new(parallel, config.compile_waiting_max),
        }
    }

    /// Compiles `module` for `class`, when it is the turn of `whom`.
    ///
    /// # Errors
    /// `Invalid` with the compiler's words, `TooCostly` when it passed a limit, `Unavailable` when too many wait or
    /// the compiler cannot be run.
    pub(super) async fn compile(
        &self,
        whom: &For,
        class: Class,
        module: Arc<[u8]>,
    ) -> Result<Vec<u8>, Refused> {
        let _turn = self.turns.take(whom).await.map_err(|Full| {
            Refused::Unavailable(
                "Too many modules are waiting to be compiled; try again in a few seconds.".into(),
            )
        })?;
        let allowance = Allowance {
            timeout_ms: self.timeout_ms(module.len()),
            memory_mib: self.config.compile_memory_mib_max,
            niceness: 0,
            effort: Effort::Fair,
        };
        self.compile_within(allowance, class, module).await
    }

    /// How long a module of so many bytes may take.
    fn timeout_ms(&self, bytes: usize) -> u64 {
        let more = u64::try_from(bytes).unwrap_or(u64::MAX);
        let more = more.saturating_mul(self.config.compile_timeout_mib_ms) / (1 << 20);
        self.config.compile_timeout_ms.saturating_add(more)
    }

    /// Compiles a module of our own for the large class, with room enough: in nobody's way, or soon.
    ///
    /// # Errors
    /// As [`Compile::compile`], though none is the module's fault.
    pub(super) async fn compile_own(
        &self,
        module: Arc<[u8]>,
        is_urgent: bool,
    ) -> Result<Vec<u8>, Refused> {
        let allowance = if is_urgent { OWN_QUICK } else { OWN };
        self.compile_within(allowance, Class::Large, module).await
    }

    async fn compile_within(
        &self,
        allowance: Allowance,
        class: Class,
        module: Arc<[u8]>,
    ) -> Result<Vec<u8>, Refused> {
        match &self.config.compiler {
            Compiler::InProcess => self.in_process(class, allowance.effort, module).await,
            Compiler::Process(path) => self.in_child(path, allowance, class, &module).await,
        }
    }

    async fn in_process(
        &self,
        class: Class,
        effort: Effort,
        module: Arc<[u8]>,
    ) -> Result<Vec<u8>, Refused> {
        let config = self.config.clone();
        let work = move || compile(&config, class, effort, &module);
        let compiled = tokio::task::spawn_blocking(work).await;
        compiled
            .map_err(|error| Refused::Unavailable(format!("The compiler failed: {error}.")))?
            .map_err(Refused::Invalid)
    }

    async fn in_child(
        &self,
        path: &Path,
        allowance: Allowance,
        class: Class,
        module: &[u8],
    ) -> Result<Vec<u8>, Refused> {
        let limit = Duration::from_millis(allowance.timeout_ms);
        let mut child = self.spawn(path, allowance).map_err(|error| {
            tracing::error!(path = %path.display(), %error, "the compiler cannot be started");
            Refused::Unavailable("The compiler cannot be started; try again later.".into())
        })?;
        let exchanged = tokio::time::timeout(limit, exchange(&mut child, class, module)).await;
        let Ok(exchanged) = exchanged else {
            // Dropping the child kills it.
            return Err(Refused::TooCostly(format!(
                "The module took longer than {} s to compile.",
                limit.as_secs_f32()
            )));
        };
        match exchanged {
            Ok((VERDICT_ARTEFACT, artefact)) => Ok(artefact),
            Ok((_, message)) => Err(Refused::Invalid(
                String::from_utf8_lossy(&message).into_owned(),
            )),
            Err(error) => {
                let status = child.wait().await;
                tracing::info!(%error, ?status, "a compiler ended without an answer");
                if status.is_ok_and(was_told_to_end) {
                    return Err(Refused::Unavailable(
                        "The compiler was told to end; try again in a few seconds.".into(),
                    ));
                }
                Err(Refused::TooCostly(format!(
                    "The module cannot be compiled within {} MiB of memory and {} s of CPU time.",
                    allowance.memory_mib,
                    limit.as_secs().max(1)
                )))
            }
        }
    }

    fn spawn(&self, path: &Path, allowance: Allowance) -> std::io::Result<Child> {
        Command::new(path)
            .arg(COMPILE_ARG)
            .arg(allowance.memory_mib.to_string())
            .arg((allowance.timeout_ms / 1000).max(1).to_string())
            .arg(self.config.stack_kib.to_string())
            .arg(allowance.niceness.to_string())
            .arg((allowance.effort as u8).to_string())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            // What is meant for the server and all that is in its group (ctrl-c) must not end what it is still to finish.
            .process_group(0)
            .spawn()
    }
}

/// Whether somebody ended it, and not what it compiled.
fn was_told_to_end(status: ExitStatus) -> bool {
    let told = [Signal::TERM, Signal::INT, Signal::HUP].map(Signal::as_raw);
    status.signal().is_some_and(|signal| told.contains(&signal))
}

/// Sends the module, reads the answer.
async fn exchange(
    child: &mut Child,
    class: Class,
    module: &[u8],
) -> std::io::Result<(u8, Vec<u8>)> {
    let closed = || std::io::Error::other("a pipe to the compiler is closed");
    let mut stdin = child.stdin.take().ok_or_else(closed)?;
    let mut stdout = child.stdout.take().ok_or_else(closed)?;
    let class = match class {
        Class::Small => 0_u8,
        Class::Large => 1,
        Class::Concurrent => 2,
    };
    stdin.write_all(&[class]).await?;
    stdin
        .write_all(&(module.len() as u64).to_le_bytes())
        .await?;
    stdin.write_all(module).await?;
    drop(stdin);
    let verdict = stdout.read_u8().await?;
    let len = stdout.read_u64_le().await?;
    let most = ARTEFACT_BYTES_FLOOR.max(module.len().saturating_mul(ARTEFACT_RATIO_MAX));
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > most {
        return Err(std::io::Error::other("the artefact is too large"));
    }
    let mut bytes = Vec::with_capacity(len);
    stdout.take(len as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < len {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok((verdict, bytes))
}

/// Compiles in this very process.
fn compile(
    config: &Config,
    class: Class,
    effort: Effort,
    module: &[u8],
) -> Result<Vec<u8>, String> {
    let mut settings = compiler_config(config, class);
    settings.parallel_compilation(effort != Effort::Fair);
    if effort == Effort::Quick {
        // An engine takes such code as it takes the best: they differ in speed alone.
        settings
            .cranelift_opt_level(OptLevel::None)
            .cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
    }
    let engine = Engine::new(&settings).map_err(|error| format!("{error:#}"))?;
    let artefact = if wasmparser::Parser::is_component(module) {
        engine.precompile_component(module)
    } else {
        engine.precompile_module(module)
    };
    artefact.map_err(|error| {
        let mut text = format!("The module is not valid: {error:#}.");
        let cut = text.floor_char_boundary(MESSAGE_BYTES_MAX);
        text.truncate(cut);
        text
    })
}

/// What the process started with [`COMPILE_ARG`] does: lowers its own limits, compiles the one module on stdin, writes
/// the artefact to stdout. `args` are what follows the argument.
pub(crate) fn compile_child(args: impl Iterator<Item = String>) -> ExitCode {
    match serve_one(args) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads stderr; the status is all there is to say.
        Err(_) => ExitCode::from(70),
    }
}

fn serve_one(args: impl Iterator<Item = String>) -> std::io::Result<()> {
    let numbers: Vec<u64> = args.filter_map(|arg| arg.parse().ok()).collect();
    let [memory_mib, cpu_s, stack_kib, niceness, effort] = numbers[..] else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    lower_limits(memory_mib, cpu_s)?;
    // Standing back is a courtesy: no reason to fail.
    rustix::process::nice(i32::try_from(niceness).unwrap_or(0)).unwrap_or_default();
    let config = Config {
        stack_kib: usize::try_from(stack_kib).map_err(std::io::Error::other)?,
        ..Config::default()
    };
    let mut input = std::io::stdin().lock();
    let mut head = [0_u8; 9];
    input.read_exact(&mut head)?;
    let [class, len @ ..] = head;
    let class = match class {
        0 => Class::Small,
        1 => Class::Large,
        _ => Class::Concurrent,
    };
    let effort = usize::try_from(effort).ok();
    let effort = effort.and_then(|number| Effort::ALL.get(number).copied());
    let effort = effort.ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut module = Vec::new();
    input
        .take(u64::from_le_bytes(len))
        .read_to_end(&mut module)?;
    let (verdict, bytes) = match compile(&config, class, effort, &module) {
        Ok(artefact) => (VERDICT_ARTEFACT, artefact),
        Err(message) => (VERDICT_INVALID, message.into_bytes()),
    };
    let mut output = std::io::stdout().lock();
    output.write_all(&[verdict])?;
    output.write_all(&(bytes.len() as u64).to_le_bytes())?;
    output.write_all(&bytes)?;
    output.flush()
}

/// Memory, CPU time, no files, no core dump, and an end with the parent.
fn lower_limits(memory_mib: u64, cpu_s: u64) -> std::io::Result<()> {
    let lower = |resource, value: u64| {
        setrlimit(
            resource,
            Rlimit {
                current: Some(value),
                maximum: Some(value),
            },
        )
    };
    lower(Resource::As, memory_mib << 20)?;
    lower(Resource::Cpu, cpu_s)?;
    lower(Resource::Fsize, 0)?;
    lower(Resource::Core, 0)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}
