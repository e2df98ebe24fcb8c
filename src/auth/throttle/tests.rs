//! The limits of several nodes on one Redis.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::tend::{Want, Wanted};
use super::*;
use crate::auth::leased::KEPT;
use crate::link::{Config, cmd, test_server};

const LEASE: Duration = Duration::from_secs(5);

fn namespace(name: &str) -> Namespace {
    Namespace::parse(name).expect("legal")
}

fn limits(rate: u64, concurrent: u64) -> EffectiveLimits {
    EffectiveLimits {
        invocations_per_minute: rate,
        concurrent_invocations: concurrent,
        fires_per_minute: rate,
        ..EffectiveLimits::default()
    }
}

async fn node(config: &Config, window: Window, id: &str, lease: Duration) -> Arc<Throttle> {
    let link = Link::open(config).await.expect("the test's Redis");
    let node = Node {
        id: id.to_owned(),
        lease,
    };
    Arc::new(Throttle::wide(window, link, &config.prefix, node))
}

/// Two nodes, and a link to look what they did.
async fn two() -> (Arc<Throttle>, Arc<Throttle>, Link, Config) {
    let (link, config) = test_server::link().await;
    let a = node(&config, Window::Minute, "a", LEASE).await;
    let b = node(&config, Window::Minute, "b", LEASE).await;
    heard_by(&link, &config, 2).await;
    (a, b, link, config)
}

/// Waits until so many nodes listen to wishes.
async fn heard_by(link: &Link, config: &Config, count: u64) {
    let mut publish = cmd("PUBLISH");
    publish.arg(format!("{}:t:want", config.prefix)).arg("");
    while link.query::<u64>(&publish).await.expect("said") < count {
        tokio::task::yield_now().await;
    }
}

/// Places held in Redis by all.
async fn held(link: &Link, config: &Config, namespace: &str) -> u64 {
    let key = format!("{}:t:{{{namespace}}}:p", config.prefix);
    let sum: Option<u64> = link
        .query(cmd("HGET").arg(key).arg("#s"))
        .await
        .expect("a hash");
    sum.unwrap_or(0)
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(10), "it never was");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The minute of Redis's clock.
async fn minute(link: &Link) -> u64 {
    let (seconds, _): (u64, u64) = link.query(&cmd("TIME")).await.expect("the time");
    seconds / 60
}

/// What came of many callers at two nodes.
#[derive(Default)]
struct Tally {
    alive: AtomicU64,
    most: AtomicU64,
    admitted: [AtomicU64; 2],
}

