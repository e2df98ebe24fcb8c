//! `helloWorld`: `{payload?}` → `{}`, and a greeting in the log.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use wisp_system::{Answer, Value, guest, js};

fn run(params: Value) -> Answer {
    let payload = js::text_or_undefined(params.get("payload"));
    guest::log(&(String::from("hello ") + &payload + "!"));
    Ok(Value::object([]))
}

wisp_system::export!(run);
