//! Revisions: what a PUT replaces is kept, can be read and run, and comes back.

use super::*;

const GONE: &str = "The requested resource does not exist.";

fn text(code: &str) -> Value {
    json!({"exec": {"kind": "wasm:1", "code": code}, "limits": {"timeout": 1000 + code.len()},
        "parameters": [{"key": "p", "value": code}], "annotations": [{"key": "d", "value": code}]})
}

impl Site {
    /// Writes the action `a` once for each of `texts`.
    async fn texts(&self, texts: &[&str]) {
        for code in texts {
            let path = "_/actions/a?overwrite=true";
            self.put(path, text(code)).await.is(200);
        }
    }

    /// The numbers of its revisions, newest first.
    async fn revisions(&self) -> Vec<u64> {
        let rows = self.get("_/actions/a?revisions=true").await.is(200).json();
        let rows = rows.as_array().expect("an array");
        let number = |row: &Value| row["revision"].as_u64().expect("a number");
        rows.iter().map(number).collect()
    }

    async fn code(&self, query: &str) -> Value {
        let got = self.get(&format!("_/actions/a{query}")).await;
        got.is(200).json()["exec"]["code"].clone()
    }
}

#[tokio::test]
async fn every_text_of_an_action_is_counted_and_kept() {
    let site = Site::new().await;
    let made = site.put("_/actions/a", text("one")).await;
    assert_eq!(made.is(200).header("x-wisp-revision"), Some("1"));
    let first = made.json();
    assert_eq!(site.revisions().await, [1]);
    let path = "_/actions/a?overwrite=true";
    let second = site.put(path, text("three")).await;
    assert_eq!(second.is(200).header("x-wisp-revision"), Some("2"));
    site.put(path, json!({"publish": true})).await.is(200);
    let rows = site.get("_/actions/a?revisions=true").await.is(200).json();
    let exec = json!({"kind": "wasm:1", "binary": false});
    let row = |revision: usize, version: &str, publish: bool| {
        json!({"revision": revision, "version": version, "publish": publish, "exec": exec,
            "current": revision == 3, "updated": rows[3 - revision]["updated"]})
    };
    assert_eq!(
        rows,
        json!([
            row(3, "0.0.3", true),
            row(2, "0.0.2", false),
            row(1, "0.0.1", false)
        ])
    );
    let got = site.get("_/actions/a?revision=1").await;
    assert_eq!(got.is(200).header("x-wisp-revision"), Some("1"));
    assert_eq!(got.json(), first, "whole, as it was");
    assert_eq!(site.code("?revision=2").await, "three");
    let lean = site.get("_/actions/a?revision=1&code=false").await.json();
    assert_eq!(lean["exec"], exec);
    let current = site.get("_/actions/a").await;
    assert_eq!(current.header("x-wisp-revision"), Some("3"));
    assert_eq!(
        site.get("_/actions/a?revision=3").await.json(),
        current.json()
    );
    for number in ["4", "99999999999"] {
        let path = format!("_/actions/a?revision={number}");
        site.get(&path).await.refuses(404, GONE);
    }
    for bad in ["0", "-1", "x", "1.5"] {
        let detail = format!("The value '{bad}' is not the number of a revision.");
        let error = format!("The query parameter 'revision' was malformed:\n{detail}");
        let path = format!("_/actions/a?revision={bad}");
        site.get(&path).await.refuses(400, &error);
    }
}

#[tokio::test]
async fn a_roll_back_writes_the_former_text_as_a_new_one() {
    let site = Site::new().await;
    site.texts(&["one", "three"]).await;
    let first = site.get("_/actions/a?revision=1").await.json();
    site.guest("PUT", "_/actions/a?revision=1", "")
        .await
        .refuses(409, "resource already exists");
    let path = "_/actions/a?overwrite=true&revision=1";
    site.put(path, text("more")).await.refuses(
        400,
        "A PUT with 'revision' takes no body: it writes that revision again.",
    );
    let now = site.guest("PUT", path, "").await;
    assert_eq!(now.is(200).header("x-wisp-revision"), Some("3"));
    let now = now.json();
    assert_eq!(now["version"], "0.0.3");
    for field in ["exec", "parameters", "limits", "annotations", "publish"] {
        assert_eq!(now[field], first[field], "{field}");
    }
    assert_eq!(site.get("_/actions/a").await.json(), now);
    assert_eq!(site.revisions().await, [3, 2, 1]);
    assert_eq!(site.code("?revision=2").await, "three");
    for (path, status) in [
        ("_/actions/a?overwrite=true&revision=9", 404),
        ("_/actions/none?overwrite=true&revision=1", 404),
    ] {
        site.guest("PUT", path, "").await.refuses(status, GONE);
    }
}

