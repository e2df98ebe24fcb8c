//! What a fire comes to: every active rule's action run, the trigger's record, and the end of the promise.
//!
//! Each rule is an ordinary non-blocking invoke by whoever fired: it takes one of the namespace's invocations per minute
//! and is refused without; it waits for a place among those in flight, because the fire was promised. Actions are run
//! where the fire is worked on as long as they end at once; one that does not goes on by itself, so a slow action delays no
//! other rule. The trigger's record is put when every rule has been started or refused, the entry in the log is settled
//! when all they started has ended.
//!
//! After a crash the rules that have no record run again, under the ids they had; not those whose actions are annotated to
//! run at most once, and none for the fourth time: these are recorded as failed, and become dead letters.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;

use super::backlog::{Hand, Place};
use super::deadletter::Origin;
use super::retry::{Ran, Shooting};
use super::trigger::{Fired, Shot, Target};
use super::{Caller, Invoker};
use crate::auth::Admission;
use crate::auth::throttle::Exceeded;
use crate::model::limits::EffectiveLimits;
use crate::model::{
    Action, Activation, ActivationId, Annotations, Json, Namespace, Response, Status, Timestamp,
};
use crate::store;
use crate::telemetry::metrics::{self, RuleRun};

/// Deliveries of one fire whose runs were lost, after which they are recorded as failed.
pub(super) const DELIVERIES_MAX: u32 = 3;

/// Pause before something is offered again to a store that had no room.
pub(super) const STORE_RETRY: Duration = Duration::from_millis(250);

/// First and longest pause before a place among the invocations in flight is asked for again.
const PLACE_PAUSE_MIN: Duration = Duration::from_millis(2);
const PLACE_PAUSE_MAX: Duration = Duration::from_millis(100);

pub(super) const BLOCKED: &str = "The action was not invoked due to a blacklisted namespace.";
const ONCE: &str = "The server stopped while the action ran; it is annotated to run at most once.";
const LOST: &str =
    "The action was started several times and each time the server stopped before it ended.";

/// A fire whose turn it will be.
#[derive(Debug)]
pub(super) struct Due {
    fired: Fired,
    /// `None` when the namespace is blocked.
    caller: Option<Arc<Caller>>,
    /// What was found when it was accepted; `None` after a restart.
    targets: Option<Vec<Target>>,
    /// How often it was begun before and lost.
    begun: u32,
    /// Whether a former process accepted it.
    is_recovered: bool,
    place: Place,
}

impl Due {
    pub(super) fn namespace(&self) -> &Namespace {
        &self.fired.namespace
    }
}

/// One line of a trigger's record.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    status_code: u8,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    activation_id: Option<ActivationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    rule: String,
    action: String,
}

fn line(fired: &Fired, shot: &Shot, outcome: Result<ActivationId, &str>) -> String {
    let line = Line {
        status_code: u8::from(outcome.is_err()),
        success: outcome.is_ok(),
        activation_id: outcome.ok(),
        error: outcome.err(),
        rule: fired.fqn(&shot.rule).to_string(),
        action: shot.action.to_string(),
    };
    serde_json::to_string(&line).unwrap_or_default()
}

impl Invoker {
    /// Queues a fire that was just accepted.
    pub(super) fn launch(&self, fired: Fired, caller: Caller, targets: Vec<Target>, place: Place) {
        self.line_up(Due {
            fired,
            caller: Some(Arc::new(caller)),
            targets: Some(targets),
            begun: 0,
            is_recovered: false,
            place,
        });
    }

    /// Queues a fire that a former process accepted.
    pub(super) fn resume(&self, fired: Fired, caller: Option<Caller>, begun: u32, place: Place) {
        self.line_up(Due {
            fired,
            caller: caller.map(Arc::new),
            targets: None,
            begun,
            is_recovered: true,
            place,
        });
    }

    fn line_up(&self, due: Due) {
        if let Some(hand) = self.0.events.backlog.push(due) {
            tokio::spawn(self.clone().work_through(hand));
        }
    }

    /// Works on a lane until nothing waits in it.
    async fn work_through(self, hand: Hand) {
        let mut hand = hand;
        while let Some((due, again)) = self.0.events.backlog.next(hand) {
            hand = again;
            // Others have it in their log of accepted work when this node lost its lease.
            self.0.queue.cancels().while_held(self.expand(due)).await;
        }
    }

