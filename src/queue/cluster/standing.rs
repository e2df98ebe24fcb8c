//! Queues, as an operator is told of them.
//!
//! Found by the due lists, in which every lane is that has anything in its stream or is held, the longest due first. All
//! that is read is bounded: so many namespaces, so many lanes, in pipelines of a few hundred commands, so that a look at a
//! cluster that is in trouble does not add to it.

use super::lane::{self, Keys};
use super::{ClusterQueue, scripts};
use crate::link::{self, Batch, Link, Value, cmd, read};
use crate::model::Namespace;
use crate::model::cluster::{HolderStatus, QueueStatus};
use crate::queue::Key;

/// Namespaces looked at.
const NAMESPACES_MAX: usize = 4096;
/// Lanes of one namespace looked at.
const LANES_EACH_MAX: usize = 1000;
/// Lanes looked at.
const LANES_MAX: usize = 10_000;
/// Lanes told of.
const SHOWN_MAX: usize = 100;
/// Holders of one lane told of.
const HOLDERS_MAX: usize = 64;
/// Commands sent together.
const PIPELINE_MAX: usize = 256;

/// The queues of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The deepest first.
    pub(crate) shown: Vec<QueueStatus>,
    /// How many there are more.
    pub(crate) more: u64,
    /// Invocations that wait in all that were looked at.
    pub(crate) waiting: u64,
    /// Whether there are more than were looked at.
    pub(crate) is_partial: bool,
}

/// A lane and how much there is of it.
struct Depth {
    key: Key,
    works: u64,
    entries: u64,
}

impl ClusterQueue {
    /// The queues, looked at now.
    ///
    /// # Errors
    /// When Redis does not tell. A lane of which it has something else than expected is told of as such.
    pub(crate) async fn standing(&self) -> link::Result<Standing> {
        let look = Look {
            link: &self.0.link,
            prefix: &self.0.prefix,
        };
        look.standing().await
    }
}

/// A look at the queues of one prefix.
struct Look<'a> {
    link: &'a Link,
    prefix: &'a str,
}

