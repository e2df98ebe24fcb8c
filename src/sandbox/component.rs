//! Components: handlers (`wisp:action/handler`), called again and again, and commands (`wasi:cli/run`), one run each.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker, Type, TypedFunc};
use wasmtime::{Engine, ResourcesRequired, Store, StoreContextMut};

use super::abi::is_versioned;
use super::host::Host;
use super::instance::{TICKS_FIRST, start_failed, start_failure, store};
use super::p2::P2;
use super::program::{Code, Linked};
use super::run::{End, blame, command_outcome, finish, is_sound, no_stack, read, until};
use super::stacks::Keep;
use super::{
    Abi, Grant, HostError, Input, Instance, InstanceLimits, Outcome, Run, StartError, Started,
    http, keyvalue, p2,
};
use crate::model::keyvalue::Pairs;

/// A handler's answer: `ok` or `err`, both JSON.
type Handle = TypedFunc<(String,), (Result<String, String>,)>;
/// A command's end.
type Command = TypedFunc<(), (Result<(), ()>,)>;

/// A linked component and where its function is.
pub(super) struct ComponentCode {
    pre: InstancePre<Host>,
    run: ComponentExportIndex,
    abi: Abi,
}

impl ComponentCode {
    /// Links a component and finds its function.
    ///
    /// # Errors
    /// When an import is missing or of another type, or the function is: the uploader's fault.
    pub(super) fn new(
        linker: &Linker<Host>,
        component: &Component,
        abi: Abi,
    ) -> wasmtime::Result<Self> {
        let pre = linker.instantiate_pre(component)?;
        let engine = component.engine();
        let interface = component
            .component_type()
            .exports(engine)
            .map(|(name, _)| name.to_owned())
            .find(|name| match abi {
                Abi::Handler => is_versioned(name, "wisp:action/handler"),
                _ => name.starts_with("wasi:cli/run@0.2"),
            })
            .ok_or_else(|| wasmtime::format_err!("the component exports no action"))?;
        let instance = component.get_export_index(None, &interface);
        let found = instance.and_then(|instance| component.get_export(Some(&instance), "run"));
        let Some((ComponentItem::ComponentFunc(ty), run)) = found else {
            wasmtime::bail!("`{interface}` has no function `run`");
        };
        if abi == Abi::Handler && !is_handler(&ty) {
            wasmtime::bail!(
                "`{interface}`'s `run` must be `func(params: string) -> result<string, string>`"
            );
        }
        Ok(Self { pre, run, abi })
    }

    /// What its instances need at their start; unknown when it imports modules.
    pub(super) fn resources_required(&self) -> Option<ResourcesRequired> {
        self.pre.component().resources_required()
    }
}

fn is_handler(ty: &ComponentFunc) -> bool {
    let mut params = ty.params().map(|(_, ty)| ty);
    let mut results = ty.results();
    let string = |ty: Option<Type>| matches!(ty, Some(Type::String));
    let answers = match results.next() {
        Some(Type::Result(result)) => string(result.ok()) && string(result.err()),
        _ => false,
    };
    !ty.async_()
        && answers
        && results.next().is_none()
        && string(params.next())
        && params.next().is_none()
}

/// Everything a component may import.
///
/// # Errors
/// When two functions have one name: ours.
pub(super) fn linker(
    engine: &Engine,
    pairs: Option<&Arc<dyn Pairs>>,
) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    p2::add_to_linker(&mut linker)?;
    http::add_to_linker(&mut linker)?;
    keyvalue::add_to_linker(&mut linker, pairs)?;
    for name in ["wisp:action/context", "wisp:action/context@1.0.0"] {
        linker.instance(name)?.func_wrap(
            "get",
            |store: StoreContextMut<'_, Host>, (name,): (String,)| {
                Ok((store.data().variable(&name).map(str::to_owned),))
            },
        )?;
    }
    Ok(linker)
}

