//! One batch at a time: acks, new work, pulls, and what is said to other nodes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::lane::{Hungry, Lane, Outgoing};
use super::news::News;
use super::{EnqueueError, Refusal, Shared, Work, packet, scripts};
use crate::link::{self, Batch, Value, cmd, read};
use crate::model::ActivationId;
use crate::queue::Key;
use crate::queue::message::Outcome;
use crate::scheduler::placement::{self, NodeIndex};
use crate::store;

/// Most invocations that share an entry: what one node has to run when it takes it.
const PACKED_MAX: usize = 32;
/// Bytes of payload that travel in the stream; more lies beside it.
const INLINE_MAX: usize = 32 << 10;
/// Bytes of parameters that share an entry.
const PACKED_BYTES_MAX: usize = 16 << 10;
/// How long a payload beside the stream is kept where nobody removes it, seconds.
const PAYLOAD_KEEP_S: u64 = 7 * 24 * 60 * 60;
/// Most entries read of one lane at once.
const READ_MAX: usize = 64;
/// Most commands in a batch: a larger one would keep everybody waiting for its end.
const BATCH_MAX: usize = 4096;
/// How often others are let go first before a batch is made; more often, up to so many times, as long as they have something
/// for it: a call then costs Redis a twentieth less, and the server as well.
const GATHER_YIELDS: u32 = 2;
const GATHER_YIELDS_MAX: u32 = 16;
/// Pause after Redis could not be reached, before pulls are tried again.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// How long a lane is left alone of which Redis holds something that is not ours.
const SHUN: Duration = Duration::from_secs(5);

/// A work that was sent, and who waits to hear that it is in its stream.
pub(super) type Answer = (
    ActivationId,
    Option<oneshot::Sender<Result<(), EnqueueError>>>,
);

/// What a command of a batch was for.
enum Sent {
    Push(Key, Vec<Answer>),
    Pull(Key),
    /// Nothing is made of its answer.
    Other,
    /// Acks of a lane, sent again if they fail.
    Ack(Key, Vec<String>),
}

