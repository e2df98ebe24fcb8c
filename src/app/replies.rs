//! Answers that were not heard: nodes tell each other through channels, which are at most once.
//!
//! A front that waits for an activation which ended elsewhere finds its record: every few seconds for what it has waited for
//! since the round before, and for everything when its ears were deaf for a while. So no wait stays, nor its place in the
//! throttle, because a message was lost.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::Notify;

use crate::invoke::Waits;
use crate::model::{ActivationId, Namespace};
use crate::queue::Replies;
use crate::queue::message::Outcome;
use crate::store::Activations;
use crate::telemetry::cluster::{self as telemetry, Event};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(3);
/// Most records looked for in one round; the rest has its turn with the next.
const LOOKED_MAX: usize = 1024;
/// Most looked for at one time.
const PARALLEL_MAX: usize = 64;
/// After so many rounds (a day) it is given up that there be a record: it was dropped, or its namespace stores none.
const ROUNDS_MAX: u32 = 28_800;

/// See the module.
pub(super) struct FollowUp {
    waits: Arc<Waits>,
    activations: Arc<dyn Activations>,
    /// Where the last round ended.
    last: ActivationId,
}

impl FollowUp {
    pub(super) fn new(waits: Arc<Waits>, activations: Arc<dyn Activations>) -> Self {
        Self {
            waits,
            activations,
            last: ActivationId(0),
        }
    }

    /// Goes on until it is dropped. `back` is notified when channels are listened to again.
    pub(super) async fn go_on(mut self, back: Arc<Notify>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => self.round().await,
                () = back.notified() => self.look(u32::MAX).await,
            }
        }
    }

    async fn round(&mut self) {
        let round = self.waits.next_round();
        self.look(round.saturating_sub(1)).await;
    }

    /// Looks for records of what was waited for before that round.
    async fn look(&mut self, round: u32) {
        let mut all = self.waits.before(round);
        if all.is_empty() {
            return;
        }
        all.sort_unstable_by_key(|(id, ..)| id.0);
        let next = all.partition_point(|(id, ..)| id.0 <= self.last.0);
        let count = all.len();
        all.rotate_left(next % count);
        // After a silence it may be any of them.
        if round != u32::MAX {
            all.truncate(LOOKED_MAX);
        }
        self.last = all.last().map_or(self.last, |(id, ..)| *id);
        let looks = all
            .into_iter()
            .map(|(id, namespace, since)| self.find(id, namespace, since, round));
        stream::iter(looks)
            .buffer_unordered(PARALLEL_MAX)
            .collect::<()>()
            .await;
    }

    async fn find(&self, id: ActivationId, namespace: Namespace, since: u32, round: u32) {
        match self.activations.get(&namespace, id).await {
            Ok(Some(record)) => {
                telemetry::count(Event::Found, 1);
                self.waits.complete(id, Outcome::Done(record));
            }
            Ok(None) if round != u32::MAX && round.saturating_sub(since) > ROUNDS_MAX => {
                tracing::warn!(activation = %id, "an activation was waited for for a day and has no record");
                self.waits.over(id);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(activation = %id, %error, "it could not be looked for a record");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fake::Fake;
    use crate::store::suite::record;

    #[tokio::test]
    async fn an_answer_that_was_not_heard_is_found_in_the_round_after_the_next() {
        let (store, _) = Fake::store();
        let waits = Arc::new(Waits::default());
        let mut follow = FollowUp::new(Arc::clone(&waits), Arc::clone(&store.activations));
        let record = Arc::new(record("a", 1, 7));
        let held = Arc::new(());
        let place = Box::new(Arc::clone(&held));
        let mut answer = waits.register(&record.namespace, record.id, place);
        store.activations.put(Arc::clone(&record)).unwrap();
        // It may just be on its way.
        follow.round().await;
        assert!(answer.try_recv().is_err());
        follow.round().await;
        assert!(matches!(answer.try_recv(), Ok(Outcome::Done(found)) if found.id == record.id));
        assert_eq!((waits.count(), Arc::strong_count(&held)), (0, 1));
    }

    #[tokio::test]
    async fn after_a_silence_everything_is_looked_for_and_what_runs_stays() {
        let (store, _) = Fake::store();
        let waits = Arc::new(Waits::default());
        let mut follow = FollowUp::new(Arc::clone(&waits), Arc::clone(&store.activations));
        let record = Arc::new(record("a", 1, 7));
        let _answer = waits.register(&record.namespace, record.id, Box::new(()));
        let running = ActivationId(record.id.0 + 1);
        let _other = waits.register(&record.namespace, running, Box::new(()));
        store.activations.put(Arc::clone(&record)).unwrap();
        follow.look(u32::MAX).await;
        let left = waits.before(u32::MAX);
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].0, running);
        for _ in 0..3 {
            follow.round().await;
        }
        assert_eq!(waits.count(), 1);
    }
}
