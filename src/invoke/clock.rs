//! Fires triggers when their schedules say so: neither twice nor never, whatever stops in between.
//!
//! A due time is fired in three steps: the fire is put into the log of accepted work, under an id made of the schedule and
//! the due time; the schedule is written with that time as its `last`; only then are the rules run. What a crash leaves:
//!
//! - before the first step: the time is still to be done, and is done after the start (see [`Missed`]);
//! - between the first and the second: the log has the fire. It is found at the start, before the clock runs, and the
//!   schedule is written then ([`Invoker::note_rung`]); the fire is taken up as any other accepted work;
//! - after the second: the schedule has the time behind it, and the log has the fire until its rules have run.
//!
//! Because the rules run only after the second step, the fire cannot have left the log before the schedule knows of it.
//! Schedules change under this: each write expects the revision that was read, and is thought through again when it is not
//! there any more.
//!
//! Where there are several nodes, each has a clock, and all of them may find that a time is due. Each promise has a name of its
//! own, and the write that puts the time behind the schedule notes whose promise counts: one write wins, whoever loses sees
//! whose it was, takes the promise back and runs nothing. So does who takes up the promise of a node that died before its
//! write, when another was quicker; and when none was, the write is made for the dead. So that nodes seldom meet, the one that
//! made a schedule or fired it last looks on time, and the others a little later, by when they have mostly heard that it is
//! done.
//!
//! One task waits for the earliest due time, but never longer than a second, so that a step of the wall clock is noticed.
//! After a step forward, the times that were skipped are missed ones. After a step back, what was fired is not fired
//! again, unless the clock was hours ahead: then the schedule begins anew from now.
//!
//! A fire counts against the namespace's fires per minute and is put off while there are none left. While the namespace is
//! blocked its times pass. A schedule whose trigger is gone is removed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::alarms::{Delete, Missed, Schedule};
use super::expand::STORE_RETRY;
use super::trigger::{Fire, Fired};
use super::{Caller, Error, Invoker, new_id};
use crate::auth::Identity;
use crate::model::schedule::{Timetable, When};
use crate::model::{ActivationId, EntityName, Fqn, Namespace, Rule, Timestamp, Trigger};
use crate::store::catalog::Found;
use crate::store::{self, Expect, Revision, Shelf};
use crate::telemetry::metrics::{self, Alarm};

/// Longest time between two looks at the wall clock.
const LOOK: Duration = Duration::from_secs(1);

/// Schedules worked on at one time.
const AT_ONE_TIME: usize = 256;

/// A time this late is a missed one.
const LATE_MS: u64 = 60_000;

/// Missed times that are fired at most.
const MISSED_MAX: usize = 100;

/// A `last` this far ahead was written by a clock that was wrong.
const AHEAD_MS: u64 = 3 * 60 * 60 * 1000;

/// Time over which schedules that may all have changed are read.
const SPREAD_MS: u64 = 50;

/// Pause before a time is tried again that could not be fired.
const TRY_AGAIN_MS: u64 = 1_000;

/// A schedule as it was read.
struct Read {
    schedule: Schedule,
    revision: Revision,
}

impl Invoker {
    /// Other nodes have clocks, too, and what they change will be told. Before the clock is started.
    pub(crate) fn share_clock(&self) {
        self.0.events.clock.share();
    }

    /// Some node changed the schedule of `trigger`, or removed it.
    pub(crate) fn schedule_changed(&self, namespace: &Namespace, trigger: &EntityName) {
        let soon = Timestamp::now().millis() + fastrand::u64(0..SPREAD_MS);
        let clock = &self.0.events.clock;
        clock.set(namespace, trigger, Some(Timestamp(soon)));
    }

    /// All of them may have changed.
    pub(crate) fn schedules_changed(&self) {
        let this = self.clone();
        tokio::spawn(async move {
            while let Err(error) = this.read_schedules().await {
                tracing::warn!(%error, "schedules are read again later");
                tokio::time::sleep(STORE_RETRY).await;
            }
        });
    }

    /// Reads all schedules and fires from now on. To be called when what was accepted has been taken up.
    ///
    /// # Errors
    /// When the schedules cannot be read.
    pub(crate) async fn start_clock(&self) -> store::Result<()> {
        self.read_schedules().await?;
        tokio::spawn(self.clone().run_clock());
        Ok(())
    }

    async fn read_schedules(&self) -> store::Result<()> {
        let now = Timestamp::now();
        for (namespace, item) in self.0.store.items.everywhere(Shelf::Schedules).await? {
            let Ok(trigger) = EntityName::parse(&item.name) else {
                continue;
            };
            match Schedule::of(&item) {
                // All are looked at once: times may have passed, and deletions may be left to do.
                Some(_) => self.0.events.clock.set(&namespace, &trigger, Some(now)),
                None => {
                    tracing::error!(%namespace, %trigger, "a schedule of another release is left alone");
                }
            }
        }
        Ok(())
    }

