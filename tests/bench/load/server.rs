//! The server under test: the real binary, a process of its own, on a data folder of its own.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hyper::{Method, StatusCode};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Call, Connection};
use crate::report::say;

/// How long it may take to start and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether it is at rest, and how many looks in a row must find it so.
const LOOK: Duration = Duration::from_millis(100);
const RESTED_LOOKS: usize = 5;

/// A running server; killed and its data removed when dropped.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    child: Child,
    folder: TempDir,
}

/// Bytes of memory, from `smaps_rollup`.
pub(crate) struct Memory {
    /// Every mapping's pages, as often as they are mapped.
    pub(crate) resident: u64,
    /// Pages mapped several times divided among the mappings.
    pub(crate) shares: u64,
    /// Pages mapped once.
    pub(crate) private: u64,
}

impl Server {
    /// Starts a server on an empty data folder with `config`, what differs from the defaults, and waits until it is at rest.
    pub(crate) async fn start(config: &str) -> Result<Self> {
        let server = Self::started(config).await?;
        server.settle().await?;
        Ok(server)
    }

    /// The same without the rest.
    pub(crate) async fn started(config: &str) -> Result<Self> {
        let folder = TempDir::with_prefix_in("load-", env!("CARGO_TARGET_TMPDIR"))?;
        std::fs::write(folder.path().join("wisp.toml"), config)?;
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = spawn(addr, &folder)?;
        let mut server = Self {
            addr,
            child,
            folder,
        };
        server.wait_ready().await?;
        Ok(server)
    }

    /// Ends it as an operator would and starts it again on the same data.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        rustix::process::kill_process(self.pid()?, rustix::process::Signal::TERM)?;
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .context("it does not stop on SIGTERM")??;
        ensure!(
            status.success(),
            "it ended with {status} on SIGTERM\n{}",
            self.log_end()
        );
        self.child = spawn(self.addr, &self.folder)?;
        self.wait_ready().await?;
        self.settle().await
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&self) -> Result<()> {
        Ok(rustix::process::kill_process(
            self.pid()?,
            rustix::process::Signal::KILL,
        )?)
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let health = Call::new(Method::GET, "/health", "", "")?;
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}\n{}", self.log_end());
            }
            if let Ok(mut connection) = Connection::open(self.addr).await
                && let Ok((StatusCode::OK, _)) = connection.ask(&health).await
            {
                return Ok(());
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "the server is not ready after {PATIENCE:?}\n{}",
                self.log_end()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it is at rest. On a new data folder it compiles the engines of languages, in processes of their own, for
    /// some seconds after it is ready: once, and not to be found in the figures of whatever is measured first.
    pub(crate) async fn settle(&self) -> Result<()> {
        let (start, mut rested) = (Instant::now(), 0);
        let mut used = self.cpu_seconds()?;
        while rested < RESTED_LOOKS {
            ensure!(
                start.elapsed() < PATIENCE,
                "the server is not at rest after {PATIENCE:?}"
            );
            sleep(LOOK).await;
            let now = self.cpu_seconds()?;
            let rests = now - used <= LOOK.as_secs_f64() / 5.0 && !self.has_children()?;
            rested = if rests { rested + 1 } else { 0 };
            used = now;
        }
        Ok(())
    }

    /// Whether processes that it started run.
    fn has_children(&self) -> Result<bool> {
        let id = self.child.id().context("the server has ended")?.to_string();
        let parent = |stat: &str| {
            let (_, fields) = stat.rsplit_once(')')?;
            fields.split_whitespace().nth(1).map(|parent| parent == id)
        };
        let all = std::fs::read_dir("/proc")?.flatten();
        let stats = all.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
        Ok(stats.into_iter().any(|stat| parent(&stat) == Some(true)))
    }

    /// The last of what it logged, for an error.
    fn log_end(&self) -> String {
        let log = std::fs::read_to_string(log_path(&self.folder)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Its last warnings and errors.
    fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(log_path(&self.folder)).unwrap_or_default();
        let grave = |line: &&str| line.contains("WARN") || line.contains("ERROR");
        let lines: Vec<&str> = log.lines().filter(grave).collect();
        let last = &lines[lines.len().saturating_sub(5)..];
        last.iter().map(|line| (*line).to_owned()).collect()
    }

    fn pid(&self) -> Result<rustix::process::Pid> {
        let id = self.child.id().context("the server has ended")?;
        rustix::process::Pid::from_raw(i32::try_from(id)?).context("no process has the id 0")
    }

    /// Bytes resident now.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(self.proc("status")?)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .context("VmRSS")?;
        Ok(kib.trim().parse::<u64>()? * 1024)
    }

    /// Its memory, by who has it.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let rollup = std::fs::read_to_string(self.proc("smaps_rollup")?)?;
        let bytes = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
            let kib: u64 = kib.with_context(|| name.to_owned())?.trim().parse()?;
            anyhow::Ok(kib * 1024)
        };
        Ok(Memory {
            resident: bytes("Rss:")?,
            shares: bytes("Pss:")?,
            private: bytes("Private_Clean:")? + bytes("Private_Dirty:")?,
        })
    }

    /// CPU time it has used, seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(self.proc("stat")?)?;
        // What follows the name, which may hold anything and ends with the last parenthesis: user and system time are
        // the 12th and 13th field of it, in ticks of 10 ms.
        let (_, fields) = stat.rsplit_once(')').context("stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / 100.0)
    }

    /// Mappings it has now.
    pub(crate) fn map_count(&self) -> Result<usize> {
        Ok(std::fs::read_to_string(self.proc("maps")?)?.lines().count())
    }

    fn proc(&self, file: &str) -> Result<PathBuf> {
        let id = self.child.id().context("the server has ended")?;
        Ok(PathBuf::from(format!("/proc/{id}/{file}")))
    }
}

impl Drop for Server {
    /// Sees it end before its folder is removed under it, and says what it complained of.
    fn drop(&mut self) {
        for line in self.complaints() {
            say(&format!("  server: {line}"));
        }
        drop(self.child.start_kill());
        for _ in 0..500 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            let tv_nsec = 10_000_000;
            let _ = rustix::thread::nanosleep(&rustix::time::Timespec { tv_sec: 0, tv_nsec });
        }
    }
}

fn log_path(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

fn spawn(addr: SocketAddr, folder: &TempDir) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_path(folder))?;
    let child = Command::new(env!("CARGO_BIN_EXE_wisp"))
        // Variables of the benchmark's own, which would look like settings.
        .env_remove("WISP_BENCH_WASMTIME")
        .env_remove("WISP_BENCH_WORKERD")
        .arg("serve")
        .args(["--listen", &addr.to_string()])
        .arg("--data")
        .arg(folder.path().join("data"))
        .arg("--config")
        .arg(folder.path().join("wisp.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn();
    child.with_context(|| format!("starting {}", env!("CARGO_BIN_EXE_wisp")))
}
