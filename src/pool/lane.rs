//! The instances of one action in one namespace: a stack of idle ones, and a count of those that run.
//!
//! The state is plain data under one short lock; what is slow (starting, dropping an instance) happens outside of it.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::memory::Held;
use crate::ahead::Ahead;
use crate::model::{Action, Annotation, Json, Namespace, Timestamp, Version};
use crate::sandbox::Instance;
use crate::scheduler::idle::{History, Idle as IdleFacts, Policy};
use crate::telemetry::metrics::Series;

/// Bytes assumed for an instance of a program that was never loaded: a Rust guest's first pages and the host's share.
const BYTES_ASSUMED: usize = 2 << 20;

/// After that long without a call an instance gives up what those that are called can use.
const REST_AFTER: Duration = Duration::from_secs(1);
/// Most that do so at a time: each takes some microseconds, in which nobody else gets at the lane.
const RESTS_MAX: usize = 64;

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
    /// Those of `action`, invoked by `namespace`. What many actions say in the same words is kept once, in `texts`.
    pub(super) fn of(
        namespace: &Namespace,
        action: &Action,
        texts: &Texts,
        api_host: &str,
    ) -> Self {
        let mut env = action.parameters.init_env();
        env.push(("__OW_API_HOST".to_owned(), api_host.to_owned()));
        env.push(("__OW_NAMESPACE".to_owned(), namespace.to_string()));
        env.push(("__OW_ACTION_NAME".to_owned(), format!("/{}", action.fqn)));
        env.push(("__OW_ACTION_VERSION".to_owned(), action.version.to_string()));
        let mut annotations = vec![
            annotation("path", Json::from_serialize(&action.fqn.to_string())),
            annotation(
                "kind",
                texts.share(Json::from_serialize(action.exec.kind())),
            ),
            annotation("limits", texts.share(Json::from_serialize(&action.limits))),
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

/// Texts that many actions share: their kinds, their limits. Beside the memory it saves, a record is written sooner
/// when what it says is still in the caches from the one before.
#[derive(Debug, Default)]
pub(super) struct Texts(Mutex<HashMap<Box<str>, Json>>);

impl Texts {
    /// More than there are kinds and usual limits; what comes later is not shared.
    const MAX: usize = 256;

    /// The same text, kept once.
    fn share(&self, json: Json) -> Json {
        let mut texts = self.0.lock();
        if let Some(shared) = texts.get(json.get()) {
            return shared.clone();
        }
        if texts.len() < Self::MAX {
            texts.insert(json.get().into(), json.clone());
        }
        json
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
    /// What its next run will touch.
    ahead: Ahead,
    /// Whether it has given up what it can.
    rests: bool,
}

/// See the module.
///
/// What a warm claim looks at lies together, in the order it is needed: where there are many actions, each line of it
/// comes from memory.
#[repr(C)]
pub(crate) struct Lane {
    /// Address of the action that `state` has; tells whether a lane found by that address is still its.
    current: AtomicUsize,
    state: Mutex<State>,
    namespace: Namespace,
}

#[repr(C)]
struct State {
    /// Which text of the action: an instance serves exactly one.
    action: Arc<Action>,
    running: u64,
    facts: Arc<Facts>,
    /// What a record of the action touches.
    ahead: Ahead,
    /// The one used last. None only when `older` is empty.
    latest: Option<Idle>,
    last_call: Option<Instant>,
    history: History,
    /// What an instance takes at its start, once known.
    bytes_min: Option<usize>,
    /// The others, the one used last at the back.
    older: VecDeque<Idle>,
}

/// What a claim found, before memory was taken.
pub(super) enum Place {
    Warm(Idle, Arc<Facts>),
    /// Room by the action's limit; an instance needs about so many bytes.
    Room(usize, Arc<Facts>),
    /// The action is at its limit.
    Full,
}

fn address(action: &Arc<Action>) -> usize {
    Arc::as_ptr(action).addr()
}

/// What the record of a run touches of the action and its facts.
fn ahead(action: &Action, facts: &Arc<Facts>) -> Ahead {
    let mut ahead = Ahead::default();
    ahead.add_shared(&**facts);
    ahead.add_shared(&*facts.series);
    // Its name is counted once more for the record, and its limits are read.
    ahead.add_shared(action.fqn.name.as_str());
    ahead.add(&action.limits);
    ahead.add_shared(&*facts.annotations);
    ahead
}

impl State {
    fn push(&mut self, idle: Idle) {
        if let Some(before) = self.latest.replace(idle) {
            self.older.push_back(before);
        }
    }

    fn pop(&mut self) -> Option<Idle> {
        let latest = self.latest.take()?;
        if !self.older.is_empty() {
            self.latest = self.older.pop_back();
        }
        Some(latest)
    }

    /// The longest idle first.
    fn idle_mut(&mut self) -> impl Iterator<Item = &mut Idle> {
        self.older.iter_mut().chain(&mut self.latest)
    }

    /// The longest idle first.
    fn idle(&self) -> impl Iterator<Item = &Idle> {
        self.older.iter().chain(&self.latest)
    }

    fn idle_count(&self) -> usize {
        self.older.len() + usize::from(self.latest.is_some())
    }

    /// Takes out the `count` that were idle longest.
    fn take_oldest(&mut self, count: usize) -> Vec<Idle> {
        let older = count.min(self.older.len());
        let mut taken: Vec<Idle> = self.older.drain(..older).collect();
        if count > older {
            taken.extend(self.latest.take());
        }
        taken
    }
}

impl Lane {
    pub(super) fn new(namespace: &Namespace, action: &Arc<Action>, facts: Facts) -> Self {
        let facts = Arc::new(facts);
        Self {
            current: AtomicUsize::new(address(action)),
            state: Mutex::new(State {
                ahead: ahead(action, &facts),
                action: Arc::clone(action),
                running: 0,
                facts,
                latest: None,
                last_call: None,
                history: History::default(),
                bytes_min: None,
                older: VecDeque::new(),
            }),
            namespace: namespace.clone(),
        }
    }

    /// Whether this is the lane of `action` and `namespace`, as far as can be told without looking into the action.
    ///
    /// The lane keeps its action alive, so no other can have its address.
    pub(super) fn is_of(&self, namespace: &Namespace, action: &Arc<Action>) -> bool {
        self.current.load(Ordering::Acquire) == address(action) && self.namespace == *namespace
    }

    /// Counts one more run, if there are fewer than `runs_max`, and takes an idle instance for it if there is one. Idle
    /// instances of another version come back to be dropped outside the lock. `facts` makes those of the action.
    pub(super) fn claim(
        &self,
        action: &Arc<Action>,
        runs_max: u64,
        facts: impl FnOnce() -> Facts,
    ) -> (Place, Vec<Idle>) {
        let mut state = self.state.lock();
        state.ahead.fetch();
        if let Some(idle) = &state.latest {
            idle.ahead.fetch();
        }
        if state.running >= runs_max {
            return (Place::Full, Vec::new());
        }
        let mut stale = Vec::new();
        if !Arc::ptr_eq(&state.action, action) {
            stale = self.renew(&mut state, action, facts);
        }
        state.running += 1;
        let now = Instant::now();
        let gap = state.last_call.replace(now).map(|last| now - last);
        state.history.note(gap);
        let facts = Arc::clone(&state.facts);
        let place = match state.pop() {
            Some(idle) => Place::Warm(idle, facts),
            None => Place::Room(state.bytes_min.unwrap_or(BYTES_ASSUMED), facts),
        };
        (place, stale)
    }

    /// Takes note of the action as it is called now; what is idle of another text of it comes back.
    fn renew(
        &self,
        state: &mut State,
        action: &Arc<Action>,
        facts: impl FnOnce() -> Facts,
    ) -> Vec<Idle> {
        let is_same = generation(&state.action) == generation(action);
        self.current.store(address(action), Ordering::Release);
        state.action = Arc::clone(action);
        if is_same {
            return Vec::new();
        }
        state.facts = Arc::new(facts());
        state.ahead = ahead(action, &state.facts);
        state.bytes_min = None;
        state.take_oldest(usize::MAX)
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
        let mut ahead = Ahead::default();
        ahead.add(&*instance);
        ahead.add_shared(&*held);
        ahead.add_all(&instance.ahead());
        let idle = Idle {
            instance,
            held,
            since: Instant::now(),
            ahead,
            rests: false,
        };
        let mut state = self.state.lock();
        state.running = state.running.saturating_sub(1);
        if !Arc::ptr_eq(&state.facts, facts) {
            return Some(idle);
        }
        state.push(idle);
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
            .idle()
            .take_while(|idle| now - idle.since >= keep)
            .count();
        state.take_oldest(late)
    }

    /// Lets those that have been idle for a while give up what others want.
    pub(super) fn rest(&self, now: Instant) {
        let mut state = self.state.lock();
        let long = |idle: &&mut Idle| now - idle.since >= REST_AFTER;
        let tired = state.idle_mut().take_while(long);
        for idle in tired.filter(|idle| !idle.rests).take(RESTS_MAX) {
            idle.rests = idle.instance.rest();
        }
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
        state.idle().map(rank).collect()
    }

    /// Takes out the `count` that were idle longest.
    pub(super) fn evict(&self, count: usize) -> Vec<Idle> {
        self.state.lock().take_oldest(count)
    }

    /// Whether the action's limit leaves room for one more run.
    pub(super) fn has_room(&self, runs_max: u64) -> bool {
        self.state.lock().running < runs_max
    }

    /// Idle and running instances.
    pub(super) fn counts(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.idle_count(), state.running)
    }

    /// Nothing runs, nothing is idle, and nobody called for as long as an instance would be kept.
    pub(super) fn is_forgotten(&self, policy: &dyn Policy, now: Instant) -> bool {
        let state = self.state.lock();
        let keep = policy.keep(&state.history);
        state.idle_count() == 0
            && state.running == 0
            && state.last_call.is_none_or(|last| now - last >= keep)
    }
}