impl Look<'_> {
    async fn standing(&self) -> link::Result<Standing> {
        let (keys, is_partial) = self.lanes_due().await?;
        let mut all = self.depths(keys).await?;
        all.sort_by(|a, b| {
            let name = |depth: &Depth| (depth.key.namespace.clone(), depth.key.action.clone());
            (b.works, b.entries)
                .cmp(&(a.works, a.entries))
                .then_with(|| name(a).cmp(&name(b)))
        });
        let waiting = all.iter().map(|depth| depth.works).sum();
        let more = all.len().saturating_sub(SHOWN_MAX);
        all.truncate(SHOWN_MAX);
        Ok(Standing {
            shown: self.told_of(all).await?,
            more: u64::try_from(more).unwrap_or(u64::MAX),
            waiting,
            is_partial,
        })
    }

    /// The lanes of the due lists, and whether there are more.
    async fn lanes_due(&self) -> link::Result<(Vec<Key>, bool)> {
        let mut ask = cmd("ZRANGE");
        ask.arg(lane::due(self.prefix)).arg(0).arg(NAMESPACES_MAX);
        let names: Vec<String> = self.link.query(&ask).await?;
        let mut is_partial = names.len() > NAMESPACES_MAX;
        let namespaces: Vec<Namespace> = names
            .iter()
            .take(NAMESPACES_MAX)
            .filter_map(|name| Namespace::parse(name).ok())
            .collect();
        let mut keys = Vec::new();
        for some in namespaces.chunks(PIPELINE_MAX) {
            let mut batch = Batch::default();
            for namespace in some {
                let mut ask = cmd("ZRANGE");
                ask.arg(lane::due_of(self.prefix, namespace))
                    .arg(0)
                    .arg(LANES_EACH_MAX);
                batch.push(ask);
            }
            for (answer, namespace) in self.link.run(&batch).await?.into_iter().zip(some) {
                let Some(lanes) = there(answer)?.and_then(read::<Vec<String>>) else {
                    continue;
                };
                is_partial |= lanes.len() > LANES_EACH_MAX;
                let lanes = lanes.iter().take(LANES_EACH_MAX);
                keys.extend(
                    lanes
                        .filter_map(|name| lane::parse(name))
                        .filter(|key| key.namespace == *namespace),
                );
            }
            if keys.len() > LANES_MAX {
                keys.truncate(LANES_MAX);
                return Ok((keys, true));
            }
        }
        Ok((keys, is_partial))
    }

    /// How much there is of each.
    async fn depths(&self, keys: Vec<Key>) -> link::Result<Vec<Depth>> {
        let mut all = Vec::with_capacity(keys.len());
        for some in keys.chunks(PIPELINE_MAX / 2) {
            let mut batch = Batch::default();
            for key in some {
                let keys = Keys::of(self.prefix, key);
                batch.push(cmd("HGET").arg(&keys.holders).arg("#w").clone());
                batch.push(cmd("XLEN").arg(&keys.stream).clone());
            }
            let mut answers = self.link.run(&batch).await?.into_iter();
            for key in some {
                let mut number = || -> link::Result<Option<u64>> {
                    let Some(value) = answers.next().map(there).transpose()?.flatten() else {
                        return Ok(None);
                    };
                    Ok(Some(read::<Option<u64>>(value).flatten().unwrap_or(0)))
                };
                let (works, entries) = (number()?, number()?);
                // What is no stream of ours is to be seen.
                let is_ours = works.is_some() && entries.is_some();
                all.push(Depth {
                    key: key.clone(),
                    works: works.unwrap_or(0),
                    entries: if is_ours {
                        entries.unwrap_or(0)
                    } else {
                        u64::MAX
                    },
                });
            }
        }
        Ok(all)
    }

    async fn told_of(&self, all: Vec<Depth>) -> link::Result<Vec<QueueStatus>> {
        let mut batch = Batch::default();
        for depth in &all {
            let keys = Keys::of(self.prefix, &depth.key);
            let call = scripts::STANDING.call(&[&keys.stream, &keys.holders]);
            batch.call(&scripts::STANDING, call);
        }
        let mut told = Vec::with_capacity(all.len());
        for (answer, depth) in self.link.run(&batch).await?.into_iter().zip(all) {
            let mut status = match answer {
                Ok(value) => status(value).unwrap_or_else(|| {
                    damaged("what Redis has of it has another form: another release's?".to_owned())
                }),
                Err(error @ link::Error::Unavailable(_)) => return Err(error),
                Err(error) => damaged(error.to_string()),
            };
            status.namespace = depth.key.namespace.to_string();
            status.action = depth.key.action.to_string();
            told.push(status);
        }
        Ok(told)
    }
}

fn damaged(problem: String) -> QueueStatus {
    QueueStatus {
        problem: Some(problem),
        ..QueueStatus::default()
    }
}

/// An answer, or `None` where Redis has something else there than was asked for.
fn there(answer: link::Result<Value>) -> link::Result<Option<Value>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error @ (link::Error::Unavailable(_) | link::Error::Refused(_))) => Err(error),
        Err(_) => Ok(None),
    }
}

