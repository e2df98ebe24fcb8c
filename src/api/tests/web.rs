//! Web actions: which action a path means, who may call it, what it is given.

use super::*;
use crate::auth::setup::WELL_KNOWN_GUEST;

pub(super) const ID: &str = "00000000000000000000000000000abc";
const MISSING: &str = "The requested resource does not exist.";
const DENIED: &str = "Authentication is possible but has failed or not yet been provided.";
const RESERVED: &str =
    "Request defines parameters that are not allowed (e.g., reserved properties).";

/// What the scripted action answers.
pub(super) fn ended(status: Status, result: &Value) -> Result<Answer, invoke::Error> {
    let record = record(0xabc, "a", 1_700_000_000_000, status, result);
    Ok(Answer::Finished(Arc::new(record)))
}

pub(super) fn at(method: &str, path: &str) -> http::request::Builder {
    let method: Method = method.parse().expect("a method");
    let path = format!("/api/v1/web/{path}");
    Request::builder().method(method).uri(path)
}

impl Site {
    /// A web action `name` in `guest`, with more annotations.
    pub(super) async fn with_web(self, name: &str, more: &[(&str, Value)]) -> Self {
        let mut annotations = vec![json!({"key": "web-export", "value": true})];
        annotations.extend(
            more.iter()
                .map(|(key, value)| json!({"key": key, "value": value})),
        );
        let exec = json!({"kind": "wasm:1", "code": "(module)"});
        let body = json!({"exec": exec, "annotations": annotations});
        let path = format!("_/actions/{name}?overwrite=true");
        self.put(&path, body).await.is(200);
        self
    }

    pub(super) async fn visit(&self, method: &str, path: &str) -> Got {
        let request = at(method, path).body(Body::empty());
        self.send(request.expect("a request")).await
    }

    /// What the action was given last.
    pub(super) fn given(&self) -> Value {
        let asked = self.invoker.asked.lock().pop().expect("it was run");
        asked.1.payload.to_value()
    }

    fn ran(&self) -> usize {
        self.invoker.asked.lock().len()
    }
}

/// Not an error of the API: in lines, and its headers those of a web action.
#[track_caller]
fn refuses(got: &Got, status: u16, error: &str, cors: bool) {
    got.is(status);
    let code = got.header("x-request-id").expect("always there");
    let expected = format!(
        "{{\n  \"error\": {},\n  \"code\": \"{code}\"\n}}",
        Value::from(error)
    );
    assert_eq!(got.text, expected);
    assert_eq!(got.header("content-type"), Some("application/json"));
    let origin = got.header("access-control-allow-origin");
    assert_eq!(origin, cors.then_some("*"), "{error}");
}

#[tokio::test]
async fn whatever_is_not_exported_is_the_same_404() {
    let site = Site::new().await.with_action("plain").await;
    let site = site.with_web("a", &[]).await;
    let body = json!({"exec": {"kind": "wasm:1", "code": "(module)"},
        "annotations": [{"key": "web-export", "value": "true"}]});
    site.put("_/actions/text", body).await.is(200);
    for path in [
        "guest/default/plain",
        "guest/default/text",
        "guest/default/none",
        "guest/default/a.xyz",
        "guest/none/a",
        "nobody/default/a",
        "_/default/a",
        "guest/default/$a",
        "guest/default/.json",
        "whisk.system/default/a",
    ] {
        refuses(&site.visit("GET", path).await, 404, MISSING, false);
    }
    for path in ["guest", "guest/default", "guest/default/", ""] {
        let text = "The requested resource could not be found.";
        refuses(&site.visit("GET", path).await, 404, text, false);
    }
    let block = "/admin/v1/namespaces/guest/block";
    site.system("POST", block, "").await.is(200);
    let got = site.visit("GET", "guest/default/a").await;
    refuses(&got, 404, MISSING, false);
    assert_eq!(site.ran(), 0);
}

