//! Compiles QuickJS-ng and the C half of the engine into the library. `QUICKJS_DIR` is where the sources of QuickJS-ng are;
//! build.sh finds them.

use std::{env, fs, path::Path};

/// Bytes of the stack in linear memory. engine/unit.c says how much of it JavaScript may take.
const STACK_BYTES: usize = 2 << 20;

/// How QuickJS asks whether the stack is deep enough, and how it is asked here: the function becomes part of each that asks, and
/// brings room with it. A level of recursion then takes about as much of the stack that can be seen, in linear memory, as of
/// the one that cannot, so that the limit of the first also bounds the second.
const CHECK: &str = "static inline bool js_check_stack_overflow(JSRuntime *rt, size_t alloca_size)\n{\n";
const CHECK_INLINED: &str =
    "static inline __attribute__((always_inline)) bool js_check_stack_overflow(JSRuntime *rt, size_t alloca_size)\n{\n";
/// The functions that get room, by how their definition begins, and bytes of it. Of the parser only the leaves ask, so those
/// that recurse are given theirs by name.
const ROOM: [(&str, usize); 5] = [
    (CHECK_INLINED, 256),
    ("static __exception int js_parse_assign_expr2(JSParseState *s, int parse_flags)\n{\n", 1536),
    ("static __exception int js_parse_unary(JSParseState *s, int parse_flags)\n{\n", 256),
    ("static __exception int js_parse_statement_or_decl(JSParseState *s,\n                                                  int decl_mask)\n{\n", 768),
    ("static __exception int js_parse_postfix_expr(JSParseState *s, int parse_flags)\n{\n", 256),
];

/// A text may begin at line 0: what is put before a file has a line of its own, and the file's own lines and columns are right.
const LINE: &str = "        if (options->line_num != 0)\n            line = options->line_num;\n";
const LINE_FROM_ZERO: &str = "        line = options->line_num;\n";

/// `quickjs.c` with room in the functions that recurse, and texts that begin at line 0.
fn padded(source: &str) -> String {
    assert_eq!(source.matches(LINE).count(), 1, "QuickJS is written in another way now: {LINE}");
    let mut source = source.replace(LINE, LINE_FROM_ZERO).replace(CHECK, CHECK_INLINED);
    for (head, bytes) in ROOM {
        assert_eq!(source.matches(head).count(), 1, "QuickJS is written in another way now: {head}");
        let room = format!("{head}    char room[{bytes}];\n    __asm__ volatile(\"\" : : \"r\"(room) : \"memory\");\n");
        source = source.replace(head, &room);
    }
    source
}

fn main() {
    let quickjs = env::var("QUICKJS_DIR").expect("QUICKJS_DIR names the sources of QuickJS-ng; run build.sh");
    let quickjs = Path::new(&quickjs);
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let source = fs::read_to_string(quickjs.join("quickjs.c")).expect("quickjs.c is there");
    fs::write(Path::new(&out).join("quickjs_padded.c"), padded(&source)).expect("OUT_DIR is writable");
    let mut build = cc::Build::new();
    for file in ["libregexp.c", "libunicode.c", "dtoa.c"] {
        build.file(quickjs.join(file));
    }
    for file in ["unit.c", "seam.c", "package.c", "code.c", "bytes.c", "natives.c", "files.c", "environ.c"] {
        build.file(Path::new("engine").join(file));
        println!("cargo:rerun-if-changed=engine/{file}");
    }
    build.file("../still.c");
    println!("cargo:rerun-if-changed=../still.c");
    for call in ["clock_time_get", "random_get", "fd_filestat_get", "path_filestat_get"] {
        println!("cargo:rustc-link-arg=--wrap=__wasi_{call}");
    }
    println!("cargo:rerun-if-changed=engine/engine.h");
    println!("cargo:rerun-if-env-changed=QUICKJS_DIR");
    build
        .include(quickjs)
        .include(&out)
        .define("_GNU_SOURCE", None)
        .define("NDEBUG", None)
        // One switch instead of computed jumps, which WebAssembly does not have.
        .define("EMSCRIPTEN", "1")
        .define("FE_DOWNWARD", "0")
        .define("FE_UPWARD", "0")
        .opt_level_str("s")
        .flag("-fno-strict-aliasing")
        .flag("-fvisibility=hidden")
        .warnings(false)
        .cargo_metadata(false)
        .compile("engine");
    println!("cargo:rustc-link-search=native={out}");
    println!("cargo:rustc-link-lib=static:+whole-archive=engine");
    println!("cargo:rustc-link-arg=-zstack-size={STACK_BYTES}");
    println!("cargo:rustc-link-arg=--stack-first");
}
