//! Finding work that this node was not told of; holding what is held; leaving.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::lane::{self, Hungry, Lane};
use super::{Lanes, Shared, clock, scripts};
use crate::link::{self, Batch, Value, cmd, read};
use crate::model::Namespace;
use crate::queue::Key;
use crate::scheduler::placement::{self, Due, Holding, NodeView, Warmth};
use crate::telemetry::cluster::{self as telemetry, Event};

/// What is due for less than this is left to whoever was told of it.
#[expect(clippy::cast_possible_truncation, reason = "some milliseconds")]
const PATIENCE_MIN_MS: u64 = placement::PATIENCE_MIN.as_millis() as u64;
/// Namespaces looked at in one go, and lanes of each.
const NAMESPACES_MAX: usize = 32;
const LANES_MAX: usize = 16;

/// Looks at the due list now and then, for as long as the task lives.
pub(super) async fn go_on(shared: Arc<Shared>) {
    let mut taken = shared.taken.load(Ordering::Relaxed);
    let mut pause = Duration::from_millis(20);
    let mut era = None;
    loop {
        tokio::time::sleep(pause).await;
        let now = shared.node.clock_era();
        if era != Some(now) {
            match clock::shorten(&shared.link, &shared.prefix, &shared.node).await {
                Ok(_) => era = Some(now),
                Err(error) => {
                    tracing::debug!(%error, "times by another clock are looked for again");
                }
            }
        }
        if shared.room() > 0
            && let Err(error) = look(&shared).await
        {
            tracing::debug!(%error, "the due list could not be read");
        }
        // Where looking brought something there may be more.
        let now = shared.taken.load(Ordering::Relaxed);
        let is_hungry = now != taken;
        taken = now;
        let nodes = shared.node.members.view().living.len();
        pause = placement::look_after(nodes, is_hungry, fastrand::u64(..));
    }
}

/// Takes what is due and this node's to take.
async fn look(shared: &Arc<Shared>) -> link::Result<()> {
    // Redis's own time may be a little ahead of what we believe.
    let now_ms = shared.node.redis_now_ms().saturating_sub(PATIENCE_MIN_MS);
    let namespaces = due_namespaces(shared, now_ms).await?;
    if namespaces.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::default();
    for namespace in &namespaces {
        let mut ask = cmd("ZRANGE");
        ask.arg(lane::due_of(&shared.prefix, namespace))
            .arg(0)
            .arg(LANES_MAX - 1)
            .arg("WITHSCORES");
        batch.push(ask);
    }
    let mut found: Vec<(Key, u64)> = Vec::new();
    let (mut moved, mut repaired) = (Batch::default(), Vec::new());
    for (answer, namespace) in shared.link.run(&batch).await?.into_iter().zip(&namespaces) {
        let lanes = match answer {
            // It keeps nobody from what is due in other namespaces, and is looked at again when this one would be.
            Err(link::Error::Unexpected(error)) => {
                tracing::error!(error, %namespace, "what Redis holds of a namespace's due list is not ours");
                let lease_ms = u64::try_from(shared.node.config.lease().as_millis());
                let later_ms = now_ms.saturating_add(lease_ms.unwrap_or(u64::MAX));
                repair(shared, namespace, Some(later_ms), &mut moved);
                continue;
            }
            answer => read::<Vec<(String, f64)>>(answer?),
        };
        let Some(lanes) = lanes else { continue };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "milliseconds of this century"
        )]
        let lanes: Vec<(String, u64)> = lanes
            .into_iter()
            .map(|(name, time)| (name, time as u64))
            .collect();
        let earliest = lanes.first().map(|(_, time)| *time);
        if earliest.is_none_or(|time| time > now_ms) {
            repair(shared, namespace, earliest, &mut moved);
            repaired.push(namespace);
        }
        let due = lanes.into_iter().filter(|(_, time)| *time <= now_ms);
        found.extend(due.filter_map(|(name, time)| {
            let key = lane::parse(&name).filter(|key| key.namespace == *namespace);
            if key.is_none() {
                tracing::warn!(name, "the due list names a lane that cannot be one");
            }
            Some((key?, time))
        }));
    }
    if !moved.is_empty() {
        shared.link.run(&moved).await?;
        look_again(shared, &repaired).await?;
    }
    take(shared, &found, now_ms);
    Ok(())
}

/// The first namespaces with something due by `now_ms`.
async fn due_namespaces(shared: &Shared, now_ms: u64) -> link::Result<Vec<Namespace>> {
    let mut ask = cmd("ZRANGEBYSCORE");
    let limit = ask
        .arg(lane::due(&shared.prefix))
        .arg("-inf")
        .arg(now_ms)
        .arg("LIMIT");
    limit.arg(0).arg(NAMESPACES_MAX);
    let namespaces: Vec<String> = shared.link.query(&ask).await?;
    let parsed = namespaces
        .iter()
        .filter_map(|name| Namespace::parse(name).ok());
    Ok(parsed.collect())
}

