//! What an action may know of the activation it serves.
//!
//! Unlike `std::env::var`, which reads the environment once, this is right in an instance that is used again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A variable of the activation: `__OW_ACTIVATION_ID`, … and `init` parameters. `None` when it is not set, and
/// everywhere but inside Wisp.
#[must_use]
pub fn get(name: &str) -> Option<String> {
    crate::abi::context(name)
}

/// `__OW_ACTIVATION_ID`: 32 hexadecimal digits that name this activation and no other.
#[must_use]
pub fn activation_id() -> Option<String> {
    get("__OW_ACTIVATION_ID")
}

/// `__OW_NAMESPACE`: who pays for this activation.
#[must_use]
pub fn namespace() -> Option<String> {
    get("__OW_NAMESPACE")
}

/// `__OW_ACTION_NAME`: the action's full name, `/namespace/package/action`.
#[must_use]
pub fn action_name() -> Option<String> {
    get("__OW_ACTION_NAME")
}

/// `__OW_TRANSACTION_ID`: what the request is called in the server's own log.
#[must_use]
pub fn transaction_id() -> Option<String> {
    get("__OW_TRANSACTION_ID")
}

/// `__OW_API_HOST`: the URL of the API that runs it.
#[must_use]
pub fn api_host() -> Option<String> {
    get("__OW_API_HOST")
}

/// `__OW_API_KEY`: a key for that API, when the action's annotation `provide-api-key` asks for it.
#[must_use]
pub fn api_key() -> Option<String> {
    get("__OW_API_KEY")
}

/// `__OW_DEADLINE`: when the activation is ended if it has not ended by itself.
#[must_use]
pub fn deadline() -> Option<SystemTime> {
    let millis = get("__OW_DEADLINE")?.parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

/// How long it may still run; zero when that is over.
#[must_use]
pub fn remaining() -> Option<Duration> {
    let left = deadline()?.duration_since(SystemTime::now());
    Some(left.unwrap_or_default())
}
