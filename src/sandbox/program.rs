//! Linked programs, and which of them stay in memory.
//!
//! A program in use by an instance stays alive with it, in the table or not; the table decides what stays linked for
//! the next start. It is bounded by count (mappings, open files) and by bytes; when full, the sixteenth part that was
//! not touched for longest goes at once, so that the search is paid rarely.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use dashmap::DashMap;
use wasmtime::{Engine, InstancePre, Module};

use super::abi::Shape;
use super::component::ComponentCode;
use super::egress;
use super::engine::{Class, Engines, WASM_PAGE_BYTES};
use super::host::Host;
use super::http::{self, HttpCode};
use super::instance::{self, CoreExports};
use super::language::{LanguageCode, Pagemap};
use super::limits::TABLE_ELEMENT_BYTES;
use super::prefault::Prefault;
use super::stacks::Stacks;
use super::{Abi, Grant, InstanceLimits, Program, StartError, Started, command, component};
use crate::model::Digest;
use crate::model::live::Listener;

/// What a store costs the host beside the guest's memory: store, instance, stack, tables of pages.
const HOST_SHARE_SMALL_BYTES: usize = 16 << 10;
const HOST_SHARE_LARGE_BYTES: usize = 48 << 10;
/// And what lies in it on its way from and to a client.
const HOST_SHARE_HTTP_BYTES: usize = 256 << 10;

fn host_share(shape: Shape) -> usize {
    match (shape.class, shape.abi) {
        (_, Abi::Http) => HOST_SHARE_HTTP_BYTES,
        (Class::Small, _) => HOST_SHARE_SMALL_BYTES,
        (Class::Large | Class::Concurrent, _) => HOST_SHARE_LARGE_BYTES,
    }
}

/// What a program consists of once linked.
pub(super) enum Code {
    Core {
        pre: InstancePre<Host>,
        exports: CoreExports,
        prefault: Prefault,
    },
    Command {
        pre: InstancePre<Host>,
    },
    Component(ComponentCode),
    Language(LanguageCode),
    Http(HttpCode),
}

/// A linked program.
pub(super) struct Linked {
    pub(super) shape: Shape,
    pub(super) code: Code,
    pub(super) engine: Engine,
    /// Bytes of its artefact.
    pub(super) bytes: usize,
    /// Slots of its class.
    pub(super) slots: usize,
    /// Stacks of its class.
    pub(super) stacks: Arc<Stacks>,
    /// How its requests go out.
    pub(super) client: Arc<egress::Client>,
    /// Who hears what it writes.
    pub(super) listener: Option<Arc<dyn Listener>>,
    memory_bytes_min: usize,
    /// When it was last asked for, by the table's own count.
    touched: AtomicU64,
    me: Weak<Self>,
}

impl Linked {
    /// A program from its linked code.
    pub(super) fn new(
        shape: Shape,
        code: Code,
        engines: &Engines,
        (client, listener): (&Arc<egress::Client>, Option<&Arc<dyn Listener>>),
        bytes: usize,
    ) -> Arc<Self> {
        let share = host_share(shape);
        let memory_bytes_min = share + code.initial_bytes();
        Arc::new_cyclic(|me| Self {
            shape,
            code,
            engine: engines.get(shape.class).clone(),
            bytes,
            slots: engines.slots(shape.class),
            stacks: Arc::clone(engines.stacks(shape.class)),
            client: Arc::clone(client),
            listener: listener.cloned(),
            memory_bytes_min,
            touched: AtomicU64::new(0),
            me: me.clone(),
        })
    }

    /// What the host's side of an instance counts for.
    pub(super) fn host_share(&self) -> usize {
        host_share(self.shape)
    }

    /// What is known of the pages its instances write to, and where that is looked up; nothing where it is not worth it.
    pub(super) fn prefault(&self) -> Option<(&Prefault, &Pagemap)> {
        let prefault = match &self.code {
            Code::Core { prefault, .. } => prefault,
            Code::Language(code) => &code.engine.prefault,
            Code::Command { .. } | Code::Component(_) | Code::Http(_) => return None,
        };
        Some((prefault, self.stacks.pagemap()?))
    }

    /// Whether it runs on an engine that better code has taken the place of.
    pub(super) fn is_replaced(&self) -> bool {
        matches!(&self.code, Code::Language(code) if code.engine.is_replaced())
    }

    /// Itself, for what must keep it alive.
    pub(super) fn arc(&self) -> Arc<Self> {
        self.me
            .upgrade()
            .expect("a program that is being called is alive")
    }
}