    async fn expand(&self, due: Due) {
        let running = self.0.running.enter();
        let mut flying = JoinSet::new();
        self.note_begin(&due).await;
        let mut lines = Vec::with_capacity(due.fired.shots.len());
        let arguments = due.fired.arguments();
        for index in 0..due.fired.shots.len() {
            self.shoot(&due, index, &arguments, &mut lines, &mut flying)
                .await;
            // Each may have computed for as long as a call may: others have their turn.
            tokio::task::yield_now().await;
        }
        let Due { fired, place, .. } = due;
        let is_kept = !fired.record.keeps(Status::Success) || {
            let record = Arc::new(record(&fired, lines));
            let put = self.0.store.activations.put(Arc::clone(&record));
            if put.is_err() {
                let this = self.clone();
                flying.spawn(async move { this.keep(record).await });
            }
            put.is_ok()
        };
        if is_kept && flying.is_empty() {
            self.0.store.accepted.settle(fired.id);
            return;
        }
        let (this, id) = (self.clone(), fired.id);
        tokio::spawn(async move {
            let landed = async { while flying.join_next().await.is_some() {} };
            if this.0.queue.cancels().while_held(landed).await.is_some() {
                this.0.store.accepted.settle(id);
            }
            drop((place, running));
        });
    }

    /// Notes that the fire is worked on, so that a crash from here on counts. Waits for the note when an action must not
    /// run twice, and when a former process had the fire: it may be what brings servers down.
    async fn note_begin(&self, due: &Due) {
        let targets = due.targets.iter().flatten().flatten();
        let mut targets = targets.filter(|action| is_at_most_once(action));
        let accepted = &self.0.store.accepted;
        if !due.is_recovered && targets.next().is_none() {
            accepted.begin(due.fired.id);
            return;
        }
        while let Err(error) = accepted.begin_durably(due.fired.id).await {
            tracing::warn!(activation = %due.fired.id, %error, "a fire waits for the store");
            tokio::time::sleep(STORE_RETRY).await;
        }
    }

    /// Runs the action of rule `index`, or says why not.
    async fn shoot(
        &self,
        due: &Due,
        index: usize,
        arguments: &Json,
        lines: &mut Vec<String>,
        flying: &mut JoinSet<()>,
    ) {
        let fired = &due.fired;
        let (shot, id) = (&fired.shots[index], fired.id_of(index));
        if !shot.active {
            let rule = fired.fqn(&shot.rule);
            let text = format!(
                "Rule '{rule}' is inactive, action '{}' was not activated.",
                shot.action
            );
            return lines.push(line(fired, shot, Err(&text)));
        }
        if shot.bad_retry {
            let text = "The annotation 'retry' is not {\"attempts\": 1..10, \"backoff\": MILLISECONDS} and is ignored.";
            lines.push(line(fired, shot, Err(text)));
        }
        let refusal = match self.prepare(due, index).await {
            Err(refusal) => {
                metrics::rule_ran(RuleRun::Refused);
                Some(refusal)
            }
            Ok(None) => None,
            Ok(Some((caller, action, admission))) => {
                let shooting = Shooting {
                    caller,
                    id,
                    arguments: arguments.clone(),
                    transaction: Arc::clone(&fired.transaction),
                    admission,
                    redelivered: due.begun,
                    attempt: 1,
                    policy: shot.retry,
                    origin: origin(fired, shot, &action),
                    action,
                };
                self.start(shooting, due, flying).await
            }
        };
        lines.push(match refusal {
            Some(text) => line(fired, shot, Err(&text)),
            None => line(fired, shot, Ok(id)),
        });
    }

