//! Commands of preview 1: stdin to stdout, exit status, waiting, bad pointers.

use std::time::Duration;

use tokio::time::Instant;

use super::harness::*;
use crate::sandbox::{Input, Outcome, StartError, Stream};

/// A command around the body of `_start`.
fn command(extra: &str, body: &str) -> String {
    format!(
        "(module
           (import \"wasi_snapshot_preview1\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))
           (import \"wasi_snapshot_preview1\" \"fd_read\" (func $read (param i32 i32 i32 i32) (result i32)))
           (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
           (import \"wasi_snapshot_preview1\" \"poll_oneoff\" (func $poll (param i32 i32 i32 i32) (result i32)))
           (import \"wasi_snapshot_preview1\" \"environ_get\" (func $environ (param i32 i32) (result i32)))
           (import \"wasi_snapshot_preview1\" \"random_get\" (func $random (param i32 i32) (result i32)))
           (memory (export \"memory\") 1 1)
           {extra}
           (func $put (param $fd i32) (param $ptr i32) (param $len i32)
             (i32.store (i32.const 0) (local.get $ptr)) (i32.store (i32.const 4) (local.get $len))
             (drop (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
           (func (export \"_start\") {body}))"
    )
}

/// Copies stdin to stdout.
const CAT: &str =
    "(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 4096))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $put (i32.const 1) (i32.const 1024) (i32.load (i32.const 8)))";

#[tokio::test]
async fn stdin_is_the_parameters_and_the_last_line_of_stdout_the_result() {
    let lab = Lab::new();
    let code = command(
        "(data (i32.const 100) \"hello\\nwarn\\n\")",
        &format!(
            "(call $put (i32.const 1) (i32.const 100) (i32.const 6))
                  (call $put (i32.const 2) (i32.const 106) (i32.const 5)) {CAT}"
        ),
    );
    let mut instance = lab.instance(&code).await;
    let run = instance.run(input("{\"a\":1}")).await.unwrap();
    assert_eq!(run.outcome, answered("{\"a\":1}"));
    let logs: Vec<_> = run
        .logs
        .iter()
        .map(|line| (line.stream, line.text.as_str()))
        .collect();
    assert_eq!(logs, [(Stream::Stdout, "hello"), (Stream::Stderr, "warn")]);
    assert!(!instance.reusable());
    assert!(instance.run(input("{}")).await.is_err());
}

#[tokio::test]
async fn the_exit_status_decides() {
    let lab = Lab::new();
    let exit = |status: i32, before: &str| {
        command("", &format!("{before} (call $exit (i32.const {status}))"))
    };
    assert_eq!(lab.outcome(&exit(0, CAT)).await, answered("{}"));
    let failed = Outcome::Failed {
        answer: "{}".into(),
        exit: true,
    };
    assert_eq!(lab.outcome(&exit(3, CAT)).await, failed);
    assert!(matches!(lab.outcome(&exit(0, "")).await, Outcome::Died(_)));
    let run = lab
        .run(&command("", &format!("{CAT} (unreachable)")), input("{}"))
        .await;
    assert!(matches!(run.outcome, Outcome::Died(_)));
    let reason = "The action trapped: wasm `unreachable` instruction executed.";
    assert_eq!(texts(&run)[..2], ["{}", reason]);
}

#[tokio::test]
async fn a_flood_of_logs_is_cut_and_the_result_still_found() {
    let lab = Lab::new();
    let code = command(
        "(data (i32.const 100) \"0123456789abcdef0123456789abcdef0123456789abcde\\n\")",
        &format!(
            "(local $i i32) (loop $next (call $put (i32.const 2) (i32.const 100) (i32.const 48))
               (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 20000)))) {CAT}"
        ),
    );
    let run = lab
        .run(
            &code,
            Input {
                log_bytes_max: 10_000,
                ..input("{}")
            },
        )
        .await;
    assert_eq!(run.outcome, answered("{}"));
    assert!(run.logs_truncated);
    assert!(run.logs.len() < 200);
}

/// Waits `nanos` on the monotonic clock.
fn wait(nanos: u64) -> String {
    format!(
        "(i32.store (i32.const 216) (i32.const 1)) (i64.store (i32.const 224) (i64.const {nanos}))
         (drop (call $poll (i32.const 200) (i32.const 300) (i32.const 1) (i32.const 400)))"
    )
}

#[tokio::test]
async fn a_wait_takes_its_time_and_ends_at_the_deadline() {
    let lab = Lab::new();
    let begin = Instant::now();
    let code = command("", &format!("{} {CAT}", wait(30_000_000)));
    assert_eq!(lab.outcome(&code).await, answered("{}"));
    assert!(begin.elapsed() >= Duration::from_millis(30));

    let code = command("", &format!("{} {CAT}", wait(3_600_000_000_000)));
    let mut instance = lab.instance(&code).await;
    let begin = Instant::now();
    let run = instance
        .run(input_for(Duration::from_millis(40)))
        .await
        .unwrap();
    assert_eq!(run.outcome, Outcome::TimedOut);
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_millis(40) && took < Duration::from_millis(400),
        "{took:?}"
    );
}

#[tokio::test]
async fn the_environment_is_the_runs_over_the_instances() {
    let lab = Lab::new();
    // Writes the whole block of variables as one line, zero bytes and all.
    let code = command(
        "",
        "(drop (call $environ (i32.const 512) (i32.const 1024)))
         (call $put (i32.const 1) (i32.const 1024) (i32.const 44))",
    );
    assert_eq!(
        lab.outcome(&code).await,
        answered(
            "OW_ACTIVATION_ID=abc\0__OW_NAMESPACE=guest\0\0\0"
                .to_owned()
                .as_str()
                .replace("OW_ACT", "__OW_ACT")
                .get(..44)
                .unwrap()
        )
    );
}

#[tokio::test]
async fn wrong_pointers_are_error_numbers_and_huge_wishes_are_refused() {
    let lab = Lab::new();
    // Each call's error number must be the one expected, or the guest traps.
    let expect = |call: &str, errno: u32| {
        command(
            "",
            &format!("(if (i32.ne {call} (i32.const {errno})) (then (unreachable))) {CAT}"),
        )
    };
    for (call, errno) in [
        (
            "(call $write (i32.const 1) (i32.const 65532) (i32.const 1) (i32.const 8))",
            21,
        ),
        (
            "(call $write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 8))",
            21,
        ),
        (
            "(call $write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 8))",
            28,
        ),
        (
            "(call $write (i32.const 9) (i32.const 0) (i32.const 1) (i32.const 8))",
            8,
        ),
        (
            "(call $read (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))",
            8,
        ),
        ("(call $random (i32.const 65000) (i32.const 65000))", 21),
        (
            "(call $poll (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8))",
            28,
        ),
        (
            "(call $poll (i32.const 0) (i32.const 0) (i32.const 2000) (i32.const 8))",
            28,
        ),
        ("(call $environ (i32.const -4) (i32.const 0))", 21),
    ] {
        assert_eq!(
            lab.outcome(&expect(call, errno)).await,
            answered("{}"),
            "{call}"
        );
    }
}

#[tokio::test]
async fn an_endless_command_ends_at_its_deadline() {
    let lab = Lab::new();
    let mut instance = lab
        .instance(&command("", "(loop $again (br $again))"))
        .await;
    let run = instance
        .run(input_for(Duration::from_millis(30)))
        .await
        .unwrap();
    assert_eq!(run.outcome, Outcome::TimedOut);
}

#[tokio::test]
async fn a_command_without_a_slot_says_so_before_it_runs() {
    let lab = Lab::with(crate::sandbox::Config {
        small_slots: Some(1),
        ..config()
    });
    let held = lab.instance(&command("", CAT)).await;
    assert!(matches!(
        lab.start(&command("", CAT)).await,
        Err(StartError::NoSlot(1))
    ));
    drop(held);
    assert_eq!(lab.outcome(&command("", CAT)).await, answered("{}"));
}
