//! Engines: found or compiled once, linked once.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::OnceCell;
use tokio::time::Instant;
use wasmtime::{InstancePre, Linker, Module, ModuleExport};

use super::super::abi::Shape;
use super::super::cache::{self, Loaded};
use super::super::engine::{Class, WASM_PAGE_BYTES};
use super::super::host::Host;
use super::super::instance::CoreExports;
use super::super::limits::TABLE_ELEMENT_BYTES;
use super::super::prefault::Prefault;
use super::super::service::{Wasmtime, exports};
use super::super::{Abi, Refused};
use super::image::Pagemap;
use super::modules::{EngineModules, unpacked};
use crate::model::Digest;
use crate::model::kind::Language;
use crate::telemetry::metrics;

/// Says what the digest is of, so that no module's digest can be meant.
const DIGEST_CONTEXT: &[u8] = b"wisp engine 1\0";
/// What an instance is taken to write to of the engine's memory before one was measured.
const OWN_BYTES_ASSUMED: usize = 512 << 10;
/// How engines are kept and run.
const SHAPE: Shape = Shape {
    abi: Abi::Core,
    class: Class::Large,
    imports_wasi: false,
};

/// A language's engine, linked.
pub(in super::super) struct Engine {
    pub(in super::super) language: Language,
    /// Names its module.
    pub(in super::super) digest: Digest,
    pub(in super::super) pre: InstancePre<Host>,
    pub(in super::super) exports: CoreExports,
    pub(super) prepare: ModuleExport,
    pub(super) load: ModuleExport,
    /// Bytes of memory an instance begins with, all of them copy-on-write.
    pub(super) image_bytes: usize,
    pub(super) table_bytes: usize,
    /// How much of that the instance that was looked at last had made its own.
    own_bytes: AtomicUsize,
    is_measured: AtomicBool,
    pub(super) pagemap: Pagemap,
    /// What is known of the pages that all instances write to, whatever their program.
    pub(in super::super) prefault: Prefault,
}

impl Engine {
    /// Links a compiled engine.
    ///
    /// # Errors
    /// When it lacks an export, or imports what nobody provides.
    pub(super) fn new(
        language: Language,
        digest: Digest,
        linker: &Linker<Host>,
        module: &Module,
    ) -> wasmtime::Result<Self> {
        let find = |name: &str| {
            module
                .get_export_index(name)
                .ok_or_else(|| wasmtime::format_err!("it exports no `{name}`"))
        };
        let required = module.resources_required();
        let bytes = |count: u32, most: Option<u64>, unit: usize| {
            let bytes = u64::from(count).saturating_mul(most.unwrap_or(0));
            usize::try_from(bytes)
                .unwrap_or(usize::MAX)
                .saturating_mul(unit)
        };
        let image_bytes = bytes(
            required.num_memories,
            required.max_initial_memory_size,
            WASM_PAGE_BYTES,
        );
        Ok(Self {
            language,
            digest,
            exports: exports(module)?,
            prepare: find("wisp_prepare")?,
            load: find("wisp_load")?,
            image_bytes,
            table_bytes: bytes(
                required.num_tables,
                required.max_initial_table_size,
                TABLE_ELEMENT_BYTES,
            ),
            own_bytes: AtomicUsize::new(image_bytes.min(OWN_BYTES_ASSUMED)),
            is_measured: AtomicBool::new(false),
            pagemap: Pagemap::open(),
            prefault: Prefault::default(),
            pre: linker.instantiate_pre(module)?,
        })
    }

    /// What a new instance is likely to make its own of the memory it begins with.
    pub(super) fn own_bytes(&self) -> usize {
        self.own_bytes.load(Ordering::Relaxed)
    }

    /// Whether that is more than a guess.
    pub(super) fn is_measured(&self) -> bool {
        self.is_measured.load(Ordering::Relaxed)
    }

    /// Takes note of what an instance had made its own.
    pub(super) fn measured(&self, own_bytes: usize) {
        self.is_measured.store(true, Ordering::Relaxed);
        self.own_bytes
            .store(own_bytes.min(self.image_bytes), Ordering::Relaxed);
    }
}

/// The engines there are.
pub(in super::super) struct Languages {
    modules: EngineModules,
    javascript: OnceCell<Arc<Engine>>,
    python: OnceCell<Arc<Engine>>,
}

impl Languages {
    /// None linked yet.
    pub(in super::super) fn new(modules: EngineModules) -> Self {
        Self {
            modules,
            javascript: OnceCell::new(),
            python: OnceCell::new(),
        }
    }

