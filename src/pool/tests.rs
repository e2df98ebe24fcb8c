use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{Busy, Claim, Config, Lease, Pool, Start, StartFailure};
use crate::model::{
    Action, ActionLimits, Annotations, Code, Digest, Exec, Fqn, Json, Namespace, Parameters,
    Timestamp, Version,
};
use crate::sandbox::fake::{Fake, Script};
use crate::sandbox::{CodeSource, Input, Outcome, Source};

const MIB: usize = 1 << 20;

struct NoCode;

#[async_trait]
impl CodeSource for NoCode {
    async fn source(&self) -> Option<Source> {
        None
    }
}

fn namespace(name: &str) -> Namespace {
    Namespace::parse(name).expect("legal")
}

fn action(program: Digest, instances: Option<u64>) -> Arc<Action> {
    let exec = Exec::Code(Code {
        http: false,
        kind: "wasm:1".to_owned(),
        main: None,
        binary: false,
        code: program,
        code_size: 1,
        program,
    });
    Arc::new(Action {
        fqn: Fqn::parse("guest/a", &namespace("guest")).expect("legal"),
        version: Version::FIRST,
        publish: false,
        updated: Timestamp(1),
        exec,
        parameters: Parameters::default(),
        limits: ActionLimits {
            instances,
            ..ActionLimits::default()
        },
        annotations: Annotations::default(),
        revision: 0,
        reached: None,
    })
}

fn pool(fake: &Arc<Fake>, budget: usize) -> Pool {
    Pool::new(&Config::default(), Arc::clone(fake) as _, budget)
}

async fn started(claim: Claim) -> Lease {
    match claim {
        Claim::Warm(lease) => lease,
        Claim::Cold(ticket) => start(ticket).await.expect("it starts"),
    }
}

async fn start(ticket: super::Ticket) -> Result<Lease, StartFailure> {
    let start = Start {
        code: &NoCode,
        memory_bytes_max: 256 * MIB,
        deadline: Instant::now() + Duration::from_secs(60),
        log_bytes_max: 0,
        serves: None,
    };
    ticket.start(start).await.map(|(lease, _)| lease)
}

async fn run(lease: &mut Lease) -> Outcome {
    let input = Input {
        id: crate::model::ActivationId(1),
        exchange: None,
        params: Bytes::from_static(b"{}"),
        env: Vec::new(),
        deadline: Instant::now() + Duration::from_secs(60),
        log_bytes_max: 0,
        result_bytes_max: MIB,
    };
    lease
        .run(input)
        .expect("it has an instance")
        .await
        .expect("the host works")
        .outcome
}

