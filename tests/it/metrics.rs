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
