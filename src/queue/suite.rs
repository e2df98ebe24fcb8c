//! What every queue must do, whatever carries it: the memory of one machine, or a Redis.
//!
//! On Redis, work that no hands take at once goes through a stream and comes back as soon as there is room, so each test waits
//! until it has arrived. Three things differ, and are asked of each queue by itself:
//! - the bytes that wait are bounded by the memory of one machine; on Redis by its own `maxmemory`, which the link's tests ask;
//! - what waits too long is looked for on one machine, by its clock; what comes out of a stream too late is refused then, by
//!   Redis's clock;
//! - what was promised stands in the log of accepted work, or in its stream.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cluster::{Afterwards, ClusterQueue, Envelope, Parts};
use super::message::{Outcome, Refusal, Work};
use super::{Config, Delivery, EnqueueError, Hands, Key, MemoryQueue, Queue, Replies};
use crate::cluster::{self, Node};
use crate::link::{Link, cmd, test_server};
use crate::model::{Action, ActivationId, Namespace};
use crate::scheduler::fairness::Runtime;
use crate::store::{Store, fake::Fake};
use crate::worker::tests::{Ground, store, work};

/// Takes nothing, or everything; has room for what waits unless it was taken.
struct Recorder {
    takes: Mutex<bool>,
    room: AtomicUsize,
    taken: Mutex<Vec<ActivationId>>,
    nudges: Mutex<usize>,
    cancelled: Mutex<Vec<ActivationId>>,
    replies: Mutex<Vec<(ActivationId, Outcome)>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            takes: Mutex::default(),
            room: AtomicUsize::new(100),
            taken: Mutex::default(),
            nudges: Mutex::default(),
            cancelled: Mutex::default(),
            replies: Mutex::default(),
        }
    }
}

impl Hands for Recorder {
    fn offer(&self, delivery: Delivery) -> Result<(), Box<Delivery>> {
        if !*self.takes.lock() {
            return Err(Box::new(delivery));
        }
        self.taken.lock().push(delivery.work.id);
        delivery.ack();
        Ok(())
    }

    fn nudge(&self) {
        *self.nudges.lock() += 1;
    }

    fn give_up(&self, delivery: Delivery, _: &str) {
        self.cancelled.lock().push(delivery.work.id);
        delivery.ack();
    }

    fn room(&self) -> usize {
        self.room.load(Ordering::SeqCst)
    }
}

impl Replies for Recorder {
    fn complete(&self, id: ActivationId, outcome: Outcome) {
        self.replies.lock().push((id, outcome));
    }
}

/// What a queue needs of the store, where nothing is kept.
struct AtOnce;

impl Afterwards for AtOnce {
    fn after_records(&self, what: Box<dyn FnOnce() + Send>) {
        what();
    }
}

/// No encryption.
struct Open;

impl Envelope for Open {
    fn close(&self, clear: Bytes) -> crate::store::Result<Bytes> {
        Ok(clear)
    }

    fn open(&self, kept: Bytes) -> Bytes {
        kept
    }

    fn unseal(&self, _: &Namespace, _: &mut Action) {}
}

/// What a test of a queue on Redis keeps alive.
struct OnRedis {
    link: Link,
    prefix: String,
    _queue: Arc<ClusterQueue>,
    _tasks: JoinSet<()>,
}

struct Rig {
    queue: Arc<dyn Queue>,
    ends: Arc<Recorder>,
    store: Store,
    on_redis: Option<OnRedis>,
    _ground: Option<Ground>,
}

/// What carries a queue.
#[async_trait]
trait Kind {
    async fn rig(&self, config: Config) -> Rig;
}

/// The memory of one machine.
struct Memory;

#[async_trait]
impl Kind for Memory {
    async fn rig(&self, config: Config) -> Rig {
        rig(config)
    }
}

fn rig(config: Config) -> Rig {
    let (store, ground) = store();
    let queue = MemoryQueue::new(config, Arc::clone(&store.accepted));
    Rig {
        ends: ends(&*queue),
        queue,
        store,
        on_redis: None,
        _ground: Some(ground),
    }
}

fn ends(queue: &dyn Queue) -> Arc<Recorder> {
    let ends = Arc::new(Recorder::default());
    let hands: Weak<dyn Hands> = Arc::downgrade(&ends) as _;
    queue.attach(hands, Arc::downgrade(&ends) as _);
    ends
}

