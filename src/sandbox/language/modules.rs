//! The modules of the engines, as they travel inside this program.

use std::borrow::Cow;
use std::fmt;

use super::super::Refused;
use crate::model::kind::Language;

/// How a Zstandard frame begins.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes an engine may have unpacked; a bound for our own mistakes.
const MODULE_BYTES_MAX: usize = 256 << 20;

/// The module of each engine, as it is or compressed (Zstandard); `None` for a language that is not there.
#[derive(Clone)]
pub(crate) struct EngineModules {
    /// That of JavaScript.
    pub(crate) javascript: Option<Cow<'static, [u8]>>,
    /// That of Python.
    pub(crate) python: Option<Cow<'static, [u8]>>,
}

impl Default for EngineModules {
    /// Those that were built with this repository.
    fn default() -> Self {
        let javascript: &[u8] = include_bytes!("../../../runtimes/javascript/engine.wasm");
        let python: &[u8] = include_bytes!("../../../runtimes/python/engine.wasm.zst");
        Self {
            javascript: Some(Cow::Borrowed(javascript)),
            python: Some(Cow::Borrowed(python)),
        }
    }
}

impl fmt::Debug for EngineModules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |module: &Option<Cow<'static, [u8]>>| module.as_ref().map(|bytes| bytes.len());
        f.debug_struct("EngineModules")
            .field("javascript", &bytes(&self.javascript))
            .field("python", &bytes(&self.python))
            .finish()
    }
}

impl EngineModules {
    /// The module of a language, packed as it is.
    pub(super) fn of(&self, language: Language) -> Option<&Cow<'static, [u8]>> {
        match language {
            Language::JavaScript => self.javascript.as_ref(),
            Language::Python => self.python.as_ref(),
        }
    }
}

/// A module ready for the compiler.
///
/// # Errors
/// When it is damaged: ours, for it is part of this program.
pub(super) fn unpacked(module: &[u8]) -> Result<Vec<u8>, Refused> {
    if !module.starts_with(&ZSTD_MAGIC) {
        return Ok(module.to_vec());
    }
    let damaged = |error: &dyn fmt::Display| {
        Refused::Unavailable(format!("A language's engine cannot be unpacked: {error}."))
    };
    let mut decoder =
        ruzstd::decoding::StreamingDecoder::new(module).map_err(|error| damaged(&error))?;
    let mut bytes = Vec::new();
    let mut bounded = std::io::Read::take(&mut decoder, MODULE_BYTES_MAX as u64);
    std::io::Read::read_to_end(&mut bounded, &mut bytes).map_err(|error| damaged(&error))?;
    Ok(bytes)
}
