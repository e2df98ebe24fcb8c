//! The one integration binary: the program as its users meet it, over the wire and from the command line.
//!
//! One file per part of the contract, and one per promise. A test's name says what holds.

#![cfg(test)]

mod admin;
mod alarms;
mod auth;
mod cli;
mod cluster;
mod conformance;
mod contract_actions;
mod contract_actions_put;
mod contract_apis;
mod contract_fire;
mod contract_info;
mod contract_invoke;
mod contract_kinds;
mod contract_packages;
mod contract_records;
mod contract_rules;
mod contract_runs;
mod contract_sequences_put;
mod contract_throttle;
mod contract_triggers;
mod contract_web;
mod contract_web_cache;
mod drain;
mod durability;
mod encryption;
mod examples;
mod fairness;
mod guest_files;
mod harness;
mod idempotency;
mod javascript;
mod javascript_modules;
mod languages;
mod live_logs;
mod metrics;
mod python;
mod readme;
mod revisions;
mod sandbox_escape;
mod sdks;
mod system_packages;
mod tidy;
mod wasi_http;
mod wasi_http_outside;
mod wasi_http_service;
mod wire_abuse;
