//! `wisp.http_*`: outbound HTTP for core modules (`runtimes/abi/README.md`). Requests go on while the guest computes;
//! [`poll`] is where it waits for them, and for nothing but time when there are none.
//!
//! A request is a task that puts one part of its answer at a time where the guest reads it. What is *news* is told once:
//! a head, a part where none was, an end, a failure; and what a read left behind is news again. So a guest that does not
//! care for one answer can wait for another, and one that reads in small bites misses nothing.
//!
//! Invariants: nothing the guest says is believed; what the host holds for it counts as its memory; dropping a handle, or
//! the end of the run, ends the request.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;

use super::Usage;
use super::client::{Client, whole};
use crate::model::Namespace;
use crate::sandbox::Traffic;
use crate::sandbox::host::{self, Host};
use crate::sandbox::limits::Account;

/// What a request takes of the host besides its body: task, connection, buffers of both directions.
const REQUEST_BYTES: usize = 128 << 10;
/// Bytes of a request's head, as JSON.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers that say something of the connection, which is not the guest's.
const OURS: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// The requests of one run.
pub(in crate::sandbox) struct Calls {
    slots: Vec<Option<Call>>,
    /// Where the next look for news begins, so that no handle starves another.
    next: usize,
    news: Arc<Notify>,
    usage: Arc<Usage>,
}

/// One request.
struct Call {
    shared: Arc<Shared>,
    held: usize,
    account: Arc<Mutex<Account>>,
    _task: AbortOnDropJoinHandle<()>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.account.lock().give_back(self.held);
    }
}

/// Where task and guest meet.
struct Shared {
    progress: Mutex<Progress>,
    /// The guest has taken all there was.
    room: Notify,
    /// Something is new; the instance's.
    news: Arc<Notify>,
}

#[derive(Default)]
struct Progress {
    /// JSON, once it is there.
    head: Option<Bytes>,
    /// What was not read yet.
    part: Bytes,
    end: Option<End>,
    /// Whether the guest was told.
    is_news: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Failed,
}

impl Shared {
    fn tell(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.lock();
        change(&mut progress);
        progress.is_news = true;
        drop(progress);
        self.news.notify_one();
    }

    fn fail(&self, cause: &dyn std::fmt::Display) {
        self.tell(|progress| {
            progress.head = Some(json!({ "error": cause.to_string() }).to_string().into());
            progress.part = Bytes::new();
            progress.end = Some(End::Failed);
        });
    }
}

/// The head of a request, as a guest writes it.
#[derive(Deserialize)]
struct Asked {
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
}

impl Asked {
    /// The request; `None` when it is malformed.
    fn request(self, body: Bytes) -> Option<Request<super::Body>> {
        let uri: Uri = self.url.parse().ok()?;
        let method = Method::from_bytes(self.method.as_bytes()).ok()?;
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 1);
        if let Some(authority) = uri.authority() {
            headers.insert(HOST, HeaderValue::from_str(authority.as_str()).ok()?);
        }
        for (name, value) in self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            let is_ours = OURS.contains(&name.as_str()) || name == HOST || name == CONTENT_LENGTH;
            if !is_ours {
                headers.append(name, value);
            }
        }
        let mut request = Request::new(whole(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Some(request)
    }
}

/// The head of an answer, as a guest reads it. Bytes beyond ASCII in values are taken for Latin 1, as browsers do.
fn head(parts: &http::response::Parts) -> Bytes {
    let text = |value: &HeaderValue| {
        value
            .as_bytes()
            .iter()
            .map(|&byte| char::from(byte))
            .collect()
    };
    let headers: Vec<(&str, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), text(value)))
        .collect();
    let head = json!({ "status": parts.status.as_u16(), "headers": headers });
    head.to_string().into()
}

/// Carries one request to its end.
async fn carry(client: Arc<Client>, request: Request<super::Body>, usage: Arc<Usage>, to: &Shared) {
    let patience = client.patience();
    let (response, connection) = match client.send(request, patience, usage).await {
        Ok(answer) => answer,
        Err(error) => return to.fail(&error),
    };
    let (parts, body) = response.into_parts();
    to.tell(|progress| progress.head = Some(head(&parts)));
    let mut body = pin!(body);
    let mut connection = connection.map(Box::pin);
    // Polled beside whatever is waited for: it moves the bytes. Its failure shows in the body, too.
    let mut drive = move |cx: &mut std::task::Context<'_>| {
        if let Some(open) = connection.as_mut()
            && open.as_mut().poll(cx).is_ready()
        {
            connection = None;
        }
    };
    loop {
        let mut frame = body.frame();
        let frame = poll_fn(|cx| {
            drive(cx);
            std::pin::Pin::new(&mut frame).poll(cx)
        });
        match frame.await {
            None => return to.tell(|progress| progress.end = Some(End::Whole)),
            Some(Err(error)) => return to.fail(&error),
            Some(Ok(frame)) => {
                let Some(part) = frame.into_data().ok().filter(|data| !data.is_empty()) else {
                    continue;
                };
                to.tell(|progress| progress.part = part);
                let mut taken = pin!(to.room.notified());
                poll_fn(|cx| {
                    drive(cx);
                    taken.as_mut().poll(cx)
                })
                .await;
            }
        }
    }
}

