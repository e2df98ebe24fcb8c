//! The operator's API: namespaces, keys, limits, blocking.

use serde_json::json;

use crate::harness::{ECHO, GUEST_KEY, Request, SYSTEM_KEY, Server, Tenant, has, shared};

/// Every route, with a body where it takes one.
const ROUTES: &[(&str, &str)] = &[
    ("GET", ""),
    ("PUT", "/some"),
    ("GET", "/some"),
    ("DELETE", "/some"),
    ("POST", "/some/key"),
    ("PUT", "/some/limits"),
    ("GET", "/some/limits"),
    ("DELETE", "/some/limits"),
    ("POST", "/some/block"),
    ("POST", "/some/unblock"),
];

#[test]
fn only_the_system_key_opens_it() {
    let client = shared().client();
    for (method, path) in ROUTES {
        let path = format!("/admin/v1/namespaces{path}");
        let request = Request::new(method, &path).json(&json!({}));
        let none = client.send(&request);
        assert_eq!(none.status, 401, "{method} {path}: {}", none.shown());
        let guest = client.send(&request.key(GUEST_KEY));
        assert_eq!(guest.status, 403, "{method} {path}: {}", guest.shown());
        assert_eq!(
            guest.error(),
            "The supplied authentication is not authorized to access this resource."
        );
    }
}

#[test]
fn a_namespace_is_made_shown_listed_and_deleted() {
    let server = shared();
    let name = Tenant::fresh_name();
    let path = format!("/{name}");
    server.admin("GET", &path, None).expect(404);
    let made = server.admin("PUT", &path, None);
    assert!(matches!(made.status, 200 | 201), "{}", made.shown());
    let made = made.json();
    let (uuid, key) = (
        made["uuid"].as_str().unwrap(),
        made["key"].as_str().unwrap(),
    );
    assert_eq!(made["namespace"], name.as_str());
    assert_eq!(
        key.strip_prefix(uuid)
            .and_then(|rest| rest.strip_prefix(':'))
            .map(str::len),
        Some(64),
        "{key}"
    );
    server.admin("PUT", &path, None).expect(409);
    let tenant = Tenant::new(server.client(), &name, key);
    tenant.put_action("a", ECHO);
    for shown in [
        server.admin("GET", &path, None).expect(200),
        server.admin("GET", "", None).expect(200),
    ] {
        let text = shown.text();
        assert!(text.contains(&name) && text.contains(uuid), "{text}");
        let secret = key.rsplit(':').next().unwrap();
        assert!(!text.contains(secret), "a key is shown once");
    }
    server.admin("DELETE", &path, None).expect(200);
    server.admin("DELETE", &path, None).expect(404);
    tenant.get("actions").expect(401);
    let again = Tenant::make(server.client(), &name);
    assert_eq!(
        again.get("actions").expect(200).json(),
        json!([]),
        "it is gone with everything it had"
    );
    assert_ne!(again.key, key);
}

#[test]
fn a_rotated_key_ends_the_old_one_at_once() {
    let server = shared();
    let old = server.tenant();
    old.get("actions").expect(200);
    let reply = server
        .admin("POST", &format!("/{}/key", old.namespace), None)
        .expect(200)
        .json();
    let new = Tenant::new(
        server.client(),
        &old.namespace,
        reply["key"].as_str().unwrap(),
    );
    old.get("actions").expect(401);
    new.get("actions").expect(200);
}

#[test]
fn a_blocked_namespace_is_an_unknown_key_until_it_is_unblocked() {
    let server = shared();
    let tenant = server.tenant();
    tenant.put_action("a", ECHO);
    tenant.result("a", &json!({})).expect(200);
    server
        .admin("POST", &format!("/{}/block", tenant.namespace), None)
        .expect(200);
    let refused = tenant.result("a", &json!({})).expect(401);
    assert_eq!(
        refused.error(),
        "The supplied authentication is invalid",
        "section 1.1"
    );
    server
        .admin("POST", &format!("/{}/unblock", tenant.namespace), None)
        .expect(200);
    tenant.result("a", &json!({})).expect(200);
}

