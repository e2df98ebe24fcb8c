//! `printParams`: writes the parameters to the log, by name, and answers them under `params`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use wisp_system::{Answer, Value, guest};

fn run(params: Value) -> Answer {
    let Value::Object(mut fields) = params else {
        return Err("The parameters are no object.".into());
    };
    fields.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    let mut separator = "";
    for (key, value) in &fields {
        guest::log(&(String::from(separator) + "params." + key + ": " + &value.to_json()));
        separator = " ";
    }
    Ok(Value::object([("params", Value::Object(fields))]))
}

wisp_system::export!(run);
