//! The feeds of `/whisk.system/alarms`: triggers fired by the clock.
//!
//! Parameters, answers and texts are those of OpenWhisk's package, so what was written for that goes on working:
//! `alarm` (`cron`, `timezone`, `strict`), `interval` (`minutes`), `once` (`date`, `deleteAfterFire`), and for all of them
//! `trigger_payload`, `startDate`, `stopDate`, `maxTriggers`. Besides, `missed` says what becomes of times that passed while
//! nothing could be fired: `once` (the default: the latest of them), `skip` or `all` (at most the latest hundred). `strict`
//! is kept and has no effect: nothing is put off here to spread the load.
//!
//! The trigger must be one of the caller's own namespace, whatever `authKey` says: it is not looked at.

use serde_json::{Map, Value, json};

use super::alarms::{Delete, Missed, Reason, Schedule};
use super::{Caller, Invoker, new_id};
use crate::model::name::BadName;
use crate::model::schedule::{self, When};
use crate::model::{EntityName, Fqn, Json, Namespace, Response, Status, Timestamp, Trigger};
use crate::store::catalog::Found;
use crate::store::{self, Shelf};

/// Schedules of one namespace.
const SCHEDULES_MAX: usize = 1_000;

/// First fire of an interval that names no start.
const START_AFTER_MS: u64 = 30_000;

/// Times that are looked at to tell how often a cron pattern fires.
const GAPS_LOOKED_AT: usize = 64;

const UNSUPPORTED: &str = "unsupported lifecycleEvent";
const DENIED: &str = "Trigger authentication request failed.";

/// Which of the feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Cron,
    Interval,
    Once,
}

/// A refusal, as the feed answers it: `{"error": {"error": text}}`.
struct Refused(String);

impl<T: Into<String>> From<T> for Refused {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// Does what the event asks for.
pub(super) async fn feed(
    invoker: &Invoker,
    caller: &Caller,
    kind: Kind,
    params: &Json,
) -> Response {
    let Value::Object(params) = params.to_value() else {
        return refusal(UNSUPPORTED);
    };
    let event = params.get("lifecycleEvent").and_then(Value::as_str);
    let done = async {
        let trigger = trigger_of(caller, &params)?;
        let feed = Feed {
            invoker,
            namespace: &caller.namespace,
            trigger: &trigger,
            params: &params,
        };
        match event {
            Some("CREATE") => feed.create(kind).await,
            Some("READ") => feed.read().await,
            Some("UPDATE") => feed.update().await,
            Some("DELETE") => feed.delete().await,
            Some("PAUSE") => feed.pause(false).await,
            Some("UNPAUSE") => feed.pause(true).await,
            _ => Err(UNSUPPORTED.into()),
        }
    };
    match done.await {
        Ok(answer) => Response {
            status: Status::Success,
            size: None,
            result: Json::from_serialize(&answer),
        },
        Err(Refused(text)) if text == UNSUPPORTED => {
            Response::error(Status::ApplicationError, &text)
        }
        Err(Refused(text)) => refusal(&text),
    }
}

fn refusal(text: &str) -> Response {
    Response {
        status: Status::ApplicationError,
        size: None,
        result: Json::from_serialize(&json!({ "error": { "error": text } })),
    }
}

/// The caller's own trigger that is meant.
fn trigger_of(caller: &Caller, params: &Map<String, Value>) -> Result<EntityName, Refused> {
    let given = params.get("triggerName").and_then(Value::as_str);
    let given = given.filter(|given| !given.is_empty());
    let given = given.ok_or("no trigger name parameter was provided")?;
    let denied = |_: BadName| Refused::from(DENIED);
    if !given.starts_with('/') {
        return EntityName::parse(given).map_err(denied);
    }
    let fqn = Fqn::parse(given, &caller.namespace).map_err(denied)?;
    if fqn.namespace != caller.namespace || fqn.package.is_some() {
        return Err(DENIED.into());
    }
    Ok(fqn.name)
}

/// One event.
struct Feed<'a> {
    invoker: &'a Invoker,
    namespace: &'a Namespace,
    trigger: &'a EntityName,
    params: &'a Map<String, Value>,
}

fn unavailable(error: store::Error) -> Refused {
    tracing::warn!(%error, "a schedule could not be kept or read");
    "the schedule could not be kept or read now, try again".into()
}

