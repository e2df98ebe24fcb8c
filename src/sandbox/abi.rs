//! What a module wants and how it is called: its ABI by its exports (`runtimes/abi/README.md`), its imports against
//! what is provided, its size class by what its memory can become.
//!
//! Reads the module's structure in this process, in one bounded pass; function bodies are validated by the compiler.

use std::collections::HashMap;
use std::fmt::Write as _;

use wasmparser::types::Types;
use wasmparser::{
    CompositeInnerType, Encoding, ExternalKind, MemoryType, Parser, Payload, TableType, TypeRef,
    ValType, ValidPayload, Validator, WasmFeatures,
};

use super::config::Config;
use super::engine::{Class, SMALL_TABLE_ELEMENTS, WASM_PAGE_BYTES};
use super::{Abi, Refused};

/// What was found out about a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) abi: Abi,
    pub(super) class: Class,
    /// Whether it imports anything of WASI 0.2 (components only).
    pub(super) imports_wasi: bool,
}

/// Functions the host provides to core modules, with their types as text.
pub(super) type Provided = HashMap<(String, String), String>;

/// Interfaces of WASI 0.2 the host provides, any 0.2.x.
const WASI_PACKAGES: [&str; 10] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:config/",
    "wasi:keyvalue/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];
/// Interfaces of WASI 0.3 the host provides, any 0.3.x, to what serves requests.
const CONCURRENT_PACKAGES: [&str; 7] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/client",
    "wasi:http/types",
    "wasi:random/",
    "wasi:sockets/",
];
/// Names listed in a refusal.
const LISTED_MAX: usize = 20;
const NEEDED: &str = "A module must export `memory`, `wisp_alloc` (i32) -> i32 and `wisp_run` (i32, i32) -> i64, or \
                      `memory` and `_start`; a component `wisp:action/handler`, `wasi:http/incoming-handler@0.2`, \
                      `wasi:http/handler@0.3` or `wasi:cli/run@0.2`.";

fn invalid(text: impl Into<String>) -> Refused {
    Refused::Invalid(text.into())
}

fn malformed(error: &wasmparser::BinaryReaderError) -> Refused {
    invalid(format!(
        "The module is not valid WebAssembly: {} (at byte {}).",
        error.message(),
        error.offset()
    ))
}

/// Reads `module` and decides how it is called.
///
/// # Errors
/// When it is no WebAssembly, matches no ABI, imports what nobody provides, or wants more than is allowed.
pub(super) fn inspect(
    module: &[u8],
    provided: &Provided,
    config: &Config,
) -> Result<Shape, Refused> {
    if Parser::is_component(module) {
        inspect_component(module, config)
    } else {
        inspect_core(module, provided, config)
    }
}

/// What a pass over a core module gathers.
#[derive(Default)]
struct Core<'a> {
    memories: Vec<MemoryType>,
    tables: Vec<TableType>,
    imports: Vec<(&'a str, &'a str, TypeRef)>,
    exports: Vec<(&'a str, ExternalKind, u32)>,
    grows_memory: bool,
    grows_table: bool,
    types: Option<Types>,
}

fn inspect_core(module: &[u8], provided: &Provided, config: &Config) -> Result<Shape, Refused> {
    let core = read_core(module)?;
    for memory in &core.memories {
        check_memory(memory, config)?;
    }
    for table in &core.tables {
        check_table(table, config)?;
    }
    check_imports(&core, provided)?;
    let abi = core_abi(&core)?;
    Ok(Shape {
        abi,
        class: class_of(&core),
        imports_wasi: false,
    })
}

/// Proposals the engines are built with.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::RELAXED_SIMD
}

fn read_core(module: &[u8]) -> Result<Core<'_>, Refused> {
    let mut core = Core::default();
    let mut validator = Validator::new_with_features(features());
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|error| malformed(&error))?;
        gather(&mut core, &payload).map_err(|error| malformed(&error))?;
        // Said clearer than the validator would.
        if let Some(memory) = core
            .memories
            .last()
            .filter(|memory| memory.memory64 || memory.shared)
        {
            return Err(unsupported_memory(memory));
        }
        let valid = validator
            .payload(&payload)
            .map_err(|error| malformed(&error))?;
        if let ValidPayload::End(types) = valid {
            core.types = Some(types);
        }
    }
    Ok(core)
}

