//! One activation, start to finish.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::cpu::Metered;
use super::record::{self, Ended, Phase};
use super::{Permit, Worker};
use crate::model::{self, Activation, Namespace, Response, Status, Timestamp};
use crate::pool::{Claim, Facts, Lease, Start, StartFailure};
use crate::queue::message::{Outcome as Answer, Refusal, Work};
use crate::queue::{Delivery, Key, Ran};
use crate::sandbox::{CodeSource, Input, LogLine, Outcome, Serves, Source, Traffic};
use crate::store::Entities;
use crate::telemetry::metrics;

/// Deliveries of one piece of work whose runs were lost, after which it is recorded as failed.
pub(super) const DELIVERIES_MAX: u32 = 3;
/// Pause before a record, or the note that a run begins, is offered again to a store that had no room.
const STORE_RETRY: Duration = Duration::from_millis(250);

/// Where the worker finds code whose artefact is gone.
struct Code<'a> {
    namespace: &'a Namespace,
    entities: &'a dyn Entities,
    code: Option<&'a model::Code>,
}

#[async_trait]
impl CodeSource for Code<'_> {
    async fn source(&self) -> Option<Source> {
        let code = self.code?;
        Some(Source {
            namespace: Some(self.namespace.clone()),
            kind: code.kind.clone(),
            main: code.main.clone(),
            code: self.entities.code(&code.code).await.ok().flatten()?,
        })
    }
}

/// Runs the work, records it, answers, and gives everything back.
///
/// Should this future be dropped or panic half-way, the work is still answered and recorded, as our failure.
pub(super) async fn run(worker: Arc<Worker>, delivery: Delivery, permit: Permit, claim: Claim) {
    let (namespace, action) = (
        delivery.work.namespace.clone(),
        Arc::clone(&delivery.work.action),
    );
    let facts = match &claim {
        Claim::Warm(lease) => Arc::clone(lease.facts()),
        Claim::Cold(ticket) => Arc::clone(ticket.facts()),
    };
    let mut unfinished = Unfinished {
        worker: &worker,
        delivery: Some(delivery),
        facts: &facts,
    };
    if let Some(delivery) = &unfinished.delivery {
        while let Err(error) = delivery.begin(facts.at_most_once).await {
            tracing::warn!(activation = %delivery.work.id, %error, "a run waits for the store");
            tokio::time::sleep(STORE_RETRY).await;
        }
    }
    if let Some(delivery) = unfinished.delivery.take() {
        let (lease, record) = execute(&worker, &delivery.work, &permit, claim, &facts).await;
        // Back before the answer: whoever calls again at once finds it idle.
        if let Some(lease) = lease {
            lease.give_back();
        }
        let capped = permit.share.runs.load(Ordering::Acquire) >= worker.runs_max_each();
        match record {
            Some(record) => finish(&worker, delivery, Arc::new(record), permit).await,
            None => abandon(&worker, delivery),
        }
        if !worker.queue.is_empty() {
            worker.released(
                &Key {
                    namespace,
                    action: action.address().clone(),
                },
                capped,
            );
        }
    }
}

/// Lets go of work whose run ended because the node lost its lease: whoever has it now records and answers. What only this
/// node had, its caller is told to try again.
fn abandon(worker: &Worker, delivery: Delivery) {
    if !delivery.is_shared() {
        let refusal = Refusal::Overload { retry_after_s: 1 };
        worker
            .queue
            .reply(delivery.work.id, Answer::Dropped(refusal));
    }
}

/// Puts the record, answers, acks; the permit goes last, so that a drain waits for all of it.
async fn finish(worker: &Worker, delivery: Delivery, record: Arc<Activation>, permit: Permit) {
    let work = &delivery.work;
    worker.queue.cancels().forget(work.id);
    let put = if work.record.keeps(record.response.status) {
        worker.store.activations.put(Arc::clone(&record))
    } else {
        Ok(())
    };
    worker
        .queue
        .reply(work.id, Answer::Done(Arc::clone(&record)));
    if put.is_ok() || !work.durable {
        if let Err(error) = put {
            tracing::error!(activation = %work.id, namespace = %work.namespace, %error, "a record is lost");
        }
        delivery.ack();
        return;
    }
    // Promised: it stays in the log of accepted work until its record is kept. Others need the permit meanwhile.
    drop(permit);
    while let Err(error) = worker.store.activations.put(Arc::clone(&record)) {
        tracing::warn!(activation = %record.id, namespace = %record.namespace, %error, "a record waits for the store");
        tokio::time::sleep(STORE_RETRY).await;
    }
    delivery.ack();
}

