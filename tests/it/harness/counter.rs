//! Counts runs from inside the guests.
//!
//! A guest asks for a URL of this server and is answered after as long as it was told to take. It runs for as long as the
//! connection is open: whoever kills the guest, its instance or its machine closes it. So the end that is seen is never
//! before the guest's, but for the answer's way back.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Tenant;
use super::zip::base64;

/// How often it is looked whether runs that are held may end.
const HELD_LOOK: Duration = Duration::from_millis(20);

/// Runs shorter than this overlap by the clocks of two threads alone.
const BLUR: Duration = Duration::from_millis(5);

/// One run of one activation.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) began: Instant,
    pub(crate) ended: Option<Instant>,
    /// Ended by something else than itself.
    pub(crate) broke: bool,
}

#[derive(Debug, Default)]
struct Seen {
    runs: Vec<Run>,
    /// By kind: at one time now, and at most.
    counts: HashMap<String, (usize, usize)>,
    /// Runs are told that they failed.
    fails: bool,
    /// Runs of no given length may end.
    lets_go: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Counter {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1")
    }

    /// One that is reached at this address of the machine.
    pub(crate) fn start_at(host: &str) -> Self {
        let listener = TcpListener::bind((host, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &seen));
            }
        });
        Self { address, seen }
    }

    /// What lets guests reach it.
    pub(crate) fn egress(&self) -> String {
        format!("[egress]\nallow = [\"{}\"]\n", self.address)
    }

    /// An action that is counted.
    #[track_caller]
    pub(crate) fn put_action(tenant: &Tenant, name: &str, more: Value) {
        tenant.put_action_with(name, &base64(crate::wasi_http::GUEST), more);
    }

    /// Parameters for a run of `ms` milliseconds that counts among those of the kind `of`.
    pub(crate) fn params(&self, of: &str, ms: u64) -> Value {
        json!({ "fetch": format!("http://{}/run?of={of}&ms={ms}", self.address) })
    }

    /// Parameters for a run of that kind that goes on until [`Counter::let_go`].
    pub(crate) fn held_params(&self, of: &str) -> Value {
        json!({ "fetch": format!("http://{}/run?of={of}", self.address) })
    }

    /// Ends the runs that are held.
    pub(crate) fn let_go(&self) {
        self.seen.lock().expect("not poisoned").lets_go = true;
    }

    /// Whether runs that end from now on fail, or succeed.
    pub(crate) fn let_fail(&self, fails: bool) {
        self.seen.lock().expect("not poisoned").fails = fails;
    }

    /// All runs so far, as they began.
    pub(crate) fn runs(&self) -> Vec<Run> {
        self.seen.lock().expect("not poisoned").runs.clone()
    }

    /// The runs of each activation.
    pub(crate) fn by_id(&self) -> HashMap<String, Vec<Run>> {
        let mut by_id: HashMap<String, Vec<Run>> = HashMap::new();
        for run in self.runs() {
            by_id.entry(run.id.clone()).or_default().push(run);
        }
        by_id
    }

    /// How many of a kind run now.
    pub(crate) fn now(&self, of: &str) -> usize {
        let seen = self.seen.lock().expect("not poisoned");
        seen.counts.get(of).map_or(0, |(now, _)| *now)
    }

    /// How many of a kind ran at one time, at most.
    pub(crate) fn most(&self, of: &str) -> usize {
        let seen = self.seen.lock().expect("not poisoned");
        seen.counts.get(of).map_or(0, |(_, most)| *most)
    }

    /// Runs that reached their end though another of the same activation had.
    pub(crate) fn duplicates(&self) -> usize {
        let by_id = self.by_id();
        let ended = by_id.values().map(|runs| {
            let whole = runs.iter().filter(|run| !run.broke && run.ended.is_some());
            whole.count().saturating_sub(1)
        });
        ended.sum()
    }

    /// Activations of which two runs went on at one time, and for how long.
    pub(crate) fn overlaps(&self) -> Vec<(String, Duration)> {
        let mut overlaps = Vec::new();
        for (id, runs) in self.by_id() {
            for (index, one) in runs.iter().enumerate() {
                let Some(next) = runs.get(index + 1) else {
                    continue;
                };
                let until = one.ended.unwrap_or_else(Instant::now);
                let both = until.saturating_duration_since(next.began);
                if both > BLUR {
                    overlaps.push((id.clone(), both));
                }
            }
        }
        overlaps
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Seen>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    drop(stream.read_line(&mut line));
    let option = |name: &str| {
        let query = line.split(' ').nth(1)?.split_once('?')?.1;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value);
        values.next().map(str::to_owned)
    };
    let (Some(id), Some(of)) = (option("id"), option("of")) else {
        return;
    };
    let ms: Option<u64> = option("ms").map(|text| text.parse().expect("milliseconds"));
    let mut head = String::new();
    while stream.read_line(&mut head).unwrap_or(0) > 2 {
        head.clear();
    }
    let began = Instant::now();
    let index = {
        let mut seen = seen.lock().expect("not poisoned");
        let counts = seen.counts.entry(of.clone()).or_default();
        counts.0 += 1;
        counts.1 = counts.1.max(counts.0);
        seen.runs.push(Run {
            id,
            began,
            ended: None,
            broke: false,
        });
        seen.runs.len() - 1
    };
    let until = ms.map(|ms| began + Duration::from_millis(ms));
    let broke = loop {
        let left = match until {
            Some(until) => until.saturating_duration_since(Instant::now()),
            None if seen.lock().expect("not poisoned").lets_go => Duration::ZERO,
            None => HELD_LOOK,
        };
        if left.is_zero() {
            break false;
        }
        drop(stream.get_ref().set_read_timeout(Some(left)));
        match stream.read(&mut [0; 64]) {
            Ok(1..) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => break true,
        }
    };
    let status = {
        let mut seen = seen.lock().expect("not poisoned");
        let run = &mut seen.runs[index];
        run.ended = Some(Instant::now());
        run.broke = broke;
        seen.counts.entry(of).or_default().0 -= 1;
        if seen.fails { "500 No" } else { "200 OK" }
    };
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    drop(stream.get_mut().write_all(answer.as_bytes()));
}
