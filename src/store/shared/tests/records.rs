//! Activation records: first writers, bytes, damage, keys.

use super::*;

/// Keys of which each byte is the number.
fn seal(keys: &[u8]) -> Seal {
    use base64::Engine as _;
    let encoded = |key: &u8| base64::engine::general_purpose::STANDARD.encode([*key; 32]);
    let keys: Vec<String> = keys.iter().map(encoded).collect();
    let config = crate::store::seal::Config {
        keys: Some(keys.join(" ")),
        ..crate::store::seal::Config::default()
    };
    Seal::of(&config).unwrap()
}

#[tokio::test]
async fn of_two_records_of_one_activation_the_first_is_seen_everywhere() {
    let (one, two) = two().await;
    let (first, mut second) = (record("a", 10, 1), record("a", 10, 1));
    second.duration = Some(99);
    one.store.activations.put(Arc::new(first.clone())).unwrap();
    one.store.activations.flush().await.unwrap();
    two.store.activations.put(Arc::new(second)).unwrap();
    for node in [&one, &two] {
        let found = node
            .store
            .activations
            .get(&namespace("guest"), first.id)
            .await;
        assert_eq!(found.unwrap().as_deref(), Some(&first));
        let every = ActivationFilter::default();
        let count = node
            .store
            .activations
            .count(&namespace("guest"), &every)
            .await;
        assert_eq!(count.unwrap(), 1);
    }
}

#[tokio::test]
async fn what_follows_records_comes_after_them() {
    let (one, _two) = two().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    for number in 1..=50 {
        let made = record("a", 10, number);
        let (id, writer) = (made.id, one.shared.writer.clone());
        one.store.activations.put(Arc::new(made)).unwrap();
        let told = Arc::clone(&told);
        let tell = move || told.lock().push((number, writer.find(id).is_none()));
        one.shared.writer.call_then(Box::new(tell));
    }
    assert!(told.lock().is_empty(), "nothing was written yet");
    one.shared.writer.flush_all().await.unwrap();
    let expected: Vec<(u128, bool)> = (1..=50).map(|number| (number, true)).collect();
    assert_eq!(*told.lock(), expected);
}

