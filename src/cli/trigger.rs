//! `wisp trigger`: what events come in by, and the feeds that bring them.

use clap::{ArgAction, Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Session;
use super::client::{Client, EntityPath};
use super::entity::{self, Get, List, Put};
use super::failure::{Failure, Result};
use super::feed::{Event, Feed};
use super::pairs::{Annotations, Parameters, keys_and_values, object_of};

/// `wisp trigger …`
#[derive(Debug, Subcommand)]
pub(super) enum Trigger {
    /// Make a trigger
    #[command(after_help = "\
Examples:
  wisp trigger create uploaded -p bucket photos
  wisp trigger create nightly --feed /whisk.system/alarms/alarm -p cron '0 3 * * *'
  wisp trigger create nightly --feed /whisk.system/alarms/alarm -F cron '0 3 * * *' -T kind nightly")]
    Create(Create),
    /// Change a trigger and its feed, or make it when it does not exist
    #[command(after_help = "Example:\n  wisp trigger update nightly -F cron '0 4 * * *'")]
    Update(Write),
    /// Show a trigger, and what its feed says of it
    Get(Get),
    /// Fire a trigger: every active rule runs its action
    #[command(after_help = "\
Examples:
  wisp trigger fire uploaded -p name cat.jpg
  wisp trigger fire uploaded -P event.json --idempotency-key 7f9c")]
    Fire(Fire),
    /// List triggers, newest first
    List(List),
    /// Delete a trigger, after its feed was told
    Delete {
        /// Name of the trigger
        name: String,
    },
}

/// A new trigger.
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    write: Write,
    /// Action that fires it; takes the parameters then
    #[arg(short, long, value_name = "ACTION")]
    feed: Option<String>,
}

/// What is said of a trigger.
#[derive(Debug, Args)]
pub(super) struct Write {
    /// Name of the trigger
    name: String,
    #[command(flatten)]
    parameters: Parameters,
    #[command(flatten)]
    annotations: Annotations,
    /// A parameter for the feed alone. May be repeated
    #[arg(short = 'F', long, num_args = 2, value_names = ["KEY", "VALUE"], action = ArgAction::Append)]
    #[arg(allow_hyphen_values = true)]
    feed_param: Vec<String>,
    /// A parameter for the trigger alone. May be repeated
    #[arg(short = 'T', long, num_args = 2, value_names = ["KEY", "VALUE"], action = ArgAction::Append)]
    #[arg(allow_hyphen_values = true)]
    trigger_param: Vec<String>,
}

/// What to fire, and with what.
#[derive(Debug, Args)]
pub(super) struct Fire {
    /// Name of the trigger
    name: String,
    #[command(flatten)]
    parameters: Parameters,
    /// Fire once for this key, however often it is tried
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// Which parameters are whose.
#[derive(Debug, PartialEq)]
struct Split {
    /// For the trigger; none leaves those it has.
    trigger: Option<Map<String, Value>>,
    /// For the feed; none when nothing was said to it.
    feed: Option<Map<String, Value>>,
}

impl Trigger {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        match self {
            Self::Create(create) => {
                create
                    .write
                    .create(session, create.feed.as_deref(), Put::Create)
            }
            Self::Update(write) => write.update(session),
            Self::Get(get) => show(session, get),
            Self::Fire(fire) => fire.run(session),
            Self::List(list) => list.run(session, "triggers"),
            Self::Delete { name } => delete(session, name),
        }
    }
}

