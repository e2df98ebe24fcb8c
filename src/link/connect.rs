//! From a URL to connections.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ProtocolVersion, PushInfo, TlsCertificates,
};

use super::config::Config;
use super::error::{Error, Result};

/// Longest time to connect to one address.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// What is at the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Single,
    Cluster,
    /// Sentinels, which know the master of a service.
    Sentinel {
        service: String,
    },
}

/// Where Redis is, and how to get in.
#[derive(Clone)]
pub(super) struct Target {
    form: Form,
    hosts: Vec<String>,
    /// `redis://` or `rediss://`, what stands before the host (`user:password@` or nothing), and what behind it.
    scheme: &'static str,
    login: String,
    database: String,
    certificates: Option<Vec<u8>>,
    timeout: Duration,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.hosts.join(","))
    }
}

fn wrong(url: &str, why: &str) -> Error {
    // Without what may be a password.
    let shown = url
        .rsplit_once('@')
        .map_or_else(|| url.to_owned(), |(_, rest)| format!("…{rest}"));
    Error::Config(format!("the Redis URL {shown} cannot be used: {why}"))
}

/// What is at the addresses, and the number of the database there.
fn what<'a>(url: &str, form: &str, path: &'a str, hosts: usize) -> Result<(Form, &'a str)> {
    match form {
        "" if hosts > 1 => Err(wrong(
            url,
            "several hosts are a redis+cluster:// or redis+sentinel:// URL",
        )),
        "" => Ok((Form::Single, path)),
        "cluster" if path.is_empty() => Ok((Form::Cluster, "")),
        "cluster" => Err(wrong(url, "a Redis Cluster has no numbered databases")),
        "sentinel" => {
            let (service, database) = path.split_once('/').unwrap_or((path, ""));
            if service.is_empty() {
                return Err(wrong(
                    url,
                    "it does not name the service, as in redis+sentinel://host:26379/mymaster",
                ));
            }
            let service = service.to_owned();
            Ok((Form::Sentinel { service }, database))
        }
        _ => Err(wrong(
            url,
            "what follows redis+ is neither cluster nor sentinel",
        )),
    }
}

