//! What a pull brought: entries to be run, and those of the dead.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::lane::Hungry;
use super::orphans::Seat;
use super::packet::{self, Packet};
use super::{Entry, Origin, Outcome, Shared, scripts};
use crate::link::{Value, cmd, read};
use crate::queue::message::{CANCELLED, Work};
use crate::queue::{Delivery, Key, Queue};
use crate::telemetry::cluster::{self as telemetry, Event};

/// One entry as it was read: its id, and the payload or where it lies.
struct Raw {
    id: String,
    version: Option<u16>,
    inline: Option<Bytes>,
    beside: Option<String>,
    /// Whose it was, if it was anybody's.
    from: String,
    /// How long it had waited when it was read, by the clock of the server that has it: milliseconds.
    waited_ms: u64,
}

impl Raw {
    /// Whether it was handed back, or read for us and missed: that delivery does not count.
    fn was_not_begun(&self, name: &str) -> bool {
        self.from == "-" || self.from == name
    }
}

/// Takes the answer of a pull apart and lets the work be run.
pub(super) fn pulled(shared: &Arc<Shared>, key: &Key, answer: Value) {
    type Answer = (u64, u64, u64, Vec<Value>, Vec<Value>, u8, u64);
    let Some((now_ms, slots, waiting, fresh, again, more, limit)) = read::<Answer>(answer) else {
        tracing::error!(lane = ?key, "what a lane's script answered has another form: another release's?");
        return;
    };
    let (fresh, mut again) = (raws(fresh, now_ms), raws(again, now_ms));
    // What was missed came with what is known.
    let name = shared.node.name();
    shared.lane(key, |lane| {
        let is_known = |id: &String| lane.entries.contains(id) || lane.acks.contains(id);
        again.retain(|raw| *raw.from != *name || !is_known(&raw.id));
    });
    let count = fresh.len() + again.len();
    let handed = again.iter().filter(|raw| raw.was_not_begun(&name)).count();
    telemetry::count(Event::Pulled, fresh.len());
    telemetry::count(Event::Resumed, handed);
    telemetry::count(Event::TakenOver, again.len() - handed);
    shared.taken.fetch_add(count, Ordering::Relaxed);
    let epoch = shared.epoch.load(Ordering::Acquire);
    let has_room = shared.room() > count;
    let mut own = shared.lane(key, |lane| {
        lane.is_held |= count > 0 || slots > 0;
        let ids = fresh.iter().chain(&again).map(|raw| raw.id.clone());
        lane.entries.extend(ids);
        // Without a slot nothing was looked at.
        lane.missed &= limit > 0 && slots == 0;
        lane.is_stale = !lane.is_held && waiting == 0;
        lane.limit = limit;
        shared.set_slots(lane, slots);
        lane.waiting = waiting;
        if count > 0 {
            lane.used = tokio::time::Instant::now();
        }
        let more = more > 0 || (waiting > 0 && count > 0);
        lane.tells_due |= waiting > 0 && !has_room;
        // Whoever pushes from now on tells us, and says in the list that it is due.
        if waiting == 0 && !more && lane.is_held && std::mem::take(&mut lane.is_due) {
            lane.puts_off = true;
        }
        if more && has_room && !lane.is_full() {
            lane.hungry = Some(Hungry {
                since_ms: now_ms,
                told: true,
            });
            shared.work.notify_one();
        }
        std::mem::take(&mut lane.own)
    });
    // Its limit may have let nothing run here before.
    if slots > 0 {
        shared.local.unpark(key);
    }
    unpack(shared, key, (fresh, again), &mut own, epoch);
}

/// Takes entries apart, and lets what needs nothing more run.
fn unpack(
    shared: &Arc<Shared>,
    key: &Key,
    (fresh, again): (Vec<Raw>, Vec<Raw>),
    own: &mut Own,
    epoch: u64,
) {
    let mut deliveries = Vec::new();
    for (raw, is_again) in fresh
        .into_iter()
        .map(|raw| (raw, false))
        .chain(again.into_iter().map(|raw| (raw, true)))
    {
        match raw.inline {
            Some(ref bytes) if !is_again => {
                match open(shared, key, &raw, (bytes.clone(), &mut *own), epoch) {
                    Some((front, opened)) if shared.is_front_known(&front) => {
                        deliveries.extend(opened);
                    }
                    Some((front, opened)) => {
                        let shared = Arc::clone(shared);
                        tokio::spawn(async move { seated(&shared, &front, opened, epoch).await });
                    }
                    None => set_aside(shared, key, raw.id),
                }
            }
            _ => {
                let (shared, key) = (Arc::clone(shared), key.clone());
                tokio::spawn(async move { slowly(&shared, &key, raw, is_again, epoch).await });
            }
        }
    }
    place(shared, deliveries);
}

