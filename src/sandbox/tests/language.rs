//! Source of languages, with an engine of a few lines: what it does follows from the last letter of the source.

use std::borrow::Cow;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::harness::*;
use crate::sandbox::{
    Compiler, Config, EngineModules, InstanceLimits, Outcome, Refused, Sandbox, Source, StartError,
};

/// An engine of `pages` of memory. Of source it prepares all but what ends in
///
/// | letter | `wisp_prepare` | letter | `wisp_load` |
/// |---|---|---|---|
/// | R | refuses it | r | refuses it |
/// | L | loops | l | loops |
/// | T | traps | t | traps |
/// | M | grows memory until that fails, then traps | m | the same |
/// | B | answers nonsense | w | writes to a page in each 64 KiB |
/// | S | says where it is, then loops | | |
///
/// An instance answers the last letter of its source and how often it was called: `["a1"]`. With `g` it first grows memory
/// until that fails.
fn engine(pages: usize, version: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wisp" "http_poll" (func $poll (param i64) (result i32)))
        (memory (export "memory") {pages})
        (table 10 funcref)
        (data (i32.const 16) "no good: {version}")
        (data (i32.const 64) "[\"a0\"]")
        (data (i32.const 96) "here I am\n")
        (data (i32.const 112) "\60\00\00\00\0a\00\00\00")
        (global $last (mut i32) (i32.const 0))
        (func (export "wisp_alloc") (param i32) (result i32) (i32.const 4096))
        (func $end (param $ptr i32) (param $len i32) (result i32)
          (i32.load8_u (i32.sub (i32.add (local.get $ptr) (local.get $len)) (i32.const 1))))
        (func $is (param $letter i32) (result i32) (i32.eq (global.get $last) (local.get $letter)))
        (func $loop (loop $again (br $again)))
        (func $grow (loop $again
          (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable))
        (func $touch (local $at i32)
          (loop $again
            (i32.store8 (local.get $at) (i32.add (i32.load8_u (local.get $at)) (i32.const 1)))
            (local.set $at (i32.add (local.get $at) (i32.const 65536)))
            (br_if $again (i32.lt_u (local.get $at) (i32.const {bytes})))))
        (func (export "wisp_prepare") (param $ptr i32) (param $len i32) (result i64)
          (global.set $last (call $end (local.get $ptr) (local.get $len)))
          (if (call $is (i32.const 82)) (then (i32.store8 (i32.const 15) (i32.const 1)) (return (i64.const 0xf0000000b))))
          (if (call $is (i32.const 83)) (then
            (drop (call $write (i32.const 1) (i32.const 112) (i32.const 1) (i32.const 124))) (call $loop)))
          (if (call $is (i32.const 76)) (then (call $loop)))
          (if (call $is (i32.const 84)) (then (unreachable)))
          (if (call $is (i32.const 77)) (then (call $grow)))
          (if (call $is (i32.const 66)) (then (return (i64.const 0xffffffffff))))
          (i32.store8 (i32.const 4095) (i32.const 0))
          (i64.or (i64.shl (i64.const 4095) (i64.const 32)) (i64.extend_i32_u (i32.add (local.get $len) (i32.const 1)))))
        (func (export "wisp_load") (param $ptr i32) (param $len i32) (result i64)
          (global.set $last (call $end (local.get $ptr) (local.get $len)))
          (if (call $is (i32.const 114)) (then (return (i64.const 0x100000000a))))
          (if (call $is (i32.const 108)) (then (call $loop)))
          (if (call $is (i32.const 116)) (then (unreachable)))
          (if (call $is (i32.const 109)) (then (call $grow)))
          (if (call $is (i32.const 119)) (then (call $touch)))
          (i32.store8 (i32.const 66) (global.get $last))
          (i64.const 0))
        (func (export "wisp_run") (param $ptr i32) (param $len i32) (result i64)
          (drop (call $poll (i64.const 1)))
          (if (call $is (i32.const 103)) (then (loop $again
            (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))))
          (i32.store8 (i32.const 67) (i32.add (i32.load8_u (i32.const 67)) (i32.const 1)))
          (i64.const 0x4000000006)))"#,
        bytes = pages << 16,
    );
    wat::parse_str(text).unwrap()
}