impl Feed<'_> {
    /// A parameter, unless it is what JavaScript takes for nothing.
    fn param(&self, name: &str) -> Option<&Value> {
        self.params.get(name).filter(|value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            _ => true,
        })
    }

    fn fqn(&self) -> Fqn {
        Fqn {
            namespace: self.namespace.clone(),
            package: None,
            name: self.trigger.clone(),
        }
    }

    async fn permit(&self) -> Result<(), Refused> {
        let catalog = self.invoker.0.resolver.catalog();
        match catalog.get::<Trigger>(&self.fqn()).await {
            Ok(Found::Is(..)) => Ok(()),
            Ok(_) => Err(DENIED.into()),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn stored(&self) -> Result<Schedule, Refused> {
        let items = &self.invoker.0.store.items;
        let found = items
            .get(self.namespace, Shelf::Schedules, self.trigger.as_str())
            .await
            .map_err(unavailable)?;
        let schedule = found.and_then(|(item, _)| Schedule::of(&item));
        schedule.ok_or_else(|| self.missing())
    }

    fn missing(&self) -> Refused {
        format!("could not find trigger {} in the database", self.fqn()).into()
    }

    async fn keep(&self, schedule: &Schedule) -> Result<Value, Refused> {
        let items = &self.invoker.0.store.items;
        let item = schedule.item(self.trigger);
        items
            .put(self.namespace, Shelf::Schedules, item, None)
            .await
            .map_err(unavailable)?;
        let next = schedule.timetable().ok();
        let next = next.filter(|_| schedule.active);
        let next = next.and_then(|table| table.next_after(schedule.last));
        let clock = &self.invoker.0.events.clock;
        clock.own(self.namespace, self.trigger);
        clock.set(self.namespace, self.trigger, next);
        Ok(json!({ "status": "success" }))
    }

    async fn create(&self, kind: Kind) -> Result<Value, Refused> {
        let now = Timestamp::now();
        let mut given = Map::new();
        let when = self.when(kind, &mut given)?;
        let (mut start, mut stop, mut left) = (None, None, None);
        if kind != Kind::Once {
            start = self.date("startDate", now, &mut given)?;
            if kind == Kind::Interval && start.is_none() {
                start = Some(Timestamp(now.millis() + START_AFTER_MS));
                given.insert("startDate".to_owned(), json!(start));
            }
            stop = self.date("stopDate", now, &mut given)?;
            self.in_order(start, stop, &given)?;
            left = self.max_triggers(kind, stop, &mut given)?;
        }
        let schedule = Schedule {
            version: 1,
            generation: new_id(),
            when,
            start,
            stop,
            payload: self.payload()?.unwrap_or_else(Json::empty_object),
            left,
            delete_after_fire: self.delete_after_fire()?,
            missed: self.missed()?.unwrap_or_default(),
            given,
            active: true,
            changed: now,
            reason: None,
            last: now,
            rung: Vec::new(),
        };
        self.check(&schedule)?;
        self.permit().await?;
        let items = &self.invoker.0.store.items;
        let count = items.count(self.namespace, Shelf::Schedules, "").await;
        if count.map_err(unavailable)? >= SCHEDULES_MAX && self.stored().await.is_err() {
            return Err(format!("a namespace may have at most {SCHEDULES_MAX} schedules").into());
        }
        self.keep(&schedule).await
    }

    fn when(&self, kind: Kind, given: &mut Map<String, Value>) -> Result<When, Refused> {
        match kind {
            Kind::Once => {
                let missing = "alarms once trigger feed is missing the date parameter";
                let date = self.date("date", Timestamp::now(), given)?.ok_or(missing)?;
                Ok(When::Once { date })
            }
            Kind::Interval => {
                let missing = "interval trigger feed is missing the minutes parameter";
                let minutes = self.minutes()?.ok_or(missing)?;
                Ok(When::Every { minutes })
            }
            Kind::Cron => {
                let cron = self.param("cron");
                let cron = cron.ok_or("alarms trigger feed is missing the cron parameter")?;
                if let Some(strict) = self.params.get("strict") {
                    given.insert("strict".to_owned(), strict.clone());
                }
                Ok(When::Cron {
                    cron: text(cron),
                    timezone: self.param("timezone").map(text),
                })
            }
        }
    }

    fn minutes(&self) -> Result<Option<u64>, Refused> {
        let Some(given) = self.params.get("minutes").filter(|given| !given.is_null()) else {
            return Ok(None);
        };
        let minutes = match given {
            Value::Number(number) => number.as_i64(),
            Value::String(text) if text.is_empty() => return Ok(None),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let minutes = minutes.ok_or("the minutes parameter must be an integer")?;
        let positive = u64::try_from(minutes).ok().filter(|minutes| *minutes > 0);
        let zero = "the minutes parameter must be an integer greater than zero";
        Ok(Some(positive.ok_or(zero)?))
    }

    /// A date that is still to come.
    fn date(
        &self,
        name: &str,
        now: Timestamp,
        given: &mut Map<String, Value>,
    ) -> Result<Option<Timestamp>, Refused> {
        let Some(value) = self.param(name) else {
            return Ok(None);
        };
        let shown = text(value);
        let date = schedule::date(value)
            .ok_or_else(|| format!("{name} parameter '{shown}' is not a valid Date"))?;
        if date <= now {
            return Err(format!("{name} parameter '{shown}' must be in the future").into());
        }
        given.insert(name.to_owned(), value.clone());
        Ok(Some(date))
    }

    /// Whether the stop comes after the start.
    fn in_order(
        &self,
        start: Option<Timestamp>,
        stop: Option<Timestamp>,
        given: &Map<String, Value>,
    ) -> Result<(), Refused> {
        let (Some(start), Some(stop)) = (start, stop) else {
            return Ok(());
        };
        if start < stop {
            return Ok(());
        }
        let shown = |name: &str| given.get(name).map(text).unwrap_or_default();
        let (start, stop) = (shown("startDate"), shown("stopDate"));
        Err(match self.param("stopDate") {
            Some(_) => format!(
                "stopDate parameter '{stop}' must be greater than the startDate parameter '{start}'"
            ),
            None => format!(
                "startDate parameter '{start}' must be less than the stopDate parameter '{stop}'"
            ),
        }
        .into())
    }

    fn max_triggers(
        &self,
        kind: Kind,
        stop: Option<Timestamp>,
        given: &mut Map<String, Value>,
    ) -> Result<Option<u64>, Refused> {
        let Some(value) = self.param("maxTriggers") else {
            return Ok(None);
        };
        if stop.is_some() {
            return Err(match kind {
                Kind::Interval => "maxTriggers is not supported for the interval trigger feed",
                _ => "maxTriggers is not allowed when the stopDate parameter is specified",
            }
            .into());
        }
        let number = value
            .as_i64()
            .or_else(|| value.as_str()?.trim().parse().ok());
        let number = number.ok_or("the maxTriggers parameter must be an integer")?;
        given.insert("maxTriggers".to_owned(), json!(number));
        match number {
            -1 => Ok(None),
            _ => {
                let text = "the maxTriggers parameter must be -1 or greater than zero";
                let number = u64::try_from(number).map_err(|_| text)?;
                Ok(Some(number))
            }
        }
    }

    /// What the trigger is fired with; a text is put in an object.
    fn payload(&self) -> Result<Option<Json>, Refused> {
        match self.param("trigger_payload") {
            None => Ok(None),
            Some(Value::String(text)) => {
                Ok(Some(Json::from_serialize(&json!({ "payload": text }))))
            }
            Some(object @ Value::Object(_)) => Ok(Some(Json::from_serialize(object))),
            Some(_) => Err("the trigger_payload parameter must be an object or a string".into()),
        }
    }

    fn delete_after_fire(&self) -> Result<Option<Delete>, Refused> {
        let Some(given) = self.param("deleteAfterFire") else {
            return Ok(None);
        };
        let text = text(given).trim().to_lowercase();
        let delete = serde_json::from_value(Value::String(text));
        let delete =
            delete.map_err(|_| "deleteAfterFire parameter must be one of [false, true, rules].")?;
        Ok(Some(delete))
    }

    fn missed(&self) -> Result<Option<Missed>, Refused> {
        let Some(given) = self.param("missed") else {
            return Ok(None);
        };
        let missed = serde_json::from_value(given.clone());
        Ok(Some(missed.map_err(
            |_| "missed parameter must be one of [once, skip, all].",
        )?))
    }

    /// Whether there will be a fire, and not too many.
    fn check(&self, schedule: &Schedule) -> Result<(), Refused> {
        let table = schedule.timetable().map_err(|bad| bad.to_string())?;
        let min_s = self.invoker.0.events.config.alarm_interval_min_s;
        match &schedule.when {
            When::Cron { cron, .. } if min_s >= 60 && schedule::has_seconds(cron) => {
                return Err(
                    "cron pattern is limited to 5 fields with 1 minute as the finest granularity"
                        .into(),
                );
            }
            When::Once { .. } => {}
            When::Cron { .. } | When::Every { .. } => {
                let gap = table.shortest_gap(schedule.last, GAPS_LOOKED_AT);
                if gap.is_some_and(|gap_ms| gap_ms / 1000 < min_s) {
                    return Err(format!("the trigger would be fired more often than every {min_s} seconds, which is the shortest interval here").into());
                }
            }
        }
        if table.next_after(schedule.last).is_none() {
            return Err("the first scheduled trigger fire is not until after the stop date".into());
        }
        Ok(())
    }

    async fn read(&self) -> Result<Value, Refused> {
        self.permit().await?;
        let schedule = self.stored().await?;
        let mut config = json!({
            "name": self.trigger,
            "namespace": self.namespace,
            "payload": schedule.payload,
            "strict": false,
            "missed": schedule.missed,
        });
        for (name, value) in &schedule.given {
            config[name] = value.clone();
        }
        match &schedule.when {
            When::Cron { cron, timezone } => {
                config["cron"] = json!(cron);
                if let Some(timezone) = timezone {
                    config["timezone"] = json!(timezone);
                }
            }
            When::Every { minutes } => config["minutes"] = json!(minutes),
            When::Once { .. } => {
                if let Some(delete) = schedule.delete_after_fire {
                    config["deleteAfterFire"] = json!(delete);
                }
            }
        }
        let mut status = json!({
            "active": schedule.active,
            "dateChanged": schedule.changed,
            "dateChangedISO": schedule::iso_seconds(schedule.changed),
        });
        if let Some(reason) = &schedule.reason {
            status["reason"] = json!(reason);
        }
        Ok(json!({ "config": config, "status": status }))
    }

    async fn update(&self) -> Result<Value, Refused> {
        self.permit().await?;
        let mut schedule = self.stored().await?;
        let now = Timestamp::now();
        let mut is_changed = false;
        if let Some(payload) = self.payload()? {
            schedule.payload = payload;
            is_changed = true;
        }
        if let Some(missed) = self.missed()? {
            schedule.missed = missed;
            is_changed = true;
        }
        is_changed |= match schedule.when.clone() {
            When::Once { .. } => self.update_once(&mut schedule, now)?,
            recurs => self.update_recurring(&mut schedule, recurs, now)?,
        };
        if !is_changed {
            return Err("no updatable parameters were specified".into());
        }
        schedule.active = true;
        schedule.changed = now;
        schedule.reason = None;
        // What passed while it was not active is nobody's wish.
        schedule.last = schedule.last.max(now);
        self.check(&schedule)?;
        self.keep(&schedule).await
    }

    fn update_once(&self, schedule: &mut Schedule, now: Timestamp) -> Result<bool, Refused> {
        let mut is_changed = false;
        if let Some(date) = self.date("date", now, &mut schedule.given)? {
            schedule.when = When::Once { date };
            is_changed = true;
        }
        if let Some(delete) = self.delete_after_fire()? {
            schedule.delete_after_fire = Some(delete);
            is_changed = true;
        }
        Ok(is_changed)
    }

    fn update_recurring(
        &self,
        schedule: &mut Schedule,
        recurs: When,
        now: Timestamp,
    ) -> Result<bool, Refused> {
        let mut is_changed = false;
        match recurs {
            When::Every { .. } => {
                if let Some(minutes) = self.minutes()? {
                    schedule.when = When::Every { minutes };
                    is_changed = true;
                }
            }
            When::Cron { cron, timezone } => {
                let (new_cron, new_zone) = (self.param("cron"), self.param("timezone"));
                is_changed |= new_cron.is_some() || new_zone.is_some();
                schedule.when = When::Cron {
                    cron: new_cron.map_or(cron, text),
                    timezone: new_zone.map(text).or(timezone),
                };
                if let Some(strict) = self.params.get("strict") {
                    schedule.given.insert("strict".to_owned(), strict.clone());
                    is_changed = true;
                }
            }
            When::Once { .. } => {}
        }
        if let Some(start) = self.date("startDate", now, &mut schedule.given)? {
            schedule.start = Some(start);
            is_changed = true;
        }
        if let Some(stop) = self.date("stopDate", now, &mut schedule.given)? {
            schedule.stop = Some(stop);
            is_changed = true;
        }
        self.in_order(schedule.start, schedule.stop, &schedule.given)?;
        Ok(is_changed)
    }

    async fn delete(&self) -> Result<Value, Refused> {
        let items = &self.invoker.0.store.items;
        let name = self.trigger.as_str();
        let removed = items.delete(self.namespace, Shelf::Schedules, name).await;
        if !removed.map_err(unavailable)? {
            return Err(self.missing());
        }
        self.invoker
            .0
            .events
            .clock
            .set(self.namespace, self.trigger, None);
        Ok(json!({ "status": "success" }))
    }

    async fn pause(&self, active: bool) -> Result<Value, Refused> {
        self.permit().await?;
        let mut schedule = self.stored().await?;
        let now = Timestamp::now();
        schedule.active = active;
        schedule.changed = now;
        schedule.reason = (!active).then(|| Reason {
            kind: "USER".to_owned(),
            status_code: None,
            message: "paused".to_owned(),
        });
        if active {
            schedule.last = schedule.last.max(now);
            self.check(&schedule)?;
        }
        self.keep(&schedule).await
    }
}

/// A value as JavaScript puts it into a text.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
