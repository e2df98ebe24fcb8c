//! `wisp dev`: a folder's actions on a server in this process, built and deployed again whenever a file is saved, with what
//! they log as it happens.
//!
//! Files are looked at, not listened to: the times and sizes of at most some thousand of them, a few times a second. That
//! costs little, needs nothing of the system, and sees files on network and container volumes, which notify nobody. A change
//! counts when the next look finds nothing newer, so that an editor or a generator is not read half-way. What a build makes
//! itself is not looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Session;
use super::activation::stripped;
use super::build;
use super::client::Client;
use super::failure::{Failure, Result};
use super::folder::Folder;
use super::local::{self, Local, Wish};
use super::poll::{Poll, Shown};
use crate::model::Timestamp;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_millis(250);

/// Files looked at in one folder, at most: more than that is no source but something that was installed.
const FILES_MAX: usize = 5_000;

/// Folders that hold what was made or installed.
const MADE: [&str; 7] = [
    "target",
    "node_modules",
    "build",
    "dist",
    "zig-out",
    "__pycache__",
    "wisp-data",
];

/// Files that tools write while they build.
const LOCKS: [&str; 3] = ["Cargo.lock", "package-lock.json", "go.sum"];

/// `wisp dev …`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wisp dev                        the action in this folder
  wisp dev functions              every action in the folders below
  wisp dev hello.js --listen 127.0.0.1:0 --data ./data

Other terminals reach it without any set-up: wisp action invoke hello -r -p name Ada")]
pub(super) struct Dev {
    /// Folder of the action, folder of folders of actions, or a file with code
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3233")]
    listen: String,
    /// Folder for everything that is kept; without it nothing is
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Dev {
    pub(super) fn run(&self, session: Session<'_>) -> Result<u8> {
        let folders = Folder::find(&self.folder)?;
        let runtime = local::runtime()?;
        let wish = Wish {
            listen: Some(&self.listen),
            data: self.data.as_deref(),
            packages: true,
            ..Wish::default()
        };
        let server = Local::start(session, &runtime, &wish)?;
        let client = Client::to(server.target()?, session);
        say(session, &client);
        let began = Timestamp::now();
        let (stop, stopped) = oneshot::channel::<()>();
        let watched = std::thread::scope(|scope| {
            let live = || {
                let told = async { drop(stopped.await) };
                if let Err(failure) = Poll::live(session, &client, (show, began), told) {
                    session.output.failure(&failure);
                }
            };
            scope.spawn(live);
            let watched = runtime.block_on(watch(session, &client, folders));
            drop(stop);
            watched
        });
        drop(client);
        let ended = server.stop(&runtime);
        runtime.shutdown_background();
        watched.and(ended).map(|()| 0)
    }
}

/// Where it is.
fn say(session: Session<'_>, client: &Client<'_>) {
    let output = session.output;
    if output.json {
        return output.row(&json!({ "url": client.base(), "guestKey": client.auth() }));
    }
    output.line(&format!(
        "\n  {}  {}",
        output.bold("wisp dev"),
        output.bold(client.base())
    ));
    output.line(&format!(
        "  {}  {}\n",
        output.dim("key     "),
        client.auth()
    ));
}

/// Deploys everything, and again what changes, until it is told to stop.
async fn watch(session: Session<'_>, client: &Client<'_>, folders: Vec<Folder>) -> Result<()> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Failure::general(format!("cannot listen for signals: {error}")))
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut all: Vec<Watched> = folders.into_iter().map(Watched::new).collect();
    loop {
        for watched in &mut all {
            tokio::task::block_in_place(|| watched.look(session, client));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
    }
}

/// A folder, and how its files were when it was last deployed.
#[derive(Debug)]
struct Watched {
    folder: Folder,
    /// As they were deployed; nothing before the first time.
    deployed: Option<Files>,
    /// As they were at the last look.
    seen: Files,
}

/// Files by their path, with what changes when they do.
type Files = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

impl Watched {
    fn new(folder: Folder) -> Self {
        Self {
            folder,
            deployed: None,
            seen: Files::new(),
        }
    }

    /// Builds and deploys when there is something new that is still the same as at the last look.
    fn look(&mut self, session: Session<'_>, client: &Client<'_>) {
        let files = files(&self.folder);
        let first = self.deployed.is_none();
        let settled = first || files == self.seen;
        self.seen.clone_from(&files);
        if !settled || self.deployed.as_ref() == Some(&files) {
            return;
        }
        let before = self.deployed.replace(files);
        if let Some(before) = before {
            let changed = changed(&before, self.deployed.iter().flatten());
            session
                .output
                .note(&format!("{} changed: {changed}", self.folder.name));
        }
        self.refresh();
        let began = Instant::now();
        let done =
            build::build(session, &self.folder).and_then(|()| self.folder.deploy(session, client));
        let name = &self.folder.name;
        match done {
            Ok(()) => {
                let took = began.elapsed().as_millis();
                let how = if first { self.how() } else { String::new() };
                session
                    .output
                    .ok(&format!("{name} deployed in {took} ms{how}"));
            }
            Err(failure) => {
                let failure = failure.while_trying(&format!("{name} is not deployed"));
                session.output.failure(&failure);
            }
        }
    }

