//! Giving back: what nobody uses here, and what others want.
//!
//! One task per node. It is told of every pot that has something in it and looks at it after a while, and again until it is empty:
//! what nobody needed in between goes back. And it hears which node was refused what, on one channel for all: whoever has it
//! unused gives it back at once, and whoever has more of a namespace's places than the asker gives it some of those that become free.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::rate::Rate;
use super::wide::{Meter, Wide};
use crate::link::{Ears, Heard};
use crate::model::Namespace;

/// How long something lies unused before it goes back.
const IDLE: Duration = Duration::from_secs(1);
/// The same for places of namespaces that have few, and for everything on a node that drains.
const IDLE_SHORT: Duration = Duration::from_millis(10);

/// What the task is asked to do.
pub(super) enum Order {
    /// Look after free places.
    Places(Arc<Meter>),
    /// Look after calls that are counted and not made.
    Rate(Arc<Rate>),
    /// Tell Redis what is held.
    Settle(Arc<Meter>),
}

/// What a node was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Place,
    Call,
    Fire,
}

impl Want {
    /// In keys, and in what is said on the channel.
    pub(super) fn letter(self) -> &'static str {
        match self {
            Self::Place => "p",
            Self::Call => "c",
            Self::Fire => "f",
        }
    }

    fn of(letter: &str) -> Option<Self> {
        [Self::Place, Self::Call, Self::Fire]
            .into_iter()
            .find(|want| want.letter() == letter)
    }
}

/// What is said on the channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) want: Want,
    /// Who wants it.
    pub(super) node: String,
    /// How many,
    pub(super) count: u64,
    /// and how many the asker has already.
    pub(super) has: u64,
    pub(super) namespace: Namespace,
}

impl Wanted {
    pub(super) fn print(&self) -> String {
        let Self {
            want,
            node,
            count,
            has,
            namespace,
        } = self;
        let letter = want.letter();
        format!("{letter} {node} {count} {has} {}", namespace.as_str())
    }

    /// `None` for what is not ours.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(text).ok()?.splitn(5, ' ');
        Some(Self {
            want: Want::of(parts.next()?)?,
            node: parts.next()?.to_owned(),
            count: parts.next()?.parse().ok()?,
            has: parts.next()?.parse().ok()?,
            namespace: Namespace::parse(parts.next()?).ok()?,
        })
    }
}

/// The task.
pub(super) struct Tender {
    pub(super) wide: Weak<Wide>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) ears: Ears,
    pub(super) heard: mpsc::Receiver<Heard>,
}

/// What is looked at next, in order of time; as many entries as there are pots that are not empty.
type Looks = BTreeMap<(Instant, u64), Order>;

impl Tender {
    /// Until nobody gives orders any more.
    pub(super) async fn go_on(mut self, channel: String) {
        self.ears.subscribe(&channel);
        let mut looks = Looks::new();
        let mut serial = 0;
        loop {
            let next = looks.first_key_value().map(|((when, _), _)| *when);
            let look = async {
                match next {
                    Some(when) => tokio::time::sleep_until(when).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => take(order, &mut looks, &mut serial),
                    None => return,
                },
                heard = self.heard.recv() => match heard {
                    Some(Heard::Message { payload, .. }) => self.hear(&payload),
                    // Unheard wishes are granted when what they are about was idle for long enough.
                    Some(_) => {}
                    None => return,
                },
                () = look => {
                    let now = Instant::now();
                    while let Some(entry) = looks.first_entry() && entry.key().0 <= now {
                        let order = entry.remove();
                        if let Some(again) = look_at(order) {
                            take(again, &mut looks, &mut serial);
                        }
                    }
                }
            }
        }
    }

    fn hear(&self, payload: &[u8]) {
        let Some(wide) = self.wide.upgrade() else {
            return;
        };
        match Wanted::parse(payload) {
            Some(wanted) => wide.hear(&wanted),
            None => tracing::debug!("something that is not ours was said on the channel of limits"),
        }
    }
}

/// Does it, or plans it.
fn take(order: Order, looks: &mut Looks, serial: &mut u64) {
    let idle = match &order {
        Order::Settle(meter) => {
            settle(meter);
            return;
        }
        Order::Places(meter) if meter.is_short_of_places() => IDLE_SHORT,
        Order::Rate(rate) if rate.is_draining() => IDLE_SHORT,
        Order::Places(_) | Order::Rate(_) => IDLE,
    };
    *serial += 1;
    looks.insert((Instant::now() + idle, *serial), order);
}

/// Gives back what was idle; what is to be looked at again.
fn look_at(order: Order) -> Option<Order> {
    match &order {
        Order::Places(meter) => {
            if meter.lower_idle() {
                settle(meter);
            }
            meter.stays_watched().then_some(order)
        }
        Order::Rate(rate) => {
            let idle = rate.take_idle();
            if idle > 0 {
                give(rate, idle);
            }
            rate.stays_watched().then_some(order)
        }
        Order::Settle(_) => None,
    }
}

/// Tells Redis, which may take a while.
pub(super) fn settle(meter: &Arc<Meter>) {
    let meter = Arc::clone(meter);
    tokio::spawn(async move { meter.settle().await });
}

/// Gives back what was taken out of its pot.
pub(super) fn give(rate: &Arc<Rate>, count: u64) {
    let rate = Arc::clone(rate);
    tokio::spawn(async move { rate.give(count).await });
}
