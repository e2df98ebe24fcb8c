//! Instances of the core ABI: started once, called often.
//!
//! A warm call is two calls into the guest (`wisp_alloc`, `wisp_run`), each on a stack borrowed from the pool, and two
//! copies. Nothing the guest answers is believed: pointers and lengths are checked against its memory, which may
//! overlap, lie or have grown in between.
//!
//! Measured in the development build, on two busy cores: a warm call of a tiny module 3.5-3.9 µs, a start with its end
//! 7 µs; a Rust guest of 89 KiB from its artefact on disk (verified, mapped, linked) in 0.16 ms. 100,000 idle instances of 1,000 modules hold 10.0 KiB each and add no mapping.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use wasmtime::{AsContextMut, Func, Memory, ModuleExport, Store, TypedFunc};

use super::host::{self, Host};
use super::limits::Meter;
use super::program::{Code, Linked};
use super::run::{End, answer, blame, finish, is_sound, no_stack, read, until};
use super::stacks::Keep;
use super::{Grant, HostError, Input, Instance, InstanceLimits, Outcome, Run, StartError, Started};
use crate::ahead::Ahead;

/// Ticks until a run yields for the first time: at least one whole tick, so that short runs never do.
pub(super) const TICKS_FIRST: u64 = 2;
/// Bytes of wasmtime's own part of a store, which lies before ours, of its part of an instance, and of a module; about, and
/// only what a call reads: asking for all of a store and of an instance made calls of 1,000 actions slower by a hundredth.
const STORE_BYTES: usize = 512;
const INSTANCE_BYTES: usize = 256;
const MODULE_BYTES: usize = 320;
/// Bytes of code worth asking for: all of a tiny module, the beginning of others.
const CODE_BYTES: usize = 512;

/// Where the functions of the core ABI are in the module: found once, so that a start hashes no names.
pub(super) struct CoreExports {
    pub(super) memory: ModuleExport,
    pub(super) alloc: ModuleExport,
    pub(super) run: ModuleExport,
    pub(super) initialize: Option<ModuleExport>,
}

/// A store for an instance of `program`, with its limits and its yielding in place.
pub(super) fn store(
    program: &Linked,
    limits: &InstanceLimits,
    grant: Arc<dyn Grant>,
) -> Store<Host> {
    use super::Program as _;
    let mut meter = Meter::new(
        limits.memory_bytes_max,
        program.host_share(),
        program.memory_bytes_min(),
        grant,
    );
    if let Code::Language(code) = &program.code {
        meter.share(code.shared_bytes());
    }
    let mut host = Host::new(meter, Arc::clone(&limits.env), limits.log_bytes_max);
    if let Some(serves) = &limits.serves {
        host.namespace = Some(serves.namespace.clone());
        if let Some(listener) = &program.listener {
            host.heard_by(listener, serves);
        }
    }
    let mut store = Store::new(&program.engine, host);
    store.limiter_async(|host| &mut host.meter);
    store.epoch_deadline_async_yield_and_update(1);
    store.set_epoch_deadline(TICKS_FIRST);
    store
}

/// Starts an instance: data, start function, `_initialize`.
pub(super) async fn start(
    program: Arc<Linked>,
    limits: InstanceLimits,
    grant: Arc<dyn Grant>,
) -> Result<Started, StartError> {
    let mut store = store(&program, &limits, grant);
    let started = until(limits.deadline, bring_up_loaded(&mut store, &program)).await;
    let outcome = match started {
        Some(Ok(Ok(calls))) => {
            let logs = store.data_mut().end().lines;
            let mut stack = Keep::new(&program.stacks);
            stack.settle(&mut store).await;
            let instance = CoreInstance {
                ahead: ahead(&program, &calls, stack.used(), &mut store),
                store,
                calls,
                stack,
                sound: true,
                runs: 0,
                program,
            };
            return Ok(Started {
                instance: Box::new(instance),
                logs,
            });
        }
        Some(Ok(Err(outcome))) => blame(outcome, store.data()),
        None => Outcome::TimedOut,
        Some(Err(error)) => start_failure(&error, &store, program.slots)?,
    };
    Err(start_failed(outcome, &mut store))
}

/// What an error during a start means: an outcome, or no slot.
pub(super) fn start_failure(
    error: &wasmtime::Error,
    store: &Store<Host>,
    slots: usize,
) -> Result<Outcome, StartError> {
    let host = store.data();
    match read(error) {
        End::NoSlot(text) if text.contains("fibers") => Err(StartError::Host(no_stack(&text).0)),
        End::NoSlot(_) => Err(StartError::NoSlot(slots)),
        End::Died(text) => Ok(blame(Outcome::Died(text), host)),
        End::Exit(status) => Ok(blame(
            Outcome::Died(format!(
                "The action exited with status {status} during its start."
            )),
            host,
        )),
    }
}

