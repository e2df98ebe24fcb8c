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
    call.arg(name)
        .arg(lease_ms)
        .arg(1)
        .arg(1)
        .arg(1)
        .arg(0)
        .arg(0);
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
    pull(&look, &deep, "dead.7", 60_000).await;
    let holders = Keys::of(look.prefix, &deep).holders;
    let mut ask = cmd("HGET");
    let held: String = link.query(ask.arg(&holders).arg("dead.7")).await.unwrap();
    let mut end = cmd("HSET");
    let (slots, _) = held.split_once(':').unwrap();
    end.arg(&holders).arg("dead.7").arg(format!("{slots}:1"));
    link.query::<Value>(&end).await.unwrap();
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
    // One node looks, the others read what it saw.
    let seen = look.sample("a").await.unwrap();
    assert_eq!(seen.depth, standing.waiting);
    push(&look, &deep, 100, 4).await;
    assert_eq!(look.sample("b").await.unwrap().depth, seen.depth);
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
