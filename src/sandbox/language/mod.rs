//! Source of languages. A language's engine is a guest like any other: a core module, snapshotted after its own start, that
//! exports two functions more (`runtimes/abi/README.md`). It travels inside this program, is compiled once for a data
//! folder, and its code is shared by all actions of the language.
//!
//! ```text
//!   upload ─ package ─→ wisp_prepare, in an instance that is then thrown away ─→ a blob, kept on disk like an artefact
//!   start  ─ instance of the engine ─→ wisp_load(blob) ─→ wisp_run, wisp_run, …
//! ```
//!
//! Invariants:
//! - no code of a tenant's ever runs in an instance that another action gets, nor is any state of it kept: a blob is what
//!   the engine made of the source, and is loaded into a fresh instance each time;
//! - a blob is believed because it is authenticated and names the engine that made it; another engine makes its own;
//! - a program is named by its source alone, so that a newer engine finds the actions that an older one prepared;
//! - what an action costs in memory is its blob; the engine is there once.

mod engine;
mod image;
mod modules;
mod package;
mod prepare;
mod run;

pub(super) use engine::{Engine, Languages};
pub(super) use image::{PAGES_PER_WORD, Pagemap};
pub(crate) use modules::EngineModules;
pub(super) use package::{Package, build};
pub(super) use prepare::Prepare;
pub(super) use run::LanguageCode;
