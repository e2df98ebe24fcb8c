//! The only user of HTTP: requests to a server, answers as JSON.
//!
//! A status is never an error here: who asked decides (an invocation that answers 502 has a result to show). What is an
//! error is no answer, or one that is not JSON.

use std::io::{self, Read};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use indicatif::ProgressBar;
use serde_json::Value;
use ureq::http::Request;
use ureq::http::request::Builder as RequestBuilder;
use ureq::tls::TlsConfig;
use ureq::{Agent, SendBody};

use super::Session;
use super::failure::{Failure, Result};
use super::output::Output;
use super::props::{Target, is_loopback};

/// Most bytes of an answer: a page of 200 full records with their logs.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// From this size a server is asked before the body is sent, so that a refusal is read instead of a broken connection.
const ASKED_FROM_BYTES: usize = 256 << 10;

/// A server, and the key to it.
#[derive(Debug)]
pub(super) struct Client<'a> {
    agent: Agent,
    target: Target,
    session: Session<'a>,
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    /// Of the activation an invocation made.
    pub(super) activation_id: Option<String>,
    /// Seconds after which a refused request may be tried again.
    retry_after: Option<String>,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Its body, or why there is none.
    pub(super) fn success(self) -> Result<Value> {
        match self.is_success() {
            true => Ok(self.body),
            false => {
                let failure = Failure::status(self.status, &self.body);
                Err(match self.retry_after {
                    Some(seconds) => failure.advise(format!("Try again in {seconds} s.")),
                    None => failure,
                })
            }
        }
    }
}

