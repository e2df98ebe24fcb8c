//! Packages, triggers with feeds, rules, APIs, dead letters and the extensions, from the command line against a server.

use serde_json::{Value, json};

use super::User;
use crate::harness::{ECHO, SLEEP, answers, eventually};

/// A user with the action `echo`.
fn user() -> User {
    let user = User::new();
    user.tenant.put_action("echo", ECHO);
    user
}

#[test]
fn a_package_is_made_used_bound_and_deleted() {
    let user = user();
    let code = user.file("echo.wat", ECHO);
    let done = user
        .run(&["package", "create", "tools", "-p", "host", "h"])
        .ok();
    assert_eq!(done.out, "ok: created package tools\n");
    user.run(&["action", "create", "tools/echo", &code]).ok();
    let done = user.run(&["action", "invoke", "tools/echo", "-r"]).ok();
    assert_eq!(done.json(), json!({ "host": "h" }));
    user.run(&["package", "update", "tools", "--shared", "yes"])
        .ok();
    let done = user.run(&["package", "list"]).ok();
    let row = format!("/{}/tools  shared", user.tenant.namespace);
    assert!(done.out.contains(&row), "{done:?}");
    let own = format!("/{}/tools", user.tenant.namespace);
    user.run(&["package", "bind", &own, "mine", "-p", "host", "other"])
        .ok();
    let done = user.run(&["action", "invoke", "mine/echo", "-r"]).ok();
    assert_eq!(
        done.json(),
        json!({ "host": "other" }),
        "the binding's own goes over"
    );
    let done = user.run(&["package", "get", "tools", "--summary"]).ok();
    assert!(done.out.contains(&format!("{own}/echo")), "{done:?}");
    let done = user.run(&["action", "list", "tools"]).ok();
    assert!(done.out.contains(&format!("{own}/echo")), "{done:?}");

    let done = user.run(&["package", "delete", "tools"]);
    assert_eq!(done.code, Some(153), "{done:?}");
    assert!(done.err.contains("--force"), "says what to do: {done:?}");
    let done = user.run(&["package", "delete", "tools", "--force"]).ok();
    assert_eq!(done.out, "ok: deleted package tools\n");
    user.tenant.get("actions/tools/echo").expect(404);
}

#[test]
fn a_fired_trigger_runs_the_action_of_its_rule() {
    let user = user();
    user.run(&["trigger", "create", "t", "-p", "a", "1"]).ok();
    let done = user.run(&["trigger", "fire", "t"]).ok();
    assert!(
        done.out.contains("is not associated with an active rule"),
        "{done:?}"
    );
    user.run(&["rule", "create", "r", "t", "echo"]).ok();
    let done = user.run(&["rule", "status", "r"]).ok();
    assert_eq!(done.out, "ok: rule r is active\n");
    let done = user.run(&["trigger", "fire", "t", "-p", "b", "2"]).ok();
    assert!(
        done.out.starts_with("ok: triggered /_/t with id "),
        "{done:?}"
    );
    let result = eventually("the rule's activation", || {
        let done = user
            .run(&["activation", "list", "echo", "--full", "--json"])
            .ok();
        let records = done.json();
        let record = records.as_array()?.first()?.clone();
        Some(record["response"]["result"].clone())
    });
    assert_eq!((&result["a"], &result["b"]), (&json!(1), &json!(2)));

    let done = user.run(&["rule", "disable", "r"]).ok();
    assert_eq!(done.out, "ok: disabled rule r\n");
    let done = user.run(&["rule", "list"]).ok();
    assert!(done.out.contains("/r  private  inactive"), "{done:?}");
    user.run(&["rule", "enable", "r"]).ok();
    let done = user.run(&["list"]).ok();
    for name in ["/echo ", "/t ", "/r "] {
        let row = format!("/{}{name}", user.tenant.namespace);
        assert!(done.out.contains(&row), "{row}: {done:?}");
    }
    user.run(&["rule", "delete", "r", "--disable"]).ok();
    let done = user.run(&["trigger", "delete", "t"]).ok();
    assert_eq!(done.out, "ok: deleted trigger t\n");
    user.tenant.get("triggers/t").expect(404);
}

