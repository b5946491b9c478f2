#!/bin/bash
# What the container of docker-volume-backup does with `-v uploads:/backup/uploads:ro`,
# BACKUP_FILENAME="backup-%Y-%m-%dT%H-%M-%S.tar.gz" and the archive folder mounted at /var/backups.
set -euo pipefail
mkdir -p /backup/uploads
cp -a /srv/uploads/. /backup/uploads/
tar -P -czf "/var/backups/backup-$(date +%Y-%m-%dT%H-%M-%S).tar.gz" /backup/uploads
rm -r /backup/uploads
