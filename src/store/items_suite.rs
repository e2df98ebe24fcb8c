//! What every backend must do with items; a part of `suite`.

use std::sync::Arc;

use super::suite::{ALL, document, is_conflict, key, namespace, tenant};
use super::{Error, Expect, Item, Page, Revision, Shelf, Store};
use crate::model::{Digest, Timestamp};

/// Every row of the contract of items.
pub(super) async fn all(new: impl AsyncFn() -> Store) {
    an_item_is_read_back_as_it_was_put(new().await).await;
    an_item_changes_only_from_what_its_writer_expected(new().await).await;
    one_of_many_who_put_an_absent_item_wins(new().await).await;
    an_expired_item_is_absent(new().await).await;
    what_has_expired_is_removed_and_what_has_not_stays(new().await).await;
    items_are_listed_largest_name_first_and_paged(new().await).await;
    a_prefix_means_its_bytes_and_nothing_else(new().await).await;
    a_purge_takes_one_prefix_of_one_shelf(new().await).await;
    a_shelf_is_read_across_namespaces(new().await).await;
    an_item_with_code_that_is_not_stored_is_refused(new().await).await;
    code_stays_while_an_item_needs_it(new().await).await;
    code_goes_however_its_last_item_does(new().await).await;
    a_deleted_namespace_leaves_no_items(new().await).await;
}

/// An item that is kept and needs no code.
pub(super) fn item(name: &str, body: &str) -> Item {
    Item {
        name: name.to_owned(),
        body: body.into(),
        code: None,
        expires: None,
    }
}

fn with_code(name: &str, code: &str) -> Item {
    Item {
        code: Some(Digest::of(code.as_bytes())),
        ..item(name, "{}")
    }
}

fn expiring(name: &str, expires: Timestamp) -> Item {
    Item {
        expires: Some(expires),
        ..item(name, "{}")
    }
}

/// An hour from now.
fn later() -> Timestamp {
    Timestamp(Timestamp::now().0 + 3_600_000)
}

const PAST: Timestamp = Timestamp(1_000);

/// Puts into `guest` whatever is there.
async fn put(store: &Store, shelf: Shelf, item: Item) -> Revision {
    let guest = namespace("guest");
    store.items.put(&guest, shelf, item, None).await.unwrap()
}

/// Puts into `guest` what has to fit, or says so.
async fn try_put(store: &Store, item: Item, expect: Expect) -> super::Result<Revision> {
    let guest = namespace("guest");
    store
        .items
        .put(&guest, Shelf::Apis, item, Some(expect))
        .await
}

async fn names(store: &Store, shelf: Shelf, prefix: &str) -> Vec<String> {
    let guest = namespace("guest");
    let found = store.items.list(&guest, shelf, prefix, ALL).await.unwrap();
    let count = store.items.count(&guest, shelf, prefix).await.unwrap();
    assert_eq!(count, found.len(), "{prefix:?}");
    found.into_iter().map(|item| item.name).collect()
}

/// Stores code by an entity called `name`, which needs it.
async fn upload(store: &Store, name: &str, code: &str) -> Revision {
    let made = document(name, 1, "{}", Some(code));
    let put = store.entities.put(made, Some(code.into()), Expect::Absent);
    put.await.unwrap()
}

async fn has_code(store: &Store, code: &str) -> bool {
    let digest = Digest::of(code.as_bytes());
    store.entities.code(&digest).await.unwrap().is_some()
}

async fn an_item_is_read_back_as_it_was_put(store: Store) {
    let (guest, other) = (namespace("guest"), namespace("other"));
    upload(&store, "a", "code").await;
    // Names are any text: a path, a wildcard, a quote, a zero, none at all.
    for name in ["/api/v1", "100%_", "it's", "a\0b", "", "ä\u{10ffff}"] {
        let mut made = with_code(name, "code");
        made.expires = Some(later());
        let revision = put(&store, Shelf::Apis, made.clone()).await;
        let found = store.items.get(&guest, Shelf::Apis, name).await.unwrap();
        assert_eq!(found, Some((made, revision)));
        let elsewhere = [(&guest, Shelf::Schedules), (&other, Shelf::Apis)];
        for (namespace, shelf) in elsewhere {
            let found = store.items.get(namespace, shelf, name).await.unwrap();
            assert_eq!(found, None, "{shelf:?} of {namespace} has {name:?}");
        }
        let delete = async || store.items.delete(&guest, Shelf::Apis, name).await.unwrap();
        assert!(delete().await);
        assert!(!delete().await);
        let found = store.items.get(&guest, Shelf::Apis, name).await.unwrap();
        assert_eq!(found, None);
    }
}

