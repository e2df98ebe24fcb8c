//! `head`: `{lines: […], num?}` → `{lines, num}`, the first `num` (1) of them.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use wisp_system::{Answer, Value, guest, js};

fn run(params: Value) -> Answer {
    let lines = js::truthy(params.get("lines")).cloned();
    let lines = lines.unwrap_or(Value::Array([].into()));
    let num = js::truthy(params.get("num")).cloned();
    let num = num.unwrap_or(Value::from(1));
    let head = match &lines {
        Value::Array(items) => {
            let end = js::slice_end(&num, items.len());
            Value::Array(items.iter().take(end).cloned().collect())
        }
        // JavaScript slices texts too.
        Value::String(text) => {
            let end = js::slice_end(&num, text.chars().count());
            Value::String(text.chars().take(end).collect())
        }
        _ => return Err("An error has occurred: TypeError: lines.slice is not a function".into()),
    };
    let mut line = String::from("head get first ");
    line.push_str(&js::text(&num));
    line.push_str(" lines of ");
    line.push_str(&js::text(&lines));
    line.push_str(": ");
    line.push_str(&js::text(&head));
    guest::log(&line);
    Ok(Value::object([("lines", head), ("num", num)]))
}

wisp_system::export!(run);
