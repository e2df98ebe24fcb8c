//! Parameters at rest: on the disk and on the wire encrypted, before the action not; with the wrong key, nothing at all.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    ECHO, SLEEP, SYSTEM_KEY, Server, Tenant, binary, eventually, run_to_end, variable,
};

const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const TWO: &str = "AQEBAQEBAQEBAQEBAQEBAQ==";

/// Alarms are packages of the system.
const FEEDS: &str = "[system]\npackages = true\n";

fn keys(keys: &str) -> String {
    format!("[encryption]\nkeys = \"{keys}\"")
}

fn at(tenant: &Tenant, server: &Server) -> Tenant {
    Tenant::new(server.client(), &tenant.namespace, &tenant.key)
}

fn secret(text: &str) -> Value {
    json!({ "parameters": [{ "key": "secret", "value": text }] })
}

/// Whether `text` stands in any file of the folder.
fn is_on_disk(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).expect("readable").any(|entry| {
        let path = entry.expect("entry").path();
        match path.is_dir() {
            true => is_on_disk(&path, text),
            false => fs::read(&path).is_ok_and(|bytes| {
                let mut windows = bytes.windows(text.len());
                windows.any(|window| window == text.as_bytes())
            }),
        }
    })
}

/// `wisp serve` on the folder of a server that has ended, which must not start: what it says.
fn refused(server: &Server, key: &str) -> String {
    let mut command = binary();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(server.data())
        .env("WISP_ENCRYPTION_KEYS", key);
    let (code, _, stderr) = run_to_end(command);
    assert!(code.is_some_and(|code| code != 0), "{code:?} {stderr}");
    stderr
}

