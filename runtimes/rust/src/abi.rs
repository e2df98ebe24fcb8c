//! The core ABI behind [`export!`](crate::export()). Not for use by hand.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Runs `function` on parameters as bytes, and answers bytes: the result, or `{"error": …}`.
pub fn call<P, R, E>(params: &[u8], function: impl FnOnce(P) -> Result<R, E>) -> Vec<u8>
where
    P: DeserializeOwned,
    R: Serialize,
    E: Into<Value>,
{
    let failed = |error: Value| json!({ "error": error }).to_string().into_bytes();
    let params = match serde_json::from_slice(params) {
        Ok(params) => params,
        Err(error) => {
            return failed(format!("The parameters do not fit the action: {error}").into());
        }
    };
    match function(params) {
        Ok(result) => serde_json::to_vec(&result)
            .unwrap_or_else(|error| failed(format!("The result is not JSON: {error}").into())),
        Err(error) => failed(error.into()),
    }
}

#[cfg(target_arch = "wasm32")]
mod guest {
    use std::alloc::Layout;
    use std::cell::RefCell;

    thread_local! {
        /// The last result; the host reads it after `wisp_run` has returned.
        static RESULT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }

    /// Runs the constructors of the libraries linked in, once. Without it the linker would run them around every call.
    pub fn initialize() {
        unsafe extern "C" {
            fn __wasm_call_ctors();
        }
        // SAFETY: made by the linker; called once, before anything else, by the host.
        unsafe { __wasm_call_ctors() }
    }

    /// Room for `len` bytes of parameters, taken back by [`run`]; null when there is none.
    pub fn alloc(len: usize) -> *mut u8 {
        RESULT.with_borrow_mut(|result| *result = Vec::new());
        match Layout::array::<u8>(len.max(1)) {
            // SAFETY: the layout is not empty.
            Ok(layout) => unsafe { std::alloc::alloc(layout) },
            Err(_) => std::ptr::null_mut(),
        }
    }

    /// Takes the room back with `len` bytes in it, runs `call` on them and says where its answer is.
    pub fn run(pointer: *mut u8, len: usize, call: impl Fn(&[u8]) -> Vec<u8>) -> u64 {
        // SAFETY: the host calls with what `alloc(len)` answered, once, after filling it; so it is
        // initialised, and its layout is that of a vector of this capacity.
        let params = unsafe { Vec::from_raw_parts(pointer, len, len.max(1)) };
        let answer = call(&params);
        RESULT.with_borrow_mut(|result| {
            *result = answer;
            ((result.as_ptr() as u64) << 32) | result.len() as u64
        })
    }

    /// Reads a variable of the activation.
    pub fn context(name: &str) -> Option<String> {
        #[link(wasm_import_module = "wisp")]
        unsafe extern "C" {
            fn context_get(
                name: *const u8,
                name_len: usize,
                buffer: *mut u8,
                buffer_len: usize,
            ) -> i32;
        }
        let mut buffer = vec![0u8; 128];
        loop {
            // SAFETY: both ranges are ours, and the host writes at most the length it is given.
            let len = unsafe {
                context_get(name.as_ptr(), name.len(), buffer.as_mut_ptr(), buffer.len())
            };
            let len = usize::try_from(len).ok()?;
            if len <= buffer.len() {
                buffer.truncate(len);
                return String::from_utf8(buffer).ok();
            }
            buffer.resize(len, 0);
        }
    }
}

#[cfg(target_arch = "wasm32")]
pub use guest::{alloc, context, initialize, run};

/// Outside Wisp there is no activation.
#[cfg(not(target_arch = "wasm32"))]
pub fn context(_name: &str) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::call;
    use crate::{Error, Value, json};

    fn answer<P: serde::de::DeserializeOwned>(
        params: &str,
        function: impl FnOnce(P) -> Result<Value, Error>,
    ) -> Value {
        serde_json::from_slice(&call(params.as_bytes(), function)).unwrap()
    }

    #[test]
    fn the_result_is_what_the_function_answers() {
        let result = answer(r#"{"n":2}"#, |p: Value| {
            Ok(json!({ "n": p["n"].as_u64().unwrap() + 1 }))
        });
        assert_eq!(result, json!({ "n": 3 }));
    }

    #[test]
    fn an_error_is_an_object_with_the_key_error() {
        let result = answer("{}", |_: Value| Err("x".parse::<u8>().unwrap_err())?);
        assert_eq!(result, json!({ "error": "invalid digit found in string" }));
        let result = answer("{}", |_: Value| Err(Error::json(json!({ "code": 7 }))));
        assert_eq!(result, json!({ "error": { "code": 7 } }));
    }

    #[test]
    fn parameters_of_another_shape_are_an_error_that_says_so() {
        #[derive(serde::Deserialize)]
        struct Params {
            #[serde(rename = "n")]
            _n: u8,
        }
        let result = answer(r#"{"m":1}"#, |_: Params| Ok(Value::Null));
        let error = result["error"].as_str().unwrap();
        assert!(error.contains("missing field `n`"), "{error}");
    }
}