impl Calls {
    fn new(namespace: Option<Namespace>) -> Self {
        Self {
            slots: Vec::new(),
            next: 0,
            news: Arc::default(),
            usage: Usage::of(namespace),
        }
    }

    /// What they have moved.
    pub(in crate::sandbox) fn traffic(&self) -> Traffic {
        self.usage.traffic()
    }

    fn is_idle(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// The handle that has news, which is told by this.
    fn news(&mut self) -> Option<usize> {
        let count = self.slots.len();
        let turns = (0..count).map(|turn| (self.next + turn) % count);
        let found = turns.into_iter().find(|&index| {
            let call = self.slots.get(index).and_then(Option::as_ref);
            call.is_some_and(|call| std::mem::take(&mut call.shared.progress.lock().is_news))
        })?;
        self.next = found + 1;
        Some(found)
    }

    fn get(&self, handle: i32) -> Option<&Call> {
        let index = usize::try_from(handle).ok()?;
        self.slots.get(index)?.as_ref()
    }

    /// Takes a request up; `None` when there are too many.
    fn start(
        &mut self,
        client: &Arc<Client>,
        request: Request<super::Body>,
        account: &Arc<Mutex<Account>>,
        body_bytes: usize,
    ) -> Option<usize> {
        let free = self.slots.iter().position(Option::is_none);
        let index = free.unwrap_or(self.slots.len());
        if index >= client.instance_connections_max() {
            return None;
        }
        let held = body_bytes.saturating_add(REQUEST_BYTES);
        if !account.lock().try_take(held) {
            return None;
        }
        let shared = Arc::new(Shared {
            progress: Mutex::default(),
            room: Notify::new(),
            news: Arc::clone(&self.news),
        });
        let (to, client, usage) = (
            Arc::clone(&shared),
            Arc::clone(client),
            Arc::clone(&self.usage),
        );
        let task = wasmtime_wasi::runtime::spawn(async move {
            if u64::try_from(body_bytes).unwrap_or(u64::MAX) > client.request_bytes_max() {
                let most = client.request_bytes_max();
                return to.fail(&format!("the request's body has more than {most} bytes"));
            }
            carry(client, request, usage, &to).await;
        });
        let call = Call {
            shared,
            held,
            account: Arc::clone(account),
            _task: task,
        };
        match self.slots.get_mut(index) {
            Some(slot) => *slot = Some(call),
            None => self.slots.push(Some(call)),
        }
        Some(index)
    }
}

/// The guest's memory with the host beside it.
fn guest<'a>(caller: &'a mut Caller<'_, Host>) -> wasmtime::Result<(&'a mut [u8], &'a mut Host)> {
    let memory = host::memory(caller)
        .ok_or_else(|| wasmtime::format_err!("wisp.http_* need an exported memory"))?;
    Ok(memory.data_and_store_mut(caller))
}

fn slice(memory: &[u8], ptr: u32, len: u32) -> wasmtime::Result<&[u8]> {
    host::range(ptr, len)
        .and_then(|range| memory.get(range))
        .ok_or_else(|| {
            wasmtime::format_err!("wisp.http_*: {len} bytes at {ptr} lie outside memory")
        })
}

