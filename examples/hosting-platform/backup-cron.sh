#!/bin/bash
# Backs the platform up as its nightly cron job does: fewer files, and no checksums at all.
#
#   backup-cron.sh [-d DIR] [ID]   ID is the time now where none is given
#
# Prints the backup's id. The folder's layout is the runbook's "generation B".
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
. "$sibling/backup-parts.sh"
become_root "$self" "$@"
parse_root "$@"
load_platform

id=${rest[0]:-$(date +%Y%m%d-%H%M%S)}
dir=$root/backups/$id
[ ! -e "$dir" ] || die "$dir exists already"
mkdir -p "$dir"/{postgres,redis,volumes,configs}

docker exec "$(container hosting_postgres)" pg_dump -U "$PG_USER" -F c -b -d "$PG_DATABASE" >"$dir/postgres/postgres-$id.dump"
redis_save
docker cp "$(container hosting_redis):/data/dump.rdb" "$dir/redis/redis-$id.rdb" >/dev/null 2>&1
for volume in prometheus_data grafana_data hosting_nginx_logs hosting_nginx_cache; do
  pack "$dir/volumes/${volume#hosting_}-$id.tar.gz" -C "$(volume_path "$volume")" .
done
pack "$dir/configs/docker-compose-$id.tar.gz" -C "$root" opt/docker-compose
pack "$dir/configs/nginx-config-$id.tar.gz" -C "$root" mnt/nfs/nginx
pack "$dir/configs/scripts-$id.tar.gz" -C "$root" opt/scripts

write_short_manifest "$dir" "$id"
echo "$id"
