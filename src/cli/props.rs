//! `~/.wskprops`: which server and which key, shared with `wsk`.
//!
//! Lines of `KEY=VALUE`. What is not ours to set (other keys, comments, order) stays as it was. The file holds a key, so
//! it is made readable for its owner alone, and replaced as a whole.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::failure::{Failure, Result};
use super::{Globals, Session};
use crate::config::Environment;

/// The key of namespace `guest` that every OpenWhisk for one's own machine begins with.
pub(crate) const GUEST_KEY: &str = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";

/// The key of namespace `whisk.system`, as well known.
const SYSTEM_KEY: &str = "789c46b1-71f6-4ed5-8c54-816aa4f8c502:abczO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";

/// Where a server is when nobody says otherwise.
const HOST: &str = "http://127.0.0.1:3233";

/// The file's lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Properties {
    lines: Vec<String>,
}

impl Properties {
    fn parse(text: &str) -> Self {
        Self {
            lines: text.lines().map(str::to_owned).collect(),
        }
    }

    /// From the file `wsk` would read; a missing one is empty.
    pub(super) fn read(environment: &Environment) -> Result<Self> {
        let Some(path) = environment.properties_file() else {
            return Ok(Self::default());
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::general(format!(
                "cannot read {}: {error}",
                path.display()
            ))),
        }
    }

    /// The last value given to `key`, without quotes around it.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let values = self
            .lines
            .iter()
            .rev()
            .filter_map(|line| value_of(line, key));
        let mut values = values.map(|value| value.trim().trim_matches('"'));
        values.next().filter(|value| !value.is_empty())
    }

    /// Sets `key` where it stands, or at the end.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        let line = format!("{key}={value}");
        let mut found = self
            .lines
            .iter_mut()
            .filter(|line| value_of(line, key).is_some());
        match found.next_back() {
            Some(found) => *found = line,
            None => self.lines.push(line),
        }
    }

    /// Removes `key`; whether it was there.
    pub(super) fn unset(&mut self, key: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| value_of(line, key).is_none());
        self.lines.len() < before
    }

    /// Writes the file that [`Properties::read`] reads; through a link, if it is one.
    pub(super) fn write(&self, environment: &Environment) -> Result<()> {
        let path = environment.properties_file().ok_or_else(|| {
            Failure::general("there is no home folder to keep properties in; set WSK_CONFIG_FILE")
        })?;
        let path = path.canonicalize().unwrap_or(path);
        replace(&path, &self.lines)
            .map_err(|error| Failure::general(format!("cannot write {}: {error}", path.display())))
    }
}

fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (name, value) = line.split_once('=')?;
    (name.trim() == key).then_some(value)
}

fn replace(path: &Path, lines: &[String]) -> std::io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    for line in lines {
        writeln!(file, "{line}")?;
    }
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

/// Which server, which key, and how it came to be these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// `scheme://host[:port]`, without a path.
    pub(super) base: String,
    /// `uuid:key`.
    pub(super) auth: String,
    /// Namespace for names that say none; `_` is the key's own.
    pub(super) namespace: String,
    pub(super) version: String,
    /// For a gateway in front of the APIs, when one is kept.
    pub(super) gateway_token: Option<String>,
    /// What was assumed because nothing was said, for `-v`.
    pub(super) assumed: Vec<String>,
}

impl Target {
    /// For the API: flags, then `WISP_APIHOST` and `WISP_AUTH`, then the properties, then this machine and the guest.
    pub(super) fn of(session: Session<'_>) -> Result<Self> {
        let properties = Properties::read(session.environment)?;
        let Session {
            globals,
            environment,
            ..
        } = session;
        let said = globals.auth.as_deref().or_else(|| environment.auth());
        let said = said.or_else(|| properties.get("AUTH")).map(str::to_owned);
        let advice = "Pass --auth, or keep a key with `wisp property set --auth UUID:KEY`.";
        Self::with(
            globals,
            environment,
            &properties,
            said,
            ("guest", GUEST_KEY, advice),
        )
    }

    /// For the admin API: as [`Target::of`], with `--auth`, `WISP_SYSTEM_KEY` or the well-known system key.
    pub(super) fn admin(session: Session<'_>) -> Result<Self> {
        let properties = Properties::read(session.environment)?;
        let Session {
            globals,
            environment,
            ..
        } = session;
        let said = globals.auth.as_deref().or_else(|| environment.system_key());
        let advice = "Pass the system key with --auth or in WISP_SYSTEM_KEY.";
        let said = said.map(str::to_owned);
        Self::with(
            globals,
            environment,
            &properties,
            said,
            ("system", SYSTEM_KEY, advice),
        )
    }