    /// Who runs what, with its place; nothing when there is nothing left to do, a text when it is refused.
    async fn prepare(
        &self,
        due: &Due,
        index: usize,
    ) -> Result<Option<(Arc<Caller>, Arc<Action>, Admission)>, String> {
        let fired = &due.fired;
        let id = fired.id_of(index);
        let Some(caller) = &due.caller else {
            return Err(BLOCKED.to_owned());
        };
        if due.is_recovered
            && let Some(found) = self.recorded(caller, id).await
        {
            self.0.queue.cancels().forget(id);
            let shot = &fired.shots[index];
            if let (Ok(record), Some(policy)) = (found, shot.retry) {
                let run = Ran {
                    caller,
                    policy,
                    attempt: 1,
                    origin: &Origin {
                        trigger: Some(fired.trigger.clone()),
                        rule: Some(shot.rule.clone()),
                        action: shot.action.clone(),
                    },
                    arguments: &fired.arguments(),
                    transaction: &fired.transaction,
                };
                self.see_to(run, &record).await;
            }
            return Ok(None);
        }
        let action = match due.targets.as_ref().map(|targets| targets[index].clone()) {
            Some(target) => target?,
            None => self.target_patiently(caller, &fired.shots[index]).await?,
        };
        let given_up = match due.begun {
            0 => None,
            DELIVERIES_MAX.. => Some(LOST),
            _ if is_at_most_once(&action) => Some(ONCE),
            _ => None,
        };
        if let Some(text) = given_up {
            self.0.queue.cancels().forget(id);
            self.give_up(due, caller, index, &action, text).await;
            return Ok(None);
        }
        let admission = self.admit(caller).await?;
        Ok(Some((Arc::clone(caller), action, admission)))
    }

    /// One of the invocations per minute, and a place among those in flight, which is waited for.
    pub(super) async fn admit(&self, caller: &Caller) -> Result<Admission, String> {
        let throttle = &self.0.throttle;
        loop {
            match throttle.enter(&caller.namespace, &caller.limits).await {
                Ok(admission) => return Ok(admission),
                Err(
                    exceeded @ (Exceeded::Rate { .. } | Exceeded::Concurrency { allowed: 0, .. }),
                ) => {
                    return Err(exceeded.to_string());
                }
                Err(Exceeded::Concurrency { .. }) => return Ok(self.await_place(caller).await),
                // What was promised is not given up because Redis is away.
                Err(Exceeded::Unknown) => tokio::time::sleep(PLACE_PAUSE_MAX).await,
            }
        }
    }

