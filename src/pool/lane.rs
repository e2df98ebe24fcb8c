//! The instances of one action in one namespace: a stack of idle ones, and a count of those that run.
//!
//! The state is plain data under one short lock; what is slow (starting, dropping an instance) happens outside of it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::memory::Held;
use crate::model::{Action, Annotation, Json, Namespace, Timestamp, Version};
use crate::sandbox::Instance;
use crate::scheduler::idle::{History, Idle as IdleFacts, Policy};
use crate::telemetry::metrics::Series;

/// Bytes assumed for an instance of a program that was never loaded: a Rust guest's first pages and the host's share.
const BYTES_ASSUMED: usize = 2 << 20;

/// What every record of an action says; made once per version.
#[derive(Debug)]
pub(crate) struct Facts {
    /// `path`, `kind`, `limits` and `revision`, and `binding` where it was reached by one.
    pub(crate) annotations: Arc<[Annotation]>,
    /// Environment at init: `init` parameters and the `__OW_*` that do not change between runs.
    pub(crate) env: Arc<[(String, String)]>,
    /// Whether instances may be reused, as far as the action is concerned.
    pub(crate) reusable: bool,
    /// Whether a run that was lost must not be repeated.
    pub(crate) at_most_once: bool,
    /// Where its activations are counted.
    pub(crate) series: Arc<Series>,
}

impl Facts {
    /// Those of `action`, invoked by `namespace`.
    pub(crate) fn of(namespace: &Namespace, action: &Action) -> Self {
        let mut env = action.parameters.init_env();
        env.push(("__OW_NAMESPACE".to_owned(), namespace.to_string()));
        env.push(("__OW_ACTION_NAME".to_owned(), format!("/{}", action.fqn)));
        env.push(("__OW_ACTION_VERSION".to_owned(), action.version.to_string()));
        let mut annotations = vec![
            annotation("path", Json::from_serialize(&action.fqn.to_string())),
            annotation("kind", Json::from_serialize(action.exec.kind())),
            annotation("limits", Json::from_serialize(&action.limits)),
        ];
        if let Some(binding) = action.binding() {
            annotations.push(annotation("binding", Json::from_serialize(&binding)));
        }
        if action.revision > 0 {
            annotations.push(annotation("revision", Json::from(action.revision)));
        }
        Self {
            annotations: annotations.into(),
            env: env.into(),
            reusable: !action.annotations.is_truthy("fresh-instance", false),
            at_most_once: action.annotations.is_true("at-most-once"),
            series: Series::of(namespace, &action.fqn),
        }
    }
}

fn annotation(key: &'static str, value: Json) -> Annotation {
    Annotation {
        key: Cow::Borrowed(key),
        value,
    }
}

/// Which text of the action: an instance serves exactly one. Clients choose versions, so those alone do not tell.
type Generation = (Version, Timestamp, u64);

fn generation(action: &Action) -> Generation {
    (action.version, action.updated, action.revision)
}

pub(super) struct Idle {
    pub(super) instance: Box<dyn Instance>,
    pub(super) held: Arc<Held>,
    since: Instant,
}

/// See the module.
pub(crate) struct Lane {
    state: Mutex<State>,
}

struct State {
    generation: Generation,
    facts: Arc<Facts>,
    /// The one used last at the back.
    idle: VecDeque<Idle>,
    running: u64,
    history: History,
    last_call: Option<Instant>,
    /// What an instance takes at its start, once known.
    bytes_min: Option<usize>,
}

/// What a claim found, before memory was taken.
pub(super) enum Place {
    Warm(Idle, Arc<Facts>),
    /// Room by the action's limit; an instance needs about so many bytes.
    Room(usize, Arc<Facts>),
    /// The action is at its limit.
    Full,
}

impl Lane {
    pub(super) fn new(namespace: &Namespace, action: &Action) -> Self {
        Self {
            state: Mutex::new(State {
                generation: generation(action),
                facts: Arc::new(Facts::of(namespace, action)),
                idle: VecDeque::new(),
                running: 0,
                history: History::default(),
                last_call: None,
                bytes_min: None,
            }),
        }
    }