#[tokio::test]
async fn a_returned_instance_serves_the_next_claim() {
    let fake = Fake::new(10);
    let action = action(fake.add("a", Script::default()), None);
    let pool = pool(&fake, 100 * MIB);
    let guest = namespace("guest");
    for _ in 0..3 {
        let mut lease = started(pool.claim(&guest, &action).expect("room")).await;
        run(&mut lease).await;
        lease.give_back();
    }
    assert_eq!(fake.seen().starts, 1);
    assert_eq!(pool.occupancy().idle, 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_idle_for_a_while_rests_once() {
    let fake = Fake::new(10);
    let action = action(fake.add("a", Script::default()), None);
    let pool = pool(&fake, 100 * MIB);
    let guest = namespace("guest");
    let two = [(); 2].map(|()| pool.claim(&guest, &action).expect("room"));
    for claim in two {
        started(claim).await.give_back();
    }
    pool.reap();
    assert_eq!(fake.seen().rests, 0, "both were in use a moment ago");
    tokio::time::advance(Duration::from_secs(1)).await;
    pool.reap();
    pool.reap();
    assert_eq!(fake.seen().rests, 2);
    started(pool.claim(&guest, &action).expect("room"))
        .await
        .give_back();
    tokio::time::advance(Duration::from_secs(1)).await;
    pool.reap();
    assert_eq!(fake.seen().rests, 3, "one was used in between");
}

#[tokio::test]
async fn namespaces_never_share_an_instance() {
    let fake = Fake::new(10);
    let action = action(fake.add("a", Script::default()), None);
    let pool = pool(&fake, 100 * MIB);
    for name in ["one", "two"] {
        started(pool.claim(&namespace(name), &action).expect("room"))
            .await
            .give_back();
    }
    assert_eq!(fake.seen().starts, 2);
}

#[tokio::test]
async fn a_new_version_ends_the_instances_of_the_old_one() {
    let fake = Fake::new(10);
    let old = action(fake.add("a", Script::default()), None);
    let pool = pool(&fake, 100 * MIB);
    let guest = namespace("guest");
    started(pool.claim(&guest, &old).expect("room"))
        .await
        .give_back();
    let running = started(pool.claim(&guest, &old).expect("room")).await;
    let new = Arc::new(Action {
        version: Version(0, 0, 2),
        ..(*old).clone()
    });
    started(pool.claim(&guest, &new).expect("room"))
        .await
        .give_back();
    running.give_back();
    assert_eq!(
        pool.occupancy().idle,
        1,
        "the old one that was running is gone, too"
    );
    assert_eq!(fake.seen().live, 1);
}

#[tokio::test]
async fn an_action_that_was_read_anew_keeps_its_instances() {
    let fake = Fake::new(10);
    let first = action(fake.add("a", Script::default()), None);
    let again = Arc::new((*first).clone());
    let pool = pool(&fake, 100 * MIB);
    let guest = namespace("guest");
    for action in [&first, &again, &first] {
        started(pool.claim(&guest, action).expect("room"))
            .await
            .give_back();
    }
    assert_eq!(fake.seen().starts, 1);
}

#[tokio::test]
async fn an_address_that_another_action_has_now_leads_to_that_action() {
    let fake = Fake::new(40);
    let digest = fake.add("a", Script::default());
    let pool = pool(&fake, 100 * MIB);
    let guest = namespace("guest");
    // Each is freed before the next is made, which as a rule gets its memory.
    for index in 0..20 {
        let mut one = (*action(digest, None)).clone();
        one.fqn = Fqn::parse(&format!("guest/a{index}"), &guest).expect("legal");
        one.version = Version(0, 0, 2);
        let one = Arc::new(one);
        let lease = started(pool.claim(&guest, &one).expect("room")).await;
        let named = ("__OW_ACTION_NAME".to_owned(), format!("/guest/a{index}"));
        assert!(lease.facts().env.contains(&named), "{named:?}");
        lease.give_back();
        let newer = Action {
            version: Version(0, 0, 3),
            ..(*one).clone()
        };
        drop(one);
        started(pool.claim(&guest, &Arc::new(newer)).expect("room"))
            .await
            .give_back();
    }
    assert_eq!(pool.occupancy().lanes, 20);
    assert_eq!(pool.occupancy().idle, 20);
}

#[tokio::test]
async fn a_dead_guest_is_not_reused_and_gives_its_memory_back() {
    let fake = Fake::new(10);
    let action = action(
        fake.add("a", Script::ends(Outcome::Died("trap".to_owned()))),
        None,
    );
    let pool = pool(&fake, 100 * MIB);
    let mut lease = started(pool.claim(&namespace("guest"), &action).expect("room")).await;
    run(&mut lease).await;
    lease.give_back();
    let occupancy = pool.occupancy();
    assert_eq!(
        (
            occupancy.idle,
            occupancy.running,
            occupancy.memory_used_bytes
        ),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn the_actions_limit_is_exact() {
    let fake = Fake::new(100);
    let action = action(fake.add("a", Script::default()), Some(2));
    let pool = pool(&fake, 100 * MIB);
    let guest = namespace("guest");
    let first = pool.claim(&guest, &action).expect("room");
    let second = pool.claim(&guest, &action).expect("room");
    assert_eq!(pool.claim(&guest, &action).err(), Some(Busy::Action));
    drop(first);
    let third = pool.claim(&guest, &action).expect("room again");
    assert_eq!(pool.claim(&guest, &action).err(), Some(Busy::Action));
    drop((second, third));
    assert_eq!(pool.occupancy().running, 0);
    assert_eq!(pool.occupancy().memory_used_bytes, 0);
}

#[tokio::test]
async fn idle_instances_make_room_for_live_work_and_the_budget_holds() {
    let fake = Fake::new(100);
    let script = || Script {
        memory_bytes_min: 10 * MIB,
        ..Script::default()
    };
    let pool = pool(&fake, 35 * MIB);
    let guest = namespace("guest");
    let first = action(fake.add("first", script()), None);
    let other = Action {
        fqn: Fqn::parse("guest/b", &guest).expect("legal"),
        ..(*action(fake.add("second", script()), None)).clone()
    };
    let other = Arc::new(other);
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(started(pool.claim(&guest, &first).expect("room")).await);
    }
    leases.into_iter().for_each(Lease::give_back);
    assert_eq!(pool.occupancy().idle, 3);
    let mut live = Vec::new();
    for _ in 0..3 {
        live.push(started(pool.claim(&guest, &other).expect("idle ones go")).await);
        assert!(pool.occupancy().memory_used_bytes <= 35 * MIB);
    }
    assert_eq!(fake.seen().live, 3, "the idle ones ended");
    let full = pool.claim(&guest, &other);
    match full {
        Err(busy) => assert_eq!(busy, Busy::Memory),
        Ok(Claim::Cold(ticket)) => {
            assert!(matches!(start(ticket).await, Err(StartFailure::NoRoom)));
        }
        Ok(Claim::Warm(_)) => panic!("nothing is idle"),
    }
    assert_eq!(
        fake.seen().live,
        live.len(),
        "nobody that is leased was ended"
    );
}

#[tokio::test(start_paused = true)]
async fn idle_instances_end_after_the_keep_alive() {
    let fake = Fake::new(10);
    let action = action(fake.add("a", Script::default()), None);
    let pool = pool(&fake, 100 * MIB);
    started(pool.claim(&namespace("guest"), &action).expect("room"))
        .await
        .give_back();
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(pool.reap(), 0);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(pool.reap(), 1);
    let occupancy = pool.occupancy();
    assert_eq!(
        (occupancy.idle, occupancy.memory_used_bytes, occupancy.lanes),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn a_full_set_of_slots_gives_up_an_idle_instance() {
    let fake = Fake::new(1);
    let pool = pool(&fake, 100 * MIB);
    let guest = namespace("guest");
    let one = action(fake.add("one", Script::default()), None);
    started(pool.claim(&guest, &one).expect("room"))
        .await
        .give_back();
    let two = Action {
        fqn: Fqn::parse("guest/b", &guest).expect("legal"),
        ..(*action(fake.add("two", Script::answers("{}")), None)).clone()
    };
    let lease = started(pool.claim(&guest, &Arc::new(two)).expect("memory")).await;
    assert_eq!(fake.seen().live, 1);
    drop(lease);
}

#[tokio::test]
async fn fresh_instance_turns_reuse_off() {
    let fake = Fake::new(10);
    let mut plain = (*action(fake.add("a", Script::default()), None)).clone();
    plain
        .annotations
        .set("fresh-instance", Json::from_serialize(&true));
    let fresh = Arc::new(plain);
    let pool = pool(&fake, 100 * MIB);
    for _ in 0..2 {
        started(pool.claim(&namespace("guest"), &fresh).expect("room"))
            .await
            .give_back();
    }
    assert_eq!(fake.seen().starts, 2);
    assert_eq!(fake.seen().live, 0);
}
