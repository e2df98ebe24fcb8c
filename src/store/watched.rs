//! Activation records, seen as they are put: whoever waits for one, or follows all of a namespace, learns of it here.
//!
//! What other nodes put is told by way of [`Far`], and what is put here is told to those who watch there.
//!
//! In front of another [`Activations`]. A record that nobody watches for costs one load of a counter, and so does a line of a
//! guest that runs: lines are told to those who asked for them, on a channel of their own, so that a flood of them loses no
//! record.
//!
//! Invariants:
//! - a record is announced after it can be read, so whoever subscribes first and reads then misses none;
//! - subscriptions are bounded, and a subscriber that is too slow loses the oldest records, is told how many, and holds
//!   nobody up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use dashmap::DashMap;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::reseal::Records;
use super::{ActivationFilter, Activations, Page, Result};
use crate::model::live::{Line, Listener};
use crate::model::{
    Action, ActionLimits, Activation, ActivationId, Annotations, Exec, Fqn, Namespace, Parameters,
    Sequence, Timestamp, Version,
};

/// Records a subscriber may be behind.
const BEHIND_MAX: usize = 256;

/// Lines of log a subscriber may be behind: a burst of one guest. Kept only for those who are.
const LINES_BEHIND_MAX: usize = 1024;

/// Bytes of a line that is told; a longer one comes with its record alone. Bounds what a slow subscriber costs, with the count.
const LINE_BYTES_MAX: usize = 4 << 10;

/// Subscriptions at one time; each is a waiting request.
const SUBSCRIPTIONS_MAX: usize = 4096;

/// Subscriptions of one namespace: one tenant must not take them all.
const SUBSCRIPTIONS_MAX_EACH: usize = 256;

/// A line, or one that was too long.
type Heard = Option<Arc<Line>>;

/// What is told of records: one, or that so many were lost on the way.
#[derive(Debug, Clone)]
enum News {
    Record(Arc<Activation>),
    Lost(u64),
}

/// The other nodes of a cluster. None of this waits.
pub(crate) trait Far: std::fmt::Debug + Send + Sync + 'static {
    /// Somebody here begins to watch a namespace, perhaps with lines.
    fn watch(&self, namespace: &Namespace, lines: bool);
    /// A record was put here.
    fn record(&self, record: &Arc<Activation>);
    /// Whether anybody wants lines.
    fn wants_lines(&self) -> bool;
    /// A line was written here.
    fn line(&self, namespace: &Namespace, line: &Line);
}

/// Who watches what.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    count: AtomicUsize,
    /// Those of them that want lines.
    listeners: AtomicUsize,
    closed: AtomicBool,
    channels: DashMap<Namespace, broadcast::Sender<News>>,
    lines: DashMap<Namespace, broadcast::Sender<Heard>>,
    far: OnceLock<Arc<dyn Far>>,
}

/// The records of one namespace, from the moment it was made, and the lines of what runs where that was asked for.
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    namespace: Namespace,
    receiver: Option<broadcast::Receiver<News>>,
    lines: Option<broadcast::Receiver<Heard>>,
    /// A record that came while so many lines waited, which were written before it.
    held: Option<(Arc<Activation>, usize)>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscription({})", self.namespace)
    }
}

/// What a subscriber sees.
#[derive(Debug)]
pub(crate) enum Seen {
    Record(Arc<Activation>),
    /// A line of an activation that has not ended.
    Line(Arc<Line>),
    /// So many records were lost because it was too slow.
    Missed(u64),
    /// So many lines were.
    LinesMissed(u64),
    /// The server drains.
    Closed,
}