#[tokio::test]
async fn as_many_former_texts_are_kept_as_the_configuration_says() {
    let keeping = async |revisions_max: u32| {
        let config = Config {
            revisions_max,
            ..Config::default()
        };
        Site::with(EffectiveLimits::default(), config).await
    };
    let site = keeping(2).await;
    site.texts(&["one", "two", "three", "four", "five"]).await;
    assert_eq!(site.revisions().await, [5, 4, 3]);
    site.get("_/actions/a?revision=2").await.refuses(404, GONE);
    assert_eq!(site.code("?revision=3").await, "three");
    // What is brought back may be the one that has to go.
    let path = "_/actions/a?overwrite=true&revision=3";
    let now = site.guest("PUT", path, "").await;
    assert_eq!(now.is(200).json()["exec"]["code"], "three");
    assert_eq!(site.revisions().await, [6, 5, 4]);
    let site = keeping(0).await;
    site.texts(&["one", "two"]).await;
    assert_eq!(site.revisions().await, [2]);
}

#[tokio::test]
async fn a_deleted_action_takes_its_revisions_along() {
    let site = Site::new().await;
    site.texts(&["one", "two", "three"]).await;
    site.guest("DELETE", "_/actions/a", "").await.is(200);
    site.get("_/actions/a?revision=1").await.refuses(404, GONE);
    site.texts(&["new", "newer"]).await;
    assert_eq!(site.revisions().await, [2, 1]);
    assert_eq!(site.code("?revision=1").await, "new");
    // With its package, too; and another whose name begins alike keeps its own.
    for name in ["p", "pp"] {
        let path = format!("_/packages/{name}");
        site.put(&path, json!({})).await.is(200);
        let path = format!("_/actions/{name}/a?overwrite=true");
        for code in ["one", "two"] {
            site.put(&path, text(code)).await.is(200);
        }
    }
    site.guest("DELETE", "_/packages/p?force=true", "")
        .await
        .is(200);
    site.put("_/packages/p", json!({})).await.is(200);
    site.put("_/actions/p/a", text("again")).await.is(200);
    let count = async |path: &str| {
        let rows = site.get(&format!("{path}?revisions=true")).await;
        rows.is(200).json().as_array().map(Vec::len)
    };
    assert_eq!(count("_/actions/p/a").await, Some(1));
    assert_eq!(count("_/actions/pp/a").await, Some(2));
    assert_eq!(count("_/actions/a").await, Some(2));
}

#[tokio::test]
async fn what_a_stopped_server_left_behind_is_not_shown() {
    use crate::store::{Item, Items, Shelf};
    let site = Site::new().await;
    let guest = Namespace::parse("guest").unwrap();
    // Kept, and then not replaced; and of an action that was deleted.
    let leave = async |number: u64| {
        let item = Item {
            name: format!("/a/{number:020}"),
            body: "not an action".into(),
            code: None,
            expires: None,
        };
        let put = Items::put(&*site.store, &guest, Shelf::Revisions, item, None);
        put.await.expect("room");
    };
    leave(1).await;
    site.texts(&["one"]).await;
    leave(1).await;
    leave(7).await;
    assert_eq!(site.revisions().await, [1]);
    assert_eq!(site.code("?revision=1").await, "one");
    site.texts(&["two"]).await;
    assert_eq!(site.revisions().await, [2, 1]);
    assert_eq!(site.code("?revision=1").await, "one");
    site.get("_/actions/a?revision=7").await.refuses(404, GONE);
}