/// Starts an instance if need be, runs the work in it, and makes the record of it.
async fn execute(
    worker: &Worker,
    work: &Work,
    permit: &Permit,
    claim: Claim,
    facts: &Arc<Facts>,
) -> (Option<Lease>, Option<Activation>) {
    let began = Instant::now();
    let mut ended = Ended {
        started: Timestamp::now(),
        took: Duration::ZERO,
        init: None,
        cpu: Duration::ZERO,
        peak_memory_bytes: 0,
        response: None,
        timed_out: false,
        logs: Vec::new(),
        logs_truncated: false,
        traffic: Traffic::default(),
    };
    let mut used = Duration::ZERO;
    let (lease, over) = {
        let run = start_and_run(worker, work, claim, began, &mut ended);
        let run = pin!(worker.queue.cancels().unless(work.id, run));
        let (cpu, share) = (&*worker.cpu, &*permit.share);
        Metered {
            run,
            cpu,
            share,
            used: &mut used,
            began: Some(began),
        }
        .await
    };
    let lease = match lease {
        Ran::Out(lease) => lease,
        Ran::Stopped => {
            ended.response = Some(record::cancelled());
            None
        }
        Ran::Lapsed => return (None, None),
    };
    ended.cpu = used;
    ended.took = over - began;
    let waited = Duration::from_millis(ended.started.millis_since(work.accepted_at));
    metrics::activation(waited, ended.init, ended.took);
    let record = record::record(work, facts, ended);
    facts.series.ended(record.response.status, used);
    (lease, Some(record))
}

/// What happened is written into `ended`; the lease comes back unless there is none, or the host failed in it.
async fn start_and_run(
    worker: &Worker,
    work: &Work,
    claim: Claim,
    began: Instant,
    ended: &mut Ended,
) -> Option<Lease> {
    let limits = &work.action.limits;
    let deadline = began + Duration::from_millis(limits.timeout);
    let mut lease = match claim {
        Claim::Warm(lease) => lease,
        Claim::Cold(ticket) => {
            let code = Code {
                namespace: &work.namespace,
                entities: &*worker.store.entities,
                code: work.action.exec.code(),
            };
            let start = Start {
                code: &code,
                memory_bytes_max: limits.memory_bytes(),
                deadline,
                log_bytes_max: limits.log_bytes(),
                serves: Some(Serves {
                    namespace: work.namespace.clone(),
                    action: Arc::clone(&work.action),
                    begun_by: work.id,
                }),
            };
            let started = ticket.start(start).await;
            ended.init = Some(began.elapsed());
            match started {
                Ok((lease, logs)) => {
                    ended.logs = logs;
                    lease
                }
                Err(failure) => {
                    not_started(work, failure, ended);
                    return None;
                }
            }
        }
    };
    let ran = lease.run(input(work, ended.started, deadline))?.await;
    match ran {
        Ok(run) => {
            note_death(work, &run.outcome);
            ended.response = Some(record::response(&run.outcome, Phase::Run, work));
            ended.timed_out = run.outcome == Outcome::TimedOut;
            ended.peak_memory_bytes = run.peak_memory_bytes;
            ended.logs_truncated = run.logs_truncated;
            ended.traffic = run.traffic;
            append(&mut ended.logs, run.logs);
            Some(lease)
        }
        Err(error) => {
            tracing::error!(activation = %work.id, namespace = %work.namespace, %error, "the sandbox failed");
            None
        }
    }
}

fn append(logs: &mut Vec<LogLine>, more: Vec<LogLine>) {
    if logs.is_empty() {
        *logs = more;
    } else {
        logs.extend(more);
    }
}

fn note_death(work: &Work, outcome: &Outcome) {
    if let Outcome::Died(cause) = outcome {
        tracing::debug!(activation = %work.id, namespace = %work.namespace, cause, "the guest died");
    }
}