fn gather<'a>(core: &mut Core<'a>, payload: &Payload<'a>) -> wasmparser::Result<()> {
    match payload {
        Payload::ImportSection(reader) => {
            for import in reader.clone().into_imports() {
                let import = import?;
                match import.ty {
                    TypeRef::Memory(memory) => core.memories.push(memory),
                    TypeRef::Table(table) => core.tables.push(table),
                    _ => {}
                }
                core.imports.push((import.module, import.name, import.ty));
            }
        }
        Payload::MemorySection(reader) => {
            for memory in reader.clone() {
                core.memories.push(memory?);
            }
        }
        Payload::TableSection(reader) => {
            for table in reader.clone() {
                core.tables.push(table?.ty);
            }
        }
        Payload::ExportSection(reader) => {
            for export in reader.clone() {
                let export = export?;
                core.exports.push((export.name, export.kind, export.index));
            }
        }
        Payload::CodeSectionEntry(body) if !(core.grows_memory && core.grows_table) => {
            for operator in body.get_operators_reader()? {
                match operator? {
                    wasmparser::Operator::MemoryGrow { .. } => core.grows_memory = true,
                    wasmparser::Operator::TableGrow { .. } => core.grows_table = true,
                    _ => {}
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn unsupported_memory(memory: &MemoryType) -> Refused {
    invalid(if memory.memory64 {
        "The module has a 64-bit memory; only 32-bit memories are supported (build for wasm32)."
    } else {
        "The module has a shared memory; threads are not supported (build without them)."
    })
}

fn check_memory(memory: &MemoryType, config: &Config) -> Result<(), Refused> {
    if memory.memory64 || memory.shared {
        return Err(unsupported_memory(memory));
    }
    let allowed = (config.large_memory_mib_max as u64) << 20;
    let wanted = memory.initial.saturating_mul(WASM_PAGE_BYTES as u64);
    if wanted > allowed {
        return Err(invalid(format!(
            "The module wants {wanted} bytes of memory at its start; at most {allowed} are allowed."
        )));
    }
    Ok(())
}

fn check_table(table: &TableType, config: &Config) -> Result<(), Refused> {
    if table.table64 || table.shared {
        return Err(invalid(
            "The module has a 64-bit or shared table, which is not supported.",
        ));
    }
    if table.initial > u64::from(config.table_elements_max) {
        return Err(invalid(format!(
            "The module wants a table of {} elements; at most {} are allowed.",
            table.initial, config.table_elements_max
        )));
    }
    Ok(())
}

/// Refuses what nobody provides, all of it by name.
fn check_imports(core: &Core<'_>, provided: &Provided) -> Result<(), Refused> {
    let mut unknown = Vec::new();
    let mut different = Vec::new();
    for (module, name, ty) in &core.imports {
        let key = ((*module).to_owned(), (*name).to_owned());
        let found = match ty {
            TypeRef::Func(index) | TypeRef::FuncExact(index) => core.type_text(*index),
            _ => None,
        };
        match (provided.get(&key), found) {
            (Some(ours), Some(theirs)) if *ours == theirs => {}
            (Some(ours), Some(theirs)) => {
                different.push(format!("`{module}.{name}` is {ours}, not {theirs}"));
            }
            _ => unknown.push(format!("`{module}.{name}`")),
        }
    }
    if !unknown.is_empty() {
        return Err(invalid(format!(
            "The module imports what nobody provides: {}. There are `wasi_snapshot_preview1.*`, `wisp.context_get` and \
             `wisp.http_*`.",
            listed(&unknown)
        )));
    }
    if !different.is_empty() {
        return Err(invalid(format!(
            "The module imports functions by another type than they have: {}.",
            listed(&different)
        )));
    }
    Ok(())
}

fn listed(names: &[String]) -> String {
    let mut text = names[..names.len().min(LISTED_MAX)].join(", ");
    if names.len() > LISTED_MAX {
        // Writing to a String cannot fail.
        write!(text, " and {} more", names.len() - LISTED_MAX).unwrap_or_default();
    }
    text
}

impl Core<'_> {
    /// The function type with an index in the type section, as text.
    fn type_text(&self, index: u32) -> Option<String> {
        let types = self.types.as_ref()?.as_ref();
        if index >= types.core_type_count_in_module() {
            return None;
        }
        let ty = &types[types.core_type_at_in_module(index)];
        func_text(&ty.composite_type.inner)
    }

    /// The type of an exported function, as text.
    fn function(&self, name: &str) -> Option<String> {
        let (_, _, index) = self
            .exports
            .iter()
            .find(|(export, kind, _)| *export == name && *kind == ExternalKind::Func)?;
        let types = self.types.as_ref()?.as_ref();
        let ty = &types[types.core_function_at(*index)];
        func_text(&ty.composite_type.inner)
    }
}

/// A function's type as text.
fn func_text(ty: &CompositeInnerType) -> Option<String> {
    let CompositeInnerType::Func(ty) = ty else {
        return None;
    };
    let text = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (params, results) = (text(ty.params()), text(ty.results()));
    Some(function_text(params.into_iter(), results.into_iter()))
}

/// `(i32, i32) -> i64`, as both sides of a comparison write it.
pub(super) fn function_text(
    params: impl Iterator<Item = String>,
    results: impl Iterator<Item = String>,
) -> String {
    let params: Vec<String> = params.collect();
    let results: Vec<String> = results.collect();
    format!("({}) -> ({})", params.join(", "), results.join(", "))
}

fn core_abi(core: &Core<'_>) -> Result<Abi, Refused> {
    let has_memory = core
        .exports
        .iter()
        .any(|(name, kind, _)| *name == "memory" && *kind == ExternalKind::Memory);
    let typed = |name: &str, wanted: &str| match core.function(name) {
        None => Ok(false),
        Some(found) if found == wanted => Ok(true),
        Some(found) => Err(invalid(format!(
            "The module's `{name}` has the type {found}; it must have {wanted}."
        ))),
    };
    let alloc = typed("wisp_alloc", "(i32) -> (i32)")?;
    let run = typed("wisp_run", "(i32, i32) -> (i64)")?;
    if has_memory && alloc && run {
        typed("_initialize", "() -> ()")?;
        return Ok(Abi::Core);
    }
    if !alloc && !run && typed("_start", "() -> ()")? && has_memory {
        return Ok(Abi::Command);
    }
    let exports: Vec<String> = core
        .exports
        .iter()
        .map(|(name, ..)| format!("`{name}`"))
        .collect();
    let there = if exports.is_empty() {
        "nothing".to_owned()
    } else {
        listed(&exports)
    };
    Err(invalid(format!(
        "Nobody can call this module: it exports {there}. {NEEDED}"
    )))
}

/// Small when its one memory fills a slot of the small class exactly and stays so, and its table fits. A memory that
/// fills its slot only in part would cost two of the process's mappings.
fn class_of(core: &Core<'_>) -> Class {
    let memory_fits = |memory: &MemoryType| {
        memory.initial == 1 && (memory.maximum == Some(1) || !core.grows_memory)
    };
    let table_fits = |table: &TableType| {
        let most = u64::from(SMALL_TABLE_ELEMENTS);
        table.initial <= most
            && (table.maximum.is_some_and(|maximum| maximum <= most) || !core.grows_table)
    };
    let small = core.memories.len() == 1
        && core.tables.len() <= 1
        && core.memories.iter().all(memory_fits)
        && core.tables.iter().all(table_fits);
    if small { Class::Small } else { Class::Large }
}

fn inspect_component(module: &[u8], config: &Config) -> Result<Shape, Refused> {
    let mut imports = Vec::new();
    let mut exports = Vec::new();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|error| malformed(&error))?;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::Version {
                encoding: Encoding::Component,
                ..
            } => {}
            Payload::MemorySection(reader) => {
                for memory in reader {
                    check_memory(&memory.map_err(|error| malformed(&error))?, config)?;
                }
            }
            Payload::TableSection(reader) => {
                for table in reader {
                    check_table(&table.map_err(|error| malformed(&error))?.ty, config)?;
                }
            }
            Payload::ComponentImportSection(reader) if depth == 0 => {
                for import in reader {
                    imports.push(
                        import
                            .map_err(|error| malformed(&error))?
                            .name
                            .name
                            .to_owned(),
                    );
                }
            }
            Payload::ComponentExportSection(reader) if depth == 0 => {
                for export in reader {
                    exports.push(
                        export
                            .map_err(|error| malformed(&error))?
                            .name
                            .name
                            .to_owned(),
                    );
                }
            }
            _ => {}
        }
    }
    component_shape(&imports, &exports, config.wasi_3)
}

