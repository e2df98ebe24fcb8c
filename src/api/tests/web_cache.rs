//! Web actions: answers that are kept.

use super::web::at;
use super::web::ended;
use super::*;

fn keeps(control: &str, more: &Value) -> Value {
    let mut headers = json!({ "cache-control": control });
    let all = headers.as_object_mut().expect("an object");
    all.extend(more.as_object().expect("an object").clone());
    json!({"headers": headers, "body": "kept"})
}

/// The status, and whether the action was run for it.
async fn asked(site: &Site, path: &str, headers: &[(&str, &str)]) -> (Got, bool) {
    asked_by(site, "GET", path, headers).await
}

async fn asked_by(site: &Site, verb: &str, path: &str, headers: &[(&str, &str)]) -> (Got, bool) {
    let before = site.invoker.asked.lock().len();
    let mut request = at(verb, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let got = site.send(request.body(Body::empty()).expect("legal")).await;
    (got, site.invoker.asked.lock().len() > before)
}

async fn site(result: &Value) -> Site {
    let site = Site::new().await.with_web("a", &[]).await;
    site.will(ended(Status::Success, result));
    site
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_as_long_as_it_says() {
    let site = site(&keeps("max-age=60, s-maxage=10", &json!({"x-a": "b"}))).await;
    let (first, ran) = asked(&site, "guest/default/a?q=1", &[]).await;
    assert!(ran);
    assert_eq!(first.header("age"), None);
    tokio::time::advance(Duration::from_secs(9)).await;
    let (second, ran) = asked(&site, "guest/default/a?q=1", &[]).await;
    assert!(!ran);
    assert_eq!(second.is(200).text, "kept");
    assert_eq!(second.header("age"), Some("9"));
    assert_eq!(second.header("x-a"), Some("b"));
    assert_eq!(second.header("etag"), first.header("etag"));
    assert_eq!(second.header("access-control-allow-origin"), Some("*"));
    assert_eq!(second.header("x-openwhisk-activation-id"), None);
    let (head, ran) = asked_by(&site, "HEAD", "guest/default/a?q=1", &[]).await;
    assert!(!ran);
    assert_eq!(
        (head.header("content-length"), head.text.as_str()),
        (Some("4"), "")
    );
    for other in [
        "guest/default/a?q=2",
        "guest/default/a",
        "guest/default/a/x?q=1",
        "guest/default/a.http?q=1",
    ] {
        assert!(asked(&site, other, &[]).await.1, "{other}");
    }
    for (verb, path) in [
        ("POST", "guest/default/a?q=1"),
        ("GET", "guest/default/a.json?q=1"),
    ] {
        assert!(asked_by(&site, verb, path, &[]).await.1, "{verb} {path}");
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(asked(&site, "guest/default/a?q=1", &[]).await.1);
}

#[tokio::test]
async fn what_must_not_be_kept_is_not() {
    for result in [
        json!({"body": "x"}),
        keeps("no-store, max-age=60", &json!({})),
        keeps("private, max-age=60", &json!({})),
        keeps("max-age=0", &json!({})),
        keeps("max-age=60", &json!({"vary": "*"})),
        keeps("max-age=60", &json!({"set-cookie": "a=b"})),
    ] {
        let site = site(&result).await;
        assert!(asked(&site, "guest/default/a", &[]).await.1);
        assert!(asked(&site, "guest/default/a", &[]).await.1, "{result}");
    }
    let failed = json!({"headers": {"cache-control": "max-age=60"}, "statusCode": 500});
    let site = site(&failed).await;
    asked(&site, "guest/default/a", &[]).await.0.is(500);
    assert!(asked(&site, "guest/default/a", &[]).await.1);
}

#[tokio::test]
async fn answers_vary_with_the_headers_they_name_and_the_host() {
    let site = site(&keeps(
        "max-age=60",
        &json!({"vary": "Accept-Language, X-B"}),
    ))
    .await;
    let path = "guest/default/a";
    assert!(asked(&site, path, &[("accept-language", "de")]).await.1);
    assert!(
        !asked(&site, path, &[("accept-language", "de"), ("x-c", "1")])
            .await
            .1
    );
    for other in [
        &[][..],
        &[("accept-language", "en")],
        &[("accept-language", "de"), ("x-b", "1")],
    ] {
        site.will(ended(
            Status::Success,
            &keeps("max-age=60", &json!({"vary": "Accept-Language, X-B"})),
        ));
        assert!(asked(&site, path, other).await.1, "{other:?}");
        assert!(!asked(&site, path, other).await.1, "{other:?}");
    }
    let evil = [("accept-language", "de"), ("host", "evil.example")];
    assert!(
        asked(&site, path, &evil).await.1,
        "an action may build addresses of it"
    );
}

#[tokio::test]
async fn requests_that_say_who_they_are_share_only_what_is_public() {
    let bearer = [("authorization", "Bearer x")];
    let path = "guest/default/a";
    let private = site(&keeps("max-age=60", &json!({}))).await;
    assert!(asked(&private, path, &bearer).await.1);
    assert!(asked(&private, path, &[]).await.1, "nothing was kept");
    private.will(ended(Status::Success, &keeps("max-age=60", &json!({}))));
    assert!(asked(&private, path, &[]).await.1);
    assert!(asked(&private, path, &bearer).await.1);
    assert!(!asked(&private, path, &[]).await.1);
    let public = site(&keeps("public, max-age=60", &json!({}))).await;
    assert!(asked(&public, path, &bearer).await.1);
    assert!(!asked(&public, path, &bearer).await.1);
    assert!(!asked(&public, path, &[]).await.1);
}

#[tokio::test]
async fn a_client_can_insist_on_a_run() {
    for wish in [
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("pragma", "no-cache"),
        ("cache-control", "no-store"),
    ] {
        let site = site(&keeps("max-age=60", &json!({}))).await;
        assert!(asked(&site, "guest/default/a", &[]).await.1);
        assert!(!asked(&site, "guest/default/a", &[]).await.1);
        assert!(asked(&site, "guest/default/a", &[wish]).await.1, "{wish:?}");
    }
    let site = site(&keeps("max-age=60", &json!({}))).await;
    let request = at("GET", "guest/default/a")
        .body(Body::from("x"))
        .expect("legal");
    site.send(request).await.is(200);
    assert!(
        asked(&site, "guest/default/a", &[]).await.1,
        "a body is part of no key"
    );
}

#[tokio::test]
async fn a_client_that_has_the_answer_is_told_so() {
    let path = "guest/default/a";
    let kept = site(&keeps("max-age=60", &json!({"etag": "\"v1\"", "x-a": "b"}))).await;
    let known = [("if-none-match", "\"v0\", W/\"v1\"")];
    let (first, ran) = asked(&kept, path, &known).await;
    assert!(ran);
    for (got, ran) in [(first, true), asked(&kept, path, &known).await] {
        assert_eq!(got.is(304).text, "");
        assert_eq!(got.header("etag"), Some("\"v1\""));
        assert_eq!(got.header("cache-control"), Some("max-age=60"));
        assert_eq!(got.header("content-type"), None);
        assert_eq!(got.header("access-control-allow-origin"), Some("*"));
        assert_eq!(got.header("age").is_some(), !ran);
    }
    asked(&kept, path, &[("if-none-match", "\"v2\"")])
        .await
        .0
        .is(200);
    // Also where nothing is kept, if the action says what it is.
    let own = site(&json!({"headers": {"etag": "\"v1\""}, "body": "x"})).await;
    assert!(asked(&own, path, &known).await.1);
    own.will(ended(
        Status::Success,
        &json!({"headers": {"etag": "\"v1\""}, "body": "x"}),
    ));
    asked(&own, path, &known).await.0.is(304);
    let posted = site(&json!({"headers": {"etag": "\"v1\""}, "body": "x"})).await;
    asked_by(&posted, "POST", path, &known).await.0.is(200);
}

#[tokio::test]
async fn a_change_of_the_action_forgets_its_answers() {
    let path = "guest/default/a";
    let site = site(&keeps("max-age=60", &json!({}))).await;
    assert!(asked(&site, path, &[]).await.1);
    assert!(!asked(&site, path, &[]).await.1);
    let site = site.with_web("a", &[("x", json!(1))]).await;
    assert!(asked(&site, path, &[]).await.1, "updated");
    site.will(ended(Status::Success, &keeps("max-age=60", &json!({}))));
    asked(&site, path, &[]).await.0.is(200);
    assert!(!asked(&site, path, &[]).await.1);
    site.guest("DELETE", "_/actions/a", "").await.is(200);
    asked(&site, path, &[]).await.0.is(404);
    let site = site.with_web("a", &[]).await;
    assert!(asked(&site, path, &[]).await.1, "made again");
    site.will(ended(Status::Success, &keeps("max-age=60", &json!({}))));
    asked(&site, path, &[]).await.0.is(200);
    let annotations = json!({"annotations": [{"key": "web-export", "value": false}]});
    site.put("_/actions/a?overwrite=true", annotations)
        .await
        .is(200);
    asked(&site, path, &[]).await.0.is(404);
}

#[tokio::test]
async fn a_kept_answer_still_asks_for_the_secret_and_not_for_the_rate() {
    let limits = EffectiveLimits {
        invocations_per_minute: 1,
        ..EffectiveLimits::default()
    };
    let site = Site::with(limits, Config::default()).await;
    let site = site
        .with_web("a", &[("require-whisk-auth", json!("s"))])
        .await;
    site.will(ended(Status::Success, &keeps("max-age=60", &json!({}))));
    let secret = [("x-require-whisk-auth", "s")];
    assert!(asked(&site, "guest/default/a", &secret).await.1);
    for _ in 0..3 {
        let (got, ran) = asked(&site, "guest/default/a", &secret).await;
        got.is(200);
        assert!(!ran);
    }
    let (got, ran) = asked(&site, "guest/default/a", &[]).await;
    assert!(!ran);
    assert_ne!(got.status, StatusCode::OK);
    assert!(!got.text.contains("kept"));
}

#[tokio::test]
async fn a_namespace_keeps_no_more_than_it_may() {
    let config = Config {
        web_cache_namespace_bytes_max: 20_000,
        web_cache_bytes_max: 20_000,
        ..Config::default()
    };
    let site = Site::with(EffectiveLimits::default(), config).await;
    let site = site.with_web("a", &[]).await;
    let large = json!({"headers": {"cache-control": "max-age=60"}, "body": "x".repeat(6000)});
    let path = |n: u32| format!("guest/default/a?n={n}");
    for n in 0..4 {
        site.will(ended(Status::Success, &large));
        asked(&site, &path(n), &[]).await.0.is(200);
        // Asked for again and again, the first stays.
        assert!(!asked(&site, &path(0), &[]).await.1, "{n}");
    }
    assert!(
        asked(&site, &path(1), &[]).await.1,
        "the oldest that nobody asked for went"
    );
    assert!(!asked(&site, &path(3), &[]).await.1);
    site.will(ended(
        Status::Success,
        &json!({"headers": {"cache-control": "max-age=60"}, "body": "x".repeat(30_000)}),
    ));
    asked(&site, "guest/default/a?big", &[]).await.0.is(200);
    assert!(
        asked(&site, "guest/default/a?big", &[]).await.1,
        "larger than all there is"
    );
    assert!(!asked(&site, &path(3), &[]).await.1);
}

#[tokio::test(start_paused = true)]
async fn one_run_renews_an_answer_for_all_who_wait() {
    let kept = keeps("max-age=10", &json!({}));
    let site = site(&kept).await;
    site.visit("GET", "guest/default/a").await.is(200);
    tokio::time::advance(Duration::from_secs(10)).await;
    site.will(ended(Status::Success, &kept));
    *site.invoker.takes.lock() = Duration::from_secs(1);
    let all = || site.visit("GET", "guest/default/a");
    let (a, b, c, d) = tokio::join!(all(), all(), all(), all());
    for got in [&a, &b, &c, &d] {
        assert_eq!(got.is(200).text, "kept");
    }
    assert_eq!(a.header("age"), None);
    assert_eq!(d.header("age"), Some("0"));
    let ran = site.invoker.asked.lock().len();
    assert_eq!(ran, 2, "the first, and one for all that came too late");
}