impl Hub {
    /// Watches the records of `namespace`, with `lines` also what is written by what runs; `None` when there are too many
    /// who watch, or the server drains.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        namespace: &Namespace,
        lines: bool,
    ) -> Option<Subscription> {
        if self.closed.load(Ordering::SeqCst) {
            return None;
        }
        if self.count.fetch_add(1, Ordering::SeqCst) >= SUBSCRIPTIONS_MAX {
            self.count.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        let receiver = {
            let channel = self.channels.entry(namespace.clone());
            let channel = channel.or_insert_with(|| broadcast::Sender::new(BEHIND_MAX));
            (channel.receiver_count() < SUBSCRIPTIONS_MAX_EACH).then(|| channel.subscribe())
        };
        if receiver.is_none() {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
        let receiver = Some(receiver?);
        if let Some(far) = self.far.get() {
            far.watch(namespace, lines);
        }
        let lines = lines.then(|| {
            let channel = self.lines.entry(namespace.clone());
            let channel = channel.or_insert_with(|| broadcast::Sender::new(LINES_BEHIND_MAX));
            self.listeners.fetch_add(1, Ordering::SeqCst);
            channel.subscribe()
        });
        Some(Subscription {
            hub: Arc::clone(self),
            namespace: namespace.clone(),
            receiver,
            lines,
            held: None,
        })
    }

    /// Ends every subscription: the server drains.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.channels.clear();
        self.lines.clear();
    }

    /// From now on there are other nodes. Once.
    pub(crate) fn reach(&self, far: Arc<dyn Far>) {
        for channel in &self.channels {
            far.watch(channel.key(), self.lines.contains_key(channel.key()));
        }
        drop(self.far.set(far));
    }

    /// Whether anybody here watches it.
    pub(crate) fn watches(&self, namespace: &Namespace) -> bool {
        self.channels.contains_key(namespace)
    }

    /// Tells those who watch here of a record, wherever it was put.
    pub(crate) fn announce(&self, record: &Arc<Activation>) {
        self.say(&record.namespace, || News::Record(Arc::clone(record)));
    }

    /// Tells those who watch here that so many records were lost on the way.
    pub(crate) fn lose(&self, namespace: &Namespace, count: u64) {
        self.say(namespace, || News::Lost(count));
    }

    fn say(&self, namespace: &Namespace, news: impl Fn() -> News) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(channel) = self.channels.get(namespace) {
            // Fails when nobody is left, which is no matter.
            drop(channel.send(news()));
        }
    }

    /// Tells those who watch here of a line, wherever it was written.
    pub(crate) fn tell(&self, namespace: &Namespace, line: Line) {
        if let Some(channel) = self.lines.get(namespace) {
            let heard = (line.text.len() <= LINE_BYTES_MAX).then(|| Arc::new(line));
            drop(channel.send(heard));
        }
    }
}

/// An action of which only the name is known: what a line says of its action.
pub(super) fn named(fqn: Fqn, reached: Option<Fqn>) -> Action {
    Action {
        fqn,
        version: Version::FIRST,
        publish: false,
        updated: Timestamp(0),
        exec: Exec::Sequence(Sequence {
            components: Vec::new(),
        }),
        parameters: Parameters::default(),
        limits: ActionLimits::default(),
        annotations: Annotations::default(),
        revision: 0,
        reached,
    }
}

impl Listener for Hub {
    fn listens(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
            || self.far.get().is_some_and(|far| far.wants_lines())
    }

    fn hear(&self, namespace: &Namespace, line: Line) {
        if let Some(far) = self.far.get() {
            far.line(namespace, &line);
        }
        self.tell(namespace, line);
    }
}

impl Subscription {
    /// What comes next. A record comes after the lines that were written before it. Dropped, it loses nothing.
    pub(crate) async fn next(&mut self) -> Seen {
        loop {
            match self.held.take() {
                Some((record, 0)) => return Seen::Record(record),
                Some((record, before)) => {
                    let line = self.lines.as_mut().map(broadcast::Receiver::try_recv);
                    let Some(Ok(_) | Err(TryRecvError::Lagged(_))) = &line else {
                        return Seen::Record(record);
                    };
                    self.held = Some((record, before - 1));
                    match line {
                        Some(Ok(line)) => return heard(line),
                        Some(Err(TryRecvError::Lagged(count))) => return Seen::LinesMissed(count),
                        _ => {}
                    }
                }
                None => {}
            }
            let (receiver, lines) = (&mut self.receiver, &mut self.lines);
            let Some(receiver) = receiver else {
                return Seen::Closed;
            };
            let line = async {
                match lines {
                    Some(lines) => lines.recv().await,
                    None => std::future::pending().await,
                }
            };
            let record = tokio::select! {
                record = receiver.recv() => record,
                line = line => return match line {
                    Ok(line) => heard(line),
                    Err(RecvError::Lagged(count)) => Seen::LinesMissed(count),
                    Err(RecvError::Closed) => Seen::Closed,
                },
            };
            match record {
                Ok(News::Lost(count)) => return Seen::Missed(count),
                Ok(News::Record(record)) => {
                    let before = self.lines.as_ref().map_or(0, broadcast::Receiver::len);
                    self.held = Some((record, before));
                }
                Err(RecvError::Lagged(count)) => return Seen::Missed(count),
                Err(RecvError::Closed) => return Seen::Closed,
            }
        }
    }
}

fn heard(line: Heard) -> Seen {
    line.map_or(Seen::LinesMissed(1), Seen::Line)
}

