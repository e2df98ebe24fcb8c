//! Fires, from acceptance to their records, on a real store, before guests that do what they are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::invoke::{Config, Events, Invoke, Parts, Refusal, Waits, new_id};
use crate::model::params::Parameter;
use crate::model::trigger::Link;
use crate::model::{Activation, Annotations, Parameters, Rule, Status, StoreLevel};
use crate::pool::{self, Pool};
use crate::queue::{self, MemoryQueue, Queue as _};
use crate::sandbox::Outcome;
use crate::sandbox::fake::{Fake, Script};
use crate::store::catalog::Catalog;
use crate::store::seal::Seal;
use crate::store::{Expect, Item, Page, Shelf, Store};
use crate::worker::tests::{Ground, action, store};
use crate::worker::{self, Worker, WorkerHands};

pub(in crate::invoke) struct Rig {
    pub(in crate::invoke) fake: Arc<Fake>,
    pub(in crate::invoke) invoker: Invoker,
    pub(in crate::invoke) store: Store,
    pub(in crate::invoke) catalog: Arc<Catalog>,
    _hands: Arc<WorkerHands>,
    guests: Option<Runtime>,
    ground: Option<Ground>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(guests) = self.guests.take() {
            guests.shutdown_background();
        }
    }
}

pub(in crate::invoke) fn guest() -> Namespace {
    Namespace::parse("guest").expect("legal")
}

pub(in crate::invoke) fn name(name: &str) -> EntityName {
    EntityName::parse(name).expect("legal")
}

pub(in crate::invoke) fn fqn(text: &str) -> Fqn {
    Fqn {
        namespace: guest(),
        package: None,
        name: name(text),
    }
}

pub(in crate::invoke) fn caller(record: bool) -> Caller {
    Caller {
        namespace: guest(),
        subject: guest(),
        api_key: Some("uuid:key".into()),
        limits: Arc::default(),
        record: if record { Keep::ALL } else { Keep::NOTHING },
    }
}

pub(in crate::invoke) fn payload(json: &Value) -> Json {
    Json::from_serialize(json)
}

pub(in crate::invoke) async fn rig(config: Config) -> Rig {
    let (store, ground) = store();
    let auth = crate::auth::Config::default();
    crate::auth::ensure_defaults(&*store.tenants, &auth, &Seal::default())
        .await
        .expect("keys");
    rig_over(config, store, ground)
}

pub(in crate::invoke) fn rig_over(config: Config, store: Store, ground: Ground) -> Rig {
    let fake = Fake::new(1000);
    let queue = MemoryQueue::new(queue::Config::default(), Arc::clone(&store.accepted));
    let pool = Pool::new(&pool::Config::default(), Arc::clone(&fake) as _, 1 << 30);
    let guests = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads");
    let worker = Worker::new(
        &worker::Config::default(),
        1,
        Arc::clone(&queue) as _,
        pool,
        store.clone(),
        guests.handle().clone(),
    );
    let hands = Arc::new(WorkerHands(Arc::clone(&worker)));
    let waits = Arc::new(Waits::default());
    let weak = Arc::downgrade(&hands);
    queue.attach(weak as _, Arc::downgrade(&waits) as _);
    let parts = Parts {
        events: Arc::new(Events::new(config)),
        ..Parts::over(store.clone(), Arc::clone(&queue) as _, waits)
    };
    let catalog = Arc::clone(parts.resolver.catalog());
    Rig {
        fake,
        invoker: Invoker::new(parts),
        store,
        catalog,
        _hands: hands,
        guests: Some(guests),
        ground: Some(ground),
    }
}

impl Rig {
    /// What a process would be that starts now on the same store, without this one having ended well.
    pub(in crate::invoke) fn next(mut self, config: Config) -> Self {
        let ground = self.ground.take().expect("once");
        rig_over(config, self.store.clone(), ground)
    }

    pub(in crate::invoke) async fn action(&self, text: &str, script: Script) {
        self.fake.add(text, script);
        self.put_action(action(text)).await;
    }

    async fn put_action(&self, action: Action) {
        let put = self
            .catalog
            .put(action, Some("code".into()), Expect::Absent);
        put.await.expect("stored");
    }