/// Query parameters.
pub(super) type Query<'q> = &'q [(&'q str, String)];

/// Headers beside those of every request.
pub(super) type Headers<'h> = &'h [(&'h str, &'h str)];

/// The bytes of a stream of events, as they come; they end when the server or the network ends them.
pub(super) type Events = Box<dyn Read + Send>;

impl<'a> Client<'a> {
    /// For the API.
    pub(super) fn new(session: Session<'a>) -> Result<Self> {
        Ok(Self::to(Target::of(session)?, session))
    }

    /// For the admin API.
    pub(super) fn admin(session: Session<'a>) -> Result<Self> {
        Ok(Self::to(Target::admin(session)?, session))
    }

    /// For `target`.
    pub(super) fn to(target: Target, session: Session<'a>) -> Self {
        let tls = TlsConfig::builder().disable_verification(session.globals.insecure);
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_global(Some(Duration::from_secs(600)))
            .user_agent(concat!("Wisp-CLI/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build());
        if is_loopback(&target.base) {
            config = config.proxy(None);
        }
        if session.globals.verbose || session.globals.debug {
            for assumed in &target.assumed {
                session.output.note(assumed);
            }
        }
        Self {
            agent: config.build().new_agent(),
            target,
            session,
        }
    }

    /// Who a name without a namespace belongs to.
    pub(super) fn namespace(&self) -> &str {
        &self.target.namespace
    }

    /// The key, as `uuid:key`.
    pub(super) fn auth(&self) -> &str {
        &self.target.auth
    }

    /// What a gateway in front of the APIs wants to see, or a value that says nobody set one.
    pub(super) fn gateway_token(&self) -> &str {
        self.target
            .gateway_token
            .as_deref()
            .unwrap_or("DUMMY TOKEN")
    }

    /// `scheme://host[:port]`.
    pub(super) fn base(&self) -> &str {
        &self.target.base
    }

    /// `/api/v1/namespaces`, where the key's own are listed.
    pub(super) fn namespaces(&self) -> String {
        format!("/api/{}/namespaces", self.target.version)
    }

    /// `/api/v1/web`, below which actions are served.
    pub(super) fn web(&self) -> String {
        format!("/api/{}/web", self.target.version)
    }

    /// `/api/v1/namespaces/{namespace}/{rest}`; `rest` is encoded already.
    pub(super) fn path(&self, namespace: &str, rest: &str) -> String {
        format!("{}/{}/{rest}", self.namespaces(), encode(namespace))
    }

    pub(super) fn get(&self, path: &str, query: Query<'_>) -> Result<Value> {
        self.send("GET", path, query, None)?.success()
    }

    /// As [`Client::get`], and the answer must be a list.
    pub(super) fn list(&self, path: &str, query: Query<'_>) -> Result<Vec<Value>> {
        match self.get(path, query)? {
            Value::Array(rows) => Ok(rows),
            other => Err(Failure::general(format!(
                "expected a list from {path}, got {other}"
            ))),
        }
    }

    /// One request and its answer.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        query: Query<'_>,
        body: Option<&Value>,
    ) -> Result<Answer> {
        self.send_with(method, path, query, &[], body)
    }

    /// As [`Client::send`], with headers of its own.
    pub(super) fn send_with(
        &self,
        method: &str,
        path: &str,
        query: Query<'_>,
        headers: Headers<'_>,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let url = self.url(path, query);
        let text = body.map(Value::to_string);
        self.exchange(method, &url, headers, text, &ProgressBar::hidden())
    }

    /// Asks for a stream of server-sent events, for `lifetime` at most; none when the server answers with anything else.
    pub(super) fn events(
        &self,
        path: &str,
        query: Query<'_>,
        last: Option<&str>,
        lifetime: Duration,
    ) -> Result<Option<Events>> {
        let url = self.url(path, query);
        self.trace("GET", &url, None);
        let mut request = self.request("GET", &url, "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(());
        let request = request
            .map_err(|error| Failure::usage(format!("{url} cannot be asked for: {error}")))?;
        let request = self.agent.configure_request(request);
        let request = request.timeout_global(Some(lifetime)).build();
        let answer = self.agent.run(request);
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        let kind = answer.headers().get("content-type");
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let streams = answer.status() == 200 && kind.starts_with("text/event-stream");
        Ok(streams.then(|| Box::new(answer.into_body().into_reader()) as Events))
    }

    fn request(&self, method: &str, url: &str, accept: &str) -> RequestBuilder {
        let key = BASE64_STANDARD.encode(&self.target.auth);
        Request::builder()
            .method(method)
            .uri(url)
            .header("authorization", format!("Basic {key}"))
            .header("accept", accept)
    }

    /// As a `PUT`, with progress: bytes sent, then the wait for what the server makes of them.
    pub(super) fn upload(
        &self,
        what: &str,
        path: &str,
        query: Query<'_>,
        body: &Value,
    ) -> Result<Answer> {
        let text = body.to_string();
        let bar = self.session.output.upload(what, text.len() as u64);
        let answer = self.exchange("PUT", &self.url(path, query), &[], Some(text), &bar);
        bar.finish_and_clear();
        answer
    }

    fn url(&self, path: &str, query: Query<'_>) -> String {
        format!("{}{path}{}", self.target.base, query_string(query))
    }

    fn exchange(
        &self,
        method: &str,
        url: &str,
        headers: Headers<'_>,
        text: Option<String>,
        bar: &ProgressBar,
    ) -> Result<Answer> {
        self.trace(method, url, text.as_deref());
        let mut request = self.request(method, url, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(text) = &text {
            request = request
                .header("content-type", "application/json")
                .header("content-length", text.len());
            if text.len() >= ASKED_FROM_BYTES {
                request = request.header("expect", "100-continue");
            }
        }
        let sent = match text {
            Some(text) => SendBody::from_owned_reader(Counted {
                bytes: io::Cursor::new(text.into_bytes()),
                bar: bar.clone(),
            }),
            None => SendBody::none(),
        };
        let request = request.body(sent);
        let request = request
            .map_err(|error| Failure::usage(format!("{url} cannot be asked for: {error}")))?;
        let answer = self
            .agent
            .run(request)
            .map_err(|error| self.unreachable(&error))?;
        self.read(answer)
    }

    fn read(&self, mut answer: http::Response<ureq::Body>) -> Result<Answer> {
        let status = answer.status().as_u16();
        let header = |name| {
            let value = answer.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let activation_id = header("x-openwhisk-activation-id");
        let retry_after = header("retry-after");
        let body = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec();
        let body = body.map_err(|error| self.unreachable(&error))?;
        if self.session.globals.debug {
            let text = String::from_utf8_lossy(&body);
            self.session
                .output
                .note(&format!("RESPONSE: {status}\n{text}"));
        }
        let body = match serde_json::from_slice(&body) {
            Ok(body) => body,
            Err(_) if body.is_empty() || !(200..300).contains(&status) => Value::Null,
            Err(error) => {
                let message = format!("{} did not answer in JSON: {error}", self.target.base);
                return Err(Failure::general(message));
            }
        };
        Ok(Answer {
            status,
            body,
            activation_id,
            retry_after,
        })
    }

    fn trace(&self, method: &str, url: &str, body: Option<&str>) {
        if self.session.globals.verbose || self.session.globals.debug {
            self.session
                .output
                .note(&format!("REQUEST: {method} {url}"));
        }
        if let (true, Some(body)) = (self.session.globals.debug, body) {
            self.session.output.note(body);
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let base = &self.target.base;
        match error {
            ureq::Error::Io(io) => self.broken(io),
            ureq::Error::HostNotFound => {
                Failure::network(format!("there is no host of that name: {base}"))
            }
            ureq::Error::Timeout(_) => Failure::network(format!("{base} did not answer in time")),
            other => Failure::network(format!("{base} did not answer: {other}")),
        }
    }

    fn broken(&self, error: &io::Error) -> Failure {
        let base = &self.target.base;
        let failure = Failure::network(format!("{base} did not answer: {error}"));
        match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                let failure = Failure::network(format!("nothing listens on {base}"));
                failure.advise(match is_loopback(base) {
                    true => "Start a server with `wisp serve`, or name another with --apihost.",
                    false => "Name another server with --apihost.",
                })
            }
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                failure.advise("The request may be larger than the server allows.")
            }
            _ if error.to_string().contains("certificate") => {
                failure.advise("If the server is who it should be, pass --insecure.")
            }
            _ => failure,
        }
    }
}

/// Reads a body while its progress is shown.
struct Counted {
    bytes: io::Cursor<Vec<u8>>,
    bar: ProgressBar,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.bar.inc(count as u64);
        let all = self.bytes.get_ref().len() as u64;
        if count > 0 && self.bytes.position() == all {
            Output::uploaded(&self.bar);
        }
        Ok(count)
    }
}

/// Percent-encodes one segment of a path, or one value of a query.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
            encoded.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
        }
    }
    encoded
}

