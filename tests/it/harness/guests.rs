//! Guests, written in WebAssembly text where a test needs one that behaves badly in exactly one way.
//!
//! All but the commands speak the core ABI, see `runtimes/abi`.

/// Answers its parameters, up to 64 KiB.
pub(crate) const ECHO: &str = include_str!("../../fixtures/guests/echo.wat");
/// Sleeps `{"ms": N}`, then answers its parameters.
pub(crate) const SLEEP: &str = include_str!("../../fixtures/guests/sleep.wat");
/// Computes for about `{"rounds": N}` nanoseconds, then answers its parameters.
pub(crate) const BURN: &str = include_str!("../../fixtures/guests/burn.wat");
/// Counts its runs in a file, up to 9: `{"n":1}`, …
pub(crate) const KEEPS: &str = include_str!("../../fixtures/guests/keeps.wat");
/// Never answers.
pub(crate) const SPIN: &str = include_str!("../../fixtures/guests/spin.wat");

/// A module with `pages` of memory, parameters at 1,024, `data` at 16, whose run does `run` (which leaves an `i64`).
fn core(pages: u32, data: &str, run: &str, more: &str) -> String {
    format!(
        r#"(module
  {more}
  (memory (export "memory") {pages})
  (data (i32.const 16) "{}")
  (func (export "wisp_alloc") (param $len i32) (result i32) (i32.const 8192))
  (func (export "wisp_run") (param $ptr i32) (param $len i32) (result i64)
    {run}))"#,
        escaped(data)
    )
}

/// The text of a WAT string that holds these bytes.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("\\{byte:02x}")).collect()
}

/// `(ptr << 32) | len`.
fn at(ptr: usize, len: usize) -> String {
    format!("(i64.const {})", (ptr << 32) | len)
}

/// Answers these bytes, whatever it is asked. At most 1,000.
pub(crate) fn answers(text: &str) -> String {
    core(2, text, &at(16, text.len()), "")
}

/// Answers its parameters, up to 3 MiB of them.
pub(crate) fn big_echo() -> String {
    let run = "(i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32))
      (i64.extend_i32_u (local.get $len)))";
    core(50, "", run, "")
}

/// Answers `size` times the letter `a`: no JSON, and perhaps too much.
pub(crate) fn answers_letters(size: u32) -> String {
    let run = format!(
        "(memory.fill (i32.const 65536) (i32.const 97) (i32.const {size})) {}",
        at(65536, size as usize)
    );
    core(size / 65536 + 3, "", &run, "")
}

/// Answers a JSON string in an object, `size` bytes altogether.
pub(crate) fn answers_object_of(size: u32) -> String {
    let run = format!(
        "(memory.fill (i32.const 65536) (i32.const 97) (i32.const {size}))
    (memory.copy (i32.const 65536) (i32.const 16) (i32.const 6))
    (memory.copy (i32.const {}) (i32.const 22) (i32.const 2)) {}",
        65536 + size - 2,
        at(65536, size as usize)
    );
    core(size / 65536 + 3, "{\"a\":\"\"}", &run, "")
}

/// Answers a pointer that lies outside its memory.
pub(crate) fn answers_outside() -> String {
    core(1, "", &at(65530, 4096), "")
}

/// Traps at once.
pub(crate) fn traps() -> String {
    core(1, "", "unreachable", "")
}

/// Does `body` when it is initialised, and would answer `{}`.
fn initialises(body: &str) -> String {
    let run = at(16, 2);
    format!(
        r#"(module
  (memory (export "memory") 1)
  (data (i32.const 16) "{{}}")
  (func (export "_initialize") {body})
  (func (export "wisp_alloc") (param i32) (result i32) (i32.const 8192))
  (func (export "wisp_run") (param i32 i32) (result i64) {run}))"#
    )
}

pub(crate) fn traps_in_init() -> String {
    initialises("unreachable")
}

pub(crate) fn spins_in_init() -> String {
    initialises("(loop $forever (br $forever))")
}

/// Calls itself until there is no stack.
pub(crate) fn recurses() -> String {
    r#"(module
  (memory (export "memory") 1)
  (func $deeper (param $n i64) (result i64)
    (i64.add (call $deeper (i64.add (local.get $n) (i64.const 1))) (local.get $n)))
  (func (export "wisp_alloc") (param i32) (result i32) (i32.const 16))
  (func (export "wisp_run") (param i32 i32) (result i64) (call $deeper (i64.const 0))))"#
        .to_owned()
}

/// Takes memory, a mebibyte at a time, until it gets none; then traps.
pub(crate) fn memory_bomb() -> String {
    let run = "(block $full (loop $more
      (br_if $full (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
      (br $more)))
    unreachable";
    core(1, "", run, "")
}

/// Asks for `pages` of memory from the start.
pub(crate) fn wants_pages(pages: u32) -> String {
    core(pages, "{}", &at(16, 2), "")
}

/// Asks for a table of `elements`.
pub(crate) fn wants_table(elements: u32) -> String {
    core(1, "{}", &at(16, 2), &format!("(table {elements} funcref)"))
}

/// Counts its runs: `{"n":1}`, `{"n":2}`, … up to 9, as long as it is the same instance.
pub(crate) fn counts() -> String {
    let run = format!(
        "(i32.store8 (i32.const 21) (i32.add (i32.load8_u (i32.const 21)) (i32.const 1))) {}",
        at(16, 7)
    );
    core(1, "{\"n\":0}", &run, "")
}

