#!/bin/bash
# Tests the scripts of the platform on Docker: what they say about content is what the tests of
# `restore` rely on, and a machine must be as it was when the engine is gone.
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
  "$here/platform" -d "$work/second" destroy || true
  "$here/engine" -d "$work/shared" destroy || true
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
as_before() { # WHEN
  # In a test runner's network the engine's links are there as long as it is.
  if private_network && [ "$1" = "while the engine runs" ]; then return 0; fi
  machine_network >"$work/machine-now"
  diff "$work/machine" "$work/machine-now" >"$work/changes" || fail "this machine's network is not as it was $1: $(cat "$work/changes")"
}

# What an engine with this number and folder has on the machine: nothing, if it is gone.
traces() { # NUMBER FOLDER
  local link pid
  ip -o link | grep -o "rs$1-[a-z0-9]*" || true
  find /sys/fs/cgroup -maxdepth 2 -name "restore-engine-$1" 2>/dev/null
  grep -F "$2" /proc/mounts || true
  [ ! -e "/run/restore-hosting-engines/$1" ] || echo "reservation $1"
  for link in /proc/[0-9]*/cmdline; do
    pid=${link%/cmdline}
    pid=${pid#/proc/}
    [ "$pid" != "$$" ] || continue
    case $( (tr '\0' ' ' <"$link") 2>/dev/null || true) in
      *"dockerd "*"$2"* | *"containerd"*"$2"*) echo "process $pid" ;;
    esac
  done
}

step "creating a platform on an engine of its own"
"$here/images.sh"
kept_images >"$work/kept"
machine_network >"$work/machine"
"$here/platform" -d "$root" create --rows 300 --volume-mb 2
load_platform
number=$(sed -n 's/^NUMBER=//p' "$root/engine/engine.env")

