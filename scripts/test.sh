#!/bin/bash
# What `make check`, `make test` and `make soak` run, step by step, and where the time went.
#
#   scripts/test.sh check    formatting, lints, and the tests that need no server
#   scripts/test.sh test     everything that must pass before a change lands
#   scripts/test.sh soak     every boundary of every kind of run, random kills, more of everything that
#                            is drawn by chance; MINUTES bounds it
#
# CONTRIBUTING.md says which is for what.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin"

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
steps=$target/test-steps.txt
: >"$steps"

# step NAME COMMAND…: its output, then its seconds in the table. A step that fails ends the script.
step() {
  local name=$1 begun=$SECONDS code=0
  shift
  printf '\n== %s\n' "$name"
  "$@" || code=$?
  printf '%s\t%s\n' "$((SECONDS - begun))" "$name" >>"$steps"
  if [ "$code" -ne 0 ]; then
    printf '\n%s failed (exit code %s)\n' "$name" "$code" >&2
    report
    exit "$code"
  fi
}

report() {
  /usr/bin/python3 scripts/test-times.py "$steps" "$target"/nextest/{check,servers,swarm,soak}/junit.xml
}

# Tests start servers as users of their own, and Docker engines, in a network of their own.
host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${host}_RUNNER=$PWD/scripts/test-runner"

nextest() { # PROFILE [MORE…]
  local profile=$1
  shift
  cargo nextest run --profile "$profile" --locked --workspace "$@"
}

# Whole platforms on swarms take a minute and more each, and what one of them shows is shown in parts by
# many others: each seed leaves half of them out. `make soak` has all.
left_out() {
  local name
  awk '/^#\[tokio::test/ { found = 1; next } found && /^async fn/ { sub(/\(.*/, "", $3); print $3; found = 0 }' \
    restore-core/tests/swarm/{swarm_hosting,swarm_nodes}/mod.rs |
    while read -r name; do
      printf '%s %s\n' "$(printf '%s %s' "$RESTORE_TEST_SEED" "$name" | sha256sum | cut -c 1-16)" "$name"
    done | sort | awk 'NR % 2 { print $2 }'
}

# Engines and swarms have the machine to themselves: a swarm that gets no processor takes its nodes for
# dead. One half that fails does not keep the other from being seen.
all_tests() {
  local code=0 without
  nextest servers || code=$?
  mapfile -t without < <(left_out)
  [ "${#without[@]}" -gt 3 ] || { echo "the whole platforms on swarms are not found" >&2; return 1; }
  printf '\nwith this seed without %s\n' "${without[*]}"
  nextest swarm -E "not ($(printf ' + test(/::%s$/)' "${without[@]}" | cut -c 4-))" || code=$?
  return "$code"
}

# A commit's own seed: another commit draws another sample, and the same one can be repeated.
seed() { git rev-parse --short=12 HEAD 2>/dev/null || echo restore; }

clippy() { cargo clippy --quiet --locked "$@" -- -D warnings; }

# Every program and test, compiled by clippy's compiler: it lints what it builds, so that everything is
# compiled once and not once for each. The variables are those that `cargo clippy` sets.
lint_and_build() {
  export RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
  nextest default --no-run --all-targets
}

# The library as embedders may choose it: each feature alone, tests left out. Its lints are those of the whole,
# which has all features. Beside the build, which leaves a core idle for half of its time.
features() {
  local each
  for each in "" conformance fuzzing object-store; do
    RUSTFLAGS="-D warnings" CARGO_INCREMENTAL=0 cargo check --quiet --locked --target-dir "$target/features" \
      -p restore-core --no-default-features --features "$each" || return
  done
}
begin_features() {
  features >"$target/features.log" 2>&1 &
  features=$!
}
features_are_sound() { wait "$features" || { cat "$target/features.log" >&2; return 1; }; }

# As the test of the public listing makes it, which then finds it made. After the build, whose variables it
# shares.
documentation() {
  RUSTDOC=$PWD/scripts/rustdoc-json.sh CARGO_TARGET_DIR=$target cargo rustdoc --quiet --locked --lib \
    -p restore-core --all-features -- -Z unstable-options --output-format json -D warnings
}

