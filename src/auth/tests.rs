//! Keys that are checked, remembered and forgotten; rates and places that are exact.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::setup::{SetupError, WELL_KNOWN_GUEST, WELL_KNOWN_SYSTEM};
use super::throttle::{Exceeded, Window};
use super::*;
use crate::model::{Tenant, Timestamp};
use crate::store::fake::Fake;
use crate::store::seal::Seal;
use crate::store::{Store, Tenants as _};

fn basic(key: &str) -> Vec<u8> {
    format!("Basic {}", STANDARD.encode(key)).into_bytes()
}

fn namespace(name: &str) -> Namespace {
    Namespace::parse(name).expect("legal")
}

fn keys(store: &Store) -> Keys {
    Keys::new(Arc::clone(&store.tenants), EffectiveLimits::default()).expect("randomness")
}

async fn ready() -> (Store, Arc<Fake>) {
    let (store, fake) = Fake::store();
    ensure_defaults(&*fake, &Config::default(), &Seal::default())
        .await
        .expect("room");
    (store, fake)
}

#[tokio::test]
async fn a_checked_key_is_not_read_again() {
    let (store, fake) = ready().await;
    let keys = keys(&store);
    for _ in 0..3 {
        let header = basic(WELL_KNOWN_GUEST);
        let identity = keys.verify(Some(&header)).await.expect("known");
        assert_eq!(identity.namespace.as_str(), "guest");
        assert!(!identity.system);
    }
    assert_eq!(fake.key_reads.load(Ordering::SeqCst), 1);
    let system = keys.verify(Some(&basic(WELL_KNOWN_SYSTEM))).await;
    assert!(system.expect("known").system);
}

#[tokio::test]
async fn a_refused_key_is_read_again_each_time_and_not_kept() {
    let (store, fake) = ready().await;
    let keys = keys(&store);
    let wrong = WELL_KNOWN_GUEST.replace('z', "y");
    for _ in 0..3 {
        let refused = keys.verify(Some(&basic(&wrong))).await;
        assert!(matches!(refused, Err(Denied::Invalid)));
    }
    assert_eq!(fake.key_reads.load(Ordering::SeqCst), 3);
    assert_eq!(format!("{keys:?}"), "Keys(0 cached)");
    assert!(matches!(keys.verify(None).await, Err(Denied::Missing)));
}

