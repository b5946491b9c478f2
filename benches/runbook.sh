#!/bin/bash
# Restores the local platform in place, as the runbook has it, without its fixed sleeps and without
# its backup of the present state: what `restore run` is compared with.
#
#   runbook.sh DIR ID
#
# Prints the seconds from the application's stop until it answers through nginx again.
set -euo pipefail
# shellcheck source=../examples/local-platform/lib.sh
. "$(dirname "$(readlink -f "$0")")/../examples/local-platform/lib.sh"
root=$(realpath "$1")
id=$2
backup=$root/backups/$id
load_platform

service() { "$here/platform" -d "$root" service "$@"; }

# Step 1: the checksums. The manifest's line for itself never matches.
cd "$backup"
sed -nE '/^MANIFEST\.txt\|/d;s/^([^|]+)\|[^|]+\|([0-9a-f]{64})$/\2  \1/p' MANIFEST.txt |
  sha256sum --check --quiet --strict

began=$(date +%s.%N)
# Step 4
service app stop
# Step 5
psql_ -d postgres -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
  WHERE datname = '$PG_DATABASE' AND pid <> pg_backend_pid()" >/dev/null
psql_ -d postgres -c "DROP DATABASE IF EXISTS $PG_DATABASE" -c "CREATE DATABASE $PG_DATABASE" \
  -c "GRANT ALL PRIVILEGES ON DATABASE $PG_DATABASE TO $PG_USER"
"$pg_bin/pg_restore" -d "$PG_DATABASE" --clean --if-exists --no-owner --no-privileges \
  --exit-on-error "postgres/postgres-$id.dump"
# Step 6
service redis stop
cp "redis/redis-$id.rdb" "$root/volumes/redis_data/dump.rdb"
service redis start
# Step 7
for volume in prometheus_data grafana_data nginx_logs nginx_cache; do
  name=${volume%_data}
  rm -rf "${root:?}/volumes/$volume/"*
  tar xzf "volumes/${name//_/-}-$id.tar.gz" -C "$root/volumes/$volume"
done
# Step 8
for tree in docker-compose nginx-config prometheus-config scripts; do
  tar xzf "configs/$tree-$id.tar.gz" -C "$root"
done
cp "configs/crontab-$id.txt" "$root/crontab"
# Step 9, into the folder where the application is
tar xzf "app/applications-$id.tar.gz" -C "$root/opt/applications"
# Step 10
/usr/sbin/nginx -p "$root/" -c mnt/nfs/nginx/nginx.conf -s reload 2>/dev/null
service app start
answers() {
  curl -fs -o /dev/null -H 'Host: www.example.test' "http://127.0.0.1:$HTTP_PORT/health"
}
wait_for 30 answers || die "the application does not answer"
ended=$(date +%s.%N)
echo "$began $ended" | awk '{ printf "%.3f\n", $2 - $1 }'
