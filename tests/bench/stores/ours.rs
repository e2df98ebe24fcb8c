//! The store itself, compiled from `src/`, under the same load as the candidates.
//!
//! ```text
//! cargo run --release --bin ours -- DIR [SMALL_DIR]
//! ```
//!
//! `SMALL_DIR` is a folder on a file system of some 64 MiB, to fill it up.

#[expect(dead_code, reason = "the benchmark uses a part of it")]
#[path = "../../../src/ahead.rs"]
mod ahead;
#[expect(dead_code, reason = "the benchmark speaks to no Redis")]
#[path = "../../../src/link/mod.rs"]
mod link;
#[expect(dead_code, reason = "the benchmark uses a part of the model")]
#[path = "../../../src/model/mod.rs"]
pub mod model;
#[expect(dead_code, reason = "the benchmark uses a part of the store")]
#[path = "../../../src/store/mod.rs"]
mod store;

/// What the store tells the server's metrics, heard by nobody here.
mod telemetry {
    pub(crate) mod metrics {
        pub(crate) fn committed(_took: std::time::Duration) {}
    }

    pub(crate) mod cluster {
        pub(crate) enum Event {
            Sent,
            Failed,
        }

        pub(crate) fn count(_event: Event, _many: usize) {}

        pub(crate) fn round_trip(_took: std::time::Duration) {}
    }
}

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use model::activation::{Response, Status};
use model::{
    Activation, ActivationId, Annotations, EntityName, Json, Namespace, Timestamp, Version,
};
use store::{ActivationFilter, Collection, Document, EntityKey, Expect, Page, Store, embedded};

const RECORDS: u64 = 400_000;
const CALLERS: u64 = 64;
const ACCEPTS_PER_CALLER: u64 = 2_000;

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("usage: ours DIR"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(measure(folder));
    if let Some(small) = std::env::args_os().nth(2) {
        runtime.block_on(fill_up(PathBuf::from(small)));
    }
}

