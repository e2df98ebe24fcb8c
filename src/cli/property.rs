//! `wisp property`: which server and which key, kept where `wsk` keeps them.

use std::ffi::OsString;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::Session;
use super::client::Client;
use super::failure::{Failure, Result};
use super::props::{Properties, Target};

/// `wisp property …`
#[derive(Debug, Subcommand)]
pub(super) enum Property {
    /// Print properties, all or those named
    #[command(after_help = "\
Name them as flags: --auth --apihost --apiversion --namespace --cliversion --apibuild --apibuildno
Examples:
  wisp property get
  wisp property get --auth -o raw")]
    Get(Get),
    /// Keep properties
    #[command(after_help = "\
Example:
  wisp property set --apihost http://127.0.0.1:3233 --auth UUID:KEY")]
    Set {
        /// Namespace for names that say none
        #[arg(long)]
        namespace: Option<String>,
    },
    /// Forget properties
    #[command(after_help = "\
Name them as flags: --auth --apihost --apiversion --namespace
Example:
  wisp property unset --auth")]
    Unset {
        /// Which
        #[arg(long = "named", hide = true)]
        named: Vec<Name>,
    },
}

/// What to print, and how.
#[derive(Debug, Args)]
pub(super) struct Get {
    #[arg(long = "named", hide = true)]
    named: Vec<Name>,
    /// All of them, as when none is named
    #[arg(long)]
    all: bool,
    /// `raw` prints the value alone
    #[arg(short, long, default_value = "std")]
    output: Style,
}

/// How properties are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Style {
    Std,
    Raw,
}

/// A property.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(super) enum Name {
    Auth,
    ApiHost,
    ApiVersion,
    Namespace,
    CliVersion,
    ApiBuild,
    ApiBuildNo,
}

/// As `wsk` has it, `property get --auth` asks for the key, while everywhere else `--auth KEY` says it. So those flags
/// are renamed here, before the command line is read.
pub(super) fn adapt(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let words: Vec<&str> = arguments
        .iter()
        .map(|word| word.to_str().unwrap_or_default())
        .collect();
    let asks = words
        .windows(2)
        .position(|pair| matches!(pair, ["property", "get" | "unset"]));
    let Some(asks) = asks else {
        return arguments;
    };
    for word in arguments.iter_mut().skip(asks + 2) {
        let name = match word.to_str() {
            Some("-u") => Some("auth"),
            Some(text) => text.strip_prefix("--"),
            None => None,
        };
        let known = name.filter(|name| Name::from_str(name, false).is_ok());
        if let Some(name) = known {
            *word = OsString::from(format!("--named={name}"));
        }
    }
    arguments
}

impl Name {
    /// In the file; those that are not kept have none.
    fn key(self) -> Option<&'static str> {
        match self {
            Self::Auth => Some("AUTH"),
            Self::ApiHost => Some("APIHOST"),
            Self::ApiVersion => Some("APIVERSION"),
            Self::Namespace => Some("NAMESPACE"),
            Self::CliVersion | Self::ApiBuild | Self::ApiBuildNo => None,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Auth => "whisk auth",
            Self::ApiHost => "whisk API host",
            Self::ApiVersion => "whisk API version",
            Self::Namespace => "whisk namespace",
            Self::CliVersion => "whisk CLI version",
            Self::ApiBuild => "whisk API build",
            Self::ApiBuildNo => "whisk API build number",
        }
    }
}

impl Property {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        match self {
            Self::Get(get) => get.run(session),
            Self::Set { namespace } => set(session, namespace.as_deref()),
            Self::Unset { named } => unset(session, named),
        }
    }
}

