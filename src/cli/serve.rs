//! `wisp serve`: runs a server in this process, says what it is, and takes it down in order.
//!
//! The first SIGTERM or ctrl-c drains: nothing new is accepted, what runs is finished, and the exit code is 0. The second
//! ends at once; what was accepted is on disk and runs at the next start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clap::Args;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::client::Client;
use super::examples;
use super::failure::{Failure, Result};
use super::folder::Folder;
use super::props::Target;
use super::{Globals, Session};
use crate::app::App;
use crate::config::{self, Config, Setting};
use crate::telemetry;

/// The exit code of a server that was told twice to stop.
const STOPPED_TWICE: u8 = 130;

/// Columns for the names of examples.
const NAME_WIDTH: usize = 20;

/// Examples that are deployed at one time.
const HANDS: usize = 2;

/// How many examples are shown in lines to paste.
const SHOWN: usize = 2;

/// `wisp serve …`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wisp serve --examples                        try it: 127.0.0.1:3233, data in ./wisp-data
  wisp serve --listen 127.0.0.1:0 --data /tmp/w   any free port, throwaway data
  wisp serve --config /etc/wisp.toml --log-format json
  wisp serve --redis redis://10.0.0.1:6379     one node of a cluster
  wisp serve --print-config > wisp.toml        every knob with what it is now

Environment variables go over the file, as WISP_SERVER_LISTEN; flags go over both.")]
pub(super) struct Serve {
    /// Address and port to listen on [default: 127.0.0.1:3233]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Folder for everything that is kept [default: ./wisp-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Join the cluster that meets at this Redis, as `redis://host:6379`
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// What this node of a cluster does [default: all]
    #[arg(long, value_name = "ROLE", value_parser = ["all", "front", "worker"])]
    role: Option<String>,
    /// Deploy every example, and say how to invoke them
    #[arg(long)]
    examples: bool,
    /// How log lines look [default: human]
    #[arg(long, value_name = "FORMAT", value_parser = ["human", "json"])]
    log_format: Option<String>,
    /// Print the configuration that would be used, and end
    #[arg(long)]
    print_config: bool,
}

impl Serve {
    pub(super) fn run(&self, session: Session<'_>) -> Result<u8> {
        let Globals {
            auth,
            apihost,
            apiversion,
            insecure,
            ..
        } = session.globals;
        if *insecure
            || [auth, apihost, apiversion]
                .iter()
                .any(|said| said.is_some())
        {
            let failure = Failure::usage(
                "serve connects to no server: --auth, --apihost, --apiversion and --insecure are for its clients",
            );
            return Err(failure.advise("Say where it listens with --listen."));
        }
        let (file, environment) = (self.config.as_deref(), session.environment);
        if self.print_config {
            let shown =
                Config::show(file, environment, self.settings()).map_err(|e| refused(&e))?;
            session.output.raw(shown.as_bytes());
            return Ok(0);
        }
        let config = Config::load(file, environment, self.settings()).map_err(|e| refused(&e))?;
        telemetry::init(&config.log, session.environment.colour()).map_err(Failure::usage)?;
        for stranger in session.environment.strangers() {
            tracing::warn!(
                variable = stranger,
                "a variable looks like a setting, but no section is called so"
            );
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        let runtime =
            runtime.map_err(|error| Failure::general(format!("cannot start threads: {error}")))?;
        let ended = runtime.block_on(self.serve(session, config));
        // What still runs after a second signal is left behind.
        runtime.shutdown_background();
        ended
    }

    fn settings(&self) -> Vec<Setting> {
        let flags = [
            ("--listen", "server", "listen", &self.listen),
            ("--data", "server", "data", &self.data),
            ("--log-format", "log", "format", &self.log_format),
            ("--redis", "redis", "url", &self.redis),
            ("--role", "cluster", "role", &self.role),
        ];
        let given = flags.into_iter().filter_map(|(flag, section, key, value)| {
            Some(Setting::flag(flag, section, key, value.clone()?))
        });
        given.collect()
    }

    async fn serve(&self, session: Session<'_>, config: Config) -> Result<u8> {
        let mut signals = Signals::new()?;
        let mut app = tokio::select! {
            started = App::start(config) => started.map_err(|error| explained(&error))?,
            name = signals.next() => {
                session.output.note(&format!("{name}: stopped before it was ready"));
                return Ok(0);
            }
        };
        let place = Place::of(&app);
        place.banner(session, &app);
        let later = match self.examples {
            true => place.deploy(session, &mut signals),
            false => Vec::new(),
        };
        let ready = match later.len() {
            0 => "Ready. Ctrl-c stops it.".to_owned(),
            count => format!("Ready; {count} more examples follow. Ctrl-c stops it."),
        };
        session
            .output
            .line(&format!("\n  {}\n", session.output.dim(&ready)));
        app.ready_engines();
        let ends = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| place.deploy_later(session, &later, &ends));
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    let name = signals.next().await;
                    ends.store(true, Ordering::Relaxed);
                    drain(session, app, signals, name).await
                })
            })
        })
    }
}

