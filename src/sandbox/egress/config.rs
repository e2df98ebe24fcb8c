//! Every knob of outbound HTTP.

use std::path::PathBuf;

use serde::Deserialize;

use super::policy::Rule;

/// Where guests may go, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Whether guests make requests at all.
    pub(crate) enabled: bool,
    /// Whether addresses of the public internet are permitted without being listed.
    pub(crate) public: bool,
    /// Whether guests may call this server's own API, wherever it listens.
    pub(crate) api: bool,
    /// What else is permitted: hosts, `*.domain`, addresses, blocks of them (CIDR), each but the last with `:port`.
    pub(super) allow: Vec<Rule>,
    /// What is refused, whatever permits it; written alike.
    pub(super) deny: Vec<Rule>,
    /// PEM file with certificates of authorities to believe beside the web's.
    pub(crate) ca_file: Option<PathBuf>,

    /// Longest time to resolve, connect and agree on keys, milliseconds.
    pub(crate) connect_timeout_ms: u64,
    /// Longest wait for the head of an answer, milliseconds.
    pub(crate) answer_timeout_ms: u64,
    /// Longest wait between two parts of a body, milliseconds.
    pub(crate) idle_timeout_ms: u64,
    /// Bytes of a request's body.
    pub(crate) request_bytes_max: u64,
    /// Bytes of an answer's body.
    pub(crate) response_bytes_max: u64,
    /// Connections one instance has open at a time.
    pub(crate) instance_connections_max: usize,
    /// Requests that the guests of one namespace have open at a time.
    pub(crate) requests_max_each: usize,
    /// Bytes of bodies, sent and received, that the guests of one namespace move in a minute; 0: any number.
    pub(crate) bytes_per_minute_each: u64,
    /// Connections all guests of this server have open at a time; each is a file descriptor.
    pub(crate) connections_max: usize,
    /// Names looked up at one time; each takes a thread of the system's resolver.
    pub(crate) lookups_max: usize,

    /// Hosts, with ports, of the API. Known once the server listens, so it is no knob of this section.
    #[serde(skip)]
    pub(crate) api_hosts: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            public: true,
            api: true,
            allow: Vec::new(),
            deny: Vec::new(),
            ca_file: None,
            connect_timeout_ms: 10_000,
            answer_timeout_ms: 300_000,
            idle_timeout_ms: 60_000,
            request_bytes_max: 1 << 30,
            response_bytes_max: 1 << 30,
            instance_connections_max: 32,
            requests_max_each: 1024,
            bytes_per_minute_each: 8 << 30,
            connections_max: 4096,
            lookups_max: 64,
            api_hosts: Vec::new(),
        }
    }
}
