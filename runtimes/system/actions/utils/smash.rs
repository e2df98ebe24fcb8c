//! `smash`: nests all parameters under the one that `$fieldName` names.

#![cfg_attr(target_arch = "wasm32", no_std)]

use wisp_system::{Answer, Value};

const FIELD: &str = "$fieldName";

fn run(params: Value) -> Answer {
    let Some(Value::String(parent)) = params.get(FIELD).cloned() else {
        return Err("Expected an argument '$fieldName' of type 'string'.".into());
    };
    let Value::Object(mut fields) = params else {
        return Err("The parameters are no object.".into());
    };
    fields.retain(|(key, _)| key != FIELD);
    Ok(Value::object([(&parent, Value::Object(fields))]))
}

wisp_system::export!(run);
