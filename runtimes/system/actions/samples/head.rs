//! `head`: `{lines: […], num?}` → `{lines, num}`, the first `num` (1) of them.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use wisp_system::{Answer, Value, js};

fn run(params: Value) -> Answer {
    let Some(Value::Array(lines)) = params.get("lines") else {
        return Err("You must specify a lines parameter!".into());
    };
    let num = match params.get("num") {
        Some(num @ Value::Number(text)) if text.starts_with('-') => {
            return Err(String::from("num must not be negative, and is ") + &js::text(num));
        }
        Some(num @ Value::Number(_)) => js::truncated(num),
        _ => Value::from(1),
    };
    let head = lines.iter().take(js::slice_end(&num, lines.len()));
    let head = Value::Array(head.cloned().collect());
    Ok(Value::object([("lines", head), ("num", num)]))
}

wisp_system::export!(run);
