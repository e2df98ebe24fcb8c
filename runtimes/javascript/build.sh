#!/bin/sh
# Builds engine.wasm: compiles QuickJS-ng and the engine to WebAssembly, bundles the engine's scripts, runs them and takes the snapshot.
#
# Needs cargo with the target wasm32-wasip1, a clang for WebAssembly with wasi-libc (wasi-sdk, or a distribution's), Node and npm.
#   WISP_CARGO         cargo and its first arguments, in place of `cargo`
#   WISP_CC            clang and its first arguments, in place of `clang`
#   WISP_WASI_SYSROOT  where wasi-libc's headers are, in place of clang's own
set -eu
cd "$(dirname "$0")"
cargo=${WISP_CARGO:-cargo}
target=wasm32-wasip1

quickjs=$(cargo metadata --quiet --locked --format-version 1 |
  node -e 'let s="";process.stdin.on("data",d=>s+=d).on("end",()=>{
    const p=JSON.parse(s).packages.find(p=>p.name==="rquickjs-sys");console.log(require("path").dirname(p.manifest_path)+"/quickjs")})')
export QUICKJS_DIR="$quickjs"
# shellcheck disable=SC2086
set -- ${WISP_CC:-clang}
export CC_wasm32_wasip1="$1"
shift
export CFLAGS_wasm32_wasip1="$* ${WISP_WASI_SYSROOT:+--sysroot=$WISP_WASI_SYSROOT}"
remap="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$(cd ../.. && pwd)=/wisp"
export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="$remap"
$cargo build --quiet --locked --release --target $target

(cd js && npm ci --silent --no-audit --no-fund --ignore-scripts)
node js/bundle.mjs >target/scripts.bin
js/node_modules/@bytecodealliance/wizer-linux-x64/wizer target/$target/release/wisp_javascript.wasm -o engine.wasm \
  --allow-wasi --wasm-bulk-memory true <target/scripts.bin
chmod 644 engine.wasm
echo "engine.wasm: $(wc -c <engine.wasm) bytes"