/// A failed start with what it wrote.
pub(super) fn start_failed(outcome: Outcome, store: &mut Store<Host>) -> StartError {
    let host = store.data_mut();
    let captured = host.end();
    StartError::Guest(Box::new(finish(outcome, captured, host.meter.peak())))
}

/// What is called of an instance.
pub(super) struct Calls {
    instance: wasmtime::Instance,
    pub(super) memory: Memory,
    alloc: TypedFunc<u32, u32>,
    run: Exchange,
    /// Whether the instance tells others which pages they will write to.
    is_telling: bool,
}

/// A function that is given bytes and answers bytes.
pub(super) type Exchange = TypedFunc<(u32, u32), u64>;

/// What came of a call of an [`Exchange`].
pub(super) enum Exchanged {
    /// Where the answer is, inside memory.
    Answer(Range<usize>),
    /// The guest broke the ABI; the words are for the log.
    Broken(String),
}

/// An instance with the code it is to run; an outcome when it could not be given that.
async fn bring_up_loaded(
    store: &mut Store<Host>,
    program: &Linked,
) -> wasmtime::Result<Result<Calls, Outcome>> {
    let calls = bring_up(store, program).await?;
    if let Code::Language(code) = &program.code
        && let Some(outcome) = code.load(store, &calls).await?
    {
        return Ok(Err(outcome));
    }
    Ok(Ok(calls))
}

/// An instance, without code where that is loaded into it.
pub(super) async fn bring_up(store: &mut Store<Host>, program: &Linked) -> wasmtime::Result<Calls> {
    let (pre, exports) = match &program.code {
        Code::Core { pre, exports, .. } => (pre, exports),
        Code::Language(code) => (&code.engine.pre, &code.engine.exports),
        Code::Command { .. } | Code::Component(_) | Code::Http(_) => {
            wasmtime::bail!("not a program of the core ABI")
        }
    };
    let instance = pre.instantiate_async(&mut *store).await?;
    let memory = instance.get_module_export(&mut *store, &exports.memory);
    let memory = memory
        .and_then(wasmtime::Extern::into_memory)
        .ok_or_else(|| wasmtime::format_err!("`memory` is no memory"))?;
    store.data_mut().memory = Some(memory);
    let prefault = program.prefault();
    let is_telling =
        prefault.is_some_and(|(prefault, pagemap)| prefault.apply(memory, store, pagemap));
    let alloc = function(&instance, store, &exports.alloc)?.typed(&*store)?;
    let run = function(&instance, store, &exports.run)?.typed(&*store)?;
    if let Some(initialize) = &exports.initialize {
        let initialize = function(&instance, store, initialize)?.typed::<(), ()>(&*store)?;
        initialize.call_async(&mut *store, ()).await?;
    }
    Ok(Calls {
        instance,
        memory,
        alloc,
        run,
        is_telling,
    })
}

fn function(
    instance: &wasmtime::Instance,
    store: &mut Store<Host>,
    export: &ModuleExport,
) -> wasmtime::Result<Func> {
    let function = instance.get_module_export(&mut *store, export);
    function
        .and_then(wasmtime::Extern::into_func)
        .ok_or_else(|| wasmtime::format_err!("an export is no function"))
}

impl Calls {
    /// One more function of the instance.
    pub(super) fn function(
        &self,
        store: &mut Store<Host>,
        export: &ModuleExport,
    ) -> wasmtime::Result<Func> {
        function(&self.instance, store, export)
    }

    /// Gives the guest `input` and calls `function` on it. Nothing it answers is believed.
    pub(super) async fn exchange(
        &self,
        store: &mut Store<Host>,
        function: &Exchange,
        input: &[u8],
    ) -> wasmtime::Result<Exchanged> {
        let Ok(len) = u32::try_from(input.len()) else {
            return Ok(Exchanged::Broken(
                "What is given to the action does not fit into 32 bits.".into(),
            ));
        };
        let ptr = self.alloc.call_async(&mut *store, len).await?;
        let memory = self.memory.data_mut(&mut *store);
        let target = host::range(ptr, len).and_then(|range| memory.get_mut(range));
        match target {
            Some(target) if ptr != 0 => target.copy_from_slice(input),
            _ => return Ok(Exchanged::Broken(bad_alloc(ptr, len))),
        }
        let packed = function.call_async(&mut *store, (ptr, len)).await?;
        let (ptr, len) = unpack(packed);
        let size = self.memory.data_size(&*store);
        Ok(match host::range(ptr, len) {
            Some(range) if range.end <= size => Exchanged::Answer(range),
            _ => Exchanged::Broken(format!(
                "The action answered {len} bytes at {ptr}, which lies outside memory."
            )),
        })
    }
}

struct CoreInstance {
    store: Store<Host>,
    calls: Calls,
    stack: Keep,
    sound: bool,
    ahead: Ahead,
    /// How many have ended well.
    runs: u64,
    /// Kept alive and counted as in use.
    program: Arc<Linked>,
}

