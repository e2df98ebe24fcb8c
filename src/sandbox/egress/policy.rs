//! Whether a host at an address may be talked to. A function of its arguments: no clock, no lookup, no connection.
//!
//! `deny` beats `allow` beats the defaults: this server's own API, the public internet, nothing else.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::address::{Block, is_public};
use super::{Config, Error};

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    whom: Whom,
    /// Any port when there is none.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    /// Lower case, no dot at its end.
    Host(String),
    /// `.domain`: everything below it, not itself.
    Below(String),
    Block(Block),
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = |why: &str| {
            format!(
                "`{text}` {why}; write a host (`api.example.com`), a domain (`*.example.com`), an address or a block \
                 (`10.0.0.0/8`), the first three with `:port` if only that is meant"
            )
        };
        if let Some((address, prefix)) = text.split_once('/') {
            let block = address.parse().ok().zip(prefix.parse().ok());
            let block = block.and_then(|(address, prefix)| Block::new(address, prefix));
            let block = block.ok_or_else(|| wrong("is no block of addresses"))?;
            return Ok(Self::block(block, None));
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(Self::address(address, None));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::address(address.ip(), Some(address.port())));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => {
                let port = port
                    .parse()
                    .map_err(|_| wrong("has no port behind its colon"))?;
                (host, Some(port))
            }
            None => (text, None),
        };
        let host = normal(host);
        let (below, name) = match host.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, host.as_str()),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(wrong("is no name of a host"));
        }
        let whom = if below {
            Whom::Below(format!(".{name}"))
        } else {
            Whom::Host(name.to_owned())
        };
        Ok(Self { whom, port })
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Rule {
    fn block(block: Block, port: Option<u16>) -> Self {
        let whom = Whom::Block(block);
        Self { whom, port }
    }

    fn address(address: IpAddr, port: Option<u16>) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        let block = Block::new(address, prefix).expect("all its bits are as many as it has");
        Self::block(block, port)
    }

    fn names(&self, host: &str, address: SocketAddr) -> bool {
        let is_whom = match &self.whom {
            Whom::Host(name) => name == host,
            Whom::Below(domain) => host.ends_with(domain.as_str()),
            Whom::Block(block) => block.holds(address.ip()),
        };
        is_whom && self.port.is_none_or(|port| port == address.port())
    }
}

/// A host's name as names are compared.
pub(super) fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// See the module.
#[derive(Debug)]
pub(super) struct Policy {
    public: bool,
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

impl Policy {
    /// What `config` says.
    pub(super) fn new(config: &Config) -> Self {
        let mut allow = config.allow.clone();
        let api = config.api_hosts.iter().filter(|_| config.api);
        allow.extend(api.filter_map(|host| host.parse().ok()));
        Self {
            public: config.public,
            allow,
            deny: config.deny.clone(),
        }
    }

    /// Whether `address`, which `host` ([`normal`]) was resolved to, may be connected to.
    ///
    /// # Errors
    /// With what forbids it.
    pub(super) fn judge(&self, host: &str, address: SocketAddr) -> Result<(), Error> {
        let denied = |why: &str| {
            Err(Error::Denied(format!(
                "{host} is at {}, {why}",
                address.ip().to_canonical()
            )))
        };
        if self.deny.iter().any(|rule| rule.names(host, address)) {
            return denied("which this server denies");
        }
        if self.allow.iter().any(|rule| rule.names(host, address)) {
            return Ok(());
        }
        if !is_public(address.ip()) {
            return denied(
                "which is no address of the public internet; the operator may allow it in the [egress] section",
            );
        }
        if !self.public {
            return denied("which is not among what this server allows");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], deny: &[&str]) -> Policy {
        let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Policy::new(&Config {
            allow: rules(allow),
            deny: rules(deny),
            ..Config::default()
        })
    }

    fn permits(policy: &Policy, host: &str, address: &str) -> bool {
        policy.judge(host, address.parse().unwrap()).is_ok()
    }

    #[test]
    fn by_default_the_internet_is_permitted_and_nothing_else() {
        let policy = policy(&[], &[]);
        assert!(permits(&policy, "example.com", "1.1.1.1:80"));
        assert!(!permits(&policy, "example.com", "127.0.0.1:80"));
        assert!(!permits(&policy, "example.com", "[::ffff:10.0.0.1]:80"));
    }

    #[test]
    fn allow_names_hosts_domains_addresses_blocks_and_ports() {
        let policy = policy(
            &[
                "db.internal:8080",
                "*.svc",
                "10.1.0.0/16",
                "192.168.0.7:81",
                "[::1]:90",
            ],
            &[],
        );
        assert!(permits(&policy, "db.internal", "127.0.0.1:8080"));
        assert!(!permits(&policy, "db.internal", "127.0.0.1:8081"));
        assert!(permits(&policy, "a.svc", "127.0.0.1:1"));
        assert!(!permits(&policy, "svc", "127.0.0.1:1"));
        assert!(!permits(&policy, "evilsvc", "127.0.0.1:1"));
        assert!(permits(&policy, "x", "10.1.9.9:5"));
        assert!(!permits(&policy, "x", "10.2.9.9:5"));
        assert!(permits(&policy, "x", "192.168.0.7:81"));
        assert!(!permits(&policy, "x", "192.168.0.7:80"));
        assert!(permits(&policy, "x", "[::1]:90"));
    }

    #[test]
    fn deny_beats_allow() {
        let policy = policy(
            &["10.0.0.0/8"],
            &["10.0.0.5", "*.bad.example", "1.1.1.1:25"],
        );
        assert!(!permits(&policy, "x", "10.0.0.5:80"));
        assert!(permits(&policy, "x", "10.0.0.6:80"));
        assert!(!permits(&policy, "a.bad.example", "8.8.8.8:80"));
        assert!(!permits(&policy, "x", "1.1.1.1:25"));
        assert!(permits(&policy, "x", "1.1.1.1:26"));
    }

    #[test]
    fn without_the_public_internet_only_what_is_listed_is_permitted() {
        let config = Config {
            public: false,
            allow: vec!["example.com".parse().unwrap()],
            api_hosts: vec!["127.0.0.1:3233".to_owned()],
            ..Config::default()
        };
        let policy = Policy::new(&config);
        assert!(permits(&policy, "example.com", "1.1.1.1:80"));
        assert!(!permits(&policy, "example.org", "1.1.1.1:80"));
        assert!(permits(&policy, "127.0.0.1", "127.0.0.1:3233"));
    }

    #[test]
    fn what_is_no_rule_is_told_so() {
        for text in ["", "a b", "10.0.0.0/33", "host:port", "*.", "http://x/"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }
}
