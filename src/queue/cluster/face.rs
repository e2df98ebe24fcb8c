//! The cluster's queue as workers and fronts know it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{ALL, ANSWER_MAX, ClusterQueue, Router};
use crate::model::{ActivationId, Namespace};
use crate::queue::message::{Outcome, Refusal, Work};
use crate::queue::{Backlog, Cancels, Delivery, EnqueueError, Hands, Key, Queue, Replies};
use crate::scheduler::fairness::Runtime;
use crate::telemetry::cluster::{self as telemetry, Event};

fn lost() -> EnqueueError {
    crate::store::Error::Unavailable("the queue has ended".to_owned()).into()
}

#[async_trait]
impl Queue for ClusterQueue {
    fn attach(&self, hands: Weak<dyn Hands>, replies: Weak<dyn Replies>) {
        let router: Arc<dyn Replies> = Arc::new(Router(Arc::downgrade(&self.0)));
        self.0
            .local
            .attach(Weak::clone(&hands), Arc::downgrade(&router));
        drop(self.0.ends.set((hands, replies)));
        // The queue of one machine knows it weakly.
        drop(self.0.router.set(router));
    }

    async fn enqueue(&self, work: Work) -> Result<(), EnqueueError> {
        let shared = &self.0;
        // A request that is answered while it runs is answered here: its streams end in this process.
        if work.exchange.is_some() {
            return match shared.node.config.role.runs() && shared.fence().is_held() {
                true => shared.local.enqueue(work).await,
                false => Err(Refusal::Overload { retry_after_s: 1 }.into()),
            };
        }
        // What a node that leaves is still at, it finishes itself: nothing more is pulled here.
        if shared.is_leaving() && !work.durable && shared.may_run(&work) {
            return shared.local.enqueue(work).await;
        }
        let mut work = work;
        if shared.may_hand_off(&work) {
            match shared.local.hand_over(work) {
                Ok(()) => {
                    telemetry::count(Event::HandedOver, 1);
                    return Ok(());
                }
                Err(back) => work = *back,
            }
        }
        telemetry::count(Event::Pushed, 1);
        match shared.push(work)? {
            Some(answered) => answered.await.unwrap_or_else(|_| Err(lost())),
            None => Ok(()),
        }
    }

    async fn settled(&self, id: ActivationId) {
        let shared = &self.0;
        let mut rounds = shared.rounds.subscribe();
        while shared.is_outgoing(id) {
            shared.work.notify_one();
            if rounds.changed().await.is_err() {
                return;
            }
        }
        // The batch that took it may be under way.
        rounds.borrow_and_update();
        if shared.sending.load(Ordering::SeqCst) {
            drop(rounds.changed().await);
        }
    }

    fn restore(&self, work: Work) {
        self.0.local.restore(work);
    }

    fn next(&self, rank: &dyn Fn(&Namespace) -> Runtime) -> Option<Key> {
        let next = self.0.local.next(rank);
        if next.is_none() {
            self.0.refill();
        }
        next
    }

    fn pull(&self, key: &Key) -> Option<Delivery> {
        self.0.local.pull(key)
    }

    fn park(&self, key: &Key) {
        self.0.local.park(key);
    }

    fn unpark(&self, key: &Key) -> bool {
        self.0.local.unpark(key)
    }

    fn unpark_all(&self, namespace: Option<&Namespace>) {
        self.0.local.unpark_all(namespace);
    }

    fn put_back(&self, delivery: Delivery) {
        self.0.local.put_back(delivery);
    }

    fn delivery(&self, work: Work) -> Delivery {
        self.0.local.delivery(work)
    }

    fn expire(&self) -> usize {
        self.0.local.expire()
    }

    fn reply(&self, id: ActivationId, outcome: Outcome) {
        self.0.route(id, outcome);
    }

    fn cancel(&self, namespace: &Namespace, id: ActivationId) {
        self.0.local.cancel(namespace, id);
        let told = (namespace.clone(), id);
        self.0.tell(&Arc::from(ALL), |news| news.cancel.push(told));
    }

    async fn stop_elsewhere(&self, namespace: &Namespace, id: ActivationId) -> bool {
        let shared = &self.0;
        let (answer, answered) = oneshot::channel();
        shared.stopping.lock().push((id, answer));
        let asked = (shared.node.id().to_owned(), namespace.clone(), id);
        shared.tell(&Arc::from(ALL), |news| news.stop.push(asked));
        let answered = tokio::time::timeout(ANSWER_MAX, answered).await;
        shared
            .stopping
            .lock()
            .retain(|(_, answer)| !answer.is_closed());
        matches!(answered, Ok(Ok(())))
    }

    fn give_up_all(&self, namespace: &Namespace, text: &str) {
        self.0.local.give_up_all(namespace, text);
        let told = (namespace.clone(), text.to_owned());
        self.0
            .doomed
            .lock()
            .push((told.0.clone(), told.1.clone(), Instant::now()));
        self.0.tell(&Arc::from(ALL), |news| news.give_up.push(told));
    }

    fn cancels(&self) -> &Cancels {
        self.0.local.cancels()
    }

    fn backlog(&self) -> Backlog {
        self.0.local.backlog()
    }

    fn is_empty(&self) -> bool {
        // What waits in streams counts: who has a hand free is to look.
        self.0.local.is_empty() && self.0.behind.load(Ordering::Relaxed) == 0
    }
}
