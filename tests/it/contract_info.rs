//! Section 1: credentials, errors, headers, CORS, and what is not an entity.

use serde_json::{Value, json};

use crate::harness::{Expect, GUEST_KEY, Request, Row, has, run, shared};

const REST_HEADERS: &str =
    "Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent";
const REST_METHODS: &str = "GET, DELETE, POST, PUT, HEAD";

/// Comma-separated names, in any order.
fn set(list: &str) -> Vec<String> {
    let mut names: Vec<String> = list.split(',').map(|n| n.trim().to_lowercase()).collect();
    names.sort();
    names
}

#[test]
fn the_api_says_what_it_is_to_anybody() {
    for path in ["/api/v1", "/api/v1/"] {
        let reply = shared().client().get(path).expect(200);
        let body = reply.json();
        let expected = json!({
            "description": "OpenWhisk API", "api_version": "1.0.0", "api_version_path": "v1",
            "swagger_paths": { "ui": "/docs", "api-docs": "/api-docs" },
        });
        assert!(has(&body, &expected), "section 1.6: {body}");
        assert!(
            body["build"].is_string() && body["buildno"].is_string(),
            "{body}"
        );
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
}

#[test]
fn the_server_says_its_limits_and_runtimes_to_anybody() {
    let reply = shared().client().get("/").expect(200);
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("application/json"),
        "section 1.6: wskdeploy checks it"
    );
    let body = reply.json();
    assert_eq!(body["description"], "OpenWhisk");
    assert_eq!(body["api_paths"], json!(["/api/v1"]));
    assert!(body["support"]["github"].is_string() && body["support"]["slack"].is_string());
    let limits = body["limits"].as_object().expect("an object");
    for key in [
        "actions_per_minute",
        "triggers_per_minute",
        "concurrent_actions",
        "sequence_length",
        "default_min_action_duration",
        "default_max_action_duration",
        "default_min_action_memory",
        "default_max_action_memory",
        "default_min_action_logs",
        "default_max_action_logs",
        "min_action_duration",
        "max_action_duration",
        "min_action_memory",
        "max_action_memory",
        "min_action_logs",
        "max_action_logs",
    ] {
        assert!(
            limits.get(key).is_some_and(Value::is_u64),
            "section 1.6: {key} in {body}"
        );
    }
    assert_eq!(limits["max_action_memory"], 512 << 20, "bytes, not MB");
    let wasm = body["runtimes"]["wasm"]
        .as_array()
        .expect("the family wasm");
    let defaults = wasm.iter().filter(|kind| kind["default"] == true).count();
    assert_eq!(defaults, 1, "section 8.1: {body}");
    for kind in wasm {
        for key in [
            "kind",
            "image",
            "default",
            "deprecated",
            "attached",
            "requireMain",
        ] {
            assert!(kind.get(key).is_some(), "section 8.1: {key} in {kind}");
        }
    }
}

#[test]
fn ping_answers_pong() {
    let reply = shared().client().get("/ping").expect(200);
    assert_eq!(reply.text(), "pong");
}

#[test]
fn health_says_ready() {
    let reply = shared().client().get("/health").expect(200);
    assert_eq!(reply.json()["ready"], true);
}

#[test]
fn the_namespace_list_has_exactly_one_element() {
    let tenant = shared().tenant();
    for path in ["/api/v1/namespaces", "/api/v1/namespaces/"] {
        let body = tenant.get(path).expect(200).json();
        assert_eq!(body, json!([tenant.namespace]), "section 1.6");
    }
}

#[test]
fn limits_are_the_effective_ones() {
    let tenant = shared().tenant();
    let body = tenant.get("limits").expect(200).json();
    for key in [
        "invocationsPerMinute",
        "concurrentInvocations",
        "firesPerMinute",
        "minActionMemory",
        "maxActionMemory",
        "minActionLogs",
        "maxActionLogs",
        "minActionTimeout",
        "maxActionTimeout",
        "minActionConcurrency",
        "maxActionConcurrency",
        "maxActionInstances",
    ] {
        assert!(body[key].is_u64(), "section 1.6: {key} in {body}");
    }
    assert_eq!(body["maxParameterSize"], "1048576 B", "section 1.6");
    assert_eq!(body["maxActionMemory"], 512);
    tenant.limits(&json!({ "invocationsPerMinute": 7, "maxActionTimeout": 1234 }));
    let body = tenant.get("limits").expect(200).json();
    assert_eq!(body["invocationsPerMinute"], 7, "what is set holds at once");
    assert_eq!(body["maxActionTimeout"], 1234);
}