#[tokio::test]
async fn a_forgotten_namespace_is_read_again_and_others_are_not() {
    let (store, fake) = ready().await;
    let keys = keys(&store);
    for key in [WELL_KNOWN_GUEST, WELL_KNOWN_SYSTEM] {
        keys.verify(Some(&basic(key))).await.expect("known");
    }
    let tenant = fake.get(&namespace("guest")).await.expect("up");
    let tenant = tenant.expect("made");
    let blocked = Tenant {
        blocked: true,
        ..tenant
    };
    fake.put(blocked, false).await.expect("room");
    keys.forget(&namespace("guest"));
    let refused = keys.verify(Some(&basic(WELL_KNOWN_GUEST))).await;
    assert!(matches!(refused, Err(Denied::Invalid)));
    keys.verify(Some(&basic(WELL_KNOWN_SYSTEM)))
        .await
        .expect("known");
    assert_eq!(fake.key_reads.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_remembered_key_outlives_the_store() {
    let (store, fake) = ready().await;
    let keys = keys(&store);
    keys.verify(Some(&basic(WELL_KNOWN_GUEST)))
        .await
        .expect("known");
    *fake.failure.lock() = Some(store::Error::Unavailable("gone".to_owned()));
    keys.verify(Some(&basic(WELL_KNOWN_GUEST)))
        .await
        .expect("remembered");
    let unknown = keys.verify(Some(&basic(WELL_KNOWN_SYSTEM))).await;
    assert!(matches!(unknown, Err(Denied::Store(_))));
}

#[test]
fn headers_are_read_leniently_but_keys_exactly() {
    let clear = WELL_KNOWN_GUEST;
    for header in [
        format!("Basic {}", STANDARD.encode(clear)),
        format!("basic {}", STANDARD_NO_PAD.encode(clear)),
        format!("BASIC   {} ", STANDARD.encode(clear)),
    ] {
        let credential = Credential::from_header(header.as_bytes()).expect("a key");
        assert_eq!(credential.to_string(), clear);
        assert!(!format!("{credential:?}").contains("123zO3xZ"));
    }
    for bad in ["", "Basic", "Basic ", "Bearer x", "Basic \u{e9}"] {
        assert_eq!(Credential::from_header(bad.as_bytes()), None, "{bad:?}");
    }
    let multibyte = "\u{e9}".repeat(32);
    assert!(
        format!("{}:{multibyte}", Uuid::nil())
            .parse::<Credential>()
            .is_err()
    );
}

#[test]
fn new_keys_are_64_letters_and_digits_and_differ() {
    let one = Credential::generate().expect("randomness").to_string();
    let other = Credential::generate().expect("randomness").to_string();
    assert_ne!(one, other);
    let (_, key) = one.split_once(':').expect("uuid:key");
    assert_eq!(key.len(), 64);
    assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    one.parse::<Credential>().expect("readable");
}

#[tokio::test]
async fn the_well_known_keys_are_made_once_and_noticed() {
    let (_, fake) = ready().await;
    assert!(uses_well_known_keys(&*fake).await.expect("up"));
    // An operator who deletes the guest does not get it back at the next start.
    fake.delete(&namespace("guest")).await.expect("room");
    let config = Config {
        system_key: Some(Credential::generate().expect("randomness").to_string()),
        guest_key: None,
        ..Config::default()
    };
    ensure_defaults(&*fake, &config, &Seal::default())
        .await
        .expect("room");
    assert!(!uses_well_known_keys(&*fake).await.expect("up"));
    assert!(fake.get(&namespace("guest")).await.expect("up").is_none());
}

#[tokio::test]
async fn configured_keys_hold_over_stored_ones_and_keep_the_limits() {
    let (store, fake) = ready().await;
    let limits = crate::model::NamespaceLimits {
        fires_per_minute: Some(7),
        ..Default::default()
    };
    fake.put_limits(&namespace("guest"), limits)
        .await
        .expect("room");
    let key = Credential::generate().expect("randomness").to_string();
    let config = Config {
        guest_key: Some(key.clone()),
        system_key: None,
        ..Config::default()
    };
    ensure_defaults(&*fake, &config, &Seal::default())
        .await
        .expect("room");
    let keys = keys(&store);
    let old = keys.verify(Some(&basic(WELL_KNOWN_GUEST))).await;
    assert!(matches!(old, Err(Denied::Invalid)));
    let guest = keys.verify(Some(&basic(&key))).await.expect("configured");
    assert_eq!(guest.limits.fires_per_minute, 7);
}

#[tokio::test]
async fn an_empty_guest_key_makes_no_guest_and_bad_keys_are_named() {
    let (_, fake) = Fake::store();
    let config = |guest: &str, system: Option<&str>| Config {
        guest_key: Some(guest.to_owned()),
        system_key: system.map(str::to_owned),
        ..Config::default()
    };
    ensure_defaults(&*fake, &config("", None), &Seal::default())
        .await
        .expect("room");
    assert!(fake.get(&namespace("guest")).await.expect("up").is_none());
    for (config, named) in [
        (config("", Some("")), "system_key"),
        (config("", Some("x")), "system_key"),
        (config("x:y", None), "guest_key"),
    ] {
        let refused = ensure_defaults(&*fake, &config, &Seal::default())
            .await
            .expect_err("no key");
        assert!(matches!(refused, SetupError::BadKey { setting, .. } if setting == named));
    }
}

fn limits(rate: u64, concurrent: u64) -> EffectiveLimits {
    EffectiveLimits {
        invocations_per_minute: rate,
        concurrent_invocations: concurrent,
        ..EffectiveLimits::default()
    }
}

#[test]
fn the_rate_counts_rejected_calls_and_starts_anew_with_the_minute() {
    let throttle = Throttle::default();
    let (guest, two) = (namespace("guest"), limits(2, 100));
    let at = |seconds: u64| throttle.admit_at(&guest, &two, Timestamp(seconds * 1000));
    at(60).expect("first");
    at(61).expect("second");
    for count in 3..6 {
        let refused = at(100).expect_err("over");
        assert_eq!(
            refused,
            Exceeded::Rate {
                count,
                allowed: 2,
                retry_after_s: 20
            }
        );
    }
    at(120).expect("a new minute");
}

#[test]
fn a_step_of_the_clock_locks_nobody_out() {
    let throttle = Throttle::default();
    let (guest, one) = (namespace("guest"), limits(1, 100));
    let at = |seconds: u64| throttle.admit_at(&guest, &one, Timestamp(seconds * 1000));
    at(1_000_000).expect("first");
    at(1_000_000).expect_err("over");
    at(10).expect("years back: another minute");
    at(10).expect_err("over");
    at(u64::MAX / 1000).expect("far ahead: another minute");
    at(1_000_060).expect("right again: another minute");
}

#[test]
fn no_more_than_allowed_are_ever_in_flight() {
    let throttle = Throttle::default();
    let (guest, five) = (namespace("guest"), limits(u64::MAX, 5));
    let most = std::sync::atomic::AtomicU64::new(0);
    let now = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    if let Ok(admission) = throttle.admit(&guest, &five) {
                        let count = now.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(count, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                        drop(admission);
                    }
                }
            });
        }
    });
    assert!((1..=5).contains(&most.load(Ordering::SeqCst)));
    assert_eq!(throttle.in_flight(&guest), 0);
}