impl CoreInstance {
    /// The calls of one run.
    async fn call(&mut self, input: &Input) -> wasmtime::Result<Outcome> {
        let calls = &self.calls;
        let exchanged = calls.exchange(&mut self.store, &calls.run, &input.params);
        Ok(match exchanged.await? {
            Exchanged::Answer(range) => {
                let memory = calls.memory.data(&self.store);
                answer(
                    memory.get(range).unwrap_or_default(),
                    input.result_bytes_max,
                )
            }
            Exchanged::Broken(text) => Outcome::Died(text),
        })
    }

    /// Tells instances to come which pages they will write to.
    fn tell(&mut self) {
        if std::mem::take(&mut self.calls.is_telling)
            && let Some((prefault, pagemap)) = self.program.prefault()
        {
            prefault.look(self.calls.memory, &self.store, pagemap);
        }
    }

    /// Counts what the run made the instance's own of what it shares with others. Whether it may serve again: not when there
    /// is no room for that, nor when a language ran out of memory, whatever its program then made of it.
    async fn settle(&mut self) -> bool {
        let Code::Language(code) = &self.program.code else {
            return true;
        };
        self.runs += 1;
        if self.store.data().meter.denied().is_some() {
            return false;
        }
        !self.runs.is_power_of_two() || code.settle(&mut self.store, &self.calls.memory).await
    }
}

fn bad_alloc(ptr: u32, len: u32) -> String {
    if ptr == 0 {
        format!("wisp_alloc had no room for {len} bytes.")
    } else {
        format!("wisp_alloc answered {ptr} for {len} bytes, which lies outside memory.")
    }
}

/// `(ptr << 32) | len`, taken apart.
fn unpack(packed: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = packed.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}

#[async_trait]
impl Instance for CoreInstance {
    async fn run(&mut self, mut input: Input) -> Result<Run, HostError> {
        // Until it has ended well it counts as cut off, so that a dropped run leaves nothing to be used again.
        self.sound = false;
        self.store.data_mut().begin(&mut input, false);
        self.store.set_epoch_deadline(TICKS_FIRST);
        self.stack.begin();
        let deadline = input.deadline;
        let outcome = match until(deadline, self.call(&input)).await {
            None => Outcome::TimedOut,
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => match read(&error) {
                End::Died(text) => Outcome::Died(text),
                End::Exit(status) => {
                    Outcome::Died(format!("The action exited with status {status}."))
                }
                End::NoSlot(text) => return Err(no_stack(&text)),
            },
        };
        let host = self.store.data_mut();
        let outcome = blame(outcome, host);
        let captured = host.end();
        let peak = host.meter.peak();
        self.sound = is_sound(&outcome);
        if self.sound {
            self.stack.settle(&mut self.store).await;
            self.tell();
            self.sound = self.settle().await;
        }
        Ok(finish(outcome, captured, peak))
    }

    fn rest(&mut self) -> bool {
        self.stack.rest(&mut self.store)
    }

    fn reusable(&self) -> bool {
        self.sound && !self.program.is_replaced()
    }

    fn memory_bytes(&self) -> usize {
        self.store.data().meter.held()
    }

    fn ahead(&self) -> Ahead {
        self.ahead
    }
}

/// What a call of `program` touches of its instance in `store`.
fn ahead(
    program: &Linked,
    calls: &Calls,
    (stack, used): (usize, usize),
    store: &mut Store<Host>,
) -> Ahead {
    let mut ahead = Ahead::default();
    let data = std::ptr::from_ref(store.data()).addr();
    ahead.add_at(data - STORE_BYTES, STORE_BYTES + size_of::<Host>());
    // Small guests answer the same place for the parameters of every call, more often than not the beginning.
    ahead.add_at(calls.memory.data_ptr(&*store).addr(), 64);
    let context = context_of(calls.run.func(), &mut *store);
    ahead.add_at(context - INSTANCE_BYTES, INSTANCE_BYTES + 64);
    if let Code::Core { pre, .. } = &program.code {
        let text = pre.module().text();
        ahead.add_at(text.as_ptr().addr(), text.len().min(CODE_BYTES));
        // It lies in the module's own record, which every look at a memory reads.
        let engine = std::ptr::from_ref(pre.module().engine()).addr();
        ahead.add_at(engine - MODULE_BYTES / 2, MODULE_BYTES);
    }
    // Last: stacks lie so far apart that each takes a walk of the page tables, and what is asked for later waits for it.
    ahead.add_at(stack, used);
    ahead
}

/// Where wasmtime keeps its side of the instance that exports `function`: what a function is called through lies at the
/// end of it.
fn context_of(function: &Func, store: impl AsContextMut) -> usize {
    function.to_raw(store).addr()
}