fn stop(server: &Server) {
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn what_is_bound_is_on_no_disk_and_comes_back_with_its_key_alone() {
    let server = Server::start(&keys(ONE));
    let first = server.tenant();
    first.limits(&json!({ "storeActivations": false }));
    first
        .put("packages/p", &secret("of-the-package"))
        .expect(200);
    let made = first.put_action_with("p/a", ECHO, secret("of-the-action"));
    first
        .put("triggers/t", &secret("of-the-trigger"))
        .expect(200);
    for path in ["packages/p", "actions/p/a", "triggers/t"] {
        let entity = first.get(path).expect(200).json();
        let parameter = &entity["parameters"][0];
        assert_eq!(parameter["encryption"], "aes-256", "{entity}");
        assert!(!entity.to_string().contains("of-the-"), "{entity}");
    }
    let result = first.result("p/a", &json!({})).expect(200).json();
    assert_eq!(result, json!({ "secret": "of-the-action" }));
    stop(&server);
    assert!(!is_on_disk(&server.data(), "of-the-"));

    assert!(refused(&server, "").contains("a key that is not configured"));
    assert!(refused(&server, TWO).contains("a key that is not configured"));
    let bad = refused(&server, "short");
    assert!(bad.contains("WISP_ENCRYPTION_KEYS"), "{bad}");
    assert!(!bad.contains("short"), "keys are not repeated: {bad}");

    let server = server.restart();
    let tenant = at(&first, &server);
    let read = tenant.get("actions/p/a").expect(200).json();
    assert_eq!(read, made, "as the PUT answered");
    let result = tenant.result("p/a", &json!({})).expect(200).json();
    assert_eq!(result, json!({ "secret": "of-the-action" }));
}

#[test]
fn web_actions_get_their_owners_key_where_it_was_made_under_encryption() {
    let web = |tenant: &Tenant, name: &str| {
        let path = format!("/api/v1/web/{}/default/{name}.json", tenant.namespace);
        tenant.client.get(&path).expect(200).json()["value"].clone()
    };
    let make = |tenant: &Tenant| {
        for (name, wants) in [("wants", true), ("not", false)] {
            let annotations = json!([
                { "key": "web-export", "value": true },
                { "key": "provide-api-key", "value": wants },
            ]);
            let more = json!({ "annotations": annotations });
            tenant.put_action_with(name, &variable("__OW_API_KEY"), more);
        }
    };
    let rotated = |tenant: &Tenant, server: &Server| {
        let path = format!("/{}/key", tenant.namespace);
        let answer = server.admin("POST", &path, None).expect(200).json();
        Tenant {
            key: answer["key"].as_str().expect("a key").to_owned(),
            ..at(tenant, server)
        }
    };
    let server = Server::start("");
    let (old, guest) = (server.tenant(), server.guest());
    old.limits(&json!({ "storeActivations": false }));
    make(&old);
    make(&guest);
    assert_eq!(
        web(&old, "wants"),
        Value::Null,
        "nothing but a digest is kept"
    );
    stop(&server);
    let server = server.restart_with(&keys(ONE));
    let (old, guest, new) = (at(&old, &server), at(&guest, &server), server.tenant());
    new.limits(&json!({ "storeActivations": false }));
    make(&new);
    assert_eq!(web(&old, "wants"), Value::Null, "it is older");
    assert_eq!(
        web(&guest, "wants"),
        json!(guest.key),
        "the server knows it"
    );
    assert_eq!(web(&new, "wants"), json!(new.key));
    assert_eq!(web(&new, "not"), Value::Null);
    let (old, new) = (rotated(&old, &server), rotated(&new, &server));
    for tenant in [&old, &new] {
        assert_eq!(web(tenant, "wants"), json!(tenant.key));
    }
    let shown = server.admin("GET", "", None).expect(200).text();
    assert!(!shown.contains("sealed"), "{shown}");
    stop(&server);
    for tenant in [&old, &new] {
        let (_, secret) = tenant.key.split_once(':').expect("uuid and key");
        assert!(!is_on_disk(&server.data(), secret));
        assert!(!server.log().contains(secret));
    }
    let server = server.restart_with(&keys(&format!("{TWO} {ONE}")));
    assert_eq!(web(&at(&old, &server), "wants"), json!(old.key));
    stop(&server);
    let server = server.restart_with(&keys(TWO));
    assert_eq!(
        web(&at(&old, &server), "wants"),
        Value::Null,
        "no key opens it"
    );
}

#[test]
fn a_new_key_goes_in_front_and_what_has_no_key_left_says_so() {
    let server = Server::start("");
    let first = server.tenant();
    first.put_action_with("plain", ECHO, secret("before"));
    stop(&server);
    let server = server.restart_with(&keys(ONE));
    let tenant = at(&first, &server);
    let result = tenant.result("plain", &json!({})).expect(200).json();
    assert_eq!(
        result,
        json!({ "secret": "before" }),
        "stored in clear text"
    );
    tenant.put_action_with("old", ECHO, secret("old"));
    stop(&server);
    let server = server.restart_with(&keys(&format!("{TWO} {ONE}")));
    let tenant = at(&first, &server);
    tenant.put_action_with("new", ECHO, secret("new"));
    for name in ["old", "new"] {
        let result = tenant.result(name, &json!({})).expect(200).json();
        assert_eq!(result, json!({ "secret": name }));
    }
    stop(&server);
    let server = server.restart_with(&keys(TWO));
    let tenant = at(&first, &server);
    let result = tenant.result("new", &json!({})).expect(200).json();
    assert_eq!(result, json!({ "secret": "new" }));
    let lost = tenant.result("old", &json!({})).expect(500).json();
    let text = lost["error"].as_str().expect("a text");
    assert!(
        text.starts_with("Parameter 'secret' of '") && text.contains("/old' is encrypted"),
        "{text}"
    );
    let again = tenant.request("PUT", "actions/old?overwrite=true");
    let again = again.json(&secret("anew"));
    tenant.client.send(&again).expect(200);
    let result = tenant.result("old", &json!({})).expect(200).json();
    assert_eq!(result, json!({ "secret": "anew" }));
}

#[test]
fn accepted_work_is_encrypted_while_it_waits_and_done_after_a_crash() {
    let server = Server::start(&keys(TWO));
    let first = server.tenant();
    let init = json!({ "parameters": [{ "key": "SECRET", "value": "of-the-start", "init": true }],
        "limits": { "instances": 1 } });
    first.put_action_with("a", SLEEP, init);
    let running = first.fire("a", &json!({ "ms": 3000, "note": "of-the-call" }));
    let waiting = first.fire("a", &json!({ "ms": 1, "note": "of-the-call" }));
    eventually("the first runs", || server.runs_at_least(1).then_some(()));
    server.kill();
    assert!(!is_on_disk(&server.data(), "of-the-"));
    let server = server.restart();
    for id in [running, waiting] {
        let record = at(&first, &server).awaited(&id);
        assert_eq!(record["response"]["status"], "success", "{record}");
    }
}

/// An alarm far away, a call that is remembered, a rule that fails for good, a record with a log: everything that is kept.
fn keep_everything(tenant: &Tenant) -> String {
    let alarm = json!({ "lifecycleEvent": "CREATE", "triggerName": format!("/{}/t", tenant.namespace), "authKey": tenant.key,
        "cron": "0 0 1 1 *", "trigger_payload": { "note": "of-the-alarm" } });
    tenant
        .put(
            "triggers/t",
            &json!({ "parameters": [{ "key": "p", "value": "of-the-trigger" }] }),
        )
        .expect(200);
    let path = "/api/v1/namespaces/whisk.system/actions/alarms/alarm?blocking=true";
    eventually("the feed is put in behind the start", || {
        (tenant.post(path, &alarm).status == 200).then_some(())
    });
    tenant.put_action("fails", &crate::harness::answers(r#"{"error":"no"}"#));
    let retry = json!([{ "key": "retry", "value": { "attempts": 1, "backoff": 1 } }]);
    let rule = json!({ "trigger": "/_/t", "action": "/_/fails", "annotations": retry });
    tenant.put("rules/r", &rule).expect(200);
    tenant
        .post("triggers/t", &json!({ "note": "of-the-fire" }))
        .expect(202);
    for text in ["of-the-past", "of-the-present"] {
        tenant.put_action_with("a", ECHO, secret(text));
    }
    eventually("a dead letter", || {
        let letters = tenant.get("deadletters").expect(200).json();
        (letters.as_array().map(Vec::len) == Some(1)).then_some(())
    });
    let called = tenant.invoke("a", &json!({ "note": "of-the-call" }));
    let called = called.expect(200).json();
    called["activationId"].as_str().expect("an id").to_owned()
}

/// That all of it is still what it was.
fn everything_is_kept(tenant: &Tenant, id: &str) {
    let record = tenant.get(&format!("activations/{id}")).expect(200).json();
    assert_eq!(record["response"]["result"]["note"], "of-the-call");
    let listed = tenant
        .get("activations?docs=true&name=a")
        .expect(200)
        .json();
    assert!(listed.to_string().contains("of-the-call"), "{listed}");
    let counted = tenant
        .get("activations?count=true&name=a")
        .expect(200)
        .json();
    assert_eq!(
        counted,
        json!({ "activations": listed.as_array().map(Vec::len) })
    );
    let letters = tenant.get("deadletters").expect(200).json();
    assert_eq!(letters[0]["payload"]["note"], "of-the-fire", "{letters}");
    let alarm = json!({ "lifecycleEvent": "READ", "triggerName": format!("/{}/t", tenant.namespace), "authKey": tenant.key });
    let path = "/api/v1/namespaces/whisk.system/actions/alarms/alarm?blocking=true&result=true";
    let alarm = tenant.post(path, &alarm).expect(200).json();
    assert_eq!(
        alarm["config"]["payload"]["note"], "of-the-alarm",
        "{alarm}"
    );
    for (query, text) in [("&revision=1", "of-the-past"), ("", "of-the-present")] {
        let path = format!("actions/a?blocking=true&result=true{query}");
        let result = tenant.post(&path, &json!({})).expect(200).json();
        assert_eq!(result["secret"], text);
    }
}

/// Whether the check of the keys is a file.
fn has_folder() -> bool {
    std::env::var_os("WISP_TEST_REDIS").is_none()
}

/// `wisp admin reencrypt`, by the client.
fn reencrypt(server: &Server) -> (Option<i32>, Value) {
    let mut command = binary();
    command
        .args(["--json", "--apihost", &server.url(), "--auth", SYSTEM_KEY])
        .args(["admin", "reencrypt"]);
    let (code, stdout, stderr) = run_to_end(command);
    let counts = serde_json::from_str(&stdout);
    (
        code,
        counts.unwrap_or_else(|error| panic!("{error}: {stdout} {stderr}")),
    )
}

#[test]
fn what_tenants_give_and_what_they_are_answered_is_on_no_disk() {
    let server = Server::start(&format!("{FEEDS}{}", keys(ONE)));
    let first = server.tenant();
    let id = keep_everything(&first);
    stop(&server);
    assert!(!is_on_disk(&server.data(), "of-the-"));
    let server = server.restart();
    everything_is_kept(&at(&first, &server), &id);
}

#[test]
fn everything_is_under_the_new_key_once_it_was_asked_for_beside_what_is_served() {
    let mut server = Server::start(FEEDS);
    let first = server.tenant();
    let id = keep_everything(&first);
    let refused = server.admin("POST", &format!("/{}/reencrypt", first.namespace), None);
    assert!(refused.expect(409).json()["error"].as_str().is_some());
    stop(&server);
    // From none to the first key, and from the first to the second: what was there before is encrypted, too.
    for (now, then) in [(ONE.to_owned(), ONE), (format!("{TWO} {ONE}"), TWO)] {
        server = server.restart_with(&keys(&now));
        let tenant = at(&first, &server);
        let stop_calling = std::sync::atomic::AtomicBool::new(false);
        let counts = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop_calling.load(std::sync::atomic::Ordering::SeqCst) {
                    tenant.result("a", &json!({ "n": 1 })).expect(200);
                    tenant.put_action_with("b", ECHO, secret("of-the-writer"));
                }
            });
            let counts = reencrypt(&server);
            stop_calling.store(true, std::sync::atomic::Ordering::SeqCst);
            counts
        });
        assert_eq!(counts.0, Some(0));
        let at_least = |what: &str, least: u64| {
            let count = counts.1[what].as_u64().expect("a count");
            assert!(count >= least, "{what}: {counts:?}");
        };
        at_least("entities", 2);
        at_least("items", 3);
        // At a start, chunks may be put together, and what comes of that is under the key in use by itself.
        if then == ONE {
            at_least("records", 2);
        }
        assert_eq!(counts.1["unreadable"], 0);
        // Again, there is nothing to do.
        let (code, again) = reencrypt(&server);
        let nothing =
            json!({ "entities": 0, "items": 0, "records": 0, "keys": 0, "unreadable": 0 });
        assert_eq!((code, again), (Some(0), nothing));
        stop(&server);
        assert!(!is_on_disk(&server.data(), "of-the-writer"));
        // The former key is not needed any more.
        server = server.restart_with(&keys(then));
        everything_is_kept(&at(&first, &server), &id);
        stop(&server);
    }
}