#[test]
fn what_is_no_route_and_what_is_somebody_elses() {
    let tenant = shared().tenant();
    let rows = [
        (
            "1.6",
            "GET /api/v1/namespaces/guest/limits",
            403,
            Expect::ErrorStarts("The supplied authentication is not authorized to access"),
        ),
        (
            "1.6",
            "GET limits/x",
            400,
            Expect::Error("Inner entity level routes for limits are not yet implemented."),
        ),
        (
            "1.2",
            "GET /api/v1/nonsense",
            404,
            Expect::Error("The requested resource could not be found."),
        ),
        (
            "1.2",
            "GET /nonsense",
            404,
            Expect::Error("The requested resource could not be found."),
        ),
        (
            "1.6",
            "GET /api/v1/namespaces/_",
            404,
            Expect::Error("The requested resource could not be found."),
        ),
        (
            "1.1",
            "GET /api/v1/namespaces/guest/actions",
            403,
            Expect::ErrorStarts("The supplied authentication is not authorized to access"),
        ),
        (
            "1.1",
            "GET /api/v1/namespaces/guest/actions/x",
            403,
            Expect::Error("The supplied authentication is not authorized to access 'guest/x'."),
        ),
        (
            "1.1",
            "GET /api/v1/namespaces/guest/activations",
            403,
            Expect::ErrorStarts("The supplied authentication is not authorized to access"),
        ),
    ];
    let rows = rows.map(|(section, request, status, expect)| {
        Row::new(section, request, Value::Null, status, expect)
    });
    run(&tenant, &rows);
    let post = Row::new(
        "1.1",
        "POST /api/v1/namespaces/guest/actions/x",
        json!({}),
        403,
        Expect::Error("The supplied authentication is not authorized to access 'guest/x'."),
    );
    run(&tenant, &[post]);
}

#[test]
fn a_wrong_verb_is_405_or_404() {
    let tenant = shared().tenant();
    for request in [
        "PUT limits",
        "PUT activations/00000000000000000000000000000000",
        "POST /ping",
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        let reply = tenant
            .client
            .send(&tenant.request(method, path).json(&json!({})));
        assert!(
            matches!(reply.status, 404 | 405),
            "section 1.3: {request}: {}",
            reply.shown()
        );
        assert!(!reply.error().is_empty());
        assert!(
            reply.status == 404 || reply.header("allow").is_some(),
            "section 1.3: Allow"
        );
    }
}

#[test]
fn the_underscore_is_the_callers_namespace_and_answers_show_the_real_one() {
    let tenant = shared().tenant();
    tenant.put_action("a", crate::harness::ECHO);
    for path in [
        "actions/a".to_owned(),
        format!("/api/v1/namespaces/{}/actions/a", tenant.namespace),
    ] {
        let body = tenant.get(&path).expect(200).json();
        assert_eq!(body["namespace"], tenant.namespace.as_str(), "section 1.1");
    }
}

#[test]
fn a_request_id_is_echoed_unless_it_is_a_system_one() {
    let client = shared().client();
    let ask = |id: Option<&str>| {
        let request = Request::new("GET", "/api/v1/namespaces/_/actions/none").key(GUEST_KEY);
        let request = match id {
            Some(id) => request.header("X-Request-ID", id),
            None => request,
        };
        let reply = client.send(&request).expect(404);
        let header = reply
            .header("x-request-id")
            .expect("always there")
            .to_owned();
        assert_eq!(
            reply.json()["code"],
            header.as_str(),
            "section 1.2: code is the transaction"
        );
        header
    };
    assert_eq!(ask(Some("my-own-id")), "my-own-id", "section 1.4");
    for given in [None, Some("sid_system")] {
        let made = ask(given);
        assert_eq!(made.len(), 32, "section 1.4: {made}");
        assert!(
            made.bytes().all(|b| b.is_ascii_alphanumeric()),
            "section 1.4: {made}"
        );
    }
    assert_ne!(ask(None), ask(None));
}

#[test]
fn every_answer_of_the_api_carries_the_cors_headers_errors_too() {
    let client = shared().client();
    let api = "/api/v1/namespaces/_/actions/none";
    let requests = [
        (Request::new("GET", api).key(GUEST_KEY), 404),
        (Request::new("GET", api), 401),
        (
            Request::new("GET", "/api/v1/namespaces").key(GUEST_KEY),
            200,
        ),
        (Request::new("OPTIONS", api), 200),
        (Request::new("OPTIONS", "/api/v1/nothing/here"), 200),
        (Request::new("OPTIONS", "/api/v1"), 200),
    ];
    for (request, status) in requests {
        let what = format!("section 1.5: {} {}", request.method, request.path);
        let reply = client.send(&request).expect(status);
        let header = |name: &str| reply.header(name).unwrap_or_default();
        assert_eq!(header("access-control-allow-origin"), "*", "{what}");
        assert_eq!(
            set(header("access-control-allow-headers")),
            set(REST_HEADERS),
            "{what}"
        );
        assert_eq!(
            set(header("access-control-allow-methods")),
            set(REST_METHODS),
            "{what}"
        );
        assert!(
            request.method != "OPTIONS" || reply.body.is_empty(),
            "{what}"
        );
    }
}

