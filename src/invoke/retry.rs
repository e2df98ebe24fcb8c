//! Runs that were promised by a fire, tried again when they fail if the rule says so.
//!
//! A rule's annotation `retry: {"attempts": N, "backoff": MS}` lets its action run up to N times (1 to 10, the first
//! included) until it succeeds, each time under a new id, with a pause of MS, twice that, and so on up to an hour in
//! between. A run that waits for its time is an entry of its own in the log of accepted work, accepted before the one it
//! follows is settled: a restart neither forgets it nor begins to count anew. When the runs are used up, what is left is a
//! dead letter.
//!
//! Tried again runs are bounded per namespace; a failure beyond the bound becomes a dead letter at once.
//!
//! A dead letter that is replayed is one more such run, the last there is: when it fails, a letter is kept again.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use super::deadletter::{Origin, Unrun};
use super::expand::{DELIVERIES_MAX, STORE_RETRY, unrun};
use super::run::Step;
use super::{Caller, Error, Invoker, Refusal, new_id};
use crate::auth::Admission;
use crate::model::{
    Action, Activation, ActivationId, EntityName, Fqn, Json, Keep, Namespace, Response, Status,
    Timestamp,
};
use crate::store;
use crate::telemetry::metrics::{self, RuleRun};

/// Most runs of one shot.
const ATTEMPTS_MAX: u32 = 10;

/// Longest pause between two runs.
const PAUSE_MS_MAX: u64 = 60 * 60 * 1000;

/// Pause before work is offered again to a queue that had no room for it.
const QUEUE_RETRY: Duration = Duration::from_millis(100);

/// Pause before one of the invocations per minute is asked for again.
const RATE_RETRY: Duration = Duration::from_secs(1);

/// What a rule's `retry` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Policy {
    /// Runs in all.
    attempts: u32,
    /// Pause before the second, milliseconds; it doubles with each.
    #[serde(default)]
    backoff: u64,
}

impl Policy {
    /// No other run, whichever it was.
    const LAST: Self = Self {
        attempts: 1,
        backoff: 0,
    };

    /// The annotation's value, if it is one.
    pub(super) fn parse(annotation: &Json) -> Option<Self> {
        let policy: Self = serde_json::from_str(annotation.get()).ok()?;
        (1..=ATTEMPTS_MAX)
            .contains(&policy.attempts)
            .then_some(policy)
    }

    /// The pause after `attempt` runs; `None` when there is to be no other.
    fn pause_ms(self, attempt: u32) -> Option<u64> {
        if attempt >= self.attempts {
            return None;
        }
        let factor = 1u64 << (attempt.saturating_sub(1)).min(ATTEMPTS_MAX);
        Some(self.backoff.saturating_mul(factor).min(PAUSE_MS_MAX))
    }
}

/// What is wrong with a rule's `retry` that is meant as one: an object that says `attempts`.
pub(crate) fn retry_fault(annotation: &Json) -> Option<String> {
    let is_meant = annotation.field("attempts").is_some();
    (is_meant && Policy::parse(annotation).is_none()).then(|| {
        format!(
            "annotation 'retry' malformed: attempts must be a number from 1 to {ATTEMPTS_MAX}, backoff a number of milliseconds"
        )
    })
}

/// A run to be tried again, as it stands in the log of accepted work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Again {
    /// Tells it apart from other accepted work, and says which version of it this is: 1.
    retry: u16,
    /// Of the run that is to come.
    id: ActivationId,
    namespace: Namespace,
    subject: Namespace,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    trigger: Option<EntityName>,
    rule: Option<EntityName>,
    action: Fqn,
    arguments: Json,
    /// Which run it is to be, from 1.
    attempt: u32,
    policy: Policy,
    due: Timestamp,
    transaction: Arc<str>,
    record: Keep,
}

/// A run that was promised.
pub(super) struct Shooting {
    pub(super) caller: Arc<Caller>,
    pub(super) id: ActivationId,
    pub(super) action: Arc<Action>,
    pub(super) arguments: Json,
    pub(super) transaction: Arc<str>,
    pub(super) admission: Admission,
    pub(super) redelivered: u32,
    /// Which run of the shot it is, from 1.
    pub(super) attempt: u32,
    pub(super) policy: Option<Policy>,
    pub(super) origin: Arc<Origin>,
}

/// One more run of what was given up.
pub(super) struct Replay {
    /// The letter about it.
    pub(super) letter: ActivationId,
    pub(super) origin: Origin,
    pub(super) arguments: Json,
    /// Runs there were before it.
    pub(super) attempts: u32,
    pub(super) transaction: Arc<str>,
    pub(super) admission: Admission,
}

/// A run that is to come.
struct Next {
    origin: Origin,
    arguments: Json,
    transaction: Arc<str>,
    /// Which one it is to be, from 1.
    attempt: u32,
    policy: Policy,
    pause_ms: u64,
}

