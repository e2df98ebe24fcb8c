//! A greeting, with the Rust SDK.

use wisp_action::{Params, Result, Value, bail, json, log};

#[wisp_action::main]
fn main(params: Params) -> Result<Value> {
    let name = match params.get("name") {
        None => "stranger",
        Some(Value::String(name)) => name,
        Some(other) => bail!("name must be a string, not {other}"),
    };
    log!("greeting {name}");
    Ok(json!({ "greeting": format!("Hello, {name}!") }))
}
