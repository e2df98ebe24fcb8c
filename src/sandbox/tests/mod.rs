//! The sandbox from upload to outcome, with guests in WAT.

mod core;
mod harness;
