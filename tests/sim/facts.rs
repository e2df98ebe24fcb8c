//! What must hold in small clusters, so that it is quick.

use std::time::Duration;

use crate::cluster::{HandOff, Hints, NO_LIMIT, Setup, simulate};
use crate::costs::Kind;
use crate::meter::Meter;
use crate::node::Start;
use crate::stats::Stats;
use crate::workload::{Action, Shape, Workload};

fn setup() -> Setup {
    Setup {
        nodes: 30,
        fronts: 6,
        permits: 64,
        memory_bytes: 4 << 30,
        hints: Hints::WarmFirst,
        hand_off: HandOff::Worth,
        limit: NO_LIMIT,
        keep_alive: Duration::from_secs(60),
        lease: Duration::from_secs(5),
        warm_up: Duration::from_secs(10),
        length: Duration::from_secs(20),
        deaths: None,
        seed: 7,
    }
}

fn load() -> Workload {
    Workload::new(&Shape {
        actions: 3_000,
        rate: Some(600.0),
        runs_divided_by: 100.0,
        seed: 7,
    })
}

fn commands(meter: &Meter, kind: Kind) -> u64 {
    meter.tallies[kind as usize].commands
}

/// Mean slowdown of a namespace.
fn slowdown(stats: &Stats, namespace: usize) -> f64 {
    let share = stats.shares[namespace];
    share.slowdown / share.calls as f64
}

#[test]
fn the_workload_has_the_published_shape() {
    let load = Workload::new(&Shape {
        actions: 100_000,
        rate: None,
        runs_divided_by: 1.0,
        seed: 7,
    });
    let published = [0.31, 0.64, 0.93, 0.993];
    for (share, published) in load.check().into_iter().zip(published) {
        assert!((share - published).abs() < 0.10, "{share} for {published}");
    }
    let seldom = load.actions.iter().filter(|a| a.gap_us >= 60e6).count();
    assert!(
        seldom.abs_diff(92_000) < 500,
        "{seldom} are called less than once a minute"
    );
    let mut runs: Vec<f64> = load.actions.iter().map(|a| a.run_us / 1e6).collect();
    runs.sort_by(f64::total_cmp);
    let median = runs[runs.len() / 2];
    assert!(
        (0.95..1.05).contains(&median),
        "{median} s is the median run"
    );
    let faster = Workload::new(&Shape {
        actions: 100_000,
        rate: Some(load.rate * 2.0),
        runs_divided_by: 1.0,
        seed: 7,
    });
    let times = faster.runs() / load.runs();
    assert!((times - 2.0).abs() < 0.1, "{times} times as many at a time");
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_another() {
    let (setup, load) = (setup(), load());
    let tell = |setup: &Setup| {
        let (stats, meter) = simulate(setup, &load);
        let claims = commands(&meter, Kind::Claim);
        (
            stats.calls,
            stats.starts,
            stats.claims,
            claims,
            stats.waits.max(),
        )
    };
    assert_eq!(tell(&setup), tell(&setup));
    assert_ne!(
        tell(&setup),
        tell(&Setup {
            seed: 8,
            ..setup.clone()
        })
    );
}

#[test]
fn warm_first_starts_fewer_instances_and_disputes_less_than_anybody_does() {
    let load = load();
    let [(warm, meter), (anybody, _)] = [Hints::WarmFirst, Hints::Anybody].map(|hints| {
        let setup = Setup { hints, ..setup() };
        simulate(&setup, &load)
    });
    let share = warm.share(Start::Warm);
    assert!(share > 0.90, "{share} warm");
    assert!(share > anybody.share(Start::Warm) + 0.05);
    assert!(
        warm.conflicts * 100 < warm.claims,
        "{} of {}",
        warm.conflicts,
        warm.claims
    );
    assert!(warm.conflicts * 10 < anybody.conflicts);
    let all: u64 = meter.tallies.iter().map(|tally| tally.commands).sum();
    let a_call = all as f64 / warm.calls as f64;
    assert!(a_call < 10.0, "{a_call} commands a call");
}

#[test]
fn telling_everybody_costs_redis_many_times_what_telling_one_does() {
    let load = load();
    let [one, everybody] = [Hints::WarmFirst, Hints::Everybody].map(|hints| {
        let setup = Setup { hints, ..setup() };
        let (stats, meter) = simulate(&setup, &load);
        meter.cpu_us(0) / stats.calls as f64
    });
    assert!(everybody > one * 4.0, "{everybody} us a call against {one}");
}

#[test]
fn nobody_waits_long_while_there_is_room() {
    let (stats, _) = simulate(&setup(), &load());
    // What was told to a node that is full is found by a look.
    assert!(stats.waits.max() < 100_000, "{} us", stats.waits.max());
    assert!(stats.waits.value_at_quantile(0.99) < 5_000);
    let fair = stats.fairness();
    assert!(
        fair.jain > 0.99 && fair.mean < 1.2 && fair.worst < 2.0,
        "{fair:?}"
    );
    assert!(fair.namespaces > 20);
    assert!(
        stats.unread < 20,
        "{} are on their way at the end",
        stats.unread
    );
}

#[test]
fn what_a_dead_node_ran_runs_elsewhere_within_the_lease_and_a_second() {
    let deaths = Some((6, Duration::from_secs(8)));
    let load = Workload::new(&Shape {
        actions: 3_000,
        rate: Some(600.0),
        runs_divided_by: 10.0,
        seed: 7,
    });
    let (stats, _) = simulate(&Setup { deaths, ..setup() }, &load);
    assert!(stats.redelivered > 10, "{}", stats.redelivered);
    assert!(stats.gap <= 6_000_000, "{} us", stats.gap);
    assert!(stats.unread < 20);
}

#[test]
fn no_action_ever_runs_more_often_at_one_time_than_its_limit() {
    for hand_off in [HandOff::Never, HandOff::Warm, HandOff::Room] {
        let limited = Setup {
            limit: 3,
            hand_off,
            ..setup()
        };
        let (stats, _) = simulate(&limited, &load());
        assert_eq!(stats.runs_most, 3);
        assert!(stats.limited > 0, "somebody was refused");
    }
}

/// Namespace 0 floods with forty actions, half as much again as the cluster can run; twenty others call a little.
fn flood() -> Workload {
    let action = |namespace, gap_us, run_us| Action {
        namespace,
        gap_us,
        variation: 1.0,
        run_us,
        is_blocking: false,
    };
    let flood = (0..40).map(|_| action(0, 40_000.0, 50_000.0));
    let others = (1..=20).map(|namespace| action(namespace, 200_000.0, 10_000.0));
    Workload {
        actions: flood.chain(others).collect(),
        namespaces: 21,
        rate: 1_100.0,
    }
}

#[test]
fn a_flood_of_one_namespace_does_not_slow_down_the_others() {
    let full = Setup {
        nodes: 4,
        fronts: 4,
        permits: 8,
        ..setup()
    };
    let (stats, _) = simulate(&full, &flood());
    let flooder = slowdown(&stats, 0);
    assert!(flooder > 20.0, "it waits for itself: {flooder}");
    for namespace in 1..=20 {
        let other = slowdown(&stats, namespace);
        assert!(other < 5.0, "{namespace} by {other}");
    }
}
