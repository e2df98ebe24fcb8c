//! Components that speak HTTP (`wasi:http`, 0.2 and 0.3): called with a request, they answer with a response.
//!
//! As web actions they get the client's own request and their answer streams to it; a plain invocation is `POST /` with
//! the parameters as JSON. Every call has an instance of its own, in the place its start was given.
//!
//! [`outbox`] is where the answer waits until it must be sent, [`pipe`] what the client reads while the guest writes,
//! [`result`] what a plain invocation makes of an answer, [`view`] what guests import, [`concurrent`] how those of 0.3 are called.
//!
//! Invariants:
//! - what lies between guest and client is bounded (some chunks of 64 KiB): a guest that writes faster than its client
//!   reads waits;
//! - an answer that was not finished is never taken for one that was: the connection breaks;
//! - the deadline of the run covers all of it, the reading of the request and the writing of the answer.

mod concurrent;
mod outbox;
mod pipe;
mod result;
mod view;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::BodyExt as _;
use wasmtime::component::{InstancePre, Linker};
use wasmtime::{ResourcesRequired, Store};
use wasmtime_wasi_http::Error as WasiError;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::{WasiBody, WasiHttpView as _};

use super::engine::Class;
use super::host::Host;
use super::instance::{TICKS_FIRST, start_failed, start_failure, store};
use super::p2::P2;
use super::program::{Code, Linked};
use super::run::{End, blame, finish, no_stack, read, until};
use super::{
    Grant, HostError, Input, Instance, InstanceLimits, Outcome, Run, StartError, Started, Traffic,
};
use crate::model::exchange::{Exchange, Respond};
use outbox::{Answer, Outbox};
pub(super) use view::Http;

/// Bytes one write of a guest takes; two of them may wait for the client.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// What answers to a request that names no host.
const NO_HOST: HeaderValue = HeaderValue::from_static("localhost");

/// A linked component.
pub(super) enum HttpCode {
    /// It exports `wasi:http/incoming-handler@0.2`.
    Proxy(ProxyPre<Host>),
    /// It exports `wasi:http/handler@0.3`.
    Service(ServicePre<Host>),
}

/// A started one.
enum Guest {
    Proxy(Proxy),
    Service(Service),
}

impl HttpCode {
    /// Checks that it can be called.
    ///
    /// # Errors
    /// When its handler is of another type: the uploader's fault.
    pub(super) fn new(pre: InstancePre<Host>) -> wasmtime::Result<Self> {
        Ok(Self::Proxy(ProxyPre::new(pre)?))
    }

    /// The same for one of WASI 0.3, linked in the concurrent class.
    ///
    /// # Errors
    /// When its handler is of another type: the uploader's fault.
    pub(super) fn concurrent(pre: InstancePre<Host>) -> wasmtime::Result<Self> {
        Ok(Self::Service(ServicePre::new(pre)?))
    }

    /// What its instances need at their start; unknown when it imports modules.
    pub(super) fn resources_required(&self) -> Option<ResourcesRequired> {
        let pre = match self {
            Self::Proxy(pre) => pre.instance_pre(),
            Self::Service(pre) => pre.instance_pre(),
        };
        pre.component().resources_required()
    }
}

/// Adds what components may import of `wasi:http`.
///
/// # Errors
/// When a function is there already: ours.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)
}

pub(super) use concurrent::add_to_linker as add_concurrent_to_linker;

/// Starts an instance, for one call.
pub(super) async fn start(
    program: Arc<Linked>,
    limits: InstanceLimits,
    grant: Arc<dyn Grant>,
) -> Result<Started, StartError> {
    let mut store = store(&program, &limits, grant);
    let p2 = P2::new(store.data_mut(), &Bytes::new(), &program, limits.serves);
    store.data_mut().p2 = Some(Box::new(p2));
    if program.shape.class == Class::Concurrent {
        concurrent::bound(&mut store);
    }
    let outcome = match until(limits.deadline, bring_up(&mut store, &program)).await {
        Some(Ok(guest)) => {
            let logs = store.data_mut().end().lines;
            let instance = HttpInstance {
                live: Some((store, guest)),
                _program: program,
            };
            return Ok(Started {
                instance: Box::new(instance),
                logs,
            });
        }
        None => Outcome::TimedOut,
        Some(Err(error)) => start_failure(&error, &store, program.slots)?,
    };
    Err(start_failed(outcome, &mut store))
}

async fn bring_up(store: &mut Store<Host>, program: &Linked) -> wasmtime::Result<Guest> {
    match &program.code {
        Code::Http(HttpCode::Proxy(pre)) => Ok(Guest::Proxy(pre.instantiate_async(store).await?)),
        Code::Http(HttpCode::Service(pre)) => {
            Ok(Guest::Service(pre.instantiate_async(store).await?))
        }
        _ => wasmtime::bail!("not a component that speaks HTTP"),
    }
}

struct HttpInstance {
    /// Taken by the one run there is.
    live: Option<(Store<Host>, Guest)>,
    /// Kept alive and counted as in use.
    _program: Arc<Linked>,
}

