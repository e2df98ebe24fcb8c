use super::*;
use crate::link::{Config, Error, cmd, test_server};

const LEASE: Duration = Duration::from_secs(5);

/// Node `id` of the cluster at `config`, with a connection of its own.
async fn node(config: &Config, id: &str, lease: Duration) -> Leased {
    let link = Link::open(config).await.expect("the test's Redis");
    Leased::new(link, format!("{}:", config.prefix), id.to_owned(), lease)
}

fn ask(need: u64, max: u64) -> Ask {
    Ask {
        need,
        share: 0,
        max,
    }
}

/// What Redis has of `key`: the holders and what they have, whose sum is as it says.
async fn fields(node: &Leased, key: &str) -> Vec<(String, String)> {
    let key = format!("{}{key}", node.prefix);
    let all: Vec<(String, String)> = node
        .link
        .query(cmd("HGETALL").arg(&key))
        .await
        .expect("a hash");
    let (own, holders): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(name, _)| name.starts_with('#'));
    let known: usize = node
        .link
        .query(cmd("ZCARD").arg(format!("{key}:d")))
        .await
        .expect("a sorted set");
    assert_eq!(known, holders.len(), "{holders:?}");
    let count = |value: &str| value.split(':').next().unwrap().parse::<u64>().unwrap();
    let sum = own.iter().find(|(name, _)| name == "#s");
    let held: u64 = holders.iter().map(|(_, value)| count(value)).sum();
    assert_eq!(
        sum.map_or(0, |(_, value)| count(value)),
        held,
        "{holders:?}"
    );
    holders
}

/// Lets a holder be overdue by Redis's clock.
async fn overdue(node: &Leased, hold: &Hold, holder: &str) {
    let mut set = cmd("ZADD");
    set.arg(&hold.deadlines).arg(1).arg(holder);
    let _: u64 = node.link.query(&set).await.unwrap();
    let mut set = cmd("HSET");
    set.arg(&hold.key).arg("#d").arg(1);
    let _: u64 = node.link.query(&set).await.unwrap();
}

#[tokio::test]
async fn more_is_granted_as_long_as_there_is_room() {
    let (_, config) = test_server::link().await;
    let (a, b) = (
        node(&config, "a", LEASE).await,
        node(&config, "b", LEASE).await,
    );
    let (mine, theirs) = (a.hold("k"), b.hold("k"));
    let claimed = a.claim(&mine, ask(7, 10)).await.unwrap();
    let all = Claimed {
        granted: 7,
        in_use: 7,
        others: 0,
        was_lost: false,
    };
    assert_eq!(claimed, all);
    assert_eq!(b.claim(&theirs, ask(7, 10)).await.unwrap().granted, 3);
    let none = b.claim(&theirs, ask(7, 10)).await.unwrap();
    assert_eq!((none.granted, none.in_use, none.others), (0, 10, 7));
    a.give(&mine, 5).await.unwrap();
    assert_eq!(b.claim(&theirs, ask(1, 10)).await.unwrap().granted, 1);
    a.give(&mine, 2).await.unwrap();
    b.give(&theirs, 4).await.unwrap();
    assert_eq!(fields(&a, "k").await, []);
}

