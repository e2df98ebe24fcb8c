//! Write actions for Wisp, a function platform on WebAssembly, in Rust: a function from JSON to JSON.
//!
//! ```
//! # mod action {
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Params {
//!     #[serde(default = "stranger")]
//!     name: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Greeting {
//!     greeting: String,
//! }
//!
//! fn stranger() -> String {
//!     "stranger".to_owned()
//! }
//!
//! #[wisp_action::main]
//! fn main(params: Params) -> wisp_action::Result<Greeting> {
//!     wisp_action::log!("greeting {}", params.name);
//!     Ok(Greeting { greeting: format!("Hello, {}!", params.name) })
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! Build it as a `cdylib` for `wasm32-wasip1` (`wisp build` does):
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//! ```
//!
//! # What goes in
//!
//! The parameters of an activation are one JSON object: what is bound to the action and its package, and over it what the
//! caller sent. They become whatever type the function takes, as long as it implements [`serde::Deserialize`]: a struct of
//! yours, [`Params`] (a map of JSON values) or [`Value`]. What does not fit is answered with an error that says which
//! field is wrong, and the function is not called. A function that takes nothing ignores them. An action that works on
//! bytes asks for `#[wisp_action::main(raw)]`, see [`main`].
//!
//! # What comes out
//!
//! `Ok` with anything that implements [`serde::Serialize`] and becomes a JSON object or an array. `Err` makes the
//! activation an *application error*, `{"error": …}`: [`Error`] is made by `?` from every [`std::error::Error`], by
//! [`bail!`], or carries any JSON with [`Error::json`]. A panic ends the instance and the activation; the next one gets a
//! new instance.
//!
//! # What is around it
//!
//! - [`log!`], `println!` and `eprintln!` write lines to the activation's log;
//! - [`context`] knows the activation: its id, its namespace, how long it may still run;
//! - [`web`] reads requests of web actions and makes answers with a status, headers and any body;
//! - `/tmp` is a private, empty folder in memory.
//!
//! # Instances
//!
//! An instance is used again, for one activation at a time: what lives in a `static` or a [`std::sync::OnceLock`] is there
//! the next time, if there is a next time in this instance. So compile a regular expression once, and keep nothing that
//! must not be lost. The module speaks the core ABI, version 1: the host asks for room, writes the parameters there, calls,
//! and reads the result where it was told.

#![warn(missing_docs)]

mod error;

#[doc(hidden)]
pub mod abi;
pub mod context;
pub mod web;

pub use error::{Error, Result};
pub use serde_json::{json, Value};

/// Makes a function the action.
///
/// It may be called anything and takes one parameter, or none:
///
/// ```
/// use wisp_action::{json, Params, Value};
///
/// #[wisp_action::main]
/// fn run(params: Params) -> wisp_action::Result<Value> {
///     let name = params.get("name").and_then(Value::as_str).unwrap_or("stranger");
///     Ok(json!({ "greeting": format!("Hello, {name}!") }))
/// }
/// # fn main() {}
/// ```
///
/// With `raw` it gets the parameters as they came, JSON text in UTF-8, and answers the same; nothing is parsed. What is not
/// a JSON object or array is an error of the action:
///
/// ```
/// #[wisp_action::main(raw)]
/// fn echo(params: &[u8]) -> Vec<u8> {
///     params.to_vec()
/// }
/// # fn main() {}
/// ```
///
/// What the function answers is a `Result<T, E>` where `T` implements [`serde::Serialize`] and `E` is [`Error`] or a
/// [`Value`].
pub use wisp_action_macros::main;

/// The parameters, when no struct of one's own fits: names and JSON values.
pub type Params = serde_json::Map<String, Value>;

/// Takes any parameters and keeps none.
#[doc(hidden)]
pub use serde::de::IgnoredAny as Ignored;

/// Writes a line to the activation's log, as [`println!`] does.
///
/// ```
/// let items = 3;
/// wisp_action::log!("{items} items");
/// ```
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => {
        ::std::println!($($argument)*)
    };
}

/// Ends the action with an error that is a message.
///
/// ```
/// # use wisp_action::{bail, Result};
/// fn positive(n: i64) -> Result<i64> {
///     if n < 0 {
///         bail!("n must not be negative, is {n}");
///     }
///     Ok(n)
/// }
/// assert_eq!(positive(-1).unwrap_err().to_string(), "n must not be negative, is -1");
/// ```
#[macro_export]
macro_rules! bail {
    ($($argument:tt)*) => {
        return ::core::result::Result::Err($crate::Error::new(::std::format!($($argument)*)))
    };
}

/// What [`main`] puts behind the function; for those who would rather have no attribute.
///
/// ```
/// fn run(params: wisp_action::Value) -> wisp_action::Result<wisp_action::Value> {
///     Ok(params)
/// }
///
/// wisp_action::export!(run);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    (raw: $function:expr) => {
        const _: () = {
            #[cfg(target_arch = "wasm32")]
            #[unsafe(no_mangle)]
            extern "C" fn _initialize() {
                $crate::abi::initialize();
            }

            #[cfg(target_arch = "wasm32")]
            #[unsafe(no_mangle)]
            extern "C" fn wisp_alloc(len: usize) -> *mut u8 {
                $crate::abi::alloc(len)
            }

            #[cfg(target_arch = "wasm32")]
            #[unsafe(no_mangle)]
            extern "C" fn wisp_run(pointer: *mut u8, len: usize) -> u64 {
                $crate::abi::run(pointer, len, $function)
            }

            #[cfg(not(target_arch = "wasm32"))]
            const _: fn(&[u8]) -> Vec<u8> = $function;
        };
    };
    ($function:expr) => {
        $crate::export!(raw: |params: &[u8]| $crate::abi::call(params, $function));
    };
}
