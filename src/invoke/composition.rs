//! Activations made of several: what sequences and conductors have in common.
//!
//! They run inside the node that took the call. Each step is handed to a worker directly where an instance or room for
//! one is at hand, so a step costs what a run costs and no turn in a queue. A blocking call is polled where its caller
//! is, and goes on by itself when the caller leaves; a promised one is in the log of accepted work until its own record
//! is kept, and is run again from its first step when the server stops in between.
//!
//! Invariants:
//! - whatever happens to a step, the whole ends in exactly one record, which names every step that ran;
//! - depth and the number of runs of one call are bounded, however the actions refer to each other.

use std::hash::BuildHasherDefault;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Notify;

use super::detached::Detached;
use super::run::Step;
use super::{Answer, Call, Caller, Error, Invoker, builtin, conductor, sequence};
use crate::model::activation::IdHasher;
use crate::model::{
    Action, ActionLimits, Activation, ActivationId, Annotations, Exec, Json, Namespace, Response,
    Sequence, Status, Timestamp, kind,
};
use crate::queue::message::Work;
use crate::store;

/// Most atomic actions of one sequence, and most components of one composition.
pub(super) const STEPS_MAX: usize = Sequence::LENGTH_MAX;

/// Deepest nesting of sequences and compositions in each other.
const DEPTH_MAX: usize = 50;

/// Most runs one call may lead to: compositions that call compositions could multiply for ever.
const RUNS_MAX: usize = 5_000;

/// Deliveries of one composition whose runs were lost, after which it is recorded as failed.
const DELIVERIES_MAX: u32 = 3;

/// Pause before a record is offered again to a store that had no room.
const STORE_RETRY: Duration = Duration::from_millis(250);

/// A future of something that may contain itself.
pub(super) type Recursive<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Forgets who waits for an activation when dropped.
struct Forget<'a>(&'a Invoker, ActivationId);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.0.waits.forget(self.1);
    }
}

/// Whether `action` is run here, and not by a worker: put together out of others, or one of the server's own.
pub(super) fn is_composed(action: &Action) -> bool {
    match action.exec {
        Exec::Code(_) => action.annotations.is_truthy("conductor", false),
        Exec::Sequence(_) | Exec::Builtin(_) => true,
    }
}

/// Where in a tree of activations a step stands.
#[derive(Clone, Copy)]
pub(super) struct Nesting<'a> {
    depth: usize,
    /// Runs of the whole tree that are left.
    runs_left: &'a AtomicUsize,
    /// Atomic actions of the outermost sequence that are left.
    pub(super) atomic_left: &'a AtomicUsize,
}

