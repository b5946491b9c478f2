#!/bin/bash
# The Python module's tests.
#
#   scripts/python-test.sh build         build it as a wheel, in the profile of the other tests, and
#                                        install it into an environment of its own, target/python-test
#   scripts/python-test.sh run [ARG…]    run the tests with what was built; arguments go to pytest
#   scripts/python-test.sh [ARG…]        both: scripts/python-test.sh -k component
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
venv=$target/python-test
requirements=restore-py/tests/requirements.txt

build() {
  # Debian's own Python, whatever else is first in PATH: its venv module is what the set-up installs.
  local python=/usr/bin/python3
  [ -x "$python" ] || python=python3
  if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --requirement "$requirements"
    cp "$requirements" "$venv/requirements.txt"
  fi
  rm -rf "$target/wheels"
  # With the library's features of the other tests, so that it is built once for both.
  "$venv/bin/maturin" build --quiet --locked --manifest-path restore-py/Cargo.toml --profile dev \
    --features restore-core/conformance,restore-core/fuzzing --compatibility linux --interpreter "$venv/bin/python" --out "$target/wheels"
  # What it was named once: two distributions of one module are in each other's way.
  if compgen -G "$venv/lib/python3*/site-packages/restore-[0-9]*.dist-info" >/dev/null; then
    "$venv/bin/python" -m pip uninstall --quiet --yes restore
  fi
  "$venv/bin/python" -m pip install --quiet --force-reinstall --no-index --no-deps "$target"/wheels/restore_platform-*.whl
}

run() {
  RESTORE_WHEEL=$(compgen -G "$target/wheels/restore_platform-*.whl") || {
    echo "the Python module is not built: run scripts/python-test.sh build" >&2
    exit 1
  }
  export RESTORE_WHEEL
  # The platform that is restored runs its servers as users of their own.
  local as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo --preserve-env)
  exec "${as_root[@]}" "$venv/bin/python" -m pytest -q -p no:cacheprovider "$@"
}

case ${1:-} in
  build) build ;;
  run)
    shift
    [ $# -gt 0 ] || set -- restore-py/tests
    run "$@"
    ;;
  *)
    build
    run restore-py/tests "$@"
    ;;
esac
