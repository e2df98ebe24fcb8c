//! A chat whose answers appear while they are made: a component that speaks `wasi:http`, and knows nothing of Wisp.
//!
//! `/` is the page, `/say?text=…` an answer, word by word. Who answers is a handful of rules in the manner of ELIZA; a model
//! behind an API would be called from here and passed on in the same way.

mod rules;

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

/// Between two words, in nanoseconds: about as fast as people read.
const PAUSE_NS: u64 = 60_000_000;

/// Longest text that is answered, in bytes.
const TEXT_MAX: usize = 2_000;

struct Chat;

wasip2::http::proxy::export!(Chat);

impl wasip2::exports::http::incoming_handler::Guest for Chat {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let page = "text/html; charset=utf-8";
        let text = "text/plain; charset=utf-8";
        let answered = match (request.method(), path) {
            (Method::Get | Method::Head, "" | "/") => {
                send(out, 200, page, [include_str!("page.html").as_bytes()])
            }
            (Method::Get, "/say") => match said(query) {
                Some(said) => speak(out, text, &rules::answer(&said)),
                None => send(out, 400, text, [b"text is needed\n".as_slice()]),
            },
            _ => send(out, 404, text, [b"there is / and /say?text=hello\n".as_slice()]),
        };
        if let Err(error) = answered {
            // Whoever asked went away.
            eprintln!("not everything could be sent: {error}");
        }
    }
}

/// Sends a text word by word, each as soon as it is there.
fn speak(out: ResponseOutparam, content_type: &str, answer: &str) -> Result<(), StreamError> {
    let words = answer.split_inclusive(' ').enumerate().map(|(index, word)| {
        if index > 0 {
            subscribe_duration(PAUSE_NS).block();
        }
        word.as_bytes()
    });
    send(out, 200, content_type, words)
}

fn send<'p>(
    out: ResponseOutparam,
    status: u16,
    content_type: &str,
    parts: impl IntoIterator<Item = &'p [u8]>,
) -> Result<(), StreamError> {
    let headers = Fields::new();
    for (name, value) in [("content-type", content_type), ("cache-control", "no-store")] {
        headers
            .append(name, value.as_bytes())
            .expect("the header may be set");
    }
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("it is a status");
    let body = response.body().expect("taken once");
    // From here on the head may be on its way.
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("taken once");
    for part in parts {
        for piece in part.chunks(4096) {
            stream.blocking_write_and_flush(piece)?;
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|_| StreamError::Closed)
}

/// `text` of a query.
fn said(query: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, text) = pairs.find(|(name, _)| *name == "text")?;
    let text = decoded(text);
    (!text.trim().is_empty() && text.len() <= TEXT_MAX).then_some(text)
}

/// `a+b%21` to `a b!`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let hex = after
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, hex) {
            (_, Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', None) => bytes.push(b' '),
            (byte, None) => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