/// Takes the server down in order, unless told again.
async fn drain(session: Session<'_>, app: App, mut signals: Signals, name: &str) -> Result<u8> {
    let waits = match app.in_flight() {
        0 => "nothing is running".to_owned(),
        1 => "waiting for 1 activation".to_owned(),
        count => format!("waiting for {count} activations"),
    };
    session.output.note(&format!(
        "{name}: accepting nothing more, {waits}; once more ends at once"
    ));
    tokio::select! {
        drained = app.drain() => {
            drained.map_err(|error| explained(&error))?;
            session.output.note("stopped");
            Ok(0)
        }
        name = signals.next() => {
            session.output.note(&format!("{name}: stopped at once; what was accepted runs at the next start"));
            Ok(STOPPED_TWICE)
        }
    }
}

/// What ends a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// One that was noticed and not yet acted upon.
    noticed: Option<&'static str>,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::general(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            noticed: None,
        })
    }

    async fn next(&mut self) -> &'static str {
        if let Some(noticed) = self.noticed.take() {
            return noticed;
        }
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "interrupted",
        }
    }
}

/// Where the server is, as its clients see it.
struct Place {
    url: String,
    key: Option<String>,
}

impl Place {
    fn of(app: &App) -> Self {
        Self {
            url: url(app.address()),
            key: app.guest_key(),
        }
    }

    fn banner(&self, session: Session<'_>, app: &App) {
        let output = session.output;
        if output.json {
            let chosen = app.summary().into_iter().map(|line| fact(&line));
            let chosen: Map<String, Value> =
                chosen.map(|(title, fact)| (title, json!(fact))).collect();
            return output.row(&json!({
                "url": self.url, "listen": app.address(), "guestKey": self.key, "chosen": chosen,
            }));
        }
        let mut facts = Vec::new();
        facts.extend(self.key.clone().map(|key| ("guest key".to_owned(), key)));
        if app.address().ip().is_unspecified() {
            facts.push((
                "listening".to_owned(),
                format!("on every address, port {}", app.address().port()),
            ));
        }
        facts.extend(app.summary().into_iter().map(|line| fact(&line)));
        let (name, url) = (
            format!("Wisp {}", env!("CARGO_PKG_VERSION")),
            output.bold(&self.url),
        );
        output.line(&format!("\n  {}  {url}\n", output.bold(&name)));
        let width = facts
            .iter()
            .map(|(title, _)| title.chars().count())
            .max()
            .unwrap_or(0);
        for (title, fact) in facts {
            output.line(&format!(
                "  {}  {fact}",
                output.dim(&format!("{title:<width$}"))
            ));
        }
    }