fn component_shape(imports: &[String], exports: &[String], wasi_3: bool) -> Result<Shape, Refused> {
    let is_wasi = |name: &String| {
        WASI_PACKAGES
            .iter()
            .any(|package| name.starts_with(package))
            && name.contains("@0.2")
    };
    let handler = exports
        .iter()
        .find(|name| is_released(name, "wasi:http/handler"));
    if let (Some(name), false) = (handler, wasi_3) {
        return Err(invalid(format!(
            "The component exports `{name}`, of WASI 0.3, which is switched off on this server (`[sandbox] wasi_3`); build it for \
             0.2 (the world `wasi:http/proxy`, which exports `wasi:http/incoming-handler`)."
        )));
    }
    let concurrent = handler.is_some();
    let is_concurrent = |name: &String| {
        concurrent
            && CONCURRENT_PACKAGES
                .iter()
                .any(|package| is_released(name, package))
    };
    let unknown: Vec<String> = imports
        .iter()
        .filter(|name| {
            !is_wasi(name) && !is_concurrent(name) && !is_versioned(name, "wisp:action/context")
        })
        .map(|name| format!("`{name}`"))
        .collect();
    if !unknown.is_empty() {
        return Err(invalid(format!(
            "The component imports what nobody provides: {}. There are `wasi:*@0.2` (cli, clocks, config, filesystem, \
             http/types, http/outgoing-handler, io, keyvalue, random, sockets), to components that export \
             `wasi:http/handler@0.3` also `wasi:*@0.3` (cli, clocks, filesystem, http/types, http/client, random, sockets), and \
             `wisp:action/context`.",
            listed(&unknown)
        )));
    }
    if concurrent {
        return Ok(Shape {
            abi: Abi::Http,
            class: Class::Concurrent,
            imports_wasi: true,
        });
    }
    let abi = called(exports)?;
    Ok(Shape {
        abi,
        class: Class::Large,
        // What serves requests has to do with resources whatever it imports.
        imports_wasi: abi == Abi::Http || imports.iter().any(is_wasi),
    })
}

