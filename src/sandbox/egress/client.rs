//! One request: a connection of its own, a bounded head, bounded bodies, bounded waits.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, timeout};
use wasmtime_wasi_http::Error as WasiError;

use super::dial::{Dialer, Stream, Target};
use super::flow::{Flows, Share, Toll};
use super::{Body, Config, Error, Patience, Place, Usage};

/// Largest head of an answer, and most of its body that is read at once.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// Headers of an answer.
const HEADERS_MAX: usize = 256;

/// Makes requests for guests.
pub(in crate::sandbox) struct Client {
    config: Config,
    dialer: Dialer,
    connections: Arc<Semaphore>,
    flows: Flows,
}

/// The connection behind an answer: to be polled until it ends, for as long as the answer is wanted.
type Connection = http1::Connection<TokioIo<Box<dyn Stream>>, Outgoing>;

impl Client {
    /// A client that does as `config` says.
    ///
    /// # Errors
    /// When certificates it names cannot be read.
    pub(in crate::sandbox) fn new(config: Config) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self {
            dialer: Dialer::new(&config)?,
            connections: Arc::new(Semaphore::new(config.connections_max.max(1))),
            flows: Flows::new(config.requests_max_each, config.bytes_per_minute_each),
            config,
        }))
    }

    /// How long each part may take when nobody asks for less.
    pub(in crate::sandbox) fn patience(&self) -> Patience {
        let config = &self.config;
        Patience {
            connect: Duration::from_millis(config.connect_timeout_ms),
            first_byte: Duration::from_millis(config.answer_timeout_ms),
            between_bytes: Duration::from_millis(config.idle_timeout_ms),
        }
    }

    /// Bytes of a request's body.
    pub(super) fn request_bytes_max(&self) -> u64 {
        self.config.request_bytes_max
    }

    /// Requests an instance may have open at a time.
    pub(super) fn instance_connections_max(&self) -> usize {
        self.config.instance_connections_max
    }

    /// Whether nothing is open.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.flows.is_idle()
    }

    /// Sends `request` and waits for the head of the answer.
    pub(in crate::sandbox) async fn send(
        self: Arc<Self>,
        request: Request<Body>,
        patience: Patience,
        usage: Arc<Usage>,
    ) -> Result<(Response<Answered>, Option<Connection>), Error> {
        if !self.config.enabled {
            return Err(Error::Off);
        }
        let target = Target::of(request.uri())?;
        if request.method() == Method::CONNECT {
            return Err(Error::Uri("tunnels (CONNECT) are not supported".to_owned()));
        }
        let place = Place::take(&usage, self.config.instance_connections_max)?;
        let share = self.flows.take(&usage)?;
        let permit = Arc::clone(&self.connections).try_acquire_owned();
        let permit = permit.map_err(|_| {
            Error::Busy("the server has too many outbound connections; try again".to_owned())
        })?;
        let failed = |cause| Error::Http {
            host: target.host.clone(),
            cause,
        };
        let late = |_| Error::ConnectTimeout(target.host.clone());
        let connecting = self.dialer.connect(&target);
        let stream = timeout(patience.connect, connecting)
            .await
            .map_err(late)??;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(READ_BUFFER_BYTES)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        let request = self.outgoing(request, &usage, share.toll());
        let answer = answer(sender, request, connection);
        let answer = timeout(patience.first_byte, answer).await;
        let (response, connection) = answer
            .map_err(|_| Error::AnswerTimeout(target.host.clone()))?
            .map_err(failed)?;
        let response = response.map(|incoming| Answered {
            incoming,
            left: self.config.response_bytes_max,
            usage,
            toll: share.toll(),
            held: None,
            idle: Idle::new(patience.between_bytes),
            _place: place,
            _share: share,
            _permit: permit,
        });
        Ok((response, connection))
    }

    /// The request as it goes over the wire: the path alone, its body counted.
    fn outgoing(
        &self,
        request: Request<Body>,
        usage: &Arc<Usage>,
        toll: Toll,
    ) -> Request<Outgoing> {
        let (mut parts, inner) = request.into_parts();
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        let body = Outgoing {
            inner,
            left: self.config.request_bytes_max,
            usage: Arc::clone(usage),
            toll,
            held: None,
        };
        Request::from_parts(parts, body)
    }
}

