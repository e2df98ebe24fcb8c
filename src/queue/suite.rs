//! What every queue must do, whatever carries it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::message::{Outcome, Refusal, Work};
use super::{Config, Delivery, EnqueueError, Hands, Key, MemoryQueue, Queue, Replies};
use crate::model::{ActivationId, Namespace};
use crate::scheduler::fairness::Runtime;
use crate::worker::tests::{Ground, store, work};

/// Takes nothing, or everything.
#[derive(Default)]
struct Recorder {
    takes: Mutex<bool>,
    taken: Mutex<Vec<ActivationId>>,
    nudges: Mutex<usize>,
    cancelled: Mutex<Vec<ActivationId>>,
    replies: Mutex<Vec<(ActivationId, Outcome)>>,
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
}

impl Replies for Recorder {
    fn complete(&self, id: ActivationId, outcome: Outcome) {
        self.replies.lock().push((id, outcome));
    }
}

struct Rig {
    queue: Arc<MemoryQueue>,
    ends: Arc<Recorder>,
    store: crate::store::Store,
    _ground: Ground,
}

fn rig(config: Config) -> Rig {
    let (store, ground) = store();
    let queue = MemoryQueue::new(config, Arc::clone(&store.accepted));
    let ends = Arc::new(Recorder::default());
    let hands: Weak<dyn Hands> = Arc::downgrade(&ends) as _;
    queue.attach(hands, Arc::downgrade(&ends) as _);
    Rig {
        queue,
        ends,
        store,
        _ground: ground,
    }
}

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

async fn enqueue(rig: &Rig, work: &Work) {
    rig.queue.enqueue(work.clone()).await.expect("it is taken");
}

#[tokio::test]
async fn work_is_handed_over_when_hands_are_free_and_waits_in_order_otherwise() {
    let rig = rig(Config::default());
    *rig.ends.takes.lock() = true;
    let direct = work("guest", "a");
    enqueue(&rig, &direct).await;
    assert_eq!(*rig.ends.taken.lock(), [direct.id]);
    *rig.ends.takes.lock() = false;
    let (first, second) = (work("guest", "a"), work("guest", "a"));
    enqueue(&rig, &first).await;
    enqueue(&rig, &second).await;
    assert_eq!(
        *rig.ends.nudges.lock(),
        2,
        "the hands are told that something waits"
    );
    let key = rig.queue.next(&equal).expect("something waits");
    assert_eq!(pulled(&*rig.queue, &key), Some(first.id));
    assert_eq!(pulled(&*rig.queue, &key), Some(second.id));
    assert!(rig.queue.is_empty());
}

#[tokio::test]
async fn nobody_overtakes_a_backlog() {
    let rig = rig(Config::default());
    let old = work("guest", "a");
    enqueue(&rig, &old).await;
    *rig.ends.takes.lock() = true;
    let young = work("guest", "a");
    enqueue(&rig, &young).await;
    assert!(rig.ends.taken.lock().is_empty());
    let key = Key::of(&old);
    assert_eq!(pulled(&*rig.queue, &key), Some(old.id));
    assert_eq!(pulled(&*rig.queue, &key), Some(young.id));
}

