//! `namespace`: `{namespace}`, that of the caller.

#![cfg_attr(target_arch = "wasm32", no_std)]

use wisp_system::{Answer, Value, guest};

fn run(_params: Value) -> Answer {
    let namespace = guest::context("__OW_NAMESPACE");
    let namespace = namespace.ok_or("__OW_NAMESPACE is not set")?;
    Ok(Value::object([("namespace", namespace.into())]))
}

wisp_system::export!(run);
