//! `date`: `{date}`, the time of day in ISO 8601 with milliseconds, UTC.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use wisp_system::{Answer, Value, date::Date, guest};

fn run(_params: Value) -> Answer {
    let now = Date::from_ms(guest::now_ms());
    guest::log(&(String::from("It is now ") + &now.sentence()));
    Ok(Value::object([("date", now.iso().into())]))
}

wisp_system::export!(run);