/// Places works one by one as they have a place among those of their namespace.
async fn seated(shared: &Arc<Shared>, front: &Arc<str>, deliveries: Vec<Delivery>, epoch: u64) {
    for delivery in deliveries {
        if shared.await_seat(&delivery, front, epoch).await {
            place(shared, vec![delivery]);
        }
    }
}

/// The entries of an answer; what has not even their form is left out, and stays where it is.
fn raws(values: Vec<Value>, now_ms: u64) -> Vec<Raw> {
    let mut raws = Vec::with_capacity(values.len());
    for value in values {
        let Value::Array(parts) = value else { continue };
        let mut parts = parts.into_iter();
        let Some(id) = parts.next().and_then(read::<String>) else {
            continue;
        };
        let pushed_ms = id.split('-').next().and_then(|ms| ms.parse::<u64>().ok());
        let mut raw = Raw {
            waited_ms: pushed_ms.map_or(0, |ms| now_ms.saturating_sub(ms)),
            id,
            version: None,
            inline: None,
            beside: None,
            from: String::new(),
        };
        if let Some(Value::Array(fields)) = parts.next() {
            let mut fields = fields.into_iter();
            while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
                let Value::BulkString(name) = name else {
                    continue;
                };
                match &name[..] {
                    b"v" => raw.version = read(value),
                    b"b" => {
                        if let Value::BulkString(bytes) = value {
                            raw.inline = Some(bytes.into());
                        }
                    }
                    b"k" => raw.beside = read(value),
                    _ => {}
                }
            }
        }
        raw.from = parts.next().and_then(read).unwrap_or_default();
        raws.push(raw);
    }
    raws
}

/// What this node put into a stream with the batch that brought it back, as it was before it was packed.
pub(super) type Own = VecDeque<(Bytes, Vec<Work>)>;

/// The works of an entry, if it is one of those: they need not be read again.
fn take_own(own: &mut Own, bytes: &[u8]) -> Option<Vec<Work>> {
    let at = own.iter().position(|(own, _)| own == bytes)?;
    own.drain(..=at).next_back().map(|(_, works)| works)
}

/// The front an entry came from, and its deliveries; `None` when it cannot be read.
fn open(
    shared: &Arc<Shared>,
    key: &Key,
    raw: &Raw,
    (bytes, own): (Bytes, &mut Own),
    epoch: u64,
) -> Option<(Arc<str>, Vec<Delivery>)> {
    if raw.version != Some(packet::VERSION) {
        tracing::error!(lane = ?key, entry = raw.id, version = ?raw.version, "an entry is of another release, or not ours: it is set aside");
        return None;
    }
    let unpacked = match take_own(own, &bytes) {
        Some(works) => Ok(Packet {
            front: Arc::from(shared.node.id()),
            works,
        }),
        None => {
            let bytes = shared.envelope.open(bytes);
            shared.lane(key, |lane| lane.actions.unpack(&bytes, &*shared.envelope))
        }
    };
    let Packet { front, works } = match unpacked {
        Ok(packet) => packet,
        Err(error) => {
            tracing::error!(lane = ?key, entry = raw.id, %error, "an entry cannot be read: it is set aside");
            return None;
        }
    };
    // What it says must be what its lane is for: nobody runs in another's name because Redis says so.
    if works.is_empty() || works.iter().any(|work| Key::of(work) != *key) {
        tracing::error!(lane = ?key, entry = raw.id, "an entry is in a lane that is not its own: it is set aside");
        return None;
    }
    let entry = Arc::new(Entry {
        lane: key.clone(),
        id: raw.id.clone(),
        payload: raw.beside.clone(),
        left: AtomicUsize::new(works.len()),
        epoch,
        queue: Arc::downgrade(shared),
    });
    // Longer than anything may that was not promised.
    let is_late = raw.waited_ms >= shared.config.wait_max_s.saturating_mul(1000);
    let mut deliveries = Vec::with_capacity(works.len());
    for work in works {
        let origin = Origin {
            front: Arc::clone(&front),
            lane: key.clone(),
            waits: !work.durable,
            seat: Seat::default(),
        };
        shared.origins.insert(work.id, origin);
        let is_limited = super::limit(&work.action) > 0;
        let delivery = Delivery::of_entry(work, Arc::clone(&entry));
        if is_late && !delivery.work.durable {
            refuse(shared, delivery, is_limited);
        } else {
            deliveries.push(delivery);
        }
    }
    Some((front, deliveries))
}

