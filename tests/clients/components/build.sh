#!/bin/sh
# Builds components that speak HTTP with other people's tools: page.js with @bytecodealliance/componentize-js (npm), app.py with
# componentize-py (PyPI).   usage: tests/clients/components/build.sh FOLDER
#
# FOLDER gets the tools, js.wasm (12 MB) and py.wasm (18 MB), too large to be kept here; what is there and not older than its
# source stays. The interfaces come from the crate wasmtime-wasi-http in Cargo's home: `cargo fetch` puts them there.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"
set -- "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/wasmtime-wasi-http-48*/wit
wit=$1
[ -d "$wit" ] || { echo "build.sh: no crate wasmtime-wasi-http in Cargo's home: run \`cargo fetch\`" >&2; exit 1; }

# Whether a file is there and no older than these.
fresh() {
  made=$1
  shift
  [ -e "$made" ] || return 1
  for source; do [ "$made" -nt "$source" ] || return 1; done
}

javascript() {
  # Into a folder that has some of it, npm installs without what it then takes for nobody's.
  rm -rf node_modules
  npm install --prefix . --no-save --no-package-lock --no-audit --no-fund --loglevel=error \
    @bytecodealliance/componentize-js@0.19.3
  # Its engine speaks the version it was built with, and knows no unstable interfaces.
  version=$(grep -aoh 'wasi:http/incoming-handler@[0-9.]*' node_modules/@bytecodealliance/componentize-js/lib/*.wasm | tail -1)
  rm -rf wit
  cp -rL "$wit" wit
  chmod -R u+w wit
  sed -i '/timezone/d' wit/deps/cli.wit
  sed -i "s/0\.2\.12/${version#*@}/g" wit/*.wit wit/deps/*.wit
  cat >componentize.mjs <<END
import { componentize } from '@bytecodealliance/componentize-js';
import { writeFile } from 'node:fs/promises';
const { component } = await componentize({ sourcePath: '$here/page.js', witPath: '$PWD/wit', worldName: 'wasi:http/proxy' });
await writeFile('js.wasm', component);
END
  node componentize.mjs
}

python() {
  [ -x venv/bin/pip ] || python3 -m venv venv
  venv/bin/pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
  PYTHONDONTWRITEBYTECODE=1 venv/bin/componentize-py -d "$wit" -w wasi:http/proxy componentize -p "$here" app -o py.wasm
}

fresh js.wasm "$here/page.js" "$here/build.sh" || javascript
fresh py.wasm "$here/app.py" "$here/requirements.txt" "$here/build.sh" || python
ls -l js.wasm py.wasm
