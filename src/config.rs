//! The configuration: one TOML file, the environment over it, flags over both.
//!
//! The only module that reads the environment, for the server and for the client. `config.default.toml` documents every
//! knob and is what the defaults are checked against.
//!
//! A new section is one field of [`Config`], one line in [`Config::validate`] (when something can be impossible that no
//! single key shows) and its lines in `config.default.toml`. Its type belongs to the component it configures and is
//! `Debug + Clone + Default + Deserialize` with `serde(default, deny_unknown_fields)`; its `validate` names the key and
//! the reason.
//!
//! Invariant: whatever is refused is refused with where it came from (file and line, variable, or flag) and why.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::DeTable;
use toml::{Table, Value};

use crate::model::limits::{EffectiveLimits, Range};
use crate::store::{embedded, seal};
use crate::{
    api, auth, cluster, invoke, link, pool, queue, sandbox, store, system, telemetry, worker,
};

/// The embedded documentation of every knob.
pub const DEFAULTS: &str = include_str!("config.default.toml");

/// Variables that belong to the client, though they begin like the server's.
const CLIENT_VARIABLES: [&str; 6] = [
    "WISP_APIHOST",
    "WISP_AUTH",
    "WISP_CARGO",
    "WISP_CC",
    "WISP_SYSTEM_KEY",
    "WISP_ZIG",
];

/// Everything `wisp serve` can be told.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens and what it keeps.
    pub server: Server,
    /// What it says while it runs.
    pub log: telemetry::Config,
    /// The two keys that exist from the start.
    pub(crate) auth: auth::Config,
    /// What a namespace may use that sets no limits of its own.
    pub(crate) limits: EffectiveLimits,
    /// Connections and bodies.
    pub(crate) api: api::Config,
    /// What goes on behind answers: fires, retries, dead letters.
    pub(crate) invoke: invoke::Config,
    /// What waits.
    pub(crate) queue: queue::Config,
    /// What runs at one time.
    pub(crate) worker: worker::Config,
    /// Warm instances and memory.
    pub(crate) pool: pool::Config,
    /// Guests: compiling, slots, stacks.
    pub(crate) sandbox: sandbox::Config,
    /// Where guests may go.
    pub(crate) egress: sandbox::egress::Config,
    /// Activation records and their retention.
    pub(crate) store: embedded::Config,
    /// What is stored in no clear text.
    pub(crate) encryption: seal::Config,
    /// What guests keep.
    pub(crate) keyvalue: store::keyvalue::Config,
    /// What every namespace finds in `/whisk.system`.
    pub(crate) system: system::Config,
    /// Where the nodes of a cluster meet.
    pub(crate) redis: link::Config,
    /// What this node is among them.
    pub(crate) cluster: cluster::Config,
}

/// The `[server]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address and port of the API.
    pub listen: SocketAddr,
    /// Folder of everything that is kept.
    pub data: PathBuf,
    /// Folder of compiled programs, which can be made again; `data` when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artefacts: Option<PathBuf>,
    /// The `wisp` program that compiles uploads, in processes of its own; this one when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compiler: Option<PathBuf>,
    /// Base URL of the API as actions are told it; `http://` and the address when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_host: Option<String>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 3233)),
            data: PathBuf::from("./wisp-data"),
            artefacts: None,
            compiler: None,
            api_host: None,
        }
    }
}

impl Server {
    fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.data.as_os_str().is_empty() {
            return Err(("data", "a folder is needed, it cannot be empty".to_owned()));
        }
        Ok(())
    }
}

/// Why a configuration is refused: where it says so, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {reason}")]
pub struct Error {
    /// `file:line`, a variable, or a flag.
    pub origin: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Variable(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One setting from outside the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    section: String,
    key: String,
    value: Value,
    origin: Origin,
}

impl Setting {
    /// What a flag sets.
    #[must_use]
    pub fn flag(name: &'static str, section: &str, key: &str, value: impl Into<Value>) -> Self {
        Self {
            section: section.to_owned(),
            key: key.to_owned(),
            value: value.into(),
            origin: Origin::Flag(name),
        }
    }

    /// What a variable sets: a TOML value, or, where that cannot be, the bare text.
    fn variable(name: &str, section: String, key: String, text: &str) -> Result<Self, Error> {
        let as_toml = format!("value = {text}").parse::<Table>().ok();
        let as_toml = as_toml.and_then(|mut table| table.remove("value"));
        let as_text = Value::String(text.to_owned());
        let mut setting = Self {
            section,
            key,
            value: as_toml.unwrap_or_else(|| as_text.clone()),
            origin: Origin::Variable(name.to_owned()),
        };
        let Err(error) = setting.check() else {
            return Ok(setting);
        };
        setting.value = as_text;
        setting.check().map_err(|_| error)?;
        Ok(setting)
    }

