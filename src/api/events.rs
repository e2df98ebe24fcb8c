//! `GET …/activations?events=true`, or with `Accept: text/event-stream`: the activations of a namespace as they end, as
//! server-sent events.
//!
//! Each event is `activation`, its id that of the activation, its data the whole record with its logs. A client that
//! comes back with `Last-Event-ID` is first told what it missed, as far as that is kept. A client that is too slow gets
//! `missed` with a count.
//!
//! With `logs=true` there is `log` as well: a line as it is written, with its activation and its action's name. The record has
//! it again, in the same words, which is also where lines are that came too fast (`missed-logs` with a count), are too long,
//! or were written to the stdout of a command last: that may be its result. They have no id, since nobody is told them
//! again.
//!
//! Comments keep the connection from looking dead.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use http_body::Frame;
use serde_json::json;
use tokio::sync::mpsc;

use super::activations::Whole;
use super::error::{Error, Result};
use super::{Front, serve};
use crate::model::live::Line;
use crate::model::{Activation, ActivationId, EntityName, Namespace};
use crate::store::watched::{Seen, Subscription};
use crate::store::{ActivationFilter, Activations, Page};

/// Where a client that comes back says how far it was.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How often a comment is sent when there is nothing to tell.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events made and not yet taken by the connection; beyond it the subscription itself falls behind.
const UNSENT_MAX: usize = 16;

/// Events told again to a client that comes back.
const MISSED_MAX: usize = 200;

/// Whether a client that says this wants a stream: one that reads server-sent events says so and nothing else.
pub(super) fn are_accepted(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT);
    accept.is_some_and(|accept| accept.as_bytes().starts_with(b"text/event-stream"))
}

/// The stream for `filter`, from now on, or from what `Last-Event-ID` names.
pub(super) async fn stream(
    front: &Front,
    headers: &HeaderMap,
    namespace: &Namespace,
    (filter, lines): (ActivationFilter, bool),
) -> Result<Response> {
    let last = match headers.get(LAST_EVENT_ID) {
        Some(id) => Some(id.to_str().unwrap_or_default().parse::<ActivationId>()?),
        None => None,
    };
    // Watched first, then read: nothing falls in between.
    let subscription = front.state.hub.subscribe(namespace, lines);
    let subscription =
        subscription.ok_or_else(|| Error::unavailable(5, "too many watch activations"))?;
    let activations = &*front.state.store.activations;
    let missed = match last {
        Some(last) => missed(activations, namespace, &filter, last).await?,
        None => Vec::new(),
    };
    let (sender, receiver) = mpsc::channel(UNSENT_MAX);
    tokio::spawn(tell(sender, subscription, filter, missed));
    let mut response = Response::new(Body::new(Events(receiver)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(serve::Endless);
    Ok(response)
}

/// What ended after `last`, oldest first.
async fn missed(
    activations: &dyn Activations,
    namespace: &Namespace,
    filter: &ActivationFilter,
    last: ActivationId,
) -> Result<Vec<Arc<Activation>>> {
    let filter = ActivationFilter {
        since: Some(last.made_at()),
        ..filter.clone()
    };
    let page = Page {
        skip: 0,
        limit: MISSED_MAX,
    };
    let mut found = activations.list(namespace, &filter, page).await?;
    found.retain(|record| record.id > last);
    found.reverse();
    Ok(found)
}

/// Tells until the client leaves or the server drains.
async fn tell(
    sender: mpsc::Sender<Bytes>,
    mut subscription: Subscription,
    filter: ActivationFilter,
    missed: Vec<Arc<Activation>>,
) {
    for record in &missed {
        if sender.send(event(record)).await.is_err() {
            return;
        }
    }
    loop {
        let next = tokio::time::timeout(KEEP_ALIVE, subscription.next());
        let seen = tokio::select! {
            () = sender.closed() => return,
            seen = next => seen,
        };
        let text = match seen {
            Ok(Seen::Record(record)) if !filter.names(&record) => continue,
            Ok(Seen::Record(record)) if missed.iter().any(|one| one.id == record.id) => continue,
            Ok(Seen::Record(record)) => event(&record),
            Ok(Seen::Line(line)) if !named(&filter, &line) => continue,
            Ok(Seen::Line(line)) => log(&line),
            Ok(Seen::LinesMissed(count)) => format!("event: missed-logs\ndata: {count}\n\n").into(),
            Ok(Seen::Missed(count)) => format!("event: missed\ndata: {count}\n\n").into(),
            Ok(Seen::Closed) => return,
            Err(_) => Bytes::from_static(b":\n\n"),
        };
        if sender.send(text).await.is_err() {
            return;
        }
    }
}

fn event(record: &Activation) -> Bytes {
    // Compact JSON has no line breaks, so it is one line of data.
    let data = serde_json::to_string(&Whole::of(record)).unwrap_or_default();
    format!("id: {}\nevent: activation\ndata: {data}\n\n", record.id).into()
}

/// Whether the line is of the action that is asked for.
fn named(filter: &ActivationFilter, line: &Line) -> bool {
    let address = line.action.address();
    let is = |wanted: &Option<EntityName>, found: Option<&EntityName>| {
        wanted.as_ref().is_none_or(|wanted| found == Some(wanted))
    };
    is(&filter.name, Some(&line.action.fqn.name)) && is(&filter.package, address.package.as_ref())
}

fn log(line: &Line) -> Bytes {
    let data = json!({
        "activationId": line.id,
        "name": line.action.fqn.name,
        "line": line.text,
    });
    format!("event: log\ndata: {data}\n\n").into()
}

/// A body that ends when nobody tells any more.
struct Events(mpsc::Receiver<Bytes>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(context);
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
