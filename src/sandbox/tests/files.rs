//! Files of preview 1 guests as the guest calls them: numbers, pointers, room. The tree's own tests are beside it.

use super::harness::*;
use crate::sandbox::Outcome;

/// A core module that can call what concerns files; its paths are at 100. Its `run` answers `{}` unless it traps.
fn files(paths: &str, body: &str) -> String {
    let import = |name: &str, params: &str| {
        format!(
            "(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {params}) (result i32)))"
        )
    };
    let imports = [
        ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
        ("path_create_directory", "i32 i32 i32"),
        ("path_rename", "i32 i32 i32 i32 i32 i32"),
        ("path_filestat_get", "i32 i32 i32 i32 i32"),
        ("path_unlink_file", "i32 i32 i32"),
        ("path_link", "i32 i32 i32 i32 i32 i32 i32"),
        ("path_symlink", "i32 i32 i32 i32 i32"),
        ("path_readlink", "i32 i32 i32 i32 i32 i32"),
        ("fd_prestat_get", "i32 i32"),
        ("fd_prestat_dir_name", "i32 i32 i32"),
        ("fd_write", "i32 i32 i32 i32"),
        ("fd_read", "i32 i32 i32 i32"),
        ("fd_pwrite", "i32 i32 i32 i64 i32"),
        ("fd_pread", "i32 i32 i32 i64 i32"),
        ("fd_seek", "i32 i64 i32 i32"),
        ("fd_tell", "i32 i32"),
        ("fd_close", "i32"),
        ("fd_renumber", "i32 i32"),
        ("fd_readdir", "i32 i32 i32 i64 i32"),
        ("fd_fdstat_get", "i32 i32"),
        ("fd_filestat_get", "i32 i32"),
        ("fd_filestat_set_size", "i32 i64"),
        ("fd_filestat_set_times", "i32 i64 i64 i32"),
        ("fd_allocate", "i32 i64 i64"),
    ];
    let imports: String = imports.map(|(name, params)| import(name, params)).concat();
    let extra = format!(
        "{imports} (data (i32.const 100) \"{paths}\")
         (data (i32.const 64) \"\\00\\10\\00\\00\\00\\10\\00\\00\")
         (func $is (param $got i32) (param $wanted i32)
           (if (i32.ne (local.get $got) (local.get $wanted)) (then (unreachable))))"
    );
    // The vector at 64 is 4,096 bytes at 4,096; `wisp_run` answers the two at 96.
    let run =
        format!("{body} (i32.store16 (i32.const 96) (i32.const 0x7d7b)) (i64.const 0x6000000002)");
    core("2 2", &extra, &run)
}

/// Calls as WAT: each must answer its number.
fn calls(all: &[(&str, u32)]) -> String {
    let all = all.iter().map(|(call, wanted)| {
        let (name, arguments) = call.split_once(' ').unwrap_or((call, ""));
        // Offsets, rights, times: whatever is no i32 is written out.
        let arguments: String = arguments
            .split_whitespace()
            .map(|argument| {
                if let Some(long) = argument.strip_suffix('L') {
                    format!("(i64.const {long})")
                } else if let Some(address) = argument.strip_prefix('@') {
                    format!("(i32.load (i32.const {address}))")
                } else {
                    format!("(i32.const {argument})")
                }
            })
            .collect();
        format!("(call $is (call ${name} {arguments}) (i32.const {wanted}))")
    });
    all.collect()
}

async fn all_answer(paths: &str, all: &[(&str, u32)]) {
    let lab = Lab::new();
    let answer = lab.outcome(&files(paths, &calls(all))).await;
    assert_eq!(answer, answered("{}"));
}

const BADF: u32 = 8;
const EXIST: u32 = 20;
const FAULT: u32 = 21;
const FBIG: u32 = 22;
const ILSEQ: u32 = 25;
const INVAL: u32 = 28;
const ISDIR: u32 = 31;
const NAMETOOLONG: u32 = 37;
const NOENT: u32 = 44;
const NOTDIR: u32 = 54;
const NOTSUP: u32 = 58;
const PERM: u32 = 63;
const SPIPE: u32 = 70;

#[tokio::test]
async fn the_one_directory_there_is_says_its_name_until_it_is_closed() {
    let body = format!(
        "{} (call $is (i32.load (i32.const 200)) (i32.const 0))
         (call $is (i32.load (i32.const 204)) (i32.const 4))
         (call $is (i32.load (i32.const 208)) (i32.const 0x706d742f)) {}",
        calls(&[
            ("fd_prestat_get 3 200", 0),
            ("fd_prestat_dir_name 3 208 3", NAMETOOLONG),
            ("fd_prestat_dir_name 3 208 4", 0),
            ("fd_prestat_get 4 200", BADF),
            ("fd_prestat_get 2 200", BADF),
            ("fd_prestat_get 3 131070", FAULT),
        ]),
        calls(&[
            ("fd_close 3", 0),
            ("fd_prestat_get 3 200", BADF),
            ("fd_close 3", BADF),
        ])
    );
    let lab = Lab::new();
    assert_eq!(lab.outcome(&files("", &body)).await, answered("{}"));
}

#[tokio::test]
async fn wrong_wishes_are_error_numbers() {
    let paths = "../up\\00\\ff/absolute";
    all_answer(
        paths,
        &[
            // Out of it, in every way.
            ("path_open 3 0 100 5 1 64L 0L 0 200", PERM),
            ("path_open 3 0 107 9 1 64L 0L 0 200", PERM),
            ("path_rename 3 103 2 3 100 5", PERM),
            ("path_unlink_file 3 100 2", PERM),
            // No text, no name, too long, outside of memory.
            ("path_open 3 0 105 1 1 64L 0L 0 200", ILSEQ),
            ("path_open 3 0 106 1 1 64L 0L 0 200", ILSEQ),
            ("path_open 3 0 100 0 1 64L 0L 0 200", NOENT),
            ("path_open 3 0 100 5000 1 64L 0L 0 200", NAMETOOLONG),
            ("path_open 3 0 131070 5 1 64L 0L 0 200", FAULT),
            ("path_open 3 0 103 2 1 64L 0L 0 131070", FAULT),
            // What was refused last has made nothing.
            ("path_filestat_get 3 0 103 2 200", NOENT),
            ("path_open 9 0 103 2 1 64L 0L 0 200", BADF),
            ("path_open 1 0 103 2 1 64L 0L 0 200", NOTDIR),
            ("path_create_directory 3 103 2", 0),
            ("path_create_directory 3 103 2", EXIST),
            ("path_readlink 3 103 2 200 9 300", INVAL),
            ("path_link 3 0 103 2 3 104 1", NOTSUP),
            ("path_symlink 103 2 3 104 1", NOTSUP),
            ("fd_allocate 3 0L 9L", NOTSUP),
            ("fd_read 3 64 1 200", ISDIR),
            ("fd_write 3 64 1 200", ISDIR),
            ("fd_seek 3 0L 0 200", ISDIR),
            ("fd_seek 1 0L 0 200", SPIPE),
            ("fd_pread 0 64 1 0L 200", SPIPE),
            ("fd_readdir 1 4096 100 0L 200", NOTDIR),
            ("fd_filestat_set_times 3 0L 0L 3", INVAL),
            ("fd_renumber 3 1", NOTSUP),
            ("fd_renumber 3 7", BADF),
            ("fd_tell 4 200", BADF),
        ],
    )
    .await;
}

#[tokio::test]
async fn bytes_go_in_and_come_out_at_every_offset() {
    let is =
        |at: u32, value: u32| format!("(call $is (i32.load (i32.const {at})) (i32.const {value}))");
    let body = [
        "(i32.store (i32.const 4096) (i32.const 0x55667788))".to_owned(),
        // Written at its own offset and at another, then at its end; what is beyond it is nothing.
        calls(&[
            ("path_open 3 0 100 1 1 66L 0L 0 200", 0),
            ("fd_write @200 64 1 208", 0),
            ("fd_tell @200 216", 0),
        ]),
        is(200, 4) + &is(208, 4096) + &is(216, 4096),
        calls(&[
            ("fd_pwrite @200 64 1 1000L 208", 0),
            ("fd_seek @200 0L 2 216", 0),
            ("fd_read @200 64 1 240", 0),
        ]),
        is(216, 5096) + &is(240, 0),
        // Cut, and written anew behind a hole.
        calls(&[
            ("fd_pwrite @200 64 1 -1L 208", FBIG),
            ("fd_filestat_set_size @200 -1L", FBIG),
            ("fd_seek @200 -9L 0 224", INVAL),
            ("fd_filestat_set_size @200 0L", 0),
            ("fd_pwrite @200 64 1 1000L 208", 0),
            ("fd_seek @200 0L 0 224", 0),
            ("fd_read @200 64 1 240", 0),
        ]),
        is(4096, 0) + &is(4096 + 1000, 0x5566_7788) + &is(240, 4096),
        calls(&[
            ("fd_read @200 64 1 240", 0),
            ("fd_filestat_get @200 296", 0),
            ("fd_close @200", 0),
            ("fd_read @200 64 1 240", BADF),
        ]),
        is(240, 1000) + &is(296 + 32, 5096),
    ];
    let lab = Lab::new();
    assert_eq!(
        lab.outcome(&files("a", &body.concat())).await,
        answered("{}")
    );
}

#[tokio::test]
async fn a_directory_is_listed_in_parts_and_a_cut_line_comes_again() {
    // Three names of one letter: lines of 25 bytes, those of `.` and `..` 25 and 26.
    let body = format!(
        "{} (call $is (i32.load (i32.const 200)) (i32.const 60))
         {} (call $is (i32.load (i32.const 200)) (i32.const 75))
         (call $is (i32.load (i32.const 4096)) (i32.const 3))
         (call $is (i32.load8_u (i32.const 4116)) (i32.const 3))
         (call $is (i32.load8_u (i32.const 4120)) (i32.const 97))
         (call $is (i32.load8_u (i32.const 4170)) (i32.const 99))
         {} (call $is (i32.load (i32.const 200)) (i32.const 0))",
        calls(&[
            ("path_create_directory 3 100 1", 0),
            ("path_create_directory 3 101 1", 0),
            ("path_create_directory 3 102 1", 0),
            ("fd_readdir 3 4096 60 0L 200", 0),
        ]),
        calls(&[("fd_readdir 3 4096 4096 2L 200", 0)]),
        calls(&[("fd_readdir 3 4096 4096 5L 200", 0)]),
    );
    let lab = Lab::new();
    assert_eq!(lab.outcome(&files("abc", &body)).await, answered("{}"));
}

#[tokio::test]
async fn a_full_tmp_is_an_error_number_and_not_a_death() {
    // Writes until that fails, then answers; the next run finds what is there.
    let fill = format!(
        "{} (loop $more (br_if $more (i32.eqz
           (call $fd_write (i32.load (i32.const 200)) (i32.const 64) (i32.const 1) (i32.const 208)))))
         {}",
        calls(&[("path_open 3 0 100 1 1 66L 0L 1 200", 0)]),
        // 51: no space left.
        calls(&[("fd_write @200 64 1 208", 51), ("fd_close @200", 0)]),
    );
    let lab = Lab::new();
    let mut instance = lab.instance(&files("a", &fill)).await;
    let before = instance.memory_bytes();
    for _ in 0..3 {
        let run = instance.run(input("{}")).await.unwrap();
        assert_eq!(run.outcome, answered("{}"));
        assert!(instance.reusable());
        let most = limits().memory_bytes_max;
        assert!(run.peak_memory_bytes > most - (64 << 10) && run.peak_memory_bytes <= most);
    }
    assert!(instance.memory_bytes() > before + (15 << 20));

    // The node's room ends sooner: the same, and it is not the run that fails for want of room.
    let program = lab.program(&files("a", &fill)).await;
    let started = program.instantiate(limits(), Purse::of(1 << 20)).await;
    let mut instance = started.ok().unwrap().instance;
    let run = instance.run(input("{}")).await.unwrap();
    assert_eq!(run.outcome, answered("{}"));
    assert!(instance.memory_bytes() <= before + (1 << 20));
}

#[tokio::test]
async fn a_full_tmp_is_not_blamed_for_what_follows() {
    let fill = format!(
        "{} (loop $more (br_if $more (i32.eqz
           (call $fd_write (i32.load (i32.const 200)) (i32.const 64) (i32.const 1) (i32.const 208)))))
         (unreachable)",
        calls(&[("path_open 3 0 100 1 1 66L 0L 1 200", 0)]),
    );
    let lab = Lab::new();
    let outcome = lab.outcome(&files("a", &fill)).await;
    assert!(
        matches!(&outcome, Outcome::Died(text) if text.contains("unreachable")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn who_touches_no_file_holds_none() {
    let lab = Lab::new();
    let mut idle = lab.instance(&files("a", "")).await;
    let before = idle.memory_bytes();
    // Looking at the directory's name is what many programs do when they start.
    let mut asks = lab
        .instance(&files("a", &calls(&[("fd_prestat_get 3 200", 0)])))
        .await;
    for instance in [&mut idle, &mut asks] {
        instance.run(input("{}")).await.unwrap();
        assert_eq!(instance.memory_bytes(), before);
    }
}
