//! Which embedded database should stand behind the store?
//!
//! ```text
//! cargo run --release -- DIR [SMALL_DIR]
//! ```
//!
//! `DIR` is an empty folder on the disk to measure, `SMALL_DIR` one on a file system of some 64 MiB, to fill it up.
//! The load is the store's: records of about 600 bytes of JSON, a commit per 50 ms at 40,000 records/s; accepted work
//! of about 1,500 bytes from 64 callers who each wait for the disk, settled at the same rate.
//!
//! `none` does everything but store (it makes the records, packs the chunks, runs the callers); its CPU time is taken
//! off the others'. `file` appends to a file and flushes it: what a log written by hand could reach at best.
//! `p50` and `p99` are of a batch for records, of a caller's wait for accepted work.

mod candidates;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use candidates::{Candidate, Failure, FileLog, Fjall, Nothing, Redb, Sqlite};

const RECORDS: usize = 400_000;
/// 40,000 records/s, a commit every 50 ms.
const BATCH: usize = 2_000;
const CHUNK_BYTES: usize = 256 << 10;
const CALLERS: usize = 64;
const ACCEPTS_PER_CALLER: usize = 2_000;
/// Room there is again after the disk was full.
const FILLER_BYTES: usize = 40 << 20;

/// Id, start and JSON of one activation.
pub struct Record {
    pub id: [u8; 16],
    pub start: u64,
    pub json: Vec<u8>,
}

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(folder) = arguments.next() else {
        eprintln!("usage: stores DIR [SMALL_DIR]");
        std::process::exit(2);
    };
    let small = arguments.next();
    println!(
        "{:8} {:16} {:>9} {:>10} {:>10} {:>9} {:>9}",
        "", "", "per s", "CPU µs/op", "written MB", "p50 ms", "p99 ms"
    );
    let mut report = Report::default();
    measure::<Nothing>(&mut report, "none", &folder, None);
    measure::<FileLog>(&mut report, "file", &folder, None);
    measure::<Sqlite>(&mut report, "sqlite", &folder, small.as_deref());
    measure::<Fjall>(&mut report, "fjall", &folder, small.as_deref());
    measure::<Redb>(&mut report, "redb", &folder, small.as_deref());
}

fn measure<C: Candidate>(report: &mut Report, name: &str, folder: &Path, small: Option<&Path>) {
    let place = folder.join(name);
    report.run(name, "row per record", RECORDS, || {
        rows::<C>(&fresh(&place))
    });
    report.run(name, "chunks", RECORDS, || chunks::<C>(&fresh(&place)));
    report.run(name, "accept+settle", CALLERS * ACCEPTS_PER_CALLER, || {
        accepts::<C>(&fresh(&place))
    });
    drop(fs::remove_dir_all(&place));
    if let Some(small) = small {
        fill_up::<C>(name, &small.join(name));
    }
}

fn fresh(place: &Path) -> PathBuf {
    drop(fs::remove_dir_all(place));
    fs::create_dir_all(place).expect("the folder can be made");
    place.to_owned()
}

/// Prints the table; CPU is what comes on top of what `none` took for the same load.
#[derive(Default)]
struct Report {
    base: HashMap<String, f64>,
}

impl Report {
    /// Runs one load, closing of the database included, and prints its row.
    fn run(&mut self, name: &str, load: &str, count: usize, work: impl FnOnce() -> Vec<Duration>) {
        let (cpu, written, began) = (cpu_time(), bytes_written(), Instant::now());
        let mut latencies = work();
        let (cpu, took) = (cpu_time() - cpu, began.elapsed());
        let written = (bytes_written() - written) as f64 / 1e6;
        latencies.sort();
        let percentile = |share: f64| {
            let index = (latencies.len() as f64 * share) as usize;
            latencies[index.min(latencies.len() - 1)].as_secs_f64() * 1e3
        };
        let cpu = cpu.as_secs_f64() * 1e6 / count as f64;
        let base = *self.base.entry(load.to_owned()).or_insert(cpu);
        println!(
            "{name:8} {load:16} {:>9.0} {:>10.2} {written:>10.1} {:>9.2} {:>9.2}",
            count as f64 / took.as_secs_f64(),
            cpu - base,
            percentile(0.5),
            percentile(0.99),
        );
    }
}

fn rows<C: Candidate>(place: &Path) -> Vec<Duration> {
    let mut store = C::open(place).expect("opens");
    let mut latencies = Vec::new();
    for from in (0..RECORDS).step_by(BATCH) {
        let batch: Vec<Record> = (from..from + BATCH).map(record).collect();
        let began = Instant::now();
        store.put_rows(&batch).expect("writes");
        latencies.push(began.elapsed());
    }
    latencies
}

fn chunks<C: Candidate>(place: &Path) -> Vec<Duration> {
    let mut store = C::open(place).expect("opens");
    let mut latencies = Vec::new();
    for from in (0..RECORDS).step_by(BATCH) {
        let batch: Vec<Record> = (from..from + BATCH).map(record).collect();
        let began = Instant::now();
        store.put_chunks(&pack(&batch)).expect("writes");
        latencies.push(began.elapsed());
    }
    latencies
}

