//! Tables of requests and what the contract says of each.

use std::fmt::Write as _;

use serde_json::Value;

use super::http::{Reply, Request};
use super::tenant::Tenant;

/// What the body must be.
#[derive(Debug, Clone)]
pub(crate) enum Expect {
    /// Anything.
    Any,
    /// `{"error": <this>, "code": …}`.
    Error(&'static str),
    /// An error that begins with this.
    ErrorStarts(&'static str),
    /// An error in which this stands somewhere.
    ErrorHas(&'static str),
    /// Exactly this JSON.
    Is(Value),
    /// A JSON object with at least these fields, at every depth.
    Has(Value),
}

/// One row: a section of the contract, a request, and what must come back.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) section: &'static str,
    /// `METHOD path`; a relative path lies in the tenant's namespace.
    pub(crate) request: String,
    /// The body, sent as JSON; none when null.
    pub(crate) body: Value,
    pub(crate) status: u16,
    pub(crate) expect: Expect,
}

impl Row {
    pub(crate) fn new(
        section: &'static str,
        request: &str,
        body: Value,
        status: u16,
        expect: Expect,
    ) -> Self {
        Self {
            section,
            request: request.to_owned(),
            body,
            status,
            expect,
        }
    }

    fn to_request(&self, tenant: &Tenant) -> Request {
        let (method, path) = self.request.split_once(' ').expect("`METHOD path`");
        let request = tenant.request(method, path);
        match &self.body {
            Value::Null => request,
            body => request.json(body),
        }
    }

    /// What is wrong with `reply`.
    fn mistakes(&self, reply: &Reply) -> Vec<String> {
        let mut mistakes = Vec::new();
        if reply.status != self.status {
            mistakes.push(format!("status {}, expected {}", reply.status, self.status));
        }
        if reply.header("x-request-id").is_none() {
            mistakes.push("no X-Request-ID".to_owned());
        }
        let body = serde_json::from_slice::<Value>(&reply.body);
        let error = |holds: &dyn Fn(&str) -> bool| {
            let body = body.as_ref().ok();
            let text = body.and_then(|body| body["error"].as_str());
            let code = body.and_then(|body| body["code"].as_str());
            text.is_some_and(holds) && code.is_some() && code == reply.header("x-request-id")
        };
        let right = match &self.expect {
            Expect::Any => true,
            Expect::Error(text) => error(&|given| given == *text),
            Expect::ErrorStarts(text) => error(&|given| given.starts_with(text)),
            Expect::ErrorHas(text) => error(&|given| given.contains(text)),
            Expect::Is(value) => body.as_ref().is_ok_and(|body| body == value),
            Expect::Has(value) => body.as_ref().is_ok_and(|body| has(body, value)),
        };
        if !right {
            mistakes.push(format!("expected {:?}", self.expect));
        }
        mistakes
    }
}

/// A table: `section, request, body => status, expected;`.
macro_rules! rows {
    ($($section:literal, $request:expr, $body:expr => $status:literal, $expect:expr;)*) => {
        [$($crate::harness::Row::new($section, $request, $body, $status, $expect)),*]
    };
}
pub(crate) use rows;

/// Whether `whole` has everything that `part` has: objects by key, everything else by equality.
pub(crate) fn has(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, value)| whole.get(key).is_some_and(|found| has(found, value))),
        (whole, part) => whole == part,
    }
}

/// Sends every row in order, then fails with all that were answered wrongly.
#[track_caller]
pub(crate) fn run(tenant: &Tenant, rows: &[Row]) {
    let mut report = String::new();
    for row in rows {
        let reply = tenant.client.send(&row.to_request(tenant));
        for mistake in row.mistakes(&reply) {
            let mut body = row.body.to_string();
            body.truncate(body.floor_char_boundary(200));
            writeln!(
                report,
                "section {}: {} {body}\n  {mistake}\n  got {}",
                row.section,
                row.request,
                reply.shown()
            )
            .expect("writes to a string");
        }
    }
    assert!(report.is_empty(), "\n{report}");
}
