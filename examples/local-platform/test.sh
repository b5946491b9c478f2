#!/bin/bash
# Tests the platform's scripts: what they say about content is what the tests of `restore` rely on.
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
become_root "$self" "$@"

work=$(mktemp -d)
root=$work/platform
chmod 755 "$work"
clean_up() {
  "$here/platform" -d "$root" destroy || true
  "$here/platform" -d "$work/second one" destroy || true
  rm -rf -- "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

fail() {
  printf 'scripts-test: FAILED: %s\n' "$*" >&2
  exit 1
}
fingerprint() { "$here/platform" -d "$root" fingerprint >"$work/$1"; }
equal() { "$here/fingerprint.py" --compare "$work/$1" "$work/$2" >"$work/compared"; }
ask() { curl -sS -m 10 -o "$work/answer" -w '%{http_code}' -H "Host: $1" "http://127.0.0.1:$HTTP_PORT$2"; }

"$here/platform" -d "$root" create --rows 300 --volume-mb 2
load_platform

# It serves, through nginx, by its name and by none.
[ "$(ask www.example.test /health)" = 200 ] || fail "/health: $(cat "$work/answer")"
grep -q '"status": "ok"' "$work/answer" || fail "/health says $(cat "$work/answer")"
[ "$(ask www.example.test /api/version)" = 200 ] || fail "/api/version: $(cat "$work/answer")"
grep -q '"version": "2.4.1"' "$work/answer" || fail "/api/version says $(cat "$work/answer")"
[ "$(ask elsewhere.test /health)" = 200 ] || fail "/health of the default server"
[ "$(ask elsewhere.test /api/version)" = 404 ] || fail "the default server lets others in"

# A second platform beside it, in a folder with a blank, is another one.
"$here/platform" -d "$work/second one" create --rows 20 --volume-mb 1
"$here/platform" -d "$work/second one" destroy
[ ! -e "$work/second one" ] || fail "destroy left the folder"

# The fingerprint says the same twice, and the same after a backup of either generation and after
# everything was restarted.
fingerprint first
fingerprint again
cmp -s "$work/first" "$work/again" || fail "two fingerprints of one state differ"
id=$("$here/backup.sh" -d "$root")
cron_id=$("$here/backup-cron.sh" -d "$root" 20240216-020000)
"$here/platform" -d "$root" stop
if "$here/platform" -d "$root" status >"$work/status"; then fail "status of a stopped platform is 0"; fi
"$here/platform" -d "$root" start
"$here/platform" -d "$root" status >/dev/null || fail "status of a running platform"
fingerprint restarted
equal first restarted || fail "a restart changed something: $(cat "$work/compared")"

# The backups are what they should be: hashes that hold, but for the manifest's own.
(cd "$root/backups/$id" &&
  sed -nE 's/^([^=|][^|]*)\|[^|]*\|([0-9a-f]{64})$/\2  \1/p' MANIFEST.txt >"$work/sums" &&
  [ "$(wc -l <"$work/sums")" -eq "$(find . -type f | wc -l)" ] &&
  sha256sum --quiet -c <(grep -v ' MANIFEST.txt$' "$work/sums")) || fail "the manifest's hashes do not hold"
grep -q '|' "$root/backups/$cron_id/MANIFEST.txt" && fail "the cron job's manifest lists files"
redis-check-rdb "$root/backups/$id/redis/redis-$id.rdb" >/dev/null || fail "the RDB does not read"

# The fingerprint reads the same from the dump: content is compared, not where it lies.
as_dumped() {
  "$pg_bin/createdb" -T template0 from_dump
  "$pg_bin/pg_restore" --exit-on-error -d from_dump "$root/backups/$id/postgres/postgres-$id.dump"
  PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 - "$here" "$root" <<'PY'
import sys
sys.path.insert(0, sys.argv[1])
import fingerprint_databases as databases
from settings import Settings
settings = Settings(sys.argv[2])
live, dumped = (
    [line for line in databases.postgres(settings, name) if not line.startswith(("database ", "setting "))]
    for name in (settings.PG_DATABASE, "from_dump")
)
for line in sorted(set(live) ^ set(dumped)):
    print("  only once:", line)
sys.exit(live != dumped)
PY
}
as_dumped || fail "the database and its dump have different fingerprints"
"$pg_bin/dropdb" from_dump

# Damage shows in each part, and nowhere else.
"$here/damage.sh" -d "$root"
fingerprint damaged
if equal first damaged; then fail "damage does not show"; fi
parts=$(grep -c '^=== ' "$work/first")
[ "$(grep -c ' different ' "$work/compared")" -eq $((parts - 1)) ] || fail "damage spares a part: $(cat "$work/compared")"
grep -q '^  untouched  *equal ' "$work/compared" || fail "damage reached what no component owns"
[ "$(ask www.example.test /health)" = 503 ] || fail "/health of a damaged platform is not 503"
"$here/platform" -d "$root" service app stop
"$here/platform" -d "$root" service app start
nginx -p "$root/" -c mnt/nfs/nginx/nginx.conf -t 2>/dev/null || fail "damage broke nginx's configuration"

# Nothing is left of it, and it deletes nothing that it did not make.
"$here/platform" -d "$root" destroy
for link in /proc/[0-9]*/cwd; do
  case $(readlink "$link" 2>/dev/null || true) in
    "$root"*) fail "a process of the platform is left: $(tr '\0' ' ' <"${link%/cwd}/cmdline")" ;;
  esac
done
mkdir "$root"
touch "$root/somebody-else's"
if "$here/platform" -d "$root" destroy 2>/dev/null; then fail "destroy took a folder that is not its own"; fi
if "$here/platform" -d "$root" create 2>/dev/null; then fail "create took a folder that is not empty"; fi
[ -e "$root/somebody-else's" ] || fail "somebody else's file is gone"
rm -r "$root"
echo "scripts-test: passed"
