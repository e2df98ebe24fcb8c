//! The store that nodes share, on a real Redis.

mod heard;
mod records;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{Change, Config, Keeper, Shared, open};
use crate::link::{self, Link, Value, cmd, test_server};
use crate::model::live::{Line, Listener as _};
use crate::model::{
    ActivationId, Annotations, Digest, Fqn, Package, Parameters, Timestamp, Version,
};
use crate::store::catalog::{Catalog, Found};
use crate::store::items_suite::item;
use crate::store::seal::Seal;
use crate::store::suite::{self, document, key, name, namespace, record};
use crate::store::watched::{Hub, Seen, Watched};
use crate::store::{
    ActivationFilter, Activations as _, Collection, EntityFilter, Error, Expect, Page, Revision,
    Shelf, Store,
};

const ALL: Page = Page {
    skip: 0,
    limit: 1000,
};

/// One of the nodes of a cluster.
struct Node {
    store: Store,
    shared: Shared,
    link: Link,
    prefix: String,
    _keeper: Keeper,
}

async fn node_of(config: &link::Config, name: &str, knobs: &Config) -> Node {
    sealing(config, (name, Seal::default()), knobs).await
}

async fn sealing(config: &link::Config, (name, seal): (&str, Seal), knobs: &Config) -> Node {
    let link = Link::open(config).await.unwrap();
    let (store, shared, keeper) = open(link.clone(), &config.prefix, knobs, (name, Arc::new(seal)));
    Node {
        store,
        shared,
        link,
        prefix: config.prefix.clone(),
        _keeper: keeper,
    }
}

/// Two nodes that share an empty store.
async fn two() -> (Node, Node) {
    let config = test_server::config();
    let knobs = Config::default();
    (
        node_of(&config, "one", &knobs).await,
        node_of(&config, "two", &knobs).await,
    )
}

impl Node {
    async fn query(&self, command: &[&str]) -> Value {
        let mut asked = cmd(command[0]);
        for argument in &command[1..] {
            asked.arg(*argument);
        }
        self.link.query(&asked).await.unwrap()
    }