# It serves, through nginx, by its names and by none.
[ "$(ask www.example.test /health)" = 200 ] || fail "/health: $(cat "$work/answer")"
grep -q '"status": "ok"' "$work/answer" || fail "/health says $(cat "$work/answer")"
[ "$(ask www.example.test /api/version)" = 200 ] || fail "/api/version: $(cat "$work/answer")"
grep -q '"version": "2.4.1", "image": "2.4.1"' "$work/answer" || fail "/api/version says $(cat "$work/answer")"
[ "$(ask api.example.test /api/version)" = 200 ] || fail "the second site"
[ "$(ask api.example.test /static/logo.svg)" = 404 ] || fail "the second site lets others in"
[ "$(ask elsewhere.test /health)" = 200 ] || fail "/health of the default server"
[ "$(ask elsewhere.test /api/version)" = 404 ] || fail "the default server lets others in"
[ "$(curl -sS "http://127.0.0.1:$PROMETHEUS_PORT/-/ready" -o /dev/null -w '%{http_code}')" = 200 ] || fail "Prometheus"
curl -sS "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/query?query=hosting_visitors&time=1707783015" |
  grep -q '"15"' || fail "Prometheus has no history"
curl -sS "http://127.0.0.1:$GRAFANA_PORT/api/health" | grep -q '"dashboards": 40' || fail "Grafana's stand-in"
"$here/platform" -d "$root" status >"$work/status" || fail "status of a running platform: $(cat "$work/status")"
grep -q '^hosting_app  *5/5$' "$work/status" || fail "not five replicas: $(cat "$work/status")"

# Nothing listens for other machines, and this one's network is what it was.
"$here/engine" -d "$root/engine" start
find_network
pids=$(find /sys/fs/cgroup -path "*/restore-engine-$number/engine/*" -name cgroup.procs -exec cat {} + |
  cat - <(cat /sys/fs/cgroup/*/restore-engine-"$number"/engine/cgroup.procs /sys/fs/cgroup/restore-engine-"$number"/engine/cgroup.procs 2>/dev/null) | sort -u)
[ -n "$pids" ] || fail "the engine is in no group"
listening=$(inside ss -H -ltnup | grep -E "pid=($(tr '\n' '|' <<<"$pids" | sed 's/|$//'))," || true)
grep -q "127.0.0.1:$HTTP_PORT" <<<"$listening" || fail "nothing listens on $HTTP_PORT: $listening"
if awk '{print $5}' <<<"$listening" | grep -v '^127\.'; then fail "the engine listens for other machines"; fi
as_before "while the engine runs"

step "backups, restarts, a crash of the engine"
fingerprint first
fingerprint again
cmp -s "$work/first" "$work/again" || fail "two fingerprints of one state differ"
id=$("$here/backup.sh" -d "$root")
cron_id=$("$here/backup-cron.sh" -d "$root" 20240216-020000)
"$here/platform" -d "$root" stop
if "$here/platform" -d "$root" status >"$work/status" 2>&1; then fail "status of a stopped platform is 0"; fi
left=$(traces "$number" "$root")
[ -z "$left" ] || fail "a stopped platform has left: $left"
"$here/platform" -d "$root" start
fingerprint restarted
equal first restarted || fail "a restart changed something: $(cat "$work/compared")"

for how in --kill ""; do
  before=$(container hosting_redis)
  "$here/engine" -d "$root/engine" restart $how
  "$here/platform" -d "$root" start
  [ "$(container hosting_redis)" != "$before" ] || fail "a restart of the engine left its containers running"
  fingerprint restarted
  equal first restarted || fail "a restart of the engine ($how) changed something: $(cat "$work/compared")"
done

# The backups are what they should be: hashes that hold, but for the manifest's own.
(cd "$root/backups/$id" &&
  sed -nE 's/^([^=|][^|]*)\|[^|]*\|([0-9a-f]{64})$/\2  \1/p' MANIFEST.txt >"$work/sums" &&
  [ "$(wc -l <"$work/sums")" -eq "$(find . -type f | wc -l)" ] &&
  sha256sum --quiet -c <(grep -v ' MANIFEST.txt$' "$work/sums")) || fail "the manifest's hashes do not hold"
grep -q '|' "$root/backups/$cron_id/MANIFEST.txt" && fail "the cron job's manifest lists files"
docker exec -i "$(container hosting_redis)" sh -c 'cat >/tmp/x.rdb && redis-check-rdb /tmp/x.rdb' \
  <"$root/backups/$id/redis/redis-$id.rdb" >/dev/null || fail "the RDB does not read"
docker exec -i "$(container hosting_postgres)" pg_restore -f /dev/null \
  <"$root/backups/$id/postgres/postgres-$id.dump" || fail "the dump does not read"
saved=$root/backups/$id/app/docker-image-localhost_5000_hosting-app_2.4.1.tar.gz
[ "$(tar -xzO -f "$saved" manifest.json | grep -o 'localhost:5000/hosting-app:2.4.1')" ] || fail "the image's archive"

step "damage"
wanted=$(docker image inspect -f '{{.Id}}' localhost:5000/hosting-app:2.4.1)
"$here/damage.sh" -d "$root"
fingerprint damaged
if equal first damaged; then fail "damage does not show"; fi
parts=$(grep -c '^=== ' "$work/first")
[ "$(grep -c ' different ' "$work/compared")" -eq $((parts - 1)) ] || fail "damage spares a part: $(cat "$work/compared")"
grep -q '^service hosting_app:.* 5 run [^ ]*$' "$work/damaged" || fail "damage stopped a service"
grep -q '^  untouched  *equal ' "$work/compared" || fail "damage reached what no component owns"
[ "$(ask www.example.test /health)" = 503 ] || fail "/health of a damaged platform is not 503"
# Every service starts on what is damaged, for a restore may have to turn back to it.
anew() {
  "$here/platform" -d "$root" service "$1" stop
  "$here/platform" -d "$root" service "$1" start
}
waiting=()
for service in prometheus grafana hosting_redis hosting_postgres hosting_nginx; do
  anew "$service" &
  waiting+=($!)
done
for pid in "${waiting[@]}"; do wait "$pid" || fail "a service does not start on what is damaged"; done
anew hosting_app
# nginx may know the stopped replicas by their addresses for a second, and waits for each in vain.
serves() { [ "$(ask www.example.test /api/version)" = 200 ]; }
wait_for 60 serves || fail "the application does not start on what is damaged: $(cat "$work/answer")"
grep -q '"version": "9.9.9-damaged", "image": "2.4.0"' "$work/answer" || fail "/api/version says $(cat "$work/answer")"
gunzip -c "$saved" | docker load -q >/dev/null
[ "$(docker image inspect -f '{{.Id}}' localhost:5000/hosting-app:2.4.1)" = "$wanted" ] || fail "the archive holds another image"

step "nothing is left of it"
"$here/platform" -d "$root" destroy
left=$(traces "$number" "$root")
[ -z "$left" ] || fail "destroy left: $left"
[ ! -e "$root" ] || fail "destroy left the folder"
as_before "when the engine is gone"
mkdir "$root"
touch "$root/somebody-else's"
if "$here/platform" -d "$root" destroy 2>/dev/null; then fail "destroy took a folder that is not its own"; fi
if "$here/platform" -d "$root" create 2>/dev/null; then fail "create took a folder that is not empty"; fi
if "$here/engine" -d "$root" start 2>/dev/null; then fail "an engine took a folder that is not empty"; fi
if "$here/engine" -d "$root" destroy 2>/dev/null; then fail "an engine's destroy took a folder that is not its own"; fi
[ -e "$root/somebody-else's" ] || fail "somebody else's file is gone"
rm -r "$root"

[ -s "$work/kept" ] || fail "no images are kept"
kept_images | cmp -s "$work/kept" - || fail "the kept images changed by being used"

step "two platforms, one after the other, on an engine with a worker"
"$here/engine" -d "$work/shared" start --workers 1 --images
number=$(sed -n 's/^NUMBER=//p' "$work/shared/engine.env")
"$here/platform" -d "$work/second" create --rows 20 --volume-mb 1 --engine "$work/shared" --plain
if "$here/platform" -d "$root" create --engine "$work/shared" 2>/dev/null; then fail "two platforms on one engine"; fi
use_engine "$work/shared"
docker volume ls -q | grep -q old && fail "a plain platform has decoys"
"$here/platform" -d "$work/second" destroy
for what in "service ls" "volume ls" "secret ls" "ps -a"; do
  # shellcheck disable=SC2086 # two words
  left=$(docker $what -q)
  [ -z "$left" ] || fail "a platform left to its engine: $what: $left"
done
! docker network inspect hosting_backend >/dev/null 2>&1 || fail "a platform left its network"

"$here/platform" -d "$root" create --rows 20 --volume-mb 1 --engine "$work/shared" --closed \
  --appendonly no --grafana-on worker1
load_platform
[ "$(redis_ CONFIG GET appendonly | tail -n 1)" = no ] || fail "--appendonly no"
[ -z "$(inside ss -H -ltn "sport = :$PG_PORT or sport = :$REDIS_PORT")" ] || fail "--closed publishes"
fingerprint first
grep -q '^volume grafana_data on node 1$' "$work/first" || fail "grafana_data is not on the worker"
grep -q 'grafana_data/grafana.db' "$work/first" || fail "the fingerprint does not see the worker's volume"
[ "$(docker service ps -f desired-state=running --format '{{.Node}}' grafana)" = worker1 ] || fail "grafana is not on the worker"
! docker volume inspect grafana_data >/dev/null 2>&1 || fail "grafana_data is on the manager too"
inside curl -sS -m 10 "http://$GRAFANA_HOST:$GRAFANA_PORT/api/health" | grep -q '"dashboards": 40' || fail "grafana on the worker"
# The same over TCP, as another machine would ask; and not without a certificate.
tls=$work/shared/tls
[ "$(DOCKER_HOST=tcp://$GRAFANA_HOST:2376 inside docker --tlsverify --tlscacert "$tls/ca.pem" --tlscert "$tls/cert.pem" \
  --tlskey "$tls/key.pem" info -f '{{.Name}}')" = worker1 ] || fail "the worker does not answer over TLS"
if inside curl -sS -m 5 --cacert "$tls/ca.pem" "https://$GRAFANA_HOST:2376/version" >/dev/null 2>&1; then
  fail "the worker talks to strangers"
fi
# Replicas on both nodes, and each reaches the databases across.
docker service ps -f desired-state=running --format '{{.Node}}' hosting_app | sort | uniq -c >"$work/spread"
[ "$(wc -l <"$work/spread")" = 2 ] || fail "all replicas are on one node: $(cat "$work/spread")"
for _ in $(seq 20); do
  [ "$(ask www.example.test /health)" = 200 ] || fail "/health across nodes: $(cat "$work/answer")"
done

step "a node that goes away"
node_state() { [ "$(docker node inspect -f '{{.Status.State}}' worker1)" = "$1" ]; }
"$here/engine" -d "$work/shared" node 1 kill
wait_for 60 node_state down || fail "the swarm does not notice that a node went away"
"$here/engine" -d "$work/shared" node 1 start
"$here/platform" -d "$root" start
fingerprint after
equal first after || fail "the node came back with something else: $(cat "$work/compared")"
"$here/platform" -d "$root" destroy
"$here/engine" -d "$work/shared" destroy
left=$(traces "$number" "$work")
[ -z "$left" ] || fail "an engine with a worker left: $left"
as_before "when the engine is gone"
step "passed"
