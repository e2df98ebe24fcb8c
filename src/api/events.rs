//! `GET …/activations?events=true`: the activations of a namespace as they end, as server-sent events.
//!
//! Each event is `activation`, its id that of the activation, its data the whole record with its logs. A client that
//! comes back with `Last-Event-ID` is first told what it missed, as far as that is kept. A client that is too slow gets
//! `missed` with a count. Comments keep the connection from looking dead.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

use super::activations::Whole;
use super::error::{Error, Result};
use super::{Front, serve};
use crate::model::{Activation, ActivationId, Namespace};
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

/// The stream for `filter`, from now on, or from what `Last-Event-ID` names.
pub(super) async fn stream(
    front: &Front,
    headers: &HeaderMap,
    namespace: &Namespace,
    filter: ActivationFilter,
) -> Result<Response> {
    let last = match headers.get(LAST_EVENT_ID) {
        Some(id) => Some(id.to_str().unwrap_or_default().parse::<ActivationId>()?),
        None => None,
    };
    // Watched first, then read: nothing falls in between.
    let subscription = front.state.hub.subscribe(namespace);
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
