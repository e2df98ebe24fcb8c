//! `wisp run`: one activation without a server that somebody else started.
//!
//! The server is in this process, listens on a port nobody knows with a key nobody has, and is gone afterwards. So what an
//! action does here it does on any server: its kind, its limits, its log, its errors.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Session;
use super::build;
use super::client::{Answer, Client, EntityPath};
use super::failure::{Failure, Result, exit_of};
use super::folder::Folder;
use super::local::{self, Local, Wish};
use super::pairs::Parameters;

/// Between two looks for an activation that runs longer than a server lets one wait.
const LOOK: Duration = Duration::from_millis(100);

/// How much longer than its timeout an activation is waited for: the time to start, and to write its record.
const SPARE: Duration = Duration::from_secs(30);

/// `wisp run …`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wisp run hello.wasm -p name Ada
  wisp run hello.js -P params.json
  wisp run                            the action in this folder, built first if it is not there

The result goes to standard output, the log to standard error. The exit code is 0 when it succeeded.")]
pub(super) struct Run {
    /// File with the code, or folder of the action
    #[arg(value_name = "FILE", default_value = ".")]
    file: PathBuf,
    /// Kind of the code; needed only when the file does not say
    #[arg(long)]
    kind: Option<String>,
    /// Entry point, for kinds that have one
    #[arg(long, value_name = "NAME")]
    main: Option<String>,
    #[command(flatten)]
    parameters: Parameters,
    /// Wall time it may take
    #[arg(short, long, value_name = "MILLISECONDS")]
    timeout: Option<u64>,
    /// Memory it may use
    #[arg(short, long, value_name = "MB")]
    memory: Option<u64>,
}

impl Run {
    pub(super) fn run(&self, session: Session<'_>) -> Result<u8> {
        let folder = self.folder(session)?;
        let body = self.body(&folder)?;
        let parameters = Value::Object(self.parameters.object()?);
        let runtime = local::runtime()?;
        let key = local::secret_key()?;
        let wish = Wish {
            key: Some(&key),
            ..Wish::default()
        };
        let server = Local::start(session, &runtime, &wish)?;
        let client = Client::to(server.target()?, session);
        let (mut server, mut runtime) = (Some(server), Some(runtime));
        let (done, ended) = oneshot::channel::<()>();
        // The client blocks; this thread waits for it, or for somebody who lost patience.
        let outcome = std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                let outcome = call(&client, &folder.name, &body, &parameters);
                drop(done);
                outcome
            });
            let waited = runtime.as_ref()?.block_on(async {
                tokio::select! {
                    _ = ended => Some(()),
                    _ = tokio::signal::ctrl_c() => None,
                }
            });
            if waited.is_none() {
                // The connection goes, and with it the call.
                server.take()?.abandon();
                runtime.take()?.shutdown_background();
            }
            waited.and_then(|()| call.join().ok())
        });
        let (Some(outcome), Some(server), Some(runtime)) = (outcome, server, runtime) else {
            return Err(Failure::general("interrupted"));
        };
        let stopped = server.stop(&runtime);
        runtime.shutdown_background();
        let record = outcome?;
        stopped?;
        Ok(show(session, &record))
    }

    fn folder(&self, session: Session<'_>) -> Result<Folder> {
        let mut found = Folder::find(&self.file)?;
        let Some(mut folder) = found.pop().filter(|_| found.is_empty()) else {
            let failure = Failure::usage(format!("{} has several actions", self.file.display()));
            return Err(
                failure.advise("Name one of its folders, or serve all of them with `wisp dev`.")
            );
        };
        if folder.missing().is_some() && self.file.is_dir() {
            build::build(session, &folder)?;
        }
        folder.kind = self.kind.clone().or(folder.kind);
        folder.main = self.main.clone().or(folder.main);
        // A package is not needed here.
        let name = folder
            .name
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        folder.name = name;
        Ok(folder)
    }

    fn body(&self, folder: &Folder) -> Result<Value> {
        let mut body = folder.action()?;
        for (name, value) in [("timeout", self.timeout), ("memory", self.memory)] {
            if let Some(value) = value {
                body["limits"][name] = json!(value);
            }
        }
        Ok(body)
    }
}

/// Uploads, invokes and waits: the record of the activation.
fn call(client: &Client<'_>, name: &str, body: &Value, parameters: &Value) -> Result<Value> {
    let path = EntityPath::parse(name, "_")?.in_collection("actions");
    let path = client.path("_", &path);
    let answer = client.send("PUT", &path, &[], Some(body));
    let action = answer.and_then(Answer::success)?;
    let query = [("blocking", "true".to_owned())];
    let answer = client.send("POST", &path, &query, Some(parameters))?;
    let id = answer.body["activationId"].as_str().map(str::to_owned);
    let Some(id) = id else {
        return answer.success();
    };
    // What a blocking invocation answers has no log: the record has.
    let timeout = action["limits"]["timeout"].as_u64().unwrap_or(60_000);
    let path = client.path("_", &format!("activations/{id}"));
    await_record(client, &path, Duration::from_millis(timeout) + SPARE)
}

/// The record of an activation that goes on.
fn await_record(client: &Client<'_>, path: &str, patience: Duration) -> Result<Value> {
    let deadline = Instant::now() + patience;
    loop {
        let answer = client.send("GET", path, &[], None)?;
        if answer.status != 404 || Instant::now() >= deadline {
            return answer.success();
        }
        std::thread::park_timeout(LOOK);
    }
}

/// Prints what became of it; the exit code.
fn show(session: Session<'_>, record: &Value) -> u8 {
    let output = session.output;
    for line in local::log_lines(record) {
        output.note(line);
    }
    let response = &record["response"];
    let success = response["success"] == json!(true);
    if session.globals.verbose {
        output.note(&local::cost(record));
    }
    match success {
        true => output.value(&response["result"]),
        false => output.note_value(&response["result"]),
    }
    if success { 0 } else { exit_of(502) }
}
