//! Activations that were told to stop.
//!
//! A run looks here whenever it yields, and is woken when somebody is told; as long as nobody is, that is one load of a
//! counter. What is asked of an activation that has ended in the meantime is forgotten with the next of its kind.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::model::ActivationId;

/// Askings kept: those of activations that end on their own are not always taken back.
const ASKED_MAX: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Cancels {
    count: AtomicUsize,
    asked: Mutex<VecDeque<ActivationId>>,
    changed: Notify,
}

impl Cancels {
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

    /// Polls `run` until it ends, or is dropped because `id` was told to stop: then `None`.
    pub(crate) async fn unless<T>(
        &self,
        id: ActivationId,
        run: impl Future<Output = T>,
    ) -> Option<T> {
        let mut run = pin!(run);
        let mut changed: Option<Pin<Box<Notified<'_>>>> = None;
        poll_fn(|context| {
            if self.is_asked(id) {
                return Poll::Ready(None);
            }
            if let Poll::Ready(output) = run.as_mut().poll(context) {
                return Poll::Ready(Some(output));
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
            if self.is_asked(id) {
                Poll::Ready(None)
            } else {
                Poll::Pending
            }
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
        assert_eq!(ended, None);
        cancels.forget(mine);
        assert_eq!(cancels.unless(mine, std::future::ready(3)).await, Some(3));
        assert_eq!(cancels.unless(other, std::future::ready(3)).await, None);
    }
}
