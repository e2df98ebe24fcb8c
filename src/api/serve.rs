//! Connections: accepted, counted, watched, drained.
//!
//! One task per connection and one supervisor for all. A connection's task does nothing but HTTP; whether it has idled too
//! long, or must end because the server drains, is decided by the supervisor once a second from two atomics per
//! connection. So a request costs no timer, and ten thousand idle connections cost one look each per second.
//!
//! A connection ends in two steps: first it may finish the answer it is at (`Closing::Soon`), later it is cut
//! (`Closing::Now`). Before its first request it has [`Config::head_timeout_s`], between requests
//! [`Config::idle_timeout_s`]; a client that dribbles its head, or does not take its answer, idles in this sense.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http_body::Frame;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Config, Edge, State};

/// How often connections are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Largest head of a request, and most of a body that is read at once.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection without a request in flight may take, while draining, to send what is left of its answer.
const DRAIN_IDLE_MS: u64 = 1000;

/// A connection is in a request.
const BUSY: u64 = u64::MAX;

const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 64\r\n\r\n\
    {\"error\":\"The server has too many connections.\",\"code\":\"none\"}\r\n";

/// Serves `listener` until `drain` resolves, then lets requests in flight end and returns.
pub(crate) async fn serve(
    listener: TcpListener,
    state: State,
    config: Config,
    drain: impl Future<Output = ()>,
) {
    let drain_timeout = Duration::from_secs(config.drain_timeout_s);
    let connections = Connections::new(Edge::new(state, config));
    let mut drain = pin!(drain);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = drain.as_mut() => break,
            _ = ticks.tick() => connections.look_after(false),
            accepted = listener.accept() => connections.take(accepted).await,
        }
    }
    drop(listener);
    connections.close_all(Closing::Soon);
    let ended = async {
        let mut ended = pin!(connections.ended());
        loop {
            tokio::select! {
                () = ended.as_mut() => break,
                _ = ticks.tick() => connections.look_after(true),
            }
        }
    };
    if tokio::time::timeout(drain_timeout, ended).await.is_err() {
        tracing::warn!("requests were still in flight when the time to drain was over");
        connections.close_all(Closing::Now);
    }
}

/// Whether a connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Closing {
    /// It goes on.
    No = 0,
    /// As soon as the answer it is at has been sent; at once when there is none.
    Soon = 1,
    /// Whatever it is at.
    Now = 2,
}

/// What the supervisor knows of a connection.
struct Watch {
    /// Milliseconds, since the server began, at which it last became idle; [`BUSY`] while in a request.
    idle_since: AtomicU64,
    /// Whether it has had a request.
    served: AtomicBool,
    closing: AtomicU8,
    /// Wakes its task when `closing` has changed.
    waker: Mutex<Option<Waker>>,
}

impl Watch {
    fn close(&self, how: Closing) {
        if self.closing.fetch_max(how as u8, Ordering::SeqCst) < how as u8
            && let Some(waker) = self.waker.lock().as_ref()
        {
            waker.wake_by_ref();
        }
    }
}

struct Connections {
    edge: Edge,
    began: Instant,
    room: Arc<Semaphore>,
    count_max: u32,
    watched: Mutex<Vec<Weak<Watch>>>,
}

impl Connections {
    fn new(edge: Edge) -> Self {
        let count_max = edge.config().connections_max;
        let permits = usize::try_from(count_max).unwrap_or(usize::MAX);
        Self {
            edge,
            began: Instant::now(),
            room: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            count_max,
            watched: Mutex::default(),
        }
    }

