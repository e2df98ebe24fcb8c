//! The composition root: builds every part from a [`Config`], serves, and takes it all down again. The only module
//! that picks backends and the only one that sees both the front and the back.
//!
//! Order matters at both ends. Up: the data folder is taken first (a second server stops there), then everything is
//! built, then the port is opened, then what a former process had accepted is queued again, and only then is anything
//! served. Down: no new connections, requests in flight are finished, then runs are, then the store is closed.

mod artefacts;
mod cluster;
mod engine;
mod replies;
mod salvage;
mod standing;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use cluster::Joined;
use engine::Engine;

use crate::api;
use crate::auth::{self, Keys, Throttle};
use crate::config::{self, Config};
use crate::invoke::idempotency::Idempotency;
use crate::invoke::resolve::Resolver;
use crate::invoke::{self, Invoker, Upload, UploadError};
use crate::model::{Digest, Namespace};
use crate::pool;
use crate::sandbox::{self, Compiler, Refused, Sandbox, Source, Wasmtime};
use crate::store::catalog::Catalog;
use crate::store::keyvalue::KeyValue;
use crate::store::reseal::Resealer;
use crate::store::seal::Seal;
use crate::store::sealed::sealed;
use crate::store::watched::{Hub, Watched};
use crate::store::{self, Store, Tenants, embedded, shared};
use crate::system;
use crate::telemetry::{self, metrics};

/// Actions kept in memory, without their code: some KiB each.
const CATALOG_ENTRIES_MAX: usize = 20_000;
/// Longest time a drain waits for records to be written before the store is closed.
const FLUSH_MAX: Duration = Duration::from_secs(10);
/// Longest time that guests may take to be dropped: they yield about every millisecond.
const ABANDON_MAX: Duration = Duration::from_secs(1);
/// Longest time a drain waits for runs: the longest timeout an action may have by default, and a little.
const DRAIN_MAX: Duration = Duration::from_secs(310);

/// A running server.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    summary: Vec<String>,
    guest_key: Option<String>,
    /// Ends the server when it is sent or dropped, and the task that serves.
    server: (oneshot::Sender<()>, JoinHandle<()>),
    engine: Engine,
    /// The cluster it is a node of.
    joined: Option<Joined>,
    keeper: Keeper,
    upkeep: JoinSet<()>,
    sandbox: Arc<Wasmtime>,
    /// Whether the engines of languages are still to be made ready ahead, when there is time for it.
    is_ahead_due: bool,
    guests: Guests,
}

/// Threads that guests compute on. Dropped, they are left to end by themselves: waiting for them would block a thread that
/// serves, and whoever leaves a drain half-way drops them there.
#[derive(Debug)]
struct Guests(Option<Runtime>);

impl Guests {
    fn handle(&self) -> Handle {
        let runtime = self.0.as_ref().expect("it is taken when this is dropped");
        runtime.handle().clone()
    }

    /// Waits so long for what runs to be dropped.
    fn abandon(mut self, wait: Duration) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(wait);
        }
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Ends the store.
#[derive(Debug)]
enum Keeper {
    Embedded(embedded::Keeper),
    Shared(shared::Keeper),
}

impl Keeper {
    async fn close(self) -> Result<(), store::Error> {
        match self {
            Self::Embedded(keeper) => keeper.close().await,
            Self::Shared(keeper) => keeper.close().await,
        }
    }
}

/// The sandbox, as uploads need it.
struct Uploads(Arc<dyn Sandbox>);

#[async_trait]
impl Upload for Uploads {
    async fn prepare(
        &self,
        namespace: &Namespace,
        kind: &str,
        main: Option<&str>,
        code: Arc<str>,
    ) -> Result<Digest, UploadError> {
        let source = Source {
            namespace: Some(namespace.clone()),
            kind: kind.to_owned(),
            main: main.map(str::to_owned),
            code,
        };
        match self.0.prepare(source).await {
            Ok(prepared) => Ok(prepared.program),
            Err(Refused::Invalid(why)) => Err(UploadError::Invalid(why)),
            Err(Refused::TooCostly(why)) => Err(UploadError::TooCostly(why)),
            Err(Refused::Unavailable(why)) => Err(UploadError::Unavailable(why)),
        }
    }