/// Tells whoever waits for work that waited too long to come back.
fn refuse(shared: &Arc<Shared>, delivery: Delivery, is_limited: bool) {
    let refusal = super::overdue::late(is_limited);
    shared.route(delivery.work.id, Outcome::Dropped(refusal));
    delivery.ack();
}

/// Entries that need more than was read: a payload that lies beside the stream, or how often runs had begun.
async fn slowly(shared: &Arc<Shared>, key: &Key, raw: Raw, is_again: bool, epoch: u64) {
    let bytes = match (&raw.inline, &raw.beside) {
        (Some(bytes), _) => Some(bytes.clone()),
        (None, Some(beside)) => fetch(shared, beside).await,
        (None, None) => None,
    };
    let opened = bytes.and_then(|bytes| open(shared, key, &raw, (bytes, &mut Own::new()), epoch));
    let Some((front, deliveries)) = opened else {
        set_aside(shared, key, raw.id);
        return;
    };
    if !is_again {
        seated(shared, &front, deliveries, epoch).await;
        return;
    }
    let is_handed = raw.was_not_begun(&shared.node.name());
    let Some(salvage) = shared.salvage.get().and_then(std::sync::Weak::upgrade) else {
        return;
    };
    if !is_handed {
        telemetry::count(Event::Redelivered, deliveries.len());
    }
    let begun = shared.lane(key, |lane| lane.keys.begun.clone());
    for delivery in deliveries {
        let mut ask = cmd("HGET");
        ask.arg(&begun).arg(delivery.work.id.to_string());
        // The first delivery is not noted: whether its run had begun is not known, so it counts. But for what must run at
        // most once: there every run is noted before it begins.
        let noted = shared.link.query::<Option<u32>>(&ask).await.ok().flatten();
        if !shared.await_seat(&delivery, &front, epoch).await {
            return;
        }
        let is_noted = delivery.work.action.annotations.is_true("at-most-once");
        let first = u32::from(!is_handed && !is_noted);
        salvage
            .salvage(delivery, noted.unwrap_or(0).saturating_add(first))
            .await;
    }
}

/// A payload beside the stream; tried until Redis is there to say whether it has it.
async fn fetch(shared: &Shared, key: &str) -> Option<Bytes> {
    loop {
        let found = shared
            .link
            .query::<Option<Vec<u8>>>(cmd("GET").arg(key))
            .await;
        match found {
            Ok(found) => return found.map(Bytes::from),
            Err(crate::link::Error::Unavailable(_)) if shared.fence().is_held() => {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            Err(error) => {
                tracing::error!(%error, key, "the payload of an entry cannot be read");
                return None;
            }
        }
    }
}

/// Entries kept of a lane that could not be read; older ones go when there are more.
const ASIDE_MAX: usize = 1000;

/// An entry that cannot be read is moved beside the stream: it holds nobody up there, and is there for whoever looks for it.
fn set_aside(shared: &Arc<Shared>, key: &Key, id: String) {
    telemetry::count(Event::SetAside, 1);
    let keys = shared.lane(key, |lane| {
        lane.entries.remove(&id);
        Arc::clone(&lane.keys)
    });
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut aside = scripts::SET_ASIDE.call(&[&keys.stream, &keys.aside]);
        aside.arg(id).arg(ASIDE_MAX);
        if let Err(error) = shared.link.call::<i64>(&scripts::SET_ASIDE, &aside).await {
            tracing::warn!(%error, "an entry that cannot be read could not be set aside");
        }
    });
}

/// Lets works be run here: at once where there are hands, in turn where there are none.
fn place(shared: &Arc<Shared>, deliveries: Vec<Delivery>) {
    if deliveries.is_empty() {
        return;
    }
    let mut ready = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let work = &delivery.work;
        if shared.local.cancels().is_asked(work.id) {
            give_up(shared, delivery, CANCELLED);
        } else if let Some(text) = shared.doom(&work.namespace) {
            give_up(shared, delivery, &text);
        } else {
            ready.push(delivery);
        }
    }
    // Guests may compute where they are placed: not on the task that talks to Redis, and not all on one thread.
    let threads = tokio::runtime::Handle::current()
        .metrics()
        .num_workers()
        .max(1);
    let share = ready.len().div_ceil(threads).max(1);
    while !ready.is_empty() {
        let rest = ready.split_off(share.min(ready.len()));
        let (shared, some) = (Arc::clone(shared), std::mem::replace(&mut ready, rest));
        tokio::spawn(async move {
            for delivery in some {
                shared.local.place(delivery);
            }
        });
    }
}

fn give_up(shared: &Shared, delivery: Delivery, text: &str) {
    if let Some(hands) = shared.hands() {
        hands.give_up(delivery, text);
    }
}