    fn with(
        globals: &Globals,
        environment: &Environment,
        properties: &Properties,
        auth: Option<String>,
        (whose, well_known, advice): (&str, &str, &str),
    ) -> Result<Self> {
        let mut assumed = Vec::new();
        let host = globals
            .apihost
            .as_deref()
            .or_else(|| environment.api_host());
        let host = host
            .or_else(|| properties.get("APIHOST"))
            .unwrap_or_else(|| {
                assumed.push(format!("no API host is set, using {HOST}"));
                HOST
            });
        let base = base(host)?;
        let auth = match auth {
            Some(auth) => auth,
            None if is_loopback(&base) => {
                assumed.push(format!("no key is set, using the well-known {whose} key"));
                well_known.to_owned()
            }
            None => {
                let message = format!(
                    "no key is set for {base}, and the well-known one stays on this machine"
                );
                return Err(Failure::usage(message).advise(advice));
            }
        };
        let version = globals
            .apiversion
            .as_deref()
            .or_else(|| properties.get("APIVERSION"));
        Ok(Self {
            base,
            auth,
            namespace: properties.get("NAMESPACE").unwrap_or("_").to_owned(),
            version: version.unwrap_or("v1").to_owned(),
            gateway_token: properties.get("APIGW_ACCESS_TOKEN").map(str::to_owned),
            assumed,
        })
    }
}

/// An API host as `wsk` takes it, to a base URL. Without a scheme it is https, but http on this machine.
fn base(host: &str) -> Result<String> {
    let host = host.trim();
    let bad = |why: &str| Failure::usage(format!("The API host is not valid: '{host}' {why}"));
    let (scheme, rest) = match host.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
        Some((scheme, _)) => return Err(bad(&format!("has scheme '{scheme}', not http or https"))),
        None => (None, host),
    };
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix("/api").unwrap_or(rest);
    if rest.is_empty() || rest.contains(['/', '?', '#', '@', ' ']) {
        return Err(bad("is not HOST or HOST:PORT"));
    }
    let plain = is_loopback(rest) && !rest.ends_with(":443");
    let scheme = scheme.unwrap_or(if plain { "http" } else { "https" });
    Ok(format!("{scheme}://{rest}"))
}

/// Whether a base URL, or `host:port`, is on this machine.
pub(super) fn is_loopback(base: &str) -> bool {
    let host = base.split_once("://").map_or(base, |(_, rest)| rest);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let address = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_keeps_what_is_not_ours() {
        let mut properties = Properties::parse("# mine\nAPIHOST=a\nX = y=z\nAPIHOST=\"b\"\n");
        assert_eq!(properties.get("APIHOST"), Some("b"));
        assert_eq!(properties.get("X"), Some("y=z"));
        properties.set("APIHOST", "c");
        properties.set("AUTH", "u:k");
        assert_eq!(
            properties.lines,
            ["# mine", "APIHOST=a", "X = y=z", "APIHOST=c", "AUTH=u:k"]
        );
        assert!(properties.unset("APIHOST"));
        assert_eq!(properties.get("APIHOST"), None);
        assert!(!properties.unset("APIHOST"));
    }

    #[test]
    fn hosts_without_a_scheme_are_https_except_on_this_machine() {
        let table = [
            ("localhost:3233", "http://localhost:3233"),
            ("[::1]:3233", "http://[::1]:3233"),
            ("127.0.0.1:443", "https://127.0.0.1:443"),
            ("functions.example.com/", "https://functions.example.com"),
            ("http://10.0.0.1:80", "http://10.0.0.1:80"),
            ("https://a.example/api", "https://a.example"),
        ];
        for (host, url) in table {
            assert_eq!(base(host).as_deref(), Ok(url), "{host}");
        }
        for bad in ["", "ftp://x", "http://", "a/b", "u@h"] {
            assert_eq!(base(bad).unwrap_err().exit, 2, "{bad:?}");
        }
    }

    #[test]
    fn the_well_known_key_never_leaves_this_machine() {
        for (host, near) in [
            ("http://127.0.0.1:1", true),
            ("https://LOCALHOST", true),
            ("http://127.0.0.1.example.com", false),
        ] {
            assert_eq!(is_loopback(host), near, "{host}");
        }
    }

    #[test]
    fn the_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("props");
        let environment = Environment::of([("WSK_CONFIG_FILE", path.to_str().unwrap())]);
        let mut properties = Properties::read(&environment).unwrap();
        properties.set("AUTH", "u:k");
        properties.write(&environment).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(Properties::read(&environment).unwrap(), properties);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