/// Moves a namespace to when its first lane is due, or out of the list.
fn repair(shared: &Shared, namespace: &Namespace, earliest: Option<u64>, batch: &mut Batch) {
    let all = lane::due(&shared.prefix);
    match earliest {
        None => {
            batch.push(cmd("ZREM").arg(&all).arg(namespace.as_str()).clone());
        }
        Some(time) => {
            let mut add = cmd("ZADD");
            add.arg(&all).arg("XX").arg(time).arg(namespace.as_str());
            batch.push(add);
        }
    }
}

/// Undoes a move that came behind new work. Whoever adds to the lists adds to that of lanes first: what is not seen here is put
/// into that of namespaces after the move.
async fn look_again(shared: &Shared, namespaces: &[&Namespace]) -> link::Result<()> {
    let mut batch = Batch::default();
    for namespace in namespaces {
        let mut ask = cmd("ZRANGE");
        ask.arg(lane::due_of(&shared.prefix, namespace))
            .arg(0)
            .arg(0)
            .arg("WITHSCORES");
        batch.push(ask);
    }
    let mut back = Batch::default();
    for (answer, namespace) in shared.link.run(&batch).await?.into_iter().zip(namespaces) {
        let first = read::<Vec<(String, f64)>>(answer?).and_then(|lanes| lanes.into_iter().next());
        if let Some((_, time)) = first {
            let mut add = cmd("ZADD");
            add.arg(lane::due(&shared.prefix))
                .arg("LT")
                .arg(time)
                .arg(namespace.as_str());
            back.push(add);
        }
    }
    if !back.is_empty() {
        shared.link.run(&back).await?;
    }
    Ok(())
}

/// Makes lanes hungry that are this node's to take.
fn take(shared: &Arc<Shared>, found: &[(Key, u64)], now_ms: u64) {
    if found.is_empty() {
        return;
    }
    let Some(hands) = shared.hands() else {
        return;
    };
    let due: Vec<Due> = found
        .iter()
        .map(|(key, time)| Due {
            namespace: hash(key.namespace.as_str()),
            runtime: hands.used(&key.namespace).0,
            age: Duration::from_millis(now_ms.saturating_sub(*time)),
            warmth: warmth(shared, key),
            told: false,
            backlog: u32::MAX,
        })
        .collect();
    let asks = placement::asks(&due, &own_view(shared));
    for ask in &asks {
        if let Some((key, time)) = found.get(ask.lane) {
            shared.hunger(
                key,
                Hungry {
                    since_ms: *time,
                    told: false,
                },
            );
        }
    }
}

