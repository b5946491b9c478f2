#!/bin/bash
# Builds the Python module as a wheel, in the profile of the other tests, installs it into a virtual
# environment of its own (target/python-test), and runs the Python tests. Arguments go to pytest:
#
#   scripts/python-test.sh -k component
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
venv=$target/python-test
requirements=restore-py/tests/requirements.txt

# Debian's own Python, whatever else is first in PATH: its venv module is what the set-up installs.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
if ! cmp -s "$requirements" "$venv/requirements.txt"; then
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --requirement "$requirements"
  cp "$requirements" "$venv/requirements.txt"
fi

rm -rf "$target/wheels"
"$venv/bin/maturin" build --quiet --locked --manifest-path restore-py/Cargo.toml --profile dev \
  --compatibility linux --interpreter "$venv/bin/python" --out "$target/wheels"
export RESTORE_WHEEL
RESTORE_WHEEL=$(echo "$target"/wheels/restore-*.whl)
"$venv/bin/pip" install --quiet --force-reinstall --no-index --no-deps "$RESTORE_WHEEL"

# The platform that is restored runs its servers as users of their own.
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo --preserve-env)
exec "${as_root[@]}" "$venv/bin/python" -m pytest -q -p no:cacheprovider restore-py/tests "$@"
