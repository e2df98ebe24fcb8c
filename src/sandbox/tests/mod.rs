//! The sandbox from upload to outcome, with guests in WAT.

mod command;
mod component;
mod core;
mod harness;
