#!/bin/sh
# Builds the actions of /whisk.system into wasm/, where the server takes them from.   usage: runtimes/system/build.sh
#
# Needs `rustup target add wasm32-unknown-unknown`. Another command in the place of cargo is named by WISP_CARGO (cargo and
# its first arguments).
set -eu
cd "$(dirname "$0")"
cargo=${WISP_CARGO:-cargo}

# No name of a folder of this machine in the modules; a stack as small as the deepest value needs, or every instance would
# begin with a mebibyte.
remap="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$(cd ../.. && pwd)=/wisp"
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="$remap -Clink-arg=-zstack-size=131072"

target=${CARGO_TARGET_DIR:-../target}/wasm32-unknown-unknown/release/examples
$cargo build --quiet --release --package wisp-system --examples --target wasm32-unknown-unknown
mkdir -p wasm
rm -f wasm/*.wasm
for source in actions/*/*.rs; do
  package=$(basename "$(dirname "$source")")
  built=${package}_$(basename "$source" .rs)
  name=$(echo "$built" | tr _ -)
  install -m 644 "$target/$built.wasm" "wasm/$name.wasm"
  echo "wasm/$name.wasm: $(wc -c <"wasm/$name.wasm") bytes"
done
