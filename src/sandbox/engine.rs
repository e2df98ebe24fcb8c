//! Three engines, one per class, and the pools behind them, sized to this machine.
//!
//! | class | which programs | slot | bounds | initial memory |
//! |---|---|---|---|---|
//! | small | core modules whose one memory is a page of 64 KiB and stays so | 64 KiB, no guard | checked in code | copied |
//! | large | everything else, and every component of WASI 0.2 | 4 GiB and guard pages | guard pages | copy-on-write from the artefact |
//! | concurrent | components of WASI 0.3 | as large | as large | as large |
//!
//! The small class is for density. Its slots lie side by side and every memory fills its slot, so the kernel keeps one
//! mapping for all of them: a hundred thousand idle instances leave `vm.max_map_count` alone and take 10 KiB each.
//! (Memories smaller than their slot were measured too: two mappings each, and the end at 29,000 instances.)
//!
//! The large class pays up to three mappings per live instance and buys loads and stores without checks.
//!
//! The concurrent class is for what runs several tasks in one instance, which every store and every call pays for: by their own
//! engine, the others do not.

use std::path::Path;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use wasmtime::{Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::config::Config;
use super::stacks::Stacks;

/// Bytes of a page of linear memory.
pub(super) const WASM_PAGE_BYTES: usize = 64 << 10;
/// Elements of a table in the small class: one page of the host per slot.
pub(super) const SMALL_TABLE_ELEMENTS: u32 = 256;
/// Most instance slots of the small class when the machine decides; 1 KiB of bookkeeping each is the reason.
const SMALL_SLOTS_MAX: u64 = 1 << 17;
/// Most instance slots of the large class when the machine decides.
const LARGE_SLOTS_MAX: u64 = 16 << 10;
/// Fewer slots than these are not worth starting with.
const SLOTS_MIN: u64 = 16;
/// Mappings a live instance of the large class may take: image, open memory, closed rest.
const MAPS_PER_LARGE_SLOT: u64 = 3;
/// Mappings a linked program takes: header, code, read-only data, and what follows.
const MAPS_PER_PROGRAM: u64 = 4;
/// Mappings left to everything else: threads, the allocator, the database.
const MAPS_SPARE: u64 = 4096;
/// Instance slots of the concurrent class: requests that components of WASI 0.3 serve at one time.
const CONCURRENT_SLOTS: u32 = 256;
/// Stacks of that class for each of its slots: tasks of one instance that wait inside a call have one each.
const CONCURRENT_STACKS_EACH: u32 = 4;
/// Taken for the machine's memory when it cannot be read.
const MEMORY_BYTES_GUESS: u64 = 2 << 30;
/// Bytes of a large class's stack that stay resident when it is nobody's.
const STACK_KEPT_BYTES: usize = 16 << 10;
/// Stack for host functions under the guest's.
const HOST_STACK_BYTES: usize = 512 << 10;

/// A size class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Class {
    Small,
    Large,
    Concurrent,
}

impl Class {
    /// As the compiler process and the names of artefacts have it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
            Self::Concurrent => "concurrent",
        }
    }
}

/// An engine and its pool.
struct Pooled {
    engine: Engine,
    slots: u32,
    stacks: Arc<Stacks>,
}

/// All engines and what was decided about them.
pub(super) struct Engines {
    small: Pooled,
    large: Pooled,
    concurrent: Pooled,
    described: Vec<String>,
}

