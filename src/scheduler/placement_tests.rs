//! Placement, decision by decision.

use super::*;

const fn node(hash: u64, permits_free: u32) -> NodeView {
    NodeView {
        hash,
        permits_free,
        permits: 100,
        bytes_free: 1 << 30,
    }
}

/// Hashes as ids would give them.
fn hashes(count: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(|n| weight(n, 7))
}

fn cluster(count: u64) -> Vec<NodeView> {
    hashes(count).map(|hash| node(hash, 100)).collect()
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn due(namespace: u64, runtime: u64, age_ms: u64) -> Due {
    Due {
        namespace,
        runtime,
        age: ms(age_ms),
        warmth: Warmth::Warm,
        told: false,
        backlog: u32::MAX,
    }
}

fn asked(due: &[Due], node: &NodeView) -> Vec<(usize, u32)> {
    let asks = asks(due, node);
    asks.iter().map(|ask| (ask.lane, ask.runs)).collect()
}

#[test]
fn who_holds_a_lane_is_told_while_it_has_permits_and_the_freest_of_several() {
    let mut nodes = cluster(10);
    let holders = [NodeIndex(3), NodeIndex(8)];
    nodes[3].permits_free = 1;
    nodes[8].permits_free = 2;
    assert_eq!(home(5, &nodes, &holders), Some(NodeIndex(8)));
    nodes[8].permits_free = 0;
    assert_eq!(home(5, &nodes, &holders), Some(NodeIndex(3)));
    nodes[3].permits_free = 0;
    let spilt = home(5, &nodes, &holders).unwrap();
    assert!(!holders.contains(&spilt));
}

#[test]
fn a_holder_that_has_left_is_no_holder() {
    assert_eq!(home(5, &cluster(1), &[NodeIndex(9)]), Some(NodeIndex(0)));
}

#[test]
fn lanes_spread_evenly_over_nodes() {
    let nodes = cluster(100);
    let mut lanes = vec![0u32; nodes.len()];
    for lane in hashes(100_000) {
        lanes[home(lane, &nodes, &[]).unwrap().0] += 1;
    }
    let (least, most) = (lanes.iter().min(), lanes.iter().max());
    assert!(
        least > Some(&850) && most < Some(&1_150),
        "{least:?} to {most:?}"
    );
}

#[test]
fn when_a_node_leaves_only_its_lanes_move() {
    let before = cluster(50);
    let mut after = before.clone();
    let gone = after.pop().unwrap();
    for lane in hashes(5_000) {
        let home_before = before[home(lane, &before, &[]).unwrap().0];
        let home_after = after[home(lane, &after, &[]).unwrap().0];
        assert!(home_before == gone || home_before == home_after);
    }
}

#[test]
fn a_crowded_home_hands_on_to_the_same_second_one_every_time_and_only_when_that_is_freer() {
    let mut nodes = cluster(20);
    let first = home(99, &nodes, &[]).unwrap();
    nodes[first.0].permits_free = 25;
    assert_eq!(home(99, &nodes, &[]), Some(first), "a quarter is enough");
    nodes[first.0].permits_free = 24;
    let second = home(99, &nodes, &[]).unwrap();
    assert_ne!(second, first);
    nodes[first.0].permits_free = 0;
    assert_eq!(home(99, &nodes, &[]), Some(second));
    (nodes[first.0].permits_free, nodes[second.0].permits_free) = (20, 10);
    assert_eq!(home(99, &nodes, &[]), Some(first));
}

#[test]
fn without_permits_or_memory_nobody_is_told() {
    let full = node(1, 0);
    let mut poor = node(2, 50);
    poor.bytes_free = BYTES_WANTED - 1;
    assert_eq!(home(1, &[full, poor], &[]), None);
    assert_eq!(
        home(1, &[full, poor], &[NodeIndex(1)]),
        Some(NodeIndex(1)),
        "it has instances"
    );
    assert_eq!(home(1, &[], &[]), None);
}

#[test]
fn code_is_fetched_for_a_call_only_where_the_lane_is_called_often() {
    let keep = Duration::from_secs(60);
    assert!(is_worth_starting(Warmth::Warm, None, keep));
    assert!(is_worth_starting(Warmth::Code, None, keep));
    assert!(!is_worth_starting(Warmth::Cold, None, keep));
    assert!(!is_worth_starting(Warmth::Cold, Some(keep), keep));
    assert!(is_worth_starting(Warmth::Cold, Some(ms(59_999)), keep));
}

#[test]
fn the_colder_and_the_busier_wait_longer_and_nobody_longer_than_the_most() {
    let (idle, full) = (node(1, 100), node(1, 0));
    let all = [Warmth::Warm, Warmth::Code, Warmth::Cold];
    for warmth in all {
        assert!(patience(warmth, &idle) < patience(warmth, &full));
        assert!(patience(warmth, &full) <= PATIENCE_MAX);
    }
    assert!(all.is_sorted_by_key(|&warmth| patience(warmth, &idle)));
    // However busy the warm are, they come before the idle who have less.
    assert!(patience(Warmth::Warm, &full) < patience(Warmth::Code, &idle));
    assert!(patience(Warmth::Code, &full) < patience(Warmth::Cold, &idle));
    let none = NodeView { permits: 0, ..full };
    assert_eq!(
        patience(Warmth::Warm, &none),
        patience(Warmth::Warm, &idle),
        "and no division by zero"
    );
}

#[test]
fn a_lane_is_left_to_the_warmer_until_patience_is_over_unless_told() {
    let node = node(1, 100);
    let cold = Due {
        warmth: Warmth::Cold,
        ..due(1, 0, 3)
    };
    assert_eq!(asked(&[cold], &node), []);
    assert_eq!(
        asked(
            &[Due {
                age: ms(12),
                ..cold
            }],
            &node
        ),
        [(0, 64)]
    );
    assert_eq!(asked(&[Due { told: true, ..cold }], &node), [(0, 64)]);
}

#[test]
fn namespaces_take_turns_the_least_served_first_then_the_longest_due() {
    let node = node(1, 100);
    let lanes = [
        due(1, 10, 500),
        due(1, 10, 900),
        due(1, 10, 700),
        due(2, 30, 50),
        due(3, 20, 40),
        due(3, 20, 60),
    ];
    let order: Vec<usize> = asked(&lanes, &node).iter().map(|ask| ask.0).collect();
    assert_eq!(order, [1, 5, 3, 2, 4, 0]);
}

#[test]
fn permits_are_shared_evenly_and_what_is_not_needed_goes_to_the_first() {
    let brief = Due {
        backlog: 2,
        ..due(1, 0, 50)
    };
    let lanes = [brief, due(2, 1, 50), due(3, 2, 50)];
    assert_eq!(asked(&lanes, &node(1, 30)), [(0, 2), (1, 18), (2, 10)]);
    assert_eq!(asked(&lanes, &node(1, 2)), [(0, 1), (1, 1)]);
    assert_eq!(asked(&lanes, &node(1, 0)), []);
    let empty = Due {
        backlog: 0,
        ..brief
    };
    assert_eq!(
        asked(&[empty], &node(1, 9)),
        [(0, 1)],
        "it is due, so somebody must look"
    );
}

#[test]
fn no_more_is_asked_for_than_there_are_permits_and_never_too_much_at_once() {
    for free in [1, 7, 64, 1_000, u32::MAX] {
        let node = NodeView {
            permits_free: free,
            permits: free,
            ..node(1, 0)
        };
        let lanes: Vec<Due> = (0..100).map(|n| due(n % 7, n, 50 + n)).collect();
        let asks = asks(&lanes, &node);
        let sum: u32 = asks.iter().map(|ask| ask.runs).sum();
        assert!(sum <= free && asks.len() <= LANES_ASKED_MAX);
        assert!(
            asks.iter()
                .all(|ask| (1..=RUNS_ASKED_MAX).contains(&ask.runs))
        );
    }
}

#[test]
fn the_whole_cluster_looks_at_a_steady_rate() {
    for nodes in [10usize, 100, 1_000] {
        let rate: f64 = (0..256)
            .map(|random| 1.0 / look_after(nodes, false, random).as_secs_f64())
            .sum();
        let rate = rate / 256.0 * f64::from(u32::try_from(nodes).unwrap());
        assert!(
            (300.0..500.0).contains(&rate),
            "{nodes} nodes look {rate} times a second"
        );
    }
    assert!(look_after(1, false, 0) >= LOOK_MIN / 2);
    assert!(look_after(usize::MAX, false, u64::MAX) <= LOOK_MAX * 3 / 2);
    assert!(look_after(1_000, true, 9) < LOOK_MIN);
}

#[test]
fn what_nodes_read_of_each_other_does_not_grow_with_the_square_of_their_number() {
    assert_eq!(views_after(3), Duration::from_secs(1));
    assert_eq!(views_after(300), Duration::from_secs(1));
    assert_eq!(views_after(1_000), Duration::from_secs(10));
    assert_eq!(views_after(usize::MAX), Duration::from_secs(60));
}

#[test]
fn unused_slots_go_back_after_a_while_and_at_once_when_somebody_wants_them() {
    let holding = Holding {
        held: 10,
        busy: 2,
        peak: 6,
        unused_for: Duration::ZERO,
        wanted: false,
    };
    assert_eq!(surplus(&holding), 4);
    assert_eq!(
        surplus(&Holding {
            wanted: true,
            ..holding
        }),
        8
    );
    let quiet = Holding {
        held: 3,
        busy: 0,
        peak: 0,
        ..holding
    };
    assert_eq!(surplus(&quiet), 2, "the last one is kept");
    assert_eq!(
        surplus(&Holding {
            unused_for: KEEP,
            ..quiet
        }),
        3
    );
    assert_eq!(
        surplus(&Holding {
            held: 1,
            busy: 3,
            ..holding
        }),
        0
    );
}