fn with(module: Vec<u8>) -> Config {
    Config {
        engine_modules: EngineModules {
            javascript: Some(Cow::Owned(module)),
            python: None,
        },
        prepare_timeout_ms: 300,
        prepare_memory_mib_max: 4,
        // Compiled once and well, when it is needed.
        engines_ahead: false,
        ..config()
    }
}

fn lab() -> Lab {
    Lab::with(with(engine(2, "1")))
}

fn js(code: &str) -> Source {
    Source {
        kind: "nodejs:20".to_owned(),
        ..code.into()
    }
}

async fn start(
    lab: &Lab,
    code: &str,
    limits: InstanceLimits,
) -> Result<Box<dyn crate::sandbox::Instance>, StartError> {
    let prepared = lab.sandbox.prepare(js(code)).await.unwrap();
    let program = lab.sandbox.linked(&prepared.program).unwrap();
    Ok(program.instantiate(limits, Purse::full()).await?.instance)
}

async fn failed_start(lab: &Lab, code: &str) -> Outcome {
    let limits = InstanceLimits {
        deadline: Instant::now() + Duration::from_millis(300),
        ..limits()
    };
    match start(lab, code, limits).await {
        Err(StartError::Guest(run)) => run.outcome,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
}

async fn refusal(lab: &Lab, source: Source) -> String {
    match lab.sandbox.prepare(source).await {
        Err(Refused::Invalid(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn source_is_prepared_once_loaded_by_each_instance_and_called_often() {
    let lab = lab();
    let first = lab.sandbox.prepare(js("main() a")).await.unwrap();
    assert!(first.compiled);
    assert!(!lab.sandbox.prepare(js("main() a")).await.unwrap().compiled);
    let mut one = start(&lab, "main() a", limits()).await.unwrap();
    for expected in ["[\"a1\"]", "[\"a2\"]", "[\"a3\"]"] {
        let run = one.run(input("{}")).await.unwrap();
        assert_eq!(run.outcome, answered(expected));
        assert!(one.reusable());
    }
    let mut other = start(&lab, "main() b", limits()).await.unwrap();
    assert_eq!(
        other.run(input("{}")).await.unwrap().outcome,
        answered("[\"b1\"]")
    );
}

#[tokio::test]
async fn kind_entry_point_and_source_make_the_program() {
    let lab = lab();
    let sources = [
        js("f() a"),
        js("f() b"),
        Source {
            main: Some("other".to_owned()),
            ..js("f() a")
        },
        Source {
            kind: "nodejs:18".to_owned(),
            ..js("f() a")
        },
    ];
    let mut programs = Vec::new();
    for source in sources {
        programs.push(lab.sandbox.prepare(source).await.unwrap().program);
    }
    programs.sort();
    programs.dedup();
    assert_eq!(programs.len(), 4);
}

#[tokio::test]
async fn what_cannot_be_prepared_is_refused_with_the_reason() {
    let lab = lab();
    assert_eq!(refusal(&lab, js("f() R")).await, "no good: 1");
    let rows = [
        ("f() L", "did not end within 0.3 s"),
        ("f() S", "The last it printed:\n  here I am"),
        ("f() T", "ended the engine: The action trapped: "),
        ("f() M", "took more than 4 MiB of memory"),
        ("f() B", "outside memory"),
    ];
    for (code, part) in rows {
        let text = refusal(&lab, js(code)).await;
        assert!(text.contains(part), "{text}");
    }
    // It is not the worse for it.
    assert!(start(&lab, "f() a", limits()).await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_loaded_is_a_start_that_failed() {
    let lab = lab();
    let Outcome::Failed { answer, exit: true } = failed_start(&lab, "f() r").await else {
        panic!("it should be the developer's failure");
    };
    assert_eq!(
        &answer[..],
        br#"{"error":"The action failed during initialization: no good: 1"}"#
    );
    assert_eq!(failed_start(&lab, "f() l").await, Outcome::TimedOut);
    assert!(matches!(
        failed_start(&lab, "f() t").await,
        Outcome::Died(_)
    ));
    assert_eq!(failed_start(&lab, "f() m").await, Outcome::OutOfMemory);
}

#[tokio::test]
async fn a_blob_outlives_the_process_and_is_made_again_when_it_does_not_verify() {
    let lab = lab();
    let code = "f() a";
    let program = lab.sandbox.prepare(js(code)).await.unwrap().program;
    let name = program.to_string();
    let file = || {
        let settings = std::fs::read_dir(lab.folder.path().join("aot"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        settings.path().join(name.get(..2).unwrap()).join(&name)
    };
    // No compiler: the engine's artefact must be at hand, too.
    let again = |module: Vec<u8>, compiler: Compiler| async {
        let config = Config {
            compiler,
            ..with(module)
        };
        let sandbox = crate::sandbox::Wasmtime::new(config, lab.folder.path()).unwrap();
        let source = Kept {
            code: Some(js(code)),
            ..Kept::default()
        };
        let loaded = sandbox.load(&program, &source).await.ok().unwrap();
        let started = loaded
            .instantiate(limits(), Purse::full())
            .await
            .ok()
            .unwrap();
        let mut instance = started.instance;
        let run = instance.run(input("{}")).await.unwrap();
        assert_eq!(run.outcome, answered("[\"a1\"]"));
        source.asked.load(Ordering::Relaxed)
    };
    let missing = || Compiler::Process("/nowhere/wisp".into());
    assert_eq!(again(engine(2, "1"), missing()).await, 0);
    let good = std::fs::read(file()).unwrap();
    let damages: [fn(&mut Vec<u8>); 5] = [
        |bytes| bytes[40] ^= 1,
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| {
            // Another ABI: a module, which it is not.
            let abi = bytes.len() - 80 + 8;
            bytes[abi] = 1;
        },
        |bytes| bytes.truncate(90),
        |bytes| bytes.clear(),
    ];
    for damage in damages {
        let mut bytes = good.clone();
        damage(&mut bytes);
        std::fs::write(file(), bytes).unwrap();
        assert_eq!(again(engine(2, "1"), missing()).await, 1);
        assert_eq!(again(engine(2, "1"), missing()).await, 0);
    }
    std::fs::remove_file(file()).unwrap();
    assert_eq!(again(engine(2, "1"), missing()).await, 1);
    // A newer engine makes its own, and the action is found under the same name.
    assert_eq!(again(engine(2, "2"), Compiler::InProcess).await, 1);
    assert_eq!(again(engine(2, "2"), missing()).await, 0);
}

#[tokio::test]
async fn an_instance_that_ran_out_of_memory_and_lived_serves_no_other_run() {
    let lab = lab();
    let mut instance = start(&lab, "f() g", limits()).await.unwrap();
    let run = instance.run(input("{}")).await.unwrap();
    assert_eq!(run.outcome, answered("[\"g1\"]"));
    assert!(!instance.reusable());
}

#[tokio::test]
async fn an_engines_memory_counts_towards_the_limit_and_not_against_the_node() {
    let lab = Lab::with(Config {
        prepare_memory_mib_max: 64,
        ..with(engine(256, "1"))
    });
    let mib = 1 << 20;
    let held = |code: &'static str| {
        let lab = &lab;
        async move {
            let limits = InstanceLimits {
                memory_bytes_max: 32 * mib,
                ..limits()
            };
            start(lab, code, limits).await.unwrap().memory_bytes()
        }
    };
    let little = held("f() a").await;
    assert!(little < mib, "{little}");
    // One page of each of the 256 of Wasm: seen when its first run has ended, and expected of the next instance.
    let limits = |mib_max: usize| InstanceLimits {
        memory_bytes_max: mib_max * mib,
        ..limits()
    };
    let mut greedy = start(&lab, "f() w", limits(32)).await.unwrap();
    greedy.run(input("{}")).await.unwrap();
    let more = greedy.memory_bytes();
    assert!(more >= little + 250 * 4096, "{more} after {little}");
    assert!(held("f() b").await > little);
    let Err(StartError::Guest(run)) = start(&lab, "f() a", limits(8)).await else {
        panic!("an engine of 16 MiB does not fit into 8");
    };
    assert_eq!(run.outcome, Outcome::OutOfMemory);
}

#[tokio::test]
async fn a_language_without_an_engine_and_wasm_as_source_are_refused_with_advice() {
    let lab = lab();
    let python = Source {
        kind: "python:3.13".to_owned(),
        ..js("def main(args): pass")
    };
    assert!(
        refusal(&lab, python)
            .await
            .contains("without an engine for Python")
    );
    for code in ["\0asm\u{1}\0\0\0", "AGFzbQEAAAA="] {
        let text = refusal(&lab, js(code)).await;
        assert!(text.contains("kind `wasm:default`"), "{text}");
    }
}

#[tokio::test]
async fn uploads_that_come_before_the_engine_wait_for_the_one_that_is_made() {
    let lab = lab();
    let sandbox = Arc::clone(&lab.sandbox);
    let all: Vec<_> = (0..4)
        .map(|n| {
            let sandbox = Arc::clone(&sandbox);
            tokio::spawn(async move { sandbox.prepare(js(&format!("f() {n}"))).await })
        })
        .collect();
    for one in all {
        assert!(one.await.unwrap().is_ok());
    }
    let (first, second) = tokio::join!(
        sandbox.engine(crate::model::kind::Language::JavaScript),
        sandbox.engine(crate::model::kind::Language::JavaScript)
    );
    assert!(Arc::ptr_eq(&first.ok().unwrap(), &second.ok().unwrap()));
}

/// All files below `folder`, the largest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => files.push((entry.metadata().unwrap().len(), entry.path())),
            }
        }
    }
    files.sort_unstable_by(|one, other| other.cmp(one));
    files.into_iter().map(|(_, path)| path).collect()
}

#[tokio::test]
async fn code_that_was_compiled_quickly_serves_until_the_best_is_there_and_is_never_kept() {
    let kept = lab();
    start(&kept, "f() a", limits()).await.unwrap();
    let artefact = std::fs::read(&files(&kept.folder.path().join("aot"))[0]).unwrap();
    let artefact = artefact
        .strip_suffix(&artefact[artefact.len() - 80..])
        .unwrap();
    // A compiler that has it at once when it is to be quick, and otherwise when it may.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let script = "#!/bin/sh\ncat >/dev/null\nwhile [ $6 = 1 ] && [ ! -e $0.go ]; do sleep 0.01; done\ncat $0.frame\n";
    let mut frame = vec![0];
    frame.extend_from_slice(&(artefact.len() as u64).to_le_bytes());
    frame.extend_from_slice(artefact);
    std::fs::write(path("compiler.frame"), frame).unwrap();
    std::fs::write(path("compiler"), script).unwrap();
    std::fs::set_permissions(path("compiler"), Permissions::from_mode(0o700)).unwrap();
    let lab = Lab::with(Config {
        compiler: Compiler::Process(path("compiler")),
        engines_ahead: true,
        ..with(engine(2, "1"))
    });
    let aot = lab.folder.path().join("aot");
    let mut former = start(&lab, "f() a", limits()).await.unwrap();
    let run = former.run(input("{}")).await.unwrap();
    assert_eq!(run.outcome, answered("[\"a1\"]"));
    assert!(former.reusable());
    assert_eq!(files(&aot).len(), 1, "what was made of the source");
    let quick = lab.sandbox.engine(crate::model::kind::Language::JavaScript);
    let quick = Arc::downgrade(&quick.await.unwrap());
    std::fs::write(path("compiler.go"), "").unwrap();
    until(|| !former.reusable()).await;
    assert_eq!(files(&aot).len(), 2);
    let run = former.run(input("{}")).await.unwrap();
    assert_eq!(run.outcome, answered("[\"a2\"]"), "it is not cut off");
    // The next one is of the better code, and is kept.
    let mut next = start(&lab, "f() a", limits()).await.unwrap();
    let run = next.run(input("{}")).await.unwrap();
    assert_eq!(run.outcome, answered("[\"a1\"]"));
    assert!(next.reusable());
    drop(former);
    until(|| quick.strong_count() == 0).await;
}

/// Waits until something is so.
async fn until(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
