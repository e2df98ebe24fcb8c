#!/usr/bin/env bash
# Checks the files of deploy/: see check.py. Argument: a folder in which what it needs is installed, once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

made=${1:-target/clients}/deploy
if ! cmp -s tests/deploy/requirements.txt "$made/requirements.txt"; then
  rm -rf "$made"
  python3 -m venv "$made"
  "$made/bin/pip" install --quiet --requirement tests/deploy/requirements.txt
  cp tests/deploy/requirements.txt "$made/"
fi
exec "$made/bin/python" tests/deploy/check.py