fn set(session: Session<'_>, namespace: Option<&str>) -> Result<()> {
    let globals = session.globals;
    let given = [
        (Name::Auth, globals.auth.as_deref()),
        (Name::ApiHost, globals.apihost.as_deref()),
        (Name::ApiVersion, globals.apiversion.as_deref()),
        (Name::Namespace, namespace),
    ];
    let mut properties = Properties::read(session.environment)?;
    let mut said = Vec::new();
    for (name, value) in given {
        let (Some(value), Some(key)) = (value, name.key()) else {
            continue;
        };
        if value.is_empty() || value.contains(['\n', '\r']) {
            return Err(Failure::usage(format!(
                "{} cannot be '{value}'",
                name.title()
            )));
        }
        properties.set(key, value);
        said.push(match name {
            Name::Auth => {
                "whisk auth set. Run 'wisp property get --auth' to see the new value.".to_owned()
            }
            name => format!("{} set to {value}", name.title()),
        });
    }
    if said.is_empty() {
        let failure = Failure::usage("nothing to set");
        return Err(failure.advise("Use --auth, --apihost, --apiversion or --namespace."));
    }
    properties.write(session.environment)?;
    tell(session, &said);
    Ok(())
}

/// What was done, a line each.
fn tell(session: Session<'_>, said: &[String]) {
    if session.output.json {
        return session.output.value(&json!({ "done": said }));
    }
    said.iter().for_each(|text| session.output.ok(text));
}

fn unset(session: Session<'_>, named: &[Name]) -> Result<()> {
    let kept = named.iter().filter_map(|name| Some((name, name.key()?)));
    let kept: Vec<(&Name, &str)> = kept.collect();
    if kept.is_empty() {
        let failure = Failure::usage("nothing to unset");
        return Err(failure.advise("Use --auth, --apihost, --apiversion or --namespace."));
    }
    let mut properties = Properties::read(session.environment)?;
    let mut said = Vec::new();
    for (name, key) in kept {
        said.push(match properties.unset(key) {
            true => format!("{} unset.", name.title()),
            false => format!("{} was not set.", name.title()),
        });
    }
    properties.write(session.environment)?;
    tell(session, &said);
    Ok(())
}

impl Get {
    fn run(&self, session: Session<'_>) -> Result<()> {
        let mut names = self.named.clone();
        if names.is_empty() || self.all {
            names = Name::value_variants().to_vec();
        }
        let target = Target::of(session);
        let properties = Properties::read(session.environment)?;
        let wants_build = names
            .iter()
            .any(|name| matches!(name, Name::ApiBuild | Name::ApiBuildNo));
        let build = match (&target, wants_build) {
            (Ok(target), true) => Client::to(target.clone(), session).get("/api/v1", &[]).ok(),
            _ => None,
        };
        let value = |name: Name| match (name, &target) {
            (Name::CliVersion, _) => env!("CARGO_PKG_VERSION").to_owned(),
            (Name::ApiBuild, _) => field(build.as_ref(), "build"),
            (Name::ApiBuildNo, _) => field(build.as_ref(), "buildno"),
            (Name::Auth, Ok(target)) => target.auth.clone(),
            (Name::ApiHost, Ok(target)) => target.base.clone(),
            (Name::ApiVersion, Ok(target)) => target.version.clone(),
            (Name::Namespace, Ok(target)) => target.namespace.clone(),
            (name, Err(_)) => {
                let kept = name.key().and_then(|key| properties.get(key));
                kept.unwrap_or_default().to_owned()
            }
        };
        let output = session.output;
        if output.json {
            let all = names.iter().filter_map(|name| {
                let json_name = name.to_possible_value()?.get_name().to_owned();
                Some((json_name, json!(value(*name))))
            });
            output.value(&Value::Object(all.collect::<Map<_, _>>()));
            return Ok(());
        }
        let width = names
            .iter()
            .map(|name| name.title().len())
            .max()
            .unwrap_or_default();
        for name in names {
            let (title, value) = (name.title(), value(name));
            match self.output {
                Style::Raw => output.line(&value),
                Style::Std => output.line(&format!("{title:width$}  {value}")),
            }
        }
        Ok(())
    }
}

fn field(build: Option<&Value>, name: &str) -> String {
    let text = build.and_then(|build| build[name].as_str());
    text.unwrap_or("Unknown").to_owned()
}
