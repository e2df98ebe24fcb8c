//! Wisp.

pub mod model;

mod invoke;
mod pool;
mod queue;
mod sandbox;
mod scheduler;
mod store;
mod telemetry;
mod worker;
