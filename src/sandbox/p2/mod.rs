//! WASI 0.2 for components, from `wasmtime-wasi`: clocks, randomness, environment, stdio into the captured output, and
//! files of our own. No host directories, no network. Made only for components that import it.

pub(super) mod environment;
mod files;
mod streams;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::host::Host;
use super::http::Http;
use super::output::Output;
use super::program::Linked;
use super::{Serves, Stream};

/// Things of the host a guest may hold at one time: streams, pollables, errors. Some hundred bytes each. A language that
/// collects its garbage leaves a pollable behind with every piece of a body it reads, some ten thousand of them before it
/// collects; what holds more than that is bounded by itself ([`super::http`], files by their own table).
const RESOURCES_MAX: usize = 32 << 10;
/// Random bytes one call gives.
const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// Bytes one write takes.
const WRITE_BYTES_MAX: usize = 1 << 20;

/// State of WASI 0.2 in a store.
pub(super) struct P2 {
    ctx: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) http: Http,
    serves: Option<Serves>,
}

impl P2 {
    /// A context for `program` with the output of `host`, and `stdin` to read.
    pub(super) fn new(
        host: &mut Host,
        stdin: &Bytes,
        program: &Linked,
        serves: Option<Serves>,
    ) -> Self {
        let output = Arc::clone(host.output());
        let mut ctx = WasiCtx::builder();
        ctx.stdin(Source(MemoryInputPipe::new(stdin.clone())))
            .stdout(Sink::new(&output, Stream::Stdout))
            .stderr(Sink::new(&output, Stream::Stderr))
            .max_random_size(RANDOM_BYTES_MAX)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            ctx: ctx.build(),
            table,
            http: Http::new(&program.client, host.namespace.clone()),
            serves,
        }
    }
}

/// Puts what is our own in place of what `wasmtime-wasi` has.
///
/// # Errors
/// When the linker has no room: ours.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    files::add_to_linker(linker)?;
    environment::add_to_linker(linker)
}

impl Host {
    fn p2(&mut self) -> &mut P2 {
        self.p2
            .as_mut()
            .expect("a component that imports WASI has its context from the start")
    }

    /// What it serves, where that is known.
    pub(super) fn serves(&self) -> Option<&Serves> {
        self.p2.as_ref()?.serves.as_ref()
    }

    /// What the guest holds of the host.
    pub(super) fn resources(&mut self) -> &mut ResourceTable {
        &mut self.p2().table
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let p2 = self.p2();
        WasiCtxView {
            ctx: &mut p2.ctx,
            table: &mut p2.table,
        }
    }
}

/// The parameters of a command.
struct Source(MemoryInputPipe);

impl IsTerminal for Source {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Source {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.0.clone())
    }
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.0.clone())
    }
}

/// Where a stream's lines are captured.
#[derive(Clone)]
struct Sink {
    output: Arc<Mutex<Output>>,
    stream: Stream,
}

impl Sink {
    fn new(output: &Arc<Mutex<Output>>, stream: Stream) -> Self {
        Self {
            output: Arc::clone(output),
            stream,
        }
    }
}

impl IsTerminal for Sink {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Sink {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Sink {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Sink {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.lock().write(self.stream, &bytes);
        Ok(())
    }
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.output.lock().write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