#[tokio::test]
async fn records_wait_for_redis_in_memory_and_are_refused_when_there_is_no_more_room() {
    let server = test_server::Server::start(&["--maxmemory-policy", "noeviction"]);
    let config = link::Config {
        url: Some(server.url()),
        ..link::Config::default()
    };
    let knobs = Config {
        pending_bytes_max: 20_000,
        ..Config::default()
    };
    let node = node_of(&config, "one", &knobs).await;
    let activations = &node.store.activations;
    node.query(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let mut count = 0_u128;
    let refused = loop {
        if let Err(error) = activations.put(Arc::new(record("a", 10, count))) {
            break error;
        }
        count += 1;
    };
    assert!(matches!(refused, Error::Full));
    assert!(!activations.has_room());
    assert!(matches!(activations.flush().await, Err(Error::Full)));
    // They are read all the same.
    let made = record("a", 10, 3);
    let found = activations.get(&namespace("guest"), made.id).await;
    assert_eq!(found.unwrap().as_deref(), Some(&made));
    let full = node
        .store
        .entities
        .put(document("a", 1, "{}", None), None, Expect::Absent);
    assert!(matches!(full.await, Err(Error::Full)));

    node.query(&["CONFIG", "SET", "maxmemory", "0"]).await;
    while activations.flush().await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(activations.has_room());
    let every = ActivationFilter::default();
    let found = activations
        .count(&namespace("guest"), &every)
        .await
        .unwrap();
    assert_eq!(found as u128, count);
}

#[tokio::test]
async fn a_namespace_is_held_to_its_bytes_as_records_come() {
    let knobs = Config {
        retention_bytes_max: 50_000,
        ..Config::default()
    };
    let node = node_of(&test_server::config(), "one", &knobs).await;
    for number in 0..1000_u64 {
        let made = record("a", 10 + number, u128::from(number));
        node.store.activations.put(Arc::new(made)).unwrap();
    }
    let every = ActivationFilter::default();
    let found = node
        .store
        .activations
        .list(&namespace("guest"), &every, ALL)
        .await
        .unwrap();
    assert!((100..330).contains(&found.len()), "{}", found.len());
    let starts: Vec<u64> = found.iter().map(|record| record.start.0).collect();
    let newest: Vec<u64> = (1010 - found.len() as u64..1010).rev().collect();
    assert_eq!(starts, newest);
    let Value::BulkString(bytes) = node.query(&["GET", &node.key("b:{guest}")]).await else {
        panic!("no sum");
    };
    assert!(String::from_utf8(bytes).unwrap().parse::<u64>().unwrap() <= 50_000);
    // What went is nowhere any more.
    for (command, key) in [
        ("HLEN", "r:{guest}"),
        ("ZCARD", "z:{guest}"),
        ("HLEN", "v:{guest}"),
    ] {
        let Value::Int(left) = node.query(&[command, &node.key(key)]).await else {
            panic!("no count");
        };
        let most = found.len();
        assert!(
            (1..=most).contains(&usize::try_from(left).unwrap()),
            "{key}"
        );
    }
    let named = ActivationFilter {
        name: Some(name("a")),
        ..every
    };
    let count = node
        .store
        .activations
        .count(&namespace("guest"), &named)
        .await;
    assert_eq!(count.unwrap(), found.len());
}

#[tokio::test]
async fn damaged_records_are_named_and_others_are_written_again() {
    let (one, _two) = two().await;
    let guest = namespace("guest");
    for number in 0..3 {
        let made = record("a", 10, number);
        one.store.activations.put(Arc::new(made)).unwrap();
        one.store.activations.flush().await.unwrap();
    }
    let (records, bodies) = (one.key("r:{guest}"), one.key("v:{guest}"));
    let id = record("a", 10, 1).id;
    let mut damage = cmd("HSET");
    damage.arg(&bodies).arg(&id.0.to_be_bytes()).arg("rubbish");
    one.link.query::<Value>(&damage).await.unwrap();
    named(
        one.store.activations.get(&guest, id).await.unwrap_err(),
        &bodies,
    );
    let every = ActivationFilter::default();
    let left = one
        .store
        .activations
        .list(&guest, &every, ALL)
        .await
        .unwrap();
    assert_eq!(left.len(), 2);
    // Where records are, there is something else: it is put aside, and records are written again.
    one.query(&["DEL", &records]).await;
    one.query(&["SET", &records, "rubbish"]).await;
    let made = record("a", 99, 77);
    one.store.activations.put(Arc::new(made.clone())).unwrap();
    while one.store.activations.flush().await.is_err() {
        tokio::task::yield_now().await;
    }
    let found = one.store.activations.get(&guest, made.id).await.unwrap();
    assert_eq!(found.as_deref(), Some(&made));
}

#[tokio::test]
async fn records_are_encrypted_anew_in_steps_and_only_those_that_need_it() {
    let (config, knobs, guest) = (test_server::config(), Config::default(), namespace("guest"));
    // One chunk each: without a key, with the first, and with the second.
    for (number, keys) in [&[][..], &[1], &[2, 1]].into_iter().enumerate() {
        let node = sealing(&config, ("one", seal(keys)), &knobs).await;
        let made = record("a", 10 + number as u64, number as u128);
        node.store.activations.put(Arc::new(made)).unwrap();
        node.store.activations.flush().await.unwrap();
    }
    let every = ActivationFilter::default();
    let node = sealing(&config, ("one", seal(&[2])), &knobs).await;
    let done = node.store.activations.reseal(&guest).await.unwrap();
    assert_eq!((done.count, done.unreadable, done.left), (1, 1, false));
    let listed = node.store.activations.list(&guest, &every, ALL).await;
    assert_eq!(listed.unwrap().len(), 2);
    let node = sealing(&config, ("one", seal(&[2, 1])), &knobs).await;
    for count in [1, 0] {
        let done = node.store.activations.reseal(&guest).await.unwrap();
        assert_eq!((done.count, done.unreadable, done.left), (count, 0, false));
    }
    let node = sealing(&config, ("one", seal(&[2])), &knobs).await;
    let listed = node.store.activations.list(&guest, &every, ALL).await;
    assert_eq!(listed.unwrap().len(), 3);
    // Without a key nothing of them is read, nor bound to another chunk's place.
    let node = sealing(&config, ("one", seal(&[])), &knobs).await;
    let listed = node.store.activations.list(&guest, &every, ALL).await;
    assert!(listed.unwrap().is_empty());
}
