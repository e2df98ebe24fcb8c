//! What engines may import beside what every core module may: outbound HTTP, and with it the wait for timers.

use std::time::Duration;

use wasmtime::{Caller, Linker};

use super::super::host::Host;

/// A linker for engines, on top of what all core modules are given.
///
/// # Errors
/// When two functions have one name: ours.
pub(in super::super) fn linker(base: &Linker<Host>) -> wasmtime::Result<Linker<Host>> {
    let mut linker = base.clone();
    let none = |_: u32, _: u32, _: u32, _: u32| -1_i32;
    if linker.func_wrap("wisp", "http_start", none).is_err() {
        // The real ones are there.
        return Ok(base.clone());
    }
    linker
        .func_wrap_async(
            "wisp",
            "http_poll",
            |_: Caller<'_, Host>, (timeout_ms,): (i64,)| {
                Box::new(async move {
                    match u64::try_from(timeout_ms) {
                        Ok(timeout_ms) => {
                            tokio::time::sleep(Duration::from_millis(timeout_ms)).await;
                        }
                        // Nothing is open, so nothing will come: the run's own deadline ends it.
                        Err(_) => std::future::pending().await,
                    }
                    -1_i32
                })
            },
        )?
        .func_wrap("wisp", "http_head", |_: i32, _: u32, _: u32| -1_i32)?
        .func_wrap("wisp", "http_read", |_: i32, _: u32, _: u32| -2_i32)?
        .func_wrap("wisp", "http_drop", |_: i32| {})?;
    Ok(linker)
}
