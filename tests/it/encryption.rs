//! Parameters at rest: on the disk and on the wire encrypted, before the action not; with the wrong key, nothing at all.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{ECHO, SLEEP, Server, Tenant, binary, eventually, run_to_end, variable};

const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const TWO: &str = "AQEBAQEBAQEBAQEBAQEBAQ==";

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