/// Writes a pattern over `pages` pages, then answers `{}`.
pub(crate) fn leaves_traces(pages: u32) -> String {
    let run = format!(
        "(memory.fill (i32.const 65536) (i32.const 0xA5) (i32.const {})) {}",
        (pages - 1) * 65536,
        at(16, 2)
    );
    core(pages, "{}", &run, "")
}

/// Looks through `pages` pages: `{"found":0}`, or `{"found":1}` when there is anything but zeros.
pub(crate) fn finds_traces(pages: u32) -> String {
    let run = format!(
        "(local $at i32)
    (local.set $at (i32.const 65536))
    (block $end (loop $next
      (br_if $end (i32.ge_u (local.get $at) (i32.const {})))
      (if (i64.ne (i64.load (local.get $at)) (i64.const 0))
        (then (i32.store8 (i32.const 25) (i32.const 49)) (br $end)))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br $next)))
    {}",
        pages * 65536,
        at(16, 11)
    );
    core(pages, "{\"found\":0}", &run, "")
}

/// Needs a function nobody provides.
pub(crate) fn imports(module: &str, name: &str) -> String {
    core(
        1,
        "{}",
        &at(16, 2),
        &format!(r#"(import "{module}" "{name}" (func))"#),
    )
}

const FD_WRITE: &str = r#"(import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))"#;

/// Writes `line` and a line end to stdout and to stderr, `times` times, then answers `{}`. At most 500 bytes of line.
pub(crate) fn logs(line: &str, times: u32) -> String {
    let data = format!("{{}}{line}\n");
    let run = format!(
        "(local $left i32)
    (local.set $left (i32.const {times}))
    (i32.store (i32.const 4096) (i32.const 18))
    (i32.store (i32.const 4100) (i32.const {}))
    (block $end (loop $next
      (br_if $end (i32.eqz (local.get $left)))
      (drop (call $fd_write (i32.const 1) (i32.const 4096) (i32.const 1) (i32.const 4104)))
      (drop (call $fd_write (i32.const 2) (i32.const 4096) (i32.const 1) (i32.const 4104)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br $next)))
    {}",
        line.len() + 1,
        at(16, 2)
    );
    core(1, &data, &run, FD_WRITE)
}

/// Writes `first` to stdout, sleeps for `ms` milliseconds, writes `second` to stderr, and answers `{}`.
pub(crate) fn logs_around_a_sleep(ms: u64) -> String {
    let write = |stream: u32, ptr: u32, len: u32| {
        format!(
            "(i32.store (i32.const 4096) (i32.const {ptr})) (i32.store (i32.const 4100) (i32.const {len}))
    (drop (call $fd_write (i32.const {stream}) (i32.const 4096) (i32.const 1) (i32.const 4104)))"
        )
    };
    let run = format!(
        "{}
    (i32.store (i32.const 4216) (i32.const 1)) (i64.store (i32.const 4224) (i64.const {}))
    (drop (call $poll_oneoff (i32.const 4200) (i32.const 4300) (i32.const 1) (i32.const 4400)))
    {}
    {}",
        write(1, 18, 6),
        ms * 1_000_000,
        write(2, 24, 7),
        at(16, 2)
    );
    let poll = r#"(import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))"#;
    core(1, "{}first\nsecond\n", &run, &format!("{FD_WRITE} {poll}"))
}

/// Answers `{"value":"…"}` with the variable `name`, or `{"value":null}` when it is not set.
pub(crate) fn variable(name: &str) -> String {
    let data = format!("{{\"value\":\"{{\"value\":null}}{name}");
    let run = format!(
        "(local $length i32)
    (local.set $length (call $get (i32.const 40) (i32.const {}) (i32.const 4106) (i32.const 2048)))
    (if (i32.eq (local.get $length) (i32.const -1)) (then (return {})))
    (memory.copy (i32.const 4096) (i32.const 16) (i32.const 10))
    (i32.store16 (i32.add (i32.const 4106) (local.get $length)) (i32.const 0x7d22))
    (i64.or (i64.const {}) (i64.extend_i32_u (i32.add (local.get $length) (i32.const 12))))",
        name.len(),
        at(26, 14),
        4096_u64 << 32
    );
    core(
        1,
        &data,
        &run,
        r#"(import "wisp" "context_get" (func $get (param i32 i32 i32 i32) (result i32)))"#,
    )
}

/// A WASI command: prints `stdout` and ends with `status`.
pub(crate) fn command(stdout: &str, status: u32) -> String {
    format!(
        r#"(module
  {FD_WRITE}
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "{}")
  (func (export "_start")
    (i32.store (i32.const 4096) (i32.const 16))
    (i32.store (i32.const 4100) (i32.const {}))
    (drop (call $fd_write (i32.const 1) (i32.const 4096) (i32.const 1) (i32.const 4104)))
    (call $exit (i32.const {status}))))"#,
        escaped(stdout),
        stdout.len()
    )
}

/// A WASI command that answers its stdin, up to 32 KiB.
pub(crate) fn command_echo() -> String {
    format!(
        r#"(module
  {FD_WRITE}
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 4096))
    (i32.store (i32.const 20) (i32.const 32768))
    (drop (call $fd_read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 24)))
    (i32.store (i32.const 20) (i32.load (i32.const 24)))
    (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))))"#
    )
}
