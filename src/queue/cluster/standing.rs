//! Queues, as an operator is told of them.
//!
//! Found by the due lists, in which every lane is that has anything in its stream or is held, the longest due first. All
//! that is read is bounded: so many namespaces, so many lanes, in pipelines of a few hundred commands, so that a look at a
//! cluster that is in trouble does not add to it.

use std::time::Duration;

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

/// How long a sample of the queues is taken for the present: one node looks, the others read what it saw.
const SAMPLE: Duration = Duration::from_millis(4500);
/// How long it is kept where nobody looks again, seconds.
const SAMPLE_KEEP_S: u64 = 60;

/// How much waits in the whole cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Invocations that nobody has taken.
    pub(crate) depth: u64,
    /// How long the oldest entry of the deepest queues has waited.
    pub(crate) oldest_age: Duration,
}

impl ClusterQueue {
    /// How much waits in the whole cluster, as one of its nodes saw a few seconds ago.
    ///
    /// # Errors
    /// When Redis does not tell.
    pub(crate) async fn sample(&self) -> link::Result<Sample> {
        let look = Look {
            link: &self.0.link,
            prefix: &self.0.prefix,
        };
        look.sample(self.0.node.id()).await
    }
}

/// A look at the queues of one prefix.
struct Look<'a> {
    link: &'a Link,
    prefix: &'a str,
}

impl Look<'_> {
    async fn sample(&self, node: &str) -> link::Result<Sample> {
        let (turn, seen) = (
            format!("{}:q:sample:turn", self.prefix),
            format!("{}:q:sample", self.prefix),
        );
        let mut take = cmd("SET");
        take.arg(&turn).arg(node).arg("NX").arg("PX");
        take.arg(u64::try_from(SAMPLE.as_millis()).unwrap_or(u64::MAX));
        if self.link.query::<Option<String>>(&take).await?.is_none() {
            let kept: Option<String> = self.link.query(cmd("GET").arg(&seen)).await?;
            let kept = kept.as_deref().and_then(|text| text.split_once(':'));
            let number = |text: &str| text.parse::<u64>().unwrap_or(0);
            return Ok(kept.map_or_else(Sample::default, |(depth, age)| Sample {
                depth: number(depth),
                oldest_age: Duration::from_millis(number(age)),
            }));
        }
        let standing = self.standing().await?;
        let ages = standing.shown.iter().map(|queue| queue.oldest_age_ms);
        let age = ages.max().unwrap_or(0);
        let mut keep = cmd("SET");
        keep.arg(&seen)
            .arg(format!("{}:{age}", standing.waiting))
            .arg("EX")
            .arg(SAMPLE_KEEP_S);
        self.link.query::<Value>(&keep).await?;
        Ok(Sample {
            depth: standing.waiting,
            oldest_age: Duration::from_millis(age),
        })
    }

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
#[path = "standing_tests.rs"]
mod tests;
