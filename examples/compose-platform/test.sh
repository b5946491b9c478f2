#!/bin/bash
# Tests the scripts of the platform on Docker Compose: what they say about content is what the tests of
# `restore` rely on.
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
become_root "$self" "$@"

work=$(mktemp -d)
root=$work/platform
# Settings of the caller's, which must not reach the platform's engine.
export DOCKER_HOST=unix://$work/not-this-one DOCKER_TLS_VERIFY=
clean_up() {
  "$here/platform" -d "$root" destroy || true
  rm -rf -- "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

fail() {
  printf 'scripts-test: FAILED: %s\n' "$*" >&2
  exit 1
}
step() { printf 'scripts-test: %3d s: %s\n' "$SECONDS" "$*"; }
fingerprint() { "$here/platform" -d "$root" fingerprint >"$work/$1"; }
equal() { "$here/fingerprint.py" --compare "$work/$1" "$work/$2" >"$work/compared"; }
ask() { curl -sS -m 10 -o "$work/answer" -w '%{http_code}' -H "Host: $1" "http://127.0.0.1:$HTTP_PORT$2"; }

step "creating a platform"
"$here/platform" -d "$root" create --rows 100 --volume-mb 1
load_platform
[ "$(docker info -f '{{.Swarm.LocalNodeState}}')" = inactive ] || fail "the engine is in a swarm"
[ "$(ask www.example.test /health)" = 200 ] || fail "/health: $(cat "$work/answer")"
[ "$(ask www.example.test /api/version)" = 200 ] || fail "/api/version: $(cat "$work/answer")"
[ "$(ask elsewhere.test /api/version)" = 404 ] || fail "the default server lets others in"
curl -sS "http://127.0.0.1:$GRAFANA_PORT/api/health" | grep -q '"dashboards": 40' || fail "Grafana's stand-in"
"$here/platform" -d "$root" status >"$work/status" || fail "status of a running platform: $(cat "$work/status")"

step "a backup, and a restart of everything"
fingerprint first
fingerprint again
cmp -s "$work/first" "$work/again" || fail "two fingerprints of one state differ"
id=$("$here/backup.sh" -d "$root")
(cd "$root/backups/$id" &&
  sed -nE 's/^([^=|][^|]*)\|[^|]*\|([0-9a-f]{64})$/\2  \1/p' MANIFEST.txt >"$work/sums" &&
  [ "$(wc -l <"$work/sums")" -eq "$(find . -type f | wc -l)" ] &&
  sha256sum --quiet -c <(grep -v ' MANIFEST.txt$' "$work/sums")) || fail "the manifest's hashes do not hold"
"$here/platform" -d "$root" stop
if "$here/platform" -d "$root" status >"$work/status" 2>&1; then fail "status of a stopped platform is 0"; fi
"$here/platform" -d "$root" start
fingerprint restarted
equal first restarted || fail "a restart changed something: $(cat "$work/compared")"

step "damage"
"$here/damage.sh" -d "$root"
fingerprint damaged
if equal first damaged; then fail "damage does not show"; fi
# But for the containers, and what no component owns.
parts=$(grep -c '^=== ' "$work/first")
[ "$(grep -c ' different ' "$work/compared")" -eq $((parts - 2)) ] || fail "damage spares a part: $(cat "$work/compared")"
grep -q '^  untouched  *equal ' "$work/compared" || fail "damage reached what no component owns"
[ "$(ask www.example.test /health)" = 503 ] || fail "/health of a damaged platform is not 503"
# Every service starts on what is damaged, for a restore may have to turn back to it.
for service in redis postgres app worker nginx grafana; do
  "$here/platform" -d "$root" service "$service" stop
  "$here/platform" -d "$root" service "$service" start
done

step "nothing is left of it"
"$here/platform" -d "$root" destroy
[ ! -e "$root" ] || fail "destroy left the folder"
mkdir "$root"
touch "$root/somebody-else's"
if "$here/platform" -d "$root" destroy 2>/dev/null; then fail "destroy took a folder that is not its own"; fi
if "$here/platform" -d "$root" create 2>/dev/null; then fail "create took a folder that is not empty"; fi
rm -r "$root"
step "passed"