impl Engines {
    /// Builds the engines and reserves their pools.
    ///
    /// # Errors
    /// When the settings contradict each other or the machine has no room for even small pools; says which and why.
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        check(config)?;
        let machine = Machine::look();
        let small = reserve(config, Class::Small, small_slots(config, &machine))?;
        let large = reserve(config, Class::Large, large_slots(config, &machine))?;
        let slots = u64::from(CONCURRENT_SLOTS.min(large.slots));
        let concurrent = reserve(config, Class::Concurrent, slots)?;
        let described = describe(config, &machine, small.slots, large.slots);
        Ok(Self {
            small,
            large,
            concurrent,
            described,
        })
    }

    /// The engine of a class.
    pub(super) fn get(&self, class: Class) -> &Engine {
        &self.pooled(class).engine
    }

    /// Instance slots of a class.
    pub(super) fn slots(&self, class: Class) -> usize {
        self.pooled(class).slots as usize
    }

    /// Stacks of a class.
    pub(super) fn stacks(&self, class: Class) -> &Arc<Stacks> {
        &self.pooled(class).stacks
    }

    fn pooled(&self, class: Class) -> &Pooled {
        match class {
            Class::Small => &self.small,
            Class::Large => &self.large,
            Class::Concurrent => &self.concurrent,
        }
    }

    /// Every class's engine.
    pub(super) fn all(&self) -> [&Engine; 3] {
        [&self.small, &self.large, &self.concurrent].map(|pooled| &pooled.engine)
    }

    /// What was chosen, and why: a line each.
    pub(super) fn describe(&self) -> Vec<String> {
        self.described.clone()
    }

    /// Instance slots in use.
    pub(super) fn slots_used(&self) -> usize {
        self.all()
            .into_iter()
            .filter_map(Engine::pooling_allocator_metrics)
            .map(|metrics| metrics.memories())
            .sum()
    }
}

/// Settings that code generation depends on; without a pool, for a compiler.
pub(super) fn compiler_config(config: &Config, class: Class) -> wasmtime::Config {
    let mut engine = wasmtime::Config::new();
    let stack_kib = match class {
        Class::Small => config.stack_kib,
        Class::Large | Class::Concurrent => config.large_stack_kib,
    };
    engine
        .epoch_interruption(true)
        .max_wasm_stack(stack_kib << 10)
        .async_stack_size((stack_kib << 10) + HOST_STACK_BYTES)
        // What a deep recursion touched goes back to the system with its stack; small ones may keep all they have.
        .async_stack_zeroing(class != Class::Small)
        .concurrency_support(class == Class::Concurrent)
        .generate_address_map(false)
        .native_unwind_info(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .memory_may_move(false)
        .table_lazy_init(true);
    match class {
        Class::Small => engine
            .memory_reservation(WASM_PAGE_BYTES as u64)
            .memory_guard_size(0)
            .guard_before_linear_memory(false)
            .memory_init_cow(false),
        Class::Large | Class::Concurrent => {
            engine.memory_reservation(4 << 30).memory_init_cow(true)
        }
    };
    engine
}

fn check(config: &Config) -> Result<(), String> {
    let stacks = [
        ("stack_kib", config.stack_kib),
        ("large_stack_kib", config.large_stack_kib),
    ];
    for (name, kib) in stacks {
        if !(64..=8192).contains(&kib) {
            return Err(format!("{name} is {kib}; it must be between 64 and 8192"));
        }
    }
    if config.large_memory_mib_max > 4096 {
        return Err(format!(
            "large_memory_mib_max is {}; a 32-bit memory has at most 4096",
            config.large_memory_mib_max
        ));
    }
    if config.stacks < 2 || config.tick_us < 100 {
        return Err("stacks must be at least 2, and tick_us at least 100".into());
    }
    Ok(())
}

/// What the machine allows.
struct Machine {
    memory_bytes: u64,
    maps_max: u64,
    address_space_bytes: Option<u64>,
}

impl Machine {
    fn look() -> Self {
        let maps_max = std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(65_530);
        Self {
            memory_bytes: memory_bytes().unwrap_or(MEMORY_BYTES_GUESS),
            maps_max,
            address_space_bytes: getrlimit(Resource::As).current,
        }
    }
}

/// All memory of the machine; a container's own limit is the memory budget's affair, not the slots'.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

fn small_slots(config: &Config, machine: &Machine) -> u64 {
    let by_memory = machine.memory_bytes / (16 << 10);
    config
        .small_slots
        .map_or_else(|| by_memory.clamp(SLOTS_MIN, SMALL_SLOTS_MAX), u64::from)
}

fn large_slots(config: &Config, machine: &Machine) -> u64 {
    let taken =
        config.programs_max as u64 * MAPS_PER_PROGRAM + u64::from(config.stacks) * 4 + MAPS_SPARE;
    let by_maps = machine.maps_max.saturating_sub(taken) / MAPS_PER_LARGE_SLOT;
    let by_maps = by_maps.saturating_sub(u64::from(CONCURRENT_SLOTS));
    let by_memory = machine.memory_bytes / (256 << 10);
    config.large_slots.map_or_else(
        || by_maps.min(by_memory).clamp(SLOTS_MIN, LARGE_SLOTS_MAX),
        u64::from,
    )
}

/// Builds the engine of `class` with as many of the `wanted` slots as the address space has room for.
fn reserve(config: &Config, class: Class, wanted: u64) -> Result<Pooled, String> {
    let fixed = match class {
        Class::Small => config.small_slots.is_some(),
        Class::Large => config.large_slots.is_some(),
        Class::Concurrent => false,
    };
    let mut slots = u32::try_from(wanted).unwrap_or(u32::MAX);
    // The others are for what runs.
    let kept = config.stacks - config.stacks.div_ceil(4);
    loop {
        let mut engine = compiler_config(config, class);
        engine.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(
            config, class, slots,
        )));
        match Engine::new(&engine) {
            Ok(engine) => {
                return Ok(Pooled {
                    engine,
                    slots,
                    stacks: match class {
                        Class::Small => Stacks::new(kept),
                        Class::Large | Class::Concurrent => Stacks::of_large(kept),
                    },
                });
            }
            Err(error) if fixed || u64::from(slots) <= SLOTS_MIN => {
                return Err(format!(
                    "no room for {slots} instance slots of the {} class: {error:#}; lower {}_slots, or raise the \
                     limit of address space (ulimit -v)",
                    class.as_str(),
                    class.as_str()
                ));
            }
            Err(_) => slots /= 2,
        }
    }
}

