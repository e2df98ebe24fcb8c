//! Limits over all nodes of a cluster.
//!
//! Of each namespace that calls here, this node holds some places ([`crate::auth::leased`]) and some of the minute's calls
//! ([`super::rate`]), and hands them out without a round trip. When it has none left it asks Redis for what it needs and a share of
//! what is left; [`super::tend`] gives back what nobody uses.
//!
//! Invariants:
//! - a place that is in use or in a pot is held in Redis: what all nodes admit together never passes the limit;
//! - nothing is handed out after the node's lease, as the node sees it, is over;
//! - nobody is refused while another node sits on what it does not use: such nodes are told to give it back, and Redis is asked
//!   once more;
//! - after a lapse nothing is handed out until Redis has renewed what is in use: calls that were accepted before go on elsewhere;
//! - work whose front is gone has its place where the work is ([`Wide::take_over`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use foldhash::quality::RandomState;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::flight::Flight;
use super::pot::Pot;
use super::rate::Rate;
use super::tend::{Order, Tender, Want, Wanted, give, settle};
use super::{Admission, Exceeded, Node, Window};
use crate::auth::leased::{Ask, Claimed, Hold, Leased};
use crate::link::{Error, Link, cmd};
use crate::model::Namespace;
use crate::model::limits::EffectiveLimits;

/// Namespaces metered before idle ones are looked for and dropped.
const METERS_BEFORE_SWEEP: usize = 4096;

/// Namespaces with no more places than this get exactly what they need, and give it back within milliseconds.
const FEW: u64 = 64;

/// One in so many of the places that are left is taken with those that are needed.
const SHARE: u64 = 8;

/// For how long places that become free go to whoever wants them.
const WANTED_MS: u64 = 20;

/// Until when they do when there are more in use than allowed: until a claim finds that there are not.
const ALWAYS: u64 = u64::MAX;

/// How long others get to give something back: some round trips, as long as one took just now.
pub(super) fn pause(round_trip: Duration) -> Duration {
    (round_trip * 4).clamp(Duration::from_millis(3), Duration::from_millis(25))
}

/// What the caller is told when Redis cannot be asked.
pub(super) fn unknown(error: &Error) -> Exceeded {
    match error {
        Error::Unavailable(_) => tracing::debug!(%error, "limits cannot be looked up"),
        _ => tracing::warn!(%error, "limits cannot be looked up"),
    }
    Exceeded::Unknown
}

/// What all meters have in common.
pub(super) struct Shared {
    pub(super) link: Link,
    pub(super) window: Window,
    pub(super) node: String,
    leased: Leased,
    /// Where wishes are told to all nodes.
    channel: String,
    prefix: String,
    /// One entry per pot, and one per meter to be settled, at most.
    orders: mpsc::UnboundedSender<Order>,
    is_draining: AtomicBool,
}

impl Shared {
    /// Now, by this node's clock.
    pub(super) fn now_ms(&self) -> u64 {
        self.leased.at(Instant::now())
    }

    /// The key of a count of `namespace`; all of a namespace have one hash tag.
    pub(super) fn key(&self, namespace: &Namespace, want: Want) -> String {
        format!("{}{}", self.prefix, suffix(namespace, want))
    }