/// Fills the file system with work and records, makes room, closes, reopens: what is said and what is lost.
async fn fill_up(small: PathBuf) {
    let filler = small.join("filler");
    std::fs::write(&filler, vec![1; 40 << 20]).expect("the filler fits");
    let folder = small.join("data");
    let config = embedded::Config::default();
    let (store, keeper) = embedded::open(&config, &folder, Arc::default()).expect("opens");
    let guest = namespace(0);
    let accept = async |number: u64| {
        let mut work: Vec<u8> = Vec::with_capacity(64 << 10);
        while work.len() < 64 << 10 {
            let seed = [number.to_le_bytes(), (work.len() as u64).to_le_bytes()].concat();
            work.extend(model::Digest::of(&seed).0);
        }
        let id = ActivationId(u128::from(number));
        store.accepted.accept(&guest, id, work.into()).await
    };
    let (mut kept, mut records) = (0, 0);
    let error = loop {
        match accept(kept).await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    let began = Instant::now();
    let again = accept(1_000_000).await.is_err();
    let refused_in = began.elapsed();
    while store.activations.put(Arc::new(record(records, 10))).is_ok() {
        records += 1;
    }
    let flush = store.activations.flush().await;
    println!(
        "full disk: {kept} accepted, then \"{error}\"; refused again {again} in {refused_in:?}; \
         {records} records kept in memory, room {}, flush {flush:?}",
        store.activations.has_room(),
    );
    std::fs::remove_file(&filler).expect("the filler is there");
    let began = Instant::now();
    while !store.activations.has_room() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("room again: seen after {:?}", began.elapsed());
    accept(kept).await.expect("there is room");
    store.activations.flush().await.expect("there is room");
    keeper.close().await.expect("closes");
    let (store, keeper) = embedded::open(&config, &folder, Arc::default()).expect("opens again");
    let pending = store.accepted.pending().await.expect("read").len();
    let mut stored = 0;
    for number in 0..10 {
        let every = ActivationFilter::default();
        let namespace = namespace(number);
        let count = store.activations.count(&namespace, &every).await;
        stored += count.expect("read");
    }
    println!(
        "reopened: {pending} of {} accepted, {stored} of {records} records",
        kept + 1
    );
    keeper.close().await.expect("closes");
}

async fn measure(folder: PathBuf) {
    let (store, keeper) =
        embedded::open(&embedded::Config::default(), &folder, Arc::default()).expect("opens");
    println!(
        "{:34} {:>9} {:>10} {:>9} {:>9}",
        "", "per s", "CPU µs/op", "p50 µs", "p99 µs"
    );
    accepted_work(&store).await;
    paced_records(&store, 1).await;
    paced_records(&store, 100).await;
    paced_records(&store, 1_000).await;
    accepted_work(&store).await;
    reads(&store).await;
    let began = Instant::now();
    keeper.close().await.expect("closes");
    println!("closed in {:?}", began.elapsed());
}

/// 40,000 records/s, spread over some namespaces. The CPU time of making the records is taken off.
async fn paced_records(store: &Store, namespaces: u64) {
    let from = cpu_time();
    for number in 0..RECORDS {
        std::hint::black_box(record(number, namespaces));
    }
    let making = cpu_time() - from;
    let (from, began) = (cpu_time(), Instant::now());
    let mut waits = Vec::new();
    for number in 0..RECORDS {
        if number % 200 == 0 {
            let due = Duration::from_micros(number * 25);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
        let record = Arc::new(record(number, namespaces));
        let asked = Instant::now();
        while store.activations.put(Arc::clone(&record)).is_err() {
            tokio::task::yield_now().await;
        }
        waits.push(asked.elapsed());
    }
    store.activations.flush().await.expect("written");
    let cpu = cpu_time() - from - making;
    row(
        &format!("put, {namespaces} namespaces"),
        RECORDS,
        began.elapsed(),
        cpu,
        waits,
    );
    let began = Instant::now();
    store
        .activations
        .expire(Timestamp(1_700_000_100_000))
        .await
        .expect("expires");
    println!("  then expired and merged in {:?}", began.elapsed());
}

/// What a non-blocking invocation asks of the store, from 64 callers.
async fn accepted_work(store: &Store) {
    let (from, began) = (cpu_time(), Instant::now());
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                let work = Bytes::from(vec![b'x'; 1_500]);
                let mut waits = Vec::new();
                for number in 0..ACCEPTS_PER_CALLER {
                    let made = Arc::new(record(1_000_000 + number * CALLERS + caller, 1));
                    let asked = Instant::now();
                    let accepting = store
                        .accepted
                        .accept(&made.namespace, made.id, work.clone());
                    accepting.await.expect("accepted");
                    waits.push(asked.elapsed());
                    store.accepted.begin(made.id);
                    store.activations.put(Arc::clone(&made)).expect("room");
                    store.accepted.settle(made.id);
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for caller in callers {
        waits.extend(caller.await.expect("no panic"));
    }
    let count = CALLERS * ACCEPTS_PER_CALLER;
    let cpu = cpu_time() - from;
    row(
        "accept, begin, put, settle",
        count,
        began.elapsed(),
        cpu,
        waits,
    );
}

async fn reads(store: &Store) {
    let entity = |number: u64| EntityKey {
        namespace: namespace(0),
        package: None,
        name: EntityName::parse(&format!("action{number}")).expect("legal"),
    };
    let documents = (0..1_000).map(|number| Document {
        key: entity(number),
        collection: Collection::Actions,
        updated: Timestamp(number),
        code: None,
        body: "x".repeat(900).into(),
    });
    let began = Instant::now();
    for document in documents {
        store
            .entities
            .put(document, None, Expect::Absent)
            .await
            .expect("new");
    }
    println!(
        "  entity put, one after the other: {:?}",
        began.elapsed() / 1_000
    );
    let guest = namespace(0);
    let every = ActivationFilter::default();
    let page = Page { skip: 0, limit: 30 };
    time("entity get", async |number| {
        store.entities.get(&entity(number)).await.expect("read");
    })
    .await;
    let catalog =
        store::catalog::Catalog::sealing(Arc::clone(&store.entities), 10_000, Arc::default());
    let action = action();
    let fqn = action.fqn.clone();
    let put = catalog.put(action, Some("code".into()), Expect::Absent);
    put.await.expect("new");
    let began = Instant::now();
    for _ in 0..1_000_000 {
        std::hint::black_box(catalog.cached::<model::Action>(&fqn));
    }
    println!("  cached action: {:?}", began.elapsed() / 1_000_000);
    time("record get, newest", async |number| {
        let id = record(1_100_000 + number, 1).id;
        assert!(
            store
                .activations
                .get(&guest, id)
                .await
                .expect("read")
                .is_some()
        );
    })
    .await;
    time("record get, oldest", async |number| {
        let id = record(number, 1).id;
        assert!(
            store
                .activations
                .get(&guest, id)
                .await
                .expect("read")
                .is_some()
        );
    })
    .await;
    time("record get, unknown", async |number| {
        let id = ActivationId(record(number, 1).id.0 + 1);
        assert!(
            store
                .activations
                .get(&guest, id)
                .await
                .expect("read")
                .is_none()
        );
    })
    .await;
    time("list of 30", async |_| {
        store
            .activations
            .list(&guest, &every, page)
            .await
            .expect("read");
    })
    .await;
    time("list of 30 after 10,000", async |_| {
        let page = Page {
            skip: 10_000,
            limit: 30,
        };
        store
            .activations
            .list(&guest, &every, page)
            .await
            .expect("read");
    })
    .await;
    time("count", async |_| {
        store.activations.count(&guest, &every).await.expect("read");
    })
    .await;
}

async fn time(what: &str, once: impl AsyncFn(u64)) {
    let (from, began, mut waits) = (cpu_time(), Instant::now(), Vec::new());
    for number in 0..1_000 {
        let asked = Instant::now();
        once(number).await;
        waits.push(asked.elapsed());
    }
    row(what, 1_000, began.elapsed(), cpu_time() - from, waits);
}

fn row(what: &str, count: u64, took: Duration, cpu: Duration, mut waits: Vec<Duration>) {
    waits.sort();
    println!(
        "{what:34} {:>9.0} {:>10.2} {:>9.1} {:>9.1}",
        count as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count as f64,
        waits[waits.len() / 2].as_secs_f64() * 1e6,
        waits[waits.len() * 99 / 100].as_secs_f64() * 1e6,
    );
}

fn action() -> model::Action {
    model::Action {
        fqn: model::Fqn {
            namespace: namespace(0),
            package: None,
            name: EntityName::parse("cached").expect("legal"),
        },
        version: Version::FIRST,
        publish: false,
        updated: Timestamp(1),
        exec: model::Exec::Code(model::Code {
            kind: "wasm:1".to_owned(),
            main: None,
            binary: true,
            code: model::Digest::of(b"code"),
            code_size: 4,
            program: model::Digest::of(b"program"),
            http: false,
        }),
        parameters: model::Parameters::default(),
        limits: model::ActionLimits::default(),
        annotations: Annotations::default(),
        reached: None,
        revision: 1,
    }
}

fn namespace(number: u64) -> Namespace {
    Namespace::parse(&format!("guest{number}")).expect("legal")
}

fn record(number: u64, namespaces: u64) -> Activation {
    let start = Timestamp(1_700_000_000_000 + number / 40);
    let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let json = |text: &str| Json::parse(text.as_bytes()).expect("JSON");
    let mut annotations = Annotations::default();
    annotations.set("path", json(r#""guest/hello""#));
    annotations.set("waitTime", json(&(random % 5).to_string()));
    annotations.set("kind", json(r#""wasm:1""#));
    annotations.set("timeout", json("false"));
    annotations.set(
        "limits",
        json(r#"{"concurrency":1,"logs":10,"memory":256,"timeout":60000}"#),
    );
    annotations.set("cpuTime", json(&(random % 900).to_string()));
    annotations.set("peakMemory", json("1179648"));
    Activation {
        namespace: namespace(number % namespaces),
        name: EntityName::parse(&format!("hello{}", number % 10)).expect("legal"),
        version: Version::FIRST,
        subject: namespace(number % namespaces),
        id: ActivationId::new(start, u128::from(random) << 8 | u128::from(namespaces)),
        start,
        end: Some(Timestamp(start.0 + random % 20)),
        duration: Some(random % 20),
        cause: None,
        response: Response {
            status: Status::Success,
            size: Some(24),
            result: json(&format!(r#"{{"greeting":"Hello {random:x}"}}"#)),
        },
        logs: [format!(
            "2024-01-01T00:00:00.{:09}Z stdout: hello",
            random % 1_000_000_000
        )]
        .into(),
        annotations,
    }
}

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