#[tokio::test]
async fn every_verb_runs_the_action_as_its_owner() {
    let site = Site::new().await.with_web("a", &[]).await;
    for verb in ["GET", "DELETE", "POST", "PUT", "HEAD", "PATCH"] {
        site.will(ended(Status::Success, &json!({"body": "hi"})));
        let got = site
            .visit(verb, "guest/default/a.http/x/%20y?b=1&b=2&c=a+%2B")
            .await;
        got.is(200);
        assert_eq!(got.header("x-openwhisk-activation-id"), Some(ID));
        assert_eq!(got.header("content-type"), Some("text/html; charset=UTF-8"));
        let body = if verb == "HEAD" { "" } else { "hi" };
        assert_eq!(got.text, body);
        let (caller, call) = site.invoker.asked.lock().pop().expect("it was run");
        assert_eq!(caller.namespace.as_str(), "guest");
        assert_eq!(caller.subject.as_str(), "guest");
        assert_eq!(caller.api_key, None);
        assert_eq!(call.wait, Some(Duration::from_secs(60)));
        let given = json!({"__ow_method": verb.to_ascii_lowercase(), "__ow_headers": {},
            "__ow_path": "/x/%20y", "b": "2", "c": "a +"});
        assert_eq!(call.payload.to_value(), given);
    }
    site.will(ended(Status::Success, &json!({"body": "hello"})));
    let head = site.visit("HEAD", "guest/default/a").await;
    assert_eq!(head.header("content-length"), Some("5"));
    let text = "The requested method is not supported by this resource.";
    refuses(
        &site.visit("TRACE", "guest/default/a").await,
        405,
        text,
        false,
    );
}

#[tokio::test]
async fn headers_are_lower_case_and_the_last_of_each() {
    let site = Site::new().await.with_web("a", &[]).await;
    let request = at("GET", "guest/default/a")
        .header("X-Two", "1")
        .header("x-two", "2")
        .header("Accept", "text/html")
        .header("Authorization", "Bearer own")
        .header("X-OW-EXTRA-LOGGING", "on")
        .header("X-Request-ID", "mine");
    let got = site.send(request.body(Body::empty()).expect("legal")).await;
    got.is(202);
    let given = site.given();
    let headers = json!({"x-two": "2", "accept": "text/html", "authorization": "Bearer own",
        "x-request-id": "mine"});
    assert_eq!(given["__ow_headers"], headers);
    assert_eq!(given["__ow_path"], "");
    assert_eq!(given.get("__ow_user"), None);
}

