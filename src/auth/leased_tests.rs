use super::*;
use crate::link::{Config, cmd, test_server};

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

/// What Redis has of `key`.
async fn fields(node: &Leased, key: &str) -> Vec<(String, String)> {
    let key = format!("{}{key}", node.prefix);
    node.link
        .query(cmd("HGETALL").arg(key))
        .await
        .expect("a hash")
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
async fn who_does_not_renew_loses_everything_after_the_lease() {
    let lease = Duration::from_millis(300);
    let (_, config) = test_server::link().await;
    let (dead, alive) = (
        node(&config, "dead", lease).await,
        node(&config, "alive", lease).await,
    );
    let lost = dead.hold("k");
    assert_eq!(dead.claim(&lost, ask(9, 9)).await.unwrap().granted, 9);
    let kept = alive.hold("l");
    assert_eq!(alive.claim(&kept, ask(1, 1)).await.unwrap().granted, 1);
    let began = Instant::now();
    let hold = alive.hold("k");
    loop {
        let refused = alive.renew_all().await.unwrap();
        assert!(refused.is_empty(), "{refused:?}");
        if alive.claim(&hold, ask(9, 9)).await.unwrap().granted > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() >= lease - Duration::from_millis(50));
    assert!(alive.claim(&kept, ask(1, 1)).await.unwrap().granted == 0);
    // The dead one knew before.
    assert!(!lost.stands_at(dead.at(Instant::now())));
    assert!(hold.stands_at(alive.at(Instant::now())));
    let refused = dead.renew_all().await.unwrap();
    assert!(matches!(&refused[..], [hold] if Arc::ptr_eq(hold, &lost)));
}

#[tokio::test]
async fn nobody_renews_a_lease_that_ran_out_even_where_nobody_noticed() {
    let (_, config) = test_server::link().await;
    let a = node(&config, "a", LEASE).await;
    let hold = a.hold("k");
    a.claim(&hold, ask(1, 1)).await.unwrap();
    // As if it had been claimed long ago, by Redis's clock.
    let key = format!("{}k", a.prefix);
    let mut set = cmd("HSET");
    set.arg(&key).arg(&hold.holder).arg("1:1000:1");
    let _: u64 = a.link.query(&set).await.unwrap();
    assert_eq!(a.renew_all().await.unwrap().len(), 1);
}

#[tokio::test]
async fn deadlines_are_of_the_clock_of_redis() {
    let (_, config) = test_server::link().await;
    let a = node(&config, "a", LEASE).await;
    let hold = a.hold("k");
    a.claim(&hold, ask(1, 1)).await.unwrap();
    let (seconds, micros): (u64, u64) = a.link.query(&cmd("TIME")).await.unwrap();
    let (now, fields) = (seconds * 1000 + micros / 1000, fields(&a, "k").await);
    let deadline: u64 = fields[0].1.split(':').nth(1).unwrap().parse().unwrap();
    assert!((now..=now + 5000).contains(&deadline), "{now} {deadline}");
    let left: i64 = a.link.query(cmd("PTTL").arg(&hold.key)).await.unwrap();
    assert!((1..=5000).contains(&left), "it goes by itself: {left}");
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
    let mut late = CLAIM.call(&[&hold.key]);
    for argument in [1, 0, 2, 0, 10, 5000] {
        if argument == 1 {
            late.arg(&hold.holder);
        }
        late.arg(argument);
    }
    let answer: Result<Value> = a.link.call(&CLAIM, &late).await;
    assert!(matches!(&answer, Err(Error::Said(_))), "{answer:?}");
    let mut late = KEEP.call(&[&hold.key]);
    late.arg(&hold.holder).arg(1).arg(0);
    assert_eq!(a.link.call::<u64>(&KEEP, &late).await.unwrap(), 0);
    assert!(fields(&a, "k").await[0].1.starts_with("6:"));
}

#[tokio::test]
async fn what_was_held_before_a_lapse_stays_counted_and_cannot_be_used() {
    let (_, config) = test_server::link().await;
    let a = node(&config, "a", LEASE).await;
    let before = a.hold("k");
    a.claim(&before, ask(4, 10)).await.unwrap();
    a.lapse();
    assert!(!before.stands_at(0));
    a.claim(&before, ask(1, 10)).await.unwrap_err();
    let after = a.hold("k");
    assert_eq!(after.held(), 0);
    let claimed = a.claim(&after, ask(9, 10)).await.unwrap();
    assert_eq!((claimed.granted, claimed.others), (6, 4));
    // The late end of something from before.
    a.give(&before, 1).await.unwrap();
    assert_eq!(a.claim(&after, ask(1, 10)).await.unwrap().granted, 0);
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
