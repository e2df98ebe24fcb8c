//! What every backend must do about activation records; part of `suite`.

use std::sync::Arc;

use super::suite::{ALL, EVERY, json, name, namespace, record};
use super::{ActivationFilter, Page, Store};
use crate::model::{Activation, ActivationId, Timestamp};

/// Every row about them.
pub(super) async fn all(new: impl AsyncFn() -> Store) {
    a_record_is_found_before_and_after_it_is_on_disk(new().await).await;
    records_are_listed_newest_first_whatever_order_they_came_in(new().await).await;
    records_are_filtered_by_time_name_and_package(new().await).await;
    pages_of_records_neither_overlap_nor_leave_gaps(new().await).await;
    listing_while_records_arrive_misses_and_repeats_nothing(new().await).await;
    expiry_takes_the_old_and_keeps_the_young(new().await).await;
}

async fn a_record_is_found_before_and_after_it_is_on_disk(store: Store) {
    let (guest, other) = (namespace("guest"), namespace("other"));
    let made = Arc::new(record("p/a", 1_700_000_000_000, 1));
    store.activations.put(Arc::clone(&made)).unwrap();
    for _ in 0..2 {
        let found = store.activations.get(&guest, made.id).await.unwrap();
        assert_eq!(found.as_deref(), Some(&*made));
        let strange = store.activations.get(&other, made.id).await.unwrap();
        assert!(strange.is_none(), "another namespace saw it");
        let unknown = ActivationId(made.id.0 + 1);
        assert!(
            store
                .activations
                .get(&guest, unknown)
                .await
                .unwrap()
                .is_none()
        );
        store.activations.flush().await.unwrap();
    }
}

async fn shuffled(store: &Store, count: u64) -> Vec<Activation> {
    let mut made = Vec::new();
    for number in 0..count {
        let start = 1_000_000 + number * 7919 % count / 2;
        let mut record = record("a", start, u128::from(number));
        record.id = ActivationId::new(Timestamp(start + number % 5), u128::from(number) << 80 | 7);
        record.id.0 += u128::from(number);
        made.push(record.clone());
        store.activations.put(Arc::new(record)).unwrap();
        if number % (count / 7 + 1) == count / 8 {
            store.activations.flush().await.unwrap();
        }
    }
    made.sort_by_key(|record| std::cmp::Reverse((record.start, record.id)));
    made
}

fn ids(records: &[Arc<Activation>]) -> Vec<ActivationId> {
    records.iter().map(|record| record.id).collect()
}