impl Write {
    /// `-p` goes to the feed if there is one, else to the trigger, and not together with `-F` and `-T`.
    fn split(&self, has_feed: bool) -> Result<Split> {
        let apart = !self.feed_param.is_empty() || !self.trigger_param.is_empty();
        if apart && self.parameters.is_given() {
            return Err(Failure::usage(
                "Incorrect usage. Cannot combine --feed-param or --trigger-param flag with --param or --param-file flag",
            ));
        }
        if !has_feed && !self.feed_param.is_empty() {
            let message = "Incorrect usage. Trigger without a feed cannot have feed parameters";
            return Err(Failure::usage(message));
        }
        let given = |pairs: &[String]| (!pairs.is_empty()).then(|| object_of(pairs));
        Ok(match apart {
            true => Split {
                trigger: given(&self.trigger_param),
                feed: given(&self.feed_param),
            },
            false => {
                let all = self.parameters.is_given();
                let all = all.then(|| self.parameters.object()).transpose()?;
                match has_feed {
                    true => Split {
                        trigger: None,
                        feed: all,
                    },
                    false => Split {
                        trigger: all,
                        feed: None,
                    },
                }
            }
        })
    }

    fn create(&self, session: Session<'_>, feed: Option<&str>, way: Put) -> Result<()> {
        let client = Client::new(session)?;
        let name = EntityPath::parse_plain(&self.name, client.namespace())?;
        let feed = feed
            .map(|feed| Feed::named(&client, feed, &name))
            .transpose()?;
        let split = self.split(feed.is_some())?;
        let mut body = json!({ "namespace": name.namespace, "name": name.path });
        if let Some(parameters) = split.trigger {
            body["parameters"] = keys_and_values(parameters);
        }
        if let Some(annotations) = self.annotations.pairs()? {
            body["annotations"] = annotations;
        }
        if let Some(feed) = &feed {
            entity::annotate(
                &mut body["annotations"],
                "feed",
                json!(feed.action.to_string()),
            );
        }
        let trigger = entity::put(&client, way, "trigger", &name, &body)?;
        if let Some(feed) = &feed {
            match feed.tell(Event::Create, split.feed.unwrap_or_default()) {
                Ok(record) => told(session, feed, &record),
                Err(failure) => return Err(take_back(&client, &name, failure)),
            }
        }
        let text = format!("{} trigger {}", Put::Create.done(), name.path);
        session.output.done(&text, &trigger);
        Ok(())
    }

    fn update(&self, session: Session<'_>) -> Result<()> {
        let client = Client::new(session)?;
        let name = EntityPath::parse_plain(&self.name, client.namespace())?;
        let mut trigger = match entity::get(&client, "trigger", &name) {
            Ok(trigger) => trigger,
            Err(failure) if failure.status == Some(404) => {
                return self.create(session, None, Put::Update);
            }
            Err(failure) => return Err(failure),
        };
        let feed = Feed::of(&client, &name, &trigger)?;
        let split = self.split(feed.is_some())?;
        let annotations = self.annotations.pairs()?;
        let quiet = split.trigger.is_none() && annotations.is_none();
        // A feed hears of every update, unless it is about the trigger alone.
        let hears = split.feed.is_some() || quiet;
        let own = feed.is_none() || !quiet;
        if own {
            let mut body = json!({ "namespace": name.namespace, "name": name.path });
            if let Some(parameters) = split.trigger {
                body["parameters"] = keys_and_values(parameters);
            }
            if let Some(annotations) = annotations {
                body["annotations"] = annotations;
                // Annotations are replaced as a whole, and without this one the feed would be lost.
                if let Some(feed) = entity::annotation(&trigger, "feed") {
                    entity::annotate(&mut body["annotations"], "feed", feed.clone());
                }
            }
            trigger = entity::put(&client, Put::Update, "trigger", &name, &body)?;
        }
        if let (Some(feed), true) = (&feed, hears) {
            let record = feed.tell(Event::Update, split.feed.unwrap_or_default());
            let attempt = format!("Unable to update trigger '{}'", name.path);
            let record = record.map_err(|f| f.while_trying(&attempt))?;
            told(session, feed, &record);
        }
        let text = format!("{} trigger {}", Put::Update.done(), name.path);
        session.output.done(&text, &trigger);
        Ok(())
    }
}