impl Target {
    /// Takes the URL apart.
    pub(super) fn parse(config: &Config) -> Result<Self> {
        let url = config.url.as_deref().unwrap_or_default();
        if let Some(path) = url
            .strip_prefix("unix://")
            .or_else(|| url.strip_prefix("redis+unix://"))
        {
            return Ok(Self {
                form: Form::Single,
                hosts: vec![path.to_owned()],
                scheme: "unix://",
                login: String::new(),
                database: String::new(),
                certificates: None,
                timeout: Duration::from_millis(config.timeout_ms),
            });
        }
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| wrong(url, "it has no scheme, as in redis://host:6379"))?;
        let (base, form) = scheme.split_once(['+', '-']).unwrap_or((scheme, ""));
        let scheme = match base {
            "redis" | "valkey" => "redis://",
            "rediss" | "valkeys" => "rediss://",
            _ => {
                return Err(wrong(
                    url,
                    "its scheme is not redis, rediss, or one of them with +cluster or +sentinel",
                ));
            }
        };
        let (login, rest) = rest
            .rsplit_once('@')
            .map_or((String::new(), rest), |(login, rest)| {
                (format!("{login}@"), rest)
            });
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        if hosts.iter().any(String::is_empty) {
            return Err(wrong(url, "a host is missing"));
        }
        let (form, database) = what(url, form, path, hosts.len())?;
        let certificates = match &config.ca_file {
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                Error::Config(format!(
                    "ca_file {} cannot be read: {error}",
                    path.display()
                ))
            })?),
            None => None,
        };
        if scheme == "rediss://" {
            // Another part of the process may have chosen one before; either will do.
            drop(tokio_rustls::rustls::crypto::ring::default_provider().install_default());
        }
        Ok(Self {
            form,
            hosts,
            scheme,
            login,
            database: database.to_owned(),
            certificates,
            timeout: Duration::from_millis(config.timeout_ms),
        })
    }

    /// Whether one server was named, and no other is looked for.
    pub(super) fn is_single(&self) -> bool {
        self.form == Form::Single
    }

    pub(super) fn is_tls(&self) -> bool {
        self.scheme == "rediss://"
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.form == Form::Cluster
    }

    fn info(&self, host: &str) -> Result<ConnectionInfo> {
        let url = format!("{}{}{host}/{}", self.scheme, self.login, self.database);
        let url = if self.scheme == "unix://" {
            format!("unix://{host}")
        } else {
            url
        };
        let info =
            ConnectionInfo::from_str(&url).map_err(|error| wrong(&url, &error.to_string()))?;
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3);
        Ok(info.set_redis_settings(settings))
    }

    fn client(&self, host: &str) -> Result<Client> {
        let info = self.info(host)?;
        let client = match &self.certificates {
            Some(pem) => Client::build_with_tls(info, self.certificates(pem)),
            None => Client::open(info),
        };
        client.map_err(Error::of)
    }

    #[expect(
        clippy::unused_self,
        reason = "reads as what it is: how this target is reached"
    )]
    fn certificates(&self, pem: &[u8]) -> TlsCertificates {
        TlsCertificates {
            client_tls: None,
            root_cert: Some(pem.to_vec()),
        }
    }

    fn settings(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(self.timeout))
    }

    /// A connection to the one server that takes writes.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection> {
        let host = self.master().await?;
        self.connect_to(&host, None).await
    }

    /// A connection to `host`, whose pushes go to `pushes`.
    pub(super) async fn connect_to(
        &self,
        host: &str,
        pushes: Option<tokio::sync::mpsc::UnboundedSender<PushInfo>>,
    ) -> Result<MultiplexedConnection> {
        let mut settings = self.settings();
        if let Some(pushes) = pushes {
            settings = settings.set_push_sender(pushes);
        }
        let client = self.client(host)?;
        let connection = client.get_multiplexed_async_connection_with_config(&settings);
        connection.await.map_err(|error| match Error::of(error) {
            Error::Unavailable(why) => Error::Unavailable(format!("{host}: {why}")),
            error => error,
        })
    }

    /// Connections to all servers of a cluster, as commands need them.
    pub(super) async fn connect_cluster(&self) -> Result<ClusterConnection> {
        let infos = self.hosts.iter().map(|host| self.info(host));
        let infos = infos.collect::<Result<Vec<_>>>()?;
        let mut builder = ClusterClient::builder(infos)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(CONNECT_MAX)
            .response_timeout(self.timeout)
            .retries(8);
        if let Some(pem) = &self.certificates {
            builder = builder.certs(self.certificates(pem));
        }
        let client = builder.build().map_err(Error::of)?;
        client.get_async_connection().await.map_err(Error::of)
    }

    /// The host that takes writes.
    pub(super) async fn master(&self) -> Result<String> {
        let Form::Sentinel { service } = &self.form else {
            return self
                .hosts
                .first()
                .cloned()
                .ok_or_else(|| Error::Config("no host".to_owned()));
        };
        let mut failure = Error::Unavailable("no sentinel answers".to_owned());
        for sentinel in &self.hosts {
            match self.ask_sentinel(sentinel, service).await {
                Ok(host) => return Ok(host),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn ask_sentinel(&self, sentinel: &str, service: &str) -> Result<String> {
        // Sentinels have passwords of their own, seldom one at all; and no databases.
        let plain = Self {
            login: String::new(),
            database: String::new(),
            ..self.clone()
        };
        let mut connection = plain.connect_to(sentinel, None).await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("get-master-addr-by-name").arg(service);
        let found: Option<(String, u16)> =
            ask.query_async(&mut connection).await.map_err(Error::of)?;
        let (host, port) = found.ok_or_else(|| {
            Error::Config(format!(
                "the sentinel {sentinel} knows no service {service}"
            ))
        })?;
        let host = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        // Right after a fail-over a sentinel may still name the former one.
        let mut connection = self.connect_to(&host, None).await?;
        let role: Vec<redis::Value> = redis::cmd("ROLE")
            .query_async(&mut connection)
            .await
            .map_err(Error::of)?;
        match role.first() {
            Some(redis::Value::BulkString(role)) if role == b"master" => Ok(host),
            _ => Err(Error::Unavailable(format!(
                "{host} is not the master of {service} yet"
            ))),
        }
    }

    /// Every host whose keys can change.
    pub(super) async fn masters(&self) -> Result<Vec<String>> {
        if !self.is_cluster() {
            return Ok(vec![self.master().await?]);
        }
        let mut failure = Error::Unavailable("no server of the cluster answers".to_owned());
        for host in &self.hosts {
            let asked = async {
                let mut connection = self.connect_to(host, None).await?;
                let slots: Vec<Vec<redis::Value>> = redis::cmd("CLUSTER")
                    .arg("SLOTS")
                    .query_async(&mut connection)
                    .await
                    .map_err(Error::of)?;
                Ok(masters_of(&slots, host))
            };
            match asked.await {
                Ok(masters) => return Ok(masters),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// The master of each range of slots; a server that does not know its own address is at `asked`.
fn masters_of(slots: &[Vec<redis::Value>], asked: &str) -> Vec<String> {
    let mut masters: Vec<String> = Vec::new();
    for range in slots {
        let Some(redis::Value::Array(master)) = range.get(2) else {
            continue;
        };
        let (Some(redis::Value::BulkString(host)), Some(redis::Value::Int(port))) =
            (master.first(), master.get(1))
        else {
            continue;
        };
        let host = String::from_utf8_lossy(host);
        let host = if host.is_empty() {
            asked
                .rsplit_once(':')
                .map_or(asked, |(host, _)| host)
                .to_owned()
        } else {
            host.into_owned()
        };
        let address = format!("{host}:{port}");
        if !masters.contains(&address) {
            masters.push(address);
        }
    }
    masters
}
