//! APIs as they are served.

use super::apis::{DENIED, UUID, endpoint};
use super::web::ended;
use super::*;

#[tokio::test]
async fn requests_find_their_way_to_the_action() {
    let site = Site::new().await.with_web("a", &[]).await;
    let site = site
        .with_api("/b", "/r", "get")
        .await
        .with_api("/b", "/r/{id}", "get")
        .await;
    let site = site
        .with_api("/b", "/r/own", "get")
        .await
        .with_api("/b/deep", "/r", "get")
        .await;
    let site = site.with_api("/", "/root", "get").await;
    for (path, found) in [
        ("/b/r", true),
        ("/b/r/", true),
        ("/b/r/1", true),
        ("/b/r/a%2Fb", true),
        ("/b/r/own", true),
        ("/b/deep/r", true),
        ("/root", true),
        ("/b/r/1/2", false),
        ("/b/r//", false),
        ("/b", false),
        ("/b/x", false),
        ("/bb/r", false),
        ("", false),
        ("/", false),
    ] {
        let given = site.path_of("GET", path).await;
        assert_eq!(given.as_deref(), found.then_some(path), "{path}");
        if !found {
            let text = "The requested resource could not be found.";
            site.call_api("GET", path).await.refuses(404, text);
        }
    }
    for tenant in [
        "00000000-0000-0000-0000-000000000000",
        "x",
        &UUID.replace('-', ""),
    ] {
        let path = format!("/api/{tenant}/b/r");
        site.send(bare("GET", &path)).await.is(404);
    }
}

#[tokio::test]
async fn an_api_answers_as_its_action_does() {
    let site = Site::new().await.with_web("a", &[]).await;
    let site = site.with_api("/b", "/r", "get").await;
    let got = site.call_api("PUT", "/b/r").await;
    assert_eq!(got.header("allow"), Some("GET"));
    got.refuses(
        405,
        "The requested method is not supported by this resource.",
    );
    site.will(ended(
        Status::Success,
        &json!({"body": "hi", "headers": {"x-a": "b"}}),
    ));
    let got = site.call_api("GET", "/b/r?x=1").await;
    assert_eq!(got.is(200).text, "hi");
    assert_eq!(got.header("x-a"), Some("b"));
    assert_eq!(got.header("access-control-allow-origin"), Some("*"));
    let given = site.given();
    assert_eq!(
        (&given["x"], &given["__ow_method"]),
        (&json!("1"), &json!("get"))
    );
    site.will(ended(Status::Success, &json!({"body": "hi"})));
    let head = site.call_api("HEAD", "/b/r").await;
    assert_eq!(
        (head.is(200).text.as_str(), head.header("content-length")),
        ("", Some("2"))
    );
    let got = site.call_api("OPTIONS", "/b/r").await;
    assert_eq!(got.is(200).header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn a_secret_is_shown_to_the_action_on_the_way() {
    let site = Site::new()
        .await
        .with_web("a", &[("require-whisk-auth", json!("s"))])
        .await;
    let mut asked = endpoint("/b", "/r", "get");
    asked["apidoc"]["action"]["secureKey"] = json!("s");
    site.managed("createApi?responsetype=json", &asked)
        .await
        .is(200);
    assert_eq!(
        site.path_of("GET", "/b/r").await.as_deref(),
        Some(""),
        "it is .json"
    );
    asked["apidoc"]["action"]["secureKey"] = json!("wrong");
    site.managed("createApi?responsetype=json", &asked)
        .await
        .is(200);
    assert_eq!(
        site.call_api("GET", "/b/r").await.is(401).json()["error"],
        DENIED
    );
}

#[tokio::test]
async fn a_change_holds_from_the_next_request_on() {
    let site = Site::new().await.with_web("a", &[]).await;
    site.call_api("GET", "/b/r").await.is(404);
    let site = site.with_api("/b", "/r", "get").await;
    assert!(site.path_of("GET", "/b/r").await.is_some());
    site.managed("deleteApi?basepath=/b&relpath=/r", &Value::Null)
        .await
        .is(200);
    site.call_api("GET", "/b/r").await.is(404);
    let site = site.with_api("/b", "/r", "get").await;
    assert!(site.path_of("GET", "/b/r").await.is_some());
    site.system("POST", "/admin/v1/namespaces/guest/block", "")
        .await
        .is(200);
    site.call_api("GET", "/b/r").await.is(404);
}
