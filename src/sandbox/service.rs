//! The sandbox as the rest sees it: uploads to programs, programs by their digest.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use dashmap::DashMap;
use tokio::sync::watch;
use tokio::time::Instant;
use wasmtime::{ExternType, Linker, Module, Store, component};

use super::abi::{self, Provided, Shape};
use super::cache::{self, Blob, Cache, Found, Loaded};
use super::compile::Compile;
use super::component::ComponentCode;
use super::config::Config;
use super::egress;
use super::engine::{Class, Engines};
use super::host::{self, Host};
use super::http::HttpCode;
use super::instance::CoreExports;
use super::language::{self, Engine, LanguageCode, Languages, Package, Prepare};
use super::limits::Meter;
use super::prefault::Prefault;
use super::program::{Code, Linked, Programs};
use super::turns::For;
use super::{
    Abi, CodeSource, Grant, LoadError, Occupancy, Prepared, Program, Refused, Sandbox, Source,
    code, epoch,
};
use crate::model::Digest;
use crate::model::kind::Language;
use crate::model::live::Listener;
use crate::telemetry::metrics;

/// Artefacts above this size are verified off the runtime's threads: reading and hashing them takes milliseconds.
const LOAD_INLINE_BYTES_MAX: u64 = 1 << 20;
/// How long an upload whose code is being compiled has to be done once the sandbox closes: most take less.
const UPLOAD_GRACE: Duration = Duration::from_secs(2);

/// The sandbox on wasmtime.
pub(crate) struct Wasmtime {
    pub(super) inner: Arc<Inner>,
    pub(super) compile: Compile,
    prepare: Prepare,
    /// Itself, for what goes on when who asked for it has gone.
    pub(super) me: Weak<Self>,
    /// Loads going on: whoever comes second waits for the first.
    loading: DashMap<Digest, Arc<tokio::sync::Mutex<()>>>,
    /// Whether it closes.
    closing: watch::Sender<bool>,
}

impl std::fmt::Debug for Wasmtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wasmtime").finish_non_exhaustive()
    }
}

/// What blocking work needs, too.
pub(super) struct Inner {
    pub(super) config: Config,
    pub(super) engines: Engines,
    small: Linker<Host>,
    pub(super) large: Linker<Host>,
    component: component::Linker<Host>,
    concurrent: component::Linker<Host>,
    provided: Provided,
    client: Arc<egress::Client>,
    pub(super) cache: Cache,
    pub(super) programs: Programs,
    pub(super) languages: Languages,
}

/// What came of looking for a program on disk.
enum Recovered {
    Linked(Arc<Linked>),
    /// It is there, and its language's engine is not ready yet.
    Waits(Language),
    Nothing,
}

/// What a program is made of when it must be made.
enum Made {
    Module(Arc<[u8]>, Shape),
    Source(Arc<Engine>, Package),
}

impl Wasmtime {
    /// Builds engines, pools and cache, and starts the ticker.
    ///
    /// # Errors
    /// When settings contradict each other, the machine has no room for the pools, or `data` cannot be written: says
    /// which and what to do.
    pub(crate) fn new(config: Config, data: &Path) -> Result<Arc<Self>, String> {
        let engines = Engines::new(&config)?;
        let text = |error: wasmtime::Error| format!("host functions cannot be linked: {error:#}");
        let client = egress::Client::new(config.egress.clone())?;
        let small = host::linker(engines.get(Class::Small), &client).map_err(text)?;
        let large = host::linker(engines.get(Class::Large), &client).map_err(text)?;
        let component = super::component::linker(engines.get(Class::Large), config.pairs.as_ref())
            .map_err(text)?;
        let mut concurrent =
            super::component::linker(engines.get(Class::Concurrent), config.pairs.as_ref())
                .map_err(text)?;
        super::http::add_concurrent_to_linker(&mut concurrent).map_err(text)?;
        let provided = provided(&large, &engines);
        let cache = Cache::open(data, &engines, config.artefact_mib_max)?;
        epoch::start(&engines.all(), Duration::from_micros(config.tick_us))
            .map_err(|error| format!("the ticker's thread cannot be started: {error}"))?;
        let programs = Programs::new(config.programs_max, config.programs_mib_max << 20);
        Ok(Arc::new_cyclic(|me| Self {
            compile: Compile::new(&config),
            prepare: Prepare::new(&config),
            me: Weak::clone(me),
            loading: DashMap::new(),
            closing: watch::Sender::new(false),
            inner: Arc::new(Inner {
                languages: Languages::new(config.engine_modules.clone()),
                config,
                engines,
                small,
                large,
                component,
                concurrent,
                provided,
                client,
                cache,
                programs,
            }),
        }))
    }