    async fn run_clock(self) {
        let hands = Arc::new(Semaphore::new(AT_ONE_TIME));
        loop {
            if self.0.events.backlog.is_stopped() {
                return;
            }
            let clock = &self.0.events.clock;
            let pause = match clock.take(Timestamp::now()) {
                Ok((namespace, trigger)) => {
                    let Ok(hand) = Arc::clone(&hands).acquire_owned().await else {
                        return;
                    };
                    let this = self.clone();
                    tokio::spawn(async move {
                        this.look(&namespace, &trigger).await;
                        drop(hand);
                    });
                    continue;
                }
                Err(pause) => pause.unwrap_or(LOOK).min(LOOK),
            };
            // Ends with the pause or with something that is due earlier: both mean to look again.
            drop(tokio::time::timeout(pause, clock.earlier.notified()).await);
        }
    }

    /// Does what is to be done about one schedule now, and says when to look again.
    async fn look(&self, namespace: &Namespace, trigger: &EntityName) {
        let clock = &self.0.events.clock;
        let again = match self.ring(namespace, trigger).await {
            Ok(Some(next)) => {
                let patience_ms = clock.patience_ms(namespace, trigger);
                Some(Timestamp(next.0.saturating_add(patience_ms)))
            }
            Ok(None) => {
                clock.disown(namespace, trigger);
                None
            }
            // Another node wrote in between: what it wrote is looked at.
            Err(Error::Store(store::Error::Conflict)) => Some(Timestamp::now()),
            Err(error) => {
                metrics::alarm(Alarm::Postponed);
                tracing::warn!(%namespace, %trigger, %error, "a trigger could not be fired by the clock, it will be tried again");
                let pause_ms = match &error {
                    Error::Refused(refusal) => u64::from(refusal.retry_after_s()) * 1000,
                    _ => TRY_AGAIN_MS,
                };
                Some(Timestamp(
                    Timestamp::now().millis() + pause_ms.max(TRY_AGAIN_MS),
                ))
            }
        };
        if let Some(again) = again {
            clock.set(namespace, trigger, Some(again));
        }
    }

    /// Fires what is due; the time of the next look.
    async fn ring(
        &self,
        namespace: &Namespace,
        trigger: &EntityName,
    ) -> Result<Option<Timestamp>, Error> {
        loop {
            let Some(Read {
                mut schedule,
                revision,
            }) = self.read(namespace, trigger).await?
            else {
                return Ok(None);
            };
            let fqn = in_namespace(namespace, trigger);
            if !schedule.active {
                self.delete_after(&fqn, &schedule).await?;
                return Ok(None);
            }
            let found = match self.0.resolver.catalog().get::<Trigger>(&fqn).await? {
                Found::Is(found, _) => found,
                Found::Other | Found::Nothing => {
                    let items = &self.0.store.items;
                    items
                        .delete(namespace, Shelf::Schedules, trigger.as_str())
                        .await?;
                    return Ok(None);
                }
            };
            let now = Timestamp::now();
            let table = match schedule.timetable() {
                Ok(table) => table,
                Err(bad) => {
                    schedule.disable(&bad.to_string());
                    self.write(namespace, trigger, &schedule, revision).await?;
                    continue;
                }
            };
            if schedule.last.millis_since(now) > AHEAD_MS {
                schedule.last = now;
            }
            let Some(next) = table.next_after(schedule.last) else {
                schedule.disable(last_words(&schedule));
                self.write(namespace, trigger, &schedule, revision).await?;
                continue;
            };
            if next > now {
                return Ok(Some(next));
            }
            let due = next_due(&schedule, &table, next, now);
            let owner = self.0.keys.owner(namespace).await?;
            let (Some(owner), Some(due)) = (owner, due) else {
                // Blocked, or nothing is to be done about what was missed.
                metrics::alarm(Alarm::Skipped);
                advance(
                    &mut schedule,
                    table.latest_upto(now).unwrap_or(next),
                    &table,
                    None,
                );
                self.write(namespace, trigger, &schedule, revision).await?;
                continue;
            };
            if let Some(again) = self.too_often(&owner, now).await {
                return Ok(Some(again));
            }
            let ringing = Ringing {
                owner: &owner,
                trigger: found,
                schedule,
                revision,
                due,
            };
            self.fire_due(ringing, &table).await?;
        }
    }

    /// When to look again, where the namespace has fired as often as it may.
    async fn too_often(&self, owner: &Identity, now: Timestamp) -> Option<Timestamp> {
        let admitted = self.0.throttle.fire(&owner.namespace, &owner.limits);
        let exceeded = admitted.await.err()?;
        metrics::alarm(Alarm::Postponed);
        let pause_ms = u64::from(exceeded.retry_after_s()) * 1000;
        Some(Timestamp(now.millis() + pause_ms))
    }