/// As the store packs them: an entry of 32 bytes per record, and the JSON in LZ4 blocks.
fn pack(batch: &[Record]) -> Vec<Record> {
    let mut chunks = Vec::new();
    let (mut raw, mut entries) = (Vec::new(), Vec::new());
    for (index, record) in batch.iter().enumerate() {
        entries.extend(record.start.to_be_bytes());
        entries.extend(record.id);
        entries.extend((raw.len() as u64).to_be_bytes());
        raw.extend_from_slice(&record.json);
        if raw.len() >= CHUNK_BYTES || index + 1 == batch.len() {
            entries.extend(lz4_flex::block::compress_prepend_size(&raw));
            chunks.push(Record {
                id: record.id,
                start: record.start,
                json: std::mem::take(&mut entries),
            });
            raw.clear();
        }
    }
    chunks
}

type Waiting = (Record, mpsc::Sender<()>);

/// Callers that wait for the disk, one thread that commits for all who wait; what was accepted is settled by the next
/// commit.
fn accepts<C: Candidate>(place: &Path) -> Vec<Duration> {
    let mut store = C::open(place).expect("opens");
    let (send, received) = mpsc::channel::<Waiting>();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let send = send.clone();
            thread::spawn(move || call(caller, &send))
        })
        .collect();
    drop(send);
    let mut settled: Vec<[u8; 16]> = Vec::new();
    while let Ok(first) = received.recv() {
        let mut batch = vec![first];
        batch.extend(received.try_iter());
        let (works, waiting): (Vec<Record>, Vec<_>) = batch.into_iter().unzip();
        store.accept(&works, &settled).expect("writes");
        settled = works.iter().map(|work| work.id).collect();
        for caller in waiting {
            caller.send(()).expect("the caller waits");
        }
    }
    let latencies = callers
        .into_iter()
        .flat_map(|c| c.join().expect("no panic"));
    latencies.collect()
}

fn call(caller: usize, send: &mpsc::Sender<Waiting>) -> Vec<Duration> {
    (0..ACCEPTS_PER_CALLER)
        .map(|number| {
            let mut work = record(number * CALLERS + caller);
            work.json.resize(1500, b'x');
            let (done, wait) = mpsc::channel();
            let began = Instant::now();
            send.send((work, done)).expect("the committer lives");
            wait.recv().expect("committed");
            began.elapsed()
        })
        .collect()
}

/// Fills the file system, makes room, goes on, reopens: what is said and what is lost.
fn fill_up<C: Candidate>(name: &str, place: &Path) {
    let place = fresh(place);
    let filler = place.with_extension("filler");
    fs::write(&filler, vec![1; FILLER_BYTES]).expect("the filler fits");
    let Ok(mut store) = C::open(&place) else {
        println!("{name:8} full disk: does not open in the room there is");
        return;
    };
    let (mut kept, mut failure) = (Vec::new(), None);
    for number in 0..100_000 {
        match store.accept(&[noise(number)], &[]) {
            Ok(()) => kept.push(noise(number).id),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let failure = failure.map_or_else(|| "none".to_owned(), |Failure(text)| text);
    let again = store.accept(&[noise(1_000_000)], &[]).is_ok();
    fs::remove_file(&filler).expect("the filler is there");
    let resumed = match store.accept(&[noise(1_000_001)], &[]) {
        Ok(()) => {
            kept.push(noise(1_000_001).id);
            "resumes".to_owned()
        }
        Err(Failure(text)) => format!("does NOT resume ({text})"),
    };
    drop(store);
    let lost = match C::open(&place) {
        Ok(mut store) => {
            let lost = kept.iter().filter(|id| !store.holds(id)).count();
            format!("{lost} of {} lost", kept.len())
        }
        Err(Failure(text)) => format!("does NOT reopen ({text})"),
    };
    println!(
        "{name:8} full disk: error \"{failure}\"; still full {}; with room again {resumed}; reopened {lost}",
        if again { "accepted" } else { "refused" },
    );
    drop(fs::remove_dir_all(&place));
}

/// Sixty-four KiB that do not compress.
fn noise(number: usize) -> Record {
    let mut work = record(number);
    let mut state = number as u64 + 1;
    work.json = (0..8192)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    work
}

fn record(number: usize) -> Record {
    let start = 1_700_000_000_000 + number as u64 / 40;
    let random = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut id = [0; 16];
    id[..6].copy_from_slice(&start.to_be_bytes()[2..]);
    id[6..14].copy_from_slice(&random.to_be_bytes());
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let json = format!(
        r#"{{"namespace":"guest","name":"hello{}","version":"0.0.1","subject":"guest","id":"{hex}","start":{start},"end":{},"duration":{},"response":{{"status":"success","size":24,"result":{{"greeting":"Hello {random:x}"}}}},"logs":["2024-01-01T00:00:00.{:09}Z stdout: hello"],"annotations":[{{"key":"path","value":"guest/hello"}},{{"key":"waitTime","value":{}}},{{"key":"kind","value":"wasm:1"}},{{"key":"timeout","value":false}},{{"key":"limits","value":{{"concurrency":1,"logs":10,"memory":256,"timeout":60000}}}},{{"key":"cpuTime","value":{}}},{{"key":"peakMemory","value":1179648}}]}}"#,
        number % 10,
        start + random % 20,
        random % 20,
        random % 1_000_000_000,
        random % 5,
        random % 900,
    );
    Record {
        id,
        start,
        json: json.into_bytes(),
    }
}

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// What this process caused to be sent to the disk.
fn bytes_written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}
