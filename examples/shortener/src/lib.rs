//! Short addresses for long ones: a component that speaks `wasi:http` and keeps what it knows in `wasi:keyvalue`.
//!
//! `POST /?url=…` makes a short one, `GET /CODE` leads on, `GET /CODE/stats` says how often it did.

use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::random::random::get_random_bytes;

wit_bindgen::generate!({ world: "shortener", path: "wit", generate_all });

use wasi::keyvalue::atomics::increment;
use wasi::keyvalue::store::{Bucket, Error, open};

/// Letters and digits of codes, without those that look alike.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789-";

/// Characters of a code: 32 to the power of 7 are 34 billion.
const CODE_CHARS: usize = 7;

/// How often another code is tried when one is taken.
const TRIES_MAX: usize = 4;

/// Longest address that is kept.
const URL_BYTES_MAX: usize = 2_048;

struct Shortener;

wasip2::http::proxy::export!(Shortener);

/// A status, where to go, and what to say.
struct Answer(u16, Option<String>, String);

impl wasip2::exports::http::incoming_handler::Guest for Shortener {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let path = path.trim_matches('/');
        let answer = match (request.method(), path) {
            (Method::Post, "") => keep(query),
            (Method::Get | Method::Head, "") => Ok(usage(200)),
            (Method::Get | Method::Head, path) => match path.strip_suffix("/stats") {
                Some(code) => stats(code),
                None => lead_on(path),
            },
            _ => Ok(usage(405)),
        };
        let answer = answer.unwrap_or_else(|error| {
            eprintln!("the store failed: {error:?}");
            Answer(503, None, "try again later\n".to_owned())
        });
        send(out, answer);
    }
}

fn usage(status: u16) -> Answer {
    let text = "POST /?url=https://example.com makes a short address; GET /CODE leads on, GET /CODE/stats counts\n";
    Answer(status, None, text.to_owned())
}

/// Keeps an address under a new code.
fn keep(query: &str) -> Result<Answer, Error> {
    let url = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("url="))
        .map(decoded)
        .unwrap_or_default();
    let known = url.starts_with("https://") || url.starts_with("http://");
    let plain = url.bytes().all(|byte| byte.is_ascii_graphic());
    if !known || !plain || url.len() > URL_BYTES_MAX {
        let text = "url must be a http address without spaces, at most 2048 characters\n";
        return Ok(Answer(400, None, text.to_owned()));
    }
    let bucket = open("")?;
    for _ in 0..TRIES_MAX {
        let code = fresh_code();
        if !bucket.exists(&key("url", &code))? {
            bucket.set(&key("url", &code), url.as_bytes())?;
            return Ok(Answer(201, None, format!("{code}\n")));
        }
    }
    Ok(Answer(503, None, "no code is free, try again\n".to_owned()))
}

fn lead_on(code: &str) -> Result<Answer, Error> {
    let bucket = open("")?;
    let Some(url) = found(&bucket, code)? else {
        return Ok(unknown());
    };
    increment(&bucket, &key("hits", code), 1)?;
    Ok(Answer(302, Some(url.clone()), format!("{url}\n")))
}

fn stats(code: &str) -> Result<Answer, Error> {
    let bucket = open("")?;
    let Some(url) = found(&bucket, code)? else {
        return Ok(unknown());
    };
    let hits = increment(&bucket, &key("hits", code), 0)?;
    Ok(Answer(200, None, format!("{hits} {url}\n")))
}

fn unknown() -> Answer {
    Answer(404, None, "nobody knows this code\n".to_owned())
}

fn found(bucket: &Bucket, code: &str) -> Result<Option<String>, Error> {
    if code.len() != CODE_CHARS || !code.bytes().all(|byte| LETTERS.contains(&byte)) {
        return Ok(None);
    }
    let url = bucket.get(&key("url", code))?;
    Ok(url.and_then(|url| String::from_utf8(url).ok()))
}

fn key(what: &str, code: &str) -> String {
    format!("shortener/{what}/{code}")
}

fn fresh_code() -> String {
    let random = get_random_bytes(CODE_CHARS as u64);
    // 256 is a multiple of 32: every character is as likely.
    let letters = random.iter().map(|byte| LETTERS[usize::from(byte % 32)] as char);
    letters.collect()
}

fn send(out: ResponseOutparam, Answer(status, location, text): Answer) {
    let headers = Fields::new();
    let set = |name: &str, value: &str| {
        headers
            .append(name, value.as_bytes())
            .expect("the header may be set");
    };
    set("content-type", "text/plain; charset=utf-8");
    if let Some(location) = &location {
        set("location", location);
    }
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("it is a status");
    let body = response.body().expect("taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("taken once");
    let sent = stream.blocking_write_and_flush(text.as_bytes());
    drop(stream);
    if sent.is_err() || OutgoingBody::finish(body, None).is_err() {
        eprintln!("whoever asked went away");
    }
}

/// `a%3A` to `a:`.
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
        match hex {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