    /// Whether it is a setting at all, whatever else is set.
    fn check(&self) -> Result<(), Error> {
        let mut table = Table::new();
        self.lay_over(&mut table);
        let checked: Result<Config, _> = table.try_into();
        checked.map(drop).map_err(|error| Error {
            origin: self.origin.to_string(),
            reason: error.message().to_owned(),
        })
    }

    fn lay_over(&self, table: &mut Table) {
        let section = table
            .entry(self.section.clone())
            .or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(section) = section {
            section.insert(self.key.clone(), self.value.clone());
        }
    }
}

impl Config {
    /// The file, if any, with the environment over it and `flags` over both.
    ///
    /// # Errors
    /// At the first thing that is refused, see [`Error`].
    pub fn load(
        file: Option<&Path>,
        environment: &Environment,
        flags: Vec<Setting>,
    ) -> Result<Self, Error> {
        Self::merge(file, environment, flags).map(|(config, _)| config)
    }

    /// What [`Config::load`] would give, as a file that says all of it. Keys without a default stand only if they are set.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn show(
        file: Option<&Path>,
        environment: &Environment,
        flags: Vec<Setting>,
    ) -> Result<String, Error> {
        let (_, said) = Self::merge(file, environment, flags)?;
        let mut all = DEFAULTS.parse::<Table>().unwrap_or_default();
        lay_over(&mut all, said);
        Ok(all.to_string())
    }

    /// Everything that was said, and what follows from it.
    fn merge(
        file: Option<&Path>,
        environment: &Environment,
        flags: Vec<Setting>,
    ) -> Result<(Self, Table), Error> {
        let (name, text) = match file {
            Some(path) => (path.display().to_string(), read(path)?),
            None => ("defaults".to_owned(), String::new()),
        };
        let in_file = |error: toml::de::Error| Error {
            origin: match error.span() {
                Some(span) => format!("{name}:{}", line_at(&text, span.start)),
                None => name.clone(),
            },
            reason: error.message().to_owned(),
        };
        // Read once as what it must be, for errors that know their line, and once as a table, to lay the others over it.
        toml::from_str::<Self>(&text).map_err(in_file)?;
        let mut table: Table = text.parse().map_err(in_file)?;
        let mut settings = environment.settings()?;
        settings.extend(flags);
        for setting in &settings {
            setting.check()?;
            setting.lay_over(&mut table);
        }
        let config: Self = table.clone().try_into().map_err(in_file)?;
        config.validate().map_err(|(section, key, reason)| Error {
            origin: origin(section, key, &settings, &name, &text),
            reason: format!("{section}.{key}: {reason}"),
        })?;
        Ok((config, table))
    }

    /// What no single key can tell: section, key to blame, reason.
    fn validate(&self) -> Result<(), (&'static str, &'static str, String)> {
        let of = |section| move |(key, reason)| (section, key, reason);
        self.server.validate().map_err(of("server"))?;
        self.log.validate().map_err(of("log"))?;
        self.auth.validate().map_err(of("auth"))?;
        self.encryption.validate().map_err(of("encryption"))?;
        self.cluster.validate().map_err(of("cluster"))?;
        if self.redis.url.is_none() && self.cluster.role != cluster::Role::All {
            let reason = "a node that does not do everything needs others, and a Redis to meet them \
                          (--redis URL, or [redis] url)";
            return Err(("cluster", "role", reason.to_owned()));
        }
        self.limits
            .possible()
            .map_err(|(key, Range { min, max })| {
                (
                    "limits",
                    key,
                    format!("min ({min}) must not exceed max ({max})"),
                )
            })?;
        Ok(())
    }
}

/// Puts every value of `over` into `table`, tables within tables.
fn lay_over(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => lay_over(inner, over),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error {
        origin: path.display().to_string(),
        reason: format!("cannot be read: {error}"),
    })
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    before.filter(|byte| *byte == b'\n').count() + 1
}

/// Who set `section.key`: the last that did.
fn origin(section: &str, key: &str, settings: &[Setting], file: &str, text: &str) -> String {
    let setting = settings.iter().rev();
    let mut setting = setting.filter(|s| s.section == section && s.key == key);
    if let Some(setting) = setting.next() {
        return setting.origin.to_string();
    }
    match line_of(section, key, text) {
        Some(line) => format!("{file}:{line}"),
        None => file.to_owned(),
    }
}

/// The line of the file on which `section.key` stands, or else that of its section.
fn line_of(section: &str, key: &str, text: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let named = |(name, _): &(&toml::Spanned<_>, _), wanted: &str| name_is(name, wanted);
    let (head, body) = table.get_ref().iter().find(|entry| named(entry, section))?;
    let inside = body.get_ref().as_table();
    let inside = inside.and_then(|table| table.iter().find(|entry| named(entry, key)));
    let span = inside.map_or_else(|| head.span(), |(name, _)| name.span());
    Some(line_at(text, span.start))
}

