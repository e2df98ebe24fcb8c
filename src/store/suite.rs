//! What every backend of the store must do. Each runs [`all`] from its own tests.
//!
//! `new` gives a fresh, empty store. What a backend does when it is closed, killed or without room is its own, and
//! tested beside it.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    ActivationFilter, Collection, Document, EntityFilter, EntityKey, Error, Expect, Page, Revision,
    Store,
};
use crate::model::activation::{Response, Status};
use crate::model::{
    Activation, ActivationId, Annotations, Digest, EntityName, Json, Namespace, NamespaceLimits,
    Tenant, Timestamp, Version,
};

/// Every row of the seam's contract.
pub(crate) async fn all(new: impl AsyncFn() -> Store) {
    an_entity_changes_only_from_what_its_writer_saw(new().await).await;
    no_update_is_lost_among_concurrent_writers(new().await).await;
    a_revision_is_never_used_again(new().await).await;
    code_lives_as_long_as_an_entity_needs_it(new().await).await;
    entities_are_listed_newest_first_and_paged(new().await).await;
    super::together_suite::several_writes_are_made_together_or_not_at_all(new().await).await;
    super::together_suite::what_moves_between_two_is_at_one_of_them_whoever_else_writes(
        new().await,
    )
    .await;
    super::items_suite::all(&new).await;
    tenants_are_found_by_name_and_by_uuid(new().await).await;
    a_deleted_tenant_leaves_nothing(new().await).await;
    super::records_suite::all(&new).await;
    the_first_record_of_accepted_work_wins(new().await).await;
    accepted_work_is_pending_until_it_is_settled(new().await).await;
    begun_runs_are_counted(new().await).await;
}

pub(crate) fn namespace(text: &str) -> Namespace {
    Namespace::parse(text).unwrap()
}

pub(crate) fn name(text: &str) -> EntityName {
    EntityName::parse(text).unwrap()
}

pub(super) fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap()
}

pub(super) const ALL: Page = Page {
    skip: 0,
    limit: 100_000,
};

pub(super) const EVERY: ActivationFilter = ActivationFilter {
    since: None,
    upto: None,
    name: None,
    package: None,
};

