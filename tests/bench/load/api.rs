//! What the benchmark asks of Wisp's API: namespaces, actions, calls.

use anyhow::{Context, Result, ensure};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Call, Calls, Connection};
use crate::server::Server;

/// The key that a server has from the start, for its administration.
const SYSTEM_KEY: &str = "789c46b1-71f6-4ed5-8c54-816aa4f8c502:abczO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";

/// More than any benchmark reaches: the accounting is on, the limit is not met.
const UNREACHED: u64 = 1_000_000_000;

/// A namespace and its key.
pub(crate) struct Tenant {
    key: String,
}

/// An action as it is put.
pub(crate) struct Action<'a> {
    pub(crate) name: &'a str,
    /// Text, or base64 of bytes.
    pub(crate) code: &'a str,
    pub(crate) timeout_ms: u64,
}

impl Tenant {
    /// Makes a namespace that may have `concurrent` invocations in flight.
    pub(crate) async fn new(server: &Server, namespace: &str, concurrent: u64) -> Result<Self> {
        let mut connection = Connection::open(server.addr).await?;
        let path = format!("/admin/v1/namespaces/{namespace}");
        let made = connection
            .call(&Call::new(Method::PUT, &path, SYSTEM_KEY, "{}")?)
            .await?;
        let made: Value = serde_json::from_slice(&made)?;
        let key = made["key"]
            .as_str()
            .context("a new namespace has no key")?
            .to_owned();
        let limits = json!({ "invocationsPerMinute": UNREACHED, "firesPerMinute": UNREACHED, "concurrentInvocations": concurrent });
        let path = format!("{path}/limits");
        connection
            .call(&Call::new(
                Method::PUT,
                &path,
                SYSTEM_KEY,
                limits.to_string(),
            )?)
            .await?;
        Ok(Self { key })
    }

    /// The call that makes or replaces an action.
    pub(crate) fn put(&self, action: &Action<'_>) -> Result<Call> {
        let body = json!({
            "exec": { "kind": "wasm:1", "code": action.code },
            "limits": { "timeout": action.timeout_ms, "memory": 128 },
        });
        let path = format!(
            "/api/v1/namespaces/_/actions/{}?overwrite=true",
            action.name
        );
        Call::new(Method::PUT, &path, &self.key, body.to_string())
    }

    /// The call that makes `what` (`triggers/t`, `rules/r`, …), or replaces it.
    pub(crate) fn put_entity(&self, what: &str, body: &Value) -> Result<Call> {
        let path = format!("/api/v1/namespaces/_/{what}?overwrite=true");
        Call::new(Method::PUT, &path, &self.key, body.to_string())
    }

    /// The call that fires a trigger.
    pub(crate) fn fire(&self, trigger: &str, payload: &str) -> Result<Call> {
        let path = format!("/api/v1/namespaces/_/triggers/{trigger}");
        let call = Call::new(Method::POST, &path, &self.key, payload.to_owned())?;
        Ok(call.expect(StatusCode::ACCEPTED))
    }

    /// How many activations of `action` are stored.
    pub(crate) async fn activations(&self, server: &Server, action: &str) -> Result<u64> {
        let path = format!("/api/v1/namespaces/_/activations?count=true&name={action}");
        let call = Call::new(Method::GET, &path, &self.key, "")?;
        let counted = Connection::open(server.addr).await?.call(&call).await?;
        let counted: Value = serde_json::from_slice(&counted)?;
        counted["activations"]
            .as_u64()
            .with_context(|| format!("no count of activations: {counted}"))
    }

    /// Makes one action and calls it once, to see that it answers `answer` and that its activation is stored.
    pub(crate) async fn deploy(
        &self,
        server: &Server,
        action: &Action<'_>,
        params: &str,
        answer: &str,
    ) -> Result<()> {
        let mut connection = Connection::open(server.addr).await?;
        connection.call(&self.put(action)?).await?;
        let got = connection.call(&self.invoke(action.name, params)?).await?;
        let (got, wanted): (Value, Value) =
            (serde_json::from_slice(&got)?, serde_json::from_str(answer)?);
        ensure!(
            got == wanted,
            "{} answered {got}, not {wanted}",
            action.name
        );
        let path = format!(
            "/api/v1/namespaces/_/activations?limit=1&name={}",
            action.name
        );
        let stored = connection
            .call(&Call::new(Method::GET, &path, &self.key, "")?)
            .await?;
        let stored: Value = serde_json::from_slice(&stored)?;
        ensure!(
            stored[0]["name"] == action.name,
            "the activation of {} is not stored: {stored}",
            action.name
        );
        Ok(())
    }

    /// A blocking call that answers with the result alone.
    pub(crate) fn invoke(&self, action: &str, params: &str) -> Result<Call> {
        let path = format!("/api/v1/namespaces/_/actions/{action}?blocking=true&result=true");
        Call::new(Method::POST, &path, &self.key, params.to_owned())
    }

    /// A blocking call that answers with the record.
    pub(crate) fn invoke_for_record(&self, action: &str, params: &str) -> Result<Call> {
        let path = format!("/api/v1/namespaces/_/actions/{action}?blocking=true");
        Call::new(Method::POST, &path, &self.key, params.to_owned())
    }

    /// The same as [`Self::invoke`] of `count` actions whose names are `prefix` and a number from 0.
    pub(crate) fn invoke_each(&self, prefix: &str, count: usize, params: &str) -> Result<Calls> {
        Ok(Calls::Numbered {
            any: self.invoke(prefix, params)?,
            before: format!("/api/v1/namespaces/_/actions/{prefix}"),
            after: "?blocking=true&result=true".to_owned(),
            count,
        })
    }

    /// A call that is accepted and done later.
    pub(crate) fn submit(&self, action: &str, params: &str) -> Result<Call> {
        let path = format!("/api/v1/namespaces/_/actions/{action}");
        Ok(
            Call::new(Method::POST, &path, &self.key, params.to_owned())?
                .expect(StatusCode::ACCEPTED),
        )
    }
}

/// The sum of a gauge or counter over all its labels that contain `label`, from `/metrics`; `None` when there is none.
pub(crate) async fn metric(server: &Server, name: &str, label: &str) -> Result<Option<f64>> {
    let call = Call::new(Method::GET, "/metrics", SYSTEM_KEY, "")?;
    let text = Connection::open(server.addr).await?.call(&call).await?;
    let text = std::str::from_utf8(&text)?;
    let mut sum = None;
    for line in text.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let (found, labels) = series.split_once('{').unwrap_or((series, ""));
        if found == name && labels.contains(label) {
            let value: f64 = value.parse().with_context(|| line.to_owned())?;
            *sum.get_or_insert(0.0) += value;
        }
    }
    Ok(sum)
}
