//! What every backend must do about writes that are made together; part of `suite`.

use std::sync::Arc;

use super::suite::{ALL, document, key, namespace};
use super::{Change, EntityFilter, Error, Expect, Store};
use crate::store::Collection;

fn put(text: &str, body: &str, expect: Expect) -> Change {
    Change::Put(document(text, 1, body, None), expect)
}

async fn body(store: &Store, text: &str) -> Option<String> {
    let found = store.entities.get(&key(text)).await.unwrap();
    found.map(|(document, _)| document.body.to_string())
}

pub(super) async fn several_writes_are_made_together_or_not_at_all(store: Store) {
    let entities = &store.entities;
    let made = entities
        .write(vec![
            put("a", "1", Expect::Absent),
            put("p/b", "2", Expect::Absent),
        ])
        .await
        .unwrap();
    let [Some(a), Some(b)] = made[..] else {
        panic!("{made:?}")
    };
    assert!(a != b);
    // Whichever does not hold, and wherever it stands, nothing is written.
    for wrong in [
        put("a", "wrong", Expect::Absent),
        put("a", "wrong", Expect::Revision(b)),
        put("c", "wrong", Expect::Revision(a)),
        Change::Delete(key("a"), b),
        Change::Delete(key("c"), a),
        Change::Keep(key("a"), b),
        Change::Keep(key("c"), a),
    ] {
        let right = put("p/b", "wrong", Expect::Revision(b));
        for changes in [vec![right.clone(), wrong.clone()], vec![wrong, right]] {
            let refused = entities.write(changes).await;
            assert!(matches!(refused, Err(Error::Conflict)), "{refused:?}");
        }
        assert_eq!(body(&store, "a").await.as_deref(), Some("1"));
        assert_eq!(body(&store, "p/b").await.as_deref(), Some("2"));
    }
    let made = entities
        .write(vec![
            Change::Keep(key("a"), a),
            Change::Delete(key("p/b"), b),
            put("c", "3", Expect::Absent),
        ])
        .await
        .unwrap();
    assert_eq!(made[..2], [None, None]);
    assert!(made[2].is_some_and(|c| c > b));
    assert_eq!(body(&store, "p/b").await, None);
    let filter = |package: Option<&str>| EntityFilter {
        collection: Collection::Actions,
        package: package.map(super::suite::name),
    };
    let listed = entities.list(&namespace("guest"), &filter(None), ALL).await;
    let listed: Vec<_> = listed.unwrap().into_iter().map(|one| one.key).collect();
    assert_eq!(listed, [key("a"), key("c")]);
    let of_package = filter(Some("p"));
    let packaged = entities.count(&namespace("guest"), &of_package).await;
    assert_eq!(packaged.unwrap(), 0);
    assert!(entities.write(Vec::new()).await.unwrap().is_empty());
}

pub(super) async fn what_moves_between_two_is_at_one_of_them_whoever_else_writes(store: Store) {
    let entities = Arc::clone(&store.entities);
    let first = vec![
        put("from", "1", Expect::Absent),
        put("to", "0", Expect::Absent),
    ];
    entities.write(first).await.unwrap();
    let movers = (0..4).map(|_| {
        let entities = Arc::clone(&entities);
        tokio::spawn(async move {
            let mut moved = 0;
            while moved < 5 {
                let (from, at) = entities.get(&key("from")).await.unwrap().unwrap();
                let (to, then) = entities.get(&key("to")).await.unwrap().unwrap();
                let changes = vec![
                    put("from", &to.body, Expect::Revision(at)),
                    put("to", &from.body, Expect::Revision(then)),
                ];
                match entities.write(changes).await {
                    Ok(_) => moved += 1,
                    Err(Error::Conflict) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for mover in movers.collect::<Vec<_>>() {
        mover.await.unwrap();
    }
    // Moved an even number of times.
    assert_eq!(body(&store, "from").await.as_deref(), Some("1"));
    assert_eq!(body(&store, "to").await.as_deref(), Some("0"));
}