/// Sends whatever there is to send, for as long as the task lives.
pub(super) async fn go_on(shared: Arc<Shared>) {
    loop {
        shared.sending.store(true, Ordering::SeqCst);
        // Whatever is ready to run may have something for this batch: where little goes on, nothing is, and it leaves at once.
        let mut before = shared.errands.load(Ordering::Relaxed);
        for turn in 1..=GATHER_YIELDS_MAX {
            tokio::task::yield_now().await;
            let now = shared.errands.load(Ordering::Relaxed);
            if now == before && turn >= GATHER_YIELDS {
                break;
            }
            before = now;
        }
        let epoch = shared.epoch.load(Ordering::Acquire);
        let (batch, sent) = gather(&shared);
        if batch.is_empty() {
            shared.sending.store(false, Ordering::SeqCst);
            shared.rounds.send_modify(|count| *count += 1);
            shared.work.notified().await;
            continue;
        }
        let asked = Instant::now();
        match shared.link.run(&batch).await {
            Ok(answers) => {
                // What was read so long ago, or under a name that was given up, may be others' by now: it is asked for again.
                let is_late = asked.elapsed() >= shared.node.config.lease() / 2
                    || epoch != shared.epoch.load(Ordering::Acquire);
                for (answer, sent) in answers.into_iter().zip(sent) {
                    let answer = match sent {
                        Sent::Pull(_) if is_late => Err(late()),
                        _ => answer,
                    };
                    took(&shared, sent, answer);
                }
            }
            Err(error) => {
                for sent in sent {
                    took(&shared, sent, Err(error.clone()));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        shared.rounds.send_modify(|count| *count += 1);
    }
}

fn late() -> link::Error {
    link::Error::Unavailable("it answered too late".to_owned())
}

/// The next batch, and what each of its commands is for.
fn gather(shared: &Arc<Shared>) -> (Batch, Vec<Sent>) {
    let (mut batch, mut sent) = (Batch::default(), Vec::new());
    let whole = shared.room();
    let mut lanes = shared.lanes.lock();
    let errands = std::mem::take(&mut lanes.errands);
    let each = whole / errands.len().max(1);
    let mut pulls = 0;
    for key in errands {
        if batch.len() > BATCH_MAX {
            // The rest goes with the next.
            lanes.errands.push(key);
            continue;
        }
        let Some(lane) = lanes.all.get_mut(&key) else {
            continue;
        };
        lane.has_errand_noted = false;
        // What its namespace may have of this node: where that is nothing, others are to take it.
        let room = shared.room_of(&key.namespace, whole);
        acks(lane, &mut batch, &mut sent);
        if !lane.out.is_empty() {
            // Whoever has room takes what it pushed with the same batch.
            let is_ours = lane.is_held || is_home(shared, lane);
            let takes = room > 0 && !lane.is_full() && is_ours && pulls < whole;
            pushes(shared, lane, (room, takes), &mut batch, &mut sent);
            if takes && lane.hungry.is_none() {
                lane.hungry = Some(Hungry {
                    since_ms: shared.node.redis_now_ms(),
                    told: true,
                });
            }
        }
        // Without room it is found again: by whoever has some, and here when a run ends.
        if lane.hungry.take().is_some() {
            if room > 0 && pulls < whole {
                pulls += 1;
                pull(shared, lane, room.min(each.max(1)), &mut batch, &mut sent);
            } else {
                lane.tells_due |= lane.waiting > 0;
            }
        }
        if std::mem::take(&mut lane.puts_off) {
            let lease_ms =
                u64::try_from(shared.node.config.lease().as_millis()).unwrap_or(u64::MAX);
            let mut later = cmd("ZADD");
            later
                .arg(&lane.keys.due)
                .arg(shared.node.redis_now_ms().saturating_add(lease_ms))
                .arg(&*lane.keys.name);
            batch.push(later);
            sent.push(Sent::Other);
        }
        if std::mem::take(&mut lane.tells_due) {
            lane.is_due = true;
            let now_ms = shared.node.redis_now_ms();
            due(lane, now_ms, &shared.prefix, &mut batch, &mut sent);
        }
    }
    drop(lanes);
    let news = std::mem::take(&mut *shared.news.lock());
    for (to, news) in news {
        publish(shared, &to, &news, &mut batch, &mut sent);
    }
    (batch, sent)
}

fn publish(shared: &Shared, to: &str, news: &News, batch: &mut Batch, sent: &mut Vec<Sent>) {
    match serde_json::to_vec(news) {
        Ok(bytes) => {
            let mut publish = cmd("PUBLISH");
            publish.arg(shared.channel(to)).arg(bytes);
            batch.push(publish);
            sent.push(Sent::Other);
        }
        Err(error) => tracing::error!(%error, "news for another node has no JSON"),
    }
}

fn acks(lane: &mut Lane, batch: &mut Batch, sent: &mut Vec<Sent>) {
    if lane.tells_brief {
        lane.tells_brief = false;
        let mut tell = cmd("HSET");
        tell.arg(&lane.keys.holders)
            .arg("#d")
            .arg(u8::from(lane.is_brief));
        batch.push(tell);
        sent.push(Sent::Other);
    }
    if lane.acks.is_empty() {
        return;
    }
    let ids = std::mem::take(&mut lane.acks);
    let (mut ack, mut del) = (cmd("XACK"), cmd("XDEL"));
    ack.arg(&lane.keys.stream).arg("w").arg(&ids);
    del.arg(&lane.keys.stream).arg(&ids);
    batch.push(ack);
    batch.push(del);
    sent.push(Sent::Other);
    sent.push(Sent::Ack(lane.key.clone(), ids));
    let payloads = std::mem::take(&mut lane.payloads);
    if !payloads.is_empty() {
        let mut del = cmd("DEL");
        del.arg(payloads);
        batch.push(del);
        sent.push(Sent::Other);
    }
}

/// Appends the pushes of a lane: its works in order, those of one version together where they are brief.
fn pushes(
    shared: &Shared,
    lane: &mut Lane,
    (room, takes): (usize, bool),
    batch: &mut Batch,
    sent: &mut Vec<Sent>,
) {
    lane.own.clear();
    let mut out = std::mem::take(&mut lane.out).into_iter().peekable();
    while let Some(first) = out.next() {
        let (mut bytes, mut group) = (first.work.params.get().len(), vec![first]);
        while lane.is_brief && group.len() < PACKED_MAX {
            let fits = |next: &Outgoing| {
                Arc::ptr_eq(&next.work.action, &group[0].work.action)
                    && bytes + next.work.params.get().len() <= PACKED_BYTES_MAX
            };
            let Some(next) = out.next_if(fits) else { break };
            bytes += next.work.params.get().len();
            group.push(next);
        }
        push(shared, lane, (group, takes), batch, sent);
    }
    let now_ms = shared.node.redis_now_ms();
    if !lane.is_held || room == 0 {
        lane.is_due = true;
        due(lane, now_ms, &shared.prefix, batch, sent);
    }
}

/// Appends the notes that the lane may be looked at from `time_ms` on, unless it may be before.
fn due(lane: &Lane, time_ms: u64, prefix: &str, batch: &mut Batch, sent: &mut Vec<Sent>) {
    let mut of_lane = cmd("ZADD");
    of_lane
        .arg(&lane.keys.due)
        .arg("LT")
        .arg(time_ms)
        .arg(&*lane.keys.name);
    let mut of_namespace = cmd("ZADD");
    of_namespace
        .arg(super::lane::due(prefix))
        .arg("LT")
        .arg(time_ms)
        .arg(lane.key.namespace.as_str());
    batch.push(of_lane);
    batch.push(of_namespace);
    sent.push(Sent::Other);
    sent.push(Sent::Other);
}

fn push(
    shared: &Shared,
    lane: &mut Lane,
    (group, takes): (Vec<Outgoing>, bool),
    batch: &mut Batch,
    sent: &mut Vec<Sent>,
) {
    let works = group.into_iter();
    let works = works.map(|one| (one.work.id, one.answer, one.work));
    let (group, works): (Vec<Answer>, Vec<Work>) =
        works.map(|(id, answer, work)| ((id, answer), work)).unzip();
    let count = works.len();
    let own = (takes && lane.own.len() < READ_MAX).then(|| works.clone());
    let packed = lane
        .actions
        .pack(shared.node.id(), works)
        .map_err(|error| store::Error::Corrupt(error.to_string()));
    let bytes = match packed.and_then(|bytes| shared.envelope.close(Bytes::from(bytes))) {
        Ok(bytes) => bytes,
        Err(error) => return refused(shared, group, &|| error.clone().into()),
    };
    if let Some(works) = own {
        lane.own.push_back((bytes.clone(), works));
    }
    let wait_max_ms = shared.config.wait_max_s.saturating_mul(1000);
    let mut call = if bytes.len() > INLINE_MAX {
        let payload = format!("{}{:016x}", lane.keys.payload, fastrand::u64(..));
        scripts::PUSH.call(&[&lane.keys.stream, &lane.keys.holders, &payload])
    } else {
        scripts::PUSH.call(&[&lane.keys.stream, &lane.keys.holders])
    };
    call.arg(count)
        .arg(shared.config.depth_max)
        .arg(wait_max_ms)
        .arg(packet::VERSION)
        .arg(&bytes[..])
        .arg(PAYLOAD_KEEP_S)
        .arg(lane.limit);
    batch.call(&scripts::PUSH, call);
    sent.push(Sent::Push(lane.key.clone(), group));
}

fn pull(shared: &Shared, lane: &mut Lane, room: usize, batch: &mut Batch, sent: &mut Vec<Sent>) {
    let lease_ms = u64::try_from(shared.node.config.lease().as_millis()).unwrap_or(u64::MAX);
    let mut call = scripts::PULL.call(&[&lane.keys.stream, &lane.keys.holders]);
    call.arg(&*shared.node.name())
        .arg(lease_ms)
        .arg(room)
        .arg(room.min(READ_MAX))
        .arg(lane.per_slot())
        .arg(lane.entries.len())
        .arg(shared.believed_ms())
        .arg(u8::from(lane.missed));
    batch.call(&scripts::PULL, call);
    sent.push(Sent::Pull(lane.key.clone()));
    if !lane.is_held {
        // From the end of our lease on, others are to look whether we are still there.
        let time_ms = shared.node.redis_now_ms().saturating_add(lease_ms);
        due(lane, time_ms, &shared.prefix, batch, sent);
    }
}

/// Whether this node is the one that would be told of work in the lane.
fn is_home(shared: &Shared, lane: &Lane) -> bool {
    if !shared.node.config.role.runs() {
        return false;
    }
    let view = shared.node.members.view();
    if view.nodes.len() <= 1 {
        return view.nodes.is_empty() || view.node_id(0) == Some(shared.node.id());
    }
    let home = placement::home(lane_hash(&lane.keys.name), &view.nodes, &[]);
    home.and_then(|index| view.node_id(index.0)) == Some(shared.node.id())
}

fn lane_hash(name: &str) -> u64 {
    let digest = blake3::hash(name.as_bytes());
    u64::from_le_bytes(*digest.as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

/// Takes note of an answer.
fn took(shared: &Arc<Shared>, sent: Sent, answer: link::Result<Value>) {
    match sent {
        Sent::Other => {
            if let Err(error) = answer {
                tracing::debug!(%error, "a note to Redis failed");
            }
        }
        Sent::Ack(key, ids) => {
            if let Err(error) = answer {
                tracing::debug!(%error, "entries are acked again later");
                shared.lane(&key, |lane| lane.acks.extend(ids));
                shared.work.notify_one();
            }
        }
        Sent::Push(key, group) => pushed(shared, &key, group, answer),
        Sent::Pull(key) => match answer {
            Ok(value) => super::pulled::pulled(shared, &key, value),
            Err(error) => {
                tracing::debug!(%error, lane = ?key, "a lane could not be read");
                shared.lane(&key, |lane| {
                    lane.own.clear();
                    lane.missed = true;
                });
                if matches!(error, link::Error::Unexpected(_) | link::Error::Said(_)) {
                    tracing::error!(%error, lane = ?key, "what Redis holds of a lane is not ours; it is left alone for a while");
                    shared.lane(&key, |lane| lane.shunned = Some(Instant::now() + SHUN));
                } else {
                    let since_ms = shared.node.redis_now_ms();
                    shared.hunger(
                        &key,
                        Hungry {
                            since_ms,
                            told: true,
                        },
                    );
                }
            }
        },
    }
}

fn pushed(shared: &Arc<Shared>, key: &Key, group: Vec<Answer>, answer: link::Result<Value>) {
    let failed = |error: &link::Error| -> EnqueueError {
        match error {
            link::Error::Full(_) => store::Error::Full.into(),
            link::Error::Unexpected(why) => {
                store::Error::Corrupt(format!("the stream of an action: {why}")).into()
            }
            error => store::Error::Unavailable(error.to_string()).into(),
        }
    };
    let value = match answer {
        Ok(value) => value,
        Err(error) => return refused(shared, group, &|| failed(&error)),
    };
    let Some((taken, before, now_ms, holders, brief, entry)) =
        read::<(u8, u64, u64, Vec<String>, String, String)>(value)
    else {
        let error = link::Error::Unexpected("an answer of another form".to_owned());
        return refused(shared, group, &|| failed(&error));
    };
    if taken == 0 {
        let retry_after_s = u32::try_from(before / 1000 + 1).unwrap_or(60).min(60);
        return refused(shared, group, &|| Refusal::Backlog { retry_after_s }.into());
    }
    shared.watch(key, entry, &group);
    let has_room = shared.room_of(&key.namespace, shared.room()) > 0;
    let is_taken = shared.lane(key, |lane| {
        if !brief.is_empty() && !lane.tells_brief {
            lane.is_brief = brief == "1";
        }
        lane.waiting = before + 1;
        lane.is_held && has_room
    });
    for (_, answer) in group {
        if let Some(answer) = answer {
            drop(answer.send(Ok(())));
        }
    }
    if !is_taken {
        wake(shared, key, &holders, now_ms);
    }
}

/// Tells whoever waits for works, or for their outcomes, that they did not get into their stream.
fn refused(shared: &Shared, group: Vec<Answer>, error: &dyn Fn() -> EnqueueError) {
    let replies = shared.replies();
    for (id, answer) in group {
        match (answer, error(), &replies) {
            (Some(answer), error, _) => drop(answer.send(Err(error))),
            (None, EnqueueError::Refused(refusal), Some(replies)) => {
                replies.complete(id, Outcome::Dropped(refusal));
            }
            (None, EnqueueError::Store(error), Some(replies)) => {
                tracing::warn!(activation = %id, %error, "a call could not be put into its stream");
                let refusal = Refusal::Overload { retry_after_s: 1 };
                replies.complete(id, Outcome::Dropped(refusal));
            }
            (None, _, None) => {}
        }
    }
}

/// Tells a node of work in a lane; itself, if it is the one.
fn wake(shared: &Arc<Shared>, key: &Key, holders: &[String], now_ms: u64) {
    let view = shared.node.members.view();
    let known = view.node_index();
    let holders: Vec<NodeIndex> = holders
        .iter()
        .filter_map(|name| {
            known
                .get(crate::cluster::id_of(name))
                .copied()
                .map(NodeIndex)
        })
        .collect();
    let name = shared.lane(key, |lane| Arc::clone(&lane.keys.name));
    let home = placement::home(lane_hash(&name), &view.nodes, &holders);
    let Some(id) = home.and_then(|index| view.node_id(index.0)) else {
        return;
    };
    if *id == *shared.node.id() {
        shared.hunger(
            key,
            Hungry {
                since_ms: now_ms,
                told: true,
            },
        );
    } else {
        shared.tell(&Arc::from(id), |news| news.wake.push(name.to_string()));
    }
}

/// What is held of lanes is given up by whoever does not use it; see [`Shared::renew`].
pub(super) fn is_idle(lane: &Lane) -> bool {
    lane.is_unused() && lane.used.elapsed() >= super::KEEP
}
