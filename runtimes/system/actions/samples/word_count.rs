//! `wordCount`: `{payload}` → `{count}`, the pieces between single spaces.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use wisp_system::{Answer, Value, guest, js};

fn run(params: Value) -> Answer {
    let text = js::text(js::present(params.get("payload"), "toString")?);
    let count = Value::from(text.split(' ').count());
    let line = String::from("The message '") + &text + "' has " + &js::text(&count) + " words";
    guest::log(&line);
    Ok(Value::object([("count", count)]))
}

wisp_system::export!(run);
