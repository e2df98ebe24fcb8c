//! Web actions: from what an action answers to what a client gets.

use super::web::{ID, ended};
use super::*;

const HTML: &str = "text/html; charset=UTF-8";
const PLAIN: &str = "text/plain; charset=UTF-8";
const JSON: &str = "application/json";
const NOT_HTTP: &str = "Response is not valid 'message/http'.";
const MISMATCH: &str = "Response type in header did not match generated content type.";

async fn got(site: &Site, extension: &str, status: Status, result: &Value) -> Got {
    site.will(ended(status, result));
    site.visit("GET", &format!("guest/default/a{extension}"))
        .await
}

#[track_caller]
fn refuses(got: &Got, status: u16, error: &str) {
    got.is(status);
    assert_eq!(got.json()["error"], error);
    assert_eq!(got.header("x-openwhisk-activation-id"), Some(ID));
    assert_eq!(got.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn extensions_choose_what_is_taken_of_the_result() {
    let site = Site::new().await.with_web("a", &[]).await;
    let all = json!({"headers": {"x-a": "b"}, "statusCode": 404, "body": "<b>", "html": "h",
        "svg": "s", "text": "t"});
    let own = json!({"html": "h", "svg": "s", "text": {"b": [1, 2]}});
    let whole = serde_json::to_string(&all).expect("JSON");
    for (extension, result, kind, body) in [
        (".json", &all, JSON, whole.as_str()),
        (".json", &json!([1, {"a": 2}]), JSON, r#"[1,{"a":2}]"#),
        (".html", &all, HTML, "<b>"),
        (".html", &own, HTML, "h"),
        (".svg", &all, "image/svg+xml", "<b>"),
        (".svg", &own, "image/svg+xml", "s"),
        (".text", &all, PLAIN, "<b>"),
        (".text", &own, PLAIN, "{\n  \"b\": [1, 2]\n}"),
        (".text", &json!([1, 2]), PLAIN, "[1, 2]"),
        (".text", &json!({"text": true}), PLAIN, "true"),
        (".text", &json!({"text": 1.5}), PLAIN, "1.5"),
        (".text", &json!({"text": null}), PLAIN, "null"),
        (".text", &json!({"text": ""}), PLAIN, ""),
    ] {
        let got = got(&site, extension, Status::Success, result).await;
        assert_eq!(got.is(200).text, body, "{extension} {result}");
        assert_eq!(got.header("content-type"), Some(kind));
        assert_eq!(got.header("x-a"), None);
        assert_eq!(got.header("x-openwhisk-activation-id"), Some(ID));
    }
    for (extension, result, status, error) in [
        (
            ".html",
            json!({"body": 1}),
            400,
            "Response is not valid 'text/html'.",
        ),
        (
            ".html",
            json!({"other": "x"}),
            400,
            "Response is not valid 'text/html'.",
        ),
        (
            ".html",
            json!([1]),
            400,
            "Response is not valid 'text/html'.",
        ),
        (
            ".svg",
            json!({"svg": null}),
            400,
            "Response is not valid 'image/svg+xml'.",
        ),
        (
            ".text",
            json!({"html": "x"}),
            404,
            "Response does not include requested property.",
        ),
        (".http", json!([1]), 400, NOT_HTTP),
    ] {
        refuses(
            &got(&site, extension, Status::Success, &result).await,
            status,
            error,
        );
    }
}

#[tokio::test]
async fn an_application_error_is_transcoded_and_others_are_not_told() {
    let site = Site::new().await.with_web("a", &[]).await;
    let error = |value: Value| json!({ "error": value });
    for (extension, value, status, body) in [
        (".json", json!({"a": 1}), 200, r#"{"a":1}"#),
        (".json", json!([1]), 200, "[1]"),
        (".html", json!("no"), 200, "no"),
        (".svg", json!("no"), 200, "no"),
        (".text", json!("no"), 200, "no"),
        (".text", json!(7), 200, "7"),
        (
            ".http",
            json!({"statusCode": 418, "body": "tea"}),
            418,
            "tea",
        ),
    ] {
        let got = got(&site, extension, Status::ApplicationError, &error(value)).await;
        assert_eq!(got.is(status).text, body, "{extension}");
    }
    let not_json = "Response is not valid 'application/json'.";
    for (extension, text) in [(".json", not_json), (".http", NOT_HTTP), ("", NOT_HTTP)] {
        let got = got(
            &site,
            extension,
            Status::ApplicationError,
            &error(json!("no")),
        )
        .await;
        refuses(&got, 400, text);
    }
    for status in [Status::DeveloperError, Status::InternalError] {
        for extension in ["", ".json", ".html", ".svg", ".text"] {
            let got = got(&site, extension, status, &error(json!("secret"))).await;
            refuses(&got, 400, "There was an error processing your request.");
        }
    }
}

#[tokio::test]
async fn an_activation_that_goes_on_is_202() {
    let site = Site::new().await.with_web("a", &[]).await;
    let got = site.visit("GET", "guest/default/a").await;
    refuses(&got, 202, "Response not yet ready.");
}

/// A result, and the status, type and body it becomes.
type Response = (Value, u16, Option<&'static str>, &'static str);

fn undeclared() -> Vec<Response> {
    vec![
        (json!({}), 204, None, ""),
        (json!({"body": null}), 204, None, ""),
        (json!({"body": "", "statusCode": 200}), 200, None, ""),
        (
            json!({"headers": {"content-type": "text/plain"}}),
            204,
            None,
            "",
        ),
        (json!({"statusCode": 204, "body": "x"}), 204, None, ""),
        (json!({"statusCode": 304, "body": "x"}), 304, None, ""),
        (json!({"body": "é"}), 200, Some(HTML), "é"),
        (json!({"body": "\"q\""}), 200, Some(HTML), "\"q\""),
        (
            json!({"body": "x", "statusCode": "404"}),
            404,
            Some(HTML),
            "x",
        ),
        (
            json!({"body": "x", "statusCode": 299.0}),
            299,
            Some(HTML),
            "x",
        ),
        (
            json!({"body": "x", "statusCode": 599}),
            599,
            Some(HTML),
            "x",
        ),
        (
            json!({"body": {"b": [1, "a b"]}}),
            200,
            Some(JSON),
            r#"{"b":[1,"a b"]}"#,
        ),
        (json!({"body": [1]}), 200, Some(JSON), "[1]"),
        (json!({"body": false}), 200, Some(JSON), "false"),
        (json!({"body": 0}), 200, Some(JSON), "0"),
    ]
}

fn declared() -> Vec<Response> {
    let of = |kind, sent, body: Value, text| {
        let headers = json!({"Content-Type": kind});
        (
            json!({"headers": headers, "body": body}),
            200,
            Some(sent),
            text,
        )
    };
    let charset = "text/css;charset=latin1";
    let svg = "image/svg+xml";
    let like = "a/b+json";
    vec![
        of("text/plain", PLAIN, json!("x"), "x"),
        of(charset, charset, json!("x"), "x"),
        of("image/png", "image/png", json!("aGVsbG8="), "hello"),
        of(svg, svg, json!("<svg/>"), "<svg/>"),
        of(JSON, JSON, json!("eyJhIjoxfQ=="), r#"{"a":1}"#),
        of(JSON, JSON, json!("{\"a\": 1}"), "{\"a\": 1}"),
        of(JSON, JSON, json!({"a": 1}), r#"{"a":1}"#),
        of(like, like, json!({"a": 1}), "{\n  \"a\": 1\n}"),
    ]
}

#[tokio::test]
async fn a_response_is_made_as_the_result_says() {
    let site = Site::new().await.with_web("a", &[]).await;
    for (result, status, kind, body) in undeclared().into_iter().chain(declared()) {
        let got = got(&site, ".http", Status::Success, &result).await;
        assert_eq!(got.is(status).text, body, "{result}");
        assert_eq!(got.header("content-type"), kind, "{result}");
        assert_eq!(got.header("x-openwhisk-activation-id"), Some(ID));
    }
}

#[tokio::test]
async fn a_result_that_is_no_response_is_400() {
    let site = Site::new().await.with_web("a", &[]).await;
    let codes = [
        json!(99),
        json!(100),
        json!(600),
        json!(200.5),
        json!(-200),
        json!("ok"),
        json!(null),
        json!([200]),
    ];
    let codes = codes.map(|code| json!({"statusCode": code, "body": "x"}));
    let headers = [
        json!(null),
        json!("x"),
        json!({"a": null}),
        json!({"a": {}}),
        json!({"a": ["b", null]}),
        json!({"a": [["b"]]}),
    ];
    let headers = headers.map(|headers| json!({"headers": headers, "body": "x"}));
    for result in codes.iter().chain(&headers) {
        let got = got(&site, "", Status::Success, result).await;
        refuses(&got, 400, NOT_HTTP);
    }
    let unknown = "Response did not specify a known content-type.";
    for (kind, body, error) in [
        ("xyz", json!("x"), unknown),
        ("xyz", json!({}), unknown),
        ("image/png", json!("no base64!"), MISMATCH),
        ("text/plain", json!({"a": 1}), MISMATCH),
        ("text/html", json!(1), MISMATCH),
    ] {
        let result = json!({"headers": {"content-type": kind}, "body": body});
        let got = got(&site, "", Status::Success, &result).await;
        refuses(&got, 400, error);
    }
}

#[tokio::test]
async fn headers_are_the_actions_but_for_those_of_the_connection() {
    let site = Site::new().await.with_web("a", &[]).await;
    let headers = json!({"Set-Cookie": ["a=1", "b=2"], "X-Number": 1, "X-Bool": true,
        "X-List": ["x", 2], "Location": "/é", "X-Tab": "a\tb",
        "Connection": "close", "Transfer-Encoding": "chunked", "Content-Length": 99,
        "Keep-Alive": "1", "Upgrade": "h2c", "TE": "x", "Trailer": "x",
        "X-Openwhisk-Activation-Id": "f", "X-Request-Id": "f",
        "Access-Control-Allow-Origin": "https://own.example"});
    let result = json!({"headers": headers, "body": "x", "statusCode": 201});
    let got = got(&site, "", Status::Success, &result).await;
    got.is(201);
    let all = |name: &str| {
        let values = got.headers.get_all(name).iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        values.collect::<Vec<_>>()
    };
    assert_eq!(all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(all("x-number"), ["1"]);
    assert_eq!(all("x-bool"), ["true"]);
    assert_eq!(all("x-list"), ["x", "2"]);
    assert_eq!(all("location"), ["/é"]);
    assert_eq!(all("x-tab"), ["a\tb"]);
    for name in [
        "connection",
        "transfer-encoding",
        "content-length",
        "keep-alive",
        "upgrade",
        "te",
        "trailer",
    ] {
        assert!(all(name).is_empty(), "{name}");
    }
    assert_eq!(all("x-openwhisk-activation-id"), [ID]);
    assert_eq!(all("x-request-id").len(), 1);
    assert_eq!(
        all("access-control-allow-origin"),
        ["https://own.example", "*"]
    );
}

#[tokio::test]
async fn no_header_can_split_the_response() {
    let site = Site::new().await.with_web("a", &[]).await;
    for (name, value) in [
        ("x-a", "b\r\nSet-Cookie: c=d"),
        ("x-a", "b\nc"),
        ("x-a", "b\rc"),
        ("x-a", "\u{0}"),
        ("x-a\r\nset-cookie", "c"),
        ("x a", "c"),
        ("x-a:", "c"),
        ("", "c"),
        ("é", "c"),
        ("content-length", "5\r\n\r\nHTTP/1.1 200 OK"),
    ] {
        let result = json!({"headers": {name: value}, "body": "x"});
        refuses(
            &got(&site, "", Status::Success, &result).await,
            400,
            NOT_HTTP,
        );
        let result = json!({"headers": {name: ["fine", value]}, "body": "x"});
        refuses(
            &got(&site, "", Status::Success, &result).await,
            400,
            NOT_HTTP,
        );
    }
    let many: Vec<u32> = (0..40_000).collect();
    let result = json!({"headers": {"x-many": many}, "body": "x"});
    refuses(
        &got(&site, "", Status::Success, &result).await,
        400,
        NOT_HTTP,
    );
    let long = "x".repeat(100_000);
    let result = json!({"headers": {"x-long": long}, "body": "x"});
    refuses(
        &got(&site, "", Status::Success, &result).await,
        400,
        NOT_HTTP,
    );
}

#[tokio::test]
async fn large_bodies_are_passed_on_whole() {
    let site = Site::new().await.with_web("a", &[]).await;
    let plain = "x".repeat(100_000);
    let escaped = "é\"\n".repeat(10_000);
    for text in [&plain, &escaped] {
        let result = json!({"z": 1, "body": text, "a": "b"});
        let got = got(&site, "", Status::Success, &result).await;
        assert!(got.is(200).text == *text);
    }
    let result = json!({"body": {"a": plain}, "z": [1]});
    let whole = got(&site, "", Status::Success, &result).await;
    assert!(whole.is(200).json() == result["body"]);
}
