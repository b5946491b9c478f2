#!/bin/bash
# Backs the platform up as its nightly cron job does: fewer files, and no checksums at all.
#
#   backup-cron.sh [-d DIR] [ID]   ID is the time now where none is given
#
# Prints the backup's id. The folder's layout is the runbook's "generation B".
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
. "$here/backup-parts.sh"
become_root "$self" "$@"
parse_root "$@"
load_platform

id=${rest[0]:-$(date +%Y%m%d-%H%M%S)}
dir=$root/backups/$id
[ ! -e "$dir" ] || die "$dir exists already"
mkdir -p "$dir"/{postgres,redis,volumes,configs}

"$pg_bin/pg_dump" -F c -b -d "$PG_DATABASE" -f "$dir/postgres/postgres-$id.dump"
redis_save
cp "$root/volumes/redis_data/dump.rdb" "$dir/redis/redis-$id.rdb"
for volume in prometheus_data grafana_data nginx_logs nginx_cache; do
  pack "$dir/volumes/$volume-$id.tar.gz" -C "$root/volumes/$volume" .
done
pack "$dir/configs/docker-compose-$id.tar.gz" -C "$root" opt/docker-compose
pack "$dir/configs/nginx-config-$id.tar.gz" -C "$root" mnt/nfs/nginx
pack "$dir/configs/scripts-$id.tar.gz" -C "$root" opt/scripts

write_short_manifest "$dir" "$id"
echo "$id"