fn pool(config: &Config, class: Class, slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(slots.saturating_mul(8))
        .total_memories(slots)
        .total_stacks(match class {
            Class::Small | Class::Large => config.stacks,
            Class::Concurrent => slots.saturating_mul(CONCURRENT_STACKS_EACH),
        })
        .max_memories_per_module(1)
        .pagemap_scan(Enabled::Auto);
    match class {
        Class::Small => pool
            .total_component_instances(0)
            .total_tables(slots)
            .max_tables_per_module(1)
            .table_elements(SMALL_TABLE_ELEMENTS as usize)
            .max_memory_size(WASM_PAGE_BYTES)
            .linear_memory_keep_resident(WASM_PAGE_BYTES)
            .max_core_instance_size(64 << 10),
        Class::Large | Class::Concurrent => pool
            .total_component_instances(slots)
            .max_core_instances_per_component(64)
            .max_memories_per_component(8)
            .max_tables_per_component(64)
            .total_tables(slots.saturating_mul(2))
            .max_tables_per_module(8)
            .async_stack_keep_resident(STACK_KEPT_BYTES)
            .table_elements(config.table_elements_max as usize)
            .max_memory_size(config.large_memory_mib_max << 20)
            .linear_memory_keep_resident(config.large_keep_resident_kib << 10)
            .table_keep_resident(64 << 10),
    };
    pool
}

fn describe(config: &Config, machine: &Machine, small: u32, large: u32) -> Vec<String> {
    let why = |set: bool, reason: String| if set { "as configured".into() } else { reason };
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    vec![
        format!(
            "small class: {small} slots of 64 KiB, {} stacks ({})",
            config.stacks,
            why(
                config.small_slots.is_some(),
                format!("{} MiB of memory", machine.memory_bytes >> 20)
            )
        ),
        format!(
            "large class: {large} slots of 4 GiB, {} stacks ({})",
            config.stacks,
            why(
                config.large_slots.is_some(),
                format!(
                    "vm.max_map_count {}, address space {}",
                    machine.maps_max,
                    machine.address_space_bytes.map_or_else(
                        || "unlimited".into(),
                        |bytes| format!("{} MiB", bytes >> 20)
                    )
                )
            )
        ),
        if scan {
            format!(
                "pagemap_scan at hand: {} KiB of a large slot stay resident and only dirty pages are reset",
                config.large_keep_resident_kib
            )
        } else if Path::new("/proc/self/pagemap").exists() {
            "no pagemap_scan (Linux before 6.7): slots are reset with madvise, starts are slower"
                .into()
        } else {
            "no /proc/self/pagemap: slots are reset with madvise, starts are slower".into()
        },
    ]
}
