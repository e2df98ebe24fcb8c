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
async fn what_is_due_by_a_clock_that_was_set_back_is_due_in_a_lease_also_behind_what_is_due_now() {
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
    let strange = Namespace::parse("strange").unwrap();
    is_due(
        &link,
        prefix,
        &key(&strange, "a"),
        "dead.0",
        now_ms + hour_ms,
    )
    .await;
    let mut replace = cmd("SET");
    replace.arg(lane::due_of(prefix, &strange)).arg("not ours");
    link.query::<Value>(&replace).await.unwrap();
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