/// Sends `request` over `connection`, which comes back unless it is over.
async fn answer(
    mut sender: http1::SendRequest<Outgoing>,
    request: Request<Outgoing>,
    connection: Connection,
) -> hyper::Result<(Response<Incoming>, Option<Connection>)> {
    let mut connection = Some(connection);
    let mut sent = Box::pin(sender.send_request(request));
    let response = std::future::poll_fn(|cx| {
        if let Poll::Ready(answer) = sent.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        let Some(open) = connection.as_mut() else {
            return Poll::Pending;
        };
        let ended = ready!(Pin::new(open).poll(cx));
        connection = None;
        match ended {
            Ok(()) => sent.as_mut().poll(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    });
    let response = response.await?;
    Ok((response, connection))
}

/// Takes `count` of what is left; `None` when that is less.
fn take(left: &mut u64, counter: &AtomicU64, count: usize) -> Option<()> {
    *left = left.checked_sub(u64::try_from(count).unwrap_or(u64::MAX))?;
    Usage::add(counter, count);
    Some(())
}

/// A request's body, counted.
pub(in crate::sandbox) struct Outgoing {
    inner: Body,
    left: u64,
    usage: Arc<Usage>,
    toll: Toll,
    /// What the toll keeps waiting.
    held: Option<Frame<Bytes>>,
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let this = &mut *self;
        let frame = match this.held.take() {
            Some(frame) => Some(Ok(frame)),
            None => ready!(Pin::new(&mut this.inner).poll_frame(cx)),
        };
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame);
        };
        if let Some(data) = frame.data_ref() {
            if this.toll.poll_pass(data.len(), cx).is_pending() {
                this.held = Some(frame);
                return Poll::Pending;
            }
            if take(&mut this.left, &this.usage.sent, data.len()).is_none() {
                return Poll::Ready(Some(Err(WasiError::HttpRequestBodySize(None))));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Ends a wait that lasts too long. The timer is armed when something is first waited for.
struct Idle {
    longest: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl Idle {
    fn new(longest: Duration) -> Self {
        Self {
            longest,
            timer: None,
            waits: false,
        }
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let longest = self.longest;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(longest)));
        if !self.waits {
            self.waits = true;
            timer.as_mut().reset(Instant::now() + longest);
        }
        timer.as_mut().poll(cx)
    }
}

/// An answer's body: counted, bounded, and holding its place among the connections.
pub(in crate::sandbox) struct Answered {
    incoming: Incoming,
    left: u64,
    usage: Arc<Usage>,
    toll: Toll,
    held: Option<Frame<Bytes>>,
    idle: Idle,
    _place: Place,
    _share: Share,
    _permit: OwnedSemaphorePermit,
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let this = &mut *self;
        let frame = match this.held.take() {
            Some(frame) => Some(Ok(frame)),
            None => match Pin::new(&mut this.incoming).poll_frame(cx) {
                Poll::Pending => {
                    ready!(this.idle.poll_over(cx));
                    return Poll::Ready(Some(Err(WasiError::ConnectionReadTimeout)));
                }
                Poll::Ready(frame) => frame,
            },
        };
        // A wait from here on is ours, not the other side's.
        this.idle.waits = false;
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame.map(|frame| frame.map_err(WasiError::from)));
        };
        if let Some(data) = frame.data_ref() {
            if this.toll.poll_pass(data.len(), cx).is_pending() {
                this.held = Some(frame);
                return Poll::Pending;
            }
            if take(&mut this.left, &this.usage.received, data.len()).is_none() {
                return Poll::Ready(Some(Err(WasiError::HttpResponseBodySize(None))));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A body that is all there.
pub(super) fn whole(bytes: Bytes) -> Body {
    http_body_util::Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}