impl Code {
    /// Bytes of memories and tables an instance begins with.
    fn initial_bytes(&self) -> usize {
        let required = match self {
            Self::Core { pre, .. } | Self::Command { pre } => {
                Some(module_of(pre).resources_required())
            }
            Self::Component(code) => code.resources_required(),
            Self::Language(code) => return code.initial_bytes(),
            Self::Http(code) => code.resources_required(),
        };
        required.map_or(0, |required| {
            let pages = required.max_initial_memory_size.unwrap_or(0);
            let memory = u64::from(required.num_memories).saturating_mul(pages);
            let memory = memory.saturating_mul(WASM_PAGE_BYTES as u64);
            let elements = required.max_initial_table_size.unwrap_or(0);
            let tables = u64::from(required.num_tables).saturating_mul(elements);
            let tables = tables.saturating_mul(TABLE_ELEMENT_BYTES as u64);
            usize::try_from(memory.saturating_add(tables)).unwrap_or(usize::MAX)
        })
    }
}

fn module_of(pre: &InstancePre<Host>) -> &Module {
    pre.module()
}

#[async_trait]
impl Program for Linked {
    fn memory_bytes_min(&self) -> usize {
        self.memory_bytes_min
    }

    fn speaks_http(&self) -> bool {
        self.shape.abi == Abi::Http
    }

    async fn instantiate(
        &self,
        limits: InstanceLimits,
        grant: Arc<dyn Grant>,
    ) -> Result<Started, StartError> {
        match &self.code {
            Code::Core { .. } | Code::Language(_) => {
                instance::start(self.arc(), limits, grant).await
            }
            Code::Command { .. } => command::start(self.arc(), limits, grant).await,
            Code::Component(_) => component::start(self.arc(), limits, grant).await,
            Code::Http(_) => http::start(self.arc(), limits, grant).await,
        }
    }
}

/// The programs that are linked.
pub(super) struct Programs {
    linked: DashMap<Digest, Arc<Linked>>,
    clock: AtomicU64,
    bytes: AtomicUsize,
    count_max: usize,
    bytes_max: usize,
}

impl Programs {
    /// An empty table.
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self {
            linked: DashMap::new(),
            clock: AtomicU64::new(1),
            bytes: AtomicUsize::new(0),
            count_max: count_max.max(1),
            bytes_max,
        }
    }

    /// A program, if it is linked.
    pub(super) fn get(&self, program: &Digest) -> Option<Arc<Linked>> {
        let found = self.linked.get(program)?;
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        found.touched.store(now, Ordering::Relaxed);
        Some(Arc::clone(&found))
    }

    /// Adds a program, and lets others go if that is too many.
    pub(super) fn insert(&self, program: Digest, linked: Arc<Linked>) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        linked.touched.store(now, Ordering::Relaxed);
        self.bytes.fetch_add(linked.bytes, Ordering::Relaxed);
        if let Some(previous) = self.linked.insert(program, linked) {
            self.bytes.fetch_sub(previous.bytes, Ordering::Relaxed);
        }
        if self.linked.len() > self.count_max || self.bytes() > self.bytes_max {
            self.let_go(&program);
        }
    }

    /// Takes a program from the table.
    pub(super) fn remove(&self, program: &Digest) {
        if let Some((_, linked)) = self.linked.remove(program) {
            self.bytes.fetch_sub(linked.bytes, Ordering::Relaxed);
        }
    }

    /// Takes out the programs whose engine was replaced.
    pub(super) fn remove_replaced(&self) {
        let all = self.linked.iter();
        let replaced = all.filter(|entry| entry.value().is_replaced());
        let replaced: Vec<Digest> = replaced.map(|entry| *entry.key()).collect();
        for program in replaced {
            self.remove(&program);
        }
    }

    /// Programs linked.
    pub(super) fn len(&self) -> usize {
        self.linked.len()
    }

    /// Bytes of their artefacts.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Removes the longest untouched: a sixteenth, and more while the bytes are too many. Those in use by instances
    /// come last, since removing them frees nothing yet.
    fn let_go(&self, newest: &Digest) {
        let mut all: Vec<(bool, u64, Digest)> = self
            .linked
            .iter()
            .filter(|entry| entry.key() != newest)
            .map(|entry| {
                let in_use = Arc::strong_count(entry.value()) > 1;
                (in_use, entry.touched.load(Ordering::Relaxed), *entry.key())
            })
            .collect();
        all.sort_unstable();
        let target = self.count_max - self.count_max / 16;
        for (_, _, program) in all {
            if self.len() <= target.max(1) && self.bytes() <= self.bytes_max {
                return;
            }
            self.remove(&program);
        }
    }
}
