//! Engines: found, or compiled once for a data folder, and linked.
//!
//! Compiling one well takes seconds. A server that has none begins with code that was compiled quickly, which answers uploads
//! and calls and never gets to the disk; the best code is compiled behind that, kept, and takes its place. Then
//! programs are linked anew when they are called next, and an instance of the former code ends with its next run.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio::time::Instant;
use wasmtime::{InstancePre, Linker, Module, ModuleExport};

use super::super::abi::Shape;
use super::super::cache::{self, Found, Loaded};
use super::super::engine::{Class, WASM_PAGE_BYTES};
use super::super::host::Host;
use super::super::instance::CoreExports;
use super::super::limits::TABLE_ELEMENT_BYTES;
use super::super::prefault::Prefault;
use super::super::service::{Inner, Wasmtime, exports};
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
    /// Whether better code has taken its place.
    is_replaced: AtomicBool,
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
            is_replaced: AtomicBool::new(false),
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

    /// Whether better code has taken its place, so that nothing more is to be begun with it.
    pub(in super::super) fn is_replaced(&self) -> bool {
        self.is_replaced.load(Ordering::Acquire)
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
    javascript: Codes,
    python: Codes,
}

/// One language's engine.
#[derive(Default)]
struct Codes {
    /// What there is: the best code, or such as was compiled quickly, which goes with its last instance once it is replaced.
    now: RwLock<Option<Arc<Engine>>>,
    /// Held by whoever makes the first.
    making: Mutex<()>,
}

impl Languages {
    /// None linked yet.
    pub(in super::super) fn new(modules: EngineModules) -> Self {
        Self {
            modules,
            javascript: Codes::default(),
            python: Codes::default(),
        }
    }

    fn codes(&self, language: Language) -> &Codes {
        match language {
            Language::JavaScript => &self.javascript,
            Language::Python => &self.python,
        }
    }