    /// The three steps.
    async fn fire_due(&self, ringing: Ringing<'_>, table: &Timetable) -> Result<(), Error> {
        let Ringing {
            owner,
            trigger,
            schedule,
            revision,
            due,
        } = ringing;
        let (namespace, name) = (&owner.namespace, trigger.fqn.name.clone());
        let caller = Caller {
            namespace: namespace.clone(),
            subject: namespace.clone(),
            // Passed on to those actions that ask for it, where it is kept so that it can be had again.
            api_key: self.0.keys.api_key(owner),
            limits: Arc::clone(&owner.limits),
            record: owner.limits.keep(false, false),
        };
        let id = fire_id(schedule.generation, due);
        let fire = Fire {
            id,
            trigger,
            payload: schedule.payload.clone(),
            headers: Vec::new(),
            transaction: format!("alarm_{}", due.millis()).into(),
        };
        let by = new_id();
        let mut promised = None;
        if let Some((mut fired, targets)) = self.aim(&caller, fire).await? {
            fired.due = Some(due);
            fired.by = Some(by);
            let place = self.promise_fire(&fired).await?;
            promised = Some((fired, targets, place));
        }
        // Promised: it is not to be done again, whatever the store says now.
        let read = Read { schedule, revision };
        let clock = &self.0.events.clock;
        if !self
            .count_fire(namespace, &name, read, (due, by), table)
            .await
        {
            clock.disown(namespace, &name);
            if promised.is_some() {
                self.0.store.accepted.settle(id);
            }
            return Ok(());
        }
        clock.own(namespace, &name);
        metrics::fired(
            metrics::Source::Clock,
            match promised {
                Some(_) => metrics::Fire::Accepted,
                None => metrics::Fire::Unheard,
            },
        );
        let late_ms = Timestamp::now().millis_since(due);
        metrics::alarm(Alarm::Fired(Duration::from_millis(late_ms)));
        if let Some((fired, targets, place)) = promised {
            self.launch(fired, caller, targets, place);
        }
        Ok(())
    }

