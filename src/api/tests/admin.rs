//! The admin API: who may use it, keys that are shown once, limits and blocks that hold at once.

use super::*;

const BOB: &str = "/admin/v1/namespaces/bob";

async fn make_bob(site: &Site) -> String {
    let made = site.system("PUT", BOB, "").await.is(200).json();
    assert_eq!(made["namespace"], "bob");
    let key = made["key"].as_str().expect("the key is shown").to_owned();
    let (uuid, secret) = key.split_once(':').expect("uuid:key");
    assert_eq!(made["uuid"], uuid);
    assert_eq!(secret.len(), 64);
    assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    key
}

async fn namespaces_of(site: &Site, key: &str) -> Got {
    site.call(key, "GET", "/api/v1/namespaces", "").await
}

#[tokio::test]
async fn only_the_system_may_administer() {
    let site = Site::new().await;
    let routes = [
        ("GET", "/admin/v1/namespaces"),
        ("PUT", BOB),
        ("GET", BOB),
        ("DELETE", BOB),
        ("POST", "/admin/v1/namespaces/bob/key"),
        ("GET", "/admin/v1/namespaces/bob/limits"),
        ("PUT", "/admin/v1/namespaces/bob/limits"),
        ("DELETE", "/admin/v1/namespaces/bob/limits"),
        ("POST", "/admin/v1/namespaces/bob/block"),
        ("POST", "/admin/v1/namespaces/bob/unblock"),
        ("GET", "/admin/v1/cluster"),
    ];
    for (method, path) in routes {
        site.send(bare(method, path)).await.is(401);
        site.call(WELL_KNOWN_GUEST, method, path, "{}")
            .await
            .refuses(
                403,
                "The supplied authentication is not authorized to access this resource.",
            );
        if path != "/admin/v1/namespaces" && (method, path) != ("PUT", BOB) {
            site.system(method, path, "{}").await.is(404);
        }
    }
}

#[tokio::test]
async fn a_new_namespace_has_a_key_that_is_shown_once() {
    let site = Site::new().await;
    let key = make_bob(&site).await;
    assert_eq!(
        namespaces_of(&site, &key).await.is(200).json(),
        json!(["bob"])
    );
    let secret = key.split_once(':').expect("uuid:key").1;
    for path in [BOB, "/admin/v1/namespaces"] {
        let got = site.system("GET", path, "").await;
        assert!(!got.is(200).text.contains(secret));
    }
    let again = site.system("PUT", BOB, "").await;
    assert!(again.is(409).error().contains("exists already"));
    assert!(namespaces_of(&site, &key).await.status.is_success());
    let all = site.system("GET", "/admin/v1/namespaces", "").await.json();
    let names: Vec<_> = all
        .as_array()
        .expect("an array")
        .iter()
        .map(|n| n["namespace"].clone())
        .collect();
    assert_eq!(names, ["bob", "guest", "whisk.system"]);
}

#[tokio::test]
async fn a_rotated_key_ends_at_once() {
    let site = Site::new().await;
    let old = make_bob(&site).await;
    namespaces_of(&site, &old).await.is(200);
    let rotated = site
        .system("POST", "/admin/v1/namespaces/bob/key", "")
        .await
        .is(200)
        .json();
    let new = rotated["key"].as_str().expect("shown").to_owned();
    assert_eq!(
        new.split_once(':').map(|k| k.0),
        old.split_once(':').map(|k| k.0)
    );
    namespaces_of(&site, &old).await.is(401);
    namespaces_of(&site, &new).await.is(200);
}

#[tokio::test]
async fn a_block_holds_at_once_and_can_be_taken_back() {
    let site = Site::new().await;
    let key = make_bob(&site).await;
    namespaces_of(&site, &key).await.is(200);
    let blocked = site
        .system("POST", "/admin/v1/namespaces/bob/block", "")
        .await;
    assert_eq!(blocked.is(200).json()["blocked"], true);
    namespaces_of(&site, &key)
        .await
        .refuses(401, "The supplied authentication is invalid");
    site.system("POST", "/admin/v1/namespaces/bob/unblock", "")
        .await
        .is(200);
    namespaces_of(&site, &key).await.is(200);
}

#[tokio::test]
async fn limits_hold_at_once_and_can_be_taken_back() {
    let site = Site::new().await;
    let key = make_bob(&site).await;
    let limits = "/admin/v1/namespaces/bob/limits";
    let effective = async || {
        let got = site
            .call(&key, "GET", "/api/v1/namespaces/_/limits", "")
            .await;
        got.is(200).json()["invocationsPerMinute"].clone()
    };
    assert_eq!(effective().await, 60_000);
    let set = json!({"invocationsPerMinute": 0, "maxActionMemory": 256});
    assert_eq!(
        site.system("PUT", limits, set.to_string())
            .await
            .is(200)
            .json(),
        set
    );
    assert_eq!(site.system("GET", limits, "").await.is(200).json(), set);
    assert_eq!(effective().await, 0);
    site.call(&key, "POST", "/api/v1/namespaces/_/actions/x", "")
        .await
        .is(429);
    assert_eq!(
        site.system("DELETE", limits, "").await.is(200).json(),
        json!({})
    );
    assert_eq!(effective().await, 60_000);
    site.call(&key, "POST", "/api/v1/namespaces/_/actions/x", "")
        .await
        .is(404);
}

#[tokio::test]
async fn unknown_and_impossible_limits_are_refused_by_name() {
    let site = Site::new().await;
    make_bob(&site).await;
    for (body, said) in [
        (
            json!({"invocationsPerHour": 1}),
            "unknown field `invocationsPerHour`",
        ),
        (json!({"firesPerMinute": -1}), "invalid value"),
        (
            json!({"minActionMemory": 1024}),
            "minActionMemory (1024) must not exceed maxActionMemory (512)",
        ),
        (json!([]), "expected a JSON object"),
    ] {
        let got = site
            .system("PUT", "/admin/v1/namespaces/bob/limits", body.to_string())
            .await;
        let text = got.is(400).error();
        assert!(text.contains(said), "{body}: {text}");
    }
}

#[tokio::test]
async fn a_deleted_namespace_takes_everything_along() {
    let site = Site::new().await;
    let key = make_bob(&site).await;
    let exec = json!({"exec": {"kind": "wasm:1", "code": "x"}}).to_string();
    let action = "/api/v1/namespaces/bob/actions/a";
    site.call(&key, "PUT", action, exec).await.is(200);
    site.system("DELETE", BOB, "").await.is(200);
    site.call(&key, "GET", action, "").await.is(401);
    site.system("GET", BOB, "").await.is(404);
    site.system("DELETE", BOB, "").await.is(404);
    let new = make_bob(&site).await;
    site.call(&new, "GET", action, "").await.is(404);
}

#[tokio::test]
async fn the_system_cannot_lock_itself_out() {
    let site = Site::new().await;
    for (method, path) in [
        ("DELETE", "/admin/v1/namespaces/whisk.system"),
        ("POST", "/admin/v1/namespaces/whisk.system/block"),
    ] {
        site.system(method, path, "").await.is(409);
    }
    site.system("GET", "/admin/v1/namespaces", "").await.is(200);
    for name in ["_", "$x", "%20"] {
        let path = format!("/admin/v1/namespaces/{name}");
        site.system("PUT", &path, "")
            .await
            .refuses(400, "The namespace contains illegal characters.");
    }
}