    /// Every example, one line each; what cannot be deployed is no reason to stop. Answers those that may have to wait for
    /// the engine of a language, which must not hold up the start.
    fn deploy(&self, session: Session<'_>, signals: &mut Signals) -> Vec<Folder> {
        let output = session.output;
        let Some(key) = &self.key else {
            output
                .note("the guest key is not the configured one any more: no examples are deployed");
            return Vec::new();
        };
        let Some(folder) = examples::folder() else {
            output.note("there is no folder `examples` here: nothing is deployed");
            return Vec::new();
        };
        let found = match Folder::below(&folder) {
            Ok(found) => found,
            Err(failure) => {
                output.failure(&failure);
                return Vec::new();
            }
        };
        output.line(&format!("\n  {}", output.bold("Examples")));
        let (mut later, now): (Vec<Folder>, Vec<Folder>) =
            found.into_iter().partition(Folder::needs_engine);
        // Its engine takes longest.
        later.sort_by_key(Folder::is_python);
        let Some(deployed) = self.deploy_all(session, signals, (key, &now)) else {
            return Vec::new();
        };
        self.paste(session, key, &deployed);
        later
    }

    /// A few at a time, the largest first: one alone does not keep the machine busy. Those that were deployed; `None` when a signal came.
    fn deploy_all<'e>(
        &self,
        session: Session<'_>,
        signals: &mut Signals,
        (key, all): (&str, &'e [Folder]),
    ) -> Option<Vec<&'e Folder>> {
        let (next, ends) = (AtomicUsize::new(0), AtomicBool::new(false));
        // What takes longest must not be what everybody waits for at the end.
        let mut order: Vec<(usize, &Folder)> = all.iter().enumerate().collect();
        order.sort_by_key(|(_, example)| std::cmp::Reverse(example.code_bytes()));
        let work = || {
            let client = Client::to(self.target(key), session);
            let mut deployed = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let Some((place, example)) = order.get(turn) else {
                    break;
                };
                if deploy(session, &client, example) {
                    deployed.push(*place);
                }
            }
            deployed
        };
        let (end, mut ended) = mpsc::channel::<()>(1);
        let wait = || {
            std::thread::scope(|scope| {
                let hands: Vec<_> = (0..HANDS)
                    .map(|_| {
                        let (end, work) = (end.clone(), &work);
                        scope.spawn(move || {
                            let deployed = work();
                            drop(end);
                            deployed
                        })
                    })
                    .collect();
                drop(end);
                let signal = tokio::runtime::Handle::current().block_on(async {
                    tokio::select! {
                        name = signals.next() => Some(name),
                        _ = ended.recv() => None,
                    }
                });
                ends.store(signal.is_some(), Ordering::Relaxed);
                signals.noticed = signal;
                let done = hands.into_iter().map(std::thread::ScopedJoinHandle::join);
                let mut places: Vec<usize> = done.filter_map(|done| done.ok()).flatten().collect();
                places.sort_unstable();
                places
            })
        };
        let places = tokio::task::block_in_place(wait);
        let deployed = places.into_iter().filter_map(|place| all.get(place));
        (!ends.load(Ordering::Relaxed)).then(|| deployed.collect())
    }

    /// The examples that were left for later, until all are there or the server ends.
    fn deploy_later(&self, session: Session<'_>, later: &[Folder], ends: &AtomicBool) {
        let Some(key) = &self.key else { return };
        let client = Client::to(self.target(key), session);
        for example in later {
            if ends.load(Ordering::Relaxed) {
                return;
            }
            deploy(session, &client, example);
        }
    }

    fn target(&self, key: &str) -> Target {
        Target {
            base: self.url.clone(),
            auth: key.to_owned(),
            namespace: "_".to_owned(),
            version: "v1".to_owned(),
            gateway_token: None,
            assumed: Vec::new(),
        }
    }

    /// Lines for a shell.
    fn paste(&self, session: Session<'_>, key: &str, deployed: &[&Folder]) {
        let output = session.output;
        let worth = examples::worth_trying(deployed, SHOWN);
        let Some(first) = worth.first() else {
            return;
        };
        let command = session.environment.own_command();
        // What this shell's client would do unasked, by its properties and variables, needs no flags.
        let unasked = Target::of(session).ok();
        let mut flags = String::new();
        if unasked
            .as_ref()
            .is_none_or(|unasked| unasked.base != self.url)
        {
            flags.extend([" --apihost ", &self.url]);
        }
        if unasked.is_none_or(|unasked| unasked.auth != key) {
            flags.extend([" -u ", key]);
        }
        output.line(&format!("\n  {}\n", output.bold("Paste one of these")));
        output.line(&format!("  {}", first.curl(&self.url, key)));
        for example in &worth {
            output.line(&format!("  {}", example.invoke(&command, &flags)));
        }
    }
}