/// A real Redis.
struct Cluster;

#[async_trait]
impl Kind for Cluster {
    async fn rig(&self, config: Config) -> Rig {
        let (link, redis) = test_server::link().await;
        let lease = cluster::Config {
            lease_s: 60,
            ..cluster::Config::default()
        };
        let node = Node::new(lease, &redis.prefix);
        node.ask_time(&link).await.expect("a time");
        assert!(node.fence.extend(Instant::now(), node.config.lease()));
        let (store, _) = Fake::store();
        let queue = ClusterQueue::new(Parts {
            config,
            link: link.clone(),
            prefix: redis.prefix.clone(),
            node,
            accepted: Arc::clone(&store.accepted),
            afterwards: Arc::new(AtOnce),
            envelope: Arc::new(Open),
        });
        let ends = ends(&*queue);
        let mut tasks = JoinSet::new();
        queue.start(&mut tasks);
        let on_redis = OnRedis {
            link,
            prefix: redis.prefix,
            _queue: Arc::clone(&queue),
            _tasks: tasks,
        };
        Rig {
            queue,
            ends,
            store,
            on_redis: Some(on_redis),
            _ground: None,
        }
    }
}

/// Each of them as a test of either kind of queue.
macro_rules! of_both {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name(&super::Memory).await; })*
        }
        mod on_redis {
            $(#[tokio::test] async fn $name() { super::$name(&super::Cluster).await; })*
        }
    };
}

of_both![
    work_is_handed_over_when_hands_are_free_and_waits_in_order_otherwise,
    nobody_overtakes_a_backlog,
    the_namespace_that_used_least_goes_first,
    a_parked_queue_is_passed_over_until_it_is_unparked,
    what_is_put_back_is_first_again,
    a_queue_at_its_depth_refuses_and_says_when_to_come_back,
    promised_work_is_kept_until_it_is_acked,
    what_waits_can_be_cancelled_wherever_it_stands_in_its_queue,
];

fn equal(_: &Namespace) -> Runtime {
    Runtime(0)
}

fn pulled(queue: &dyn Queue, key: &Key) -> Option<ActivationId> {
    queue.pull(key).map(|delivery| {
        let id = delivery.work.id;
        delivery.ack();
        id
    })
}

/// Waits until it is so; on one machine it is at once.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: never");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

impl Rig {
    async fn enqueue(&self, work: &Work) {
        self.queue.enqueue(work.clone()).await.expect("it is taken");
    }

    /// Enqueues work that no hands take, and waits until it waits for them here.
    async fn let_wait(&self, work: &Work) {
        let before = self.queue.backlog().count;
        self.enqueue(work).await;
        until("it waits here", async || {
            self.queue.backlog().count == before + 1
        })
        .await;
    }

    /// The ids of what is kept of promised work of `a`, or as many nobodies as there are entries of it.
    async fn kept(&self) -> usize {
        match &self.on_redis {
            None => {
                self.store.activations.flush().await.expect("a disk");
                self.store.accepted.pending().await.expect("readable").len()
            }
            Some(redis) => {
                let stream = format!("{}:q:{{guest|guest/a}}:s", redis.prefix);
                let mut length = cmd("XLEN");
                length.arg(stream);
                redis.link.query(&length).await.expect("a length")
            }
        }
    }
}

async fn work_is_handed_over_when_hands_are_free_and_waits_in_order_otherwise(kind: &dyn Kind) {
    let rig = kind.rig(Config::default()).await;
    *rig.ends.takes.lock() = true;
    let direct = work("guest", "a");
    rig.enqueue(&direct).await;
    assert_eq!(*rig.ends.taken.lock(), [direct.id]);
    *rig.ends.takes.lock() = false;
    let (first, second) = (work("guest", "a"), work("guest", "a"));
    rig.let_wait(&first).await;
    rig.let_wait(&second).await;
    assert!(
        *rig.ends.nudges.lock() >= 2,
        "the hands are told that something waits"
    );
    let key = rig.queue.next(&equal).expect("something waits");
    assert_eq!(pulled(&*rig.queue, &key), Some(first.id));
    assert_eq!(pulled(&*rig.queue, &key), Some(second.id));
    until("nothing is left", async || rig.queue.is_empty()).await;
}

