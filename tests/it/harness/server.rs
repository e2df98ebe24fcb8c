//! Servers: the real program, as a process of its own, on any free port, with a folder that is removed with it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use super::http::{Client, Reply, Request};
use super::tenant::Tenant;
use super::{eventually, pause};

/// The well-known keys of a fresh data folder.
pub(crate) const GUEST_KEY: &str = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";
pub(crate) const SYSTEM_KEY: &str = "789c46b1-71f6-4ed5-8c54-816aa4f8c502:abczO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";

/// What every test server is told: small pools, so that many servers fit on one machine.
const SMALL: &str = include_str!("small.toml");

/// Any port of this machine, for nobody else.
const LOOPBACK: &str = "127.0.0.1:0";

/// How long a server may take to be ready, in an unoptimised build on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

/// How long a command may take that does not stay.
const RUN_MAX: Duration = Duration::from_secs(30);

/// A command of the program, with an environment that only the test decides.
pub(crate) fn binary() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_wisp")))
}

fn clean(mut command: Command) -> Command {
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null());
    command
}

/// The server shared by all tests that only need one.
pub(crate) fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| {
        // `setpriv` binds the life of the server to the thread that starts it, hence one that ends with the process only:
        // statics are not dropped, and a server must not outlive its tests.
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let folder = Arc::new(TempDir::new().expect("a temporary folder"));
            let server = Server::start_bound(&folder, "[system]\npackages = true");
            server.await_packages();
            drop(send.send(server));
            loop {
                std::thread::park();
            }
        });
        receive.recv().expect("the shared server starts")
    })
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Mutex<Child>,
    folder: Arc<TempDir>,
    config: String,
}

impl Server {
    /// One with `config` (TOML) over what every test server is told.
    #[track_caller]
    pub(crate) fn start(config: &str) -> Self {
        let folder = Arc::new(TempDir::new().expect("a temporary folder"));
        Self::launch(binary(), folder, config)
    }

    /// One that sees an error, not a signal, when it writes beyond a file size limit: as a full disk looks.
    #[track_caller]
    pub(crate) fn start_without_file_size_signal() -> Self {
        let mut command = clean(Command::new("/bin/sh"));
        command.args([
            "-c",
            "trap '' XFSZ; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_wisp"),
        ]);
        let folder = Arc::new(TempDir::new().expect("a temporary folder"));
        Self::launch(command, folder, "")
    }

    /// One on a data folder of the caller's.
    #[track_caller]
    pub(crate) fn start_in(folder: &Arc<TempDir>, config: &str) -> Self {
        Self::launch(binary(), Arc::clone(folder), config)
    }

    /// As [`Server::start_in`]; it dies with the thread that starts it, even where nothing is dropped.
    #[track_caller]
    pub(crate) fn start_bound(folder: &Arc<TempDir>, config: &str) -> Self {
        Self::start_within(&[], LOOPBACK, folder, config)
    }

    /// As [`Server::start_bound`], run by the command `within` unless that is empty, and listening on `listen`.
    #[track_caller]
    pub(crate) fn start_within(
        within: &[String],
        listen: &str,
        folder: &Arc<TempDir>,
        config: &str,
    ) -> Self {
        let mut command = clean(Command::new("setpriv"));
        command.args(["--pdeathsig", "KILL"]).args(within);
        command.arg(env!("CARGO_BIN_EXE_wisp"));
        Self::launch_on(listen, command, Arc::clone(folder), config)
    }

    #[track_caller]
    fn launch(command: Command, folder: Arc<TempDir>, config: &str) -> Self {
        Self::launch_on(LOOPBACK, command, folder, config)
    }

    #[track_caller]
    fn launch_on(listen: &str, mut command: Command, folder: Arc<TempDir>, config: &str) -> Self {
        let root = folder.path();
        let config_file = merged(config, &on_redis(root));
        fs::write(root.join("wisp.toml"), config_file).expect("a configuration file");
        let log = fs::File::create(root.join("stderr.log")).expect("a log file");
        let mut child = command
            .args(["serve", "--json", "--listen", listen, "--data"])
            .arg(root.join("data"))
            .arg("--config")
            .arg(root.join("wisp.toml"))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (send, first_line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while matches!(stdout.read_line(&mut line), Ok(1..)) {
                drop(send.send(std::mem::take(&mut line)));
            }
        });
        let row = first_line.recv_timeout(START_MAX).unwrap_or_else(|_| {
            drop(child.kill());
            let log = fs::read_to_string(root.join("stderr.log")).unwrap_or_default();
            panic!("the server did not start within {START_MAX:?}:\n{log}");
        });
        let row: Value = serde_json::from_str(&row).expect("`serve --json` prints JSON");
        let address = row["listen"].as_str().and_then(|text| text.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {row}"));
        Self {
            address,
            child: Mutex::new(child),
            folder,
            config: config.to_owned(),
        }
    }

    /// Waits for what is put into `/whisk.system` behind the start.
    #[track_caller]
    pub(crate) fn await_packages(&self) {
        let last = "/api/v1/namespaces/whisk.system/actions/samples/wordCount";
        eventually("the last of the system's actions", || {
            (self.guest().get(last).status == 200).then_some(())
        });
    }

    pub(crate) fn client(&self) -> Client {
        Client {
            address: self.address,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What it wrote to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr.log")).unwrap_or_default()
    }

    /// The tenant every fresh folder has.
    pub(crate) fn guest(&self) -> Tenant {
        Tenant::new(self.client(), "guest", GUEST_KEY)
    }

    /// A new tenant, known to nobody else.
    #[track_caller]
    pub(crate) fn tenant(&self) -> Tenant {
        Tenant::make(self.client(), &Tenant::fresh_name())
    }

    /// A request to the admin API with the system key.
    #[track_caller]
    pub(crate) fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let path = format!("/admin/v1/namespaces{path}");
        let request = Request::new(method, &path).key(SYSTEM_KEY);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.client().send(&request)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().expect("not poisoned").id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.pid();
        let id = i32::try_from(id).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process id"), signal).expect("our own child");
    }

    /// How many activations run now; those whose instance is being started are among them.
    pub(crate) fn runs(&self) -> usize {
        let metrics = self.client().get("/metrics").text();
        let mut lines = metrics.lines();
        let runs = lines.find_map(|line| line.strip_prefix("wisp_runs ")?.parse().ok());
        runs.expect("a count of the runs")
    }

    /// Whether at least `count` activations run now.
    pub(crate) fn runs_at_least(&self, count: usize) -> bool {
        self.runs() >= count
    }

    /// As a crash of the machine's power would, but for what the kernel holds.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().expect("not poisoned");
        child.kill().expect("our own child");
        child.wait().expect("our own child");
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().expect("not poisoned");
        child.try_wait().expect("our own child")
    }

    /// How it ended, once it did.
    #[track_caller]
    pub(crate) fn wait(&self) -> ExitStatus {
        eventually("the server ends", || self.ended())
    }

    /// Kills it and starts another on the same folder.
    #[track_caller]
    pub(crate) fn crash_and_restart(self) -> Self {
        self.kill();
        self.restart()
    }

    /// Starts another on the same folder; it must have ended.
    #[track_caller]
    pub(crate) fn restart(self) -> Self {
        let config = self.config.clone();
        Self::start_in(&self.folder, &config)
    }

    /// As [`Server::restart`], with another configuration.
    #[track_caller]
    pub(crate) fn restart_with(self, config: &str) -> Self {
        Self::start_in(&self.folder, config)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines
                .get(lines.len().saturating_sub(30)..)
                .unwrap_or_default();
            eprintln!("--- the end of the server's log ---\n{}", last.join("\n"));
        }
        if self.ended().is_none() {
            self.kill();
        }
    }
}

