#!/bin/sh
# Builds the examples and puts each .wasm beside its source.   usage: examples/build.sh [NAME…]
#
# Rust needs `rustup target add wasm32-wasip1 wasm32-wasip2`, C a clang with lld, AssemblyScript npm, Go 1.24, Zig zig.
# Other commands in their place are named by WISP_CARGO, WISP_CC, WISP_ASC and WISP_ZIG, each with its first arguments.
set -eu
cd "$(dirname "$0")"
cargo=${WISP_CARGO:-cargo}
cc=${WISP_CC:-clang}
asc=${WISP_ASC:-npx --yes --package assemblyscript@0.28 asc}
zig=${WISP_ZIG:-zig}

# Panics name source files: say where they are within Cargo's home or this repository, not where that is on this machine.
remap="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$(cd .. && pwd)=/wisp"
export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="$remap" CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS="$remap"

# rust PACKAGE TARGET OUT: one package of the workspace, copied from the target folder.
rust() {
  $cargo build --quiet --release --package "$1" --target "$2"
  install -m 644 "target/$2/release/$(echo "$1" | tr - _).wasm" "$3"
}

# c SOURCE OUT
c() {
  $cc --target=wasm32 -Os -Wall -nostdlib -I../runtimes/c -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o "$2" "$1"
  chmod 644 "$2"
}

# assemblyscript SOURCE OUT
assemblyscript() {
  $asc "$1" -o "$2" -Osize --runtime minimal --exportStart _initialize \
    --use abort=../runtimes/assemblyscript/assembly/wisp/abort_with_log
}

build() {
  out=$1/$1.wasm
  case $1 in
    hello-rust | primes | thumbnail | markdown | cron-report) rust "$1" wasm32-wasip1 "$out" ;;
    qrcode) rust qrcode-action wasm32-wasip1 "$out" ;;
    # Binaries keep the hyphens of their names.
    wordcount) $cargo build --quiet --release --package wordcount --target wasm32-wasip1 &&
      install -m 644 target/wasm32-wasip1/release/wordcount.wasm "$out" ;;
    chat | hello-component | shortener) rust "$1" wasm32-wasip2 "$out" ;;
    hello-c)
      $cc --target=wasm32 -Os -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=8192 \
        -Wl,--max-memory=131072 -o "$out" hello-c/hello.c
      chmod 644 "$out"
      ;;
    hello-assemblyscript) assemblyscript "$1/index.ts" "$out" ;;
    hello-go) (cd hello-go && GOOS=wasip1 GOARCH=wasm go build -buildvcs=false -trimpath -ldflags='-s -w' -buildmode=c-shared -o hello-go.wasm .) ;;
    hello-zig)
      $zig build-exe -target wasm32-freestanding -fno-entry -rdynamic -OReleaseSmall --stack 65536 "-femit-bin=$out" \
        --dep wisp -Mroot=hello-zig/main.zig -Mwisp=../runtimes/zig/wisp.zig
      rm -f "$out.o"
      chmod 644 "$out"
      ;;
    polyglot)
      rust polyglot-split wasm32-wasip1 polyglot/split/split.wasm
      assemblyscript polyglot/count/index.ts polyglot/count/count.wasm
      c polyglot/top/top.c polyglot/top/top.wasm
      out=polyglot/*/*.wasm
      ;;
    *)
      echo "build.sh: no example '$1' is built; there are: $all hello-go hello-zig" >&2
      exit 2
      ;;
  esac
  for file in $out; do echo "$file: $(wc -c <"$file") bytes"; done
}

all="chat shortener hello-rust primes wordcount thumbnail markdown qrcode cron-report hello-component hello-c hello-assemblyscript polyglot"
# Go's is left out unless it is named, since it is large and not kept in the repository; and Zig's, which is a large tool.
# shellcheck disable=SC2086 # a list of words
[ $# -gt 0 ] || set -- $all
for name in "$@"; do build "$name"; done
