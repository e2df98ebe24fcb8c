//! Every knob of the sandbox, with its unit and what it balances.

use std::path::PathBuf;

use std::sync::Arc;

use serde::Deserialize;

use super::language::EngineModules;
use super::shared::Shared;
use crate::model::keyvalue::Pairs;
use crate::model::live::Listener;

/// Where and how modules are compiled.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Compiler {
    /// In a process of its own: this executable, started with the hidden argument [`super::COMPILE_ARG`]. The default of
    /// the service, whose caller fills in the path.
    Process(PathBuf),
    /// In this process, without its limits of memory and CPU: for tests, which have no executable at hand.
    #[default]
    InProcess,
}

/// Settings of the sandbox. `None` means: computed from the machine at start, see `describe`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// How modules are compiled.
    #[serde(skip)]
    pub(crate) compiler: Compiler,
    /// Compilers at one time; the number of cores when unset.
    pub(crate) compile_parallel_max: Option<usize>,
    /// Uploads that may wait for a compiler; more are told to come back.
    pub(crate) compile_waiting_max: usize,
    /// Wall time one compile may take, milliseconds, and what each MiB of the module adds to it.
    pub(crate) compile_timeout_ms: u64,
    pub(crate) compile_timeout_mib_ms: u64,
    /// Address space of a compiler process, MiB.
    pub(crate) compile_memory_mib_max: u64,

    /// Whether components that serve requests as of WASI 0.3 are run.
    pub(crate) wasi_3: bool,

    /// Whether the engines of all languages are compiled when the server starts, and not when code first needs them.
    pub(crate) engines_ahead: bool,
    /// The engines' modules.
    #[serde(skip)]
    pub(crate) engine_modules: EngineModules,
    /// Pieces of source prepared at one time; half the cores when unset.
    pub(crate) prepare_parallel_max: Option<usize>,
    /// Uploads of source that may wait for that; more are told to come back.
    pub(crate) prepare_waiting_max: usize,
    /// Wall time that preparing source may take, which runs its top level once, milliseconds.
    pub(crate) prepare_timeout_ms: u64,
    /// Memory that preparing source may take, the engine's own included, MiB.
    pub(crate) prepare_memory_mib_max: usize,

    /// Bytes of a module, unpacked; of the files of a zip of source together.
    pub(crate) module_bytes_max: usize,
    /// Bytes of the artefacts kept on disk, MiB; the longest unused are removed beyond it.
    pub(crate) artefact_mib_max: u64,
    /// Programs kept linked in memory; each takes about four of the process's mappings (`vm.max_map_count`).
    pub(crate) programs_max: usize,
    /// Bytes of artefacts kept mapped, MiB.
    pub(crate) programs_mib_max: usize,

    /// Instance slots of the small class.
    pub(crate) small_slots: Option<u32>,
    /// Instance slots of the large class; each is 4 GiB of address space.
    pub(crate) large_slots: Option<u32>,
    /// Bytes of a slot of the large class that stay resident when its instance is gone, KiB.
    pub(crate) large_keep_resident_kib: usize,
    /// Largest memory a large instance may have, MiB; actions are limited far below by their own limit.
    pub(crate) large_memory_mib_max: usize,
    /// Elements of a table.
    pub(crate) table_elements_max: u32,

    /// Who shares compiled code; nobody when there is none. Given by whoever builds the server.
    #[serde(skip)]
    pub(crate) shared: Option<Shared>,

    /// Where guests may go; a section of its own.
    #[serde(skip)]
    pub(crate) egress: super::egress::Config,

    /// What guests keep; nothing when there is none. Given by whoever builds the server.
    #[serde(skip)]
    pub(crate) pairs: Option<Arc<dyn Pairs>>,

    /// Who hears what guests write while they run. Given by whoever builds the server.
    #[serde(skip)]
    pub(crate) listener: Option<Arc<dyn Listener>>,

    /// Stacks of each class: three quarters may be kept between runs, by the instances that were called last, the others are for
    /// what runs.
    pub(crate) stacks: u32,
    /// Bytes of stack a guest of the small class may use, KiB.
    pub(crate) stack_kib: usize,
    /// Bytes of stack one of the large class may use, KiB. The engine for JavaScript counts on the default.
    pub(crate) large_stack_kib: usize,
    /// How often running guests yield, microseconds.
    pub(crate) tick_us: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            compiler: Compiler::default(),
            compile_parallel_max: None,
            compile_waiting_max: 256,
            compile_timeout_ms: 60_000,
            compile_timeout_mib_ms: 10_000,
            compile_memory_mib_max: 4096,
            wasi_3: true,
            engines_ahead: true,
            engine_modules: EngineModules::default(),
            prepare_parallel_max: None,
            prepare_waiting_max: 256,
            prepare_timeout_ms: 10_000,
            prepare_memory_mib_max: 256,
            module_bytes_max: 48 << 20,
            artefact_mib_max: 16 << 10,
            programs_max: 2000,
            programs_mib_max: 512,
            small_slots: None,
            large_slots: None,
            large_keep_resident_kib: 1024,
            large_memory_mib_max: 4096,
            table_elements_max: 20_000,
            shared: None,
            egress: super::egress::Config::default(),
            pairs: None,
            listener: None,
            stacks: 4096,
            stack_kib: 512,
            large_stack_kib: 4096,
            tick_us: 1000,
        }
    }
}