/// A body: its type, its bytes, what an action gets beside `__ow_*` and what as `__ow_body` when it wants it raw.
type Carried = (&'static str, &'static str, Value, &'static str);

const OBJECT: &str = r#"{"b": [1], "q": "body"}"#;

fn of_parameters() -> Vec<Carried> {
    let named = json!({"b": [1], "q": "body"});
    let encoded = "eyJiIjogWzFdLCAicSI6ICJib2R5In0=";
    let form = "b=1&b=%C3%A9+2&q=f";
    let form_type = "application/x-www-form-urlencoded";
    vec![
        ("application/json", OBJECT, named.clone(), encoded),
        ("application/vnd.x+json", OBJECT, named, OBJECT),
        (form_type, form, json!({"b": "é 2", "q": "f"}), form),
        ("application/json", "", json!({"q": "query"}), ""),
    ]
}

fn of_values() -> Vec<Carried> {
    let body = |value: Value| json!({"__ow_body": value, "q": "query"});
    let utf8 = "application/json; charset=utf-8";
    vec![
        ("application/json", "[1]", body(json!([1])), "WzFd"),
        (utf8, "null", body(json!(null)), "bnVsbA=="),
        ("application/json", "\"s\"", body(json!("s")), "InMi"),
        ("text/plain", "é", body(json!("é")), "é"),
        ("application/xml", "<a/>", body(json!("<a/>")), "<a/>"),
        ("image/png", "png", body(json!("cG5n")), "cG5n"),
        (
            "multipart/form-data; boundary=x",
            "png",
            body(json!("cG5n")),
            "cG5n",
        ),
        ("", "png", body(json!("cG5n")), "cG5n"),
    ]
}

#[tokio::test]
async fn bodies_come_as_their_type_says() {
    let site = Site::new().await.with_web("a", &[]).await;
    let site = site.with_web("raw", &[("raw-http", json!(true))]).await;
    for (kind, body, own, raw) in of_parameters().into_iter().chain(of_values()) {
        let request = |path: &str| {
            let mut request = at("POST", path);
            if !kind.is_empty() {
                request = request.header("content-type", kind);
            }
            request.body(Body::from(body)).expect("legal")
        };
        site.send(request("guest/default/a?q=query")).await.is(202);
        let mut given = site.given();
        let fields = given.as_object_mut().expect("an object");
        for common in ["__ow_method", "__ow_headers", "__ow_path"] {
            assert!(fields.remove(common).is_some(), "{common}");
        }
        assert_eq!(given, own, "{kind} {body}");
        site.send(request("guest/default/raw?q=query&q=%20"))
            .await
            .is(202);
        let given = site.given();
        assert_eq!(given["__ow_body"], raw, "{kind} {body}");
        assert_eq!(given["__ow_query"], "q=query&q=%20");
        assert_eq!(given.get("q"), None);
    }
    site.visit("GET", "guest/default/raw").await.is(202);
    assert_eq!(site.given()["__ow_query"], "");
}

#[tokio::test]
async fn what_is_malformed_or_reserved_is_400() {
    let site = Site::new().await.with_web("a", &[]).await;
    let post = |body: String| {
        let request = at("POST", "guest/default/a").header("content-type", "application/json");
        request.body(Body::from(body)).expect("legal")
    };
    let got = site.send(post("{".to_owned())).await;
    assert!(
        got.is(400).json()["error"]
            .as_str()
            .expect("text")
            .starts_with("The request content was malformed:\n")
    );
    assert_eq!(got.header("access-control-allow-origin"), Some("*"));
    let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
    site.send(post(deep)).await.is(400);
    for name in ["method", "headers", "path", "user", "query", "body"] {
        let got = site
            .visit("GET", &format!("guest/default/a?x=1&__ow_{name}=1"))
            .await;
        refuses(&got, 400, RESERVED, true);
        let got = site.send(post(format!("{{\"__ow_{name}\": 1}}"))).await;
        refuses(&got, 400, RESERVED, true);
    }
    assert_eq!(site.ran(), 0);
    let site = site.with_web("raw", &[("raw-http", json!(true))]).await;
    site.visit("GET", "guest/default/raw?__ow_body=1")
        .await
        .is(202);
}

#[tokio::test]
async fn a_flood_of_parameters_is_not_compared_pair_by_pair() {
    let site = Site::new().await.with_web("a", &[]).await;
    let form: String = (0..80_000).map(|n| format!("k{n}=&")).collect();
    let request = at("POST", "guest/default/a")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form));
    let began = tokio::time::Instant::now();
    site.send(request.expect("legal")).await.is(202);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn an_action_says_who_may_call_it() {
    let key = basic(WELL_KNOWN_GUEST);
    let bad = basic(&WELL_KNOWN_GUEST.replace('1', "2"));
    for (required, header, allowed) in [
        (json!(false), None, true),
        (json!(true), None, false),
        (json!(true), Some(("authorization", key.as_str())), true),
        (json!(true), Some(("authorization", bad.as_str())), false),
        (json!(true), Some(("x-require-whisk-auth", "true")), false),
        (json!("secret"), None, false),
        (
            json!("secret"),
            Some(("authorization", key.as_str())),
            false,
        ),
        (
            json!("secret"),
            Some(("x-require-whisk-auth", "secret")),
            true,
        ),
        (
            json!("secret"),
            Some(("x-require-whisk-auth", "Secret")),
            false,
        ),
        (json!("a\"b"), Some(("x-require-whisk-auth", "a\"b")), true),
        (json!(1234), Some(("x-require-whisk-auth", "1234")), true),
        (json!(1234), Some(("x-require-whisk-auth", "12345")), false),
        (json!(null), Some(("x-require-whisk-auth", "null")), false),
        (json!({}), Some(("x-require-whisk-auth", "{}")), false),
        (json!([]), None, false),
    ] {
        let more = [("require-whisk-auth", required.clone())];
        let site = Site::new().await.with_web("a", &more).await;
        let mut request = at("GET", "guest/default/a");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let got = site.send(request.body(Body::empty()).expect("legal")).await;
        if allowed {
            got.is(202);
        } else {
            refuses(&got, 401, DENIED, true);
            assert_eq!(site.ran(), 0, "{required} {header:?}");
        }
    }
}

