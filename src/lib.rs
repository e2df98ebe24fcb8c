#![doc = include_str!("README.md")]

pub mod app;
pub mod cli;
pub mod config;
pub mod model;
pub mod telemetry;

mod ahead;
mod api;
mod auth;
mod cluster;
mod invoke;
mod link;
mod pool;
mod queue;
mod sandbox;
mod scheduler;
mod store;
mod system;
mod worker;
