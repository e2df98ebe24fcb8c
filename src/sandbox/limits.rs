//! What one store may hold: the sum over all its memories and tables, its files and the host's share, not each memory by
//! itself.
//!
//! Invariants:
//! - nothing grows before it is granted: the meter asks the [`Grant`] for what `held` is to pass `granted` by;
//! - what is shared with others (pages of a language's engine that an instance has not written to) counts towards the limit
//!   and is not asked for;
//! - `held <= limit` always; a wish beyond it is refused and remembered, so that a guest that dies of it is reported
//!   as out of memory and not as whatever its language made of `memory.grow` answering -1;
//! - what was granted stays granted until the run ends: linear memory never shrinks, and what files give back is there
//!   for what grows next. Between runs it may be taken back down to what is held.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use wasmtime::ResourceLimiterAsync;

use super::Grant;

/// Bytes a table takes for each element.
pub(super) const TABLE_ELEMENT_BYTES: usize = 16;

/// Why the last wish for memory was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// It would pass the limit of the instance.
    Limit,
    /// The node could not give it.
    Room,
}

/// What a store holds, of what it was granted.
#[derive(Clone)]
pub(super) struct Account {
    limit: usize,
    held: usize,
    /// Of what is held, what the kernel keeps once for many instances.
    shared: usize,
    granted: usize,
    peak: usize,
    grant: Arc<dyn Grant>,
}

impl Account {
    /// Takes `bytes` at once or not at all. A refusal is the caller's to tell: it is not remembered.
    pub(super) fn try_take(&mut self, bytes: usize) -> bool {
        let Some(missing) = self.missing(bytes) else {
            return false;
        };
        if missing > 0 && !self.grant.try_grow(missing) {
            return false;
        }
        self.add(bytes, missing);
        true
    }

    /// Gives back what was taken; it stays granted, for whatever grows next.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
    }

    /// Bytes held now.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// What must still be granted for `bytes` more; `None` when that would pass the limit.
    fn missing(&self, bytes: usize) -> Option<usize> {
        let wanted = self.held.saturating_add(bytes);
        let own = wanted.saturating_sub(self.shared);
        (wanted <= self.limit).then(|| own.saturating_sub(self.granted))
    }

    /// What is held and not shared.
    fn own(&self) -> usize {
        self.held.saturating_sub(self.shared)
    }

    fn add(&mut self, bytes: usize, missing: usize) {
        self.granted += missing;
        self.held += bytes;
        self.peak = self.peak.max(self.held);
    }
}

/// Where the account is: with the meter, or, once the guest has files, shared with them.
enum Book {
    Own(Account),
    Shared(Arc<Mutex<Account>>),
}

/// Counts what a store holds and asks before it grows.
pub(super) struct Meter {
    book: Book,
    /// What the growth under way would add; taken back when wasmtime then fails to do it.
    pending: usize,
    denied: Option<Denied>,
}

impl Meter {
    /// A meter for a store that holds `host_share` before any memory; `granted` is what `grant` holds already.
    pub(super) fn new(
        limit: usize,
        host_share: usize,
        granted: usize,
        grant: Arc<dyn Grant>,
    ) -> Self {
        Self {
            book: Book::Own(Account {
                limit,
                held: host_share,
                shared: 0,
                granted,
                peak: host_share,
                grant,
            }),
            pending: 0,
            denied: None,
        }
    }

    /// The account, for what else of the store takes memory.
    pub(super) fn shared(&mut self) -> Arc<Mutex<Account>> {
        let shared = match &self.book {
            Book::Own(account) => Arc::new(Mutex::new(account.clone())),
            Book::Shared(account) => return Arc::clone(account),
        };
        self.book = Book::Shared(Arc::clone(&shared));
        shared
    }

    fn read<T>(&self, look: impl FnOnce(&Account) -> T) -> T {
        match &self.book {
            Book::Own(account) => look(account),
            Book::Shared(account) => look(&account.lock()),
        }
    }

    fn with<T>(&mut self, change: impl FnOnce(&mut Account) -> T) -> T {
        match &mut self.book {
            Book::Own(account) => change(account),
            Book::Shared(account) => change(&mut account.lock()),
        }
    }

    /// Bytes held now that are nobody else's.
    pub(super) fn held(&self) -> usize {
        self.read(Account::own)
    }

    /// Says that `bytes` of what is held, or about to be, are shared with other instances.
    pub(super) fn share(&mut self, bytes: usize) {
        self.with(|account| account.shared = bytes);
    }

    /// Says that `bytes` are shared by now, and takes what that makes its own; `false` when the node has no room.
    pub(super) async fn share_now(&mut self, bytes: usize) -> bool {
        let (missing, grant) = self.read(|account| {
            let own = account.held.saturating_sub(bytes);
            let missing = own.saturating_sub(account.granted);
            (missing, Arc::clone(&account.grant))
        });
        let taken = missing == 0 || grant.try_grow(missing) || grant.grow(missing).await;
        if taken {
            self.with(|account| {
                account.granted += missing;
                account.shared = bytes;
            });
        }
        taken
    }