/// Deploys an example and says so; whether that could be done.
fn deploy(session: Session<'_>, client: &Client<'_>, example: &Folder) -> bool {
    let output = session.output;
    let name = format!("{:NAME_WIDTH$}", example.name);
    if example.missing().is_some() {
        let how = format!("not built: wisp build {}", example.path().display());
        output.line(&format!(
            "    {} {name}  {}",
            output.dim("·"),
            output.dim(&how)
        ));
        return false;
    }
    let deployed = example.deploy(session, client);
    match &deployed {
        Ok(()) => output.line(&format!(
            "    {} {name}  {}",
            output.green("✓"),
            example.description
        )),
        Err(failure) => {
            let attempt = format!("Unable to deploy {}", example.name);
            output.failure(&failure.clone().while_trying(&attempt));
        }
    }
    deployed.is_ok()
}

/// A configuration that cannot be.
fn refused(error: &config::Error) -> Failure {
    let failure = Failure::usage(error.to_string());
    match error.reason.contains("socket address") {
        true => failure.advise("Write ADDRESS:PORT, as 127.0.0.1:3233 or [::1]:3233."),
        false => failure,
    }
}

/// `title: fact` apart.
fn fact(line: &str) -> (String, String) {
    let (title, fact) = line.split_once(": ").unwrap_or(("", line));
    (title.to_owned(), fact.to_owned())
}

/// The URL by which a client on this machine reaches `address`.
pub(super) fn url(address: SocketAddr) -> String {
    match (address.ip().is_unspecified(), address) {
        (true, SocketAddr::V4(_)) => format!("http://127.0.0.1:{}", address.port()),
        (true, SocketAddr::V6(_)) => format!("http://[::1]:{}", address.port()),
        (false, address) => format!("http://{address}"),
    }
}

/// An error of the server, in one sentence, with what to do about the usual ones.
pub(super) fn explained(error: &anyhow::Error) -> Failure {
    let failure = Failure::general(format!("{error:#}"));
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>());
    let advice = match io.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::AddrInUse) => {
            "Another program listens there. Stop it, or choose another port with --listen 127.0.0.1:0 (any free one)."
        }
        Some(std::io::ErrorKind::AddrNotAvailable) => {
            "This machine has no such address; see --listen."
        }
        Some(std::io::ErrorKind::PermissionDenied) => {
            "This user may not do that. Choose a folder with --data and a port above 1023 with --listen."
        }
        Some(std::io::ErrorKind::ReadOnlyFilesystem) => {
            "Choose a folder that can be written with --data."
        }
        Some(std::io::ErrorKind::StorageFull) => {
            "There is no room on that disk. Make some, or choose another folder with --data."
        }
        _ => return failure,
    };
    failure.advise(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_an_address_that_can_be_dialled() {
        let table = [
            ("127.0.0.1:3233", "http://127.0.0.1:3233"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
        ];
        for (address, expected) in table {
            assert_eq!(url(address.parse().unwrap()), expected);
        }
    }

    #[test]
    fn a_busy_port_is_explained() {
        let io = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        let failure = explained(&anyhow::Error::from(io).context("cannot listen on 127.0.0.1:1"));
        assert!(
            failure
                .message
                .starts_with("cannot listen on 127.0.0.1:1: "),
            "{failure:?}"
        );
        assert!(failure.advice.unwrap().contains("--listen"));
    }
}