/// What [`scripts::STANDING`] answered; `None` when it has another form.
fn status(value: Value) -> Option<QueueStatus> {
    type Answer = (u64, u64, u64, u64, u64, u64, u64, Vec<(String, u64, bool)>);
    let (works, entries, in_work, to_take_over, unreadable, oldest_age_ms, runs_max, mut holders) =
        read::<Answer>(value)?;
    let holders_more = holders.len().saturating_sub(HOLDERS_MAX);
    holders.truncate(HOLDERS_MAX);
    Some(QueueStatus {
        // The count of invocations is a key of its own, and may be missing where somebody deleted it.
        invocations: works.max(entries),
        entries,
        in_work,
        to_take_over,
        unreadable,
        oldest_age_ms,
        runs_max,
        holders: holders
            .into_iter()
            .map(|(name, slots, alive)| HolderStatus {
                node: crate::cluster::id_of(&name).to_owned(),
                slots,
                alive,
            })
            .collect(),
        holders_more: u64::try_from(holders_more).unwrap_or(u64::MAX),
        ..QueueStatus::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::test_server;
    use crate::model::Fqn;

    fn key(namespace: &str, action: &str) -> Key {
        let namespace = Namespace::parse(namespace).unwrap();
        let action = Fqn::parse(action, &namespace).unwrap();
        Key { namespace, action }
    }

    async fn push(look: &Look<'_>, key: &Key, works: u64, runs_max: u64) {
        let keys = Keys::of(look.prefix, key);
        let mut call = scripts::PUSH.call(&[&keys.stream, &keys.holders]);
        call.arg(works).arg(1000).arg(60_000).arg(1).arg("x");
        call.arg(60).arg(runs_max);
        look.link
            .call::<Value>(&scripts::PUSH, &call)
            .await
            .unwrap();
        for (due, name) in [
            (&keys.due, &*keys.name),
            (&lane::due(look.prefix), key.namespace.as_str()),
        ] {
            let mut add = cmd("ZADD");
            add.arg(due).arg(1).arg(name);
            look.link.query::<Value>(&add).await.unwrap();
        }
    }

    async fn pull(look: &Look<'_>, key: &Key, name: &str, lease_ms: i64) {
        let keys = Keys::of(look.prefix, key);
        let mut call = scripts::PULL.call(&[&keys.stream, &keys.holders]);
        call.arg(name).arg(lease_ms).arg(1).arg(1).arg(1).arg(0);
        look.link
            .call::<Value>(&scripts::PULL, &call)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn queues_are_told_of_by_depth_with_who_holds_them() {
        let (link, config) = test_server::link().await;
        let look = Look {
            link: &link,
            prefix: &config.prefix,
        };
        let (deep, flat) = (key("guest", "guest/deep"), key("team", "team/p/flat"));
        push(&look, &flat, 1, 0).await;
        for _ in 0..5 {
            push(&look, &deep, 3, 4).await;
        }
        pull(&look, &deep, "alive.0", 60_000).await;
        pull(&look, &deep, "dead.7", -1).await;
        let stream = Keys::of(look.prefix, &deep).stream;
        let mut next = cmd("XREADGROUP");
        next.arg("GROUP")
            .arg("w")
            .arg("unreadable")
            .arg("COUNT")
            .arg(1);
        next.arg("STREAMS").arg(&stream).arg(">");
        link.query::<Value>(&next).await.unwrap();
        let standing = look.standing().await.unwrap();
        assert_eq!((standing.more, standing.is_partial), (0, false));
        let [first, second] = &standing.shown[..] else {
            panic!("{standing:?}")
        };
        assert_eq!(first.action, "guest/deep");
        let counts = (
            first.entries,
            first.in_work,
            first.to_take_over,
            first.unreadable,
        );
        assert_eq!(counts, (2, 1, 1, 1));
        assert_eq!(first.runs_max, 4);
        let holders = first
            .holders
            .iter()
            .map(|one| (&*one.node, one.slots, one.alive));
        let mut holders: Vec<_> = holders.collect();
        holders.sort_unstable();
        assert_eq!(holders, [("alive", 1, true), ("dead", 1, false)]);
        assert_eq!(second.namespace, "team");
        assert_eq!((second.invocations, second.in_work), (1, 0));
        assert!(second.holders.is_empty() && second.problem.is_none());
    }

    #[tokio::test]
    async fn what_somebody_wrote_by_hand_is_told_of_and_hides_nothing() {
        let (link, config) = test_server::link().await;
        let look = Look {
            link: &link,
            prefix: &config.prefix,
        };
        let (bad, good, bare) = (
            key("guest", "guest/bad"),
            key("guest", "guest/good"),
            key("guest", "guest/bare"),
        );
        for key in [&bad, &good, &bare] {
            push(&look, key, 1, 0).await;
        }
        let (damaged, lost) = (Keys::of(look.prefix, &bad), Keys::of(look.prefix, &bare));
        link.query::<Value>(cmd("SET").arg(&damaged.stream).arg("x"))
            .await
            .unwrap();
        link.query::<Value>(cmd("DEL").arg(&lost.holders))
            .await
            .unwrap();
        let shown = look.standing().await.unwrap().shown;
        let of = |action: &str| shown.iter().find(|one| one.action == action).unwrap();
        assert!(
            of("guest/bad")
                .problem
                .as_ref()
                .unwrap()
                .contains("WRONGTYPE")
        );
        assert_eq!(of("guest/good").invocations, 1);
        // Its counts are gone, what waits is not.
        assert_eq!(of("guest/bare").invocations, 1);
    }
}
