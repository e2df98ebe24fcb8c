//! Calls that nobody waits for, and what became of them.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{Tenant, annotation, eventually, id_of, pause};

/// Longest that work may take to be recorded once every fault is over.
const RECORDED_MAX: Duration = Duration::from_secs(60);

/// What was accepted of a load, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Load {
    accepted: Mutex<Vec<(String, Instant)>>,
    /// Calls that were answered with something else.
    pub(crate) refused: AtomicUsize,
    /// Calls that were not answered: they may have been accepted or not.
    pub(crate) unanswered: AtomicUsize,
    is_over: AtomicBool,
}

/// Ends a load when it is dropped: a test that fails must not wait for it.
pub(crate) struct Running<'a>(&'a Load);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}

/// What was found of a load at its end.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) accepted: usize,
    pub(crate) recorded: usize,
    pub(crate) redelivered: usize,
    /// Begun as often as anything is, each time on a node that died, and recorded as that.
    pub(crate) given_up: usize,
    /// Longest time between two calls that were accepted.
    pub(crate) gap: Duration,
}

impl Load {
    /// Calls once; the status, if there was an answer.
    pub(crate) fn call(&self, tenant: &Tenant, action: &str, params: &Value) -> Option<u16> {
        let request = tenant.request("POST", &format!("actions/{action}"));
        let Ok(reply) = tenant.client.try_send(&request.json(params)) else {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        assert!(
            reply.status != 503 || reply.header("retry-after").is_some(),
            "{}",
            reply.shown()
        );
        if reply.status == 202 {
            let id = id_of(&reply);
            let mut accepted = self.accepted.lock().expect("not poisoned");
            accepted.push((id, Instant::now()));
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        Some(reply.status)
    }

    /// Calls again and again, at whatever `tenant` answers, while it is [`Load::running`].
    pub(crate) fn go_on(
        &self,
        action: &str,
        params: &Value,
        every: Duration,
        tenant: impl Fn() -> Tenant,
    ) {
        while !self.is_over.load(Ordering::Acquire) {
            self.call(&tenant(), action, params);
            pause(every);
        }
    }

    /// Lets [`Load::go_on`] go on for as long as what it answers lives.
    pub(crate) fn running(&self) -> Running<'_> {
        self.is_over.store(false, Ordering::Release);
        Running(self)
    }

    /// Waits until so many calls were accepted.
    #[track_caller]
    pub(crate) fn await_accepted(&self, count: usize) {
        eventually("calls are accepted", || {
            (self.accepted.lock().expect("not poisoned").len() >= count).then_some(())
        });
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        let accepted = self.accepted.lock().expect("not poisoned");
        accepted.iter().map(|(id, _)| id.clone()).collect()
    }

    /// Every accepted id has one record, of a success, and every record is of a call that was made.
    #[track_caller]
    pub(crate) fn settle(&self, tenant: &Tenant) -> Found {
        let found = self.settle_after_many_kills(tenant);
        assert_eq!(found.given_up, 0);
        found
    }

    /// As [`Load::settle`], but what was begun three times on nodes that died may be given up, as is promised.
    #[track_caller]
    pub(crate) fn settle_after_many_kills(&self, tenant: &Tenant) -> Found {
        let ids = self.ids();
        let deadline = Instant::now() + RECORDED_MAX;
        let (mut redelivered, mut given_up) = (0, 0);
        for id in &ids {
            let record = loop {
                let reply = tenant.get(&format!("activations/{id}"));
                if reply.status == 200 {
                    break reply.json();
                }
                assert!(
                    Instant::now() < deadline,
                    "{id} was accepted and has no record: {}",
                    reply.shown()
                );
                pause(Duration::from_millis(20));
            };
            assert_eq!(record["activationId"], id.as_str());
            let again = annotation(&record, "redelivered");
            redelivered += usize::from(again.is_some());
            let is_given_up = again.is_some_and(|times| *times == 3)
                && record["response"]["status"] == "whisk internal error";
            given_up += usize::from(is_given_up);
            let is_success = record["response"]["status"] == "success";
            assert!(is_success || is_given_up, "{record}");
        }
        let listed = listed(tenant);
        // Whose answer was lost, or said that Redis did not answer in time, may have been accepted all the same.
        let unknown =
            self.unanswered.load(Ordering::Relaxed) + self.refused.load(Ordering::Relaxed);
        let unique: HashSet<&String> = listed.iter().collect();
        assert_eq!(unique.len(), listed.len(), "an activation is listed twice");
        let asked: HashSet<&String> = ids.iter().collect();
        assert_eq!(asked.len(), ids.len(), "an id was given twice");
        let more = listed.iter().filter(|id| !asked.contains(id)).count();
        assert!(more <= unknown, "{more} records that nobody asked for");
        assert!(
            asked.iter().all(|id| unique.contains(*id)),
            "a record is not listed"
        );
        let accepted = self.accepted.lock().expect("not poisoned");
        let mut times: Vec<Instant> = accepted.iter().map(|(_, when)| *when).collect();
        times.sort();
        let gaps = times.windows(2).map(|two| two[1] - two[0]);
        Found {
            accepted: ids.len(),
            recorded: listed.len(),
            redelivered,
            given_up,
            gap: gaps.max().unwrap_or_default(),
        }
    }
}

/// The ids of all records, in the order they are listed.
fn listed(tenant: &Tenant) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let page = tenant.get(&format!("activations?limit=200&skip={}", ids.len()));
        let page = page.expect(200).json();
        let page = page.as_array().expect("a list");
        let found = page.iter().filter_map(|row| row["activationId"].as_str());
        ids.extend(found.map(str::to_owned));
        if page.len() < 200 {
            return ids;
        }
    }
}
