//! Sequences and conductors, run by a real worker over scripted guests.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::model::{Annotation, Exec, Sequence};
use crate::store::catalog::Catalog;
use crate::store::{Expect, Shelf};

impl Rig {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(self.invoker.resolver().catalog())
    }

    async fn put(&self, action: Action) {
        let code = action.exec.code().map(|_| Arc::from("code"));
        let catalog = self.catalog();
        let expect = match catalog.get::<Action>(&action.fqn).await.expect("a disk") {
            crate::store::catalog::Found::Is(_, revision) => Expect::Revision(revision),
            _ => Expect::Absent,
        };
        catalog.put(action, code, expect).await.expect("a disk");
    }

    /// An action whose guest does `does`.
    async fn guest(&self, name: &str, does: fn(Value) -> Value) {
        let outcome = move |input: &crate::sandbox::Input| {
            let params = serde_json::from_slice(&input.params).expect("JSON");
            Outcome::Answered(does(params).to_string().into())
        };
        let script = Script {
            outcome: Arc::new(outcome),
            ..Script::default()
        };
        self.fake.add(name, script);
        self.put(action(name)).await;
    }

    async fn run(&self, action: Action, payload: Value) -> Arc<Activation> {
        let (caller, mut call) = Self::call(action, Some(Duration::from_secs(30)));
        call.payload = Json::from_serialize(&payload);
        match self.invoker.invoke(caller, call).await.expect("runs") {
            Answer::Finished(record) => record,
            Answer::Accepted(_) => panic!("the wait ended first"),
        }
    }

    async fn record(&self, id: &str) -> Arc<Activation> {
        let id = id.parse().expect("an id");
        let found = self.store.activations.get(&namespace(), id).await;
        found.expect("a disk").expect("recorded")
    }
}

fn sequence(name: &str, components: &[&str]) -> Action {
    let components = components.iter().map(|text| Fqn::parse(text, &namespace()));
    let components = components.map(|name| name.expect("legal")).collect();
    Action {
        exec: Exec::Sequence(Sequence { components }),
        ..action(name)
    }
}

fn conductor(name: &str) -> Action {
    let annotation = Annotation {
        key: "conductor".into(),
        value: Json::from(true),
    };
    Action {
        annotations: [annotation].into_iter().collect(),
        ..action(name)
    }
}

fn result(record: &Activation) -> Value {
    record.response.result.to_value()
}

fn note<'a>(record: &'a Activation, key: &str) -> Option<&'a str> {
    record.annotations.get(key).map(Json::get)
}

fn plus_one(params: Value) -> Value {
    json!({ "n": params["n"].as_u64().unwrap_or(0) + 1 })
}

#[tokio::test]
async fn each_step_gets_the_result_of_the_one_before() {
    let rig = rig(16);
    rig.guest("plus", plus_one).await;
    rig.put(sequence("inner", &["/_/plus", "/_/plus"])).await;
    let whole = sequence("outer", &["/_/plus", "/_/inner", "/_/plus"]);
    let record = rig.run(whole, json!({ "n": 1, "error": "not yet" })).await;
    assert_eq!(result(&record), json!({ "n": 5 }));
    assert_eq!(record.logs.len(), 3);
    assert_eq!(note(&record, "kind"), Some("\"sequence\""));
    assert_eq!(note(&record, "topmost"), Some("true"));
    assert_eq!(note(&record, "causedBy"), None);
    let inner = rig.record(&record.logs[1]).await;
    assert_eq!(inner.cause, Some(record.id));
    assert_eq!(note(&inner, "topmost"), Some("false"));
    assert_eq!(inner.logs.len(), 2);
    let step = rig.record(&inner.logs[0]).await;
    assert_eq!(step.cause, Some(inner.id));
    assert_eq!(note(&step, "causedBy"), Some("\"sequence\""));
    assert_eq!(rig.record(&record.id.to_string()).await.logs.len(), 3);
}

