//! One connection, one request at a time: hyper's HTTP/1.1 client without a pool.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A request that can be sent again and again, and the status it must be answered with.
#[derive(Clone)]
pub(crate) struct Call {
    request: Request<Full<Bytes>>,
    expect: StatusCode,
}

impl Call {
    /// A request with credentials (`user:password`) and a JSON body; none when it is empty.
    pub(crate) fn new(
        method: Method,
        path: &str,
        key: &str,
        body: impl Into<Bytes>,
    ) -> Result<Self> {
        let body = body.into();
        let credentials = base64::engine::general_purpose::STANDARD.encode(key);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "127.0.0.1")
            .header(AUTHORIZATION, format!("Basic {credentials}"));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(Self {
            request: request.body(Full::new(body))?,
            expect: StatusCode::OK,
        })
    }

    /// The same, to be answered with another status than 200.
    pub(crate) fn expect(mut self, status: StatusCode) -> Self {
        self.expect = status;
        self
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
        if status != call.expect {
            let start = String::from_utf8_lossy(body.get(..300).unwrap_or(&body)).into_owned();
            let request = &call.request;
            bail!(
                "{} {} answered {status}: {start}",
                request.method(),
                request.uri()
            );
        }
        Ok(body)
    }

    /// Sends `call` and reads the whole answer, whatever its status. Opens the connection again if it was closed.
    pub(crate) async fn ask(&mut self, call: &Call) -> Result<(StatusCode, Bytes)> {
        if self.sender.ready().await.is_err() {
            *self = Self::open(self.addr).await?;
        }
        let response = self.sender.send_request(call.request.clone()).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