    /// Says how a slot is had when none is free and source is to be prepared; `give_up` tells whether it gave one up. Only
    /// the first of these counts.
    pub(crate) fn when_full(&self, give_up: impl Fn() -> bool + Send + Sync + 'static) {
        // A second one would be that of another pool: there is one.
        drop(self.prepare.full.set(Box::new(give_up)));
    }

    /// Refuses uploads from now on: at once those that wait for a language's engine, and after [`UPLOAD_GRACE`] those whose
    /// own code is being compiled. What activations need is made as before, so that they can be finished.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// What an upload is told `grace` after the sandbox closed.
    async fn closed(&self, grace: Duration) -> Refused {
        // The sender is ours: it is there as long as we are.
        drop(self.closing.subscribe().wait_for(|closes| *closes).await);
        tokio::time::sleep(grace).await;
        Refused::Unavailable("The server is shutting down; send this again when it is back.".into())
    }

    /// What was chosen for this machine, and why: a line each.
    pub(crate) fn describe(&self) -> Vec<String> {
        self.inner.engines.describe()
    }

    /// Takes a program from memory and disk, as if it had never been prepared.
    #[cfg(test)]
    pub(super) fn forget(&self, program: &Digest) {
        self.inner.programs.remove(program);
        self.inner.cache.remove(program);
    }