    fn speaks_http(&self, program: &Digest) -> bool {
        let program = self.0.linked(program);
        program.is_some_and(|program| program.speaks_http())
    }
}

impl App {
    /// Builds every part, opens the data folder and serves.
    ///
    /// # Errors
    /// With what was wrong and where: the address, the data folder, the keys, what this machine cannot give.
    pub async fn start(mut config: Config) -> anyhow::Result<Self> {
        let render = metrics::install().map_err(anyhow::Error::msg)?;
        let seal = Arc::new(Seal::of(&config.encryption).map_err(anyhow::Error::msg)?);
        let (raw, keeper, joined) = open(&config, &seal).await?;
        let checked = match &joined {
            None => seal.check_folder(&config.server.data),
            Some(joined) => joined.check_keys(&seal).await,
        };
        checked.map_err(anyhow::Error::msg)?;
        let mut store = sealed(raw.clone(), &seal);
        let hub = Arc::new(Hub::default());
        store.activations = Arc::new(Watched::new(store.activations, Arc::clone(&hub)));
        auth::ensure_defaults(&*store.tenants, &config.auth, &seal).await?;
        let listener = listen(config.server.listen, &*store.tenants).await?;
        let address = listener.local_addr()?;

        config.egress.api_hosts = api_hosts(&config, address);
        let shared = match &joined {
            None => None,
            Some(joined) => joined.compiled(&config)?,
        };
        let sandbox = sandbox(&config, &store, &hub, shared)?;
        let guests = Guests(Some(guest_threads(&config)?));
        let api_host = config.server.api_host.clone();
        config.pool.api_host = api_host.unwrap_or_else(|| format!("http://{}", reachable(address)));
        let shown = (hub, seal, raw);
        let threads = guests.handle();
        let engine = Engine::new(&config, &sandbox, &store, threads, shown, joined.as_ref());
        let mut summary = summary(&config, &sandbox, &engine);
        summary.extend(joined.as_ref().map(|joined| joined.summary(&config)));
        let mut upkeep = engine.upkeep();
        let (state, invoker) = state(&config, &sandbox, &engine, render, joined.as_ref())?;
        if let Some(joined) = &joined {
            let parts = cluster::Around {
                config: &config,
                address,
                engine: &engine,
                invoker: &invoker,
                state: &state,
            };
            joined.start(parts, &mut upkeep).await?;
        }
        recover(&engine, &invoker).await?;
        invoker.start_clock().await?;
        if config.system.packages {
            let (catalog, uploads) = (Arc::clone(&state.catalog), Arc::clone(&state.uploads));
            // Compiling takes a while, and nobody should wait for it who does not need it.
            upkeep.spawn(async move { system::install(&catalog, &*uploads).await });
        }
        let (stop, stopped) = oneshot::channel();
        let edge = config.api.clone();
        let served = tokio::spawn(async move {
            // Sent or dropped, both mean: stop.
            api::serve(listener, state, edge, async { drop(stopped.await) }).await;
        });
        let guest_key = guest_key(&*store.tenants, &config.auth).await?;
        let server = (stop, served);
        Ok(Self {
            address,
            summary,
            guest_key,
            server,
            engine,
            joined,
            keeper,
            upkeep,
            sandbox,
            is_ahead_due: config.sandbox.engines_ahead,
            guests,
        })
    }

    /// Makes the engines of languages ready behind what is served, where the configuration wants that. To be called when
    /// whoever waits for the start has all of it: compiling them takes the whole machine for a second, once for a data folder.
    pub fn ready_engines(&mut self) {
        if std::mem::take(&mut self.is_ahead_due) {
            let sandbox = Arc::clone(&self.sandbox);
            self.upkeep
                .spawn(async move { sandbox.ready_engines().await });
        }
    }