/// A request for the guest, and where its answer goes.
fn asked(
    exchange: Option<&Exchange>,
    params: &Bytes,
    host: &Host,
) -> Option<(Request<WasiBody>, Option<Respond>)> {
    let Some(exchange) = exchange else {
        let body = http_body_util::Full::new(params.clone());
        let body = body.map_err(WasiError::from).boxed_unsync();
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static("/");
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        request.headers_mut().insert(HOST, NO_HOST);
        return Some((request, None));
    };
    let (mut request, respond) = exchange.take()?;
    let named = request.headers().get(HOST);
    if named.is_none_or(|name| name.to_str().is_err()) {
        request.headers_mut().insert(HOST, NO_HOST);
    }
    let broken = |error: crate::model::exchange::BodyError| {
        tracing::debug!(%error, "a request's body broke off");
        WasiError::ConnectionTerminated
    };
    let usage = host.p2.as_ref().map(|p2| p2.http.usage())?;
    let request = request.map(|body| {
        let counted = body.map_frame(move |frame| {
            usage.receive(&frame);
            frame
        });
        counted.map_err(broken).boxed_unsync()
    });
    Some((request, Some(respond)))
}

/// Whether the client came by a secure connection: what stands before this server says so.
fn scheme(request: &Request<WasiBody>) -> Scheme {
    match request.headers().get("x-forwarded-proto") {
        Some(proto) if proto.as_bytes().eq_ignore_ascii_case(b"https") => Scheme::Https,
        _ => Scheme::Http,
    }
}

/// Calls a guest of WASI 0.2.
async fn call(
    store: &mut Store<Host>,
    proxy: &Proxy,
    request: Request<WasiBody>,
    answer: &mut Answer,
) -> wasmtime::Result<()> {
    let scheme = scheme(&request);
    let mut view = store.data_mut().http();
    let request = view.new_incoming_request(scheme, request)?;
    let outbox = Arc::new(Outbox::default());
    let into = Arc::clone(&outbox);
    let out = view.new_response_outparam_from_callback(move |answer| {
        into.put(answer.map_err(|code| format!("{code:?}")));
    })?;
    let handler = proxy.wasi_http_incoming_handler();
    let called = handler.call_handle(&mut *store, request, out);
    passing_on(&outbox, answer, called).await
}

/// Polls a call. While it waits, what it has answered so far is passed on.
async fn passing_on(
    outbox: &Outbox,
    answer: &mut Answer,
    called: impl Future<Output = wasmtime::Result<()>>,
) -> wasmtime::Result<()> {
    let mut called = pin!(called);
    let ended = poll_fn(|cx| {
        let called = called.as_mut().poll(cx);
        answer.take(outbox);
        if called.is_pending() {
            answer.go_on(cx);
        }
        called
    });
    ended.await
}

#[async_trait]
impl Instance for HttpInstance {
    async fn run(&mut self, mut input: Input) -> Result<Run, HostError> {
        let (mut store, guest) = self
            .live
            .take()
            .ok_or_else(|| HostError("a component that speaks HTTP serves one call".into()))?;
        let exchange = input.exchange.take();
        let (request, respond) = asked(exchange.as_deref(), &input.params, store.data())
            .ok_or_else(|| HostError("the request was taken already".into()))?;
        store.data_mut().begin(&mut input, false);
        store.set_epoch_deadline(TICKS_FIRST);
        // Dropped before the store, should this run be: what was sent is broken off then, not ended.
        let mut answer = Answer::new(respond, input.result_bytes_max);
        let called = async {
            match &guest {
                Guest::Proxy(proxy) => call(&mut store, proxy, request, &mut answer).await,
                Guest::Service(service) => {
                    concurrent::call(&mut store, service, request, &mut answer).await
                }
            }
        };
        let called = until(input.deadline, called).await;
        let host = store.data_mut();
        let failed = match called {
            Some(Ok(())) => None,
            None => Some(Outcome::TimedOut),
            Some(Err(error)) => match read(&error) {
                End::Died(text) => Some(Outcome::Died(text)),
                End::Exit(0) if answer.is_there() => None,
                End::Exit(status) => Some(Outcome::Died(format!(
                    "The action exited with status {status}."
                ))),
                End::NoSlot(text) => return Err(no_stack(&text)),
            },
        };
        let captured = host.end();
        let peak = host.meter.peak();
        let mut traffic = captured.traffic;
        let outcome = match failed {
            Some(outcome) => {
                let outcome = blame(outcome, host);
                answer.break_off();
                outcome
            }
            None => {
                // What it left unfinished ends with it.
                drop(store);
                answer.finish(&mut traffic)
            }
        };
        let mut run = finish(outcome, captured, peak);
        run.traffic = traffic;
        Ok(run)
    }

    fn reusable(&self) -> bool {
        false
    }

    fn memory_bytes(&self) -> usize {
        self.live
            .as_ref()
            .map_or(0, |(store, _)| store.data().meter.held())
    }
}
