//! Whether a Redis is one that the service can rely on.

use redis::{Value, cmd};

use super::config::Config;
use super::connect::Target;
use super::error::{Error, Result};
use super::{Link, Script};

/// The form of what is kept; another one is not touched.
const FORMAT: &str = "1";

/// Notes the name and form of the cluster under its prefix, or answers those that are there.
static CLAIM: Script = Script::new(
    "if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('HSET', KEYS[1], 'format', ARGV[1], 'name', ARGV[2]) end \
     return redis.call('HMGET', KEYS[1], 'format', 'name')",
);

/// Says of an error at the start where it came from and what to do about it.
pub(super) fn explained(error: Error, target: &Target) -> Error {
    let has = |text: &str, some: &[&str]| some.iter().any(|one| text.contains(one));
    match error {
        Error::Refused(why) if has(&why, &["NOAUTH", "WRONGPASS"]) => {
            let why = match has(&why, &["NOAUTH"]) {
                true => "it wants a password (NOAUTH)",
                false => "it knows no such user with that password (WRONGPASS)",
            };
            Error::Refused(format!(
                "{target}: {why}. Put user and password into the URL, as in redis://user:password@host:6379, \
                 best in WISP_REDIS_URL"
            ))
        }
        Error::Refused(why) => Error::Refused(format!(
            "{why} ({target}). The user of the URL may not do all that is needed; deploy/kubernetes/secret.example.yaml has \
             what that is"
        )),
        Error::Unexpected(why) if has(&why, &["cluster support disabled"]) => {
            Error::Config(format!(
                "{target} is one Redis and not a Redis Cluster: its URL begins with redis:// or rediss:// alone"
            ))
        }
        Error::Unexpected(why) if has(&why, &["unknown command 'SENTINEL'"]) => {
            Error::Config(format!(
                "{target} is a Redis and not a sentinel, which listens on a port of its own, mostly 26379"
            ))
        }
        Error::Unavailable(why)
            if has(&why, &["Hash slot not served", "ClusterConnectionNotFound"]) =>
        {
            Error::Unavailable(format!(
                "{why} ({target}). No server has the slots: is the Redis Cluster made (redis-cli --cluster create)?"
            ))
        }
        Error::Unavailable(why)
            if target.is_tls() && has(&why, &["timed out", "InvalidContentType"]) =>
        {
            Error::Unavailable(format!(
                "{why}. If there is no TLS, the URL begins with redis:// in place of rediss://"
            ))
        }
        Error::Unavailable(why) if has(&why, &["UnknownIssuer"]) => Error::Unavailable(format!(
            "{why}. Name the file with the certificate that Redis's is signed by: [redis] ca_file"
        )),
        Error::Unavailable(why) if !target.is_tls() && has(&why, &["reset by peer"]) => {
            Error::Unavailable(format!(
                "{why}. If it wants TLS, the URL begins with rediss:// in place of redis://"
            ))
        }
        Error::Unavailable(why) if has(&why, &[&target.to_string()]) => Error::Unavailable(why),
        Error::Unavailable(why) => Error::Unavailable(format!("{target}: {why}")),
        Error::Unexpected(why) => Error::Unexpected(format!("{target}: {why}")),
        other => other,
    }
}

/// A line of `INFO`, without its name.
fn line<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let found = info.lines().find_map(|line| line.strip_prefix(name));
    found.map(str::trim)
}

/// Whether the server that was named is one that stands for itself, and takes writes.
async fn check_mode(link: &Link, info: &str, target: &Target) -> Result<()> {
    if !target.is_single() {
        return Ok(());
    }
    match line(info, "redis_mode:").or_else(|| line(info, "server_mode:")) {
        Some("cluster") => {
            return Err(Error::Config(format!(
                "{target} is a server of a Redis Cluster: give some of its servers as redis+cluster://host:port,host:port"
            )));
        }
        Some("sentinel") => {
            return Err(Error::Config(format!(
                "{target} is a sentinel: name it and the service it watches, as in redis+sentinel://{target}/mymaster"
            )));
        }
        _ => {}
    }
    let replication: String = link.query(cmd("INFO").arg("replication")).await?;
    if line(&replication, "role:") == Some("slave") {
        let (host, port) = (
            line(&replication, "master_host:").unwrap_or_default(),
            line(&replication, "master_port:").unwrap_or_default(),
        );
        return Err(Error::Config(format!(
            "{target} is a replica and takes no writes: its master is {host}:{port}. With sentinels, give these, as in \
             redis+sentinel://host:26379/mymaster"
        )));
    }
    Ok(())
}

/// Checks version, eviction, and whose data is under the prefix.
pub(super) async fn check(link: &Link, config: &Config, target: &Target) -> Result<()> {
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
    check_mode(link, &info, target).await?;
    // Whoever may not use the channels would be told of nothing that other nodes do.
    let channel = format!("{}:n:check", config.prefix);
    let _: i64 = link.query(cmd("PUBLISH").arg(channel).arg("")).await?;
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
    if line(info, "valkey_version:").is_some() {
        return Ok(());
    }
    let Some(version) = line(info, "redis_version:") else {
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