    /// Where it listens; the port is the real one when the configuration said 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it chose: pool sizes, memory budget, data folder. One line each.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        self.summary.clone()
    }

    /// The guest namespace's `uuid:key`, while it is the one the configuration gave it.
    #[must_use]
    pub fn guest_key(&self) -> Option<String> {
        self.guest_key.clone()
    }

    /// Activations accepted and not ended; where calls come in elsewhere, those that run here.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.engine.waits.count().max(self.engine.worker.runs())
    }

    /// Ends at once: what runs is dropped where it is. For a server whose folder goes with it. Not to be called on a thread
    /// of its runtime.
    pub fn abandon(self) {
        // Before the runtime goes whose clock they use.
        self.guests.abandon(ABANDON_MAX);
    }

    /// Stops accepting, finishes what runs, closes the store. What was promised and waits runs at the next start.
    ///
    /// # Errors
    /// When records could not be written.
    pub async fn drain(mut self) -> anyhow::Result<()> {
        let (stop, served) = self.server;
        // Streams of events would hold their connections open for ever.
        self.engine.hub.close();
        self.sandbox.close();
        stop.send(()).unwrap_or_default();
        served.await?;
        self.engine.events.stop();
        if let Some(joined) = &self.joined {
            joined.leave().await;
        }
        let idle = async {
            self.engine.running.idle().await;
            self.engine.worker.idle().await;
        };
        if tokio::time::timeout(DRAIN_MAX, idle).await.is_err() {
            tracing::warn!(
                runs = self.engine.worker.runs(),
                "runs did not end and are left behind"
            );
        }
        if let Some(joined) = &self.joined {
            joined.farewell(&*self.engine.store.activations).await;
        }
        self.upkeep.shutdown().await;
        // Before the threads go that settle promised work: what they wait for is the disk.
        // A full disk must not hold the end up: the store's own end says what was lost.
        let flushed = tokio::time::timeout(FLUSH_MAX, self.engine.store.activations.flush()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!("not every activation record is on disk yet");
        }
        drop(self.guests);
        self.keeper.close().await?;
        Ok(())
    }
}

/// The store, alone on this machine or shared with the other nodes of a cluster.
async fn open(
    config: &Config,
    seal: &Arc<Seal>,
) -> anyhow::Result<(Store, Keeper, Option<Joined>)> {
    if config.redis.url.is_some() {
        let joined = Joined::join(config, seal).await?;
        let (store, keeper) = joined.store();
        return Ok((store, Keeper::Shared(keeper), Some(joined)));
    }
    let (folder, limits) = (config.server.data.clone(), config.store.clone());
    let seal = Arc::clone(seal);
    let opened = tokio::task::spawn_blocking(move || embedded::open(&limits, &folder, seal));
    let (store, keeper) = opened.await??;
    Ok((store, Keeper::Embedded(keeper), None))
}

/// Queues again what a former process left.
async fn recover(engine: &Engine, invoker: &Invoker) -> anyhow::Result<()> {
    let recovered = engine.recover(invoker).await?;
    if recovered > 0 {
        tracing::info!(
            recovered,
            "work accepted before the last stop is queued again"
        );
    }
    Ok(())
}

/// The port, unless it can be reached from elsewhere with keys that everybody knows.
async fn listen(address: SocketAddr, tenants: &dyn Tenants) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() && auth::uses_well_known_keys(tenants).await? {
        bail!(
            "refusing to listen on {address}: the guest or the system key is one that everybody knows. Set keys of your \
             own with guest_key and system_key in the [auth] section, or WISP_AUTH_GUEST_KEY and WISP_AUTH_SYSTEM_KEY \
             (a UUID, a colon, 64 letters or digits)"
        );
    }
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}

