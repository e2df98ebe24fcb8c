//! Wisp.

pub mod model;
mod queue;
mod sandbox;
mod store;
