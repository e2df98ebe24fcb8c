//! `sort`: `{lines: […]}` → `{lines, length}`, in the order of their texts.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use wisp_system::{Answer, Value, guest, js};

fn run(params: Value) -> Answer {
    guest::log(&(String::from("sort input msg: ") + &params.to_json()));
    let lines = match js::truthy(params.get("lines")) {
        None => [].into(),
        Some(Value::Array(lines)) => lines.clone(),
        Some(_) => {
            return Err("An error has occurred: TypeError: lines.sort is not a function".into());
        }
    };
    guest::log(&(String::from("sort before: ") + &js::join(&lines, ",")));
    let lines = js::sort(lines);
    guest::log(&(String::from("sort after: ") + &js::join(&lines, ",")));
    let length = lines.len().into();
    Ok(Value::object([
        ("lines", Value::Array(lines)),
        ("length", length),
    ]))
}

wisp_system::export!(run);