#[test]
fn a_feed_hears_of_the_life_of_its_trigger() {
    let user = user();
    let told = |args: &[&str]| {
        let done = user.run(args).ok();
        let records = user
            .run(&["activation", "list", "echo", "-l", "1", "--full", "--json"])
            .ok();
        let result = records.json()[0]["response"]["result"].clone();
        assert_eq!(result["triggerName"], "/_/t", "{done:?}");
        assert_eq!(result["authKey"], json!(user.tenant.key));
        (done, result)
    };
    let (done, result) = told(&["trigger", "create", "t", "-f", "echo", "-p", "every", "5"]);
    assert!(done.out.ends_with("ok: created trigger t\n"), "{done:?}");
    assert_eq!(
        (&result["lifecycleEvent"], &result["every"]),
        (&json!("CREATE"), &json!(5))
    );
    let trigger = user.tenant.get("triggers/t").expect(200).json();
    assert_eq!(
        crate::harness::annotation(&trigger, "feed"),
        Some(&json!("/_/echo"))
    );
    assert_eq!(
        trigger["parameters"],
        json!([]),
        "the parameters are the feed's"
    );
    assert_eq!(told(&["trigger", "get", "t"]).1["lifecycleEvent"], "READ");
    let (_, result) = told(&["trigger", "update", "t", "-F", "every", "6"]);
    assert_eq!(
        (&result["lifecycleEvent"], &result["every"]),
        (&json!("UPDATE"), &json!(6))
    );
    assert_eq!(
        told(&["trigger", "delete", "t"]).1["lifecycleEvent"],
        "DELETE"
    );
    user.tenant.get("triggers/t").expect(404);

    user.tenant
        .put_action("refuses", &answers("{\"error\":\"bad cron\"}"));
    let done = user.run(&["trigger", "create", "t", "--feed", "refuses"]);
    assert_eq!(done.code, Some(246), "{done:?}");
    assert!(done.err.contains("bad cron"), "{done:?}");
    user.tenant.get("triggers/t").expect(404);
}

#[test]
fn a_sequence_and_a_web_action_are_made_by_flags() {
    let user = user();
    user.run(&["action", "create", "both", "--sequence", "echo,echo"])
        .ok();
    let done = user
        .run(&["action", "invoke", "both", "-r", "-p", "n", "1"])
        .ok();
    assert_eq!(done.json(), json!({ "n": 1 }));
    let code = user.file("page.wat", answers("{\"body\":\"hello\"}"));
    user.run(&[
        "action",
        "create",
        "page",
        &code,
        "--web",
        "yes",
        "--web-secure",
        "s3cret",
    ])
    .ok();
    let done = user.run(&["action", "get", "page", "--url", "--json"]).ok();
    let url = done.json()["url"].as_str().unwrap().to_owned();
    let path = format!("{}.http", url.trim_start_matches(&user.url));
    let request = |secret: &str| {
        let request = crate::harness::Request::new("GET", &path);
        user.tenant
            .client
            .send(&request.header("X-Require-Whisk-Auth", secret))
    };
    assert_eq!(request("wrong").status, 401);
    assert_eq!(request("s3cret").expect(200).text(), "hello");
    user.run(&["action", "update", "page", "--web-secure", "false"])
        .ok();
    assert_eq!(request("").expect(200).text(), "hello");
    user.run(&["action", "update", "page", "--web", "no"]).ok();
    assert_eq!(request("").status, 404);
}

#[test]
fn an_action_is_rolled_back_to_what_it_was() {
    let user = User::new();
    user.tenant.put_action("a", &answers("{\"v\":1}"));
    user.tenant.put_action("a", &answers("{\"v\":2}"));
    let done = user.run(&["action", "revisions", "a", "--json"]).ok();
    let revisions = done.json();
    let revisions = revisions.as_array().unwrap();
    assert_eq!(revisions.len(), 2, "{done:?}");
    let first = revisions[1]["revision"].to_string();
    let done = user
        .run(&["action", "invoke", "a", "-r", "--revision", &first])
        .ok();
    assert_eq!(done.json(), json!({ "v": 1 }));
    user.run(&["action", "rollback", "a", &first]).ok();
    let done = user.run(&["action", "invoke", "a", "-r"]).ok();
    assert_eq!(done.json(), json!({ "v": 1 }));
    assert_eq!(
        user.run(&["action", "rollback", "a", "999"]).code,
        Some(148)
    );
}

#[test]
fn an_activation_is_waited_for_and_cancelled() {
    let user = User::new();
    user.tenant
        .put_action_with("sleep", SLEEP, json!({ "limits": { "timeout": 60_000 } }));
    let started = |ms: u64| {
        let ms = ms.to_string();
        let done = user
            .run(&["action", "invoke", "sleep", "-p", "ms", &ms, "--json"])
            .ok();
        done.json()["activationId"].as_str().unwrap().to_owned()
    };
    let id = started(300);
    let done = user
        .run(&["activation", "get", &id, "--wait", "20", "--json"])
        .ok();
    assert_eq!(done.json()["activationId"], json!(id));
    let done = user.run(&["activation", "cancel", &id]);
    assert_eq!(done.code, Some(153), "it has ended: {done:?}");
    let id = started(50_000);
    user.run(&["activation", "cancel", &id]).ok();
    let done = user
        .run(&["activation", "get", &id, "--wait", "20", "--json"])
        .ok();
    assert_eq!(done.json()["response"]["success"], json!(false), "{done:?}");
}