#[tokio::test]
async fn a_former_text_runs_with_what_its_packages_say_now() {
    let site = Site::new().await;
    let parameters = json!({"parameters": [{"key": "q", "value": 1}]});
    site.put("_/packages/p", parameters).await.is(200);
    let binding = json!({"binding": {"namespace": "_", "name": "p"},
        "parameters": [{"key": "r", "value": 2}]});
    site.put("_/packages/bound", binding).await.is(200);
    for code in ["one", "three"] {
        let path = "_/actions/p/a?overwrite=true";
        site.put(path, text(code)).await.is(200);
    }
    for (path, revision, timeout) in [
        ("bound/a", "", 1005),
        ("bound/a", "?revision=2", 1005),
        ("bound/a", "?revision=1", 1003),
        ("p/a", "?revision=1", 1003),
    ] {
        let url = format!("_/actions/{path}{revision}");
        site.guest("POST", &url, "{}").await.is(202);
        let (_, call) = site.invoker.asked.lock().pop().expect("asked");
        assert_eq!(call.action.limits.timeout, timeout, "{path}{revision}");
        let is_bound = path.starts_with("bound");
        assert_eq!(call.action.binding().is_some(), is_bound);
        let mut keys: Vec<&str> = call.action.parameters.0.iter().map(|p| &*p.key).collect();
        keys.sort_unstable();
        let expected: &[&str] = if is_bound {
            &["p", "q", "r"]
        } else {
            &["p", "q"]
        };
        assert_eq!(keys, expected);
    }
    for (path, status) in [("p/a?revision=3", 404), ("p/a?revision=x", 400)] {
        let got = site.guest("POST", &format!("_/actions/{path}"), "{}").await;
        got.is(status);
    }
    // A package's parameters do not get into what is kept.
    let path = "_/actions/p/a?overwrite=true&revision=1";
    let now = site.guest("PUT", path, "").await;
    assert_eq!(
        now.is(200).json()["parameters"],
        json!([{"key": "p", "value": "one"}])
    );
}

#[tokio::test]
async fn revisions_are_their_owners() {
    let site = Site::new().await;
    let system = async |path: &str, body: Value| {
        let path = format!("/api/v1/namespaces/_/{path}");
        site.system("PUT", &path, body.to_string()).await.is(200);
    };
    system("packages/open", json!({"publish": true})).await;
    for code in ["one", "two"] {
        system("actions/open/a?overwrite=true", text(code)).await;
    }
    let binding = json!({"binding": {"namespace": "whisk.system", "name": "open"}});
    site.put("_/packages/bound", binding).await.is(200);
    for (path, resource) in [
        ("whisk.system/actions/open/a", "whisk.system/open/a"),
        ("_/actions/bound/a", "guest/bound/a"),
    ] {
        site.get(path).await.is(200);
        let denied =
            format!("The supplied authentication is not authorized to access '{resource}'.");
        for (method, query) in [
            ("GET", "revisions=true"),
            ("GET", "revision=1"),
            ("GET", "revision=2"),
            ("POST", "revision=1"),
        ] {
            let path = format!("{path}?{query}");
            site.guest(method, &path, "").await.refuses(403, &denied);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_writers_leave_an_unbroken_count() {
    let site = Arc::new(Site::new().await);
    site.texts(&["one"]).await;
    let mut writers = tokio::task::JoinSet::new();
    for index in 0..16 {
        let site = Arc::clone(&site);
        writers.spawn(async move {
            let path = "_/actions/a?overwrite=true";
            let got = site.put(path, text(&format!("text {index}"))).await;
            got.status.as_u16()
        });
    }
    let statuses = writers.join_all().await;
    let taken = statuses.iter().filter(|status| **status == 200).count();
    let last = u64::try_from(taken).unwrap() + 1;
    let expected: Vec<u64> = (1..=last).rev().take(11).collect();
    assert_eq!(site.revisions().await, expected, "{statuses:?}");
    for number in expected {
        let got = site.get(&format!("_/actions/a?revision={number}")).await;
        let got = got.is(200).json();
        assert_eq!(got["exec"]["code"], got["parameters"][0]["value"]);
    }
}