    pub(super) fn order(&self, order: Order) {
        // Fails when the runtime ends.
        drop(self.orders.send(order));
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Tells the other nodes that `count` more are needed of what this one `has` some of.
    pub(super) async fn want(&self, want: Want, namespace: &Namespace, count: u64, has: u64) {
        let wanted = Wanted {
            want,
            node: self.node.clone(),
            count,
            has,
            namespace: namespace.clone(),
        };
        let mut publish = cmd("PUBLISH");
        publish.arg(&self.channel).arg(wanted.print());
        if let Err(error) = self.link.query::<u64>(&publish).await {
            tracing::debug!(%error, "other nodes were not told what is wanted");
        }
    }
}

fn suffix(namespace: &Namespace, want: Want) -> String {
    format!("{{{}}}:{}", namespace.as_str(), want.letter())
}

/// What this node has of one namespace.
pub(super) struct Meter {
    shared: Arc<Shared>,
    namespace: Namespace,
    hold: Arc<Hold>,
    /// Places that are held and free.
    pot: Pot,
    /// Under which limit.
    allowed: AtomicU64,
    /// Places in use.
    in_flight: AtomicU64,
    /// So many of the places that become free go back at once,
    wanted: AtomicU64,
    /// until then.
    wanted_until_ms: AtomicU64,
    /// Whether [`Order::Settle`] was given.
    is_settling: AtomicBool,
    flight: Flight,
    calls: Arc<Rate>,
    fires: Arc<Rate>,
}

impl Meter {
    fn new(shared: &Arc<Shared>, namespace: &Namespace) -> Self {
        Self {
            shared: Arc::clone(shared),
            namespace: namespace.clone(),
            hold: shared.leased.hold(&suffix(namespace, Want::Place)),
            pot: Pot::default(),
            allowed: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            wanted_until_ms: AtomicU64::new(0),
            is_settling: AtomicBool::new(false),
            flight: Flight::default(),
            calls: Rate::new(shared, namespace, Want::Call),
            fires: Rate::new(shared, namespace, Want::Fire),
        }
    }

    /// A place that is held here; `None`: Redis must be asked.
    fn take(self: &Arc<Self>, now_ms: u64, allowed: u64) -> Option<Result<Admission, Exceeded>> {
        if allowed == 0 {
            let count = self.in_flight.load(Ordering::Relaxed);
            return Some(Err(Exceeded::Concurrency { count, allowed }));
        }
        let may_use =
            allowed >= self.allowed.load(Ordering::Relaxed) && self.hold.stands_at(now_ms);
        (may_use && self.pot.take()).then(|| Ok(self.enter()))
    }

    /// A place that was taken out of the pot is used.
    fn enter(self: &Arc<Self>) -> Admission {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Admission::wide(Arc::clone(self))
    }

    /// Gives a place back.
    pub(super) fn leave(self: &Arc<Self>) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.shared.is_draining() || self.owes_one() {
            self.hold.lower(1);
            if !self.is_settling.swap(true, Ordering::AcqRel) {
                self.shared.order(Order::Settle(Arc::clone(self)));
            }
        } else if self.pot.put(1) {
            self.shared.order(Order::Places(Arc::clone(self)));
        }
    }

    /// Whether somebody else gets the place that becomes free.
    fn owes_one(&self) -> bool {
        if self.wanted.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let until_ms = self.wanted_until_ms.load(Ordering::Relaxed);
        if until_ms != ALWAYS && self.shared.now_ms() >= until_ms {
            self.wanted.store(0, Ordering::Relaxed);
            return false;
        }
        let one_less = |wanted: u64| wanted.checked_sub(1);
        self.wanted
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }

    /// A place, asked for.
    async fn place(self: &Arc<Self>, allowed: u64) -> Result<Admission, Exceeded> {
        let take = || self.take(self.shared.now_ms(), allowed);
        let trip = |need| Arc::clone(self).ask(need, allowed);
        self.flight.join(take, trip).await
    }

