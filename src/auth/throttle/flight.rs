//! One round trip at a time for all who need the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Exceeded;

/// Those who need something of which this node has nothing left.
#[derive(Default)]
pub(super) struct Flight {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How many are here.
    count: AtomicU64,
    /// Trips begun so far.
    begun: AtomicU64,
    /// Which trip was refused last, and why.
    refused: Mutex<Option<(u64, Exceeded)>>,
}

/// One of those who are here.
struct Here<'a>(&'a AtomicU64);

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Flight {
    /// Waits for a turn, and asks for as many as are here unless `take` has an answer by then. A refusal holds for
    /// everybody who was here when the trip began.
    ///
    /// The trip goes on when its caller leaves: what it brings is then dropped as any other of its kind.
    pub(super) async fn join<T, F>(
        &self,
        take: impl Fn() -> Option<Result<T, Exceeded>>,
        trip: impl FnOnce(u64) -> F,
    ) -> Result<T, Exceeded>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Exceeded>> + Send + 'static,
    {
        let begun = self.begun.load(Ordering::Acquire);
        self.count.fetch_add(1, Ordering::Relaxed);
        let _here = Here(&self.count);
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if let Some(answer) = take() {
            return answer;
        }
        if let Some((number, why)) = *self.refused.lock()
            && number > begun
        {
            return Err(why);
        }
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let trip = trip(self.count.load(Ordering::Relaxed));
        // The turn ends with the trip, not with whoever began it.
        let trip = tokio::spawn(async move { (trip.await, turn) });
        let Ok((answer, _turn)) = trip.await else {
            // The runtime ends.
            return Err(Exceeded::Unknown);
        };
        if let Err(why) = &answer {
            *self.refused.lock() = Some((number, *why));
        }
        answer
    }
}
