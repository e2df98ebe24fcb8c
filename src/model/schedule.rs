//! When something happens by the clock: by a cron pattern, at intervals, or once. Arithmetic of times, without a clock.
//!
//! Cron is UNIX's, five fields, or six with seconds first; where both a day of the month and one of the week are given,
//! either will do. Times are those of a zone, UTC unless one is named. Where its clocks are set forward, what falls into
//! the gap happens right after it; where they are set back, what has a fixed time happens once, and what recurs within the
//! hour goes on.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Zoned;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::time::Timestamp;

/// Longest cron pattern; a year of single minutes is longer, and somebody else's bug.
const PATTERN_BYTES_MAX: usize = 512;

/// The end of the year 9999, beyond which no calendar here reaches.
const MILLIS_MAX: u64 = 253_402_300_799_000;

const MINUTE_MS: u64 = 60_000;

/// What recurs, and how; as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum When {
    /// By a cron pattern.
    Cron {
        /// Five or six fields.
        cron: String,
        /// Name of a zone of the IANA's; UTC when there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timezone: Option<String>,
    },
    /// At an interval, from the start on.
    Every {
        /// Its length.
        minutes: u64,
    },
    /// At one time.
    Once {
        /// Which.
        date: Timestamp,
    },
}

/// Why a schedule is none; the texts are those of OpenWhisk's alarms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// Not a cron pattern, or one of no time at all.
    #[error("cron pattern '{0}' is not valid")]
    Cron(String),
    /// Not a zone.
    #[error("Invalid timezone.")]
    Zone,
}

/// A schedule to be asked for times.
#[derive(Debug, Clone)]
pub struct Timetable {
    what: What,
    /// Nothing happens before.
    start: Timestamp,
    /// Nor after.
    stop: Timestamp,
}

#[derive(Debug, Clone)]
enum What {
    Cron(Box<Cron>, TimeZone),
    Every { period_ms: u64 },
    Once(Timestamp),
}

impl Timetable {
    /// The times of `when`, from `start` to `stop`, both of which belong to it.
    ///
    /// # Errors
    /// When the pattern or the zone is none.
    pub fn new(
        when: &When,
        start: Option<Timestamp>,
        stop: Option<Timestamp>,
    ) -> Result<Self, BadSchedule> {
        let what = match when {
            When::Cron { cron, timezone } => {
                let zone = match timezone {
                    None => TimeZone::UTC,
                    Some(name) => TimeZone::get(name).map_err(|_| BadSchedule::Zone)?,
                };
                What::Cron(Box::new(parse(cron)?), zone)
            }
            When::Every { minutes } => What::Every {
                period_ms: minutes.saturating_mul(MINUTE_MS).max(MINUTE_MS),
            },
            When::Once { date } => What::Once(*date),
        };
        let timetable = Self {
            what,
            start: start.unwrap_or_default(),
            stop: stop.unwrap_or(Timestamp(u64::MAX)),
        };
        if let When::Cron { cron, .. } = when
            && timetable.cron_after(Timestamp(0)).is_none()
        {
            return Err(BadSchedule::Cron(cron.clone()));
        }
        Ok(timetable)
    }

    /// The first time after `time`.
    #[must_use]
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let before_start = Timestamp(self.start.0.saturating_sub(1));
        let from = time.max(before_start);
        let next = match &self.what {
            What::Cron(..) => self.cron_after(from)?,
            What::Every { period_ms } => {
                let passed = from.millis_since(self.start);
                let count = match from < self.start {
                    true => 0,
                    false => passed / period_ms + 1,
                };
                Timestamp(
                    self.start
                        .0
                        .saturating_add(count.saturating_mul(*period_ms)),
                )
            }
            What::Once(date) => Some(*date).filter(|date| *date > from)?,
        };
        (next <= self.stop).then_some(next)
    }

    /// The last time that is not after `time`.
    #[must_use]
    pub fn latest_upto(&self, time: Timestamp) -> Option<Timestamp> {
        let upto = time.min(self.stop);
        let latest = match &self.what {
            What::Cron(cron, zone) => {
                let found = cron
                    .find_previous_occurrence(&zoned(upto, zone)?, true)
                    .ok()?;
                stamp(&found)?
            }
            What::Every { period_ms } => {
                let passed = upto.0.checked_sub(self.start.0)?;
                Timestamp(self.start.0 + passed / period_ms * period_ms)
            }
            What::Once(date) => *date,
        };
        (self.start <= latest && latest <= upto).then_some(latest)
    }

    /// The shortest time between two of the next `count` after `time`, milliseconds.
    #[must_use]
    pub fn shortest_gap(&self, time: Timestamp, count: usize) -> Option<u64> {
        let mut last = self.next_after(time)?;
        let mut shortest = None;
        for _ in 0..count {
            let Some(next) = self.next_after(last) else {
                break;
            };
            let gap = next.millis_since(last);
            shortest = Some(shortest.map_or(gap, |least: u64| least.min(gap)));
            last = next;
        }
        shortest
    }

    fn cron_after(&self, time: Timestamp) -> Option<Timestamp> {
        let What::Cron(cron, zone) = &self.what else {
            return None;
        };
        let from = zoned(time, zone)?;
        let found = cron.find_next_occurrence(&from, false).ok()?;
        stamp(&found)
    }
}

fn parse(pattern: &str) -> Result<Cron, BadSchedule> {
    let bad = || BadSchedule::Cron(pattern.to_owned());
    let fields = pattern.split_whitespace().count();
    if pattern.len() > PATTERN_BYTES_MAX || !matches!(fields, 1 | 5 | 6) {
        return Err(bad());
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build();
    parser.parse(pattern).map_err(|_| bad())
}

/// Whether a cron pattern says seconds other than the full minute.
#[must_use]
pub fn has_seconds(pattern: &str) -> bool {
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    fields.len() > 5 && fields[fields.len() - 6] != "0"
}

fn zoned(time: Timestamp, zone: &TimeZone) -> Option<Zoned> {
    let millis = i64::try_from(time.0.min(MILLIS_MAX)).ok()?;
    let time = jiff::Timestamp::from_millisecond(millis).ok()?;
    Some(time.to_zoned(zone.clone()))
}

fn stamp(time: &Zoned) -> Option<Timestamp> {
    u64::try_from(time.timestamp().as_millisecond())
        .ok()
        .map(Timestamp)
}

/// A date as clients give it: milliseconds since 1970, or ISO 8601, in UTC where it names no offset.
#[must_use]
pub fn date(given: &Value) -> Option<Timestamp> {
    let millis = match given {
        Value::Number(number) => {
            let whole = number.as_i64();
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a fraction of a millisecond is nobody's intention, and the ends saturate"
            )]
            let rounded = || number.as_f64().map(|number| number as i64);
            whole.or_else(rounded)?
        }
        Value::String(text) => iso8601(text.trim())?,
        _ => return None,
    };
    let millis = u64::try_from(millis).unwrap_or(0);
    (millis <= MILLIS_MAX).then_some(Timestamp(millis))
}

fn iso8601(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let date = text.parse::<DateTime>();
    let date = date.or_else(|_| text.parse::<Date>().map(|date| date.at(0, 0, 0, 0)));
    let time = date.ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(time.timestamp().as_millisecond())
}

/// `2018-03-13T21:06:34Z`.
#[must_use]
pub fn iso_seconds(time: Timestamp) -> String {
    let full = super::time::iso8601(time.millis() / 1000 * 1_000_000_000);
    full.replace(".000000000", "")
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