#[test]
fn what_no_key_opens_is_told_and_left_and_the_rest_is_encrypted_anew() {
    let server = Server::start(&format!("{FEEDS}{}", keys(ONE)));
    let first = server.tenant();
    keep_everything(&first);
    first.put_action_with("old", ECHO, secret("old"));
    let lost = first.invoke("old", &json!({})).expect(200).json();
    stop(&server);
    let server = server.restart_with(&keys(&format!("{TWO} {ONE}")));
    at(&first, &server).put_action_with("new", ECHO, secret("new"));
    stop(&server);
    let server = server.restart_with(&keys(TWO));
    let tenant = at(&first, &server);
    let (code, counts) = reencrypt(&server);
    assert_ne!(code, Some(0));
    let unreadable = counts["unreadable"].as_u64();
    assert!(unreadable.is_some_and(|count| count >= 2), "{counts}");
    let id = lost["activationId"].as_str().expect("an id");
    let reply = tenant.get(&format!("activations/{id}")).expect(500).json();
    assert_eq!(reply["error"], "Resource is corrupted and cannot be read.");
    let called = tenant.invoke("new", &json!({})).expect(200).json();
    assert_eq!(called["response"]["result"], json!({ "secret": "new" }));
    // Lists go on without what cannot be read, and so does the server without any key.
    let listed = tenant.get("activations?docs=true").expect(200).text();
    assert!(listed.contains(called["activationId"].as_str().expect("an id")));
    assert!(!listed.contains(id));
    assert_eq!(tenant.get("deadletters").expect(200).json(), json!([]));
    stop(&server);
    if has_folder() {
        fs::remove_file(server.data().join("encryption.check")).expect("a check");
        let server = server.restart_with("");
        let tenant = at(&first, &server);
        tenant.get("activations").expect(200);
        tenant.put_action_with("plain", ECHO, secret("plain"));
        tenant.result("plain", &json!({})).expect(200);
    }
}