async fn an_item_changes_only_from_what_its_writer_expected(store: Store) {
    let guest = namespace("guest");
    let first = try_put(&store, item("a", "1"), Expect::Absent)
        .await
        .unwrap();
    let wrong = Expect::Revision(Revision(first.0 + 7));
    for expect in [Expect::Absent, wrong] {
        assert!(is_conflict(&try_put(&store, item("a", "2"), expect).await));
    }
    let missing = try_put(&store, item("b", "2"), Expect::Revision(first)).await;
    assert!(is_conflict(&missing));
    assert_eq!(names(&store, Shelf::Apis, "").await, ["a"]);
    let (found, revision) = store
        .items
        .get(&guest, Shelf::Apis, "a")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&*found.body, revision), ("1", first));

    let second = try_put(&store, item("a", "2"), Expect::Revision(first))
        .await
        .unwrap();
    let third = put(&store, Shelf::Apis, item("a", "3")).await;
    store.items.delete(&guest, Shelf::Apis, "a").await.unwrap();
    let fourth = try_put(&store, item("a", "4"), Expect::Absent)
        .await
        .unwrap();
    let all = [first, second, third, fourth];
    assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
}

async fn one_of_many_who_put_an_absent_item_wins(store: Store) {
    let writers: Vec<_> = (0..16)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let made = item("key", &number.to_string());
                (try_put(&store, made, Expect::Absent).await, number)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for writer in writers {
        match writer.await.unwrap() {
            (Ok(_), number) => winners.push(number.to_string()),
            (Err(Error::Conflict), _) => {}
            (Err(error), _) => panic!("{error}"),
        }
    }
    let (guest, items) = (namespace("guest"), Arc::clone(&store.items));
    let found = items.get(&guest, Shelf::Apis, "key").await.unwrap();
    let found = found.map(|(item, _)| item.body.to_string());
    assert_eq!(winners, Vec::from_iter(found));
}

async fn an_expired_item_is_absent(store: Store) {
    let (guest, items) = (namespace("guest"), &store.items);
    let old = put(&store, Shelf::Apis, expiring("a", PAST)).await;
    put(&store, Shelf::Apis, expiring("b", later())).await;
    let found = items.get(&guest, Shelf::Apis, "a").await.unwrap();
    assert_eq!(found, None);
    assert_eq!(names(&store, Shelf::Apis, "").await, ["b"]);
    assert_eq!(items.everywhere(Shelf::Apis).await.unwrap().len(), 1);
    let replaced = try_put(&store, item("a", "2"), Expect::Revision(old)).await;
    assert!(is_conflict(&replaced));
    let anew = try_put(&store, item("a", "2"), Expect::Absent).await;
    assert!(anew.unwrap() > old);
    assert_eq!(names(&store, Shelf::Apis, "").await, ["b", "a"]);

    put(&store, Shelf::Apis, expiring("a", PAST)).await;
    assert!(!items.delete(&guest, Shelf::Apis, "a").await.unwrap());
    put(&store, Shelf::Apis, expiring("a", PAST)).await;
    assert_eq!(items.purge(&guest, Shelf::Apis, "").await.unwrap(), 1);
}

async fn what_has_expired_is_removed_and_what_has_not_stays(store: Store) {
    let (end, items) = (later(), &store.items);
    put(&store, Shelf::Apis, expiring("past", PAST)).await;
    put(&store, Shelf::Idempotency, expiring("past", PAST)).await;
    put(&store, Shelf::Apis, expiring("later", end)).await;
    put(&store, Shelf::Apis, item("kept", "{}")).await;
    assert_eq!(items.expire_items(Timestamp::now()).await.unwrap(), 2);
    assert_eq!(items.expire_items(Timestamp(end.0 - 1)).await.unwrap(), 0);
    assert_eq!(names(&store, Shelf::Apis, "").await, ["later", "kept"]);
    assert_eq!(items.expire_items(end).await.unwrap(), 1);
    assert_eq!(names(&store, Shelf::Apis, "").await, ["kept"]);
}