fn name_is(name: &toml::Spanned<toml::de::DeString<'_>>, wanted: &str) -> bool {
    name.get_ref() == wanted
}

/// The file this program was started from.
pub(crate) fn own_program() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}

/// What was read of the environment, once.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl Environment {
    /// Of this process. Those that are not UTF-8 are left out.
    #[must_use]
    pub fn read() -> Self {
        let all = std::env::vars_os();
        let all = all.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self {
            variables: all.collect(),
        }
    }

    /// For tests.
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            variables: BTreeMap::from(variables),
        }
    }

    /// Any variable, for files of the client that name it.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    fn get(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// The client's API host, when `WISP_APIHOST` is set.
    #[must_use]
    pub fn api_host(&self) -> Option<&str> {
        self.get("WISP_APIHOST")
    }

    /// The client's `uuid:key`, when `WISP_AUTH` is set.
    #[must_use]
    pub fn auth(&self) -> Option<&str> {
        self.get("WISP_AUTH")
    }

    /// The admin client's `uuid:key`, when `WISP_SYSTEM_KEY` is set.
    #[must_use]
    pub fn system_key(&self) -> Option<&str> {
        self.get("WISP_SYSTEM_KEY")
    }

    /// Where `wsk` keeps its properties: `WSK_CONFIG_FILE`, else `~/.wskprops`.
    #[must_use]
    pub fn properties_file(&self) -> Option<PathBuf> {
        let named = self.get("WSK_CONFIG_FILE").map(PathBuf::from);
        named.or_else(|| Some(Path::new(self.get("HOME")?).join(".wskprops")))
    }

    /// Where this program may keep what can be made again: `XDG_CACHE_HOME`, else `~/.cache`, and in it `wisp`.
    #[must_use]
    pub fn cache_folder(&self) -> Option<PathBuf> {
        let named = self.get("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = named.or_else(|| Some(Path::new(self.get("HOME")?).join(".cache")));
        Some(cache?.join("wisp"))
    }

    /// Another command in the place of one that `wisp build` would start: its words, from `WISP_CARGO` and the like.
    #[must_use]
    pub fn tool(&self, variable: &str, usual: &[&str]) -> Vec<String> {
        match self.get(variable) {
            Some(words) => words.split_whitespace().map(str::to_owned).collect(),
            None => usual.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    /// Whether colours are welcome on a terminal.
    #[must_use]
    pub fn colour(&self) -> bool {
        self.get("NO_COLOR").is_none() && self.get("TERM") != Some("dumb")
    }

    /// How this program can be called again from the shell it was started in: its name when that is found, else a path.
    #[must_use]
    pub fn own_command(&self) -> String {
        let Ok(program) = std::env::current_exe() else {
            return "wisp".to_owned();
        };
        let folders = self.get("PATH").map(std::env::split_paths);
        let mut folders = folders.into_iter().flatten();
        if program
            .parent()
            .is_some_and(|own| folders.any(|f| f == own))
        {
            return "wisp".to_owned();
        }
        let here = std::env::current_dir().unwrap_or_default();
        match program.strip_prefix(here) {
            Ok(relative) => format!("./{}", relative.display()),
            Err(_) => program.display().to_string(),
        }
    }

    /// Variables that look like settings and belong to no section: probably misspelt.
    #[must_use]
    pub fn strangers(&self) -> Vec<String> {
        let sections = sections();
        let names = self.variables.keys().filter(|name| {
            let section = split(name).map(|(section, _)| section);
            name.starts_with("WISP_")
                && !CLIENT_VARIABLES.contains(&name.as_str())
                && section.is_none_or(|section| !sections.contains(&section))
        });
        names.cloned().collect()
    }

    fn settings(&self) -> Result<Vec<Setting>, Error> {
        let sections = sections();
        let mut settings = Vec::new();
        for (name, text) in &self.variables {
            if CLIENT_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            if let Some((section, key)) = split(name)
                && sections.contains(&section)
            {
                settings.push(Setting::variable(name, section, key, text)?);
            }
        }
        Ok(settings)
    }
}

/// `WISP_SERVER_LISTEN` → `server`, `listen`.
fn split(name: &str) -> Option<(String, String)> {
    let (section, key) = name.strip_prefix("WISP_")?.split_once('_')?;
    Some((section.to_lowercase(), key.to_lowercase()))
}

/// The sections there are.
fn sections() -> BTreeSet<String> {
    let defaults = DEFAULTS.parse::<Table>().unwrap_or_default();
    defaults.into_iter().map(|(name, _)| name).collect()
}

/// What this process was called with, its own name first.
#[must_use]
pub fn arguments() -> Vec<OsString> {
    std::env::args_os().collect()
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