#[tokio::test]
async fn the_namespace_that_used_least_goes_first() {
    let rig = rig(Config::default());
    enqueue(&rig, &work("heavy", "a")).await;
    enqueue(&rig, &work("light", "a")).await;
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

#[tokio::test]
async fn a_parked_queue_is_passed_over_until_it_is_unparked() {
    let rig = rig(Config::default());
    let (parked, other) = (work("guest", "a"), work("guest", "b"));
    enqueue(&rig, &parked).await;
    enqueue(&rig, &other).await;
    rig.queue.park(&Key::of(&parked));
    assert_eq!(rig.queue.next(&equal), Some(Key::of(&other)));
    assert!(rig.queue.unpark(&Key::of(&parked)));
    assert_eq!(rig.queue.next(&equal), Some(Key::of(&parked)));
}

#[tokio::test]
async fn what_is_put_back_is_first_again() {
    let rig = rig(Config::default());
    let (first, second) = (work("guest", "a"), work("guest", "a"));
    enqueue(&rig, &first).await;
    enqueue(&rig, &second).await;
    let key = Key::of(&first);
    let delivery = rig.queue.pull(&key).expect("waits");
    rig.queue.put_back(delivery);
    assert_eq!(rig.queue.backlog().count, 2);
    assert_eq!(pulled(&*rig.queue, &key), Some(first.id));
}

#[tokio::test]
async fn a_queue_at_its_depth_refuses_and_says_when_to_come_back() {
    let rig = rig(Config {
        depth_max: 1,
        ..Config::default()
    });
    enqueue(&rig, &work("guest", "a")).await;
    let refused = rig.queue.enqueue(work("guest", "a")).await;
    assert!(matches!(
        refused,
        Err(EnqueueError::Refused(Refusal::Backlog {
            retry_after_s: 1..
        }))
    ));
    enqueue(&rig, &work("guest", "b")).await;
}

#[tokio::test]
async fn all_queues_together_are_bounded_in_bytes() {
    let rig = rig(Config {
        bytes_max: 1500,
        ..Config::default()
    });
    enqueue(&rig, &work("guest", "a")).await;
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
    enqueue(&rig, &blocking).await;
    rig.queue.restore(promised.clone());
    tokio::time::advance(Duration::from_secs(4)).await;
    assert_eq!(rig.queue.expire(), 0);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(rig.queue.expire(), 1);
    let replies = rig.ends.replies.lock();
    assert!(matches!(replies.as_slice(), [(id, Outcome::Dropped(_))] if *id == blocking.id));
    assert_eq!(pulled(&*rig.queue, &Key::of(&promised)), Some(promised.id));
}

#[tokio::test]
async fn promised_work_is_on_disk_until_it_is_acked() {
    let rig = rig(Config::default());
    let promised = Work {
        durable: true,
        ..work("guest", "a")
    };
    enqueue(&rig, &promised).await;
    let pending = rig.store.accepted.pending().await.expect("readable");
    assert_eq!(
        pending.iter().map(|p| p.id).collect::<Vec<_>>(),
        [promised.id]
    );
    let read: Work = serde_json::from_slice(&pending[0].work).expect("readable");
    assert_eq!(
        (read.id, read.params),
        (promised.id, promised.params.clone())
    );
    pulled(&*rig.queue, &Key::of(&promised)).expect("waits");
    rig.store.activations.flush().await.expect("a disk");
    assert!(
        rig.store
            .accepted
            .pending()
            .await
            .expect("readable")
            .is_empty()
    );
}

#[tokio::test]
async fn what_waits_can_be_cancelled_wherever_it_stands_in_its_queue() {
    let rig = rig(Config::default());
    let (first, second, third) = (work("guest", "a"), work("guest", "a"), work("guest", "a"));
    let ids = [first.id, second.id, third.id];
    for work in [first, second, third] {
        rig.queue.enqueue(work).await.expect("room");
    }
    let own = Namespace::parse("guest").expect("legal");
    rig.queue.cancel(&own, ids[0]);
    rig.queue.cancel(&own, ids[2]);
    assert_eq!(*rig.ends.cancelled.lock(), [ids[0], ids[2]]);
    assert_eq!(rig.queue.backlog().count, 1);
    let key = rig.queue.next(&|_| Runtime(0)).expect("one waits");
    let left = rig.queue.pull(&key).expect("one waits");
    assert_eq!(left.work.id, ids[1]);
    assert!(rig.queue.is_empty());
    assert_eq!(rig.queue.backlog().bytes, 0);
    assert!(!rig.queue.cancels().is_asked(ids[0]), "it was forgotten");
}
