//! Commands of preview 1: an instance is one run of `_start`, in a store of its own that is gone when it ends.
//!
//! The instance is made beforehand, so that a missing slot shows before work is spent on it; arguments, environment and
//! stdin are looked up by the guest while it runs, and so are those of the run.

use std::sync::Arc;

use async_trait::async_trait;
use wasmtime::{Store, TypedFunc};

use super::host::Host;
use super::instance::{TICKS_FIRST, start_failed, start_failure, store};
use super::program::{Code, Linked};
use super::run::{End, blame, command_outcome, finish, no_stack, read, until};
use super::{Grant, HostError, Input, Instance, InstanceLimits, Outcome, Run, StartError, Started};

/// Makes an instance; nothing of the guest runs but a start function, which commands rarely have.
pub(super) async fn start(
    program: Arc<Linked>,
    limits: InstanceLimits,
    grant: Arc<dyn Grant>,
) -> Result<Started, StartError> {
    let mut store = store(&program, &limits, grant);
    let outcome = match until(limits.deadline, bring_up(&mut store, &program)).await {
        Some(Ok(start)) => {
            let logs = store.data_mut().end().lines;
            let instance = Command {
                live: Some((store, start)),
                _program: program,
            };
            return Ok(Started {
                instance: Box::new(instance),
                logs,
            });
        }
        None => Outcome::TimedOut,
        Some(Err(error)) => start_failure(&error, &store, program.slots)?,
    };
    Err(start_failed(outcome, &mut store))
}

async fn bring_up(
    store: &mut Store<Host>,
    program: &Linked,
) -> wasmtime::Result<TypedFunc<(), ()>> {
    let Code::Command { pre } = &program.code else {
        wasmtime::bail!("not a command");
    };
    let instance = pre.instantiate_async(&mut *store).await?;
    store.data_mut().memory = instance.get_memory(&mut *store, "memory");
    instance.get_typed_func::<(), ()>(&mut *store, "_start")
}

struct Command {
    /// Taken by the one run there is.
    live: Option<(Store<Host>, TypedFunc<(), ()>)>,
    /// Kept alive and counted as in use.
    _program: Arc<Linked>,
}

#[async_trait]
impl Instance for Command {
    async fn run(&mut self, mut input: Input) -> Result<Run, HostError> {
        let (mut store, start) = self
            .live
            .take()
            .ok_or_else(|| HostError("a command serves one activation".into()))?;
        store.data_mut().begin(&mut input, true);
        store.set_epoch_deadline(TICKS_FIRST);
        let ended = until(input.deadline, start.call_async(&mut store, ())).await;
        let host = store.data_mut();
        let captured = host.end();
        let outcome = match ended {
            None => Outcome::TimedOut,
            Some(Ok(())) => command_outcome(0, &captured, input.result_bytes_max),
            Some(Err(error)) => match read(&error) {
                End::Exit(status) => command_outcome(status, &captured, input.result_bytes_max),
                End::Died(text) => Outcome::Died(text),
                End::NoSlot(text) => return Err(no_stack(&text)),
            },
        };
        let outcome = blame(outcome, host);
        Ok(finish(outcome, captured, host.meter.peak()))
    }

    fn reusable(&self) -> bool {
        false
    }

    fn memory_bytes(&self) -> usize {
        self.live
            .as_ref()
            .map_or(0, |(store, _)| store.data().meter.held())
    }
}
