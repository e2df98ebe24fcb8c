//! Sections 1.1 and 1.2: who is let in.

use serde_json::json;

use crate::harness::{GUEST_KEY, Request, basic, shared};

const MISSING: &str =
    "The resource requires authentication, which was not supplied with the request";
const INVALID: &str = "The supplied authentication is invalid";

#[test]
fn bad_credentials_are_401_whatever_is_bad_about_them() {
    let (uuid, key) = GUEST_KEY.split_once(':').unwrap();
    let long = "x".repeat(100_000 / 20);
    let table = [
        (None, MISSING),
        (Some(basic(&format!("{uuid}:{}", "x".repeat(64)))), INVALID),
        (
            Some(basic(&format!("{uuid}:{}", key.get(..63).unwrap()))),
            INVALID,
        ),
        (Some(basic(&format!("{uuid}:{key}x"))), INVALID),
        (Some(basic(&format!("not-a-uuid:{key}"))), INVALID),
        (
            Some(basic(&format!(
                "00000000-0000-4000-8000-000000000000:{key}"
            ))),
            INVALID,
        ),
        (Some(basic(uuid)), INVALID),
        (Some(basic("")), INVALID),
        (Some(basic(&long)), INVALID),
        (Some("Basic !!!not-base64!!!".to_owned()), INVALID),
        (Some("Basic".to_owned()), INVALID),
        (Some(format!("Bearer {key}")), INVALID),
        (Some(GUEST_KEY.to_owned()), INVALID),
    ];
    for (header, text) in table {
        let request = Request::new("GET", "/api/v1/namespaces");
        let request = match &header {
            Some(header) => request.header("Authorization", header.as_str()),
            None => request,
        };
        let reply = shared().client().send(&request);
        let what = format!("section 1.1: {header:?}: {}", reply.shown());
        assert_eq!(reply.status, 401, "{what}");
        assert_eq!(reply.error(), text, "{what}");
        let challenge = reply.header("www-authenticate").unwrap_or_default();
        assert!(
            challenge.starts_with("Basic realm=\"OpenWhisk secure realm\""),
            "{what}"
        );
    }
}

#[test]
fn the_scheme_is_read_in_any_case() {
    let lower = basic(GUEST_KEY).replacen("Basic", "basic", 1);
    let request = Request::new("GET", "/api/v1/namespaces").header("Authorization", lower);
    shared().client().send(&request).expect(200);
}

#[test]
fn the_well_known_guest_key_opens_guest() {
    let reply = shared().guest().get("/api/v1/namespaces").expect(200);
    assert_eq!(reply.json(), json!(["guest"]));
}

#[test]
fn a_tenant_sees_nothing_of_another() {
    let (ours, theirs) = (shared().tenant(), shared().tenant());
    theirs.put_action("secret", crate::harness::ECHO);
    let id = theirs.fire("secret", &json!({ "a": 1 }));
    theirs.awaited(&id);
    let there = format!("/api/v1/namespaces/{}", theirs.namespace);
    for path in ["actions", "actions/secret", "activations", "limits"] {
        ours.get(&format!("{there}/{path}")).expect(403);
    }
    ours.get(&format!("{there}/activations/{id}")).expect(403);
    ours.get(&format!("activations/{id}")).expect(404);
    ours.post(&format!("{there}/actions/secret"), &json!({}))
        .expect(403);
    ours.delete(&format!("{there}/actions/secret")).expect(403);
    theirs.get("actions/secret").expect(200);
}