    async fn ask(self: Arc<Self>, need: u64, allowed: u64) -> Result<Admission, Exceeded> {
        let is_lower = allowed < self.allowed.load(Ordering::Relaxed);
        if is_lower || !self.hold.stands_at(self.shared.now_ms()) {
            // Held under a higher limit, or on a lease that is over; Redis is told with the claim.
            self.hold.lower(self.pot.empty());
        }
        self.allowed.store(allowed, Ordering::Relaxed);
        let asked = Instant::now();
        let mut claimed = self.claim(need, allowed).await?;
        if claimed.granted == 0 && claimed.others > 0 {
            let has = self.hold.held();
            let wanted = self.shared.want(Want::Place, &self.namespace, need, has);
            wanted.await;
            tokio::time::sleep(pause(asked.elapsed())).await;
            if let Some(answer) = self.take(self.shared.now_ms(), allowed) {
                return answer;
            }
            claimed = self.claim(need, allowed).await?;
        }
        if claimed.granted == 0 {
            return Err(Exceeded::Concurrency {
                count: claimed.in_use,
                allowed,
            });
        }
        if self.pot.put(claimed.granted - 1) {
            self.shared.order(Order::Places(Arc::clone(&self)));
        }
        Ok(self.enter())
    }

    async fn claim(&self, need: u64, max: u64) -> Result<Claimed, Exceeded> {
        let share = if need == 0 || max <= FEW { 0 } else { SHARE };
        let ask = Ask { need, share, max };
        let claimed = self.shared.leased.claim(&self.hold, ask).await;
        let claimed = claimed.map_err(|error| unknown(&error))?;
        let surplus = claimed.in_use.saturating_sub(max);
        let is_owed = self.wanted_until_ms.load(Ordering::Relaxed) == ALWAYS;
        if surplus > 0 || is_owed {
            // The limit was lowered: no place is used again before there are fewer than that.
            let until_ms = if surplus > 0 { ALWAYS } else { 0 };
            self.wanted.store(surplus, Ordering::Relaxed);
            self.wanted_until_ms.store(until_ms, Ordering::Relaxed);
        }
        Ok(claimed)
    }

    /// Another node that `has` so many places was refused `count`.
    fn hear_of_places(self: &Arc<Self>, count: u64, has: u64) {
        let given = self.pot.take_upto(count.max(self.pot.left().div_ceil(2)));
        self.hold.lower(given);
        if given > 0 {
            settle(self);
        }
        let more = self.hold.held().saturating_sub(has).div_ceil(2);
        let rest = count.saturating_sub(given).min(more);
        if rest > 0 && self.wanted_until_ms.load(Ordering::Relaxed) != ALWAYS {
            let until_ms = self.shared.now_ms() + WANTED_MS;
            self.wanted_until_ms.store(until_ms, Ordering::Relaxed);
            self.wanted.store(rest, Ordering::Relaxed);
        }
    }

    /// Tells Redis what is held.
    pub(super) async fn settle(&self) {
        self.is_settling.store(false, Ordering::Release);
        if let Err(error) = self.shared.leased.settle(&self.hold).await {
            tracing::debug!(%error, "places that were given back stay counted for a while");
        }
    }

    /// Gives up the places that nobody needed since the last look; whether there were any.
    pub(super) fn lower_idle(&self) -> bool {
        let idle = self.pot.take_idle();
        self.hold.lower(idle);
        idle > 0
    }

    pub(super) fn stays_watched(&self) -> bool {
        self.pot.stays_watched()
    }

    /// Whether places are given back soon.
    pub(super) fn is_short_of_places(&self) -> bool {
        self.allowed.load(Ordering::Relaxed) <= FEW || self.shared.is_draining()
    }

    /// Whether nothing is lost when it is forgotten; its places are in use as long as somebody has a clone of it.
    fn is_idle(&self) -> bool {
        self.hold.held() == 0 && self.calls.is_empty() && self.fires.is_empty()
    }

    fn rate(&self, want: Want) -> Option<&Arc<Rate>> {
        match want {
            Want::Place => None,
            Want::Call => Some(&self.calls),
            Want::Fire => Some(&self.fires),
        }
    }
}

/// What is to be done for a call that cannot be answered at once.
pub(super) struct Asking {
    meter: Arc<Meter>,
    /// Whether it has been counted.
    is_counted: bool,
}

