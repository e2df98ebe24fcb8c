//! Invoking: options, bodies, the order of the checks, and the matrix of answers.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::*;
use crate::invoke::Refusal;
use crate::model::NamespaceLimits;
use crate::store::Tenants as _;

const ID: &str = "00000000000000000000000000000abc";

fn ended(status: Status, result: &Value) -> Result<Answer, invoke::Error> {
    let record = record(0xabc, "a", 1_700_000_000_000, status, result);
    Ok(Answer::Finished(Arc::new(record)))
}

#[tokio::test]
async fn every_end_has_its_status_and_body() {
    let site = Site::new().await.with_action("a").await;
    let (object, array) = (json!({"greeting": "hi"}), json!([1, 2]));
    let error = json!({"error": "no"});
    let whole = Value::Null;
    for (status, result, query, code, body) in [
        (Status::Success, &object, "", 200, &whole),
        (Status::Success, &object, "&result=true", 200, &object),
        (Status::Success, &array, "", 200, &array),
        (Status::Success, &array, "&result=1", 200, &array),
        (Status::ApplicationError, &error, "", 502, &whole),
        (Status::ApplicationError, &error, "&result=YES", 502, &error),
        (Status::DeveloperError, &error, "", 502, &whole),
        (Status::DeveloperError, &error, "&result=on", 502, &error),
        (Status::InternalError, &error, "", 500, &whole),
        (Status::InternalError, &error, "&result=true", 500, &error),
    ] {
        site.will(ended(status, result));
        let path = format!("_/actions/a?blocking=true{query}");
        let got = site.guest("POST", &path, "").await;
        got.is(code);
        assert_eq!(got.header("x-openwhisk-activation-id"), Some(ID));
        assert_eq!(got.header("content-type"), Some("application/json"));
        if body.is_null() {
            let got = got.json();
            assert_eq!(got["activationId"], ID);
            assert_eq!(got["logs"], json!([]), "the fast path has no logs");
            assert_eq!(&got["response"]["result"], result);
            assert_eq!(got["response"]["status"], status.as_str());
            assert_eq!(got["response"]["success"], status == Status::Success);
        } else {
            assert_eq!(&got.json(), body);
        }
    }
}

#[tokio::test]
async fn what_is_not_waited_for_is_202_with_the_id() {
    let site = Site::new().await.with_action("a").await;
    for query in [
        "",
        "?result=true",
        "?blocking=false",
        "?blocking=true&timeout=1",
    ] {
        let got = site.guest("POST", &format!("_/actions/a{query}"), "").await;
        assert_eq!(got.is(202).json(), json!({"activationId": ID}));
        assert_eq!(got.header("x-openwhisk-activation-id"), Some(ID));
    }
    let waits: Vec<_> = site
        .invoker
        .asked
        .lock()
        .iter()
        .map(|(_, call)| call.wait)
        .collect();
    assert_eq!(waits, [None, None, None, Some(Duration::from_millis(1))]);
}

