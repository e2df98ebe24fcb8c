//! A real Redis for tests: one process per test process, and a prefix per test.

use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Config, Link};

/// A server that ends when it is dropped, or when the process that started it does.
pub(crate) struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// Starts one with these options more, as on its command line.
    pub(crate) fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("redis.sock");
        // Bound to the thread that starts it, so to the life of the test process.
        let child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "redis-server",
                "--port",
                "0",
                "--save",
                "",
                "--unixsocket",
            ])
            .arg(&socket)
            .arg("--dir")
            .arg(folder.path())
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server and setpriv are installed (tests/run does it)");
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            std::thread::yield_now();
        }
        Self { child, folder }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.folder.path().join("redis.sock").display())
    }
}

/// How to reach the shared server, with a prefix that nobody else has.
pub(crate) fn config() -> Config {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    // Started by a thread that lives as long as the process: it dies with that thread.
    let server = SERVER.get_or_init(|| {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(send.send(Server::start(&[])));
            loop {
                std::thread::park();
            }
        });
        receive.recv().expect("a server")
    });
    Config {
        url: Some(server.url()),
        prefix: format!("t{}", SERIAL.fetch_add(1, Ordering::Relaxed)),
        ..Config::default()
    }
}

/// A link to the shared server.
pub(crate) async fn link() -> (Link, Config) {
    let config = config();
    let link = Link::open(&config).await.expect("the test's Redis");
    (link, config)
}
