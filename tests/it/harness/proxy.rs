//! A way between a node and its Redis that can be blocked, as a network is that loses every packet: nothing is refused and
//! nothing closed, and what was under way arrives when the way is free again. Or that is slow: whatever is sent either way
//! arrives later. Or that breaks just when an answer comes back.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::time::Instant;

use super::pause;

/// Chunks that are on the way in one direction of a connection: who sends more waits, as with a network that is full.
const UNDER_WAY_MAX: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_blocked: AtomicBool,
    is_over: AtomicBool,
    /// How long everything takes, each way, milliseconds.
    delay_ms: AtomicU64,
    /// The next answer does not arrive: its connection ends in its place.
    breaks: AtomicBool,
}

impl Proxy {
    /// One that forwards to `port`.
    pub(crate) fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("its address").port();
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                if state.is_over.load(Ordering::Acquire) {
                    return;
                }
                std::thread::spawn(move || carry(near, port, &state));
            }
        });
        Self { port: own, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn block(&self) {
        self.state.is_blocked.store(true, Ordering::Release);
    }

    pub(crate) fn free(&self) {
        self.state.is_blocked.store(false, Ordering::Release);
    }

    /// The next answer does not arrive: what was asked is done, and its connection ends.
    pub(crate) fn lose_an_answer(&self) {
        self.state.breaks.store(true, Ordering::Release);
    }

    /// From now on everything takes so long, each way.
    pub(crate) fn slow(&self, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).expect("small");
        self.state.delay_ms.store(delay_ms, Ordering::Release);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        self.free();
        // Its listener looks.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl State {
    /// Waits while the way is blocked.
    fn wait(&self) {
        while self.is_blocked.load(Ordering::Acquire) && !self.is_over.load(Ordering::Acquire) {
            pause(Duration::from_millis(2));
        }
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.load(Ordering::Acquire))
    }
}

fn carry(near: TcpStream, port: u16, state: &Arc<State>) {
    pause(state.delay());
    state.wait();
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
        return;
    };
    drop((near.set_nodelay(true), far.set_nodelay(true)));
    let (Ok(near2), Ok(far2)) = (near.try_clone(), far.try_clone()) else {
        return;
    };
    std::thread::scope(|scope| {
        scope.spawn(|| copy(near, far2, state, false));
        scope.spawn(|| copy(far, near2, state, true));
    });
}

/// Carries what comes: read as it comes, and written as much later as everything takes; empty is the end.
fn copy(mut from: TcpStream, to: TcpStream, state: &Arc<State>, answers: bool) {
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY_MAX);
    std::thread::scope(|scope| {
        scope.spawn(move || deliver(&receiver, to, state));
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if answers && state.breaks.swap(false, Ordering::AcqRel) {
                break;
            }
            let chunk = (Instant::now() + state.delay(), bytes[..count].to_vec());
            if sender.send(chunk).is_err() {
                break;
            }
        }
        // The end of a connection is a packet, too.
        drop(sender.send((Instant::now() + state.delay(), Vec::new())));
        drop(sender);
        drop(from.shutdown(Shutdown::Read));
    });
}

fn deliver(chunks: &mpsc::Receiver<(Instant, Vec<u8>)>, mut to: TcpStream, state: &State) {
    while let Ok((due, chunk)) = chunks.recv() {
        pause(due.saturating_duration_since(Instant::now()));
        state.wait();
        let is_over = chunk.is_empty() || state.is_over.load(Ordering::Acquire);
        if is_over || to.write_all(&chunk).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}