    fn cell(&self, language: Language) -> &OnceCell<Arc<Engine>> {
        match language {
            Language::JavaScript => &self.javascript,
            Language::Python => &self.python,
        }
    }

    /// An engine, if it is linked.
    pub(in super::super) fn get(&self, language: Language) -> Option<Arc<Engine>> {
        self.cell(language).get().cloned()
    }
}

impl Wasmtime {
    /// An engine, when it is ready: at once, or after it was loaded, or (once for a data folder) compiled.
    ///
    /// # Errors
    /// When this build has none, or it cannot be compiled or linked here.
    pub(in super::super) async fn engine(
        &self,
        language: Language,
    ) -> Result<Arc<Engine>, Refused> {
        let languages = &self.inner.languages;
        if let Some(engine) = languages.get(language) {
            return Ok(engine);
        }
        let module = languages.modules.of(language).cloned().ok_or_else(|| {
            Refused::Invalid(format!(
                "This server was built without an engine for {}.",
                language.name()
            ))
        })?;
        let gone = || Refused::Unavailable("The server is shutting down.".into());
        let sandbox = self.me.upgrade().ok_or_else(gone)?;
        // A task of its own: it must not begin again whenever a client that waits for it goes away.
        let made = tokio::spawn(async move {
            let cell = sandbox.inner.languages.cell(language);
            let make = || sandbox.make_engine(language, module);
            cell.get_or_try_init(make).await.cloned()
        });
        made.await.map_err(|_| gone())?
    }

    /// Makes every engine ready that is not, one after the other. What fails is logged, and tried again by who needs it.
    pub(crate) async fn ready_engines(&self) {
        for language in Language::ALL {
            if self.inner.languages.modules.of(language).is_none() {
                continue;
            }
            if let Err(error) = self.engine(language).await {
                tracing::warn!(language = language.name(), %error, "a language's engine is not ready");
            }
        }
    }

    async fn make_engine(
        &self,
        language: Language,
        module: Cow<'static, [u8]>,
    ) -> Result<Arc<Engine>, Refused> {
        let began = Instant::now();
        let mut hasher = blake3::Hasher::new();
        let digest = Digest(
            *hasher
                .update(DIGEST_CONTEXT)
                .update(&module)
                .finalize()
                .as_bytes(),
        );
        self.inner.cache.pin(&digest);
        let found = self
            .blocking(move |inner| inner.cache.load(&digest, &inner.engines))
            .await?;
        let is_new = found.is_none();
        let loaded = match found {
            Some(found) => found.loaded,
            None => self.compile_engine(language, digest, module).await?,
        };
        let Loaded::Module(module) = loaded else {
            return Err(unusable(language, &"it is no module"));
        };
        let linker = &self.inner.large;
        let engine = Engine::new(language, digest, linker, &module)
            .map_err(|error| unusable(language, &format!("{error:#}")))?;
        if is_new {
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(
                language = language.name(),
                took_ms,
                "the language's engine is compiled and ready"
            );
        }
        Ok(Arc::new(engine))
    }

    async fn compile_engine(
        &self,
        language: Language,
        digest: Digest,
        module: Cow<'static, [u8]>,
    ) -> Result<Loaded, Refused> {
        if self.fetch(digest).await
            && let Some(found) = self
                .blocking(move |inner| inner.cache.load(&digest, &inner.engines))
                .await?
        {
            return Ok(found.loaded);
        }
        tracing::info!(
            language = language.name(),
            "compiling the language's engine, once for this data folder; what needs it waits until that is done"
        );
        let began = Instant::now();
        let bytes = self.blocking(move |_| unpacked(&module)).await??;
        let artefact = self.compile.compile_own(bytes.into()).await?;
        metrics::compiled(began.elapsed());
        let artefact = Arc::new(artefact);
        self.offer(digest, SHAPE, Arc::clone(&artefact));
        self.blocking(move |inner| {
            inner.cache.store(&digest, SHAPE, &artefact);
            match inner.cache.load(&digest, &inner.engines) {
                Some(found) => Ok(found.loaded),
                None => cache::from_compiler(&artefact, SHAPE, &inner.engines)
                    .map_err(|error| unusable(language, &format!("{error:#}"))),
            }
        })
        .await?
    }
}

fn unusable(language: Language, why: &dyn std::fmt::Display) -> Refused {
    Refused::Unavailable(format!(
        "The engine for {} cannot be used here: {why}.",
        language.name()
    ))
}