#[test]
fn options_elsewhere_allow_what_the_server_has() {
    let client = shared().client();
    for path in ["/", "/ping", "/nothing"] {
        let reply = client.send(&Request::new("OPTIONS", path)).expect(200);
        let methods = reply
            .header("access-control-allow-methods")
            .unwrap_or_default();
        assert_eq!(
            set(methods),
            set("OPTIONS, GET, POST"),
            "section 1.5: {path}"
        );
    }
}

/// Section 1.7: each name, percent-encoded as it stands in a URL, and what is said of it.
const NAMES: &[(&str, u16, &str)] = &[
    (
        "%20",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        "hi+there",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        "$hola",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        "dora%3F",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        "tail%20",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        "%C3%A9t%C3%A9",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        "%FF%FE",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        "-dash",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        ".dot",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        "nul%00",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        "a%2Fb%2Fc",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        "%2e%2e%2f%2e%2e%2fetc",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        "line%0Abreak",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        "semi;colon",
        400,
        "The name of the entity contains illegal characters.",
    ),
    (
        "per%25cent",
        400,
        "The name of the entity contains illegal characters.",
    ),
    ("a%20b", 404, "The requested resource does not exist."),
    ("a@b.c&d-e_9", 404, "The requested resource does not exist."),
    ("_under", 404, "The requested resource does not exist."),
    ("9lives", 404, "The requested resource does not exist."),
];

#[test]
fn names_follow_the_grammar() {
    let tenant = shared().tenant();
    let mut rows: Vec<Row> = NAMES
        .iter()
        .map(|(name, status, text)| {
            Row::new(
                "1.7",
                &format!("GET actions/{name}"),
                Value::Null,
                *status,
                Expect::Error(text),
            )
        })
        .collect();
    let long = "x".repeat(257);
    let most = "x".repeat(256);
    let in_namespace = |namespace: &str| format!("GET /api/v1/namespaces/{namespace}/actions/a");
    let texts = [
        (
            format!("GET actions/{long}"),
            400,
            "Name segement longer than allowed: 257 > 256.",
        ),
        (
            format!("GET actions/{most}"),
            404,
            "The requested resource does not exist.",
        ),
        (
            in_namespace("$x"),
            400,
            "The namespace contains illegal characters.",
        ),
        (
            in_namespace(&long),
            400,
            "Namespace longer than allowed: 257 > 256.",
        ),
        (
            "PUT actions/".to_owned(),
            404,
            "The requested resource could not be found.",
        ),
        (
            "DELETE actions/".to_owned(),
            404,
            "The requested resource could not be found.",
        ),
    ];
    rows.extend(texts.map(|(request, status, text)| {
        Row::new("1.7", &request, Value::Null, status, Expect::Error(text))
    }));
    run(&tenant, &rows);
}

#[test]
fn every_legal_character_works_from_upload_to_record() {
    let tenant = shared().tenant();
    let name = "aZ_9 @.&-end";
    let path = "aZ_9%20%40.%26-end";
    let put = tenant.put_action(path, crate::harness::ECHO);
    assert_eq!(put["name"], name, "section 1.7");
    let reply = tenant.invoke(path, &json!({})).expect(200);
    assert_eq!(reply.json()["name"], name);
    let id = crate::harness::id_of(&reply);
    assert_eq!(tenant.activation(&id)["name"], name);
    let rows = tenant
        .get(&format!("activations?name={path}"))
        .expect(200)
        .json();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    tenant.delete(&format!("actions/{path}")).expect(200);
}

#[test]
fn names_are_case_sensitive() {
    let tenant = shared().tenant();
    tenant.put_action("Foo", crate::harness::ECHO);
    tenant.get("actions/foo").expect(404);
}

#[test]
fn any_accept_header_that_allows_json_will_do() {
    let client = shared().client();
    for accept in [
        "*/*",
        "application/json",
        "application/*",
        "text/html, */*;q=0.1",
    ] {
        let request = Request::new("GET", "/api/v1/namespaces").key(GUEST_KEY);
        client.send(&request.header("Accept", accept)).expect(200);
    }
}

#[test]
fn a_connection_serves_many_requests() {
    use std::io::{BufReader, Write as _};
    let stream = shared().client().connect().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    for _ in 0..5 {
        writer
            .write_all(b"GET /ping HTTP/1.1\r\nHost: wisp\r\n\r\n")
            .unwrap();
        let reply = crate::harness::Reply::read(&mut reader).unwrap();
        assert_eq!(reply.text(), "pong", "section 10.4: keep-alive");
    }
}