/// `extra` over `backend` over [`SMALL`], section by section.
fn merged(extra: &str, backend: &str) -> String {
    let mut base: toml::Table = SMALL.parse().expect("small.toml is TOML");
    for over in [backend, extra] {
        let over: toml::Table = over.parse().expect("a test's configuration is TOML");
        for (section, value) in over {
            match (base.get_mut(&section), value) {
                (Some(toml::Value::Table(base)), toml::Value::Table(over)) => base.extend(over),
                (_, value) => drop(base.insert(section, value)),
            }
        }
    }
    base.to_string()
}

/// The Redis that servers keep everything in, where the tests are run on that backend: as `tests/run` says.
pub(crate) fn redis_url() -> Option<String> {
    said("WISP_TEST_REDIS")
}

/// What whoever runs the tests said in the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests are told by no configuration"
)]
pub(crate) fn said(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

/// What makes a server keep everything in Redis: a part of it for each data folder, so that it is found again after a
/// restart and by nobody else.
fn on_redis(folder: &Path) -> String {
    let Some(url) = redis_url() else {
        return String::new();
    };
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let prefix = name.trim_start_matches('.');
    format!("[redis]\nurl = {url:?}\nprefix = {prefix:?}\n[cluster]\nlease_s = 2\n")
}

/// Runs a command until it ends, for a bounded time: exit code (none when it had to be killed), stdout, stderr.
#[track_caller]
pub(crate) fn run_to_end(mut command: Command) -> (Option<i32>, String, String) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let out = read_all(child.stdout.take().expect("it is piped"));
    let err = read_all(child.stderr.take().expect("it is piped"));
    let deadline = Instant::now() + RUN_MAX;
    while child.try_wait().expect("our own child").is_none() {
        if Instant::now() >= deadline {
            drop(child.kill());
            break;
        }
        pause(Duration::from_millis(5));
    }
    let status = child.wait().expect("our own child");
    let text = |reader: JoinHandle<Vec<u8>>| {
        let bytes = reader.join().expect("the reader does not panic");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    (status.code(), text(out), text(err))
}

/// Reads while the program writes, so that it is never held up.
fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(from.read_to_end(&mut bytes));
        bytes
    })
}

/// Whether this user may do everything.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
