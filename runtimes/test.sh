#!/usr/bin/env bash
# Makes an action of every template, builds it with its language's tool and runs it.   usage: runtimes/test.sh PROGRAM
#
# A language whose tool is not installed is left out and named. The last line counts.
set -uo pipefail
program=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")"
passed=0 failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache GOFLAGS=-buildvcs=false

have() { command -v "$1" >/dev/null 2>&1; }

check() { # what, command
  local what=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "runtimes/test.sh: $what failed:" >&2
    tail -n 20 "$work/log" >&2
  fi
}

greets() { # folder
  [ "$("$program" run "$1" -p name 'Ada "L" é' --json 2>"$work/err" | tr -d ' \n')" = '{"greeting":"Hello,Ada\"L\"é!"}' ] &&
    grep -q 'greeting Ada' "$work/err" &&
    ! "$program" run "$1" -p name '' 2>"$work/err" &&
    grep -q 'name must not be empty' "$work/err"
}

template() { # language, whether its tool is there
  local language=$1
  shift
  if ! "$@"; then
    echo "runtimes/test.sh: $language is left out: its tool is not installed"
    return
  fi
  "$program" new "$language" "my-$language" >"$work/log" || return
  check "$language: wisp build" "$program" build "my-$language"
  check "$language: wisp run" greets "my-$language"
}

rust_for_wasm() {
  [ -n "${WISP_CARGO:-}" ] || [ -d "$(rustc --print target-libdir --target wasm32-wasip1 2>&1)" ]
}
zig_is_there() { [ -n "${WISP_ZIG:-}" ] || have zig; }
clang() { [ -n "${WISP_CC:-}" ] || { have clang && have wasm-ld; }; }
go_1_24() { have go && [ "$(printf '%s\n' go1.24 "$(go env GOVERSION)" | sort -V | head -n 1)" = go1.24 ]; }

go_1_24 && check "go: go test" bash -c 'cd go && go vet ./... && go test ./...'

cd "$work" || exit 1
template rust rust_for_wasm
template go go_1_24
template c clang
template assemblyscript have npm
template zig zig_is_there
template javascript true
template python true

[ "$failed" = 0 ] && word=ok || word=FAILED
echo "client result: $word. $passed passed; $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