    /// A trigger `t` whose rules run what they say.
    pub(in crate::invoke) async fn trigger(&self, rules: &[(&str, &str, bool)]) -> Arc<Trigger> {
        let rules = rules.iter().map(|(rule, action, active)| {
            let link = Link {
                action: fqn(action),
                active: *active,
            };
            (name(rule), link)
        });
        let trigger = Trigger {
            fqn: fqn("t"),
            version: Version(0, 0, 7),
            publish: false,
            updated: Timestamp(1),
            parameters: Parameters(vec![Parameter {
                key: "default".to_owned(),
                value: payload(&json!(1)),
                init: false,
                encryption: None,
                opened: None,
                digest: None,
            }]),
            annotations: Annotations::default(),
            rules: rules.collect::<BTreeMap<_, _>>(),
        };
        let put = self.catalog.put(trigger, None, Expect::Absent).await;
        put.expect("stored")
    }

    async fn rule(&self, text: &str, retry: Value) {
        let mut annotations = Annotations::default();
        annotations.set("retry", payload(&retry));
        let rule = Rule {
            fqn: fqn(text),
            version: Version::FIRST,
            publish: false,
            updated: Timestamp(1),
            annotations,
            trigger: fqn("t"),
            action: fqn("a"),
        };
        let put = self.catalog.put(rule, None, Expect::Absent).await;
        put.expect("stored");
    }

    fn fire(trigger: &Arc<Trigger>) -> Fire {
        Fire {
            id: new_id(),
            trigger: Arc::clone(trigger),
            payload: payload(&json!({ "a": 1 })),
            headers: vec![
                ("authorization".to_owned(), "Basic x".to_owned()),
                ("x-custom".to_owned(), "one".to_owned()),
            ],
            transaction: "tid".into(),
        }
    }

