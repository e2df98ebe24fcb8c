//! The guests under load, as their code is uploaded.

use anyhow::{Context as _, Result};
use base64::Engine as _;

/// Answers its parameters: core ABI, one page.
pub(crate) const ECHO: &str = include_str!("../../fixtures/guests/echo.wat");
/// Sleeps: core ABI, one page.
pub(crate) const SLEEP: &str = include_str!("../../fixtures/guests/sleep.wat");
/// Computes: core ABI, one page.
pub(crate) const BURN: &str = include_str!("../../fixtures/guests/burn.wat");
/// Never ends: core ABI, one page.
pub(crate) const SPIN: &str = include_str!("../../fixtures/guests/spin.wat");
/// Core ABI with `serde_json`.
pub(crate) const RUST: &[u8] = include_bytes!("../../../examples/hello-rust/hello-rust.wasm");
/// `wisp:action/handler` with `serde_json`.
pub(crate) const COMPONENT: &[u8] =
    include_bytes!("../../../examples/hello-component/hello-component.wasm");
/// WASI command with `serde_json`.
pub(crate) const COMMAND: &[u8] = include_bytes!("../../../examples/wordcount/wordcount.wasm");

/// A module that answers `json`, whatever it is asked: core ABI, one page.
pub(crate) fn answering(json: &str) -> String {
    let text = json.replace('\\', "\\\\").replace('"', "\\\"");
    let (at, len) = (32_768, json.len());
    format!(
        r#"(module
  (memory (export "memory") 1 1)
  (data (i32.const {at}) "{text}")
  (func (export "wisp_alloc") (param $len i32) (result i32)
    (select (i32.const 16) (i32.const 0) (i32.le_u (local.get $len) (i32.const 32752))))
  (func (export "wisp_run") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.const {at}) (i64.const 32)) (i64.const {len}))))"#
    )
}

/// Bytes as code.
pub(crate) fn base64(module: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(module)
}

/// The bytes of a module in text.
pub(crate) fn assemble(text: &str) -> Result<Vec<u8>> {
    Ok(wat::parse_str(text)?)
}

/// A module that does the same but is another: with a custom section that holds `index`.
pub(crate) fn distinct(module: &[u8], index: usize) -> Result<Vec<u8>> {
    let name = b"variant";
    let index = u64::try_from(index)?.to_le_bytes();
    let mut other = module.to_vec();
    other.push(0); // a custom section
    other.push(u8::try_from(1 + name.len() + index.len()).context("section length")?);
    other.push(u8::try_from(name.len()).context("name length")?);
    other.extend_from_slice(name);
    other.extend_from_slice(&index);
    Ok(other)
}
