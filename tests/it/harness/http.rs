//! An HTTP client of a hundred lines: sends exactly what it is given, shows exactly what came back.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;
use tokio::time::Instant;

/// Longer than any wait the server has.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// `Authorization` for `uuid:key`.
pub(crate) fn basic(key: &str) -> String {
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(key)
    )
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("Authorization", basic(key))
    }

    /// A JSON body, as clients send it.
    pub(crate) fn json(self, body: &Value) -> Self {
        self.raw("application/json", body.to_string().into_bytes())
    }

    pub(crate) fn raw(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self.header("Content-Type", content_type)
    }

    /// As it goes over the wire.
    fn bytes(&self, host: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", self.method, self.path);
        let mut line = |name: &str, value: &str| {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        };
        for (name, value) in &self.headers {
            line(name, value);
        }
        let stated = |wanted: &str| {
            self.headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
        };
        if let Some(body) = &self.body
            && !stated("content-length")
        {
            line("Content-Length", &body.len().to_string());
        }
        if !stated("connection") {
            line("Connection", "close");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; fails showing it when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// The `error` of an error body, if it is one.
    pub(crate) fn error_text(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        body["error"].as_str().map(str::to_owned)
    }

    /// The `error` of an error body.
    pub(crate) fn error(&self) -> String {
        let text = self.error_text();
        text.unwrap_or_else(|| panic!("no error text: {}", self.shown()))
    }

    /// Fails, showing the whole reply, unless the status is `status`.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.shown());
        self
    }

    /// Short enough for a failure message.
    pub(crate) fn shown(&self) -> String {
        let text = self.text();
        let short: String = text.chars().take(600).collect();
        format!("{} {:?} {short}", self.status, self.headers)
    }

    /// Reads one reply.
    pub(crate) fn read(stream: &mut impl BufRead) -> std::io::Result<Self> {
        let invalid = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        let mut reply = loop {
            let reply = Self::read_head(stream)?;
            if reply.status != 100 {
                break reply;
            }
        };
        let chunked = reply
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = reply.header("content-length").map(str::parse::<usize>);
        if chunked {
            loop {
                let mut size = String::new();
                stream.read_line(&mut size)?;
                let size =
                    usize::from_str_radix(size.trim(), 16).map_err(|_| invalid("chunk size"))?;
                let mut chunk = vec![0; size + 2];
                stream.read_exact(&mut chunk)?;
                reply.body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = length {
            reply.body = vec![0; length.map_err(|_| invalid("content-length"))?];
            stream.read_exact(&mut reply.body)?;
        } else {
            stream.read_to_end(&mut reply.body)?;
        }
        Ok(reply)
    }

    fn read_head(stream: &mut impl BufRead) -> std::io::Result<Self> {
        let invalid = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| invalid("status line"))?;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Self {
            status,
            headers,
            body: Vec::new(),
        })
    }
}

/// Talks to one address, one connection per request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
}

impl Client {
    pub(crate) fn connect(self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Sends, and reads the reply; an error when the connection ends instead.
    pub(crate) fn try_send(self, request: &Request) -> std::io::Result<Reply> {
        let mut stream = self.connect()?;
        // A server that refuses early may close its side before the body is through; its answer counts all the same.
        let sent = stream.write_all(&request.bytes(self.address));
        let is_head = request.method == "HEAD";
        let mut stream = BufReader::new(stream);
        let reply = match is_head {
            true => Reply::read_head(&mut stream),
            false => Reply::read(&mut stream),
        };
        match (reply, sent) {
            (Ok(reply), _) => Ok(reply),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    }

    /// Sends, and reads the reply until `text` came or it ended: for one that goes on. Its body is what came over the wire.
    pub(crate) fn try_send_until(self, request: &Request, text: &str) -> std::io::Result<Reply> {
        let deadline = Instant::now() + READ_TIMEOUT;
        let mut stream = self.connect()?;
        stream.write_all(&request.bytes(self.address))?;
        let mut stream = BufReader::new(stream);
        let mut reply = Reply::read_head(&mut stream)?;
        while !reply.text().contains(text) && Instant::now() < deadline {
            if stream.read_until(b'\n', &mut reply.body)? == 0 {
                break;
            }
        }
        Ok(reply)
    }

    #[track_caller]
    pub(crate) fn send(self, request: &Request) -> Reply {
        self.try_send(request)
            .unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.path))
    }

    /// Without credentials.
    #[track_caller]
    pub(crate) fn get(self, path: &str) -> Reply {
        self.send(&Request::new("GET", path))
    }
}