#[tokio::test]
async fn a_blocking_call_waits_a_minute_unless_told_otherwise() {
    let site = Site::new().await.with_action("a").await;
    site.guest("POST", "_/actions/a?blocking=true", "")
        .await
        .is(202);
    let wait = site.invoker.asked.lock()[0].1.wait;
    assert_eq!(wait, Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn wrong_options_are_400() {
    let site = Site::new().await.with_action("a").await;
    let timeout = "Timeout must be number of milliseconds up to 60000.";
    for (query, name, detail) in [
        (
            "blocking=maybe",
            "blocking",
            "'maybe' is not a valid Boolean value",
        ),
        ("result=2", "result", "'2' is not a valid Boolean value"),
        ("timeout=0", "timeout", timeout),
        ("timeout=60001", "timeout", timeout),
        ("timeout=x", "timeout", timeout),
        ("timeout=-1", "timeout", timeout),
    ] {
        let text = format!("The query parameter '{name}' was malformed:\n{detail}");
        let got = site
            .guest("POST", &format!("_/actions/a?{query}"), "")
            .await;
        got.refuses(400, &text);
    }
    assert!(site.invoker.asked.lock().is_empty());
}

#[tokio::test]
async fn the_payload_is_nothing_or_an_object() {
    let site = Site::new().await.with_action("a").await;
    for (body, payload) in [("", "{}"), (" {\"a\" : [1]} ", "{\"a\" : [1]}")] {
        site.guest("POST", "_/actions/a", body).await.is(202);
        let asked = site.invoker.asked.lock().pop().expect("invoked");
        assert_eq!(asked.1.payload.get(), payload);
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    for body in [
        "[1]",
        "7",
        "null",
        "{",
        "{\"a\":1}}",
        "{\"a\":\"\u{0}\"}",
        &deep,
    ] {
        let got = site.guest("POST", "_/actions/a", body.to_owned()).await;
        let text = got.is(400).error();
        assert!(
            text.starts_with("The request content was malformed:\n"),
            "{text}"
        );
    }
    assert!(site.invoker.asked.lock().is_empty());
}

#[tokio::test]
async fn bodies_over_the_limit_are_413_whether_declared_or_streamed() {
    let site = Site::new().await.with_action("a").await;
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    let text = format!(
        "Request larger than allowed: {} > 1048576 bytes.",
        large.len()
    );
    site.guest("POST", "_/actions/a", large.clone())
        .await
        .refuses(413, &text);
    let got = site
        .guest("POST", "_/actions/a", Pieces::of(&large, 4096))
        .await;
    assert!(
        got.is(413)
            .error()
            .starts_with("Request larger than allowed: ")
    );
    let set = NamespaceLimits {
        max_payload_size: Some(10),
        ..NamespaceLimits::default()
    };
    let guest = Namespace::parse("guest").expect("legal");
    site.store.put_limits(&guest, set).await.expect("room");
    site.edge_forgets("guest").await;
    let got = site.guest("POST", "_/actions/a", "{\"a\":\"1234\"}").await;
    got.refuses(413, "Request larger than allowed: 12 > 10 bytes.");
}

#[tokio::test]
async fn a_body_in_many_pieces_is_put_together() {
    let site = Site::new().await.with_action("a").await;
    site.guest("POST", "_/actions/a", Pieces::of("{\"a\":1}", 3))
        .await
        .is(202);
    assert_eq!(site.invoker.asked.lock()[0].1.payload.get(), "{\"a\":1}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_408() {
    let site = Site::new().await.with_action("a").await;
    let never = Body::new(Never);
    site.guest("POST", "_/actions/a", never)
        .await
        .refuses(408, "The request body did not arrive in time.");
}

#[tokio::test]
async fn more_large_bodies_than_there_is_room_for_are_503() {
    let config = Config {
        body_memory_bytes_max: 64 << 10,
        ..Config::default()
    };
    let site = Site::with(EffectiveLimits::default(), config)
        .await
        .with_action("a")
        .await;
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(100 << 10));
    let got = site.guest("POST", "_/actions/a", large).await;
    got.is(503);
    assert_eq!(got.header("retry-after"), Some("1"));
    site.guest("POST", "_/actions/a", "{}").await.is(202);
}

#[tokio::test]
async fn a_throttled_caller_is_429_even_for_what_does_not_exist() {
    let defaults = EffectiveLimits {
        invocations_per_minute: 0,
        ..EffectiveLimits::default()
    };
    let site = Site::with(defaults, Config::default()).await;
    let got = site.guest("POST", "_/actions/missing", "[broken").await;
    got.refuses(
        429,
        "Too many requests in the last minute (count: 1, allowed: 0).",
    );
    let wait: u64 = got
        .header("retry-after")
        .expect("advice")
        .parse()
        .expect("seconds");
    assert!((1..=60).contains(&wait));
    let got = site.guest("POST", "_/actions/missing", "").await;
    got.refuses(
        429,
        "Too many requests in the last minute (count: 2, allowed: 0).",
    );
    site.get("_/actions").await.is(200);
}

#[tokio::test]
async fn too_large_comes_before_too_often() {
    let defaults = EffectiveLimits {
        invocations_per_minute: 0,
        ..EffectiveLimits::default()
    };
    let site = Site::with(defaults, Config::default()).await;
    let large = "x".repeat((1 << 20) + 1);
    site.guest("POST", "_/actions/missing", large).await.is(413);
}

#[tokio::test]
async fn a_place_in_flight_is_held_until_the_activation_has_completed() {
    let defaults = EffectiveLimits {
        concurrent_invocations: 1,
        ..EffectiveLimits::default()
    };
    let site = Site::with(defaults, Config::default())
        .await
        .with_action("a")
        .await;
    let guest = Namespace::parse("guest").expect("legal");
    // Refused for another reason: its place is free again at once.
    site.guest("POST", "_/actions/missing", "").await.is(404);
    assert_eq!(site.throttle.in_flight(&guest), 0);
    site.guest("POST", "_/actions/a", "").await.is(202);
    let got = site.guest("POST", "_/actions/a", "").await;
    got.refuses(
        429,
        "Too many concurrent requests in flight (count: 1, allowed: 1).",
    );
    assert_eq!(got.header("retry-after"), Some("1"));
    site.invoker.asked.lock().clear();
    site.guest("POST", "_/actions/a", "").await.is(202);
}

#[tokio::test]
async fn what_the_invoker_refuses_is_said_with_advice() {
    let unavailable =
        "The server is currently unavailable (because it is overloaded or down for maintenance).";
    for (error, status, text, after) in [
        (
            invoke::Error::ReservedParameters,
            400,
            "Request defines parameters that are not allowed (e.g., reserved properties).",
            None,
        ),
        (
            invoke::Error::Refused(Refusal::Backlog { retry_after_s: 7 }),
            429,
            "Too many concurrent requests in flight.",
            Some("7"),
        ),
        (
            invoke::Error::Refused(Refusal::Overload { retry_after_s: 9 }),
            503,
            unavailable,
            Some("9"),
        ),
        (
            invoke::Error::Store(crate::store::Error::Full),
            503,
            unavailable,
            Some("5"),
        ),
        (
            invoke::Error::Unavailable("secret".to_owned()),
            503,
            unavailable,
            Some("1"),
        ),
    ] {
        let site = Site::new().await.with_action("a").await;
        site.will(Err(error));
        let got = site.guest("POST", "_/actions/a?blocking=true", "{}").await;
        got.refuses(status, text);
        assert_eq!(got.header("retry-after"), after);
    }
}

#[tokio::test]
async fn no_room_for_records_is_503_before_anything_runs() {
    let site = Site::new().await.with_action("a").await;
    site.store
        .no_room
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let got = site.guest("POST", "_/actions/a", "{}").await;
    assert!(got.is(503).header("retry-after").is_some());
    assert!(site.invoker.asked.lock().is_empty());
}

#[tokio::test]
async fn the_key_is_passed_on_only_to_actions_that_ask_for_it() {
    let site = Site::new().await.with_action("a").await;
    for (value, passed) in [
        (json!(false), false),
        (json!(0), false),
        (json!(true), true),
        (json!("x"), true),
    ] {
        let put = json!({"annotations": [{"key": "provide-api-key", "value": value}]});
        site.put("_/actions/a?overwrite=true", put).await.is(200);
        site.guest("POST", "_/actions/a", "").await.is(202);
        let (caller, _) = site.invoker.asked.lock().pop().expect("invoked");
        let key = caller.api_key.as_deref();
        assert_eq!(key, passed.then_some(WELL_KNOWN_GUEST));
    }
    let put = json!({"delAnnotations": ["provide-api-key"]});
    site.put("_/actions/a?overwrite=true", put).await.is(200);
    site.guest("POST", "_/actions/a", "").await.is(202);
    let (caller, _) = site.invoker.asked.lock().pop().expect("invoked");
    assert!(
        caller.api_key.is_some(),
        "absence means that the key is provided"
    );
}

#[tokio::test]
async fn the_invoker_learns_who_calls_and_under_which_id() {
    let defaults = EffectiveLimits {
        store_activations: false,
        result_size_max: 77,
        ..EffectiveLimits::default()
    };
    let site = Site::with(defaults, Config::default())
        .await
        .with_action("a")
        .await;
    for (extra, recorded) in [(None, false), (Some("on"), true), (Some("off"), false)] {
        let mut request = bare("POST", "/api/v1/namespaces/_/actions/a");
        let headers = request.headers_mut();
        headers.insert(
            "authorization",
            basic(WELL_KNOWN_GUEST).parse().expect("a header"),
        );
        headers.insert("x-request-id", "mine".parse().expect("a header"));
        if let Some(extra) = extra {
            headers.insert("x-ow-extra-logging", extra.parse().expect("a header"));
        }
        site.send(request).await.is(202);
        let (caller, call) = site.invoker.asked.lock().pop().expect("invoked");
        let kept = caller.record.keeps(Status::Success);
        assert_eq!(kept, recorded, "{extra:?}");
        assert_eq!(caller.namespace.as_str(), "guest");
        assert_eq!(caller.limits.result_size_max, 77);
        assert_eq!(&*call.transaction, "mine");
        assert_eq!(call.action.name().as_str(), "a");
    }
}

#[tokio::test]
async fn kinds_the_namespace_may_no_longer_have_are_not_run() {
    let site = Site::new().await.with_action("a").await;
    let set = json!({"allowedKinds": ["nodejs:20"]});
    site.system("PUT", "/admin/v1/namespaces/guest/limits", set.to_string())
        .await
        .is(200);
    site.guest("POST", "_/actions/a", "").await.refuses(
        403,
        "The supplied authentication is not authorized to access actions of kind 'wasm:1'.",
    );
}

impl Site {
    /// Has the edge read the limits of `namespace` again, as after a write by another node.
    async fn edge_forgets(&self, namespace: &str) {
        let path = format!("/admin/v1/namespaces/{namespace}/unblock");
        self.system("POST", &path, "").await.is(200);
    }
}

/// A body in pieces, of unknown length.
struct Pieces(std::vec::IntoIter<bytes::Bytes>);

impl Pieces {
    fn of(text: &str, size: usize) -> Body {
        let pieces = text.as_bytes().chunks(size);
        let pieces: Vec<_> = pieces.map(bytes::Bytes::copy_from_slice).collect();
        Body::new(Self(pieces.into_iter()))
    }
}

impl http_body::Body for Pieces {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.0.next().map(|piece| Ok(http_body::Frame::data(piece))))
    }
}

/// A body that never comes.
struct Never;

impl http_body::Body for Never {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Poll::Pending
    }
}