    /// An engine, if it is linked.
    pub(in super::super) fn get(&self, language: Language) -> Option<Arc<Engine>> {
        self.codes(language).now.read().clone()
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
            let languages = &sandbox.inner.languages;
            let codes = languages.codes(language);
            let _one_at_a_time = codes.making.lock().await;
            if let Some(engine) = languages.get(language) {
                return Ok(engine);
            }
            let engine = Arc::clone(&sandbox).make_engine(language, module).await?;
            *codes.now.write() = Some(Arc::clone(&engine));
            Ok(engine)
        });
        made.await.map_err(|_| gone())?
    }

    /// Makes every engine ready that is not, one after the other. What fails is logged, and tried again by who needs it.
    pub(crate) fn ready_engines(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        // In a box, since an engine that is ready waits for the others before better code is compiled.
        Box::pin(async move {
            for language in Language::ALL {
                if self.inner.languages.modules.of(language).is_none() {
                    continue;
                }
                if let Err(error) = self.engine(language).await {
                    tracing::warn!(language = language.name(), %error, "a language's engine is not ready");
                }
            }
        })
    }

    async fn make_engine(
        self: Arc<Self>,
        language: Language,
        module: Cow<'static, [u8]>,
    ) -> Result<Arc<Engine>, Refused> {
        let mut hasher = blake3::Hasher::new();
        let digest = Digest(
            *hasher
                .update(DIGEST_CONTEXT)
                .update(&module)
                .finalize()
                .as_bytes(),
        );
        self.inner.cache.pin(&digest);
        if let Some(module) = self.found_engine(digest).await? {
            return self.link_engine(language, digest, &module);
        }
        let began = Instant::now();
        let bytes: Arc<[u8]> = self.blocking(move |_| unpacked(&module)).await??.into();
        if !self.inner.config.engines_ahead {
            // One command and not a server: it may be gone before better code is there.
            return self.best_engine(language, digest, bytes).await;
        }
        tracing::info!(
            language = language.name(),
            "compiling the language's engine, once for this data folder: what needs it waits for a first version of it"
        );
        let artefact = self.compile.compile_own(Arc::clone(&bytes), true).await?;
        let module = self
            .blocking(move |inner| module_of(language, &artefact, inner))
            .await??;
        let engine = self.link_engine(language, digest, &module)?;
        told(
            language,
            began,
            "a first version of the language's engine is ready",
        );
        tokio::spawn(self.replace_engine(language, Arc::clone(&engine), bytes));
        Ok(engine)
    }

    /// The module from disk, or from who compiled it before.
    async fn found_engine(&self, digest: Digest) -> Result<Option<Module>, Refused> {
        let load = move |inner: &Inner| inner.cache.load(&digest, &inner.engines);
        let mut found = self.blocking(load).await?;
        if found.is_none() && self.fetch(digest).await {
            found = self.blocking(load).await?;
        }
        Ok(match found.map(|found| found.loaded) {
            Some(Loaded::Module(module)) => Some(module),
            _ => None,
        })
    }

    fn link_engine(
        &self,
        language: Language,
        digest: Digest,
        module: &Module,
    ) -> Result<Arc<Engine>, Refused> {
        Engine::new(language, digest, &self.inner.large, module)
            .map(Arc::new)
            .map_err(|error| unusable(language, &format!("{error:#}")))
    }

    /// Puts the best code in the place of `former`. Should that fail, the former serves until the next start.
    async fn replace_engine(
        self: Arc<Self>,
        language: Language,
        former: Arc<Engine>,
        bytes: Arc<[u8]>,
    ) {
        // Nobody waits for better code, and somebody may wait for another language's first. Afterwards this one's is in place.
        self.ready_engines().await;
        let better = match self.best_engine(language, former.digest, bytes).await {
            Ok(better) => better,
            Err(error) => {
                tracing::warn!(language = language.name(), %error, "a language's engine stays slower than it could be");
                return;
            }
        };
        // In this order: whoever links with the former sees afterwards that it is replaced, and does not keep that.
        *self.inner.languages.codes(language).now.write() = Some(better);
        former.is_replaced.store(true, Ordering::Release);
        self.inner.programs.remove_replaced();
    }

    /// The best code, compiled, kept and linked.
    async fn best_engine(
        &self,
        language: Language,
        digest: Digest,
        bytes: Arc<[u8]>,
    ) -> Result<Arc<Engine>, Refused> {
        let began = Instant::now();
        let artefact = Arc::new(self.compile.compile_own(bytes, false).await?);
        metrics::compiled(began.elapsed());
        self.offer(digest, SHAPE, Arc::clone(&artefact));
        let module = self.blocking(move |inner| {
            inner.cache.store(&digest, SHAPE, &artefact);
            match inner.cache.load(&digest, &inner.engines) {
                Some(Found {
                    loaded: Loaded::Module(module),
                    ..
                }) => Ok(module),
                _ => module_of(language, &artefact, inner),
            }
        });
        let engine = self.link_engine(language, digest, &module.await??)?;
        told(
            language,
            began,
            "the language's engine is compiled and ready",
        );
        Ok(engine)
    }
}

/// The module that our compiler's own bytes are.
fn module_of(language: Language, artefact: &[u8], inner: &Inner) -> Result<Module, Refused> {
    match cache::from_compiler(artefact, SHAPE, &inner.engines) {
        Ok(Loaded::Module(module)) => Ok(module),
        Ok(_) => Err(unusable(language, &"it is no module")),
        Err(error) => Err(unusable(language, &format!("{error:#}"))),
    }
}

fn told(language: Language, began: Instant, what: &str) {
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(language = language.name(), took_ms, "{what}");
}

fn unusable(language: Language, why: &dyn std::fmt::Display) -> Refused {
    Refused::Unavailable(format!(
        "The engine for {} cannot be used here: {why}.",
        language.name()
    ))
}