#[tokio::test]
async fn the_first_failure_ends_a_sequence() {
    let rig = rig(16);
    rig.guest("plus", plus_one).await;
    rig.guest("fails", |_| json!({ "error": "no", "beside": 1 }))
        .await;
    let whole = sequence("s", &["/_/plus", "/_/fails", "/_/plus"]);
    let record = rig.run(whole, json!({})).await;
    assert_eq!(record.response.status, Status::ApplicationError);
    assert_eq!(result(&record), json!({ "error": "no" }));
    assert_eq!(record.logs.len(), 2);
    let record = rig
        .run(sequence("s", &["/_/plus", "/_/gone"]), json!({}))
        .await;
    assert_eq!(record.response.status, Status::ApplicationError);
    assert_eq!(
        result(&record)["error"],
        "Sequence component does not exist."
    );
    assert_eq!(record.logs.len(), 1);
}

#[tokio::test]
async fn a_sequence_that_grew_too_long_or_into_itself_ends() {
    let rig = rig(16);
    rig.guest("plus", plus_one).await;
    let fifty = sequence("long", &["/_/plus"; 50]);
    rig.put(fifty.clone()).await;
    let record = rig.run(fifty, json!({})).await;
    assert_eq!(result(&record), json!({ "n": 50 }));
    let record = rig
        .run(sequence("s", &["/_/long", "/_/plus"]), json!({}))
        .await;
    assert_eq!(record.response.status, Status::ApplicationError);
    assert_eq!(
        result(&record)["error"],
        "Too many actions in the sequence."
    );
    rig.put(sequence("round", &["/_/round", "/_/round"])).await;
    let record = rig.run(sequence("s", &["/_/round"]), json!({})).await;
    assert_eq!(
        result(&record)["error"],
        "Too many actions in the sequence."
    );
}

#[tokio::test]
async fn what_the_caller_may_not_invoke_is_named_and_nothing_runs() {
    let rig = rig(16);
    rig.guest("plus", plus_one).await;
    let whole = sequence("s", &["/_/plus", "/other/z", "/other/p/a"]);
    let (caller, call) = Rig::call(whole, Some(Duration::from_secs(30)));
    let refused = rig.invoker.invoke(caller, call).await.expect_err("others'");
    assert_eq!(
        refused.to_string(),
        "The supplied authentication is not authorized to access 'other/p/a, other/z'."
    );
    assert_eq!(rig.fake.seen().runs, 0);
}

#[tokio::test]
async fn a_conductor_says_what_is_next_until_it_has_had_enough() {
    let rig = rig(16);
    rig.guest("plus", plus_one).await;
    let conduct = |params: Value| {
        if params["n"].as_u64() < Some(3) {
            json!({ "action": "plus", "params": { "n": params["n"] }, "state": { "kept": "yes" } })
        } else {
            json!({ "params": params })
        }
    };
    rig.guest("c", conduct).await;
    let record = rig.run(conductor("c"), json!({ "n": 0 })).await;
    assert_eq!(result(&record), json!({ "n": 3, "kept": "yes" }));
    assert_eq!(record.logs.len(), 7);
    assert_eq!(note(&record, "conductor"), Some("true"));
    assert_eq!(note(&record, "kind"), Some("\"sequence\""));
    let first = rig.record(&record.logs[0]).await;
    assert_eq!((first.cause, first.name.as_str()), (Some(record.id), "c"));
}

#[tokio::test]
async fn a_conductor_is_told_what_went_wrong() {
    let rig = rig(16);
    rig.guest("fails", |_| json!({ "error": "no" })).await;
    let conduct = |params: Value| match params["error"].as_str() {
        Some(error) => json!({ "seen": error }),
        None => json!({ "action": params["call"] }),
    };
    rig.guest("c", conduct).await;
    for (call, told) in [
        (json!("fails"), "no".to_owned()),
        (
            json!("gone"),
            "Failed to resolve action with name 'guest/gone' during composition.".to_owned(),
        ),
        (
            json!("/other/p/x"),
            "Failed entitlement check for action with name 'other/p/x' during composition."
                .to_owned(),
        ),
        (
            json!(["x"]),
            r#"Failed to parse action name from json value ["x"] during composition."#.to_owned(),
        ),
    ] {
        let record = rig.run(conductor("c"), json!({ "call": call })).await;
        assert_eq!(result(&record), json!({ "seen": told }));
    }
}