/// The guest's key, as far as it is known: the configured one, or the well-known one while it opens the namespace.
async fn guest_key(tenants: &dyn Tenants, config: &auth::Config) -> anyhow::Result<Option<String>> {
    let key = config
        .guest_key
        .clone()
        .unwrap_or_else(|| auth::WELL_KNOWN_GUEST.to_owned());
    let Ok(credential) = key.parse::<auth::Credential>() else {
        return Ok(None);
    };
    let tenant = tenants.by_uuid(credential.uuid).await?;
    let opens = tenant.is_some_and(|tenant| tenant.key_digest == credential.digest());
    Ok(opens.then_some(key))
}

/// Runs the compiler in this process and nothing else: what `wisp __compile` is, started by the sandbox with `args` after it.
pub fn compile_child(args: impl Iterator<Item = String>) -> ExitCode {
    sandbox::compile_child(args)
}

/// Where a server that listens on `address` is found from the same machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Hosts and ports at which guests find the API.
fn api_hosts(config: &Config, address: SocketAddr) -> Vec<String> {
    let named = config.server.api_host.as_deref();
    let named = named.map(|url| url.split_once("://").map_or(url, |(_, rest)| rest));
    let named = named.and_then(|rest| rest.split('/').next());
    let own = reachable(address).to_string();
    named.map(str::to_owned).into_iter().chain([own]).collect()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The threads that guests compute on when their first slice was not enough.
fn guest_threads(config: &Config) -> anyhow::Result<Runtime> {
    let threads = match config.worker.guest_threads {
        0 => cores(),
        threads => threads,
    };
    let niceness = config.worker.guest_niceness;
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("guest")
        .on_thread_start(move || {
            // On Linux the niceness is the thread's. Failing only costs latency.
            if let Err(error) = rustix::process::nice(niceness) {
                tracing::debug!(%error, "guest threads run at the priority of all others");
            }
        })
        .enable_all()
        .build()
        .context("cannot start the guests' threads")
}

/// The sandbox, with what its guests may keep.
fn sandbox(
    config: &Config,
    store: &Store,
    hub: &Arc<Hub>,
    shared: Option<sandbox::Shared>,
) -> anyhow::Result<Arc<Wasmtime>> {
    let artefacts = config.server.artefacts.as_ref();
    let artefacts = artefacts.unwrap_or(&config.server.data);
    let mut sandbox = sandbox_config(config)?;
    let pairs = KeyValue::new(Arc::clone(&store.items), config.keyvalue.clone());
    sandbox.pairs = Some(Arc::new(pairs));
    sandbox.shared = shared;
    sandbox.listener = Some(Arc::clone(hub) as _);
    Wasmtime::new(sandbox, artefacts)
        .map_err(|error| anyhow::anyhow!("cannot set up the sandbox: {error}"))
}

/// The sandbox's configuration, with this very program as its compiler unless another was named.
fn sandbox_config(config: &Config) -> anyhow::Result<sandbox::Config> {
    let program = match &config.server.compiler {
        Some(program) => program.clone(),
        None => config::own_program().context("cannot find this program to compile with")?,
    };
    Ok(sandbox::Config {
        compiler: Compiler::Process(program),
        egress: config.egress.clone(),
        ..config.sandbox.clone()
    })
}

/// As whoever started this process does: the one way in which a server ends.
fn end_this_process() {
    let signal = rustix::process::Signal::TERM;
    if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), signal) {
        tracing::error!(%error, "this process could not be told to end");
    }
}

fn memory_budget(config: &Config) -> usize {
    match config.pool.memory_mib {
        0 => pool::detect_budget(),
        mib => usize::try_from(mib)
            .unwrap_or(usize::MAX)
            .saturating_mul(1 << 20),
    }
}

