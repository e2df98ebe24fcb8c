//! What core modules are refused for, and which size class they get.

use super::harness::*;
use crate::sandbox::{Abi, Config, Sandbox};

#[tokio::test]
async fn a_module_nobody_can_call_is_refused_with_what_it_exports_and_needs() {
    let lab = Lab::new();
    let typed = |alloc: &str| {
        core("1 1", "", ECHO).replace("(param i32) (result i32) (i32.const 1024)", alloc)
    };
    for (code, words) in [
        ("(module)".to_owned(), "exports nothing"),
        (
            "(module (func (export \"main\")) (memory (export \"mem\") 1))".to_owned(),
            "`main`, `mem`",
        ),
        (
            "(module (func (export \"_start\")))".to_owned(),
            "`memory` and `_start`",
        ),
        (
            core("1 1", "", ECHO).replace("wisp_alloc", "alloc"),
            "`alloc`",
        ),
        (
            typed("(param i64) (result i32) (i32.const 1024)"),
            "`wisp_alloc` has the type (i64) -> (i32)",
        ),
        (
            "(module (memory (export \"memory\") 1) (func (export \"_start\") (param i32)))"
                .to_owned(),
            "`_start` has the type (i32) -> ()",
        ),
        (
            core("1 1", "(func (export \"_initialize\") (param i32))", ECHO),
            "`_initialize`",
        ),
    ] {
        let text = lab.refusal(&code).await;
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[tokio::test]
async fn every_import_nobody_provides_is_named() {
    let lab = Lab::new();
    let imports = "(import \"env\" \"abort\" (func)) (import \"env\" \"now\" (func (result f64)))
                   (import \"env\" \"mem\" (global i32)) (import \"wasi_snapshot_preview1\" \"fd_nope\" (func))";
    let text = lab.refusal(&core("1 1", imports, ECHO)).await;
    for name in [
        "`env.abort`",
        "`env.now`",
        "`env.mem`",
        "`wasi_snapshot_preview1.fd_nope`",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    let memory = "(module (import \"env\" \"memory\" (memory 1)) (export \"memory\" (memory 0)) (func (export \"_start\")))";
    assert!(lab.refusal(memory).await.contains("`env.memory`"));
    let other = "(import \"wasi_snapshot_preview1\" \"proc_exit\" (func (param i64)))";
    let text = lab.refusal(&core("1 1", other, ECHO)).await;
    assert!(
        text.contains("`wasi_snapshot_preview1.proc_exit` is (i32) -> (), not (i64) -> ()"),
        "{text}"
    );
}

#[tokio::test]
async fn memories_and_tables_over_the_limits_are_refused() {
    let lab = Lab::with(Config {
        large_memory_mib_max: 64,
        table_elements_max: 100,
        ..config()
    });
    for (code, words) in [
        (core("1025", "", ECHO), "wants 67174400 bytes of memory"),
        (
            core("1 1", "(table 101 funcref)", ECHO),
            "a table of 101 elements",
        ),
        (core("i64 1", "", "(i64.const 0)"), "64-bit memory"),
        (core("1 1 shared", "", ECHO), "shared memory"),
    ] {
        let text = lab.refusal(&code).await;
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(
        lab.sandbox
            .prepare(core("1024", "", ECHO).into())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn what_is_truncated_or_invalid_inside_is_refused() {
    use base64::Engine as _;
    let lab = Lab::new();
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let wasm = wat::parse_str(core("1 1", "", ECHO)).unwrap();
    for len in [8, 20, wasm.len() / 2, wasm.len() - 1] {
        let text = lab.refusal(&encode(&wasm[..len])).await;
        assert!(!text.is_empty());
    }
    assert!(
        lab.refusal(&encode(&wasm[..wasm.len() - 1]))
            .await
            .contains("not valid WebAssembly")
    );
    // A function body of the wrong type: the compiler's finding.
    let text = lab.refusal(&core("1 1", "", "(i32.const 0)")).await;
    assert!(text.contains("type mismatch"), "{text}");
    // Proposals that are off.
    let multi = core("1 1", "(memory $second 1)", ECHO);
    assert!(lab.refusal(&multi).await.contains("not valid"));
}

#[tokio::test]
async fn a_memory_of_one_page_that_stays_so_is_small() {
    let lab = Lab::with(Config {
        small_slots: Some(1),
        large_slots: Some(1),
        ..config()
    });
    let grows = "(func (result i32) (memory.grow (i32.const 1)))";
    let table_grows =
        "(table $t 1 funcref) (func (result i32) (table.grow $t (ref.null func) (i32.const 1)))";
    let cases = [
        (core("1 1", "", ECHO), true),
        (core("1", "", ECHO), true),
        (core("1 1", grows, ECHO), true),
        (core("1", grows, ECHO), false),
        (core("1 2", grows, ECHO), false),
        (core("2", "", ECHO), false),
        (core("1", "(table 256 funcref)", ECHO), true),
        (core("1", "(table 257 funcref)", ECHO), false),
        (core("1", table_grows, ECHO), false),
    ];
    // With the one small slot taken, a small module finds none and a large one does.
    let _taken = lab
        .instance(&core("1 1", "(global i32 (i32.const 1))", ECHO))
        .await;
    for (code, is_small) in cases {
        assert_eq!(
            lab.sandbox.prepare(code.as_str().into()).await.unwrap().abi,
            Abi::Core
        );
        assert_eq!(lab.start(&code).await.is_err(), is_small, "{code}");
    }
}

#[tokio::test]
async fn all_of_preview_1_is_provided() {
    let names = "args_get args_sizes_get environ_get environ_sizes_get clock_res_get clock_time_get fd_advise
        fd_allocate fd_close fd_datasync fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights fd_filestat_get
        fd_filestat_set_size fd_filestat_set_times fd_pread fd_prestat_get fd_prestat_dir_name fd_pwrite fd_read
        fd_readdir fd_renumber fd_seek fd_sync fd_tell fd_write path_create_directory path_filestat_get
        path_filestat_set_times path_link path_open path_readlink path_remove_directory path_rename path_symlink
        path_unlink_file poll_oneoff proc_exit proc_raise sched_yield random_get sock_accept sock_recv sock_send
        sock_shutdown";
    assert_eq!(names.split_whitespace().count(), 46);
    let lab = Lab::new();
    for name in names.split_whitespace() {
        // Imported by a type it does not have, so that only its presence is asked.
        let import = format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func (param f64)))");
        let text = lab.refusal(&core("1 1", &import, ECHO)).await;
        assert!(text.contains("by another type"), "{name}: {text}");
    }
}
