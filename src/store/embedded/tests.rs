use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Config, Keeper, OpenError, open, schema};
use crate::model::{Activation, ActivationId, Digest, Timestamp};
use crate::store::items_suite::item;
use crate::store::seal::{self, Seal};
use crate::store::sealed::sealed;
use crate::store::suite::{self, namespace, record};
use crate::store::{ActivationFilter, Error, Page, Revision, Shelf, Store};

const ALL: Page = Page {
    skip: 0,
    limit: 100_000,
};

fn open_in(folder: &TempDir) -> (Store, Keeper) {
    open(&Config::default(), folder.path(), Arc::default()).unwrap()
}

/// What `kill -9` leaves: the files as they are this moment, without the memory of the process.
fn copy_as_killed(folder: &TempDir) -> TempDir {
    let copy = TempDir::new().unwrap();
    for file in ["wisp.db", "wisp.db-wal"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    copy
}

async fn count(store: &Store) -> usize {
    let (guest, every) = (namespace("guest"), ActivationFilter::default());
    store.activations.count(&guest, &every).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_passes_the_suite() {
    let open_stores = Mutex::new(Vec::new());
    suite::all(async || {
        let folder = TempDir::new().unwrap();
        let (store, keeper) = open_in(&folder);
        open_stores.lock().push((folder, keeper));
        store
    })
    .await;
}

fn seal(keys: &[u8]) -> Arc<Seal> {
    use base64::Engine as _;
    let encoded = |key: &u8| base64::engine::general_purpose::STANDARD.encode([*key; 32]);
    let keys: Vec<String> = keys.iter().map(encoded).collect();
    let config = seal::Config {
        keys: Some(keys.join(" ")),
        ..seal::Config::default()
    };
    Arc::new(Seal::of(&config).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_with_everything_encrypted_as_well() {
    let (open_stores, seal) = (Mutex::new(Vec::new()), seal(&[1]));
    suite::all(async || {
        let folder = TempDir::new().unwrap();
        let opened = open(&Config::default(), folder.path(), Arc::clone(&seal));
        let (store, keeper) = opened.unwrap();
        open_stores.lock().push((folder, keeper));
        sealed(store, &seal)
    })
    .await;
}

#[tokio::test]
async fn records_are_encrypted_anew_in_steps_and_only_those_that_need_it() {
    let (folder, guest) = (TempDir::new().unwrap(), namespace("guest"));
    // One chunk each: without a key, with the first, and with the second.
    for (number, keys) in [&[][..], &[1], &[2, 1]].into_iter().enumerate() {
        let opened = open(&Config::default(), folder.path(), seal(keys));
        let (store, keeper) = opened.unwrap();
        let record = record("a", 10 + number as u64, number as u128);
        store.activations.put(Arc::new(record)).unwrap();
        store.activations.flush().await.unwrap();
        assert_eq!(count(&store).await, number + 1);
        keeper.close().await.unwrap();
    }
    let opened = open(&Config::default(), folder.path(), seal(&[2]));
    let (store, keeper) = opened.unwrap();
    let done = store.activations.reseal(&guest).await.unwrap();
    assert_eq!((done.count, done.unreadable, done.left), (1, 1, false));
    keeper.close().await.unwrap();
    let opened = open(&Config::default(), folder.path(), seal(&[2, 1]));
    let (store, keeper) = opened.unwrap();
    let done = store.activations.reseal(&guest).await.unwrap();
    assert_eq!((done.count, done.unreadable, done.left), (1, 0, false));
    let done = store.activations.reseal(&guest).await.unwrap();
    assert_eq!((done.count, done.unreadable, done.left), (0, 0, false));
    keeper.close().await.unwrap();
    let opened = open(&Config::default(), folder.path(), seal(&[2]));
    let (store, _keeper) = opened.unwrap();
    let every = ActivationFilter::default();
    let listed = store.activations.list(&guest, &every, ALL).await;
    assert_eq!(listed.unwrap().len(), 3);
}

#[tokio::test]
async fn what_was_closed_is_there_when_opened_again() {
    let folder = TempDir::new().unwrap();
    let (store, keeper) = open_in(&folder);
    let made = record("a", 10, 1);
    store.activations.put(Arc::new(made.clone())).unwrap();
    keeper.close().await.unwrap();

    let late = store.activations.put(Arc::new(record("a", 11, 2)));
    assert!(matches!(late, Err(Error::Unavailable(_))));
    let read = store.activations.get(&made.namespace, made.id).await;
    assert!(matches!(read, Err(Error::Unavailable(_))));

    let (store, _keeper) = open_in(&folder);
    let found = store.activations.get(&made.namespace, made.id).await;
    assert_eq!(found.unwrap().as_deref(), Some(&made));
}

#[tokio::test]
async fn a_killed_server_keeps_what_it_promised() {
    let folder = TempDir::new().unwrap();
    let (store, _keeper) = open_in(&folder);
    let guest = namespace("guest");
    for number in 1..=3 {
        let work = Bytes::from(vec![number]);
        let id = ActivationId(u128::from(number));
        store.accepted.accept(&guest, id, work).await.unwrap();
    }
    store.accepted.begin_durably(ActivationId(2)).await.unwrap();
    let copy = copy_as_killed(&folder);

    let (again, _keeper) = open_in(&copy);
    let pending = again.accepted.pending().await.unwrap();
    let seen: Vec<_> = pending.iter().map(|p| (p.id.0, p.begun)).collect();
    assert_eq!(seen, [(1, 0), (2, 1), (3, 0)]);
    // What is accepted next does not take the place of what was found.
    let next = again.accepted.accept(&guest, ActivationId(4), Bytes::new());
    next.await.unwrap();
    assert_eq!(again.accepted.pending().await.unwrap().len(), 4);
}

#[tokio::test]
async fn work_recorded_before_a_crash_and_run_again_keeps_its_first_record() {
    let folder = TempDir::new().unwrap();
    let (store, _keeper) = open_in(&folder);
    let (first, mut second) = (record("a", 10, 1), record("a", 10, 1));
    second.duration = Some(99);
    let accept = store
        .accepted
        .accept(&first.namespace, first.id, Bytes::new());
    accept.await.unwrap();
    store.activations.put(Arc::new(first.clone())).unwrap();
    store.activations.flush().await.unwrap();
    let copy = copy_as_killed(&folder);

    let (again, keeper) = open_in(&copy);
    assert_eq!(again.accepted.pending().await.unwrap().len(), 1);
    again.activations.put(Arc::new(second)).unwrap();
    again.accepted.settle(first.id);
    keeper.close().await.unwrap();

    let (again, _keeper) = open_in(&copy);
    let found = again.activations.get(&first.namespace, first.id).await;
    assert_eq!(found.unwrap().as_deref(), Some(&first));
    assert_eq!(count(&again).await, 1);
    assert!(again.accepted.pending().await.unwrap().is_empty());
}

#[tokio::test]
async fn settled_work_is_forgotten_no_sooner_than_its_record_is_on_disk() {
    let folder = TempDir::new().unwrap();
    let config = Config {
        flush_interval_ms: 1,
        ..Config::default()
    };
    let (store, _keeper) = open(&config, folder.path(), Arc::default()).unwrap();
    let guest = namespace("guest");
    for number in 0..200 {
        let made = record("a", 10 + number, u128::from(number));
        let accept = store.accepted.accept(&guest, made.id, Bytes::new());
        accept.await.unwrap();
        store.activations.put(Arc::new(made.clone())).unwrap();
        store.accepted.settle(made.id);
        if number % 20 == 0 {
            let copy = copy_as_killed(&folder);
            let (again, _keeper) = open_in(&copy);
            let pending = again.accepted.pending().await.unwrap().len();
            let recorded = count(&again).await;
            assert_eq!(pending + recorded, usize::try_from(number).unwrap() + 1);
        }
    }
}

#[tokio::test]
async fn work_whose_caller_left_before_the_answer_is_not_run_later() {
    let folder = TempDir::new().unwrap();
    let (store, _keeper) = open_in(&folder);
    let guest = namespace("guest");
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    // The disk may be quick enough to answer at once; then the promise stands.
    for number in 1.. {
        let id = ActivationId(number);
        let mut accepting = store.accepted.accept(&guest, id, Bytes::new());
        if accepting.as_mut().poll(&mut context).is_pending() {
            drop(accepting);
            let pending = store.accepted.pending().await.unwrap();
            assert!(pending.iter().all(|pending| pending.id != id));
            return;
        }
    }
}

/// Lets the database grow by no more than `pages`; 0 lifts it.
async fn limit_pages(store: &TestStore, pages: i64) {
    store
        .backend
        .write_unforced(move |connection| {
            let now: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            let max = if pages == 0 { 1 << 30 } else { now + pages };
            connection.query_row(&format!("PRAGMA max_page_count = {max}"), [], |_| Ok(()))?;
            Ok(())
        })
        .await
        .unwrap();
}

struct TestStore {
    store: Store,
    backend: Arc<super::Embedded>,
    _keeper: Keeper,
    _folder: TempDir,
}

fn small_store() -> TestStore {
    let folder = TempDir::new().unwrap();
    let config = Config {
        pending_bytes_max: 64 << 10,
        ..Config::default()
    };
    let (backend, keeper) = super::build(&config, folder.path(), Arc::default()).unwrap();
    TestStore {
        store: super::seams(&backend),
        backend,
        _keeper: keeper,
        _folder: folder,
    }
}

fn big_record(number: u128) -> Activation {
    // Text that does not compress: each hash of the one before.
    let mut text = number.to_string();
    while text.len() < 4000 {
        let more = Digest::of(text.as_bytes()).to_string();
        text.push_str(&more);
    }
    let mut made = record("a", 1000 + u64::try_from(number).unwrap(), number);
    made.logs = [text].into();
    made
}

#[tokio::test]
async fn a_full_disk_refuses_work_keeps_records_and_ends_by_itself() {
    let test = small_store();
    let (store, guest) = (&test.store, namespace("guest"));
    let accept = store.accepted.accept(&guest, ActivationId(1), Bytes::new());
    accept.await.unwrap();
    limit_pages(&test, 4).await;

    let large = Bytes::from(vec![0; 1 << 20]);
    let refused = store
        .accepted
        .accept(&guest, ActivationId(2), large.clone());
    assert!(matches!(refused.await, Err(Error::Full)));
    let mut kept = 0;
    while store.activations.put(Arc::new(big_record(kept))).is_ok() {
        kept += 1;
    }
    assert!((4..64).contains(&kept), "{kept} records fit into 64 KiB");
    assert!(!store.activations.has_room());
    assert!(matches!(store.activations.flush().await, Err(Error::Full)));
    let refused = store.activations.put(Arc::new(big_record(kept)));
    assert!(matches!(refused, Err(Error::Full)));
    // What was taken can be read all the while.
    assert_eq!(count(store).await, usize::try_from(kept).unwrap());

    limit_pages(&test, 0).await;
    store.activations.flush().await.unwrap();
    assert!(store.activations.has_room());
    assert_eq!(count(store).await, usize::try_from(kept).unwrap());
    let accept = store.accepted.accept(&guest, ActivationId(2), large);
    accept.await.unwrap();
    assert_eq!(store.accepted.pending().await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_item_for_which_there_is_no_room_leaves_the_former_one() {
    let test = small_store();
    let (items, guest) = (&test.store.items, namespace("guest"));
    let small = item("a", "1");
    let large = item("a", &"2".repeat(1 << 20));
    let put = async |item| items.put(&guest, Shelf::DeadLetters, item, None).await;
    let get = async || items.get(&guest, Shelf::DeadLetters, "a").await.unwrap();
    let first = put(small.clone()).await.unwrap();
    limit_pages(&test, 4).await;
    assert!(matches!(put(large.clone()).await, Err(Error::Full)));
    assert_eq!(get().await, Some((small, first)));

    limit_pages(&test, 0).await;
    let second = put(large.clone()).await.unwrap();
    assert_eq!(get().await, Some((large, second)));
}

#[tokio::test]
async fn items_survive_a_kill() {
    let folder = TempDir::new().unwrap();
    let (store, _keeper) = open_in(&folder);
    let (guest, made) = (namespace("guest"), item("a", "1"));
    let put = store.items.put(&guest, Shelf::Apis, made.clone(), None);
    let revision = put.await.unwrap();
    let copy = copy_as_killed(&folder);
    let (again, _keeper) = open_in(&copy);
    let found = again.items.get(&guest, Shelf::Apis, "a").await.unwrap();
    assert_eq!(found, Some((made, revision)));
}

#[tokio::test]
async fn many_items_are_removed_in_steps_and_all_are_counted() {
    let folder = TempDir::new().unwrap();
    let (store, _keeper) = open_in(&folder);
    let (items, guest) = (&store.items, namespace("guest"));
    let fill = async |prefix: &str, expires| {
        for number in 0..300 {
            let mut made = item(&format!("{prefix}{number}"), "1");
            made.expires = expires;
            items
                .put(&guest, Shelf::Idempotency, made, None)
                .await
                .unwrap();
        }
    };
    fill("purged", None).await;
    fill("expired", Some(Timestamp(7))).await;
    fill("kept", None).await;
    let purged = items.purge(&guest, Shelf::Idempotency, "purged").await;
    assert_eq!(purged.unwrap(), 300);
    assert_eq!(items.expire_items(Timestamp(6)).await.unwrap(), 0);
    assert_eq!(items.expire_items(Timestamp(7)).await.unwrap(), 300);
    let left = items.count(&guest, Shelf::Idempotency, "").await;
    assert_eq!(left.unwrap(), 300);
    store.tenants.delete(&guest).await.unwrap();
    let left = items.count(&guest, Shelf::Idempotency, "").await;
    assert_eq!(left.unwrap(), 0);
}

#[tokio::test]
async fn records_are_written_without_being_asked_for_once_there_is_room() {
    let test = small_store();
    limit_pages(&test, 1).await;
    for number in 0..8 {
        test.store
            .activations
            .put(Arc::new(big_record(number)))
            .unwrap();
    }
    let failed = test.store.activations.flush().await;
    assert!(matches!(failed, Err(Error::Full)));
    limit_pages(&test, 0).await;
    while test.backend.inbox.unwritten_count() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(count(&test.store).await, 8);
}

#[tokio::test]
async fn a_namespace_is_cut_to_its_bytes_oldest_first_and_the_space_is_used_again() {
    let folder = TempDir::new().unwrap();
    let config = Config {
        retention_bytes_max: 512 << 10,
        ..Config::default()
    };
    let (backend, _keeper) = super::build(&config, folder.path(), Arc::default()).unwrap();
    let store = super::seams(&backend);
    let mut sizes = Vec::new();
    for round in 0..6u128 {
        for number in 0..400 {
            let made = big_record(round * 400 + number);
            store.activations.put(Arc::new(made)).unwrap();
        }
        store.activations.flush().await.unwrap();
        let gone = store.activations.expire(Timestamp(2000)).await.unwrap();
        assert!(gone > 0, "round {round}");
        let size = backend.readers.read(|connection| {
            Ok(connection.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))?)
        });
        sizes.push(size.await.unwrap());
    }
    assert!(sizes[5] < sizes[1] * 2, "the file keeps growing: {sizes:?}");
    let every = ActivationFilter::default();
    let guest = namespace("guest");
    let left = store.activations.list(&guest, &every, ALL).await.unwrap();
    assert!((50..400).contains(&left.len()), "{}", left.len());
    let newest: Vec<u64> = left.iter().map(|record| record.start.0).collect();
    let expected: Vec<u64> = (0..left.len() as u64).map(|n| 3399 - n).collect();
    assert_eq!(newest, expected, "what stays is the newest without a gap");
}

#[tokio::test]
async fn many_small_chunks_become_few_and_hold_the_same_records() {
    let folder = TempDir::new().unwrap();
    let (store, keeper) = open_in(&folder);
    for number in 0..40 {
        let made = record("a", 1000 + u64::try_from(number).unwrap(), number);
        store.activations.put(Arc::new(made)).unwrap();
        store.activations.flush().await.unwrap();
    }
    let every = ActivationFilter::default();
    let before = store
        .activations
        .list(&namespace("guest"), &every, ALL)
        .await;
    assert_eq!(store.activations.expire(Timestamp(2000)).await.unwrap(), 0);
    let after = store
        .activations
        .list(&namespace("guest"), &every, ALL)
        .await;
    assert_eq!(before.unwrap(), after.unwrap());
    keeper.close().await.unwrap();
    let chunks: i64 = Connection::open(schema::file_in(folder.path()))
        .unwrap()
        .query_row("SELECT count(*) FROM chunks", [], |row| row.get(0))
        .unwrap();
    assert!(chunks < 5, "{chunks} chunks are left");
}

#[tokio::test]
async fn a_second_server_is_told_who_has_the_folder() {
    let folder = TempDir::new().unwrap();
    let (_store, keeper) = open_in(&folder);
    let refused = open(&Config::default(), folder.path(), Arc::default()).expect_err("locked");
    let text = refused.to_string();
    assert!(matches!(refused, OpenError::Locked { .. }), "{text}");
    assert!(
        text.contains(&folder.path().display().to_string()),
        "{text}"
    );
    let process = format!("(process {})", std::process::id());
    assert!(text.contains(&process), "{text}");
    keeper.close().await.unwrap();
    open_in(&folder);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    // Not even the superuser may make files there.
    let refused = open(
        &Config::default(),
        Path::new("/proc/self/task"),
        Arc::default(),
    )
    .expect_err("no folder");
    let text = refused.to_string();
    assert!(matches!(refused, OpenError::Folder { .. }), "{text}");
    assert!(text.contains("/proc/self/task"), "{text}");
}

#[test]
fn other_formats_are_refused_and_left_as_they_are() {
    let folder = TempDir::new().unwrap();
    let file = schema::file_in(folder.path());
    let refused = |sql: &str| {
        let connection = Connection::open(&file).unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        let before = std::fs::read(&file).unwrap();
        let refused = open(&Config::default(), folder.path(), Arc::default()).expect_err("foreign");
        assert_eq!(std::fs::read(&file).unwrap(), before);
        refused.to_string()
    };
    let foreign = refused("CREATE TABLE theirs (x)");
    assert!(foreign.contains("not one of Wisp's"), "{foreign}");
    let newer = refused("PRAGMA application_id = 0x57697370; PRAGMA user_version = 99");
    assert!(newer.contains("format version 99"), "{newer}");

    std::fs::write(&file, [7; 10_000]).unwrap();
    let garbage = open(&Config::default(), folder.path(), Arc::default()).expect_err("garbage");
    assert!(garbage.to_string().contains("wisp.db"), "{garbage}");
}

#[tokio::test]
async fn a_folder_of_an_earlier_version_is_migrated_and_keeps_what_it_holds() {
    let folder = TempDir::new().unwrap();
    let file = schema::file_in(folder.path());
    let digest = Digest::of(b"code");
    let old = Connection::open(&file).unwrap();
    old.execute_batch(schema::MIGRATIONS[0]).unwrap();
    old.execute_batch(
        "PRAGMA application_id = 0x57697370; PRAGMA user_version = 1;
         UPDATE counters SET value = 41;
         INSERT INTO entities VALUES ('guest', '', 'a', 1, 5, 41, NULL, '{}');",
    )
    .unwrap();
    old.execute("INSERT INTO codes VALUES (?, 'code')", [digest.0])
        .unwrap();
    old.execute("UPDATE entities SET code = ?", [digest.0])
        .unwrap();
    drop(old);

    let (store, keeper) = open_in(&folder);
    let (guest, entity) = (namespace("guest"), suite::key("a"));
    let (found, revision) = store.entities.get(&entity).await.unwrap().unwrap();
    assert_eq!((&*found.body, revision), ("{}", Revision(41)));
    let mut made = item("a/1", "{}");
    made.code = Some(digest);
    let put = store.items.put(&guest, Shelf::Revisions, made, None);
    assert_eq!(put.await.unwrap(), Revision(42));
    store.entities.delete(&entity, revision).await.unwrap();
    let code = store.entities.code(&digest).await.unwrap();
    assert_eq!(code.as_deref(), Some("code"));
    keeper.close().await.unwrap();

    let version: i64 = Connection::open(&file)
        .unwrap()
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(usize::try_from(version), Ok(schema::MIGRATIONS.len()));
    // And once more, with nothing to migrate.
    let (store, _keeper) = open_in(&folder);
    let count = store.items.count(&guest, Shelf::Revisions, "").await;
    assert_eq!(count.unwrap(), 1);
}

#[tokio::test]
async fn nobody_waits_for_a_writer_that_died() {
    let test = small_store();
    let lost = test
        .backend
        .write_unforced::<(), _>(|_| panic!("on purpose"))
        .await;
    assert!(matches!(lost, Err(Error::Unavailable(_))));
    let flushed = test.store.activations.flush().await;
    assert!(matches!(flushed, Err(Error::Unavailable(_))));
    assert!(!test.store.activations.has_room());
}

#[test]
fn an_unknown_knob_is_refused() {
    let known = serde_json::from_str::<Config>(r#"{"retention_age_s": 60}"#).unwrap();
    assert_eq!((known.retention_age_s, known.readers), (60, 4));
    assert!(serde_json::from_str::<Config>(r#"{"retention_age": 60}"#).is_err());
}
