#!/usr/bin/env bash
# Fuzzes what the OpenAPI document describes: tests/clients/with-server.sh PROGRAM tests/clients/fuzz/run.sh [URL]
#
# Takes `schemathesis` from the PATH, or the one named by SCHEMATHESIS, and at most FUZZ_SECONDS (90). Fails when an answer is a
# 5xx (other than an action's own failure), is not described, or does not fit its description. A namespace of its own is
# fuzzed, with one thing of every kind in it, so that requests meet something.
set -uo pipefail
schemathesis=${SCHEMATHESIS:-schemathesis}
seconds=${FUZZ_SECONDS:-90}
document=${1:-$WISP_URL/api/v1/api-docs}
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

failed() {
  printf '%s\n\nclient result: FAILED. 0 passed, 1 failed (schemathesis)\n' "$1"
  exit 1
}

key=$(curl -sSf -X PUT -u "$WISP_SYSTEM_KEY" "$WISP_URL/admin/v1/namespaces/fuzz" | sed -n 's/.*"key": *"\([^"]*\)".*/\1/p')
[ -n "$key" ] || failed "no namespace to fuzz"

put() { # path, body
  curl -sSf -o /dev/null -X PUT -u "$key" -H 'Content-Type: application/json' -d "$2" "$WISP_URL/api/v1/namespaces/_/$1" ||
    failed "could not make $1"
}
module='(module (memory (export \"memory\") 2) (func (export \"wisp_alloc\") (param i32) (result i32) (i32.const 1024))
  (func (export \"wisp_run\") (param $ptr i32) (param $len i32) (result i64) (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr))
  (i64.const 32)) (i64.extend_i32_u (local.get $len)))))'
code="\"exec\":{\"kind\":\"wasm:1\",\"code\":\"$(tr '\n' ' ' <<<"$module")\"}"
put actions/echo "{$code}"
put actions/hello "{$code,\"annotations\":[{\"key\":\"web-export\",\"value\":true}]}"
put actions/chain '{"exec":{"kind":"sequence","components":["/_/echo","/_/echo"]}}'
put packages/p '{"publish":true,"parameters":[{"key":"a","value":1}]}'
put actions/p/echo "{$code}"
put packages/b '{"binding":{"namespace":"_","name":"p"}}'
put triggers/t '{}'
put rules/r '{"trigger":"/_/t","action":"/_/echo"}'

curl -sSf "$document" | python3 "$here/document.py" >"$folder/document.json" || failed "no document at $document"

# Fuzzes some of the document with a key.
fuzz() { # name of the report, seconds, key, arguments of schemathesis
  local report=$folder/$1.xml seconds=$2 key=$3
  shift 3
  "$schemathesis" run document.json --url "$WISP_URL" --auth "$key" --max-time "$seconds" --report junit \
    --report-junit-path "$report" --no-color "$@" 2>&1 | grep -v '^$' | tail -n 1000
  [ "${PIPESTATUS[0]}" = 0 ] || ended=1
}

# It reads its configuration from the current folder, and writes caches there.
cp "$here/schemathesis.toml" "$folder/"
cd "$folder" || exit 1
ended=0
fuzz api $((seconds * 4 / 5)) "$key" --exclude-path-regex '^/admin/'
# The operator's part, with a key that opens it, on namespaces that nobody else needs.
sed -i 's/^namespaces = .*/namespaces = { values = ["x", "y", "z"] }/' schemathesis.toml
fuzz admin $((seconds / 5)) "$WISP_SYSTEM_KEY" --include-path-regex '^/admin/'

total=$(cat ./*.xml 2>/dev/null | grep -o '<testcase ' | wc -l)
bad=$(cat ./*.xml 2>/dev/null | grep -oE '<(failure|error)[ >]' | wc -l)
[ "$total" != 0 ] || failed "nothing was fuzzed"
[ "$bad" -le "$total" ] || bad=$total
[ "$ended" = 0 ] || [ "$bad" != 0 ] || bad=1
word=ok
[ "$bad" = 0 ] || word=FAILED
printf '\nclient result: %s. %d passed, %d failed (schemathesis, %d s)\n' $word $((total - bad)) "$bad" "$seconds"
[ "$bad" = 0 ]
