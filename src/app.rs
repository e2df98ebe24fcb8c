//! The composition root: builds everything from a [`Config`], and takes it down again.
//!
//! Provisional: it binds, says what it would serve, and lets go. The surface is what `cli/serve.rs` needs.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::config::Config;

/// A running server.
#[derive(Debug)]
pub struct App {
    listener: TcpListener,
    address: SocketAddr,
    summary: Vec<String>,
}

impl App {
    /// Builds every part, opens the data folder and listens. Nothing is served before it returns.
    ///
    /// # Errors
    /// With what was wrong and where: the address, the data folder, what this machine cannot give.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let data = &config.server.data;
        tokio::fs::create_dir_all(data)
            .await
            .with_context(|| format!("cannot use the data folder {}", data.display()))?;
        let listen = config.server.listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr().context("the address is unknown")?;
        let summary = vec![format!("data: {}", data.display())];
        Ok(Self {
            listener,
            address,
            summary,
        })
    }

    /// Where it listens; the port is the real one when the configuration said 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it chose: pool sizes, memory budget, data folder. One `title: fact` each.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        self.summary.clone()
    }

    /// The guest namespace's `uuid:key`, while it is the one the configuration gave it.
    #[must_use]
    pub fn guest_key(&self) -> Option<String> {
        Some(crate::cli::GUEST_KEY.to_owned())
    }

    /// Activations accepted and not finished: what a drain waits for.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        0
    }

    /// Stops accepting, finishes what runs, closes the store.
    ///
    /// # Errors
    /// When something could not be written before the end.
    #[expect(
        clippy::unused_async,
        reason = "the surface; there is nothing to wait for yet"
    )]
    pub async fn drain(self) -> anyhow::Result<()> {
        drop(self.listener);
        Ok(())
    }
}

/// Runs the compiler in this process and nothing else: what `wisp __compile` is, started by the sandbox.
#[must_use]
pub fn compile_child() -> ExitCode {
    ExitCode::FAILURE
}
