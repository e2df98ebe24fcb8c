//! `greeting`: `{name?, place?}` → `{payload: "Hello, NAME from PLACE!"}`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use wisp_system::{Answer, Value, guest, js};

fn run(params: Value) -> Answer {
    guest::log(&(String::from("params: ") + &params.to_json()));
    let text = |key| js::truthy(params.get(key)).map(js::text);
    let name = text("name").or_else(|| text("payload"));
    let mut payload = String::from("Hello, ");
    payload.push_str(name.as_deref().unwrap_or("stranger"));
    payload.push_str(" from ");
    payload.push_str(text("place").as_deref().unwrap_or("somewhere"));
    payload.push('!');
    Ok(Value::object([("payload", payload.into())]))
}

wisp_system::export!(run);