/// `callers` at each of two nodes who call `calls` times each.
async fn hammer(limits: EffectiveLimits, callers: usize, calls: usize) -> Arc<Tally> {
    let (a, b, ..) = two().await;
    let (tally, limits) = (Arc::new(Tally::default()), Arc::new(limits));
    let mut tasks = Vec::new();
    for index in 0..callers * 2 {
        let throttle = Arc::clone(if index % 2 == 0 { &a } else { &b });
        let (tally, limits) = (Arc::clone(&tally), Arc::clone(&limits));
        tasks.push(tokio::spawn(async move {
            let guest = namespace("guest");
            for _ in 0..calls {
                let Ok(admission) = throttle.enter(&guest, &limits).await else {
                    continue;
                };
                let now = tally.alive.fetch_add(1, Ordering::SeqCst) + 1;
                tally.most.fetch_max(now, Ordering::SeqCst);
                tally.admitted[index % 2].fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
                tally.alive.fetch_sub(1, Ordering::SeqCst);
                drop(admission);
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_in_flight_than_allowed_and_every_node_gets_some() {
    for (allowed, callers, calls) in [(1, 4, 50), (5, 10, 40), (100, 100, 30)] {
        let tally = hammer(limits(u64::MAX, allowed), callers, calls).await;
        let most = tally.most.load(Ordering::SeqCst);
        assert!((1..=allowed).contains(&most), "{most} of {allowed}");
        let [a, b] = [0, 1].map(|index| tally.admitted[index].load(Ordering::SeqCst));
        assert!(a.min(b) * 5 > a.max(b), "{a} and {b} of {allowed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_in_a_minute_than_allowed_and_every_node_gets_some() {
    let (link, _) = test_server::link().await;
    loop {
        let began = minute(&link).await;
        let tally = hammer(limits(300, 1000), 10, 100).await;
        if minute(&link).await != began {
            continue;
        }
        let [a, b] = [0, 1].map(|index| tally.admitted[index].load(Ordering::SeqCst));
        assert_eq!(a + b, 300, "{a} and {b}");
        assert!(a.min(b) > 20, "{a} and {b}");
        return;
    }
}

#[tokio::test]
async fn a_sliding_window_holds_over_all_nodes_and_a_turn_of_the_minute() {
    let (link, config) = test_server::link().await;
    let a = node(&config, Window::Sliding, "a", LEASE).await;
    let b = node(&config, Window::Sliding, "b", LEASE).await;
    let (guest, sixty) = (namespace("guest"), limits(60, 1000));
    // The minute before had forty.
    loop {
        let began = minute(&link).await;
        let key = format!("{}:t:{{guest}}:c", config.prefix);
        let mut set = cmd("HSET");
        set.arg(key).arg("m").arg(began - 1).arg("n").arg(40);
        set.arg("b").arg(9).arg("x").arg(9);
        let _: u64 = link.query(&set).await.expect("set");
        let (seconds, _): (u64, u64) = link.query(&cmd("TIME")).await.expect("the time");
        let room = |second: u64| 60 - 40 * (60 - second) / 60;
        let mut admitted = 0;
        for _ in 0..60 {
            for throttle in [&a, &b] {
                match throttle.enter(&guest, &sixty).await {
                    Ok(_) => admitted += 1,
                    Err(refused) => {
                        let Exceeded::Rate { count, .. } = refused else {
                            panic!("{refused:?}");
                        };
                        assert!((60..=62).contains(&count), "{count}");
                    }
                }
            }
        }
        let (end, _): (u64, u64) = link.query(&cmd("TIME")).await.expect("the time");
        if end / 60 == began && seconds / 60 == began {
            let may = room(seconds % 60)..=room(end % 60);
            assert!(may.contains(&admitted), "{admitted}, not {may:?}");
            return;
        }
    }
}

#[tokio::test]
async fn one_node_says_what_one_machine_says() {
    let (link, config) = test_server::link().await;
    let a = node(&config, Window::Minute, "a", LEASE).await;
    let (mut turn, mut index) = (0, 0);
    while turn != minute(&link).await {
        turn = minute(&link).await;
        index += 1;
        let (guest, two) = (namespace(&format!("guest{index}")), limits(2, 100));
        for _ in 0..2 {
            a.enter(&guest, &two).await.expect("allowed");
            a.fire(&guest, &two).await.expect("counted apart");
        }
        if turn != minute(&link).await {
            continue;
        }
        for expected in 3..40 {
            let refused = a.enter(&guest, &two).await.expect_err("over");
            let Exceeded::Rate {
                count,
                allowed,
                retry_after_s,
            } = refused
            else {
                panic!("{refused:?}");
            };
            assert!((1..=60).contains(&retry_after_s));
            if turn == minute(&link).await {
                assert_eq!((count, allowed), (expected, 2));
            }
        }
    }
    let (guest, one) = (namespace("one"), limits(100, 1));
    let _held = a.enter(&guest, &one).await.expect("room");
    let refused = a.enter(&guest, &one).await.expect_err("full");
    let full = Exceeded::Concurrency {
        count: 1,
        allowed: 1,
    };
    assert_eq!(refused, full);
    let nobody = namespace("nobody");
    a.enter(&nobody, &limits(100, 0))
        .await
        .expect_err("blocked");
    a.enter(&nobody, &limits(0, 100))
        .await
        .expect_err("blocked");
    a.fire(&nobody, &limits(0, 100)).await.expect_err("blocked");
}

#[tokio::test]
async fn a_refusal_counts_what_other_nodes_have_in_flight() {
    let (a, b, ..) = two().await;
    let (guest, five) = (namespace("guest"), limits(1000, 5));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(a.enter(&guest, &five).await.expect("room"));
    }
    for _ in 0..2 {
        held.push(b.place(&guest, &five).await.expect("room"));
    }
    for throttle in [&a, &b] {
        let full = Exceeded::Concurrency {
            count: 5,
            allowed: 5,
        };
        assert_eq!(throttle.enter(&guest, &five).await.expect_err("full"), full);
    }
    drop(held.pop());
    assert_eq!(held.len(), 4);
    a.enter(&guest, &five).await.expect("what b gave back");
}

#[tokio::test]
async fn what_a_node_does_not_use_is_no_reason_to_refuse_others() {
    let (a, b, link, config) = two().await;
    let guest = namespace("guest");
    let hundred = limits(1000, 100);
    let first = a.enter(&guest, &hundred).await.expect("room");
    assert_eq!(held(&link, &config, "guest").await, 1 + 99 / 8);
    let mut others = Vec::new();
    for _ in 0..99 {
        others.push(b.enter(&guest, &hundred).await.expect("a has one in use"));
    }
    b.enter(&guest, &hundred).await.expect_err("now all are");
    drop(first);
    b.enter(&guest, &hundred).await.expect("at once");
    drop(others);
    // And without being asked, after a while.
    until(async || held(&link, &config, "guest").await == 0).await;
}

#[tokio::test]
async fn the_places_of_a_dead_node_come_back_some_leases_later() {
    let lease = Duration::from_millis(400);
    let (_, config) = test_server::link().await;
    let dead = node(&config, Window::Minute, "dead", lease).await;
    let alive = node(&config, Window::Minute, "alive", lease).await;
    let (guest, two) = (namespace("guest"), limits(u64::MAX, 2));
    let _lost = dead.enter(&guest, &two).await.expect("room");
    let _kept = alive.enter(&guest, &two).await.expect("room");
    let began = Instant::now();
    let mut renewals = 0;
    while alive.enter(&guest, &two).await.is_err() {
        assert!(alive.upkeep().await);
        renewals += 1;
        assert!(began.elapsed() < lease * 10);
    }
    assert!(began.elapsed() >= lease * KEPT - Duration::from_millis(100));
    assert!(renewals > 1);
    // It knows that it has lost its place, and puts nobody into it.
    assert!(!dead.upkeep().await || dead.enter(&guest, &two).await.is_err());
}

#[tokio::test]
async fn without_redis_what_is_held_is_used_until_the_lease_is_over() {
    let lease = Duration::from_millis(1500);
    let server = test_server::Server::start(&[]);
    let config = Config {
        url: Some(server.url()),
        timeout_ms: 200,
        ..Config::default()
    };
    let a = node(&config, Window::Minute, "a", lease).await;
    let (guest, many) = (namespace("guest"), limits(u64::MAX, 1000));
    let asked = Instant::now();
    drop(a.enter(&guest, &many).await.expect("room"));
    drop(server);
    let mut admitted = 0;
    while asked.elapsed() < Duration::from_millis(500) {
        drop(a.enter(&guest, &many).await.expect("held here"));
        admitted += 1;
        tokio::task::yield_now().await;
    }
    assert!(admitted > 1);
    assert!(!a.upkeep().await);
    let stranger = namespace("stranger");
    let refused = a.enter(&stranger, &many).await.expect_err("not held");
    assert_eq!(refused, Exceeded::Unknown);
    until(async || a.enter(&guest, &many).await.is_err()).await;
    assert!(asked.elapsed() < lease);
}

#[tokio::test]
async fn a_lowered_limit_holds_from_the_next_call_on() {
    let (a, b, link, config) = two().await;
    let guest = namespace("guest");
    let (before, after) = (limits(u64::MAX, 100), limits(u64::MAX, 3));
    let mut at_a = Vec::new();
    for _ in 0..4 {
        at_a.push(a.enter(&guest, &before).await.expect("room"));
    }
    let at_b = b.enter(&guest, &before).await.expect("room");
    for throttle in [&a, &b] {
        let refused = throttle.enter(&guest, &after).await.expect_err("five");
        let Exceeded::Concurrency { count, allowed: 3 } = refused else {
            panic!("{refused:?}");
        };
        assert!(count >= 5, "{count}");
    }
    until(async || held(&link, &config, "guest").await == 5).await;
    for _ in 0..2 {
        drop(at_a.pop());
        for throttle in [&a, &b] {
            throttle
                .enter(&guest, &after)
                .await
                .expect_err("still three");
        }
    }
    drop(at_b);
    let third = b.enter(&guest, &after).await.expect("two at a");
    a.enter(&guest, &after).await.expect_err("three");
    drop(third);
    a.enter(&guest, &before).await.expect("raised again");
}

#[tokio::test]
async fn a_lowered_rate_holds_from_the_next_call_on() {
    let (link, config) = test_server::link().await;
    let a = node(&config, Window::Minute, "a", LEASE).await;
    let mut turn = 0;
    while turn != minute(&link).await {
        turn = minute(&link).await;
        let guest = namespace(&format!("guest{turn}"));
        for _ in 0..5 {
            drop(a.enter(&guest, &limits(1000, 100)).await.expect("room"));
        }
        let mut admitted = 0;
        for _ in 0..10 {
            admitted += u64::from(a.enter(&guest, &limits(8, 100)).await.is_ok());
        }
        if turn == minute(&link).await {
            assert_eq!(admitted, 3);
        }
    }
}

#[tokio::test]
async fn after_a_lapse_nothing_is_handed_out_until_what_is_in_use_was_renewed() {
    let (a, b, link, config) = two().await;
    let (guest, hundred) = (namespace("guest"), limits(u64::MAX, 100));
    let before = a.enter(&guest, &hundred).await.expect("room");
    assert!(held(&link, &config, "guest").await > 1);
    a.lapse();
    // It goes on elsewhere: it counts, and what was at hand does not.
    assert_eq!(a.in_flight(&guest), 1);
    assert!(a.upkeep().await);
    assert_eq!(held(&link, &config, "guest").await, 1);
    let mut others = Vec::new();
    for _ in 0..99 {
        others.push(b.enter(&guest, &hundred).await.expect("room"));
    }
    a.enter(&guest, &hundred).await.expect_err("full");
    drop(before);
    b.enter(&guest, &hundred).await.expect("one has ended");
    assert_eq!((a.in_flight(&guest), others.len()), (0, 99));
}

#[tokio::test]
async fn a_node_that_was_away_for_long_counts_what_it_has_in_flight_beyond_the_limit() {
    let (a, b, link, config) = two().await;
    let (guest, two) = (namespace("guest"), limits(u64::MAX, 2));
    let mut before = vec![a.enter(&guest, &two).await.expect("room")];
    before.push(a.enter(&guest, &two).await.expect("room"));
    a.lapse();
    // Others took over what it had, as far as Redis knows.
    let key = format!("{}:t:{{guest}}:p", config.prefix);
    let _: u64 = link.query(cmd("DEL").arg(key)).await.expect("deleted");
    let (_places, told) = b.take_over(&guest, "a", 2).await;
    assert!(told);
    assert_eq!(held(&link, &config, "guest").await, 2);
    assert!(a.upkeep().await, "it comes back all the same");
    assert_eq!(held(&link, &config, "guest").await, 4);
    drop(before);
    until(async || held(&link, &config, "guest").await == 2).await;
    a.enter(&guest, &two).await.expect_err("full");
}

#[tokio::test]
async fn the_places_of_a_dead_front_move_with_its_work() {
    let (a, b, link, config) = two().await;
    let (guest, three) = (namespace("guest"), limits(u64::MAX, 3));
    let dead = node(&config, Window::Minute, "dead", LEASE).await;
    let mut lost = Vec::new();
    for _ in 0..3 {
        lost.push(dead.enter(&guest, &three).await.expect("room"));
    }
    // Two of its works run at `a`; one waits in the stream, and is `b`'s now.
    let (places, told) = a.take_over(&guest, "dead", 2).await;
    assert!(told);
    let counts = (lost.len(), places.len(), a.in_flight(&guest));
    assert_eq!(counts, (3, 2, 2));
    let waiting = b.inherit(&guest, "dead").await.expect("one is left");
    assert!(b.inherit(&guest, "dead").await.is_none());
    assert_eq!(held(&link, &config, "guest").await, 3);
    for throttle in [&a, &b] {
        assert!(throttle.upkeep().await);
        throttle.enter(&guest, &three).await.expect_err("full");
    }
    drop((places, waiting));
    until(async || held(&link, &config, "guest").await == 0).await;
    b.enter(&guest, &three).await.expect("room");
}

#[tokio::test]
async fn what_redis_forgot_is_told_again() {
    let (a, b, link, config) = two().await;
    let (guest, hundred) = (namespace("guest"), limits(u64::MAX, 100));
    let mut admissions = Vec::new();
    for _ in 0..3 {
        admissions.push(a.enter(&guest, &hundred).await.expect("room"));
    }
    let key = format!("{}:t:{{guest}}:p", config.prefix);
    let _: u64 = link.query(cmd("DEL").arg(key)).await.expect("deleted");
    assert!(a.upkeep().await);
    assert_eq!(held(&link, &config, "guest").await, 3);
    for _ in 0..97 {
        admissions.push(b.enter(&guest, &hundred).await.expect("room"));
    }
    b.enter(&guest, &hundred).await.expect_err("full");
    assert_eq!(admissions.len(), 100);
}

#[tokio::test]
async fn what_is_not_ours_in_place_of_a_count_stops_nobody() {
    let (a, _, link, config) = two().await;
    let (guest, hundred) = (namespace("guest"), limits(100, 100));
    let _held = a.enter(&guest, &hundred).await.expect("room");
    for letter in ["p", "c"] {
        let key = format!("{}:t:{{guest}}:{letter}", config.prefix);
        let _: () = link.query(cmd("SET").arg(key).arg("x")).await.expect("set");
    }
    assert!(a.upkeep().await);
    let mut admissions = Vec::new();
    for _ in 0..60 {
        admissions.push(a.enter(&guest, &hundred).await.expect("room"));
    }
    assert!(admissions.len() as u64 <= held(&link, &config, "guest").await);
}

#[tokio::test]
async fn a_node_that_drains_keeps_only_what_is_in_use() {
    let (a, _, link, config) = two().await;
    let (guest, hundred) = (namespace("guest"), limits(1000, 100));
    let one = a.enter(&guest, &hundred).await.expect("room");
    let two = a.enter(&guest, &hundred).await.expect("room");
    a.drain().await;
    assert_eq!(held(&link, &config, "guest").await, 2);
    let key = format!("{}:t:{{guest}}:c", config.prefix);
    let counted: u64 = link.query(cmd("HGET").arg(key).arg("n")).await.expect("n");
    assert!(
        counted == 2 || counted == 0,
        "or the minute is over: {counted}"
    );
    drop(one);
    until(async || held(&link, &config, "guest").await == 1).await;
    drop(two);
    until(async || held(&link, &config, "guest").await == 0).await;
}

#[tokio::test]
async fn callers_at_one_time_share_a_round_trip() {
    let (link, config) = test_server::link().await;
    let own = Link::open(&config).await.expect("the test's Redis");
    let node = Node {
        id: "a".to_owned(),
        lease: LEASE,
    };
    let a = Throttle::wide(Window::Minute, own.clone(), &config.prefix, node);
    let (guest, fifty) = (namespace("guest"), limits(u64::MAX, 50));
    let before = own.sent();
    let callers = (0..50).map(|_| a.enter(&guest, &fifty));
    let admissions = futures_util::future::join_all(callers).await;
    assert!(admissions.iter().all(Result::is_ok));
    assert_eq!(held(&link, &config, "guest").await, 50);
    let refused = (0..50).map(|_| a.enter(&guest, &fifty));
    let refused = futures_util::future::join_all(refused).await;
    assert!(refused.iter().all(Result::is_err));
    assert!(own.sent() - before < 20, "{}", own.sent() - before);
}

#[tokio::test]
async fn a_caller_that_leaves_takes_no_place_with_it() {
    let (a, b, ..) = two().await;
    let (guest, one) = (namespace("guest"), limits(u64::MAX, 1));
    for _ in 0..20 {
        tokio::select! {
            biased;
            _ = a.enter(&guest, &one) => {}
            () = std::future::ready(()) => {}
        }
    }
    until(async || b.enter(&guest, &one).await.is_ok()).await;
    assert_eq!(a.in_flight(&guest), 0);
}

#[tokio::test]
async fn fires_are_counted_over_all_nodes() {
    let (a, b, link, _) = two().await;
    loop {
        let began = minute(&link).await;
        let (guest, ten) = (namespace(&format!("guest{began}")), limits(10, 1));
        let mut fired = 0;
        for _ in 0..10 {
            fired += u64::from(a.fire(&guest, &ten).await.is_ok());
            fired += u64::from(b.fire(&guest, &ten).await.is_ok());
        }
        if minute(&link).await == began {
            assert_eq!(fired, 10);
            return;
        }
    }
}

#[test]
fn what_is_said_is_understood_and_what_is_not_ours_is_not() {
    let wanted = Wanted {
        want: Want::Call,
        node: "0123456789abcdef".to_owned(),
        count: 3,
        has: 4,
        namespace: namespace("a b@c"),
    };
    let said = wanted.print();
    assert_eq!(Wanted::parse(said.as_bytes()), Some(wanted));
    for text in [
        "",
        "c",
        "c n x 4 guest",
        "z n 3 4 guest",
        "c n 3 4 ",
        "c n 3 4 /",
        "\u{e9}",
    ] {
        assert_eq!(Wanted::parse(text.as_bytes()), None, "{text}");
    }
    assert_eq!(Wanted::parse(&[0xff, 0x20]), None);
}