/// A record of `guest`; its id is made from `start` and `number`.
pub(crate) fn record(action: &str, start: u64, number: u128) -> Activation {
    let mut annotations = Annotations::default();
    annotations.set("path", json(&format!("\"guest/{action}\"")));
    annotations.set("kind", json("\"wasm:1\""));
    annotations.set("waitTime", json("4"));
    Activation {
        namespace: namespace("guest"),
        name: name(action.rsplit('/').next().unwrap()),
        version: Version::FIRST,
        subject: namespace("guest"),
        id: ActivationId::new(Timestamp(start), number),
        start: Timestamp(start),
        end: Some(Timestamp(start + 12)),
        duration: Some(12),
        cause: None,
        response: Response {
            status: Status::Success,
            size: Some(17),
            result: json(r#"{"greeting":"hi"}"#),
        },
        logs: ["2024-01-01T00:00:00.000000000Z stdout: hi".to_owned()].into(),
        annotations,
    }
}

pub(super) fn tenant(text: &str, uuid: u128) -> Tenant {
    Tenant {
        namespace: namespace(text),
        uuid: uuid::Uuid::from_u128(uuid),
        key_digest: Digest::of(text.as_bytes()),
        sealed_key: Some(format!("sealed {text}")),
        blocked: false,
        limits: NamespaceLimits::default(),
        created: Timestamp(1),
    }
}

pub(super) fn document(text: &str, updated: u64, body: &str, code: Option<&str>) -> Document {
    Document {
        key: key(text),
        collection: Collection::Actions,
        updated: Timestamp(updated),
        code: code.map(|code| Digest::of(code.as_bytes())),
        body: body.into(),
    }
}

/// `name` or `package/name`, in `guest`.
pub(super) fn key(text: &str) -> EntityKey {
    let (package, own) = match text.split_once('/') {
        Some((package, own)) => (Some(name(package)), own),
        None => (None, text),
    };
    EntityKey {
        namespace: namespace("guest"),
        package,
        name: name(own),
    }
}

fn actions(package: Option<&str>) -> EntityFilter {
    EntityFilter {
        collection: Collection::Actions,
        package: package.map(name),
    }
}

pub(super) fn is_conflict<T>(result: &super::Result<T>) -> bool {
    matches!(result, Err(Error::Conflict))
}

async fn an_entity_changes_only_from_what_its_writer_saw(store: Store) {
    let entities = &store.entities;
    let first = entities
        .put(document("a", 1, "1", None), None, Expect::Absent)
        .await
        .unwrap();
    let again = entities.put(document("a", 2, "2", None), None, Expect::Absent);
    assert!(is_conflict(&again.await));
    let wrong = Expect::Revision(Revision(first.0 + 7));
    let stale = entities.put(document("a", 2, "2", None), None, wrong);
    assert!(is_conflict(&stale.await));
    let missing = Expect::Revision(first);
    let absent = entities.put(document("b", 2, "2", None), None, missing);
    assert!(is_conflict(&absent.await));
    assert!(is_conflict(&entities.delete(&key("b"), first).await));

    let (found, revision) = entities.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((&*found.body, revision), ("1", first));
    let second = entities
        .put(
            document("a", 2, "2", None),
            None,
            Expect::Revision(revision),
        )
        .await
        .unwrap();
    assert!(is_conflict(&entities.delete(&key("a"), first).await));
    entities.delete(&key("a"), second).await.unwrap();
    assert!(entities.get(&key("a")).await.unwrap().is_none());
}

async fn no_update_is_lost_among_concurrent_writers(store: Store) {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 10;
    let counter = document("n", 0, "0", None);
    store
        .entities
        .put(counter, None, Expect::Absent)
        .await
        .unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let entities = Arc::clone(&store.entities);
            tokio::spawn(async move {
                let mut done = 0;
                while done < ROUNDS {
                    let (found, revision) = entities.get(&key("n")).await.unwrap().unwrap();
                    let next = found.body.parse::<usize>().unwrap() + 1;
                    let next = document("n", 0, &next.to_string(), None);
                    match entities.put(next, None, Expect::Revision(revision)).await {
                        Ok(_) => done += 1,
                        Err(Error::Conflict) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let (found, _) = store.entities.get(&key("n")).await.unwrap().unwrap();
    assert_eq!(&*found.body, (WRITERS * ROUNDS).to_string());
}

async fn a_revision_is_never_used_again(store: Store) {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let made = document("a", 1, "1", None);
        let revision = store
            .entities
            .put(made, None, Expect::Absent)
            .await
            .unwrap();
        store.entities.delete(&key("a"), revision).await.unwrap();
        assert!(seen.iter().all(|before| *before < revision));
        seen.push(revision);
    }
}

async fn code_lives_as_long_as_an_entity_needs_it(store: Store) {
    let entities = &store.entities;
    let (code, digest) = (Arc::<str>::from("the code"), Digest::of(b"the code"));
    let unknown = entities.put(
        document("a", 1, "1", Some("the code")),
        None,
        Expect::Absent,
    );
    assert!(is_conflict(&unknown.await));
    let mut revisions = Vec::new();
    for (place, given) in [("a", Some(Arc::clone(&code))), ("p/a", None)] {
        let made = document(place, 1, "1", Some("the code"));
        revisions.push(entities.put(made, given, Expect::Absent).await.unwrap());
    }
    // One turns to other code, the other goes.
    entities
        .put(
            document("a", 2, "2", Some("other")),
            Some("other".into()),
            Expect::Revision(revisions[0]),
        )
        .await
        .unwrap();
    assert_eq!(entities.code(&digest).await.unwrap(), Some(code));
    entities.delete(&key("p/a"), revisions[1]).await.unwrap();
    assert_eq!(entities.code(&digest).await.unwrap(), None);
    let other = entities.code(&Digest::of(b"other")).await.unwrap();
    assert_eq!(other.as_deref(), Some("other"));
}

async fn entities_are_listed_newest_first_and_paged(store: Store) {
    for (place, updated) in [("b", 5), ("a", 5), ("p/x", 9), ("old", 1), ("p/y", 5)] {
        let made = document(place, updated, place, None);
        store
            .entities
            .put(made, None, Expect::Absent)
            .await
            .unwrap();
    }
    let mut package = document("p", 9, "{}", None);
    package.collection = Collection::Packages;
    store
        .entities
        .put(package, None, Expect::Absent)
        .await
        .unwrap();

    let guest = namespace("guest");
    let list = async |filter: EntityFilter, skip, limit| -> Vec<String> {
        let page = Page { skip, limit };
        let found = store.entities.list(&guest, &filter, page).await.unwrap();
        found.iter().map(|d| d.body.to_string()).collect()
    };
    let everything = ["p/x", "a", "b", "p/y", "old"];
    assert_eq!(list(actions(None), 0, 30).await, everything);
    assert_eq!(list(actions(None), 1, 2).await, everything[1..3]);
    assert_eq!(list(actions(Some("p")), 0, 30).await, ["p/x", "p/y"]);
    let count = async |filter: EntityFilter| store.entities.count(&guest, &filter).await.unwrap();
    assert_eq!(count(actions(None)).await, 5);
    assert_eq!(count(actions(Some("p"))).await, 2);
    let found = store.entities.list(&guest, &actions(Some("p")), ALL).await;
    assert_eq!(found.unwrap()[0].key, key("p/x"));
}

async fn tenants_are_found_by_name_and_by_uuid(store: Store) {
    let tenants = &store.tenants;
    tenants.put(tenant("b", 2), true).await.unwrap();
    tenants.put(tenant("a", 1), true).await.unwrap();
    assert!(is_conflict(&tenants.put(tenant("a", 3), true).await));
    assert!(is_conflict(&tenants.put(tenant("c", 1), true).await));
    let listed = tenants.list().await.unwrap();
    assert_eq!(listed, [tenant("a", 1), tenant("b", 2)]);

    // A new key takes the place of the old one.
    tenants.put(tenant("a", 7), false).await.unwrap();
    let by_uuid = async |uuid| tenants.by_uuid(uuid::Uuid::from_u128(uuid)).await.unwrap();
    assert_eq!(by_uuid(1).await, None);
    assert_eq!(by_uuid(7).await, Some(tenant("a", 7)));

    let limits = NamespaceLimits {
        concurrent_invocations: Some(3),
        ..NamespaceLimits::default()
    };
    let guest = namespace("a");
    tenants.put_limits(&guest, limits.clone()).await.unwrap();
    let found = tenants.get(&guest).await.unwrap().unwrap();
    assert_eq!((found.limits, found.uuid.as_u128()), (limits, 7));
    let nobody = namespace("zz");
    let missing = tenants.put_limits(&nobody, NamespaceLimits::default());
    assert!(is_conflict(&missing.await));
}

async fn a_deleted_tenant_leaves_nothing(store: Store) {
    let guest = namespace("guest");
    store.tenants.put(tenant("guest", 1), true).await.unwrap();
    let action = document("a", 1, "1", Some("code"));
    store
        .entities
        .put(action, Some("code".into()), Expect::Absent)
        .await
        .unwrap();
    let (written, waiting) = (record("a", 10, 1), record("a", 20, 2));
    store.activations.put(Arc::new(written)).unwrap();
    store.activations.flush().await.unwrap();
    store.activations.put(Arc::new(waiting)).unwrap();
    let id = ActivationId(9);
    store
        .accepted
        .accept(&guest, id, Bytes::from_static(b"w"))
        .await
        .unwrap();

    assert!(store.tenants.delete(&guest).await.unwrap());
    // What was still running ends after the namespace did.
    store.activations.put(Arc::new(record("a", 30, 3))).unwrap();
    store.activations.flush().await.unwrap();

    assert!(!store.tenants.delete(&guest).await.unwrap());
    store.tenants.put(tenant("guest", 2), true).await.unwrap();
    assert!(store.entities.get(&key("a")).await.unwrap().is_none());
    assert!(
        store
            .entities
            .code(&Digest::of(b"code"))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(store.activations.count(&guest, &EVERY).await.unwrap(), 0);
    assert!(store.accepted.pending().await.unwrap().is_empty());
    store.activations.put(Arc::new(record("a", 40, 4))).unwrap();
    assert_eq!(store.activations.count(&guest, &EVERY).await.unwrap(), 1);
}

/// `count` records whose order of arrival, of `start` and of id all differ, some flushed, some not.
async fn the_first_record_of_accepted_work_wins(store: Store) {
    let guest = namespace("guest");
    let (first, mut second) = (record("a", 10, 1), record("a", 10, 1));
    second.duration = Some(99);
    store
        .accepted
        .accept(&guest, first.id, Bytes::from_static(b"w"))
        .await
        .unwrap();
    for _ in 0..2 {
        store.activations.put(Arc::new(first.clone())).unwrap();
        store.activations.put(Arc::new(second.clone())).unwrap();
        store.activations.flush().await.unwrap();
        store.activations.put(Arc::new(second.clone())).unwrap();
        let found = store.activations.get(&guest, first.id).await.unwrap();
        assert_eq!(found.as_deref(), Some(&first));
        assert_eq!(store.activations.count(&guest, &EVERY).await.unwrap(), 1);
    }
}

async fn accepted_work_is_pending_until_it_is_settled(store: Store) {
    let guest = namespace("guest");
    let accepting: Vec<_> = (0..64u128)
        .map(|number| {
            let (accepted, guest) = (Arc::clone(&store.accepted), guest.clone());
            tokio::spawn(async move {
                let work = Bytes::from(number.to_string());
                accepted.accept(&guest, ActivationId(number), work).await
            })
        })
        .collect();
    for accepting in accepting {
        accepting.await.unwrap().unwrap();
    }
    let mut pending = store.accepted.pending().await.unwrap();
    pending.sort_by_key(|pending| pending.id);
    assert_eq!(pending.len(), 64);
    for (number, pending) in pending.iter().enumerate() {
        assert_eq!(pending.work, number.to_string());
        assert_eq!(pending.begun, 0);
    }
    for number in (0..64u128).filter(|number| *number != 7) {
        store.accepted.settle(ActivationId(number));
    }
    store.accepted.settle(ActivationId(1_000));
    let left = store.accepted.pending().await.unwrap();
    let left: Vec<ActivationId> = left.iter().map(|pending| pending.id).collect();
    assert_eq!(left, [ActivationId(7)]);
}

async fn begun_runs_are_counted(store: Store) {
    let (guest, id) = (namespace("guest"), ActivationId(5));
    store
        .accepted
        .accept(&guest, id, Bytes::from_static(b"w"))
        .await
        .unwrap();
    store.accepted.begin(id);
    store.accepted.begin_durably(id).await.unwrap();
    store.accepted.begin(id);
    let pending = store.accepted.pending().await.unwrap();
    assert_eq!(pending[0].begun, 3);
}
