//! The clock and the feeds it serves, by the wall clock: what is due is made due by writing schedules whose past is known.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::invoke::feed::{Kind, feed};
use crate::invoke::trigger::tests::{Rig, caller, fqn, guest, name, payload, rig};
use crate::invoke::{Config, Fire};
use crate::model::{Activation, Response, Status};
use crate::sandbox::fake::Script;
use crate::store::{ActivationFilter, Page};

const HOUR_MS: u64 = 60 * 60 * 1000;

async fn ask(rig: &Rig, kind: Kind, event: &str, more: Value) -> Response {
    let mut params = more;
    params["lifecycleEvent"] = json!(event);
    params["triggerName"] = json!("/_/t");
    params["authKey"] = json!("uuid:key");
    feed(&rig.invoker, &caller(true), kind, &payload(&params)).await
}

#[track_caller]
fn done(response: &Response) -> Value {
    let answer = response.result.to_value();
    assert_eq!(response.status, Status::Success, "{answer}");
    answer
}

#[track_caller]
fn refused(response: &Response) -> String {
    assert_eq!(response.status, Status::ApplicationError);
    let answer = response.result.to_value();
    let text = answer["error"]["error"].as_str();
    text.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

async fn schedule(rig: &Rig) -> Option<Schedule> {
    let read = rig.invoker.read(&guest(), &name("t")).await;
    read.expect("a disk").map(|read| read.schedule)
}

/// Puts the schedule's past where the test wants it.
async fn rewind(rig: &Rig, change: impl FnOnce(&mut Schedule)) -> Schedule {
    let read = rig.invoker.read(&guest(), &name("t")).await;
    let Read {
        mut schedule,
        revision,
    } = read.expect("a disk").expect("a schedule");
    change(&mut schedule);
    let (namespace, trigger) = (guest(), name("t"));
    let written = rig.invoker.write(&namespace, &trigger, &schedule, revision);
    written.await.expect("a disk");
    schedule
}

/// Looks at the schedule once, as the clock does.
async fn look(rig: &Rig) -> Option<Timestamp> {
    let looked = rig.invoker.ring(&guest(), &name("t")).await;
    let next = looked.expect("the store is there");
    rig.settled().await;
    next
}

async fn fires(rig: &Rig) -> Vec<Arc<Activation>> {
    let filter = ActivationFilter {
        name: Some(name("t")),
        ..ActivationFilter::default()
    };
    let page = Page {
        skip: 0,
        limit: 200,
    };
    let listed = rig.store.activations.list(&guest(), &filter, page).await;
    listed.expect("a disk")
}

/// A trigger whose one rule's action echoes.
async fn ready() -> Rig {
    let rig = rig(Config::default()).await;
    rig.action("a", Script::echoes()).await;
    rig.trigger(&[("r", "a", true)]).await;
    rig
}

/// What is asked of the feed `alarm` at its creation, and what it says to that.
fn refusals_of_cron() -> Vec<(Kind, Value, String)> {
    let now = Timestamp::now().millis();
    let (past, soon) = (now - 5000, now + HOUR_MS);
    vec![
        (
            Kind::Cron,
            json!({}),
            "alarms trigger feed is missing the cron parameter".to_owned(),
        ),
        (
            Kind::Cron,
            json!({ "cron": now }),
            format!("cron pattern '{now}' is not valid"),
        ),
        (
            Kind::Cron,
            json!({ "cron": "* * * * *", "timezone": "America/RTP" }),
            "Invalid timezone.".to_owned(),
        ),
        (
            Kind::Cron,
            json!({ "cron": "* * * * *", "startDate": past }),
            format!("startDate parameter '{past}' must be in the future"),
        ),
        (
            Kind::Cron,
            json!({ "cron": "* * * * *", "startDate": soon, "stopDate": soon }),
            format!(
                "stopDate parameter '{soon}' must be greater than the startDate parameter '{soon}'"
            ),
        ),
        (
            Kind::Cron,
            json!({ "cron": "* * * * *", "stopDate": soon, "maxTriggers": 3 }),
            "maxTriggers is not allowed when the stopDate parameter is specified".to_owned(),
        ),
        (
            Kind::Cron,
            json!({ "cron": "0 0 29 2 *", "stopDate": soon }),
            "the first scheduled trigger fire is not until after the stop date".to_owned(),
        ),
        (
            Kind::Cron,
            json!({ "cron": "* * * * *", "trigger_payload": [1] }),
            "the trigger_payload parameter must be an object or a string".to_owned(),
        ),
    ]
}

/// As [`refusals_of_cron`], of `interval` and `once`.
fn refusals_of_others() -> Vec<(Kind, Value, String)> {
    let now = Timestamp::now().millis();
    let (past, soon) = (now - 5000, now + HOUR_MS);
    vec![
        (
            Kind::Interval,
            json!({}),
            "interval trigger feed is missing the minutes parameter".to_owned(),
        ),
        (
            Kind::Interval,
            json!({ "minutes": "five" }),
            "the minutes parameter must be an integer".to_owned(),
        ),
        (
            Kind::Interval,
            json!({ "minutes": 1.5 }),
            "the minutes parameter must be an integer".to_owned(),
        ),
        (
            Kind::Interval,
            json!({ "minutes": -1 }),
            "the minutes parameter must be an integer greater than zero".to_owned(),
        ),
        (
            Kind::Interval,
            json!({ "minutes": 1, "stopDate": soon, "maxTriggers": 1 }),
            "maxTriggers is not supported for the interval trigger feed".to_owned(),
        ),
        (
            Kind::Once,
            json!({}),
            "alarms once trigger feed is missing the date parameter".to_owned(),
        ),
        (
            Kind::Once,
            json!({ "date": "tomorrow" }),
            "date parameter 'tomorrow' is not a valid Date".to_owned(),
        ),
        (
            Kind::Once,
            json!({ "date": past }),
            format!("date parameter '{past}' must be in the future"),
        ),
        (
            Kind::Once,
            json!({ "date": soon, "deleteAfterFire": "maybe" }),
            "deleteAfterFire parameter must be one of [false, true, rules].".to_owned(),
        ),
    ]
}

#[tokio::test]
async fn the_feeds_refuse_in_the_words_of_openwhisks() {
    let rig = ready().await;
    for (kind, params, text) in refusals_of_cron().into_iter().chain(refusals_of_others()) {
        let shown = params.to_string();
        let answer = ask(&rig, kind, "CREATE", params).await;
        assert_eq!(refused(&answer), text, "{shown}");
    }
    let answer = ask(&rig, Kind::Cron, "READ", json!({})).await;
    assert_eq!(
        refused(&answer),
        "could not find trigger guest/t in the database"
    );
    let answer = ask(&rig, Kind::Cron, "EXPLODE", json!({})).await;
    assert_eq!(
        answer.result.get(),
        r#"{"error":"unsupported lifecycleEvent"}"#
    );
    for foreign in ["/whisk.system/t", "none", "-", "/guest/p/t"] {
        let params =
            json!({ "lifecycleEvent": "CREATE", "triggerName": foreign, "cron": "* * * * *" });
        let answer = feed(&rig.invoker, &caller(true), Kind::Cron, &payload(&params)).await;
        assert_eq!(
            refused(&answer),
            "Trigger authentication request failed.",
            "{foreign}"
        );
    }
}

#[tokio::test]
async fn a_schedule_can_be_made_read_changed_paused_and_deleted() {
    let rig = ready().await;
    let stop = Timestamp::now().millis() + 9 * HOUR_MS;
    let params = json!({ "minutes": "2", "trigger_payload": "x", "stopDate": stop });
    let answer = ask(&rig, Kind::Interval, "CREATE", params).await;
    assert_eq!(done(&answer), json!({ "status": "success" }));
    let read = done(&ask(&rig, Kind::Interval, "READ", json!({})).await);
    let config = &read["config"];
    assert_eq!(
        (&config["name"], &config["namespace"]),
        (&json!("t"), &json!("guest"))
    );
    assert_eq!(
        (&config["minutes"], &config["stopDate"]),
        (&json!(2), &json!(stop))
    );
    assert_eq!(config["payload"], json!({ "payload": "x" }));
    assert!(config["startDate"].is_u64(), "thirty seconds from now");
    assert_eq!(read["status"]["active"], true);
    let late = stop + 1;
    let answer = ask(&rig, Kind::Cron, "UPDATE", json!({ "startDate": late })).await;
    let text =
        format!("startDate parameter '{late}' must be less than the stopDate parameter '{stop}'");
    assert_eq!(refused(&answer), text, "whichever feed it is asked of");
    let answer = ask(&rig, Kind::Cron, "UPDATE", json!({})).await;
    assert_eq!(refused(&answer), "no updatable parameters were specified");
    done(
        &ask(
            &rig,
            Kind::Cron,
            "UPDATE",
            json!({ "minutes": 7, "trigger_payload": { "y": 1 } }),
        )
        .await,
    );
    let read = done(&ask(&rig, Kind::Interval, "READ", json!({})).await);
    assert_eq!(
        (&read["config"]["minutes"], &read["config"]["payload"]),
        (&json!(7), &json!({ "y": 1 }))
    );
    done(&ask(&rig, Kind::Interval, "PAUSE", json!({})).await);
    let read = done(&ask(&rig, Kind::Interval, "READ", json!({})).await);
    assert_eq!(read["status"]["active"], false);
    done(&ask(&rig, Kind::Interval, "UNPAUSE", json!({})).await);
    done(&ask(&rig, Kind::Interval, "DELETE", json!({})).await);
    let answer = ask(&rig, Kind::Interval, "DELETE", json!({})).await;
    assert_eq!(
        refused(&answer),
        "could not find trigger guest/t in the database"
    );
}

#[tokio::test]
async fn the_clock_fires_until_the_bound_and_then_says_so() {
    let rig = ready().await;
    rig.invoker.start_clock().await.expect("a disk");
    let params = json!({ "cron": "* * * * * *", "maxTriggers": 2, "trigger_payload": { "x": 1 } });
    done(&ask(&rig, Kind::Cron, "CREATE", params).await);
    for _ in 0..1000 {
        if fires(&rig).await.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let fired = fires(&rig).await;
    assert_eq!(fired.len(), 2);
    assert_eq!(fired[0].response.result, payload(&json!({ "x": 1 })));
    let line: Value = serde_json::from_str(&fired[0].logs[0]).expect("JSON");
    let ran = line["activationId"].as_str().expect("an id").parse();
    let ran = rig.record(ran.expect("an id")).await;
    assert_eq!(ran.response.result.to_value()["x"], 1);
    let read = done(&ask(&rig, Kind::Cron, "READ", json!({})).await);
    assert_eq!(
        read["status"]["reason"]["message"],
        "Automatically disabled after reaching max triggers"
    );
    rig.invoker.0.events.stop();
}

#[tokio::test]
async fn of_missed_times_the_latest_is_fired_or_none_or_all() {
    for (missed, expected) in [("once", 1), ("skip", 0), ("all", 3)] {
        let rig = ready().await;
        let params = json!({ "minutes": 60, "missed": missed });
        done(&ask(&rig, Kind::Interval, "CREATE", params).await);
        let now = Timestamp::now().millis();
        rewind(&rig, |schedule| {
            schedule.start = Some(Timestamp(now - 10 * HOUR_MS - HOUR_MS / 2));
            schedule.last = Timestamp(now - 3 * HOUR_MS);
        })
        .await;
        let next = look(&rig).await.expect("it goes on");
        assert_eq!(fires(&rig).await.len(), expected, "{missed}");
        assert!(next.millis() > now && next.millis() <= now + HOUR_MS);
        look(&rig).await;
        assert_eq!(fires(&rig).await.len(), expected, "{missed}: done with");
    }
}

#[tokio::test]
async fn all_missed_times_are_a_hundred_at_most() {
    let rig = ready().await;
    let params = json!({ "minutes": 1, "missed": "all" });
    done(&ask(&rig, Kind::Interval, "CREATE", params).await);
    let now = Timestamp::now().millis();
    rewind(&rig, |schedule| {
        schedule.start = Some(Timestamp(now - 900 * HOUR_MS));
        schedule.last = Timestamp(now - 800 * HOUR_MS);
    })
    .await;
    look(&rig).await;
    let count = fires(&rig).await.len();
    assert!(
        (100..=101).contains(&count),
        "{count}: one more where a minute turned"
    );
}

#[tokio::test]
async fn a_crash_at_any_step_neither_doubles_nor_loses_a_fire() {
    let rig = ready().await;
    done(&ask(&rig, Kind::Interval, "CREATE", json!({ "minutes": 60 })).await);
    let now = Timestamp::now().millis();
    let due = Timestamp(now - 1000);
    let before = rewind(&rig, |schedule| {
        schedule.start = Some(Timestamp(due.0 - HOUR_MS));
        schedule.last = Timestamp(due.0 - 1);
    })
    .await;
    // The first step alone: promised, and the schedule does not know.
    let trigger = match rig.catalog.get::<Trigger>(&fqn("t")).await.expect("a disk") {
        Found::Is(trigger, _) => trigger,
        other => panic!("{other:?}"),
    };
    let fire = Fire {
        id: fire_id(before.generation, due),
        trigger,
        payload: before.payload.clone(),
        headers: Vec::new(),
        transaction: "tid".into(),
    };
    let aimed = rig.invoker.aim(&caller(true), fire).await.expect("a disk");
    let (mut fired, _) = aimed.expect("heard");
    fired.due = Some(due);
    drop(rig.invoker.promise_fire(&fired).await.expect("room"));

    let rig = rig.next(Config::default());
    rig.fake.add("a", Script::echoes());
    assert_eq!(rig.recover().await, 1);
    look(&rig).await;
    let all = fires(&rig).await;
    assert_eq!(all.iter().map(|one| one.id).collect::<Vec<_>>(), [fired.id]);
    assert_eq!(schedule(&rig).await.expect("it is kept").last, due);
    assert_eq!(rig.fake.seen().runs, 1);

    // After the second step: nothing is due, and the log has what is left to do.
    let rig = rig.next(Config::default());
    assert_eq!(rig.recover().await, 0);
    look(&rig).await;
    assert_eq!(fires(&rig).await.len(), 1);
}

#[tokio::test]
async fn a_clock_that_was_hours_ahead_does_not_silence_a_schedule() {
    let rig = ready().await;
    done(&ask(&rig, Kind::Interval, "CREATE", json!({ "minutes": 60 })).await);
    let now = Timestamp::now().millis();
    let ahead = |hours: u64| {
        move |schedule: &mut Schedule| {
            schedule.start = Some(Timestamp(now - HOUR_MS / 2));
            schedule.last = Timestamp(now + hours * HOUR_MS);
        }
    };
    rewind(&rig, ahead(1)).await;
    let next = look(&rig).await.expect("it goes on");
    assert!(
        next.millis() > now + HOUR_MS,
        "a small step repeats nothing"
    );
    rewind(&rig, ahead(1000)).await;
    let next = look(&rig).await.expect("it goes on");
    assert!(next.millis() <= now + HOUR_MS);
}

#[tokio::test]
async fn what_fires_once_ends_and_deletes_what_it_was_told_to() {
    let rig = ready().await;
    let date = Timestamp::now().millis() + HOUR_MS;
    let params = json!({ "date": date, "deleteAfterFire": "rules" });
    done(&ask(&rig, Kind::Once, "CREATE", params).await);
    assert_eq!(look(&rig).await, Some(Timestamp(date)));
    let past = Timestamp(Timestamp::now().millis() - 1000);
    rewind(&rig, |schedule| {
        schedule.when = When::Once { date: past };
        schedule.last = Timestamp(past.0 - 1);
    })
    .await;
    assert_eq!(look(&rig).await, None);
    assert_eq!(fires(&rig).await.len(), 1);
    let trigger = rig.catalog.get::<Trigger>(&fqn("t")).await.expect("a disk");
    assert!(matches!(trigger, Found::Nothing));
    assert!(schedule(&rig).await.is_none());
}

#[tokio::test]
async fn a_deleted_trigger_and_a_blocked_namespace_fire_nothing() {
    let rig = ready().await;
    done(&ask(&rig, Kind::Interval, "CREATE", json!({ "minutes": 60 })).await);
    let now = Timestamp::now().millis();
    let make_due = |schedule: &mut Schedule| {
        schedule.start = Some(Timestamp(now - HOUR_MS / 2));
        schedule.last = Timestamp(now - HOUR_MS);
    };
    let tenant = rig.store.tenants.get(&guest()).await.expect("a disk");
    let mut tenant = tenant.expect("guest");
    tenant.blocked = true;
    let put = rig.store.tenants.put(tenant.clone(), false).await;
    put.expect("a disk");
    rig.invoker.0.keys.forget(&guest());
    rewind(&rig, make_due).await;
    assert!(look(&rig).await.is_some(), "its times pass");
    assert!(fires(&rig).await.is_empty());
    tenant.blocked = false;
    let put = rig.store.tenants.put(tenant, false).await;
    put.expect("a disk");
    rig.invoker.0.keys.forget(&guest());
    let Found::Is(_, revision) = rig.catalog.get::<Trigger>(&fqn("t")).await.expect("a disk")
    else {
        panic!("no trigger");
    };
    rig.catalog
        .delete(&fqn("t"), revision)
        .await
        .expect("a disk");
    rewind(&rig, make_due).await;
    assert_eq!(look(&rig).await, None);
    assert!(schedule(&rig).await.is_none());
    assert!(fires(&rig).await.is_empty());
}
