use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{Config, Worker, WorkerHands};
use crate::invoke::{Answer, Call, Caller, Error, Invoke, Invoker, Parts, Waits, new_id};
use crate::model::{
    Action, ActionLimits, Activation, ActivationId, Annotations, Code, Digest, EntityName, Exec,
    Fqn, Json, Keep, Namespace, Parameters, Status, StoreLevel, Timestamp, Version,
};
use crate::pool::{self, Pool};
use crate::queue::message::Work;
use crate::queue::{self, MemoryQueue, Queue};
use crate::sandbox::Outcome;
use crate::sandbox::fake::{Fake, Script};
use crate::store::{Store, embedded};

/// What a store lives on; it ends with this.
pub(crate) type Ground = (embedded::Keeper, tempfile::TempDir);

pub(crate) fn store() -> (Store, Ground) {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, keeper) =
        embedded::open(&embedded::Config::default(), folder.path(), Arc::default())
            .expect("a store");
    (store, (keeper, folder))
}

pub(crate) fn action(name: &str) -> Action {
    let namespace = Namespace::parse("guest").expect("legal");
    let program = Fake::digest(name);
    let exec = Exec::Code(Code {
        http: false,
        kind: "wasm:1".to_owned(),
        main: None,
        binary: false,
        code: Digest::of(b"code"),
        code_size: 4,
        program,
    });
    Action {
        fqn: Fqn {
            namespace,
            package: None,
            name: EntityName::parse(name).expect("legal"),
        },
        version: Version::FIRST,
        publish: false,
        updated: Timestamp(1),
        exec,
        parameters: Parameters::default(),
        limits: ActionLimits::default(),
        annotations: Annotations::default(),
        revision: 0,
        reached: None,
    }
}

pub(crate) fn work(namespace: &str, name: &str) -> Work {
    let namespace = Namespace::parse(namespace).expect("legal");
    Work {
        version: Work::VERSION,
        id: ActivationId::new(Timestamp::now(), fastrand::u128(..)),
        subject: namespace.clone(),
        namespace,
        action: Arc::new(action(name)),
        params: Json::empty_object(),
        api_key: None,
        transaction: "tid".into(),
        accepted_at: Timestamp::now(),
        cause: None,
        durable: false,
        record: Keep::ALL,
        result_bytes_max: 1 << 20,
        redelivered: 0,
        exchange: None,
    }
}

#[path = "composed_tests.rs"]
mod composed;

struct Rig {
    fake: Arc<Fake>,
    invoker: Invoker,
    worker: Arc<Worker>,
    queue: Arc<MemoryQueue>,
    store: Store,
    _hands: Arc<WorkerHands>,
    guests: Option<Runtime>,
    _ground: Ground,
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(guests) = self.guests.take() {
            guests.shutdown_background();
        }
    }
}

fn rig(runs_per_core: usize) -> Rig {
    let (store, ground) = store();
    let fake = Fake::new(1000);
    let queue = MemoryQueue::new(queue::Config::default(), Arc::clone(&store.accepted));
    let pool = Pool::new(&pool::Config::default(), Arc::clone(&fake) as _, 1 << 30);
    let guests = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads");
    let config = Config {
        runs_per_core,
        ..Config::default()
    };
    let handle: Handle = guests.handle().clone();
    let worker = Worker::new(
        &config,
        1,
        Arc::clone(&queue) as _,
        pool,
        store.clone(),
        handle,
    );
    let hands = Arc::new(WorkerHands(Arc::clone(&worker)));
    let waits = Arc::new(Waits::default());
    let weak = Arc::downgrade(&hands);
    queue.attach(weak as _, Arc::downgrade(&waits) as _);
    let invoker = Invoker::new(Parts::over(store.clone(), Arc::clone(&queue) as _, waits));
    Rig {
        fake,
        invoker,
        worker,
        queue,
        store,
        _hands: hands,
        guests: Some(guests),
        _ground: ground,
    }
}