/// Deletes a trigger whose feed failed to begin: it would never fire.
fn take_back(client: &Client<'_>, name: &EntityPath, failure: Failure) -> Failure {
    let failure = failure.while_trying(&format!("Unable to create trigger '{}'", name.path));
    match entity::delete(client, "trigger", name) {
        Ok(_) => failure,
        Err(left) => failure.advise(format!(
            "The trigger was made and could not be taken back: {}",
            left.message
        )),
    }
}

/// Says that the feed was told.
fn told(session: Session<'_>, feed: &Feed<'_>, record: &Value) {
    if session.output.json {
        return;
    }
    let id = record["activationId"].as_str().unwrap_or_default();
    session
        .output
        .ok(&format!("invoked {} with id {id}", feed.action));
}

fn show(session: Session<'_>, get: &Get) -> Result<()> {
    let client = Client::new(session)?;
    let name = EntityPath::parse_plain(&get.name, client.namespace())?;
    let mut trigger = entity::get(&client, "trigger", &name)?;
    let output = session.output;
    if get.summary && !output.json {
        let full = entity::full_name(&trigger);
        output.line(&entity::summary("trigger", &full, &trigger));
        return Ok(());
    }
    let feed = match get.field {
        Some(_) => None,
        None => Feed::of(&client, &name, &trigger)?,
    };
    let Some(feed) = feed else {
        return entity::show(session, "trigger", &name, &trigger, get.field.as_deref());
    };
    let read = feed.tell(Event::Read, Map::new());
    if let (true, Ok(record)) = (output.json, &read) {
        trigger["feed"] = record["response"]["result"].clone();
    }
    entity::show(session, "trigger", &name, &trigger, None)?;
    match read {
        Ok(record) => {
            told(session, &feed, &record);
            if !output.json {
                output.value(&record["response"]["result"]);
            }
        }
        // Not every feed can tell; the trigger was found all the same.
        Err(failure) => output.note(&format!("warning: {}", failure.message)),
    }
    Ok(())
}

fn delete(session: Session<'_>, name: &str) -> Result<()> {
    let client = Client::new(session)?;
    let name = EntityPath::parse_plain(name, client.namespace())?;
    let trigger = entity::get(&client, "trigger", &name)?;
    if let Some(feed) = Feed::of(&client, &name, &trigger)? {
        match feed.tell(Event::Delete, Map::new()) {
            Ok(record) => told(session, &feed, &record),
            // As `wsk`: a feed that is gone must not keep its trigger. What it still fires finds none.
            Err(failure) => session.output.note(&format!(
                "warning: {}; the trigger is deleted, its feed may not know",
                failure.message
            )),
        }
    }
    let deleted = entity::delete(&client, "trigger", &name)?;
    let text = format!("deleted trigger {}", name.path);
    session.output.done(&text, &deleted);
    Ok(())
}

impl Fire {
    fn run(&self, session: Session<'_>) -> Result<()> {
        let client = Client::new(session)?;
        let name = EntityPath::parse_plain(&self.name, client.namespace())?;
        let path = client.path(&name.namespace, &name.in_collection("triggers"));
        let key = self.idempotency_key.as_deref();
        let headers: Vec<(&str, &str)> = key
            .map(|key| ("idempotency-key", key))
            .into_iter()
            .collect();
        let body = Value::Object(self.parameters.object()?);
        let attempt = format!("Unable to fire trigger '{}'", name.path);
        let answer = client.send_with("POST", &path, &[], &headers, Some(&body));
        let answer = answer.map_err(|f| f.while_trying(&attempt))?;
        let status = answer.status;
        let fired = answer.success().map_err(|f| f.while_trying(&attempt))?;
        let output = session.output;
        if status == 204 {
            let text =
                format!("trigger {name} did not fire as it is not associated with an active rule");
            match output.json {
                true => output.value(&json!({ "activationId": null })),
                false => output.line(&text),
            }
            return Ok(());
        }
        let id = fired["activationId"].as_str().unwrap_or_default();
        output.done(&format!("triggered {name} with id {id}"), &fired);
        Ok(())
    }
}
