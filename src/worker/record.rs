//! From what a guest did to the record of it: status, texts and annotations, exactly as the wire has them.

use std::sync::Arc;
use std::time::Duration;

use super::logs;
use crate::model::json::Fields;
use crate::model::{Activation, Annotations, Json, Response, Status, Timestamp};
use crate::pool::Facts;
use crate::queue::message::{CANCELLED, Work};
use crate::sandbox::{LogLine, Outcome, Traffic};

/// Everything that is known when a run has ended.
pub(super) struct Ended {
    pub(super) started: Timestamp,
    pub(super) took: Duration,
    /// What the start took, when this run paid for one.
    pub(super) init: Option<Duration>,
    pub(super) cpu: Duration,
    pub(super) peak_memory_bytes: usize,
    /// `None` when it never came to one, which is our fault.
    pub(super) response: Option<Response>,
    /// Whether it ended by its deadline.
    pub(super) timed_out: bool,
    pub(super) logs: Vec<LogLine>,
    pub(super) logs_truncated: bool,
    pub(super) traffic: Traffic,
}

/// Where in its life a guest failed; some texts differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Init,
    Run,
}

const EXITED: &str = "The action did not produce a valid response and exited unexpectedly.";
const EXITED_INIT: &str = "The action did not initialize and exited unexpectedly.";
const MEMORY: &str = "The action exhausted its memory and was aborted.";
const NO_ROOM: &str = "Failed to provision resources to run the action.";

/// The response of a run that there was no instance for, through our fault.
pub(super) fn no_room() -> Response {
    Response::error(Status::InternalError, NO_ROOM)
}

/// The response of a run that was told to stop.
pub(super) fn cancelled() -> Response {
    Response::error(Status::ApplicationError, CANCELLED)
}

/// The response of a guest that did `outcome`.
pub(super) fn response(outcome: &Outcome, phase: Phase, work: &Work) -> Response {
    let developer = |text: &str| Response::error(Status::DeveloperError, text);
    match outcome {
        Outcome::Answered(bytes) => answered(bytes),
        Outcome::Failed { answer, exit } => failed(answer, *exit),
        Outcome::TooLarge { size, prefix } => {
            let text = format!(
                "The action produced a response that exceeded the allowed length: {size} > {} bytes. The truncated response was: {}",
                work.result_bytes_max,
                String::from_utf8_lossy(prefix)
            );
            Response::error(Status::ApplicationError, &text)
        }
        Outcome::Died(_) if phase == Phase::Init => developer(EXITED_INIT),
        Outcome::Died(_) => developer(EXITED),
        Outcome::TimedOut => {
            let during = if phase == Phase::Init {
                " during initialization"
            } else {
                ""
            };
            let limit = work.action.limits.timeout;
            developer(&format!(
                "The action exceeded its time limits of {limit} milliseconds{during}."
            ))
        }
        Outcome::OutOfMemory => developer(MEMORY),
        Outcome::NoRoom => no_room(),
    }
}

/// An answer of 200: an object or an array is a success, unless it says `error`.
fn answered(bytes: &[u8]) -> Response {
    let text = String::from_utf8_lossy(bytes);
    let size = Some(u64::try_from(text.chars().count()).unwrap_or(u64::MAX));
    match Json::parse(bytes) {
        Ok(json) if json.is_array() => Response {
            status: Status::Success,
            size,
            result: json,
        },
        Ok(json) if json.is_object() => match error_of(&json) {
            Some(error) => Response {
                status: Status::ApplicationError,
                size,
                result: error,
            },
            None => Response {
                status: Status::Success,
                size,
                result: json,
            },
        },
        _ => Response {
            size,
            ..invalid(&text)
        },
    }
}

/// `err` of a handler is an application error; a command that exits with another status than 0 failed as a developer's
/// program does.
fn failed(answer: &[u8], exit: bool) -> Response {
    let status = if exit {
        Status::DeveloperError
    } else {
        Status::ApplicationError
    };
    let text = String::from_utf8_lossy(answer);
    let size = Some(u64::try_from(text.chars().count()).unwrap_or(u64::MAX));
    match Json::parse(answer) {
        Ok(json) => match error_of(&json) {
            Some(error) => Response {
                status,
                size,
                result: error,
            },
            None if exit => Response::error(status, EXITED),
            None => {
                let result = Json::from_serialize(&serde_json::json!({ "error": json }));
                Response {
                    status,
                    size,
                    result,
                }
            }
        },
        Err(_) if exit => Response::error(status, EXITED),
        Err(_) => Response {
            size,
            ..invalid(&text)
        },
    }
}

fn invalid(text: &str) -> Response {
    let text = format!("The action did not produce a valid JSON or JSON Array response: {text}");
    Response::error(Status::DeveloperError, &text)
}

/// `{"error": …}` alone, when the object says `error`; what stands beside it is dropped.
fn error_of(json: &Json) -> Option<Json> {
    let error = Fields::of(json)?.last("error")?.to_owned();
    Some(Json::from_serialize(&serde_json::json!({ "error": error })))
}

/// The record of `work`.
pub(super) fn record(work: &Work, facts: &Facts, ended: Ended) -> Activation {
    let number = |value: u128| Json::from(u64::try_from(value).unwrap_or(u64::MAX));
    let mut annotations = Annotations::sharing(Arc::clone(&facts.annotations), 8);
    annotations.push(
        "waitTime",
        number(ended.started.millis_since(work.accepted_at).into()),
    );
    annotations.push("timeout", Json::from(ended.timed_out));
    if let Some(init) = ended.init {
        annotations.push("initTime", number(init.as_millis()));
    }
    if work.cause.is_some() {
        annotations.push("causedBy", Json::from_serialize("sequence"));
    }
    annotations.push("cpuTime", number(ended.cpu.as_micros()));
    let peak = u64::try_from(ended.peak_memory_bytes).unwrap_or(u64::MAX);
    annotations.push("peakMemory", number(peak.into()));
    let Traffic { received, sent } = ended.traffic;
    if received > 0 || sent > 0 {
        annotations.push("bytesIn", number(received.into()));
        annotations.push("bytesOut", number(sent.into()));
    }
    if work.redelivered > 0 {
        annotations.push("redelivered", number(work.redelivered.into()));
    }
    let took = u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX);
    let response = ended.response.unwrap_or_else(no_room);
    let failed = response.status == Status::DeveloperError;
    let logs = logs::lines(
        &ended.logs,
        ended.logs_truncated,
        failed,
        &work.action.limits,
    );
    Activation {
        namespace: work.namespace.clone(),
        name: work.action.fqn.name.clone(),
        version: work.action.version,
        subject: work.subject.clone(),
        id: work.id,
        start: ended.started,
        end: Some(Timestamp(ended.started.millis().saturating_add(took))),
        duration: Some(took),
        cause: work.cause,
        response,
        logs,
        annotations,
    }
}

/// The record of work that never ran, because of `response`.
pub(super) fn unrun(work: &Work, facts: &Facts, response: Response) -> Arc<Activation> {
    let ended = Ended {
        started: Timestamp::now(),
        took: Duration::ZERO,
        init: None,
        cpu: Duration::ZERO,
        peak_memory_bytes: 0,
        response: Some(response),
        timed_out: false,
        logs: Vec::new(),
        logs_truncated: false,
        traffic: Traffic::default(),
    };
    Arc::new(record(work, facts, ended))
}
