//! `cat`: `{lines: […]}` → `{lines, payload}`, each line with a line end.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use wisp_system::{Answer, Value, js};

fn run(params: Value) -> Answer {
    let Some(Value::Array(lines)) = params.get("lines") else {
        return Err("You must specify a lines parameter!".into());
    };
    let mut payload = String::new();
    for line in lines {
        payload.push_str(&js::text(line));
        payload.push('\n');
    }
    let lines = Value::Array(lines.clone());
    Ok(Value::object([
        ("lines", lines),
        ("payload", payload.into()),
    ]))
}

wisp_system::export!(run);