#[tokio::test]
async fn a_share_of_the_rest_comes_with_what_is_needed() {
    let (_, config) = test_server::link().await;
    let a = node(&config, "a", LEASE).await;
    let hold = a.hold("k");
    let greedy = |need, max| Ask {
        need,
        share: 8,
        max,
    };
    let first = a.claim(&hold, greedy(4, 100)).await.unwrap();
    assert_eq!(first.granted, 4 + 96 / 8);
    let much = a.claim(&hold, greedy(1, u64::MAX)).await.unwrap();
    assert_eq!(much.granted, 1 + 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claimers_on_several_nodes_never_hold_more_than_allowed() {
    const MAX: u64 = 20;
    let (_, config) = test_server::link().await;
    let held = Arc::new(AtomicU64::new(0));
    let most = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for id in ["a", "b", "c"] {
        let node = Arc::new(node(&config, id, LEASE).await);
        for need in 1..6 {
            let (node, held, most) = (Arc::clone(&node), Arc::clone(&held), Arc::clone(&most));
            tasks.push(tokio::spawn(async move {
                let hold = node.hold("k");
                for _ in 0..60 {
                    let claimed = node.claim(&hold, ask(need, MAX)).await.expect("an answer");
                    let now = held.fetch_add(claimed.granted, Ordering::SeqCst) + claimed.granted;
                    most.fetch_max(now, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    held.fetch_sub(claimed.granted, Ordering::SeqCst);
                    node.give(&hold, claimed.granted).await.expect("given");
                }
            }));
        }
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    assert!((6..=MAX).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    assert_eq!(fields(&node(&config, "d", LEASE).await, "k").await, []);
}

#[tokio::test]
async fn who_does_not_renew_loses_everything_some_leases_later() {
    let lease = Duration::from_millis(300);
    let (_, config) = test_server::link().await;
    let (dead, alive) = (
        node(&config, "dead", lease).await,
        node(&config, "alive", lease).await,
    );
    let lost = dead.hold("k");
    assert_eq!(dead.claim(&lost, ask(8, 9)).await.unwrap().granted, 8);
    let hold = alive.hold("k");
    assert_eq!(alive.claim(&hold, ask(1, 9)).await.unwrap().granted, 1);
    let began = Instant::now();
    loop {
        let refused = alive.renew_all().await.unwrap();
        assert!(refused.is_empty(), "{refused:?}");
        if alive.claim(&hold, ask(8, 9)).await.unwrap().granted > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() >= lease * KEPT - Duration::from_millis(50));
    // The dead one knew long before.
    assert!(!lost.stands_at(dead.at(Instant::now())));
    assert!(hold.stands_at(alive.at(Instant::now())));
    let refused = dead.renew_all().await.unwrap();
    assert!(matches!(&refused[..], [hold] if Arc::ptr_eq(hold, &lost)));
}

#[tokio::test]
async fn where_nobody_was_heard_of_redis_was_away_and_everybody_has_another_term() {
    let (_, config) = test_server::link().await;
    let (a, b) = (
        node(&config, "a", LEASE).await,
        node(&config, "b", LEASE).await,
    );
    let (mine, theirs) = (a.hold("k"), b.hold("k"));
    a.claim(&mine, ask(4, 10)).await.unwrap();
    b.claim(&theirs, ask(4, 10)).await.unwrap();
    overdue(&a, &mine, "a").await;
    overdue(&a, &mine, "b").await;
    let mut set = cmd("HSET");
    set.arg(&mine.key).arg("#t").arg(1);
    let _: u64 = a.link.query(&set).await.unwrap();
    // Whoever comes first, renewal or claim.
    assert!(a.renew_all().await.unwrap().is_empty());
    assert_eq!(a.claim(&mine, ask(9, 10)).await.unwrap().granted, 2);
    assert!(b.renew_all().await.unwrap().is_empty());
    // One that was overdue while another was heard of is gone.
    overdue(&a, &mine, "b").await;
    assert_eq!(a.claim(&mine, ask(9, 10)).await.unwrap().granted, 4);
    assert_eq!(b.renew_all().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_dead_had_moves_to_who_has_the_work() {
    let (_, config) = test_server::link().await;
    let (dead, a, b) = (
        node(&config, "dead", LEASE).await,
        node(&config, "a", LEASE).await,
        node(&config, "b", LEASE).await,
    );
    let (lost, mine, theirs) = (dead.hold("k"), a.hold("k"), b.hold("k"));
    dead.claim(&lost, ask(5, 6)).await.unwrap();
    b.claim(&theirs, ask(1, 6)).await.unwrap();
    // It is overdue, and nobody has noticed.
    overdue(&a, &mine, "dead").await;
    assert_eq!(a.adopt(&mine, "dead", 2, true).await.unwrap(), 2);
    assert_eq!(mine.held(), 2);
    let said = fields(&a, "k").await;
    let of = |name: &str| {
        said.iter()
            .find(|(one, _)| one == name)
            .unwrap()
            .1
            .split(':')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        (of("dead"), of("a"), of("b")),
        ("3".into(), "2".into(), "1".into())
    );
    // What has not begun takes what is left, and no more.
    assert_eq!(b.adopt(&theirs, "dead", 9, false).await.unwrap(), 3);
    assert_eq!(b.adopt(&theirs, "dead", 9, false).await.unwrap(), 0);
    assert_eq!(b.adopt(&theirs, "nobody", 9, false).await.unwrap(), 0);
    assert_eq!(a.claim(&mine, ask(1, 6)).await.unwrap().granted, 0);
    // What runs is counted whatever there is.
    assert_eq!(a.adopt(&mine, "dead", 2, true).await.unwrap(), 2);
    assert_eq!((mine.held(), theirs.held()), (4, 4));
    a.give(&mine, 4).await.unwrap();
    b.give(&theirs, 4).await.unwrap();
    assert_eq!(fields(&a, "k").await, []);
}

#[tokio::test]
async fn deadlines_are_of_the_clock_of_redis() {
    let (_, config) = test_server::link().await;
    let a = node(&config, "a", LEASE).await;
    let hold = a.hold("k");
    a.claim(&hold, ask(1, 1)).await.unwrap();
    let (seconds, micros): (u64, u64) = a.link.query(&cmd("TIME")).await.unwrap();
    let now = seconds * 1000 + micros / 1000;
    let mut ask_for = cmd("ZSCORE");
    ask_for.arg(&hold.deadlines).arg("a");
    let deadline: u64 = a.link.query(&ask_for).await.unwrap();
    assert!((now..=now + 15_000).contains(&deadline), "{now} {deadline}");
    for key in [&hold.key, &hold.deadlines] {
        let left: i64 = a.link.query(cmd("PTTL").arg(key)).await.unwrap();
        assert!(left > 1_800_000, "it goes by itself, long after: {left}");
    }
}

#[tokio::test]
async fn a_claim_costs_the_same_however_many_hold_some() {
    // Its own: what others ask is not counted.
    let server = test_server::Server::start(&[]);
    let config = Config {
        url: Some(server.url()),
        ..test_server::config()
    };
    let a = node(&config, "a", LEASE).await;
    let hold = a.hold("k");
    let mut commands = Vec::new();
    for holders in [1, 100] {
        for index in 0..holders {
            let other = node(&config, &format!("{holders}.{index}"), LEASE).await;
            other.claim(&other.hold("k"), ask(1, 1000)).await.unwrap();
        }
        let executed = async || {
            let info: String = a.link.query(cmd("INFO").arg("commandstats")).await.unwrap();
            let calls = |line: &str| {
                line.split("calls=")
                    .nth(1)?
                    .split(',')
                    .next()?
                    .parse::<u64>()
                    .ok()
            };
            info.lines().filter_map(calls).sum::<u64>()
        };
        let before = executed().await;
        for _ in 0..100 {
            a.claim(&hold, ask(1, 1000)).await.unwrap();
            a.give(&hold, 1).await.unwrap();
        }
        commands.push(executed().await - before);
    }
    println!("commands of 100 claims and returns among 1 and 100 holders: {commands:?}");
    assert!(commands[1] < commands[0] + 50, "{commands:?}");
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_put_right() {
    let (_, config) = test_server::link().await;
    let a = node(&config, "a", LEASE).await;
    let hold = a.hold("k");
    a.claim(&hold, ask(1, 10)).await.unwrap();
    // Sent, but nobody waits for the answer.
    tokio::select! {
        biased;
        _ = a.claim(&hold, ask(5, 10)) => panic!("nobody answers that fast"),
        () = std::future::ready(()) => {}
    }
    assert!(hold.is_unsettled());
    assert!(a.renew_all().await.unwrap().is_empty());
    assert!(!hold.is_unsettled());
    assert_eq!(hold.held(), 1);
    let fields = fields(&a, "k").await;
    assert!(fields[0].1.starts_with("1:"), "{fields:?}");
}

#[tokio::test]
async fn a_command_that_arrives_late_changes_nothing() {
    let (_, config) = test_server::link().await;
    let a = node(&config, "a", LEASE).await;
    let hold = a.hold("k");
    a.claim(&hold, ask(5, 10)).await.unwrap();
    a.claim(&hold, ask(1, 10)).await.unwrap();
    let mut late = a.call(&CLAIM, &hold);
    for argument in [1, 0, 2, 0, 10] {
        late.arg(argument);
    }
    let answer: Result<Value> = a.link.call(&CLAIM, &late).await;
    assert!(matches!(&answer, Err(Error::Said(_))), "{answer:?}");
    let mut late = a.call(&KEEP, &hold);
    late.arg(1).arg(0);
    assert_eq!(a.link.call::<u64>(&KEEP, &late).await.unwrap(), 0);
    assert!(fields(&a, "k").await[0].1.starts_with("6:"));
}

#[tokio::test]
async fn what_was_held_before_a_lapse_stays_counted_and_cannot_be_used_until_it_is_renewed() {
    let (_, config) = test_server::link().await;
    let a = node(&config, "a", LEASE).await;
    let hold = a.hold("k");
    a.claim(&hold, ask(4, 10)).await.unwrap();
    let now_ms = || a.at(Instant::now());
    assert!(hold.stands_at(now_ms()));
    a.lapse();
    assert!(!hold.stands_at(now_ms()) && hold.has_lapsed());
    assert_eq!(hold.held(), 4);
    assert!(a.renew_all().await.unwrap().is_empty());
    assert!(hold.stands_at(now_ms()) && !hold.has_lapsed());
    assert_eq!(a.claim(&hold, ask(9, 10)).await.unwrap().granted, 6);
}

#[tokio::test]
async fn what_redis_forgot_is_known_again_with_the_next_claim() {
    let (_, config) = test_server::link().await;
    let a = node(&config, "a", LEASE).await;
    let hold = a.hold("k");
    a.claim(&hold, ask(4, 10)).await.unwrap();
    let _: u64 = a.link.query(cmd("DEL").arg(&hold.key)).await.unwrap();
    assert_eq!(a.renew_all().await.unwrap().len(), 1);
    let claimed = a.claim(&hold, ask(9, 10)).await.unwrap();
    assert!(claimed.was_lost);
    assert_eq!((claimed.granted, claimed.in_use), (6, 10));
    assert!(a.renew_all().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_ours_under_the_key_is_dropped() {
    let (_, config) = test_server::link().await;
    let a = node(&config, "a", LEASE).await;
    let hold = a.hold("k");
    let mut set = cmd("HSET");
    set.arg(&hold.key)
        .arg("b")
        .arg("many")
        .arg("c")
        .arg("-4::9");
    let _: u64 = a.link.query(&set).await.unwrap();
    let claimed = a.claim(&hold, ask(3, 3)).await.unwrap();
    assert_eq!((claimed.granted, claimed.others), (3, 0));
    assert_eq!(fields(&a, "k").await.len(), 1);
    // Each of the two keys, and each field, may be gone.
    let b = node(&config, "b", LEASE).await;
    let theirs = b.hold("k");
    for (key, field) in [
        (&hold.deadlines, ""),
        (&hold.key, "#s"),
        (&hold.key, "#d"),
        (&hold.key, "b"),
    ] {
        let mut gone = cmd(if field.is_empty() { "DEL" } else { "HDEL" });
        gone.arg(key);
        if !field.is_empty() {
            gone.arg(field);
        }
        let _: u64 = a.link.query(&gone).await.unwrap();
        overdue(&a, &hold, "c").await;
        let claimed = b.claim(&theirs, ask(1, 3)).await.unwrap();
        assert_eq!((claimed.granted, claimed.others), (0, 3), "{key} {field}");
        assert!(a.renew_all().await.unwrap().is_empty());
        assert_eq!(fields(&a, "k").await.len(), 1);
    }
    let mut set = cmd("SET");
    set.arg(&hold.key).arg("mine");
    let _: () = a.link.query(&set).await.unwrap();
    let refused = a.renew_all().await.unwrap();
    assert_eq!(refused.len(), 1, "as if it had been forgotten");
    assert_eq!(a.claim(&hold, ask(1, 4)).await.unwrap().granted, 1);
    assert!(a.renew_all().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_held_is_not_kept_in_memory() {
    let (_, config) = test_server::link().await;
    let a = node(&config, "a", LEASE).await;
    for index in 0..10 {
        let hold = a.hold(&format!("k{index}"));
        a.claim(&hold, ask(1, 1)).await.unwrap();
        if index > 0 {
            a.give(&hold, 1).await.unwrap();
        }
    }
    a.renew_all().await.unwrap();
    assert_eq!(format!("{a:?}"), "Leased(1 counts)");
}