async fn items_are_listed_largest_name_first_and_paged(store: Store) {
    for name in ["b", "a", "ab", "Z", "é", "10", "9", ""] {
        put(&store, Shelf::Revisions, item(name, name)).await;
    }
    put(&store, Shelf::Revisions, expiring("aa", PAST)).await;
    let expected = ["é", "b", "ab", "a", "Z", "9", "10", ""];
    assert_eq!(names(&store, Shelf::Revisions, "").await, expected);
    let guest = namespace("guest");
    for (skip, limit) in [(0, 3), (3, 3), (6, 3), (9, 3)] {
        let page = Page { skip, limit };
        let list = store.items.list(&guest, Shelf::Revisions, "", page);
        let found = list.await.unwrap();
        let bodies: Vec<&str> = found.iter().map(|item| &*item.body).collect();
        let rest = expected.get(skip..).unwrap_or_default();
        assert_eq!(bodies, rest[..limit.min(rest.len())]);
    }
}

async fn a_prefix_means_its_bytes_and_nothing_else(store: Store) {
    let all = [
        "a",
        "a/",
        "a/1",
        "a0",
        "A/1",
        "a%",
        "a%b",
        "a_b",
        "axb",
        "\u{d7ff}",
        "\u{d7ff}x",
        "\u{e000}",
        "\u{10ffff}",
        "\u{10ffff}\u{10ffff}z",
        "z\u{10ffff}",
        "z\u{10ffff}x",
        "zz",
        "{",
    ];
    for name in all {
        put(&store, Shelf::Revisions, item(name, "{}")).await;
    }
    for prefix in all.into_iter().chain(["", "z", "a_", "nothing"]) {
        let mut expected: Vec<&str> = all
            .into_iter()
            .filter(|name| name.starts_with(prefix))
            .collect();
        expected.sort_by(|a, b| b.as_bytes().cmp(a.as_bytes()));
        assert_eq!(
            names(&store, Shelf::Revisions, prefix).await,
            expected,
            "{prefix:?}"
        );
    }
}

async fn a_purge_takes_one_prefix_of_one_shelf(store: Store) {
    let (guest, other) = (namespace("guest"), namespace("other"));
    for name in ["a/1", "a/2", "ab/1"] {
        put(&store, Shelf::Revisions, item(name, "{}")).await;
        put(&store, Shelf::DeadLetters, item(name, "{}")).await;
    }
    let theirs = item("a/1", "{}");
    let theirs = store.items.put(&other, Shelf::Revisions, theirs, None);
    theirs.await.unwrap();
    let purge = async || store.items.purge(&guest, Shelf::Revisions, "a/").await;
    assert_eq!(purge().await.unwrap(), 2);
    assert_eq!(purge().await.unwrap(), 0);
    assert_eq!(names(&store, Shelf::Revisions, "").await, ["ab/1"]);
    assert_eq!(names(&store, Shelf::DeadLetters, "").await.len(), 3);
    let theirs = store.items.count(&other, Shelf::Revisions, "").await;
    assert_eq!(theirs.unwrap(), 1);
}

async fn a_shelf_is_read_across_namespaces(store: Store) {
    let mut expected = Vec::new();
    for owner in ["a", "guest", "z"] {
        for name in ["1", "2"] {
            for shelf in [Shelf::Schedules, Shelf::Apis] {
                let made = item(name, owner);
                let owner = namespace(owner);
                store.items.put(&owner, shelf, made, None).await.unwrap();
            }
            expected.push((owner.to_owned(), name.to_owned(), owner.to_owned()));
        }
    }
    let found = store.items.everywhere(Shelf::Schedules).await.unwrap();
    let mut found: Vec<_> = found
        .into_iter()
        .map(|(owner, item)| (owner.to_string(), item.name, item.body.to_string()))
        .collect();
    found.sort();
    assert_eq!(found, expected);
    let nothing = store.items.everywhere(Shelf::DeadLetters).await.unwrap();
    assert!(nothing.is_empty());
}

async fn an_item_with_code_that_is_not_stored_is_refused(store: Store) {
    let guest = namespace("guest");
    let made = with_code("a/1", "nowhere");
    let refused = store.items.put(&guest, Shelf::Revisions, made, None);
    assert!(is_conflict(&refused.await));
    assert!(names(&store, Shelf::Revisions, "").await.is_empty());
}

