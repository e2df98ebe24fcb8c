//! Places that are few and given in turn: of the namespaces that wait, each gets one after the other, however many of its own
//! wait behind one another.
//!
//! Invariants:
//! - a place is free, or held, or on its way to who waits: never lost, also when whoever waits has gone;
//! - those who wait are bounded, altogether and of one namespace, so that nobody can fill the room for all.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::model::Namespace;

/// The part of the room that one namespace may fill.
const SHARE: usize = 4;

/// For whom something is done; nobody in particular when it is not known.
pub(super) type For = Option<Namespace>;

/// See the module.
pub(super) struct Turns(Arc<Mutex<State>>);

struct State {
    free: usize,
    waiting_max: usize,
    /// Who waits, by namespace, the next first. None of the queues is empty.
    waiting: VecDeque<(For, VecDeque<oneshot::Sender<Turn>>)>,
}

/// A place. The next one gets it when it is dropped.
pub(super) struct Turn(Option<Arc<Mutex<State>>>);

/// Too many wait already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Turns {
    /// That many places, and that many who may wait for one.
    pub(super) fn new(places: usize, waiting_max: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: places,
            waiting_max,
            waiting: VecDeque::new(),
        })))
    }

    /// A place, when it is the turn of `whom`. Dropped, it waits no more.
    pub(super) async fn take(&self, whom: &For) -> Result<Turn, Full> {
        let receiver = {
            let mut state = self.0.lock();
            if state.waiting_max == 0 {
                return Err(Full);
            }
            if state.free > 0 {
                state.free -= 1;
                return Ok(Turn(Some(Arc::clone(&self.0))));
            }
            state.queue(whom)?
        };
        // Whoever has a place gives it on, so the sender is never dropped before.
        receiver.await.map_err(|_| Full)
    }
}

impl State {
    /// Joins those who wait.
    fn queue(&mut self, whom: &For) -> Result<oneshot::Receiver<Turn>, Full> {
        // Who has gone is nobody's hindrance.
        for (_, queue) in &mut self.waiting {
            queue.retain(|sender| !sender.is_closed());
        }
        self.waiting.retain(|(_, queue)| !queue.is_empty());
        let all: usize = self.waiting.iter().map(|(_, queue)| queue.len()).sum();
        let own = self.waiting.iter_mut().find(|(other, _)| other == whom);
        let each_max = self.waiting_max.div_ceil(SHARE);
        let is_own_full = own.as_ref().is_some_and(|(_, own)| own.len() >= each_max);
        if all >= self.waiting_max || is_own_full {
            return Err(Full);
        }
        let (sender, receiver) = oneshot::channel();
        match own {
            Some((_, queue)) => queue.push_back(sender),
            None => self
                .waiting
                .push_back((whom.clone(), VecDeque::from([sender]))),
        }
        Ok(receiver)
    }

    /// Whose turn it is. Its namespace goes to the end of those that wait.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let (whom, mut queue) = self.waiting.pop_front()?;
        let next = queue.pop_front();
        if !queue.is_empty() {
            self.waiting.push_back((whom, queue));
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(state) = self.0.take() else { return };
        loop {
            let next = {
                let mut state = state.lock();
                let next = state.next();
                state.free += usize::from(next.is_none());
                next
            };
            let Some(next) = next else { return };
            match next.send(Self(Some(Arc::clone(&state)))) {
                Ok(()) => return,
                // Gone meanwhile: the place is still ours to give.
                Err(mut turn) => drop(turn.0.take()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    type Waits<'a> = Pin<Box<dyn Future<Output = Result<Turn, Full>> + 'a>>;

    fn of(name: &str) -> For {
        Some(Namespace::parse(name).unwrap())
    }

    /// Waits, or has a place at once.
    async fn ask<'a>(turns: &'a Turns, whom: &'a For) -> Waits<'a> {
        let mut waits: Waits<'a> = Box::pin(turns.take(whom));
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(waits.as_mut().poll(cx)));
        match first.await {
            std::task::Poll::Ready(done) => Box::pin(std::future::ready(done)),
            std::task::Poll::Pending => waits,
        }
    }

    #[tokio::test]
    async fn namespaces_have_their_turn_one_after_the_other() {
        let turns = Turns::new(1, 100);
        let (a, b, c) = (of("a"), of("b"), None);
        let first = turns.take(&a).await.unwrap();
        let mut waiting = Vec::new();
        for (name, whom) in [
            ("a1", &a),
            ("a2", &a),
            ("a3", &a),
            ("b1", &b),
            ("b2", &b),
            ("c1", &c),
        ] {
            waiting.push((name, ask(&turns, whom).await));
        }
        drop(first);
        let mut order = Vec::new();
        while !waiting.is_empty() {
            let mut next = None;
            for (index, (_, waits)) in waiting.iter_mut().enumerate() {
                let polled =
                    std::future::poll_fn(|cx| std::task::Poll::Ready(waits.as_mut().poll(cx)));
                if let std::task::Poll::Ready(turn) = polled.await {
                    next = Some((index, turn.unwrap()));
                    break;
                }
            }
            let (index, turn) = next.expect("somebody has the place");
            order.push(waiting.remove(index).0);
            drop(turn);
        }
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert_eq!(turns.0.lock().free, 1);
    }

    #[tokio::test]
    async fn who_leaves_loses_no_place_and_holds_nobody_up() {
        let turns = Turns::new(1, 100);
        let (a, b) = (of("a"), of("b"));
        let held = turns.take(&a).await.unwrap();
        drop(ask(&turns, &a).await);
        let answered = ask(&turns, &a).await;
        let last = ask(&turns, &b).await;
        drop(held);
        // It was given the place and never looked.
        drop(answered);
        drop(last.await.unwrap());
        assert_eq!(turns.0.lock().free, 1);
    }

    #[tokio::test]
    async fn nobody_fills_the_room_for_all() {
        let turns = Turns::new(1, 8);
        let names: Vec<For> = (0..5).map(|n| of(&format!("n{n}"))).collect();
        let held = turns.take(&names[0]).await;
        let mut waiting = Vec::new();
        for name in &names[..4] {
            for _ in 0..2 {
                waiting.push(ask(&turns, name).await);
            }
            assert_eq!(
                turns.take(name).await.err(),
                Some(Full),
                "its own part is full"
            );
        }
        assert_eq!(
            turns.take(&names[4]).await.err(),
            Some(Full),
            "all of it is"
        );
        drop(waiting);
        let again = ask(&turns, &names[4]).await;
        drop(held);
        assert!(again.await.is_ok(), "those who left take no room");
    }
}
