//! The core ABI: answers, deaths, deadlines, memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::harness::*;
use crate::sandbox::engine::Class;
use crate::sandbox::{Outcome, Sandbox, StartError};

const LOOP: &str = "(loop $again (br $again)) (unreachable)";

#[tokio::test]
async fn a_call_answers_and_the_instance_may_serve_again() {
    let lab = Lab::new();
    for code in [core("1 1", "", ECHO), large("", ECHO)] {
        let mut instance = lab.instance(&code).await;
        for params in ["{}", "{\"a\":1}", "{\"b\":[1,2,3]}"] {
            let run = instance.run(input(params)).await.unwrap();
            assert_eq!(run.outcome, answered(params));
            assert!(instance.reusable());
        }
        assert!(instance.memory_bytes() > 64 << 10);
    }
}

#[tokio::test]
async fn globals_survive_between_runs_of_one_instance() {
    let lab = Lab::new();
    let code = core(
        "1 1",
        "(global $n (mut i32) (i32.const 48))",
        "(global.set $n (i32.add (global.get $n) (i32.const 1)))
         (i32.store8 (i32.const 8) (global.get $n)) (i64.const 0x800000001)",
    );
    let mut instance = lab.instance(&code).await;
    for expected in ["1", "2", "3"] {
        assert_eq!(
            instance.run(input("{}")).await.unwrap().outcome,
            answered(expected)
        );
    }
}

#[tokio::test]
async fn deaths_are_told_apart() {
    let lab = Lab::new();
    let recursion = core("1 1", "(func $f (call $f))", "(call $f) (i64.const 0)");
    let deaths = [
        (core("1 1", "", "(unreachable)"), "unreachable"),
        (
            core(
                "1 1",
                "",
                "(drop (i32.div_s (i32.const 1) (i32.const 0))) (i64.const 0)",
            ),
            "divide by zero",
        ),
        (
            core("1 1", "", "(i64.load (i32.const 65532))"),
            "out of bounds memory access",
        ),
        (
            large("", "(i64.load (i32.const -8))"),
            "out of bounds memory access",
        ),
        (recursion, "exhausted its call stack"),
        (
            core("1 1", "", "(i64.const 0xffffffff00000010)"),
            "outside memory",
        ),
        (
            core("1 1", "", "(i64.const 0x10ffffffff)"),
            "outside memory",
        ),
    ];
    for (code, words) in deaths {
        let mut instance = lab.instance(&code).await;
        match instance.run(input("{}")).await.unwrap().outcome {
            Outcome::Died(text) => assert!(text.contains(words), "{words}: {text}"),
            other => panic!("{words}: {other:?}"),
        }
        assert!(!instance.reusable());
    }
}

