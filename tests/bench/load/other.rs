//! Servers of others that Wisp is measured beside: where they are found, and how they are started.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::bare::Bare;
use crate::report::say;

/// The program `name`: what the variable says, or the first in PATH. Why there is none, otherwise.
pub(crate) fn find(name: &str, variable: &str) -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os(variable) {
        return Ok(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::env::split_paths(&path).map(|folder| folder.join(name));
    all.find(|file| file.is_file())
        .ok_or_else(|| format!("there is no `{name}` in PATH and none in {variable}"))
}

/// Says what is stood beside.
pub(crate) async fn introduce(program: &Path, settings: &str) -> Result<()> {
    let version = Command::new(program).arg("--version").output().await;
    let version = version.with_context(|| format!("{} cannot be run", program.display()))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    say(&format!("  beside {version} {settings}"));
    Ok(())
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Starts a server and waits until it listens on `addr`.
pub(crate) async fn start(mut command: Command, addr: SocketAddr) -> Result<Bare> {
    let program = command.as_std().get_program().to_owned();
    let program = program.display();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{program} cannot be started"))?;
    for _ in 0..200 {
        if TcpStream::connect(addr).await.is_ok() {
            return Ok(Bare::of(addr, child));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{program} does not listen on {addr}")
}
