//! What a store holds beside the guest, and the functions a guest may import.
//!
//! Kept small: a hundred thousand idle instances each have one. What only some runs need (captured output, the WASI
//! 0.2 context, files) is boxed and made when first used.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use wasmtime::{Caller, Engine, Extern, Linker, Memory};

use super::egress::{self, imports::Calls};
use super::files::{FileError, Shared, Table};
use super::limits::Meter;
use super::output::{Captured, Heard, Output, Told};
use super::{Input, Serves, Stream, Traffic, files, wasi};
use crate::model::Namespace;
use crate::model::live::Listener;

/// A guest's own end, on its way through wasmtime as an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    /// `proc_exit` or `wasi:cli/exit`.
    #[error("the guest exited with status {0}")]
    Exit(i32),
}

/// Variables that hold for one instance or one run.
pub(super) type InstanceEnv = Arc<[(String, String)]>;
/// Variables of one run, over those of the instance.
pub(super) type RunEnv = Vec<(Cow<'static, str>, String)>;

/// The data of a store.
pub(super) struct Host {
    pub(super) meter: Meter,
    pub(super) memory: Option<Memory>,
    /// Whose it is, where that is known.
    pub(super) namespace: Option<Namespace>,
    pub(super) instance_env: InstanceEnv,
    pub(super) run_env: RunEnv,
    pub(super) stdin: Bytes,
    log_bytes_max: usize,
    /// Bytes of result when stdout's last line is one.
    answer_bytes_max: Option<usize>,
    output: Option<Arc<Mutex<Output>>>,
    /// Who hears its lines at once, and of which activation they are.
    told: Option<Told>,
    /// For components that import WASI 0.2.
    pub(super) p2: Option<Box<super::p2::P2>>,
    /// Its private `/tmp`, once it has asked for files.
    files: Option<Shared>,
    /// What preview 1 has open there.
    pub(super) open: Option<Box<Table>>,
    /// Requests it has made through `wisp.http_*`.
    pub(super) calls: Option<Box<Calls>>,
}

impl Host {
    /// A host for a new store.
    pub(super) fn new(meter: Meter, instance_env: InstanceEnv, log_bytes_max: usize) -> Self {
        Self {
            meter,
            memory: None,
            namespace: None,
            instance_env,
            run_env: Vec::new(),
            stdin: Bytes::new(),
            log_bytes_max,
            answer_bytes_max: None,
            output: None,
            told: None,
            p2: None,
            files: None,
            open: None,
            calls: None,
        }
    }

    /// From now on `listener` hears its lines.
    pub(super) fn heard_by(&mut self, listener: &Arc<dyn Listener>, serves: &Serves) {
        self.told = Some(Told {
            by: Arc::new(Heard {
                listener: Arc::clone(listener),
                namespace: serves.namespace.clone(),
                action: Arc::clone(&serves.action),
            }),
            id: serves.begun_by,
        });
    }

    /// The guest's files: empty when they are first asked for.
    pub(super) fn files(&mut self) -> &Shared {
        self.files
            .get_or_insert_with(|| files::share(self.meter.shared()))
    }

    /// What preview 1 has open, with the root when that is first asked for.
    pub(super) fn table(&mut self) -> Result<&mut Table, FileError> {
        if self.open.is_none() {
            let table = Table::new(Arc::clone(self.files()))?;
            self.open = Some(Box::new(table));
        }
        self.open.as_deref_mut().ok_or(FileError::BadDescriptor)
    }

    /// Begins a run; with `answer_bytes_max`, the last line of stdout is its result and `stdin` its parameters.
    pub(super) fn begin(&mut self, input: &mut Input, answers: bool) {
        self.meter.begin();
        if let Some(p2) = &self.p2 {
            p2.http.begin();
        }
        self.run_env = std::mem::take(&mut input.env);
        self.log_bytes_max = input.log_bytes_max;
        self.answer_bytes_max = answers.then_some(input.result_bytes_max);
        if answers {
            self.stdin = input.params.clone();
        }
        if let Some(told) = &mut self.told {
            told.id = input.id;
        }
        if let Some(output) = &self.output {
            let (told, mut output) = (self.told.clone(), output.lock());
            output.begin(self.log_bytes_max, self.answer_bytes_max, told);
        }
    }

    /// Ends a run, or a start: what was written.
    pub(super) fn end(&mut self) -> Captured {
        let traffic = self.traffic();
        self.calls = None;
        self.run_env = Vec::new();
        self.stdin = Bytes::new();
        // A WASI 0.2 context holds on to it; otherwise an idle instance has no output.
        let captured = if self.p2.is_some() {
            self.output.as_ref().map(|output| output.lock().finish())
        } else {
            self.output.take().map(|output| output.lock().finish())
        };
        Captured {
            traffic,
            ..captured.unwrap_or_default()
        }
    }

    /// What went in and out over HTTP since the run began.
    fn traffic(&self) -> Traffic {
        match (&self.p2, &self.calls) {
            (Some(p2), _) => p2.http.traffic(),
            (None, Some(calls)) => calls.traffic(),
            (None, None) => Traffic::default(),
        }
    }

    /// Where the guest writes.
    pub(super) fn output(&mut self) -> &Arc<Mutex<Output>> {
        let (log_bytes_max, answers, told) =
            (self.log_bytes_max, self.answer_bytes_max, &self.told);
        self.output.get_or_insert_with(|| {
            let mut output = Output::default();
            output.begin(log_bytes_max, answers, told.clone());
            Arc::new(Mutex::new(output))
        })
    }

    /// Takes what the guest wrote.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        self.output().lock().write(stream, bytes);
    }

    /// A variable: the run's, or the instance's.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let own = self.run_env.iter().find(|(key, _)| key == name);
        own.map(|(_, value)| value.as_str()).or_else(|| {
            let start = self.instance_env.iter().find(|(key, _)| key == name);
            start.map(|(_, value)| value.as_str())
        })
    }

    /// All variables, the run's before the instance's, each name once.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self.run_env.iter().map(|(k, v)| (k.as_ref(), v.as_str()));
        let start = self.instance_env.iter();
        let start = start.filter(|(key, _)| !self.run_env.iter().any(|(own, _)| own == key));
        own.chain(start.map(|(k, v)| (k.as_str(), v.as_str())))
    }
}

