#!/bin/sh
# Builds the examples and puts each .wasm beside its source.   usage: examples/build.sh [NAME…]
#
# Rust needs `rustup target add wasm32-wasip1 wasm32-wasip2`, C a clang with lld, Go nothing else. Other commands in their
# place are named by WISP_CARGO (cargo and its first arguments) and WISP_CC (clang and its first arguments).
set -eu
cd "$(dirname "$0")"
cargo=${WISP_CARGO:-cargo}
cc=${WISP_CC:-clang}

# Panics name source files: say where they are within Cargo's home or this repository, not where that is on this machine.
remap="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$(cd .. && pwd)=/wisp"
export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="$remap" CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS="$remap"

# rust NAME TARGET FILE: one package of the workspace, copied from the target folder.
rust() {
  $cargo build --quiet --release --package "$1" --target "$2"
  install -m 644 "target/$2/release/$3" "$1/$1.wasm"
}

build() {
  case $1 in
    hello-rust) rust hello-rust wasm32-wasip1 hello_rust.wasm ;;
    primes) rust primes wasm32-wasip1 primes.wasm ;;
    wordcount) rust wordcount wasm32-wasip1 wordcount.wasm ;;
    hello-component) rust hello-component wasm32-wasip2 hello_component.wasm ;;
    hello-c)
      $cc --target=wasm32 -Os -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=8192 \
        -Wl,--max-memory=131072 -o hello-c/hello-c.wasm hello-c/hello.c
      chmod 644 hello-c/hello-c.wasm
      ;;
    hello-go) (cd hello-go && GOOS=wasip1 GOARCH=wasm go build -trimpath -ldflags='-s -w' -o hello-go.wasm .) ;;
    *)
      echo "build.sh: no example '$1' is built; there are: hello-rust primes wordcount hello-component hello-c hello-go" >&2
      exit 2
      ;;
  esac
  echo "$1/$1.wasm: $(wc -c <"$1/$1.wasm") bytes"
}

# Go's is left out unless it is named: it is large and not kept in the repository.
[ $# -gt 0 ] || set -- hello-rust primes wordcount hello-component hello-c
for name in "$@"; do build "$name"; done
