//! The ticker: one thread that advances the engines' epochs, so that running guests yield.
//!
//! It holds the engines weakly and ends with the last of them; nothing stops it explicitly.

use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

/// Starts the ticker for `engines`.
///
/// # Errors
/// When the thread cannot be made.
pub(super) fn start(engines: &[&Engine], tick: Duration) -> std::io::Result<()> {
    let engines: Vec<EngineWeak> = engines.iter().map(|engine| engine.weak()).collect();
    std::thread::Builder::new()
        .name("wisp-epoch".into())
        .spawn(move || run(&engines, tick))?;
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, not one of the runtime's"
)]
fn run(engines: &[EngineWeak], tick: Duration) {
    loop {
        std::thread::sleep(tick);
        let mut alive = false;
        for engine in engines.iter().filter_map(EngineWeak::upgrade) {
            engine.increment_epoch();
            alive = true;
        }
        if !alive {
            return;
        }
    }
}
