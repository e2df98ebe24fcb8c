//! `/metrics`: everything promised is there, and labels are bounded.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{ECHO, Server, eventually};

const NAMES: &[&str] = &[
    "wisp_http_requests_total",
    "wisp_http_request_seconds",
    "wisp_activations_total",
    "wisp_starts_total",
    "wisp_activation_wait_seconds",
    "wisp_activation_init_seconds",
    "wisp_activation_run_seconds",
    "wisp_activation_cpu_microseconds_total",
    "wisp_refused_total",
    "wisp_compile_seconds",
    "wisp_store_commit_seconds",
    "wisp_queue_depth",
    "wisp_queue_bytes",
    "wisp_queue_oldest_age_seconds",
    "wisp_runs",
    "wisp_runs_max",
    "wisp_pool_instances",
    "wisp_pool_programs",
    "wisp_pool_program_bytes",
    "wisp_pool_slots",
    "wisp_memory_bytes",
    "wisp_inflight",
    "wisp_fires_pending",
    "wisp_rule_retries_waiting",
];

/// The value of the series whose line begins with `series`.
fn value(text: &str, series: &str) -> Option<f64> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[test]
fn every_metric_has_its_name_its_help_and_its_type() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action("a", ECHO);
    for _ in 0..3 {
        tenant.result("a", &json!({})).expect(200);
    }
    tenant.limits(&json!({ "invocationsPerMinute": 0 }));
    tenant.result("a", &json!({})).expect(429);
    let reply = server.client().get("/metrics").expect(200);
    let kind = reply.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "{kind}");
    let text = eventually("the records are on disk", || {
        let text = server.client().get("/metrics").text();
        text.contains("wisp_store_commit_seconds_count")
            .then_some(text)
    });
    for name in NAMES {
        assert!(
            text.contains(&format!("# HELP {name} ")),
            "no help for {name}"
        );
        assert!(
            text.contains(&format!("# TYPE {name} ")),
            "no type for {name}"
        );
        let series = text.lines().any(|line| line.starts_with(name));
        assert!(series, "no series of {name}");
    }
}

#[test]
fn what_goes_on_behind_fires_is_counted() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put("triggers/t", &json!({})).expect(200);
    tenant.post("triggers/t", &json!({})).expect(204);
    let rule = |action: &str| {
        let annotations = json!([{ "key": "retry", "value": { "attempts": 2, "backoff": 1 } }]);
        json!({ "trigger": "/_/t", "action": format!("/_/{action}"), "annotations": annotations })
    };
    for name in ["good", "bad", "gone"] {
        let code = if name == "good" {
            ECHO.to_owned()
        } else {
            crate::harness::traps()
        };
        tenant.put_action(name, &code);
        tenant
            .put(&format!("rules/on-{name}"), &rule(name))
            .expect(200);
    }
    tenant.delete("actions/gone").expect(200);
    tenant.post("triggers/t", &json!({})).expect(202);
    let letter = eventually("a dead letter is kept", || {
        let letters = tenant.get("deadletters").expect(200).json();
        letters[0]["id"].as_str().map(str::to_owned)
    });
    tenant
        .post(&format!("deadletters/{letter}"), &json!({}))
        .expect(202);
    tenant.limits(&json!({ "firesPerMinute": 0 }));
    tenant.post("triggers/t", &json!({})).expect(429);
    let expected = [
        (
            "wisp_fires_total{source=\"request\",outcome=\"accepted\"}",
            1.0,
        ),
        (
            "wisp_fires_total{source=\"request\",outcome=\"unheard\"}",
            1.0,
        ),
        (
            "wisp_fires_total{source=\"request\",outcome=\"refused\"}",
            1.0,
        ),
        ("wisp_rule_runs_total{outcome=\"success\"}", 1.0),
        // Twice by the rule, and once as the replay of its letter.
        ("wisp_rule_runs_total{outcome=\"failure\"}", 3.0),
        ("wisp_rule_runs_total{outcome=\"refused\"}", 1.0),
        ("wisp_rule_retries_total", 1.0),
        ("wisp_dead_letters_total{event=\"kept\"}", 2.0),
        ("wisp_dead_letters_total{event=\"replayed\"}", 1.0),
        ("wisp_fires_pending", 0.0),
        ("wisp_rule_retries_waiting", 0.0),
    ];
    eventually("everything is counted", || {
        let text = server.client().get("/metrics").text();
        let is = |(series, count): &(&str, f64)| value(&text, series) == Some(*count);
        expected.iter().all(is).then_some(())
    });
}

#[test]
fn counters_count() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action("a", ECHO);
    for _ in 0..5 {
        tenant.result("a", &json!({})).expect(200);
    }
    tenant.put_action("bad", &crate::harness::traps());
    tenant.result("bad", &json!({})).expect(502);
    let text = server.client().get("/metrics").text();
    let starts = |kind: &str| value(&text, &format!("wisp_starts_total{{start=\"{kind}\"}}"));
    assert_eq!(starts("cold"), Some(2.0), "{text}");
    assert_eq!(starts("warm"), Some(4.0), "{text}");
    assert_eq!(
        value(&text, "wisp_activation_run_seconds_count"),
        Some(6.0),
        "{text}"
    );
    assert_eq!(value(&text, "wisp_runs"), Some(0.0), "nothing runs now");
    assert_eq!(
        value(&text, "wisp_inflight"),
        Some(0.0),
        "nothing is in flight"
    );
}

#[test]
fn labels_are_bounded_however_many_actions_and_paths_there_are() {
    let server = Server::start("");
    let tenant = server.tenant();
    for n in 0..300 {
        let name = format!("action-{n}");
        tenant.put_action(&name, ECHO);
        tenant.result(&name, &json!({})).expect(200);
        tenant.get(&format!("/no/such/path/{n}")).expect(404);
    }
    let text = server.client().get("/metrics").text();
    let after_label = text.split("action=\"").skip(1);
    let actions: BTreeSet<&str> = after_label
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(
        actions.len() <= 257,
        "{} actions are labelled",
        actions.len()
    );
    assert!(!text.contains("/no/such/path"), "a path became a label");
    assert!(
        text.lines().count() < 3000,
        "{} lines",
        text.lines().count()
    );
    let runs: f64 = text
        .lines()
        .filter(|line| line.starts_with("wisp_activations_total{") && line.contains("success"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!(
        (runs - 300.0).abs() < 0.5,
        "those beyond are counted together: {runs}"
    );
}
