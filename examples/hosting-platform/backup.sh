#!/bin/bash
# Backs the platform up as its operators do by hand, with checksums: nothing but docker, pg_dump,
# redis-cli, tar and sha256sum, and nothing of `restore`.
#
#   backup.sh [-d DIR] [--without-images] [ID]
#
# ID is the time now where none is given. Prints it. The folder's layout is the runbook's
# ("generation A"). --without-images leaves out the largest part.
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
. "$sibling/backup-parts.sh"
become_root "$self" "$@"
parse_root "$@"
load_platform

images=yes
if [ "${rest[0]:-}" = --without-images ]; then
  images=
  rest=("${rest[@]:1}")
fi
id=${rest[0]:-$(date +%Y%m%d-%H%M%S)}
dir=$root/backups/$id
[ ! -e "$dir" ] || die "$dir exists already"
mkdir -p "$dir"/{postgres,redis,volumes,configs/env-files,app}

# The application's image, which no public registry has.
if [ -n "$images" ]; then
  tag=localhost:5000/hosting-app:2.4.1
  name=${tag//[\/:]/_}
  docker save "$tag" | gzip -1 >"$dir/app/docker-image-$name.tar.gz" &
  saving=$!
fi

# PostgreSQL: the database in both formats, the whole cluster, the roles.
postgres=$(container hosting_postgres)
dump() { docker exec "$postgres" "$@"; }
dump pg_dump -U "$PG_USER" -F c -b -d "$PG_DATABASE" >"$dir/postgres/postgres-$id.dump"
dump pg_dump -U "$PG_USER" --clean --if-exists -d "$PG_DATABASE" >"$dir/postgres/postgres-$id.sql"
dump pg_dumpall -U "$PG_USER" -l postgres --clean --if-exists >"$dir/postgres/postgres-all-$id.sql"
dump pg_dumpall -U "$PG_USER" -l postgres --globals-only >"$dir/postgres/postgres-globals-$id.sql"
cat >"$dir/postgres/metadata.txt" <<TEXT
Backup Date: $(date)
Database: $PG_DATABASE
PostgreSQL Version: $(psql_ -d "$PG_DATABASE" -At -c 'SELECT version()')
TEXT

# Redis: a fresh dump.rdb, awaited.
redis_save
docker cp "$(container hosting_redis):/data/dump.rdb" "$dir/redis/redis-$id.rdb" >/dev/null 2>&1
redis_ INFO >"$dir/redis/redis-info-$id.txt"

# Volumes: members are ./…
for volume in prometheus_data grafana_data hosting_nginx_logs hosting_nginx_cache; do
  name=${volume#hosting_}
  name=${name%_data}
  pack "$dir/volumes/${name//_/-}-$id.tar.gz" -C "$(volume_path "$volume")" .
done

# Configuration trees, the crontab, the application.
back_up_trees "$root" "$dir" "$id"
docker config ls --format '{{.Name}}' | while read -r name; do
  docker config inspect "$name" >"$dir/configs/swarm-config-$name.json"
done
docker secret ls --format '{{.Name}}' >"$dir/configs/swarm-secrets-list.txt"
docker images --format '{{.Repository}}:{{.Tag}}' >"$dir/configs/docker-images-list.txt"
[ -z "$images" ] || wait "$saving" || die "the image $tag could not be saved"
write_manifest "$dir" "$id"
echo "$id"
