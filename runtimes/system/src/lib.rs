//! What the actions of `/whisk.system` share: JSON, the JavaScript rules their originals rely on, and the core ABI.
//!
//! Every action is a module of its own, because `--copy` takes it out of its package; so each carries what it uses of this
//! crate. Hence no standard library, no formatting machinery and no panic messages: some kilobytes instead of a hundred.
//! The originals are JavaScript (OpenWhisk's catalog); where they lean on the language (what is a truthy value, how a
//! number prints, how an array sorts), [`js`] does the same, so that a caller cannot tell which one answered.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

pub mod date;
pub mod guest;
pub mod js;
pub mod json;

pub use json::Value;

/// What an action answers: a JSON object, or the text of an application error.
pub type Answer = Result<Value, alloc::string::String>;

/// Exports a function as the action. `fn(Value) -> Answer`; after `bytes:` a function from bytes to bytes, both JSON text.
#[macro_export]
macro_rules! export {
    (bytes: $function:path) => {
        #[cfg(target_arch = "wasm32")]
        #[no_mangle]
        extern "C" fn wisp_alloc(len: usize) -> *mut u8 {
            $crate::guest::alloc(len)
        }

        #[cfg(target_arch = "wasm32")]
        #[no_mangle]
        extern "C" fn wisp_run(pointer: *const u8, len: usize) -> u64 {
            $crate::guest::run(pointer, len, $function)
        }

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&'static [u8]) -> &'static [u8] = $function;
    };
    ($function:path) => {
        fn run_on_bytes(params: &'static [u8]) -> &'static [u8] {
            $crate::guest::answer(params, $function)
        }
        $crate::export!(bytes: run_on_bytes);
    };
}
