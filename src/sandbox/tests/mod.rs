//! The sandbox from upload to outcome, with guests in WAT.

mod abi;
mod cache;
mod code;
mod command;
mod compile;
mod component;
mod core;
mod files;
pub(super) mod harness;
mod language;
mod shared;