/// How a component of WASI 0.2 is called, by what it exports.
fn called(exports: &[String]) -> Result<Abi, Refused> {
    Ok(
        if exports
            .iter()
            .any(|name| is_versioned(name, "wisp:action/handler"))
        {
            Abi::Handler
        } else if exports
            .iter()
            .any(|name| name.starts_with("wasi:http/incoming-handler@0.2"))
        {
            Abi::Http
        } else if exports
            .iter()
            .any(|name| name.starts_with("wasi:cli/run@0.2"))
        {
            Abi::CommandComponent
        } else {
            let names: Vec<String> = exports.iter().map(|name| format!("`{name}`")).collect();
            let there = if names.is_empty() {
                "nothing".to_owned()
            } else {
                listed(&names)
            };
            return Err(invalid(format!(
                "Nobody can call this component: it exports {there}. {NEEDED}"
            )));
        },
    )
}

/// Whether `name` begins with `interface` and is of a version 0.3.x that was released.
fn is_released(name: &str, interface: &str) -> bool {
    let version = name
        .strip_prefix(interface)
        .and_then(|rest| rest.split_once("@0.3."));
    version.is_some_and(|(_, patch)| patch.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Whether `name` is `interface`, bare or of a version 1.x.
pub(super) fn is_versioned(name: &str, interface: &str) -> bool {
    name.strip_prefix(interface)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("@1."))
}
