//! Clocks of several nodes on one Redis: each time is fired once, whoever dies in between.

use serde_json::json;

use super::*;
use crate::invoke::Config;
use crate::invoke::trigger::tests::{Rig, caller, fqn, guest, name, payload, rig_over};
use crate::link::{Link, test_server};
use crate::model::{Activation, Version};
use crate::sandbox::fake::Script;
use crate::store::seal::Seal;
use crate::store::shared::{self, Keeper, Shared};
use crate::store::{ActivationFilter, Page, embedded};

const HOUR_MS: u64 = 60 * 60 * 1000;

struct Node {
    rig: Rig,
    shared: Shared,
    _keeper: Keeper,
}

async fn node(config: &crate::link::Config, name: &str) -> Node {
    let link = Link::open(config).await.unwrap();
    let knobs = embedded::Config::default();
    let (store, shared, keeper) =
        shared::open(link, &config.prefix, &knobs, (name, Arc::default()));
    let auth = crate::auth::Config::default();
    let seal = Seal::default();
    let made = crate::auth::ensure_defaults(&*store.tenants, &auth, &seal);
    made.await.unwrap();
    let (_, ground) = crate::worker::tests::store();
    let rig = rig_over(Config::default(), store, ground);
    rig.invoker.share_clock();
    rig.catalog.share();
    rig.fake.add("a", Script::echoes());
    Node {
        rig,
        shared,
        _keeper: keeper,
    }
}

/// Two nodes, and a trigger whose schedule is due.
async fn two() -> (Node, Node) {
    let config = test_server::config();
    let (one, two) = (node(&config, "one").await, node(&config, "two").await);
    one.rig.action("a", Script::echoes()).await;
    one.rig.trigger(&[("r", "a", true)]).await;
    let now = Timestamp::now().millis();
    let schedule = Schedule {
        version: 1,
        generation: new_id(),
        when: When::Every { minutes: 60 },
        start: Some(Timestamp(now - 1000 - HOUR_MS)),
        stop: None,
        payload: payload(&json!({})),
        left: None,
        delete_after_fire: None,
        missed: Missed::Once,
        given: serde_json::Map::new(),
        active: true,
        changed: Timestamp(now),
        reason: None,
        last: Timestamp(now - 1001),
        rung: Vec::new(),
    };
    let item = schedule.item(&name("t"));
    let (items, guest) = (&one.rig.store.items, guest());
    let put = items.put(&guest, Shelf::Schedules, item, None);
    put.await.unwrap();
    (one, two)
}

impl Node {
    async fn look(&self) {
        let looked = self.rig.invoker.ring(&guest(), &name("t")).await;
        if !matches!(looked, Ok(_) | Err(Error::Store(store::Error::Conflict))) {
            panic!("{looked:?}");
        }
        self.rig.settled().await;
    }

    async fn fires(&self) -> Vec<Arc<Activation>> {
        self.rig.store.activations.flush().await.unwrap();
        let filter = ActivationFilter {
            name: Some(name("t")),
            ..ActivationFilter::default()
        };
        let page = Page {
            skip: 0,
            limit: 200,
        };
        let (activations, guest) = (&self.rig.store.activations, guest());
        activations.list(&guest, &filter, page).await.unwrap()
    }

    async fn read(&self) -> Read {
        let read = self.rig.invoker.read(&guest(), &name("t")).await;
        read.unwrap().unwrap()
    }

    /// Makes the latest time due again.
    async fn rewind(&self) -> Timestamp {
        let Read {
            mut schedule,
            revision,
        } = self.read().await;
        let now = Timestamp::now().millis();
        schedule.start = Some(Timestamp(now - 10 - HOUR_MS));
        schedule.last = Timestamp(now - 11);
        let (namespace, trigger) = (guest(), name("t"));
        let written = self
            .rig
            .invoker
            .write(&namespace, &trigger, &schedule, revision);
        written.await.unwrap();
        Timestamp(now - 10)
    }

    /// The first step of a fire alone, as of a node that dies right after it.
    async fn promise(&self, due: Timestamp) -> ActivationId {
        let trigger = match self.rig.catalog.get::<Trigger>(&fqn("t")).await.unwrap() {
            Found::Is(trigger, _) => trigger,
            other => panic!("{other:?}"),
        };
        assert_eq!(trigger.version, Version(0, 0, 7));
        let fire = Fire {
            id: fire_id(self.read().await.schedule.generation, due),
            trigger,
            payload: payload(&json!({})),
            headers: Vec::new(),
            transaction: "tid".into(),
        };
        let aimed = self.rig.invoker.aim(&caller(true), fire).await.unwrap();
        let (mut fired, _) = aimed.expect("heard");
        fired.due = Some(due);
        fired.by = Some(new_id());
        drop(self.rig.invoker.promise_fire(&fired).await.unwrap());
        fired.id
    }

    /// Takes up what the other had promised.
    async fn take_up(&self, dead: &str) -> usize {
        let found = self
            .shared
            .homes
            .adopt(dead, &Seal::default())
            .await
            .unwrap();
        let count = found.len();
        for pending in found {
            assert!(self.rig.invoker.recover_event(&pending).await.unwrap());
        }
        self.rig.settled().await;
        count
    }

    fn runs(&self) -> usize {
        self.rig.fake.seen().runs
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_is_fired_by_one_of_the_nodes_that_find_it_due() {
    const ROUNDS: usize = 25;
    let (one, two) = two().await;
    for _ in 0..ROUNDS {
        tokio::join!(one.look(), two.look());
        one.rewind().await;
    }
    tokio::join!(one.look(), two.look());
    assert_eq!(one.fires().await.len(), ROUNDS + 1);
    assert_eq!(one.runs() + two.runs(), ROUNDS + 1);
    for node in [&one, &two] {
        let pending = node.rig.store.accepted.pending().await.unwrap();
        assert!(pending.is_empty(), "{pending:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_that_a_dead_node_had_promised_is_fired_once() {
    let (one, two) = two().await;
    one.look().await;
    let due = one.rewind().await;
    // It dies before it could note it, and nobody else was quicker.
    let id = one.promise(due).await;
    assert_eq!(two.take_up("one").await, 1);
    two.look().await;
    assert_eq!(two.read().await.schedule.last, due);
    let fires = two.fires().await;
    assert_eq!(fires.len(), 2);
    assert_eq!(fires[0].id, id);
    assert_eq!(two.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_that_another_fired_is_not_fired_again_for_the_dead() {
    let (one, two) = two().await;
    let due = one.rewind().await;
    one.promise(due).await;
    two.look().await;
    assert_eq!((two.runs(), two.fires().await.len()), (1, 1));
    assert_eq!(two.take_up("one").await, 1);
    assert_eq!((two.runs(), two.fires().await.len()), (1, 1));
    let pending = two.rig.store.accepted.pending().await.unwrap();
    assert!(pending.is_empty(), "{pending:?}");
    assert_eq!(two.take_up("two").await, 0, "the promise is taken back");
}
