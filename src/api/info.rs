//! What anyone may know: which server this is, its limits, its kinds.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::error::Result;
use super::{Front, docs, wire};
use crate::model::Sequence;
use crate::model::kind::{FAMILIES, Runtime};

const MIB: u64 = 1 << 20;

/// `GET /`
pub(super) async fn server(State(front): State<Arc<Front>>) -> Result<Response> {
    #[derive(Serialize)]
    struct Server {
        description: &'static str,
        support: serde_json::Value,
        api_paths: [&'static str; 1],
        limits: BTreeMap<String, u64>,
        runtimes: BTreeMap<&'static str, Vec<Runtime>>,
    }
    wire::ok(&Server {
        description: "OpenWhisk",
        support: json!({
            "github": "https://github.com/apache/openwhisk/issues",
            "slack": "http://slack.openwhisk.org",
        }),
        api_paths: ["/api/v1"],
        limits: limits(&front),
        runtimes: runtimes(&front),
    })
}

/// Every kind, and which of them the operator has declared past.
fn runtimes(front: &Front) -> BTreeMap<&'static str, Vec<Runtime>> {
    let deprecated = &front.state.defaults.deprecated_kinds;
    let shown = |runtime: &Runtime| Runtime {
        deprecated: runtime.deprecated || deprecated.iter().any(|kind| kind == runtime.kind),
        ..*runtime
    };
    let shown =
        |(family, kinds): &(&'static str, &[Runtime])| (*family, kinds.iter().map(shown).collect());
    FAMILIES.iter().map(shown).collect()
}

fn limits(front: &Front) -> BTreeMap<String, u64> {
    let defaults = &front.state.defaults;
    let mut limits = BTreeMap::from([
        (
            "actions_per_minute".to_owned(),
            defaults.invocations_per_minute,
        ),
        ("triggers_per_minute".to_owned(), defaults.fires_per_minute),
        (
            "concurrent_actions".to_owned(),
            defaults.concurrent_invocations,
        ),
        ("sequence_length".to_owned(), Sequence::LENGTH_MAX as u64),
    ]);
    let ranges = [
        ("duration", defaults.timeout, 1),
        ("memory", defaults.memory, MIB),
        ("logs", defaults.logs, MIB),
    ];
    for (what, range, unit) in ranges {
        for prefix in ["default_", ""] {
            let min = range.min.saturating_mul(unit);
            let max = range.max.saturating_mul(unit);
            limits.insert(format!("{prefix}min_action_{what}"), min);
            limits.insert(format!("{prefix}max_action_{what}"), max);
        }
    }
    limits
}

/// `GET /api/v1`
pub(super) async fn api(State(front): State<Arc<Front>>) -> Result<Response> {
    let build = &front.state.build;
    wire::ok(&json!({
        "description": "OpenWhisk API",
        "api_version": "1.0.0",
        "api_version_path": "v1",
        "build": build.date,
        "buildno": build.number,
        "swagger_paths": { "ui": docs::PAGE[0], "api-docs": docs::DOCUMENT[0] },
    }))
}
