//! A greeting, with the Rust SDK.

use serde_json::{Value, json};

fn run(params: Value) -> Result<Value, wisp::Error> {
    let name = match &params["name"] {
        Value::Null => "stranger",
        Value::String(name) => name,
        other => {
            return Err(wisp::Error::new(format!(
                "name must be a string, not {other}"
            )));
        }
    };
    println!("greeting {name}"); // a line of the activation's log
    Ok(json!({ "greeting": format!("Hello, {name}!") }))
}

wisp::export!(run);