/// Starts an instance. A command's run has its own arguments; until then it has none.
pub(super) async fn start(
    program: Arc<Linked>,
    limits: InstanceLimits,
    grant: Arc<dyn Grant>,
) -> Result<Started, StartError> {
    let mut store = store(&program, &limits, grant);
    if program.shape.imports_wasi {
        let p2 = P2::new(store.data_mut(), &Bytes::new(), &program, limits.serves);
        store.data_mut().p2 = Some(Box::new(p2));
    }
    let outcome = match until(limits.deadline, bring_up(&mut store, &program)).await {
        Some(Ok(call)) => {
            let logs = store.data_mut().end().lines;
            let mut stack = Keep::new(&program.stacks);
            if matches!(call, Call::Handle(_)) {
                stack.settle(&mut store).await;
            }
            let instance = ComponentInstance {
                store,
                call,
                stack,
                sound: true,
                program,
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

/// What a run calls.
enum Call {
    Handle(Handle),
    Command(Command),
}

async fn bring_up(store: &mut Store<Host>, program: &Linked) -> wasmtime::Result<Call> {
    let Code::Component(code) = &program.code else {
        wasmtime::bail!("not a component");
    };
    let instance = code.pre.instantiate_async(&mut *store).await?;
    Ok(match code.abi {
        Abi::Handler => Call::Handle(instance.get_typed_func(&mut *store, code.run)?),
        _ => Call::Command(instance.get_typed_func(&mut *store, code.run)?),
    })
}

struct ComponentInstance {
    store: Store<Host>,
    call: Call,
    stack: Keep,
    sound: bool,
    program: Arc<Linked>,
}

/// How a call into a component ended.
enum Ended {
    Handled(Result<String, String>),
    Commanded(Result<(), ()>),
}

impl ComponentInstance {
    async fn call(&mut self, input: &Input) -> wasmtime::Result<Ended> {
        match &self.call {
            Call::Handle(handle) => {
                let Ok(params) = str::from_utf8(&input.params) else {
                    wasmtime::bail!("the parameters are no UTF-8");
                };
                let params = (params.to_owned(),);
                let (answer,) = handle.call_async(&mut self.store, params).await?;
                Ok(Ended::Handled(answer))
            }
            Call::Command(command) => {
                let (status,) = command.call_async(&mut self.store, ()).await?;
                Ok(Ended::Commanded(status))
            }
        }
    }

    fn is_command(&self) -> bool {
        matches!(self.call, Call::Command(_))
    }
}

#[async_trait]
impl Instance for ComponentInstance {
    async fn run(&mut self, mut input: Input) -> Result<Run, HostError> {
        let is_command = self.is_command();
        self.sound = false;
        self.store.data_mut().begin(&mut input, is_command);
        if is_command && self.program.shape.imports_wasi {
            // Its stdin is that of this run.
            let serves = self.store.data().serves().cloned();
            let p2 = P2::new(self.store.data_mut(), &input.params, &self.program, serves);
            self.store.data_mut().p2 = Some(Box::new(p2));
        }
        self.store.set_epoch_deadline(TICKS_FIRST);
        self.stack.begin();
        let deadline = input.deadline;
        let ended = until(deadline, self.call(&input)).await;
        let host = self.store.data_mut();
        let captured = host.end();
        let most = input.result_bytes_max;
        let command = |status| command_outcome(status, &captured, most);
        let outcome = match ended {
            None => Outcome::TimedOut,
            Some(Ok(Ended::Handled(answer))) => handled(answer, most),
            Some(Ok(Ended::Commanded(status))) => command(i32::from(status.is_err())),
            Some(Err(error)) => match read(&error) {
                End::Exit(status) if is_command => command(status),
                End::Exit(status) => {
                    Outcome::Died(format!("The action exited with status {status}."))
                }
                End::Died(text) => Outcome::Died(text),
                End::NoSlot(text) => return Err(no_stack(&text)),
            },
        };
        let outcome = blame(outcome, host);
        let peak = host.meter.peak();
        self.sound = !is_command && is_sound(&outcome);
        if self.sound {
            self.stack.settle(&mut self.store).await;
        }
        Ok(finish(outcome, captured, peak))
    }

    fn rest(&mut self) -> bool {
        self.stack.rest(&mut self.store)
    }

    fn reusable(&self) -> bool {
        self.sound && !self.is_command()
    }

    fn memory_bytes(&self) -> usize {
        self.store.data().meter.held()
    }
}

/// A handler's answer as an outcome. The bytes are moved, not copied.
fn handled(answer: Result<String, String>, result_bytes_max: usize) -> Outcome {
    let (is_ok, text) = match answer {
        Ok(text) => (true, text),
        Err(text) => (false, text),
    };
    let bytes = Bytes::from(text);
    if bytes.len() > result_bytes_max {
        return Outcome::TooLarge {
            size: bytes.len(),
            prefix: bytes.slice(..result_bytes_max),
        };
    }
    if is_ok {
        Outcome::Answered(bytes)
    } else {
        Outcome::Failed {
            answer: bytes,
            exit: false,
        }
    }
}