    /// Reads again what the folder says, since that is a file too. What cannot be read is told when it is built.
    fn refresh(&mut self) {
        if !self.folder.is_file()
            && let Ok(found) = Folder::find(self.folder.path())
            && let [one] = found.as_slice()
        {
            self.folder = one.clone();
        }
    }

    /// How it is called.
    fn how(&self) -> String {
        match self.folder.is_manifest() {
            true => String::new(),
            false => format!("; {}", self.folder.invoke("wisp", "")),
        }
    }
}

/// The first of the files that differ, and how many more.
fn changed<'f>(
    before: &Files,
    after: impl Iterator<Item = (&'f PathBuf, &'f (Option<SystemTime>, u64))>,
) -> String {
    let mut names = Vec::new();
    let mut left = before.len();
    for (path, state) in after {
        let was = before.get(path);
        left -= usize::from(was.is_some());
        if was != Some(state) {
            let name = path.file_name().unwrap_or_default();
            names.push(name.to_string_lossy().into_owned());
        }
    }
    match (names.first(), names.len()) {
        (None, _) => format!("{left} removed"),
        (Some(name), 1) => name.clone(),
        (Some(name), count) => format!("{name} and {} more", count - 1),
    }
}

/// What is looked at of a folder: its sources, or the one file that it is.
fn files(folder: &Folder) -> Files {
    let mut files = Files::new();
    let code = folder.code();
    match &code {
        Some(code) if folder.is_file() => note(&mut files, code.clone()),
        _ => collect(folder.path(), &mut files),
    }
    if let Some(code) = &code
        && build::makes_code(folder)
    {
        files.remove(code);
    }
    files
}

fn collect(folder: &Path, files: &mut Files) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if files.len() >= FILES_MAX || name.starts_with('.') || LOCKS.contains(&&*name) {
            continue;
        }
        // Links are not followed: they may lead in circles.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !MADE.contains(&&*name) => collect(&entry.path(), files),
            Ok(kind) if kind.is_file() => note(files, entry.path()),
            _ => {}
        }
    }
}

fn note(files: &mut Files, path: PathBuf) {
    if let Ok(data) = std::fs::metadata(&path) {
        files.insert(path, (data.modified().ok(), data.len()));
    }
}

/// An activation, as it is shown while one works: what it was, what it logged, what went wrong.
fn show(session: Session<'_>, shown: &Shown<'_>) {
    let output = session.output;
    let record = match *shown {
        Shown::Record(record, _) if output.json => return output.row(record),
        Shown::Record(record, _) => record,
        Shown::Line(line, is_other) => {
            if is_other {
                output.line(&output.dim(&format!("· {}", line["name"].as_str().unwrap_or("?"))));
            }
            let text = stripped(line["line"].as_str().unwrap_or_default());
            return output.line(&format!("    {text}"));
        }
    };
    let name = record["name"].as_str().unwrap_or("?");
    let success = record["response"]["success"] == json!(true);
    let cost = output.dim(&local::cost(record));
    match success {
        true => output.line(&format!("{} {name}  {cost}", output.green("→"))),
        false => {
            let result = &record["response"]["result"];
            output.line(&format!("✗ {name}  {cost}\n    {result}"));
        }
    }
    for line in local::log_lines(record) {
        output.line(&format!("    {line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_not_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let sources = ["action.toml", "src/lib.rs"];
        let made = [
            "target/x",
            "node_modules/y",
            ".git/z",
            "Cargo.lock",
            "a.wasm",
        ];
        for name in sources.iter().chain(&made) {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
        }
        let text = "code = \"a.wasm\"\nlanguage = \"rust\"";
        std::fs::write(root.path().join("action.toml"), text).unwrap();
        let folder = &Folder::find(root.path()).unwrap()[0];
        let found: Vec<PathBuf> = files(folder).into_keys().collect();
        assert_eq!(found, sources.map(|name| root.path().join(name)));
    }

    #[test]
    fn changes_are_told_by_name() {
        let files = |names: &[(&str, u64)]| -> Files {
            let all = names.iter();
            all.map(|(name, size)| (PathBuf::from(name), (None, *size)))
                .collect()
        };
        let before = files(&[("a", 1), ("b", 1)]);
        let table = [
            (files(&[("a", 2), ("b", 1)]), "a"),
            (files(&[("a", 2), ("b", 1), ("c", 1)]), "a and 1 more"),
            (files(&[("a", 1)]), "1 removed"),
        ];
        for (after, text) in table {
            assert_eq!(changed(&before, after.iter()), text);
        }
    }
}