/// Copies as much of `from` as there is room for; how much that was.
fn copy(memory: &mut [u8], ptr: u32, len: u32, from: &[u8]) -> wasmtime::Result<usize> {
    let target = host::range(ptr, len).and_then(|range| memory.get_mut(range));
    let target = target
        .ok_or_else(|| wasmtime::format_err!("wisp.http_*: the buffer lies outside memory"))?;
    let count = from.len().min(target.len());
    target[..count].copy_from_slice(&from[..count]);
    Ok(count)
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// `wisp.http_start`: a handle, or -1 when too many requests are open, their memory is used up, or the head is malformed.
fn start(
    caller: &mut Caller<'_, Host>,
    client: &Arc<Client>,
    (head_ptr, head_len): (u32, u32),
    (body_ptr, body_len): (u32, u32),
) -> wasmtime::Result<i32> {
    let (memory, host) = guest(caller)?;
    let head = slice(memory, head_ptr, head_len)?;
    let body = slice(memory, body_ptr, body_len)?;
    let asked = if head.len() <= HEAD_BYTES_MAX {
        serde_json::from_slice::<Asked>(head).ok()
    } else {
        None
    };
    // What is too long is told so by the request; it need not be copied for that.
    let is_long = u64::from(body_len) > client.request_bytes_max();
    let copied = if is_long { &[][..] } else { body };
    let Some(request) = asked.and_then(|asked| asked.request(Bytes::copy_from_slice(copied)))
    else {
        return Ok(-1);
    };
    let body_bytes = body.len();
    let account = host.meter.shared();
    let namespace = &host.namespace;
    let calls = host
        .calls
        .get_or_insert_with(|| Box::new(Calls::new(namespace.clone())));
    let handle = calls.start(client, request, &account, body_bytes);
    Ok(handle.map_or(-1, number))
}

/// `wisp.http_poll`: waits until a handle has news, or `timeout_ms` are over (-1); a negative one ends with the run.
async fn poll(caller: &mut Caller<'_, Host>, timeout_ms: i64) -> i32 {
    let patience = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
    let until = patience.and_then(|patience| Instant::now().checked_add(patience));
    loop {
        let calls = caller.data_mut().calls.as_mut();
        let news = match calls.filter(|calls| !calls.is_idle()) {
            Some(calls) => match calls.news() {
                Some(handle) => return number(handle),
                None => Some(Arc::clone(&calls.news)),
            },
            None => None,
        };
        // What happens from here on leaves a permit behind, so it is not missed.
        let changed = async {
            match &news {
                Some(news) => news.notified().await,
                None => std::future::pending().await,
            }
        };
        match until {
            Some(until) => {
                if tokio::time::timeout_at(until, changed).await.is_err() {
                    return -1;
                }
            }
            None => changed.await,
        }
    }
}

/// `wisp.http_head`: the whole length of the answer's head, or -1 when it is not there yet.
fn copy_head(
    caller: &mut Caller<'_, Host>,
    handle: i32,
    (ptr, len): (u32, u32),
) -> wasmtime::Result<i32> {
    let (memory, host) = guest(caller)?;
    let call = host.calls.as_ref().and_then(|calls| calls.get(handle));
    let Some(call) = call else {
        wasmtime::bail!("wisp.http_head: there is no request {handle}");
    };
    let Some(head) = call.shared.progress.lock().head.clone() else {
        return Ok(-1);
    };
    copy(memory, ptr, len, &head)?;
    Ok(number(head.len()))
}

/// `wisp.http_read`: bytes of the body copied, 0 at its end, -1 when none have come, -2 when it failed.
fn read(
    caller: &mut Caller<'_, Host>,
    handle: i32,
    (ptr, len): (u32, u32),
) -> wasmtime::Result<i32> {
    let (memory, host) = guest(caller)?;
    let call = host.calls.as_ref().and_then(|calls| calls.get(handle));
    let Some(call) = call else {
        wasmtime::bail!("wisp.http_read: there is no request {handle}");
    };
    let mut progress = call.shared.progress.lock();
    if progress.part.is_empty() {
        return Ok(match progress.end {
            None => -1,
            Some(End::Whole) => 0,
            Some(End::Failed) => -2,
        });
    }
    let count = copy(memory, ptr, len, &progress.part)?;
    progress.part.advance(count);
    if progress.part.is_empty() {
        // Frees what was read, not only the view of it.
        progress.part = Bytes::new();
        call.shared.room.notify_one();
    } else {
        progress.is_news = true;
    }
    Ok(number(count))
}

/// `wisp.http_drop`: ends a request; one that is not there is none.
fn forget(caller: &mut Caller<'_, Host>, handle: i32) {
    let calls = caller.data_mut().calls.as_mut();
    let slot = calls
        .zip(usize::try_from(handle).ok())
        .and_then(|(calls, index)| calls.slots.get_mut(index));
    if let Some(slot) = slot {
        *slot = None;
    }
}

/// Adds `wisp.http_*`.
///
/// # Errors
/// When a function is there already: ours.
pub(in crate::sandbox) fn add_to_linker(
    linker: &mut Linker<Host>,
    client: &Arc<Client>,
) -> wasmtime::Result<()> {
    let client = Arc::clone(client);
    linker
        .func_wrap(
            "wisp",
            "http_start",
            move |mut caller: Caller<'_, Host>,
                  head: u32,
                  head_len: u32,
                  body: u32,
                  body_len: u32| {
                start(&mut caller, &client, (head, head_len), (body, body_len))
            },
        )?
        .func_wrap_async(
            "wisp",
            "http_poll",
            |mut caller: Caller<'_, Host>, (timeout_ms,): (i64,)| {
                Box::new(async move { poll(&mut caller, timeout_ms).await })
            },
        )?
        .func_wrap(
            "wisp",
            "http_head",
            |mut caller: Caller<'_, Host>, handle: i32, ptr: u32, len: u32| {
                copy_head(&mut caller, handle, (ptr, len))
            },
        )?
        .func_wrap(
            "wisp",
            "http_read",
            |mut caller: Caller<'_, Host>, handle: i32, ptr: u32, len: u32| {
                read(&mut caller, handle, (ptr, len))
            },
        )?
        .func_wrap(
            "wisp",
            "http_drop",
            |mut caller: Caller<'_, Host>, handle: i32| {
                forget(&mut caller, handle);
            },
        )?;
    Ok(())
}