/// How many runs wait for their time, by namespace.
#[derive(Debug, Default)]
pub(super) struct Retries(DashMap<Namespace, usize>);

impl Retries {
    /// In all namespaces.
    pub(super) fn waiting(&self) -> usize {
        self.0.iter().map(|count| *count).sum()
    }
}

/// One that waits.
struct Waiting(Invoker, Namespace);

impl Drop for Waiting {
    fn drop(&mut self) {
        let counts = &self.0.0.events.retries.0;
        if let Some(mut count) = counts.get_mut(&self.1) {
            *count = count.saturating_sub(1);
        }
        counts.remove_if(&self.1, |_, count| *count == 0);
    }
}

impl Invoker {
    /// Runs it to its end, however often the queue has no room for it, and sees to what follows; a text when it is refused.
    pub(super) async fn run_promised(self, shooting: Shooting) -> Option<String> {
        let mut admission = Some(shooting.admission);
        let (caller, id) = (&*shooting.caller, shooting.id);
        let ended = loop {
            let admission = match admission.take() {
                Some(admission) => admission,
                None => self.await_place(caller).await,
            };
            let step = Step {
                id,
                admission: Box::new(admission),
                redelivered: shooting.redelivered,
                ..Step::new(
                    Arc::clone(&shooting.action),
                    shooting.arguments.clone(),
                    Arc::clone(&shooting.transaction),
                )
            };
            match self.run(caller, step).await {
                Ok(record) => break record,
                Err(Error::Refused(refusal)) => {
                    tracing::debug!(activation = %id, %refusal, "a rule's action waits for room");
                    tokio::time::sleep(QUEUE_RETRY).await;
                }
                Err(Error::Store(error)) => {
                    tracing::warn!(activation = %id, %error, "a rule's action waits for the store");
                    tokio::time::sleep(STORE_RETRY).await;
                }
                Err(Error::Unavailable(cause)) => {
                    tracing::error!(activation = %id, cause, "a rule's action was lost");
                    let response = Response::error(Status::InternalError, "The outcome was lost.");
                    let record =
                        unrun(caller, id, &shooting.action, response, shooting.redelivered);
                    let record = Arc::new(record);
                    if caller.record.keeps(record.response.status) {
                        self.keep(Arc::clone(&record)).await;
                    }
                    break record;
                }
                Err(refused) => {
                    metrics::rule_ran(RuleRun::Refused);
                    return Some(refused.to_string());
                }
            }
        };
        if caller.record.keeps(ended.response.status)
            && !self.0.store.activations.has_room()
            && !self.is_recorded(caller, id).await
        {
            // The worker found no room for it.
            self.keep(Arc::clone(&ended)).await;
        }
        let is_success = ended.response.status == Status::Success;
        metrics::rule_ran(match is_success {
            true => RuleRun::Success,
            false => RuleRun::Failure,
        });
        if let Some(policy) = shooting.policy {
            let ran = Ran {
                caller,
                policy,
                attempt: shooting.attempt,
                origin: &shooting.origin,
                arguments: &shooting.arguments,
                transaction: &shooting.transaction,
            };
            self.see_to(ran, &ended).await;
        }
        None
    }

