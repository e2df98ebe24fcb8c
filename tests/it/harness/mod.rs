//! What the tests share: a server to talk to, a client that hides nothing of the wire, tenants, guests and tables.
//!
//! Most tests take [`shared`], one server for all of them, and make a [`Tenant`] of their own on it, so that they do not see
//! each other. Tests that stop, kill, fill or configure a server start their own with [`Server::start`]: a real process.

mod counter;
mod events;
mod guests;
mod http;
mod nodes;
mod proxy;
mod redis;
mod server;
mod table;
mod tenant;
mod way;
mod zip;

use std::time::Duration;

use tokio::time::Instant;

pub(crate) use counter::{Counter, Run};
pub(crate) use events::Events;
pub(crate) use guests::*;
pub(crate) use http::{Client, Reply, Request, basic};
pub(crate) use nodes::{Nodes, Spot, node_config};
pub(crate) use proxy::Proxy;
pub(crate) use redis::{Redis, free_port};
pub(crate) use server::{
    GUEST_KEY, SYSTEM_KEY, Server, binary, is_root, repository, run_to_end, said, shared,
};
pub(crate) use table::{Expect, Row, has, rows, run};
pub(crate) use tenant::{Tenant, annotation, id_of};
pub(crate) use way::Way;
pub(crate) use zip::{base64, zip, zip_bomb};

/// How long anything that is asynchronous by nature may take before a test gives up on it: what nobody waits for where all is
/// well, however busy the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Lets other threads work for a moment. Only ever inside a loop that looks for something, under a deadline.
#[expect(
    clippy::disallowed_methods,
    reason = "tests are plain threads; there is no runtime to block"
)]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Asks until there is an answer, or fails saying what was waited for. The longer it takes, the less often: asking may cost a
/// process, which what is waited for then lacks.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        let waits = began.elapsed();
        assert!(waits < PATIENCE, "{what}: not within {PATIENCE:?}");
        let next = (waits / 10).clamp(Duration::from_millis(10), Duration::from_millis(100));
        pause(next);
    }
}
