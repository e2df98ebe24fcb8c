//! Components: handlers and commands, their imports, their refusals.

use std::time::Duration;

use super::harness::*;
use crate::sandbox::{Abi, Outcome, Sandbox};

/// A handler whose `run` has `body`; `$ptr` and `$len` are its parameters. It answers the address of a result: a tag,
/// a pointer, a length.
fn handler(interface: &str, body: &str) -> String {
    format!(
        "(component
          (core module $m
            (memory (export \"memory\") 2)
            (global $next (mut i32) (i32.const 4096))
            (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
              (local $at i32) (local.set $at (global.get $next))
              (global.set $next (i32.add (global.get $next) (local.get 3))) (local.get $at))
            (func (export \"run\") (param $ptr i32) (param $len i32) (result i32)
              (global.set $next (i32.const 4096)) {body}))
          (core instance $i (instantiate $m))
          (func $run (param \"params\" string) (result (result string (error string)))
            (canon lift (core func $i \"run\") (memory (core memory $i \"memory\")) (realloc (core func $i \"cabi_realloc\"))))
          (instance $handler (export \"run\" (func $run)))
          (export \"{interface}\" (instance $handler)))"
    )
}

/// Answers the parameters, as `ok` (0) or `err` (1).
fn echo(tag: u32) -> String {
    format!(
        "(i32.store (i32.const 16) (i32.const {tag})) (i32.store (i32.const 20) (local.get $ptr))
         (i32.store (i32.const 24) (local.get $len)) (i32.const 16)"
    )
}

#[tokio::test]
async fn a_handler_answers_and_may_serve_again() {
    let lab = Lab::new();
    for interface in [
        "wisp:action/handler",
        "wisp:action/handler@1.0.0",
        "wisp:action/handler@1.7.2",
    ] {
        let code = handler(interface, &echo(0));
        assert_eq!(
            lab.sandbox.prepare(code.as_str().into()).await.unwrap().abi,
            Abi::Handler
        );
        let mut instance = lab.instance(&code).await;
        for params in ["{}", "{\"a\":1}"] {
            assert_eq!(
                instance.run(input(params)).await.unwrap().outcome,
                answered(params)
            );
            assert!(instance.reusable());
        }
    }
}

#[tokio::test]
async fn a_handlers_err_is_a_failure_that_keeps_it_warm() {
    let lab = Lab::new();
    let mut instance = lab
        .instance(&handler("wisp:action/handler", &echo(1)))
        .await;
    let run = instance.run(input("\"no\"")).await.unwrap();
    let failed = Outcome::Failed {
        answer: "\"no\"".into(),
        exit: false,
    };
    assert_eq!(run.outcome, failed);
    assert!(instance.reusable());
}

#[tokio::test]
async fn a_handlers_deaths_and_deadlines_are_outcomes() {
    let lab = Lab::new();
    let mut instance = lab
        .instance(&handler("wisp:action/handler", "(unreachable)"))
        .await;
    let run = instance.run(input("{}")).await.unwrap();
    assert!(
        matches!(&run.outcome, Outcome::Died(text) if text.contains("unreachable")),
        "{run:?}"
    );
    assert!(!instance.reusable());

    let endless = handler(
        "wisp:action/handler",
        "(loop $again (br $again)) (i32.const 0)",
    );
    let mut instance = lab.instance(&endless).await;
    let run = instance
        .run(input_for(Duration::from_millis(30)))
        .await
        .unwrap();
    assert_eq!(run.outcome, Outcome::TimedOut);

    let lies = handler(
        "wisp:action/handler",
        "(i32.store (i32.const 20) (i32.const -16)) (i32.store (i32.const 24) (i32.const 100)) (i32.const 16)",
    );
    assert!(matches!(lab.outcome(&lies).await, Outcome::Died(_)));
}

#[tokio::test]
async fn a_components_memory_bomb_is_out_of_memory() {
    let lab = Lab::new();
    let bomb = handler(
        "wisp:action/handler",
        "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)",
    );
    assert_eq!(lab.outcome(&bomb).await, Outcome::OutOfMemory);
}

#[tokio::test]
async fn a_component_of_another_shape_is_refused_with_what_it_needs() {
    let lab = Lab::new();
    for (code, words) in [
        ("(component)".to_owned(), "exports nothing"),
        (handler("my:own/thing", &echo(0)), "`my:own/thing`"),
        ("(component (import \"my:own/thing\" (instance)) (import \"a:b/c@2.0.0\" (instance)))".to_owned(), "`my:own/thing`, `a:b/c@2.0.0`"),
        (handler("wisp:action/handler@2.0.0", &echo(0)), "`wisp:action/handler@2.0.0`"),
        (
            "(component (core module $m (func (export \"run\"))) (core instance $i (instantiate $m))
               (func $run (canon lift (core func $i \"run\"))) (instance $h (export \"run\" (func $run)))
               (export \"wisp:action/handler\" (instance $h)))".to_owned(),
            "func(params: string) -> result<string, string>",
        ),
        (
            "(component (import \"wasi:cli/environment@0.2.0\" (instance (export \"nonsense\" (func))))
               (instance $h) (export \"wasi:cli/run@0.2.0\" (instance $h)))".to_owned(),
            "nonsense",
        ),
    ] {
        let text = lab.refusal(&code).await;
        assert!(text.contains(words), "{words}: {text}");
    }
}