    /// Off the runtime's threads.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|error| Refused::Unavailable(format!("The sandbox failed: {error}.")))
    }

    /// The program from memory or disk.
    async fn at_hand(&self, program: Digest) -> Result<Option<Arc<Linked>>, Refused> {
        if let Some(linked) = self.inner.programs.get(&program) {
            return Ok(Some(linked));
        }
        match self.recover(program).await? {
            Recovered::Linked(linked) => Ok(Some(linked)),
            Recovered::Nothing => Ok(None),
            Recovered::Waits(language) => {
                tracing::debug!(%program, language = language.name(), "a program waits for its language's engine");
                self.engine(language).await?;
                Ok(match self.recover(program).await? {
                    Recovered::Linked(linked) => Some(linked),
                    Recovered::Waits(_) | Recovered::Nothing => None,
                })
            }
        }
    }

    /// The program from memory, from disk, or from who compiled it before.
    async fn at_hand_anywhere(&self, program: Digest) -> Result<Option<Arc<Linked>>, Refused> {
        match self.at_hand(program).await? {
            Some(linked) => Ok(Some(linked)),
            None if self.fetch(program).await => self.at_hand(program).await,
            None => Ok(None),
        }
    }

    /// Brings the artefact of a program to disk, if others made one for machines like this; whether they did.
    pub(super) async fn fetch(&self, program: Digest) -> bool {
        let Some(shared) = &self.inner.config.shared else {
            return false;
        };
        let settings = self.inner.cache.settings();
        let Some((shape, artefact)) = shared.fetch(settings, program).await else {
            return false;
        };
        let stored = move |inner: &Inner| inner.cache.store(&program, shape, &artefact);
        self.blocking(stored).await.is_ok()
    }

    /// Offers what was made here to machines like this.
    pub(super) fn offer(&self, program: Digest, shape: Shape, artefact: Arc<Vec<u8>>) {
        if let Some(shared) = &self.inner.config.shared {
            shared.offer(self.inner.cache.settings(), program, shape, artefact);
        }
    }

    async fn recover(&self, program: Digest) -> Result<Recovered, Refused> {
        match self.inner.cache.size(&program) {
            None => Ok(Recovered::Nothing),
            Some(size) if size <= LOAD_INLINE_BYTES_MAX => Ok(self.inner.recover(&program)),
            Some(_) => self.blocking(move |inner| inner.recover(&program)).await,
        }
    }

    /// Reads an upload: which program it is, what that is made of, and how many bytes that has.
    async fn read(&self, source: Source) -> Result<(Digest, Made, usize), Refused> {
        let Some(language) = Language::of_kind(&source.kind) else {
            let read = self.blocking(move |inner| inner.read(&source.code));
            let (program, module, shape) = read.await??;
            let size = module.len();
            return Ok((program, Made::Module(module, shape), size));
        };
        let package = self.blocking(move |inner| {
            language::build(language, &source, inner.config.module_bytes_max)
        });
        let package = package.await??;
        if self.inner.languages.get(language).is_none() {
            tracing::debug!(program = %package.program, language = language.name(), "an upload waits for its language's engine");
        }
        let engine = self.engine(language).await?;
        let size = package.bytes.len();
        Ok((package.program, Made::Source(engine, package), size))
    }

    /// The program of a module or source, from wherever it is soonest had; and whether it had to be made.
    async fn obtain(
        &self,
        whom: &For,
        program: Digest,
        made: Made,
    ) -> Result<(Arc<Linked>, bool), Refused> {
        let turn = Arc::clone(&self.loading.entry(program).or_default());
        let held = turn.lock().await;
        let result = self.obtain_alone(whom, program, made).await;
        drop(held);
        self.leave(&program, &turn);
        result
    }

    async fn obtain_alone(
        &self,
        whom: &For,
        program: Digest,
        made: Made,
    ) -> Result<(Arc<Linked>, bool), Refused> {
        if let Some(linked) = self.at_hand_anywhere(program).await? {
            return Ok((linked, false));
        }
        let (module, shape) = match made {
            Made::Module(module, shape) => (module, shape),
            Made::Source(engine, package) => {
                let bare = self.inner.linked_blob(Arc::clone(&engine), Arc::from([]));
                let bytes = self
                    .prepare
                    .blob(whom, bare, Arc::clone(&engine), package)
                    .await?;
                let kept =
                    self.blocking(move |inner| inner.keep_blob(program, engine, bytes.into()));
                return Ok((kept.await?, true));
            }
        };
        let began = Instant::now();
        let artefact = self.compile.compile(whom, shape.class, module).await?;
        metrics::compiled(began.elapsed());
        let artefact = Arc::new(artefact);
        let kept = Arc::clone(&artefact);
        let linked = self
            .blocking(move |inner| inner.keep(program, shape, &kept))
            .await??;
        self.offer(program, shape, artefact);
        Ok((linked, true))
    }

    /// Removes the turnstile of a load when nobody waits at it.
    fn leave(&self, program: &Digest, turn: &Arc<tokio::sync::Mutex<()>>) {
        self.loading.remove_if(program, |_, other| {
            Arc::ptr_eq(other, turn) && Arc::strong_count(other) <= 2
        });
    }
}

impl Inner {
    /// The program from its artefact, linked, when there is one that will do.
    fn recover(&self, program: &Digest) -> Recovered {
        let Some(found) = self.cache.load(program, &self.engines) else {
            return Recovered::Nothing;
        };
        if let Abi::Language(language) = found.shape.abi
            && self.languages.get(language).is_none()
        {
            return Recovered::Waits(language);
        }
        match self.link(found) {
            Ok(linked) => {
                self.remember(*program, &linked);
                Recovered::Linked(linked)
            }
            Err(error) => {
                tracing::warn!(%program, error = %error, "an artefact does not link; it is made again");
                self.cache.remove(program);
                Recovered::Nothing
            }
        }
    }

