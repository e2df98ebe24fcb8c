//! Components of WASI 0.3 (`wasi:http/handler`): their handler answers with a response whose body it goes on writing, in a task
//! of the same instance.
//!
//! The run ends when the guest has no task left and the body has been read to its end, or by nobody any more: a body may be the
//! request's own, handed on, which needs no guest.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::HOST;
use http::uri::Authority;
use http::{Request, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::{Accessor, Linker};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p3;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{Error as WasiError, WasiBody, WasiHttpView as _};

use super::super::host::Host;
use super::super::p2::environment;
use super::outbox::{Answer, Outbox};
use super::{passing_on, scheme};

/// Streams, futures, tasks and what else an instance may hold of them.
const HANDLES_MAX: usize = 4096;

/// Bounds what an instance may have the host keep for it.
pub(super) fn bound(store: &mut Store<Host>) {
    store.set_max_component_handles(HANDLES_MAX);
    if let Some(table) = store.concurrent_resource_table() {
        table.set_max_capacity(HANDLES_MAX);
    }
}

/// How the sending of a body ended.
type Sent = Pin<Box<dyn Future<Output = Result<(), WasiError>> + Send>>;

/// Adds what components of WASI 0.3 may import besides.
///
/// # Errors
/// When a function is there already: ours.
pub(in crate::sandbox) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p3::add_to_linker(linker)?;
    environment::add_concurrent_to_linker(linker)?;
    p3::add_to_linker(linker)
}

/// Calls the guest. While it waits, what it has answered so far is passed on.
pub(super) async fn call(
    store: &mut Store<Host>,
    service: &Service,
    request: Request<WasiBody>,
    answer: &mut Answer,
) -> wasmtime::Result<()> {
    let outbox = Arc::new(Outbox::default());
    let into = Arc::clone(&outbox);
    let request = addressed(request);
    let called = async {
        let served =
            store.run_concurrent(async |guest| serve(guest, service, request, &into).await);
        served.await?
    };
    passing_on(&outbox, answer, called).await
}

/// The request with the address it was sent to, where the guest looks for it.
fn addressed(mut request: Request<WasiBody>) -> Request<WasiBody> {
    let scheme = match scheme(&request) {
        Scheme::Https => http::uri::Scheme::HTTPS,
        _ => http::uri::Scheme::HTTP,
    };
    let named = request.headers().get(HOST).map(|host| host.as_bytes());
    let authority = named.and_then(|host| Authority::try_from(host).ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority.unwrap_or(Authority::from_static("localhost")));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request
}

async fn serve(
    guest: &Accessor<Host>,
    service: &Service,
    request: Request<WasiBody>,
    outbox: &Outbox,
) -> wasmtime::Result<()> {
    let (request, sent) = guest.with(|mut store| {
        let host: &mut Host = store.get();
        let (request, sent) = p3::Request::from_http(host.http().hooks, request);
        let sent: Sent = Box::pin(sent);
        (request, sent)
    });
    let ended = match service.handle(guest, request).await? {
        Ok(response) => {
            let response = guest.with(|store| response.into_http(store, sent))?;
            let (end, ended) = oneshot::channel();
            outbox.put(Ok(response.map(|inner| {
                let end = Some(end);
                Watched { inner, end }.boxed_unsync()
            })));
            Some(ended)
        }
        Err(code) => {
            outbox.put(Err(format!("{code:?}")));
            None
        }
    };
    poll_fn(|cx| guest.poll_no_interesting_tasks(cx)).await;
    if let Some(ended) = ended {
        // It ends by being told or by being dropped, and both are an end.
        drop(ended.await);
    }
    Ok(())
}

/// A body that tells when it was read to its end. Dropped before that, it tells so, too.
struct Watched {
    inner: WasiBody,
    end: Option<oneshot::Sender<()>>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.end = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
