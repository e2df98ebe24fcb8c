//! What the guests of one namespace have under way together: requests open at a time, and bytes of bodies in a minute, both ways.
//!
//! A minute begins with the first byte after the last one ended. Once its bytes are used up, new requests are refused and
//! bodies that are under way wait for the next one; each open body may be ahead by the part it is at.
//!
//! Both are counted by each node for itself: a bound for all nodes of a cluster would cost a way to Redis for every part of a
//! body, and what is to be kept from harm, descriptors and the network's line, is a node's.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Error, Usage};
use crate::model::Namespace;

const MINUTE: Duration = Duration::from_secs(60);
/// Requests after which namespaces that have nothing under way, and nothing in this minute, are forgotten.
const REQUESTS_BETWEEN_SWEEPS: usize = 256;

/// The flows of all namespaces.
pub(super) struct Flows {
    each: DashMap<Namespace, Arc<Flow>>,
    requests_max: usize,
    bytes_max: u64,
    requests: AtomicUsize,
}

/// What one namespace has under way.
struct Flow {
    state: Mutex<State>,
    bytes_max: u64,
}

struct State {
    open: usize,
    began: Instant,
    moved: u64,
}

impl State {
    /// When there is room again; `None` when there is now.
    fn full_until(&mut self, bytes_max: u64) -> Option<Instant> {
        let now = Instant::now();
        if now >= self.began + MINUTE {
            (self.began, self.moved) = (now, 0);
        }
        (self.moved >= bytes_max).then(|| self.began + MINUTE)
    }
}

impl Flows {
    /// At most so many requests of a namespace at a time, and so many bytes in a minute; 0 bytes: any number.
    pub(super) fn new(requests_max: usize, bytes_max: u64) -> Self {
        Self {
            each: DashMap::new(),
            requests_max,
            bytes_max: if bytes_max == 0 { u64::MAX } else { bytes_max },
            requests: AtomicUsize::new(0),
        }
    }

    /// A place among the requests of whoever `usage` is counted for.
    pub(super) fn take(&self, usage: &Usage) -> Result<Share, Error> {
        let Some(namespace) = &usage.namespace else {
            return Ok(Share(None));
        };
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(REQUESTS_BETWEEN_SWEEPS) {
            self.each.retain(|_, flow| {
                let state = flow.state.lock();
                state.open > 0 || state.began.elapsed() < MINUTE
            });
        }
        // Held until the place is taken, so that nobody forgets it meanwhile.
        let flow = self.each.entry(namespace.clone()).or_insert_with(|| {
            Arc::new(Flow {
                state: Mutex::new(State {
                    open: 0,
                    began: Instant::now(),
                    moved: 0,
                }),
                bytes_max: self.bytes_max,
            })
        });
        let mut state = flow.state.lock();
        if state.open >= self.requests_max {
            return Err(Error::Busy(format!(
                "the namespace has {} outbound requests open already",
                self.requests_max
            )));
        }
        if let Some(then) = state.full_until(self.bytes_max) {
            return Err(Error::Busy(format!(
                "the namespace has moved the {} bytes of bodies it may move in a minute; try again in {} s",
                self.bytes_max,
                then.duration_since(Instant::now()).as_secs_f64().ceil()
            )));
        }
        state.open += 1;
        drop(state);
        Ok(Share(Some(Arc::clone(&flow))))
    }

    /// Whether nothing is open.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.each.iter().all(|flow| flow.state.lock().open == 0)
    }
}

/// A place among a namespace's requests, given back on drop.
pub(super) struct Share(Option<Arc<Flow>>);

impl Share {
    /// What the bodies of this request pass.
    pub(super) fn toll(&self) -> Toll {
        Toll {
            flow: self.0.clone(),
            timer: None,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(flow) = &self.0 {
            flow.state.lock().open -= 1;
        }
    }
}

/// Where the parts of one body are counted, and wait.
pub(super) struct Toll {
    flow: Option<Arc<Flow>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Toll {
    /// Ready when the next part of so many bytes has passed.
    pub(super) fn poll_pass(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        let Some(flow) = &self.flow else {
            return Poll::Ready(());
        };
        loop {
            let mut state = flow.state.lock();
            let Some(then) = state.full_until(flow.bytes_max) else {
                let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
                state.moved = state.moved.saturating_add(bytes);
                drop(state);
                self.timer = None;
                return Poll::Ready(());
            };
            drop(state);
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(then)));
            if timer.deadline() != then {
                timer.as_mut().reset(then);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn usage(namespace: &str) -> Arc<Usage> {
        Usage::of(Some(Namespace::parse(namespace).unwrap()))
    }

    async fn pass(toll: &mut Toll, bytes: usize) {
        poll_fn(|cx| toll.poll_pass(bytes, cx)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_minutes_bytes_hold_for_all_requests_of_a_namespace_and_for_no_other() {
        let flows = Flows::new(10, 1000);
        let (mine, others) = (usage("mine"), usage("others"));
        let first = flows.take(&mine).unwrap();
        let second = flows.take(&mine).unwrap();
        pass(&mut first.toll(), 600).await;
        drop(first);
        let mut open = second.toll();
        pass(&mut open, 600).await;
        let Err(error) = flows.take(&mine) else {
            panic!("more than its bytes");
        };
        assert_eq!(
            error.to_string(),
            "the namespace has moved the 1000 bytes of bodies it may move in a minute; try again in 60 s"
        );
        assert!(flows.take(&others).is_ok());

        let began = Instant::now();
        pass(&mut open, 1).await;
        assert_eq!(
            began.elapsed().as_secs(),
            60,
            "a body under way waits for the next minute"
        );
        assert!(flows.take(&mine).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_moved_is_remembered_for_its_minute_and_not_longer() {
        let flows = Flows::new(10, 1000);
        pass(&mut flows.take(&usage("mine")).unwrap().toll(), 1000).await;
        for _ in 0..=REQUESTS_BETWEEN_SWEEPS {
            assert!(flows.take(&usage("mine")).is_err());
        }
        tokio::time::advance(MINUTE).await;
        for _ in 0..=REQUESTS_BETWEEN_SWEEPS {
            assert!(flows.take(&usage("others")).is_ok());
        }
        assert_eq!(
            flows.each.len(),
            1,
            "who was quiet for a minute is forgotten"
        );
    }
}
