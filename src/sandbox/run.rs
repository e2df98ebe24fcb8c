//! How a run ends: deadlines while it goes on, and what wasmtime's errors mean.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};

use super::host::{Host, Stop};
use super::limits::Denied;
use super::output::Captured;
use super::{HostError, LogLine, Outcome, Run, Stream};
use crate::model::time::nanos_now;

/// Frames of a guest's stack that are worth showing: as many as wasmtime keeps.
const FRAMES_MAX: usize = 20;
/// Characters of a function's name.
const NAME_CHARS_MAX: usize = 200;
/// Lines of the log that a death adds: its reason and the frames.
const DEATH_LINES_MAX: usize = 1 + FRAMES_MAX;

/// Polls `future` until it is done or `deadline` has passed; `None` then, and the future is dropped.
///
/// The timer is armed when the future first waits: most runs answer in their first poll, and a timer costs more than
/// such a run. The clock is read at every poll too, because a runtime that is busy with guests looks at its timers late.
pub(super) async fn until<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(cx) {
            return std::task::Poll::Ready(Some(output));
        }
        if Instant::now() >= deadline {
            return std::task::Poll::Ready(None);
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// What an error of wasmtime means.
pub(super) enum End {
    /// The guest's doing; the words are for the log.
    Died(String),
    /// The guest ended itself.
    Exit(i32),
    /// A pool is exhausted: how many there are, and of what.
    NoSlot(String),
}

/// Reads an error that ended a call into a guest.
pub(super) fn read(error: &wasmtime::Error) -> End {
    if let Some(Stop::Exit(status)) = error.downcast_ref::<Stop>() {
        return End::Exit(*status);
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return End::Exit(exit.0);
    }
    if let Some(limit) = error.downcast_ref::<PoolConcurrencyLimitError>() {
        return End::NoSlot(limit.to_string());
    }
    let mut text = match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => "The action exhausted its call stack.".to_owned(),
        Some(trap) => format!("The action trapped: {}.", plain(*trap)),
        None => format!("The action failed: {}.", error.root_cause()),
    };
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        for frame in backtrace.frames().iter().take(FRAMES_MAX) {
            text.push_str("\n  at ");
            match frame.func_name() {
                // A name is the guest's own and may be anything.
                Some(name) => text.extend(name.chars().take(NAME_CHARS_MAX).map(one_line)),
                None => text.push_str(&format_index(frame.func_index())),
            }
        }
    }
    End::Died(text)
}

fn one_line(character: char) -> char {
    match character.is_control() {
        true => ' ',
        false => character,
    }
}

fn format_index(index: u32) -> String {
    format!("function {index}")
}

/// The trap's own words, without "wasm trap:" before them.
fn plain(trap: Trap) -> String {
    let text = trap.to_string();
    text.strip_prefix("wasm trap: ")
        .map(str::to_owned)
        .unwrap_or(text)
}

/// A death that came after memory was refused is told as what it was.
pub(super) fn blame(outcome: Outcome, host: &Host) -> Outcome {
    let is_death = match &outcome {
        Outcome::Died(_) => true,
        // A language that runs out of memory may print so and exit; an error object says something better.
        Outcome::Failed { answer, exit } => *exit && !answer.starts_with(b"{"),
        _ => false,
    };
    match host.meter.denied() {
        Some(Denied::Limit) if is_death => Outcome::OutOfMemory,
        Some(Denied::Room) if is_death => Outcome::NoRoom,
        _ => outcome,
    }
}

/// Puts a run together. Why a guest died is told in its log: the client learns only that it did.
pub(super) fn finish(outcome: Outcome, captured: Captured, peak_memory_bytes: usize) -> Run {
    let mut logs = captured.lines;
    // The last line of a command that did not live to answer is log like the others.
    let answered = matches!(
        outcome,
        Outcome::Answered(_) | Outcome::Failed { .. } | Outcome::TooLarge { .. }
    );
    let mut logs_truncated = captured.truncated;
    if let (Some(last), false) = (&captured.last, answered) {
        if last.size == last.text.len() {
            logs.push(LogLine {
                at: nanos_now(),
                stream: Stream::Stdout,
                text: String::from_utf8_lossy(&last.text).into_owned(),
            });
        } else {
            logs_truncated = true;
        }
    }
    if let Outcome::Died(text) = &outcome {
        let at = nanos_now();
        let lines = text.lines().take(DEATH_LINES_MAX);
        logs.extend(lines.map(|text| LogLine {
            at,
            stream: Stream::Stderr,
            text: text.to_owned(),
        }));
    }
    Run {
        outcome,
        logs,
        logs_truncated,
        peak_memory_bytes,
        traffic: captured.traffic,
    }
}

/// How a command ended, from its status and the last line it printed.
pub(super) fn command_outcome(
    status: i32,
    captured: &Captured,
    result_bytes_max: usize,
) -> Outcome {
    let text = captured.last.as_ref().map(|last| last.text.clone());
    let size = captured.last.as_ref().map_or(0, |last| last.size);
    if status != 0 {
        let answer = if size > result_bytes_max {
            Bytes::new()
        } else {
            text.unwrap_or_default()
        };
        return Outcome::Failed { answer, exit: true };
    }
    match text {
        None => Outcome::Died("The action ended without printing a result.".into()),
        Some(text) if size > result_bytes_max => Outcome::TooLarge {
            size,
            prefix: text.slice(..result_bytes_max.min(text.len())),
        },
        Some(text) => Outcome::Answered(text),
    }
}

/// An answer in bytes that must not be larger than allowed.
pub(super) fn answer(bytes: &[u8], result_bytes_max: usize) -> Outcome {
    if bytes.len() > result_bytes_max {
        return Outcome::TooLarge {
            size: bytes.len(),
            prefix: Bytes::copy_from_slice(&bytes[..result_bytes_max]),
        };
    }
    Outcome::Answered(Bytes::copy_from_slice(bytes))
}

/// Whether the next activation may have the instance after this outcome.
pub(super) fn is_sound(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Answered(_) | Outcome::Failed { exit: false, .. }
    )
}

/// No stack left: more runs at one time than the sandbox is set up for.
pub(super) fn no_stack(text: &str) -> HostError {
    HostError(format!("no stack for another run: {text}; raise `stacks`"))
}