    /// A place among the invocations in flight of a namespace, for work that was accepted before. One that may have none any
    /// more has one all the same: what was accepted is done.
    pub(crate) async fn await_place_of(&self, namespace: &Namespace) -> Admission {
        let limits = loop {
            match self.0.keys.owner(namespace).await {
                Ok(Some(owner)) => break EffectiveLimits::clone(&owner.limits),
                Ok(None) => break EffectiveLimits::default(),
                Err(error) => {
                    tracing::warn!(%namespace, %error, "accepted work waits for the store");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        };
        let limits = EffectiveLimits {
            concurrent_invocations: limits.concurrent_invocations.max(1),
            ..limits
        };
        self.await_place_within(namespace, &limits).await
    }

    /// A place among the invocations in flight, however long it takes: it is for what was promised.
    pub(super) async fn await_place(&self, caller: &Caller) -> Admission {
        self.await_place_within(&caller.namespace, &caller.limits)
            .await
    }

    async fn await_place_within(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
    ) -> Admission {
        let mut pause = PLACE_PAUSE_MIN;
        loop {
            let claimed = self.0.throttle.place(namespace, limits);
            if let Ok(admission) = claimed.await {
                return admission;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PLACE_PAUSE_MAX);
        }
    }

    async fn target_patiently(&self, caller: &Caller, shot: &Shot) -> Target {
        loop {
            match self.target(caller, &shot.action).await {
                Ok(target) => return target,
                Err(error) => {
                    tracing::warn!(rule = %shot.rule, %error, "a rule waits for the store");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
    }

    /// Whether the activation has a record.
    pub(super) async fn is_recorded(&self, caller: &Caller, id: ActivationId) -> bool {
        self.recorded(caller, id).await.is_some()
    }

    /// The record of the activation, if it has one; an error is one that cannot be read.
    pub(super) async fn recorded(
        &self,
        caller: &Caller,
        id: ActivationId,
    ) -> Option<store::Result<Arc<Activation>>> {
        loop {
            match self.0.store.activations.get(&caller.namespace, id).await {
                Ok(record) => return record.map(Ok),
                Err(error @ store::Error::Corrupt(_)) => {
                    tracing::error!(activation = %id, %error, "a record cannot be read");
                    return Some(Err(error));
                }
                Err(error) => {
                    tracing::warn!(activation = %id, %error, "a fire waits for the store");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
    }

    /// Starts the run, and leaves it to itself unless it ends at once; a text when it is refused.
    async fn start(
        &self,
        shooting: Shooting,
        due: &Due,
        flying: &mut JoinSet<()>,
    ) -> Option<String> {
        while !self.0.store.activations.has_room() {
            tracing::debug!(activation = %due.fired.id, "a fire waits for room for its records");
            tokio::time::sleep(STORE_RETRY).await;
        }
        let mut run = Box::pin(self.clone().run_promised(shooting));
        match std::future::poll_fn(|context| Poll::Ready(run.as_mut().poll(context))).await {
            Poll::Ready(refusal) => refusal,
            Poll::Pending => {
                flying.spawn(async move { drop(run.await) });
                None
            }
        }
    }

    /// Records a run that was lost and is not repeated, and keeps a letter about it.
    async fn give_up(
        &self,
        due: &Due,
        caller: &Caller,
        index: usize,
        action: &Arc<Action>,
        text: &str,
    ) {
        let fired = &due.fired;
        let id = fired.id_of(index);
        let response = Response::error(Status::InternalError, text);
        let record = unrun(caller, id, action, response, due.begun);
        let origin = origin(fired, &fired.shots[index], action);
        self.bury(
            &caller.namespace,
            &origin,
            &record,
            due.begun,
            &fired.arguments(),
        )
        .await;
        if caller.record.keeps(record.response.status) {
            self.keep(Arc::new(record)).await;
        }
    }

    /// Puts a record that was promised, whenever there is room for it.
    pub(super) async fn keep(&self, record: Arc<Activation>) {
        while let Err(error) = self.0.store.activations.put(Arc::clone(&record)) {
            tracing::warn!(activation = %record.id, namespace = %record.namespace, %error, "a record waits for the store");
            tokio::time::sleep(STORE_RETRY).await;
        }
    }
}

fn is_at_most_once(action: &Action) -> bool {
    action.annotations.is_true("at-most-once")
}

fn origin(fired: &Fired, shot: &Shot, action: &Action) -> Arc<Origin> {
    Arc::new(Origin {
        trigger: Some(fired.trigger.clone()),
        rule: Some(shot.rule.clone()),
        action: action.address().clone(),
    })
}

/// The trigger's own record: no end, no annotations, the payload as its result, a line per rule as its logs.
fn record(fired: &Fired, lines: Vec<String>) -> Activation {
    Activation {
        namespace: fired.namespace.clone(),
        name: fired.trigger.clone(),
        version: fired.version,
        subject: fired.subject.clone(),
        id: fired.id,
        start: fired.accepted_at,
        end: None,
        duration: None,
        cause: None,
        response: Response {
            status: Status::Success,
            size: None,
            result: fired.payload.clone(),
        },
        logs: lines.into(),
        annotations: Annotations::default(),
    }
}

/// The record of an action that is not run, because of `response`.
pub(super) fn unrun(
    caller: &Caller,
    id: ActivationId,
    action: &Action,
    response: Response,
    redelivered: u32,
) -> Activation {
    let mut annotations = Annotations::default();
    annotations.push("path", Json::from_serialize(&action.fqn.to_string()));
    annotations.push("kind", Json::from_serialize(action.exec.kind()));
    annotations.push("limits", Json::from_serialize(&action.limits));
    if let Some(binding) = action.binding() {
        annotations.push("binding", Json::from_serialize(&binding));
    }
    annotations.push("timeout", Json::from(false));
    if redelivered > 0 {
        annotations.push("redelivered", Json::from(u64::from(redelivered)));
    }
    let now = Timestamp::now();
    Activation {
        namespace: caller.namespace.clone(),
        name: action.fqn.name.clone(),
        version: action.version,
        subject: caller.subject.clone(),
        id,
        start: now,
        end: Some(now),
        duration: Some(0),
        cause: None,
        response,
        logs: Arc::default(),
        annotations,
    }
}
