//! Section 7: how much a namespace may.

use serde_json::json;

use crate::harness::{ECHO, SLEEP, Tenant, eventually, id_of, shared};

/// Runs `calls` within one wall-clock minute: counts start anew with each. Tries again when the minute turned meanwhile.
fn within_a_minute(calls: impl Fn(&Tenant)) {
    let minute = || wisp::model::Timestamp::now().millis() / 60_000;
    eventually("a minute that does not turn", || {
        let tenant = shared().tenant();
        let began = minute();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| calls(&tenant)));
        match ran {
            Ok(()) => Some(()),
            Err(_) if minute() != began => None,
            Err(failure) => std::panic::resume_unwind(failure),
        }
    });
}

#[test]
fn calls_over_the_rate_are_429_and_count() {
    within_a_minute(|tenant| {
        tenant.put_action("a", ECHO);
        tenant.limits(&json!({ "invocationsPerMinute": 2 }));
        tenant.result("a", &json!({})).expect(200);
        tenant.fire("a", &json!({}));
        for count in [3, 4] {
            let refused = tenant.result("a", &json!({})).expect(429);
            let text =
                format!("Too many requests in the last minute (count: {count}, allowed: 2).");
            assert_eq!(refused.error(), text, "section 7: rejected calls count");
            let after: u64 = refused
                .header("retry-after")
                .expect("section 7: add one")
                .parse()
                .unwrap();
            assert!((1..=60).contains(&after), "{after}");
        }
        // What is no invocation is not counted.
        tenant.get("actions/a").expect(200);
        tenant.limits(&json!({}));
        tenant.result("a", &json!({})).expect(200);
    });
}

#[test]
fn a_rate_of_zero_blocks() {
    within_a_minute(|tenant| {
        tenant.put_action("a", ECHO);
        tenant.limits(&json!({ "invocationsPerMinute": 0 }));
        let refused = tenant.result("a", &json!({})).expect(429);
        assert_eq!(
            refused.error(),
            "Too many requests in the last minute (count: 1, allowed: 0).",
            "section 7"
        );
    });
}

#[test]
fn the_throttle_comes_before_existence() {
    within_a_minute(|tenant| {
        tenant.limits(&json!({ "invocationsPerMinute": 1 }));
        tenant.post("actions/none", &json!({})).expect(404);
        tenant.post("actions/none", &json!({})).expect(429);
    });
}

#[test]
fn no_more_are_in_flight_than_allowed_and_places_come_back() {
    let tenant = shared().tenant();
    tenant.put_action("a", SLEEP);
    tenant.limits(&json!({ "concurrentInvocations": 2 }));
    let ids: Vec<String> = (0..2)
        .map(|_| tenant.fire("a", &json!({ "ms": 600 })))
        .collect();
    for path in ["actions/a", "actions/a?blocking=true", "actions/none"] {
        let refused = tenant.post(path, &json!({})).expect(429);
        assert_eq!(
            refused.error(),
            "Too many concurrent requests in flight (count: 2, allowed: 2).",
            "section 7"
        );
        assert!(refused.header("retry-after").is_some(), "section 7");
    }
    for id in &ids {
        tenant.awaited(id);
    }
    let again = eventually("a place", || {
        let reply = tenant.result("a", &json!({ "ms": 1 }));
        (reply.status != 429).then_some(reply)
    });
    again.expect(200);
}

#[test]
fn concurrency_of_zero_blocks() {
    let tenant = shared().tenant();
    tenant.put_action("a", ECHO);
    tenant.limits(&json!({ "concurrentInvocations": 0 }));
    let refused = tenant.result("a", &json!({})).expect(429);
    assert_eq!(
        refused.error(),
        "Too many concurrent requests in flight (count: 0, allowed: 0).",
        "section 7"
    );
}

#[test]
fn a_call_whose_caller_left_keeps_its_place_until_it_ends() {
    let tenant = shared().tenant();
    tenant.put_action("a", SLEEP);
    tenant.limits(&json!({ "concurrentInvocations": 1 }));
    let reply = tenant
        .post("actions/a?blocking=true&timeout=20", &json!({ "ms": 500 }))
        .expect(202);
    tenant.post("actions/a", &json!({})).expect(429);
    tenant.awaited(&id_of(&reply));
    eventually("the place", || {
        (tenant.post("actions/a", &json!({ "ms": 1 })).status == 202).then_some(())
    });
}

#[test]
fn a_refusal_gives_its_place_back() {
    let tenant = shared().tenant();
    tenant.limits(&json!({ "concurrentInvocations": 1 }));
    for _ in 0..5 {
        tenant
            .post("actions/none?blocking=true", &json!({}))
            .expect(404);
    }
}

#[test]
fn one_tenants_flood_is_not_anothers() {
    let (noisy, quiet) = (shared().tenant(), shared().tenant());
    noisy.limits(&json!({ "invocationsPerMinute": 0 }));
    noisy.put_action("a", ECHO);
    quiet.put_action("a", ECHO);
    noisy.result("a", &json!({})).expect(429);
    quiet.result("a", &json!({})).expect(200);
}