    /// Keeps a linked program for the next start, unless its engine was replaced meanwhile.
    fn remember(&self, program: Digest, linked: &Arc<Linked>) {
        self.programs.insert(program, Arc::clone(linked));
        if linked.is_replaced() {
            self.programs.remove(&program);
        }
    }

    /// How programs reach others, and who hears them.
    fn outside(&self) -> (&Arc<egress::Client>, Option<&Arc<dyn Listener>>) {
        (&self.client, self.config.listener.as_ref())
    }

    /// A program that `engine` runs from `blob`.
    fn linked_blob(&self, engine: Arc<Engine>, blob: Arc<[u8]>) -> Arc<Linked> {
        let shape = blob_shape(engine.language);
        let bytes = blob.len();
        let code = Code::Language(LanguageCode::new(engine, blob));
        Linked::new(shape, code, &self.engines, self.outside(), bytes)
    }

    /// Stores what an engine made, and links it.
    fn keep_blob(&self, program: Digest, engine: Arc<Engine>, bytes: Arc<[u8]>) -> Arc<Linked> {
        let blob = Blob {
            engine: engine.digest,
            bytes: Arc::clone(&bytes),
        };
        let shape = blob_shape(engine.language);
        self.cache
            .store(&program, shape, &cache::artefact_of(&blob));
        let linked = self.linked_blob(engine, bytes);
        self.remember(program, &linked);
        linked
    }

    /// Stores a fresh artefact and links it: from the file when it could be written, from memory otherwise.
    fn keep(&self, program: Digest, shape: Shape, artefact: &[u8]) -> Result<Arc<Linked>, Refused> {
        self.cache.store(&program, shape, artefact);
        let found = match self.cache.load(&program, &self.engines) {
            Some(found) => found,
            None => Found {
                shape,
                loaded: cache::from_compiler(artefact, shape, &self.engines).map_err(|error| {
                    Refused::Unavailable(format!(
                        "The compiled module cannot be loaded: {error:#}."
                    ))
                })?,
                bytes: artefact.len(),
            },
        };
        let linked = self.link(found).map_err(|error| {
            self.cache.remove(&program);
            Refused::Invalid(format!("The module cannot be linked: {error:#}."))
        })?;
        self.remember(program, &linked);
        Ok(linked)
    }

    fn link(&self, found: Found) -> wasmtime::Result<Arc<Linked>> {
        let shape = found.shape;
        let linker = match shape.class {
            Class::Small => &self.small,
            Class::Large | Class::Concurrent => &self.large,
        };
        let code = match (found.loaded, shape.abi) {
            (Loaded::Module(module), Abi::Core) => Code::Core {
                exports: exports(&module)?,
                pre: linker.instantiate_pre(&module)?,
                prefault: Prefault::default(),
            },
            (Loaded::Module(module), _) => Code::Command {
                pre: linker.instantiate_pre(&module)?,
            },
            (Loaded::Blob(blob), Abi::Language(language)) => {
                let engine = self.languages.get(language);
                let engine = engine.filter(|engine| engine.digest == blob.engine);
                let engine =
                    engine.ok_or_else(|| wasmtime::format_err!("another engine made it"))?;
                return Ok(self.linked_blob(engine, blob.bytes));
            }
            (Loaded::Blob(_), _) => wasmtime::bail!("what an engine made is no code"),
            (Loaded::Component(component), Abi::Http) => {
                Code::Http(if shape.class == Class::Concurrent {
                    HttpCode::concurrent(self.concurrent.instantiate_pre(&component)?)?
                } else {
                    HttpCode::new(self.component.instantiate_pre(&component)?)?
                })
            }
            (Loaded::Component(component), _) => {
                Code::Component(ComponentCode::new(&self.component, &component, shape.abi)?)
            }
        };
        Ok(Linked::new(
            shape,
            code,
            &self.engines,
            self.outside(),
            found.bytes,
        ))
    }
}

/// How what an engine makes is kept.
fn blob_shape(language: Language) -> Shape {
    Shape {
        abi: Abi::Language(language),
        class: Class::Large,
        imports_wasi: false,
    }
}

