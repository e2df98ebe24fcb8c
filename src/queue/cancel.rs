//! Activations that were told to stop.
//!
//! A run looks here whenever it yields, and is woken when somebody is told; as long as nobody is, that is one load of a
//! counter. What is asked of an activation that has ended in the meantime is forgotten with the next of its kind.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::cluster::Fence;
use crate::model::ActivationId;

/// Askings kept: those of activations that end on their own are not always taken back.
const ASKED_MAX: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Cancels {
    count: AtomicUsize,
    asked: Mutex<VecDeque<ActivationId>>,
    changed: Notify,
    /// Where there are other nodes: runs that were begun under a lease end with it.
    fence: OnceLock<Arc<Fence>>,
}

/// How a run that could be told to stop came out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ran<T> {
    /// It ended by itself.
    Out(T),
    /// It was told to stop.
    Stopped,
    /// The node lost its lease: others may run the same by now.
    Lapsed,
}

impl Cancels {
    /// Ends runs when the lease they began under is lost. Once.
    pub(crate) fn fence(&self, fence: Arc<Fence>) {
        drop(self.fence.set(fence));
    }

    /// Lets every run look again whether it may go on.
    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Tells the activation to stop.
    pub(crate) fn ask(&self, id: ActivationId) {
        {
            let mut asked = self.asked.lock();
            if asked.contains(&id) {
                return;
            }
            asked.push_back(id);
            if asked.len() > ASKED_MAX {
                asked.pop_front();
            }
            self.count.store(asked.len(), Ordering::SeqCst);
        }
        self.changed.notify_waiters();
    }

    /// Whether it was told to.
    pub(crate) fn is_asked(&self, id: ActivationId) -> bool {
        self.count.load(Ordering::SeqCst) > 0 && self.asked.lock().contains(&id)
    }

    /// It has ended.
    pub(crate) fn forget(&self, id: ActivationId) {
        if self.count.load(Ordering::SeqCst) > 0 {
            let mut asked = self.asked.lock();
            asked.retain(|one| *one != id);
            self.count.store(asked.len(), Ordering::SeqCst);
        }
    }

    /// Polls `run` until it ends, or is dropped because `id` was told to stop or the lease was lost.
    pub(crate) async fn unless<T>(&self, id: ActivationId, run: impl Future<Output = T>) -> Ran<T> {
        self.guard(Some(id), run).await
    }

    /// Polls `work` until it ends, or is dropped because the lease was lost under which it began: then `None`.
    pub(crate) async fn while_held<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        if self.fence.get().is_none() {
            return Some(work.await);
        }
        match self.guard(None, work).await {
            Ran::Out(output) => Some(output),
            Ran::Stopped | Ran::Lapsed => None,
        }
    }

    async fn guard<T>(&self, id: Option<ActivationId>, run: impl Future<Output = T>) -> Ran<T> {
        let mut run = pin!(run);
        let mut changed: Option<Pin<Box<Notified<'_>>>> = None;
        let lease = self.fence.get().map(|fence| (fence, fence.epoch()));
        let ended = || {
            if lease.is_some_and(|(fence, epoch)| !fence.holds(epoch)) {
                return Some(Ran::Lapsed);
            }
            id.is_some_and(|id| self.is_asked(id))
                .then_some(Ran::Stopped)
        };
        poll_fn(|context| {
            // Before the guest goes on, however long this process was stopped.
            if let Some(ended) = ended() {
                return Poll::Ready(ended);
            }
            if let Poll::Ready(output) = run.as_mut().poll(context) {
                return Poll::Ready(Ran::Out(output));
            }
            // Most runs end in their first poll and never come here.
            loop {
                let waiting = changed.get_or_insert_with(|| Box::pin(self.changed.notified()));
                if waiting.as_mut().poll(context).is_pending() {
                    break;
                }
                changed = None;
            }
            // It may have been told before it waited.
            ended().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_that_waits_for_ever_is_ended_and_others_are_not() {
        let cancels = Cancels::default();
        let (mine, other) = (ActivationId(1), ActivationId(2));
        let run = cancels.unless(mine, std::future::pending::<()>());
        let ask = async {
            tokio::task::yield_now().await;
            cancels.ask(other);
            tokio::task::yield_now().await;
            cancels.ask(mine);
        };
        let (ended, ()) = tokio::join!(run, ask);
        assert_eq!(ended, Ran::Stopped);
        cancels.forget(mine);
        assert_eq!(
            cancels.unless(mine, std::future::ready(3)).await,
            Ran::Out(3)
        );
        assert_eq!(
            cancels.unless(other, std::future::ready(3)).await,
            Ran::Stopped
        );
    }
}
