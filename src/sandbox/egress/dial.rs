//! From a name to a connection: resolved once, every address judged, only what passed is dialled.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;

use http::Uri;
use http::uri::Scheme;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::policy::{Policy, normal};
use super::{Config, Error};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// A connection, secure or not.
pub(in crate::sandbox) trait Stream:
    AsyncRead + AsyncWrite + Send + Unpin
{
}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// As names are compared; addresses without their brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) secure: bool,
}

impl Target {
    /// Where `uri` points to.
    pub(super) fn of(uri: &Uri) -> Result<Self, Error> {
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(Error::Uri(format!("{uri} is neither http:// nor https://"))),
        };
        let authority = uri.authority().filter(|it| !it.host().is_empty());
        let authority = authority.ok_or_else(|| Error::Uri(format!("{uri} names no host")))?;
        if authority.as_str().contains('@') {
            let text = "a name and password before the host are not supported; send an Authorization header";
            return Err(Error::Uri(text.to_owned()));
        }
        let explicit = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if explicit => return Err(Error::Uri(format!("{uri} has no usable port"))),
            None if secure => 443,
            None => 80,
        };
        Ok(Self {
            host: normal(authority.host().trim_matches(['[', ']'])),
            port,
            secure,
        })
    }
}

/// See the module.
pub(super) struct Dialer {
    policy: Policy,
    tls: TlsConnector,
    lookups: Arc<Semaphore>,
}

impl Dialer {
    /// A dialer that does as `config` says.
    ///
    /// # Errors
    /// When certificates it names cannot be read.
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        if let Some(path) = &config.ca_file {
            add_roots(&mut roots, path).map_err(|error| {
                format!("egress.ca_file: {} cannot be used: {error}", path.display())
            })?;
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            policy: Policy::new(config),
            tls: TlsConnector::from(Arc::new(tls)),
            lookups: Arc::new(Semaphore::new(config.lookups_max.max(1))),
        })
    }

    /// A connection to `target`.
    pub(super) async fn connect(&self, target: &Target) -> Result<Box<dyn Stream>, Error> {
        let stream = self.dial(target).await?;
        // Only a socket that is gone already refuses.
        drop(stream.set_nodelay(true));
        if !target.secure {
            return Ok(Box::new(stream));
        }
        let refused = |cause: std::io::Error| Error::Tls {
            host: target.host.clone(),
            cause,
        };
        let name = ServerName::try_from(target.host.clone())
            .map_err(|error| refused(std::io::Error::other(error)))?;
        let stream = self.tls.connect(name, stream).await.map_err(refused)?;
        Ok(Box::new(stream))
    }

    async fn dial(&self, target: &Target) -> Result<TcpStream, Error> {
        let addresses = self.resolve(target).await?;
        let mut denied = None;
        let mut failed = None;
        let mut tried = 0;
        for address in addresses {
            if let Err(error) = self.policy.judge(&target.host, address) {
                denied = Some(error);
                continue;
            }
            if tried == ADDRESSES_MAX {
                break;
            }
            tried += 1;
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = Some(error),
            }
        }
        let host = target.host.clone();
        Err(match (failed, denied) {
            (Some(cause), _) => Error::Connect { host, cause },
            (None, Some(denied)) => denied,
            (None, None) => Error::Lookup {
                host,
                cause: "it has no address".to_owned(),
            },
        })
    }

    async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(address) = target.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, target.port)]);
        }
        let unknown = |cause: String| Error::Lookup {
            host: target.host.clone(),
            cause,
        };
        // The permit goes with the thread: a lookup that nobody waits for any more still takes one.
        let permit = Arc::clone(&self.lookups).acquire_owned().await;
        let permit = permit.map_err(|error| unknown(error.to_string()))?;
        let name = (target.host.clone(), target.port);
        let lookup = tokio::task::spawn_blocking(move || {
            let found = name.to_socket_addrs().map(Iterator::collect);
            drop(permit);
            found
        });
        match lookup.await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(unknown(error.to_string())),
            Err(error) => Err(unknown(error.to_string())),
        }
    }
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> Result<Target, String> {
        Target::of(&uri.parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_of_the_web_names_host_port_and_whether_it_is_secure() {
        let is = |host: &str, port, secure| Target {
            host: host.to_owned(),
            port,
            secure,
        };
        assert_eq!(
            target("http://Example.COM./a"),
            Ok(is("example.com", 80, false))
        );
        assert_eq!(target("https://x:8443/"), Ok(is("x", 8443, true)));
        assert_eq!(target("https://[::1]/"), Ok(is("::1", 443, true)));
        for refused in ["ftp://x/", "/path", "http://user:pw@x/", "http://x:99999/"] {
            assert!(target(refused).is_err(), "{refused}");
        }
    }
}
