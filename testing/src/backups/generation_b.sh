# A backup by cron, without checksums.
set -euo pipefail
mkdir -p "$BACKUP_DIR"/{postgres,redis,volumes,configs}
cd "$BACKUP_DIR"

pg_dump -h "$PGSOCKET" -U postgres -F c -b hosting_db > postgres/postgres-$BACKUP_ID.dump
cp "$REDIS_DIR/dump.rdb" redis/redis-$BACKUP_ID.rdb
for volume in grafana prometheus; do
  tar czf volumes/${volume}_data-$BACKUP_ID.tar.gz -C "$SITE/$volume" .
done
tar czf configs/nginx-config-$BACKUP_ID.tar.gz -C "$SITE" mnt/nfs/nginx

cat > MANIFEST.txt <<EOF
Backup ID: $BACKUP_ID
Created: $(date)
Type: automated
Total Size: $(du -sh . | cut -f1)
Total Files: $(find . -type f | wc -l)
EOF