async fn records_are_listed_newest_first_whatever_order_they_came_in(store: Store) {
    let expected = shuffled(&store, 500).await;
    let guest = namespace("guest");
    for _ in 0..2 {
        let found = store.activations.list(&guest, &EVERY, ALL).await.unwrap();
        let starts: Vec<Timestamp> = found.iter().map(|record| record.start).collect();
        assert!(starts.is_sorted_by(|newer, older| newer >= older));
        assert_eq!(ids(&found).len(), expected.len());
        assert_eq!(store.activations.count(&guest, &EVERY).await.unwrap(), 500);
        store.activations.flush().await.unwrap();
    }
    let other = namespace("other");
    assert!(
        store
            .activations
            .list(&other, &EVERY, ALL)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn records_are_filtered_by_time_name_and_package(store: Store) {
    let mut bound = record("home/a", 50, 5);
    bound.annotations.set("binding", json("\"guest/bound\""));
    let made = [
        record("a", 10, 1),
        record("b", 20, 2),
        record("p/a", 30, 3),
        record("q/a", 40, 4),
        bound,
    ];
    for (number, record) in made.iter().enumerate() {
        store.activations.put(Arc::new(record.clone())).unwrap();
        if number == 2 {
            store.activations.flush().await.unwrap();
        }
    }
    let filter =
        |since: Option<u64>, upto: Option<u64>, own: Option<&str>, package: Option<&str>| {
            ActivationFilter {
                since: since.map(Timestamp),
                upto: upto.map(Timestamp),
                name: own.map(name),
                package: package.map(name),
            }
        };
    let table = [
        (filter(None, None, None, None), vec![50, 40, 30, 20, 10]),
        (filter(Some(20), None, None, None), vec![50, 40, 30, 20]),
        (filter(None, Some(30), None, None), vec![30, 20, 10]),
        (filter(Some(20), Some(30), None, None), vec![30, 20]),
        (filter(Some(31), Some(39), None, None), vec![]),
        (filter(None, None, Some("a"), None), vec![50, 40, 30, 10]),
        (filter(Some(20), Some(40), Some("a"), None), vec![40, 30]),
        (filter(None, None, Some("a"), Some("p")), vec![30]),
        (filter(None, None, Some("a"), Some("bound")), vec![50]),
        (filter(None, None, Some("a"), Some("home")), vec![]),
        (filter(None, None, Some("c"), None), vec![]),
        (filter(Some(u64::MAX), None, None, None), vec![]),
    ];
    let guest = namespace("guest");
    for _ in 0..2 {
        for (filter, expected) in &table {
            let found = store.activations.list(&guest, filter, ALL).await.unwrap();
            let starts: Vec<u64> = found.iter().map(|record| record.start.0).collect();
            assert_eq!(starts, *expected, "{filter:?}");
            let count = store.activations.count(&guest, filter).await.unwrap();
            assert_eq!(count, expected.len(), "{filter:?}");
        }
        store.activations.flush().await.unwrap();
    }
}

async fn pages_of_records_neither_overlap_nor_leave_gaps(store: Store) {
    shuffled(&store, 300).await;
    let guest = namespace("guest");
    for filter in [
        EVERY,
        ActivationFilter {
            name: Some(name("a")),
            ..EVERY
        },
    ] {
        let whole = ids(&store.activations.list(&guest, &filter, ALL).await.unwrap());
        let mut paged = Vec::new();
        for skip in (0..310).step_by(37) {
            let page = Page { skip, limit: 37 };
            paged.extend(ids(&store
                .activations
                .list(&guest, &filter, page)
                .await
                .unwrap()));
        }
        assert_eq!(paged, whole);
    }
}

async fn listing_while_records_arrive_misses_and_repeats_nothing(store: Store) {
    const COUNT: u64 = 2000;
    let (guest, activations) = (namespace("guest"), Arc::clone(&store.activations));
    let writer = tokio::spawn(async move {
        for number in 0..COUNT {
            let record = record("a", 1000 + number, u128::from(number));
            activations.put(Arc::new(record)).unwrap();
            if number % 100 == 50 {
                activations.flush().await.unwrap();
            }
        }
    });
    let mut before = 0;
    while before < usize::try_from(COUNT).unwrap() {
        let found = store.activations.list(&guest, &EVERY, ALL).await.unwrap();
        let starts: Vec<u64> = found.iter().map(|record| record.start.0).collect();
        let expected: Vec<u64> = (1000..1000 + starts.len() as u64).rev().collect();
        assert_eq!(starts, expected, "a record is missing or there twice");
        assert!(starts.len() >= before);
        let count = store.activations.count(&guest, &EVERY).await.unwrap();
        assert!(count >= starts.len() && count <= usize::try_from(COUNT).unwrap());
        before = starts.len();
    }
    writer.await.unwrap();
}

async fn expiry_takes_the_old_and_keeps_the_young(store: Store) {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let (guest, now) = (namespace("guest"), 400 * DAY_MS);
    for (start, number) in [(now - 300 * DAY_MS, 1), (now - 1000, 2)] {
        store
            .activations
            .put(Arc::new(record("a", start, number)))
            .unwrap();
        store.activations.flush().await.unwrap();
    }
    assert_eq!(store.activations.expire(Timestamp(now)).await.unwrap(), 1);
    let left = store.activations.list(&guest, &EVERY, ALL).await.unwrap();
    let starts: Vec<u64> = left.iter().map(|record| record.start.0).collect();
    assert_eq!(starts, [now - 1000]);
    assert_eq!(store.activations.expire(Timestamp(now)).await.unwrap(), 0);
}