    /// Counts one more run, if the action's limit allows it, and takes an idle instance for it if there is one. Idle
    /// instances of another version come back to be dropped outside the lock.
    pub(super) fn claim(&self, namespace: &Namespace, action: &Action) -> (Place, Vec<Idle>) {
        let mut state = self.state.lock();
        if state.running >= action.limits.runs_max() {
            return (Place::Full, Vec::new());
        }
        let mut stale = Vec::new();
        if state.generation != generation(action) {
            stale.extend(state.idle.drain(..));
            state.generation = generation(action);
            state.facts = Arc::new(Facts::of(namespace, action));
            state.bytes_min = None;
        }
        state.running += 1;
        let now = Instant::now();
        let gap = state.last_call.replace(now).map(|last| now - last);
        state.history.note(gap);
        let facts = Arc::clone(&state.facts);
        let place = match state.idle.pop_back() {
            Some(idle) => Place::Warm(idle, facts),
            None => Place::Room(state.bytes_min.unwrap_or(BYTES_ASSUMED), facts),
        };
        (place, stale)
    }

    /// One run fewer.
    pub(super) fn release(&self) {
        let mut state = self.state.lock();
        debug_assert!(state.running > 0, "released more runs than were claimed");
        state.running = state.running.saturating_sub(1);
    }

    /// One run fewer, and its instance waits for the next; an instance of an older version comes back to be dropped.
    pub(super) fn give_back(
        &self,
        facts: &Arc<Facts>,
        instance: Box<dyn Instance>,
        held: Arc<Held>,
    ) -> Option<Idle> {
        held.shrink_to(instance.memory_bytes());
        let idle = Idle {
            instance,
            held,
            since: Instant::now(),
        };
        let mut state = self.state.lock();
        state.running = state.running.saturating_sub(1);
        if !Arc::ptr_eq(&state.facts, facts) {
            return Some(idle);
        }
        state.idle.push_back(idle);
        None
    }

    /// Notes what a start took.
    pub(super) fn started(&self, bytes_min: usize, start_us: u64) {
        let mut state = self.state.lock();
        state.bytes_min = Some(bytes_min);
        state.history.start_us = start_us;
    }

    /// Takes out what was idle for longer than the policy keeps it.
    pub(super) fn expired(&self, policy: &dyn Policy, now: Instant) -> Vec<Idle> {
        let mut state = self.state.lock();
        let keep = policy.keep(&state.history);
        let late = state
            .idle
            .iter()
            .take_while(|idle| now - idle.since >= keep)
            .count();
        state.idle.drain(..late).collect()
    }

    /// Rank and bytes of each idle instance, the longest idle first.
    pub(super) fn ranks(&self, policy: &dyn Policy, now: Instant) -> Vec<(u64, usize)> {
        let state = self.state.lock();
        let rank = |idle: &Idle| {
            let facts = IdleFacts {
                idle_for: now - idle.since,
                bytes: idle.held.bytes(),
            };
            (policy.rank(&state.history, &facts), facts.bytes)
        };
        state.idle.iter().map(rank).collect()
    }

    /// Takes out the `count` that were idle longest.
    pub(super) fn evict(&self, count: usize) -> Vec<Idle> {
        let mut state = self.state.lock();
        let count = count.min(state.idle.len());
        state.idle.drain(..count).collect()
    }

    /// Whether the action's limit leaves room for one more run.
    pub(super) fn has_room(&self, action: &Action) -> bool {
        self.state.lock().running < action.limits.runs_max()
    }

    /// Idle and running instances.
    pub(super) fn counts(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.idle.len(), state.running)
    }

    /// Nothing runs, nothing is idle, and nobody called for as long as an instance would be kept.
    pub(super) fn is_forgotten(&self, policy: &dyn Policy, now: Instant) -> bool {
        let state = self.state.lock();
        let keep = policy.keep(&state.history);
        state.idle.is_empty()
            && state.running == 0
            && state.last_call.is_none_or(|last| now - last >= keep)
    }
}
