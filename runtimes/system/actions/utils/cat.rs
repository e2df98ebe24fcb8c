//! `cat`: `{lines: […]}` → `{lines, payload}`, the lines joined by line ends.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use wisp_system::{Answer, Value, guest, js};

fn run(params: Value) -> Answer {
    let payload = match js::truthy(params.get("lines")) {
        None => String::new(),
        Some(Value::Array(lines)) => js::join(lines, "\n"),
        Some(_) => {
            return Err("An error has occurred: TypeError: lines.join is not a function".into());
        }
    };
    let lines = js::truthy(params.get("lines")).cloned();
    let lines = lines.unwrap_or(Value::Array([].into()));
    let result = Value::object([("lines", lines), ("payload", payload.into())]);
    guest::log(&(String::from("cat: returning ") + &result.to_json()));
    Ok(result)
}

wisp_system::export!(run);
