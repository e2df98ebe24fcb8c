//! Calls that wait too long in a stream.
//!
//! Whoever reads an entry that is older than `wait_max_s` refuses the calls in it. Where nobody reads it, because the one run
//! that the action may have goes on, its callers are to be told all the same, as on one machine: when their time has come, the
//! front takes back what it pushed, if nobody has read it. From then on it is too old for whoever might.
//!
//! Nothing is watched, or paid, where calls may wait as long as callers do.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::flush::Answer;
use super::{Shared, lane, scripts};
use crate::link::{Batch, read};
use crate::model::ActivationId;
use crate::queue::Key;
use crate::queue::message::{Outcome, Refusal};

/// Callers wait no longer than that: then they are given the activation's id.
const CALLERS_WAIT_S: u64 = 60;
/// How often it is looked whose time has come.
const LOOK: Duration = Duration::from_millis(100);
/// Most entries asked about at once.
const ASKED_MAX: usize = 1024;

/// The calls of one entry.
pub(super) struct Calls {
    key: Key,
    entry: String,
    ids: Vec<ActivationId>,
    /// All works of the entry; those that are promised stay, and so does the entry then.
    works: usize,
    /// Whether it is the action's own limit that keeps them waiting.
    is_limited: bool,
    /// When they have waited too long.
    due: Instant,
}

impl Shared {
    /// Whether calls may wait too long before their callers have gone.
    pub(super) fn watches(&self) -> bool {
        self.config.wait_max_s < CALLERS_WAIT_S
    }

    /// Notes an entry that was pushed here.
    pub(super) fn watch(&self, key: &Key, entry: String, group: &[Answer]) {
        if !self.watches() {
            return;
        }
        let calls = group.iter().filter(|(_, answer)| answer.is_none());
        let ids: Vec<ActivationId> = calls.map(|(id, _)| *id).collect();
        if !ids.is_empty() {
            let is_limited = self.lane(key, |lane| lane.limit > 0);
            self.calls.lock().push_back(Calls {
                key: key.clone(),
                entry,
                ids,
                works: group.len(),
                is_limited,
                due: Instant::now() + Duration::from_secs(self.config.wait_max_s),
            });
        }
    }
}

/// Tells callers whose time has come, for as long as the task lives.
pub(super) async fn go_on(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(replies) = shared.replies() else {
            continue;
        };
        let due = due(&shared, |id| replies.waits_for(id));
        let mut batch = Batch::default();
        for calls in &due {
            let keys = lane::Keys::of(&shared.prefix, &calls.key);
            let mut call = scripts::OVERDUE.call(&[&keys.stream, &keys.holders]);
            call.arg(&calls.entry)
                .arg(shared.config.wait_max_s.saturating_mul(1000))
                .arg(calls.works)
                .arg(u8::from(calls.ids.len() == calls.works))
                .arg(&keys.payload);
            batch.call(&scripts::OVERDUE, call);
        }
        if due.is_empty() {
            continue;
        }
        let Ok(answers) = shared.link.run(&batch).await else {
            // Asked again, until Redis is back or their callers have gone.
            let mut calls = shared.calls.lock();
            due.into_iter().rev().for_each(|one| calls.push_front(one));
            continue;
        };
        for (mut calls, answer) in due.into_iter().zip(answers) {
            match answer.ok().and_then(read::<u8>) {
                Some(1) => {
                    for id in calls.ids {
                        replies.complete(id, Outcome::Dropped(late(calls.is_limited)));
                    }
                }
                Some(2) => {
                    calls.due = Instant::now();
                    shared.calls.lock().push_front(calls);
                }
                _ => {}
            }
        }
    }
}

/// What callers are told who waited too long: the action's own limit kept them waiting, or no node had room.
pub(super) fn late(is_limited: bool) -> Refusal {
    let retry_after_s = 1;
    match is_limited {
        true => Refusal::Backlog { retry_after_s },
        false => Refusal::Overload { retry_after_s },
    }
}

/// Takes out the entries whose time has come, of which calls are waited for.
fn due(shared: &Shared, is_waited_for: impl Fn(ActivationId) -> bool) -> Vec<Calls> {
    let now = Instant::now();
    let (mut calls, mut due) = (shared.calls.lock(), Vec::new());
    while due.len() < ASKED_MAX
        && let Some(next) = calls.pop_front_if(|calls| calls.due <= now)
    {
        if next.ids.iter().any(|id| is_waited_for(*id)) {
            due.push(next);
        }
    }
    due
}
