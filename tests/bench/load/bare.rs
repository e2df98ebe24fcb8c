//! The measure of all rates: axum and nothing else, answering the same JSON from memory, in a process of its own.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context, Result};
use axum::Router;
use axum::routing::any;
use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The bare server's process; gone when dropped.
pub(crate) struct Bare {
    pub(crate) addr: SocketAddr,
    _child: Child,
}

impl Bare {
    /// Another server than axum, to be measured against in the same way.
    pub(crate) fn of(addr: SocketAddr, child: Child) -> Self {
        Self {
            addr,
            _child: child,
        }
    }

    /// Starts this very executable as the server that answers `answer`.
    pub(crate) async fn start(answer: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--bare-axum", answer])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child
            .stdout
            .take()
            .context("the bare server has no stdout")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let addr = line.context("the bare server ended at once")?.parse()?;
        Ok(Self {
            addr,
            _child: child,
        })
    }
}

/// Serves until killed: every request is read whole and answered with `answer`.
#[tokio::main]
pub(crate) async fn serve(answer: String) -> Result<()> {
    let answer = Bytes::from(answer);
    let handler = move |_body: Bytes| async move { ([(CONTENT_TYPE, "application/json")], answer) };
    let router = Router::new().route("/{*path}", any(handler));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    axum::serve(
        axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true))),
        router,
    )
    .await?;
    Ok(())
}
