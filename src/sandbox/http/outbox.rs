//! Where a guest's answer waits until it is known how to send it.
//!
//! A guest that answers within its first slice, as most do, has ended when its answer is looked at: it is sent whole, with
//! its length, and no task ever waits for it. Only when the guest yields or waits is the head sent and the body streamed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use parking_lot::Mutex;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::pipe::{Pipe, PipeBody, Whole, poll_freely};
use super::result::result;
use super::{Outcome, Respond, Traffic};
use crate::model::exchange::Body;

/// Its answer, or the name of the error it gave instead.
type Given = Result<Response<HyperOutgoingBody>, String>;

/// What the guest gave as its answer, seen from inside its call.
#[derive(Default)]
pub(super) struct Outbox(Mutex<Option<Given>>);

impl Outbox {
    /// The guest's answer; it gives only one.
    pub(super) fn put(&self, answer: Given) {
        *self.0.lock() = Some(answer);
    }
}

/// How far the answer is.
enum Stage {
    /// The guest has given none.
    None,
    /// It says that it cannot.
    Refused(String),
    /// Given and not sent.
    Given(Response<HyperOutgoingBody>),
    /// On its way to the client.
    Sent { status: StatusCode, pipe: Arc<Pipe> },
    /// Being read for the result of a plain invocation.
    Read {
        status: StatusCode,
        headers: HeaderMap,
        body: HyperOutgoingBody,
        read: Read,
    },
}

/// What was read of a body.
#[derive(Default)]
pub(super) struct Read {
    pub(super) bytes: BytesMut,
    /// All of it, kept or not.
    pub(super) size: usize,
    ended: Option<bool>,
}

impl Read {
    /// Reads what is there.
    fn go_on(&mut self, body: &mut HyperOutgoingBody, bytes_max: usize, cx: &mut Context<'_>) {
        while self.ended.is_none() {
            match poll_freely(body, cx) {
                Poll::Pending => return,
                Poll::Ready(None) => self.ended = Some(true),
                Poll::Ready(Some(Err(_))) => self.ended = Some(false),
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        let room = (bytes_max + 1).saturating_sub(self.bytes.len());
                        self.bytes.extend_from_slice(&data[..room.min(data.len())]);
                        self.size = self.size.saturating_add(data.len());
                    }
                }
            }
        }
    }
}

/// An answer, from nothing to its end. Dropped before that, it breaks off.
pub(super) struct Answer {
    stage: Stage,
    /// Whom it is for; nobody for a plain invocation.
    respond: Option<Respond>,
    is_web: bool,
    result_bytes_max: usize,
}

impl Answer {
    pub(super) fn new(respond: Option<Respond>, result_bytes_max: usize) -> Self {
        Self {
            stage: Stage::None,
            is_web: respond.is_some(),
            respond,
            result_bytes_max,
        }
    }

    /// Takes what the guest has given by now.
    pub(super) fn take(&mut self, outbox: &Outbox) {
        if !matches!(self.stage, Stage::None) {
            return;
        }
        match outbox.0.lock().take() {
            None => {}
            Some(Err(code)) => self.stage = Stage::Refused(code),
            Some(Ok(response)) => self.stage = Stage::Given(response),
        }
    }

    /// Whether the guest has given one.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self.stage, Stage::None | Stage::Refused(_))
    }

    /// The guest waits: what it has given so far goes on its way.
    pub(super) fn go_on(&mut self, cx: &mut Context<'_>) {
        self.open();
        if let Stage::Read { body, read, .. } = &mut self.stage {
            read.go_on(body, self.result_bytes_max, cx);
        }
    }

    /// Begins to pass on an answer that was given.
    fn open(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::None);
        let Stage::Given(response) = stage else {
            self.stage = stage;
            return;
        };
        let (parts, body) = response.into_parts();
        let status = parts.status;
        self.stage = match self.respond.take() {
            Some(respond) => {
                let pipe = Pipe::new(body);
                let body = Body::new(PipeBody(Arc::clone(&pipe)));
                respond(Response::from_parts(parts, body));
                Stage::Sent { status, pipe }
            }
            None => Stage::Read {
                status,
                headers: parts.headers,
                body,
                read: Read::default(),
            },
        };
    }

    /// The guest failed: what it has not sent is not sent, and what it has is broken off.
    pub(super) fn break_off(&mut self) {
        if let Stage::Sent { pipe, .. } = &self.stage {
            pipe.close(false);
        }
        self.stage = Stage::None;
    }

    /// The guest has ended: what came of it.
    pub(super) fn finish(&mut self, traffic: &mut Traffic) -> Outcome {
        if !self.is_web {
            self.open();
        }
        match std::mem::replace(&mut self.stage, Stage::None) {
            Stage::None => Outcome::Died("The action ended without an answer.".to_owned()),
            Stage::Refused(code) => {
                Outcome::Died(format!("The action answered with an error: {code}."))
            }
            Stage::Given(response) => self.send_whole(response, traffic),
            Stage::Sent { status, pipe } => {
                let (whole, bytes) = pipe.close(true);
                traffic.sent += bytes;
                served(status, whole)
            }
            Stage::Read {
                status,
                headers,
                mut body,
                mut read,
            } => {
                let mut nobody = Context::from_waker(Waker::noop());
                read.go_on(&mut body, self.result_bytes_max, &mut nobody);
                if read.ended != Some(true) {
                    return unfinished();
                }
                result(status, &headers, read, self.result_bytes_max)
            }
        }
    }

    /// Sends an answer that was all there before anybody saw it.
    fn send_whole(
        &mut self,
        response: Response<HyperOutgoingBody>,
        traffic: &mut Traffic,
    ) -> Outcome {
        let (parts, body) = response.into_parts();
        let status = parts.status;
        let Some(whole) = collect(body) else {
            return unfinished();
        };
        traffic.sent += u64::try_from(whole.size()).unwrap_or(u64::MAX);
        if let Some(respond) = self.respond.take() {
            respond(Response::from_parts(parts, Body::new(whole)));
        }
        served(status, true)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.break_off();
    }
}

/// All of a body that is at its end; `None` when it was left unfinished.
fn collect(mut body: HyperOutgoingBody) -> Option<Whole> {
    let mut nobody = Context::from_waker(Waker::noop());
    let mut parts: VecDeque<Bytes> = VecDeque::new();
    let mut trailers = None;
    loop {
        match poll_freely(&mut body, &mut nobody) {
            Poll::Pending | Poll::Ready(Some(Err(_))) => return None,
            Poll::Ready(None) => return Some(Whole::new(parts, trailers)),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => parts.push_back(data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
}

fn unfinished() -> Outcome {
    Outcome::Died("The action ended before its answer was finished.".to_owned())
}

/// What is recorded of an answer that a client got.
fn served(status: StatusCode, whole: bool) -> Outcome {
    if !whole {
        return unfinished();
    }
    let answer = Bytes::from(format!("{{\"statusCode\":{}}}", status.as_u16()));
    if status.is_server_error() {
        Outcome::Failed {
            answer,
            exit: false,
        }
    } else {
        Outcome::Answered(answer)
    }
}
