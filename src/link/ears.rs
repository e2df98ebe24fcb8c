//! Listening: channels, and the keys that others changed.
//!
//! A connection of its own to every server whose keys can change. When one is lost, [`Heard::Lost`] is said, all are made
//! anew, and [`Heard::Back`] is said when everything is listened to again: what was said in between was not heard, so
//! whoever keeps copies forgets them at both.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value, cmd};
use tokio::sync::mpsc;

use super::Link;
use super::error::{Error, Result};

/// What waits to be heard; whoever is slower than this has lost.
const HEARD_MAX: usize = 65_536;
/// Pause before lost connections are made anew.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether the servers are still there, and the same.
const LOOK: Duration = Duration::from_millis(500);

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Something was published.
    Message { channel: String, payload: Bytes },
    /// Others (or this process) changed these keys; none are named when it may be any.
    Changed(Vec<String>),
    /// A connection broke: from now on nothing is heard.
    Lost,
    /// Everything is listened to (again).
    Back,
}

enum Order {
    Subscribe(String),
    Unsubscribe(String),
}

/// What is listened to. Dropped, it ends.
#[derive(Debug, Clone)]
pub(crate) struct Ears(mpsc::UnboundedSender<Order>);

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Order")
    }
}

impl Ears {
    /// Listens to a channel from now on, or from when the connection is there.
    pub(crate) fn subscribe(&self, channel: &str) {
        drop(self.0.send(Order::Subscribe(channel.to_owned())));
    }

    /// No longer listens to it.
    pub(crate) fn unsubscribe(&self, channel: &str) {
        drop(self.0.send(Order::Unsubscribe(channel.to_owned())));
    }
}

/// Listens to changes of keys with these prefixes, and to the channels that are subscribed to.
pub(super) fn listen(link: Link, prefixes: Vec<String>) -> (Ears, mpsc::Receiver<Heard>) {
    let (orders, inbox) = mpsc::unbounded_channel();
    let (heard, outbox) = mpsc::channel(HEARD_MAX);
    let listener = Listener {
        link,
        prefixes,
        channels: BTreeSet::new(),
        inbox,
        heard,
    };
    tokio::spawn(listener.go_on());
    (Ears(orders), outbox)
}

struct Listener {
    link: Link,
    prefixes: Vec<String>,
    channels: BTreeSet<String>,
    inbox: mpsc::UnboundedReceiver<Order>,
    heard: mpsc::Sender<Heard>,
}

/// Why a round of listening ended.
enum End {
    /// Nobody listens any more.
    Over,
    Broken(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl Listener {
    async fn go_on(mut self) {
        let (mut is_told, mut was_lost) = (false, false);
        loop {
            match self.round(&mut is_told, was_lost).await {
                Err(End::Over) | Ok(()) => return,
                Err(End::Broken(error)) => {
                    if is_told {
                        if !self.link.0.is_deaf.swap(true, Ordering::AcqRel) {
                            tracing::warn!(%error, "changes by other nodes are not heard: Redis is away");
                        }
                        (is_told, was_lost) = (false, true);
                        if self.heard.send(Heard::Lost).await.is_err() {
                            return;
                        }
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Connects, and listens until a connection breaks.
    async fn round(&mut self, is_told: &mut bool, was_lost: bool) -> std::result::Result<(), End> {
        let (pushes, mut pushed) = mpsc::unbounded_channel::<PushInfo>();
        let masters = self.link.0.target.masters().await?;
        let mut connections = Vec::with_capacity(masters.len());
        for host in &masters {
            let connection = self
                .link
                .0
                .target
                .connect_to(host, Some(pushes.clone()))
                .await?;
            connections.push(self.tracked(connection).await?);
        }
        let mut first = connections
            .first()
            .cloned()
            .ok_or_else(|| Error::Unavailable("no server".to_owned()))?;
        for channel in &self.channels {
            first.subscribe(channel).await.map_err(Error::of)?;
        }
        self.say(Heard::Back).await?;
        if was_lost && self.link.0.is_deaf.swap(false, Ordering::AcqRel) {
            tracing::info!(redis = %self.link.0.target, "changes by other nodes are heard again");
        }
        *is_told = true;
        let mut look = tokio::time::interval(LOOK);
        let mut looks = 0_u32;
        loop {
            tokio::select! {
                push = pushed.recv() => match push {
                    Some(push) => self.pushed(push).await?,
                    None => return Err(Error::Unavailable("the connection ended".to_owned()).into()),
                },
                order = self.inbox.recv() => match order {
                    Some(Order::Subscribe(channel)) => {
                        if self.channels.insert(channel.clone()) {
                            first.subscribe(channel).await.map_err(Error::of)?;
                        }
                    }
                    Some(Order::Unsubscribe(channel)) => {
                        if self.channels.remove(&channel) {
                            first.unsubscribe(channel).await.map_err(Error::of)?;
                        }
                    }
                    None => return Err(End::Over),
                },
                _ = look.tick() => {
                    looks += 1;
                    for connection in &mut connections {
                        let ping = cmd("PING");
                        ping.exec_async(connection).await.map_err(Error::of)?;
                    }
                    // Fail-overs and resharding change who has the keys.
                    if looks.is_multiple_of(8) && self.link.0.target.masters().await? != masters {
                        return Err(Error::Unavailable("other servers have the keys now".to_owned()).into());
                    }
                }
            }
        }
    }

    async fn tracked(
        &self,
        mut connection: MultiplexedConnection,
    ) -> Result<MultiplexedConnection> {
        if !self.prefixes.is_empty() {
            let mut track = cmd("CLIENT");
            track.arg("TRACKING").arg("ON").arg("BCAST");
            for prefix in &self.prefixes {
                track.arg("PREFIX").arg(prefix);
            }
            track.exec_async(&mut connection).await.map_err(Error::of)?;
        }
        Ok(connection)
    }

    async fn say(&self, heard: Heard) -> std::result::Result<(), End> {
        self.heard.send(heard).await.map_err(|_| End::Over)
    }

    async fn pushed(&self, push: PushInfo) -> std::result::Result<(), End> {
        let PushInfo { kind, data } = push;
        let mut data = data.into_iter();
        match kind {
            PushKind::Message => {
                if let (Some(channel), Some(Value::BulkString(payload))) =
                    (data.next().and_then(text), data.next())
                {
                    self.say(Heard::Message {
                        channel,
                        payload: payload.into(),
                    })
                    .await?;
                }
                Ok(())
            }
            PushKind::Invalidate => {
                let keys = match data.next() {
                    Some(Value::Array(keys)) => keys.into_iter().filter_map(text).collect(),
                    // The whole database was emptied.
                    _ => Vec::new(),
                };
                self.say(Heard::Changed(keys)).await
            }
            PushKind::Disconnection => {
                Err(Error::Unavailable("the connection broke".to_owned()).into())
            }
            _ => Ok(()),
        }
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
