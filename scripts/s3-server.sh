#!/bin/bash
# The S3-compatible server of the tests (moto), in a virtual environment of its own
# (target/s3-server): made when it is not there as testing/src/s3/requirements.txt
# says, and started. With the argument setup it is only made.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
venv=$target/s3-server
from=testing/src/s3

# Of several tests that want it at the same time, one makes it.
exec 9>"$target/s3-server.lock"
flock 9
if ! cmp -s "$from/requirements.txt" "$venv/requirements.txt"; then
  rm -rf "$venv"
  python=/usr/bin/python3
  [ -x "$python" ] || python=python3
  "$python" -m venv "$venv" >&2
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$from/requirements.txt" >&2
  cp "$from/requirements.txt" "$venv/requirements.txt"
fi
exec 9>&-
[ "${1:-}" != setup ] || exit 0
exec "$venv/bin/python" "$from/server.py"
