//! What is left of another clock, where that of Redis went back.
//!
//! Times in Redis are at most a lease ahead of its clock. Where that is another all of a sudden (somebody set it, another
//! server took over), those written before may be hours ahead: the living write theirs anew, and nobody would look at what the
//! dead had before the new clock has come so far. So every node looks for such times when it starts, when it finds that the clock has
//! moved, and a lease after that, when nobody goes by the former clock any more ([`Node::clock_era`]).

use super::lane::{self, Keys};
use super::scripts;
use crate::cluster::Node;
use crate::link::{self, Batch, Link, cmd};
use crate::model::Namespace;
use crate::queue::Key;

/// Namespaces read, and lanes mended, in one go.
const CHUNK: usize = 512;

/// Lets what is due later than anything can be, and the leases of those who hold it, end a lease from now. Answers how many
/// lanes that were.
pub(super) async fn shorten(link: &Link, prefix: &str, node: &Node) -> link::Result<usize> {
    let lease_ms = u64::try_from(node.config.lease().as_millis()).unwrap_or(u64::MAX);
    let now_ms = node.redis_now_ms();
    let mut found = 0;
    let mut cursor = 0;
    loop {
        let mut scan = cmd("ZSCAN");
        scan.arg(lane::due(prefix)).arg(cursor);
        scan.arg("COUNT").arg(CHUNK);
        let (next, namespaces): (u64, Vec<(String, f64)>) = link.query(&scan).await?;
        let namespaces = namespaces.iter();
        let namespaces: Vec<Namespace> = namespaces
            .filter_map(|(name, _)| Namespace::parse(name).ok())
            .collect();
        for (namespace, lanes) in late(link, prefix, &namespaces, now_ms + 2 * lease_ms).await? {
            found += lanes.len();
            for lanes in lanes.chunks(CHUNK) {
                let times = (now_ms + lease_ms, lease_ms);
                bring_near(link, prefix, (namespace, lanes), times).await?;
            }
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    if found > 0 {
        tracing::info!(
            lanes = found,
            "queues were due by another clock of Redis's, and are a lease from now"
        );
    }
    Ok(found)
}

/// The lanes of these namespaces that are due later than `latest_ms`.
async fn late<'a>(
    link: &Link,
    prefix: &str,
    namespaces: &'a [Namespace],
    latest_ms: u64,
) -> link::Result<Vec<(&'a Namespace, Vec<Key>)>> {
    let mut batch = Batch::default();
    for namespace in namespaces {
        let mut ask = cmd("ZRANGEBYSCORE");
        ask.arg(lane::due_of(prefix, namespace));
        ask.arg(format!("({latest_ms}")).arg("+inf");
        batch.push(ask);
    }
    let mut late = Vec::new();
    for (answer, namespace) in link.run(&batch).await?.into_iter().zip(namespaces) {
        // What has another form is not ours: whoever looks there says so.
        let names = link::read::<Vec<String>>(answer?).unwrap_or_default();
        let lanes = names.iter().filter_map(|name| lane::parse(name));
        let lanes: Vec<Key> = lanes.filter(|key| key.namespace == *namespace).collect();
        if !lanes.is_empty() {
            late.push((namespace, lanes));
        }
    }
    Ok(late)
}

/// Ends leases of lanes of one namespace a lease from now, at `then_ms`, and lets them be looked at then.
async fn bring_near(
    link: &Link,
    prefix: &str,
    (namespace, lanes): (&Namespace, &[Key]),
    (then_ms, lease_ms): (u64, u64),
) -> link::Result<()> {
    let mut batch = Batch::default();
    for key in lanes {
        let keys = Keys::of(prefix, key);
        let mut shorten = scripts::SHORTEN.call(&[&keys.holders]);
        shorten.arg(lease_ms);
        batch.call(&scripts::SHORTEN, shorten);
        let mut of_lane = cmd("ZADD");
        // One that was emptied meanwhile is due no longer.
        of_lane.arg(&keys.due).arg("XX").arg("LT");
        of_lane.arg(then_ms).arg(&*keys.name);
        batch.push(of_lane);
    }
    let mut of_namespace = cmd("ZADD");
    of_namespace.arg(lane::due(prefix)).arg("LT");
    of_namespace.arg(then_ms).arg(namespace.as_str());
    batch.push(of_namespace);
    for answer in link.run(&batch).await? {
        // A lane whose keys are not ours keeps nobody from the others: whoever comes to it says so.
        if let Err(error @ link::Error::Unavailable(_)) = answer {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster;
    use crate::link::{Value, test_server};
    use crate::model::Fqn;

    const LEASE_MS: u64 = 5000;

    fn key(namespace: &Namespace, action: &str) -> Key {
        let action = Fqn::parse(&format!("{namespace}/{action}"), namespace).unwrap();
        let namespace = namespace.clone();
        Key { namespace, action }
    }

    async fn is_due(link: &Link, prefix: &str, key: &Key, holder: &str, at_ms: u64) {
        let keys = Keys::of(prefix, key);
        let mut hold = cmd("HSET");
        hold.arg(&keys.holders).arg(holder);
        hold.arg(format!("1:{at_ms}"));
        link.query::<Value>(&hold).await.unwrap();
        for (list, name) in [
            (&keys.due, &*keys.name),
            (&lane::due(prefix), key.namespace.as_str()),
        ] {
            let mut add = cmd("ZADD");
            add.arg(list).arg(at_ms).arg(name);
            link.query::<Value>(&add).await.unwrap();
        }
    }

    /// When a lane is due, and when the lease of its holder ends.
    async fn times(link: &Link, prefix: &str, key: &Key, holder: &str) -> (u64, u64) {
        let keys = Keys::of(prefix, key);
        let mut due = cmd("ZSCORE");
        let due: f64 = link
            .query(due.arg(&keys.due).arg(&*keys.name))
            .await
            .unwrap();
        let mut held = cmd("HGET");
        let held: String = link
            .query(held.arg(&keys.holders).arg(holder))
            .await
            .unwrap();
        (
            format!("{due}").parse().unwrap(),
            held.split_once(':').unwrap().1.parse().unwrap(),
        )
    }

    #[tokio::test]
    async fn what_is_due_by_a_clock_that_was_set_back_is_due_in_a_lease_also_behind_what_is_due_now()
     {
        let (link, config) = test_server::link().await;
        let prefix = &config.prefix;
        let lease = Duration::from_millis(LEASE_MS);
        let node = Node::new(
            cluster::Config {
                lease_s: 5,
                ..cluster::Config::default()
            },
            prefix,
        );
        node.ask_time(&link).await.unwrap();
        let now_ms = node.redis_now_ms();
        assert_eq!(node.config.lease(), lease);
        let hour_ms = 60 * 60 * 1000;
        let namespaces: Vec<Namespace> = (0..3)
            .map(|n| Namespace::parse(&format!("team{n}")).unwrap())
            .collect();
        for namespace in &namespaces {
            for n in 0..40 {
                is_due(
                    &link,
                    prefix,
                    &key(namespace, &format!("late{n}")),
                    "dead.0",
                    now_ms + hour_ms,
                )
                .await;
            }
            is_due(
                &link,
                prefix,
                &key(namespace, "soon"),
                "alive.0",
                now_ms + LEASE_MS / 2,
            )
            .await;
        }
        assert_eq!(shorten(&link, prefix, &node).await.unwrap(), 120);
        let latest_ms = node.redis_now_ms() + LEASE_MS + 1000;
        for namespace in &namespaces {
            for n in 0..40 {
                let key = key(namespace, &format!("late{n}"));
                let (due, held) = times(&link, prefix, &key, "dead.0").await;
                assert!(
                    due <= latest_ms && held <= latest_ms,
                    "{due} {held} {latest_ms}"
                );
            }
            let soon = now_ms + LEASE_MS / 2;
            assert_eq!(
                times(&link, prefix, &key(namespace, "soon"), "alive.0").await,
                (soon, soon)
            );
        }
        assert_eq!(shorten(&link, prefix, &node).await.unwrap(), 0);
    }
}
