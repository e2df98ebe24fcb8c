//! A greeting, as a component: the world `wisp:action/action` and nothing else of Wisp's.

use serde_json::{Value, json};

wit_bindgen::generate!({ path: "../../runtimes/abi", world: "action" });

struct Hello;

impl exports::wisp::action::handler::Guest for Hello {
    fn run(params: String) -> Result<String, String> {
        let params: Value =
            serde_json::from_str(&params).map_err(|error| failure(&error.to_string()))?;
        let name = match &params["name"] {
            Value::Null => "stranger",
            Value::String(name) => name,
            other => return Err(failure(&format!("name must be a string, not {other}"))),
        };
        let mut result = json!({ "greeting": format!("Hello, {name}!") });
        if params["trace"] == true {
            result["activation"] = wisp::action::context::get("__OW_ACTIVATION_ID").into();
        }
        Ok(result.to_string())
    }
}

/// What goes wrong is JSON too.
fn failure(message: &str) -> String {
    Value::from(message).to_string()
}

export!(Hello);
