//! Telling an activation to stop, so that it stays stopped: the next process would otherwise run again what was promised, was
//! told to stop, and had no record on the disk when this one ended.
//!
//! The note is an item of its own, on disk before the caller is answered. At the next start those whose work is in the log are
//! told again, and end as they would have. A note is taken back when the end is on the disk as well, so there are about as many
//! as activations that were told and go on; what a crash leaves of them expires.

use std::collections::HashSet;
use std::time::Duration;

use super::trigger::Fired;
use super::{Error, Invoker};
use crate::model::{ActivationId, Namespace, Timestamp};
use crate::store::{self, Item, Shelf};

/// How long a note that nobody takes back is kept: longer than a server is down, and no longer than records are by default.
const NOTE_AGE_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// How often it is looked whether an activation has ended; and how long after its end its promise may be settled.
const LOOK: Duration = Duration::from_secs(1);

impl Invoker {
    /// Whether it is in flight here.
    pub(crate) fn is_in_flight(&self, namespace: &Namespace, id: ActivationId) -> bool {
        self.0.waits.holds(namespace, id)
    }

    /// Tells an activation of `namespace`, and what it is made of, to stop, whichever process runs it; whether it was in flight.
    pub(crate) async fn stop_for_good(
        &self,
        namespace: &Namespace,
        id: ActivationId,
    ) -> Result<bool, Error> {
        if !self.0.waits.holds(namespace, id) {
            return Ok(self.0.queue.stop_elsewhere(namespace, id).await);
        }
        let note = Item {
            name: id.to_string(),
            body: "{}".into(),
            code: None,
            expires: Some(Timestamp(
                Timestamp::now().millis().saturating_add(NOTE_AGE_MS),
            )),
        };
        let noted = self
            .0
            .store
            .items
            .put(namespace, Shelf::Cancelled, note, None);
        let noted = noted.await;
        // Even where it could not be noted: what fills the disk must be stoppable.
        self.stop(namespace, id);
        noted?;
        tokio::spawn(self.clone().take_back(namespace.clone(), id));
        Ok(true)
    }

    /// Removes the note once nobody could run the activation again. A process that ends before leaves it.
    async fn take_back(self, namespace: Namespace, id: ActivationId) {
        while self.0.waits.holds(&namespace, id) {
            tokio::time::sleep(LOOK).await;
        }
        // Its promise is settled right after its end is told.
        tokio::time::sleep(LOOK).await;
        let store = &self.0.store;
        let removed = match store.activations.flush().await {
            Ok(()) => {
                let note = id.to_string();
                store
                    .items
                    .delete(&namespace, Shelf::Cancelled, &note)
                    .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::debug!(activation = %id, %error, "the note of a cancellation is left to expire");
        }
    }

    /// Activations that former processes were told to stop; before anything of theirs is taken up.
    pub(crate) async fn former_cancels(&self) -> store::Result<HashSet<ActivationId>> {
        let notes = self.0.store.items.everywhere(Shelf::Cancelled).await?;
        let ids = notes.iter().filter_map(|(_, note)| note.name.parse().ok());
        Ok(ids.collect())
    }

    /// Tells the work of a former process again that it is to stop, if it was told: `work` is an entry of the log under `id`.
    pub(crate) fn stop_again(
        &self,
        cancelled: &HashSet<ActivationId>,
        id: ActivationId,
        work: &[u8],
    ) {
        if cancelled.is_empty() {
            return;
        }
        let cancels = self.0.queue.cancels();
        if cancelled.contains(&id) {
            cancels.ask(id);
        }
        // What a fire started has no entries of its own.
        if let Ok(fired) = serde_json::from_slice::<Fired>(work) {
            let started = (0..fired.shots.len()).map(|index| fired.id_of(index));
            for id in started.filter(|id| cancelled.contains(id)) {
                cancels.ask(id);
            }
        }
    }
}