impl Rig {
    fn call(action: Action, wait: Option<Duration>) -> (Caller, Call) {
        let namespace = Namespace::parse("guest").expect("legal");
        let caller = Caller {
            subject: namespace.clone(),
            namespace,
            api_key: None,
            limits: Arc::default(),
            record: Keep::ALL,
        };
        let call = Call {
            id: new_id(),
            action: Arc::new(action),
            payload: Json::parse(br#"{"a":1}"#).expect("valid"),
            wait,
            transaction: "tid".into(),
            admission: Box::new(()),
        };
        (caller, call)
    }

    async fn invoke(&self, action: Action) -> Result<Arc<Activation>, Error> {
        let (caller, call) = Self::call(action, Some(Duration::from_secs(30)));
        match self.invoker.invoke(caller, call).await? {
            Answer::Finished(record) => Ok(record),
            Answer::Accepted(_) => panic!("the wait ended first"),
        }
    }
}

fn namespace() -> Namespace {
    Namespace::parse("guest").expect("legal")
}

#[tokio::test]
async fn a_warm_call_ends_in_its_callers_first_poll() {
    let rig = rig(16);
    rig.fake.add("a", Script::echoes());
    rig.invoke(action("a")).await.expect("runs");
    let record = rig.invoke(action("a")).await.expect("runs");
    assert_eq!(record.response.status, Status::Success);
    assert_eq!(record.response.result.get(), r#"{"a":1}"#);
    assert_eq!(
        record.annotations.get("path").map(Json::get),
        Some("\"guest/a\"")
    );
    assert!(
        record.annotations.get("initTime").is_none(),
        "only cold runs pay for a start"
    );
    assert_eq!(rig.fake.seen().starts, 1);
}

#[tokio::test]
async fn a_record_can_be_read_as_soon_as_the_answer_is_there() {
    let rig = rig(16);
    rig.fake.add("a", Script::echoes());
    let record = rig.invoke(action("a")).await.expect("runs");
    let read = rig
        .store
        .activations
        .get(&namespace(), record.id)
        .await
        .expect("a disk");
    assert_eq!(read.expect("recorded").id, record.id);
}

/// What a guest did, and how its record says so.
fn outcomes() -> Vec<(Outcome, Status, &'static str)> {
    let answered = |json: &'static str| Outcome::Answered(Bytes::from_static(json.as_bytes()));
    let failed = |json: &'static str, exit| Outcome::Failed {
        answer: Bytes::from_static(json.as_bytes()),
        exit,
    };
    let exited =
        r#"{"error":"The action did not produce a valid response and exited unexpectedly."}"#;
    vec![
        (answered(r#"{"x":1}"#), Status::Success, r#"{"x":1}"#),
        (answered("[1]"), Status::Success, "[1]"),
        (
            answered(r#"{"error":null,"x":1}"#),
            Status::ApplicationError,
            r#"{"error":null}"#,
        ),
        (
            answered("3"),
            Status::DeveloperError,
            r#"{"error":"The action did not produce a valid JSON or JSON Array response: 3"}"#,
        ),
        (
            answered("no"),
            Status::DeveloperError,
            r#"{"error":"The action did not produce a valid JSON or JSON Array response: no"}"#,
        ),
        (
            failed("\"bad\"", false),
            Status::ApplicationError,
            r#"{"error":"bad"}"#,
        ),
        (
            failed(r#"{"error":"e"}"#, true),
            Status::DeveloperError,
            r#"{"error":"e"}"#,
        ),
        (failed("", true), Status::DeveloperError, exited),
        (
            Outcome::Died("trap".to_owned()),
            Status::DeveloperError,
            exited,
        ),
        (
            Outcome::TimedOut,
            Status::DeveloperError,
            r#"{"error":"The action exceeded its time limits of 60000 milliseconds."}"#,
        ),
        (
            Outcome::OutOfMemory,
            Status::DeveloperError,
            r#"{"error":"The action exhausted its memory and was aborted."}"#,
        ),
        (
            Outcome::NoRoom,
            Status::InternalError,
            r#"{"error":"Failed to provision resources to run the action."}"#,
        ),
    ]
}

#[tokio::test]
async fn outcomes_become_the_responses_of_the_contract() {
    let rig = rig(16);
    for (outcome, status, result) in outcomes() {
        rig.fake.add("a", Script::ends(outcome.clone()));
        let mut fresh = action("a");
        fresh
            .annotations
            .set("fresh-instance", Json::from_serialize(&true));
        let record = rig.invoke(fresh).await.expect("runs");
        assert_eq!(record.response.status, status, "{outcome:?}");
        assert_eq!(
            record.response.result.to_value(),
            serde_json::from_str::<serde_json::Value>(result).expect("valid"),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn the_actions_instances_are_never_exceeded_and_everybody_is_served() {
    let rig = Arc::new(rig(16));
    rig.fake.add("a", Script::takes(Duration::from_millis(5)));
    let mut limited = action("a");
    limited.limits = ActionLimits {
        instances: Some(2),
        ..limited.limits
    };
    let calls = (0..20).map(|_| {
        let (rig, limited) = (Arc::clone(&rig), limited.clone());
        tokio::spawn(async move { rig.invoke(limited).await.map(|r| r.response.status) })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(
            call.await.expect("no panic").expect("served"),
            Status::Success
        );
    }
    assert_eq!(rig.fake.seen().running_most, 2);
    assert!(rig.queue.is_empty());
    // Ends only when every permit is back.
    rig.worker.idle().await;
}

#[tokio::test]
async fn the_nodes_runs_are_never_exceeded_and_one_namespace_leaves_some() {
    let rig = Arc::new(rig(8));
    rig.fake.add("a", Script::takes(Duration::from_millis(5)));
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move { rig.invoke(action("a")).await.map(|r| r.response.status) })
        })
        .collect();
    for call in calls {
        assert_eq!(
            call.await.expect("no panic").expect("served"),
            Status::Success
        );
    }
    assert_eq!(rig.fake.seen().running_most, 6, "three quarters of eight");
}

#[tokio::test]
async fn a_blocking_call_that_outlasts_its_wait_goes_on() {
    let rig = rig(16);
    rig.fake.add("a", Script::takes(Duration::from_millis(50)));
    let (caller, call) = Rig::call(action("a"), Some(Duration::from_millis(1)));
    let Ok(Answer::Accepted(id)) = rig.invoker.invoke(caller, call).await else {
        panic!("it should be accepted");
    };
    rig.worker.idle().await;
    let record = rig
        .store
        .activations
        .get(&namespace(), id)
        .await
        .expect("a disk");
    assert_eq!(record.expect("recorded").response.status, Status::Success);
}

#[tokio::test]
async fn accepted_work_is_recorded_once_and_forgotten() {
    let rig = rig(16);
    rig.fake.add("a", Script::echoes());
    let (caller, call) = Rig::call(action("a"), None);
    let Ok(Answer::Accepted(id)) = rig.invoker.invoke(caller, call).await else {
        panic!("it should be accepted");
    };
    rig.worker.idle().await;
    rig.store.activations.flush().await.expect("a disk");
    assert!(
        rig.store
            .activations
            .get(&namespace(), id)
            .await
            .expect("a disk")
            .is_some()
    );
    assert!(
        rig.store
            .accepted
            .pending()
            .await
            .expect("a disk")
            .is_empty()
    );
}

#[tokio::test]
async fn work_that_never_ran_obeys_the_storage_policy() {
    let rig = rig(16);
    let mut kept = Vec::new();
    for keep in [
        Keep::NOTHING,
        Keep::at(StoreLevel::StoreFailuresNotApplicationErrors),
        Keep::at(StoreLevel::StoreFailures),
    ] {
        let (caller, call) = Rig::call(action("a"), None);
        let work = Work {
            version: Work::VERSION,
            id: call.id,
            namespace: caller.namespace,
            subject: caller.subject,
            action: call.action,
            params: call.payload,
            api_key: None,
            transaction: call.transaction,
            accepted_at: Timestamp::now(),
            cause: None,
            durable: true,
            record: keep,
            result_bytes_max: 1 << 20,
            redelivered: 0,
            exchange: None,
        };
        let delivery = rig.queue.delivery(work);
        super::run::give_up(&rig.worker, delivery, "given up");
        let read = rig.store.activations.get(&namespace(), call.id).await;
        kept.push(read.expect("a disk").is_some());
    }
    assert_eq!(kept, [false, false, true], "it is an application error");
}

#[tokio::test]
async fn lost_runs_are_repeated_with_a_count_at_most_twice_and_at_most_once_never() {
    let rig = rig(16);
    rig.fake.add("a", Script::echoes());
    let promised = || Work {
        durable: true,
        ..work("guest", "a")
    };
    let mut once = action("a");
    once.annotations
        .set("at-most-once", Json::from_serialize(&true));
    let once = Arc::new(once);
    let rows = [
        (promised(), 0, Status::Success, None),
        (promised(), 2, Status::Success, Some("2")),
        (promised(), 3, Status::InternalError, Some("3")),
        (
            Work {
                action: Arc::clone(&once),
                ..promised()
            },
            1,
            Status::InternalError,
            Some("1"),
        ),
        (
            Work {
                action: once,
                ..promised()
            },
            0,
            Status::Success,
            None,
        ),
    ];
    for (work, begun, status, redelivered) in rows {
        let id = work.id;
        rig.worker.recover(vec![(work, begun)]);
        rig.worker.idle().await;
        rig.store.activations.flush().await.expect("a disk");
        let record = rig
            .store
            .activations
            .get(&namespace(), id)
            .await
            .expect("a disk");
        let record = record.expect("recorded");
        assert_eq!(record.response.status, status, "begun {begun} times");
        assert_eq!(
            record.annotations.get("redelivered").map(Json::get),
            redelivered
        );
    }
}

#[tokio::test]
async fn final_parameters_cannot_be_overridden() {
    let rig = rig(16);
    rig.fake.add("a", Script::echoes());
    let mut fixed = action("a");
    fixed.parameters =
        serde_json::from_str(r#"[{"key":"a","value":9},{"key":"b","value":2}]"#).expect("valid");
    let record = rig.invoke(fixed.clone()).await.expect("runs");
    assert_eq!(
        record.response.result.to_value(),
        serde_json::json!({"a": 1, "b": 2})
    );
    fixed.annotations.set("final", Json::from_serialize(&true));
    assert!(matches!(
        rig.invoke(fixed).await,
        Err(Error::ReservedParameters)
    ));
}

#[tokio::test]
async fn a_host_failure_is_ours_and_costs_the_instance() {
    let rig = rig(16);
    rig.fake.add(
        "a",
        Script {
            host_error: true,
            ..Script::default()
        },
    );
    let record = rig.invoke(action("a")).await.expect("recorded");
    assert_eq!(record.response.status, Status::InternalError);
    assert_eq!(rig.fake.seen().live, 0);
}