#[test]
fn one_idempotency_key_is_one_activation() {
    let user = user();
    let run = || {
        let done = user
            .run(&[
                "action",
                "invoke",
                "echo",
                "--idempotency-key",
                "k1",
                "--json",
            ])
            .ok();
        done.json()["activationId"].clone()
    };
    assert_eq!(run(), run());
}

#[test]
fn what_a_rule_cannot_deliver_is_kept_replayed_and_purged() {
    let user = User::new();
    user.tenant
        .put_action("fails", &answers("{\"error\":\"no\"}"));
    user.run(&["trigger", "create", "t"]).ok();
    user.run(&[
        "rule",
        "create",
        "r",
        "t",
        "fails",
        "--retry",
        "1",
        "--backoff",
        "10",
    ])
    .ok();
    user.run(&["trigger", "fire", "t"]).ok();
    let letters = || user.run(&["deadletter", "list", "--json"]).ok().json();
    let id = eventually("a dead letter", || {
        letters()[0]["id"].as_str().map(str::to_owned)
    });
    user.run(&["deadletter", "get", &id]).ok();
    let done = user.run(&["deadletter", "replay", &id]).ok();
    assert!(
        done.out
            .starts_with(&format!("ok: replayed dead letter {id} with id ")),
        "{done:?}"
    );
    user.run(&["deadletter", "purge", "--all"]).ok();
    assert_eq!(user.run(&["deadletter", "get", &id]).code, Some(148));
}

#[test]
fn an_api_calls_its_action_and_is_deleted() {
    let user = User::new();
    let code = user.file("page.wat", answers("{\"body\":\"hello\"}"));
    user.run(&["action", "create", "page", &code]).ok();
    let create = [
        "api",
        "create",
        "/shop",
        "/page",
        "get",
        "page",
        "--response-type",
        "http",
    ];
    let done = user.run(&create);
    assert!(
        done.code == Some(1) && done.err.contains("is not a web action"),
        "{done:?}"
    );
    user.run(&["action", "update", "page", "--web", "yes"]).ok();
    let done = user.run(&create).ok();
    let start = "ok: created API /shop/page GET for action /_/page\n";
    let url = done
        .out
        .strip_prefix(start)
        .unwrap_or_else(|| panic!("{done:?}"))
        .trim();
    let path = url.split_once("/api/").unwrap().1;
    let reply = user.tenant.client.get(&format!("/api/{path}")).expect(200);
    assert_eq!(reply.text(), "hello");
    let done = user.run(&["api", "list"]).ok();
    assert!(done.out.contains(url), "{done:?}");
    let done = user.run(&["api", "get", "/shop"]).ok();
    assert_eq!(done.json()["basePath"], "/shop");
    let done = user.run(&["api", "delete", "/shop"]).ok();
    assert_eq!(done.out, "ok: deleted API /shop\n");
    assert!(!user.run(&["api", "list"]).ok().out.contains("/shop"));
}

#[test]
fn an_api_is_uploaded_as_swagger() {
    let user = User::new();
    let code = user.file("page.wat", answers("{\"body\":\"hello\"}"));
    user.run(&["action", "create", "page", &code, "--web", "yes"])
        .ok();
    user.run(&["api", "create", "/shop", "/page", "get", "page"])
        .ok();
    let swagger = user
        .run(&["api", "get", "/shop", "--format", "yaml"])
        .ok()
        .out;
    user.run(&["api", "delete", "/shop"]).ok();
    let file = user.file("shop.yaml", swagger);
    let done = user.run(&["api", "create", "--config-file", &file]).ok();
    assert!(
        done.out.starts_with("ok: created API /shop/page get"),
        "{done:?}"
    );
    let done = user.run(&["api", "list", "/shop", "--json"]).ok();
    let paths: Value = done.json()[0]["apidoc"]["paths"].clone();
    assert!(paths.get("/page").is_some(), "{done:?}");
    let broken = user.file("broken.yaml", "basePath: [");
    let done = user.run(&["api", "create", "-c", &broken]);
    assert!(
        done.code == Some(1) && done.err.contains("line 1"),
        "{done:?}"
    );
}