    /// Sees to what follows a run: one that failed is tried again, or kept as a dead letter.
    pub(super) async fn see_to(&self, ran: Ran<'_>, record: &Activation) {
        if record.response.status == Status::Success {
            return;
        }
        let Ran {
            caller,
            policy,
            attempt,
            origin,
            arguments,
            transaction,
        } = ran;
        let waiting = policy
            .pause_ms(attempt)
            .and_then(|pause_ms| Some((pause_ms, self.wait_in_line(&caller.namespace)?)));
        let Some((pause_ms, waiting)) = waiting else {
            self.bury(&caller.namespace, origin, record, attempt, arguments)
                .await;
            return;
        };
        let next = Next {
            origin: origin.clone(),
            arguments: arguments.clone(),
            transaction: Arc::clone(transaction),
            attempt: attempt + 1,
            policy,
            pause_ms,
        };
        let again = Again::new(caller, next);
        let Ok(bytes) = serde_json::to_vec(&again) else {
            return;
        };
        let bytes = bytes::Bytes::from(bytes);
        let accepted = &self.0.store.accepted;
        loop {
            match accepted
                .accept(&again.namespace, again.id, bytes.clone())
                .await
            {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(activation = %again.id, %error, "a retry waits for the store");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
        metrics::rule_retry();
        let this = self.clone();
        let caller = Some(Arc::new(caller.clone()));
        tokio::spawn(this.try_again(again, 0, caller, waiting, None));
    }

    /// Promises one more run: it is in the log of accepted work when this returns, and begins at once. Who replays a letter
    /// that another replays at the same moment is told of a conflict: it runs once more, not twice.
    pub(super) async fn run_once_more(
        &self,
        caller: Caller,
        replay: Replay,
    ) -> Result<ActivationId, Error> {
        let waiting = self.wait_in_line(&caller.namespace);
        let waiting = waiting.ok_or(Refusal::Backlog { retry_after_s: 1 })?;
        let next = Next {
            origin: replay.origin,
            arguments: replay.arguments,
            transaction: replay.transaction,
            attempt: replay.attempts.saturating_add(1),
            policy: Policy::LAST,
            pause_ms: 0,
        };
        let again = Again::new(&caller, next);
        let id = again.id;
        let bytes = serde_json::to_vec(&again).map_err(|e| Error::Unavailable(e.to_string()))?;
        let this = self.clone();
        // On its own: whoever asked may go away in between.
        let promised = tokio::spawn(async move {
            let accepted = &this.0.store.accepted;
            accepted
                .accept(&again.namespace, id, bytes::Bytes::from(bytes))
                .await?;
            if !this.take_letter(&again.namespace, replay.letter).await {
                accepted.settle(id);
                return Err(store::Error::Conflict.into());
            }
            // Until it is in the queue, it can be waited for and cancelled here.
            this.0.waits.hold(&again.namespace, id, Box::new(()));
            let caller = Some(Arc::new(caller));
            let admission = Some(replay.admission);
            tokio::spawn(this.try_again(again, 0, caller, waiting, admission));
            Ok(id)
        });
        promised
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
    }

    /// A place among the namespace's runs that wait for their time.
    fn wait_in_line(&self, namespace: &Namespace) -> Option<Waiting> {
        let events = &self.0.events;
        let mut count = events.retries.0.entry(namespace.clone()).or_default();
        if *count >= events.config.retries_max {
            return None;
        }
        *count += 1;
        drop(count);
        Some(Waiting(self.clone(), namespace.clone()))
    }

    /// Waits for its time, and runs it.
    ///
    /// Boxed, because a run that is tried again may lead to another.
    fn try_again(
        self,
        again: Again,
        begun: u32,
        caller: Option<Arc<Caller>>,
        waiting: Waiting,
        admission: Option<Admission>,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let pause_ms = again.due.millis_since(Timestamp::now()).min(PAUSE_MS_MAX);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            if self.0.events.backlog.is_stopped() {
                // It is in the log: the next process takes it up.
                self.0.waits.forget(again.id);
                return;
            }
            let running = self.0.running.enter();
            drop(waiting);
            let tried = async {
                match caller {
                    Some(caller) => self.run_again(&again, begun, caller, admission).await,
                    None => {
                        let text = super::expand::BLOCKED;
                        self.bury_again(&again, text).await;
                    }
                }
            };
            if self.0.queue.cancels().while_held(tried).await.is_some() {
                self.0.store.accepted.settle(again.id);
            }
            self.0.waits.forget(again.id);
            drop(running);
        })
    }

    /// Whether a run of it ended after whoever had promised it; then what follows it, which was perhaps not seen to, is.
    async fn has_ended(&self, again: &Again, caller: &Caller) -> bool {
        let Some(found) = self.recorded(caller, again.id).await else {
            return false;
        };
        if let Ok(record) = found {
            let ran = Ran {
                caller,
                policy: again.policy,
                attempt: again.attempt,
                origin: &again.origin(),
                arguments: &again.arguments,
                transaction: &again.transaction,
            };
            self.see_to(ran, &record).await;
        }
        true
    }