fn query_string(query: Query<'_>) -> String {
    let pairs = query
        .iter()
        .map(|(key, value)| format!("{key}={}", encode(value)));
    let pairs: Vec<String> = pairs.collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", pairs.join("&")),
    }
}

/// The name of an action as people write it: `name`, `package/name`, `/namespace/name`, `/namespace/package/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntityPath {
    pub(super) namespace: String,
    /// `name` or `package/name`.
    pub(super) path: String,
}

impl EntityPath {
    /// `own` is the namespace of names that say none.
    pub(super) fn parse(text: &str, own: &str) -> Result<Self> {
        let bad = || {
            Failure::usage(format!(
                "'{text}' is no name: use NAME, PACKAGE/NAME or /NAMESPACE/[PACKAGE/]NAME"
            ))
        };
        let (namespace, path) = match text.strip_prefix('/') {
            Some(rest) => rest.split_once('/').ok_or_else(bad)?,
            None => (own, text),
        };
        let segments: Vec<&str> = path.split('/').collect();
        if segments.len() > 2 || namespace.is_empty() || segments.iter().any(|s| s.is_empty()) {
            return Err(bad());
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            path: path.to_owned(),
        })
    }

    /// As [`EntityPath::parse`], of what is in no package: packages, triggers, rules.
    pub(super) fn parse_plain(text: &str, own: &str) -> Result<Self> {
        let parsed = Self::parse(text, own)?;
        if parsed.path.contains('/') {
            let message = format!("'{text}' is no name: use NAME or /NAMESPACE/NAME");
            return Err(Failure::usage(message));
        }
        Ok(parsed)
    }

    /// The package, when it says one.
    pub(super) fn package(&self) -> Option<&str> {
        self.path.split_once('/').map(|(package, _)| package)
    }

    /// What follows the namespace in a URL.
    pub(super) fn in_collection(&self, collection: &str) -> String {
        let segments: Vec<String> = self.path.split('/').map(encode).collect();
        format!("{collection}/{}", segments.join("/"))
    }

    /// Without its package.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

impl std::fmt::Display for EntityPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}/{}", self.namespace, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_qualified_and_encoded() {
        let table = [
            ("hello", "/_/hello", "actions/hello"),
            ("a b/c&d", "/_/a b/c&d", "actions/a%20b/c%26d"),
            ("/ns/hello", "/ns/hello", "actions/hello"),
            ("/ns/pkg/é", "/ns/pkg/é", "actions/pkg/%C3%A9"),
        ];
        for (text, shown, path) in table {
            let name = EntityPath::parse(text, "_").unwrap();
            assert_eq!(name.to_string(), shown);
            assert_eq!(name.in_collection("actions"), path);
        }
        for bad in ["", "/", "/ns", "/ns/", "a/b/c", "//x", "a/"] {
            assert_eq!(EntityPath::parse(bad, "_").unwrap_err().exit, 2, "{bad:?}");
        }
    }
}