#[test]
fn limits_are_set_shown_and_taken_back() {
    let server = shared();
    let tenant = server.tenant();
    let path = format!("/{}/limits", tenant.namespace);
    let all = json!({
        "invocationsPerMinute": 10, "concurrentInvocations": 3, "firesPerMinute": 4,
        "minActionMemory": 128, "maxActionMemory": 256, "minActionLogs": 0, "maxActionLogs": 5,
        "minActionTimeout": 200, "maxActionTimeout": 10_000, "maxActionInstances": 2,
        "maxParameterSize": 1000, "maxPayloadSize": 2000, "truncationSize": 3000,
        "allowedKinds": ["wasm:1"], "storeActivations": true,
    });
    server.admin("PUT", &path, Some(&all)).expect(200);
    let shown = server.admin("GET", &path, None).expect(200).json();
    assert!(has(&shown, &all), "section 7: {shown}");
    let effective = tenant.get("limits").expect(200).json();
    assert_eq!(effective["maxActionTimeout"], 10_000, "section 1.6");
    assert_eq!(effective["allowedKinds"], json!(["wasm:1"]), "section 1.6");
    let body = json!({ "exec": { "kind": "wasm:1", "code": ECHO }, "limits": { "memory": 300 } });
    tenant.put("actions/a", &body).expect(400);
    server.admin("DELETE", &path, None).expect(200);
    tenant
        .put(
            "actions/a",
            &json!({ "exec": { "kind": "wasm:1", "code": ECHO }, "limits": { "memory": 300 } }),
        )
        .expect(200);
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let server = shared();
    let tenant = server.tenant();
    let path = format!("/{}/limits", tenant.namespace);
    for bad in [
        json!({ "invocationsPerHour": 1 }),
        json!({ "invocationsPerMinute": -1 }),
        json!({ "invocationsPerMinute": "many" }),
        json!({ "minActionMemory": 500, "maxActionMemory": 200 }),
        json!([]),
    ] {
        let reply = server.admin("PUT", &path, Some(&bad)).expect(400);
        assert!(!reply.error().is_empty(), "{bad}");
    }
    server
        .admin("PUT", "/nobody-has-this-name/limits", Some(&json!({})))
        .expect(404);
}

#[test]
fn names_of_namespaces_are_checked() {
    for name in ["_", "%20", "$x", "-dash", &"x".repeat(257)] {
        let reply = shared().admin("PUT", &format!("/{name}"), None);
        assert!(
            matches!(reply.status, 400 | 404),
            "{name}: {}",
            reply.shown()
        );
    }
}

#[test]
fn the_system_cannot_lock_itself_out() {
    for (method, path) in [("POST", "/whisk.system/block"), ("DELETE", "/whisk.system")] {
        let reply = shared().admin(method, path, None);
        assert!(
            (400..500).contains(&reply.status),
            "{method} {path}: {}",
            reply.shown()
        );
    }
    shared().admin("GET", "", None).expect(200);
}

#[test]
fn keys_of_its_own_replace_the_well_known_ones() {
    let key = |digit: char| {
        format!(
            "11111111-2222-4333-8444-55555555555{digit}:{}",
            String::from(digit).repeat(64)
        )
    };
    let config = format!(
        "[auth]\nguest_key = \"{}\"\nsystem_key = \"{}\"\n",
        key('1'),
        key('2')
    );
    let server = Server::start(&config);
    let get = |path: &str, key: &str| {
        server
            .client()
            .send(&Request::new("GET", path).key(key))
            .status
    };
    assert_eq!(get("/api/v1/namespaces", GUEST_KEY), 401);
    assert_eq!(get("/api/v1/namespaces", &key('1')), 200);
    assert_eq!(get("/admin/v1/namespaces", SYSTEM_KEY), 401);
    assert_eq!(get("/admin/v1/namespaces", &key('2')), 200);
}

#[test]
fn keys_are_not_kept_in_clear_text() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action("a", ECHO);
    tenant.result("a", &json!({})).expect(200);
    let secrets = [
        tenant.key.rsplit(':').next().unwrap(),
        GUEST_KEY.rsplit(':').next().unwrap(),
    ];
    for path in files(&server.data()) {
        let bytes = std::fs::read(&path).unwrap_or_default();
        for secret in secrets {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds a key", path.display());
        }
    }
    assert!(!server.log().contains(secrets[0]), "the log holds a key");
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push(path),
        }
    }
    all
}