    pub(in crate::invoke) async fn record(&self, id: ActivationId) -> Arc<Activation> {
        for _ in 0..2000 {
            let read = self.store.activations.get(&guest(), id).await;
            if let Some(record) = read.expect("a disk") {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no record of {id}");
    }

    /// Once everything that was promised is kept.
    pub(in crate::invoke) async fn settled(&self) {
        for _ in 0..2000 {
            let pending = self.store.accepted.pending().await.expect("a disk");
            if pending.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("promises are left");
    }

    async fn letters(&self) -> Vec<Value> {
        let page = Page { skip: 0, limit: 10 };
        let items = &self.store.items;
        let letters = items.list(&guest(), Shelf::DeadLetters, "", page).await;
        let letters = letters.expect("a disk");
        let parse = |letter: &Item| serde_json::from_str(&letter.body);
        letters
            .iter()
            .map(|one| parse(one).expect("JSON"))
            .collect()
    }

    /// The log as it would be found by the next process.
    pub(in crate::invoke) async fn recover(&self) -> usize {
        let pending = self.store.accepted.pending().await.expect("a disk");
        let mut count = 0;
        for pending in pending {
            let is_event = self.invoker.recover_event(&pending).await;
            count += usize::from(is_event.expect("a disk"));
        }
        count
    }
}

fn lines(record: &Activation) -> Vec<Value> {
    let lines = record.logs.iter();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[tokio::test]
async fn every_active_rule_runs_and_the_record_lists_them() {
    let rig = rig(Config::default()).await;
    rig.action("a", Script::echoes()).await;
    rig.action("bad", Script::ends(Outcome::Died("trap".to_owned())))
        .await;
    let trigger = rig
        .trigger(&[
            ("r1", "bad", true),
            ("r2", "none", true),
            ("r3", "a", false),
            ("r4", "a", true),
        ])
        .await;
    let fired = rig.invoker.fire(caller(true), Rig::fire(&trigger)).await;
    let id = fired.expect("accepted").expect("heard");
    let record = rig.record(id).await;
    assert_eq!(
        record.response.result,
        payload(&json!({ "a": 1 })),
        "the payload only"
    );
    assert_eq!((record.end, record.duration), (None, None));
    assert_eq!(record.annotations.iter().count(), 0);
    assert_eq!(
        (&*record.name.to_string(), record.version),
        ("t", Version(0, 0, 7))
    );
    let lines = lines(&record);
    let ran = |line: &Value| line["activationId"].as_str().expect("an id").to_owned();
    assert_eq!(
        lines,
        [
            json!({ "statusCode": 0, "success": true, "activationId": ran(&lines[0]), "rule": "guest/r1", "action": "guest/bad" }),
            json!({ "statusCode": 1, "success": false, "error": "The requested resource does not exist.", "rule": "guest/r2", "action": "guest/none" }),
            json!({ "statusCode": 1, "success": false, "error": "Rule 'guest/r3' is inactive, action 'guest/a' was not activated.", "rule": "guest/r3", "action": "guest/a" }),
            json!({ "statusCode": 0, "success": true, "activationId": ran(&lines[3]), "rule": "guest/r4", "action": "guest/a" }),
        ]
    );
    let bad = rig.record(ran(&lines[0]).parse().expect("an id")).await;
    assert_eq!(bad.response.status, Status::DeveloperError);
    let good = rig.record(ran(&lines[3]).parse().expect("an id")).await;
    assert_eq!(good.cause, None);
    let given = json!({ "default": 1, "a": 1, "__ow_headers": { "x-custom": "one" } });
    assert_eq!(good.response.result, payload(&given), "without credentials");
    rig.settled().await;
    assert!(rig.letters().await.is_empty(), "no rule asked for them");
}

#[tokio::test]
async fn a_fire_whose_successes_leave_no_record_leaves_those_of_failures() {
    let rig = rig(Config::default()).await;
    rig.action("a", Script::echoes()).await;
    rig.action("bad", Script::ends(Outcome::Died("trap".to_owned())))
        .await;
    let trigger = rig.trigger(&[("r1", "bad", true), ("r2", "a", true)]).await;
    let caller = Caller {
        record: Keep::at(StoreLevel::StoreFailures),
        ..caller(true)
    };
    let fired = rig.invoker.fire(caller, Rig::fire(&trigger)).await;
    let id = fired.expect("accepted").expect("heard");
    rig.settled().await;
    let failed = rig.record(ActivationId(id.0 + 1)).await;
    assert_eq!(failed.response.status, Status::DeveloperError);
    for id in [id, ActivationId(id.0 + 2)] {
        let read = rig.store.activations.get(&guest(), id).await;
        assert!(read.expect("a disk").is_none(), "it was a success");
    }
}

#[tokio::test]
async fn credentials_are_forwarded_where_that_is_configured() {
    let rig = rig(Config {
        forward_authorization: true,
        ..Config::default()
    })
    .await;
    rig.action("a", Script::echoes()).await;
    let trigger = rig.trigger(&[("r", "a", true)]).await;
    let fired = rig.invoker.fire(caller(true), Rig::fire(&trigger)).await;
    let record = rig.record(fired.expect("accepted").expect("heard")).await;
    let id = lines(&record)[0]["activationId"].as_str().map(str::parse);
    let ran = rig.record(id.expect("an id").expect("an id")).await;
    let headers = ran.response.result.to_value()["__ow_headers"].clone();
    assert_eq!(headers["authorization"], "Basic x");
}

#[tokio::test]
async fn a_slow_action_delays_neither_other_rules_nor_the_triggers_record() {
    let rig = rig(Config::default()).await;
    rig.action("slow", Script::takes(Duration::from_secs(3600)))
        .await;
    rig.action("a", Script::echoes()).await;
    let trigger = rig
        .trigger(&[("r1", "slow", true), ("r2", "a", true)])
        .await;
    let fired = rig.invoker.fire(caller(true), Rig::fire(&trigger)).await;
    let record = rig.record(fired.expect("accepted").expect("heard")).await;
    let id = lines(&record)[1]["activationId"].as_str().map(str::parse);
    rig.record(id.expect("an id").expect("an id")).await;
    let pending = rig.store.accepted.pending().await.expect("a disk");
    assert_eq!(pending.len(), 1, "promised until all has ended");
}

#[tokio::test]
async fn a_namespace_that_may_not_invoke_fires_all_the_same() {
    let rig = rig(Config::default()).await;
    rig.action("a", Script::echoes()).await;
    let trigger = rig.trigger(&[("r", "a", true)]).await;
    let limits = crate::model::limits::EffectiveLimits {
        invocations_per_minute: 0,
        ..crate::model::limits::EffectiveLimits::default()
    };
    let caller = Caller {
        limits: Arc::new(limits),
        ..caller(true)
    };
    let fired = rig.invoker.fire(caller, Rig::fire(&trigger)).await;
    let record = rig.record(fired.expect("accepted").expect("heard")).await;
    let text = "Too many requests in the last minute (count: 1, allowed: 0).";
    assert_eq!(lines(&record)[0]["error"], text);
}

#[tokio::test]
async fn the_backlog_is_bounded_and_half_of_it_is_left_to_others() {
    let rig = rig(Config {
        fires_max: 4,
        ..Config::default()
    })
    .await;
    rig.action("slow", Script::takes(Duration::from_secs(3600)))
        .await;
    let trigger = rig.trigger(&[("r", "slow", true)]).await;
    for _ in 0..2 {
        let fired = rig.invoker.fire(caller(true), Rig::fire(&trigger)).await;
        fired.expect("accepted").expect("heard");
    }
    let refused = rig.invoker.fire(caller(true), Rig::fire(&trigger)).await;
    assert!(matches!(
        refused,
        Err(Error::Refused(Refusal::Backlog { .. }))
    ));
}

#[tokio::test]
async fn after_a_crash_what_has_no_record_runs_again_under_its_id() {
    let rig = rig(Config::default()).await;
    rig.action("a", Script::echoes()).await;
    let stuck = Script::takes(Duration::from_secs(3600));
    rig.action("stuck", stuck).await;
    let mut once = action("once");
    once.annotations.set("at-most-once", Json::from(true));
    rig.fake
        .add("once", Script::takes(Duration::from_secs(3600)));
    rig.put_action(once).await;
    let trigger = rig
        .trigger(&[
            ("r1", "a", true),
            ("r2", "stuck", true),
            ("r3", "once", true),
        ])
        .await;
    let fired = rig.invoker.fire(caller(true), Rig::fire(&trigger)).await;
    let id = fired.expect("accepted").expect("heard");
    let lines = lines(&*rig.record(id).await);
    let ids: Vec<ActivationId> = lines
        .iter()
        .map(|line| {
            line["activationId"]
                .as_str()
                .expect("an id")
                .parse()
                .expect("an id")
        })
        .collect();
    rig.record(ids[0]).await;
    rig.store.activations.flush().await.expect("a disk");

    let rig = rig.next(Config::default());
    for action in ["a", "stuck", "once"] {
        rig.fake.add(action, Script::answers(r#"{"again":true}"#));
    }
    assert_eq!(rig.recover().await, 1);
    let stuck = rig.record(ids[1]).await;
    assert_eq!(stuck.response.result.get(), r#"{"again":true}"#);
    assert_eq!(
        stuck.annotations.get("redelivered").map(Json::get),
        Some("1")
    );
    let once = rig.record(ids[2]).await;
    assert_eq!(once.response.status, Status::InternalError, "not run twice");
    rig.settled().await;
    let first = rig.record(ids[0]).await;
    assert!(
        first.response.result.get().contains("default"),
        "it was not run again"
    );
    assert_eq!(rig.fake.seen().runs, 1);
    let letters = rig.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["rule"], "r3");
}

#[tokio::test]
async fn a_promise_has_the_key_where_what_runs_may_pass_it_on() {
    for (conducts, kept) in [(true, json!("uuid:key")), (false, Value::Null)] {
        let rig = rig(Config::default()).await;
        let mut declines = action("a");
        let annotations = &mut declines.annotations;
        annotations.set("provide-api-key", Json::from(false));
        if conducts {
            annotations.set("conductor", Json::from(true));
        }
        rig.fake.add("a", Script::takes(Duration::from_secs(3600)));
        rig.put_action(declines).await;
        let trigger = rig.trigger(&[("r", "a", true)]).await;
        let fired = rig.invoker.fire(caller(true), Rig::fire(&trigger)).await;
        fired.expect("accepted").expect("heard");
        let pending = rig.store.accepted.pending().await.expect("a disk");
        let [promise] = &pending[..] else {
            panic!("one promise: {pending:?}")
        };
        let promise: Value = serde_json::from_slice(&promise.work).expect("JSON");
        assert_eq!(promise["api_key"], kept);
    }
}

#[tokio::test]
async fn what_brings_servers_down_is_given_up_and_kept_as_a_letter() {
    let rig = rig(Config::default()).await;
    rig.action("a", Script::takes(Duration::from_secs(3600)))
        .await;
    let trigger = rig.trigger(&[("r", "a", true)]).await;
    let fired = rig.invoker.fire(caller(true), Rig::fire(&trigger)).await;
    let id = fired.expect("accepted").expect("heard");
    rig.record(id).await;
    for _ in 0..2 {
        rig.store.accepted.begin_durably(id).await.expect("a disk");
    }
    let rig = rig.next(Config::default());
    assert_eq!(rig.recover().await, 1);
    rig.settled().await;
    assert_eq!(rig.fake.seen().runs, 0);
    let letters = rig.letters().await;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    let ran = letter["activationId"].as_str().expect("an id");
    assert_eq!(letter["id"], ran);
    assert_eq!(
        (&letter["trigger"], &letter["rule"]),
        (&json!("t"), &json!("r"))
    );
    assert_eq!(
        (&letter["action"], &letter["attempts"]),
        (&json!("guest/a"), &json!(3))
    );
    assert_eq!(letter["payload"]["a"], 1);
    let record = rig.record(ran.parse().expect("an id")).await;
    assert_eq!(record.response.status, Status::InternalError);
}

#[tokio::test]
async fn what_the_rule_says_runs_whatever_its_trigger_last_heard() {
    let rig = rig(Config::default()).await;
    rig.action("a", Script::echoes()).await;
    rig.action("old", Script::echoes()).await;
    // A crash came between the write of the rule and that of its link.
    let trigger = rig.trigger(&[("r", "old", true)]).await;
    rig.rule("r", Value::Null).await;
    let fired = rig.invoker.fire(caller(true), Rig::fire(&trigger)).await;
    let record = rig.record(fired.expect("accepted").expect("heard")).await;
    assert_eq!(lines(&record)[0]["action"], "guest/a");
    rig.settled().await;
}

#[tokio::test]
async fn a_rule_may_ask_for_failures_to_be_tried_again() {
    let rig = rig(Config::default()).await;
    rig.action(
        "a",
        Script::ends(Outcome::Failed {
            answer: r#"{"error":"no"}"#.into(),
            exit: false,
        }),
    )
    .await;
    let trigger = rig.trigger(&[("r", "a", true)]).await;
    rig.rule("r", json!({ "attempts": 3, "backoff": 10 })).await;
    let fired = rig.invoker.fire(caller(true), Rig::fire(&trigger)).await;
    fired.expect("accepted").expect("heard");
    rig.settled().await;
    assert_eq!(rig.fake.seen().runs, 3);
    let letters = rig.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["attempts"], 3);
    assert_eq!(letters[0]["error"], "no");
}

#[tokio::test]
async fn a_run_that_waits_to_be_tried_again_survives_the_process() {
    let rig = rig(Config::default()).await;
    rig.action("a", Script::ends(Outcome::TimedOut)).await;
    let trigger = rig.trigger(&[("r", "a", true)]).await;
    rig.rule("r", json!({ "attempts": 2, "backoff": 300 }))
        .await;
    let fired = rig.invoker.fire(caller(true), Rig::fire(&trigger)).await;
    let id = fired.expect("accepted").expect("heard");
    // The fire is settled once what follows it is promised.
    for _ in 0..2000 {
        let pending = rig.store.accepted.pending().await.expect("a disk");
        if pending.iter().all(|pending| pending.id != id) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.invoker.0.events.stop();
    let rig = rig.next(Config::default());
    rig.fake.add("a", Script::echoes());
    assert_eq!(rig.recover().await, 1);
    rig.settled().await;
    assert_eq!(rig.fake.seen().runs, 1);
    assert!(rig.letters().await.is_empty(), "the second run succeeded");
}

#[tokio::test]
async fn a_retry_that_makes_no_sense_is_ignored_and_said() {
    let rig = rig(Config::default()).await;
    rig.action("a", Script::ends(Outcome::TimedOut)).await;
    let trigger = rig.trigger(&[("r", "a", true)]).await;
    rig.rule("r", json!("often")).await;
    let fired = rig.invoker.fire(caller(true), Rig::fire(&trigger)).await;
    let record = rig.record(fired.expect("accepted").expect("heard")).await;
    let lines = lines(&record);
    assert!(
        lines[0]["error"]
            .as_str()
            .expect("a text")
            .contains("'retry'")
    );
    assert_eq!(lines[1]["success"], true);
    rig.settled().await;
    assert_eq!(rig.fake.seen().runs, 1);
}