    /// Puts the time behind the schedule; whether this fire is the one that counts, and not another node's.
    async fn count_fire(
        &self,
        namespace: &Namespace,
        name: &EntityName,
        read: Read,
        (due, by): (Timestamp, ActivationId),
        table: &Timetable,
    ) -> bool {
        let Read {
            mut schedule,
            mut revision,
        } = read;
        let mut changed_table = None;
        loop {
            // Also this node's own, when a write was done whose answer got lost.
            if let Some(counts) = schedule.rung_by(due) {
                return counts == by;
            }
            let mut rung = schedule.clone();
            let table = changed_table.as_ref().unwrap_or(table);
            advance(&mut rung, due, table, Some(by));
            match self.write(namespace, name, &rung, revision).await {
                Ok(()) => return true,
                Err(store::Error::Conflict) => {}
                Err(error) => {
                    tracing::warn!(trigger = %name, %namespace, %error, "a schedule waits for the store");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
            match self.read(namespace, name).await {
                // Changed meanwhile, by somebody who may not know of this fire.
                Ok(Some(read)) if read.schedule.generation == schedule.generation => {
                    changed_table = read.schedule.timetable().ok();
                    schedule = read.schedule;
                    revision = read.revision;
                }
                // Gone, or another: it knows nothing of this. Another node may have fired before that.
                Ok(_) => return !self.0.events.clock.is_shared(),
                Err(_) => tokio::time::sleep(STORE_RETRY).await,
            }
        }
    }

    /// A former process, or a node that died, promised this fire; its schedule may not know of it yet. Whether it is to be
    /// run: not when another node's fire for the same time counts. Before the clock runs, where there is one process.
    pub(super) async fn note_rung(&self, fired: &Fired, due: Timestamp) -> store::Result<bool> {
        loop {
            let read = self.read(&fired.namespace, &fired.trigger).await?;
            let Some(Read {
                mut schedule,
                revision,
            }) = read
            else {
                return Ok(true);
            };
            if fire_id(schedule.generation, due) != fired.id {
                return Ok(true);
            }
            if let Some(counts) = schedule.rung_by(due) {
                return Ok(fired.by.is_none_or(|by| by == counts));
            }
            if schedule.last >= due {
                return Ok(true);
            }
            let Ok(table) = schedule.timetable() else {
                return Ok(true);
            };
            advance(
                &mut schedule,
                due,
                &table,
                Some(fired.by.unwrap_or(fired.id)),
            );
            let written = self.write(&fired.namespace, &fired.trigger, &schedule, revision);
            match written.await {
                Ok(()) => return Ok(true),
                Err(store::Error::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn read(
        &self,
        namespace: &Namespace,
        trigger: &EntityName,
    ) -> store::Result<Option<Read>> {
        let items = &self.0.store.items;
        let found = items
            .get(namespace, Shelf::Schedules, trigger.as_str())
            .await?;
        Ok(found.and_then(|(item, revision)| {
            let schedule = Schedule::of(&item)?;
            Some(Read { schedule, revision })
        }))
    }

    async fn write(
        &self,
        namespace: &Namespace,
        trigger: &EntityName,
        schedule: &Schedule,
        revision: Revision,
    ) -> store::Result<()> {
        let (items, item) = (&self.0.store.items, schedule.item(trigger));
        let expect = Some(Expect::Revision(revision));
        items
            .put(namespace, Shelf::Schedules, item, expect)
            .await
            .map(drop)
    }

    /// Deletes what is to be deleted when a trigger was fired once.
    async fn delete_after(&self, fqn: &Fqn, schedule: &Schedule) -> store::Result<()> {
        let When::Once { date } = schedule.when else {
            return Ok(());
        };
        let delete = match schedule.delete_after_fire {
            Some(delete @ (Delete::True | Delete::Rules)) if schedule.last >= date => delete,
            _ => return Ok(()),
        };
        let catalog = self.0.resolver.catalog();
        if let Found::Is(trigger, revision) = catalog.get::<Trigger>(fqn).await? {
            catalog.delete(fqn, revision).await?;
            if delete == Delete::Rules {
                for name in trigger.rules.keys() {
                    let rule = in_namespace(&fqn.namespace, name);
                    if let Found::Is(_, revision) = catalog.get::<Rule>(&rule).await? {
                        catalog.delete(&rule, revision).await?;
                    }
                }
            }
        }
        let items = &self.0.store.items;
        items
            .delete(&fqn.namespace, Shelf::Schedules, fqn.name.as_str())
            .await
            .map(drop)
    }
}

/// A time to be fired, and all that is known about it.
struct Ringing<'a> {
    owner: &'a Identity,
    trigger: Arc<Trigger>,
    schedule: Schedule,
    revision: Revision,
    due: Timestamp,
}

fn in_namespace(namespace: &Namespace, name: &EntityName) -> Fqn {
    Fqn {
        namespace: namespace.clone(),
        package: None,
        name: name.clone(),
    }
}

/// Which of the times from `next` to `now` is to be fired now; `None` when all are let pass.
fn next_due(
    schedule: &Schedule,
    table: &Timetable,
    next: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let latest = table.latest_upto(now).unwrap_or(next).max(next);
    match schedule.missed {
        Missed::Once => Some(latest),
        Missed::Skip => (now.millis_since(latest) <= LATE_MS).then_some(latest),
        Missed::All => {
            let mut first = latest;
            for _ in 1..MISSED_MAX {
                match table.latest_upto(Timestamp(first.0.saturating_sub(1))) {
                    Some(before) if before >= next => first = before,
                    _ => break,
                }
            }
            Some(first)
        }
    }
}

/// Puts `due` behind the schedule, fired by that promise or let pass, and ends it where nothing is left to come.
fn advance(
    schedule: &mut Schedule,
    due: Timestamp,
    table: &Timetable,
    fired_by: Option<ActivationId>,
) {
    if let Some(by) = fired_by {
        schedule.note(due, by);
    }
    if schedule.last < due {
        schedule.last = due;
        if fired_by.is_some()
            && let Some(left) = &mut schedule.left
        {
            *left = left.saturating_sub(1);
        }
    }
    if !schedule.active {
        return;
    }
    if schedule.left == Some(0) {
        schedule.disable("Automatically disabled after reaching max triggers");
    } else if table.next_after(schedule.last).is_none() {
        schedule.disable(last_words(schedule));
    }
}

fn last_words(schedule: &Schedule) -> &'static str {
    match schedule.when {
        When::Once { .. } => "Automatically disabled after firing once",
        When::Every { .. } => "Automatically disabled after firing last scheduled interval trigger",
        When::Cron { .. } => "Automatically disabled after firing last scheduled cron trigger",
    }
}

/// The id of the fire of a schedule at a time: the same whoever makes it.
fn fire_id(generation: ActivationId, due: Timestamp) -> ActivationId {
    let mut name = [0; 24];
    name[..16].copy_from_slice(&generation.0.to_be_bytes());
    name[16..].copy_from_slice(&due.0.to_be_bytes());
    let hash = blake3::hash(&name);
    let mut random = [0; 16];
    random.copy_from_slice(&hash.as_bytes()[..16]);
    ActivationId::new(due, u128::from_be_bytes(random))
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "clock_nodes_tests.rs"]
mod nodes_tests;