/// What a run is told.
fn input(work: &Work, started: Timestamp, deadline: Instant) -> Input {
    let ends = started.millis().saturating_add(work.action.limits.timeout);
    let mut env = Vec::with_capacity(4);
    env.push((Cow::Borrowed("__OW_ACTIVATION_ID"), work.id.to_string()));
    env.push((
        Cow::Borrowed("__OW_TRANSACTION_ID"),
        work.transaction.to_string(),
    ));
    env.push((Cow::Borrowed("__OW_DEADLINE"), ends.to_string()));
    if let Some(key) = &work.api_key {
        env.push((Cow::Borrowed("__OW_API_KEY"), key.clone()));
    }
    Input {
        id: work.id,
        params: Bytes::copy_from_slice(work.params.get().as_bytes()),
        env,
        deadline,
        log_bytes_max: work.action.limits.log_bytes(),
        result_bytes_max: work.result_bytes_max,
        exchange: work.exchange.clone(),
    }
}

/// An instance could not be had: whose fault it is decides the response.
fn not_started(work: &Work, failure: StartFailure, ended: &mut Ended) {
    let response = match failure {
        StartFailure::Guest(run) => {
            ended.timed_out = run.outcome == Outcome::TimedOut;
            ended.peak_memory_bytes = run.peak_memory_bytes;
            ended.logs_truncated = run.logs_truncated;
            ended.logs = run.logs;
            note_death(work, &run.outcome);
            record::response(&run.outcome, Phase::Init, work)
        }
        StartFailure::Code(cause) => Response::error(
            Status::DeveloperError,
            &format!("The action failed during initialization: {cause}"),
        ),
        StartFailure::NoRoom => record::no_room(),
        StartFailure::Host(error) => {
            tracing::error!(activation = %work.id, namespace = %work.namespace, error, "no instance could be started");
            record::no_room()
        }
    };
    ended.response = Some(response);
}

/// Answers for a run that was dropped half-way (a panic, or the runtime going away).
struct Unfinished<'a> {
    worker: &'a Arc<Worker>,
    delivery: Option<Delivery>,
    facts: &'a Facts,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            let response = record::no_room();
            let record = record::unrun(&delivery.work, self.facts, response);
            fail(self.worker, delivery, record);
        }
    }
}

/// Records and answers without waiting for anything.
fn fail(worker: &Worker, delivery: Delivery, record: Arc<Activation>) {
    worker.queue.cancels().forget(record.id);
    if delivery.work.record.keeps(record.response.status)
        && let Err(error) = worker.store.activations.put(Arc::clone(&record))
    {
        tracing::error!(activation = %record.id, namespace = %record.namespace, %error, "a record is lost");
    }
    worker.queue.reply(record.id, Answer::Done(record));
    delivery.ack();
}

/// Records and answers work that will not be run.
pub(super) fn give_up(worker: &Worker, delivery: Delivery, text: &str) {
    let facts = worker
        .pool
        .facts(&delivery.work.namespace, &delivery.work.action);
    let response = Response::error(Status::ApplicationError, text);
    let record = record::unrun(&delivery.work, &facts, response);
    fail(worker, delivery, record);
}

/// Why work of which `begun` runs were lost is not run again, if it is not.
fn gives_up(begun: u32, facts: &Facts) -> Option<&'static str> {
    if begun >= DELIVERIES_MAX {
        Some(
            "The action was started several times and each time the server stopped before it ended.",
        )
    } else if begun > 0 && facts.at_most_once {
        Some("The server stopped while the action ran; it is annotated to run at most once.")
    } else {
        None
    }
}

/// Takes up work that another node had: queues it, or records why it will not run.
pub(super) fn salvage(worker: &Arc<Worker>, delivery: Delivery, begun: u32) {
    let delivery = delivery.again(begun);
    let work = &delivery.work;
    let facts = worker.pool.facts(&work.namespace, &work.action);
    match gives_up(begun, &facts) {
        None => {
            worker.queue.put_back(delivery);
            worker.pump();
        }
        Some(text) => {
            let response = Response::error(Status::InternalError, text);
            let record = record::unrun(work, &facts, response);
            fail(worker, delivery, record);
        }
    }
}

/// Takes up work that a former process accepted: queues it again, or records why it will not run.
pub(super) fn recover(worker: &Arc<Worker>, pending: Vec<(Work, u32)>) -> usize {
    let mut queued = 0;
    for (mut work, begun) in pending {
        work.redelivered = begun;
        let facts = worker.pool.facts(&work.namespace, &work.action);
        let text = gives_up(begun, &facts);
        match text {
            None => {
                queued += 1;
                worker.queue.restore(work);
            }
            Some(text) => {
                let response = Response::error(Status::InternalError, text);
                let record = record::unrun(&work, &facts, response);
                fail(worker, worker.queue.delivery(work), record);
            }
        }
    }
    queued
}
