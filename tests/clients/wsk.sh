#!/usr/bin/env bash
# OpenWhisk's own command line client against a Wisp server: tests/clients/with-server.sh PROGRAM tests/clients/wsk.sh
#
# Takes the `wsk` that is on the PATH, or the one named by WSK. Prints a line for each command that is tested and what was
# wrong; the exit code is 1 when one failed.
set -uo pipefail
wsk=${WSK:-wsk}
guests=$WISP_REPOSITORY/tests/fixtures/guests
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export WSK_CONFIG_FILE=$folder/wskprops LANG=en_US.UTF-8
printf 'APIHOST=%s\nAUTH=%s\n' "$WISP_URL" "$WISP_KEY" >"$WSK_CONFIG_FILE"
cd "$folder" || exit 1
passed=0 failed=0 output=

# Runs wsk and fails unless it ends with the exit code and prints the text (a pattern).
gives() { # exit code, pattern, arguments of wsk
  local code=$1 pattern=$2 ended
  shift 2
  output=$(timeout 90 "$wsk" "$@" 2>&1 </dev/null)
  ended=$?
  verdict "wsk $*" "$([ $ended = "$code" ] || echo "exit code $ended, expected $code"
    grep -qE -- "$pattern" <<<"$output" || echo "not there: $pattern")"
}
ok() { gives 0 "$@"; }

verdict() { # what, what is wrong
  if [ -z "$2" ]; then
    passed=$((passed + 1))
    echo "ok      $1"
  else
    failed=$((failed + 1))
    printf 'FAILED  %s\n%s\n%s\n' "$1" "$2" "$output"
  fi
}

# Fetches an address and fails unless the body has the text.
served() { # pattern, arguments of curl
  local pattern=$1
  shift
  output=$(curl -sS --max-time 30 "$@" 2>&1)
  verdict "curl $*" "$(grep -qE -- "$pattern" <<<"$output" || echo "not there: $pattern")"
}

# An HTTP status as an exit code.
http() { echo $(($1 % 256)); }

answers() { # file, JSON: a module that answers it, whatever it is asked
  local data
  data=$(printf '%s' "$2" | od -An -v -tx1 | tr -d ' \n' | sed 's/../\\&/g')
  printf '(module (memory (export "memory") 1) (data (i32.const 16) "%s")
  (func (export "wisp_alloc") (param i32) (result i32) (i32.const 8192))
  (func (export "wisp_run") (param i32 i32) (result i64) (i64.const %d)))' \
    "$data" $(((16 << 32) | ${#2})) >"$1"
}

cp "$guests/echo.wat" echo.wat
answers hello.wat '{"body":"hello web"}'
answers fails.wat '{"error":"no such luck"}'
base64 "$WISP_REPOSITORY/examples/hello-rust/hello-rust.wasm" | tr -d '\n' >rust.b64
base64 "$WISP_REPOSITORY/examples/wordcount/wordcount.wasm" | tr -d '\n' >count.b64

# Properties and namespaces.
ok 'whisk API build.*[0-9]' property get --apibuild
ok 'whisk namespace.*guest' property get --namespace
ok '^guest$' namespace list
ok 'actions' list

