//! Fires that are accepted and whose rules have not all run to their end.
//!
//! Each namespace has a lane. A lane's fires are taken in order by at most [`HANDS_MAX`] hands, so that a namespace whose
//! rules wait (for a place among its invocations, or for room) keeps nobody else waiting. A fire stays counted until it is
//! settled, so actions that are slower than the fires come fill the backlog, not the memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Config;
use super::expand::Due;
use crate::model::Namespace;
use crate::queue::message::Refusal;

/// Fires of one namespace that are being worked on at one time, apart from what only waits for its actions to end. Two, so
/// that one core can go on while another waits for the disk.
const HANDS_MAX: usize = 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backlog(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    lanes: HashMap<Namespace, Lane>,
    count: usize,
    bytes: usize,
    /// No more hands: what waits is left to the next process.
    is_stopped: bool,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Due>,
    hands: usize,
    count: usize,
}

/// A fire's place in the backlog, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    state: Arc<Mutex<State>>,
    namespace: Namespace,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.count -= 1;
        state.bytes -= self.bytes;
        if let Some(lane) = state.lanes.get_mut(&self.namespace) {
            lane.count -= 1;
            if lane.is_over() {
                state.lanes.remove(&self.namespace);
            }
        }
    }
}

impl Lane {
    fn is_over(&self) -> bool {
        self.count == 0 && self.hands == 0 && self.waiting.is_empty()
    }
}

/// The right to take fires of one namespace out of the backlog; [`Backlog::next`] ends it.
#[derive(Debug)]
pub(super) struct Hand(Namespace);

impl Backlog {
    /// A place for a fire of `bytes`.
    pub(super) fn place(
        &self,
        config: &Config,
        namespace: &Namespace,
        bytes: usize,
    ) -> Result<Place, Refusal> {
        let mut state = self.0.lock();
        let own = state.lanes.get(namespace).map_or(0, |lane| lane.count);
        if own >= (config.fires_max / 2).max(1) {
            return Err(Refusal::Backlog { retry_after_s: 1 });
        }
        if state.count >= config.fires_max || state.bytes + bytes > config.fires_bytes_max {
            return Err(Refusal::Overload { retry_after_s: 1 });
        }
        Ok(self.count(&mut state, namespace, bytes))
    }

    /// A place for what was promised already.
    pub(super) fn keep(&self, namespace: &Namespace, bytes: usize) -> Place {
        self.count(&mut self.0.lock(), namespace, bytes)
    }

    fn count(&self, state: &mut State, namespace: &Namespace, bytes: usize) -> Place {
        state.count += 1;
        state.bytes += bytes;
        state.lanes.entry(namespace.clone()).or_default().count += 1;
        Place {
            state: Arc::clone(&self.0),
            namespace: namespace.clone(),
            bytes,
        }
    }

    /// Appends a fire; the hand that is to be set to work on its lane, if one more may be.
    pub(super) fn push(&self, due: Due) -> Option<Hand> {
        let namespace = due.namespace().clone();
        let mut state = self.0.lock();
        let is_stopped = state.is_stopped;
        let lane = state.lanes.entry(namespace.clone()).or_default();
        lane.waiting.push_back(due);
        if is_stopped || lane.hands == HANDS_MAX {
            return None;
        }
        lane.hands += 1;
        Some(Hand(namespace))
    }

    /// The next fire of the hand's lane; without one, the hand is gone.
    pub(super) fn next(&self, hand: Hand) -> Option<(Due, Hand)> {
        let mut state = self.0.lock();
        let is_stopped = state.is_stopped;
        let lane = state.lanes.get_mut(&hand.0)?;
        if !is_stopped && let Some(due) = lane.waiting.pop_front() {
            return Some((due, hand));
        }
        lane.hands -= 1;
        if lane.is_over() {
            state.lanes.remove(&hand.0);
        }
        None
    }

    /// Fires that have a place.
    pub(super) fn pending(&self) -> usize {
        self.0.lock().count
    }

    /// Ends the hands after what they are at.
    pub(super) fn stop(&self) {
        self.0.lock().is_stopped = true;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.lock().is_stopped
    }
}
