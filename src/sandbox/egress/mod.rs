//! The way out: HTTP requests that guests make, and which of them are made at all.
//!
//! `policy` (may this host, at this address, be talked to) ← `address` (what is nobody's business) · `dial` (resolve, judge,
//! connect) → `client` (one request) ← `imports` (core modules, `wisp.http_*`) and [`super::http`] (components).
//!
//! Invariants:
//! - what is judged is what is dialled: a name is resolved once, and only addresses that passed are connected to;
//! - nothing follows a redirect by itself: whoever does makes a request of its own, which is judged anew;
//! - a request belongs to the run that made it and ends with it;
//! - connections, lookups, waits, heads and bodies are bounded, for an instance and for the node;
//!   requests and the bytes of a minute for a namespace ([`flow`]).

mod address;
mod client;
mod config;
mod dial;
mod flow;
pub(super) mod imports;
mod policy;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;

pub(super) use client::Client;
pub(crate) use config::Config;

use super::Traffic;
use crate::model::Namespace;

/// A body on its way out, or in.
pub(super) type Body = UnsyncBoxBody<Bytes, wasmtime_wasi_http::Error>;

/// How long each part of a request may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// To resolve, connect and agree on keys.
    pub(super) connect: Duration,
    /// From then until the head of the answer.
    pub(super) first_byte: Duration,
    /// Between two parts of the body.
    pub(super) between_bytes: Duration,
}

/// What one instance sends and receives, and how many connections it has open.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// Whose it is; nobody's while source is prepared.
    namespace: Option<Namespace>,
    received: AtomicU64,
    sent: AtomicU64,
    open: AtomicUsize,
}

impl Usage {
    /// Of an instance that serves `namespace`.
    pub(super) fn of(namespace: Option<Namespace>) -> Arc<Self> {
        Arc::new(Self {
            namespace,
            ..Self::default()
        })
    }

    /// What was moved so far.
    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
        }
    }

    /// Begins to count anew.
    pub(super) fn begin(&self) {
        self.received.store(0, Ordering::Relaxed);
        self.sent.store(0, Ordering::Relaxed);
    }

    /// Counts what came in of a body.
    pub(super) fn receive(&self, frame: &Frame<Bytes>) {
        Self::add(&self.received, frame.data_ref().map_or(0, Bytes::len));
    }

    fn add(counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Why a request was not made, or broke off. The text is for the guest and its author.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Guests make no requests here.
    #[error("outbound HTTP is switched off on this server")]
    Off,
    /// It is no address of the web.
    #[error("{0}")]
    Uri(String),
    /// The policy forbids it.
    #[error("{0}")]
    Denied(String),
    /// The name means nothing.
    #[error("{host} cannot be resolved: {cause}")]
    Lookup { host: String, cause: String },
    /// Too many at one time.
    #[error("{0}")]
    Busy(String),
    /// Nobody answers there.
    #[error("cannot connect to {host}: {cause}")]
    Connect { host: String, cause: std::io::Error },
    /// There is somebody else, or nobody that can be believed.
    #[error("no secure connection to {host}: {cause}")]
    Tls { host: String, cause: std::io::Error },
    /// Connecting took too long.
    #[error("no connection to {0} within the time allowed")]
    ConnectTimeout(String),
    /// The answer took too long.
    #[error("no answer from {0} within the time allowed")]
    AnswerTimeout(String),
    /// It was no HTTP, or broke off.
    #[error("the exchange with {host} failed: {cause}")]
    Http { host: String, cause: hyper::Error },
}

impl From<Error> for wasmtime_wasi_http::Error {
    fn from(error: Error) -> Self {
        tracing::debug!(%error, "a guest's request failed");
        match error {
            Error::Off => Self::HttpRequestDenied,
            Error::Uri(_) => Self::HttpRequestUriInvalid,
            Error::Denied(_) => Self::DestinationIpProhibited,
            Error::Lookup { cause, .. } => Self::DnsError {
                rcode: Some(cause),
                info_code: None,
            },
            Error::Busy(_) => Self::ConnectionLimitReached,
            Error::Connect { cause, .. } => Self::Connect(cause),
            Error::Tls { cause, .. } => Self::Tls(cause),
            Error::ConnectTimeout(_) => Self::ConnectionTimeout,
            Error::AnswerTimeout(_) => Self::HttpResponseTimeout,
            Error::Http { cause, .. } => Self::Hyper(cause),
        }
    }
}

/// A place among an instance's connections, given back on drop.
struct Place(Arc<Usage>);

impl Place {
    fn take(usage: &Arc<Usage>, most: usize) -> Result<Self, Error> {
        let one_more = |open| (open < most).then_some(open + 1);
        let taken = usage
            .open
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more);
        taken
            .map_err(|_| Error::Busy(format!("the action has {most} connections open already")))?;
        Ok(Self(Arc::clone(usage)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}