async fn nobody_overtakes_a_backlog(kind: &dyn Kind) {
    let rig = kind.rig(Config::default()).await;
    let old = work("guest", "a");
    rig.let_wait(&old).await;
    *rig.ends.takes.lock() = true;
    let young = work("guest", "a");
    rig.let_wait(&young).await;
    assert!(rig.ends.taken.lock().is_empty());
    let key = Key::of(&old);
    assert_eq!(pulled(&*rig.queue, &key), Some(old.id));
    assert_eq!(pulled(&*rig.queue, &key), Some(young.id));
}

async fn the_namespace_that_used_least_goes_first(kind: &dyn Kind) {
    let rig = kind.rig(Config::default()).await;
    rig.let_wait(&work("heavy", "a")).await;
    rig.let_wait(&work("light", "a")).await;
    let used = |namespace: &Namespace| Runtime(u64::from(namespace.as_str() == "heavy"));
    assert_eq!(
        rig.queue.next(&used).expect("waits").namespace.as_str(),
        "light"
    );
    assert_eq!(
        rig.queue.next(&equal).expect("waits").namespace.as_str(),
        "heavy"
    );
}

async fn a_parked_queue_is_passed_over_until_it_is_unparked(kind: &dyn Kind) {
    let rig = kind.rig(Config::default()).await;
    let (parked, other) = (work("guest", "a"), work("guest", "b"));
    rig.let_wait(&parked).await;
    rig.let_wait(&other).await;
    rig.queue.park(&Key::of(&parked));
    assert_eq!(rig.queue.next(&equal), Some(Key::of(&other)));
    assert!(rig.queue.unpark(&Key::of(&parked)));
    assert_eq!(rig.queue.next(&equal), Some(Key::of(&parked)));
}

async fn what_is_put_back_is_first_again(kind: &dyn Kind) {
    let rig = kind.rig(Config::default()).await;
    let (first, second) = (work("guest", "a"), work("guest", "a"));
    rig.let_wait(&first).await;
    rig.let_wait(&second).await;
    let key = Key::of(&first);
    let delivery = rig.queue.pull(&key).expect("waits");
    rig.queue.put_back(delivery);
    assert_eq!(rig.queue.backlog().count, 2);
    assert_eq!(pulled(&*rig.queue, &key), Some(first.id));
}

async fn a_queue_at_its_depth_refuses_and_says_when_to_come_back(kind: &dyn Kind) {
    let config = Config {
        depth_max: 1,
        ..Config::default()
    };
    let rig = kind.rig(config).await;
    // What has been read from a stream is no longer in its depth.
    rig.ends.room.store(0, Ordering::SeqCst);
    rig.enqueue(&work("guest", "a")).await;
    let second = work("guest", "a");
    // Who waits for its outcome is told so, if not at once.
    let refusal = match rig.queue.enqueue(second.clone()).await {
        Err(EnqueueError::Refused(refusal)) => refusal,
        taken => {
            taken.expect("it is refused or taken");
            rig.queue.settled(second.id).await;
            match rig.ends.replies.lock().pop() {
                Some((id, Outcome::Dropped(refusal))) if id == second.id => refusal,
                other => panic!("{other:?}"),
            }
        }
    };
    assert!(matches!(refusal, Refusal::Backlog { retry_after_s: 1.. }));
    let third = work("guest", "b");
    rig.enqueue(&third).await;
    rig.queue.settled(third.id).await;
    assert!(rig.ends.replies.lock().is_empty(), "another queue has room");
}

#[tokio::test]
async fn all_queues_together_are_bounded_in_bytes() {
    let rig = rig(Config {
        bytes_max: 1500,
        ..Config::default()
    });
    rig.let_wait(&work("guest", "a")).await;
    let refused = rig.queue.enqueue(work("guest", "b")).await;
    assert!(matches!(
        refused,
        Err(EnqueueError::Refused(Refusal::Overload { .. }))
    ));
}

