#!/bin/bash
# Backs the platform up as its operators do by hand, with checksums: nothing but docker, pg_dump,
# redis-cli, tar and sha256sum, and nothing of `restore`.
#
#   backup.sh [-d DIR] [--with-images] [ID]
#
# ID is the time now where none is given. Prints it. The folder's layout is the runbook's
# ("generation A"). --with-images: with the application's image, the largest part.
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
. "$sibling/backup-parts.sh"
become_root "$self" "$@"
parse_root "$@"
load_platform

images=
if [ "${rest[0]:-}" = --with-images ]; then
  images=yes
  rest=("${rest[@]:1}")
fi
id=${rest[0]:-$(date +%Y%m%d-%H%M%S)}
dir=$root/backups/$id
[ ! -e "$dir" ] || die "$dir exists already"
mkdir -p "$dir"/{postgres,redis,volumes,configs/env-files,app}

postgres=$(container postgres)
docker exec "$postgres" pg_dump -U "$PG_USER" -F c -b -d "$PG_DATABASE" >"$dir/postgres/postgres-$id.dump"
docker exec "$postgres" pg_dumpall -U "$PG_USER" -l postgres --globals-only >"$dir/postgres/postgres-globals-$id.sql"
docker exec "$postgres" pg_dumpall -U "$PG_USER" -l postgres --clean --if-exists >"$dir/postgres/postgres-all-$id.sql"
printf 'Backup Date: %s\nDatabase: %s\n' "$(date)" "$PG_DATABASE" >"$dir/postgres/metadata.txt"

if [ -n "$images" ]; then
  name=${app_image//[\/:]/_}
  docker save "$app_image" | gzip -1 >"$dir/app/docker-image-$name.tar.gz"
fi

# Redis: a fresh dump.rdb, awaited.
redis_save
docker cp "$(container redis):/data/dump.rdb" "$dir/redis/redis-$id.rdb" >/dev/null 2>&1

# Volumes: members are ./…
for volume in monitoring_grafana_data hosting_nginx_logs hosting_nginx_cache; do
  name=${volume#*_}
  name=${name%_data}
  pack "$dir/volumes/${name//_/-}-$id.tar.gz" -C "$(volume_path "$volume")" .
done

# Configuration trees, the crontab, the application.
back_up_trees "$root" "$dir" "$id"
write_manifest "$dir" "$id"
echo "$id"
