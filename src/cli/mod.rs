//! The command line: the whole tree of commands on this page, one file per noun for what they do.
//!
//! `wisp serve` runs a server; everything else is a client of one, over HTTP, with the flags and the habits of `wsk`
//! where they overlap. `client` is the only one that speaks HTTP, `output` the only one that prints, `props` the only
//! one that knows `~/.wskprops`.
//!
//! Exit codes: 0 for success; 1 when something here failed; 2 for a wrong command line; 3 when the server cannot be
//! reached; else the HTTP status minus 256 as a byte, as `wsk` has it (404 is 148); 202 when a blocking invocation goes on.

mod action;
mod activation;
mod admin;
mod api;
mod build;
mod client;
mod cluster;
mod code;
mod deadletter;
mod dev;
mod entity;
mod events;
mod examples;
mod failure;
mod feed;
mod folder;
mod local;
mod namespace;
mod new;
mod output;
mod pack;
mod package;
mod pairs;
mod poll;
mod project;
mod property;
mod props;
mod rule;
mod run;
mod serve;
#[cfg(test)]
mod tests;
mod trigger;
mod upload;
mod web;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{self, Environment};
use failure::Result;
use output::Output;

/// What the sandbox calls this program with to have one module compiled, in a process of its own.
const COMPILE_CHILD: &str = "__compile";

/// Runs the program: reads its arguments, does what they say, answers with its exit code.
pub fn main() -> ExitCode {
    let arguments = config::arguments();
    if arguments.get(1).is_some_and(|first| first == COMPILE_CHILD) {
        let rest = arguments.into_iter().skip(2);
        return crate::app::compile_child(rest.filter_map(|arg| arg.into_string().ok()));
    }
    let environment = Environment::read();
    let output = Output::terminal(environment.colour());
    ExitCode::from(run(arguments, &environment, output))
}

/// Wisp runs functions in WebAssembly sandboxes and speaks the Apache OpenWhisk API.
#[derive(Debug, Parser)]
#[command(name = "wisp", version, arg_required_else_help = true)]
#[command(after_help = "\
Start here:
  wisp new rust hello && wisp dev hello  write a function, see it run while you change it
  wisp serve --examples                  a server on 127.0.0.1:3233 with every example deployed
  wisp action create hello hello.wasm    upload a function
  wisp action invoke hello -r -p name Ada
  wisp activation logs --last            what it wrote

Without any configuration the client talks to 127.0.0.1:3233 with the guest key.
It reads ~/.wskprops (or WSK_CONFIG_FILE), so what is set up for wsk works here.")]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// What every client command understands.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection and output")]
struct Globals {
    /// Key to use, `uuid:key`
    #[arg(short = 'u', long, global = true, value_name = "KEY")]
    auth: Option<String>,
    /// Server to talk to, as `http://127.0.0.1:3233` or `functions.example.com` (https)
    #[arg(long, global = true, value_name = "HOST")]
    apihost: Option<String>,
    /// Version of the API
    #[arg(long, global = true, value_name = "VERSION")]
    apiversion: Option<String>,
    /// Do not verify the server's certificate
    #[arg(short, long, global = true)]
    insecure: bool,
    /// Say what is done
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Show requests and answers too
    #[arg(short, long, global = true)]
    debug: bool,
    /// Print JSON only, for machines
    #[arg(long, global = true)]
    json: bool,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server
    Serve(serve::Serve),
    /// Make a folder for a new action, in the language of your choice
    New(new::New),
    /// Build an action with the usual tool of its language
    Build(build::Build),
    /// Serve a folder's actions, and build and deploy them again whenever a file is saved
    Dev(dev::Dev),
    /// Run an action once, without a server
    Run(run::Run),
    /// Work with actions: upload, look, invoke
    #[command(subcommand)]
    Action(Box<action::Action>),
    /// See what invocations did: records, logs, results
    #[command(subcommand)]
    Activation(activation::Activation),
    /// Work with packages: actions that belong together
    #[command(subcommand)]
    Package(package::Package),
    /// Work with triggers: what events come in by
    #[command(subcommand)]
    Trigger(Box<trigger::Trigger>),
    /// Work with rules: which trigger runs which action
    #[command(subcommand)]
    Rule(rule::Rule),
    /// Work with APIs: paths and verbs that call web actions
    #[command(subcommand)]
    Api(api::Api),
    /// See, replay or throw away what rules could not deliver
    #[command(subcommand)]
    Deadletter(deadletter::Deadletter),
    /// Deploy the packages, actions, triggers, rules and APIs of a manifest.yaml
    #[command(subcommand)]
    Project(project::Project),
    /// List everything in a namespace
    List(namespace::Contents),
    /// Work with namespaces
    #[command(subcommand)]
    Namespace(namespace::Namespace),
    /// Say once which server and key to use
    #[command(subcommand)]
    Property(property::Property),
    /// Manage the namespaces of a server; needs its system key
    Admin(admin::Admin),
    /// See how the cluster stands that a server is a node of; needs its system key
    Cluster(cluster::Cluster),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  wisp completion bash > ~/.local/share/bash-completion/completions/wisp"
    )]
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What a command is done with.
#[derive(Debug, Clone, Copy)]
struct Session<'a> {
    globals: &'a Globals,
    environment: &'a Environment,
    output: &'a Output,
}

/// Parses and runs; the exit code.
fn run(arguments: Vec<OsString>, environment: &Environment, mut output: Output) -> u8 {
    let cli = match Cli::try_parse_from(project::adapt(property::adapt(arguments))) {
        Ok(cli) => cli,
        Err(error) => return output.command_line(&error),
    };
    output.json = cli.globals.json;
    let session = Session {
        globals: &cli.globals,
        environment,
        output: &output,
    };
    match dispatch(&cli.command, session) {
        Ok(code) => code,
        Err(failure) => {
            output.failure(&failure);
            failure.exit
        }
    }
}

fn dispatch(command: &Command, session: Session<'_>) -> Result<u8> {
    match command {
        Command::Serve(serve) => return serve.run(session),
        Command::New(new) => new.run(session)?,
        Command::Build(build) => build.run(session)?,
        Command::Dev(dev) => return dev.run(session),
        Command::Run(once) => return once.run(session),
        Command::Action(action) => return action.run(session),
        Command::Activation(activation) => activation.run(session)?,
        Command::Package(package) => package.run(session)?,
        Command::Trigger(trigger) => trigger.run(session)?,
        Command::Rule(rule) => rule.run(session)?,
        Command::Api(api) => api.run(session)?,
        Command::Deadletter(deadletter) => deadletter.run(session)?,
        Command::Project(project) => return project.run(session),
        Command::List(contents) => contents.run(session)?,
        Command::Namespace(namespace) => namespace.run(session)?,
        Command::Property(property) => property.run(session)?,
        Command::Admin(admin) => admin.run(session)?,
        Command::Cluster(cluster) => cluster.run(session)?,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "wisp", &mut script);
            session.output.raw(&script);
        }
    }
    Ok(0)
}

/// Which part of a list.
#[derive(Debug, Clone, Args)]
struct Page {
    /// How many at most; 0 for as many as the server gives at once (200)
    #[arg(short, long, default_value_t = 30)]
    limit: u32,
    /// How many to leave out, newest first
    #[arg(short, long, default_value_t = 0)]
    skip: u32,
}

impl Page {
    fn query(&self) -> Vec<(&'static str, String)> {
        vec![
            ("limit", self.limit.to_string()),
            ("skip", self.skip.to_string()),
        ]
    }
}
