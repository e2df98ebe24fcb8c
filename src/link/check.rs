//! Whether a Redis is one that the service can rely on.

use redis::{Value, cmd};

use super::config::Config;
use super::error::{Error, Result};
use super::{Link, Script};

/// The form of what is kept; another one is not touched.
const FORMAT: &str = "1";

/// Notes the name and form of the cluster under its prefix, or answers those that are there.
static CLAIM: Script = Script::new(
    "if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('HSET', KEYS[1], 'format', ARGV[1], 'name', ARGV[2]) end \
     return redis.call('HMGET', KEYS[1], 'format', 'name')",
);

/// Checks version, eviction, and whose data is under the prefix.
pub(super) async fn check(link: &Link, config: &Config) -> Result<()> {
    if config.prefix.is_empty() || config.prefix.contains(['{', '}']) {
        return Err(Error::Config(format!(
            "the prefix {:?} is empty or has braces, which are not possible",
            config.prefix
        )));
    }
    let info: String = match link.query(cmd("INFO").arg("server")).await? {
        // A cluster answers for every server.
        Value::Map(servers) => servers.into_iter().map(|(_, text)| text_of(text)).collect(),
        text => text_of(text),
    };
    check_version(&info)?;
    match policy(link).await {
        Ok(Some(policy)) if policy != "noeviction" => {
            return Err(Error::Config(format!(
                "Redis is configured to evict keys (maxmemory-policy {policy}), so work that was accepted could vanish: set it \
                 to noeviction (CONFIG SET maxmemory-policy noeviction, and in its configuration file)"
            )));
        }
        Ok(Some(_)) => {}
        Ok(None) | Err(Error::Refused(_) | Error::Unexpected(_)) => {
            tracing::warn!("Redis does not tell its maxmemory-policy; it must be noeviction");
        }
        Err(error) => return Err(error),
    }
    let key = format!("{}:cluster", config.prefix);
    let mut claim = CLAIM.call(&[key]);
    claim.arg(FORMAT).arg(&config.cluster);
    let (format, name): (Option<String>, Option<String>) = link.call(&CLAIM, &claim).await?;
    if format.as_deref() != Some(FORMAT) {
        return Err(Error::Config(format!(
            "what this Redis holds under the prefix {} was written by another release (format {}, this one has {FORMAT}): \
             use another prefix ([redis] prefix) or that release",
            config.prefix,
            format.unwrap_or_default()
        )));
    }
    if name.as_deref() != Some(config.cluster.as_str()) {
        return Err(Error::Config(format!(
            "this Redis holds the cluster {:?} under the prefix {}, and this node is of {:?}: give one of them another prefix \
             ([redis] prefix), or this node that name ([redis] cluster)",
            name.unwrap_or_default(),
            config.prefix,
            config.cluster
        )));
    }
    Ok(())
}

fn text_of(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text,
        _ => String::new(),
    }
}

/// Redis before 7.0 lacks what is relied on; Valkey begins there.
fn check_version(info: &str) -> Result<()> {
    let line = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    if line("valkey_version:").is_some() {
        return Ok(());
    }
    let Some(version) = line("redis_version:") else {
        return Err(Error::Config(
            "what answers there does not say that it is Redis or Valkey".to_owned(),
        ));
    };
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= 7) {
        return Ok(());
    }
    Err(Error::Config(format!(
        "Redis {version} is too old: 7.0 or later, or Valkey, is needed"
    )))
}

async fn policy(link: &Link) -> Result<Option<String>> {
    let answer: Value = link
        .query(cmd("CONFIG").arg("GET").arg("maxmemory-policy"))
        .await?;
    Ok(find_policy(answer))
}

/// The first policy in a map of settings, or in a map of servers to such maps.
fn find_policy(value: Value) -> Option<String> {
    match value {
        Value::Map(pairs) => {
            let mut found = None;
            for (name, value) in pairs {
                match value {
                    Value::Map(_) | Value::Array(_) => found = found.or_else(|| find_policy(value)),
                    value if text_of(name) == "maxmemory-policy" => return Some(text_of(value)),
                    _ => {}
                }
            }
            found
        }
        Value::Array(items) => {
            let mut items = items.into_iter();
            items
                .next()
                .filter(|name| text_of(name.clone()) == "maxmemory-policy")?;
            items.next().map(text_of)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused_and_valkey_is_not() {
        assert!(check_version("# Server\r\nredis_version:7.0.15\r\n").is_ok());
        assert!(check_version("redis_version:6.2.14\r\n").is_err());
        assert!(check_version("redis_version:10.0.0\r\n").is_ok());
        assert!(check_version("redis_version:7.2.4\r\nvalkey_version:8.0.1\r\n").is_ok());
        assert!(check_version("hello").is_err());
    }
}
