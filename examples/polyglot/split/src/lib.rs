//! Step 1, in Rust: a text to its words.

use serde::{Deserialize, Serialize};
use wisp_action::Result;

#[derive(Deserialize)]
struct Params {
    text: String,
}

#[derive(Serialize)]
struct Words {
    words: Vec<String>,
}

#[wisp_action::main]
fn main(params: Params) -> Result<Words> {
    let words = params.text.split(|c: char| !c.is_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(str::to_lowercase).collect();
    wisp_action::log!("{} words", words.len());
    Ok(Words { words })
}