#[test]
fn namespaces_do_not_share_and_zero_blocks() {
    let throttle = Throttle::default();
    let one = limits(100, 1);
    let held = throttle.admit(&namespace("alice"), &one).expect("room");
    throttle.admit(&namespace("bob"), &one).expect("his own");
    let refused = throttle.admit(&namespace("alice"), &one);
    let full = Exceeded::Concurrency {
        count: 1,
        allowed: 1,
    };
    assert_eq!(refused.expect_err("full"), full);
    drop(held);
    throttle.admit(&namespace("alice"), &one).expect("free");
    throttle
        .admit(&namespace("carol"), &limits(100, 0))
        .expect_err("blocked");
}

#[test]
fn idle_meters_are_swept_and_busy_ones_kept() {
    let throttle = Throttle::default();
    let one = limits(10, 1);
    let at = |name: &str, minute: u64| {
        throttle.admit_at(&namespace(name), &one, Timestamp(minute * 60_000))
    };
    let held = at("busy", 1).expect("room");
    for index in 0..5000 {
        at(&format!("n{index}"), 1 + index).expect("room");
    }
    assert!(
        format!("{throttle:?}").len() <= "Throttle(4096 namespaces)".len(),
        "{throttle:?}"
    );
    at("busy", 1).expect_err("still held");
    drop(held);
}

#[test]
fn a_sliding_window_lets_no_burst_pass_at_the_turn_of_a_minute() {
    let sixty = EffectiveLimits {
        invocations_per_minute: 60,
        ..EffectiveLimits::default()
    };
    let burst = |window, second: u64| {
        let throttle = Throttle::new(window);
        let at = |second: u64| {
            let now = Timestamp(second * 1000);
            throttle
                .admit_at(&namespace("guest"), &sixty, now)
                .map(drop)
        };
        for _ in 0..60 {
            at(second).expect("within the rate");
        }
        assert!(at(second).is_err());
        (0..60).filter(|_| at(second + 2).is_ok()).count()
    };
    // From second 59 of a minute to second 1 of the next.
    assert_eq!(burst(Window::Minute, 119), 60);
    assert_eq!(burst(Window::Sliding, 119), 1);
}

#[test]
fn a_sliding_window_says_when_there_is_room_again() {
    let sixty = EffectiveLimits {
        invocations_per_minute: 60,
        ..EffectiveLimits::default()
    };
    let throttle = Throttle::new(Window::Sliding);
    let at = |second: u64| {
        let now = Timestamp(second * 1000);
        throttle
            .admit_at(&namespace("guest"), &sixty, now)
            .map(drop)
    };
    for _ in 0..60 {
        at(60).expect("within the rate");
    }
    let mut now = 60;
    for _ in 0..5 {
        match at(now) {
            Ok(()) => return,
            Err(exceeded) => now += u64::from(exceeded.retry_after_s()),
        }
    }
    panic!("it never had room when it said so");
}
