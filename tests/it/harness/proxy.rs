//! A way between a node and its Redis that can be blocked, as a network is that loses every packet: nothing is refused and
//! nothing closed, and what was under way arrives when the way is free again.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::pause;

/// See the module.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    is_blocked: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
}

impl Proxy {
    /// One that forwards to `port`.
    pub(crate) fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("its address").port();
        let (is_blocked, is_over) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let flags = (Arc::clone(&is_blocked), Arc::clone(&is_over));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let (blocked, over) = (Arc::clone(&flags.0), Arc::clone(&flags.1));
                if over.load(Ordering::Acquire) {
                    return;
                }
                std::thread::spawn(move || carry(near, port, &blocked, &over));
            }
        });
        Self {
            port: own,
            is_blocked,
            is_over,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn block(&self) {
        self.is_blocked.store(true, Ordering::Release);
    }

    pub(crate) fn free(&self) {
        self.is_blocked.store(false, Ordering::Release);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        self.free();
        // Its listener looks.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// Waits while the way is blocked.
fn wait(blocked: &AtomicBool, over: &AtomicBool) {
    while blocked.load(Ordering::Acquire) && !over.load(Ordering::Acquire) {
        pause(Duration::from_millis(2));
    }
}

fn carry(near: TcpStream, port: u16, blocked: &AtomicBool, over: &AtomicBool) {
    wait(blocked, over);
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
        return;
    };
    drop((near.set_nodelay(true), far.set_nodelay(true)));
    let (Ok(near2), Ok(far2)) = (near.try_clone(), far.try_clone()) else {
        return;
    };
    std::thread::scope(|scope| {
        scope.spawn(|| copy(near, far2, blocked, over));
        scope.spawn(|| copy(far, near2, blocked, over));
    });
}

fn copy(mut from: TcpStream, mut to: TcpStream, blocked: &AtomicBool, over: &AtomicBool) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        wait(blocked, over);
        if over.load(Ordering::Acquire) || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // The end of a connection is a packet, too.
    wait(blocked, over);
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
}