fn hash(text: &str) -> u64 {
    let digest = blake3::hash(text.as_bytes());
    u64::from_le_bytes(*digest.as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

fn own_view(shared: &Shared) -> NodeView {
    let room = u32::try_from(shared.room()).unwrap_or(u32::MAX);
    let view = shared.node.members.view();
    let own = view.get(shared.node.id());
    NodeView {
        hash: 0,
        permits_free: room,
        permits: own
            .map_or(room, |own| u32::try_from(own.runs_max).unwrap_or(u32::MAX))
            .max(room),
        bytes_free: u64::MAX,
    }
}

fn warmth(shared: &Shared, key: &Key) -> Warmth {
    let is_held = shared
        .lanes
        .lock()
        .all
        .get(key)
        .is_some_and(|lane| lane.is_held);
    if is_held {
        return Warmth::Warm;
    }
    let hands = shared.hands();
    hands.map_or(Warmth::Cold, |hands| hands.warmth(key))
}

impl Shared {
    /// See [`super::ClusterQueue::renew`].
    pub(super) async fn renew(&self) -> bool {
        let name = self.node.name();
        let lease_ms = u64::try_from(self.node.config.lease().as_millis()).unwrap_or(u64::MAX);
        let deadline_ms = self.node.redis_now_ms().saturating_add(lease_ms);
        let (mut batch, mut kept, mut left) = (Batch::default(), Vec::new(), Vec::new());
        let mut lowered = Batch::default();
        for lane in self.lanes.lock().all.values_mut() {
            if !lane.is_held {
                if std::mem::take(&mut lane.is_stale) {
                    left.push((lane.key.clone(), false));
                }
                continue;
            }
            let busy = self.busy(lane);
            let is_over = super::flush::is_idle(lane) || (self.is_leaving() && lane.is_unused());
            if is_over && busy == 0 {
                left.push((lane.key.clone(), true));
                continue;
            }
            if let Some(keeps) = self.lower(lane, busy) {
                let keys = &lane.keys;
                let mut release =
                    scripts::RELEASE.call(&[&keys.stream, &keys.holders, &keys.begun]);
                release.arg(&*name).arg(keeps);
                lowered.call(&scripts::RELEASE, release);
            }
            let mut renew = scripts::RENEW.call(&[&lane.keys.holders]);
            renew.arg(&*name).arg(lease_ms).arg(lane.slots);
            batch.call(&scripts::RENEW, renew);
            kept.push((lane.key.clone(), lane.missed));
        }
        let Ok(answers) = self.link.run(&batch).await else {
            return false;
        };
        let mut renewed = true;
        let mut moved = Batch::default();
        for (answer, (key, missed)) in answers.into_iter().zip(&kept) {
            match answer {
                Ok(answer) if answer == Value::Int(2) || *missed => {
                    let (since_ms, told) = (self.node.redis_now_ms(), true);
                    self.hunger(key, Hungry { since_ms, told });
                }
                Ok(_) => self.put_off(key, deadline_ms, &mut moved),
                // Nobody can take over what is in a lane whose keys are not ours; it is no reason to end everything else.
                Err(link::Error::Unexpected(error)) => {
                    tracing::error!(error, lane = ?key, "what Redis holds of a lane is not ours: it cannot be renewed");
                }
                Err(_) => renewed = false,
            }
        }
        renewed &= self.link.run(&moved).await.is_ok();
        // What is not given back now is with the next.
        drop(self.link.run(&lowered).await);
        self.give_up_idle(left).await;
        self.forget_unused();
        renewed
    }

    /// A lane in which nothing is to be pulled is due again when our lease ends.
    fn put_off(&self, key: &Key, deadline_ms: u64, batch: &mut Batch) {
        // One of which somebody still waits for the rest stays due at once.
        let (keys, waits) = self.lane(key, |lane| (Arc::clone(&lane.keys), lane.waiting > 0));
        let mut of_lane = cmd("ZADD");
        of_lane.arg(&keys.due);
        if waits {
            of_lane.arg("NX");
        }
        of_lane.arg(deadline_ms).arg(&*keys.name);
        batch.push(of_lane);
        let mut of_namespace = cmd("ZADD");
        of_namespace
            .arg(lane::due(&self.prefix))
            .arg("LT")
            .arg(deadline_ms)
            .arg(key.namespace.as_str());
        batch.push(of_namespace);
    }

    /// Runs of a limited action here, whichever way their calls came.
    fn busy(&self, lane: &Lane) -> u64 {
        if lane.limit == 0 {
            return 0;
        }
        self.hands().map_or(0, |hands| hands.running(&lane.key))
    }

    /// Lets nothing more run of a lane that is to be given up; `false` where something does, which then goes on.
    fn let_go(&self, lane: &mut Lane) -> bool {
        let slots = lane.slots;
        self.set_slots(lane, 0);
        if self.busy(lane) > 0 {
            self.set_slots(lane, slots);
            return false;
        }
        lane.is_held = false;
        true
    }

    /// Takes slots from the pool that are not needed, and says how many stay; `None` when all of them do.
    fn lower(&self, lane: &mut Lane, busy: u64) -> Option<u64> {
        if lane.limit == 0 || lane.slots == 0 {
            return None;
        }
        let entries = u64::try_from(lane.entries.len()).unwrap_or(u64::MAX);
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let now = small(busy.max(entries));
        let peak = std::mem::replace(&mut lane.peak, now).max(now);
        let surplus = placement::surplus(&Holding {
            held: small(lane.slots),
            busy: now,
            peak,
            unused_for: lane.used.elapsed(),
            wanted: false,
        });
        let (before, keeps) = (lane.slots, lane.slots.saturating_sub(u64::from(surplus)));
        if keeps == before {
            return None;
        }
        self.set_slots(lane, keeps);
        // A run may have begun in between: it looks at the slots again after it was counted, and we at the runs.
        if self.busy(lane) > keeps {
            self.set_slots(lane, before);
            return None;
        }
        Some(keeps)
    }

    /// Gives up lanes that nobody called for a while, held or not: those that were not are due no longer if they are empty.
    async fn give_up_idle(&self, lanes: Vec<(Key, bool)>) {
        let name = self.node.name();
        let mut batch = Batch::default();
        let mut lanes = lanes;
        // Nothing may run past the stream from here on; what began in between keeps the lane.
        lanes.retain(|(key, was_held)| !*was_held || self.lane(key, |lane| self.let_go(lane)));
        for (key, was_held) in &lanes {
            let keys = self.lane(key, |lane| Arc::clone(&lane.keys));
            let mut release = scripts::RELEASE.call(&[&keys.stream, &keys.holders, &keys.begun]);
            // It may be ours again by now: what was not held is not given up, only cleared away if nobody needs it.
            release.arg(if *was_held { &*name } else { "" }).arg(-1);
            batch.call(&scripts::RELEASE, release);
        }
        let Ok(answers) = self.link.run(&batch).await else {
            return;
        };
        let (mut emptied, mut keys) = (Batch::default(), Vec::new());
        for (answer, (key, was_held)) in answers.into_iter().zip(lanes) {
            let is_empty = matches!(answer, Ok(Value::Int(..=0)));
            if is_empty {
                let keys = self.lane(&key, |lane| Arc::clone(&lane.keys));
                emptied.push(cmd("ZREM").arg(&keys.due).arg(&*keys.name).clone());
            }
            if is_empty || was_held {
                keys.push(key);
            }
        }
        drop(self.link.run(&emptied).await);
        // Somebody may have pushed between the two: then it is due, and was just removed.
        let mut again = Batch::default();
        for key in &keys {
            let stream = self.lane(key, |lane| lane.keys.stream.clone());
            again.push(cmd("XLEN").arg(stream).clone());
        }
        let Ok(lengths) = self.link.run(&again).await else {
            return;
        };
        let mut mended = Batch::default();
        for (length, key) in lengths.into_iter().zip(&keys) {
            if matches!(length, Ok(Value::Int(1..))) {
                self.is_due_now(key, &mut mended);
            }
        }
        drop(self.link.run(&mended).await);
    }

    /// Appends the notes that a lane is to be looked at, by whoever has room.
    fn is_due_now(&self, key: &Key, batch: &mut Batch) {
        let (keys, now_ms) = (
            self.lane(key, |lane| Arc::clone(&lane.keys)),
            self.node.redis_now_ms(),
        );
        let mut of_lane = cmd("ZADD");
        of_lane
            .arg(&keys.due)
            .arg("LT")
            .arg(now_ms)
            .arg(&*keys.name);
        batch.push(of_lane);
        let mut of_namespace = cmd("ZADD");
        of_namespace
            .arg(lane::due(&self.prefix))
            .arg("LT")
            .arg(now_ms)
            .arg(key.namespace.as_str());
        batch.push(of_namespace);
    }

    /// Forgets lanes that are not held and were not used for long.
    fn forget_unused(&self) {
        let mut lanes = self.lanes.lock();
        let Lanes { all, behind, .. } = &mut *lanes;
        all.retain(|key, lane| {
            let stays = lane.is_held || !lane.is_unused() || lane.used.elapsed() < FORGET;
            if !stays {
                behind.remove(key);
                self.slots.remove(key);
            }
            stays
        });
    }

    /// What the clock must say by which others' leases are judged to have ended, where there is but one; -1 where none of them is
    /// to be taken for ended now, 0 where nothing is known of that clock: each server of a Redis Cluster has its own.
    pub(super) fn believed_ms(&self) -> i64 {
        match (self.node.takes_over(), self.link.has_one_clock()) {
            (false, _) => -1,
            (true, true) => i64::try_from(self.node.redis_now_ms()).unwrap_or(0),
            (true, false) => 0,
        }
    }

    /// See [`super::ClusterQueue::quiet`].
    pub(super) async fn quiet(&self) {
        let is_quiet = || {
            let lanes = self.lanes.lock();
            // What has ended is acked when its record is in Redis, which may be a moment later.
            let is_acked = lanes.all.values().all(|lane| lane.entries.is_empty());
            is_acked && lanes.errands.is_empty() && self.news.lock().is_empty()
        };
        while !is_quiet() {
            self.work.notify_one();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The batch that took the last of it is under way.
        while self.sending.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.renew().await;
    }

    /// See [`super::ClusterQueue::leave`].
    pub(super) async fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
        let began = Instant::now();
        let name = self.node.name();
        for (key, ids) in self.local.take_pulled() {
            let keys = self.lane(&key, |lane| Arc::clone(&lane.keys));
            let mut back = scripts::HAND_BACK.call(&[&keys.stream, &keys.holders]);
            back.arg(&*name).arg(&ids);
            match self.link.call::<Value>(&scripts::HAND_BACK, &back).await {
                Ok(_) => {
                    telemetry::count(Event::HandedBack, ids.len());
                    self.lane(&key, |lane| {
                        for id in &ids {
                            lane.entries.remove(id);
                        }
                    });
                    let mut batch = Batch::default();
                    self.is_due_now(&key, &mut batch);
                    drop(self.link.run(&batch).await);
                }
                Err(error) => {
                    tracing::warn!(%error, lane = ?key, "entries could not be handed back; others take them when the lease ends");
                }
            }
        }
        tracing::debug!(took = ?began.elapsed(), "what was pulled and had not begun is handed back");
    }
}

/// How long a lane is remembered that is not held.
const FORGET: Duration = Duration::from_secs(60);
