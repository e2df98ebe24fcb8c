//! A Redis of a test's own: a real `redis-server` that can be killed and started again on its folder.

use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::eventually;

/// See the module. It ends when it is dropped, or with the thread that started it.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) port: u16,
    folder: TempDir,
    child: Mutex<Option<Child>>,
    options: Vec<String>,
    is_sentinel: bool,
    /// Whether its clock says what is in its folder: see [`Redis::set_clock`].
    has_own_clock: bool,
}

/// Where a server finds how far its clock is ahead, and what makes it so.
const CLOCK: &str = "clock";
const CLOCK_LIBRARY: &str = "clock.so";
const CLOCK_SOURCE: &str = include_str!("clock.c");

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

impl Redis {
    /// One that has on disk whatever it answered.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// One with these options, as on its command line.
    #[track_caller]
    pub(crate) fn with(options: &[&str]) -> Self {
        let all = ["--save", "", "--dir", "."];
        let options = all.iter().chain(options).map(|&one| one.to_owned());
        let redis = Self::new(free_port(), options.collect(), false);
        redis.start_again();
        redis
    }

    /// As [`Redis::start`], with more options and a clock of its own, so far ahead.
    #[track_caller]
    pub(crate) fn at_another_time(ahead_s: i64, options: &[&str]) -> Self {
        let all = ["--save", "", "--dir", ".", "--appendonly", "yes"];
        let options = all.iter().chain(options).map(|&one| one.to_owned());
        let mut redis = Self::new(free_port(), options.collect(), false);
        redis.has_own_clock = true;
        let folder = redis.folder.path();
        std::fs::write(folder.join("clock.c"), CLOCK_SOURCE).expect("its file");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o", CLOCK_LIBRARY, "clock.c"]);
        let compiled = compile.current_dir(folder).status();
        assert!(
            compiled
                .expect("cc is installed (tests/run does it)")
                .success()
        );
        redis.set_clock(ahead_s);
        redis.start_again();
        redis
    }

    /// Sets the clock of one that has its own, so far ahead of the machine's.
    #[track_caller]
    pub(crate) fn set_clock(&self, ahead_s: i64) {
        // In place: the server has the file mapped.
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).write(true).truncate(false);
        let file = file.open(self.folder.path().join(CLOCK)).expect("its file");
        file.write_at(&ahead_s.to_ne_bytes(), 0).expect("its file");
    }

    /// Its time, milliseconds.
    #[track_caller]
    pub(crate) fn now_ms(&self) -> u64 {
        let time = self.cli(&["TIME"]);
        let mut parts = time
            .lines()
            .map(|text| text.parse::<u64>().expect("a number"));
        let (seconds, micros) = (parts.next(), parts.next());
        seconds.expect("seconds") * 1000 + micros.expect("microseconds") / 1000
    }

    /// A sentinel that watches `master` under the name `wisp`. It takes over when it is told to ([`Redis::fail_over`]): one that
    /// finds a master dead within a second finds a living one dead as well, where the machine is busy.
    #[track_caller]
    pub(crate) fn sentinel(master: &Self) -> Self {
        let sentinel = Self::new(free_port(), Vec::new(), true);
        let text = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nsentinel monitor wisp 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds wisp 60000\nsentinel failover-timeout wisp 3000\n",
            sentinel.port,
            sentinel.folder.path().display(),
            master.port
        );
        std::fs::write(sentinel.folder.path().join("sentinel.conf"), text).expect("its file");
        sentinel.start_again();
        sentinel
    }

    /// Makes the replica the master that this sentinel knows.
    #[track_caller]
    pub(crate) fn fail_over(&self) {
        eventually("the sentinel lets the replica take over", || {
            (self.cli(&["SENTINEL", "FAILOVER", "wisp"]) == "OK").then_some(())
        });
    }

    fn new(port: u16, options: Vec<String>, is_sentinel: bool) -> Self {
        Self {
            port,
            folder: tempfile::tempdir().expect("a temporary folder"),
            child: Mutex::new(None),
            options,
            is_sentinel,
            has_own_clock: false,
        }
    }

    /// Starts it on the folder it had; it must have ended.
    #[track_caller]
    pub(crate) fn start_again(&self) {
        let port = self.port.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if self.has_own_clock {
            let at = |name: &str| self.folder.path().join(name);
            command.arg("env");
            command.arg(format!("LD_PRELOAD={}", at(CLOCK_LIBRARY).display()));
            command.arg(format!("CLOCK_AHEAD={}", at(CLOCK).display()));
        }
        command.arg("redis-server");
        if self.is_sentinel {
            command.args(["sentinel.conf", "--sentinel"]);
        } else {
            command
                .args(["--port", &port, "--bind", "127.0.0.1"])
                .args(&self.options);
        }
        let child = command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server and setpriv are installed (tests/run does it)");
        *self.child.lock().expect("not poisoned") = Some(child);
        eventually("Redis answers", || {
            let answer = self.cli(&["PING"]);
            (answer == "PONG" || answer.contains("NOAUTH")).then_some(())
        });
    }

    /// As a crash would.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child.lock().expect("not poisoned").take() {
            drop(child.kill());
            child.wait().expect("our own child");
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.lock().expect("not poisoned");
        let id = child
            .as_ref()
            .and_then(|child| i32::try_from(child.id()).ok());
        let id = id.and_then(Pid::from_raw).expect("it lives");
        kill_process(id, signal).expect("our own child");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` prints for a command.
    pub(crate) fn cli(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(command)
            .stdin(Stdio::null())
            .output()
            .expect("redis-cli is installed (tests/run does it)");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The keys that match a pattern.
    pub(crate) fn keys(&self, pattern: &str) -> Vec<String> {
        let keys = self.cli(&["--scan", "--pattern", pattern]);
        keys.lines().map(str::to_owned).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