fn summary(config: &Config, sandbox: &Arc<Wasmtime>, engine: &Engine) -> Vec<String> {
    let mut lines = vec![format!("data: {}", config.server.data.display())];
    lines.extend(sandbox.describe());
    lines.push(format!(
        "guest memory: at most {} MiB together, idle instances are kept {} s",
        engine.pool.occupancy().memory_budget_bytes >> 20,
        config.pool.keep_alive_s
    ));
    lines.push(format!(
        "runs: at most {} at one time, on {} cores",
        engine.worker.runs_max(),
        cores()
    ));
    lines
}

/// The metrics, as Prometheus reads them.
fn shown(
    engine: &Engine,
    sandbox: &Wasmtime,
    render: &PrometheusHandle,
    watch: Option<&standing::Watch>,
) -> String {
    let mut all = engine.gauges(sandbox);
    let cluster = watch.map(standing::Watch::gauges);
    if let Some(cluster) = &cluster {
        // What waits for this node's permits waits in streams, too.
        all.queue_oldest_age = all.queue_oldest_age.max(cluster.oldest_age);
    }
    metrics::set(&all);
    let mut text = metrics::print(render);
    if let Some(cluster) = &cluster {
        telemetry::cluster::print(&mut text, cluster);
    }
    text
}

fn state(
    config: &Config,
    sandbox: &Arc<Wasmtime>,
    engine: &Engine,
    render: PrometheusHandle,
    joined: Option<&Joined>,
) -> anyhow::Result<(api::State, Invoker)> {
    let store = engine.store.clone();
    let gauges = (engine.clone(), Arc::clone(sandbox));
    let watch = joined.map(Joined::watch);
    let (ready, waits) = (engine.clone(), Arc::clone(&engine.waits));
    let (entities, seal) = (Arc::clone(&store.entities), Arc::clone(&engine.seal));
    let catalog = Catalog::sealing(entities, CATALOG_ENTRIES_MAX, seal);
    let catalog = Arc::new(catalog);
    let resolver = Arc::new(Resolver::new(Arc::clone(&catalog)));
    let keys = Keys::new(Arc::clone(&store.tenants), config.limits.clone())
        .context("the system has no randomness")?
        .opening(Arc::clone(&engine.seal));
    let window = config.auth.rate_window;
    let throttle = match joined {
        None => Throttle::new(window),
        Some(joined) => joined.limits(window),
    };
    let (keys, throttle) = (Arc::new(keys), Arc::new(throttle));
    let invoker = Invoker::new(invoke::Parts {
        queue: Arc::clone(&engine.queue),
        store: store.clone(),
        waits: Arc::clone(&engine.waits),
        resolver: Arc::clone(&resolver),
        keys: Arc::clone(&keys),
        throttle: Arc::clone(&throttle),
        running: Arc::clone(&engine.running),
        events: Arc::clone(&engine.events),
    });
    let (raw, seal) = (engine.raw.clone(), Arc::clone(&engine.seal));
    let state = api::State {
        resealer: Arc::new(Resealer::new(raw, seal, Arc::clone(&catalog))),
        catalog,
        resolver,
        keys,
        throttle,
        hub: Arc::clone(&engine.hub),
        gates: Arc::default(),
        idempotency: Idempotency::new(store.clone(), &config.invoke),
        cluster: joined.map(|joined| joined.standing(&config.redis.cluster)),
        defaults: config.limits.clone(),
        build: api::Build {
            date: env!("CARGO_PKG_VERSION").to_owned(),
            number: "standalone".to_owned(),
        },
        invoker: Arc::new(invoker.clone()),
        uploads: Arc::new(Uploads(Arc::clone(sandbox) as _)),
        ready: Arc::new(move || ready.ready()),
        in_flight: Arc::new(move || waits.count()),
        disable: Arc::new(end_this_process),
        metrics: Arc::new(move || shown(&gauges.0, &gauges.1, &render, watch.as_deref())),
        store,
    };
    Ok((state, invoker))
}