#[tokio::test]
async fn who_calls_is_told_and_their_key_is_not() {
    let site = Site::new().await.with_web("a", &[]).await;
    let site = site.with_web("own", &[]).await;
    for (key, user, shown) in [
        (WELL_KNOWN_GUEST, "guest", true),
        (WELL_KNOWN_SYSTEM, "whisk.system", false),
    ] {
        let request = at("GET", "guest/default/a").header("authorization", basic(key));
        site.send(request.body(Body::empty()).expect("legal"))
            .await
            .is(202);
        let given = site.given();
        assert_eq!(given["__ow_user"], user);
        let authorization = given["__ow_headers"].get("authorization");
        assert_eq!(authorization.is_some(), shown, "{user}");
    }
}

#[tokio::test]
async fn the_owners_limits_hold() {
    let limits = EffectiveLimits {
        invocations_per_minute: 1,
        payload_size_max: 8,
        ..EffectiveLimits::default()
    };
    let site = Site::with(limits, Config::default()).await;
    let site = site.with_web("a", &[]).await;
    let post = |body: &'static str| {
        let request = at("POST", "guest/default/a").header("content-type", "text/plain");
        request.body(Body::from(body)).expect("legal")
    };
    let text = "Request larger than allowed: 9 > 8 bytes.";
    refuses(&site.send(post("123456789")).await, 413, text, false);
    site.send(post("12345678")).await.is(202);
    let got = site.send(post("")).await;
    assert!(
        got.is(429).json()["error"]
            .as_str()
            .expect("text")
            .starts_with("Too many requests in the last minute")
    );
    assert!(got.header("retry-after").is_some());
    assert_eq!(got.header("access-control-allow-origin"), None);
    let got = site.visit("OPTIONS", "guest/default/a").await;
    assert_eq!(got.is(200).text, "", "a preflight costs nothing");
    refuses(
        &site.visit("GET", "guest/default/b").await,
        404,
        MISSING,
        false,
    );
}

#[tokio::test]
async fn cors_is_the_servers_unless_the_action_wants_it() {
    const METHODS: &str = "OPTIONS, GET, DELETE, POST, PUT, HEAD, PATCH";
    const HEADERS: &str =
        "Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent";
    let site = Site::new()
        .await
        .with_web("a", &[("require-whisk-auth", json!("s"))])
        .await;
    for (asked, told) in [
        (None, HEADERS),
        (Some("X-Mine, X-Other"), "X-Mine, X-Other"),
    ] {
        for (verb, status) in [("OPTIONS", 200), ("GET", 401)] {
            let mut request = at(verb, "guest/default/a");
            if let Some(asked) = asked {
                request = request.header("access-control-request-headers", asked);
            }
            let got = site.send(request.body(Body::empty()).expect("legal")).await;
            got.is(status);
            assert_eq!(got.header("access-control-allow-origin"), Some("*"));
            assert_eq!(got.header("access-control-allow-methods"), Some(METHODS));
            assert_eq!(got.header("access-control-allow-headers"), Some(told));
        }
    }
    assert_eq!(site.ran(), 0);
    let custom = [
        ("web-custom-options", json!(true)),
        ("require-whisk-auth", json!("s")),
    ];
    let site = site.with_web("own", &custom).await;
    let result =
        json!({"headers": {"Access-Control-Allow-Methods": "OPTIONS, GET"}, "statusCode": 200});
    site.will(ended(Status::Success, &result));
    let got = site.visit("OPTIONS", "guest/default/own").await;
    assert_eq!(
        got.is(200).header("access-control-allow-methods"),
        Some("OPTIONS, GET")
    );
    assert_eq!(got.header("access-control-allow-origin"), None);
    assert_eq!(site.given()["__ow_method"], "options");
    let got = site.visit("GET", "guest/default/own").await;
    refuses(&got, 401, DENIED, false);
    // As for any path of the API, there or not.
    let got = site.visit("OPTIONS", "guest/default/none").await;
    assert_eq!(got.is(200).text, "");
    assert_eq!(
        got.header("access-control-allow-methods"),
        Some("GET, DELETE, POST, PUT, HEAD")
    );
}

#[tokio::test]
async fn an_extension_can_be_required() {
    let config = Config {
        web_extension_required: true,
        ..Config::default()
    };
    let site = Site::with(EffectiveLimits::default(), config).await;
    let site = site.with_web("a", &[]).await;
    let text = "Extension must be specified and one of [.http, .json, .html, .svg, .text].";
    refuses(
        &site.visit("GET", "guest/default/a").await,
        406,
        text,
        false,
    );
    site.visit("GET", "guest/default/a.http").await.is(202);
}