#[tokio::test(start_paused = true)]
async fn callers_that_waited_too_long_are_told_and_promised_work_stays() {
    let rig = rig(Config {
        wait_max_s: 5,
        ..Config::default()
    });
    let blocking = work("guest", "a");
    let promised = Work {
        durable: true,
        ..work("guest", "b")
    };
    rig.let_wait(&blocking).await;
    rig.queue.restore(promised.clone());
    tokio::time::advance(Duration::from_secs(4)).await;
    assert_eq!(rig.queue.expire(), 0);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(rig.queue.expire(), 1);
    let replies = rig.ends.replies.lock();
    assert!(matches!(replies.as_slice(), [(id, Outcome::Dropped(_))] if *id == blocking.id));
    assert_eq!(pulled(&*rig.queue, &Key::of(&promised)), Some(promised.id));
}

async fn promised_work_is_kept_until_it_is_acked(kind: &dyn Kind) {
    let rig = kind.rig(Config::default()).await;
    let promised = Work {
        durable: true,
        ..work("guest", "a")
    };
    rig.let_wait(&promised).await;
    assert_eq!(rig.kept().await, 1);
    let delivery = rig.queue.pull(&Key::of(&promised)).expect("waits");
    let read = &delivery.work;
    assert_eq!(
        (read.id, read.params.get()),
        (promised.id, promised.params.get())
    );
    assert_eq!(rig.kept().await, 1, "it runs");
    delivery.ack();
    until("it is settled", async || rig.kept().await == 0).await;
}

#[tokio::test]
async fn on_one_machine_promised_work_can_be_read_again() {
    let rig = rig(Config::default());
    let promised = Work {
        durable: true,
        ..work("guest", "a")
    };
    rig.enqueue(&promised).await;
    let pending = rig.store.accepted.pending().await.expect("readable");
    let ids: Vec<_> = pending.iter().map(|pending| pending.id).collect();
    assert_eq!(ids, [promised.id]);
    let read: Work = serde_json::from_slice(&pending[0].work).expect("readable");
    assert_eq!(read.params, promised.params);
}

#[tokio::test]
async fn what_comes_out_of_a_stream_too_late_is_refused_and_promised_work_is_not() {
    let rig = Cluster
        .rig(Config {
            wait_max_s: 1,
            ..Config::default()
        })
        .await;
    rig.ends.room.store(0, Ordering::SeqCst);
    let blocking = work("guest", "a");
    let promised = Work {
        durable: true,
        ..work("guest", "b")
    };
    rig.enqueue(&blocking).await;
    rig.enqueue(&promised).await;
    let redis = rig.on_redis.as_ref().expect("it is");
    let redis_ms = async || {
        let (seconds, micros): (u64, u64) = redis.link.query(&cmd("TIME")).await.expect("a time");
        seconds * 1000 + micros / 1000
    };
    let pushed_ms = redis_ms().await;
    until("it is too late", async || {
        redis_ms().await > pushed_ms + 1000
    })
    .await;
    rig.ends.room.store(100, Ordering::SeqCst);
    until("both were looked at", async || {
        !rig.ends.replies.lock().is_empty() && rig.queue.backlog().count == 1
    })
    .await;
    let replies = rig.ends.replies.lock().clone();
    assert!(matches!(replies.as_slice(), [(id, Outcome::Dropped(_))] if *id == blocking.id));
    assert_eq!(pulled(&*rig.queue, &Key::of(&promised)), Some(promised.id));
}

async fn what_waits_can_be_cancelled_wherever_it_stands_in_its_queue(kind: &dyn Kind) {
    let rig = kind.rig(Config::default()).await;
    let (first, second, third) = (work("guest", "a"), work("guest", "a"), work("guest", "a"));
    let ids = [first.id, second.id, third.id];
    for work in [first, second, third] {
        rig.let_wait(&work).await;
    }
    let own = Namespace::parse("guest").expect("legal");
    rig.queue.cancel(&own, ids[0]);
    rig.queue.cancel(&own, ids[2]);
    assert_eq!(*rig.ends.cancelled.lock(), [ids[0], ids[2]]);
    assert_eq!(rig.queue.backlog().count, 1);
    let key = rig.queue.next(&|_| Runtime(0)).expect("one waits");
    let left = rig.queue.pull(&key).expect("one waits");
    assert_eq!(left.work.id, ids[1]);
    until("nothing is left", async || rig.queue.is_empty()).await;
    assert_eq!(rig.queue.backlog().bytes, 0);
    assert!(!rig.queue.cancels().is_asked(ids[0]), "it was forgotten");
}
