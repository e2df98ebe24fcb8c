//! The cluster's decisions, driven by a simulator: small runs whose facts must hold. The big one is
//! `cargo bench --bench sim`.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "statistics: counts are far below 2^53, and what is rounded is random"
)]

mod cluster;
mod costs;
mod facts;
mod meter;
mod node;
mod redis;
#[path = "../../src/scheduler/mod.rs"]
mod scheduler;
mod stats;
mod workload;