/// The guest's memory: remembered after its start, looked up during it.
pub(super) fn memory(caller: &mut Caller<'_, Host>) -> Option<Memory> {
    if let Some(memory) = caller.data().memory {
        return Some(memory);
    }
    let memory = caller.get_export("memory").and_then(Extern::into_memory)?;
    caller.data_mut().memory = Some(memory);
    Some(memory)
}

/// Everything a core module may import.
///
/// # Errors
/// When two functions have one name: ours.
pub(super) fn linker(
    engine: &Engine,
    client: &Arc<egress::Client>,
) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    linker.func_wrap("wisp", "context_get", context_get)?;
    egress::imports::add_to_linker(&mut linker, client)?;
    Ok(linker)
}

/// `wisp.context_get`: copies at most `buf_len` bytes of a variable; answers its whole length, or -1 without it.
fn context_get(
    mut caller: Caller<'_, Host>,
    name_ptr: u32,
    name_len: u32,
    buf_ptr: u32,
    buf_len: u32,
) -> wasmtime::Result<i32> {
    let Some(memory) = memory(&mut caller) else {
        wasmtime::bail!("wisp.context_get needs an exported memory");
    };
    let (bytes, host) = memory.data_and_store_mut(&mut caller);
    let Some(name) = range(name_ptr, name_len).and_then(|range| bytes.get(range)) else {
        wasmtime::bail!("wisp.context_get: the name lies outside memory");
    };
    let value = str::from_utf8(name)
        .ok()
        .and_then(|name| host.variable(name));
    let Some(value) = value.map(str::as_bytes) else {
        return Ok(-1);
    };
    let count = value.len().min(buf_len as usize);
    let target = u32::try_from(count)
        .ok()
        .and_then(|count| range(buf_ptr, count))
        .and_then(|range| bytes.get_mut(range));
    let Some(target) = target else {
        wasmtime::bail!("wisp.context_get: the buffer lies outside memory");
    };
    target.copy_from_slice(&value[..count]);
    i32::try_from(value.len()).map_err(wasmtime::Error::from)
}

/// A guest's pointer and length as a range; `None` when it wraps.
pub(super) fn range(ptr: u32, len: u32) -> Option<std::ops::Range<usize>> {
    let end = ptr.checked_add(len)?;
    Some(ptr as usize..end as usize)
}
