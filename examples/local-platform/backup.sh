#!/bin/bash
# Backs the platform up as its operators do by hand, with checksums: nothing but pg_dump,
# redis-cli, tar and sha256sum, and nothing of `restore`.
#
#   backup.sh [-d DIR] [ID]        ID is the time now where none is given
#
# Prints the backup's id. The folder's layout is the runbook's ("generation A").
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
mkdir -p "$dir"/{postgres,redis,volumes,configs/env-files,app}

# PostgreSQL: the database in both formats, the whole cluster, the roles.
"$pg_bin/pg_dump" -F c -b -d "$PG_DATABASE" -f "$dir/postgres/postgres-$id.dump"
"$pg_bin/pg_dump" --clean --if-exists -d "$PG_DATABASE" -f "$dir/postgres/postgres-$id.sql"
"$pg_bin/pg_dumpall" -l postgres --clean --if-exists >"$dir/postgres/postgres-all-$id.sql"
"$pg_bin/pg_dumpall" -l postgres --globals-only >"$dir/postgres/postgres-globals-$id.sql"
cat >"$dir/postgres/metadata.txt" <<TEXT
Backup Date: $(date)
Database: $PG_DATABASE
PostgreSQL Version: $(psql_ -d "$PG_DATABASE" -At -c 'SELECT version()')
TEXT

# Redis: a fresh dump.rdb, awaited.
redis_save
cp "$root/volumes/redis_data/dump.rdb" "$dir/redis/redis-$id.rdb"
redis_ INFO >"$dir/redis/redis-info-$id.txt"

# Volumes: members are ./…
for volume in prometheus_data grafana_data nginx_logs nginx_cache; do
  name=${volume%_data}
  pack "$dir/volumes/${name//_/-}-$id.tar.gz" -C "$root/volumes/$volume" .
done

# Configuration trees, the crontab, the application.
back_up_trees "$root" "$dir" "$id"
write_manifest "$dir" "$id"
echo "$id"