/// Where the functions of the core ABI are.
///
/// # Errors
/// When one is missing.
pub(super) fn exports(module: &Module) -> wasmtime::Result<CoreExports> {
    let find = |name: &str| {
        module
            .get_export_index(name)
            .ok_or_else(|| wasmtime::format_err!("the module exports no `{name}`"))
    };
    Ok(CoreExports {
        memory: find("memory")?,
        alloc: find("wisp_alloc")?,
        run: find("wisp_run")?,
        initialize: module.get_export_index("_initialize"),
    })
}

/// What the linker has for core modules, with types as text.
fn provided(linker: &Linker<Host>, engines: &Engines) -> Provided {
    struct Nothing;
    #[async_trait]
    impl Grant for Nothing {
        fn try_grow(&self, _: usize) -> bool {
            false
        }
        async fn grow(&self, _: usize) -> bool {
            false
        }
    }
    let meter = Meter::new(0, 0, 0, Arc::new(Nothing));
    let host = Host::new(meter, Arc::from([]), 0);
    let mut store = Store::new(engines.get(Class::Large), host);
    let found: Vec<_> = linker
        .iter(&mut store)
        .map(|(module, name, item)| ((module.to_owned(), name.to_owned()), item))
        .collect();
    found
        .into_iter()
        .filter_map(|(key, item)| match item.ty(&store) {
            ExternType::Func(ty) => {
                let text = abi::function_text(
                    ty.params().map(|ty| ty.to_string()),
                    ty.results().map(|ty| ty.to_string()),
                );
                Some((key, text))
            }
            _ => None,
        })
        .collect()
}

#[async_trait]
impl Sandbox for Wasmtime {
    async fn prepare(&self, source: Source) -> Result<Prepared, Refused> {
        let whom = source.namespace.clone();
        let (program, made, size) = tokio::select! {
            read = self.read(source) => read?,
            refused = self.closed(Duration::ZERO) => return Err(refused),
        };
        let (linked, compiled) = tokio::select! {
            obtained = self.obtain(&whom, program, made) => obtained?,
            refused = self.closed(UPLOAD_GRACE) => return Err(refused),
        };
        Ok(Prepared {
            program,
            abi: linked.shape.abi,
            size,
            compiled,
        })
    }

    fn linked(&self, program: &Digest) -> Option<Arc<dyn Program>> {
        let linked = self.inner.programs.get(program)?;
        Some(linked)
    }

    async fn load(
        &self,
        program: &Digest,
        code: &(dyn CodeSource + Sync),
    ) -> Result<Arc<dyn Program>, LoadError> {
        let program = *program;
        let turn = Arc::clone(&self.loading.entry(program).or_default());
        let held = turn.lock().await;
        let at_hand = self.at_hand_anywhere(program).await;
        drop(held);
        self.leave(&program, &turn);
        if let Some(linked) = at_hand? {
            return Ok(linked);
        }
        let gone = || LoadError::Host(format!("the code of program {program} is gone"));
        let source = code.source().await.ok_or_else(gone)?;
        let whom = source.namespace.clone();
        let (found, made, _) = self.read(source).await?;
        if found != program {
            return Err(LoadError::Host(format!(
                "the code kept for program {program} is that of {found}"
            )));
        }
        let (linked, _) = self.obtain(&whom, program, made).await?;
        Ok(linked)
    }

    fn occupancy(&self) -> Occupancy {
        let engines = &self.inner.engines;
        Occupancy {
            programs: self.inner.programs.len(),
            program_bytes: self.inner.programs.bytes(),
            slots_used: engines.slots_used(),
            slots: engines.slots(Class::Small) + engines.slots(Class::Large),
        }
    }
}

impl Inner {
    /// Unpacks an upload and reads what it is.
    fn read(&self, code: &str) -> Result<(Digest, Arc<[u8]>, Shape), Refused> {
        let module = code::unpack(code, self.config.module_bytes_max)?;
        let shape = abi::inspect(&module, &self.provided, &self.config)?;
        Ok((Digest::of(&module), module.into(), shape))
    }
}