    fn key(&self, rest: &str) -> String {
        format!("{}:s:{rest}", self.prefix)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_store_passes_the_suite() {
    let nodes = Arc::new(Mutex::new(Vec::new()));
    suite::all(async || {
        let node = node_of(&test_server::config(), "one", &Config::default()).await;
        let store = node.store.clone();
        nodes.lock().push(node);
        store
    })
    .await;
}

/// A Redis Cluster of three.
struct Cluster {
    _servers: Vec<test_server::Server>,
    url: String,
}

impl Cluster {
    fn start() -> Self {
        let free = || {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            socket.local_addr().unwrap().port().to_string()
        };
        let cli = |port: &str, arguments: &[&str]| {
            let mut cli = std::process::Command::new("redis-cli");
            let output = cli.args(["-p", port]).args(arguments).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let mut servers = Vec::new();
        let ports: Vec<(String, String)> = (0..3).map(|_| (free(), free())).collect();
        for (port, bus) in &ports {
            let options = [
                "--cluster-enabled",
                "yes",
                "--port",
                port,
                "--cluster-port",
                bus,
            ];
            servers.push(test_server::Server::start(&options));
        }
        let slots = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        for ((port, _), (first, last)) in ports.iter().zip(slots) {
            cli(port, &["cluster", "addslotsrange", first, last]);
            let (first, bus) = &ports[0];
            cli(port, &["cluster", "meet", "127.0.0.1", first, bus]);
        }
        for (port, _) in &ports {
            while !cli(port, &["cluster", "info"]).contains("cluster_state:ok")
                || cli(port, &["cluster", "nodes"]).lines().count() < 3
            {
                std::thread::yield_now();
            }
        }
        let hosts: Vec<String> = ports
            .iter()
            .map(|(port, _)| format!("127.0.0.1:{port}"))
            .collect();
        Self {
            _servers: servers,
            url: format!("redis+cluster://{}", hosts.join(",")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_store_passes_the_suite_on_a_redis_cluster() {
    let cluster = Cluster::start();
    let nodes = Arc::new(Mutex::new(Vec::new()));
    suite::all(async || {
        let config = link::Config {
            url: Some(cluster.url.clone()),
            ..test_server::config()
        };
        let node = node_of(&config, "one", &Config::default()).await;
        let store = node.store.clone();
        nodes.lock().push(node);
        store
    })
    .await;
}

#[tokio::test]
async fn what_one_node_writes_the_other_reads() {
    let (one, two) = two().await;
    let made = document("p/a", 1, "{}", Some("code"));
    let put = one
        .store
        .entities
        .put(made, Some("code".into()), Expect::Absent);
    let revision = put.await.unwrap();
    let (found, seen) = two.store.entities.get(&key("p/a")).await.unwrap().unwrap();
    assert_eq!((&*found.body, seen), ("{}", revision));
    let digest = Digest::of(b"code");
    let code = two.store.entities.code(&digest).await.unwrap();
    assert_eq!(code.as_deref(), Some("code"));
    two.store
        .entities
        .delete(&key("p/a"), revision)
        .await
        .unwrap();
    assert!(one.store.entities.code(&digest).await.unwrap().is_none());
}

#[tokio::test]
async fn one_of_the_living_adopts_the_work_of_the_dead() {
    let config = test_server::config();
    let knobs = Config::default();
    let (seal, guest) = (Seal::default(), namespace("guest"));
    let dead = node_of(&config, "dead", &knobs).await;
    for number in 0..300 {
        let work = Bytes::from(number.to_string());
        let accept = dead
            .store
            .accepted
            .accept(&guest, ActivationId(number), work);
        accept.await.unwrap();
    }
    dead.store
        .accepted
        .begin_durably(ActivationId(7))
        .await
        .unwrap();
    let (one, two) = (
        node_of(&config, "one", &knobs).await,
        node_of(&config, "two", &knobs).await,
    );
    let (first, second) = tokio::join!(
        one.shared.homes.adopt("dead", &seal),
        two.shared.homes.adopt("dead", &seal)
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.is_empty() != second.is_empty());
    let found = if first.is_empty() { second } else { first };
    let ids: Vec<u128> = found.iter().map(|pending| pending.id.0).collect();
    assert_eq!(ids, (0..300).collect::<Vec<_>>(), "oldest first");
    assert_eq!((found[7].begun, &*found[7].work), (1, &b"7"[..]));
}

/// Work of `dead`, adopted by the other.
async fn adopted() -> (Node, Node, link::Config) {
    let (config, knobs) = (test_server::config(), Config::default());
    let dead = node_of(&config, "dead", &knobs).await;
    for number in 0..9 {
        let work = Bytes::from(number.to_string());
        let (accepted, guest) = (&dead.store.accepted, namespace("guest"));
        let accept = accepted.accept(&guest, ActivationId(number), work);
        accept.await.unwrap();
    }
    let heir = node_of(&config, "heir", &knobs).await;
    let found = heir.shared.homes.adopt("dead", &Seal::default()).await;
    assert_eq!(found.unwrap().len(), 9);
    (dead, heir, config)
}

#[tokio::test]
async fn what_the_dead_say_of_work_that_was_adopted_is_not_heard() {
    let (dead, heir, _) = adopted().await;
    let one = ActivationId(1);
    dead.store.accepted.settle(one);
    let begun = dead.store.accepted.begin_durably(ActivationId(2)).await;
    assert!(begun.is_err());
    let late = ActivationId(900);
    let (accepted, guest) = (&dead.store.accepted, namespace("guest"));
    accepted.accept(&guest, late, Bytes::new()).await.unwrap();
    let pending = dead.store.accepted.pending().await.unwrap();
    assert_eq!(pending.len(), 1, "its new work goes elsewhere");
    assert_eq!(heir.store.accepted.pending().await.unwrap().len(), 9);
    heir.store.accepted.begin_durably(one).await.unwrap();
    heir.store.accepted.settle(one);
    assert_eq!(heir.store.accepted.pending().await.unwrap().len(), 8);
}

#[tokio::test]
async fn what_was_adopted_is_adopted_in_turn_until_nothing_is_left() {
    let (_dead, first, config) = adopted().await;
    first
        .store
        .accepted
        .begin_durably(ActivationId(2))
        .await
        .unwrap();
    for number in (0..9).filter(|number| *number != 2) {
        first.store.accepted.settle(ActivationId(number));
    }
    first.shared.writer.flush_all().await.unwrap();
    let (seal, second) = (
        Seal::default(),
        node_of(&config, "second", &Config::default()).await,
    );
    let found = second.shared.homes.adopt("heir", &seal).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id, found[0].begun), (ActivationId(2), 1));
    second.store.accepted.settle(ActivationId(2));
    second.shared.writer.flush_all().await.unwrap();
    let found = second.shared.homes.adopt("second", &seal).await.unwrap();
    assert!(found.is_empty());
    assert!(second.shared.homes.homes().await.unwrap().is_empty());
}

/// That it is corrupt, and that it says what.
#[track_caller]
fn named(error: Error, key: &str) {
    let text = error.to_string();
    assert!(matches!(error, Error::Corrupt(_)), "{text}");
    assert!(text.contains(key), "{text}");
}

#[tokio::test]
async fn what_was_damaged_by_hand_is_named_and_the_rest_is_served() {
    let (one, _two) = two().await;
    let (guest, entities) = (namespace("guest"), &one.store.entities);
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        let made = document(name, number as u64, "{}", Some("code"));
        entities
            .put(made, Some("code".into()), Expect::Absent)
            .await
            .unwrap();
        let made = record("a", 10, number as u128);
        one.store.activations.put(Arc::new(made)).unwrap();
        let items = &one.store.items;
        items
            .put(&guest, Shelf::Apis, item(name, "{}"), None)
            .await
            .unwrap();
    }
    one.store.activations.flush().await.unwrap();
    let broken = one.key("e:{guest}:b");
    one.query(&["DEL", &broken]).await;
    one.query(&["SET", &broken, "rubbish"]).await;
    named(entities.get(&key("b")).await.unwrap_err(), &broken);
    one.query(&["DEL", &broken]).await;
    let actions = EntityFilter {
        collection: Collection::Actions,
        package: None,
    };
    let left = entities.list(&guest, &actions, ALL).await.unwrap();
    assert_eq!(left.len(), 2);

    let code = one.key(&format!("c:{{{}}}", Digest::of(b"code")));
    one.query(&["HSET", &code, "0", "rubbish"]).await;
    named(
        entities.code(&Digest::of(b"code")).await.unwrap_err(),
        &code,
    );
    one.query(&["DEL", &code]).await;
    named(
        entities.code(&Digest::of(b"code")).await.unwrap_err(),
        &code,
    );
    // Uploaded again it is whole again.
    let again = document("d", 9, "{}", Some("code"));
    entities
        .put(again, Some("code".into()), Expect::Absent)
        .await
        .unwrap();
    assert!(entities.code(&Digest::of(b"code")).await.unwrap().is_some());

    one.query(&["HSET", &one.key("i:apis:{guest}:b"), "x", "soon"])
        .await;
    one.query(&["DEL", &one.key("i:apis:{guest}:c")]).await;
    let left = one
        .store
        .items
        .list(&guest, Shelf::Apis, "", ALL)
        .await
        .unwrap();
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn what_a_crash_left_of_code_and_of_a_deleted_namespace_is_swept() {
    let (one, two) = two().await;
    let guest = namespace("guest");
    let made = document("a", 1, "{}", Some("code"));
    one.store
        .entities
        .put(made, Some("code".into()), Expect::Absent)
        .await
        .unwrap();
    let digest = Digest::of(b"left");
    // As if a node had died between taking a hold and writing who has it, long ago.
    let (code, holders) = (
        one.key(&format!("c:{{{digest}}}")),
        one.key(&format!("w:{{{digest}}}")),
    );
    one.query(&["HSET", &code, "0", "left"]).await;
    one.query(&["SADD", &holders, "0011223344556677"]).await;
    let note = format!("+{digest}0011223344556677");
    one.query(&["ZADD", &one.key("h:{guest}"), "1", &note])
        .await;
    assert!(one.store.entities.code(&digest).await.unwrap().is_some());
    // And another right after it had marked a namespace as gone.
    one.query(&["HSET", &one.key("n:{guest}"), "gone", "1"])
        .await;
    one.query(&["SADD", &one.key("all:gone"), "guest"]).await;

    let now = Timestamp::now();
    one.store.items.expire_items(now).await.unwrap();
    assert!(one.store.entities.code(&digest).await.unwrap().is_none());
    let code = Digest::of(b"code");
    assert!(one.store.entities.code(&code).await.unwrap().is_none());
    assert!(one.store.entities.get(&key("a")).await.unwrap().is_none());
    // One node sweeps.
    one.store
        .items
        .put(
            &namespace("other"),
            Shelf::Apis,
            {
                let mut past = item("a", "{}");
                past.expires = Some(Timestamp(1));
                past
            },
            None,
        )
        .await
        .unwrap();
    assert_eq!(two.store.items.expire_items(now).await.unwrap(), 0);
    assert_eq!(one.store.items.expire_items(now).await.unwrap(), 1);
    let gone = one
        .store
        .items
        .put(&guest, Shelf::Apis, item("a", "{}"), None)
        .await;
    assert!(matches!(gone, Err(Error::Conflict)));
}

#[tokio::test]
async fn big_code_is_sent_and_read_in_pieces() {
    let (one, two) = two().await;
    let code: String = ('a'..='z').cycle().take(5 << 20).collect();
    let made = document("a", 1, "{}", Some(&code));
    let put = one
        .store
        .entities
        .put(made, Some(code.as_str().into()), Expect::Absent);
    let revision: Revision = put.await.unwrap();
    let digest = Digest::of(code.as_bytes());
    let found = two.store.entities.code(&digest).await.unwrap();
    assert_eq!(found.as_deref(), Some(code.as_str()));
    one.store
        .entities
        .delete(&key("a"), revision)
        .await
        .unwrap();
    let left = one
        .query(&["EXISTS", &one.key(&format!("c:{{{digest}}}"))])
        .await;
    assert_eq!(left, Value::Int(0));
}

/// A package of `guest`.
fn package(text: &str, updated: u64) -> Package {
    Package {
        fqn: Fqn {
            namespace: namespace("guest"),
            package: None,
            name: name(text),
        },
        version: Version::FIRST,
        publish: false,
        updated: Timestamp(updated),
        parameters: Parameters::default(),
        annotations: Annotations::default(),
        binding: None,
    }
}

#[tokio::test]
async fn what_items_take_is_counted_whatever_becomes_of_them() {
    let (one, two) = two().await;
    let (guest, items) = (namespace("guest"), &one.store.items);
    let usage = async || {
        two.store
            .items
            .usage(&guest, Shelf::KeyValue)
            .await
            .unwrap()
    };
    let put = async |name: &str, body: &str, expires: Option<u64>| {
        let mut made = item(name, body);
        made.expires = expires.map(Timestamp);
        let put = items.put(&guest, Shelf::KeyValue, made, None);
        put.await.unwrap();
    };
    put("b/one", "12345", None).await;
    put("b/two", "1", None).await;
    assert_eq!(usage().await, Some((2, 16)));
    put("b/one", "1", None).await;
    assert_eq!(usage().await, Some((2, 12)));
    items
        .delete(&guest, Shelf::KeyValue, "b/two")
        .await
        .unwrap();
    items
        .delete(&guest, Shelf::KeyValue, "b/two")
        .await
        .unwrap();
    assert_eq!(usage().await, Some((1, 6)));
    put("b/gone", "1", Some(1)).await;
    items.expire_items(Timestamp(2)).await.unwrap();
    items.purge(&guest, Shelf::KeyValue, "b/").await.unwrap();
    assert_eq!(usage().await, Some((0, 0)));
}
