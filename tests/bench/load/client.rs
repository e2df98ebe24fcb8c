//! One connection, one request at a time: hyper's HTTP/1.1 client without a pool.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A request that can be sent again and again, and the status it must be answered with.
#[derive(Clone)]
pub(crate) struct Call {
    shared: Arc<Shared>,
    uri: Uri,
}

#[derive(Clone)]
struct Shared {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
    expect: StatusCode,
}

impl Call {
    /// A request with credentials (`user:password`) and a JSON body; without those that are empty.
    pub(crate) fn new(
        method: Method,
        path: &str,
        key: &str,
        body: impl Into<Bytes>,
    ) -> Result<Self> {
        let body = body.into();
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("127.0.0.1"));
        if !key.is_empty() {
            let credentials = base64::engine::general_purpose::STANDARD.encode(key);
            headers.insert(AUTHORIZATION, format!("Basic {credentials}").try_into()?);
        }
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let shared = Shared {
            method,
            headers,
            body,
            expect: StatusCode::OK,
        };
        Ok(Self {
            shared: Arc::new(shared),
            uri: path.parse()?,
        })
    }

    /// The same, to be answered with another status than 200.
    pub(crate) fn expect(mut self, status: StatusCode) -> Self {
        Arc::make_mut(&mut self.shared).expect = status;
        self
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let Shared {
            method,
            headers,
            body,
            ..
        } = &*self.shared;
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers.clone();
        request
    }
}

/// The calls of a load.
#[derive(Clone)]
pub(crate) enum Calls {
    /// One, again and again.
    Same(Call),
    /// Of `count` that differ by a number in their path, each in its turn.
    ///
    /// Their paths are made when they are needed. Were they kept, the generator would have a thousand of them to fetch
    /// from memory and not one, and what that costs would look like the server's cost.
    Numbered {
        any: Call,
        before: String,
        after: String,
        count: usize,
    },
}

impl From<Call> for Calls {
    fn from(call: Call) -> Self {
        Self::Same(call)
    }
}

impl Calls {
    /// The one whose turn it is after `done` others.
    pub(crate) fn next(&self, done: usize) -> Result<Call> {
        match self {
            Self::Same(call) => Ok(call.clone()),
            Self::Numbered {
                any,
                before,
                after,
                count,
            } => Ok(Call {
                shared: Arc::clone(&any.shared),
                uri: format!("{before}{}{after}", done % count).parse()?,
            }),
        }
    }
}

/// A connection that is kept.
pub(crate) struct Connection {
    addr: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { addr, sender })
    }

    /// Sends `call` and reads the whole answer. Any other status than the expected one is an error that quotes the answer.
    pub(crate) async fn call(&mut self, call: &Call) -> Result<Bytes> {
        let (status, body) = self.ask(call).await?;
        if status != call.shared.expect {
            let start = String::from_utf8_lossy(body.get(..300).unwrap_or(&body)).into_owned();
            bail!(
                "{} {} answered {status}: {start}",
                call.shared.method,
                call.uri
            );
        }
        Ok(body)
    }

    /// Sends `call` and reads the whole answer, whatever its status. Opens the connection again if it was closed.
    pub(crate) async fn ask(&mut self, call: &Call) -> Result<(StatusCode, Bytes)> {
        if self.sender.ready().await.is_err() {
            *self = Self::open(self.addr).await?;
        }
        let response = self.sender.send_request(call.request()).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
