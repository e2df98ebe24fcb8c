//! What holds for every request: ids, CORS, credentials, routes, methods, sizes.

use axum::http::HeaderValue;

use super::super::error::Error;
use super::*;

const CORS: &str = "access-control-allow-methods";

#[tokio::test]
async fn the_request_id_is_echoed_unless_it_is_reserved() {
    let site = Site::new().await;
    for (given, echoed) in [
        (Some("abc"), true),
        (Some("sid_123"), false),
        (Some(""), false),
        (None, false),
    ] {
        let mut request = bare("GET", "/api/v1/namespaces");
        if let Some(given) = given {
            let given = given.parse().expect("a header");
            request.headers_mut().insert("x-request-id", given);
        }
        let got = site.send(request).await;
        let id = got.header("x-request-id").expect("always there");
        assert_eq!(got.json()["code"], id);
        if echoed {
            assert_eq!(Some(id), given);
        } else {
            assert_eq!(id.len(), 32, "{id}");
            assert!(id.bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
        }
    }
}

#[tokio::test]
async fn fresh_request_ids_differ() {
    let site = Site::new().await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1000 {
        let got = site.send(bare("GET", "/ping")).await;
        assert!(seen.insert(got.header("x-request-id").expect("there").to_owned()));
    }
}

#[tokio::test]
async fn options_needs_no_key_and_no_route() {
    let site = Site::new().await;
    let rest = "GET, DELETE, POST, PUT, HEAD";
    for (path, methods) in [
        ("/api/v1", rest),
        ("/api/v1/namespaces/_/actions/x", rest),
        ("/api/v1/nonsense/%FF", rest),
        ("/ping", "OPTIONS, GET, POST"),
        ("/nowhere", "OPTIONS, GET, POST"),
    ] {
        let got = site.send(bare("OPTIONS", path)).await;
        got.is(200);
        assert_eq!(got.text, "");
        assert_eq!(got.header(CORS), Some(methods), "{path}");
        assert_eq!(got.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            got.header("access-control-allow-headers"),
            Some("Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent")
        );
    }
}

#[tokio::test]
async fn ordinary_answers_and_errors_carry_cors_too() {
    let site = Site::new().await;
    for path in ["_/actions", "_/actions/missing", "/api/v1/nowhere"] {
        let got = site.get(path).await;
        assert_eq!(got.header(CORS), Some("GET, DELETE, POST, PUT, HEAD"));
        assert_eq!(got.header("access-control-allow-origin"), Some("*"));
    }
}

#[tokio::test]
async fn bad_credentials_are_401_with_a_challenge() {
    let site = Site::new().await;
    let missing = "The resource requires authentication, which was not supplied with the request";
    let invalid = "The supplied authentication is invalid";
    let (uuid, key) = WELL_KNOWN_GUEST.split_once(':').expect("a key");
    let rows = [
        (None, missing),
        (Some(String::new()), invalid),
        (Some("Bearer abc".to_owned()), invalid),
        (Some("Basic %%%".to_owned()), invalid),
        (Some(basic("no-colon")), invalid),
        (
            Some(basic(&format!("{uuid}:{}", key.split_at(1).1))),
            invalid,
        ),
        (Some(basic(&format!("{uuid}:{key}x"))), invalid),
        (Some(basic(&format!("{uuid}:{}", "x".repeat(64)))), invalid),
        (Some(basic(&format!("not-a-uuid:{key}"))), invalid),
        (
            Some(basic(&format!("{}:{key}", uuid::Uuid::nil()))),
            invalid,
        ),
        (Some(basic(&"x".repeat(100_000))), invalid),
    ];
    for (header, text) in rows {
        let mut request = bare("GET", "/api/v1/namespaces");
        if let Some(header) = &header {
            let header = header.parse().expect("a header");
            request.headers_mut().insert("authorization", header);
        }
        let got = site.send(request).await;
        got.refuses(401, text);
        assert_eq!(
            got.header("www-authenticate"),
            Some("Basic realm=\"OpenWhisk secure realm\", charset=UTF-8")
        );
    }
}

#[tokio::test]
async fn what_anyone_may_know_needs_no_key() {
    let site = Site::new().await;
    for path in ["/api/v1", "/api/v1/"] {
        let got = site.send(bare("GET", path)).await;
        assert_eq!(
            got.is(200).json(),
            json!({"description": "OpenWhisk API", "api_version": "1.0.0", "api_version_path": "v1",
                   "build": "today", "buildno": "7",
                   "swagger_paths": {"ui": "/docs", "api-docs": "/api-docs"}})
        );
    }
    let got = site.send(bare("GET", "/")).await;
    assert_eq!(got.is(200).header("content-type"), Some("application/json"));
    let server = got.json();
    assert_eq!(server["api_paths"], json!(["/api/v1"]));
    assert_eq!(server["limits"]["max_action_memory"], 512 << 20);
    assert_eq!(server["limits"]["default_min_action_duration"], 100);
    assert_eq!(server["limits"].as_object().expect("an object").len(), 16);
    assert_eq!(
        server["runtimes"]["wasm"][0],
        json!({"kind": "wasm:1", "image": "wisp/wasm:1", "default": true, "deprecated": false,
               "attached": true, "requireMain": false})
    );
    let ping = site.send(bare("GET", "/ping")).await;
    assert_eq!(ping.is(200).text, "pong");
    assert_eq!(
        site.send(bare("GET", "/metrics")).await.is(200).text,
        "up 1\n"
    );
}

#[tokio::test]
async fn health_says_why_not() {
    let site = Site::new().await;
    site.send(bare("GET", "/health")).await.is(200);
    *site.ready.lock() = Err("the disk is full".to_owned());
    let got = site.send(bare("GET", "/health")).await;
    assert_eq!(got.is(503).json()["reason"], "the disk is full");
}

#[tokio::test]
async fn operators_of_openwhisk_find_one_invoker_and_can_end_it() {
    let site = Site::new().await;
    let get = async |path| site.send(bare("GET", path)).await;
    assert_eq!(
        get("/invokers").await.is(200).json(),
        json!({"invoker0": "up"})
    );
    assert_eq!(get("/invokers/healthy/count").await.is(200).json(), 1);
    let ready = get("/invokers/ready").await.is(200).json();
    assert_eq!(ready, json!({"healthy": "1/1"}));
    for path in ["/activation", "/activation/count"] {
        assert_eq!(get(path).await.is(200).json(), 3);
    }
    let refused = "username or password are wrong.";
    assert_eq!(
        site.send(bare("POST", "/disable")).await.is(401).text,
        refused
    );
    let got = site.call(WELL_KNOWN_GUEST, "POST", "/disable", "").await;
    assert_eq!(got.is(401).text, refused);
    get("/health").await.is(200);
    let got = site.system("POST", "/disable", "").await;
    assert_eq!(got.is(200).text, "controller is disabled");
    get("/health").await.is(503);
    let state = get("/invokers").await.is(200).json();
    assert_eq!(state, json!({"invoker0": "unhealthy"}));
    assert_eq!(get("/invokers/healthy/count").await.is(200).json(), 0);
    let none = get("/invokers/ready").await.is(500).json();
    assert_eq!(none, json!({"unhealthy": "1/1"}));
}

#[tokio::test]
async fn paths_nobody_serves_are_404_and_wrong_verbs_405_with_allow() {
    let site = Site::new().await;
    let nowhere = "The requested resource could not be found.";
    for (method, path) in [
        ("GET", "/nowhere"),
        ("GET", "/api/v2"),
        ("GET", "/api/v1/nonsense"),
        ("GET", "_"),
        ("GET", "_/nonsense"),
        ("GET", "_/actions/a/b/c"),
        ("GET", &format!("_/activations/{}/other", "0".repeat(32))),
        ("PUT", "_/actions"),
        ("PUT", "_/actions/"),
        ("DELETE", "_/actions/"),
    ] {
        site.guest(method, path, "").await.refuses(404, nowhere);
    }
    let verb = "The requested method is not supported by this resource.";
    for (method, path, allow) in [
        ("PATCH", "_/actions/a", "GET,HEAD,PUT,DELETE,POST"),
        ("POST", "_/activations", "GET,HEAD"),
        ("DELETE", "/ping", "GET,HEAD"),
    ] {
        let got = site.guest(method, path, "").await;
        got.refuses(405, verb);
        assert_eq!(got.header("allow"), Some(allow), "{path}");
    }
}

#[tokio::test]
async fn a_client_that_takes_no_json_is_406() {
    let site = Site::new().await;
    for (accept, status) in [
        ("*/*", 200),
        ("application/*", 200),
        ("text/html, application/json;q=0.5", 200),
        ("APPLICATION/JSON; charset=utf-8", 200),
        ("text/plain", 406),
        ("application/json;q=0", 406),
    ] {
        let mut request = bare("GET", "/api/v1");
        let value = accept.parse().expect("a header");
        request.headers_mut().insert("accept", value);
        let got = site.send(request).await;
        got.is(status);
        if status == 406 {
            got.refuses(
                406,
                "Resource representation is only available with these types:\napplication/json",
            );
        }
    }
}

#[tokio::test]
async fn a_uri_over_8_kib_is_414() {
    let site = Site::new().await;
    let fits = format!("/api/v1?{}", "x".repeat(8192 - 8));
    site.send(bare("GET", &fits)).await.is(200);
    let got = site.send(bare("GET", &(fits + "x"))).await;
    got.refuses(414, "URI longer than allowed: 8193 > 8192 bytes.");
}

#[tokio::test]
async fn a_key_has_exactly_one_namespace_and_its_limits() {
    let site = Site::new().await;
    for path in ["/api/v1/namespaces", "/api/v1/namespaces/"] {
        assert_eq!(site.get(path).await.is(200).json(), json!(["guest"]));
    }
    for path in ["_/limits", "guest/limits"] {
        let limits = site.get(path).await.is(200).json();
        assert_eq!(limits["maxActionMemory"], 512);
        assert_eq!(limits["maxParameterSize"], "1048576 B");
        assert_eq!(limits.get("storeActivations"), None, "nobody set it");
        assert_eq!(limits.get("allowedKinds"), None);
    }
    site.get("other/limits").await.refuses(
        403,
        "The supplied authentication is not authorized to access 'other'.",
    );
    site.get("_/limits/x").await.refuses(
        400,
        "Inner entity level routes for limits are not yet implemented.",
    );
}

#[tokio::test]
async fn what_is_in_other_namespaces_is_403_and_says_what() {
    let site = Site::new().await;
    for (method, path, resource) in [
        ("GET", "other/actions", "other"),
        ("GET", "other/actions/x", "other/x"),
        ("PUT", "other/actions/x", "other/x"),
        ("DELETE", "other/actions/p/x", "other/p/x"),
        ("POST", "other/actions/x%20y", "other/x y"),
        ("GET", "other/actions/p/", "other/p"),
        ("GET", "other/activations", "other"),
    ] {
        let text = format!("The supplied authentication is not authorized to access '{resource}'.");
        site.guest(method, path, "").await.refuses(403, &text);
    }
}

#[tokio::test]
async fn odd_names_are_refused_in_the_words_of_the_wire() {
    let site = Site::new().await;
    let entity = "The name of the entity contains illegal characters.";
    for name in [
        "%20", "hi+there", "$hola", "dora%3F", "a%2Fb", "%C3%A9", "%FF", "a%20", "%00",
    ] {
        for method in ["GET", "PUT", "DELETE", "POST"] {
            let path = format!("_/actions/{name}");
            site.guest(method, &path, "").await.refuses(400, entity);
        }
    }
    let long = format!("_/actions/{}", "x".repeat(257));
    site.get(&long)
        .await
        .refuses(400, "Name segement longer than allowed: 257 > 256.");
    let namespace = "The namespace contains illegal characters.";
    for path in ["$x/actions", "%FF/actions/a", "%20/activations"] {
        site.get(path).await.refuses(400, namespace);
    }
    let long = format!("{}/actions", "x".repeat(257));
    site.get(&long)
        .await
        .refuses(400, "Namespace longer than allowed: 257 > 256.");
}

#[tokio::test]
async fn a_store_that_cannot_serve_is_503_with_retry_after_and_hides_its_cause() {
    let unavailable =
        "The server is currently unavailable (because it is overloaded or down for maintenance).";
    for (failure, status, text) in [
        (crate::store::Error::Full, 503, unavailable),
        (
            crate::store::Error::Unavailable("secret".to_owned()),
            503,
            unavailable,
        ),
        (
            crate::store::Error::Corrupt("secret".to_owned()),
            500,
            "Resource is corrupted and cannot be read.",
        ),
        (
            crate::store::Error::Conflict,
            409,
            "Concurrent modification to resource detected.",
        ),
    ] {
        let site = Site::new().await.with_action("a").await;
        *site.store.failure.lock() = Some(failure);
        let got = site.get("_/actions").await;
        got.refuses(status, text);
        assert_eq!(got.header("retry-after").is_some(), status == 503);
    }
}

#[tokio::test]
async fn what_went_wrong_inside_is_told_in_no_more_than_the_words_of_the_wire() {
    let mut response = axum::response::Response::new(Body::empty());
    let transaction = HeaderValue::from_static("tid");
    Error::internal("secret").fill(&mut response, &transaction);
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let text = "There was an internal server error.";
    assert_eq!(body, json!({ "error": text, "code": "tid" }));
}
