//! Log lines, as records keep them: `<stamp> <stream>: <text>`.

use std::sync::Arc;

use crate::model::ActionLimits;
use crate::model::time::{iso8601, nanos_now};
use crate::sandbox::LogLine;

/// Stamps the lines, and says at the end what is missing from them.
pub(super) fn lines(
    lines: &[LogLine],
    truncated: bool,
    failed: bool,
    limits: &ActionLimits,
) -> Arc<[String]> {
    if limits.logs == 0 || (lines.is_empty() && !truncated && !failed) {
        return Arc::default();
    }
    let mut stamped: Vec<String> = lines.iter().map(LogLine::stamped).collect();
    let mut note = |text: &str| {
        stamped.push(format!("{} stderr: {text}", iso8601(nanos_now())));
    };
    if failed {
        note("The action did not initialize or run as expected. Log data might be missing.");
    }
    if truncated {
        note(&format!(
            "Logs were truncated because the total bytes size exceeds the limit of {} bytes.",
            limits.log_bytes()
        ));
    }
    stamped.into()
}
