#!/usr/bin/env bash
# Runs a command against a Wisp server of its own.   usage: tests/clients/with-server.sh PROGRAM COMMAND [ARGUMENT…]
#
# The server gets any free port and a temporary folder, and is ended with SIGTERM afterwards. The command sees its address as
# WISP_URL, the keys of `guest` and `whisk.system` as WISP_KEY and WISP_SYSTEM_KEY, and this repository as WISP_REPOSITORY.
# What the server logs is shown when the command fails or the server does not end with 0; the exit code is 1 then.
set -uo pipefail
program=$(realpath "$1")
shift
WISP_REPOSITORY=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
folder=$(mktemp -d)
mkfifo "$folder/out"

# Small pools, so that it fits beside other tests. Nobody's proxy and nobody's configuration.
env -i PATH="$PATH" "$program" serve --json --listen 127.0.0.1:0 --data "$folder/data" \
  --config "$WISP_REPOSITORY/tests/clients/server.toml" >"$folder/out" 2>"$folder/log" &
server=$!
trap 'kill "$server" 2>/dev/null; rm -rf "$folder"' EXIT

exec 3<"$folder/out"
if ! read -r -t 60 first <&3; then
  echo "with-server: the server did not start" >&2
  cat "$folder/log" >&2
  exit 1
fi
# What else it prints must not fill the pipe.
cat <&3 >/dev/null &
WISP_URL=$(printf '%s' "$first" | sed -n 's/.*"url":"\([^"]*\)".*/\1/p')
WISP_KEY=23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP
WISP_SYSTEM_KEY=789c46b1-71f6-4ed5-8c54-816aa4f8c502:abczO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP
export WISP_URL WISP_KEY WISP_SYSTEM_KEY WISP_REPOSITORY
export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost

# The packages of whisk.system are put in behind the start; a client may meet a server that has just begun, but not a test.
for action in utils/split alarms/once samples/wordCount; do
  for _ in $(seq 1 240); do
    curl -sf -o /dev/null -u "$WISP_KEY" "$WISP_URL/api/v1/namespaces/whisk.system/actions/$action?code=false" && break
    sleep 0.25
  done
done

"$@"
status=$?

kill -TERM "$server"
wait "$server"
ended=$?
if [ $ended != 0 ]; then
  echo "with-server: the server ended with $ended, not with 0" >&2
  status=1
fi
[ $status = 0 ] || tail -n 40 "$folder/log" >&2
exit $((status != 0))