#[tokio::test]
async fn an_allocator_that_lies_is_caught() {
    let lab = Lab::new();
    for (pointer, words) in [
        ("0", "no room"),
        ("65535", "outside memory"),
        ("-1", "outside memory"),
    ] {
        let code =
            core("1 1", "", ECHO).replace("(i32.const 1024)", &format!("(i32.const {pointer})"));
        match lab.outcome(&code).await {
            Outcome::Died(text) => assert!(text.contains(words), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_result_over_the_limit_is_cut() {
    let lab = Lab::new();
    let mut instance = lab.instance(&core("1 1", "", ECHO)).await;
    let run = instance
        .run(crate::sandbox::Input {
            result_bytes_max: 4,
            ..input("{\"a\":12345}")
        })
        .await
        .unwrap();
    let expected = Outcome::TooLarge {
        size: 11,
        prefix: "{\"a\"".into(),
    };
    assert_eq!(run.outcome, expected);
    assert!(!instance.reusable());
}

#[tokio::test]
async fn an_endless_loop_ends_at_its_deadline() {
    let lab = Lab::new();
    for code in [core("1 1", "", LOOP), large("", LOOP)] {
        let mut instance = lab.instance(&code).await;
        let begin = Instant::now();
        let run = instance
            .run(input_for(Duration::from_millis(50)))
            .await
            .unwrap();
        assert_eq!(run.outcome, Outcome::TimedOut);
        let took = begin.elapsed();
        assert!(
            took >= Duration::from_millis(50) && took < Duration::from_millis(500),
            "{took:?}"
        );
        assert!(!instance.reusable());
    }
}

#[tokio::test]
async fn an_endless_start_ends_at_its_deadline() {
    let lab = Lab::new();
    let init = core(
        "1 1",
        "(func (export \"_initialize\") (loop $again (br $again)))",
        ECHO,
    );
    let start = core(
        "1 1",
        "(func $s (loop $again (br $again))) (start $s)",
        ECHO,
    );
    for code in [init, start] {
        let program = lab.program(&code).await;
        let mut limits = limits();
        limits.deadline = Instant::now() + Duration::from_millis(30);
        match program.instantiate(limits, Purse::full()).await {
            Err(StartError::Guest(run)) => assert_eq!(run.outcome, Outcome::TimedOut),
            other => panic!("{:?}", other.err()),
        }
    }
}

#[tokio::test]
async fn spinning_guests_share_one_thread() {
    let lab = Lab::new();
    let mut spinner = lab.instance(&core("1 1", "", LOOP)).await;
    let mut echo = lab.instance(&core("1 1", "", ECHO)).await;
    let spin = spinner.run(input_for(Duration::from_millis(300)));
    let begin = Instant::now();
    let calls = async {
        for _ in 0..20 {
            tokio::task::yield_now().await;
            echo.run(input("{}")).await.unwrap();
        }
        begin.elapsed()
    };
    let (_, took) = tokio::join!(spin, calls);
    assert!(took < Duration::from_millis(200), "{took:?}");
}

const BOMB: &str = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";

#[tokio::test]
async fn a_memory_bomb_is_out_of_memory_and_a_poor_node_has_no_room() {
    let lab = Lab::new();
    let code = core("1", "", BOMB);
    let run = lab.run(&code, input("{}")).await;
    assert_eq!(run.outcome, Outcome::OutOfMemory);
    assert!(run.peak_memory_bytes > 15 << 20 && run.peak_memory_bytes <= 16 << 20);

    let program = lab.program(&code).await;
    let started = program.instantiate(limits(), Purse::of(2 << 20)).await;
    let mut instance = started.ok().unwrap().instance;
    assert_eq!(
        instance.run(input("{}")).await.unwrap().outcome,
        Outcome::NoRoom
    );
    assert!(!instance.reusable());
}

#[tokio::test]
async fn tables_count_as_memory() {
    let lab = Lab::new();
    let grow = "(loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1)))) (unreachable)";
    let code = core("1", "(table $t 1 funcref)", grow);
    let program = lab.program(&code).await;
    let mut limits = limits();
    limits.memory_bytes_max = program.memory_bytes_min() + 10_000;
    let mut instance = program
        .instantiate(limits, Purse::full())
        .await
        .ok()
        .unwrap()
        .instance;
    assert_eq!(
        instance.run(input("{}")).await.unwrap().outcome,
        Outcome::OutOfMemory
    );
}

#[tokio::test]
async fn more_memory_at_the_start_than_allowed_is_out_of_memory() {
    let lab = Lab::new();
    let program = lab.program(&core("512", "", ECHO)).await;
    match program.instantiate(limits(), Purse::full()).await {
        Err(StartError::Guest(run)) => assert_eq!(run.outcome, Outcome::OutOfMemory),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn a_full_pool_has_no_slot_until_an_instance_goes() {
    let lab = Lab::with(crate::sandbox::Config {
        small_slots: Some(2),
        large_slots: Some(1),
        ..config()
    });
    let (small, big) = (core("1 1", "", ECHO), large("", ECHO));
    let first = lab.instance(&small).await;
    let second = lab.instance(&small).await;
    assert!(matches!(
        lab.start(&small).await,
        Err(StartError::NoSlot(2))
    ));
    assert_eq!(lab.sandbox.occupancy().slots_used, 2);
    drop((first, second));
    let only = lab.instance(&big).await;
    assert!(matches!(lab.start(&big).await, Err(StartError::NoSlot(1))));
    drop(only);
    lab.instance(&big).await;
    lab.instance(&small).await;
}

#[tokio::test]
async fn a_slot_is_zero_for_the_next_tenant() {
    let lab = Lab::with(crate::sandbox::Config {
        small_slots: Some(1),
        large_slots: Some(1),
        ..config()
    });
    // One fills its memory from 4,096 up; the other, another module, adds up what it finds there.
    let fill = "(memory.fill (i32.const 4096) (i32.const 0xab) (i32.const 61440)) (i64.const 0x1000000001)";
    let sum = "(local $i i32) (local $s i32)
        (loop $next
          (local.set $s (i32.or (local.get $s) (i32.load8_u (i32.add (i32.const 4096) (local.get $i)))))
          (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 61440))))
        (i32.store8 (i32.const 8) (i32.add (i32.const 48) (local.get $s))) (i64.const 0x800000001)";
    for (dirty, clean) in [
        (core("1 1", "", fill), core("1 1", "", sum)),
        (large("", fill), large("", sum)),
        (
            large("(data (i32.const 16) \"secret\")", fill),
            large("", sum),
        ),
    ] {
        lab.instance(&dirty).await.run(input("{}")).await.unwrap();
        assert_eq!(lab.outcome(&clean).await, answered("0"));
        // And the same when the run was cut off.
        let mut cut = lab
            .instance(&dirty.replace("(i64.const 0x1000000001)", LOOP))
            .await;
        cut.run(input_for(Duration::from_millis(5))).await.unwrap();
        drop(cut);
        assert_eq!(lab.outcome(&clean).await, answered("0"));
    }
}

#[tokio::test]
async fn a_slots_table_is_null_for_the_next_tenant() {
    let lab = Lab::with(crate::sandbox::Config {
        small_slots: Some(1),
        large_slots: Some(1),
        ..config()
    });
    // One has an element of its own and sets others; the other, another module, counts those that are not null.
    let dirty = "(table $t 100 100 funcref) (elem $f declare func $secret) (elem (i32.const 0) $secret) (func $secret)";
    let set = "(local $i i32)
        (loop $next
          (table.set $t (local.get $i) (ref.func $secret))
          (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))
        (i64.const 0x1000000001)";
    let clean = "(table $t 100 100 funcref)";
    let count = "(local $i i32) (local $s i32)
        (loop $next
          (if (i32.eqz (ref.is_null (table.get $t (local.get $i))))
            (then (local.set $s (i32.const 1))))
          (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))
        (i32.store8 (i32.const 8) (i32.add (i32.const 48) (local.get $s))) (i64.const 0x800000001)";
    for (dirty, clean) in [
        (core("1 1", dirty, set), core("1 1", clean, count)),
        (large(dirty, set), large(clean, count)),
    ] {
        lab.instance(&dirty).await.run(input("{}")).await.unwrap();
        assert_eq!(lab.outcome(&clean).await, answered("0"));
        // The count finds what is there: in the dirty module itself.
        let (_, look) = count.split_once("(local $s i32)").unwrap();
        let look = format!("(local.set $i (i32.const 0)) {look}");
        let own = dirty.replace("(local $i i32)", "(local $i i32) (local $s i32)");
        let own = own.replace("(i64.const 0x1000000001)", &look);
        assert_eq!(lab.outcome(&own).await, answered("1"));
        assert_eq!(lab.outcome(&clean).await, answered("0"));
    }
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_an_instance_nobody_may_use() {
    let lab = Lab::new();
    let mut instance = lab.instance(&core("1 1", "", LOOP)).await;
    let run = instance.run(input("{}"));
    assert!(
        tokio::time::timeout(Duration::from_millis(20), run)
            .await
            .is_err()
    );
    assert!(!instance.reusable());
}

#[tokio::test]
async fn context_get_reads_the_runs_variables_before_the_instances() {
    let lab = Lab::new();
    let imports =
        "(import \"wisp\" \"context_get\" (func $get (param i32 i32 i32 i32) (result i32)))
                   (data (i32.const 0) \"__OW_NAMESPACE__OW_ACTIVATION_ID\")";
    let read = |ptr: u32, len: u32| {
        let run = format!(
            "(i64.or (i64.const 0x80000000000) (i64.extend_i32_u
               (call $get (i32.const {ptr}) (i32.const {len}) (i32.const 2048) (i32.const 100))))"
        );
        core("1 1", imports, &run)
    };
    assert_eq!(lab.outcome(&read(0, 14)).await, answered("guest"));
    assert_eq!(lab.outcome(&read(14, 18)).await, answered("abc"));
    let Outcome::Died(text) = lab.outcome(&read(70_000, 18)).await else {
        panic!("a name outside memory");
    };
    assert!(text.contains("outside memory"), "{text}");
}

#[tokio::test]
async fn more_idle_instances_than_stacks_all_serve_again() {
    let lab = Lab::with(crate::sandbox::Config {
        small_slots: Some(64),
        stacks: 4,
        ..config()
    });
    for code in [
        core("1 1", "(func (export \"_initialize\"))", ECHO),
        large("", ECHO),
    ] {
        let mut idle = Vec::new();
        for _ in 0..12 {
            idle.push(lab.instance(&code).await);
        }
        for _ in 0..3 {
            for instance in &mut idle {
                let run = instance.run(input("{\"a\":1}")).await.unwrap();
                assert_eq!(run.outcome, answered("{\"a\":1}"));
                assert!(instance.reusable());
            }
        }
    }
}

#[tokio::test]
async fn a_stack_that_was_used_deeply_is_not_kept() {
    let lab = Lab::new();
    let stacks = Arc::clone(lab.sandbox.inner.engines.stacks(Class::Large));
    // Parameters longer than `{}` make it call itself 20,000 times.
    let down = "(func $down (param i32) (result i32)
        (if (result i32) (local.get 0)
          (then (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))
          (else (i32.const 0))))";
    let run = format!(
        "(drop (call $down (select (i32.const 20000) (i32.const 1) (i32.gt_u (local.get $len) (i32.const 2))))) {ECHO}"
    );
    let mut instance = lab.instance(&large(down, &run)).await;
    for (params, kept) in [("{}", 1), ("{\"deep\":1}", 0), ("{}", 1), ("{}", 1)] {
        let run = instance.run(input(params)).await.unwrap();
        assert_eq!(run.outcome, answered(params));
        assert_eq!(stacks.kept(), kept, "{params}");
    }
}

#[tokio::test]
async fn stacks_go_from_instances_that_wait_to_those_that_run() {
    // Of 16 stacks 12 may be kept.
    let lab = Lab::new();
    let stacks = Arc::clone(lab.sandbox.inner.engines.stacks(Class::Large));
    let code = large("", ECHO);
    let mut instances = Vec::new();
    for _ in 0..14 {
        instances.push(lab.instance(&code).await);
    }
    assert_eq!(stacks.kept(), 12);
    let (waiting, running) = instances.split_at_mut(12);
    let rested = waiting
        .iter_mut()
        .filter_map(|one| one.rest().then_some(()));
    assert_eq!(
        rested.count(),
        6,
        "half of what may be kept is nobody's hurry"
    );
    assert_eq!(stacks.kept(), 6);
    for instance in running.iter_mut().chain(waiting.first_mut()) {
        let run = instance.run(input("{}")).await.unwrap();
        assert_eq!(run.outcome, answered("{}"));
    }
    assert_eq!(stacks.kept(), 9);
}

#[tokio::test]
async fn pages_that_all_instances_write_to_are_there_when_the_next_begins() {
    const PAGE: usize = 4096;
    let lab = Lab::new();
    // Page 7 is written to by every run, page 9 by those with parameters.
    let run = format!(
        "(i32.store (i32.const {}) (i32.const 1))
         (if (i32.gt_u (local.get $len) (i32.const 2)) (then (i32.store (i32.const {}) (i32.const 1)))) {ECHO}",
        7 * PAGE,
        9 * PAGE
    );
    let code = large("", &run);
    let prepared = lab.sandbox.prepare(code.as_str().into()).await.unwrap();
    let linked = lab.sandbox.inner.programs.get(&prepared.program).unwrap();
    let (prefault, _) = linked.prefault().expect("a large core module");
    let mut instances = Vec::new();
    for params in ["{}", "{\"a\":1}", "{\"a\":1}"] {
        assert_eq!(prefault.stretches(), None, "three are looked at");
        let mut instance = lab.instance(&code).await;
        instance.run(input(params)).await.unwrap();
        instances.push(instance);
    }
    let stretches = prefault.stretches().expect("three were looked at");
    let has = |page: usize| stretches.iter().any(|one| one.contains(&(page * PAGE)));
    assert!(has(7) && !has(9), "{stretches:?}");
    instances.push(lab.instance(&code).await);
    for instance in &mut instances {
        let run = instance.run(input("{\"b\":2}")).await.unwrap();
        assert_eq!(run.outcome, answered("{\"b\":2}"));
    }
}
