//! `split`: `{payload, separator?}` → `{lines, payload}`, at the separator or at line ends.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use wisp_system::{Answer, Value, guest, js};

fn run(params: Value) -> Answer {
    let payload = js::present(params.get("payload"), "toString")?;
    let text = js::text(payload);
    let lines = match js::truthy(params.get("separator")) {
        None => js::lines(&text),
        Some(separator) => js::split(&text, &js::text(separator)),
    };
    let fields = [("lines", Value::Array(lines)), ("payload", payload.clone())];
    let result = Value::object(fields);
    guest::log(&(String::from("split: returning ") + &result.to_json()));
    Ok(result)
}

wisp_system::export!(run);