# Actions.
ok 'ok: created action echo' action create echo echo.wat --kind wasm:1 --param bound 1 --annotation description echoes -m 128 -t 5000
gives "$(http 409)" 'resource already exists' action create echo echo.wat --kind wasm:1
gives "$(http 400)" "The specified runtime 'cobol:85' is not supported" action create bad echo.wat --kind cobol:85
gives "$(http 404)" 'The requested resource does not exist' action get nobody
ok '"kind": "wasm:1"' action get echo
ok '"timeout": 5000' action get echo limits
ok '/api/v1/namespaces/guest/actions/echo' action get echo --url
ok '/guest/echo +private wasm:1' action list
ok '"n": 1' action invoke echo --param n 1 --result
ok '"bound": 1' action invoke echo -r
ok 'ok: invoked /_/echo with id [0-9a-f]{32}' action invoke echo
ok '"status": "success"' action invoke echo --blocking
ok 'ok: updated action echo' action update echo --param bound 2
ok '"bound": 2' action invoke echo -r
ok 'ok: created action rust' action create rust rust.b64 --kind wasm:default
ok 'Hello, Ada!' action invoke rust -r -p name Ada
ok 'ok: created action fails' action create fails fails.wat --kind wasm:1
gives "$(http 502)" 'no such luck' action invoke fails -r
gives "$(http 502)" 'no such luck' action invoke fails -b
ok 'ok: created action chain' action create chain --sequence echo,/_/rust
ok 'Hello, Bob!' action invoke chain -r -p name Bob
ok '/guest/echo' action get chain exec
gives "$(http 400)" 'Sequence component does not exist' action create bad --sequence nobody
ok 'ok: created action copy' action create copy --copy echo
ok '"bound": 2' action invoke copy -r
ok 'ok: deleted action copy' action delete copy
gives "$(http 404)" 'does not exist' action delete copy

# Web actions.
ok 'ok: created action hello' action create hello hello.wat --kind wasm:1 --web true
ok '/api/v1/web/guest/default/hello' action get hello --url
served '^hello web$' "$WISP_URL/api/v1/web/guest/default/hello"
ok 'ok: updated action hello' action update hello --web true --web-secure secret
served 'Authentication is possible but has failed' "$WISP_URL/api/v1/web/guest/default/hello"
served '^hello web$' -H 'X-Require-Whisk-Auth: secret' "$WISP_URL/api/v1/web/guest/default/hello"
ok 'ok: updated action hello' action update hello --web true --web-secure false
served '^hello web$' "$WISP_URL/api/v1/web/guest/default/hello"

# Activations.
ok 'ok: created action count' action create count count.b64 --kind wasm:1
ok '"activationId"' action invoke count -b -p text 'one two'
id=$(sed -n 's/.*with id \([0-9a-f]*\).*/\1/p' <<<"$output" | head -1)
ok "$id" activation list count
ok "$id" activation list --limit 3
ok '"logs": ' activation list --full --limit 1
ok '"activationId": "'"$id" activation get "$id"
ok '"status": "success"' activation get "$id" response
ok 'stderr:|stdout:' activation logs "$id"
ok '"' activation result "$id"
ok '"' activation result --last
ok 'Enter Ctrl-c to exit' activation poll --exit 1 --since-minutes 5
ok 'count' activation poll --exit 1 --since-minutes 5
gives "$(http 404)" 'The requested resource does not exist' activation get 00000000000000000000000000000000

# Packages.
ok 'ok: created package p' package create p --param a 1 --shared yes --annotation description ours
ok 'ok: created action p/echo' action create p/echo echo.wat --kind wasm:1
ok 'ok: created action p/feed' action create p/feed echo.wat --kind wasm:1 --annotation feed true
ok '"a": 1' action invoke p/echo -r
ok 'ok: updated package p' package update p --param a 2
ok 'ok: created binding b' package bind p b --param b 3
ok '"a": 2' action invoke b/echo -r
ok '"b": 3' action invoke b/echo -r
ok 'action /guest/p/echo' package get p --summary
ok 'feed +/guest/p/feed' package get p --summary
ok '/guest/p +shared' package list
ok '/guest/p/echo' action list p
ok '/guest/p/echo' action list b
ok '/whisk.system/utils' package list /whisk.system
ok 'action /whisk.system/utils/echo: Returns the input' package get /whisk.system/utils --summary
ok '"count": 3' action invoke /whisk.system/samples/wordCount -r -p payload 'Five fuzzy felines'
ok 'ok: created binding mine' package bind /whisk.system/utils mine
ok 'ok: created action sorted' action create sorted --sequence mine/split,mine/sort
ok '"length": 2' action invoke sorted -r -p payload 'b,a' -p separator ,
ok 'ok: deleted package mine' package delete mine
gives "$(http 409)" 'Package not empty \(contains 2 entities\)' package delete p

