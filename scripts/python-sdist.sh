#!/bin/bash
# The Python module's source distribution, with a lock file that fits what is in it: maturin takes a
# part of the workspace and the lock file of all of it, which no `cargo build --locked` accepts.
#
#   scripts/python-sdist.sh FOLDER       writes FOLDER/restore_platform-VERSION.tar.gz
set -euo pipefail
folder=${1:?a folder to write it to}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
maturin=maturin
[ ! -x "$target/python-test/bin/maturin" ] || maturin=$target/python-test/bin/maturin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$maturin" sdist --manifest-path restore-py/Cargo.toml --out "$work/made" >&2
made=("$work"/made/*.tar.gz)
name=$(basename "${made[0]}" .tar.gz)
tar -xzf "${made[0]}" -C "$work"
# Drops what is not needed; adds and updates nothing, for which it would need the network.
cargo metadata --offline --format-version 1 --manifest-path "$work/$name/Cargo.toml" >/dev/null
cargo metadata --locked --offline --format-version 1 --manifest-path "$work/$name/Cargo.toml" >/dev/null
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$work" -cf - "$name" |
  gzip -9n >"$folder/$name.tar.gz"
echo "$folder/$name.tar.gz"
