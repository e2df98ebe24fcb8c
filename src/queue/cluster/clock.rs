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
        if let Err(link::Error::Unexpected(_)) = answer {
            continue;
        }
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
        // Nor are all keys of a lane, which keep nobody from the others then.
        match answer {
            Ok(_) | Err(link::Error::Unexpected(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