async fn code_stays_while_an_item_needs_it(store: Store) {
    let guest = namespace("guest");
    let first = upload(&store, "a", "one").await;
    // As a new version of an action is put: the old one is shelved, then replaced.
    put(&store, Shelf::Revisions, with_code("a/1", "one")).await;
    let second = store.entities.put(
        document("a", 2, "{}", Some("two")),
        Some("two".into()),
        Expect::Revision(first),
    );
    let second = second.await.unwrap();
    assert!(has_code(&store, "one").await);
    // And back again, with code that only the shelf has.
    put(&store, Shelf::Revisions, with_code("a/2", "two")).await;
    let back = document("a", 3, "{}", Some("one"));
    let back = store
        .entities
        .put(back, None, Expect::Revision(second))
        .await
        .unwrap();
    let delete = async |name| store.items.delete(&guest, Shelf::Revisions, name).await;
    assert!(delete("a/1").await.unwrap());
    assert!(has_code(&store, "one").await, "the entity needs it");
    assert!(has_code(&store, "two").await, "an item needs it");
    assert!(delete("a/2").await.unwrap());
    assert!(!has_code(&store, "two").await);
    store.entities.delete(&key("a"), back).await.unwrap();
    assert!(!has_code(&store, "one").await);
}

async fn code_goes_however_its_last_item_does(store: Store) {
    let guest = namespace("guest");
    let codes = ["replaced", "expired", "over", "purged", "shared"];
    for code in codes {
        let revision = upload(&store, code, code).await;
        put(&store, Shelf::Revisions, with_code(code, code)).await;
        store.entities.delete(&key(code), revision).await.unwrap();
        assert!(has_code(&store, code).await, "{code}");
    }
    put(&store, Shelf::DeadLetters, with_code("x", "shared")).await;

    put(&store, Shelf::Revisions, item("replaced", "{}")).await;
    assert!(!has_code(&store, "replaced").await);
    // An expired one keeps its code until it is replaced or removed.
    for code in ["expired", "over"] {
        let mut made = with_code(code, code);
        made.expires = Some(PAST);
        put(&store, Shelf::Revisions, made).await;
    }
    assert!(has_code(&store, "over").await);
    put(&store, Shelf::Revisions, item("over", "{}")).await;
    assert!(!has_code(&store, "over").await);
    assert!(has_code(&store, "expired").await);
    let expired = store.items.expire_items(Timestamp::now()).await;
    assert_eq!(expired.unwrap(), 1);
    assert!(!has_code(&store, "expired").await);
    let purged = store.items.purge(&guest, Shelf::Revisions, "").await;
    assert_eq!(purged.unwrap(), 4);
    assert!(!has_code(&store, "purged").await);
    assert!(has_code(&store, "shared").await, "another shelf needs it");
}

async fn a_deleted_namespace_leaves_no_items(store: Store) {
    let (guest, other) = (namespace("guest"), namespace("other"));
    for (owner, uuid) in [("guest", 1), ("other", 2)] {
        store.tenants.put(tenant(owner, uuid), true).await.unwrap();
    }
    upload(&store, "a", "both").await;
    let revision = upload(&store, "b", "theirs").await;
    put(&store, Shelf::Revisions, with_code("a/1", "both")).await;
    put(&store, Shelf::Revisions, with_code("b/1", "theirs")).await;
    let theirs = with_code("b/1", "theirs");
    let theirs = store.items.put(&other, Shelf::Revisions, theirs, None);
    theirs.await.unwrap();
    store.entities.delete(&key("b"), revision).await.unwrap();

    assert!(store.tenants.delete(&guest).await.unwrap());
    // What was still running shelves something after the namespace went.
    let late = item("late", "{}");
    let late = store.items.put(&guest, Shelf::DeadLetters, late, None);
    assert!(is_conflict(&late.await));
    assert!(!has_code(&store, "both").await);
    assert!(has_code(&store, "theirs").await);
    store.tenants.put(tenant("guest", 3), true).await.unwrap();
    assert!(names(&store, Shelf::Revisions, "").await.is_empty());
    assert!(names(&store, Shelf::DeadLetters, "").await.is_empty());
    let left = store.items.everywhere(Shelf::Revisions).await.unwrap();
    assert_eq!(left.len(), 1);
    put(&store, Shelf::DeadLetters, item("early", "{}")).await;
}