    /// Most bytes held since the last [`Meter::begin`].
    pub(super) fn peak(&self) -> usize {
        self.read(|account| account.peak)
    }

    /// Why the last wish of this run was refused, if one was.
    pub(super) fn denied(&self) -> Option<Denied> {
        self.denied
    }

    /// Begins a run: forgets what was refused, how high it was before, and what was granted beyond what is held, which
    /// whoever grants takes back from an instance that waits.
    pub(super) fn begin(&mut self) {
        self.denied = None;
        self.pending = 0;
        self.with(|account| {
            account.peak = account.held;
            account.granted = account.granted.min(account.own());
        });
    }

    /// Takes `bytes`, waiting for them a bounded time.
    async fn grow(&mut self, bytes: usize) -> bool {
        let Some(missing) = self.read(|account| account.missing(bytes)) else {
            self.denied = Some(Denied::Limit);
            return false;
        };
        if missing > 0 {
            let grant = self.read(|account| Arc::clone(&account.grant));
            if !grant.try_grow(missing) && !grant.grow(missing).await {
                self.denied = Some(Denied::Room);
                return false;
            }
        }
        self.with(|account| account.add(bytes, missing));
        self.pending = bytes;
        true
    }

    fn take_back_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.with(|account| account.give_back(pending));
    }
}

#[async_trait]
impl ResourceLimiterAsync for Meter {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current)).await)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back_pending();
        Ok(())
    }

    async fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let elements = desired.saturating_sub(current);
        Ok(self
            .grow(elements.saturating_mul(TABLE_ELEMENT_BYTES))
            .await)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back_pending();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Room(Mutex<usize>);

    #[async_trait]
    impl Grant for Room {
        fn try_grow(&self, bytes: usize) -> bool {
            let mut left = self.0.lock();
            let enough = *left >= bytes;
            if enough {
                *left -= bytes;
            }
            enough
        }
        async fn grow(&self, bytes: usize) -> bool {
            self.try_grow(bytes)
        }
    }

    fn meter(limit: usize, room: usize) -> Meter {
        Meter::new(limit, 10, 10, Arc::new(Room(Mutex::new(room))))
    }

    #[tokio::test]
    async fn the_sum_is_limited_not_each_memory() {
        let mut meter = meter(110, usize::MAX);
        assert!(meter.memory_growing(0, 60, None).await.unwrap());
        assert!(!meter.memory_growing(0, 60, None).await.unwrap());
        assert_eq!(meter.denied(), Some(Denied::Limit));
        assert_eq!((meter.held(), meter.peak()), (70, 70));
    }

    #[tokio::test]
    async fn what_the_node_cannot_give_is_no_fault_of_the_guest() {
        let mut meter = meter(1000, 50);
        assert!(meter.memory_growing(0, 50, None).await.unwrap());
        assert!(!meter.memory_growing(50, 51, None).await.unwrap());
        assert_eq!(meter.denied(), Some(Denied::Room));
    }

    #[tokio::test]
    async fn growth_that_then_fails_is_taken_back() {
        let mut meter = meter(1000, 1000);
        assert!(meter.table_growing(0, 2, None).await.unwrap());
        assert_eq!(meter.held(), 10 + 2 * TABLE_ELEMENT_BYTES);
        meter.table_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert_eq!(meter.held(), 10);
    }

    #[tokio::test]
    async fn what_files_take_counts_and_a_refusal_to_them_is_not_remembered() {
        let mut meter = meter(1000, 1000);
        let account = meter.shared();
        assert!(account.lock().try_take(600));
        assert!(!account.lock().try_take(500));
        assert_eq!((meter.held(), meter.denied()), (610, None));
        assert!(!meter.memory_growing(0, 500, None).await.unwrap());
        assert_eq!(meter.denied(), Some(Denied::Limit));
        account.lock().give_back(600);
        assert!(meter.memory_growing(0, 500, None).await.unwrap());
        assert_eq!((meter.held(), meter.peak()), (510, 610));
        meter.begin();
        assert_eq!(meter.peak(), 510);
        // What was granted beyond what is held must be granted again: here it no longer can be.
        assert!(!account.lock().try_take(490));
        assert!(account.lock().try_take(390));
    }

    #[tokio::test]
    async fn what_is_shared_counts_towards_the_limit_and_is_not_asked_for() {
        let mut meter = meter(1000, 300);
        meter.share(500);
        assert!(meter.memory_growing(0, 600, None).await.unwrap());
        assert_eq!((meter.held(), meter.peak()), (110, 610));
        assert!(!meter.memory_growing(600, 1000, None).await.unwrap());
        assert_eq!(meter.denied(), Some(Denied::Limit));
        assert!(meter.share_now(400).await);
        assert_eq!(meter.held(), 210);
        assert!(
            !meter.share_now(100).await,
            "300 were to be had, 200 of them are taken"
        );
        assert_eq!(meter.held(), 210);
    }

    #[tokio::test]
    async fn a_modules_own_maximum_is_not_our_refusal() {
        let mut meter = meter(1000, 1000);
        assert!(!meter.memory_growing(0, 20, Some(10)).await.unwrap());
        assert_eq!(meter.denied(), None);
    }
}
