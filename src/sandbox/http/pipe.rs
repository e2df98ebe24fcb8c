//! A body between guest and client: the guest's own channel of a few chunks, until the guest has ended, and what was left
//! in it from then on.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use wasmtime_wasi_http::Error as WasiError;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::model::exchange::BodyError;

/// What comes next in `body`. Its channels would answer "later" once the task they are polled in has done much; what is
/// there must be got here, because nobody asks again.
pub(super) fn poll_freely(
    body: &mut HyperOutgoingBody,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
    let polled = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    pin!(tokio::task::unconstrained(polled)).poll(cx)
}

/// See the module. One end is the run's, the other the client's ([`PipeBody`]).
pub(super) struct Pipe(Mutex<State>);

struct State {
    /// The guest's channel; gone once it has ended, or the client has left.
    body: Option<HyperOutgoingBody>,
    /// What was in it at the end.
    rest: VecDeque<Frame<Bytes>>,
    /// Bytes that went through.
    bytes: u64,
    failed: bool,
    /// Whether nobody reads any more.
    left: bool,
    client: Option<Waker>,
}

impl State {
    fn count(&mut self, frame: &Frame<Bytes>) {
        let size = frame.data_ref().map_or(0, Bytes::len);
        self.bytes = self.bytes.saturating_add(u64::try_from(size).unwrap_or(0));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(body) = &mut self.body {
            let polled = Pin::new(body).poll_frame(cx);
            return match polled {
                Poll::Pending => {
                    self.client = Some(cx.waker().clone());
                    Poll::Pending
                }
                Poll::Ready(Some(Ok(frame))) => {
                    self.count(&frame);
                    Poll::Ready(Some(Ok(frame)))
                }
                Poll::Ready(Some(Err(_))) => {
                    self.fail();
                    Poll::Ready(Some(Err(broken())))
                }
                Poll::Ready(None) => {
                    self.body = None;
                    Poll::Ready(None)
                }
            };
        }
        match self.rest.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if self.failed => Poll::Ready(Some(Err(broken()))),
            None => Poll::Ready(None),
        }
    }

    fn fail(&mut self) {
        self.failed = true;
        self.body = None;
    }
}

fn broken() -> BodyError {
    "the action did not finish its answer".into()
}

impl Pipe {
    pub(super) fn new(body: HyperOutgoingBody) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            body: Some(body),
            rest: VecDeque::new(),
            bytes: 0,
            failed: false,
            left: false,
            client: None,
        })))
    }

    /// The guest has ended, well or not: whether the body was finished, and how many bytes it had.
    pub(super) fn close(&self, well: bool) -> (bool, u64) {
        let mut state = self.0.lock();
        let mut nobody = Context::from_waker(Waker::noop());
        if !well {
            state.fail();
        }
        while let Some(mut body) = state.body.take() {
            match poll_freely(&mut body, &mut nobody) {
                Poll::Ready(None) => {}
                // Whoever ended well and left its body open has not finished it.
                Poll::Pending | Poll::Ready(Some(Err(_))) => state.failed = true,
                Poll::Ready(Some(Ok(frame))) => {
                    state.count(&frame);
                    state.rest.push_back(frame);
                    state.body = Some(body);
                }
            }
        }
        let ended = (!state.failed || state.left, state.bytes);
        let client = state.client.take();
        drop(state);
        if let Some(client) = client {
            client.wake();
        }
        ended
    }
}

/// The client's end.
pub(super) struct PipeBody(pub(super) Arc<Pipe>);

impl Body for PipeBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.0.lock().poll(cx)
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.left = true;
        state.rest.clear();
        // The guest's next write fails.
        state.body = None;
    }
}

/// A body that is all there.
pub(super) struct Whole {
    parts: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    size: usize,
}

impl Whole {
    pub(super) fn new(parts: VecDeque<Bytes>, trailers: Option<HeaderMap>) -> Self {
        let size = parts.iter().map(Bytes::len).sum();
        Self {
            parts,
            trailers,
            size,
        }
    }

    /// Bytes left of it.
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(part) = self.parts.pop_front() {
            self.size -= part.len();
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        Poll::Ready(self.trailers.take().map(|it| Ok(Frame::trailers(it))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.trailers.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(u64::try_from(self.size).unwrap_or(u64::MAX))
    }
}
