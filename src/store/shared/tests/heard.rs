//! What a node hears of what others do.

use super::*;

/// What a node hears, beside what it does about it.
fn follow(node: &Node, catalog: &Arc<Catalog>, hub: &Arc<Hub>) -> mpsc::UnboundedReceiver<Change> {
    let (told, heard) = mpsc::unbounded_channel();
    let (shared, hub, catalog) = (node.shared.clone(), Arc::clone(hub), Arc::clone(catalog));
    catalog.share();
    tokio::spawn(async move {
        let tell = move |change: Change| {
            match &change {
                Change::Entity(fqn) => catalog.forget(fqn),
                Change::Doubt | Change::Everything => catalog.forget_all(),
                _ => {}
            }
            drop(told.send(change));
        };
        shared.follow(hub, tell).await;
    });
    heard
}

/// Waits until this is heard.
async fn hear(heard: &mut mpsc::UnboundedReceiver<Change>, wanted: &Change) {
    while heard.recv().await.as_ref() != Some(wanted) {}
}

#[tokio::test]
async fn a_cache_forgets_what_another_node_changes() {
    let (one, two) = two().await;
    let catalogs = [&one, &two].map(|node| {
        let entities = Arc::clone(&node.store.entities);
        Arc::new(Catalog::new(entities, 100))
    });
    let mut heard = follow(&one, &catalogs[0], &Arc::default());
    hear(&mut heard, &Change::Everything).await;
    catalogs[1].share();
    let fqn = package("p", 1).fqn;
    let made = catalogs[0].put(package("p", 1), None, Expect::Absent).await;
    made.unwrap();
    hear(&mut heard, &Change::Entity(fqn.clone())).await;
    for updated in 2..30 {
        let Found::Is(before, _) = catalogs[0].get::<Package>(&fqn).await.unwrap() else {
            panic!("it is gone");
        };
        assert_eq!(before.updated, Timestamp(updated - 1));
        assert!(catalogs[0].cached::<Package>(&fqn).is_some());
        let Found::Is(_, revision) = catalogs[1].get::<Package>(&fqn).await.unwrap() else {
            panic!("it is gone");
        };
        let put = catalogs[1].put(package("p", updated), None, Expect::Revision(revision));
        put.await.unwrap();
        hear(&mut heard, &Change::Entity(fqn.clone())).await;
        assert!(catalogs[0].cached::<Package>(&fqn).is_none());
    }
    let tenants = &two.store.tenants;
    tenants.put(suite::tenant("guest", 7), true).await.unwrap();
    hear(&mut heard, &Change::Tenant(namespace("guest"))).await;
    tenants.delete(&namespace("guest")).await.unwrap();
    hear(&mut heard, &Change::Tenant(namespace("guest"))).await;
}

#[tokio::test]
async fn who_hears_again_after_a_break_forgets_everything() {
    let server = test_server::Server::start(&[]);
    let config = link::Config {
        url: Some(server.url()),
        ..link::Config::default()
    };
    let one = node_of(&config, "one", &Config::default()).await;
    let catalog = Arc::new(Catalog::new(Arc::clone(&one.store.entities), 100));
    let mut heard = follow(&one, &catalog, &Arc::default());
    hear(&mut heard, &Change::Everything).await;
    // Whoever is pushed to is of this type, too.
    let kill = async {
        let mut kill = cmd("CLIENT");
        kill.arg("KILL")
            .arg("TYPE")
            .arg("normal")
            .arg("SKIPME")
            .arg("yes");
        drop(one.link.query::<Value>(&kill).await);
    };
    kill.await;
    hear(&mut heard, &Change::Everything).await;
}

#[tokio::test]
async fn records_and_lines_of_other_nodes_are_seen_by_who_watches() {
    let (one, two) = two().await;
    let hubs: [Arc<Hub>; 2] = Default::default();
    let mut watched = Vec::new();
    for (node, hub) in [&one, &two].into_iter().zip(&hubs) {
        let catalog = Arc::new(Catalog::new(Arc::clone(&node.store.entities), 100));
        let mut heard = follow(node, &catalog, hub);
        hear(&mut heard, &Change::Everything).await;
        let inner = Arc::clone(&node.store.activations);
        watched.push((Watched::new(inner, Arc::clone(hub)), heard));
    }
    let guest = namespace("guest");
    let mut subscription = hubs[1].subscribe(&guest, true).unwrap();
    // At once: nobody has told the other node yet.
    let first = Arc::new(record("a", 10, 1));
    watched[0].0.put(Arc::clone(&first)).unwrap();
    let seen = subscription.next().await;
    assert!(
        matches!(&seen, Seen::Record(record) if **record == *first),
        "{seen:?}"
    );
    for number in 2..200 {
        let made = Arc::new(record("a", 10, number));
        watched[0].0.put(made).unwrap();
    }
    for number in 2..200 {
        let seen = subscription.next().await;
        let id = record("a", 10, number).id;
        assert!(
            matches!(&seen, Seen::Record(record) if record.id == id),
            "{number}: {seen:?}"
        );
    }
    // What this node puts is seen once.
    let own = Arc::new(record("b", 10, 1000));
    watched[1].0.put(Arc::clone(&own)).unwrap();
    watched[0].0.put(Arc::new(record("c", 10, 1001))).unwrap();
    for expected in ["b", "c"] {
        let seen = subscription.next().await;
        assert!(matches!(&seen, Seen::Record(record) if record.name.as_str() == expected));
    }
    while !hubs[0].listens() {
        tokio::task::yield_now().await;
    }
    let action = crate::store::watched::named(package("a", 1).fqn, None);
    let line = Line {
        id: first.id,
        action: Arc::new(action),
        text: "hello".to_owned(),
    };
    hubs[0].hear(&guest, line);
    let seen = subscription.next().await;
    assert!(
        matches!(&seen, Seen::Line(line) if line.text == "hello"),
        "{seen:?}"
    );
    // What others publish there is passed over.
    for rubbish in ["", "rubbish", "\u{1}\u{0}\u{0}\u{1}\u{0}\u{0}\u{0}\u{9}"] {
        one.query(&["PUBLISH", &one.key("live:{guest}"), rubbish])
            .await;
    }
    watched[0].0.put(Arc::new(record("d", 10, 1002))).unwrap();
    let seen = subscription.next().await;
    assert!(matches!(&seen, Seen::Record(record) if record.name.as_str() == "d"));
}