/// Takes one from `left`; false when there is none.
pub(super) fn take_one(left: &AtomicUsize) -> bool {
    let less = |count: usize| count.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

impl<'a> Nesting<'a> {
    /// One level down; `None` at the bottom.
    pub(super) fn deeper(self) -> Option<Self> {
        (self.depth < DEPTH_MAX && take_one(self.runs_left)).then_some(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    /// As deep, with a count of atomic actions of its own.
    pub(super) fn counting<'b>(self, atomic_left: &'b AtomicUsize) -> Nesting<'b>
    where
        'a: 'b,
    {
        Nesting {
            depth: self.depth,
            runs_left: self.runs_left,
            atomic_left,
        }
    }
}

/// One activation made of several, while it runs.
pub(super) struct Frame<'a> {
    pub(super) invoker: &'a Invoker,
    pub(super) caller: &'a Caller,
    pub(super) action: Arc<Action>,
    pub(super) id: ActivationId,
    pub(super) cause: Option<ActivationId>,
    pub(super) transaction: Arc<str>,
    started: Timestamp,
    redelivered: u32,
    /// Ids of what ran, in order.
    logs: Vec<String>,
    spent_ms: u64,
    memory_mib: u64,
}

impl<'a> Frame<'a> {
    /// The frame of `step`, and the payload it begins with.
    pub(super) fn of(invoker: &'a Invoker, caller: &'a Caller, step: Step) -> (Self, Json) {
        let frame = Self {
            invoker,
            caller,
            action: step.action,
            id: step.id,
            cause: step.cause,
            transaction: step.transaction,
            started: Timestamp::now(),
            redelivered: step.redelivered,
            logs: Vec::new(),
            spent_ms: 0,
            memory_mib: 0,
        };
        (frame, step.payload)
    }

    /// Runs `action` as a step and notes it.
    pub(super) async fn step(
        &mut self,
        action: Arc<Action>,
        payload: Json,
        nesting: Nesting<'_>,
    ) -> Result<Arc<Activation>, Error> {
        self.memory_mib = self.memory_mib.max(action.limits.memory);
        let step = Step {
            cause: Some(self.id),
            ..Step::new(action, payload, Arc::clone(&self.transaction))
        };
        self.enter(step.id)?;
        let record = self.invoker.run_at(self.caller, step, nesting).await?;
        self.note(&record);
        Ok(record)
    }

    /// Runs the conductor itself, as the code it is.
    pub(super) async fn conduct(
        &mut self,
        conductor: Arc<Action>,
        payload: Json,
    ) -> Result<Arc<Activation>, Error> {
        self.memory_mib = self.memory_mib.max(conductor.limits.memory);
        let step = Step {
            cause: Some(self.id),
            ..Step::new(conductor, payload, Arc::clone(&self.transaction))
        };
        self.enter(step.id)?;
        let record = self.invoker.run_code(self.caller, step).await?;
        self.note(&record);
        Ok(record)
    }

    /// Makes `step` what a cancellation is passed on to, unless there was one already.
    fn enter(&self, step: ActivationId) -> Result<(), Error> {
        let parts = &self.invoker.0;
        // First noted, then looked: told in between, it is told itself or found here.
        parts.running.steps.insert(self.id, step);
        if parts.queue.cancels().is_asked(self.id) {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    fn note(&mut self, record: &Activation) {
        self.logs.push(record.id.to_string());
        self.spent_ms = self.spent_ms.saturating_add(record.duration.unwrap_or(0));
    }

    /// Ends in `response`: makes the record and keeps it.
    pub(super) fn end(self, response: Response) -> Arc<Activation> {
        let caller = self.caller;
        let parts = &self.invoker.0;
        parts.running.steps.remove(&self.id);
        parts.queue.cancels().forget(self.id);
        let store = &parts.store;
        let record = Arc::new(self.record(response));
        if caller.record.keeps(record.response.status)
            && let Err(error) = store.activations.put(Arc::clone(&record))
        {
            tracing::error!(activation = %record.id, namespace = %record.namespace, %error, "a record is lost");
        }
        record
    }

    fn record(self, response: Response) -> Activation {
        let action = &self.action;
        let mut annotations = Annotations::default();
        annotations.push("path", Json::from_serialize(&action.fqn.to_string()));
        annotations.push("kind", Json::from_serialize(kind::SEQUENCE));
        annotations.push("topmost", Json::from(self.cause.is_none()));
        if action.exec.code().is_some() {
            annotations.push("conductor", Json::from(true));
        }
        if self.cause.is_some() {
            annotations.push("causedBy", Json::from_serialize("sequence"));
        }
        if let Some(binding) = action.binding() {
            annotations.push("binding", Json::from_serialize(&binding));
        }
        // What it takes is what its largest step takes.
        let limits = ActionLimits {
            memory: match self.memory_mib {
                0 => action.limits.memory,
                most => most,
            },
            ..action.limits
        };
        annotations.push("limits", Json::from_serialize(&limits));
        annotations.push("timeout", Json::from(false));
        let waited = self.started.millis_since(self.id.made_at());
        annotations.push("waitTime", Json::from(waited));
        if self.redelivered > 0 {
            annotations.push("redelivered", Json::from(u64::from(self.redelivered)));
        }
        Activation {
            namespace: self.caller.namespace.clone(),
            name: action.fqn.name.clone(),
            version: action.version,
            subject: self.caller.subject.clone(),
            id: self.id,
            start: self.started,
            end: Some(Timestamp::now().max(self.started)),
            duration: Some(self.spent_ms),
            cause: self.cause,
            response,
            logs: self.logs.into(),
            annotations,
        }
    }
}

/// What a failure of ours inside a composition ends it with.
pub(super) fn internal(text: &str) -> Response {
    Response::error(Status::InternalError, text)
}

/// Counts what is made of several and runs, so that a drain can wait for it.
#[derive(Debug, Default)]
pub(crate) struct Running {
    count: AtomicUsize,
    /// The step that each of them is at.
    steps: DashMap<ActivationId, ActivationId, BuildHasherDefault<IdHasher>>,
    ended: Notify,
}

/// One of them, until it is dropped.
pub(super) struct Counted(Arc<Running>);

impl Running {
    /// Counts one more.
    pub(super) fn enter(self: &Arc<Self>) -> Counted {
        self.count.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(self))
    }

    /// Resolves when none runs.
    pub(crate) async fn idle(&self) {
        loop {
            let ended = self.ended.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_waiters();
    }
}

impl Invoker {
    /// Tells an activation of `namespace`, and what it is made of, to stop; whether it was in flight.
    pub(super) fn stop(&self, namespace: &Namespace, id: ActivationId) -> bool {
        let parts = &self.0;
        if !parts.waits.holds(namespace, id) {
            return false;
        }
        let mut next = Some(id);
        // Deeper than it can be nested only if steps change while this looks.
        for _ in 0..=DEPTH_MAX {
            let Some(id) = next else { break };
            parts.queue.cancel(namespace, id);
            next = parts.running.steps.get(&id).map(|step| *step);
        }
        if !parts.waits.holds(namespace, id) {
            parts.queue.cancels().forget(id);
        }
        true
    }

    /// Runs any action to its end, within something larger; its record is kept.
    pub(super) fn run<'a>(
        &'a self,
        caller: &'a Caller,
        step: Step,
    ) -> Recursive<'a, Result<Arc<Activation>, Error>> {
        Box::pin(async move {
            if matches!(step.action.exec, Exec::Code(_)) && !is_composed(&step.action) {
                return self.run_code(caller, step).await;
            }
            let (runs_left, atomic_left) =
                (AtomicUsize::new(RUNS_MAX), AtomicUsize::new(STEPS_MAX));
            let nesting = Nesting {
                depth: 0,
                runs_left: &runs_left,
                atomic_left: &atomic_left,
            };
            self.run_at(caller, step, nesting).await
        })
    }

    /// As [`Invoker::run`], somewhere in a tree.
    pub(super) fn run_at<'a>(
        &'a self,
        caller: &'a Caller,
        mut step: Step,
        nesting: Nesting<'a>,
    ) -> Recursive<'a, Result<Arc<Activation>, Error>> {
        Box::pin(async move {
            if let Exec::Sequence(_) = step.action.exec {
                // Held until it has ended.
                let _admission = std::mem::replace(&mut step.admission, Box::new(()));
                Ok(sequence::run(self, caller, step, nesting).await)
            } else if let Exec::Builtin(_) = step.action.exec {
                let _admission = std::mem::replace(&mut step.admission, Box::new(()));
                Ok(builtin::run(self, caller, step).await)
            } else if is_composed(&step.action) {
                let _admission = std::mem::replace(&mut step.admission, Box::new(()));
                Ok(conductor::run(self, caller, step, nesting).await)
            } else {
                self.run_code(caller, step).await
            }
        })
    }

    /// Runs what is made of several for a caller of its own.
    pub(super) async fn invoke_composed(
        &self,
        caller: Caller,
        call: Call,
    ) -> Result<Answer, Error> {
        if let Exec::Sequence(sequence) = &call.action.exec {
            sequence::permit(self, &caller, sequence).await?;
        }
        if !self.0.store.activations.has_room() {
            return Err(store::Error::Full.into());
        }
        let (id, wait) = (call.id, call.wait);
        self.0.waits.hold(&caller.namespace, id, call.admission);
        let step = Step {
            id,
            ..Step::new(call.action, call.payload, call.transaction)
        };
        let Some(wait) = wait else {
            return self
                .promise(caller, step)
                .await
                .map(|()| Answer::Accepted(id));
        };
        let this = self.clone();
        let run = Detached::new(async move {
            let running = this.0.running.enter();
            let record = this.run(&caller, step).await;
            this.0.waits.forget(id);
            drop(running);
            record
        });
        match tokio::time::timeout(wait, run).await {
            Ok(record) => record.map(Answer::Finished),
            Err(_) => Ok(Answer::Accepted(id)),
        }
    }

    /// Accepts it durably, and runs it in a task of its own.
    async fn promise(&self, caller: Caller, step: Step) -> Result<(), Error> {
        let (this, id) = (self.clone(), step.id);
        // Counted before it is in a task: a drain that begins now must see it.
        let running = self.0.running.enter();
        let accepted = tokio::spawn(async move {
            let work = this.composed_work(&caller, &step);
            let bytes = serde_json::to_vec(&work)
                .map_err(|error| Error::Unavailable(format!("work has no JSON: {error}")))?;
            let accepted = &this.0.store.accepted;
            if let Err(error) = accepted.accept(&caller.namespace, id, bytes.into()).await {
                this.0.waits.forget(id);
                return Err(error.into());
            }
            tokio::spawn(this.clone().keep_promise(caller, step, running));
            Ok(())
        });
        accepted
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
    }

    /// Runs what was promised, and forgets it once its record is kept.
    async fn keep_promise(self, caller: Caller, step: Step, running: Counted) {
        let queue = Arc::clone(&self.0.queue);
        // Others have it in their log of accepted work when this node lost its lease.
        queue.cancels().while_held(self.keep_it(caller, step)).await;
        drop(running);
    }

    async fn keep_it(self, caller: Caller, step: Step) {
        let (id, keep) = (step.id, caller.record);
        self.0.store.accepted.begin(id);
        let _waits = Forget(&self, id);
        if let Ok(record) = self.run(&caller, step).await {
            // It was put already, unless the store had no room then; a second one with its id is ignored.
            while keep.keeps(record.response.status)
                && let Err(error) = self.0.store.activations.put(Arc::clone(&record))
            {
                tracing::warn!(activation = %id, namespace = %record.namespace, %error, "a record waits for the store");
                tokio::time::sleep(STORE_RETRY).await;
            }
        }
        self.0.store.accepted.settle(id);
    }

    /// What stands in the log of accepted work.
    fn composed_work(&self, caller: &Caller, step: &Step) -> Work {
        Work {
            version: Work::VERSION,
            id: step.id,
            namespace: caller.namespace.clone(),
            subject: caller.subject.clone(),
            action: Arc::clone(&step.action),
            params: step.payload.clone(),
            api_key: caller.api_key.as_ref().map(|key| key.to_string()),
            transaction: Arc::clone(&step.transaction),
            accepted_at: Timestamp::now(),
            cause: None,
            durable: true,
            record: caller.record,
            result_bytes_max: usize::try_from(caller.limits.result_size_max).unwrap_or(usize::MAX),
            redelivered: step.redelivered,
            exchange: None,
        }
    }

    /// Whether accepted work of a former process is put together here, and not by a worker.
    pub(crate) fn composes(work: &Work) -> bool {
        is_composed(&work.action)
    }

    /// Takes up what a former process accepted; `begun` counts the runs of it that were lost.
    ///
    /// # Errors
    /// When its namespace could not be looked up.
    pub(crate) async fn recover(&self, work: Work, begun: u32) -> store::Result<()> {
        let limits = match self.0.keys.owner(&work.namespace).await? {
            Some(owner) => Arc::clone(&owner.limits),
            None => Arc::default(),
        };
        let caller = Caller {
            namespace: work.namespace,
            subject: work.subject,
            api_key: work.api_key.map(Arc::from),
            limits,
            record: work.record,
        };
        let step = Step {
            id: work.id,
            redelivered: begun,
            ..Step::new(work.action, work.params, work.transaction)
        };
        self.0.waits.hold(&caller.namespace, step.id, Box::new(()));
        let once = step.action.annotations.is_true("at-most-once");
        if begun >= DELIVERIES_MAX || (begun > 0 && once) {
            let id = step.id;
            let (frame, _) = Frame::of(self, &caller, step);
            let text = "The server stopped while the action ran, and it is not run again.";
            drop(frame.end(internal(text)));
            self.0.store.accepted.settle(id);
            self.0.waits.forget(id);
        } else {
            let (this, running) = (self.clone(), self.0.running.enter());
            tokio::spawn(async move {
                // Whoever had let it in is gone, and its place with it.
                let taken = this.await_place_of(&caller.namespace);
                let queue = Arc::clone(&this.0.queue);
                if let Some(place) = queue.cancels().while_held(taken).await {
                    this.clone().keep_promise(caller, step, running).await;
                    drop(place);
                }
            });
        }
        Ok(())
    }
}