    async fn take(&self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                let gone = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                );
                if !gone {
                    tracing::error!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                return;
            }
        };
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            // As far as it goes into the socket's own buffer: nobody waits for a client that is turned away.
            drop(stream.try_write(TOO_MANY_CONNECTIONS));
            return;
        };
        // Only a socket that is gone already refuses.
        drop(stream.set_nodelay(true));
        let watch = Arc::new(Watch {
            idle_since: AtomicU64::new(millis(self.began.elapsed())),
            served: AtomicBool::new(false),
            closing: AtomicU8::new(Closing::No as u8),
            waker: Mutex::default(),
        });
        self.watched.lock().push(Arc::downgrade(&watch));
        let requests = Requests {
            edge: self.edge.clone(),
            began: self.began,
            watch,
        };
        tokio::spawn(connection(stream, requests, room));
    }

    /// Ends what has idled too long; while draining that is soon, lest half a head hold everything up.
    fn look_after(&self, draining: bool) {
        let now = millis(self.began.elapsed());
        let config = self.edge.config();
        self.watched.lock().retain(|watch| {
            let Some(watch) = watch.upgrade() else {
                return false;
            };
            let since = watch.idle_since.load(Ordering::Relaxed);
            let served = watch.served.load(Ordering::Relaxed);
            let allowed = match (draining, served) {
                (true, _) => DRAIN_IDLE_MS,
                (false, true) => config.idle_timeout_s.saturating_mul(1000),
                (false, false) => config.head_timeout_s.saturating_mul(1000),
            };
            // BUSY lies in the future, so it has idled for no time.
            let idle = now.saturating_sub(since);
            if idle >= allowed.saturating_mul(2) || (idle >= allowed && (draining || !served)) {
                watch.close(Closing::Now);
            } else if idle >= allowed {
                watch.close(Closing::Soon);
            }
            true
        });
    }

    fn close_all(&self, how: Closing) {
        for watch in self.watched.lock().iter().filter_map(Weak::upgrade) {
            watch.close(how);
        }
    }

    async fn ended(&self) {
        // Fails only if it were closed, which nobody does.
        drop(self.room.acquire_many(self.count_max).await);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(BUSY - 1)
}

/// The requests of one connection.
struct Requests {
    edge: Edge,
    began: Instant,
    watch: Arc<Watch>,
}

impl Service<hyper::Request<hyper::body::Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: hyper::Request<hyper::body::Incoming>) -> Self::Future {
        let busy = Busy::new(&self.watch, self.began);
        let edge = self.edge.clone();
        let request: Request = request.map(Body::new);
        Box::pin(async move {
            let mut response = edge.respond(request).await;
            let extensions = response.extensions_mut();
            if let Some(Lasting(ends)) = extensions.remove::<Lasting>() {
                busy.until(ends);
            } else if extensions.remove::<Endless>().is_none() {
                drop(busy);
                return Ok(response);
            }
            Ok(response.map(|body| Body::new(Streamed { body, _busy: busy })))
        })
    }
}

/// Marks a response whose body goes on for as long as there is something to tell: its connection does not idle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endless;

/// Marks a response whose body may take until then to be made: until then its connection does not idle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lasting(pub(super) Instant);

/// A body that keeps its connection busy.
struct Streamed {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
}

/// Marks a connection as busy until it is dropped, be it because its client left.
struct Busy {
    watch: Arc<Watch>,
    began: Instant,
}

impl Busy {
    fn new(watch: &Arc<Watch>, began: Instant) -> Self {
        watch.idle_since.store(BUSY, Ordering::Relaxed);
        watch.served.store(true, Ordering::Relaxed);
        Self {
            watch: Arc::clone(watch),
            began,
        }
    }
}

impl Busy {
    /// Busy for no longer than that; what is not over then idles.
    fn until(&self, ends: Instant) {
        let ends = millis(ends.saturating_duration_since(self.began));
        self.watch.idle_since.store(ends, Ordering::Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let now = millis(self.began.elapsed());
        self.watch.idle_since.store(now, Ordering::Relaxed);
    }
}

/// Speaks HTTP on one connection until it ends, or must.
async fn connection(stream: TcpStream, requests: Requests, room: OwnedSemaphorePermit) {
    let watch = Arc::clone(&requests.watch);
    let mut http = http1::Builder::new();
    // The supervisor sees to slow heads: hyper's own timer would be set anew for each request.
    http.header_read_timeout(None)
        .max_buf_size(READ_BUFFER_BYTES);
    let mut http = pin!(http.serve_connection(TokioIo::new(stream), requests));
    let mut closing = Closing::No as u8;
    let mut registered = false;
    poll_fn(|cx: &mut Context<'_>| {
        if !registered {
            // A task's waker stays the same. Registered before `closing` is looked at, so that no change is missed.
            *watch.waker.lock() = Some(cx.waker().clone());
            registered = true;
        }
        let wanted = watch.closing.load(Ordering::SeqCst);
        if wanted >= Closing::Now as u8 {
            return Poll::Ready(());
        }
        if wanted > closing {
            closing = wanted;
            http.as_mut().graceful_shutdown();
        }
        // An error is the client's: it broke off, or spoke no HTTP.
        http.as_mut().poll(cx).map(|_| ())
    })
    .await;
    drop(room);
}
