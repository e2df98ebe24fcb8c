//! A Redis of a test's own: a real `redis-server` that can be killed and started again on its folder.

use std::net::TcpListener;
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
}

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

    /// A sentinel that watches `master` under the name `wisp`, and takes it for dead after half a second.
    #[track_caller]
    pub(crate) fn sentinel(master: &Self) -> Self {
        let sentinel = Self::new(free_port(), Vec::new(), true);
        let text = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nsentinel monitor wisp 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds wisp 500\nsentinel failover-timeout wisp 3000\n",
            sentinel.port,
            sentinel.folder.path().display(),
            master.port
        );
        std::fs::write(sentinel.folder.path().join("sentinel.conf"), text).expect("its file");
        sentinel.start_again();
        sentinel
    }

    fn new(port: u16, options: Vec<String>, is_sentinel: bool) -> Self {
        Self {
            port,
            folder: tempfile::tempdir().expect("a temporary folder"),
            child: Mutex::new(None),
            options,
            is_sentinel,
        }
    }

    /// Starts it on the folder it had; it must have ended.
    #[track_caller]
    pub(crate) fn start_again(&self) {
        let port = self.port.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "redis-server"]);
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