#[tokio::test]
async fn a_conductor_that_never_ends_is_ended() {
    let rig = rig(16);
    rig.guest("plus", plus_one).await;
    rig.guest("c", |_| json!({ "action": "plus" })).await;
    let record = rig.run(conductor("c"), json!({})).await;
    assert_eq!(record.response.status, Status::ApplicationError);
    assert_eq!(
        result(&record)["error"],
        "Too many actions in the composition."
    );
    // 101 calls of the conductor, 50 of its component.
    assert_eq!(record.logs.len(), 151);
    // One that conducts itself.
    rig.put(conductor("d")).await;
    rig.guest("e", |_| json!({ "action": "round" })).await;
    rig.put(sequence("round", &["/_/round"])).await;
    let record = rig.run(conductor("e"), json!({})).await;
    assert_eq!(record.response.status, Status::ApplicationError);
}

#[tokio::test]
async fn a_promised_composition_is_kept_whoever_leaves() {
    let rig = rig(16);
    rig.guest("plus", plus_one).await;
    let (caller, call) = Rig::call(sequence("s", &["/_/plus"]), None);
    let Ok(Answer::Accepted(id)) = rig.invoker.invoke(caller, call).await else {
        panic!("it is accepted");
    };
    rig.invoker.idle().await;
    assert_eq!(rig.record(&id.to_string()).await.logs.len(), 1);
    rig.store.activations.flush().await.expect("a disk");
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
async fn what_a_former_process_promised_is_run_again_but_not_for_ever() {
    let rig = rig(16);
    rig.guest("plus", plus_one).await;
    for (begun, status) in [(1, Status::Success), (3, Status::InternalError)] {
        let promised = Work {
            action: Arc::new(sequence("s", &["/_/plus"])),
            durable: true,
            ..work("guest", "s")
        };
        let id = promised.id;
        rig.invoker.recover(promised, begun).await.expect("a disk");
        rig.invoker.idle().await;
        let record = rig.record(&id.to_string()).await;
        assert_eq!(record.response.status, status);
        assert_eq!(
            note(&record, "redelivered"),
            Some(begun.to_string().as_str())
        );
    }
}

#[tokio::test]
async fn what_runs_can_be_told_to_stop_and_its_instance_with_it() {
    let rig = rig(16);
    rig.fake
        .add("slow", Script::takes(Duration::from_secs(3600)));
    rig.put(action("slow")).await;
    rig.guest("c", |_| json!({ "action": "slow" })).await;
    let whole = [
        action("slow"),
        sequence("s", &["/_/slow", "/_/slow"]),
        conductor("c"),
    ];
    for action in whole {
        let (caller, mut call) = Rig::call(action, None);
        let id = call.id;
        call.payload = Json::empty_object();
        rig.invoker.invoke(caller, call).await.expect("accepted");
        while rig.fake.seen().running == 0 {
            tokio::task::yield_now().await;
        }
        let other = Namespace::parse("other").expect("legal");
        assert!(!rig.invoker.cancel(&other, id).await.expect("a disk"));
        assert!(rig.invoker.cancel(&namespace(), id).await.expect("a disk"));
        while rig.invoker.is_in_flight(&namespace(), id) {
            tokio::task::yield_now().await;
        }
        let record = rig.record(&id.to_string()).await;
        assert_eq!(record.response.status, Status::ApplicationError);
        assert_eq!(result(&record)["error"], "The activation was cancelled.");
        assert_eq!(rig.fake.seen().running, 0);
        assert!(!rig.queue.cancels().is_asked(id));
        assert!(
            !rig.invoker.cancel(&namespace(), id).await.expect("a disk"),
            "it has ended"
        );
    }
    let items = &rig.store.items;
    let notes = async || {
        let count = items.count(&namespace(), Shelf::Cancelled, "").await;
        count.expect("a disk")
    };
    assert!(notes().await > 0, "a crash now would be noticed");
    while notes().await > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
