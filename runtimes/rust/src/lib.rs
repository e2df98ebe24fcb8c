//! Write Wisp actions in Rust: a function from JSON to JSON, exported with [`export!`].
//!
//! ```
//! use serde_json::{json, Value};
//!
//! fn run(params: Value) -> Result<Value, wisp::Error> {
//!     let name = params["name"].as_str().unwrap_or("stranger");
//!     Ok(json!({ "greeting": format!("Hello, {name}!") }))
//! }
//!
//! wisp::export!(run);
//! # fn main() {}
//! ```
//!
//! Build it as a `cdylib` for `wasm32-wasip1`. The module then speaks the core ABI, version 1, of `runtimes/abi/README.md`:
//! the host asks for room, writes the parameters there, calls, and reads the result where it was told. Instances are
//! used again: what lives in a `static` may be there the next time.

mod error;

#[doc(hidden)]
pub mod abi;

pub use error::Error;
pub use serde_json::{Value, json};

/// Exports a function as the action: `fn(P) -> Result<R, E>`, where `P` implements [`serde::de::DeserializeOwned`], `R`
/// implements [`serde::Serialize`] and becomes an object or an array, and `E` is [`Error`] or a [`Value`].
#[macro_export]
macro_rules! export {
    ($function:path) => {
        const _: () = {
            #[cfg(target_arch = "wasm32")]
            #[no_mangle]
            extern "C" fn _initialize() {
                $crate::abi::initialize();
            }

            #[cfg(target_arch = "wasm32")]
            #[no_mangle]
            extern "C" fn wisp_alloc(len: usize) -> *mut u8 {
                $crate::abi::alloc(len)
            }

            #[cfg(target_arch = "wasm32")]
            #[no_mangle]
            extern "C" fn wisp_run(pointer: *mut u8, len: usize) -> u64 {
                $crate::abi::run(pointer, len, |params| $crate::abi::call(params, $function))
            }

            #[cfg(not(target_arch = "wasm32"))]
            const _: fn(&[u8]) -> Vec<u8> = |params| $crate::abi::call(params, $function);
        };
    };
}

/// A variable of the activation that runs: `__OW_ACTIVATION_ID`, `__OW_NAMESPACE`, `__OW_DEADLINE`, … and `init`
/// parameters. `None` when it is not set, and everywhere but inside Wisp.
///
/// Unlike `std::env::var`, which reads the environment once, it is right in an instance that is used again.
#[must_use]
pub fn context(name: &str) -> Option<String> {
    abi::context(name)
}
