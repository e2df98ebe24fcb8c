//! An action of a language: its blob, and how a fresh instance of the engine becomes one of it.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::{Memory, Store};

use super::super::Outcome;
use super::super::host::Host;
use super::super::instance::{Calls, Exchanged};
use super::engine::Engine;

/// Bytes of an engine's own words that are passed on.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 10;

/// A linked program of a language.
pub(in super::super) struct LanguageCode {
    pub(in super::super) engine: Arc<Engine>,
    /// What the engine made of the source.
    pub(in super::super) blob: Arc<[u8]>,
    /// Bytes of the engine's memory that a new instance is taken to share with all others.
    shared_bytes: usize,
}

impl LanguageCode {
    /// Code for `engine`, which made `blob`.
    pub(in super::super) fn new(engine: Arc<Engine>, blob: Arc<[u8]>) -> Self {
        Self {
            shared_bytes: engine.image_bytes.saturating_sub(engine.own_bytes()),
            engine,
            blob,
        }
    }

    /// Bytes of memory and tables that an instance begins with, and that are its own.
    pub(in super::super) fn initial_bytes(&self) -> usize {
        let own = self.engine.image_bytes.saturating_sub(self.shared_bytes);
        own.saturating_add(self.engine.table_bytes)
    }

    /// Bytes beside those, which the kernel keeps once.
    pub(in super::super) fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    /// Gives a fresh instance its code. What went wrong is an outcome.
    pub(in super::super) async fn load(
        &self,
        store: &mut Store<Host>,
        calls: &Calls,
    ) -> wasmtime::Result<Option<Outcome>> {
        let load = calls.function(store, &self.engine.load)?.typed(&*store)?;
        let text = match calls.exchange(store, &load, &self.blob).await? {
            Exchanged::Answer(range) if range.is_empty() => None,
            Exchanged::Answer(range) => {
                let memory = calls.memory.data(&*store);
                Some(words(memory.get(range).unwrap_or_default()))
            }
            Exchanged::Broken(text) => return Ok(Some(Outcome::Died(text))),
        };
        let Some(text) = text else {
            if self.engine.is_measured() {
                // What it was taken to be will do until its first run has ended.
                return Ok(None);
            }
            let settled = self.settle(store, &calls.memory).await;
            return Ok((!settled).then_some(Outcome::NoRoom));
        };
        let text = format!("The action failed during initialization: {text}");
        let answer = serde_json::json!({ "error": text }).to_string();
        Ok(Some(Outcome::Failed {
            answer: Bytes::from(answer),
            exit: true,
        }))
    }

    /// Counts what the instance has made its own of the engine's memory; `false` when the node has no room for that.
    ///
    /// Looked at after the first, second, fourth, eighth … run, since what an instance writes to is soon known; and after the
    /// very first start of an engine.
    pub(in super::super) async fn settle(&self, store: &mut Store<Host>, memory: &Memory) -> bool {
        let image_bytes = self.engine.image_bytes;
        let own = {
            let address = memory.data_ptr(&*store).addr();
            self.engine.pagemap.own_bytes(address, image_bytes)
        };
        self.engine.measured(own);
        let meter = &mut store.data_mut().meter;
        meter.share_now(image_bytes.saturating_sub(own)).await
    }
}

/// What an engine says, for people.
pub(super) fn words(bytes: &[u8]) -> String {
    let cut = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(cut).trim_end().to_owned()
}