    async fn run_again(
        &self,
        again: &Again,
        begun: u32,
        caller: Arc<Caller>,
        admission: Option<Admission>,
    ) {
        let (id, origin) = (again.id, again.origin());
        if begun > 0 && self.has_ended(again, &caller).await {
            return;
        }
        let action = loop {
            match self.target(&caller, &again.action).await {
                Ok(target) => break target,
                Err(error) => {
                    tracing::warn!(activation = %id, %error, "a retry waits for the store");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        };
        let action = match action {
            Ok(action) => action,
            Err(text) => return self.bury_again(again, &text).await,
        };
        let once = begun > 0 && action.annotations.is_true("at-most-once");
        if begun >= DELIVERIES_MAX || once {
            let text = "The server stopped while the action ran, and it is not run again.";
            let response = Response::error(Status::InternalError, text);
            let record = unrun(&caller, id, &action, response, begun);
            self.bury(
                &caller.namespace,
                &origin,
                &record,
                again.attempt,
                &again.arguments,
            )
            .await;
            if caller.record.keeps(record.response.status) {
                self.keep(Arc::new(record)).await;
            }
            return;
        }
        while let Err(error) = self.0.store.accepted.begin_durably(id).await {
            tracing::warn!(activation = %id, %error, "a retry waits for the store");
            tokio::time::sleep(STORE_RETRY).await;
        }
        let mut admission = admission;
        let admission = loop {
            if let Some(admission) = admission.take() {
                break admission;
            }
            match self.admit(&caller).await {
                Ok(admission) => break admission,
                // A namespace that may run nothing at all keeps nothing waiting.
                Err(text) if is_shut(&caller) => return self.bury_again(again, &text).await,
                Err(_) => tokio::time::sleep(RATE_RETRY).await,
            }
        };
        let shooting = Shooting {
            id,
            action,
            arguments: again.arguments.clone(),
            transaction: Arc::clone(&again.transaction),
            admission,
            redelivered: begun,
            attempt: again.attempt,
            policy: Some(again.policy),
            origin: Arc::new(origin),
            caller: Arc::clone(&caller),
        };
        if let Some(text) = self.clone().run_promised(shooting).await {
            self.bury_again(again, &text).await;
        }
    }

    /// Keeps a letter about a run that was to be tried again and is not, because of `text`.
    async fn bury_again(&self, again: &Again, text: &str) {
        let unrun = Unrun {
            id: again.id,
            attempts: again.attempt.saturating_sub(1),
            error: text,
            payload: &again.arguments,
        };
        self.bury_unrun(&again.namespace, &again.origin(), unrun)
            .await;
    }

    /// Takes up a run that a former process was to try again.
    pub(super) async fn recover_retry(&self, again: Again, begun: u32) -> store::Result<()> {
        let caller = self
            .former_caller(
                &again.namespace,
                &again.subject,
                again.api_key.as_deref(),
                again.record,
            )
            .await?;
        let events = &self.0.events;
        *events.retries.0.entry(again.namespace.clone()).or_default() += 1;
        let waiting = Waiting(self.clone(), again.namespace.clone());
        tokio::spawn(
            self.clone()
                .try_again(again, begun, caller.map(Arc::new), waiting, None),
        );
        Ok(())
    }
}

impl Again {
    /// The entry of `next`, for `caller` and under a new id.
    fn new(caller: &Caller, next: Next) -> Self {
        Self {
            retry: 1,
            id: new_id(),
            namespace: caller.namespace.clone(),
            subject: caller.subject.clone(),
            api_key: caller.api_key.as_ref().map(|key| key.to_string()),
            trigger: next.origin.trigger,
            rule: next.origin.rule,
            action: next.origin.action,
            arguments: next.arguments,
            attempt: next.attempt,
            policy: next.policy,
            due: Timestamp(Timestamp::now().millis() + next.pause_ms),
            transaction: next.transaction,
            record: caller.record,
        }
    }

    fn origin(&self) -> Origin {
        Origin {
            trigger: self.trigger.clone(),
            rule: self.rule.clone(),
            action: self.action.clone(),
        }
    }
}

/// Whether the caller's namespace may run nothing at all.
fn is_shut(caller: &Caller) -> bool {
    let limits = &caller.limits;
    limits.invocations_per_minute == 0 || limits.concurrent_invocations == 0
}

/// A run that has ended.
pub(super) struct Ran<'a> {
    pub(super) caller: &'a Caller,
    pub(super) policy: Policy,
    /// Which one it was, from 1.
    pub(super) attempt: u32,
    pub(super) origin: &'a Origin,
    pub(super) arguments: &'a Json,
    pub(super) transaction: &'a Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Option<Policy> {
        Policy::parse(&Json::parse(text.as_bytes()).expect("JSON"))
    }

    #[test]
    fn the_pause_doubles_up_to_an_hour_and_ends_with_the_attempts() {
        let three = policy(r#"{"attempts": 3, "backoff": 100}"#).expect("legal");
        let pauses: Vec<_> = (1..=4).map(|attempt| three.pause_ms(attempt)).collect();
        assert_eq!(pauses, [Some(100), Some(200), None, None]);
        let slow = policy(r#"{"attempts": 10, "backoff": 3000000}"#).expect("legal");
        assert_eq!(slow.pause_ms(9), Some(PAUSE_MS_MAX));
        let endless = policy(r#"{"attempts": 10, "backoff": 18446744073709551615}"#);
        assert_eq!(endless.expect("legal").pause_ms(2), Some(PAUSE_MS_MAX));
    }

    #[test]
    fn what_is_no_policy_is_none() {
        for bad in [
            "true",
            "3",
            "{}",
            r#"{"attempts": 0}"#,
            r#"{"attempts": 11}"#,
            r#"{"attempts": 1.5}"#,
            r#"{"attempts": 2, "backoff": -1}"#,
        ] {
            assert_eq!(policy(bad), None, "{bad}");
        }
        assert!(policy(r#"{"attempts": 2}"#).is_some(), "at once");
    }
}
