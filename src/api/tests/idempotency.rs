//! `Idempotency-Key`, as the wire has it.

use super::*;

impl Site {
    async fn keyed(&self, path: &str, key: &str, body: &str) -> Got {
        let request = Request::builder()
            .method("POST")
            .uri(api(path))
            .header("authorization", basic(WELL_KNOWN_GUEST))
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(Body::from(body.to_owned()))
            .expect("a request");
        self.send(request).await
    }
}

fn id(got: &Got) -> String {
    let json = got.is(202).json();
    json["activationId"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn the_same_key_and_payload_run_once_and_answer_alike() {
    let site = Site::new().await.with_action("a").await;
    let first = site.keyed("_/actions/a", "k1", r#"{"a":1}"#).await;
    assert_eq!(first.header("idempotency-replayed"), None);
    first.is(202);
    let id = site.invoker.asked.lock()[0].1.id.to_string();
    let again = site.keyed("_/actions/a", "k1", r#"{"a":1}"#).await;
    assert_eq!(self::id(&again), id);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.header("x-openwhisk-activation-id"), Some(&*id));
    assert_eq!(site.invoker.asked.lock().len(), 1);
    let other = site.keyed("_/actions/a", "k1", r#"{"a":2}"#).await;
    other.refuses(
        422,
        "The Idempotency-Key was used before with another payload.",
    );
}

#[tokio::test]
async fn another_key_or_resource_is_another_call() {
    let site = Site::new()
        .await
        .with_action("a")
        .await
        .with_action("b")
        .await;
    for (path, key) in [
        ("_/actions/a", "k1"),
        ("_/actions/a", "k2"),
        ("_/actions/b", "k1"),
    ] {
        site.keyed(path, key, "{}").await.is(202);
    }
    assert_eq!(site.invoker.asked.lock().len(), 3);
}

#[tokio::test]
async fn a_blocking_call_is_answered_again_from_its_record() {
    let site = Site::new().await.with_action("a").await;
    let path = "_/actions/a?blocking=true";
    site.keyed(path, "k", "{}").await.is(202);
    let ran = site.invoker.asked.lock()[0].1.id;
    let result = json!({ "x": 1 });
    let record = record(ran.0, "a", 1, Status::Success, &result);
    site.activations.put(Arc::new(record)).expect("room");
    let again = site.keyed(path, "k", "{}").await;
    assert_eq!(again.is(200).json()["response"]["result"], result);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(site.invoker.asked.lock().len(), 1);
}

#[tokio::test]
async fn a_call_that_was_cut_off_is_run_under_the_same_id() {
    let site = Site::new().await.with_action("a").await;
    let path = "_/actions/a?blocking=true";
    // The wait ended, and so did the process: there is neither a record nor a run.
    site.keyed(path, "k", "{}").await.is(202);
    site.keyed(path, "k", "{}").await.is(202);
    let asked = site.invoker.asked.lock();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].1.id, asked[1].1.id);
}

#[tokio::test]
async fn a_key_whose_call_was_refused_can_be_used_again() {
    let site = Site::new().await.with_action("a").await;
    site.will(Err(invoke::Error::ReservedParameters));
    site.keyed("_/actions/a", "k", "{}").await.is(400);
    site.keyed("_/actions/a", "k", r#"{"a":1}"#).await.is(202);
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let site = Site::new().await.with_action("a").await;
    let text =
        "The header 'Idempotency-Key' must be given once, with 1 to 255 visible ASCII characters.";
    for bad in ["", "a b", &"x".repeat(256)] {
        site.keyed("_/actions/a", bad, "{}")
            .await
            .refuses(400, text);
    }
    site.keyed("_/actions/a", &"x".repeat(255), "{}")
        .await
        .is(202);
}