# Whether a dependency is known to be unsafe. The list comes from the network: without that it is said, and no
# more.
advisories() {
  if timeout 120 cargo deny --log-level error fetch db; then
    cargo deny --log-level error check advisories
  else
    echo 'warning: the list of advisories cannot be fetched: no dependency was looked up in it' >&2
  fi
}

# With the oldest Rust that the library promises to build with, where that one is installed.
oldest() {
  local version
  version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  if rustup toolchain list 2>/dev/null | grep -q "^$version"; then
    cargo "+$version" check --quiet --locked -p restore-core -p restore-cli --target-dir "$target/oldest"
  else
    echo "Rust $version is not installed here: whether the library builds with it is not tried" \
      "(rustup toolchain install $version --profile minimal)"
  fi
}

# The images of the example swarm, which take a network: made once, beside the builds, and waited for.
images() {
  examples/hosting-platform/images.sh >"$target/images.log" 2>&1 &
  images=$!
}
# The same of the server of S3's protocol.
s3_server() { scripts/s3-server.sh setup; }
# And of the majors of PostgreSQL that Debian does not have.
postgres_majors() { scripts/postgres-majors.sh setup; }
images_are_there() { wait "$images" || { tail -n 20 "$target/images.log" >&2; return 1; }; }

# As far as MINUTES lead. The first failure ends it at once, so that whoever is stopped by the clock has
# seen none.
soak() {
  local code=0
  rm -rf "$target/damage" "$target/damage.md"
  timeout --signal INT --kill-after 120 "$1m" cargo nextest run --profile soak --locked --workspace || code=$?
  /usr/bin/python3 scripts/damage-table.py "$target/damage" "$target/damage.md"
  [ "$code" -eq 124 ] || return "$code"
  printf '\nThe %s minutes are over: whatever ended before has passed, the others were not tried to their end.\n' "$1"
}

scripts/setup.sh engine
PATH=$(scripts/tools.sh):$PATH
asked=${RESTORE_TEST_SEED:-}
export RESTORE_TEST_SEED=${asked:-$(seed)}
rm -f "$target"/nextest/*/junit.xml
case ${1:-} in
  check)
    step "formatting" cargo fmt --all --check
    step "lints" clippy --workspace --all-targets
    # No other test programs are built: linking them takes longer than running these.
    step "tests without servers" nextest check --lib --bins --test library --test cli
    ;;
  test)
    images
    step "formatting" cargo fmt --all --check
    step "licences and sources" cargo deny --log-level error check licenses sources bans
    step "advisories" advisories
    step "the oldest Rust" oldest
    begin_features
    step "lints, and building the tests" lint_and_build
    step "each feature alone" features_are_sound
    step "documentation" documentation
    step "building the Python module" scripts/python-test.sh build
    step "the server of S3's protocol" s3_server
    step "other majors of PostgreSQL" postgres_majors
    step "images of the example swarm" images_are_there
    printf '\nsamples are drawn with RESTORE_TEST_SEED=%s\n' "$RESTORE_TEST_SEED"
    step "all tests" all_tests
    step "examples in the documentation" cargo test --quiet --locked --doc -p restore-core
    ;;
  soak)
    minutes=${MINUTES:-60}
    # What goes on at random for as long as one likes has half of the time.
    export RESTORE_TEST_EXHAUSTIVE=1 RESTORE_SOAK_MINUTES=$((minutes / 2))
    export RESTORE_TEXTS=${RESTORE_TEXTS:-5000} RESTORE_RACES=${RESTORE_RACES:-1000}
    RESTORE_TEST_SEED=${asked:-$(date +%s)}
    images
    step "building the tests" nextest default --no-run
    step "images of the example swarm" images_are_there
    step "the server of S3's protocol" s3_server
    step "other majors of PostgreSQL" postgres_majors
    printf '\nrepeat with RESTORE_TEST_SEED=%s\n' "$RESTORE_TEST_SEED"
    step "every boundary, random kills" soak "$minutes"
    ;;
  *)
    echo "usage: scripts/test.sh check | test | soak" >&2
    exit 2
    ;;
esac
report
