//! Dead letters: what was promised and given up is kept, so that somebody can look at it and run it again.
//!
//! A letter is kept under the id of the activation that was the last try. They are bounded per namespace, the oldest goes
//! first, and by age. It is kept before its fire is noted to be over: a crash in between keeps it again, also where somebody
//! replayed it meanwhile.

use std::sync::Arc;

use super::expand::STORE_RETRY;
use super::retry::Replay;
use super::{Caller, Error, Invoker};
use crate::auth::Admission;
use crate::model::dead_letter::DeadLetter;
use crate::model::json::Fields;
use crate::model::{Action, Activation, ActivationId, EntityName, Fqn, Json, Namespace, Timestamp};
use crate::queue::message::Work;
use crate::store::{self, Item, Page, Shelf};
use crate::telemetry::metrics::{self, Letter};

/// Where a run came from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) trigger: Option<EntityName>,
    pub(super) rule: Option<EntityName>,
    pub(super) action: Fqn,
}

/// A run that could not be.
pub(super) struct Unrun<'a> {
    pub(super) id: ActivationId,
    /// Runs there were before it.
    pub(super) attempts: u32,
    pub(super) error: &'a str,
    pub(super) payload: &'a Json,
}

impl Invoker {
    /// Keeps a letter about the failed run that `record` tells of.
    pub(super) async fn bury(
        &self,
        namespace: &Namespace,
        origin: &Origin,
        record: &Activation,
        attempts: u32,
        payload: &Json,
    ) {
        let error = record.response.result.field("error");
        let error = error.unwrap_or_else(|| record.response.result.clone());
        self.keep_letter(
            namespace,
            letter(origin, record.id, attempts, error, payload),
        )
        .await;
    }

    /// Keeps a letter about a run that could not be.
    pub(super) async fn bury_unrun(
        &self,
        namespace: &Namespace,
        origin: &Origin,
        unrun: Unrun<'_>,
    ) {
        let Unrun {
            id,
            attempts,
            error,
            payload,
        } = unrun;
        let error = Json::from_serialize(error);
        self.keep_letter(namespace, letter(origin, id, attempts, error, payload))
            .await;
    }

    /// Keeps a letter about work that brought servers down, or was there each time one went down.
    ///
    /// # Errors
    /// When it could not be kept.
    pub(crate) async fn bury_work(&self, work: &Work, begun: u32) -> store::Result<()> {
        let origin = Origin {
            trigger: None,
            rule: None,
            action: work.action.address().clone(),
        };
        let text = "The action was started several times and each time the server stopped before it ended.";
        let error = Json::from_serialize(text);
        let letter = letter(&origin, work.id, begun, error, &work.params);
        self.try_keep_letter(&work.namespace, &letter).await
    }

    async fn keep_letter(&self, namespace: &Namespace, letter: DeadLetter) {
        while let Err(error) = self.try_keep_letter(namespace, &letter).await {
            if matches!(error, store::Error::Conflict) {
                // The namespace is gone, and nobody could read it.
                return;
            }
            tracing::warn!(activation = %letter.id, %namespace, %error, "a dead letter waits for the store");
            tokio::time::sleep(STORE_RETRY).await;
        }
    }

    async fn try_keep_letter(
        &self,
        namespace: &Namespace,
        letter: &DeadLetter,
    ) -> store::Result<()> {
        let (items, config) = (&self.0.store.items, &self.0.events.config);
        let age_ms = config.dead_letter_age_s.saturating_mul(1000);
        let item = Item {
            name: letter.id.to_string(),
            body: Json::from_serialize(letter).get().into(),
            code: None,
            expires: Some(Timestamp(letter.time.millis().saturating_add(age_ms))),
        };
        items.put(namespace, Shelf::DeadLetters, item, None).await?;
        metrics::dead_letter(Letter::Kept);
        // Ids begin with their time, so the last of the list are the oldest.
        let beyond = Page {
            skip: config.dead_letters_max.max(1),
            limit: 100,
        };
        for oldest in items
            .list(namespace, Shelf::DeadLetters, "", beyond)
            .await?
        {
            items
                .delete(namespace, Shelf::DeadLetters, &oldest.name)
                .await?;
            metrics::dead_letter(Letter::Dropped);
        }
        Ok(())
    }

    /// Runs what a letter is about once more; the letter is removed once that is promised, and what fails is a letter again.
    /// A crash in between leaves the letter there.
    pub(super) async fn replay_letter(
        &self,
        caller: Caller,
        letter: &DeadLetter,
        action: Arc<Action>,
        transaction: Arc<str>,
        admission: Admission,
    ) -> Result<ActivationId, Error> {
        let replay = Replay {
            letter: letter.id,
            origin: Origin {
                trigger: letter.trigger.clone(),
                rule: letter.rule.clone(),
                action: action.address().clone(),
            },
            arguments: without_final(&action, &letter.payload),
            attempts: letter.attempts,
            transaction,
            admission,
        };
        let id = self.run_once_more(caller, replay).await?;
        metrics::dead_letter(Letter::Replayed);
        Ok(id)
    }

    /// Removes a letter about what is promised again; whether it was there. One of which the store does not say counts as there:
    /// what is promised runs.
    pub(super) async fn take_letter(&self, namespace: &Namespace, id: ActivationId) -> bool {
        let (items, name) = (&self.0.store.items, id.to_string());
        let taken = items.delete(namespace, Shelf::DeadLetters, &name).await;
        taken.unwrap_or_else(|error| {
            tracing::warn!(%namespace, letter = name, %error, "a dead letter is run again and could not be removed");
            true
        })
    }
}

fn letter(
    origin: &Origin,
    id: ActivationId,
    attempts: u32,
    error: Json,
    payload: &Json,
) -> DeadLetter {
    DeadLetter {
        id,
        time: Timestamp::now(),
        trigger: origin.trigger.clone(),
        rule: origin.rule.clone(),
        action: origin.action.to_string(),
        activation_id: id,
        attempts,
        error,
        payload: payload.clone(),
    }
}

/// What the action was given, without what it gives itself and lets nobody change: work that was accepted carries both.
fn without_final(action: &Action, payload: &Json) -> Json {
    if !action.annotations.is_true("final") {
        return payload.clone();
    }
    let is_bound = |key: &str| {
        let mut bound = action.parameters.0.iter();
        bound.any(|one| one.key == key && one.plain().is_none_or(|value| value.get() != "null"))
    };
    let Some(fields) = Fields::of(payload) else {
        return payload.clone();
    };
    let rest = fields.0.iter().filter(|(key, _)| !is_bound(key));
    let rest: serde_json::Map<_, _> = rest
        .filter_map(|(key, value)| Some((key.to_string(), serde_json::to_value(value).ok()?)))
        .collect();
    Json::from_serialize(&rest)
}
