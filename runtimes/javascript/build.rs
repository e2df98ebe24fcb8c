//! Compiles QuickJS-ng and the C half of the engine into the library. `QUICKJS_DIR` is where the sources of QuickJS-ng are;
//! build.sh finds them.

use std::{env, path::Path};

/// Bytes of the stack in linear memory. engine/unit.c says how much of it JavaScript may take.
const STACK_BYTES: usize = 1 << 20;

fn main() {
    let quickjs = env::var("QUICKJS_DIR").expect("QUICKJS_DIR names the sources of QuickJS-ng; run build.sh");
    let quickjs = Path::new(&quickjs);
    let mut build = cc::Build::new();
    for file in ["libregexp.c", "libunicode.c", "dtoa.c"] {
        build.file(quickjs.join(file));
    }
    for file in ["unit.c", "seam.c", "package.c", "natives.c", "files.c", "environ.c"] {
        build.file(Path::new("engine").join(file));
        println!("cargo:rerun-if-changed=engine/{file}");
    }
    println!("cargo:rerun-if-changed=engine/engine.h");
    println!("cargo:rerun-if-env-changed=QUICKJS_DIR");
    build
        .include(quickjs)
        .define("_GNU_SOURCE", None)
        .define("NDEBUG", None)
        // One switch instead of computed jumps, which WebAssembly does not have.
        .define("EMSCRIPTEN", "1")
        .define("FE_DOWNWARD", "0")
        .define("FE_UPWARD", "0")
        .opt_level(3)
        .flag("-fno-strict-aliasing")
        .flag("-fvisibility=hidden")
        .warnings(false)
        .cargo_metadata(false)
        .compile("engine");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    println!("cargo:rustc-link-search=native={out}");
    println!("cargo:rustc-link-lib=static:+whole-archive=engine");
    println!("cargo:rustc-link-arg=-zstack-size={STACK_BYTES}");
    println!("cargo:rustc-link-arg=--stack-first");
}