impl Asking {
    /// Asks the other nodes.
    pub(super) async fn enter(self, limits: &EffectiveLimits) -> Result<Admission, Exceeded> {
        let Self { meter, is_counted } = self;
        if !is_counted {
            meter.calls.count(limits.invocations_per_minute).await?;
        }
        let allowed = limits.concurrent_invocations;
        let now_ms = meter.shared.now_ms();
        match meter.take(now_ms, allowed) {
            Some(answer) => answer,
            None => meter.place(allowed).await,
        }
    }
}

/// Every namespace that calls here.
pub(super) struct Wide {
    shared: Arc<Shared>,
    meters: DashMap<Namespace, Arc<Meter>, RandomState>,
}

impl Wide {
    pub(super) fn new(window: Window, link: Link, prefix: &str, node: Node) -> Arc<Self> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (ears, heard) = link.listen(Vec::new());
        let prefix = format!("{prefix}:t:");
        let channel = format!("{prefix}want");
        let leased = Leased::new(link.clone(), prefix.clone(), node.id.clone(), node.lease);
        let wide = Arc::new(Self {
            shared: Arc::new(Shared {
                link,
                window,
                node: node.id,
                leased,
                channel: channel.clone(),
                prefix,
                orders,
                is_draining: AtomicBool::new(false),
            }),
            meters: DashMap::default(),
        });
        let tender = Tender {
            wide: Arc::downgrade(&wide),
            orders: inbox,
            ears,
            heard,
        };
        tokio::spawn(tender.go_on(channel));
        wide
    }

    /// How many namespaces are metered.
    pub(super) fn len(&self) -> usize {
        self.meters.len()
    }

    /// Counts a call and claims a place, with what this node has.
    pub(super) fn try_enter(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
    ) -> Result<Result<Admission, Exceeded>, Asking> {
        let meter = self.meter(namespace);
        let now_ms = self.shared.now_ms();
        match meter.calls.take(now_ms, limits.invocations_per_minute) {
            Some(Ok(())) => {}
            Some(Err(refused)) => return Ok(Err(refused)),
            None => {
                return Err(Asking {
                    meter,
                    is_counted: false,
                });
            }
        }
        match meter.take(now_ms, limits.concurrent_invocations) {
            Some(answer) => Ok(answer),
            None => Err(Asking {
                meter,
                is_counted: true,
            }),
        }
    }

    /// Claims a place.
    pub(super) async fn place(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
    ) -> Result<Admission, Exceeded> {
        let asking = Asking {
            meter: self.meter(namespace),
            is_counted: true,
        };
        asking.enter(limits).await
    }

    /// Counts a fire.
    pub(super) async fn fire(
        &self,
        namespace: &Namespace,
        limits: &EffectiveLimits,
    ) -> Result<(), Exceeded> {
        let fires = Arc::clone(&self.meter(namespace).fires);
        let allowed = limits.fires_per_minute;
        match fires.take(self.shared.now_ms(), allowed) {
            Some(answer) => answer,
            None => fires.count(allowed).await,
        }
    }

    /// Renews what is held here; whether everything was.
    pub(super) async fn upkeep(&self) -> bool {
        let refused = match self.shared.leased.renew_all().await {
            Ok(refused) => refused,
            Err(error) => {
                tracing::warn!(%error, "places held here could not be renewed");
                return false;
            }
        };
        if refused.is_empty() {
            return true;
        }
        // Redis has lost what it was told, or somebody deleted it: what is in use here is in use, and is told again.
        let lost = refused.iter().map(|hold| self.restore(hold));
        join_all(lost).await.into_iter().all(|restored| restored)
    }

    async fn restore(&self, hold: &Arc<Hold>) -> bool {
        let meter = self.meters.iter().find_map(|meter| {
            let is_it = Arc::ptr_eq(&meter.hold, hold);
            is_it.then(|| Arc::clone(&meter))
        });
        let Some(meter) = meter else {
            return false;
        };
        hold.lower(meter.pot.empty());
        let max = match meter.allowed.load(Ordering::Relaxed) {
            // Nobody asked here: what is in use was taken over.
            0 => u64::MAX,
            max => max,
        };
        // What it had in flight when its lease ended may run elsewhere, whatever was granted since: it counts again.
        let has_lapsed = hold.has_lapsed();
        meter
            .claim(0, max)
            .await
            .is_ok_and(|claimed| has_lapsed || !claimed.was_lost || claimed.in_use <= max)
    }

    /// Gives up what is not in use; what is in use stays counted, and nothing is handed out until Redis has renewed it.
    pub(super) fn lapse(&self) {
        self.shared.leased.lapse();
        for meter in &self.meters {
            meter.hold.lower(meter.pot.empty());
            for rate in [&meter.calls, &meter.fires] {
                // They count as used until the minute is over.
                rate.take_all();
            }
        }
    }

    /// Places for `count` invocations of `namespace` that are here and that `front` admitted, which is gone: moved from what
    /// it held, and held beyond that where they may run already. Whether Redis was told; if not, it is with the next upkeep.
    pub(super) async fn take_over(
        &self,
        namespace: &Namespace,
        front: &str,
        count: u64,
        in_use: bool,
    ) -> (Vec<Admission>, bool) {
        let meter = self.meter(namespace);
        let adopted = self.shared.leased.adopt(&meter.hold, front, count, in_use);
        let adopted = adopted.await;
        let more = match &adopted {
            Ok(more) => *more,
            Err(error) => {
                tracing::warn!(%error, front, "places of a front that is gone could not be taken over");
                if in_use { count } else { 0 }
            }
        };
        let places = (0..more).map(|_| meter.enter()).collect();
        (places, adopted.is_ok())
    }

    /// Gives back everything that is not in use, now and from now on.
    pub(super) async fn drain(&self) {
        self.shared.is_draining.store(true, Ordering::Relaxed);
        let meters: Vec<Arc<Meter>> = self.meters.iter().map(|meter| Arc::clone(&meter)).collect();
        let given = meters.iter().map(|meter| async {
            meter.hold.lower(meter.pot.empty());
            meter.settle().await;
            for rate in [&meter.calls, &meter.fires] {
                rate.give(rate.take_all()).await;
            }
        });
        join_all(given).await;
    }

    /// Another node was refused something.
    pub(super) fn hear(&self, wanted: &Wanted) {
        if wanted.node == self.shared.node {
            return;
        }
        let Some(meter) = self
            .meters
            .get(&wanted.namespace)
            .map(|meter| Arc::clone(&meter))
        else {
            return;
        };
        match meter.rate(wanted.want) {
            None => meter.hear_of_places(wanted.count, wanted.has),
            Some(rate) => {
                let count = rate.take_wanted(wanted.count);
                if count > 0 {
                    give(rate, count);
                }
            }
        }
    }

    fn meter(&self, namespace: &Namespace) -> Arc<Meter> {
        if let Some(meter) = self.meters.get(namespace) {
            return Arc::clone(&meter);
        }
        if self.meters.len() >= METERS_BEFORE_SWEEP {
            // Whoever is about to use a meter holds a clone of it, taken under the lock that `retain` takes.
            let stays = |meter: &Arc<Meter>| Arc::strong_count(meter) > 1 || !meter.is_idle();
            self.meters.retain(|_, meter| stays(meter));
        }
        let made = || Arc::new(Meter::new(&self.shared, namespace));
        Arc::clone(&self.meters.entry(namespace.clone()).or_insert_with(made))
    }

    /// Invocations of `namespace` in flight at this node.
    #[cfg(test)]
    pub(super) fn in_flight(&self, namespace: &Namespace) -> u64 {
        self.meters
            .get(namespace)
            .map_or(0, |meter| meter.in_flight.load(Ordering::Relaxed))
    }
}
