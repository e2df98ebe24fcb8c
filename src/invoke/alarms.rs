//! Schedules: when a trigger is fired by the clock, as it is kept.
//!
//! A schedule belongs to a trigger and is kept under its name. [`super::feed`] makes and changes them, [`super::clock`]
//! fires what they say.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::schedule::{self, Timetable, When};
use crate::model::{ActivationId, EntityName, Json, Timestamp};
use crate::store::Item;

/// What becomes of times that passed while nothing could be fired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Missed {
    /// The latest is fired.
    #[default]
    Once,
    /// None is fired.
    Skip,
    /// All are fired, at most the latest hundred.
    All,
}

/// What is deleted when a trigger has been fired once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Delete {
    /// Nothing.
    False,
    /// The trigger.
    True,
    /// The trigger and its rules.
    Rules,
}

/// Why a schedule is no longer active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reason {
    pub(super) kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status_code: Option<u16>,
    pub(super) message: String,
}

/// A schedule as it is kept. Its version is 1.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Schedule {
    pub(super) version: u16,
    /// Of this schedule and no other of the trigger's: with a due time it makes the id of the fire.
    pub(super) generation: ActivationId,
    pub(super) when: When,
    #[serde(default)]
    pub(super) start: Option<Timestamp>,
    #[serde(default)]
    pub(super) stop: Option<Timestamp>,
    pub(super) payload: Json,
    /// Fires that are left; `None` is no bound.
    #[serde(default)]
    pub(super) left: Option<u64>,
    #[serde(default)]
    pub(super) delete_after_fire: Option<Delete>,
    #[serde(default)]
    pub(super) missed: Missed,
    /// What clients gave and get back as they gave it: `startDate`, `stopDate`, `date`, `strict`, `maxTriggers`.
    #[serde(default)]
    pub(super) given: Map<String, Value>,
    pub(super) active: bool,
    pub(super) changed: Timestamp,
    #[serde(default)]
    pub(super) reason: Option<Reason>,
    /// Times up to here are done with: fired, or let pass.
    pub(super) last: Timestamp,
    /// The latest fires, oldest first: which of those that were promised for a time is the one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rung: Vec<Rung>,
}

/// A fire that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rung {
    pub(super) due: Timestamp,
    /// Whose promise it is.
    pub(super) by: ActivationId,
}

/// Fires remembered: more than come between the death of a node and the taking up of its promises.
const RUNG_MAX: usize = 16;

impl Schedule {
    /// What is kept in `item`.
    pub(super) fn of(item: &Item) -> Option<Self> {
        let schedule: Self = serde_json::from_str(&item.body).ok()?;
        (schedule.version == 1).then_some(schedule)
    }

    /// As it is kept, for `trigger`.
    pub(super) fn item(&self, trigger: &EntityName) -> Item {
        Item {
            name: trigger.to_string(),
            body: Json::from_serialize(self).get().into(),
            code: None,
            expires: None,
        }
    }

    /// Whose fire counts for `due`; `None` when none does, or when it is too long ago.
    pub(super) fn rung_by(&self, due: Timestamp) -> Option<ActivationId> {
        let rung = self.rung.iter().find(|rung| rung.due == due);
        rung.map(|rung| rung.by)
    }

    /// Notes the fire that counts.
    pub(super) fn note(&mut self, due: Timestamp, by: ActivationId) {
        if self.rung.len() >= RUNG_MAX {
            self.rung.remove(0);
        }
        self.rung.push(Rung { due, by });
    }

    pub(super) fn timetable(&self) -> Result<Timetable, schedule::BadSchedule> {
        Timetable::new(&self.when, self.start, self.stop)
    }

    /// Ends it, saying why.
    pub(super) fn disable(&mut self, message: &str) {
        self.active = false;
        self.changed = Timestamp::now();
        self.reason = Some(Reason {
            kind: "AUTO".to_owned(),
            status_code: None,
            message: message.to_owned(),
        });
    }
}
