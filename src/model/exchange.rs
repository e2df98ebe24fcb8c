//! An HTTP exchange on its way to the guest that answers it: the request as it came, and where the answer goes.
//!
//! It is handed over once and cannot be kept or sent elsewhere: bodies are streams that end in this process.

use std::fmt;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;

/// Why a body broke off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body, of either direction.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Takes the answer: its head, and a body that goes on while the guest runs.
pub(crate) type Respond = Box<dyn FnOnce(Response<Body>) + Send>;

/// See the module.
pub(crate) struct Exchange(Mutex<Option<(Request<Body>, Respond)>>);

impl Exchange {
    /// An exchange that answers `request` through `respond`.
    pub(crate) fn new(request: Request<Body>, respond: Respond) -> Self {
        Self(Mutex::new(Some((request, respond))))
    }

    /// Both ends of it, the first time.
    pub(crate) fn take(&self) -> Option<(Request<Body>, Respond)> {
        self.0.lock().take()
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}
