#!/bin/sh
# Builds components that speak HTTP with other people's tools: page.js with @bytecodealliance/componentize-js (npm), app.py with
# componentize-py (PyPI).   usage: tests/clients/components/build.sh FOLDER
#
# FOLDER gets js.wasm (12 MB) and py.wasm (18 MB), too large to be kept here. They are uploaded as any other action:
#   wisp action create js FOLDER/js.wasm --web true      and then      curl .../api/v1/web/guest/default/js/stream
# The interfaces come from the crate wasmtime-wasi-http in Cargo's home: `cargo fetch` puts them there. Compiling py.wasm takes
# ten seconds of an idle core in a release build; modules of its size have minutes for it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"
wit=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/wasmtime-wasi-http-48*/wit | head -1)

npm init -y >/dev/null
npm install --silent @bytecodealliance/componentize-js@0.19
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

python3 -m venv venv
venv/bin/pip install --quiet componentize-py
PYTHONDONTWRITEBYTECODE=1 venv/bin/componentize-py -d "$wit" -w wasi:http/proxy componentize -p "$here" app -o py.wasm
ls -l js.wasm py.wasm