impl Drop for Subscription {
    fn drop(&mut self) {
        drop(self.receiver.take());
        self.hub.count.fetch_sub(1, Ordering::SeqCst);
        if let Some(lines) = self.lines.take() {
            drop(lines);
            self.hub.listeners.fetch_sub(1, Ordering::SeqCst);
            leave(&self.hub.lines, &self.namespace);
        }
        leave(&self.hub.channels, &self.namespace);
    }
}

/// Removes a channel that nobody receives from.
fn leave<T>(channels: &DashMap<Namespace, broadcast::Sender<T>>, namespace: &Namespace) {
    channels.remove_if(namespace, |_, channel| channel.receiver_count() == 0);
}

/// See the module.
pub(crate) struct Watched {
    inner: Arc<dyn Activations>,
    hub: Arc<Hub>,
}

impl Watched {
    /// Announces to `hub` what is put into `inner`.
    pub(crate) fn new(inner: Arc<dyn Activations>, hub: Arc<Hub>) -> Self {
        Self { inner, hub }
    }
}

#[async_trait]
impl Activations for Watched {
    fn put(&self, record: Arc<Activation>) -> Result<()> {
        self.inner.put(Arc::clone(&record))?;
        self.hub.announce(&record);
        if let Some(far) = self.hub.far.get() {
            far.record(&record);
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.inner.has_room()
    }

    async fn get(
        &self,
        namespace: &Namespace,
        id: ActivationId,
    ) -> Result<Option<Arc<Activation>>> {
        self.inner.get(namespace, id).await
    }

    async fn list(
        &self,
        namespace: &Namespace,
        filter: &ActivationFilter,
        page: Page,
    ) -> Result<Vec<Arc<Activation>>> {
        self.inner.list(namespace, filter, page).await
    }

    async fn count(&self, namespace: &Namespace, filter: &ActivationFilter) -> Result<usize> {
        self.inner.count(namespace, filter).await
    }

    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }

    async fn expire(&self, now: Timestamp) -> Result<usize> {
        self.inner.expire(now).await
    }

    async fn reseal(&self, namespace: &Namespace) -> Result<Records> {
        self.inner.reseal(namespace).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite::record;
    use super::*;

    fn guest() -> Namespace {
        Namespace::parse("guest").unwrap()
    }

    fn line(text: &str) -> Line {
        let action = named(Fqn::parse("/guest/a", &guest()).unwrap(), None);
        Line {
            id: ActivationId(1),
            action: Arc::new(action),
            text: text.to_owned(),
        }
    }

    /// What comes, in short.
    async fn next(subscription: &mut Subscription) -> String {
        match subscription.next().await {
            Seen::Record(record) => format!("record of {}", record.name),
            Seen::Line(line) => line.text.clone(),
            Seen::Missed(count) => format!("{count} records missed"),
            Seen::LinesMissed(count) => format!("{count} lines missed"),
            Seen::Closed => "closed".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_record_comes_after_the_lines_before_it() {
        let hub = Arc::new(Hub::default());
        assert!(!hub.listens());
        let mut silent = hub.subscribe(&guest(), false).unwrap();
        assert!(!hub.listens(), "nobody asked for lines");
        for _ in 0..50 {
            let mut all = hub.subscribe(&guest(), true).unwrap();
            assert!(hub.listens());
            for text in ["one", "two"] {
                hub.hear(&guest(), line(text));
            }
            hub.announce(&Arc::new(record("a", 1, 1)));
            for expected in ["one", "two", "record of a"] {
                assert_eq!(next(&mut all).await, expected);
            }
        }
        assert_eq!(next(&mut silent).await, "record of a");
        assert!(!hub.listens());
    }

    #[tokio::test]
    async fn who_is_too_slow_for_lines_loses_the_oldest_and_no_record() {
        let hub = Arc::new(Hub::default());
        let mut slow = hub.subscribe(&guest(), true).unwrap();
        hub.hear(&guest(), line(&"x".repeat(LINE_BYTES_MAX + 1)));
        assert_eq!(next(&mut slow).await, "1 lines missed");
        hub.announce(&Arc::new(record("a", 1, 1)));
        for number in 0..LINES_BEHIND_MAX + 7 {
            hub.hear(&guest(), line(&number.to_string()));
        }
        let mut seen = Vec::new();
        for _ in 0..LINES_BEHIND_MAX + 2 {
            seen.push(next(&mut slow).await);
        }
        let count = |what: &str| seen.iter().filter(|one| *one == what).count();
        assert_eq!((count("7 lines missed"), count("record of a")), (1, 1));
        assert_eq!((count("6"), count("7"), count("1030")), (0, 1, 1));
        hub.close();
        assert_eq!(next(&mut slow).await, "closed");
    }
}