# Triggers and rules.
ok 'ok: created trigger t' trigger create t --param n 1
ok 'ok: triggered /_/t' trigger fire t
ok 'ok: created rule r' rule create r t echo
ok 'active' rule status r
ok 'ok: triggered /_/t with id [0-9a-f]{32}' trigger fire t --param n 2
id=$(sed -n 's/.*with id \([0-9a-f]*\).*/\1/p' <<<"$output")
for _ in 1 2 3 4 5 6 7 8 9 10; do "$wsk" activation get "$id" >/dev/null 2>&1 && break; sleep 0.2; done
ok 'guest/r' activation get "$id"
ok 'ok: disabled rule r' rule disable r
ok 'inactive' rule status r
ok 'ok: enabled rule r' rule enable r
ok '/guest/r +private +active' rule list
ok '"status": "active"' rule get r
ok 'ok: updated rule r' rule update r t p/echo
ok 'ok: updated trigger t' trigger update t --param n 3
ok '"value": 3' trigger get t
ok '/guest/t +private' trigger list
ok 'guest/r' trigger get t rules
ok 'CREATE' trigger create fed --feed p/feed --param every 1m
ok 'READ' trigger get fed
ok 'UPDATE' trigger update fed --param every 2m
ok 'DELETE' trigger delete fed
gives "$(http 502)" 'no such luck' trigger create unfed --feed fails
gives "$(http 404)" 'does not exist' trigger get unfed
ok 'ok: deleted rule r' rule delete r --disable
ok 'ok: deleted trigger t' trigger delete t

# APIs.
ok 'ok: created API /v1/hello (GET|get) for action /_/hello' api create /v1 /hello get hello --response-type http -n Greetings
url=$(grep -oE 'https?://[^ ]+' <<<"$output" | tail -1)
served '^hello web$' "$url"
gives 1 'is not a web action' api create /v1 /echo get echo
ok 'ok: created API /v1/hello/.id. (GET|get)' api create /v1 '/hello/{id}' get hello --response-type http
ok 'Greetings' api list
ok '/v1/hello' api list /v1 --full
ok '"basePath": "/v1"' api get /v1
ok 'ok: deleted /hello (GET|get) from /v1' api delete /v1 /hello get
ok 'ok: deleted API /v1' api delete /v1
gives 1 "API '/v1' does not exist" api delete /v1
cat >swagger.json <<JSON
{"swagger": "2.0", "info": {"title": "Uploaded", "version": "1.0.0"}, "basePath": "/up", "paths": {"/hi": {"get": {
  "operationId": "getHi", "responses": {"default": {"description": "Default response"}},
  "x-openwhisk": {"namespace": "guest", "package": "default", "action": "hello",
    "url": "$WISP_URL/api/v1/web/guest/default/hello.http"}}}}}
JSON
ok 'ok: created API' api create --config-file swagger.json
ok 'Uploaded' api list
ok 'ok: deleted API /up' api delete /up

# A project. Zipped, because wskdeploy knows no other file extension for kinds it was not made with.
python3 -m zipfile -c echo.zip echo.wat
cat >manifest.yaml <<'YAML'
packages:
  project:
    inputs:
      a: 1
    actions:
      echo:
        function: echo.zip
        runtime: wasm:1
    sequences:
      twice:
        actions: echo, echo
    triggers:
      fired:
    rules:
      does:
        trigger: fired
        action: echo
YAML
ok 'Deployment completed successfully' project deploy --project . --manifest manifest.yaml
ok '"a": 1' action invoke project/echo -r
ok '"n": 1' action invoke project/twice -r -p n 1
ok 'active' rule status does
ok 'Undeployment completed successfully' project undeploy --project . --manifest manifest.yaml
gives "$(http 404)" 'does not exist' package get project

word=ok
[ $failed = 0 ] || word=FAILED
printf '\nclient result: %s. %d passed, %d failed (wsk)\n' $word $passed $failed
[ $failed = 0 ]
